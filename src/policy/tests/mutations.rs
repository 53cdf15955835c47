//! Thousands of policies that fail while a request waits: none of them may allow.

use std::time::Duration;

use super::*;
use crate::domain::verdict::{Joined, join};

/// 500 in every run; `POLICY_MUTATIONS=10000` at build time is the tier before a release.
fn count() -> usize {
    option_env!("POLICY_MUTATIONS").and_then(|text| text.parse().ok()).unwrap_or(500)
}

/// A policy that answers well until a certain finding comes, then fails in one of these ways.
fn mutant(at: usize) -> (String, FailureKind) {
    let action = ["block", "review", "redact", "flag"][at / 7 % 4];
    let (kind, says, fails) = match at % 7 {
        0 => (FailureKind::Error, "\"x\"", format!("to_number(\"{at}x\") > 1")),
        1 => (FailureKind::Error, "\"x\"", format!("numbers.range(1, {at}00000000) != []")),
        2 => (
            FailureKind::TimeOut,
            "\"x\"",
            format!(
                "every a in numbers.range(1, 9000) {{ every b in numbers.range(1, 9000) {{ a * b > 0 - {at} }} }}"
            ),
        ),
        3 => (FailureKind::BadValue, "v", format!("v := {at}")),
        4 => (FailureKind::BadValue, "v", format!("v := {{\"finding\": {}}}", at + 5)),
        5 => (FailureKind::BadValue, "v", format!("v := {{\"why\": \"{at}\"}}")),
        _ => {
            (FailureKind::Panic, "\"x\"", "semver.is_valid(concat(\"\", [\"pa\", \"nic\"]))".into())
        }
    };
    let text = format!(
        "package demo\n\nflag contains \"fine\" if input.env == \"x\"\n\n{action} contains {says} if {{\n\tsome f in input.findings\n\tf.category == concat(\".\", [\"secrets\", \"token\"])\n\t{fails}\n}}\n"
    );
    (text, kind)
}

#[tokio::test]
async fn no_policy_that_fails_allows() {
    let limits = Limits { eval_timeout: Duration::from_millis(20), ..Limits::default() };
    let evaluator = Evaluator::new(limits.clone());
    let mut met: BTreeMap<&str, usize> = BTreeMap::new();
    for at in 0..count() {
        let (text, kind) = mutant(at);
        let sources = [source("demo/policy.rego", &text)];
        let tenants = [scope("default", &["demo"])];
        let loaded = Policies::load(&sources, &tenants, &limits, None).expect(&text);
        let demo = view(&loaded.policies, "default", "demo");
        match verdict(&evaluator, &demo, &format!("t{at}"), &["secrets.token"]).await {
            Err(failure) => {
                // A machine under load may end anything by a time-out.
                assert!([kind, FailureKind::TimeOut].contains(&failure.kind), "{text}: {failure}");
                *met.entry(failure.kind.name()).or_default() += 1;
            }
            Ok(answer) => {
                let coverage = coverage(true);
                let (on_incomplete, mode) = (Action::Allow, Mode::Enforce);
                let joined =
                    Joined { on_incomplete, floor_on_incomplete: None, plan_failure: None, mode };
                let judgement = Judgement::default();
                let verdict = join(&answer.rules, &judgement, &[], &coverage, joined);
                panic!("{text} answers {:?}", verdict.action);
            }
        }
    }
    println!("{} mutants: {met:?}, 0 allow", count());
    for kind in ["error", "timeout", "bad_value", "panic"] {
        assert!(met.get(kind).is_some_and(|met| met * 20 >= count()), "{kind}: {met:?}");
    }
}
