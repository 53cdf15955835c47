//! What the speed of the detectors is measured with.

use detector_orchestrator::catalog::detector::Builtin;
use serde_json::{Value, json};

/// Name and text.
pub const SAMPLES: [(&str, &str); 3] = [
    ("clean prose", include_str!("../../samples/clean-prose.txt")),
    ("support mail", include_str!("../../samples/support-mail.txt")),
    ("numbers", "Phone: 41 22 4111 1111 1111 1112 key=1 a@b.io http://1. "),
];
/// Lengths that are measured.
pub const BYTES: [usize; 3] = [200, 10_000, 100_000];

/// Name, kind and parameters of each detector that judges.
pub fn detectors() -> [(&'static str, Builtin, Value); 9] {
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
pub fn of_length(sample: &str, bytes: usize) -> String {
    let mut text = sample.repeat(bytes.div_ceil(sample.len()));
    text.truncate((0..=bytes).rev().find(|at| text.is_char_boundary(*at)).unwrap());
    text
}
