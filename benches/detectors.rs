//! Speed of each built-in detector on texts of three lengths: prose with nothing to find, a mail
//! full of it, and the text that costs each the most in its tests.
//!
//! `cargo bench --bench detectors` measures on the clock; `scripts/quality speed` the same in processor
//! time, which docs/quality/speed.md holds.

#![expect(clippy::unwrap_used, reason = "a benchmark may stop at a broken fixture")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use detector_orchestrator::detect::builtin::prepare;

#[path = "quality/samples.rs"]
mod samples;

use samples::{BYTES, SAMPLES, detectors, of_length};

fn judge(criterion: &mut Criterion) {
    for (name, kind, params) in detectors() {
        let detector = prepare(kind, &params).ok().unwrap();
        let mut group = criterion.benchmark_group(name);
        group.sample_size(10);
        group.warm_up_time(Duration::from_millis(200));
        group.measurement_time(Duration::from_millis(600));
        for (sample_name, sample) in SAMPLES {
            for bytes in BYTES {
                let text = of_length(sample, bytes);
                group.throughput(Throughput::Bytes(text.len() as u64));
                group.bench_function(BenchmarkId::new(sample_name, bytes), |b| {
                    b.iter(|| detector.judge(black_box(&text)));
                });
            }
        }
        group.finish();
    }
}

criterion_group!(benches, judge);
criterion_main!(benches);
