//! The key `chunks` of a detector file: how texts over `max_chars` are cut.

use std::num::NonZeroUsize;

use serde::Deserialize;

use super::detector::Chunks;
use super::detector_file::in_range;
use crate::yaml::Fields;

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ChunksEntry {
    overlap: Option<usize>,
    max: Option<usize>,
}

/// Parts of one request's texts that one detector is asked about, unless its file says otherwise.
const CHUNKS_MAX: usize = 64;

/// A tenth of the length is shared by neighbours, at most 200 characters.
pub(super) fn read(fields: &mut Fields<'_>, max_chars: Option<NonZeroUsize>) -> Chunks {
    let entry: Option<ChunksEntry> = fields.take("chunks");
    let Some(most) = max_chars.map(NonZeroUsize::get) else {
        if entry.is_some() {
            let message = "`chunks` says how to cut, but nothing says when".to_owned();
            fields.refuse("chunks", "bad_value", message, "add `max_chars:` or remove `chunks:`");
        }
        return Chunks { overlap: 0, max: CHUNKS_MAX };
    };
    let entry = entry.unwrap_or_default();
    let overlap = entry.overlap.unwrap_or((most / 10).min(200));
    in_range(fields, "/chunks/overlap", overlap as f64, (0.0, (most / 2) as f64));
    let max = entry.max.unwrap_or(CHUNKS_MAX);
    in_range(fields, "/chunks/max", max as f64, (1.0, 10_000.0));
    Chunks { overlap, max }
}
