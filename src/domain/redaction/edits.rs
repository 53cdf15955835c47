//! What a redaction replaced, so that the same body can be redacted again to the same bytes, whatever
//! has become of styles, rules and keys meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Redacted, is_arguments, json};
use crate::domain::content::{Body, ContentType, Judge};
use crate::domain::span::Span;

/// The replacements in one body. Holds nothing of it but positions.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Edits {
    /// Whether placeholders lead back to their originals.
    numbered: bool,
    /// By the pointer of the text, in order.
    texts: BTreeMap<String, Vec<Edit>>,
}

/// One replacement in a text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Edit {
    /// The bytes that go.
    bytes: Span,
    /// What stands there instead.
    put: String,
}

impl Edits {
    pub(super) fn new(numbered: bool) -> Self {
        Self { numbered, texts: BTreeMap::new() }
    }

    pub(super) fn insert(&mut self, pointer: &str, edits: Vec<Edit>) {
        self.texts.insert(pointer.to_owned(), edits);
    }

    /// Redacts `body`, which must be the one that was redacted before.
    pub fn apply(&self, body: &Body) -> Redacted {
        let mut originals = BTreeMap::new();
        let mut texts: BTreeMap<Arc<str>, Arc<str>> = BTreeMap::new();
        for piece in body.pieces(Judge::All, ContentType::Text) {
            let (Some(edits), Some(text)) = (self.texts.get(&*piece.pointer), &piece.text) else {
                continue;
            };
            let in_json = is_arguments(&piece) && json::is_valid(text);
            let mut draft = Draft::of(text);
            for Edit { bytes, put } in edits {
                let original = text.get(bytes.start..bytes.end).unwrap_or_default();
                if self.numbered && !original.is_empty() {
                    let said = || json::decoded(original);
                    let original = if in_json { said() } else { original.to_owned() };
                    originals.insert(put.trim_matches('"').to_owned(), original);
                }
                draft.replace(*bytes, |out| out.push_str(put));
            }
            texts.insert(piece.pointer, draft.finish().0.into());
        }
        Redacted {
            body: body.with_texts(&|pointer| texts.get(pointer).cloned()),
            originals: self.numbered.then_some(originals),
            edits: None,
        }
    }
}

/// A text on its way into its redacted copy.
pub(super) struct Draft<'t> {
    text: &'t str,
    out: String,
    /// Bytes of the text that are copied or replaced.
    done: usize,
    /// What was replaced, where that is asked for.
    edits: Option<Vec<Edit>>,
}

impl<'t> Draft<'t> {
    pub(super) fn of(text: &'t str) -> Self {
        Self { text, out: String::with_capacity(text.len()), done: 0, edits: None }
    }

    /// One that keeps what is replaced.
    pub(super) fn remembering(text: &'t str) -> Self {
        Self { edits: Some(Vec::new()), ..Self::of(text) }
    }

    /// Copies up to `end`; how long the copy is then.
    pub(super) fn keep_to(&mut self, end: usize) -> usize {
        self.out.push_str(self.text.get(self.done..end).unwrap_or_default());
        self.done = self.done.max(end);
        self.out.len()
    }

    /// Writes what `put` appends in the place of `bytes`, which lie behind all that was done.
    pub(super) fn replace(&mut self, bytes: Span, put: impl FnOnce(&mut String)) {
        let before = self.keep_to(bytes.start);
        put(&mut self.out);
        if let Some(edits) = &mut self.edits {
            let put = self.out.get(before..).unwrap_or_default().to_owned();
            edits.push(Edit { bytes, put });
        }
        self.done = bytes.end;
    }

    /// The copy from `start` on, which [`Draft::keep_to`] told.
    pub(super) fn since(&self, start: usize) -> &str {
        self.out.get(start..).unwrap_or_default()
    }

    pub(super) fn finish(mut self) -> (String, Option<Vec<Edit>>) {
        self.keep_to(self.text.len());
        (self.out, self.edits)
    }
}
