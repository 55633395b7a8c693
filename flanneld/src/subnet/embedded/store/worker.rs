//! The thread on which the store changes: changes wait for the disk, and for each other. One thread
//! of its own, since each thread that allocates keeps memory of its own (an arena of malloc).

use std::{io, sync::mpsc, thread};
use tokio::sync::oneshot::{self, error::RecvError};

type Job = Box<dyn FnOnce() + Send>;

/// Ends when it is dropped.
#[derive(Debug)]
pub(super) struct Worker {
    jobs: mpsc::Sender<Job>,
}

impl Worker {
    pub(super) fn start() -> io::Result<Worker> {
        let (jobs, waiting) = mpsc::channel::<Job>();
        let thread = thread::Builder::new().name("lease-store".to_owned());
        thread.spawn(move || waiting.into_iter().for_each(|job| job()))?;
        Ok(Worker { jobs })
    }

    /// Does the work after what was given to the thread before. It is done even if nobody waits any
    /// longer. Fails if the thread has ended.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, RecvError> {
        let (done, answer) = oneshot::channel();
        // without a thread the job is dropped, and the answer with it
        drop(self.jobs.send(Box::new(move || drop(done.send(work())))));
        answer.await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_is_done_in_order_on_one_thread() {
        let worker = Worker::start().unwrap();
        let first = worker.run(|| thread::current().id());
        let (first, second) = tokio::join!(first, worker.run(|| thread::current().id()));
        assert_eq!(first.unwrap(), second.unwrap());
        // nobody waits for it
        let (done, answer) = oneshot::channel();
        tokio::select! {
            biased;
            _ = worker.run(move || done.send(7)) => {}
            () = std::future::ready(()) => {}
        }
        assert_eq!(answer.await, Ok(7));
    }
}
