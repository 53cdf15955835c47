//! Credentials: the Gitleaks rules and a few of our own, behind a keyword prefilter.

use std::sync::{Arc, LazyLock, OnceLock};

use ::regex::bytes::{Regex, RegexBuilder, RegexSet, RegexSetBuilder};
use aho_corasick::AhoCorasick;
use serde::Deserialize;

use super::hit::{Hit, widen, without_overlaps};
use super::params::{ParamFault, Params, label};
use crate::domain::category::Category;
use crate::domain::finding::Severity;

/// The detector: what it lets pass.
pub(super) struct Secrets {
    allow: Vec<String>,
    min_score: f64,
}

#[derive(Deserialize)]
struct File {
    allow: Vec<AllowSource>,
    rules: Vec<RuleSource>,
}

#[derive(Deserialize)]
struct RuleSource {
    id: String,
    regex: String,
    entropy: f64,
    keywords: Vec<String>,
    secret_group: usize,
    allow: Vec<AllowSource>,
}

#[derive(Deserialize)]
struct AllowSource {
    /// In our own file: the Gitleaks rule that it is added to.
    #[serde(default)]
    rule: String,
    target: String,
    regexes: Vec<String>,
    stopwords: Vec<String>,
}

struct Rules {
    keywords: AhoCorasick,
    /// Rule of each keyword.
    owners: Vec<usize>,
    rules: Vec<Rule>,
    allow: Vec<Allow>,
}

struct Rule {
    source: RuleSource,
    category: Category,
    label: Arc<str>,
    score: f64,
    severity: Severity,
    /// Compiled at the first text that holds a keyword; `None` only for a broken rule.
    compiled: OnceLock<Option<(Regex, Vec<Allow>)>>,
}

struct Allow {
    target: String,
    regexes: RegexSet,
    stopwords: Option<AhoCorasick>,
}

static RULES: LazyLock<Option<Rules>> = LazyLock::new(Rules::load);

impl Secrets {
    pub(super) fn prepare(params: &Params) -> Result<Self, ParamFault> {
        params.only(&["allow", "min_score"])?;
        LazyLock::force(&RULES);
        Ok(Self { allow: params.strings("allow")?, min_score: params.score("min_score", 0.0)? })
    }

    pub(super) fn find(&self, text: &str) -> Vec<Hit> {
        let Some(rules) = RULES.as_ref() else { return Vec::new() };
        let mut asked = [false; 256];
        for found in rules.keywords.find_overlapping_iter(text) {
            let owner = rules.owners.get(found.pattern().as_usize());
            if let Some(slot) = owner.and_then(|owner| asked.get_mut(*owner)) {
                *slot = true;
            }
        }
        let chosen = rules.rules.iter().zip(asked).filter(|(_, asked)| *asked);
        let hits = chosen.flat_map(|(rule, _)| rule.find(text, &rules.allow));
        let wanted = |hit: &Hit| {
            hit.score >= self.min_score
                && !text.get(hit.start..hit.end).is_some_and(|s| self.allow.iter().any(|a| a == s))
        };
        without_overlaps(hits.filter(wanted).collect())
    }
}

impl Rules {
    fn load() -> Option<Self> {
        let mut file: File = serde_json::from_str(include_str!("data/gitleaks.json")).ok()?;
        let extra: File = serde_json::from_str(include_str!("data/extra.json")).ok()?;
        for allow in extra.allow {
            file.rules.iter_mut().find(|rule| rule.id == allow.rule)?.allow.push(allow);
        }
        file.rules.extend(extra.rules);
        let rules: Vec<Rule> = file.rules.into_iter().filter_map(Rule::new).collect();
        let pairs = rules.iter().enumerate();
        let pairs = pairs.flat_map(|(i, rule)| rule.source.keywords.iter().map(move |k| (i, k)));
        let (owners, words): (Vec<usize>, Vec<&String>) = pairs.unzip();
        let keywords = AhoCorasick::builder().ascii_case_insensitive(true).build(words).ok()?;
        let allow = file.allow.iter().filter_map(Allow::new).collect();
        Some(Self { keywords, owners, rules, allow })
    }
}

impl Rule {
    fn new(source: RuleSource) -> Option<Self> {
        let (category, score) = class(&source.id);
        let own = match source.id.as_str() {
            "aws-access-token" => "aws-access-key",
            id => id,
        };
        let severity = match category {
            "secrets.private_key" => Severity::Critical,
            _ => Severity::High,
        };
        let category = Category::parse(category).ok()?;
        Some(Self {
            label: label(own),
            category,
            score,
            severity,
            compiled: OnceLock::new(),
            source,
        })
    }

    fn compiled(&self) -> Option<&(Regex, Vec<Allow>)> {
        let compile = || {
            let regex = pattern(&self.source.regex).ok()?;
            Some((regex, self.source.allow.iter().filter_map(Allow::new).collect()))
        };
        self.compiled.get_or_init(compile).as_ref()
    }

    fn find(&self, text: &str, common: &[Allow]) -> Vec<Hit> {
        let Some((regex, own)) = self.compiled() else { return Vec::new() };
        let mut hits = Vec::new();
        for groups in regex.captures_iter(text.as_bytes()) {
            let Some(whole) = groups.get(0) else { continue };
            // Named groups tell apart kinds of one secret; others hold it.
            let named = regex.capture_names().any(|name| name.is_some());
            let secret = match self.source.secret_group {
                0 if named => Some(whole),
                0 => groups.iter().skip(1).flatten().find(|group| !group.is_empty()),
                group => groups.get(group),
            };
            let secret = secret.unwrap_or(whole);
            let seen = Seen { text, whole: whole.range(), secret: secret.as_bytes() };
            let random = self.source.entropy == 0.0 || entropy(seen.secret) > self.source.entropy;
            if random && !own.iter().chain(common).any(|allow| allow.covers(&seen)) {
                hits.push(self.hit(text, secret.range()));
            }
        }
        hits
    }

    /// The rules count bytes; the hit is widened to whole characters.
    fn hit(&self, text: &str, range: std::ops::Range<usize>) -> Hit {
        let (start, end) = widen(text, range.start, range.end);
        // A class of base64 may hold the backslash that escapes the quote behind.
        let found = text.get(start..end).unwrap_or_default();
        let end = end - (found.len() - found.trim_end_matches('\\').len());
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

struct Seen<'t> {
    text: &'t str,
    whole: std::ops::Range<usize>,
    secret: &'t [u8],
}

impl Seen<'_> {
    fn target(&self, name: &str) -> &[u8] {
        let bytes = self.text.as_bytes();
        let (before, after) = (bytes.get(..self.whole.start), bytes.get(self.whole.end..));
        let (before, after) = (before.unwrap_or_default(), after.unwrap_or_default());
        let newline = |byte: &u8| *byte == b'\n';
        let word = |byte: &u8| byte.is_ascii_alphanumeric() || b"_.-".contains(byte);
        let (back, on) = match name {
            "match" => (before.iter().rev().take(50).take_while(|byte| word(byte)).count(), 0),
            "line" => (
                before.iter().rev().take(500).take_while(|byte| !newline(byte)).count(),
                after.iter().take(500).take_while(|byte| !newline(byte)).count(),
            ),
            _ => return self.secret,
        };
        bytes.get(self.whole.start - back..self.whole.end + on).unwrap_or_default()
    }
}

impl Allow {
    fn new(source: &AllowSource) -> Option<Self> {
        let regexes = RegexSetBuilder::new(&source.regexes).unicode(false).build().ok()?;
        let mut words = AhoCorasick::builder();
        words.ascii_case_insensitive(true);
        let stopwords = match source.stopwords.is_empty() {
            true => None,
            false => Some(words.build(&source.stopwords).ok()?),
        };
        Some(Self { target: source.target.clone(), regexes, stopwords })
    }

    fn covers(&self, seen: &Seen<'_>) -> bool {
        self.regexes.is_match(seen.target(&self.target))
            || self.stopwords.as_ref().is_some_and(|words| words.is_match(seen.secret))
    }
}

/// What the rules expect behind a secret, as they write it.
const GO_END: &str = r#"(?:[\x60'"\s;]|\\[nr]|$)"#;
/// The same with what stands behind a value of a list, of a sentence and of other scripts.
const END: &str = r#"(?:[\x60'"\s;,:|/)\]}<>&#*\x80-\xff]|\.(?:\s|$)|\\[nrt]|$)"#;

/// The rules are written for Go, whose classes are ASCII. They want a word's bounds, and `_` is
/// a letter to them; a secret that touches a word is one all the same.
fn pattern(source: &str) -> Result<Regex, ::regex::Error> {
    let mut source = source.replace(GO_END, END);
    if let Some(inner) = source.strip_prefix(r"\b(").and_then(|s| s.strip_suffix(r")\b")) {
        source = format!(r"({inner})(?:\b|_)");
    }
    RegexBuilder::new(&source).unicode(false).build()
}

/// Category and score of a rule by its id.
fn class(id: &str) -> (&'static str, f64) {
    let has = |word: &str| id.contains(word);
    match id {
        "generic-api-key" => ("secrets.generic", 0.75),
        "password" => ("secrets.password", 0.7),
        "aws-access-token" => ("secrets.aws_access_key", 0.98),
        "database-url" => ("secrets.database_url", 0.95),
        _ if has("private-key") || id == "age-secret-key" => ("secrets.private_key", 0.99),
        _ if id.starts_with("jwt") => ("secrets.jwt", 0.95),
        _ if has("password") || id == "curl-auth-user" => ("secrets.password", 0.9),
        _ if ["aws-", "gcp-", "azure-", "alibaba-"].iter().any(|p| id.starts_with(p)) => {
            ("secrets.cloud", 0.95)
        }
        _ if has("token") || has("-pat") || has("oauth") => ("secrets.token", 0.95),
        _ => ("secrets.api_key", 0.95),
    }
}

/// Shannon entropy in bits per byte.
fn entropy(bytes: &[u8]) -> f64 {
    let mut counts = [0_u32; 256];
    for byte in bytes {
        if let Some(count) = counts.get_mut(usize::from(*byte)) {
            *count += 1;
        }
    }
    let total = bytes.len() as f64;
    let share = |count: &u32| f64::from(*count) / total;
    counts.iter().filter(|count| **count > 0).map(share).map(|p| -p * p.log2()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_and_every_allow_list_compiles() {
        let rules = RULES.as_ref().unwrap();
        assert_eq!(rules.rules.len(), 219 + 5);
        assert!(rules.rules.len() <= 256);
        for rule in &rules.rules {
            pattern(&rule.source.regex)
                .unwrap_or_else(|error| panic!("{}: {error}", rule.source.id));
            for allow in &rule.source.allow {
                let built = RegexSetBuilder::new(&allow.regexes).unicode(false).build();
                assert!(built.is_ok(), "{}: {built:?}", rule.source.id);
            }
            assert_eq!(rule.compiled().unwrap().1.len(), rule.source.allow.len());
        }
        assert_eq!(rules.allow.len(), 1);
    }

    #[test]
    fn keys_are_found_beside_whatever_separates_values() {
        let find = |text: &str| {
            let found = Secrets { allow: vec![], min_score: 0.0 }.find(text);
            found.iter().map(|hit| text[hit.start..hit.end].to_owned()).collect::<Vec<_>>()
        };
        let github = "ghp_x7Kq2mZ9vT4bLw8RnY3cHd6JfG5sPa1QeU0o";
        let stripe = "sk_live_x7Kq2mZ9vT4bLw8RnY3cHd6J";
        let amazon = "AKIAZ3VQ7JRTLWXK5P2D";
        for key in [github, stripe, amazon] {
            for around in ["a,|,b", "[|]", "(|)", "は|と", "see |.", "a/|/b", "*|*", "<b>|</b>"] {
                let text = around.replace('|', key);
                assert_eq!(find(&text), [key], "{text}");
            }
        }
        for text in [format!("_{amazon}_"), format!("{amazon}_{amazon}"), format!("x{amazon}")] {
            assert!(find(&text).iter().all(|found| found == amazon), "{text}");
            assert_eq!(find(&text).len(), text.matches(amazon).count(), "{text}");
        }
    }

    #[test]
    fn entropy_counts_bits_per_byte() {
        assert_eq!(entropy(b"aaaa"), 0.0);
        assert_eq!(entropy(b"abcd"), 2.0);
    }
}
