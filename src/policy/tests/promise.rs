//! What a `.manifest` may promise of a block.

use super::*;

const CLAIM: &str = r#"{"metadata": {"orchestrator": {"block_is_final": true}}}"#;

fn load_demo(rules: &str, table: &str, more: &[(&str, &str)]) -> Result<Arc<View>, Vec<Fault>> {
    let mut sources: Vec<Source> =
        shipped().into_iter().filter(|found| found.path.starts_with("floor/")).collect();
    sources.push(source("base/data.yaml", "settings: {}\n"));
    sources
        .push(source("demo/policy.rego", &format!("package demo\n\nimport rego.v1\n\n{rules}\n")));
    sources.push(source("demo/data.yaml", &format!("settings: {table}\n")));
    sources.extend(more.iter().map(|(path, text)| source(path, text)));
    let tenants = [scope("acme", &["demo"])];
    let loaded = Policies::load(&sources, &tenants, &Limits::default(), None)?;
    Ok(view(&loaded.policies, "acme", "demo"))
}

fn claimed(rules: &str) -> Result<Arc<View>, Vec<Fault>> {
    load_demo(rules, "{actions: {toxicity: block}}", &[("demo/.manifest", CLAIM)])
}

const PLAIN: &str = "block contains {\"finding\": f.id, \"reason\": \"no\"} if {
	some f in input.findings
	f.standing
	input.settings.actions[f.path[_]] == \"block\"
}";

#[test]
fn a_block_that_further_reports_leave_alone_is_final() {
    assert_eq!(claimed(PLAIN).unwrap().block_may_pass(), None);
    let more = format!("{PLAIN}\nblock contains \"two\" if count(input.findings) > 1");
    assert_eq!(claimed(&more).unwrap().block_may_pass(), None);
}

#[test]
fn a_bundle_whose_block_gets_milder_with_a_further_report_is_refused_at_the_rule() {
    for rules in [
        "block contains \"alone\" if count(input.findings) == 1",
        "block contains \"unseen\" if not \"b\" in {r.detector | some r in input.results; r.status == \"success\"}\n",
        "block contains \"odd\" if {\n\tsome f in input.findings\n\t\"toxicity\" in f.path\n\tcount([g | some g in input.findings; \"hate\" in g.path]) == 0\n}",
        "block contains \"mild\" if {\n\tsome f in input.findings\n\tf.category == \"toxicity\"\n\tnot far\n}\n\nfar if {\n\tsome g in input.findings\n\tg.span.start > 20\n}",
        "block contains \"one\" if {\n\tsome c in input.categories\n\tcount(c.voters) == 1\n}",
        "block contains \"all\" if {\n\tsome c in input.categories\n\tcount(c.flagged_by) > 0\n\tcount(c.cleared_by) == 0\n}",
        "block contains \"label\" if {\n\tsome f in input.findings\n\tf.label == \"jailbreak\"\n\tf.category == \"toxicity\"\n}",
    ] {
        let faults = claimed(rules).err().unwrap_or_else(|| panic!("{rules}"));
        assert_eq!(faults.len(), 1, "{rules}: {faults:?}");
        let fault = &faults[0];
        assert_eq!((fault.code, &*fault.file), ("block_not_final", "demo/policy.rego"), "{rules}");
        assert_eq!((fault.line, fault.column), (5, 1), "{rules}");
        assert!(fault.hint.as_deref().unwrap().contains("demo/.manifest"), "{fault:?}");
        let silent = load_demo(rules, "{}", &[]).unwrap();
        assert!(silent.block_may_pass().is_some(), "without the promise it may do so");
    }
}

#[test]
fn rules_that_settle_or_ignore_are_refused_beside_the_promise() {
    for (rule, name) in [
        ("settle := {\"toxicity\": {\"strategy\": \"majority_vote\"}}", "`settle`"),
        ("ignore contains f.id if some f in input.findings", "`ignore`"),
    ] {
        let faults = claimed(&format!("{rule}\n\n{PLAIN}")).unwrap_err();
        assert_eq!((faults[0].code, faults[0].line), ("block_not_final", 5), "{faults:?}");
        assert!(faults[0].message.starts_with(name), "{faults:?}");
    }
}

#[test]
fn an_overlay_with_rules_must_promise_for_itself_and_is_tried_too() {
    let overlay = |rules: &str, own: &[(&str, &str)]| {
        let text = format!("package tenants.acme.demo\n\nimport rego.v1\n\n{rules}\n");
        let files = [&[("demo/.manifest", CLAIM), ("tenants/acme/demo/x.rego", &text)], own];
        load_demo(PLAIN, "{actions: {toxicity: block}}", &files.concat())
    };
    let own = [("tenants/acme/demo/.manifest", CLAIM)];
    let more = "block contains \"two\" if count(input.findings) > 1";
    assert!(overlay(more, &[]).unwrap().block_may_pass().is_some());
    assert_eq!(overlay(more, &own).unwrap().block_may_pass(), None);
    let faults = overlay("block contains \"one\" if count(input.findings) == 1", &own).unwrap_err();
    assert_eq!(&*faults[0].file, "tenants/acme/demo/x.rego", "{faults:?}");
}

#[test]
fn the_shipped_standard_promises_until_a_table_ignores() {
    let mut sources = shipped();
    assert_eq!(view(&load(&sources), "default", "standard").block_may_pass(), None);
    assert!(view(&load(&sources), "default", "strict").block_may_pass().is_some());
    let table = "settings:\n  ignore: [{category: pii, attribute: domain, values: [acme.com]}]\n";
    sources.push(source("tenants/default/standard/data.yaml", table));
    let ignores = view(&load(&sources), "default", "standard");
    assert!(ignores.block_may_pass().unwrap().contains("`ignore`"));
}

#[test]
fn a_manifest_that_promises_something_else_is_refused_where_it_stands() {
    let text = "{\"metadata\": {\"orchestrator\": {\n  \"block_is_final\": \"yes\"}}}";
    let faults = load_demo(PLAIN, "{}", &[("demo/.manifest", text)]).unwrap_err();
    assert_eq!((faults[0].code, faults[0].line, faults[0].column), ("manifest", 2, 3));
}
