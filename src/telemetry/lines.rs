//! Lines on their way out: gathered in memory and written many at once, so that a request wakes
//! nobody.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Bytes that may wait; when they do, callers wait too rather than lose a line.
const WAITING_BYTES_MAX: usize = 16 << 20;
/// Bytes after which a write begins at once.
const WRITE_BYTES: usize = 64 << 10;
/// How long lines gather otherwise.
const GATHER: Duration = Duration::from_millis(5);
/// How long the end waits for an output that takes nothing.
const LAST_WRITE: Duration = Duration::from_secs(1);

/// Takes whole lines from any thread.
#[derive(Clone)]
pub(super) struct Lines(Arc<Shared>);

/// Writes what is left when it is dropped.
pub(super) struct Writing(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    taken: Condvar,
}

#[derive(Default)]
struct State {
    waiting: Vec<u8>,
    closed: bool,
    ended: bool,
}

/// Starts the thread that writes.
pub(super) fn to(output: impl Write + Send + 'static) -> (Lines, Writing) {
    let shared = Arc::new(Shared::default());
    let writer = Arc::clone(&shared);
    // Without the thread nothing is read from `waiting`; `ended` keeps callers from waiting for it.
    let thread = std::thread::Builder::new().name("log-writer".into());
    if thread.spawn(move || writer.write_until_closed(output)).is_err() {
        shared.lock().ended = true;
    }
    (Lines(Arc::clone(&shared)), Writing(shared))
}

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut state = self.0.lock();
        while state.waiting.len() >= WAITING_BYTES_MAX && !state.ended {
            state = self.0.taken.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.ended {
            return Ok(line.len());
        }
        let before = state.waiting.len();
        state.waiting.extend_from_slice(line);
        let full = before < WRITE_BYTES && state.waiting.len() >= WRITE_BYTES;
        drop(state);
        if before == 0 || full {
            self.0.changed.notify_one();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.closed = true;
        self.0.changed.notify_one();
        let until = Instant::now() + LAST_WRITE;
        while !state.ended {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.0.taken.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_until_closed(&self, mut output: impl Write) {
        let mut lines = Vec::new();
        while self.take(&mut lines) {
            // A closed output is nobody's fault.
            let _ = output.write_all(&lines).and_then(|()| output.flush());
            lines.clear();
        }
        self.lock().ended = true;
        self.taken.notify_all();
    }

    /// Exchanges the empty `lines` for those that waited; false at the end.
    fn take(&self, lines: &mut Vec<u8>) -> bool {
        let mut state = self.lock();
        while state.waiting.is_empty() && !state.closed {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let until = Instant::now() + GATHER;
        while state.waiting.len() < WRITE_BYTES && !state.closed {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        std::mem::swap(&mut state.waiting, lines);
        drop(state);
        self.taken.notify_all();
        !lines.is_empty()
    }
}
