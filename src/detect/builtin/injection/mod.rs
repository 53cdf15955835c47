//! Orders that a text gives to a language model against its operator: a linear model over what
//! `features` sees, trained by `bench-quality train-injection`, or the `classifier` that the detector
//! file names. It knows forms of speech, not what is meant: who quotes an attack may be taken for an
//! attacker.

use std::ops::Range;
use std::sync::{Arc, LazyLock};

use super::hit::{self, Hit, without_overlaps};
use super::params::{ParamFault, Params};
use crate::detect::Judged;
use crate::domain::category::Category;
use crate::domain::finding::Severity;
use crate::domain::report::{Gap, ReportError};
use crate::domain::span::{OffsetUnit, Offsets};

mod classifier;
mod cues;
pub mod features;
pub mod model;
#[cfg(feature = "ml")]
mod onnx;
#[cfg(not(feature = "ml"))]
#[path = "no_onnx.rs"]
mod onnx;

use cues::Cue;
use model::{Model, Window};

/// Bytes around the hottest window from which on it is an order inside somebody's document.
const DOCUMENT_BYTES_MIN: usize = 400;
/// Findings of one text; the hottest stay.
const FINDINGS_MAX: usize = 16;

/// The detector: below which probability it says nothing, and what judges.
pub(super) struct Injection {
    min_score: f64,
    classifier: Option<Arc<onnx::Classifier>>,
}

/// Reads the classifier that `params` name, if any: the only place where a file is opened.
pub(super) fn load(params: &Params) -> Result<(), ParamFault> {
    classifier::load(params)
}

/// What a classifier says of a text, by bytes.
#[derive(Default)]
struct Windows {
    /// Windows with their probabilities.
    scored: Vec<(Range<usize>, f64)>,
    /// What it did not judge, and why.
    left_out: Vec<(Range<usize>, ReportError)>,
}

impl Injection {
    pub(super) fn prepare(params: &Params) -> Result<Self, ParamFault> {
        let known: Vec<&str> = std::iter::once("min_score").chain(classifier::KEYS).collect();
        params.only(&known)?;
        LazyLock::force(&KINDS);
        let min_score = params.score("min_score", 0.3)?;
        Ok(Self { min_score, classifier: classifier::loaded(params)? })
    }

    pub(super) fn has_classifier(&self) -> bool {
        self.classifier.is_some()
    }

    /// A classifier stops, with what it has, once `wanted` says that nobody waits any more.
    pub(super) fn judge(&self, text: &str, wanted: &dyn Fn() -> bool) -> Judged {
        let (hits, gaps) = match &self.classifier {
            None => (self.find(text), Vec::new()),
            Some(classifier) => {
                let Windows { scored, left_out } = classifier.judge(text, wanted);
                let sure = scored.into_iter().filter(|(_, score)| *score >= self.min_score);
                let hits = sure.filter_map(|(place, score)| hit(0, place, score));
                (hits.collect(), gaps(text, left_out))
            }
        };
        let mut hits = without_overlaps(hits);
        hits.sort_by(|a, b| b.score.total_cmp(&a.score));
        hits.truncate(FINDINGS_MAX);
        Judged { findings: hit::findings(text, hits), gaps, ..Judged::default() }
    }

    fn find(&self, text: &str) -> Vec<Hit> {
        let Some(model) = Model::shipped() else { return Vec::new() };
        let windows = model.windows(text).into_iter();
        let hits = windows.filter_map(|window| {
            let score = model.probability(window.margin);
            let sure = score >= self.min_score;
            sure.then(|| hit(kind(text, window), window.start..window.end, score)).flatten()
        });
        hits.collect()
    }
}

fn gaps(text: &str, left_out: Vec<(Range<usize>, ReportError)>) -> Vec<Gap> {
    if left_out.is_empty() {
        return Vec::new();
    }
    let offsets = Offsets::new(text);
    let gap = |(place, reason): (Range<usize>, ReportError)| {
        let span = offsets.to_span(place.start, place.end, OffsetUnit::Byte)?;
        Some(Gap { piece: 0, span: Some(span), chars: span.end - span.start, reason })
    };
    left_out.into_iter().filter_map(gap).collect()
}

static KINDS: LazyLock<Vec<(Category, &str)>> = LazyLock::new(|| {
    let kind = |(name, label)| Some((Category::parse(name).ok()?, label));
    let kinds = [
        ("injection.prompt", "PROMPT_INJECTION"),
        ("injection.jailbreak", "JAILBREAK"),
        ("injection.indirect", "INDIRECT_INJECTION"),
    ];
    kinds.into_iter().filter_map(kind).collect()
});

fn hit(kind: usize, place: Range<usize>, score: f64) -> Option<Hit> {
    let (category, label) = KINDS.get(kind)?.clone();
    Some(Hit {
        start: place.start,
        end: place.end,
        category,
        label: label.into(),
        score,
        severity: if score < 0.8 { Severity::Medium } else { Severity::High },
        attributes: Vec::new(),
    })
}

/// Which of `KINDS`: a jailbreak plays a part or frees from limits, an indirect injection stands in
/// a longer text and speaks to the machine that reads it.
fn kind(text: &str, window: Window) -> usize {
    let has = |cue: Cue| window.cues & cue.bit() != 0;
    let outside = text.len() - (window.end - window.start);
    let played = has(Cue::Free) || (has(Cue::Role) && (has(Cue::Limit) || has(Cue::Mode)));
    match () {
        () if played => 1,
        () if outside >= DOCUMENT_BYTES_MIN && has(Cue::Assistant) => 2,
        () => 0,
    }
}

#[cfg(test)]
mod tests;
