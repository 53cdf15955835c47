//! Splits long text into overlapping ranges that a detector with a limit can take.

use std::num::NonZeroUsize;
use std::ops::RangeInclusive;

use unicode_segmentation::UnicodeSegmentation as _;

use super::span::Span;

#[cfg(test)]
mod tests;

/// How good a place is for a cut, in rising order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Cut {
    Never,
    Grapheme,
    Word,
    Sentence,
    Paragraph,
}

/// Splits `text` into ranges of at most `max` code points.
///
/// A range ends at the best boundary (paragraph, sentence, word, grapheme; of equals the last) in
/// the last quarter of its window, else at the last grapheme boundary; a grapheme is cut only when
/// it alone exceeds `max`. The next range begins at least `overlap` code points earlier, at a word
/// where one begins within an eighth of `max` before, so what is no longer than `overlap` lies whole
/// in one range; only graphemes longer than an eighth of `max` may leave less. An overlap beyond half
/// of `max` counts as half, so the work stays linear.
/// Starts and ends ascend strictly; every code point lies in a range; an empty text has none.
pub fn split(text: &str, max: NonZeroUsize, overlap: usize) -> Vec<Span> {
    let (len, max) = (text.chars().count(), max.get());
    if len == 0 {
        return Vec::new();
    }
    if len <= max {
        return vec![Span { start: 0, end: len }];
    }
    let cuts = cuts(text, len);
    let overlap = overlap.min(max / 2);
    let mut spans: Vec<Span> = Vec::with_capacity(len / (max - overlap) + 1);
    let (mut start, mut covered) = (0, 0);
    while covered < len {
        let end = match end_of(&cuts, start, covered, max) {
            Some(end) => end,
            // The grapheme that follows fits only without the overlap, or not at all.
            None if start < covered => {
                start = covered;
                continue;
            }
            None => start + max,
        };
        spans.push(Span { start, end });
        covered = end;
        start = match overlap {
            0 => end,
            _ => start_after(&cuts, start + 1..=end, end.saturating_sub(overlap), max / 8),
        };
    }
    spans
}

/// The end of the window that begins at `start`, beyond `covered`.
fn end_of(cuts: &[Cut], start: usize, covered: usize, max: usize) -> Option<usize> {
    let len = cuts.len() - 1;
    if len - start <= max {
        return Some(len);
    }
    let last = start + max;
    let at = |position: usize| cuts.get(position).copied().unwrap_or(Cut::Never);
    let best = ((covered + 1).max(last - max / 4)..=last).max_by_key(|&position| at(position));
    best.filter(|&position| at(position) > Cut::Never)
        .or_else(|| (covered + 1..=last).rev().find(|&position| at(position) > Cut::Never))
}

/// Where the next range begins, within `bounds`: the last word at or before `wanted` in reach, else
/// the last grapheme there, else the next one after.
fn start_after(cuts: &[Cut], bounds: RangeInclusive<usize>, wanted: usize, reach: usize) -> usize {
    let is = |position: usize, least: Cut| cuts.get(position).is_some_and(|&cut| cut >= least);
    let wanted = wanted.clamp(*bounds.start(), *bounds.end());
    let before = wanted.saturating_sub(reach).max(*bounds.start())..=wanted;
    let last = |least: Cut| before.clone().rev().find(|&position| is(position, least));
    let after = || (wanted..=*bounds.end()).find(|&position| is(position, Cut::Grapheme));
    last(Cut::Word).or_else(|| last(Cut::Grapheme)).or_else(after).unwrap_or(*bounds.end())
}

/// The rank of the place before each code point, and of the end.
fn cuts(text: &str, len: usize) -> Vec<Cut> {
    let mut cuts = vec![Cut::Never; len + 1];
    let mut mark = |parts: &mut dyn Iterator<Item = &str>, cut: Cut| {
        let mut at = 0;
        for part in parts {
            // A boundary inside a grapheme is none; words begin behind their blanks.
            let blank = cut == Cut::Word && part.starts_with(char::is_whitespace);
            if let Some(rank) = cuts.get_mut(at)
                && (cut == Cut::Grapheme || (*rank > Cut::Never && !blank))
            {
                *rank = cut;
            }
            at += part.chars().count();
        }
    };
    mark(&mut text.graphemes(true), Cut::Grapheme);
    mark(&mut text.split_word_bounds(), Cut::Word);
    mark(&mut text.split_sentence_bounds(), Cut::Sentence);
    mark(&mut paragraphs(text), Cut::Paragraph);
    if let Some(rank) = cuts.last_mut() {
        *rank = Cut::Paragraph;
    }
    cuts
}

/// Parts that each end with their blank lines.
fn paragraphs(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (mut end, mut blank) = (0, false);
        for line in rest.split_inclusive('\n') {
            let empty = line.trim().is_empty();
            if blank && !empty {
                break;
            }
            blank = empty;
            end += line.len();
        }
        let (part, after) = rest.split_at_checked(end).filter(|(part, _)| !part.is_empty())?;
        rest = after;
        Some(part)
    })
}
