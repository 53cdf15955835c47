//! Whose job is next: the queue of requests that wait, filled with what the store says of its jobs.
//!
//! Jobs themselves stay in the store. Here stands one place for each of the first of a tenant and
//! priority; whoever takes a place takes the oldest job of that tenant and priority.

use std::collections::HashMap;

use crate::admission::queue::{Claim, Pushed, Queue};
use crate::domain::id::TenantId;
use crate::domain::request::Priority;
use crate::store::{Pick, Waiting};

/// Jobs looked at of each tenant and priority.
pub(super) const EACH: u32 = 64;
/// Tenants looked at of each priority.
pub(super) const TENANTS_MAX: u32 = 1_000;

/// Whose jobs, how urgent.
type Line = (TenantId, Priority);

/// What a tenant may have.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Share {
    pub weight: f64,
    /// Jobs at once, on all instances together; `None` is unlimited.
    pub at_once: Option<u32>,
}

/// The places.
pub(super) struct Turns {
    queue: Queue<Line>,
    /// Places of each line, and whether the store has more of it.
    lines: HashMap<Line, (u32, bool)>,
    running: HashMap<TenantId, u32>,
    /// The last tenant that was told of, where there may be more.
    after: Option<TenantId>,
}

impl Default for Turns {
    fn default() -> Self {
        let queue = Queue::new((EACH * TENANTS_MAX) as usize * Priority::ALL.len());
        Turns { queue, lines: HashMap::new(), running: HashMap::new(), after: None }
    }
}

impl Turns {
    /// Takes what the store says. Those who wait keep their places; tenants without a share get none.
    pub(super) fn fill(
        &mut self,
        waiting: Vec<Waiting>,
        share: impl Fn(&TenantId) -> Option<Share>,
    ) {
        self.after = Priority::ALL.into_iter().find_map(|priority| {
            let mut of = waiting.iter().filter(|waiting| waiting.priority == priority);
            of.nth(TENANTS_MAX as usize - 1).map(|last| last.tenant.clone())
        });
        self.running = waiting.iter().map(|w| (w.tenant.clone(), w.running)).collect();
        let told: HashMap<Line, Waiting> =
            waiting.into_iter().map(|w| ((w.tenant.clone(), w.priority), w)).collect();
        // What another instance took needs no place here.
        self.lines.retain(|line, (places, more)| {
            let there = told.get(line).map_or(0, |waiting| waiting.costs.len());
            *more = false;
            while *places as usize > there && self.queue.remove_last(|known| known == line) {
                *places -= 1;
            }
            *places > 0
        });
        for (line, waiting) in told {
            let Some(share) = share(&line.0) else { continue };
            let (places, more) = self.lines.entry(line.clone()).or_default();
            *more = waiting.costs.len() >= EACH as usize;
            for cost in waiting.costs.iter().skip(*places as usize) {
                let (tenant, priority) = (&line.0, line.1);
                let claim =
                    Claim { tenant, priority, weight: share.weight, cost: f64::from(*cost) };
                if !matches!(self.queue.push(claim, line.clone()), Pushed::Waits(_)) {
                    break;
                }
                *places += 1;
            }
        }
    }

    /// Which tenants the store should tell of: those after this one.
    pub(super) fn after(&self) -> Option<TenantId> {
        self.after.clone()
    }

    /// Whether the store should be asked before more turns are given: of some line it has more jobs
    /// than have places, and those places run out.
    pub(super) fn runs_out(&self) -> bool {
        self.lines.values().any(|(places, more)| *more && *places < EACH / 2)
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
            let Some((_, line)) = self.queue.pop_where(fits) else { break };
            *self.running.entry(line.0.clone()).or_default() += 1;
            if let Some((places, _)) = self.lines.get_mut(&line) {
                *places -= 1;
            }
            match picks.iter_mut().find(|pick| (&pick.tenant, pick.priority) == (&line.0, line.1)) {
                Some(pick) => pick.most += 1,
                None => {
                    let at_once = share(&line.0).and_then(|share| share.at_once);
                    picks.push(Pick { tenant: line.0, priority: line.1, most: 1, at_once });
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
        let (mut turns, mut served) = (Turns::default(), HashMap::new());
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

    #[test]
    fn a_critical_job_behind_a_full_backlog_of_low_ones_is_next() {
        let mut turns = Turns::default();
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
        let mut turns = Turns::default();
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
        let mut turns = Turns::default();
        let line = (id("a"), Priority::Normal);
        turns.fill(told(&Backlog::from([(line.clone(), 10)]), &HashMap::new()), weights);
        turns.fill(told(&Backlog::from([(line, 3)]), &HashMap::new()), weights);
        assert_eq!(turns.next(50, weights)[0].most, 3);
    }
}
