//! containerd, driven over its CRI socket as kubelet does.

use crate::{image, machine};
use k8s_cri::v1::{
    ContainerConfig, ContainerMetadata, CreateContainerRequest, ExecSyncRequest, ImageSpec,
    LinuxPodSandboxConfig, NetworkConfig, PodSandboxConfig, PodSandboxMetadata,
    PodSandboxStatusRequest, PortMapping, RemovePodSandboxRequest, RunPodSandboxRequest,
    RuntimeConfig, StartContainerRequest, StatusRequest, StopPodSandboxRequest,
    UpdateRuntimeConfigRequest, runtime_service_client::RuntimeServiceClient,
};
use std::{fs, path::Path, process::Command, time::Duration};
use tests::{Process, process::eventually, shell::sh};
use tokio::runtime::Runtime;
use tonic::transport::{Channel, Endpoint, Uri};

/// The socket of the CRI and of `ctr`.
pub(crate) const SOCKET: &str = "/run/containerd/containerd.sock";

/// A running containerd. Its containers outlive it, as on a node.
pub struct Containerd {
    process: Process,
}

/// A connection to its CRI socket.
pub struct Cri {
    pub(crate) runtime: Runtime,
    pub(crate) client: RuntimeServiceClient<Channel>,
}

/// A pod with one container in it.
#[derive(Clone, Debug)]
pub struct Pod {
    sandbox: String,
    container: String,
    /// The first address.
    pub ip: String,
}

fn configuration() -> String {
    format!(
        "version = 2\nroot = \"/var/lib/containerd\"\nstate = \"/run/containerd\"\n\
         disabled_plugins = [\"io.containerd.internal.v1.opt\"]\n[grpc]\naddress = \"{SOCKET}\"\n\
         [plugins.\"io.containerd.grpc.v1.cri\"]\nsandbox_image = \"{}\"\nrestrict_oom_score_adj = true\ndisable_apparmor = true\n\
         [plugins.\"io.containerd.grpc.v1.cri\".cni]\nbin_dir = \"{}\"\nconf_dir = \"{}\"\n",
        image::NAME,
        machine::BIN,
        machine::NET_D
    )
}

impl Containerd {
    /// Starts containerd and waits until it answers on its socket.
    pub fn start() -> Containerd {
        Containerd::with_file("/run/containerd.toml", &configuration())
    }

    /// The same with the file `text`, to which this machine adds what it needs.
    pub fn start_with(path: &str, text: &str) -> Containerd {
        let text = format!(
            "root = \"/var/lib/containerd\"\nstate = \"/run/containerd\"\n\
             disabled_plugins = [\"io.containerd.internal.v1.opt\"]\n{text}\n\
             [plugins.\"io.containerd.grpc.v1.cri\"]\nsandbox_image = \"{}\"\n\
             restrict_oom_score_adj = true\ndisable_apparmor = true\n",
            image::NAME
        );
        Containerd::with_file(path, &text)
    }

    fn with_file(path: &str, text: &str) -> Containerd {
        fs::write(path, text).expect("configuration");
        let mut command = Command::new("containerd");
        command.args(["--config", path]);
        let process = Process::start(command);
        let containerd = Containerd { process };
        eventually("containerd's socket", Duration::from_secs(10), || {
            Path::new(SOCKET).exists().then_some(())
        });
        let mut cri = Cri::connect();
        eventually("containerd answers", Duration::from_secs(10), || {
            cri.network_ready().is_ok().then_some(())
        });
        containerd
    }

    /// The log so far.
    pub fn log(&self) -> String {
        self.process.output()
    }

    /// Imports [`image::ARCHIVE`].
    pub fn import(&self) {
        sh(&format!(
            "ctr --address {SOCKET} -n k8s.io images import {}",
            image::ARCHIVE
        ));
    }

    /// Stops containerd by SIGTERM, as systemd does; containers go on.
    pub fn stop(mut self) {
        self.process.signal(nix::sys::signal::Signal::SIGTERM);
        self.process.wait(Duration::from_secs(10));
    }
}

impl Cri {
    /// A connection that is made at the first call.
    pub fn connect() -> Cri {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("tokio");
        let channel = {
            let _inside = runtime.enter();
            let connect = tower::service_fn(|_: Uri| async {
                tokio::net::UnixStream::connect(SOCKET)
                    .await
                    .map(hyper_util::rt::TokioIo::new)
            });
            Endpoint::from_static("http://containerd").connect_with_connector_lazy(connect)
        };
        Cri {
            runtime,
            client: RuntimeServiceClient::new(channel),
        }
    }

    /// The condition NetworkReady, as kubelet asks for it. The error says why there is no answer.
    pub fn network_ready(&mut self) -> Result<bool, String> {
        let answer = self
            .runtime
            .block_on(self.client.status(StatusRequest { verbose: false }));
        let status = answer
            .map_err(|error| error.to_string())?
            .into_inner()
            .status
            .ok_or("no status")?;
        Ok(status
            .conditions
            .iter()
            .any(|condition| condition.r#type == "NetworkReady" && condition.status))
    }

    /// UpdateRuntimeConfig: kubelet tells the node's podCIDR.
    pub fn set_pod_cidr(&mut self, pod_cidr: &str) -> Result<(), String> {
        let request = UpdateRuntimeConfigRequest {
            runtime_config: Some(RuntimeConfig {
                network_config: Some(NetworkConfig {
                    pod_cidr: pod_cidr.to_owned(),
                }),
            }),
        };
        let answer = self
            .runtime
            .block_on(self.client.update_runtime_config(request));
        answer
            .map(|_| ())
            .map_err(|error| error.message().to_owned())
    }

    /// RunPodSandbox, CreateContainer, StartContainer. `ports`: host and container ports.
    pub fn run_pod(&mut self, name: &str, ports: &[(i32, i32)]) -> Result<Pod, String> {
        let config = sandbox_config(name, ports);
        let mut client = self.client.clone();
        let run = async {
            let request = RunPodSandboxRequest {
                config: Some(config.clone()),
                ..Default::default()
            };
            let answer = client.run_pod_sandbox(request).await?.into_inner();
            let sandbox = answer.pod_sandbox_id;
            let request = CreateContainerRequest {
                pod_sandbox_id: sandbox.clone(),
                config: Some(container_config()),
                sandbox_config: Some(config),
            };
            let answer = client.create_container(request).await?.into_inner();
            let container = answer.container_id;
            let request = StartContainerRequest {
                container_id: container.clone(),
            };
            client.start_container(request).await?;
            let request = PodSandboxStatusRequest {
                pod_sandbox_id: sandbox.clone(),
                verbose: false,
            };
            let answer = client.pod_sandbox_status(request).await?.into_inner();
            let network = answer.status.and_then(|status| status.network);
            Ok(Pod {
                sandbox,
                container,
                ip: network.map(|network| network.ip).unwrap_or_default(),
            })
        };
        self.runtime
            .block_on(run)
            .map_err(|error: tonic::Status| error.message().to_owned())
    }

    /// Runs a command in the pod's container; its stdout, or all of its output where it fails.
    pub fn exec(&mut self, pod: &Pod, command: &str) -> Result<String, String> {
        let cmd = vec!["/bin/sh".into(), "-c".into(), command.into()];
        let request = ExecSyncRequest {
            container_id: pod.container.clone(),
            cmd,
            timeout: 10,
        };
        let answer = self
            .runtime
            .block_on(self.client.exec_sync(request))
            .map_err(|error| error.to_string())?
            .into_inner();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if answer.exit_code == 0 {
            Ok(text(&answer.stdout))
        } else {
            Err(text(&answer.stdout) + &text(&answer.stderr))
        }
    }

    /// StopPodSandbox and RemovePodSandbox: two DELs, the second with an empty CNI_NETNS.
    pub fn remove(&mut self, pod: &Pod) -> Result<(), String> {
        let mut client = self.client.clone();
        let id = pod.sandbox.clone();
        let remove = async {
            client
                .stop_pod_sandbox(StopPodSandboxRequest {
                    pod_sandbox_id: id.clone(),
                })
                .await?;
            client
                .remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id: id })
                .await
        };
        self.runtime
            .block_on(remove)
            .map(|_| ())
            .map_err(|error| error.message().to_owned())
    }
}

fn sandbox_config(name: &str, ports: &[(i32, i32)]) -> PodSandboxConfig {
    let port_mappings = ports
        .iter()
        .map(|(host_port, container_port)| PortMapping {
            host_port: *host_port,
            container_port: *container_port,
            ..Default::default()
        })
        .collect();
    PodSandboxConfig {
        metadata: Some(PodSandboxMetadata {
            name: name.into(),
            uid: format!("uid-{name}"),
            namespace: "default".into(),
            attempt: 0,
        }),
        hostname: name.into(),
        log_directory: "/run/logs".into(),
        port_mappings,
        linux: Some(LinuxPodSandboxConfig::default()),
        ..Default::default()
    }
}

/// A container that serves its host name on port 80.
fn container_config() -> ContainerConfig {
    let script = "hostname > /www/index.html; httpd -f -p 80 -h /www";
    ContainerConfig {
        metadata: Some(ContainerMetadata {
            name: "main".into(),
            attempt: 0,
        }),
        image: Some(ImageSpec {
            image: image::NAME.into(),
            ..Default::default()
        }),
        command: vec!["/bin/sh".into(), "-c".into(), script.into()],
        linux: Some(Default::default()),
        ..Default::default()
    }
}
