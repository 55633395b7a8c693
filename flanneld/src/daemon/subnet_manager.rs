//! Which subnet manager the options name.
use crate::{
    cli::options::Options,
    model::network_config::NetworkConfig,
    subnet::{
        SubnetManager,
        embedded::{Client, ClientOptions, Local, Server, ServerOptions, Store, TlsFiles},
    },
};
use std::path::Path;

/// A manager and what has to live as long as it is used.
pub struct Chosen {
    /// where leases come from
    pub manager: Box<dyn SubnetManager>,
    /// serves them to others
    pub server: Option<Server>,
}

const CHOICES: &str = "-listen HOST:PORT keeps the leases on this machine and serves them to the others; \
-remote HOST:PORT uses those of another flanneld";

/// Opens what the options name. Errors name the choices that there are.
pub async fn choose(options: &Options) -> Result<Chosen, String> {
    let (listen, remote) = (&options.leases.listen, &options.leases.remote);
    if options.compatibility.kube_subnet_mgr {
        return Err(format!(
            "-kube-subnet-mgr: this build cannot take leases from Kubernetes yet. It has: {CHOICES}"
        ));
    }
    let tls = TlsFiles::from_flags(
        &options.leases.remote_keyfile,
        &options.leases.remote_certfile,
        &options.leases.remote_cafile,
    )?;
    match (listen.is_empty(), remote.is_empty()) {
        (true, true) => Err(format!(
            "no subnet manager is named, and this build cannot take leases from etcd ({}) yet. It has: {CHOICES}",
            options.compatibility.etcd_endpoints
        )),
        (false, false) => Err(format!(
            "-listen and -remote are both given, choose one: {CHOICES}"
        )),
        (false, true) => {
            let config = read_config(&options.leases.net_config_path)?;
            let store =
                Store::open(&options.leases.store, config).map_err(|error| error.to_string())?;
            let server_options = ServerOptions {
                listen: listen.clone(),
                tls,
                insecure: options.leases.insecure,
            };
            let server = Server::start(server_options, store.clone())
                .await
                .map_err(|error| error.to_string())?;
            let local = Local::new(store, options.renew_margin());
            Ok(Chosen {
                manager: Box::new(local),
                server: Some(server),
            })
        }
        (true, false) => {
            let client = Client::new(ClientOptions {
                remote: remote.clone(),
                tls,
                insecure: options.leases.insecure,
                renew_margin: options.renew_margin(),
            });
            let client = client.map_err(|error| error.to_string())?;
            Ok(Chosen {
                manager: Box::new(client),
                server: None,
            })
        }
    }
}

/// The network's configuration, read and checked.
fn read_config(path: &Path) -> Result<NetworkConfig, String> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| {
        format!("cannot read the network configuration {shown}: {error}; name another with -net-config-path")
    })?;
    let mut config = NetworkConfig::parse(&text).map_err(|error| format!("{shown}: {error}"))?;
    config
        .check_subnets()
        .map_err(|error| format!("{shown}: {error}"))?;
    Ok(config)
}
