//! What one call is about: judged pieces or excerpts of them, and the way back to their characters.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::domain::finding::{Place, TextView};
use crate::domain::span::{OffsetUnit, Offsets, Span};

use super::Work;

/// One text to be judged: a piece as sent.
pub(super) struct Excerpt<'a> {
    /// Index into the request's pieces.
    pub(super) piece: usize,
    text: &'a Arc<str>,
    offsets: &'a OnceLock<Offsets>,
    native: Option<&'a OnceLock<Bytes>>,
}

/// Where something lies that a reply speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spot {
    /// `None` speaks of the whole request.
    pub(super) place: Option<Place>,
    /// `None` is the raw text.
    pub(super) view: Option<TextView>,
}

/// The texts of one fan-out, with what is made of them at most once.
pub(super) struct Texts<'a> {
    pub(super) work: &'a Work<'a>,
    offsets: Vec<OnceLock<Offsets>>,
    native: Vec<OnceLock<Bytes>>,
}

impl<'a> Texts<'a> {
    pub(super) fn new(work: &'a Work<'a>) -> Self {
        Self {
            work,
            offsets: work.pieces.iter().map(|_| OnceLock::new()).collect(),
            native: work.pieces.iter().map(|_| OnceLock::new()).collect(),
        }
    }

    /// The whole piece as sent; `None` for one without text.
    pub(super) fn whole(&self, piece: usize) -> Option<Excerpt<'_>> {
        let text = self.work.pieces.get(piece)?.text.as_ref()?;
        let (offsets, native) = (self.offsets.get(piece)?, self.native.get(piece));
        Some(Excerpt { piece, text, offsets, native })
    }
}

impl Excerpt<'_> {
    pub(super) fn text(&self) -> &str {
        self.text
    }

    /// The native body without parameters, made once for all detectors.
    pub(super) fn native(&self, make: impl FnOnce() -> Bytes) -> Bytes {
        match self.native {
            Some(shared) => shared.get_or_init(make).clone(),
            None => make(),
        }
    }

    pub(super) fn shared(&self) -> Arc<str> {
        Arc::clone(self.text)
    }

    /// The spot of `start..end`, counted in `unit` within this text; without positions the whole
    /// of it. `None` when only one position is given or the range is empty or outside.
    pub(super) fn spot(&self, range: (Option<u64>, Option<u64>), unit: OffsetUnit) -> Option<Spot> {
        let span = match range {
            (None, None) => None,
            (Some(start), Some(end)) => {
                let offsets = self.offsets.get_or_init(|| Offsets::new(self.text));
                let (start, end) = (usize::try_from(start).ok()?, usize::try_from(end).ok()?);
                Some(offsets.to_span(start, end, unit)?)
            }
            (Some(_), None) | (None, Some(_)) => return None,
        };
        self.spot_of(span)
    }

    /// The spot of a span in code points of this text.
    pub(super) fn spot_of(&self, span: Option<Span>) -> Option<Spot> {
        Some(Spot { place: Some(Place { piece: self.piece, span }), view: None })
    }
}
