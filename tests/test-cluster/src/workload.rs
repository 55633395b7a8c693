//! The pods of the test: a web server of busybox, with replicas and with a host port.

use crate::Cluster;
use runtimes::image;
use serde_json::Value;
use std::{thread, time::Duration};
use tests::process::eventually;

/// The folder in which the image of the pods is built.
pub(crate) const IMAGE_FOLDER: &str = "/srv/busybox";
pub(crate) const REPLICAS: usize = 20;
pub(crate) const HOST_PORT: u16 = 8080;
const READY_TIMEOUT: Duration = Duration::from_secs(90);
/// `kubectl exec` at once.
const CONCURRENCY: usize = 4;

/// A running pod.
#[derive(Clone, Debug)]
pub(crate) struct Running {
    pub(crate) name: String,
    pub(crate) node: String,
    pub(crate) ip: String,
}

fn container() -> String {
    format!(
        "
      - name: web
        image: {}
        imagePullPolicy: Never
        command: [sh, -c, 'hostname > /www/index.html; exec httpd -f -p 80 -h /www']
        readinessProbe: {{httpGet: {{path: /, port: 80}}, periodSeconds: 1}}",
        image::NAME
    )
}

/// A deployment of web servers on both nodes, and a service before it.
pub(crate) fn replicas() -> String {
    format!(
        "apiVersion: apps/v1
kind: Deployment
metadata: {{name: web}}
spec:
  replicas: {REPLICAS}
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      terminationGracePeriodSeconds: 0
      topologySpreadConstraints:
      - maxSkew: 1
        topologyKey: kubernetes.io/hostname
        whenUnsatisfiable: ScheduleAnyway
        labelSelector: {{matchLabels: {{app: web}}}}
      containers:{}
---
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec:
  selector: {{app: web}}
  ports: [{{port: 80}}]
",
        container()
    )
}

/// A web server with a port of each node.
pub(crate) fn host_ports() -> String {
    format!(
        "apiVersion: apps/v1
kind: DaemonSet
metadata: {{name: host-port}}
spec:
  selector: {{matchLabels: {{app: host-port}}}}
  template:
    metadata: {{labels: {{app: host-port}}}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:{}
        ports: [{{containerPort: 80, hostPort: {HOST_PORT}}}]
",
        container()
    )
}

impl Cluster<'_> {
    /// Replaces the replicas of the deployment, and waits until the new ones are ready.
    #[track_caller]
    pub(crate) fn replace_replicas(&self) {
        self.control_plane.kubectl("rollout restart deployment/web");
        self.control_plane
            .kubectl("rollout status deployment/web --timeout=90s");
    }

    /// The ready pods with a label, once there are `count`.
    #[track_caller]
    pub(crate) fn ready_pods(&self, app: &str, count: usize) -> Vec<Running> {
        eventually(
            &format!("{count} pods of {app} are ready"),
            READY_TIMEOUT,
            || {
                let list = self.control_plane.get(&format!("pods -l app={app}"));
                let pods: Vec<_> = list["items"]
                    .as_array()?
                    .iter()
                    .filter_map(running)
                    .collect();
                (pods.len() == count).then_some(pods)
            },
        )
    }

    /// Runs a shell command in a pod.
    pub(crate) fn exec(&self, pod: &Running, command: &str) -> Result<String, String> {
        let words = ["exec", &pod.name, "--", "sh", "-c", command];
        let output = self.control_plane.try_kubectl(&words, "");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match output.status.success() {
            true => Ok(text(&output.stdout)),
            false => Err(format!(
                "{pod:?}: {}{}",
                text(&output.stdout),
                text(&output.stderr)
            )),
        }
    }

    /// Runs a shell command in each pod; panics where it fails.
    #[track_caller]
    pub(crate) fn exec_in_each(&self, pods: &[Running], command: &str) {
        let failures: Vec<String> = thread::scope(|scope| {
            let workers: Vec<_> = (0..CONCURRENCY)
                .map(|worker| {
                    let share = pods.iter().skip(worker).step_by(CONCURRENCY);
                    scope.spawn(move || {
                        share
                            .filter_map(|pod| self.exec(pod, command).err())
                            .collect::<Vec<_>>()
                    })
                })
                .collect();
            workers
                .into_iter()
                .flat_map(|worker| worker.join().expect("no panic"))
                .collect()
        });
        assert!(failures.is_empty(), "{}", failures.join("\n"));
    }

    /// The pods of a node.
    pub(crate) fn on_node<'p>(pods: &'p [Running], node: &str) -> Vec<&'p Running> {
        pods.iter().filter(|pod| pod.node == node).collect()
    }
}

/// The pod if it is ready and not about to end.
fn running(pod: &Value) -> Option<Running> {
    let conditions = pod["status"]["conditions"].as_array()?;
    let ready = conditions
        .iter()
        .any(|condition| condition["type"] == "Ready" && condition["status"] == "True");
    let ends = !pod["metadata"]["deletionTimestamp"].is_null();
    let text = |value: &Value| value.as_str().map(str::to_owned);
    (ready && !ends).then_some(Running {
        name: text(&pod["metadata"]["name"])?,
        node: text(&pod["spec"]["nodeName"])?,
        ip: text(&pod["status"]["podIP"])?,
    })
}
