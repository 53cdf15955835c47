//! Whose job is next: the queue of requests that wait, filled with what the store says of its jobs.
//!
//! Jobs themselves stay in the store. Here stands one place for each of the first of a tenant and
//! priority; whoever takes a place takes the oldest job of that tenant and priority.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::time::{Duration, Instant};

use crate::admission::queue::{Claim, Pushed, Queue, Spot};
use crate::domain::id::TenantId;
use crate::domain::request::Priority;
use crate::store::{Pick, Waiting};

/// Jobs looked at of each tenant and priority where few tenants wait.
pub(super) const EACH: u32 = 64;
/// Where many wait.
const EACH_MIN: u32 = 4;
/// Places of all that one look tells of, more or less.
const PLACES: usize = 1_024;
/// Tenants looked at of each priority.
pub(super) const TENANTS_MAX: u32 = 1_000;
/// Looks that take long rest for so many times as long, where there are turns without them.
const LOOKING: u32 = 10;
/// What does not count as long.
const QUICK: Duration = Duration::from_millis(10);

/// Whose jobs, how urgent.
type Line = (TenantId, Priority);

/// What a tenant may have.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Share {
    pub weight: f64,
    /// Jobs at once, on all instances together; `None` is unlimited.
    pub at_once: Option<u32>,
}

/// The places of one line, in the order in which they are served.
#[derive(Default)]
struct Places {
    spots: VecDeque<Spot>,
    /// Whether the store has more of it.
    more: bool,
}

/// The places.
pub(super) struct Turns {
    queue: Queue<Line>,
    lines: [BTreeMap<TenantId, Places>; Priority::ALL.len()],
    /// Whom the last look told of.
    told: Vec<Line>,
    /// How many of them have more jobs than places, and few of these.
    short: usize,
    running: HashMap<TenantId, u32>,
    /// The last tenant that was told of, where there may be more.
    after: Option<TenantId>,
    /// Tenants looked at of each priority.
    tenants_max: u32,
    /// Jobs looked at of each tenant and priority.
    each: u32,
    /// Until when another look can wait.
    rests: Option<Instant>,
}

impl Turns {
    /// None yet, of the instance `which`: a number that others do not have.
    pub(super) fn new(tenants_max: u32, which: u64) -> Turns {
        let most = (EACH * tenants_max) as usize * Priority::ALL.len();
        Turns {
            queue: Queue::beside_others(most, which),
            lines: Default::default(),
            told: Vec::new(),
            short: 0,
            running: HashMap::new(),
            after: None,
            tenants_max,
            each: EACH,
            rests: None,
        }
    }

    /// Takes what the store says, in the order in which it was said. Those who wait keep their places;
    /// of those whom the store did not speak of, since others were to be told of, the first keeps its:
    /// its turn comes as if it had been looked at all the time. Tenants without a share get none.
    pub(super) fn fill(
        &mut self,
        waiting: Vec<Waiting>,
        share: impl Fn(&TenantId) -> Option<Share>,
    ) {
        let look = Look::of(&waiting, self.after.take(), self.tenants_max);
        let told: HashSet<(&TenantId, Priority)> =
            waiting.iter().map(|waiting| (&waiting.tenant, waiting.priority)).collect();
        let known = Priority::ALL.into_iter().flat_map(|priority| {
            let covered = look.covered(&self.lines, priority);
            covered.map(move |tenant| (tenant, priority))
        });
        let gone: Vec<Line> =
            known.filter(|line| !told.contains(line)).map(|(t, p)| (t.clone(), p)).collect();
        drop(told);
        gone.iter().for_each(|line| self.shrink(line, 0));
        for line in std::mem::take(&mut self.told) {
            if !look.covers(&line) {
                self.shrink(&line, 1);
            }
        }
        self.short = 0;
        self.after = look.upto;
        self.running.retain(|_, running| *running > 0);
        let count = waiting.len();
        for Waiting { tenant, priority, costs, running } in waiting {
            self.running.insert(tenant.clone(), running);
            let line = (tenant, priority);
            // What another instance took needs no place here.
            self.shrink(&line, costs.len());
            if let Some(share) = share(&line.0) {
                self.place(&line, &costs, share.weight);
            }
            self.told.push(line);
        }
        let each = u32::try_from(PLACES / count.max(1)).unwrap_or(EACH);
        self.each = each.clamp(EACH_MIN, EACH);
    }

    /// Keeps the first `most` places of `line`.
    fn shrink(&mut self, line: &Line, most: usize) {
        let Some(lines) = self.lines.get_mut(line.1 as usize) else { return };
        let Some(places) = lines.get_mut(&line.0) else { return };
        places.more = false;
        while places.spots.len() > most {
            let Some(last) = places.spots.pop_back() else { break };
            self.queue.take_back(&line.0, last, places.spots.back().copied());
        }
        if places.spots.is_empty() {
            lines.remove(&line.0);
        }
    }

    fn place(&mut self, line: &Line, costs: &[u32], weight: f64) {
        let (tenant, priority) = (&line.0, line.1);
        let Some(lines) = self.lines.get_mut(priority as usize) else { return };
        if costs.is_empty() {
            return;
        }
        let places = lines.entry(tenant.clone()).or_default();
        places.more = costs.len() >= self.each as usize;
        for cost in costs.iter().skip(places.spots.len()) {
            let claim = Claim { tenant, priority, weight, cost: f64::from(*cost) };
            match self.queue.push(claim, line.clone()) {
                Pushed::Waits(spot) => places.spots.push_back(spot),
                Pushed::Instead(spot, (gone, (whose, priority))) => {
                    places.spots.push_back(spot);
                    let lines = self.lines.get_mut(priority as usize);
                    if let Some(places) = lines.and_then(|lines| lines.get_mut(&whose)) {
                        places.spots.retain(|spot| *spot != gone);
                    }
                    return;
                }
                Pushed::Full => {
                    places.more = false;
                    return;
                }
            }
        }
    }

    /// Which tenants the store should tell of: those after this one.
    pub(super) fn after(&self) -> Option<TenantId> {
        self.after.clone()
    }

    /// Of how many jobs of each tenant and priority it should tell.
    pub(super) fn each(&self) -> u32 {
        self.each
    }

    /// A look took so long until `now`.
    pub(super) fn looked(&mut self, took: Duration, now: Instant) {
        self.rests = now.checked_add(took.saturating_sub(QUICK) * LOOKING);
    }

    /// Whether looks have taken too much of the time for another one that could wait.
    pub(super) fn rests(&self, now: Instant) -> bool {
        !self.queue.is_empty() && self.rests.is_some_and(|until| now < until)
    }

    /// Whether the store should be asked before more turns are given: of some line it has more jobs
    /// than have places, and those places run out.
    pub(super) fn runs_out(&self) -> bool {
        self.short > 0
    }

    /// The next turns, at most `most`, of those whose tenants may have one more.
    pub(super) fn next(
        &mut self,
        most: usize,
        share: impl Fn(&TenantId) -> Option<Share>,
    ) -> Vec<Pick> {
        let mut picks: Vec<Pick> = Vec::new();
        while picks.iter().map(|pick| pick.most as usize).sum::<usize>() < most && !self.runs_out()
        {
            let running = &self.running;
            let fits = |(tenant, _): &Line| {
                let now = running.get(tenant).copied().unwrap_or(0);
                share(tenant).is_some_and(|share| share.at_once.is_none_or(|most| now < most))
            };
            let Some((spot, line)) = self.queue.pop_where(fits) else { break };
            *self.running.entry(line.0.clone()).or_default() += 1;
            let lines = self.lines.get_mut(line.1 as usize);
            if let Some(places) = lines.and_then(|lines| lines.get_mut(&line.0)) {
                places.spots.retain(|known| *known != spot);
                let few = (self.each / 2) as usize;
                self.short += usize::from(places.more && places.spots.len() + 1 == few);
            }
            match picks.iter_mut().find(|pick| (&pick.tenant, pick.priority) == (&line.0, line.1)) {
                Some(pick) => pick.most += 1,
                None => {
                    let at_once = share(&line.0).and_then(|share| share.at_once);
                    let (tenant, priority) = line;
                    picks.push(Pick { tenant, priority, most: 1, at_once });
                }
            }
        }
        picks
    }

    /// One of `tenant`'s jobs runs no longer.
    pub(super) fn ended(&mut self, tenant: &TenantId) {
        if let Some(running) = self.running.get_mut(tenant) {
            *running = running.saturating_sub(1);
        }
    }
}

/// Whom the store spoke of: of each priority everyone, or those from one tenant round to another.
struct Look {
    from: Option<TenantId>,
    /// The last of each priority that may have more; `None` where it has none.
    last: [Option<TenantId>; Priority::ALL.len()],
    /// Up to whom nobody was left out, whatever the priority; `None` where nobody was.
    upto: Option<TenantId>,
}

impl Look {
    fn of(waiting: &[Waiting], from: Option<TenantId>, tenants_max: u32) -> Look {
        let last = Priority::ALL.map(|priority| {
            let mut of = waiting.iter().filter(|waiting| waiting.priority == priority);
            of.nth((tenants_max as usize).saturating_sub(1)).map(|last| last.tenant.clone())
        });
        // Of several that have more, the one who comes first on the way round.
        let upto = last.iter().flatten().min_by_key(|last| way(from.as_ref(), last)).cloned();
        Look { from, last, upto }
    }

    fn covers(&self, (tenant, priority): &Line) -> bool {
        let last = self.last.get(*priority as usize).and_then(Option::as_ref);
        let way = |to| way(self.from.as_ref(), to);
        last.is_none_or(|last| way(tenant) <= way(last))
    }

    /// Who of those known in `priority` would have been told of.
    fn covered<'a>(
        &'a self,
        lines: &'a [BTreeMap<TenantId, Places>],
        priority: Priority,
    ) -> impl Iterator<Item = &'a TenantId> {
        let last = self.last.get(priority as usize).and_then(Option::as_ref);
        let from = self.from.as_ref().map_or("", TenantId::as_str);
        let (behind, round) = match last.map(TenantId::as_str) {
            None => ((Unbounded, Unbounded), (Unbounded, Excluded(""))),
            Some(last) if last > from => {
                ((Excluded(from), Included(last)), (Unbounded, Excluded("")))
            }
            Some(last) => ((Excluded(from), Unbounded), (Unbounded, Included(last))),
        };
        let of = lines.get(priority as usize).into_iter();
        let known =
            of.flat_map(move |of| of.range::<str, _>(behind).chain(of.range::<str, _>(round)));
        known.map(|(tenant, _)| tenant)
    }
}

/// How `to` stands on the way round that begins behind `from`: smaller comes earlier.
fn way<'a>(from: Option<&TenantId>, to: &'a TenantId) -> (bool, &'a TenantId) {
    (from.is_some_and(|from| to <= from), to)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Backlog = HashMap<Line, u32>;

    fn id(tenant: &str) -> TenantId {
        TenantId::parse(tenant).unwrap()
    }

    fn weights(tenant: &TenantId) -> Option<Share> {
        let (weight, at_once) = match tenant.as_str() {
            "ten" => (10.0, None),
            "three" => (3.0, None),
            "two-at-once" => (1.0, Some(2)),
            "gone" => return None,
            _ => (1.0, None),
        };
        Some(Share { weight, at_once })
    }

    fn told(backlog: &Backlog, running: &HashMap<TenantId, u32>) -> Vec<Waiting> {
        let of = |((tenant, priority), left): (&Line, &u32)| Waiting {
            tenant: tenant.clone(),
            priority: *priority,
            costs: vec![1; (*left).min(EACH) as usize],
            running: running.get(tenant).copied().unwrap_or(0),
        };
        backlog.iter().filter(|(_, left)| **left > 0).map(of).collect()
    }

    /// Serves `most` of a backlog in steps of `step` workers that end at once; who was served.
    fn serve(backlog: &mut Backlog, most: usize, step: usize) -> HashMap<String, usize> {
        let (mut turns, mut served) = (Turns::new(TENANTS_MAX, 0), HashMap::new());
        turns.fill(told(backlog, &HashMap::new()), weights);
        let mut left = most;
        while left > 0 {
            let picks = turns.next(step.min(left), weights);
            if picks.is_empty() {
                let before = turns.queue.len();
                turns.fill(told(backlog, &HashMap::new()), weights);
                assert!(turns.queue.len() > before, "nobody is served");
            }
            for pick in picks {
                *backlog.get_mut(&(pick.tenant.clone(), pick.priority)).unwrap() -= pick.most;
                *served.entry(pick.tenant.to_string()).or_default() += pick.most as usize;
                (0..pick.most).for_each(|_| turns.ended(&pick.tenant));
                left -= pick.most as usize;
            }
        }
        served
    }

    #[test]
    fn of_the_first_140_jobs_of_a_backlog_weights_10_3_1_get_100_30_and_10() {
        for step in [1, 3, 10, 140] {
            let mut backlog: Backlog = ["one", "three", "ten"]
                .map(|tenant| ((id(tenant), Priority::Normal), 200))
                .into_iter()
                .collect();
            let served = serve(&mut backlog, 140, step);
            let counts = ["ten", "three", "one"].map(|tenant| served[tenant]);
            assert!(
                counts.iter().zip([100, 30, 10]).all(|(found, share)| found.abs_diff(share) <= 1),
                "{step} at once: {counts:?}"
            );
        }
    }

    /// The first `EACH` of at most `window` tenants from the one that follows, as a store tells them.
    fn round(backlog: &Backlog, after: Option<&TenantId>, window: usize) -> Vec<Waiting> {
        let mut all = told(backlog, &HashMap::new());
        all.sort_by(|a, b| way(after, &a.tenant).cmp(&way(after, &b.tenant)));
        all.truncate(window);
        all
    }

    #[test]
    fn tenants_beyond_one_look_get_their_share_too_and_the_lightest_are_not_forgotten() {
        let mut backlog: Backlog =
            (0..90).map(|n| ((id(&format!("t{n:02}")), Priority::Normal), 500)).collect();
        for heavy in ["ten", "three"] {
            backlog.insert((id(heavy), Priority::Normal), 500);
        }
        let heavy = |tenant: &TenantId| match tenant.as_str() {
            // One tenth of them, ten times as heavy.
            name if name.ends_with('5') => Some(Share { weight: 10.0, at_once: None }),
            _ => weights(tenant),
        };
        let (mut turns, mut served) = (Turns::new(10, 1), HashMap::<String, f64>::new());
        for _ in 0..4_000 {
            turns.fill(round(&backlog, turns.after().as_ref(), 10), heavy);
            for Pick { tenant, priority, .. } in turns.next(1, heavy) {
                *backlog.get_mut(&(tenant.clone(), priority)).unwrap() -= 1;
                let weight = heavy(&tenant).unwrap().weight;
                *served.entry(tenant.to_string()).or_default() += 1.0 / weight;
                turns.ended(&tenant);
            }
        }
        let shares: Vec<f64> = served.values().copied().collect();
        assert_eq!(shares.len(), 92, "somebody was never served");
        let index = crate::admission::fairness::jain(&shares);
        assert!(index > 0.98, "{index}: {served:?}");
    }

    #[test]
    fn one_priority_that_is_told_of_in_part_hides_nobody_of_another() {
        let line = |n: usize, priority| (id(&format!("t{n:02}")), priority);
        let urgent = (0..15).map(|n| (line(n * 6, Priority::High), 1));
        let all = (0..90).map(|n| (line(n, Priority::Normal), 1)).chain(urgent);
        let (backlog, mut turns) = (all.collect::<Backlog>(), Turns::new(10, 1));
        let mut seen = HashSet::new();
        for _ in 0..12 {
            let after = turns.after();
            let of = |priority| {
                let of = backlog.iter().filter(|((_, of), _)| *of == priority);
                let of = of.map(|(line, left)| (line.clone(), *left)).collect();
                round(&of, after.as_ref(), 10)
            };
            let waiting = [of(Priority::High), of(Priority::Normal)].concat();
            seen.extend(waiting.iter().map(|w| (w.tenant.clone(), w.priority)));
            turns.fill(waiting, weights);
        }
        assert_eq!(seen.len(), 105);
    }

    #[test]
    fn a_critical_job_behind_a_full_backlog_of_low_ones_is_next() {
        let mut turns = Turns::new(TENANTS_MAX, 0);
        let mut backlog = Backlog::from([((id("a"), Priority::Low), 100_000)]);
        turns.fill(told(&backlog, &HashMap::new()), weights);
        assert_eq!(turns.next(5, weights)[0].priority, Priority::Low);
        backlog.insert((id("b"), Priority::Critical), 1);
        turns.fill(told(&backlog, &HashMap::new()), weights);
        let next = turns.next(1, weights);
        assert_eq!((next[0].priority, next[0].tenant.as_str()), (Priority::Critical, "b"));
    }

    #[test]
    fn the_lightest_tenant_is_never_starved_however_many_others_wait() {
        let mut backlog: Backlog =
            (0..100).map(|n| ((id(&format!("t{n}")), Priority::Normal), 500)).collect();
        backlog.insert((id("ten"), Priority::Normal), 10_000);
        let served = serve(&mut backlog, 1_100, 10);
        assert!(served["ten"].abs_diff(100) <= 10, "{}", served["ten"]);
        assert_eq!(served.len(), 101);
        let shares: Vec<f64> = served
            .iter()
            .map(|(tenant, n)| *n as f64 / if tenant == "ten" { 10.0 } else { 1.0 })
            .collect();
        assert!(crate::admission::fairness::jain(&shares) > 0.99, "{shares:?}");
    }

    #[test]
    fn a_tenant_at_its_limit_and_one_that_is_gone_hold_nobody_up() {
        let mut turns = Turns::new(TENANTS_MAX, 0);
        let backlog = Backlog::from([
            ((id("two-at-once"), Priority::Critical), 9),
            ((id("gone"), Priority::Critical), 9),
            ((id("a"), Priority::Batch), 1),
        ]);
        turns.fill(told(&backlog, &HashMap::new()), weights);
        let picks = turns.next(5, weights);
        let taken: Vec<_> = picks.iter().map(|pick| (pick.tenant.as_str(), pick.most)).collect();
        assert_eq!(taken, [("two-at-once", 2), ("a", 1)]);
        assert!(turns.next(5, weights).is_empty());
        turns.ended(&id("two-at-once"));
        assert_eq!(turns.next(5, weights)[0].most, 1);
        let elsewhere = HashMap::from([(id("two-at-once"), 2)]);
        turns.fill(told(&backlog, &elsewhere), weights);
        assert!(turns.next(5, weights).iter().all(|pick| pick.tenant.as_str() != "two-at-once"));
    }

    #[test]
    fn what_another_instance_took_needs_no_place() {
        let mut turns = Turns::new(TENANTS_MAX, 0);
        let line = (id("a"), Priority::Normal);
        turns.fill(told(&Backlog::from([(line.clone(), 10)]), &HashMap::new()), weights);
        turns.fill(told(&Backlog::from([(line, 3)]), &HashMap::new()), weights);
        assert_eq!(turns.next(50, weights)[0].most, 3);
    }
}
