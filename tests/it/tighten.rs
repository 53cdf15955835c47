//! Random requests with options, held against the same requests without them and against a model
//! of what the API page says they may do.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::StreamExt as _;
use serde_json::{Value, json};

use crate::access::{BOOT, key};
use crate::app::{Answer, App, spawn_closed_with, write};
use crate::model::random::Source;
use crate::model::rank;
use crate::tighten_model::{
    Asked, BUNDLES, CATEGORIES, DETECTORS, PRIORITIES, Reading, Ruling, World, rule,
};

const TENANTS: usize = 24;
const CASES: usize = 6_000;
/// Policies that requests name.
const ASKED: [&str; 7] =
    [BUNDLES[0], BUNDLES[0], BUNDLES[0], BUNDLES[1], BUNDLES[1], BUNDLES[1], "absent"];
/// Of plans and tenants, which leave requests room below them.
const SET: [f64; 5] = [0.3, 0.5, 0.95, 1.0, 1.0];
const VALUES: [f64; 6] = [0.1, 0.3, 0.5, 0.7, 0.95, 1.0];
/// Of both bundles, in this order; the second has a threshold of its own.
const STRICT: (&str, f64) = ("*", 0.3);
/// What the floor says of every social security number.
const FLOOR: &str = "review";
const WORDS: [&str; 7] = [
    "ana@evil.io",
    "123-45-6789",
    "toxic",
    "password: hunter2xyz",
    "https://evil.io/a",
    "toxic and hate",
    "abuse",
];

/// A tenant, and the keys that act for it.
struct Party {
    world: World,
    monitor: bool,
    tenant_most: &'static str,
    /// May relax; its limit of priority; the key.
    keys: Vec<(bool, Option<&'static str>, String)>,
}

#[tokio::test]
async fn what_a_request_asks_only_tightens_unless_it_may_relax() {
    let seed = std::env::var("TIGHTEN_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(6);
    let mut source = Source::new(seed);
    let mut parties: Vec<Party> = (0..TENANTS).map(|_| party(&mut source)).collect();
    let app = spawn_closed_with(BOOT, |root| {
        let floor = json!({"settings": {
            "required": ["regex-pii"], "min_coverage": 0.0, "on_incomplete": "flag",
            "actions": {"pii.ssn": FLOOR}, "names": {},
        }});
        write(root, "policies/floor/data.yaml", &floor.to_string());
        for (number, party) in parties.iter().enumerate() {
            files(root, number, party);
        }
    })
    .await;
    for (number, party) in parties.iter_mut().enumerate() {
        for relax in [false, true] {
            for limit in [None, Some("normal")] {
                let mut scopes = vec!["orchestrate:write"];
                scopes.extend(relax.then_some("orchestrate:relax"));
                let mut body = json!({"scopes": scopes, "tenant": format!("t{number}")});
                if let Some(limit) = limit {
                    body["max_priority"] = json!(limit);
                }
                party.keys.push((relax, limit, key(&app, body).await));
            }
        }
    }
    let cases: Vec<_> = (0..CASES).map(|_| case(&mut source, &parties)).collect();
    let played = futures_util::stream::iter(cases).map(|case| play(&app, case)).buffered(8);
    let (mut mix, mut wrong) = (BTreeMap::<String, usize>::new(), Vec::new());
    let mut played = std::pin::pin!(played);
    while let Some((seen, faults)) = played.next().await {
        seen.into_iter().for_each(|class| *mix.entry(class).or_default() += 1);
        wrong.extend(faults);
    }
    println!("of {CASES} requests (seed {seed}): {mix:#?}");
    let shown: Vec<_> = wrong.iter().take(5).cloned().collect();
    assert!(wrong.is_empty(), "{} of {CASES} wrong:\n{}", wrong.len(), shown.join("\n\n"));
    for class in CLASSES {
        let met = mix.get(class).copied().unwrap_or(0);
        assert!(met * 100 >= CASES * 3, "{class}: only {met} of {CASES}");
    }
}

/// Each must be met by three of a hundred requests.
const CLASSES: [&str; 17] = [
    "refused INVALID_REQUEST",
    "refused POLICY_NOT_ALLOWED",
    "refused POLICY_NOT_FOUND",
    "refused exclude",
    "refused only",
    "refused thresholds",
    "refused priority",
    "refused policy",
    "relaxed exclude",
    "relaxed only",
    "relaxed thresholds",
    "relaxed priority",
    "relaxed policy",
    "stricter",
    "laxer, relaxed",
    "monitor",
    "held by the floor",
];

fn party(source: &mut Source) -> Party {
    let some = |source: &mut Source, percent| -> BTreeSet<&'static str> {
        DETECTORS.into_iter().filter(|_| source.chance(percent)).collect()
    };
    let floor_required = BTreeSet::from(["regex-pii"]);
    let mut required = some(source, 25);
    required.extend(floor_required.iter());
    let optional: BTreeSet<_> =
        some(source, 45).into_iter().filter(|name| !required.contains(name)).collect();
    let overlay = thresholds(source, 4, &SET);
    let mut strict = overlay.clone();
    strict.entry(STRICT.0.to_owned()).or_insert(STRICT.1);
    let policies = match source.below(3) {
        0 => vec![*source.one(&BUNDLES)],
        _ => BUNDLES.to_vec(),
    };
    let strict_by_default = source.chance(65);
    let default = if strict_by_default { policies.last() } else { policies.first() };
    let world = World {
        default_policy: default.unwrap(),
        policies,
        required,
        optional,
        floor_required,
        planned: BTreeMap::from([(BUNDLES[0], overlay), (BUNDLES[1], strict)]),
        tenant: thresholds(source, 3, &SET),
        ..World::default()
    };
    let tenant_most = *source.one(&["critical", "normal"]);
    Party { world, monitor: source.chance(25), tenant_most, keys: Vec::new() }
}

fn thresholds(source: &mut Source, most: usize, values: &[f64]) -> BTreeMap<String, f64> {
    let named = |source: &mut Source| match source.chance(15) {
        true => "*".to_owned(),
        false => (*source.one(&CATEGORIES)).to_owned(),
    };
    (0..source.below(most + 1)).map(|_| (named(source), *source.one(values))).collect()
}

fn files(root: &std::path::Path, number: usize, party: &Party) {
    let world = &party.world;
    let id = format!("t{number}");
    let file = json!({
        "schema_version": 1, "id": id, "policies": world.policies,
        "default_policy": world.default_policy, "thresholds": world.tenant,
        "mode": if party.monitor { "monitor" } else { "enforce" },
        "max_priority": party.tenant_most, "tier": "unlimited",
        "rate_limit": {"per_minute": 1_000_000, "burst": 1_000_000},
    });
    write(root, &format!("config/tenants/{id}.yaml"), &file.to_string());
    for bundle in &world.policies {
        let own: BTreeSet<_> = world.required.difference(&world.floor_required).collect();
        let table = json!({"settings": {
            "required": own, "optional": world.optional, "thresholds": world.planned[BUNDLES[0]],
            "actions": {"pii": "redact", "secrets": "block", "toxicity": "review", "link": "flag"},
        }});
        let path = format!("policies/tenants/{id}/{bundle}/data.yaml");
        write(root, &path, &table.to_string());
    }
}

/// One request: for whom, under which key, and what it asks.
struct Case {
    world: World,
    monitor: bool,
    key: String,
    content: String,
    asked: Asked,
}

fn case(source: &mut Source, parties: &[Party]) -> Case {
    let party = source.one(parties);
    let (may_relax, limit, key) = source.one(&party.keys).clone();
    let place = |name| PRIORITIES.iter().position(|known| *known == name);
    let most_urgent = match limit {
        Some(limit) if place(limit) < place(party.tenant_most) => limit,
        _ => party.tenant_most,
    };
    let words: Vec<_> = (0..1 + source.below(2)).map(|_| *source.one(&WORDS)).collect();
    Case {
        world: World { may_relax, most_urgent, ..party.world.clone() },
        monitor: party.monitor,
        key,
        content: words.join(" and "),
        asked: match source.below(20) {
            0 | 1 => everything(source),
            2 | 3 => nothing(&party.world),
            _ => asked(source),
        },
    }
}

/// As strict as a request can be.
fn everything(source: &mut Source) -> Asked {
    let mut asked = Asked { add: DETECTORS.to_vec(), ..Asked::default() };
    if source.chance(70) {
        asked.thresholds = BTreeMap::from([("*".to_owned(), VALUES[0])]);
    }
    asked
}

/// As lax as a request can be.
fn nothing(world: &World) -> Asked {
    Asked { exclude: world.required.union(&world.optional).copied().collect(), ..Asked::default() }
}

/// Few wishes at once, so that many requests are granted.
fn asked(source: &mut Source) -> Asked {
    let mut asked = Asked::default();
    let names = |source: &mut Source, most: usize| -> Vec<&'static str> {
        let unknown = source.chance(12);
        let one = |source: &mut Source| *source.one(&DETECTORS);
        let mut names: Vec<_> = (0..=source.below(most)).map(|_| one(source)).collect();
        names.extend(unknown.then_some("no-such"));
        names.sort_unstable();
        names.dedup();
        names
    };
    for _ in 0..=source.below(3) {
        match source.below(22) {
            0 | 1 => asked.only = names(source, 5),
            2..=4 => asked.add = names(source, 3),
            5 | 6 => asked.exclude = names(source, 2),
            7..=10 => asked.thresholds = thresholds(source, 3, &VALUES),
            11..=14 => asked.priority = Some(*source.one(&PRIORITIES)),
            _ => asked.policy = Some(*source.one(&ASKED)),
        }
    }
    asked
}

fn body(content: &str, asked: &Asked) -> Value {
    let detectors = json!({
        "only": asked.only, "add": asked.add, "exclude": asked.exclude,
        "thresholds": asked.thresholds,
    });
    let mut body = json!({"content": content, "detectors": detectors, "timeout_ms": 60_000});
    if let Some(policy) = asked.policy {
        body["policy"] = json!(policy);
    }
    if let Some(priority) = asked.priority {
        body["priority"] = json!(priority);
    }
    body
}

/// Which classes the case belongs to, and what is wrong about the answer.
async fn play(app: &App, case: Case) -> (Vec<String>, Vec<String>) {
    let ask = async |asked: &Asked| {
        let headers = [("content-type", "application/json"), ("x-api-key", case.key.as_str())];
        let body = body(&case.content, asked).to_string();
        app.send("POST", "/api/v1/orchestrate", &headers, body.as_bytes()).await
    };
    let ruling = rule(&case.world, &case.asked);
    let answer = ask(&case.asked).await;
    let mut seen: Vec<String> = Vec::new();
    let mut wrong = Vec::new();
    if answer.status == 200 {
        granted(&case, &ruling, (&ask(&Asked::default()).await, &answer), (&mut seen, &mut wrong));
    } else {
        refused(&ruling, &answer, (&mut seen, &mut wrong));
    }
    let told = |fault: String| {
        format!(
            "{fault}\nasked {:?}\nof {:?}\nby {:?}\n{}",
            case.asked, case.world, case.content, answer.text
        )
    };
    (seen, wrong.into_iter().map(told).collect())
}

type Notes<'a> = (&'a mut Vec<String>, &'a mut Vec<String>);

/// `/detectors/only` is `only`.
fn kind(pointer: &str) -> &str {
    let words = pointer.trim_start_matches("/detectors");
    words.split('/').nth(1).unwrap_or(pointer)
}

fn refused(ruling: &Ruling, answer: &Answer, (seen, wrong): Notes<'_>) {
    let problem = answer.json();
    let code = problem["code"].as_str().unwrap();
    let errors = problem["errors"].as_array().cloned().unwrap_or_default();
    let pointers: Vec<&str> = errors.iter().filter_map(|error| error["pointer"].as_str()).collect();
    let due = ruling.refusals.iter().any(|(wanted, pointer)| {
        *wanted == code && (pointer.is_empty() || pointers.contains(&pointer.as_str()))
    });
    let open = code == "INSUFFICIENT_SCOPE"
        && ruling.all(Reading::Open).any(|wish| pointers.contains(&wish.pointer.as_str()));
    if !due && !open {
        wrong.push(format!("refused with {code} {pointers:?}; due: {:?}", ruling.refusals));
    }
    let tightens =
        |pointer: &&&str| ruling.all(Reading::Tightens).any(|wish| wish.pointer == **pointer);
    if code == "INSUFFICIENT_SCOPE"
        && let Some(free) = pointers.iter().find(|p| tightens(p))
    {
        wrong.push(format!("{free} tightens and was refused"));
    }
    match code {
        "INSUFFICIENT_SCOPE" => {
            let kinds: BTreeSet<&str> = pointers.iter().map(|pointer| kind(pointer)).collect();
            seen.extend(kinds.into_iter().map(|kind| format!("refused {kind}")));
        }
        code => seen.push(format!("refused {code}")),
    }
}

fn granted(
    case: &Case,
    ruling: &Ruling,
    (plain, answer): (&Answer, &Answer),
    (seen, wrong): Notes<'_>,
) {
    if !ruling.refusals.is_empty() {
        wrong.push(format!("granted; due: {:?}", ruling.refusals));
    }
    let value = answer.json();
    let relaxed: BTreeSet<&str> =
        value["relaxed"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for wish in &ruling.wishes {
        match (wish.reading, relaxed.contains(wish.pointer.as_str())) {
            (Reading::Loosens, false) => wrong.push(format!("{} is not named", wish.pointer)),
            (Reading::Tightens, true) => wrong.push(format!("{} is named", wish.pointer)),
            _ => {}
        }
    }
    let kinds: BTreeSet<&str> = relaxed.iter().map(|pointer| kind(pointer)).collect();
    seen.extend(kinds.into_iter().map(|kind| format!("relaxed {kind}")));
    if !case.world.may_relax && !relaxed.is_empty() {
        wrong.push("relaxed without the scope".to_owned());
    }
    let whole = |value: &Value| {
        let action = value.get("would").filter(|would| !would.is_null());
        rank(action.unwrap_or(&value["action"]).as_str().unwrap())
    };
    let (with, without) = (whole(&value), whole(&plain.json()));
    let only = &case.asked.only;
    let left_out = !only.is_empty() && case.world.optional.iter().any(|name| !only.contains(name));
    seen.extend(case.monitor.then(|| "monitor".to_owned()));
    match (with.cmp(&without), relaxed.is_empty()) {
        (std::cmp::Ordering::Less, true) if !left_out => {
            wrong.push(format!("{with} is below {without} of:\n{}\nwithout options", plain.text));
        }
        (std::cmp::Ordering::Less, true) => seen.push("laxer, optional ones left out".to_owned()),
        (std::cmp::Ordering::Less, false) => seen.push("laxer, relaxed".to_owned()),
        (std::cmp::Ordering::Greater, _) => seen.push("stricter".to_owned()),
        (std::cmp::Ordering::Equal, _) => seen.push("the same".to_owned()),
    }
    if case.content.contains(WORDS[1]) {
        seen.push("held by the floor".to_owned());
        if rank(value["action"].as_str().unwrap()) < rank(FLOOR) {
            wrong.push("below the floor".to_owned());
        }
    }
}
