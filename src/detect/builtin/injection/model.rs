//! The trained model: weights, calibration, and the hottest windows of a text.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use super::features::{self, BUCKETS, Sentence};

/// Sentences of a window; windows overlap.
pub const WINDOW: usize = 3;

/// Sentences that a text may have before it loses margin.
pub const FREE: f32 = 4.0;

/// A model: one byte for each bucket, and what the training program found.
pub struct Model {
    weights: Weights,
    /// What a byte of the weights stands for.
    values: Vec<f32>,
    facts: Facts,
}

enum Weights {
    Shipped(&'static [u8]),
    Trained(Vec<u8>),
}

/// What stands beside the weights in `injection.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// Seed of the training program.
    pub seed: u64,
    /// SHA-256 of the weights, in hexadecimal.
    pub weights_sha256: String,
    /// The largest weight: byte `b` (signed) stands for `scale · b·|b| / 127²`.
    pub scale: f32,
    /// Added to every sum.
    pub bias: f32,
    /// What a text of n > 4 sentences loses, per ln (n / 4): many windows are many chances.
    pub length: f32,
    /// Platt's calibration: probability = 1 / (1 + e^−(slope · margin + offset)).
    pub slope: f32,
    /// See `slope`.
    pub offset: f32,
    /// Texts with the margin that the training program got for them.
    pub checks: Vec<(String, f32)>,
}

/// A run of sentences and how much it looks like an order to a model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Window {
    /// Its bytes in the text.
    pub start: usize,
    /// One past its last byte.
    pub end: usize,
    /// Before calibration; a long text's is lowered.
    pub margin: f32,
    /// The bits of its cues.
    pub cues: u32,
}

static SHIPPED: LazyLock<Option<Model>> = LazyLock::new(|| {
    let facts = serde_json::from_str(include_str!("../data/injection.json")).ok()?;
    Model::new(Weights::Shipped(include_bytes!("../data/injection.bin")), facts)
});

impl Model {
    /// The model in this binary; `None` only if its files do not belong together.
    pub fn shipped() -> Option<&'static Self> {
        SHIPPED.as_ref()
    }

    /// A model of `BUCKETS` bytes; `None` for another number.
    pub fn trained(weights: Vec<u8>, facts: Facts) -> Option<Self> {
        Self::new(Weights::Trained(weights), facts)
    }

    fn new(weights: Weights, facts: Facts) -> Option<Self> {
        let value = |byte: u8| {
            let signed = f32::from(byte.cast_signed());
            facts.scale * signed * signed.abs() / (127.0 * 127.0)
        };
        let values = (0..=u8::MAX).map(value).collect();
        let model = Self { weights, values, facts };
        (model.bytes().len() == BUCKETS).then_some(model)
    }

    /// The weights, one byte each.
    pub fn bytes(&self) -> &[u8] {
        match &self.weights {
            Weights::Shipped(bytes) => bytes,
            Weights::Trained(bytes) => bytes,
        }
    }

    /// What the training program found.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Every window of the text in order of its start; none without a word. Linear in the text.
    pub fn windows(&self, text: &str) -> Vec<Window> {
        let bytes = self.bytes();
        let sentences = features::read(text, |_, bucket| {
            let byte = bytes.get(bucket).copied().unwrap_or_default();
            self.values.get(usize::from(byte)).copied().unwrap_or_default()
        });
        let lost = self.facts.length * (sentences.len() as f32 / FREE).max(1.0).ln();
        let mut windows = Vec::with_capacity(sentences.len() * WINDOW);
        for from in 0..sentences.len() {
            let (mut sum, mut square, mut cues) = (0.0, 0.0, 0);
            let run = sentences.iter().skip(from).take(WINDOW);
            let start = sentences.get(from).map_or(0, |sentence| sentence.start);
            for Sentence { end, sum: more, square: also, cues: here, .. } in run {
                sum += more;
                square += also;
                cues |= here;
                let margin = self.facts.bias + sum / square.max(1.0).sqrt() - lost;
                windows.push(Window { start, end: *end, margin, cues });
            }
        }
        windows
    }

    /// The margin of the hottest window; that of no evidence for a text without a word.
    pub fn margin(&self, text: &str) -> f32 {
        let windows = self.windows(text);
        windows.iter().map(|window| window.margin).reduce(f32::max).unwrap_or(self.facts.bias)
    }

    /// A margin as a probability, 0..=1.
    pub fn probability(&self, margin: f32) -> f64 {
        let logit = self.facts.slope * margin + self.facts.offset;
        1.0 / (1.0 + f64::from(-logit).exp())
    }
}
