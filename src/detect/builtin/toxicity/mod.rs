//! Profanity, insults, slurs and threats by lexicon (`rustrict`), which sees through leetspeak,
//! spacing, accents and look-alike letters. Mostly English; it never understands what is meant.

use std::ops::Range;

use aho_corasick::{AhoCorasick, MatchKind};
use finl_unicode::categories::{CharacterCategories as _, MinorCategory};
use rustrict::{Censor, Type};
use unicode_normalization::UnicodeNormalization as _;

use super::fold::{Folded, fold};
use super::hit::{Hit, widen, without_overlaps};
use super::keywords::stands_alone;
use super::params::{ParamFault, Params};
use super::stretch;
use crate::domain::category::{Category, covers};
use crate::domain::finding::Severity;

mod phrases;
mod weigh;
mod words;

const CATEGORIES: &[&str] = &[
    "hate",
    "hate.identity",
    "sexual",
    "toxicity",
    "toxicity.insult",
    "toxicity.obscene",
    "toxicity.profanity",
    "toxicity.severe",
    "toxicity.threat",
];

/// Written by the lexicon over what it found; it drops this character from what it reads.
const FOUND: char = '\u{E000}';

const WINDOW_BYTES: usize = 2048;
/// Longer than what is found across several words.
const OVERLAP_BYTES: usize = 256;

pub(super) struct Toxicity {
    categories: Vec<&'static str>,
    min_severity: Severity,
    allow: Words,
    deny: Option<Words>,
    named: Named,
}

/// What a stretch of text is: category and severity.
type Class = (&'static str, Severity);

impl Toxicity {
    pub(super) fn prepare(params: &Params) -> Result<Self, ParamFault> {
        params.only(&["categories", "allow", "deny", "min_severity"])?;
        let allow = params.strings("allow")?;
        let allow = words::ALLOWED.iter().copied().chain(allow.iter().map(String::as_str));
        let deny = params.strings("deny")?;
        let large = |key| params.fault(key, "is too large", "shorten the list");
        let deny = match deny.is_empty() {
            true => None,
            false => {
                Some(Words::new(deny.iter().map(String::as_str)).ok_or_else(|| large("deny"))?)
            }
        };
        Ok(Self {
            categories: params.choice("categories", CATEGORIES)?,
            min_severity: params.severity_or("min_severity", Severity::Low)?,
            allow: Words::new(allow).ok_or_else(|| large("allow"))?,
            deny,
            named: Named::new().ok_or_else(|| large("categories"))?,
        })
    }

    pub(super) fn find(&self, text: &str) -> Vec<Hit> {
        let seen = Folded::mapped(text, |cluster, out| {
            out.extend(cluster.nfd().filter(|c| kept(*c)).nfc());
        });
        let mut hits = Vec::new();
        for (range, class) in runs(&seen.text).into_iter().chain(phrases::find(&seen.text)) {
            let raw = seen.raw(range.start, range.end);
            hits.extend(self.wanted(class).map(|category| hit(raw, category, class)));
        }
        let folded = Folded::new(text);
        for (raw, class) in self.named.find(&folded) {
            hits.extend(self.wanted(class).map(|category| hit(raw, category, class)));
        }
        if hits.is_empty() && self.deny.is_none() {
            return hits;
        }
        let allowed = self.allow.find(&folded);
        let links = addresses(text);
        let chance = |hit: &Hit| hit.end - hit.start < PATH_LETTERS_MIN && inside(&links, hit);
        hits.retain(|hit| !inside(&allowed, hit) && !chance(hit));
        for raw in self.deny.iter().flat_map(|deny| deny.find(&folded)) {
            let denied = ("toxicity", Severity::High);
            let category = Category::parse(denied.0).ok();
            hits.extend(category.map(|category| Hit {
                label: "DENIED_WORD".into(),
                score: 1.0,
                ..hit(raw, category, denied)
            }));
        }
        without_overlaps(hits)
    }

    fn wanted(&self, (category, severity): Class) -> Option<Category> {
        let named = self.categories.iter().any(|name| covers(name, category));
        if !named || severity < self.min_severity { None } else { Category::parse(category).ok() }
    }
}

/// Words and phrases, found whole, without regard to case and form.
struct Words(AhoCorasick);

impl Words {
    fn new<'a>(words: impl Iterator<Item = &'a str>) -> Option<Self> {
        let words = words.map(|word| fold(word.trim()).collect::<String>());
        let words = words.filter(|word| !word.is_empty());
        AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(words).ok().map(Self)
    }

    /// Their raw bytes, in order.
    fn find(&self, text: &Folded) -> Vec<(usize, usize)> {
        let found = self.0.find_iter(text.text.as_str());
        let whole = found.filter(|m| stands_alone(&text.text, m.start(), m.end()));
        whole.map(|m| text.raw(m.start(), m.end())).collect()
    }
}

/// The shipped words that the lexicon lacks, each with its class.
struct Named(AhoCorasick, Vec<Class>);

impl Named {
    fn new() -> Option<Self> {
        let words =
            words::NAMED.iter().flat_map(|(class, words)| words.iter().map(|w| (w, *class)));
        let (words, classes): (Vec<String>, Vec<Class>) =
            words.map(|(word, class)| (fold(word).collect(), class)).unzip();
        let automaton =
            AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(words).ok()?;
        Some(Self(automaton, classes))
    }

    fn find(&self, text: &Folded) -> Vec<((usize, usize), Class)> {
        let found = self.0.find_iter(text.text.as_str());
        let whole = found.filter(|m| stands_alone(&text.text, m.start(), m.end()));
        let class = |m: &aho_corasick::Match| self.1.get(m.pattern().as_usize()).copied();
        whole.filter_map(|m| Some((text.raw(m.start(), m.end()), class(&m)?))).collect()
    }
}

/// Fewer letters in an address are an identifier by chance.
const PATH_LETTERS_MIN: usize = 4;

/// The bytes of the links with a scheme, in order.
fn addresses(text: &str) -> Vec<(usize, usize)> {
    if !text.contains("://") {
        return Vec::new();
    }
    let links = stretch::links(text);
    let schemed = links.filter(|link| text.get(link.clone()).is_some_and(|l| l.contains("://")));
    schemed.map(|link| (link.start, link.end)).collect()
}

/// Whether the hit lies in one of the sorted ranges.
fn inside(ranges: &[(usize, usize)], hit: &Hit) -> bool {
    let before = ranges.partition_point(|(start, _)| *start <= hit.start);
    let last = before.checked_sub(1).and_then(|at| ranges.get(at));
    last.is_some_and(|(_, end)| hit.end <= *end)
}

fn hit((start, end): (usize, usize), category: Category, (name, severity): Class) -> Hit {
    let label = name.rsplit('.').next().unwrap_or(name).to_ascii_uppercase();
    let score = match severity {
        Severity::Low => 0.4,
        Severity::Medium => 0.75,
        Severity::High | Severity::Critical => 0.9,
    };
    Hit { start, end, category, label: label.into(), score, severity, attributes: Vec::new() }
}

/// What the lexicon reads of a decomposed character: the same rule as its own filter, applied
/// before, so that what it reads and what it says line up.
fn kept(c: char) -> bool {
    let dropped =
        matches!(c.get_minor_category(), MinorCategory::Cn | MinorCategory::Co | MinorCategory::Mn)
            && !matches!(c, '\u{3099}' | '\u{309A}');
    !dropped && !matches!(c, '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}' | '\u{FC60}')
}

/// Stretches of `text` that the lexicon names, in bytes.
fn runs(text: &str) -> Vec<(Range<usize>, Class)> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for window in windows(text) {
        let mut censor = Censor::from_str(text.get(window.clone()).unwrap_or_default());
        censor
            .with_censor_threshold(named())
            .with_censor_first_character_threshold(Type::ANY)
            .with_censor_replacement(FOUND)
            .with_ignore_self_censoring(true);
        let read = text.get(window.clone()).unwrap_or_default().char_indices();
        for ((at, own), _) in read.zip(censor).filter(|(_, said)| *said == FOUND) {
            let (start, end) = (window.start + at, window.start + at + own.len_utf8());
            match runs.last_mut().filter(|run| start <= run.end) {
                Some(run) => run.end = run.end.max(end),
                None => runs.push(start..end),
            }
        }
    }
    let classed = |run| {
        let run = whole_words(text, run)?;
        let class = class(text, &run)?;
        weigh::weigh(text, run, class)
    };
    runs.into_iter().filter_map(classed).collect()
}

/// Stretches of at most `WINDOW_BYTES` that overlap: the lexicon's time grows with the square of
/// some texts. They begin and end between words where there are any.
fn windows(text: &str) -> Vec<Range<usize>> {
    let floor = |at| widen(text, at, at).0;
    let space = |range: Range<usize>| {
        let found = text.get(range.clone()).and_then(|part| part.rfind(char::is_whitespace));
        found.map(|at| range.start + at)
    };
    let (mut windows, mut start) = (Vec::new(), 0);
    while text.len() - start > WINDOW_BYTES {
        let full = floor(start + WINDOW_BYTES);
        let half = floor(start + WINDOW_BYTES / 2);
        let end = space(half..full).unwrap_or(full);
        windows.push(start..end);
        let back = floor(end - OVERLAP_BYTES);
        start = space(back..end).map_or(back, |at| space(back..at).unwrap_or(at));
    }
    windows.push(start..text.len());
    windows
}

/// Groups of weights that make a finding; lightly offensive words name groups of people.
fn named() -> Type {
    Type::PROFANE | Type::SEXUAL | Type::MEAN | (Type::OFFENSIVE & Type::MODERATE_OR_HIGHER)
}

/// Of a run over several words, without those that it only cuts: `This sucks` holds `s sucks`.
/// Nothing is left of `45; s` in `1945; so`, nor of what is hardly letters.
fn whole_words(text: &str, run: Range<usize>) -> Option<Range<usize>> {
    let matched = text.get(run.clone()).unwrap_or_default();
    let before = text.get(..run.start).and_then(|text| text.chars().next_back());
    let after = text.get(run.end..).and_then(|text| text.chars().next());
    let (mut start, mut end) = (run.start, run.end);
    let parts = |c: char| c.is_whitespace() || ".,:;-_/()".contains(c);
    // `f.u.c.k` is one word in disguise, `ana.lopez` two.
    if matched.split(parts).any(|part| part.chars().nth(1).is_some()) {
        if let (true, Some(at)) = (before.is_some_and(char::is_alphanumeric), matched.find(parts)) {
            start += matched.get(at..)?.chars().next().map_or(0, char::len_utf8) + at;
        }
        if let (true, Some(at)) = (after.is_some_and(char::is_alphanumeric), matched.rfind(parts)) {
            end = run.start + at;
        }
    }
    let rest = text.get(start..end)?;
    if is_hexadecimal(text, start..end) {
        return None;
    }
    let letters = rest.chars().filter(|c| c.is_alphabetic()).count();
    let marks = rest.chars().filter(|c| !c.is_alphabetic() && !c.is_whitespace()).count();
    let trust = if rest.contains(char::is_whitespace) { 1 } else { 2 };
    let code = rest.contains(|c| "()[]{}<>;=".contains(c)) && letters <= marks;
    (letters > 0 && letters * trust >= marks && !code).then_some(start..end)
}

/// Digits of a number beyond which it is no word in disguise.
const HEX_DIGITS_MIN: usize = 8;

/// Whether the run lies in a long number such as `0x1fffffff`.
fn is_hexadecimal(text: &str, run: Range<usize>) -> bool {
    let part = |c: char| c.is_ascii_hexdigit() || c == 'x';
    let count = |chars: &mut dyn Iterator<Item = char>| {
        chars.take(64).take_while(|c| c.is_ascii_alphanumeric()).all(part)
    };
    let own = text.get(run.clone()).unwrap_or_default();
    let before = text.get(..run.start).unwrap_or_default();
    let after = text.get(run.end..).unwrap_or_default();
    own.chars().all(part)
        && own.len() + before.chars().rev().take(64).take_while(|c| part(*c)).count()
            >= HEX_DIGITS_MIN
        && own.bytes().any(|byte| byte.is_ascii_digit())
        && count(&mut before.chars().rev())
        && count(&mut after.chars())
}

/// The one class of a stretch, the gravest first.
fn class(text: &str, run: &Range<usize>) -> Option<Class> {
    let typ = Censor::from_str(text.get(run.clone())?).with_ignore_self_censoring(true).analyze();
    let severe = |group| typ.is(group & Type::SEVERE);
    let moderate = |group| typ.is(group & Type::MODERATE_OR_HIGHER);
    // The lexicon gives reclaimed forms and mere invective a middling profanity.
    let middling = typ.is(Type::PROFANE) && !severe(Type::PROFANE);
    let slur = severe(Type::OFFENSIVE) && !moderate(Type::SEXUAL) && !middling;
    let crude = moderate(Type::PROFANE) || moderate(Type::OFFENSIVE);
    Some(match () {
        () if slur => ("hate.identity", Severity::High),
        () if severe(Type::MEAN) => ("toxicity.severe", Severity::High),
        () if moderate(Type::MEAN) => ("toxicity.insult", Severity::Medium),
        () if moderate(Type::SEXUAL) && crude => ("toxicity.obscene", Severity::Medium),
        () if moderate(Type::OFFENSIVE) => ("toxicity.insult", Severity::Medium),
        () if moderate(Type::PROFANE) => ("toxicity.profanity", Severity::Medium),
        () if moderate(Type::SEXUAL) => ("sexual", Severity::Medium),
        () if typ.is(Type::MEAN) => ("toxicity.insult", phrases::insult(text, run.start)),
        () if typ.is(Type::PROFANE) => ("toxicity.profanity", Severity::Low),
        () if typ.is(Type::SEXUAL) => ("sexual", Severity::Low),
        () => return None,
    })
}

#[cfg(test)]
mod tests;
