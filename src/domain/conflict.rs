//! Settles different outputs of several detectors in one scope.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::content::ContentType;
use super::id::DetectorName;
use super::plan::{ResolveSpec, Strategy};

#[cfg(test)]
mod tests;

/// The label of a candidate with nothing to say against the content.
pub const CLEAN: &str = "clean";

/// How far apart two measures may lie and still be a tie.
const TIE: f64 = 1e-12;

/// One detector's vote in a scope.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// Who.
    pub detector: DetectorName,
    /// What it says; `clean` where it says nothing else.
    pub label: Arc<str>,
    /// How sure, 0..=1; `None` counts 0.
    pub score: Option<f64>,
}

/// What else the arithmetic needs to know about a scope.
#[derive(Debug, Clone, Default)]
pub struct Hints {
    /// How the policy wants it settled.
    pub spec: ResolveSpec,
    /// Decides the default strategy.
    pub content_type: ContentType,
    /// Weights of the detectors' files; `spec.weights` come first, missing ones are 1.0.
    pub file_weights: BTreeMap<DetectorName, f64>,
    /// The plan's required detectors.
    pub required: BTreeSet<DetectorName>,
}

/// The answer of the arithmetic.
#[derive(Debug, Clone, PartialEq)]
pub struct Settled {
    /// The strategy as reported: `required_detector_consensus->highest_confidence` for a fallback.
    pub strategy: &'static str,
    /// The winning label; `None` without candidates, or when `min_score` dropped them all.
    pub winner: Option<Arc<str>>,
    /// Who stands for it.
    pub detector: Option<DetectorName>,
    /// The winning score: the winning detector's own, or a consensus' minimum.
    pub score: Option<f64>,
    /// Such as `majority_vote->alphabetical`; a fallback's name where there was one.
    pub tie_breaker: Option<&'static str>,
    /// Distance to the runner-up.
    pub delta: f64,
    /// N(o), the weighted mean per label, also of labels that `min_score` dropped.
    pub normalized: BTreeMap<Arc<str>, f64>,
    /// Whether an unknown strategy name was replaced by the type's default.
    pub unknown_strategy: bool,
}

/// How a scope stands after all votes.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Resolved {
    /// Something speaks against the content.
    Flagged,
    /// Nothing does.
    Clear,
    /// The votes do not suffice.
    Unresolved,
}

impl Resolved {
    /// The name in the API and in Rego.
    pub fn name(self) -> &'static str {
        match self {
            Resolved::Flagged => "flagged",
            Resolved::Clear => "clear",
            Resolved::Unresolved => "unresolved",
        }
    }
}

/// Settles the votes of one scope. The order of `candidates` never matters.
///
/// Fewer than two labels need no strategy: the surest candidate wins, as `highest_confidence`.
pub fn settle(candidates: &[Candidate], hints: &Hints) -> Settled {
    let name = hints.spec.strategy.as_deref();
    let known = name.and_then(Strategy::parse);
    let strategy = known.unwrap_or_else(|| default_strategy(hints.content_type));
    let mut votes: Vec<&Candidate> = candidates.iter().collect();
    votes.sort_by(|a, b| {
        let by_name = (&a.detector, &a.label).cmp(&(&b.detector, &b.label));
        by_name.then_with(|| score(a).total_cmp(&score(b)))
    });
    let mut groups = grouped(&votes, hints);
    let normalized = groups.iter().map(|g| (Arc::clone(&g.label), g.mean)).collect();
    groups.retain(|group| group.top >= hints.spec.min_score);
    let settled = match groups.as_slice() {
        [] => nobody(),
        [only] => sole(only),
        several => contest(several, strategy, hints),
    };
    Settled { normalized, unknown_strategy: name.is_some() && known.is_none(), ..settled }
}

/// `k` flags of `n` planned voters flag a scope; `n − k + 1` clears make that impossible.
///
/// `n` counts voters that answered and voters that did not; `k > n` cannot be resolved.
pub fn quorum(k: u32, n: usize, flagged_by: usize, cleared_by: usize) -> Resolved {
    let k = k as usize;
    if k > n {
        Resolved::Unresolved
    } else if flagged_by >= k {
        Resolved::Flagged
    } else if cleared_by > n - k {
        Resolved::Clear
    } else {
        Resolved::Unresolved
    }
}

/// The strategy of a content type where the policy names none.
/// The strategy of scopes that no policy names.
pub fn default_strategy(content_type: ContentType) -> Strategy {
    match content_type {
        ContentType::Text => Strategy::WeightedAverage,
        ContentType::Image => Strategy::HighestConfidence,
        ContentType::Document => Strategy::MostRestrictive,
        ContentType::Code => Strategy::MajorityVote,
    }
}

/// Candidates of one label, in detector order, never empty.
struct Group<'a> {
    label: Arc<str>,
    members: Vec<&'a Candidate>,
    /// The surest member; the first by name among equals.
    best: &'a Candidate,
    top: f64,
    mean: f64,
}

impl Group<'_> {
    fn wins(&self, strategy: &'static str) -> Settled {
        Settled {
            strategy,
            winner: Some(Arc::clone(&self.label)),
            detector: Some(self.best.detector.clone()),
            score: self.best.score,
            ..nobody()
        }
    }

    fn vote_of(&self, detector: &DetectorName) -> Option<&Candidate> {
        self.members.iter().copied().find(|member| member.detector == *detector)
    }
}

fn nobody() -> Settled {
    Settled {
        strategy: HIGHEST_CONFIDENCE.strategy,
        winner: None,
        detector: None,
        score: None,
        tie_breaker: None,
        delta: 0.0,
        normalized: BTreeMap::new(),
        unknown_strategy: false,
    }
}

fn score(candidate: &Candidate) -> f64 {
    candidate.score.unwrap_or(0.0)
}

/// Groups in the order of their labels; `votes` are sorted by detector.
fn grouped<'a>(votes: &[&'a Candidate], hints: &Hints) -> Vec<Group<'a>> {
    let mut by_label: BTreeMap<&str, Vec<&'a Candidate>> = BTreeMap::new();
    for vote in votes {
        by_label.entry(vote.label.trim()).or_default().push(vote);
    }
    let group = |(label, members): (&str, Vec<&'a Candidate>)| {
        let best = *members.iter().reduce(|a, b| if score(b) > score(a) { b } else { a })?;
        let mean = mean(&members, hints);
        Some(Group { label: label.into(), best, top: score(best), mean, members })
    };
    by_label.into_iter().filter_map(group).collect()
}

/// Σ w·s / Σ w within 0..=1; 0 where nothing weighs.
fn mean(members: &[&Candidate], hints: &Hints) -> f64 {
    let weigh = |candidate: &Candidate| {
        let spec = hints.spec.weights.get(&candidate.detector);
        spec.or_else(|| hints.file_weights.get(&candidate.detector)).copied().unwrap_or(1.0)
    };
    let weights: f64 = members.iter().map(|c| weigh(c)).sum();
    let weighed: f64 = members.iter().map(|c| weigh(c) * score(c)).sum();
    let mean = weighed / weights;
    if mean.is_finite() { mean.clamp(0.0, 1.0) } else { 0.0 }
}

/// One label left: the surest wins, ahead of the second surest by `delta`.
fn sole(group: &Group) -> Settled {
    let mut scores: Vec<f64> = group.members.iter().map(|c| score(c)).collect();
    scores.sort_by(|a, b| b.total_cmp(a));
    let delta = match scores.as_slice() {
        [first, second, ..] => first - second,
        _ => 0.0,
    };
    Settled { delta, ..group.wins(HIGHEST_CONFIDENCE.strategy) }
}

fn contest(groups: &[Group], strategy: Strategy, hints: &Hints) -> Settled {
    let preferred = hints.spec.preferred_detector.as_ref();
    let mean = |group: &Group| group.mean;
    match strategy {
        Strategy::HighestConfidence => {
            ranked(groups, preferred, &HIGHEST_CONFIDENCE, &|group| group.top)
        }
        Strategy::WeightedAverage => ranked(groups, preferred, &WEIGHTED_AVERAGE, &mean),
        Strategy::MajorityVote => {
            let size = |group: &Group| group.members.len() as f64;
            Settled { delta: 0.0, ..ranked(groups, preferred, &MAJORITY_VOTE, &size) }
        }
        Strategy::MostRestrictive => most_restrictive(groups, hints),
        Strategy::TenantPreference => {
            let name = strategy.name();
            preferred.and_then(|wanted| preference(groups, wanted)).unwrap_or_else(|| Settled {
                strategy: name,
                ..ranked(groups, None, &WEIGHTED_AVERAGE, &mean)
            })
        }
        Strategy::RequiredDetectorConsensus => consensus(groups, hints),
    }
}

/// A strategy's name and its tie names: by preference, by confidence, by alphabet.
struct Names {
    strategy: &'static str,
    preferred: &'static str,
    confident: &'static str,
    alphabetical: &'static str,
}

macro_rules! names {
    ($name:literal) => {
        Names {
            strategy: $name,
            preferred: concat!($name, "->preferred_detector"),
            confident: concat!($name, "->highest_confidence"),
            alphabetical: concat!($name, "->alphabetical"),
        }
    };
}

const HIGHEST_CONFIDENCE: Names = names!("highest_confidence");
const WEIGHTED_AVERAGE: Names = names!("weighted_average");
const MAJORITY_VOTE: Names = names!("majority_vote");
const MOST_RESTRICTIVE: Names = names!("most_restrictive");
const CONSENSUS: Names = names!("required_detector_consensus");

/// The group with the highest `measure`; ties go to the preferred detector's group, then to the
/// single most confident one, then to the first label among the most confident.
fn ranked(
    groups: &[Group],
    preferred: Option<&DetectorName>,
    names: &Names,
    measure: &dyn Fn(&Group) -> f64,
) -> Settled {
    let best = groups.iter().map(measure).fold(f64::NEG_INFINITY, f64::max);
    let (tied, others): (Vec<&Group>, Vec<&Group>) =
        groups.iter().partition(|group| measure(group) >= best - TIE);
    if let [winner] = tied.as_slice() {
        let next = others.into_iter().map(measure).max_by(f64::total_cmp);
        let delta = next.map_or(0.0, |next| best - next);
        return Settled { delta, ..winner.wins(names.strategy) };
    }
    if let Some(group) = preferred.and_then(|d| tied.iter().find(|g| g.vote_of(d).is_some())) {
        return Settled { tie_breaker: Some(names.preferred), ..group.wins(names.strategy) };
    }
    let top = tied.iter().map(|group| group.top).fold(f64::NEG_INFINITY, f64::max);
    let surest: Vec<&&Group> = tied.iter().filter(|group| group.top >= top - TIE).collect();
    let (first, tie_breaker) = match surest.as_slice() {
        [] => return nobody(),
        [only] => (only, names.confident),
        [first, ..] => (first, names.alphabetical),
    };
    Settled { tie_breaker: Some(tie_breaker), ..first.wins(names.strategy) }
}

/// By rank; a label without one ranks 0. Without any rank by mean.
fn most_restrictive(groups: &[Group], hints: &Hints) -> Settled {
    let ranks = &hints.spec.severity_rank;
    let preferred = hints.spec.preferred_detector.as_ref();
    let rank = |group: &Group| ranks.get(group.label.as_ref()).copied();
    if groups.iter().all(|group| rank(group).is_none()) {
        return ranked(groups, preferred, &MOST_RESTRICTIVE, &|group| group.mean);
    }
    let measure = |group: &Group| rank(group).unwrap_or(0.0);
    let won = ranked(groups, preferred, &MOST_RESTRICTIVE, &measure);
    if won.tie_breaker.is_some() {
        return won;
    }
    let (winner, others): (Vec<&Group>, Vec<&Group>) =
        groups.iter().partition(|group| Some(&group.label) == won.winner.as_ref());
    let next = others
        .into_iter()
        .max_by(|a, b| measure(a).total_cmp(&measure(b)).then(a.mean.total_cmp(&b.mean)));
    let delta = winner.first().zip(next).map_or(0.0, |(a, b)| (a.mean - b.mean).abs());
    Settled { delta, ..won }
}

fn preference(groups: &[Group], wanted: &DetectorName) -> Option<Settled> {
    let (group, vote) = groups.iter().find_map(|g| g.vote_of(wanted).map(|vote| (g, vote)))?;
    Some(Settled {
        detector: Some(wanted.clone()),
        score: vote.score,
        tie_breaker: Some("preferred_detector"),
        ..group.wins(Strategy::TenantPreference.name())
    })
}

/// The label on which all required detectors agree; else the surest of them; without any of them
/// the surest of all.
fn consensus(groups: &[Group], hints: &Hints) -> Settled {
    let votes: Vec<&Candidate> = groups
        .iter()
        .flat_map(|group| group.members.iter().copied())
        .filter(|vote| hints.required.contains(&vote.detector))
        .collect();
    let required = grouped(&votes, hints);
    let fallback = |among: &[Group]| {
        let preferred = hints.spec.preferred_detector.as_ref();
        let won = ranked(among, preferred, &HIGHEST_CONFIDENCE, &|group| group.top);
        let name = CONSENSUS.confident;
        Settled { strategy: name, tie_breaker: Some(name), ..won }
    };
    match required.as_slice() {
        [] => fallback(groups),
        [agreed] => {
            let least = agreed.members.iter().map(|c| score(c)).min_by(f64::total_cmp);
            Settled { score: least, ..agreed.wins(CONSENSUS.strategy) }
        }
        several => fallback(several),
    }
}
