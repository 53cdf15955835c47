//! The circuit breaker as a state machine without clock, lock or I/O.
//!
//! ```text
//! closed --count and ratio reached--> open --open_for over, next call--> half-open
//!   ^                                  ^                                  |     |
//!   |                                  +-------- one failure, x2 ---------+     |
//!   +------------------------- `probes` successes ------------------------------+
//! ```

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// The ratio is taken over at most this many of the latest calls in the window.
const CALLS_MAX: usize = 1000;

/// When to stop calling what fails.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BreakerSpec {
    /// How failures are counted.
    pub mode: BreakerMode,
    /// Failures that open it.
    pub failures: u32,
    /// Within this time.
    pub window: Duration,
    /// And at least this share of the calls in the window; window mode only.
    pub failure_ratio: f64,
    /// How long it stays open the first time; doubles with each failed probe.
    pub open_for: Duration,
    /// Up to this.
    pub open_max: Duration,
    /// Probes at once while half open, and successes that close it.
    pub probes: u32,
    /// Calls slower than this count as failures; `None` is off.
    pub slow_call: Option<Duration>,
}

/// How failures are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BreakerMode {
    /// Count and ratio in a sliding window.
    #[default]
    Window,
    /// In a row.
    Consecutive,
}

/// What a breaker does with calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BreakerState {
    /// Lets all through.
    Closed,
    /// Lets none through.
    Open,
    /// Lets probes through.
    HalfOpen,
}

impl BreakerState {
    /// The name in the API and in metrics.
    pub fn name(self) -> &'static str {
        match self {
            BreakerState::Closed => "closed",
            BreakerState::Open => "open",
            BreakerState::HalfOpen => "half_open",
        }
    }
}

impl Force {
    /// The name in the API and in audits.
    pub fn name(self) -> &'static str {
        match self {
            Force::Open => "open",
            Force::Close => "close",
            Force::Reset => "reset",
        }
    }
}

/// Manual control.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Force {
    /// Stays open until reset or closed by hand.
    Open,
    /// Stays closed, whatever happens, until reset or opened by hand.
    Close,
    /// Closed and automatic again, as new; counters stay.
    Reset,
}

/// Counters since start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct BreakerStats {
    /// Tries let through and ended.
    pub total: u64,
    /// Of these, failures.
    pub failures: u64,
    /// Of these, successes.
    pub successes: u64,
    /// Tries not let through.
    pub rejections: u64,
    /// How often it opened by itself.
    pub trips: u64,
}

/// How a try ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// An answer came, be it a refusal.
    Success,
    /// Time-out, connect error, 5xx, bad response.
    Failure,
    /// Nobody knows: dropped, or never sent.
    Released,
}

/// The right to one try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admission {
    epoch: u64,
    at: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    Closed,
    Open { until: Instant, open_for: Duration },
    HalfOpen { running: u32, successes: u32, open_for: Duration },
}

/// One breaker. Its numbers come with each call, so a reload changes them in place.
#[derive(Debug)]
pub struct Breaker {
    state: State,
    forced: bool,
    /// Counts transitions; a try that began before the last one no longer moves the state.
    epoch: u64,
    window: VecDeque<(Instant, bool)>,
    window_failures: usize,
    consecutive: u32,
    /// How often it left closed, or came back to it.
    turns: u64,
    stats: BreakerStats,
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            state: State::Closed,
            forced: false,
            epoch: 0,
            window: VecDeque::new(),
            window_failures: 0,
            consecutive: 0,
            turns: 0,
            stats: BreakerStats::default(),
        }
    }
}

impl Breaker {
    /// Whether a call at `now` would be refused; changes nothing.
    pub fn refuses(&self, spec: &BreakerSpec, now: Instant) -> bool {
        match self.state {
            State::Closed => false,
            State::Open { until, .. } => self.forced || now < until,
            State::HalfOpen { running, .. } => running >= spec.probes,
        }
    }

    /// The right to one try, or `None`. Each admission must be given to `record` once.
    pub fn admit(&mut self, spec: &BreakerSpec, now: Instant) -> Option<Admission> {
        if self.refuses(spec, now) {
            self.reject();
            return None;
        }
        if let State::Open { open_for, .. } = self.state {
            self.go(State::HalfOpen { running: 0, successes: 0, open_for });
        }
        if let State::HalfOpen { running, .. } = &mut self.state {
            *running += 1;
        }
        Some(Admission { epoch: self.epoch, at: now })
    }

    /// Counts a call that was refused after only `refuses` was asked.
    pub fn reject(&mut self) {
        self.stats.rejections += 1;
    }

    /// Takes note of how an admitted try ended.
    pub fn record(&mut self, spec: &BreakerSpec, try_: Admission, ended: Ended, now: Instant) {
        let slow = spec.slow_call.is_some_and(|limit| now.duration_since(try_.at) > limit);
        let ended = if slow && ended == Ended::Success { Ended::Failure } else { ended };
        self.count(ended);
        if try_.epoch != self.epoch {
            return;
        }
        match self.state {
            State::Closed => self.record_closed(spec, ended, now),
            State::Open { .. } => {}
            State::HalfOpen { running, successes, open_for } => match ended {
                Ended::Failure => self.trip(now, open_for.saturating_mul(2).min(spec.open_max)),
                Ended::Success if successes + 1 >= spec.probes => self.close(),
                Ended::Success | Ended::Released => {
                    let successes = successes + u32::from(ended == Ended::Success);
                    self.state = State::HalfOpen { running: running - 1, successes, open_for };
                }
            },
        }
    }

    /// Manual control.
    pub fn force(&mut self, how: Force, now: Instant) {
        match how {
            // How long is of no account: a hand on it stays.
            Force::Open => self.open(now, Duration::ZERO),
            Force::Close | Force::Reset => self.close(),
        }
        self.forced = how != Force::Reset;
    }

    /// The state as a call at `now` meets it.
    pub fn state(&self, now: Instant) -> BreakerState {
        match self.state {
            State::Closed => BreakerState::Closed,
            State::Open { until, .. } if self.forced || now < until => BreakerState::Open,
            State::Open { .. } | State::HalfOpen { .. } => BreakerState::HalfOpen,
        }
    }

    /// Time until the next try may pass; `None` unless open, or when forced.
    pub fn next_attempt(&self, now: Instant) -> Option<Duration> {
        match self.state {
            State::Open { until, .. } if !self.forced => Some(until.saturating_duration_since(now)),
            State::Closed | State::Open { .. } | State::HalfOpen { .. } => None,
        }
    }

    /// Failures and successes behind the present state: of the window, or of the probes.
    pub fn recent(&self) -> (u32, u32) {
        let small = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        match self.state {
            State::HalfOpen { successes, .. } => (0, successes),
            State::Closed | State::Open { .. } => {
                (small(self.window_failures), small(self.window.len() - self.window_failures))
            }
        }
    }

    /// How often it opened and closed since start: odd while it is not closed. A failed probe is no
    /// turn: it was open.
    pub fn turns(&self) -> u64 {
        self.turns
    }

    /// Counters since start.
    pub fn stats(&self) -> BreakerStats {
        self.stats
    }

    fn count(&mut self, ended: Ended) {
        match ended {
            Ended::Success => self.stats.successes += 1,
            Ended::Failure => self.stats.failures += 1,
            Ended::Released => return,
        }
        self.stats.total += 1;
    }

    fn record_closed(&mut self, spec: &BreakerSpec, ended: Ended, now: Instant) {
        if self.forced || ended == Ended::Released {
            return;
        }
        let failed = ended == Ended::Failure;
        self.consecutive = if failed { self.consecutive + 1 } else { 0 };
        self.window.push_back((now, failed));
        self.window_failures += usize::from(failed);
        while let Some(&(at, old_failed)) = self.window.front() {
            if self.window.len() <= CALLS_MAX && now.duration_since(at) < spec.window {
                break;
            }
            self.window.pop_front();
            self.window_failures -= usize::from(old_failed);
        }
        let tripped = match spec.mode {
            BreakerMode::Consecutive => self.consecutive >= spec.failures,
            BreakerMode::Window => {
                let ratio = self.window_failures as f64 / self.window.len().max(1) as f64;
                self.window_failures >= spec.failures as usize && ratio >= spec.failure_ratio
            }
        };
        if failed && tripped {
            self.trip(now, spec.open_for.min(spec.open_max));
        }
    }

    fn trip(&mut self, now: Instant, open_for: Duration) {
        self.stats.trips += 1;
        self.open(now, open_for);
    }

    fn open(&mut self, now: Instant, open_for: Duration) {
        self.go(State::Open { until: now + open_for, open_for });
    }

    fn close(&mut self) {
        self.window.clear();
        self.window_failures = 0;
        self.consecutive = 0;
        self.go(State::Closed);
    }

    fn go(&mut self, state: State) {
        self.turns += u64::from((self.state == State::Closed) != (state == State::Closed));
        self.state = state;
        self.epoch += 1;
    }
}

#[cfg(test)]
mod tests;
