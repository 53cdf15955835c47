//! `bench-quality speed`: microseconds of processor time of one call, and megabytes a second.

use std::hint::black_box;

use detector_orchestrator::detect::builtin::{Prepared, prepare};

use crate::page::{self, say};
use crate::samples::{BYTES, SAMPLES, detectors, of_length};

/// Samples of a cell, and the least seconds of one: the kernel counts processor time in ticks.
const SAMPLES_EACH: usize = 11;
const SAMPLE_SECONDS: f64 = 0.04;

pub(crate) fn run() {
    let mut out = format!(
        "Medians of {SAMPLES_EACH} samples of about {} ms or more.\n\n\
         | detector | text | 200 B, µs | MB/s | 10 KB, µs | MB/s | 100 KB, µs | MB/s |\n\
         |---|---|---|---|---|---|---|---|\n",
        SAMPLE_SECONDS * 1e3
    );
    for (name, kind, params) in detectors() {
        let detector = prepare(kind, &params).ok().unwrap();
        for (sample_name, sample) in SAMPLES {
            let cells = BYTES.map(|bytes| {
                let seconds = median(&detector, &of_length(sample, bytes));
                format!("{:.1} | {:.1}", seconds * 1e6, bytes as f64 / 1e6 / seconds)
            });
            say!(out, "| {name} | {sample_name} | {} |", cells.join(" | "));
        }
    }
    page::write_body("speed", &out);
}

/// Seconds of one call; the first, which compiles patterns, does not count.
pub(crate) fn median(detector: &Prepared, text: &str) -> f64 {
    let seconds = |calls: u32| {
        let start = page::processor_seconds();
        for _ in 0..calls {
            black_box(detector.judge(black_box(text)));
        }
        page::processor_seconds() - start
    };
    black_box(detector.judge(text));
    let mut calls = 1;
    while seconds(calls) < SAMPLE_SECONDS {
        calls *= 2;
    }
    let mut samples: Vec<f64> =
        (0..SAMPLES_EACH).map(|_| seconds(calls) / f64::from(calls)).collect();
    samples.sort_by(f64::total_cmp);
    samples[SAMPLES_EACH / 2]
}
