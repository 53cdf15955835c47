//! Word and phrase lists from `params.lists`, compared after normalisation and case folding.

use std::sync::Arc;

use aho_corasick::AhoCorasick;

use super::fold::{Folded, fold};
use super::hit::{Hit, without_overlaps};
use super::params::{ParamFault, Params, label};
use crate::domain::category::Category;
use crate::domain::finding::Severity;

pub(super) struct Lists(Vec<List>);

struct List {
    words: AhoCorasick,
    whole_word: bool,
    category: Category,
    label: Arc<str>,
    score: f64,
    severity: Severity,
}

impl Lists {
    pub(super) fn prepare(params: &Params) -> Result<Self, ParamFault> {
        params.only(&["lists"])?;
        let lists = params.objects("lists")?;
        lists.iter().map(|(name, list)| List::read(name, list)).collect::<Result<_, _>>().map(Self)
    }

    pub(super) fn find(&self, text: &str) -> Vec<Hit> {
        let folded = Folded::new(text);
        self.0.iter().flat_map(|list| list.find(&folded)).collect()
    }
}

impl List {
    fn read(name: &str, params: &Params) -> Result<Self, ParamFault> {
        params.only(&["words", "phrases", "category", "severity", "score", "whole_word"])?;
        let mut words = params.strings("words")?;
        words.extend(params.strings("phrases")?);
        let words: Vec<String> = words.iter().map(|word| fold(word.trim()).collect()).collect();
        if words.is_empty() || words.iter().any(String::is_empty) {
            return Err(params.fault(
                "words",
                "holds no words or an empty one",
                "list words or phrases",
            ));
        }
        let words = AhoCorasick::new(&words)
            .map_err(|_| params.fault("words", "is too large", "split the list"))?;
        Ok(Self {
            words,
            whole_word: params.flag("whole_word", true)?,
            category: params.category()?,
            label: label(name),
            score: params.score("score", 1.0)?,
            severity: params.severity()?,
        })
    }

    /// Of words inside words, the longest.
    fn find(&self, folded: &Folded) -> Vec<Hit> {
        let text = folded.text.as_str();
        let found = self.words.find_overlapping_iter(text);
        let whole = found.filter(|m| !self.whole_word || stands_alone(text, m.start(), m.end()));
        without_overlaps(whole.map(|m| self.hit(folded.raw(m.start(), m.end()))).collect())
    }

    fn hit(&self, (start, end): (usize, usize)) -> Hit {
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

/// Whether no letter or digit of the same word touches the bytes `start..end`.
pub(super) fn stands_alone(text: &str, start: usize, end: usize) -> bool {
    let before = text.get(..start).and_then(|t| t.chars().next_back());
    let after = text.get(end..).and_then(|t| t.chars().next());
    !before.is_some_and(joins) && !after.is_some_and(joins)
}

/// Letters of scripts that put spaces between words; others have no word edges to ask for.
fn joins(c: char) -> bool {
    let unspaced = matches!(c, '\u{0E00}'..='\u{0EFF}' | '\u{1000}'..='\u{109F}' | '\u{1780}'..='\u{17FF}'
        | '\u{3040}'..='\u{30FF}' | '\u{3400}'..='\u{9FFF}' | '\u{20000}'..='\u{3FFFF}');
    (c.is_alphanumeric() || c == '_') && !unspaced
}
