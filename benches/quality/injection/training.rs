//! Logistic regression by stochastic gradient (AdaGrad, L2), then one byte a weight, then calibration.

use std::cell::RefCell;

use detector_orchestrator::detect::builtin::injection::features::{self, BUCKETS, Kind};
use detector_orchestrator::detect::builtin::injection::model::{FREE, Facts, Model};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::data::{self, Text, load};
use super::random::Random;
use super::{attacks, benign, disguise, near, settings};

const SEED: u64 = 20_261_121;
const EPOCHS: usize = 15;
const RATE: f32 = 0.05;
const SHRINK: f32 = 1e-3;
/// Weights of a text of documentation and of a message in another language, which are many.
const DOCUMENTATION: f32 = 0.4;
const MESSAGE: f32 = 0.7;
/// Each text is learnt a second time by its cues and marks alone: they hold in every language.
const CUES_ALONE: f32 = 0.5;
/// Of a hundred attacks and of a hundred harmless texts, how many are also learnt in disguise.
const DISGUISED: [usize; 2] = [8, 40];
/// The share of attacks for which scores are probabilities.
const EXPECTED: f64 = 0.08;
const PER_TEMPLATE: usize = 20;
/// Made settings files and notices.
const SETTINGS: usize = 1600;
/// Made attacks, and the weight of each.
const ATTACKS: usize = 1500;
const ATTACK: f32 = 0.6;
const WEIGHTS: &str = "src/detect/builtin/data/injection.bin";
const FACTS: &str = "src/detect/builtin/data/injection.json";

type Features = Vec<(Kind, u32)>;

struct Example {
    features: Features,
    attack: bool,
    weight: f32,
}

/// The test sets, which no training text may be near to.
pub const TESTS: [&str; 9] = [
    "slabs-test",
    "neuralchemy",
    "yanismiraoui",
    "bastion",
    "promptwl",
    "wild",
    "agents",
    "hard",
    "settings",
];

/// Harmless texts and attacks made here, without those near a text of a test set.
pub fn made() -> [Vec<String>; 2] {
    let mut tests = near::Index::default();
    for text in TESTS.iter().flat_map(|name| load(name)) {
        tests.add(&text.text);
    }
    let mut harmless = benign::texts(&mut Random::new(SEED), PER_TEMPLATE);
    harmless.extend(settings::texts(&mut Random::new(SEED), SETTINGS));
    let mut texts = [harmless, attacks::texts(&mut Random::new(SEED), ATTACKS)];
    texts.iter_mut().for_each(|texts| texts.retain(|text| !tests.holds_near(text)));
    texts
}

/// Trains and writes the two files.
pub fn train() {
    let mut random = Random::new(SEED);
    let [harmless, attacks] = made();
    let examples = examples(&harmless, &attacks, &mut random);
    println!("{} examples", examples.len());
    let (weights, bias) = descend(&examples, &mut random);
    let scale = weights.iter().fold(0_f32, |most, weight| most.max(weight.abs()));
    // The bytes stand for squares, because nearly all weights are small.
    let byte = |weight: &f32| {
        let root = (weight.abs() / scale).sqrt() * 127.0;
        (root.round() as i8 * weight.signum() as i8).cast_unsigned()
    };
    let bytes: Vec<u8> = weights.iter().map(byte).collect();
    let mut facts = Facts {
        seed: SEED,
        weights_sha256: hex::encode(Sha256::digest(&bytes)),
        scale,
        bias,
        length: 0.0,
        slope: 1.0,
        offset: 0.0,
        checks: Vec::new(),
    };
    facts.length = length(&Model::trained(bytes.clone(), facts.clone()).unwrap());
    let model = Model::trained(bytes.clone(), facts.clone()).unwrap();
    (facts.slope, facts.offset) = platt(&model);
    let validation = load("slabs-validation").into_iter().map(|text| text.text);
    let chosen = validation.step_by(150).chain(harmless.into_iter().step_by(200));
    let check = |text: String| {
        let margin = model.margin(&text);
        (text, margin)
    };
    facts.checks = chosen.map(check).collect();
    std::fs::write(WEIGHTS, bytes).unwrap();
    std::fs::write(FACTS, serde_json::to_string_pretty(&facts).unwrap() + "\n").unwrap();
    println!("{WEIGHTS}: sha256 {}", facts.weights_sha256);
    println!("length {} slope {} offset {}", facts.length, facts.slope, facts.offset);
}

/// Writes training.jsonl for a model that learns from whole texts: what `train` learns from, without
/// the second times by sentence and by cues alone, and what it calibrates on.
pub fn texts() {
    let mut random = Random::new(SEED);
    let [harmless, attacks] = made();
    let mut lines = String::new();
    let mut add = |calibrates: bool, label: u8, weight: f32, text: &str| {
        let row = json!({"calibrates": calibrates, "label": label, "weight": weight, "text": text});
        lines += &format!("{row}\n");
    };
    for text in load("slabs-train") {
        add(false, text.label, 1.0, &text.text);
        if random.below(100) < DISGUISED[usize::from(text.label)] {
            add(false, text.label, 1.0, &disguise::disguise(&text.text, &mut random));
        }
    }
    for (_, text) in load("docs").iter().enumerate().filter(|(at, _)| !data::is_held_out(*at)) {
        add(false, 0, DOCUMENTATION, &text.text);
    }
    load("conf").iter().for_each(|text| add(false, 0, DOCUMENTATION, &text.text));
    load("ui").iter().step_by(4).for_each(|text| add(false, 0, MESSAGE, &text.text));
    harmless.iter().for_each(|text| add(false, 0, 1.0, text));
    attacks.iter().for_each(|text| add(false, 1, ATTACK, text));
    load("slabs-validation").iter().for_each(|text| add(true, text.label, 1.0, &text.text));
    held_out().iter().for_each(|text| add(true, 0, 1.0, &text.text));
    let path = std::path::Path::new(data::FOLDER).join("training.jsonl");
    std::fs::write(&path, lines).unwrap();
    println!("wrote {}", path.display());
}

fn examples(harmless: &[String], attacks: &[String], random: &mut Random) -> Vec<Example> {
    let mut examples = Vec::new();
    for text in load("slabs-train") {
        add(&mut examples, whole(&text.text), text.is_attack(), 1.0);
        if random.below(100) < DISGUISED[usize::from(text.label)] {
            let features = whole(&disguise::disguise(&text.text, random));
            examples.push(Example { features, attack: text.is_attack(), weight: 1.0 });
        }
    }
    for (_, text) in load("docs").iter().enumerate().filter(|(at, _)| !data::is_held_out(*at)) {
        for sentence in sentences(&text.text) {
            add(&mut examples, sentence, false, DOCUMENTATION);
        }
        let features = whole(&text.text);
        examples.push(Example { features, attack: false, weight: DOCUMENTATION });
    }
    for text in load("conf") {
        sentences(&text.text)
            .into_iter()
            .for_each(|one| add(&mut examples, one, false, DOCUMENTATION));
        add(&mut examples, whole(&text.text), false, DOCUMENTATION);
    }
    // Other languages by their cues and marks alone, so that no language counts as harmless.
    for text in load("ui").iter().step_by(2) {
        examples.push(Example {
            features: cues(&whole(&text.text)),
            attack: false,
            weight: MESSAGE,
        });
    }
    for text in harmless {
        add(&mut examples, whole(text), false, 1.0);
    }
    for text in attacks {
        add(&mut examples, whole(text), true, ATTACK);
    }
    examples
}

fn add(examples: &mut Vec<Example>, features: Features, attack: bool, weight: f32) {
    let alone = Example { features: cues(&features), attack, weight: weight * CUES_ALONE };
    examples.extend([Example { features, attack, weight }, alone]);
}

fn whole(text: &str) -> Features {
    sentences(text).concat()
}

fn sentences(text: &str) -> Vec<Features> {
    let seen = RefCell::new(Vec::new());
    let found = features::read(text, |kind, bucket| {
        seen.borrow_mut().push((kind, bucket as u32));
        0.0
    });
    let mut seen = seen.into_inner().into_iter();
    let features = |count| seen.by_ref().take(count).collect();
    found.iter().map(|sentence| sentence.features).map(features).collect()
}

fn cues(features: &Features) -> Features {
    let alone = |kind| matches!(kind, Kind::Cue | Kind::Mark);
    features.iter().copied().filter(|(kind, _)| alone(*kind)).collect()
}

fn descend(examples: &[Example], random: &mut Random) -> (Vec<f32>, f32) {
    let (mut weights, mut bias) = (vec![0_f32; BUCKETS], 0_f32);
    let (mut steps, mut bias_steps) = (vec![1e-6_f32; BUCKETS], 1e-6_f32);
    let mut order: Vec<usize> = (0..examples.len()).collect();
    for _ in 0..EPOCHS {
        for at in (1..order.len()).rev() {
            order.swap(at, random.below(at + 1));
        }
        for Example { features, attack, weight } in order.iter().map(|at| &examples[*at]) {
            let square: f32 = features.iter().map(|(kind, _)| kind.value().powi(2)).sum();
            let norm = 1.0 / square.max(1.0).sqrt();
            let part = |(kind, bucket): &(Kind, u32)| kind.value() * weights[*bucket as usize];
            let margin = bias + norm * features.iter().map(part).sum::<f32>();
            let error = (1.0 / (1.0 + (-margin).exp()) - f32::from(u8::from(*attack))) * weight;
            for (kind, bucket) in features {
                let at = *bucket as usize;
                let gradient = error * kind.value() * norm + SHRINK * weights[at];
                steps[at] += gradient * gradient;
                weights[at] -= RATE * gradient / steps[at].sqrt();
            }
            bias_steps += error * error;
            bias -= RATE * error / bias_steps.sqrt();
        }
    }
    (weights, bias)
}

fn held_out() -> Vec<Text> {
    let docs = load("docs").into_iter().enumerate();
    docs.filter(|(at, _)| data::is_held_out(*at)).map(|(_, text)| text).collect()
}

/// How much the margin that one harmless text in fifty reaches grows with ln (n / `FREE`) of its
/// sentences.
fn length(model: &Model) -> f32 {
    let texts: Vec<String> = held_out().into_iter().map(|text| text.text).collect();
    let points: Vec<(f32, f32)> = [1, 4, 16, 64]
        .map(|size| {
            let texts = texts.chunks(size).map(|chunk| chunk.join("\n\n"));
            let (mut margins, mut logs) = (Vec::new(), 0.0);
            for text in texts {
                logs += (sentences(&text).len() as f32 / FREE).max(1.0).ln();
                margins.push(model.margin(&text));
            }
            margins.sort_by(f32::total_cmp);
            (logs / margins.len() as f32, margins[margins.len() * 98 / 100])
        })
        .to_vec();
    let count = points.len() as f32;
    let mean = |part: fn(&(f32, f32)) -> f32| points.iter().map(part).sum::<f32>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let slope = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum::<f32>();
    (slope / points.iter().map(|point| (point.0 - x).powi(2)).sum::<f32>()).max(0.0)
}

/// Platt's scaling by Newton's method, on the validation texts and the held-out documentation, moved
/// to the share of attacks that is expected in use.
fn platt(model: &Model) -> (f32, f32) {
    let texts = load("slabs-validation").into_iter().chain(held_out());
    let points: Vec<(f64, f64)> =
        texts.map(|t| (f64::from(model.margin(&t.text)), f64::from(t.label))).collect();
    let (mut slope, mut offset) = (1.0, 0.0);
    for _ in 0..50 {
        let (mut g, mut h) = ([0.0; 2], [1e-9, 0.0, 1e-9]);
        for (margin, label) in &points {
            let p = 1.0 / (1.0 + f64::exp(-(slope * margin + offset)));
            let (error, spread) = (p - label, p * (1.0 - p));
            g = [g[0] + error * margin, g[1] + error];
            h = [h[0] + spread * margin * margin, h[1] + spread * margin, h[2] + spread];
        }
        let determinant = h[0] * h[2] - h[1] * h[1];
        slope -= (h[2] * g[0] - h[1] * g[1]) / determinant;
        offset -= (h[0] * g[1] - h[1] * g[0]) / determinant;
    }
    let attacks = points.iter().map(|(_, label)| label).sum::<f64>();
    let odds = attacks / (points.len() as f64 - attacks);
    (slope as f32, (offset - f64::ln(odds) + f64::ln(EXPECTED / (1.0 - EXPECTED))) as f32)
}
