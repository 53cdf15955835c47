//! What is compiled and asked once, and what an edit leaves alone.

use super::*;

#[tokio::test]
async fn equal_plans_are_asked_once() {
    let policies = load(&shipped());
    let evaluator = Evaluator::new(Limits::default());
    let globex = view(&policies, "globex", "standard");
    let first = plan(&evaluator, &globex, "globex").await.unwrap();
    let names =
        |set: &BTreeSet<DetectorName>| set.iter().map(|n| n.to_string()).collect::<Vec<_>>();
    assert_eq!(names(&first.required), ["pii", "secrets"]);
    assert_eq!(names(&first.optional), ["prompt-injection", "toxicity"]);
    assert!(first.resolve.is_empty(), "no quorum that nobody can reach");
    assert_eq!(first.thresholds["toxicity"], 0.7);
    assert_eq!(first.floor.on_incomplete, Some(Action::Flag));
    let again = plan(&evaluator, &globex, "globex").await.unwrap();
    assert!(Arc::ptr_eq(&first, &again));
    plan(&evaluator, &globex, "acme").await.unwrap();
    let counts = evaluator.memo_counts(Point::Plan);
    assert_eq!((counts.hits, counts.misses), (1, 2));
}

#[tokio::test]
async fn the_edit_of_the_readme_blocks_secrets() {
    let mut sources = shipped();
    let table = sources.iter_mut().find(|source| source.path == "standard/data.yaml").unwrap();
    let text = std::str::from_utf8(&table.bytes).unwrap();
    assert!(text.contains("secrets: redact"));
    table.bytes = text.replace("secrets: redact", "secrets: block").into_bytes().into();
    let before = load(&shipped());
    let loaded = Policies::load(&sources, &scopes(), &Limits::default(), Some(&before)).unwrap();
    let after = view(&loaded.policies, "default", "standard");
    let old = view(&before, "default", "standard");
    assert!(Arc::ptr_eq(&after.unit, &old.unit), "a table edit compiles nothing");
    assert_ne!(after.digest(), old.digest());
    let answer = judge(&after, "default", &["secrets.token"]).await;
    assert_eq!(said(&answer), ["block secrets.token: secret not allowed [standard]"]);
    let strict = |policies: &Policies| view(policies, "default", "strict").digest();
    assert_eq!(strict(&loaded.policies), strict(&before), "other bundles keep their memo");
}

#[test]
fn a_thousand_table_only_overlays_share_one_unit() {
    let mut sources = shipped();
    let mut tenants = scopes();
    for at in 0..1000 {
        let path = format!("tenants/t{at}/standard/data.yaml");
        sources.push(source(&path, &format!("settings:\n  thresholds: {{pii: 0.{at:03}}}\n")));
        tenants.push(scope(&format!("t{at}"), &["standard"]));
    }
    let start = std::time::Instant::now();
    let loaded = Policies::load(&sources, &tenants, &Limits::default(), None).unwrap();
    println!("1000 table-only overlays load in {:?}", start.elapsed());
    assert_eq!(loaded.policies.units(), load(&shipped()).units());
}

#[tokio::test]
async fn equal_verdicts_are_asked_once_and_another_table_asks_again() {
    let policies = load(&shipped());
    let evaluator = Evaluator::new(Limits::default());
    let standard = view(&policies, "default", "standard");
    for _ in 0..3 {
        verdict(&evaluator, &standard, "default", &["pii"]).await.unwrap();
    }
    verdict(&evaluator, &standard, "default", &["secrets"]).await.unwrap();
    verdict(&evaluator, &view(&policies, "globex", "standard"), "default", &["pii"]).await.unwrap();
    let counts = evaluator.memo_counts(Point::Verdict);
    assert_eq!((counts.hits, counts.misses, counts.entries), (2, 3, 3));
}
