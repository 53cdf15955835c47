//! How many requests may be judged at once, learned from how late the serving threads are.
//!
//! A thread that finds its clock ringing late in all of a window has more to do than it can, and so
//! have those of built-in detectors whose jobs all had to wait: that is the queue this limit is for.
//! What remote detectors take says nothing of it, so a slow or hung one lowers no limit. Multiplicative
//! down and up; a limit that nobody feels stays. It begins low and doubles while no thread is late, as
//! TCP's slow start does, so that a sudden load cannot let in a second's work at once. Pure.

use std::time::Duration;

use tokio::time::Instant;

/// Never more at once.
const CEILING: usize = 1024;
/// Never fewer, however late the threads are.
pub(super) const FLOOR: usize = 4;
/// Before anything is learned.
pub(super) const START: usize = 64;
/// Lateness in every look of a window that means a standing queue.
const LATE: Duration = Duration::from_millis(3);
/// Between two changes.
pub(super) const WINDOW: Duration = Duration::from_millis(100);
/// Kept of the limit in a window that was late, and in one that was late ten times as much.
const DOWN: f64 = 0.8;
const FAR_DOWN: f64 = 0.5;
/// Gained in a window that was not, and one more.
const UP: f64 = 1.25;
/// Gained once no window was late for that long.
const FAR_UP: f64 = 2.0;
const CALM: Duration = Duration::from_secs(1);

/// What one thread saw in a window.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    /// The least lateness of its clock.
    pub late: Duration,
    /// Requests being judged, of all threads.
    pub running: usize,
    /// Whether a request had to wait.
    pub felt: bool,
}

/// The limit and when it changed.
#[derive(Debug)]
pub(super) struct Pace {
    limit: usize,
    lowered: Option<Instant>,
    raised: Option<Instant>,
}

impl Default for Pace {
    fn default() -> Self {
        Self { limit: START, lowered: None, raised: None }
    }
}

impl Pace {
    /// The limit after a window.
    pub(super) fn step(&mut self, seen: Seen, now: Instant) -> usize {
        let rested = |last: Option<Instant>| last.is_none_or(|last| now - last >= WINDOW);
        if seen.late > LATE {
            if rested(self.lowered) {
                let from = self.limit.min(seen.running.max(FLOOR));
                let kept = if seen.late > LATE * 10 { FAR_DOWN } else { DOWN };
                self.limit = ((from as f64 * kept) as usize).max(FLOOR);
                self.lowered = Some(now);
            }
        } else if seen.felt && rested(self.lowered) && rested(self.raised) {
            let calm = self.lowered.is_none_or(|last| now - last >= CALM);
            let gained = if calm { FAR_UP } else { UP };
            self.limit = ((self.limit as f64 * gained) as usize + 1).min(CEILING);
            self.raised = Some(now);
        }
        self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A thread that takes `cost` of each request under way, of which `load` want to be, while each
    /// waits `away` for detectors; the limit after each window.
    fn simulate(
        pace: &mut Pace,
        start: Instant,
        windows: u32,
        (load, cost, away): (usize, Duration, Duration),
    ) -> Vec<usize> {
        let mut limits = Vec::new();
        for window in 0..windows {
            let running = load.min(pace.limit);
            // Those that find the thread busy: all but what detectors hold at its best rate.
            let held = (away.as_secs_f64() / cost.as_secs_f64()) as usize;
            let late = cost * u32::try_from(running.saturating_sub(held)).unwrap();
            let seen = Seen { late, running, felt: load > pace.limit };
            limits.push(pace.step(seen, start + WINDOW * window));
        }
        limits
    }

    const MS: Duration = Duration::from_millis(1);

    fn at(limit: usize) -> Pace {
        Pace { limit, ..Pace::default() }
    }

    #[test]
    fn overload_lowers_the_limit_to_what_keeps_the_thread_busy_and_no_lower() {
        let start = Instant::now();
        // 2000 a second, each 20 ms away: 40 at once keep it busy.
        let limits = simulate(&mut at(CEILING), start, 100, (5_000, MS / 2, MS * 20));
        let settled = &limits[30..];
        assert!(settled.iter().all(|limit| (30..=70).contains(limit)), "{settled:?}");
        let reached = limits.iter().position(|limit| *limit <= 70).unwrap();
        assert!(reached <= 6, "it took {reached} windows: {limits:?}");
    }

    #[test]
    fn slow_detectors_lower_nothing_and_get_a_low_limit_back_up() {
        let start = Instant::now();
        let mut pace = Pace::default();
        let slow = (2_000, MS / 2, MS * 2_000);
        let first = simulate(&mut pace, start, 20, slow);
        assert_eq!((first[0], first[4]), (2 * START + 1, CEILING), "half a second: {first:?}");
        let low = simulate(&mut pace, start + MS * 10_000, 60, (5_000, MS, MS));
        assert!(low.last().is_some_and(|limit| *limit <= 3 * FLOOR), "{low:?}");
        let up = simulate(&mut pace, start + MS * 20_000, 20, slow);
        assert_eq!(up.last(), Some(&CEILING), "two seconds are not enough: {up:?}");
    }

    #[test]
    fn the_limit_stays_within_floor_and_ceiling_and_still_where_nobody_feels_it() {
        let start = Instant::now();
        let mut pace = Pace::default();
        let late = Seen { late: MS * 500, running: 0, felt: true };
        let all = (0..50).map(|n| pace.step(late, start + WINDOW * n)).collect::<Vec<_>>();
        assert_eq!(all.last(), Some(&FLOOR));
        let calm = Seen { late: MS, running: 3, felt: false };
        assert_eq!(pace.step(calm, start + WINDOW * 60), FLOOR);
    }

    #[test]
    fn threads_that_are_late_together_lower_it_once() {
        let start = Instant::now();
        let mut pace = at(CEILING);
        let late = Seen { late: MS * 10, running: 1_000, felt: true };
        assert_eq!(pace.step(late, start), 800);
        assert_eq!(pace.step(late, start + MS), 800);
        let calm = Seen { late: MS, ..late };
        assert_eq!(pace.step(calm, start + MS * 2), 800, "one thread has time, the other has not");
    }

    #[test]
    fn it_creeps_up_where_it_was_late_lately_and_doubles_where_it_was_not() {
        let start = Instant::now();
        let mut pace = at(100);
        let calm = Seen { late: MS, running: 100, felt: true };
        assert_eq!(pace.step(Seen { late: MS * 4, ..calm }, start), 80);
        assert_eq!(pace.step(calm, start + WINDOW), 101);
        assert_eq!(pace.step(Seen { late: MS * 31, ..calm }, start + WINDOW * 2), 50);
        assert_eq!(pace.step(calm, start + WINDOW * 2 + CALM), 101);
    }
}
