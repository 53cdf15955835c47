//! Speed of each built-in detector on texts of three lengths: prose with nothing to find, a mail
//! full of it, and the text that costs each the most in its tests.
//!
//! `cargo bench --bench detectors`; docs/quality/speed.md holds a run.

#![expect(clippy::unwrap_used, reason = "a benchmark may stop at a broken fixture")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use detector_orchestrator::catalog::detector::Builtin;
use detector_orchestrator::detect::builtin::prepare;
use serde_json::{Value, json};

const SAMPLES: [(&str, &str); 3] = [
    ("clean prose", include_str!("../samples/clean-prose.txt")),
    ("support mail", include_str!("../samples/support-mail.txt")),
    ("numbers", "Phone: 41 22 4111 1111 1111 1112 key=1 a@b.io http://1. "),
];
const BYTES: [usize; 3] = [200, 10_000, 100_000];

fn detectors() -> [(&'static str, Builtin, Value); 9] {
    let words: Vec<String> = (0..1000).map(|n| format!("project word {n}")).collect();
    let lists = json!({"lists": {"names": {"category": "topic", "words": words}}});
    let pattern = json!({"pattern": "\\b[A-Z]{2,5}-\\d{1,6}\\b", "category": "topic"});
    [
        ("pii", Builtin::Pii, Value::Null),
        ("secrets", Builtin::Secrets, Value::Null),
        ("toxicity", Builtin::Toxicity, Value::Null),
        ("prompt-injection", Builtin::PromptInjection, Value::Null),
        ("urls", Builtin::Urls, Value::Null),
        ("language", Builtin::Language, Value::Null),
        ("code", Builtin::Code, Value::Null),
        ("keywords", Builtin::Keywords, lists),
        ("regex", Builtin::Regex, json!({"patterns": {"ticket": pattern}})),
    ]
}

/// The sample as often as it takes, cut at a character.
fn of_length(sample: &str, bytes: usize) -> String {
    let mut text = sample.repeat(bytes.div_ceil(sample.len()));
    text.truncate((0..=bytes).rev().find(|at| text.is_char_boundary(*at)).unwrap());
    text
}

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
