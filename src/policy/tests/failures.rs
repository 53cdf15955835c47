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
    let when = "some f in input.findings\n\tf.category == \"secrets.token\"";
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
        "required contains \"Not A Name\" if input.env == \"development\"",
        "required contains 1 if input.env == \"development\"",
        "deny contains {} if input.env == \"development\"",
        "coverage := {\"threshold\": 2} if input.env == \"development\"",
        "coverage := {\"method\": \"most\"} if input.env == \"development\"",
        "thresholds := {\"pii\": 2} if input.env == \"development\"",
        "timeouts := {\"pii\": 0} if input.env == \"development\"",
        "resolve := {\"nope\": {}} if input.env == \"development\"",
        "execution := \"fast\" if input.env == \"development\"",
    ] {
        let failure = plan(&evaluator, &demo(rules), "default").await;
        assert_eq!(failure.unwrap_err().kind, FailureKind::BadValue, "{rules}");
    }
}

#[tokio::test]
async fn settle_is_asked_only_where_a_layer_has_it() {
    let evaluator = Evaluator::new(Limits::default());
    let scope = ScopeState {
        score: 0.5,
        severity: None,
        voters: vec![],
        flagged_by: vec![],
        cleared_by: vec![],
        unjudged_by: vec![],
        candidates: vec![],
        resolved: crate::domain::conflict::Resolved::Flagged,
        settled: None,
        strategy: "weighted_average".into(),
    };
    let scopes = BTreeMap::from([(Category::parse("toxicity").unwrap(), scope)]);
    let policies = load(&shipped());
    let standard = view(&policies, "default", "standard");
    assert!(evaluator.settle(&standard, &head("default"), &scopes).await.unwrap().is_empty());
    let demo =
        demo("settle[c] := {\"strategy\": \"majority_vote\"} if some c, _ in input.categories");
    let settled = evaluator.settle(&demo, &head("default"), &scopes).await.unwrap();
    assert_eq!(settled["toxicity"].strategy, "majority_vote");
}

#[tokio::test]
async fn an_evaluation_that_nothing_can_interrupt_fails_in_time_with_all_that_wait_behind_it() {
    let twins = twins(29);
    let rules = format!(
        "block contains \"x\" if {{\n\tsome f in input.findings\n\tf.category == \"secrets.token\"\n\n{twins}\ta29 != b29\n}}"
    );
    let evaluator = Evaluator::new(Limits { threads: 1, ..Limits::default() });
    let (stuck, fine) = (demo(&rules), demo("block contains \"y\" if input.env == \"x\""));
    let start = std::time::Instant::now();
    let first = verdict(&evaluator, &stuck, "default", &["secrets.token"]);
    let second = verdict(&evaluator, &fine, "acme", &["pii"]);
    let (first, second) = futures_util::join!(first, second);
    assert_eq!(first.unwrap_err().kind, FailureKind::TimeOut);
    assert_eq!(second.unwrap_err().kind, FailureKind::TimeOut);
    assert!(start.elapsed() < std::time::Duration::from_secs(5));
}
