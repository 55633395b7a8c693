//! Which subnet manager the options name.

use crate::{
    cli::options::Options,
    model::network_config::{self, NetworkConfig},
    subnet::{
        SubnetManager, TlsError, TlsFiles, Waiting,
        embedded::{
            Client, ClientOptions, Local, RemoteError, Server, ServerError, ServerOptions, Store,
            StoreError,
        },
    },
};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// A manager, with what has to live as long as it.
pub(super) struct Chosen {
    pub(super) manager: Box<dyn SubnetManager>,
    /// stops when it is dropped
    _server: Option<Server>,
}

const CHOICES: &str = "-listen HOST:PORT keeps the leases on this machine and serves them to the others; \
-remote HOST:PORT uses those of another flanneld";

/// Why there is no subnet manager.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// -kube-subnet-mgr is given.
    #[error(
        "-kube-subnet-mgr: this build cannot take leases from Kubernetes yet. It has: {}",
        CHOICES
    )]
    Kubernetes,
    /// No manager is named, which means etcd.
    #[error(
        "no subnet manager is named, and this build cannot take leases from etcd ({endpoints}) yet. \
         It has: {}",
        CHOICES
    )]
    Etcd { endpoints: String },
    /// Two managers are named.
    #[error("-listen and -remote are both given, choose one: {}", CHOICES)]
    Both,
    /// The flags of the certificates do not fit each other.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The file of -net-config-path cannot be read.
    #[error(
        "cannot read the network configuration {}: {source}; name another with -net-config-path",
        path.display()
    )]
    ReadConfig { path: PathBuf, source: io::Error },
    /// The file of -net-config-path is refused.
    #[error("{}: {source}", path.display())]
    Config {
        path: PathBuf,
        source: network_config::Error,
    },
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

/// Opens the manager that the options name.
pub(super) async fn choose(options: &Options, _waiting: &Waiting) -> Result<Chosen, Error> {
    let leases = &options.leases;
    if options.kube.kube_subnet_mgr {
        return Err(Error::Kubernetes);
    }
    let tls = TlsFiles::from_options(
        &leases.remote_keyfile,
        &leases.remote_certfile,
        &leases.remote_cafile,
    )?;
    match (leases.listen.is_empty(), leases.remote.is_empty()) {
        (true, true) => Err(Error::Etcd {
            endpoints: options.etcd.etcd_endpoints.clone(),
        }),
        (false, false) => Err(Error::Both),
        (false, true) => listen(options, tls).await,
        (true, false) => remote(options, tls),
    }
}

/// The embedded store, served to the other nodes.
async fn listen(options: &Options, tls: Option<TlsFiles>) -> Result<Chosen, Error> {
    let leases = &options.leases;
    let config = read_config(&leases.net_config_path)?;
    let store = Store::open(&leases.store, config)?;
    let server_options = ServerOptions {
        listen: leases.listen.clone(),
        tls,
        insecure: leases.insecure,
    };
    let server = Server::start(server_options, store.clone()).await?;
    Ok(Chosen {
        manager: Box::new(Local::new(store, options.renew_margin())),
        _server: Some(server),
    })
}

/// The store of another flanneld.
fn remote(options: &Options, tls: Option<TlsFiles>) -> Result<Chosen, Error> {
    let client = Client::new(ClientOptions {
        remote: options.leases.remote.clone(),
        tls,
        insecure: options.leases.insecure,
        renew_margin: options.renew_margin(),
    })?;
    Ok(Chosen {
        manager: Box::new(client),
        _server: None,
    })
}

fn read_config(path: &Path) -> Result<NetworkConfig, Error> {
    let text = fs::read_to_string(path).map_err(|source| Error::ReadConfig {
        path: path.to_owned(),
        source,
    })?;
    let refused = |source| Error::Config {
        path: path.to_owned(),
        source,
    };
    let mut config = NetworkConfig::parse(&text).map_err(refused)?;
    config.check_subnets().map_err(refused)?;
    Ok(config)
}
