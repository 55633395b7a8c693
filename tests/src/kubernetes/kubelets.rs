//! The status updates of many kubelets, over a few connections.

use super::{
    client::{Client, METADATA, Patch},
    node::heartbeat,
    node_path,
};
use serde_json::json;
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

const CONNECTIONS: usize = 4;

/// Updates the status of nodes until it is dropped.
pub struct KubeletUpdates {
    stop: watch::Sender<bool>,
    sent: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<()>>,
}

impl KubeletUpdates {
    /// Each node's status is updated once an interval; the updates are spread over it evenly.
    pub(super) fn start(client: &Client, names: Vec<String>, interval: Duration) -> KubeletUpdates {
        let names: Arc<[String]> = names.into();
        let stop = watch::Sender::new(false);
        let sent = Arc::new(AtomicUsize::new(0));
        let threads = (0..CONNECTIONS.min(names.len())).map(|first| {
            let (client, names) = (client.clone(), names.clone());
            let (mut stop, sent) = (stop.subscribe(), sent.clone());
            thread::spawn(move || {
                client.run(async || {
                    let started = Instant::now();
                    let Ok(mut connection) = client.connect().await else {
                        return;
                    };
                    for turn in 0.. {
                        let number = turn * CONNECTIONS + first;
                        let due = interval.mul_f64(number as f64 / names.len() as f64);
                        tokio::select! {
                            () = sleep_until(started + due) => (),
                            _ = stop.wait_for(|&stop| stop) => return,
                        }
                        let path = format!("{}/status", node_path(&names[number % names.len()]));
                        let patch = json!({"status": {"conditions": heartbeat(&time(number))}});
                        let answer = connection
                            .send(
                                "PATCH",
                                &path,
                                Some(Patch::Strategic),
                                METADATA,
                                patch.to_string(),
                            )
                            .await;
                        match answer {
                            Ok(_) => sent.fetch_add(1, Ordering::Relaxed),
                            // the server went away, or the scenario ends
                            Err(_) => return,
                        };
                    }
                });
            })
        });
        KubeletUpdates {
            threads: threads.collect(),
            stop,
            sent,
        }
    }

    /// How many updates the API server has answered.
    pub fn sent(&self) -> usize {
        self.sent.load(Ordering::Relaxed)
    }
}

impl Drop for KubeletUpdates {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// A heartbeat's time, another one for each update.
fn time(update: usize) -> String {
    let (seconds, minutes, hours) = (update % 60, update / 60 % 60, update / 3600 % 24);
    format!("2026-01-02T{hours:02}:{minutes:02}:{seconds:02}Z")
}
