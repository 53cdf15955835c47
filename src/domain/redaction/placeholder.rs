//! What stands in the place of an original, in every style.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};

use super::Style;

/// What mask puts, so that no length is told.
const MASK: &str = "******";
/// Longest word in brackets, in characters.
const WORD_MAX: usize = 40;

/// The placeholders of one answer.
pub struct Placeholders<'a> {
    style: Style,
    hash: &'a dyn Fn(&str) -> [u8; 32],
    /// Numbers that the texts already hold at the end of a bracket.
    avoided: HashSet<usize>,
    /// The numbers in use, ascending; every label takes them in this order.
    numbers: Vec<usize>,
    /// Label → original → index into `numbers`.
    given: HashMap<String, HashMap<String, usize>>,
}

impl<'a> Placeholders<'a> {
    /// None given yet. `hash` is a keyed hash, asked under [`Style::Hash`] only.
    pub fn new(style: Style, hash: &'a dyn Fn(&str) -> [u8; 32]) -> Self {
        let given = HashMap::new();
        Self { style, hash, avoided: HashSet::new(), numbers: Vec::new(), given }
    }

    /// Never gives a numbered placeholder that stands in `text`: a number that follows `_` and
    /// precedes `]` there is skipped for all labels.
    pub fn avoid(&mut self, text: &str) {
        for (end, _) in text.match_indices(']') {
            let before = text.get(..end).unwrap_or_default();
            let rest = before.trim_end_matches(|c: char| c.is_ascii_digit());
            let number = before.get(rest.len()..).and_then(|digits| digits.parse().ok());
            if let Some(number) = number.filter(|_| rest.ends_with('_')) {
                self.avoided.insert(number);
            }
        }
    }

    /// Appends what stands for `original`.
    pub fn put(&mut self, label: &str, original: &str, out: &mut String) {
        let label = &word(label);
        match self.style {
            Style::Label => out.extend(["[", label, "]"]),
            Style::Numbered => {
                let number = self.number(label, original);
                out.push_str(&numbered(label, number));
            }
            Style::Mask => out.push_str(MASK),
            Style::Hash => {
                out.extend(["[", label, ":", &digits(&(self.hash)(original)), "]"]);
            }
            Style::Preserve => {
                let kept = |c: char| if c.is_whitespace() { c } else { '*' };
                out.extend(original.chars().map(kept));
            }
        }
    }

    /// Placeholder → original; `None` unless the style is numbered.
    pub fn into_originals(self) -> Option<BTreeMap<String, String>> {
        let Self { style, numbers, given, .. } = self;
        let placeholder = |label: &str, index: usize| {
            let number = numbers.get(index).copied().unwrap_or_default();
            numbered(label, number)
        };
        let all = given.into_iter().flat_map(|(label, originals)| {
            let named = |(original, index)| (placeholder(&label, index), original);
            originals.into_iter().map(named).collect::<Vec<_>>()
        });
        (style == Style::Numbered).then(|| all.collect())
    }

    fn number(&mut self, label: &str, original: &str) -> usize {
        let known = self.given.get(label).and_then(|originals| originals.get(original));
        let index = known.copied().unwrap_or_else(|| {
            let originals = self.given.entry(label.to_owned()).or_default();
            let next = originals.len();
            originals.insert(original.to_owned(), next);
            next
        });
        while self.numbers.len() <= index {
            let after = self.numbers.last().map_or(1, |last| last + 1);
            let free = (after..).find(|number| !self.avoided.contains(number));
            self.numbers.push(free.unwrap_or(after));
        }
        self.numbers.get(index).copied().unwrap_or_default()
    }
}

/// The first 8 hexadecimal digits; the next 8 where those hold no letter, so that no detector takes
/// them for a number.
fn digits(hash: &[u8; 32]) -> String {
    let mut groups = hash.chunks(4).map(hex::encode);
    let letters = |group: &String| group.contains(|c: char| c.is_ascii_alphabetic());
    groups.find(letters).unwrap_or_else(|| hex::encode([0xff; 4]))
}

/// A detector's label as one word that cannot leave its brackets; `FOUND` where nothing is left.
fn word(label: &str) -> Cow<'_, str> {
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | ':' | '/');
    if !label.is_empty() && label.len() <= WORD_MAX && label.chars().all(plain) {
        return label.into();
    }
    let word: String =
        label.chars().take(WORD_MAX).map(|c| if plain(c) { c } else { '_' }).collect();
    if word.is_empty() { "FOUND".into() } else { word.into() }
}

fn numbered(label: &str, number: usize) -> String {
    format!("[{label}_{number}]")
}
