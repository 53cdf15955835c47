//! The strategies: who wins among those who answered.

use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Clone)]
pub struct Candidate {
    pub detector: String,
    pub label: String,
    pub score: Option<f64>,
    pub flagged: bool,
}

pub struct Config {
    pub strategy: String,
    pub weights: BTreeMap<String, f64>,
    pub preferred: Option<String>,
    pub ranks: BTreeMap<String, f64>,
    pub min_score: f64,
    pub required: BTreeSet<String>,
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct Outcome {
    pub strategy: String,
    pub winner: Option<String>,
    pub detector: Option<String>,
    pub tie: Option<String>,
    pub delta: f64,
    /// How many distinct labels there were, also below `min_score`.
    pub labels: usize,
}

const SAME: f64 = 1e-12;

type Groups<'a> = BTreeMap<&'a str, Vec<&'a Candidate>>;

pub fn settle(all: &[Candidate], config: &Config) -> Outcome {
    let groups = group(all.iter());
    let said = groups.len();
    let left: Vec<&Candidate> =
        groups.into_values().filter(|group| top(group) >= config.min_score).flatten().collect();
    let groups = group(left.iter().copied());
    let outcome = match (groups.len(), config.strategy.as_str()) {
        (0, _) => Outcome { strategy: "highest_confidence".to_owned(), ..Outcome::default() },
        (1, _) => alone(&left),
        (_, "tenant_preference") => preferred(&left, config),
        (_, "required_detector_consensus") => consensus(&left, config),
        (_, strategy) => strongest(&groups, strategy, config),
    };
    Outcome { labels: said, ..outcome }
}

fn group<'a>(candidates: impl Iterator<Item = &'a Candidate>) -> Groups<'a> {
    let mut groups = Groups::new();
    for candidate in candidates {
        groups.entry(candidate.label.as_str()).or_default().push(candidate);
    }
    groups
}

fn score(candidate: &Candidate) -> f64 {
    candidate.score.unwrap_or(0.0)
}

fn top(group: &[&Candidate]) -> f64 {
    group.iter().map(|c| score(c)).fold(0.0, f64::max)
}

fn best(group: &[&Candidate]) -> String {
    let mut sorted = group.to_vec();
    sorted.sort_by(|a, b| score(b).total_cmp(&score(a)).then(a.detector.cmp(&b.detector)));
    sorted[0].detector.clone()
}

fn mean(group: &[&Candidate], config: &Config) -> f64 {
    let weight = |c: &Candidate| config.weights.get(&c.detector).copied().unwrap_or(1.0);
    let all: f64 = group.iter().map(|c| weight(c)).sum();
    if all == 0.0 {
        return 0.0;
    }
    (group.iter().map(|c| weight(c) * score(c)).sum::<f64>() / all).clamp(0.0, 1.0)
}

fn alone(left: &[&Candidate]) -> Outcome {
    let mut scores: Vec<f64> = left.iter().map(|c| score(c)).collect();
    scores.sort_by(|a, b| b.total_cmp(a));
    Outcome {
        strategy: "highest_confidence".to_owned(),
        winner: Some(left[0].label.clone()),
        detector: Some(best(left)),
        delta: if scores.len() > 1 { scores[0] - scores[1] } else { 0.0 },
        ..Outcome::default()
    }
}

fn preferred(left: &[&Candidate], config: &Config) -> Outcome {
    let wanted = left.iter().find(|c| Some(&c.detector) == config.preferred.as_ref());
    let by_preference = wanted.map(|c| Outcome {
        winner: Some(c.label.clone()),
        detector: Some(c.detector.clone()),
        tie: Some("preferred_detector".to_owned()),
        ..Outcome::default()
    });
    let average = || strongest(&group(left.iter().copied()), "weighted_average", config);
    let outcome = by_preference.unwrap_or_else(average);
    Outcome { strategy: "tenant_preference".to_owned(), ..outcome }
}

fn consensus(left: &[&Candidate], config: &Config) -> Outcome {
    let name = "required_detector_consensus";
    let required: Vec<&Candidate> =
        left.iter().copied().filter(|c| config.required.contains(&c.detector)).collect();
    let groups = group(required.iter().copied());
    if groups.len() == 1 {
        return Outcome {
            strategy: name.to_owned(),
            winner: Some(required[0].label.clone()),
            detector: Some(best(&required)),
            ..Outcome::default()
        };
    }
    let among = if required.is_empty() { group(left.iter().copied()) } else { groups };
    let outcome = strongest(&among, "highest_confidence", config);
    let fallback = "required_detector_consensus->highest_confidence".to_owned();
    Outcome { strategy: fallback.clone(), tie: Some(fallback), ..outcome }
}

fn strongest(groups: &Groups<'_>, strategy: &str, config: &Config) -> Outcome {
    let ranked = groups.keys().any(|label| config.ranks.contains_key(*label));
    let strength = |label: &str| {
        let group = &groups[label];
        match strategy {
            "highest_confidence" => top(group),
            "majority_vote" => group.len() as f64,
            "most_restrictive" if ranked => config.ranks.get(label).copied().unwrap_or(0.0),
            _ => mean(group, config),
        }
    };
    let most = groups.keys().map(|label| strength(label)).fold(f64::MIN, f64::max);
    let tied: Vec<&str> =
        groups.keys().copied().filter(|label| most - strength(label) <= SAME).collect();
    let (winner, tie) = break_tie(groups, &tied, config);
    let others = groups.keys().copied().filter(|label| *label != winner);
    let next = others.max_by(|a, b| {
        let mean = |label: &str| mean(&groups[label], config);
        strength(a).total_cmp(&strength(b)).then(mean(a).total_cmp(&mean(b)))
    });
    let delta = match (strategy, next) {
        _ if tie.is_some() => 0.0,
        ("majority_vote", _) | (_, None) => 0.0,
        ("most_restrictive", Some(next)) => {
            (mean(&groups[winner], config) - mean(&groups[next], config)).abs()
        }
        (_, Some(next)) => most - strength(next),
    };
    Outcome {
        strategy: strategy.to_owned(),
        winner: Some(winner.to_owned()),
        detector: Some(best(&groups[winner])),
        tie: tie.map(|how| format!("{strategy}->{how}")),
        delta,
        ..Outcome::default()
    }
}

fn break_tie<'a>(
    groups: &Groups<'_>,
    tied: &[&'a str],
    config: &Config,
) -> (&'a str, Option<&'static str>) {
    if let [only] = tied {
        return (only, None);
    }
    let holds_preferred = |label: &&&str| {
        groups[**label].iter().any(|c| Some(&c.detector) == config.preferred.as_ref())
    };
    if let Some(label) = tied.iter().find(holds_preferred) {
        return (label, Some("preferred_detector"));
    }
    let most = tied.iter().map(|label| top(&groups[*label])).fold(0.0, f64::max);
    let sharing: Vec<&&str> =
        tied.iter().filter(|label| most - top(&groups[**label]) <= SAME).collect();
    match sharing.as_slice() {
        [only] => (only, Some("highest_confidence")),
        several => (several.iter().min().unwrap(), Some("alphabetical")),
    }
}
