//! What one call is about: pieces, their views, or excerpts of either, and the way back to the
//! characters that were sent.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use tokio::time::{Instant, timeout_at};

use super::Work;
use super::local::Pool;
use crate::catalog::Detector;
use crate::domain::chunk;
use crate::domain::content::Piece;
use crate::domain::finding::{Place, TextView};
use crate::domain::span::{OffsetUnit, Offsets, Span};
use crate::domain::view::{self, View};

/// Every view that is made.
const VIEWS: [TextView; 2] = [TextView::Normalized, TextView::Decoded];

/// One text to be judged.
pub(super) struct Excerpt<'a> {
    /// Index into the request's pieces.
    pub(super) piece: usize,
    /// Which form of the piece it was cut from: 0 is the raw text, then its views.
    pub(super) form: usize,
    view: Option<&'a View>,
    /// What of that form, in code points; `None` is all of it.
    part: Option<Span>,
    whole: &'a Arc<str>,
    text: &'a str,
    offsets: Index<'a>,
    native: Option<&'a OnceLock<Bytes>>,
}

/// Positions of a text: those of whole pieces are shared by all detectors.
enum Index<'a> {
    Shared(&'a OnceLock<Offsets>),
    Own(OnceLock<Offsets>),
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
    forms: Vec<Forms>,
}

#[derive(Default)]
struct Forms {
    offsets: OnceLock<Offsets>,
    native: OnceLock<Bytes>,
    views: OnceLock<Vec<View>>,
}

impl<'a> Texts<'a> {
    pub(super) fn new(work: &'a Work<'a>) -> Self {
        Self { work, forms: work.pieces.iter().map(|_| Forms::default()).collect() }
    }

    /// Makes the views of long texts on the pool's threads, so that the thread that serves does not
    /// stand still; what is not made by `deadline` is left out, and so are the detectors.
    pub(super) async fn view(&self, pool: &Pool, deadline: Instant) {
        for (piece, forms) in self.work.pieces.iter().zip(&self.forms) {
            let Some(text) = piece.text.as_ref().filter(|text| !pool.is_short(text)) else {
                continue;
            };
            let text = Arc::clone(text);
            let made = pool.off(self.work.request.priority, move || view::of(&text, &VIEWS));
            // A panic leaves them to be made, and to panic, where it was always caught.
            if let Some(made) = timeout_at(deadline, made).await.unwrap_or(Some(Vec::new())) {
                let _ = forms.views.set(made);
            }
        }
    }

    /// What `detector` is to judge of a piece: the views it wants, each cut to the length it takes.
    /// Nothing for a piece without text.
    ///
    /// The raw text is left out only where a normalised form stands for it.
    pub(super) fn excerpts(&self, piece: usize, detector: &Detector) -> Vec<Excerpt<'_>> {
        let (Some(Piece { text: Some(text), chars, .. }), Some(forms)) =
            (self.work.pieces.get(piece), self.forms.get(piece))
        else {
            return Vec::new();
        };
        let raw = Excerpt {
            piece,
            form: 0,
            view: None,
            part: None,
            whole: text,
            text,
            offsets: Index::Shared(&forms.offsets),
            native: Some(&forms.native),
        };
        if detector.views.iter().all(|view| *view == TextView::Raw) {
            return raw.cut(detector, *chars);
        }
        let views = forms.views.get_or_init(|| view::of(text, &VIEWS));
        let wanted = || views.iter().enumerate().filter(|(_, v)| detector.views.contains(&v.kind));
        let stood_for = wanted().any(|(_, view)| view.kind == TextView::Normalized);
        let mut excerpts = Vec::new();
        if detector.views.contains(&TextView::Raw) || !stood_for {
            excerpts.extend(raw.cut(detector, *chars));
        }
        for (index, view) in wanted() {
            let whole = Excerpt {
                piece,
                form: index + 1,
                view: Some(view),
                part: None,
                whole: &view.text,
                text: &view.text,
                offsets: Index::Own(OnceLock::new()),
                native: None,
            };
            excerpts.extend(whole.cut(detector, view.text.chars().count()));
        }
        excerpts
    }
}

impl<'a> Excerpt<'a> {
    /// Parts that the detector can take, `chars` being the length of this one.
    fn cut(self, detector: &Detector, chars: usize) -> Vec<Excerpt<'a>> {
        let Some(most) = detector.max_chars.filter(|most| chars > most.get()) else {
            return vec![self];
        };
        let positions = self.index();
        let byte = |point| positions.from_codepoint(point, OffsetUnit::Byte);
        let cut = |part: Span| Excerpt {
            piece: self.piece,
            form: self.form,
            view: self.view,
            part: Some(part),
            whole: self.whole,
            text: self.text.get(byte(part.start)..byte(part.end)).unwrap_or_default(),
            offsets: Index::Own(OnceLock::new()),
            native: None,
        };
        chunk::split(self.text, most, detector.chunks.overlap).into_iter().map(cut).collect()
    }

    pub(super) fn text(&self) -> &str {
        self.text
    }

    pub(super) fn shared(&self) -> Arc<str> {
        if self.part.is_none() { Arc::clone(self.whole) } else { self.text.into() }
    }

    /// The native body without parameters, made once for all detectors.
    pub(super) fn native(&self, make: impl FnOnce() -> Bytes) -> Bytes {
        match self.native {
            Some(shared) => shared.get_or_init(make).clone(),
            None => make(),
        }
    }

    /// The raw characters it was made from; `None` is the whole piece.
    pub(super) fn covers(&self) -> Option<Span> {
        let part = match (self.part, self.view) {
            (None, None) => return None,
            (Some(part), _) => part,
            (None, Some(_)) => Span { start: 0, end: self.index().chars() },
        };
        match self.view {
            Some(view) => view.to_raw(part),
            None => Some(part),
        }
    }

    /// The spot of `start..end`, counted in `unit` within this text; without positions the whole
    /// of it. `None` when only one position is given or the range is empty or outside.
    pub(super) fn spot(&self, range: (Option<u64>, Option<u64>), unit: OffsetUnit) -> Option<Spot> {
        let span = match range {
            (None, None) => None,
            (Some(start), Some(end)) => {
                let (start, end) = (usize::try_from(start).ok()?, usize::try_from(end).ok()?);
                Some(self.index().to_span(start, end, unit)?)
            }
            (Some(_), None) | (None, Some(_)) => return None,
        };
        self.spot_of(span)
    }

    /// The spot of a span in code points of this text; `None` when it lies outside.
    pub(super) fn spot_of(&self, span: Option<Span>) -> Option<Spot> {
        let from = self.part.map_or(0, |part| part.start);
        let span = match (span, self.view) {
            (None, _) => None,
            (Some(span), view) => {
                let moved = Span { start: from + span.start, end: from + span.end };
                Some(view.map_or(Some(moved), |view| view.to_raw(moved))?)
            }
        };
        let view = self.view.map(|view| view.kind);
        Some(Spot { place: Some(Place { piece: self.piece, span }), view })
    }

    fn index(&self) -> &Offsets {
        let cell = match &self.offsets {
            Index::Shared(shared) => shared,
            Index::Own(own) => own,
        };
        cell.get_or_init(|| Offsets::new(self.text))
    }
}
