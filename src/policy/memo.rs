//! Answers of equal documents, kept in a bounded map that no tenant can fill alone.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::{BuildHasher, Hasher};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use crate::domain::id::TenantId;

/// How often the memo had the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MemoCounts {
    /// It had.
    pub hits: u64,
    /// It had not.
    pub misses: u64,
    /// Answers kept now.
    pub entries: u64,
}

/// Keys are compared by equality; the hash only finds the place.
pub(super) struct Memo<K, V> {
    hasher: RandomState,
    state: RwLock<State<K, V>>,
    entries_max: usize,
    hits: AtomicU64,
    misses: AtomicU64,
}

struct State<K, V> {
    slots: HashMap<u64, Slot<K, V>>,
    /// Oldest first, by tenant.
    shelves: HashMap<TenantId, VecDeque<u64>>,
    sizes: BTreeSet<(usize, TenantId)>,
}

struct Slot<K, V> {
    key: K,
    value: Arc<V>,
    used: AtomicBool,
}

impl<K, V> Memo<K, V> {
    pub(super) fn new(entries_max: usize) -> Self {
        Self {
            hasher: RandomState::new(),
            state: RwLock::new(State {
                slots: HashMap::new(),
                shelves: HashMap::new(),
                sizes: BTreeSet::new(),
            }),
            entries_max,
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        }
    }

    pub(super) fn hash(&self, feed: impl FnOnce(&mut dyn Hasher)) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        feed(&mut hasher);
        hasher.finish()
    }

    /// The answer whose key `is_same` accepts.
    pub(super) fn get(&self, hash: u64, is_same: impl FnOnce(&K) -> bool) -> Option<Arc<V>> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let found = state.slots.get(&hash).filter(|slot| is_same(&slot.key)).map(|slot| {
            slot.used.store(true, Ordering::Relaxed);
            slot.value.clone()
        });
        let count = if found.is_some() { &self.hits } else { &self.misses };
        count.fetch_add(1, Ordering::Relaxed);
        found
    }

    /// Keeps an answer; the tenant with the most answers gives one up when there are too many.
    pub(super) fn put(&self, tenant: &TenantId, hash: u64, key: K, value: Arc<V>) {
        if self.entries_max == 0 {
            return;
        }
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let slot = Slot { key, value, used: AtomicBool::new(false) };
        if state.slots.insert(hash, slot).is_some() {
            return;
        }
        state.resize(tenant, |shelf| shelf.push_back(hash));
        while state.slots.len() > self.entries_max {
            let Some((_, largest)) = state.sizes.last().cloned() else { return };
            state.evict(&largest);
        }
    }

    pub(super) fn counts(&self) -> MemoCounts {
        let entries = self.state.read().unwrap_or_else(PoisonError::into_inner).slots.len();
        MemoCounts {
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            entries: entries as u64,
        }
    }
}

impl<K, V> State<K, V> {
    fn resize(&mut self, tenant: &TenantId, change: impl FnOnce(&mut VecDeque<u64>)) {
        let shelf = self.shelves.entry(tenant.clone()).or_default();
        self.sizes.remove(&(shelf.len(), tenant.clone()));
        change(shelf);
        match shelf.len() {
            0 => drop(self.shelves.remove(tenant)),
            size => drop(self.sizes.insert((size, tenant.clone()))),
        }
    }

    /// Drops the tenant's oldest answer that was not used since its last turn.
    fn evict(&mut self, tenant: &TenantId) {
        let mut victim = None;
        let slots = &self.slots;
        let mut choose = |shelf: &mut VecDeque<u64>| {
            for _ in 0..=shelf.len() {
                let Some(hash) = shelf.pop_front() else { return };
                let spare =
                    slots.get(&hash).is_some_and(|slot| slot.used.swap(false, Ordering::Relaxed));
                if !spare {
                    victim = Some(hash);
                    return;
                }
                shelf.push_back(hash);
            }
        };
        let Some(shelf) = self.shelves.get_mut(tenant) else { return };
        self.sizes.remove(&(shelf.len(), tenant.clone()));
        choose(shelf);
        match shelf.len() {
            0 => drop(self.shelves.remove(tenant)),
            size => drop(self.sizes.insert((size, tenant.clone()))),
        }
        if let Some(hash) = victim {
            self.slots.remove(&hash);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_tenant_cannot_push_out_anothers_answers() {
        let memo: Memo<u64, u64> = Memo::new(10);
        let (small, big) = (TenantId::parse("small").unwrap(), TenantId::parse("big").unwrap());
        memo.put(&small, 1, 1, Arc::new(1));
        for at in 100..200 {
            memo.put(&big, at, at, Arc::new(at));
        }
        assert_eq!(memo.counts().entries, 10);
        assert_eq!(memo.get(1, |key| *key == 1).as_deref(), Some(&1));
        assert_eq!(memo.get(100, |key| *key == 100), None);
        assert_eq!(memo.get(199, |key| *key == 199).as_deref(), Some(&199));
    }

    #[test]
    fn an_equal_hash_with_another_key_is_a_miss() {
        let memo: Memo<u64, u64> = Memo::new(10);
        memo.put(&TenantId::parse("a").unwrap(), 7, 1, Arc::new(1));
        assert_eq!(memo.get(7, |key| *key == 2), None);
        assert_eq!(memo.counts(), MemoCounts { hits: 0, misses: 1, entries: 1 });
    }
}
