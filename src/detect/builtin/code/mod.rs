//! Whether a text holds code, shell commands or SQL, where, and in which language.
//!
//! Fenced blocks are taken at their word; other code is found by what its lines look like.

use std::collections::BTreeMap;
use std::ops::Range;

use super::hit::Hit;
use super::params::{ParamFault, Params};
use crate::domain::category::{Category, covers};
use crate::domain::finding::Severity;

mod rules;

use rules::{ANY, Tongue};

const CATEGORIES: &[&str] = &["code", "code.script", "code.shell", "code.sql"];
/// Bytes of a line that are looked at.
const LINE_BYTES_MAX: usize = 400;
/// Empty lines that may stand inside one piece of code.
const BLANKS_MAX: usize = 2;

pub(super) struct Code {
    categories: Vec<&'static str>,
}

/// Lines of code in a row.
#[derive(Default)]
struct Run {
    bytes: Range<usize>,
    weights: BTreeMap<Tongue, u32>,
    /// Lines that a rule names.
    lines: usize,
    heaviest: u32,
    blanks: usize,
}

impl Code {
    pub(super) fn prepare(params: &Params) -> Result<Self, ParamFault> {
        params.only(&["categories"])?;
        // Compiled at load, not in a request.
        rules::weigh("").count();
        Ok(Self { categories: params.choice("categories", CATEGORIES)? })
    }

    pub(super) fn find(&self, text: &str) -> Vec<Hit> {
        let (mut found, mut run, mut fence) = (Vec::new(), Run::default(), None);
        let mut at = 0;
        for line in text.split_inclusive('\n') {
            let start = at;
            at += line.len();
            match fence.take() {
                None => match Fence::opened(line) {
                    Some(opened) => {
                        found.extend(std::mem::take(&mut run).end());
                        fence = Some((opened, at..at, Run::default()));
                    }
                    None => found.extend(run.take(line, start)),
                },
                Some((open, block, inside)) if open.is_closed_by(line) => {
                    found.extend(fenced(&open, block, inside));
                }
                Some((open, block, mut inside)) => {
                    inside.weigh(line.trim());
                    fence = Some((open, block.start..at, inside));
                }
            }
        }
        found.extend(run.end());
        found.extend(fence.and_then(|(open, block, inside)| fenced(&open, block, inside)));
        found.into_iter().filter_map(|found| self.hit(text, found)).collect()
    }

    fn hit(&self, text: &str, (bytes, tongue, score): (Range<usize>, Tongue, f64)) -> Option<Hit> {
        let Tongue(language, category) = tongue;
        let wanted = self.categories.iter().any(|name| covers(name, category));
        // A block ends where its last line does, not behind its line break.
        let block = text.get(bytes.clone()).filter(|_| wanted)?.trim_end();
        (!block.is_empty()).then_some(())?;
        Some(Hit {
            start: bytes.start,
            end: bytes.start + block.len(),
            category: Category::parse(category).ok()?,
            label: category.trim_start_matches("code.").to_ascii_uppercase().into(),
            score,
            severity: Severity::Low,
            attributes: vec![("language", language.to_owned())],
        })
    }
}

type Found = (Range<usize>, Tongue, f64);

impl Run {
    /// Takes the line in, or ends with what came before it.
    fn take(&mut self, line: &str, start: usize) -> Option<Found> {
        let trimmed = line.trim();
        if self.weigh(trimmed) {
            let from = if self.lines == 1 { start + indent(line) } else { self.bytes.start };
            self.bytes = from..start + line.len();
            self.blanks = 0;
            return None;
        }
        self.blanks = if trimmed.is_empty() { self.blanks + 1 } else { 0 };
        let held = trimmed.is_empty() || indent(line) >= 2 || is_filler(trimmed);
        if self.lines > 0 && held && self.blanks <= BLANKS_MAX {
            return None;
        }
        std::mem::take(self).end()
    }

    /// Counts the line; false when no rule names it.
    fn weigh(&mut self, line: &str) -> bool {
        let head = line.get(..LINE_BYTES_MAX).unwrap_or_else(|| {
            let end =
                (0..=LINE_BYTES_MAX.min(line.len())).rev().find(|at| line.is_char_boundary(*at));
            line.get(..end.unwrap_or(0)).unwrap_or_default()
        });
        let mut best = 0;
        for (tongue, weight) in rules::weigh(head) {
            *self.weights.entry(tongue).or_default() += weight;
            best = best.max(weight);
        }
        self.lines += usize::from(best > 0);
        self.heaviest = self.heaviest.max(best);
        best > 0
    }

    /// The language with the most weight; the general rules count for none.
    fn tongue(&self) -> Tongue {
        let named = self.weights.iter().filter(|(tongue, _)| **tongue != ANY);
        named.max_by_key(|(_, weight)| **weight).map_or(ANY, |(tongue, _)| *tongue)
    }

    fn end(self) -> Option<Found> {
        let total: u32 = self.weights.values().sum();
        let score = match (self.heaviest, total, self.lines) {
            (2.., 8.., 3..) => 0.95,
            (2.., 4.., 2..) => 0.85,
            (3.., _, _) => 0.75,
            (2.., _, _) => 0.6,
            (1, 5.., 4..) => 0.55,
            (_, _, _) => return None,
        };
        Some((self.bytes.clone(), self.tongue(), score))
    }
}

/// What stands between lines of code: comments, brackets.
fn is_filler(line: &str) -> bool {
    ["//", "/*", "*/", "* ", "--"].iter().any(|mark| line.starts_with(mark))
        || line.chars().all(|c| c.is_ascii_punctuation())
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start_matches([' ', '\t']).len()
}

/// The opening line of a fenced block.
struct Fence<'a> {
    mark: char,
    length: usize,
    tag: &'a str,
}

impl<'a> Fence<'a> {
    fn opened(line: &'a str) -> Option<Self> {
        let line = line.trim();
        let mark = line.chars().next().filter(|c| ['`', '~'].contains(c))?;
        let rest = line.trim_start_matches(mark);
        let length = line.len() - rest.len();
        let tag = rest.trim().split([' ', ',', '{']).next().unwrap_or_default();
        (length >= 3 && !rest.contains(mark)).then_some(Self { mark, length, tag })
    }

    fn is_closed_by(&self, line: &str) -> bool {
        let line = line.trim();
        line.len() >= self.length && line.chars().all(|c| c == self.mark)
    }
}

/// What a fenced block is: what its tag says, else what its lines look like.
fn fenced(fence: &Fence<'_>, block: Range<usize>, inside: Run) -> Option<Found> {
    let tag = fence.tag.to_ascii_lowercase();
    if tag.is_empty() {
        let score = if inside.heaviest > 1 { 0.9 } else { 0.6 };
        return Some((block, inside.tongue(), score));
    }
    let tongue = rules::tagged(&tag)?;
    let tongue = if tongue == ANY { inside.tongue() } else { tongue };
    Some((block, tongue, 0.95))
}

#[cfg(test)]
mod tests;
