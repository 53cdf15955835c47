//! Ten thousand mutated replies: whatever a service says fills typed fields or is no answer.

use std::collections::BTreeMap;

use super::protocols::{
    AZURE, BEDROCK, GUARD, LAKERA, MODERATION, PRESIDIO, chat, fixture, fms, texts,
};
use super::*;
use crate::detect::protocol::{self, Bad};
use crate::domain::content::Role;

const ROUNDS: usize = 10_000;
/// What a service wants to smuggle: it may only ever stand in a label, escaped and cut.
const CANARY: &str = "cANaRY\r\nX-Evil: 1\u{0}\u{1b}[31m\u{202e}\"}],{{content}}<script>";

const KSERVE: &str = "protocol: kserve-v2\nendpoint: SERVER\ncategories: [toxicity]\n\
    options: {model: toxicity, output: probabilities, labels: [neutral, toxic]}\n";

/// xorshift64*, so that a failing round is the same everywhere.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % sides.max(1)
    }

    fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.roll(of.len())]
    }
}

/// Pointers of every value in `value`.
fn places(value: &Value, at: &str, into: &mut Vec<String>) {
    into.push(at.to_owned());
    let escaped = |key: &str| key.replace('~', "~0").replace('/', "~1");
    match value {
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(n, v)| places(v, &format!("{at}/{n}"), into));
        }
        Value::Object(map) => {
            map.iter().for_each(|(k, v)| places(v, &format!("{at}/{}", escaped(k)), into));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

const SHAPES: [&str; 7] =
    ["a string", "a number", "another type", "a key more", "a key less", "repeated", "swapped"];

fn reshape(reply: &mut Value, how: &str, dice: &mut Dice) {
    let mut all = Vec::new();
    places(reply, "", &mut all);
    let other = reply.pointer(dice.pick::<String>(&all)).cloned().unwrap();
    let strings: Vec<String> =
        all.iter().filter(|at| reply.pointer(at).is_some_and(Value::is_string)).cloned().collect();
    let from = if how == "a string" && !strings.is_empty() { &strings } else { &all };
    let target = reply.pointer_mut(dice.pick::<String>(from)).unwrap();
    match (how, target) {
        ("a string", target) => *target = json!(CANARY.repeat(1 + dice.roll(40))),
        ("a number", target) => {
            let odd = [json!(-1), json!(0), json!(1.0000001), json!(1e300), json!(u64::MAX)];
            *target = dice.pick(&odd).clone();
        }
        ("a key more", Value::Object(map)) => {
            let keys = [CANARY, "category", "label", "severity", "error", "start", "end"];
            map.insert((*dice.pick(&keys)).to_owned(), json!(CANARY));
        }
        ("a key less", Value::Object(map)) => {
            if let Some(key) = map.keys().nth(dice.roll(map.len())).cloned() {
                map.remove(&key);
            }
        }
        ("repeated", Value::Array(items)) if !items.is_empty() => {
            let item = dice.pick(items).clone();
            items.extend(std::iter::repeat_n(item, 1 + dice.roll(30)));
        }
        ("swapped", target) => *target = other,
        (_, target) => {
            let types = [json!(null), json!(true), json!([]), json!({}), json!([[CANARY]])];
            *target = dice.pick(&types).clone();
        }
    }
}

fn scramble(bytes: &mut Vec<u8>, dice: &mut Dice) {
    let at = dice.roll(bytes.len());
    match dice.roll(4) {
        0 => bytes[at] ^= 1 << dice.roll(8),
        1 => bytes.truncate(at),
        2 => {
            let piece = bytes[at..].to_vec();
            bytes.extend(piece);
        }
        _ => drop(bytes.splice(at..at, CANARY.bytes())),
    }
}

/// A detector, what it is asked, and what it says before anybody meddles.
fn cases() -> Vec<(&'static str, Detector, Sample, Value)> {
    let of = |name: &'static str, lines: &str, sample: Sample, reply: &str| {
        let lines = lines.replace("SERVER", "http://127.0.0.1:1");
        (name, loaded(&lines), sample, fixture(reply).reply["body"].clone())
    };
    let (presidio, moderation) = ("presidio/recorded-several-texts", "openai-moderation/flagged");
    let (guard, azure) = ("llm-guard/analyze-prompt", "azure-content-safety/analyze");
    let (contents, blocked) = ("fms/recorded-several-texts", "bedrock-guardrail/blocked");
    let tensor = "kserve-v2/probabilities";
    let native = "protocol: native\nendpoint: SERVER\ncategories: [toxicity]\n";
    let said = json!({"label": "toxic", "score": 0.9, "severity": "high", "category": "hate",
        "metadata": {"a": [1]}, "findings": [
            {"label": "x", "score": 0.5, "start": 0, "end": 2, "category": "pii.email"},
            {"label": "clean", "score": 1}]});
    let turns = [(Role::User, "Hello, my card is 4111 1111 1111 1111, keep it. And my name?")];
    vec![
        (
            "native",
            loaded(&native.replace("SERVER", "http://127.0.0.1:1")),
            sample(&["a😀c"]),
            said,
        ),
        of("presidio", PRESIDIO, texts(presidio, "/text"), presidio),
        of("openai", MODERATION, texts(moderation, "/input"), moderation),
        of("fms contents", &fms(""), texts(contents, "/contents"), contents),
        of("fms chat", &fms("options: {kind: chat}"), chat(&turns), "fms/chat-llama-guard"),
        of("llm-guard", GUARD, texts(guard, "/prompt"), guard),
        of("lakera", LAKERA, chat(&turns), "lakera/payload-and-breakdown"),
        of("azure", AZURE, texts(azure, "/text"), azure),
        of("kserve", KSERVE, texts(tensor, "/inputs/0/data"), tensor),
        of("bedrock", BEDROCK, texts(blocked, "/content/0/text/text"), blocked),
    ]
}

/// What is wrong with an answer that was accepted.
fn fault(judged: &Judged, sample: &Sample) -> Option<String> {
    let clean = |label: &str| {
        label.chars().count() <= 128 && !label.contains(|c: char| c.is_control() || c == '\u{202e}')
    };
    if judged.label.as_deref().is_some_and(|label| !clean(label)) {
        return Some("its label".to_owned());
    }
    judged.findings.iter().find_map(|finding| {
        let place = finding.place;
        let inside = place.is_none_or(|place| {
            let piece = sample.pieces.get(place.piece);
            let chars = piece.map_or(0, |piece| piece.chars);
            piece.is_some() && place.span.is_none_or(|s| s.start < s.end && s.end <= chars)
        });
        let known = Category::parse(finding.category.as_str()).is_ok();
        let score = (0.0..=1.0).contains(&finding.score);
        let bare = finding.attributes.is_empty() && finding.view.is_none();
        (!(inside && known && score && bare && clean(&finding.label)))
            .then(|| format!("{finding:?}"))
    })
}

#[test]
fn ten_thousand_mutated_replies_change_nothing_but_typed_fields() {
    let (cases, mut dice) = (cases(), Dice(20_261_121));
    let mut met: BTreeMap<String, usize> = BTreeMap::new();
    let mut smuggled = 0;
    for round in 0..ROUNDS {
        let (name, detector, sample, reply) = dice.pick(&cases);
        let how = *dice.pick(&SHAPES);
        let mut reply = reply.clone();
        reshape(&mut reply, how, &mut dice);
        let mut bytes = serde_json::to_vec(&reply).unwrap();
        if dice.roll(5) == 0 {
            scramble(&mut bytes, &mut dice);
        }
        let work = sample.work();
        let texts = Texts::new(&work);
        let excerpts = (0..sample.pieces.len()).flat_map(|n| texts.excerpts(n, detector)).collect();
        let batch = protocol::batches(detector, &sample.request, excerpts).remove(0);
        let outcome = match protocol::read(detector, &texts, &batch, &bytes) {
            Ok(judged) => {
                let wrong = fault(&judged, sample);
                assert!(wrong.is_none(), "round {round}, {name}, {how}: {wrong:?}");
                smuggled += usize::from(judged.findings.iter().any(|f| f.label.contains("cANaRY")));
                "an answer"
            }
            Err(Bad(why)) => {
                assert!(!why.contains("cANaRY") && !why.contains("Evil"), "round {round}: {why}");
                "no answer"
            }
        };
        for class in [format!("outcome {outcome}"), format!("shape {how}"), format!("from {name}")]
        {
            *met.entry(class).or_default() += 1;
        }
    }
    println!("mutated replies: {met:#?}, {smuggled} with a hostile label");
    for (class, count) in &met {
        assert!(count * 20 >= ROUNDS, "{class} only {count} times");
    }
    assert_eq!(met.len(), 2 + SHAPES.len() + cases.len());
    assert!(smuggled * 100 >= ROUNDS, "hostile labels were hardly tried: {smuggled}");
}
