//! Which subnet manager the options name.

use super::config_source::{self, Follower};
use crate::{
    cli::options::Options,
    subnet::{
        SubnetManager, TlsError, TlsFiles, Waiting,
        embedded::{
            Client, ClientOptions, Local, RemoteError, Server, ServerError, ServerOptions, Store,
            StoreError,
        },
        etcd::{ConnectionOptions, EndpointError, Etcd, IdentityError},
        kube,
        transfer::LeaseArchive,
    },
};
use std::{io, path::PathBuf, sync::Arc};

/// A manager, with what has to live as long as it.
pub(super) struct Chosen {
    pub(super) manager: Box<dyn SubnetManager>,
    /// both stop when they are dropped
    _server: Option<(Server, Follower)>,
}

const CHOICES: &str = "-listen HOST:PORT keeps the leases on this machine and serves them to the others; \
-remote HOST:PORT uses those of another flanneld";

/// Why there is no subnet manager.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// -kube-subnet-mgr and -listen or -remote are given.
    #[error(
        "-kube-subnet-mgr and {0} are both given, choose one: with -kube-subnet-mgr the leases are the nodes of the \
         Kubernetes API server"
    )]
    KubernetesAnd(&'static str),
    /// The API server cannot be used.
    #[error(transparent)]
    OpenKubernetes(#[from] kube::OpenError),
    /// No manager is named, which means etcd, and its endpoints cannot be used.
    #[error("{0}. Other managers: -kube-subnet-mgr takes leases from Kubernetes; {choices}", choices = CHOICES)]
    Etcd(#[from] EndpointError),
    /// This node's certificate for etcd cannot be used.
    #[error(transparent)]
    EtcdIdentity(#[from] IdentityError),
    /// Two managers are named.
    #[error("-listen and -remote are both given, choose one: {}", CHOICES)]
    Both,
    /// The flags of the certificates do not fit each other.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The file of -net-config-path cannot be read, or is refused.
    #[error(transparent)]
    Config(#[from] config_source::Error),
    /// The system refuses to tell SIGHUP.
    #[error("cannot listen for SIGHUP: {0}")]
    Signal(#[source] io::Error),
    /// There is nothing to export.
    #[error("there is no lease store {}: name another file with -store", .0.display())]
    NoStore(PathBuf),
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store cannot be served.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// -remote cannot be used.
    #[error(transparent)]
    Remote(#[from] RemoteError),
}

impl Error {
    /// True if the next start fails, too: an option or variable is the reason, or a certificate
    /// that stays as bad as it is.
    pub(crate) fn is_usage(&self) -> bool {
        match self {
            Error::KubernetesAnd(_) | Error::Etcd(_) | Error::Both => true,
            Error::OpenKubernetes(error) => error.is_usage(),
            Error::Tls(error) => error.is_usage(),
            Error::EtcdIdentity(error) => error.is_lasting(),
            Error::Server(error) => error.is_usage(),
            Error::Remote(error) => error.is_usage(),
            Error::Config(_) | Error::Signal(_) | Error::NoStore(_) | Error::Store(_) => false,
        }
    }
}

/// Opens the manager that the options name.
pub(super) async fn choose(options: &Options, waiting: &Waiting) -> Result<Chosen, Error> {
    let leases = &options.leases;
    if options.kube.kube_subnet_mgr {
        return kubernetes(options, waiting).await;
    }
    let tls = remote_tls(options)?;
    match (leases.listen.is_empty(), leases.remote.is_empty()) {
        (true, true) => Ok(Chosen {
            manager: Box::new(open_etcd(options, waiting)?),
            _server: None,
        }),
        (false, false) => Err(Error::Both),
        (false, true) => listen(options, tls).await,
        (true, false) => remote(options, tls),
    }
}

/// Opens the store that the options name, to read its leases or to write some; serves nothing.
pub(crate) async fn archive(
    options: &Options,
    write: bool,
) -> Result<Box<dyn LeaseArchive>, Error> {
    let leases = &options.leases;
    if options.kube.kube_subnet_mgr {
        return Ok(Box::new(kube::Archive::open(&kube_options(options)?)?));
    }
    match (leases.listen.is_empty(), leases.remote.is_empty()) {
        (true, true) => Ok(Box::new(open_etcd(options, &Waiting::default())?)),
        (false, false) => Err(Error::Both),
        (false, true) if !write && !leases.store.exists() => {
            Err(Error::NoStore(leases.store.clone()))
        }
        (false, true) => Ok(Box::new(Local::new(
            open_store(options)?,
            options.renew_margin(),
        ))),
        (true, false) => Ok(Box::new(client(options, remote_tls(options)?)?)),
    }
}

/// The nodes of an API server.
async fn kubernetes(options: &Options, waiting: &Waiting) -> Result<Chosen, Error> {
    Ok(Chosen {
        manager: Box::new(kube::Manager::open(kube_options(options)?, waiting).await?),
        _server: None,
    })
}

fn kube_options(options: &Options) -> Result<kube::Options, Error> {
    let leases = &options.leases;
    for (value, flag) in [(&leases.listen, "-listen"), (&leases.remote, "-remote")] {
        if !value.is_empty() {
            return Err(Error::KubernetesAnd(flag));
        }
    }
    Ok(kube::Options {
        api_url: options.kube.kube_api_url.clone(),
        kubeconfig: options.kube.kubeconfig_file.clone(),
        annotation_prefix: options.kube.kube_annotation_prefix.clone(),
        net_config_path: leases.net_config_path.clone(),
        set_condition: options.kube.set_node_network_unavailable,
    })
}

/// The embedded store, served to the other nodes.
async fn listen(options: &Options, tls: Option<TlsFiles>) -> Result<Chosen, Error> {
    let leases = &options.leases;
    let store = open_store(options)?;
    let name = match (&tls, leases.insecure) {
        (Some(files), false) => files.node_name()?,
        _ => None,
    };
    let server_options = ServerOptions {
        listen: leases.listen.clone(),
        tls,
        insecure: leases.insecure,
    };
    let server = Server::start(server_options, store.clone()).await?;
    let follower = Follower::start(leases.net_config_path.clone(), store.clone());
    let follower = follower.map_err(Error::Signal)?;
    Ok(Chosen {
        manager: Box::new(Local::new(store, options.renew_margin()).owned_by(name)),
        _server: Some((server, follower)),
    })
}

fn open_store(options: &Options) -> Result<Arc<Store>, Error> {
    let config = config_source::read(&options.leases.net_config_path)?;
    Ok(Store::open(&options.leases.store, config)?)
}

/// The store of another flanneld.
fn remote(options: &Options, tls: Option<TlsFiles>) -> Result<Chosen, Error> {
    Ok(Chosen {
        manager: Box::new(client(options, tls)?),
        _server: None,
    })
}

fn client(options: &Options, tls: Option<TlsFiles>) -> Result<Client, Error> {
    Ok(Client::new(ClientOptions {
        remote: options.leases.remote.clone(),
        tls,
        insecure: options.leases.insecure,
        renew_margin: options.renew_margin(),
    })?)
}

fn remote_tls(options: &Options) -> Result<Option<TlsFiles>, TlsError> {
    let leases = &options.leases;
    TlsFiles::from_options(
        &leases.remote_keyfile,
        &leases.remote_certfile,
        &leases.remote_cafile,
    )
}

/// The keys of etcd, as upstream without any option.
fn open_etcd(options: &Options, waiting: &Waiting) -> Result<Etcd, Error> {
    let etcd = &options.etcd;
    let connection = ConnectionOptions {
        endpoints: etcd.etcd_endpoints.clone(),
        key: etcd.etcd_keyfile.clone(),
        cert: etcd.etcd_certfile.clone(),
        ca: etcd.etcd_cafile.clone(),
        user: etcd.etcd_username.clone(),
        password: etcd.etcd_password.reveal().to_owned(),
    };
    let margin = options.renew_margin();
    let etcd = Etcd::new(connection, &etcd.etcd_prefix, margin, waiting.clone())?;
    etcd.check_identity()?;
    Ok(etcd)
}
