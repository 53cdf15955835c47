//! Orders that a text gives to a language model against its operator: a linear model over what
//! `features` sees, trained by `bench-quality train-injection`. It knows forms of speech, not what is
//! meant: who quotes an attack may be taken for an attacker.

use std::sync::LazyLock;

use super::hit::{Hit, without_overlaps};
use super::params::{ParamFault, Params};
use crate::domain::category::Category;
use crate::domain::finding::Severity;

mod cues;
pub mod features;
pub mod model;

use cues::Cue;
use model::{Model, Window};

/// Bytes around the hottest window from which on it is an order inside somebody's document.
const DOCUMENT_BYTES_MIN: usize = 400;
/// Findings of one text; the hottest stay.
const FINDINGS_MAX: usize = 16;

/// The detector: below which probability it says nothing.
pub(super) struct Injection {
    min_score: f64,
}

impl Injection {
    pub(super) fn prepare(params: &Params) -> Result<Self, ParamFault> {
        params.only(&["min_score"])?;
        LazyLock::force(&KINDS);
        Ok(Self { min_score: params.score("min_score", 0.3)? })
    }

    pub(super) fn find(&self, text: &str) -> Vec<Hit> {
        let Some(model) = Model::shipped() else { return Vec::new() };
        let windows = model.windows(text).into_iter();
        let hits = windows.filter_map(|window| {
            let score = model.probability(window.margin);
            if score < self.min_score { None } else { hit(text, window, score) }
        });
        let mut hits = without_overlaps(hits.collect());
        hits.sort_by(|a, b| b.score.total_cmp(&a.score));
        hits.truncate(FINDINGS_MAX);
        hits
    }
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

fn hit(text: &str, window: Window, score: f64) -> Option<Hit> {
    let (category, label) = KINDS.get(kind(text, window))?.clone();
    Some(Hit {
        start: window.start,
        end: window.end,
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
