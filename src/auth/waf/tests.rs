//! What is seen, and above all what is not.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;

#[test]
fn x() {
    for (n, line) in std::fs::read_to_string("/tmp/waflib/bench.tsv").unwrap().lines().enumerate() {
        let _ = (n, line);
    }
}
