//! Sets of label values that stop growing.

use std::collections::{HashMap, HashSet};
use std::sync::{PoisonError, RwLock};

/// What every further name becomes.
const OTHER: &str = "other";

/// At most `max` names keep their own label.
pub(super) struct Names {
    max: usize,
    kept: RwLock<HashSet<String>>,
    fixed: bool,
}

impl Names {
    /// `configured` names if there are any, else the first ones seen.
    pub(super) fn new(configured: &[String], max: usize) -> Names {
        let kept = configured.iter().take(max).cloned().collect();
        Names { max, kept: RwLock::new(kept), fixed: !configured.is_empty() }
    }

    /// Calls `record` with the label of `name`; allocates only for a name seen first.
    pub(super) fn with(&self, name: &str, record: impl FnOnce(&str)) {
        record(if self.keeps(name) { name } else { OTHER });
    }

    fn keeps(&self, name: &str) -> bool {
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        if kept.contains(name) {
            return true;
        }
        if self.fixed || kept.len() >= self.max {
            return false;
        }
        drop(kept);
        let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
        let room = kept.len() < self.max;
        room && { kept.insert(name.to_owned()) } || kept.contains(name)
    }
}

/// At most `max` pairs of names keep both.
pub(super) struct Pairs {
    max: usize,
    kept: RwLock<(usize, HashMap<String, HashSet<String>>)>,
}

impl Pairs {
    pub(super) fn new(max: usize) -> Pairs {
        Pairs { max, kept: RwLock::default() }
    }

    /// The label of `second` beside `first`; allocates only for a pair seen first.
    pub(super) fn second<'a>(&self, first: &str, second: &'a str) -> &'a str {
        let holds = |kept: &HashMap<String, HashSet<String>>| {
            kept.get(first).is_some_and(|seconds| seconds.contains(second))
        };
        {
            let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
            if holds(&kept.1) {
                return second;
            }
            if kept.0 >= self.max {
                return OTHER;
            }
        }
        let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
        let (count, pairs) = &mut *kept;
        if !holds(pairs) {
            if *count >= self.max {
                return OTHER;
            }
            *count += 1;
            pairs.entry(first.to_owned()).or_default().insert(second.to_owned());
        }
        second
    }
}
