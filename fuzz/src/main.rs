//! One binary for all targets, so that CI links once. `FUZZ_TARGET` names the target; see `fuzz/run`.
#![no_main]

mod targets;

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use targets::{TARGETS, Target};

fn chosen() -> Target {
    static TARGET: OnceLock<Target> = OnceLock::new();
    *TARGET.get_or_init(|| {
        let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
        let found = TARGETS.iter().find(|(known, _)| *known == name);
        let names: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
        found.unwrap_or_else(|| panic!("FUZZ_TARGET={name:?} is none of {names:?}")).1
    })
}

fuzz_target!(|bytes: &[u8]| chosen()(bytes));
