//! What layers say together: the plan that is followed and the answer that authors see are one.

use super::*;

const BUNDLE: &str = "package standard

block contains \"never\" if false

optional contains \"pii\"

stages := [[\"pii\"], [\"secrets\"]]

execution := \"cascade\"

params := {\"pii\": {\"mode\": \"fast\", \"deep\": {\"a\": 1, \"b\": [1, 2]}}, \"tox\": {\"x\": 1}}

timeouts := {\"pii\": 100, \"secrets\": 200}

thresholds := {\"pii\": 0.5, \"*\": 0.9}

coverage := {\"threshold\": 0.5, \"weights\": {\"pii\": 2}}

resolve := {\"pii\": {\"quorum\": 2, \"min_score\": 0.1}}

obligations := {\"log\": {\"level\": \"info\", \"to\": \"a\"}}

settle := {\"toxicity\": {\"strategy\": \"majority_vote\", \"reason\": \"ours\"}}
";

const OVERLAY: &str = "package tenants.acme.standard

optional contains \"secrets\"

stages := [[\"secrets\"]]

execution := \"sequential\"

params := {\"pii\": {\"deep\": {\"b\": [3]}}}

timeouts := {\"pii\": 50}

thresholds := {\"pii\": 0.7}

coverage := {\"weights\": {\"secrets\": 3}}

resolve := {\"pii\": {\"min_score\": 0.2}}

obligations := {\"log\": {\"level\": \"debug\"}}

settle := {\"toxicity\": {\"strategy\": \"highest_confidence\"}}
";

fn layered(overlay: &str) -> Result<Policies, Vec<Fault>> {
    let sources = [
        source("base/data.yaml", "settings: {}\n"),
        source("floor/data.yaml", "settings: {}\n"),
        source("standard/a.rego", BUNDLE),
        source("tenants/acme/standard/a.rego", overlay),
    ];
    let loaded =
        Policies::load(&sources, &[scope("acme", &["standard"])], &Limits::default(), None);
    loaded.map(|loaded| loaded.policies)
}

#[tokio::test]
async fn a_plan_and_the_answer_that_authors_see_join_layers_alike() {
    let policies = layered(OVERLAY).unwrap_or_else(|faults| panic!("{faults:#?}"));
    let view = view(&policies, "acme", "standard");
    let evaluator = Evaluator::new(Limits::default());
    let plan = plan(&evaluator, &view, "acme").await.unwrap();
    let seen = evaluator
        .evaluate(&view, Point::Plan, &head("acme"), serde_json::Map::new())
        .await
        .unwrap()
        .result;
    assert_eq!(serde_json::to_value(&plan.optional).unwrap(), seen["optional"]);
    assert_eq!(seen["optional"], serde_json::json!(["pii", "secrets"]), "sets are united");
    assert_eq!(serde_json::to_value(&plan.stages).unwrap(), seen["stages"]);
    assert_eq!(seen["stages"], serde_json::json!([["secrets"]]), "a list is replaced");
    assert_eq!(serde_json::to_value(plan.execution).unwrap(), seen["execution"]);
    assert_eq!(seen["execution"], "sequential");
    assert_eq!(serde_json::to_value(&plan.params).unwrap(), seen["params"]);
    let pii = serde_json::json!({"mode": "fast", "deep": {"a": 1, "b": [3]}});
    assert_eq!(seen["params"], serde_json::json!({"pii": pii, "tox": {"x": 1}}));
    let timeouts: BTreeMap<_, u128> =
        plan.timeouts.iter().map(|(name, time)| (name.to_string(), time.as_millis())).collect();
    assert_eq!(serde_json::to_value(timeouts).unwrap(), seen["timeouts"]);
    assert_eq!(seen["timeouts"], serde_json::json!({"pii": 50, "secrets": 200}));
    assert_eq!(serde_json::to_value(&plan.thresholds).unwrap(), seen["thresholds"]);
    let coverage: crate::domain::plan::CoverageSpec =
        serde_json::from_value(seen["coverage"].clone()).unwrap();
    assert_eq!((plan.coverage.clone(), plan.coverage.weights.len()), (coverage, 2));
    assert_eq!((plan.resolve["pii"].quorum, plan.resolve["pii"].min_score), (Some(2), 0.2));
}

#[tokio::test]
async fn obligations_and_settlements_are_merged_by_key_at_every_depth() {
    let policies = layered(OVERLAY).unwrap();
    let view = view(&policies, "acme", "standard");
    let evaluator = Evaluator::new(Limits::default());
    let answer = verdict(&evaluator, &view, "acme", &[]).await.unwrap();
    let wanted = serde_json::json!({"log": {"level": "debug", "to": "a"}});
    assert_eq!(serde_json::Value::Object(answer.rules.obligations.clone()), wanted);
    let category = Category::parse("toxicity").unwrap();
    let scopes = BTreeMap::from([(category.clone(), flagged())]);
    let settled = evaluator.settle(&view, &head("acme"), &scopes).await.unwrap();
    let choice = &settled[&category];
    assert_eq!(
        (choice.strategy.as_str(), choice.reason.as_deref()),
        ("highest_confidence", Some("ours"))
    );
}

#[test]
fn a_bad_value_fails_even_where_a_later_layer_replaces_it() {
    for (from, to) in [
        ("timeouts := {\"pii\": 50}", "timeouts := {\"pii\": \"fast\"}"),
        ("stages := [[\"secrets\"]]", "stages := \"all\""),
        ("params := {\"pii\"", "params := {\"NO NAME\""),
        ("{\"weights\": {\"secrets\": 3}}", "{\"weights\": {\"secrets\": -3}}"),
        ("{\"min_score\": 0.2}", "{\"quorum\": 0}"),
    ] {
        assert!(OVERLAY.contains(from), "{from}");
        assert!(layered(&OVERLAY.replace(from, to)).is_err(), "{to}");
    }
    // The same below, where the overlay's good value covers it.
    let below = BUNDLE.replace("timeouts := {\"pii\": 100", "timeouts := {\"pii\": 0");
    let sources = [
        source("base/data.yaml", "settings: {}\n"),
        source("floor/data.yaml", "settings: {}\n"),
        source("standard/a.rego", &below),
        source("tenants/acme/standard/a.rego", OVERLAY),
    ];
    let scopes = [scope("acme", &["standard"])];
    assert!(Policies::load(&sources, &scopes, &Limits::default(), None).is_err());
}
