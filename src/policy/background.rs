//! What is known of evaluations that nothing can stop: their threads go last, and a unit whose
//! trial got stuck is not tried again in this process.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::domain::digest::Digest;

/// Units whose trial is stuck or was. It holds 32 bytes for each, and no more than this many.
static STUCK: Mutex<BTreeSet<Digest>> = Mutex::new(BTreeSet::new());
const STUCK_MAX: usize = 64;

/// Whether the unit may be tried: it never got stuck, and few others did.
pub(super) fn may_try(unit: Digest) -> bool {
    let stuck = STUCK.lock().unwrap_or_else(PoisonError::into_inner);
    !stuck.contains(&unit) && stuck.len() < STUCK_MAX
}

/// Remembers a unit whose trial cannot be stopped.
pub(super) fn is_stuck(unit: Digest) {
    STUCK.lock().unwrap_or_else(PoisonError::into_inner).insert(unit);
}

/// What the calling thread has worked so far, whatever the load; where the system does not tell, how
/// long the process runs.
pub(super) fn worked() -> Duration {
    #[cfg(target_os = "linux")]
    {
        use rustix::time::{ClockId, clock_gettime};
        let spent = clock_gettime(ClockId::ThreadCPUTime);
        Duration::try_from(spent).unwrap_or_default()
    }
    #[cfg(not(target_os = "linux"))]
    {
        static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
        START.get_or_init(std::time::Instant::now).elapsed()
    }
}

/// A thread of this process.
#[derive(Clone, Copy)]
pub(super) struct Thread {
    #[cfg(target_os = "linux")]
    id: rustix::thread::Pid,
}

impl Thread {
    pub(super) fn current() -> Self {
        Self {
            #[cfg(target_os = "linux")]
            id: rustix::thread::gettid(),
        }
    }

    /// Lets every other thread go first, as far as the system knows such a thing.
    pub(super) fn lower(self) {
        // A system that refuses leaves the thread to compete as before.
        #[cfg(target_os = "linux")]
        let _ = rustix::process::setpriority_process(Some(self.id), 19);
    }
}
