//! Policies that fail or answer wrongly while a request waits.

use super::*;

/// A bundle `demo` with these rules, for tenant `default`.
fn demo(rules: &str) -> Arc<View> {
    let mut sources = shipped();
    sources.push(source("demo/policy.rego", &format!("package demo\n{rules}\n")));
    let tenants = [scope("default", &["demo"])];
    let loaded = Policies::load(&sources, &tenants, &Limits::default(), None);
    view(&loaded.unwrap().policies, "default", "demo")
}

#[tokio::test]
async fn a_policy_that_fails_at_run_time_never_allows() {
    let when = "some f in input.findings\n\tf.category == concat(\".\", [\"secrets\", \"token\"])";
    let cases = [
        (
            format!("block contains \"x\" if {{\n\t{when}\n\tto_number(f.label) > 1\n}}"),
            FailureKind::Error,
        ),
        (format!("ignore contains id if {{\n\t{when}\n\tid := 99\n}}"), FailureKind::BadValue),
        (format!("block contains id if {{\n\t{when}\n\tid := 1\n}}"), FailureKind::BadValue),
        (format!("block contains {{\"finding\": 7}} if {{\n\t{when}\n}}"), FailureKind::BadValue),
        (
            format!("block contains object.union({{}}, {{\"why\": \"x\"}}) if {{\n\t{when}\n}}"),
            FailureKind::BadValue,
        ),
        (format!("block := count([1]) if {{\n\t{when}\n}}"), FailureKind::BadValue),
        (
            format!(
                "block contains \"x\" if {{\n\t{when}\n\tsome a in numbers.range(1, 9000)\n\tsome b in numbers.range(1, 9000)\n\ta * b < 0\n}}"
            ),
            FailureKind::TimeOut,
        ),
    ];
    let evaluator = Evaluator::new(Limits::default());
    for (rules, kind) in cases {
        let demo = demo(&rules);
        let failure = verdict(&evaluator, &demo, "default", &["secrets.token"]).await.unwrap_err();
        assert_eq!(failure.kind, kind, "{rules}: {failure}");
        let fine = verdict(&evaluator, &demo, "default", &["pii"]).await;
        assert!(fine.is_ok(), "{rules}: the thread must survive");
    }
}

#[tokio::test]
async fn bad_headers_and_obligations_are_dropped_and_named() {
    let demo = demo(
        "headers := {\"X-Ok\": \"a\", \"Set-Cookie\": \"b\", \"X-Bad\": \"c\\n\"}\nobligations := {1, 2}\nblock contains {\"reason\": 5}",
    );
    let answer = judge(&demo, "default", &[]).await;
    assert_eq!(answer.rules.headers.keys().collect::<Vec<_>>(), ["X-Ok"]);
    assert_eq!(answer.degraded.len(), 3);
    assert_eq!(said(&answer), ["block block: block by demo [demo]"]);
}

#[tokio::test]
async fn bad_plan_values_fail_the_plan() {
    let evaluator = Evaluator::new(Limits::default());
    for rules in [
        "required contains \"Not A Name\" if input.tenant.id == \"default\"",
        "required contains 1 if input.tenant.id == \"default\"",
        "deny contains {} if input.tenant.id == \"default\"",
        "coverage := {\"threshold\": 2} if input.tenant.id == \"default\"",
        "coverage := {\"method\": \"most\"} if input.tenant.id == \"default\"",
        "thresholds := {\"pii\": 2} if input.tenant.id == \"default\"",
        "timeouts := {\"pii\": 0} if input.tenant.id == \"default\"",
        "resolve := {\"nope\": {}} if input.tenant.id == \"default\"",
        "execution := \"fast\" if input.tenant.id == \"default\"",
    ] {
        let failure = plan(&evaluator, &demo(rules), "default").await;
        assert_eq!(failure.unwrap_err().kind, FailureKind::BadValue, "{rules}");
    }
}

#[tokio::test]
async fn settle_is_asked_only_where_a_layer_has_it() {
    let evaluator = Evaluator::new(Limits::default());
    let scopes = BTreeMap::from([(Category::parse("toxicity").unwrap(), flagged())]);
    let policies = load(&shipped());
    let standard = view(&policies, "default", "standard");
    assert!(evaluator.settle(&standard, &head("default"), &scopes).await.unwrap().is_empty());
    let demo =
        demo("settle[c] := {\"strategy\": \"majority_vote\"} if some c, _ in input.categories");
    let settled = evaluator.settle(&demo, &head("default"), &scopes).await.unwrap();
    assert_eq!(settled["toxicity"].strategy, "majority_vote");
}
