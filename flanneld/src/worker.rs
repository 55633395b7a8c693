//! A thread for work that waits or takes long, one piece after the other. Always the same thread,
//! since each one that allocates keeps memory of its own (an arena of malloc): passes over the host
//! and changes of the lease store on whatever thread is idle need up to half as much more.

use crate::best_effort::best_effort;
use std::{
    io,
    sync::{Mutex, PoisonError, mpsc},
    thread::{self, Thread},
    time::Duration,
};
use tokio::sync::oneshot::{self, error::RecvError};

type Job = Box<dyn FnOnce() + Send>;

/// How long the end waits for the work in progress.
const END_TIMEOUT: Duration = Duration::from_millis(500);

/// Ends when it is dropped, after the work that it was given.
#[derive(Debug)]
pub(crate) struct Worker {
    /// None: it ends.
    jobs: Option<mpsc::Sender<Job>>,
    thread: Thread,
    /// The thread has the other end.
    ended: Mutex<mpsc::Receiver<()>>,
}

impl Worker {
    /// Starts the thread, with this name.
    pub(crate) fn start(name: &str) -> io::Result<Worker> {
        let (jobs, waiting) = mpsc::channel::<Job>();
        let (end, ended) = mpsc::channel();
        let work = move || {
            waiting.into_iter().for_each(|job| job());
            best_effort(end.send(()), "nobody waits for the end");
        };
        let thread = thread::Builder::new().name(name.to_owned()).spawn(work)?;
        Ok(Worker {
            jobs: Some(jobs),
            thread: thread.thread().clone(),
            ended: Mutex::new(ended),
        })
    }

    /// Does the work after what was given to the thread before. It is done even if nobody waits any
    /// longer. Fails if the thread has ended.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, RecvError> {
        let (done, answer) = oneshot::channel();
        // without a thread the job is dropped, and the answer with it
        if let Some(jobs) = &self.jobs {
            drop(jobs.send(Box::new(move || drop(done.send(work())))));
        }
        answer.await
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.jobs = None;
        // else work has the last reference to its own thread
        if self.thread.id() != thread::current().id() {
            let ended = self.ended.get_mut().unwrap_or_else(PoisonError::into_inner);
            best_effort(ended.recv_timeout(END_TIMEOUT), "the work is cut off");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[tokio::test]
    async fn work_is_done_in_order_on_one_thread() {
        let worker = Worker::start("test").unwrap();
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

    #[tokio::test]
    async fn end_waits_for_the_work_in_progress() {
        let worker = Worker::start("test").unwrap();
        let (started, begun) = mpsc::channel();
        let (finished, end) = mpsc::channel();
        tokio::select! {
            biased;
            _ = worker.run(move || {
                started.send(()).unwrap();
                thread::sleep(Duration::from_millis(50));
                finished.send(7).unwrap();
            }) => {}
            () = std::future::ready(()) => {}
        }
        begun.recv().unwrap();
        drop(worker);
        assert_eq!(end.try_recv(), Ok(7));
    }

    #[test]
    fn work_may_hold_the_thread_itself() {
        let worker = std::sync::Arc::new(Worker::start("test").unwrap());
        let (dropped, end) = mpsc::channel();
        let held = worker.clone();
        let job = move || {
            let start = Instant::now();
            // the other reference goes first
            while std::sync::Arc::strong_count(&held) > 1 {
                thread::yield_now();
            }
            drop(held);
            dropped.send(start.elapsed()).unwrap();
        };
        worker.jobs.as_ref().unwrap().send(Box::new(job)).unwrap();
        drop(worker);
        assert!(end.recv().unwrap() < END_TIMEOUT);
    }
}
