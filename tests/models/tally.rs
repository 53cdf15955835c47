//! Counts what a random test met, so that a class it never meets fails it.

use std::cell::RefCell;
use std::collections::BTreeMap;

/// Classes met, of how many cases.
#[derive(Default)]
pub struct Tally {
    counts: RefCell<BTreeMap<&'static str, usize>>,
    cases: RefCell<usize>,
}

impl Tally {
    /// One case, with every class it belongs to.
    pub fn case(&self, classes: &[(&'static str, bool)]) {
        *self.cases.borrow_mut() += 1;
        for (class, holds) in classes {
            *self.counts.borrow_mut().entry(class).or_default() += usize::from(*holds);
        }
    }

    /// Prints the mix; fails where a class makes less than a twentieth of the cases.
    #[track_caller]
    pub fn every_class_was_met(&self, title: &str) {
        let cases = *self.cases.borrow();
        println!("{title}: {cases} cases");
        for (class, count) in self.counts.borrow().iter() {
            println!("  {:5.1} %  {class}", 100.0 * *count as f64 / cases as f64);
        }
        let counts = self.counts.borrow();
        let rare: Vec<_> = counts.iter().filter(|(_, count)| **count * 20 < cases).collect();
        assert!(rare.is_empty() && cases > 0, "hardly met: {rare:?} of {cases}");
    }
}
