//! Layers and floor by property: what no table, bundle, overlay or request can do.

use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use proptest::strategy::Strategy;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use serde_json::json;

use super::*;
use crate::domain::verdict::{Joined, join};

/// Base, bundle `demo`, tenant acme's overlay, and the shipped floor; tables are JSON.
fn stacked(tables: [&serde_json::Value; 4], rules: [&str; 3]) -> Result<Arc<View>, Vec<Fault>> {
    let mut sources: Vec<Source> =
        shipped().into_iter().filter(|source| source.path == "floor/floor.rego").collect();
    let layers = ["base", "demo", "tenants/acme/demo", "floor"];
    for (layer, table) in layers.iter().zip(tables) {
        let text = json!({ "settings": table }).to_string();
        sources.push(source(&format!("{layer}/data.yaml"), &text));
    }
    for (layer, rules) in layers.iter().zip(rules) {
        let package = layer.replace('/', ".");
        sources.push(source(&format!("{layer}/x.rego"), &format!("package {package}\n{rules}\n")));
    }
    let tenants = [scope("acme", &["demo"])];
    let loaded = Policies::load(&sources, &tenants, &Limits::default(), None)?;
    Ok(view(&loaded.policies, "acme", "demo"))
}

#[track_caller]
fn hold<S: Strategy>(cases: u32, values: &S, test: impl Fn(S::Value) -> Result<(), TestCaseError>) {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    if let Err(error) = TestRunner::new(config).run(values, test) {
        panic!("{error}");
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

const CATEGORIES: [&str; 6] =
    ["pii", "pii.email", "toxicity.insult", "secrets", "secrets.token", "toxicity"];
const ACTIONS: [&str; 5] = ["allow", "flag", "redact", "review", "block"];
const DETECTORS: [&str; 3] = ["pii", "secrets", "tox"];

fn actions() -> impl Strategy<Value = BTreeMap<&'static str, &'static str>> {
    btree_map(select(&CATEGORIES), select(&ACTIONS), 0..5)
}

/// Everything a layer could try against the floor.
fn attacks() -> impl Strategy<Value = String> {
    let lines = vec![
        "ignore contains f.id if some f in input.findings",
        "skip contains d.name if some d in input.detectors",
        "coverage := {\"threshold\": 0}",
        "min_coverage := 0",
        "on_incomplete := \"allow\"",
        "optional contains d.name if some d in input.detectors",
        "thresholds := {\"*\": 1}",
        "resolve := {\"*\": {\"min_score\": 1}}",
        "obligations := {\"floor\": {\"actions\": {}}}",
        "required := set()",
        "floor := {\"settings\": {\"actions\": {}}}",
    ];
    subsequence(lines, 0..8).prop_map(|lines| lines.join("\n"))
}

fn table() -> impl Strategy<Value = serde_json::Value> {
    let names = || btree_set(select(&DETECTORS), 0..3);
    (actions(), names(), names(), select(&["enforce", "monitor"][..]), any::<bool>()).prop_map(
        |(actions, required, skip, mode, ignores)| {
            let entry = json!({"category": "pii", "attribute": "domain", "values": ["globex.com"]});
            json!({
                "actions": actions, "required": required, "skip": skip, "mode": mode,
                "thresholds": {"*": 1.0}, "coverage": {"threshold": 0.0},
                "ignore": if ignores { vec![entry] } else { vec![] },
            })
        },
    )
}

fn action(name: &str) -> Action {
    Action::ALL.into_iter().find(|action| action.name() == name).unwrap()
}

/// What the floor's table says of raw findings, by the design alone.
fn demanded(table: &BTreeMap<&str, &str>, categories: &[&str]) -> Action {
    let of = |category: &str| {
        let path = std::iter::successors(Some(category), |name| {
            name.rfind('.').map(|dot| name.split_at(dot).0)
        });
        path.filter_map(|name| table.get(name)).next().map_or(Action::Allow, |name| action(name))
    };
    categories.iter().map(|category| of(category)).max().unwrap_or_default()
}

#[test]
fn no_table_bundle_overlay_or_request_lowers_what_the_floor_demands() {
    let floor = (
        actions(),
        btree_set(select(&DETECTORS), 0..3),
        select(&[0.0, 0.5, 1.0][..]),
        select(&ACTIONS[1..]),
    );
    let layers = (vec(table(), 3), vec(attacks(), 3));
    let request = (vec(select(&CATEGORIES), 0..4), any::<bool>(), any::<bool>());
    let held = std::cell::Cell::new(0);
    hold(40, &(floor, layers, request), |(floor, (tables, rules), request)| {
        let (wanted, required, min_coverage, on_incomplete) = floor;
        let (categories, standing, wishes) = request;
        let table = json!({
            "actions": wanted, "required": required, "min_coverage": min_coverage,
            "on_incomplete": on_incomplete,
        });
        let view = stacked(
            [&tables[0], &tables[1], &tables[2], &table],
            [&rules[0], &rules[1], &rules[2]],
        );
        // Two layers in one package may contradict each other; that is refused, never lax.
        let Ok(view) = view else { return Ok(()) };
        held.set(held.get() + 1);
        let evaluator = Evaluator::new(Limits::default());
        let mut head = head("acme");
        head.bundle = BundleName::parse("demo").unwrap();
        if wishes {
            head.request.exclude = DETECTORS.map(|name| DetectorName::parse(name).unwrap()).into();
            head.request.thresholds.insert("*".into(), 1.0);
        }
        match block_on(evaluator.plan(&view, &head, &facts(), None)) {
            Ok(plan) => {
                let names: BTreeSet<&str> =
                    plan.floor.required.iter().map(|n| n.as_str()).collect();
                prop_assert_eq!(names, required);
                prop_assert_eq!(plan.floor.min_coverage, min_coverage);
                prop_assert_eq!(plan.floor.on_incomplete, Some(action(on_incomplete)));
            }
            // A bad value such as `required := set()` where a set is wanted by `contains`.
            Err(failure) => prop_assert_eq!(failure.kind, FailureKind::BadValue),
        }
        let raw: Vec<JudgedFinding> =
            categories.iter().zip(0..).map(|(name, id)| finding(id, name)).collect();
        // Thresholds and votes may have removed every finding from what the layers see.
        let judged = if standing { raw.clone() } else { Vec::new() };
        let judgement = Judgement { findings: judged, ..Judgement::default() };
        let coverage = coverage(true);
        let facts =
            VerdictFacts { judgement: &judgement, raw: &raw, reports: &[], coverage: &coverage };
        let answer = block_on(evaluator.verdict(&view, &head, &facts)).unwrap();
        for mode in [Mode::Enforce, Mode::Monitor] {
            let joined = Joined {
                on_incomplete: Action::Allow,
                floor_on_incomplete: None,
                plan_failure: None,
                mode,
            };
            let verdict = join(&answer.rules, &judgement, &raw, &coverage, joined);
            let least = demanded(&wanted, &categories);
            prop_assert!(verdict.action >= least, "{:?} below {least:?}", verdict.action);
            let redacted: BTreeSet<u32> = (0..)
                .zip(&categories)
                .filter(|(_, name)| demanded(&wanted, &[name]) == Action::Redact)
                .map(|(id, _)| id)
                .collect();
            let entries = answer.rules.floor.iter().filter(|e| e.action == Action::Redact);
            let found: BTreeSet<u32> = entries.filter_map(|entry| entry.finding).collect();
            prop_assert_eq!(&found, &redacted);
        }
        Ok(())
    });
    assert!(held.get() >= 20, "only {} of 40 stacks loaded", held.get());
}

/// Ways of writing a value that holds, or leads to, another tenant's rule `secret`.
fn reaches() -> impl Strategy<Value = (String, String)> {
    let roots = vec![
        "data.tenants.other.demo.secret",
        "data[\"tenants\"].other.demo.secret",
        "data.tenants[\"other\"][\"demo\"][\"secret\"]",
        "data.tenants[input.request.type].demo.secret",
        "data.tenants[t].demo.secret",
        "data[x].other.demo.secret",
        "data[x][t][d].secret",
        "data[x][t][d][s]",
        "data",
        "data.tenants",
        "input.tenants.other.demo.secret",
        "input[\"tenants\"].other",
        "input[x]",
        "input.settings.tenants.other",
        "secrets",
        "secrets.secret",
        "object.get(data, [\"tenants\", \"other\", \"demo\", \"secret\"], 0)",
        "data.entry",
        "data.base",
        "data.floor",
    ];
    let wraps = vec![
        "v := HERE",
        "some v in HERE",
        "v := json.marshal(HERE)",
        "some p, v in HERE",
        "walk(HERE, [_, v])",
        "v := [w | w := HERE][_]",
        "y := HERE; v := y",
        "f(HERE) == v",
    ];
    (select(roots), select(wraps)).prop_map(|(root, wrap)| (root.into(), wrap.into()))
}

#[test]
fn no_way_of_writing_a_reference_reaches_another_tenants_rules() {
    hold(120, &(reaches(), any::<bool>()), |((root, wrap), imports)| {
        let import = if imports { "import data.tenants.other.demo as secrets\n" } else { "" };
        let vars: Vec<&str> =
            ["x", "t", "d", "s"].into_iter().filter(|v| root.contains(&format!("[{v}]"))).collect();
        let some = match vars.is_empty() {
            true => String::new(),
            false => format!("some {}\n\t", vars.join(", ")),
        };
        let body = wrap.replace("HERE", &root).replace("; ", "\n\t");
        let text = format!(
            "package tenants.acme.demo\n{import}f(v) := v\nblock contains {{\"reason\": json.marshal(v)}} if {{\n\t{some}{body}\n}}\n"
        );
        let sources = [
            source("demo/x.rego", "package demo\nflag contains \"x\" if input.env == \"none\"\n"),
            source(
                "tenants/other/demo/x.rego",
                "package tenants.other.demo\nsecret := \"marker\"\n",
            ),
            source("tenants/acme/demo/x.rego", &text),
        ];
        let tenants = [scope("acme", &["demo"]), scope("other", &["demo"])];
        let loaded = Policies::load(&sources, &tenants, &Limits::default(), None);
        if let Ok(loaded) = loaded {
            let evaluator = Evaluator::new(Limits::default());
            let acme = view(&loaded.policies, "acme", "demo");
            let answer = block_on(verdict(&evaluator, &acme, "acme", &["pii"]));
            let said = format!("{answer:?}");
            prop_assert!(!said.contains("marker"), "{text} reaches it: {said}");
        }
        Ok(())
    });
}

#[derive(Debug, Clone)]
struct Opinion {
    required: BTreeSet<&'static str>,
    execution: Option<&'static str>,
    thresholds: Option<BTreeMap<&'static str, u8>>,
}

impl Opinion {
    fn rego(&self) -> String {
        let mut text: String =
            self.required.iter().map(|name| format!("required contains \"{name}\"\n")).collect();
        self.execution.iter().for_each(|name| text += &format!("execution := \"{name}\"\n"));
        if let Some(shares) = &self.thresholds {
            let shares: BTreeMap<_, f64> =
                shares.iter().map(|(name, share)| (name, f64::from(*share) / 10.0)).collect();
            text += &format!("thresholds := {}\n", serde_json::to_string(&shares).unwrap());
        }
        text
    }
}

fn opinion() -> impl Strategy<Value = Opinion> {
    let shares = btree_map(select(&CATEGORIES), 0u8..10, 0..4);
    (
        btree_set(select(&DETECTORS), 0..3),
        proptest::option::of(select(&["parallel", "sequential", "cascade"][..])),
        proptest::option::of(shares),
    )
        .prop_map(|(required, execution, thresholds)| Opinion {
            required,
            execution,
            thresholds,
        })
}

#[test]
fn sets_unite_single_values_of_later_layers_win_and_objects_merge_by_key() {
    hold(40, &vec(opinion(), 3), |opinions| {
        let empty = json!({});
        let rules: Vec<String> = opinions.iter().map(Opinion::rego).collect();
        let floor =
            json!({"actions": {}, "required": [], "min_coverage": 0, "on_incomplete": "flag"});
        let view =
            stacked([&empty, &empty, &empty, &floor], [&rules[0], &rules[1], &rules[2]]).unwrap();
        let evaluator = Evaluator::new(Limits::default());
        let plan = block_on(evaluator.plan(&view, &head("acme"), &facts(), None)).unwrap();
        let united: BTreeSet<&str> = opinions.iter().flat_map(|o| o.required.clone()).collect();
        let names: BTreeSet<&str> = plan.required.iter().map(|name| name.as_str()).collect();
        prop_assert_eq!(names, united);
        let last = opinions.iter().filter_map(|o| o.execution).next_back();
        let execution = plan.execution.map(|e| serde_json::to_value(e).unwrap());
        prop_assert_eq!(execution, last.map(serde_json::Value::from));
        let merged: BTreeMap<String, f64> = opinions
            .iter()
            .filter_map(|o| o.thresholds.clone())
            .flatten()
            .map(|(name, share)| (name.to_owned(), f64::from(share) / 10.0))
            .collect();
        prop_assert_eq!(&plan.thresholds, &merged);
        Ok(())
    });
}

#[test]
fn a_key_of_a_later_table_removes_the_earlier_keys_below_it() {
    hold(500, &vec(actions(), 1..4), |layers| {
        let tables: Vec<_> = layers
            .iter()
            .map(|actions| json!({ "actions": actions }).as_object().unwrap().clone())
            .collect();
        let names = ["base", "demo", "tenants.acme.demo"];
        let named: Vec<_> = names.into_iter().zip(&tables).collect();
        let (merged, origin) = table::merge(&named);
        // For each key: the last layer that has it counts, unless a later one has a parent only.
        let mut wanted = BTreeMap::new();
        for key in CATEGORIES {
            let mut value = None;
            for (layer, actions) in names.iter().zip(&layers) {
                let hides = |other: &&str| key.starts_with(&format!("{other}."));
                if actions.keys().any(hides) {
                    value = None;
                }
                value = actions.get(key).map(|action| (*action, *layer)).or(value);
            }
            wanted.extend(value.map(|value| (key, value)));
        }
        let found: BTreeMap<&str, (&str, &str)> = merged["actions"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(key, action)| {
                let layer = origin[&format!("actions.{key}")].as_str();
                (key.as_str(), (action.as_str().unwrap(), layer))
            })
            .collect();
        prop_assert_eq!(found, wanted);
        let named = origin.keys().filter(|key| key.starts_with("actions.")).count();
        prop_assert_eq!(named, merged["actions"].as_object().unwrap().len());
        Ok(())
    });
}
