//! Signed tokens (JWT) that only decoding has shown: `eyJ….eyJ….…`.
//!
//! Their parts are base64 themselves: the next round would read them and leave nothing to find the
//! token by. Such a token stays, and what its parts say follows it; each character of both is made
//! from the whole token's. One that stands in the raw text as it is needs no such care.

use std::ops::Range;

use super::{Unit, blobs};

/// The least characters of header, claims and signature.
const PARTS_MIN: [usize; 3] = [16, 16, 8];

/// The text with its base64 and hex read, and such tokens kept.
pub(super) fn decode(units: &[Unit]) -> Option<Vec<Unit>> {
    let tokens = tokens(units);
    if tokens.is_empty() {
        return blobs::decode(units);
    }
    let (mut out, mut changed, mut at) = (Vec::with_capacity(units.len()), false, 0);
    let mut between = |part: &[Unit], out: &mut Vec<Unit>| {
        let read = blobs::decode(part);
        changed |= read.is_some();
        out.extend(read.unwrap_or_else(|| part.to_vec()));
    };
    for token in tokens {
        between(units.get(at..token.start).unwrap_or_default(), &mut out);
        let whole = units.get(token.clone()).unwrap_or_default();
        if whole.first().zip(whole.last()).is_some_and(|(a, b)| a.end == b.end) {
            out.extend_from_slice(whole);
        } else {
            let mut said = vec![];
            between(whole, &mut said);
            let from = |c| Unit::made(c, whole);
            let all = whole.iter().map(|unit| unit.c).chain([' ']);
            out.extend(all.chain(said.iter().map(|unit| unit.c)).filter_map(from));
        }
        at = token.end;
    }
    between(units.get(at..).unwrap_or_default(), &mut out);
    changed.then_some(out)
}

/// The tokens of which some character was made from more than one.
fn tokens(units: &[Unit]) -> Vec<Range<usize>> {
    let (mut found, mut at) = (Vec::new(), 0);
    while let Some(rest) = units.get(at..).filter(|rest| !rest.is_empty()) {
        // A token begins where a run does, so each run is looked at three times at most.
        let run = rest.iter().take_while(|unit| is_part(unit.c)).count();
        let length = length(rest)
            .filter(|length| rest.iter().take(*length).any(|unit| unit.end - unit.start > 1));
        found.extend(length.map(|length| at..at + length));
        at += length.unwrap_or(run.max(1));
    }
    found
}

fn length(rest: &[Unit]) -> Option<usize> {
    if !rest.iter().map(|unit| unit.c).take(3).eq("eyJ".chars()) {
        return None;
    }
    let mut end = 0;
    for (place, least) in PARTS_MIN.iter().enumerate() {
        if place > 0 {
            rest.get(end).filter(|unit| unit.c == '.')?;
            end += 1;
        }
        let part = rest.get(end..)?.iter().take_while(|unit| is_part(unit.c)).count();
        if part < *least {
            return None;
        }
        end += part;
    }
    Some(end)
}

fn is_part(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_')
}
