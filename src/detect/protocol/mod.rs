//! The wire protocols: what is sent for a piece, and what a reply means. Every reply is untrusted.

use std::sync::Arc;

use ::http::Uri;
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::catalog::Detector;
use crate::catalog::detector::Protocol;
use crate::detect::excerpt::{Excerpt, Spot, Texts};
use crate::detect::{Judged, label};
use crate::domain::finding::{Finding, Polarity, Severity};

mod fms;
mod http;
mod native;

const DEPTH_MAX: usize = 32;
const FINDINGS_MAX: usize = 10_000;

/// The reply breaks the protocol or a bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bad;

/// Where calls go: the endpoint, with the protocol's path appended where it has one.
pub(super) fn target(detector: &Detector) -> Option<Uri> {
    let uri = &detector.endpoint.as_ref()?.uri;
    match detector.protocol {
        Protocol::Builtin(_) => None,
        Protocol::Native | Protocol::Http(_) => Some(uri.clone()),
        Protocol::Fms => {
            let mut parts = uri.clone().into_parts();
            let path = format!("{}{}", uri.path().trim_end_matches('/'), fms::PATH);
            parts.path_and_query = Some(path.parse().ok()?);
            Uri::from_parts(parts).ok()
        }
    }
}

/// The calls that `pieces` need: one for all where the protocol takes a list.
pub(super) fn batches<'a>(
    detector: &Detector,
    excerpts: Vec<Excerpt<'a>>,
) -> Vec<Vec<Excerpt<'a>>> {
    match detector.protocol {
        Protocol::Fms => vec![excerpts],
        Protocol::Native | Protocol::Http(_) | Protocol::Builtin(_) => {
            excerpts.into_iter().map(|excerpt| vec![excerpt]).collect()
        }
    }
}

/// The body of one call.
pub(super) fn body(
    detector: &Detector,
    params: &Value,
    texts: &Texts<'_>,
    batch: &[Excerpt<'_>],
) -> Bytes {
    let Some(first) = batch.first() else { return Bytes::new() };
    match &detector.protocol {
        Protocol::Builtin(_) => Bytes::new(),
        Protocol::Fms => fms::body(params, batch),
        Protocol::Native => native::body(params, texts, first),
        Protocol::Http(mapping) => http::body(mapping, texts, first),
    }
}

/// What the body of a 2xx says.
pub(super) fn read(
    detector: &Detector,
    batch: &[Excerpt<'_>],
    reply: &[u8],
) -> Result<Judged, Bad> {
    if too_deep(reply) {
        return Err(Bad);
    }
    let first = batch.first().ok_or(Bad)?;
    let judged = match &detector.protocol {
        Protocol::Builtin(_) => Err(Bad),
        Protocol::Fms => fms::read(detector, batch, reply),
        Protocol::Native => native::read(detector, first, reply),
        Protocol::Http(mapping) => http::read(detector, mapping, first, reply),
    }?;
    if judged.findings.len() > FINDINGS_MAX { Err(Bad) } else { Ok(judged) }
}

fn parse<T: DeserializeOwned>(reply: &[u8]) -> Result<T, Bad> {
    serde_json::from_slice(reply).map_err(|_| Bad)
}

/// Whether brackets outside strings nest deeper than allowed; looks at bytes, parses nothing.
fn too_deep(reply: &[u8]) -> bool {
    let (mut depth, mut quoted, mut escaped) = (0usize, false, false);
    for byte in reply {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'[' | b'{' if !quoted => depth += 1,
            b']' | b'}' if !quoted => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEPTH_MAX {
            return true;
        }
    }
    false
}

fn probability(score: f64) -> Result<f64, Bad> {
    if (0.0..=1.0).contains(&score) { Ok(score) } else { Err(Bad) }
}

/// One thing a reply says, before its word is understood.
struct Said<'a> {
    label: &'a str,
    category: Option<&'a str>,
    severity: Option<Severity>,
    score: f64,
    spot: Spot,
}

impl Said<'_> {
    /// A finding, unless the word speaks for the content.
    fn finding(self, detector: &Detector) -> Option<Finding> {
        let meaning = label::meaning(detector, self.label, self.category);
        if meaning.polarity == Polarity::Negative {
            return None;
        }
        let known = detector.labels.contains_key(self.label);
        Some(Finding {
            category: meaning.category?,
            label: label::clean(self.label),
            score: self.score,
            severity: self.severity.filter(|_| !known).unwrap_or(meaning.severity),
            place: self.spot.place,
            view: self.spot.view,
            attributes: std::collections::BTreeMap::new(),
        })
    }
}

fn to_bytes(value: &impl serde::Serialize) -> Bytes {
    // Maps with text keys and finite numbers always serialise.
    serde_json::to_vec(value).unwrap_or_default().into()
}

fn own_label(label: Option<&str>) -> Option<Arc<str>> {
    label.map(label::clean)
}
