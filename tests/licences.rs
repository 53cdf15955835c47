//! Every dependency carries a licence and a name that deny.toml allows, and comes from crates.io.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may fail by panicking, also outside its #[test] function"
)]

use std::collections::BTreeSet;
use std::process::Command;

fn quoted(text: &str, from: &str, to: &str) -> BTreeSet<String> {
    let part = text.split_once(from).unwrap().1.split_once(to).unwrap().0;
    part.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

/// SPDX with `OR`, `AND`, parentheses and the old `/`: some branch must be allowed whole.
fn allowed(expression: &str, allow: &BTreeSet<String>) -> bool {
    let text = expression.replace('/', " OR ");
    if let Some(open) = text.find('(') {
        let Some(length) = text[open..].find(')') else { return false };
        let inner = allowed(&text[open + 1..open + length], allow);
        let stand_in = if inner { "MIT" } else { "refused" };
        let outer = format!("{}{stand_in}{}", &text[..open], &text[open + length + 1..]);
        return allowed(&outer, allow);
    }
    text.split(" OR ").any(|branch| branch.split(" AND ").all(|name| allow.contains(name.trim())))
}

#[test]
fn every_dependency_is_permissive_wanted_and_from_crates_io() {
    let root = env!("CARGO_MANIFEST_DIR");
    let rules = std::fs::read_to_string(format!("{root}/deny.toml")).unwrap();
    let allow = quoted(&rules, "allow = [", "]");
    let banned: Vec<&str> = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("{ crate = \"")?.split('"').next())
        .collect();
    assert!(allow.contains("MIT") && banned.contains(&"openssl"), "deny.toml was not understood");
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--locked",
            "--all-features",
            "--prefix",
            "none",
            "--edges",
            "normal,build,dev",
        ])
        .args(["--format", "{p}|{l}"])
        .current_dir(root)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tree = String::from_utf8(output.stdout).unwrap();
    let packages: BTreeSet<&str> = tree.lines().filter(|line| !line.is_empty()).collect();
    assert!(packages.len() > 100, "cargo tree was not understood");
    let mut faults = Vec::new();
    for package in packages {
        let (package, licence) = package.split_once('|').unwrap();
        // A package seen before is marked `(*)` behind its licence.
        let licence = licence.trim_end_matches(" (*)");
        if !allowed(licence, &allow) {
            faults.push(format!("{package}: licence `{licence}` is not in deny.toml"));
        }
        if package.split(' ').next().is_some_and(|name| banned.contains(&name)) {
            faults.push(format!("{package}: banned by deny.toml"));
        }
    }
    let lock = std::fs::read_to_string(format!("{root}/Cargo.lock")).unwrap();
    let sources = lock.lines().filter(|line| line.starts_with("source = "));
    faults.extend(
        sources.filter(|line| !line.contains("rust-lang/crates.io-index")).map(str::to_owned),
    );
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn a_copyleft_licence_is_refused_unless_there_is_a_choice() {
    let allow = BTreeSet::from(["MIT".to_owned(), "Apache-2.0".to_owned()]);
    for good in ["MIT", "MIT OR GPL-3.0", "MIT/Apache-2.0", "(MIT OR GPL-2.0) AND Apache-2.0"] {
        assert!(allowed(good, &allow), "{good}");
    }
    for bad in ["GPL-3.0", "MIT AND GPL-3.0", "none", "", "(GPL-2.0 OR AGPL-3.0) AND MIT", "(MIT"] {
        assert!(!allowed(bad, &allow), "{bad}");
    }
}
