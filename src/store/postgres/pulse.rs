//! Whether the database still ends what it is given: a pool is full of work, or of silence.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// No transaction has ended for so long while some were under way.
const SILENT: Duration = Duration::from_millis(500);

/// Transactions under way, and when the last one ended or the first of them began.
#[derive(Debug)]
pub(super) struct Pulse(Mutex<(u32, Instant)>);

impl Default for Pulse {
    fn default() -> Self {
        Pulse(Mutex::new((0, Instant::now())))
    }
}

/// One transaction under way; ends when dropped.
pub(super) struct Beat<'a> {
    pulse: &'a Pulse,
    answered: bool,
}

impl Pulse {
    fn state(&self) -> MutexGuard<'_, (u32, Instant)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn begin(&self) -> Beat<'_> {
        let mut state = self.state();
        if state.0 == 0 {
            state.1 = Instant::now();
        }
        state.0 += 1;
        Beat { pulse: self, answered: false }
    }

    /// Whether everything under way waits for a database that says nothing.
    pub(super) fn is_silent(&self) -> bool {
        let (under_way, since) = *self.state();
        under_way > 0 && since.elapsed() >= SILENT
    }
}

impl Beat<'_> {
    /// The database answered it, be it with a refusal.
    pub(super) fn answered(mut self) {
        self.answered = true;
    }
}

impl Drop for Beat<'_> {
    fn drop(&mut self) {
        let mut state = self.pulse.state();
        state.0 = state.0.saturating_sub(1);
        if self.answered {
            state.1 = Instant::now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_waits_and_is_not_answered_is_silence() {
        let pulse = Pulse::default();
        let past = Instant::now().checked_sub(2 * SILENT).unwrap();
        pulse.state().1 = past;
        assert!(!pulse.is_silent(), "nothing is under way");
        let (one, _other) = (pulse.begin(), pulse.begin());
        assert!(!pulse.is_silent(), "it has just begun");
        pulse.state().1 = past;
        assert!(pulse.is_silent());
        one.answered();
        assert!(!pulse.is_silent(), "another was answered");
    }
}
