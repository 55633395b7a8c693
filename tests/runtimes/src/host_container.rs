//! A container in a pod with the host's network, restricted as the DaemonSet's containers are:
//! read-only root, the runtime's seccomp profile, no capabilities but the given ones.

use crate::containerd::{Cri, SOCKET};
use k8s_cri::v1::{
    Capability, ContainerConfig, ContainerMetadata, ContainerState, ContainerStatusRequest,
    CreateContainerRequest, ImageSpec, LinuxContainerConfig, LinuxContainerSecurityContext,
    LinuxPodSandboxConfig, LinuxSandboxSecurityContext, Mount, NamespaceMode, NamespaceOption,
    PodSandboxConfig, PodSandboxMetadata, RemovePodSandboxRequest, RunPodSandboxRequest,
    SecurityProfile, StartContainerRequest, StopContainerRequest, StopPodSandboxRequest,
    security_profile::ProfileType,
};
use std::{fs, time::Duration};
use tests::{process::eventually, shell::sh};

const LOGS: &str = "/run/logs";

/// What runs in it.
#[derive(Clone, Copy, Debug)]
pub struct Spec<'s> {
    /// The name of the pod.
    pub name: &'s str,
    pub image: &'s str,
    /// Replaces the entrypoint, unless it is empty.
    pub command: &'s [&'s str],
    pub args: &'s [&'s str],
    /// Folders or files of the host, and where they are in the container.
    pub mounts: &'s [(&'s str, &'s str)],
    /// Without the prefix `CAP_`.
    pub capabilities: &'s [&'s str],
}

/// A container that was started.
#[derive(Debug)]
pub struct HostContainer {
    sandbox: String,
    container: String,
    log: String,
}

/// How a container ended.
#[derive(Debug)]
pub struct Exit {
    pub code: i32,
    /// stdout and stderr.
    pub output: String,
}

/// Imports an image archive as an operator does.
pub fn import(archive: &str) -> String {
    sh(&format!(
        "ctr --address {SOCKET} -n k8s.io images import {archive}"
    ))
}

impl Cri {
    /// RunPodSandbox, CreateContainer, StartContainer.
    pub fn start_on_host(&mut self, spec: &Spec) -> Result<HostContainer, String> {
        let sandbox_config = sandbox_config(spec.name);
        let mut client = self.client.clone();
        let start = async {
            let request = RunPodSandboxRequest {
                config: Some(sandbox_config.clone()),
                ..Default::default()
            };
            let sandbox = client.run_pod_sandbox(request).await?.into_inner();
            let sandbox = sandbox.pod_sandbox_id;
            let request = CreateContainerRequest {
                pod_sandbox_id: sandbox.clone(),
                config: Some(container_config(spec)),
                sandbox_config: Some(sandbox_config),
            };
            let container = client.create_container(request).await?.into_inner();
            let container = container.container_id;
            let request = StartContainerRequest {
                container_id: container.clone(),
            };
            client.start_container(request).await?;
            Ok(HostContainer {
                sandbox,
                container,
                log: format!("{LOGS}/{}/main.log", spec.name),
            })
        };
        self.runtime
            .block_on(start)
            .map_err(|error: tonic::Status| error.message().to_owned())
    }

    /// Runs it to its end, and removes it.
    #[track_caller]
    pub fn run_on_host(&mut self, spec: &Spec) -> Exit {
        let container = self.start_on_host(spec).expect(spec.name);
        let code = eventually(spec.name, Duration::from_secs(30), || {
            self.exit_code(&container)
        });
        let output = container.output();
        self.remove_from_host(&container);
        Exit { code, output }
    }

    /// None while it runs.
    fn exit_code(&self, container: &HostContainer) -> Option<i32> {
        let mut client = self.client.clone();
        let request = ContainerStatusRequest {
            container_id: container.container.clone(),
            verbose: false,
        };
        let answer = self.runtime.block_on(client.container_status(request));
        let status = answer.expect("status").into_inner().status?;
        (status.state() == ContainerState::ContainerExited).then_some(status.exit_code)
    }

    /// SIGTERM, and the exit code.
    #[track_caller]
    pub fn stop_on_host(&mut self, container: &HostContainer) -> i32 {
        let mut client = self.client.clone();
        let request = StopContainerRequest {
            container_id: container.container.clone(),
            timeout: 10,
        };
        let stopped = self.runtime.block_on(client.stop_container(request));
        stopped.expect("stop");
        self.exit_code(container).expect("it has ended")
    }

    /// StopPodSandbox, RemovePodSandbox.
    pub fn remove_from_host(&mut self, container: &HostContainer) {
        let mut client = self.client.clone();
        let pod_sandbox_id = container.sandbox.clone();
        let remove = async {
            let stop = StopPodSandboxRequest {
                pod_sandbox_id: pod_sandbox_id.clone(),
            };
            client.stop_pod_sandbox(stop).await?;
            let remove = RemovePodSandboxRequest { pod_sandbox_id };
            client.remove_pod_sandbox(remove).await
        };
        self.runtime.block_on(remove).expect("remove");
    }
}

impl HostContainer {
    /// stdout and stderr so far, without what the runtime writes before each line.
    pub fn output(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        // 2026-01-01T00:00:00.0Z stderr F text
        let text = |line: &str| line.splitn(4, ' ').nth(3).map(|text| format!("{text}\n"));
        log.lines().filter_map(text).collect()
    }
}

fn runtime_default() -> Option<SecurityProfile> {
    Some(SecurityProfile {
        profile_type: ProfileType::RuntimeDefault.into(),
        localhost_ref: String::new(),
    })
}

fn host_network() -> Option<NamespaceOption> {
    Some(NamespaceOption {
        network: NamespaceMode::Node.into(),
        ..Default::default()
    })
}

fn sandbox_config(name: &str) -> PodSandboxConfig {
    let security_context = LinuxSandboxSecurityContext {
        namespace_options: host_network(),
        seccomp: runtime_default(),
        ..Default::default()
    };
    PodSandboxConfig {
        metadata: Some(PodSandboxMetadata {
            name: name.into(),
            uid: format!("uid-{name}"),
            namespace: "kube-flannel".into(),
            attempt: 0,
        }),
        log_directory: format!("{LOGS}/{name}"),
        linux: Some(LinuxPodSandboxConfig {
            security_context: Some(security_context),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn container_config(spec: &Spec) -> ContainerConfig {
    let owned = |texts: &[&str]| texts.iter().map(|text| text.to_string()).collect();
    let security_context = LinuxContainerSecurityContext {
        capabilities: Some(Capability {
            add_capabilities: owned(spec.capabilities),
            drop_capabilities: vec!["ALL".into()],
            ..Default::default()
        }),
        namespace_options: host_network(),
        readonly_rootfs: true,
        no_new_privs: true,
        seccomp: runtime_default(),
        ..Default::default()
    };
    let mount = |(host, container): &(&str, &str)| Mount {
        host_path: host.to_string(),
        container_path: container.to_string(),
        ..Default::default()
    };
    ContainerConfig {
        metadata: Some(ContainerMetadata {
            name: "main".into(),
            attempt: 0,
        }),
        image: Some(ImageSpec {
            image: spec.image.into(),
            ..Default::default()
        }),
        command: owned(spec.command),
        args: owned(spec.args),
        mounts: spec.mounts.iter().map(mount).collect(),
        log_path: "main.log".into(),
        linux: Some(LinuxContainerConfig {
            security_context: Some(security_context),
            ..Default::default()
        }),
        ..Default::default()
    }
}
