//! Random tables, tenants, requests and answers.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::vectors::{Scene, make};
use super::{Answer, Expected, Found, WORLD, categories_of};

/// A small generator of its own, so that a seed names a run for ever.
pub struct Source(u64);

impl Source {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// SplitMix64, Steele, Lea, Flood 2014.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }
}

const ACTIONS: [&str; 5] = ["allow", "flag", "redact", "review", "block"];
const SCOPES: [&str; 9] = [
    "*",
    "toxicity",
    "toxicity.insult",
    "toxicity.threat",
    "pii",
    "pii.person",
    "hate",
    "secrets",
    "injection",
];
pub const STRATEGIES: [&str; 6] = [
    "highest_confidence",
    "weighted_average",
    "majority_vote",
    "most_restrictive",
    "tenant_preference",
    "required_detector_consensus",
];
const LABELS: [&str; 5] = ["clean", "toxic", "INSULT", "THREAT", "NAME"];
const SCORES: [f64; 9] = [0.1, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0];

pub fn floor(source: &mut Source) -> Value {
    let mut floor = json!({});
    if source.chance(60) {
        floor["actions"] = actions(source, 2);
    }
    if source.chance(50) {
        floor["required"] = json!([source.one(&["inj", "sn", "tox-c"])]);
        floor["min_coverage"] = json!(*source.one(&[0.0, 0.5, 1.0]));
    }
    if source.chance(30) {
        floor["on_incomplete"] = json!("allow");
    }
    floor
}

fn actions(source: &mut Source, most: usize) -> Value {
    let mut map = Map::new();
    for _ in 0..=source.below(most) {
        map.insert((*source.one(&SCOPES)).to_owned(), json!(source.one(&ACTIONS)));
    }
    Value::Object(map)
}

/// A tenant with its table.
pub fn scene(source: &mut Source, floor: &Value) -> Scene {
    let names: Vec<&str> = WORLD.iter().map(|(name, ..)| *name).collect();
    let (mut required, mut optional) = (vec!["tox-a"], Vec::new());
    for name in &names {
        match source.below(10) {
            0..=3 => required.push(name),
            4..=6 => optional.push(*name),
            _ => {}
        }
    }
    if source.chance(10) {
        required = Vec::new();
    }
    required.sort_unstable();
    required.dedup();
    let mut table = json!({"required": required, "optional": optional});
    if source.chance(60) {
        table["actions"] = actions(source, 4);
    }
    if source.chance(25) {
        let mild = ["toxicity", "pii", "secrets", "injection"];
        table["actions"] = mild.iter().map(|name| ((*name).to_owned(), json!("flag"))).collect();
    }
    if source.chance(40) {
        let key = *source.one(&SCOPES);
        table["thresholds"] = json!({key: *source.one(&[0.3, 0.6, 0.8])});
    }
    if source.chance(70) {
        let resolve: Map<String, Value> = (0..=source.below(3))
            .map(|_| ((*source.one(&SCOPES)).to_owned(), chosen(source)))
            .collect();
        table["resolve"] = Value::Object(resolve);
    }
    if source.chance(45) {
        let quorum: Map<String, Value> = (0..=source.below(2))
            .map(|_| ((*source.one(&SCOPES)).to_owned(), json!(1 + source.below(4))))
            .collect();
        table["quorum"] = Value::Object(quorum);
    }
    coverage(source, &mut table);
    let mail = source.chance(40).then(|| *source.one(&["acme.com", "evil.io"]));
    if source.chance(40) {
        let category = *source.one(&["pii", "pii.email", "secrets"]);
        table["ignore"] =
            json!([{"category": category, "attribute": "domain", "values": ["acme.com"]}]);
    }
    let bundle = if source.chance(15) { "strict" } else { "standard" };
    let mut scene = make(bundle, table, floor, mail, BTreeMap::new());
    tenant(source, &mut scene);
    scene
}

fn chosen(source: &mut Source) -> Value {
    // Few candidates are all required ones that agree, and few have what a tenant prefers, so
    // these are drawn more often.
    let strategy = match source.below(100) {
        0..=29 => "required_detector_consensus",
        30..=39 => "tenant_preference",
        _ => *source.one(&STRATEGIES),
    };
    let mut chosen = json!({"strategy": strategy});
    if source.chance(35) {
        chosen["min_score"] = json!(*source.one(&[0.2, 0.55, 0.85, 0.95]));
    }
    if strategy == "tenant_preference" || source.chance(20) {
        chosen["preferred_detector"] = json!(*source.one(&["tox-a", "tox-b", "multi", "pn"]));
    }
    if strategy == "most_restrictive" && source.chance(70) {
        let ranks: Map<String, Value> =
            LABELS.iter().map(|l| ((*l).to_owned(), json!(source.below(4)))).collect();
        chosen["severity_rank"] = Value::Object(ranks);
    }
    if source.chance(25) {
        chosen["weights"] = json!({"tox-a": *source.one(&[0.0, 0.5, 3.0]), "multi": 1.0});
    }
    chosen
}

fn coverage(source: &mut Source, table: &mut Value) {
    if source.chance(50) {
        let method = *source.one(&["required_set", "weighted", "taxonomy"]);
        let threshold = *source.one(&[0.0, 0.5, 0.8, 1.0]);
        let mut spec = json!({"method": method, "threshold": threshold});
        if method == "weighted" && source.chance(70) {
            spec["weights"] = json!({"tox-a": 3.0, "tox-b": 0.5});
        }
        if method == "taxonomy" && source.chance(60) {
            spec["categories"] = json!(["toxicity", "pii"]);
        }
        if method != "taxonomy" && source.chance(30) {
            spec["substitutes"] = json!({"tox-b": ["tox-c"], "tox-a": ["multi"]});
        }
        table["coverage"] = spec;
    }
    if source.chance(20) {
        table["skip"] = json!([source.one(&["tox-b", "inj", "sn"])]);
    }
}

fn tenant(source: &mut Source, scene: &mut Scene) {
    let least = super::rank(scene.case.floor["on_incomplete"].as_str().unwrap_or("allow"));
    if source.chance(50) {
        let permitted = &ACTIONS[least..];
        scene.case.tenant["on_incomplete"] = json!(source.one(permitted));
    }
    if source.chance(12) {
        scene.case.tenant["mode"] = json!("monitor");
    }
    if source.chance(20) {
        scene.case.tenant["thresholds"] = json!({"toxicity": 0.7});
    }
}

/// The same tenant with other answers and another request.
pub fn with_answers(source: &mut Source, scene: &Scene) -> Scene {
    let mut scene = scene.clone();
    let ill = *source.one(&[0, 0, 10, 30, 60]);
    for (name, ..) in &WORLD[2..] {
        let answer = if source.chance(ill) { Answer::Failed } else { said(source, name) };
        scene.case.answers.insert((*name).to_owned(), answer);
    }
    let mut request = json!({});
    if source.chance(30) {
        request["type"] = json!(source.one(&["code", "document"]));
    }
    if source.chance(15) {
        request["event"] = json!(source.one(&["pipeline.completed", "content.publish", "nobody"]));
    }
    let mut wish = json!({});
    if source.chance(15) {
        wish["add"] = json!([source.one(&["inj", "tox-b", "pn"])]);
    }
    if source.chance(10) {
        wish["exclude"] = json!([source.one(&["tox-a", "tox-c", "sn"])]);
    }
    if source.chance(15) {
        wish["thresholds"] = json!({"*": 0.2});
    }
    request["detectors"] = wish;
    scene.case.request = request;
    scene
}

fn said(source: &mut Source, name: &str) -> Answer {
    let category = *source.one(categories_of(name));
    let score = *source.one(&SCORES);
    let one = |category: &str, label: &str, score, slot, severity: &str| Found {
        category: category.to_owned(),
        label: label.to_owned(),
        score,
        severity: severity.to_owned(),
        slot,
        attributes: BTreeMap::new(),
    };
    match source.below(10) {
        0..=2 => Answer::Clean(score),
        3 => Answer::Found(Vec::new()),
        4..=5 if name.starts_with("tox") => {
            Answer::Found(vec![one(category, "toxic", score, None, "medium")])
        }
        _ => {
            let deeper: &[(&str, &str)] = match category {
                "toxicity" => &[("toxicity.insult", "INSULT"), ("toxicity.threat", "THREAT")],
                "pii" => &[("pii.person", "NAME"), ("pii.ip_address", "IP")],
                "secrets" => &[("secrets.private_key", "KEY"), ("secrets.password", "PASSWORD")],
                "hate" => &[("hate", "HATE")],
                _ => &[("injection.jailbreak", "JAILBREAK")],
            };
            let found = (0..=source.below(2)).map(|_| {
                let (category, label) = *source.one(deeper);
                let slot = source.chance(60).then(|| 1 + source.below(3));
                let severity = *source.one(&["low", "medium", "high", "critical"]);
                one(category, label, *source.one(&SCORES), slot, severity)
            });
            Answer::Found(found.collect())
        }
    }
}

/// What the random cases were like.
#[derive(Default)]
pub struct Mix {
    cases: usize,
    counts: BTreeMap<String, usize>,
}

impl Mix {
    pub fn case(&mut self, scene: &Scene, expected: &Expected) {
        self.cases += 1;
        let mut classes = std::collections::BTreeSet::new();
        classes.insert(format!("action {}", expected.action));
        for how in expected.resolved.values() {
            classes.insert(format!("resolved {how}"));
        }
        for outcome in expected.conflicts.values().filter(|o| o.labels > 1) {
            classes.insert(format!("settled by {}", outcome.strategy));
        }
        let has = |key: &str| scene.overlay.get(key).is_some();
        for (class, holds) in [
            ("a quorum", has("quorum")),
            ("incomplete", !expected.complete),
            ("a tie", expected.conflicts.values().any(|o| o.tie.is_some())),
            ("monitored", expected.would.is_some()),
            ("something redacted", !expected.redacted.is_empty()),
            ("strict", scene.bundle == "strict"),
        ] {
            if holds {
                classes.insert(class.to_owned());
            }
        }
        for class in classes {
            *self.counts.entry(class).or_default() += 1;
        }
    }

    /// Prints the mix; every class must make two in a hundred.
    #[expect(clippy::print_stdout, reason = "the mix is read with --nocapture")]
    #[track_caller]
    pub fn every_class_was_met(&self) {
        println!("{} cases", self.cases);
        for (class, count) in &self.counts {
            println!("  {:5.1} %  {class}", 100.0 * *count as f64 / self.cases as f64);
        }
        let rare: Vec<_> =
            self.counts.iter().filter(|(_, count)| **count * 50 < self.cases).collect();
        let wanted = ACTIONS.iter().map(|a| format!("action {a}"));
        let wanted = wanted.chain(STRATEGIES.iter().map(|s| format!("settled by {s}")));
        let missing: Vec<_> = wanted.filter(|class| !self.counts.contains_key(class)).collect();
        assert!(rare.is_empty() && missing.is_empty(), "hardly met: {rare:?} {missing:?}");
    }
}
