//! What of a request a detector can judge.

use super::excerpt::{Excerpt, Texts};
use super::{Work, protocol};
use crate::catalog::Detector;
use crate::domain::report::{Gap, ReportError};
use crate::domain::request::Request;

/// What a detector is to be asked about.
pub(super) struct Fit<'a> {
    /// Raw texts first, never empty.
    pub(super) excerpts: Vec<Excerpt<'a>>,
    /// Whether a piece is asked about in several parts or views.
    pub(super) several: bool,
    /// More than its file allows for one request.
    pub(super) late: Vec<Excerpt<'a>>,
    /// Pieces it cannot judge.
    pub(super) gaps: Vec<Gap>,
}

/// Chooses what `detector` can judge; else why there is nothing, for people.
pub(super) fn fit<'a>(detector: &Detector, texts: &'a Texts<'_>) -> Result<Fit<'a>, &'static str> {
    let Work { request, pieces, .. } = texts.work;
    suits(detector, request)?;
    protocol::suits(detector, request)?;
    let (mut excerpts, mut gaps) = (Vec::with_capacity(pieces.len()), Vec::new());
    let mut several = false;
    for (index, piece) in pieces.iter().enumerate() {
        if piece.text.is_some() && detector.types.contains(&piece.content_type) {
            let before = excerpts.len();
            excerpts.extend(texts.excerpts(index, detector));
            several |= excerpts.len() > before + 1;
        } else {
            let reason = ReportError::UnsupportedContentType;
            gaps.push(Gap { piece: index, span: None, chars: piece.chars, reason });
        }
    }
    if excerpts.is_empty() {
        return Err("the detector judges no content of this type");
    }
    let mut late = Vec::new();
    if detector.max_chars.is_some() && excerpts.len() > detector.chunks.max {
        // Views are extra; the raw text of every piece goes first.
        excerpts.sort_by_key(|excerpt| excerpt.form > 0);
        late = excerpts.split_off(detector.chunks.max);
    }
    Ok(Fit { excerpts, several, late, gaps })
}

/// Whether it judges this direction and this language.
fn suits(detector: &Detector, request: &Request) -> Result<(), &'static str> {
    let primary = |tag: &str| tag.split(['-', '_']).next().map(str::to_ascii_lowercase);
    let language = |wanted: &String| {
        request.language.as_deref().is_none_or(|given| primary(given) == primary(wanted))
    };
    if !detector.directions.is_empty() && !detector.directions.contains(&request.direction) {
        return Err("the detector does not judge this direction");
    }
    if !detector.languages.is_empty() && !detector.languages.iter().any(language) {
        return Err("the detector does not judge this language");
    }
    Ok(())
}
