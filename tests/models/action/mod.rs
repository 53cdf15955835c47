//! From detectors' answers to the action under a table, written from the design alone: thresholds,
//! votes per scope, quorum or strategy, standing, actions, floor, coverage. Slow and literal.

pub mod coverage;
pub mod random;
pub mod table;
pub mod vectors;
pub mod votes;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use votes::{Candidate, Config, Outcome};

/// The detectors of every case: name, categories, weight. The first two are built in.
pub const WORLD: [(&str, &[&str], f64); 9] = [
    ("pii", &["pii"], 1.0),
    ("secrets", &["secrets"], 1.0),
    ("pn", &["pii"], 1.0),
    ("sn", &["secrets"], 1.0),
    ("tox-a", &["toxicity"], 1.0),
    ("tox-b", &["toxicity"], 1.0),
    ("tox-c", &["toxicity"], 1.0),
    ("inj", &["injection"], 1.0),
    ("multi", &["toxicity", "hate"], 2.0),
];

pub fn categories_of(detector: &str) -> &'static [&'static str] {
    WORLD.iter().find(|(name, ..)| *name == detector).map_or(&[], |(_, categories, _)| categories)
}

/// What one detector found.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    pub category: String,
    pub label: String,
    pub score: f64,
    pub severity: String,
    /// The word of the content it lies on.
    pub slot: Option<usize>,
    pub attributes: BTreeMap<String, String>,
}

/// What one detector answers.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    Failed,
    /// A label of its own that says nothing is there.
    Clean(f64),
    /// Findings; with none of them the label `clean` is derived and has no score.
    Found(Vec<Found>),
}

/// One case whole.
#[derive(Debug, Clone, Default)]
pub struct Case {
    /// Merged settings of base, bundle and overlay.
    pub settings: Value,
    pub strict: bool,
    /// The floor's settings.
    pub floor: Value,
    /// Keys of the tenant's file.
    pub tenant: Value,
    pub request: Value,
    pub answers: BTreeMap<String, Answer>,
}

/// What must come out.
#[derive(Debug, Clone, PartialEq)]
pub struct Expected {
    pub action: String,
    /// What enforcing would do, in mode monitor.
    pub would: Option<String>,
    pub redacted: BTreeSet<usize>,
    pub codes: BTreeSet<String>,
    pub complete: bool,
    pub achieved: f64,
    pub coverage_code: Option<&'static str>,
    pub resolved: BTreeMap<String, &'static str>,
    pub conflicts: BTreeMap<String, Outcome>,
}

/// `allow` 0 to `block` 4.
pub fn rank(action: &str) -> usize {
    ["allow", "flag", "redact", "review", "block"].iter().position(|a| *a == action).unwrap()
}

/// `category` is `scope` or lies below it.
pub fn under(category: &str, scope: &str) -> bool {
    scope == "*"
        || category == scope
        || category.strip_prefix(scope).is_some_and(|rest| rest.starts_with('.'))
}

pub struct Plan {
    pub required: BTreeSet<String>,
    pub optional: BTreeSet<String>,
    pub secondary: BTreeSet<String>,
}

fn names(value: &Value, key: &str) -> BTreeSet<String> {
    let listed = value[key].as_array().into_iter().flatten();
    listed.filter_map(|name| name.as_str().map(str::to_owned)).collect()
}

pub fn plan(case: &Case) -> Plan {
    let wish = &case.request["detectors"];
    let floor = names(&case.floor, "required");
    let mut gone = names(&case.settings, "skip");
    gone.extend(names(wish, "exclude"));
    let add = names(wish, "add");
    let gone: BTreeSet<_> = gone.into_iter().filter(|name| !add.contains(name)).collect();
    let keeps = |name: &String| !gone.contains(name) || floor.contains(name);
    let every = |key: &str| {
        let mut set = names(&case.settings, key);
        if set.remove("*") {
            set.extend(WORLD.iter().map(|(name, ..)| (*name).to_owned()));
        }
        set.into_iter().filter(keeps).collect::<BTreeSet<_>>()
    };
    let mut required = every("required");
    required.extend(floor.iter().cloned());
    required.extend(add);
    let mut optional = every("optional");
    optional.extend(match case.request["event"].as_str() {
        Some("pipeline.completed") => vec!["secrets".to_owned()],
        Some("system.health_check") => vec!["pii".to_owned()],
        Some(_) => vec!["pii".to_owned(), "secrets".to_owned()],
        None => Vec::new(),
    });
    let optional: BTreeSet<_> =
        optional.into_iter().filter(|n| keeps(n) && !required.contains(n)).collect();
    let secondary = every("secondary");
    let secondary =
        secondary.into_iter().filter(|n| !required.contains(n) && !optional.contains(n)).collect();
    Plan { required, optional, secondary }
}

/// A finding with the detector that has it.
type Hit<'a> = (&'a str, &'a Found);

struct Way<'a> {
    case: &'a Case,
    plan: Plan,
    /// Names asked that gave an answer, with it.
    heard: BTreeMap<&'a str, &'a Answer>,
    asked: BTreeSet<String>,
    floor_required: BTreeSet<String>,
}

pub fn expected(case: &Case) -> Expected {
    let way = Way::walk(case);
    let coverage = way.coverage();
    let scopes = way.scopes();
    let conflicts: BTreeMap<_, _> =
        scopes.iter().map(|scope| (scope.clone(), way.conflict(scope))).collect();
    let resolved: BTreeMap<String, &'static str> =
        scopes.iter().map(|scope| (scope.clone(), way.resolved(scope))).collect();
    let floor = way.floor_entries();
    let mut entries = way.entries(&resolved);
    if case.strict {
        entries.extend(way.strict_entries(&resolved, &conflicts, coverage.complete));
    }
    entries.extend(floor.clone());
    if !coverage.complete {
        let own = case.tenant["on_incomplete"].as_str().unwrap_or("review");
        let floor = case.floor["on_incomplete"].as_str().unwrap_or("allow");
        let least = if rank(floor) > rank(own) { floor } else { own };
        entries.push((least.to_owned(), "coverage.incomplete".to_owned(), None));
    }
    let highest = |entries: &[Entry]| {
        let highest = entries.iter().map(|(action, ..)| action.as_str()).max_by_key(|a| rank(a));
        highest.unwrap_or("allow").to_owned()
    };
    let monitored = case.tenant["mode"] == "monitor" || case.settings["mode"] == "monitor";
    let full = highest(&entries);
    let mut alone = highest(&floor);
    if !coverage.floor_holds {
        let least = match case.floor["on_incomplete"].as_str() {
            Some(least) => least,
            None => at_most_review(case.tenant["on_incomplete"].as_str().unwrap_or("review")),
        };
        alone = highest(&[(alone, String::new(), None), (least.to_owned(), String::new(), None)]);
    }
    let acting = if monitored && alone == "redact" { &floor } else { &entries };
    let redacted = acting.iter().filter(|(action, ..)| action == "redact");
    Expected {
        action: if monitored { alone } else { full.clone() },
        would: monitored.then_some(full),
        redacted: redacted.filter_map(|(.., slot)| *slot).collect(),
        codes: entries.iter().map(|(_, code, _)| code.clone()).collect(),
        complete: coverage.complete,
        achieved: coverage.achieved,
        coverage_code: coverage.code,
        resolved,
        conflicts,
    }
}

fn at_most_review(action: &str) -> &str {
    if rank(action) > rank("review") { "review" } else { action }
}

/// Action, code, the word to hide.
type Entry = (String, String, Option<usize>);

impl<'a> Way<'a> {
    fn walk(case: &'a Case) -> Self {
        let plan = plan(case);
        let mut asked: BTreeSet<String> = plan.required.union(&plan.optional).cloned().collect();
        let floor_required = names(&case.floor, "required");
        let mut way =
            Self { case, plan, heard: BTreeMap::new(), asked: asked.clone(), floor_required };
        way.listen();
        if way.coverage().achieved < way.threshold_of_coverage() - 1e-9 {
            asked.extend(way.plan.secondary.iter().cloned());
            way.asked = asked;
            way.listen();
        }
        way
    }

    fn listen(&mut self) {
        let asked = &self.asked;
        let answered = |(name, answer): &(&String, &Answer)| {
            asked.contains(*name) && **answer != Answer::Failed
        };
        self.heard =
            self.case.answers.iter().filter(answered).map(|(n, a)| (n.as_str(), a)).collect();
    }

    fn coverage(&self) -> coverage::Coverage {
        coverage::measure(&coverage::Question {
            required: &self.plan.required,
            answered: &self.heard.keys().copied().collect(),
            asked: &self.asked,
            spec: &self.case.settings["coverage"],
            threshold: self.threshold_of_coverage(),
            floor_required: &self.floor_required,
            floor_least: self.case.floor["min_coverage"].as_f64().unwrap_or(0.0),
        })
    }

    fn threshold_of_coverage(&self) -> f64 {
        self.case.settings["coverage"]["threshold"].as_f64().unwrap_or(1.0)
    }

    fn raw(&self) -> Vec<Hit<'a>> {
        let found = self.heard.iter().flat_map(|(name, answer)| match answer {
            Answer::Found(found) => found.iter().map(|f| (*name, f)).collect(),
            Answer::Failed | Answer::Clean(_) => Vec::new(),
        });
        found.collect()
    }

    fn threshold(&self, category: &str) -> f64 {
        let of = |map: &Value| table::most_specific(map, category).and_then(Value::as_f64);
        let policy = of(&self.case.settings["thresholds"])
            .or_else(|| of(&self.case.tenant["thresholds"]))
            .unwrap_or(0.5);
        of(&self.case.request["detectors"]["thresholds"]).map_or(policy, |wish| wish.min(policy))
    }

    fn counting(&self) -> Vec<Hit<'a>> {
        let raw = self.raw().into_iter();
        raw.filter(|(_, f)| f.score >= self.threshold(&f.category)).collect()
    }

    /// First-level categories, and deeper ones that a strategy or a quorum names.
    fn scopes(&self) -> BTreeSet<String> {
        let first = |category: &str| category.split('.').next().unwrap_or_default().to_owned();
        let mut scopes: BTreeSet<String> = self
            .asked
            .iter()
            .flat_map(|name| categories_of(name).iter().map(|c| first(c)))
            .collect();
        for key in ["resolve", "quorum"] {
            let keys = self.case.settings[key].as_object().into_iter().flat_map(|m| m.keys());
            scopes.extend(keys.filter(|k| k.contains('.')).cloned());
        }
        scopes.retain(|scope| !self.voters(scope).is_empty());
        // A quorum that nobody can reach is unresolved too.
        let named = self.case.settings["quorum"].as_object().into_iter().flat_map(|m| m.keys());
        scopes.extend(named.filter(|name| *name != "*").cloned());
        scopes
    }

    fn voters(&self, scope: &str) -> Vec<&String> {
        let votes =
            |name: &&String| categories_of(name).iter().any(|c| under(c, scope) || under(scope, c));
        self.asked.iter().filter(votes).collect()
    }

    fn candidates(&self, scope: &str) -> Vec<Candidate> {
        let counting = self.counting();
        let of = |name: &String| {
            let answer = self.heard.get(name.as_str())?;
            let mut mine: Vec<_> = counting
                .iter()
                .filter(|(who, f)| who == name && under(&f.category, scope))
                .map(|(_, f)| f)
                .collect();
            mine.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.label.cmp(&b.label)));
            let (label, score, flagged) = match (mine.first(), answer) {
                (Some(top), _) => (top.label.trim().to_owned(), Some(top.score), true),
                (None, Answer::Clean(score)) => ("clean".to_owned(), Some(*score), false),
                (None, _) => ("clean".to_owned(), None, false),
            };
            Some(Candidate { detector: name.clone(), label, score, flagged })
        };
        self.voters(scope).into_iter().filter_map(of).collect()
    }

    /// The entry that speaks for the scope. A quorum is a key of its category's entry in `resolve`,
    /// and the most specific entry speaks whole.
    fn chosen(&self, scope: &str) -> Option<Value> {
        let mut entries = json!({});
        for (name, entry) in self.case.settings["resolve"].as_object().into_iter().flatten() {
            entries[name] = entry.clone();
        }
        for (name, quorum) in self.case.settings["quorum"].as_object().into_iter().flatten() {
            entries[name]["quorum"] = quorum.clone();
        }
        table::most_specific(&entries, scope).cloned()
    }

    fn conflict(&self, scope: &str) -> Outcome {
        let chosen = self.chosen(scope).unwrap_or_else(|| json!({}));
        let by_type = match self.case.request["type"].as_str().unwrap_or("text") {
            "image" => "highest_confidence",
            "document" => "most_restrictive",
            "code" => "majority_vote",
            _ => "weighted_average",
        };
        let weights = WORLD.iter().map(|(name, _, weight)| {
            ((*name).to_owned(), chosen["weights"][*name].as_f64().unwrap_or(*weight))
        });
        let ranks = chosen["severity_rank"].as_object().into_iter().flatten();
        let outcome = votes::settle(
            &self.candidates(scope),
            &Config {
                strategy: chosen["strategy"].as_str().unwrap_or(by_type).to_owned(),
                weights: weights.collect(),
                preferred: chosen["preferred_detector"].as_str().map(str::to_owned),
                ranks: ranks.filter_map(|(k, v)| Some((k.clone(), v.as_f64()?))).collect(),
                min_score: chosen["min_score"].as_f64().unwrap_or(0.0),
                required: self.plan.required.clone(),
            },
        );
        match self.quorum(scope) {
            Some(_) => Outcome { strategy: "quorum".to_owned(), ..outcome },
            None => outcome,
        }
    }

    fn quorum(&self, scope: &str) -> Option<usize> {
        self.chosen(scope)?["quorum"].as_u64().map(|k| k as usize)
    }

    fn resolved(&self, scope: &str) -> &'static str {
        let candidates = self.candidates(scope);
        let flags = candidates.iter().filter(|c| c.flagged).count();
        let clears = candidates.len() - flags;
        if let Some(k) = self.quorum(scope) {
            let n = self.voters(scope).len();
            return match () {
                () if k > n => "unresolved",
                () if flags >= k => "flagged",
                () if clears > n - k => "clear",
                () => "unresolved",
            };
        }
        if self.chosen(scope).is_none() {
            return match (flags, clears) {
                (0, 0) => "unresolved",
                (0, _) => "clear",
                _ => "flagged",
            };
        }
        match self.conflict(scope).winner.as_deref() {
            None => "unresolved",
            Some("clean") => "clear",
            Some(_) => "flagged",
        }
    }

    /// False where the nearest scope over the finding was cleared.
    fn stands(resolved: &BTreeMap<String, &'static str>, found: &Found) -> bool {
        let over = resolved.iter().filter(|(scope, _)| under(&found.category, scope));
        over.max_by_key(|(scope, _)| scope.len()).is_none_or(|(_, how)| *how != "clear")
    }

    fn ignored(&self, found: &Found) -> bool {
        let listed = self.case.settings["ignore"].as_array().into_iter().flatten();
        listed.into_iter().any(|one| {
            let value = found.attributes.get(one["attribute"].as_str().unwrap_or_default());
            let values = one["values"].as_array().into_iter().flatten();
            under(&found.category, one["category"].as_str().unwrap_or_default())
                && values.into_iter().any(|v| v.as_str() == value.map(String::as_str))
        })
    }

    fn entries(&self, resolved: &BTreeMap<String, &'static str>) -> Vec<Entry> {
        let mut entries = Vec::new();
        for (_, found) in self.counting() {
            let action = table::most_specific(&self.case.settings["actions"], &found.category);
            let action = action.and_then(Value::as_str).unwrap_or("flag");
            let applies = action == "redact" || Self::stands(resolved, found);
            if applies && !self.ignored(found) {
                entries.extend(entry(action, found));
            }
        }
        for (scope, how) in resolved {
            // Silence alone is a matter of coverage.
            let asked = self.quorum(scope).is_some() || !self.candidates(scope).is_empty();
            if *how == "unresolved" && asked {
                entries.push(("review".to_owned(), format!("unresolved.{scope}"), None));
            }
        }
        entries
    }

    fn floor_entries(&self) -> Vec<Entry> {
        let raw = self.raw().into_iter();
        raw.filter_map(|(_, found)| {
            let action = table::most_specific(&self.case.floor["actions"], &found.category)?;
            entry(action.as_str()?, found)
        })
        .collect()
    }

    /// `strict` adds: critical findings block, disagreement above the margin and everything that
    /// is not clean and complete is reviewed.
    fn strict_entries(
        &self,
        resolved: &BTreeMap<String, &'static str>,
        conflicts: &BTreeMap<String, Outcome>,
        complete: bool,
    ) -> Vec<Entry> {
        let said = |action: &str, code: &str| (action.to_owned(), code.to_owned(), None);
        let mut entries = Vec::new();
        for (_, found) in self.counting() {
            if self.ignored(found) || !Self::stands(resolved, found) {
                continue;
            }
            if found.severity == "critical" {
                entries.push(said("block", &found.category));
            }
            let action = table::most_specific(&self.case.settings["actions"], &found.category);
            if action.is_none_or(|action| action != "allow") {
                entries.push(said("review", &found.category));
            }
        }
        let margin = self.case.settings["custom"]["disagreement_margin"].as_f64().unwrap_or(0.3);
        if conflicts.values().any(|c| c.labels > 1 && c.delta > margin) {
            entries.push(said("review", "disagreement"));
        }
        if !complete {
            entries.push(said("review", "coverage.incomplete"));
        }
        entries
    }
}

/// A redaction without a place is a review; `allow` is no entry.
fn entry(action: &str, found: &Found) -> Option<Entry> {
    let code = found.category.clone();
    match (action, found.slot) {
        ("allow", _) => None,
        ("redact", None) => Some(("review".to_owned(), code, None)),
        ("redact", slot) => Some(("redact".to_owned(), code, slot)),
        (action, _) => Some((action.to_owned(), code, None)),
    }
}
