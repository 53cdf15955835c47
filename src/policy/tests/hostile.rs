//! One hostile policy per danger, in `tests/hostile_policies`: each says what must come of it.

use super::*;

/// A row: what its first line expects, and the text.
fn rows() -> Vec<(String, String, String)> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hostile_policies");
    let mut rows: Vec<_> = std::fs::read_dir(root)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            let expect = text.lines().next().unwrap().strip_prefix("# expect: ").unwrap();
            let name = path.file_stem().unwrap().to_str().unwrap();
            (name.to_owned(), expect.to_owned(), text)
        })
        .collect();
    rows.sort();
    rows
}

/// Loads on a small stack, as a server's threads have, and drops what it made there too.
fn loaded(text: &str) -> Result<(Arc<View>, Arc<View>), Vec<Fault>> {
    let mut sources = shipped();
    sources.push(source("demo/policy.rego", text));
    sources
        .push(source("tenants/other/demo/x.rego", "package tenants.other.demo\n\nsecret := 1\n"));
    let tenants = [scope("default", &["standard"]), scope("evil", &["demo"])];
    let loaded = Policies::load(&sources, &tenants, &Limits::default(), None)?;
    Ok((view(&loaded.policies, "evil", "demo"), view(&loaded.policies, "default", "standard")))
}

/// What comes of a row: a fault's code at load, a failure's kind at run time, or `answers`.
async fn outcome(text: &str) -> String {
    let (evil, standard) = match loaded(text) {
        Err(faults) => return format!("load {}", faults[0].code),
        Ok(views) => views,
    };
    let evaluator = Evaluator::new(Limits { threads: 1, ..Limits::default() });
    let hostile = verdict(&evaluator, &evil, "evil", &["secrets.token"]);
    // Another tenant asks all the while, each time something that the memo does not hold.
    let others = async {
        for count in 1..=20 {
            let categories = vec!["pii.email"; count];
            let answer = verdict(&evaluator, &standard, "default", &categories).await;
            let answer = answer.expect("another tenant's request failed");
            assert_eq!(answer.rules.entries.len(), count);
        }
    };
    match futures_util::join!(hostile, others).0 {
        Err(failure) => format!("verdict {}", failure.kind.name()),
        Ok(answer) => format!("answers {:?}", said(&answer)),
    }
}

#[tokio::test]
async fn every_hostile_policy_is_refused_or_fails_alone_as_it_says() {
    let mut wrong = Vec::new();
    let rows = rows();
    for (name, expect, text) in &rows {
        let start = std::time::Instant::now();
        let found = outcome(text).await;
        let took = start.elapsed();
        println!("{name}: {found} in {took:?}");
        // Time and machine decide between some outcomes, none of which is an answer.
        if !expect.split(" or ").any(|expect| found == expect) {
            wrong.push(format!("{name}: {found} instead of {expect}"));
        }
        assert!(took.as_secs() < 20, "{name} took {took:?}");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(rows.len() >= 50, "{} rows", rows.len());
}

#[tokio::test]
async fn a_stuck_tenant_is_refused_until_its_evaluation_ends_and_a_stuck_unit_after_two() {
    let rows = rows();
    let (_, _, text) = rows.iter().find(|row| row.0 == "multiplied_value_when_asked").unwrap();
    let (evil, _) = loaded(text).unwrap();
    let evaluator = Evaluator::new(Limits { threads: 1, ..Limits::default() });
    let ask = |tenant: &'static str, category: &'static str| {
        let (evaluator, evil) = (&evaluator, &evil);
        async move {
            let answer = verdict(evaluator, evil, tenant, &[category]).await;
            answer.map_err(|failure| failure.kind).map(drop)
        }
    };
    assert_eq!(ask("evil", "secrets.token").await, Err(FailureKind::TimeOut));
    assert_eq!(ask("evil", "pii").await, Err(FailureKind::Budget));
    assert_eq!(ask("second", "pii").await, Ok(()), "one stuck evaluation is one tenant's own");
    assert_eq!(ask("second", "secrets.token").await, Err(FailureKind::TimeOut));
    assert_eq!(ask("third", "pii").await, Err(FailureKind::Budget), "the unit is to blame");
}

#[test]
fn a_file_larger_than_the_limit_is_not_even_parsed() {
    let text = format!("package demo\n\n# {}\n", "x\n# ".repeat(100_000));
    assert_eq!(loaded(&text).err().unwrap()[0].code, "too_large");
}

#[test]
fn rules_that_got_stuck_once_are_not_tried_again() {
    let grow = |v: &str| {
        let more = (1..5)
            .map(|at| format!("\t{v}{at} := [{v}{} | some _ in numbers.range(1, 3000)]\n", at - 1));
        format!("\t{v}0 := [1]\n{}", more.collect::<String>())
    };
    let body = format!("{}{}\tp4 != q4\n", grow("p"), grow("q"));
    let text = format!("package demo\n\nblock contains \"x\" if {{\n{body}}}\n");
    assert_eq!(loaded(&text).err().unwrap()[0].code, "probe_timeout");
    let start = std::time::Instant::now();
    assert_eq!(loaded(&text).err().unwrap()[0].code, "probe_timeout");
    assert!(start.elapsed().as_secs() < 5, "{:?}", start.elapsed());
}
