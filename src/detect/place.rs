//! The addresses of one detector: which one is asked next, and which is left alone for a while.
//!
//! ```text
//! asked --3 failures in a row, or 5 of its last 10--> out --its time is over--> one try at a time
//!   ^                                                  ^                           |      |
//!   |                                                  +-------- failure, x2 ------+      |
//!   +-------------------------------------- answer ---------------------------------------+
//! ```

use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::Uri;
use tokio::time::Instant;

use super::health::{HealthState, HealthView, Probes};
use super::member::lock;
use crate::catalog::Detector;
use crate::domain::id::DetectorName;
use crate::operations::breaker::Ended;

/// How long a place is out the first time; doubles up to `OUT_MAX`.
const OUT_FOR: Duration = Duration::from_secs(5);
const OUT_MAX: Duration = Duration::from_secs(300);
/// Back for less than this, a place that fails again is out for twice as long as before.
const PROBATION: Duration = Duration::from_secs(60);
const IN_A_ROW: u16 = 0b111;
const LAST_TEN: u16 = 0x3ff;
const OF_LAST_TEN: u32 = 5;

/// One address, and what is remembered of it.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) uri: Uri,
    pub(super) probes: Mutex<Probes>,
    standing: Mutex<Standing>,
}

#[derive(Debug, Default)]
struct Standing {
    rests_until: Option<Instant>,
    running: u32,
    /// Since when tries are running and none has brought an answer.
    silent_since: Option<Instant>,
    /// How the last tries ended, the latest in the lowest bit; 1 is a failure.
    recent: u16,
    out: Option<Out>,
    /// When it was out the last time, and for how long.
    was_out: Option<Out>,
}

#[derive(Debug, Clone, Copy)]
struct Out {
    until: Instant,
    pause: Duration,
}

impl Standing {
    fn is_bad(&self) -> bool {
        self.recent & IN_A_ROW == IN_A_ROW || self.recent.count_ones() >= OF_LAST_TEN
    }

    fn is_resting(&self, now: Instant) -> bool {
        self.rests_until.is_some_and(|until| now < until)
    }

    /// Whether it ended badly.
    fn end(&mut self, ended: Ended, unanswered: bool, now: Instant) -> bool {
        self.running = self.running.saturating_sub(1);
        if ended == Ended::Success {
            self.silent_since = Some(now);
        }
        if self.running == 0 {
            self.silent_since = None;
        }
        let failed = match ended {
            Ended::Success => false,
            Ended::Failure => true,
            Ended::Released if unanswered => true,
            Ended::Released => return false,
        };
        self.recent = (self.recent << 1 | u16::from(failed)) & LAST_TEN;
        match self.out.filter(|out| out.until <= now) {
            Some(out) if failed => self.put_out(now, Some(out)),
            Some(out) => {
                (self.was_out, self.out, self.recent) = (Some(Out { until: now, ..out }), None, 0);
            }
            None => {}
        }
        failed
    }

    fn put_out(&mut self, now: Instant, again: Option<Out>) {
        let pause = again.map_or(OUT_FOR, |before| (before.pause * 2).min(OUT_MAX));
        self.out = Some(Out { until: now + pause, pause });
    }
}

impl Place {
    fn new(uri: Uri) -> Self {
        Self { uri, probes: Mutex::default(), standing: Mutex::default() }
    }

    /// It wants to be left alone.
    pub(super) fn rest(&self, until: Instant) {
        lock(&self.standing).rests_until = Some(until);
    }

    /// A probe is answered again: its time out is over.
    pub(super) fn recovered(&self, now: Instant) {
        if let Some(out) = &mut lock(&self.standing).out {
            out.until = out.until.min(now);
        }
    }

    /// Out of service by its probes, or resting because it asked to.
    fn is_away(&self, now: Instant) -> bool {
        lock(&self.probes).state() == HealthState::Unhealthy || lock(&self.standing).is_resting(now)
    }

    /// What speaks against asking it, the gravest first; `None` when it is away.
    fn rank(&self, tried: bool, moment: Moment) -> Option<(bool, bool, bool)> {
        let Moment { now, patience } = moment;
        if self.is_away(now) {
            return None;
        }
        let standing = lock(&self.standing);
        let out = standing.out.is_some_and(|out| now < out.until || standing.running > 0);
        let silent = standing.silent_since.is_some_and(|since| now - since >= patience);
        Some((out, tried, silent))
    }
}

/// Now, and how long a try may go without an answer before that speaks against its place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    pub(super) now: Instant,
    pub(super) patience: Duration,
}

/// Every place of one detector, in the order of its endpoints.
#[derive(Debug)]
pub(super) struct Places {
    detector: DetectorName,
    each: Vec<Arc<Place>>,
    /// Of the round robin. Held while places are compared: no two are put out, no two tries are
    /// sent to one that is on trial, at the same time.
    credits: Mutex<Vec<i64>>,
}

impl Places {
    /// Those of a definition; an address that stands among `before` keeps its state.
    pub(super) fn new(detector: &Detector, before: &[Arc<Place>]) -> Self {
        let place = |uri: &Uri| {
            let known = before.iter().find(|place| place.uri == *uri).cloned();
            known.unwrap_or_else(|| Arc::new(Place::new(uri.clone())))
        };
        let each: Vec<_> = detector.endpoints().map(|endpoint| place(&endpoint.uri)).collect();
        let (detector, credits) = (detector.name.clone(), Mutex::new(vec![0; each.len()]));
        Self { detector, each, credits }
    }

    pub(super) fn each(&self) -> &[Arc<Place>] {
        &self.each
    }

    pub(super) fn is_away(&self, now: Instant) -> bool {
        !self.each.is_empty() && self.each.iter().all(|place| place.is_away(now))
    }

    /// How long the first of those that asked to be left alone still wants to be.
    pub(super) fn rest(&self, now: Instant) -> Option<Duration> {
        let until = self.each.iter().filter_map(|place| lock(&place.standing).rests_until);
        until.filter(|until| now < *until).min().map(|until| until - now)
    }

    /// The place that is asked now: by weight among those that least speaks against, where `tried`
    /// has a bit for each place that this call has asked. `None` when all are away.
    ///
    /// The smooth weighted round robin of nginx (commit 52327e0): weights hold however many calls
    /// run at once, which choosing by the number of running calls does not promise.
    pub(super) fn choose(&self, detector: &Detector, tried: u32, moment: Moment) -> Option<usize> {
        if let [only] = self.each.as_slice() {
            return (!only.is_away(moment.now)).then_some(0);
        }
        let mut credits = lock(&self.credits);
        let rank =
            |(index, place): (usize, &Arc<Place>)| place.rank(tried >> index & 1 == 1, moment);
        let ranks: Vec<_> = self.each.iter().enumerate().map(rank).collect();
        let best = ranks.iter().flatten().min()?;
        let weights = detector.endpoints().map(|endpoint| i64::from(endpoint.weight));
        let mut chosen: Option<(usize, &mut i64)> = None;
        let mut total = 0;
        for (index, (credit, weight)) in credits.iter_mut().zip(weights).enumerate() {
            if ranks.get(index).is_none_or(|rank| rank.as_ref() != Some(best)) {
                continue;
            }
            *credit += weight;
            total += weight;
            if chosen.as_ref().is_none_or(|(_, most)| *credit > **most) {
                chosen = Some((index, credit));
            }
        }
        let (index, credit) = chosen?;
        *credit -= total;
        let mut standing = lock(&self.each.get(index)?.standing);
        standing.running += 1;
        standing.silent_since.get_or_insert(moment.now);
        Some(index)
    }

    /// Takes note of how a try that took so long ended at a place. True when the place is out and
    /// another is not: what happens there says nothing of the detector.
    pub(super) fn ended(
        &self,
        index: usize,
        (ended, took): (Ended, Duration),
        moment: Moment,
    ) -> bool {
        let Some(place) = self.each.get(index).filter(|_| self.each.len() > 1) else {
            return false;
        };
        let _all = lock(&self.credits);
        let others = self.each.iter().enumerate().filter(|(other, _)| *other != index);
        let (mut out, mut fit, mut well) = (0, false, false);
        for (_, other) in others {
            let (is_out, failed_last) = {
                let standing = lock(&other.standing);
                (standing.out.is_some(), standing.recent & 1 == 1)
            };
            let is_fit = !is_out && !other.is_away(moment.now);
            out += usize::from(is_out);
            fit |= is_fit;
            well |= is_fit && !failed_last;
        }
        let mut standing = lock(&place.standing);
        let was_out = standing.out.is_some();
        let failed = standing.end(ended, took >= moment.patience, moment.now);
        // At least half of the places stay, and what all fail at is no fault of one.
        let may_go = well && out < self.each.len() / 2;
        if failed && !was_out && standing.is_bad() && may_go {
            let again = standing.was_out.filter(|was| moment.now - was.until < PROBATION);
            standing.put_out(moment.now, again);
            let replica = place.uri.authority().map_or("", |authority| authority.as_str());
            let detector = &self.detector;
            tracing::warn!(%detector, replica, "A replica fails and is left out for a while");
        }
        was_out && fit
    }

    /// All of them as one: away only when each is.
    pub(super) fn health(&self) -> HealthView {
        let views: Vec<_> = self.each.iter().map(|place| lock(&place.probes).view()).collect();
        HealthView {
            state: HealthState::of_all(views.iter().map(|view| view.state)),
            checked: views.iter().filter_map(|view| view.checked).max(),
        }
    }
}
