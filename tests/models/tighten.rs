//! "Request options only tighten", written from the API page alone: what a caller may ask, what it
//! needs the scope to relax for, and what must then be named. Slow and literal.
//!
//! The page leaves three things open, which the model therefore lets pass either way and the test
//! holds to the outcome alone: excluding what no plan asks, a threshold that is above one
//! category's and below another's, and loosening what the floor requires anyway.

use std::collections::{BTreeMap, BTreeSet};

/// The detectors a tenant may name.
pub const DETECTORS: [&str; 7] =
    ["pii", "secrets", "toxicity-fixture", "regex-pii", "urls", "code", "echo"];
/// Shipped bundles, laxest first.
pub const BUNDLES: [&str; 2] = ["standard", "strict"];
/// Least urgent first.
pub const PRIORITIES: [&str; 4] = ["low", "normal", "high", "critical"];
/// Some of the tree of categories, as thresholds name it.
pub const CATEGORIES: [&str; 7] =
    ["pii", "pii.email", "pii.ssn", "secrets", "secrets.password", "toxicity", "hate"];

pub type Thresholds = BTreeMap<String, f64>;

/// What holds before the request says anything.
#[derive(Debug, Clone, Default)]
pub struct World {
    pub policies: Vec<&'static str>,
    pub default_policy: &'static str,
    pub required: BTreeSet<&'static str>,
    pub optional: BTreeSet<&'static str>,
    pub floor_required: BTreeSet<&'static str>,
    /// Of the chosen policy's plan.
    pub planned: BTreeMap<&'static str, Thresholds>,
    /// Of the tenant's file.
    pub tenant: Thresholds,
    /// The least urgent of the key's and the tenant's limit.
    pub most_urgent: &'static str,
    pub may_relax: bool,
}

/// What the request says.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    pub policy: Option<&'static str>,
    pub only: Vec<&'static str>,
    pub add: Vec<&'static str>,
    pub exclude: Vec<&'static str>,
    pub thresholds: Thresholds,
    pub priority: Option<&'static str>,
}

/// How the page reads one wish.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reading {
    Loosens,
    /// The page does not say.
    Open,
    Tightens,
}

/// One wish, read.
#[derive(Debug, Clone)]
pub struct Wish {
    /// By which a refusal and `relaxed[]` name it.
    pub pointer: String,
    pub reading: Reading,
}

/// What must happen.
#[derive(Debug, Clone, Default)]
pub struct Ruling {
    /// Codes and pointers, of which one must be answered; an empty pointer is any.
    pub refusals: Vec<(&'static str, String)>,
    /// The wishes, where nothing is wrong with the names.
    pub wishes: Vec<Wish>,
}

impl Ruling {
    pub fn all(&self, reading: Reading) -> impl Iterator<Item = &Wish> {
        self.wishes.iter().filter(move |wish| wish.reading == reading)
    }
}

pub fn rule(world: &World, asked: &Asked) -> Ruling {
    let mut ruling = Ruling::default();
    for (pointer, names) in
        [("only", &asked.only), ("add", &asked.add), ("exclude", &asked.exclude)]
    {
        for (index, name) in names.iter().enumerate() {
            if !DETECTORS.contains(name) {
                let pointer = format!("/detectors/{pointer}/{index}");
                ruling.refusals.push(("INVALID_REQUEST", pointer));
            }
        }
    }
    let policy = asked.policy.unwrap_or(world.default_policy);
    if !BUNDLES.contains(&policy) {
        ruling.refusals.push(("POLICY_NOT_FOUND", String::new()));
    } else if !world.policies.contains(&policy) {
        ruling.refusals.push(("POLICY_NOT_ALLOWED", String::new()));
    }
    if !ruling.refusals.is_empty() {
        return ruling;
    }
    let place = |name: &str| BUNDLES.iter().position(|bundle| *bundle == name);
    if asked.policy.is_some() {
        let reading = loosens(place(policy) < place(world.default_policy));
        ruling.wishes.push(wish("/policy", reading));
    }
    if let Some(priority) = asked.priority {
        let place = |name: &str| PRIORITIES.iter().position(|known| *known == name);
        let reading = loosens(place(priority) > place(world.most_urgent));
        ruling.wishes.push(wish("/priority", reading));
    }
    detectors(world, asked, &mut ruling.wishes);
    let planned = world.planned.get(policy).cloned().unwrap_or_default();
    for (key, value) in &asked.thresholds {
        let reading = threshold(key, *value, &planned, world, asked);
        ruling.wishes.push(wish(&format!("/detectors/thresholds/{key}"), reading));
    }
    if !world.may_relax {
        let due =
            ruling.all(Reading::Loosens).map(|wish| ("INSUFFICIENT_SCOPE", wish.pointer.clone()));
        ruling.refusals = due.collect();
    }
    ruling
}

fn wish(pointer: &str, reading: Reading) -> Wish {
    Wish { pointer: pointer.to_owned(), reading }
}

fn loosens(it_does: bool) -> Reading {
    if it_does { Reading::Loosens } else { Reading::Tightens }
}

/// `exclude` loosens; `only` does if it drops what would be asked: the page names required ones alone,
/// but an optional detector may be what a policy blocks on. What is added is asked whatever the others
/// say.
fn detectors(world: &World, asked: &Asked, wishes: &mut Vec<Wish>) {
    let of = |name: &'static str, pointer: &str| {
        if asked.add.contains(&name) || world.floor_required.contains(name) {
            wish(pointer, Reading::Open)
        } else {
            wish(pointer, Reading::Loosens)
        }
    };
    for (index, name) in asked.exclude.iter().enumerate() {
        let pointer = format!("/detectors/exclude/{index}");
        let mut read = of(name, &pointer);
        let dropped = !asked.only.is_empty() && !asked.only.contains(name);
        if dropped || !world.required.contains(name) && !world.optional.contains(name) {
            read.reading = Reading::Open;
        }
        wishes.push(read);
    }
    if !asked.only.is_empty() {
        let planned = world.required.iter().chain(&world.optional);
        let dropped = planned.filter(|name| !asked.only.contains(*name));
        let mut readings: Vec<_> =
            dropped.map(|name| of(name, "/detectors/only").reading).collect();
        readings.sort_unstable();
        let reading = readings.first().copied().unwrap_or(Reading::Tightens);
        wishes.push(wish("/detectors/only", reading));
    }
}

/// "Plan over tenant over .5", the most specific name first.
fn effective(category: &str, tables: &[&Thresholds]) -> f64 {
    let top = category.split('.').next().unwrap_or(category);
    let path = [category, top, "*"];
    let found = tables.iter().find_map(|table| path.iter().find_map(|name| table.get(*name)));
    found.copied().unwrap_or(0.5)
}

/// Raised where it is above what holds for every category that it speaks for; lowered where it is
/// above none of them.
fn threshold(key: &str, value: f64, planned: &Thresholds, world: &World, asked: &Asked) -> Reading {
    let under = |name: &str| key == "*" || name == key || name.starts_with(&format!("{key}."));
    let known = CATEGORIES.iter().filter(|name| under(name)).copied();
    let raised: Vec<bool> =
        known.map(|name| value > effective(name, &[planned, &world.tenant])).collect();
    // Another wish may speak for some of them instead.
    let shared = asked.thresholds.keys().any(|other| other != key && (key == "*" || under(other)));
    match (raised.iter().all(|it| *it), raised.iter().any(|it| *it)) {
        (_, false) => Reading::Tightens,
        (true, _) if !shared => Reading::Loosens,
        _ => Reading::Open,
    }
}
