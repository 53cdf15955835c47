//! Buckets as another program computes them, and who moves when shares do.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::catalog::{Catalog, LoadContext, SourceFile};
use crate::domain::content::ContentType;
use crate::settings::{Env, Settings};
use crate::yaml::fault::FaultKind;

fn bucket_of(tenant: &str, detector: &str, content: &str) -> u32 {
    let (tenant, detector) =
        (TenantId::parse(tenant).unwrap(), DetectorName::parse(detector).unwrap());
    let piece = Piece {
        pointer: "/content".into(),
        content_type: ContentType::Text,
        text: Some(content.into()),
        chars: content.chars().count(),
    };
    bucket(&Key::from_bytes([10; 32]), &tenant, &detector, &content_hash(&[piece]))
}

#[test]
fn buckets_are_those_of_the_formula() {
    // python3: int.from_bytes(hmac.new(b"\n"*32, f"{t}\0{d}\0{sha256(c).hexdigest()}".encode(),
    //          "sha256").digest()[:4], "big") % 10000
    for (tenant, detector, content, expected) in [
        ("acme", "toxicity-de", "hello", 1743),
        ("default", "pii", "Mail ana@evil.io", 5288),
        ("acme", "toxicity-de", "", 3471),
        ("globex", "tox", "ü😀", 2846),
    ] {
        assert_eq!(bucket_of(tenant, detector, content), expected, "{content}");
    }
}

/// A detector whose versions have these weights in percent.
fn weighted(weights: &[(&str, f64)]) -> Arc<Detector> {
    let list: String = weights
        .iter()
        .map(|(name, weight)| format!("- {{version: {name}, weight: {weight}}}\n"))
        .collect();
    let text = format!(
        "name: d\nprotocol: native\nendpoint: http://h/x\ncategories: [pii]\nversions:\n{list}"
    );
    let file = SourceFile {
        kind: FaultKind::Detector,
        path: "d.yaml".into(),
        bytes: text.as_bytes().into(),
    };
    let context = LoadContext {
        env: Env::Development,
        secret: &|_| None,
        tiers: &Settings::default().tiers,
        guard: &crate::outbound::Guard::default(),
        check_params: &|_| Ok(()),
    };
    let (catalog, _) = Catalog::load(&[file], &context).unwrap_or_else(|f| panic!("{f:#?}"));
    Arc::clone(&catalog.detectors["d"])
}

/// Which version takes each of ten thousand contents.
fn taken(weights: &[(&str, f64)]) -> Vec<String> {
    let detector = weighted(weights);
    let of = |n| detector.taking(bucket_of("acme", "d", &format!("content {n}")));
    (0..10_000).map(|n| of(n).version.to_string()).collect()
}

#[test]
fn a_share_of_ten_percent_takes_ten_percent_and_always_the_same_contents() {
    let first = taken(&[("a", 90.0), ("b", 10.0)]);
    let share = first.iter().filter(|name| *name == "b").count();
    assert!((900..=1_100).contains(&share), "{share}");
    assert_eq!(first, taken(&[("a", 90.0), ("b", 10.0)]));
    assert!(taken(&[("a", 100.0), ("b", 0.0)]).iter().all(|name| name == "a"));
    let fine = taken(&[("a", 99.5), ("b", 0.5)]).iter().filter(|name| *name == "b").count();
    assert!((20..=90).contains(&fine), "{fine}");
}

#[test]
fn a_share_that_moves_takes_nobody_across_a_border_that_did_not_cross_it() {
    let steps = [
        [("a", 90.0), ("b", 10.0), ("c", 0.0)],
        [("a", 70.0), ("b", 30.0), ("c", 0.0)],
        [("a", 70.0), ("b", 10.0), ("c", 20.0)],
        [("a", 0.0), ("b", 80.0), ("c", 20.0)],
    ];
    let borders = |weights: &[(&str, f64); 3]| {
        let end = |n: usize| weights[..n].iter().map(|(_, weight)| weight * 100.0).sum::<f64>();
        [end(1) as u32, end(2) as u32]
    };
    for pair in steps.windows(2) {
        let (before, after) = (taken(&pair[0]), taken(&pair[1]));
        let (old, new) = (borders(&pair[0]), borders(&pair[1]));
        let mut moved: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        for (n, (from, to)) in before.iter().zip(&after).enumerate() {
            let at = bucket_of("acme", "d", &format!("content {n}"));
            let crossed = old.iter().zip(new).any(|(old, new)| (*old <= at) != (new <= at));
            assert_eq!(from != to, crossed, "content {n} at {at}: {from} to {to}");
            if from != to {
                *moved.entry((from, to)).or_default() += 1;
            }
        }
        assert_eq!(moved.len(), 1, "{moved:?}");
        let share: usize = moved.into_values().sum();
        let wanted = old.iter().zip(new).map(|(a, b)| a.abs_diff(b)).sum::<u32>() as usize;
        assert!(share.abs_diff(wanted) < 300, "{share} moved, {wanted} should");
    }
}
