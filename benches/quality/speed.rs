//! `bench-quality speed`: the figures of `cargo bench --bench detectors` as one table.

use std::path::Path;

use serde_json::Value;

use crate::page::{self, say};

const FOLDER: &str = "target/criterion";
const BYTES: [&str; 3] = ["200", "10000", "100000"];
const DETECTORS: [&str; 9] = [
    "pii",
    "secrets",
    "prompt-injection",
    "toxicity",
    "urls",
    "language",
    "code",
    "keywords",
    "regex",
];
const SAMPLES: [&str; 3] = ["clean prose", "support mail", "numbers"];

pub(crate) fn run() {
    let mut out = String::from(
        "| detector | text | 200 B, µs | MB/s | 10 KB, µs | MB/s | 100 KB, µs | MB/s |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    for detector in DETECTORS {
        for sample in SAMPLES {
            let cells = BYTES.map(|bytes| {
                let nanoseconds = mean(&format!("{detector}/{sample}/{bytes}"));
                let speed = bytes.parse::<f64>().unwrap() * 1e3 / nanoseconds;
                format!("{:.1} | {speed:.1}", nanoseconds / 1e3)
            });
            say!(out, "| {detector} | {sample} | {} |", cells.join(" | "));
        }
    }
    page::write_body("speed", &out);
}

/// Criterion's mean of one bench, in nanoseconds.
fn mean(bench: &str) -> f64 {
    let path = Path::new(FOLDER).join(bench).join("new/estimates.json");
    let Ok(text) = std::fs::read_to_string(&path) else {
        panic!("{} is missing: run cargo bench --bench detectors", path.display());
    };
    let estimates: Value = serde_json::from_str(&text).unwrap();
    estimates["mean"]["point_estimate"].as_f64().unwrap()
}
