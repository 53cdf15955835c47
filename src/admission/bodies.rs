//! Bytes of request bodies held at once. A body may take a quarter of what is free, so that large
//! ones are refused long before small ones.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Of what is free, for one body.
const PART: usize = 4;

/// All bodies of the process.
#[derive(Debug)]
pub(super) struct Bodies {
    held: AtomicUsize,
    most: usize,
}

impl Bodies {
    pub(super) fn new(most: usize) -> Self {
        Self { held: AtomicUsize::new(0), most }
    }

    /// Whether a body that says it has `bytes` would find room now.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        bytes <= self.most.saturating_sub(self.held.load(Ordering::Relaxed)) / PART
    }
}

/// What one body holds; given back when dropped.
#[derive(Debug)]
pub struct Held {
    bodies: Arc<Bodies>,
    bytes: usize,
}

impl Held {
    pub(super) fn none(bodies: &Arc<Bodies>) -> Self {
        Self { bodies: Arc::clone(bodies), bytes: 0 }
    }

    /// Holds `more` bytes; false where the body is too large for what is left.
    pub fn grow(&mut self, more: usize) -> bool {
        let bodies = &self.bodies;
        let next = |held: usize| {
            let free = bodies.most.saturating_sub(held - self.bytes);
            (self.bytes + more <= free / PART).then_some(held + more)
        };
        let grown = bodies.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok();
        if grown {
            self.bytes += more;
        }
        grown
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.bodies.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_bodies_are_refused_while_small_ones_still_pass() {
        let bodies = Arc::new(Bodies::new(1_000));
        let mut all: Vec<Held> = Vec::new();
        let mut hold = |bytes: usize| {
            let mut held = Held::none(&bodies);
            let grown = held.grow(bytes);
            all.push(held);
            grown
        };
        assert!(!hold(251) && hold(250));
        assert!(!hold(200) && hold(180) && hold(140));
        assert!(!hold(140), "430 are free");
        assert!(hold(10) && hold(1), "small ones pass");
        assert!(!bodies.has_room(150) && bodies.has_room(50));
        drop(all);
        assert_eq!(bodies.held.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_body_that_arrives_in_parts_has_the_room_of_one_that_comes_whole() {
        let bodies = Arc::new(Bodies::new(1_000));
        let mut held = Held::none(&bodies);
        assert!((0..25).all(|_| held.grow(10)));
        assert!(!held.grow(1));
        drop(held);
        assert!(bodies.has_room(250));
    }
}
