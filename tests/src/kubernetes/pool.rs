//! API servers that the scenarios of a process share in turn. Starting one takes seconds and
//! 400 MB; deleting its nodes takes milliseconds.

use super::ApiServer;
use std::{
    fs,
    ops::{Deref, DerefMut},
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    thread,
};

/// The memory that a server and its etcd may need with 5,000 nodes, in KiB.
const SERVER_KIB: u64 = 2 << 20;
const MOST_SERVERS: usize = 4;

struct Pool {
    running: usize,
    idle: Vec<ApiServer>,
}

static POOL: Mutex<Pool> = Mutex::new(Pool {
    running: 0,
    idle: Vec::new(),
});
static RETURNED: Condvar = Condvar::new();

fn lock() -> MutexGuard<'static, Pool> {
    // a scenario that fails does not leave the pool half changed
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

fn wait(pool: MutexGuard<'static, Pool>) -> MutexGuard<'static, Pool> {
    RETURNED.wait(pool).unwrap_or_else(PoisonError::into_inner)
}

/// How many servers may run: as many as fit into the memory that is available.
fn limit() -> usize {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib: u64 = line
        .and_then(|line| line.split_whitespace().next()?.parse().ok())
        .unwrap_or(SERVER_KIB);
    usize::try_from(kib / 2 / SERVER_KIB).map_or(1, |fit| fit.clamp(1, MOST_SERVERS))
}

/// Counts as a running server until it is dropped.
pub(super) struct Permit(());

impl Permit {
    /// Waits until another server may run; ends an idle one if that makes room.
    pub(super) fn acquire() -> Permit {
        let limit = limit();
        let mut pool = lock();
        loop {
            if pool.running < limit {
                pool.running += 1;
                return Permit(());
            }
            let idle = pool.idle.pop();
            match idle {
                Some(server) => {
                    drop(pool);
                    drop(server);
                    pool = lock();
                }
                None => pool = wait(pool),
            }
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        lock().running -= 1;
        RETURNED.notify_all();
    }
}

/// A server that returns to the pool when it is dropped.
pub struct PooledApiServer(Option<ApiServer>);

/// An idle server, or a new one if another may run, or the next that is returned.
pub(super) fn take() -> PooledApiServer {
    let limit = limit();
    let mut pool = lock();
    let permit = loop {
        if let Some(server) = pool.idle.pop() {
            return PooledApiServer(Some(server));
        }
        if pool.running < limit {
            pool.running += 1;
            break Permit(());
        }
        pool = wait(pool);
    };
    drop(pool);
    PooledApiServer(Some(ApiServer::start_with(permit)))
}

impl Drop for PooledApiServer {
    fn drop(&mut self) {
        let Some(server) = self.0.take() else {
            return;
        };
        // a scenario that failed may have left the server in any state
        if thread::panicking() || server.process.is_none() || server.reset().is_err() {
            return;
        }
        lock().idle.push(server);
        RETURNED.notify_all();
    }
}

impl Deref for PooledApiServer {
    type Target = ApiServer;

    fn deref(&self) -> &ApiServer {
        self.0.as_ref().expect("until it is dropped")
    }
}

impl DerefMut for PooledApiServer {
    fn deref_mut(&mut self) -> &mut ApiServer {
        self.0.as_mut().expect("until it is dropped")
    }
}
