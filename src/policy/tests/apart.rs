//! Overlays that stand apart from the files: what they may cost, and what being late means.

use super::*;

/// Takes far longer than `loops` squared steps of an engine that is asked about images.
fn looping(loops: u32) -> String {
    format!(
        "package tenants.acme.standard\n\nblock contains \"x\" if {{\n\tinput.request.type == \
         \"image\"\n\tsome i in numbers.range(1, {loops})\n\tsome j in numbers.range(1, {loops})\n\t\
         i + j < 0\n}}\n"
    )
}

fn name() -> OverlayName {
    (TenantId::parse("acme").unwrap(), BundleName::parse("standard").unwrap())
}

enum Stored {
    Now,
    Before,
}

fn beside(rego: &str, limits: &Limits, stored: Stored) -> Loaded {
    let mut sources: Vec<Source> =
        shipped().into_iter().filter(|file| !file.path.starts_with("tenants/")).collect();
    sources.push(source("floor/extra.rego", "package floor\n\nrequired contains \"pii\"\n"));
    sources.push(source("tenants/acme/standard/a.rego", rego));
    let fresh = match stored {
        Stored::Now => Some(name()),
        Stored::Before => None,
    };
    let apart = Apart { overlays: OverlayFaults::from([(name(), Vec::new())]), fresh };
    let scopes = [scope("acme", &["standard"]), scope("other", &["standard"])];
    Policies::load_beside(&sources, &scopes, limits, None, apart).expect("others are held up")
}

#[test]
fn an_accepted_overlay_that_is_late_in_its_trial_goes_on_serving_with_a_warning() {
    let limits = Limits { eval_timeout: Duration::from_millis(20), ..Limits::default() };
    let loaded = beside(&looping(5000), &limits, Stored::Before);
    assert!(loaded.broken.is_empty(), "{:#?}", loaded.broken);
    let late = |fault: &&Fault| {
        fault.code == "probe_timeout" && fault.file == "tenants/acme/standard/a.rego"
    };
    assert!(loaded.warnings.iter().any(|fault| late(&fault)), "{:#?}", loaded.warnings);
    let own = view(&loaded.policies, "acme", "standard");
    let other = view(&loaded.policies, "other", "standard");
    assert!(!own.is_broken() && own.layers().iter().any(|layer| layer.starts_with("tenants.")));
    assert_eq!((own.floor(), own.floor().required.len()), (other.floor(), 1));

    let loaded = beside(&looping(5000), &limits, Stored::Now);
    assert!(loaded.broken[&name()].iter().any(|fault| late(&fault)), "{:#?}", loaded.broken);
    assert!(view(&loaded.policies, "acme", "standard").is_broken());
    assert!(!view(&loaded.policies, "other", "standard").is_broken());
}

#[test]
fn a_new_overlay_may_work_no_more_than_half_of_an_evaluations_limit() {
    let limits = Limits::default();
    // Too much for a half, however fast the machine is, and never for all of what may be tried: twice
    // the work of what was too much once, which may have been so by a hair.
    let slow = [250, 400, 600, 900, 1400].map(looping);
    let now = |rego: &String| !beside(rego, &limits, Stored::Now).broken.is_empty();
    let slow = &slow[slow.iter().position(now).unwrap() + 1];
    let accepted = beside(slow, &limits, Stored::Before);
    assert!(accepted.broken.is_empty() && accepted.warnings.is_empty(), "{accepted:?}");
    let fresh = beside(slow, &limits, Stored::Now);
    let fault = &fresh.broken[&name()][0];
    let wanted = "`block` takes longer than 25 ms, half of what an evaluation may take";
    assert_eq!((fault.code, fault.message.as_str()), ("probe_timeout", wanted));
    assert_eq!((fault.file.as_str(), fault.line), ("tenants/acme/standard/a.rego", 3));
    let quick = beside(&looping(2), &limits, Stored::Now);
    assert!(quick.broken.is_empty(), "{:#?}", quick.broken);
}

#[tokio::test]
async fn what_a_failed_overlay_leaves_is_the_floors_own_answer() {
    let error = "package tenants.acme.standard\n\nblock contains \"x\" if {\n\tsome f in \
                 input.findings\n\tto_number(f.attributes.domain) > 0\n}\n";
    let loaded = beside(error, &Limits::default(), Stored::Before);
    let standard = view(&loaded.policies, "acme", "standard");
    let raw = [finding(0, "secrets.private_key")];
    let judgement = Judgement { findings: raw.to_vec(), ..Judgement::default() };
    let coverage = coverage(true);
    let facts =
        VerdictFacts { judgement: &judgement, raw: &raw, reports: &[], coverage: &coverage };
    let evaluator = Evaluator::new(Limits::default());
    let verdict = evaluator.verdict(&standard, &head("acme"), &facts).await;
    assert!(verdict.is_err(), "{verdict:?}");
    let floor = evaluator.floor_verdict(&standard, &head("acme"), &facts).await.unwrap();
    assert_eq!(said(&floor), ["redact secrets.private_key: private key redacted [floor]"]);
}

#[tokio::test]
async fn headers_of_an_answer_are_bounded_and_what_is_dropped_is_named() {
    let many = "package tenants.acme.standard\n\nheaders[name] := \"v\" if {\n\tsome i in \
                numbers.range(1, 40)\n\tname := sprintf(\"X-N-%d\", [i])\n}\n";
    let long = "package tenants.acme.standard\n\nheaders[name] := value if {\n\tsome i in \
                numbers.range(1, 20)\n\tname := sprintf(\"X-N-%d\", [i])\n\tvalue := \
                concat(\"\", [\"0123456789\" | some _ in numbers.range(1, 50)])\n}\n";
    for (rego, kept) in [(many, 32), (long, 8)] {
        let loaded = beside(rego, &Limits::default(), Stored::Before);
        assert!(loaded.broken.is_empty(), "{:#?}", loaded.broken);
        let answer = judge(&view(&loaded.policies, "acme", "standard"), "acme", &[]).await;
        assert_eq!(answer.rules.headers.len(), kept);
        let why = &answer.degraded[0].why;
        assert!(why.contains("more than 32 headers or 4096 bytes"), "{why}");
    }
}
