//! Who is next: by priority, and inside each by weighted fair queuing over tenants.
//!
//! An entry's finish is `max(V, the tenant's last finish) + cost / weight`, the smallest is next, and
//! V is the finish of the one served last (Demers, Keshav, Shenker 1989, by whole requests). Pure.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use crate::domain::id::TenantId;
use crate::domain::request::Priority;

/// One unit of cost at weight 1.
const UNIT: f64 = 1_000_000.0;
const CLASSES: usize = Priority::ALL.len();
/// Of a tenant; less would push its finish beyond all numbers.
const WEIGHT_MIN: f64 = 0.1;

/// Whose entry, how urgent, and how much of the service it takes: 1 for an ordinary request.
#[derive(Debug, Clone, Copy)]
pub struct Claim<'a> {
    /// Whose.
    pub tenant: &'a TenantId,
    /// How urgent.
    pub priority: Priority,
    /// Of the tenant.
    pub weight: f64,
    /// Of the entry.
    pub cost: f64,
}

/// Where an entry stands; smaller is served earlier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Spot {
    priority: Priority,
    finish: u64,
    number: u64,
}

impl Spot {
    /// How urgent it is.
    pub fn priority(self) -> Priority {
        self.priority
    }
}

/// A bounded queue.
#[derive(Debug)]
pub struct Queue<T> {
    entries: BTreeMap<Spot, T>,
    clocks: [Clock; CLASSES],
    most: usize,
    number: u64,
    /// Of several queues over the same backlog, which.
    phases: Option<u64>,
}

/// The virtual time of one priority.
#[derive(Debug, Default)]
struct Clock {
    now: u64,
    last: HashMap<TenantId, u64>,
    waiting: usize,
}

/// What became of an entry that was to wait.
#[derive(Debug)]
pub enum Pushed<T> {
    /// It waits.
    Waits(Spot),
    /// It waits, and a less urgent one had to leave.
    Instead(Spot, (Spot, T)),
    /// There is no room, and nobody less urgent.
    Full,
}

impl<T> Queue<T> {
    /// For `most` entries.
    pub fn new(most: usize) -> Self {
        let (entries, clocks) = (BTreeMap::new(), Default::default());
        Self { entries, clocks, most, number: 0, phases: None }
    }

    /// One of several queues over the same backlog. In each a tenant's first entry stands somewhere else
    /// within its part: if it stood at the end of it everywhere, the heavier would be served in every
    /// queue before the lighter in any.
    pub fn beside_others(most: usize, which: u64) -> Self {
        Self { phases: Some(which), ..Self::new(most) }
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether nobody of `priority` could find room, whatever its tenant and cost.
    pub fn is_lost(&self, priority: Priority) -> bool {
        let last = self.entries.last_key_value();
        self.entries.len() >= self.most && last.is_some_and(|(last, _)| last.priority < priority)
    }

    /// Puts `item` in its place. A full queue gives up the last of the least urgent, which of a
    /// priority is the one whose tenant is furthest beyond its share.
    pub fn push(&mut self, claim: Claim<'_>, item: T) -> Pushed<T> {
        let priority = claim.priority;
        let Some(clock) = self.clocks.get_mut(priority as usize) else { return Pushed::Full };
        let last = clock.last.get(claim.tenant).copied();
        let first = if last.is_none() { phase(self.phases, claim.tenant) } else { 1.0 };
        let part = (claim.cost / claim.weight.max(WEIGHT_MIN) * UNIT * first).max(1.0) as u64;
        let from = last.unwrap_or(0).max(clock.now);
        self.number += 1;
        let spot = Spot { priority, finish: from.saturating_add(part), number: self.number };
        let full = self.entries.len() >= self.most;
        if full && self.entries.last_key_value().is_none_or(|(last, _)| *last < spot) {
            return Pushed::Full;
        }
        clock.last.insert(claim.tenant.clone(), spot.finish);
        clock.waiting += 1;
        let gone = if full { self.entries.pop_last() } else { None };
        self.entries.insert(spot, item);
        match gone {
            Some((last, item)) => {
                self.left(last.priority);
                Pushed::Instead(spot, (last, item))
            }
            None => Pushed::Waits(spot),
        }
    }

    /// Takes the next.
    pub fn pop(&mut self) -> Option<(Spot, T)> {
        self.pop_where(|_| true)
    }

    /// Takes the first that `fits`.
    pub fn pop_where(&mut self, fits: impl Fn(&T) -> bool) -> Option<(Spot, T)> {
        let spot = *self.entries.iter().find(|(_, item)| fits(item))?.0;
        let item = self.entries.remove(&spot)?;
        if let Some(clock) = self.clocks.get_mut(spot.priority as usize) {
            clock.now = clock.now.max(spot.finish);
        }
        self.left(spot.priority);
        Some((spot, item))
    }

    /// Takes one that waits no longer; whether it still stood there.
    pub fn remove(&mut self, spot: Spot) -> bool {
        let there = self.entries.remove(&spot).is_some();
        if there {
            self.left(spot.priority);
        }
        there
    }

    /// Takes back the last entry of `tenant` in its priority, which was not served: the tenant owes
    /// nothing for it. `before` is its entry before that one, where it has one.
    pub fn take_back(&mut self, tenant: &TenantId, last: Spot, before: Option<Spot>) {
        if let Some(clock) = self.clocks.get_mut(last.priority as usize) {
            // What it was served before lies in the past of the clock.
            let owed = before.map_or(clock.now, |before| before.finish);
            clock.last.insert(tenant.clone(), owed);
        }
        self.remove(last);
    }

    /// An empty class owes nobody anything.
    fn left(&mut self, priority: Priority) {
        let Some(clock) = self.clocks.get_mut(priority as usize) else { return };
        clock.waiting -= 1;
        if clock.waiting == 0 {
            *clock = Clock::default();
        }
    }
}

/// Where in its part the first entry of `tenant` stands, above 0 up to 1.
fn phase(which: Option<u64>, tenant: &TenantId) -> f64 {
    let Some(which) = which else { return 1.0 };
    let mut hasher = DefaultHasher::new();
    (which, tenant).hash(&mut hasher);
    ((hasher.finish() >> 11) + 1) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(queue: &mut Queue<String>, tenant: &str, priority: Priority, weight: f64) -> bool {
        let id = TenantId::parse(tenant).unwrap();
        let claim = Claim { tenant: &id, priority, weight, cost: 1.0 };
        !matches!(queue.push(claim, tenant.to_owned()), Pushed::Full)
    }

    fn served(queue: &mut Queue<String>, most: usize) -> Vec<String> {
        std::iter::from_fn(|| queue.pop()).take(most).map(|(_, item)| item).collect()
    }

    fn count(served: &[String], tenant: &str) -> usize {
        served.iter().filter(|name| *name == tenant).count()
    }

    #[test]
    fn of_the_first_140_of_a_backlog_weights_10_3_1_get_100_30_and_10() {
        let mut queue = Queue::new(1_000);
        // The lightest comes first, so that order of arrival would serve it.
        for (tenant, weight) in [("one", 1.0), ("three", 3.0), ("ten", 10.0)] {
            (0..200).for_each(|_| assert!(push(&mut queue, tenant, Priority::Normal, weight)));
        }
        let first = served(&mut queue, 140);
        let counts = ["ten", "three", "one"].map(|tenant| count(&first, tenant));
        assert_eq!(counts, [100, 30, 10]);
        assert_eq!(queue.len(), 460);
    }

    #[test]
    fn shares_hold_in_every_stretch_while_all_go_on_asking() {
        let mut queue = Queue::new(1_000);
        let weights = [("ten", 10.0), ("three", 3.0), ("one", 1.0)];
        for (tenant, weight) in weights {
            (0..20).for_each(|_| assert!(push(&mut queue, tenant, Priority::Normal, weight)));
        }
        let mut counts = HashMap::<String, usize>::new();
        for _ in 0..1_400 {
            let (_, tenant) = queue.pop().unwrap();
            let weight = weights.iter().find(|(name, _)| *name == tenant).unwrap().1;
            assert!(push(&mut queue, &tenant, Priority::Normal, weight));
            *counts.entry(tenant).or_default() += 1;
        }
        for (tenant, share) in [("ten", 1_000), ("three", 300), ("one", 100)] {
            assert!(counts[tenant].abs_diff(share) <= 2, "{counts:?}");
        }
    }

    #[test]
    fn one_who_was_away_neither_saves_up_nor_owes() {
        let mut queue = Queue::new(1_000);
        (0..100).for_each(|_| assert!(push(&mut queue, "early", Priority::Normal, 1.0)));
        assert_eq!(served(&mut queue, 50).len(), 50);
        (0..50).for_each(|_| assert!(push(&mut queue, "late", Priority::Normal, 1.0)));
        let next = served(&mut queue, 40);
        assert!(count(&next, "late").abs_diff(20) <= 1, "{next:?}");
    }

    #[test]
    fn the_more_urgent_are_served_first_and_the_least_urgent_give_up_their_room() {
        let mut queue = Queue::new(5);
        for priority in Priority::ALL.into_iter().rev() {
            assert!(push(&mut queue, priority.name(), priority, 1.0));
        }
        assert!(!push(&mut queue, "more", Priority::Batch, 1.0), "a full queue took one more");
        assert!(!queue.is_lost(Priority::Batch), "of its priority are some who may have to leave");
        let id = TenantId::parse("more").unwrap();
        let claim = Claim { tenant: &id, priority: Priority::Low, weight: 1.0, cost: 1.0 };
        let Pushed::Instead(_, (gone, who)) = queue.push(claim, "more".into()) else {
            panic!("nobody left")
        };
        assert_eq!((gone.priority(), who.as_str()), (Priority::Batch, "batch"));
        assert_eq!(served(&mut queue, 9), ["critical", "high", "normal", "low", "more"]);
    }

    #[test]
    fn of_a_priority_the_tenant_beyond_its_share_gives_up_its_room() {
        let mut queue = Queue::new(10);
        (0..10).for_each(|_| assert!(push(&mut queue, "noisy", Priority::Normal, 1.0)));
        (0..5).for_each(|_| assert!(push(&mut queue, "calm", Priority::Normal, 1.0)));
        assert!(!push(&mut queue, "noisy", Priority::Normal, 1.0));
        let all = served(&mut queue, 20);
        assert_eq!((count(&all, "calm"), count(&all, "noisy")), (5, 5));
    }

    #[test]
    fn a_costly_entry_counts_for_as_much() {
        let mut queue = Queue::new(100);
        let (big, small) = (TenantId::parse("big").unwrap(), TenantId::parse("small").unwrap());
        for (tenant, cost) in [(&big, 10.0), (&small, 1.0)] {
            for _ in 0..30 {
                let claim = Claim { tenant, priority: Priority::High, weight: 1.0, cost };
                assert!(matches!(queue.push(claim, tenant.to_string()), Pushed::Waits(_)));
            }
        }
        assert_eq!(count(&served(&mut queue, 22), "big"), 2);
    }

    #[test]
    fn what_is_taken_back_costs_its_tenant_nothing() {
        let mut queue = Queue::new(1_000);
        let id = TenantId::parse("many").unwrap();
        let claim = Claim { tenant: &id, priority: Priority::Normal, weight: 1.0, cost: 1.0 };
        let mut spots = Vec::new();
        for _ in 0..50 {
            let Pushed::Waits(spot) = queue.push(claim, "many".into()) else { panic!("full") };
            spots.push(spot);
        }
        (0..60).for_each(|_| assert!(push(&mut queue, "other", Priority::Normal, 1.0)));
        while let Some(last) = spots.pop().filter(|_| !spots.is_empty()) {
            queue.take_back(&id, last, spots.last().copied());
        }
        (0..50).for_each(|_| assert!(push(&mut queue, "many", Priority::Normal, 1.0)));
        assert!(count(&served(&mut queue, 40), "many").abs_diff(20) <= 1);
    }

    #[test]
    fn who_leaves_is_not_served_and_an_empty_class_begins_anew() {
        let mut queue = Queue::new(10);
        let id = TenantId::parse("a").unwrap();
        let claim = Claim { tenant: &id, priority: Priority::Low, weight: 1.0, cost: 1.0 };
        let Pushed::Waits(spot) = queue.push(claim, 1) else { panic!("it did not wait") };
        assert!(queue.remove(spot) && !queue.remove(spot));
        assert!(queue.pop().is_none() && queue.clocks[Priority::Low as usize].last.is_empty());
    }
}
