//! Runs the commands: PostStartupCommand first, then those of peers, several at once, each again
//! until it succeeded. What ran is recorded before and after.

use super::{
    Keys, Progress, Wanted,
    command::{RunError, Variables},
    record::Record,
    schedule::{BACKOFF, Job, Schedule},
};
use crate::{best_effort::best_effort, counted::counted};
use std::{
    collections::BTreeMap,
    convert::Infallible,
    future, io,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    sync::watch,
    task::{JoinSet, spawn_blocking},
    time::sleep_until,
};
use tracing::{debug, info, warn};

/// Commands that run at once.
const AT_ONCE: usize = 8;
/// That a command succeeded is on disk after this at the latest, or at the end of the daemon.
const SAVE_INTERVAL: Duration = Duration::from_secs(1);
/// How often SubnetRemoveCommand is run for a peer when the node leaves the backend, over 7.5 s:
/// what it removes may be gone already.
const LEAVE_ATTEMPTS: u32 = 5;

/// The task of the commands.
pub(super) struct Runner {
    pub(super) keys: Arc<Keys>,
    pub(super) file: PathBuf,
    pub(super) schedule: Schedule,
    pub(super) progress: watch::Sender<Progress>,
    tasks: JoinSet<Ended>,
    start_up: StartUp,
    /// The node has another backend now.
    leaving: bool,
    save_at: Option<Instant>,
    save_error: Option<String>,
    fault: Option<String>,
    /// Jobs that succeeded since the last summary in the log.
    added: usize,
    removed: usize,
}

/// PostStartupCommand.
#[derive(Default)]
struct StartUp {
    wanted: Option<Variables>,
    running: bool,
    attempts: u32,
    due: Option<Instant>,
}

/// A command that ended.
enum Ended {
    StartUp(Variables, Result<String, RunError>),
    Job(Job, Result<(), RunError>),
}

impl Runner {
    pub(super) fn new(
        keys: Arc<Keys>,
        file: PathBuf,
        mut record: Record,
        progress: watch::Sender<Progress>,
    ) -> Runner {
        let changed = record.follow_add_command(&keys.add);
        let mut schedule = Schedule::new(record, changed);
        if changed {
            schedule.undo_all(Instant::now());
        }
        Runner {
            keys,
            file,
            schedule,
            progress,
            tasks: JoinSet::new(),
            start_up: StartUp::default(),
            leaving: false,
            save_at: None,
            save_error: None,
            fault: None,
            added: 0,
            removed: 0,
        }
    }

    pub(super) async fn run(
        mut self,
        mut wanted: watch::Receiver<Option<Arc<Wanted>>>,
    ) -> Infallible {
        wanted.mark_changed();
        loop {
            self.start_due().await;
            self.publish();
            tokio::select! {
                changed = wanted.changed() => match changed {
                    Ok(()) => self.follow(wanted.borrow_and_update().as_deref()),
                    // the daemon ends
                    Err(_) => return future::pending().await,
                },
                () = self.wait() => {}
            }
        }
    }

    /// Runs SubnetRemoveCommand for every peer of the record.
    pub(super) async fn leave(mut self) {
        self.leaving = true;
        self.schedule.follow(&BTreeMap::new(), Instant::now());
        while !self.schedule.has_tried_all(LEAVE_ATTEMPTS) {
            self.start_due().await;
            self.wait().await;
        }
        let failing = self.schedule.failing();
        if failing > 0 {
            let peers = counted(failing, "peer", "peers");
            warn!(
                "SubnetRemoveCommand failed {LEAVE_ATTEMPTS} times for {peers}: what SubnetAddCommand made stays"
            );
        }
    }

    /// Waits until commands end or something is due. Loses nothing where it is cancelled.
    async fn wait(&mut self) {
        let now = Instant::now();
        let due = [self.save_at, self.start_up.due, self.schedule.next_due(now)];
        let due = due.into_iter().flatten().min();
        tokio::select! {
            Some(ended) = self.tasks.join_next() => {
                let mut ended = Some(ended);
                while let Some(task) = ended {
                    if let Some(task) = best_effort(task, "the daemon ends") {
                        self.ended(task);
                    }
                    ended = self.tasks.try_join_next();
                }
            }
            () = sleep_until(due.unwrap_or(now).into()), if due.is_some() => {}
            else => future::pending().await,
        }
    }

    fn follow(&mut self, wanted: Option<&Wanted>) {
        let Some(wanted) = wanted else { return };
        if self.start_up.wanted.as_ref() != Some(&wanted.own) {
            self.start_up.wanted = Some(wanted.own.clone());
            self.start_up.attempts = 0;
            self.start_up.due = None;
        }
        if let Some(peers) = &wanted.peers {
            self.schedule.follow(peers, Instant::now());
        }
    }

    async fn start_due(&mut self) {
        let now = Instant::now();
        self.start_start_up(now);
        let mut jobs = Vec::new();
        // a peer's command may need what PostStartupCommand makes
        if self.leaving || self.schedule.record.is_started() {
            let room = AT_ONCE.saturating_sub(self.tasks.len());
            jobs = self.schedule.start(room, now);
        }
        if self.schedule.must_save || self.save_at.is_some_and(|at| at <= now) {
            self.save().await;
        }
        for job in jobs {
            let keys = self.keys.clone();
            self.tasks.spawn(async move {
                let result = keys.run(&job).await;
                Ended::Job(job, result)
            });
        }
    }

    fn start_start_up(&mut self, now: Instant) {
        let state = &mut self.start_up;
        let Some(variables) = &state.wanted else {
            return;
        };
        let record = &self.schedule.record;
        let is_due = state.due.is_none_or(|due| due <= now);
        if state.running || !is_due || record.is_started_by(&self.keys.post, variables) {
            return;
        }
        (state.running, state.due) = (true, None);
        let (keys, variables) = (self.keys.clone(), variables.clone());
        self.tasks.spawn(async move {
            let result = keys.post.run_if_set(&variables, "\n", keys.limit()).await;
            Ended::StartUp(variables, result)
        });
    }

    fn ended(&mut self, ended: Ended) {
        let now = Instant::now();
        match ended {
            Ended::StartUp(variables, result) => {
                self.start_up.running = false;
                match result {
                    Ok(_) => {
                        self.schedule.record.started(&self.keys.post, &variables);
                        self.schedule.must_save = true;
                        self.fault = None;
                    }
                    Err(error) => {
                        let attempts = &mut self.start_up.attempts;
                        *attempts = attempts.saturating_add(1);
                        let (attempts, delay) = (*attempts, BACKOFF.delay(*attempts));
                        self.start_up.due = Some(now + delay);
                        self.failed("PostStartupCommand", "", &error, attempts, delay);
                    }
                }
            }
            Ended::Job(job, result) => self.job_ended(&job, result, now),
        }
    }

    fn job_ended(&mut self, job: &Job, result: Result<(), RunError>, now: Instant) {
        self.save_at.get_or_insert(now + SAVE_INTERVAL);
        let retry = self.schedule.ended(job, result.is_ok(), now);
        match (result, job) {
            (Ok(()), Job::Add { .. }) => self.added += 1,
            (Ok(()), Job::Remove { .. }) => self.removed += 1,
            (Err(error), _) => {
                // without a retry another job of the peer follows
                let (attempts, delay) = retry.unwrap_or_default();
                let subnet = format!(" for {}", job.key());
                self.failed(job.command(), &subnet, &error, attempts, delay);
            }
        }
        if self.schedule.failing() == 0 && self.schedule.record.is_started() {
            self.fault = None;
        }
        if self.schedule.is_done() {
            let added = counted(std::mem::take(&mut self.added), "peer", "peers");
            let removed = std::mem::take(&mut self.removed);
            info!("the commands of peers are done: {added} added, {removed} removed");
        }
    }

    /// Logs the attempts 1, 2, 4, 8 and so on.
    fn failed(
        &mut self,
        command: &str,
        of: &str,
        error: &RunError,
        attempts: u32,
        delay: Duration,
    ) {
        self.fault = Some(format!("{command}{of}: {error}"));
        if attempts.is_power_of_two() {
            warn!("{command}{of} failed: {error}; running it again in {delay:?}");
            error.log_output(command);
        } else {
            debug!("{command}{of} failed: {error}");
        }
    }

    fn publish(&self) {
        let has_failing_start = !self.schedule.record.is_started();
        let progress = Progress {
            is_started: !has_failing_start,
            is_settled: self.schedule.is_settled(),
            failing: self.schedule.failing()
                + usize::from(self.start_up.attempts > 0 && self.start_up.due.is_some()),
            fault: self.fault.clone(),
        };
        self.progress.send_if_modified(|current| {
            let changed = *current != progress;
            *current = progress;
            changed
        });
    }

    async fn save(&mut self) {
        self.schedule.must_save = false;
        self.save_at = None;
        let (bytes, file) = (self.schedule.record.bytes(), self.file.clone());
        let written = spawn_blocking(move || Record::write(&file, &bytes?)).await;
        self.saved(written.unwrap_or_else(|error| Err(io::Error::other(error))));
    }

    fn saved(&mut self, written: io::Result<()>) {
        let error = written.err().map(|error| error.to_string());
        if let Some(error) = error.as_ref().filter(|_| error != self.save_error) {
            warn!(
                "cannot write {}: {error}; after a restart commands run that ran before",
                self.file.display()
            );
        }
        self.save_error = error;
    }
}

impl Drop for Runner {
    /// The daemon ends, or goes on under another configuration.
    fn drop(&mut self) {
        if self.schedule.must_save || self.save_at.is_some() {
            let record = &self.schedule.record;
            let written = record
                .bytes()
                .and_then(|bytes| Record::write(&self.file, &bytes));
            self.saved(written);
        }
    }
}
