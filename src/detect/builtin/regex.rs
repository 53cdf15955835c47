//! Named patterns from `params.patterns`: linear time, limited in number, length and compiled size.

use std::sync::Arc;

use ::regex::{Regex, RegexBuilder};

use super::hit::Hit;
use super::params::{ParamFault, Params, label};
use crate::domain::category::Category;
use crate::domain::finding::Severity;

/// After so many matches of one pattern the rest of the text is one finding: nothing slips
/// through, and a text made to match everywhere costs no more.
const MATCHES_MAX: usize = 1000;
const COMPILED_BYTES_MAX: usize = 1 << 20;

pub(super) struct Patterns(Vec<Pattern>);

struct Pattern {
    regex: Regex,
    group: usize,
    category: Category,
    label: Arc<str>,
    score: f64,
    severity: Severity,
}

impl Patterns {
    pub(super) fn prepare(params: &Params) -> Result<Self, ParamFault> {
        params.only(&["patterns"])?;
        let patterns = params.objects("patterns")?;
        patterns
            .iter()
            .map(|(name, pattern)| Pattern::read(name, pattern))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    pub(super) fn find(&self, text: &str) -> Vec<Hit> {
        self.0.iter().flat_map(|pattern| pattern.find(text)).collect()
    }
}

impl Pattern {
    fn read(name: &str, params: &Params) -> Result<Self, ParamFault> {
        params.only(&["pattern", "category", "severity", "score", "group"])?;
        let source = params.text("pattern")?;
        if source.chars().count() > 1000 {
            return Err(params.fault("pattern", "is longer than 1000 characters", "split it"));
        }
        let regex = RegexBuilder::new(source)
            .size_limit(COMPILED_BYTES_MAX)
            .build()
            .map_err(|error| params.fault("pattern", &reason(&error), "correct the pattern"))?;
        let group = params.index("group")?;
        if group >= regex.captures_len() {
            return Err(params.fault(
                "group",
                "names a group that the pattern does not have",
                "count its parentheses",
            ));
        }
        Ok(Self {
            regex,
            group,
            category: params.category()?,
            label: label(name),
            score: params.score("score", 1.0)?,
            severity: params.severity()?,
        })
    }

    fn find(&self, text: &str) -> Vec<Hit> {
        let mut hits = Vec::new();
        for whole in self.regex.find_iter(text) {
            if hits.len() == MATCHES_MAX {
                hits.push(self.hit(whole.start(), text.len()));
                break;
            }
            let (start, end) = self.place(text, whole);
            if start < end {
                hits.push(self.hit(start, end));
            }
        }
        hits
    }

    fn place(&self, text: &str, whole: ::regex::Match<'_>) -> (usize, usize) {
        let groups =
            (self.group > 0).then(|| self.regex.captures_at(text, whole.start())).flatten();
        let found = groups.and_then(|groups| groups.get(self.group));
        found.map_or((whole.start(), whole.end()), |found| (found.start(), found.end()))
    }

    fn hit(&self, start: usize, end: usize) -> Hit {
        Hit {
            start,
            end,
            category: self.category.clone(),
            label: self.label.clone(),
            score: self.score,
            severity: self.severity,
            attributes: Vec::new(),
        }
    }
}

/// The parser's message with its caret turned into a column.
fn reason(error: &::regex::Error) -> String {
    let text = error.to_string();
    let caret = text.lines().find(|line| line.trim_start().starts_with('^'));
    let column = caret.and_then(|line| line.find('^')).map(|at| at.saturating_sub(3));
    let message = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
    match column {
        Some(column) => format!("{message} at column {column}"),
        None => message.to_owned(),
    }
}
