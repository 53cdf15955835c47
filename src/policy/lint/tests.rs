use super::super::tests::shipped;
use super::*;

fn names() -> Voters {
    let category = |name| [Category::parse(name).unwrap()].into();
    let votes = [
        ("pii", category("pii")),
        ("secrets", category("secrets")),
        ("toxicity", category("toxicity")),
        ("toxicity-fixture", category("toxicity.insult")),
        ("prompt-injection", category("injection")),
        ("language", BTreeSet::new()),
    ]
    .map(|(name, votes)| (DetectorName::parse(name).unwrap(), votes))
    .into();
    let of_strategies = ["pii", "secrets"].map(|name| DetectorName::parse(name).unwrap()).into();
    Voters { votes, of_strategies }
}

/// Codes with lines, and the hints, of doubts about this file beside the shipped ones.
fn doubts(path: &str, text: &str) -> Vec<(&'static str, u32, String)> {
    let mut sources = shipped();
    sources.retain(|source| source.path != path);
    sources.push(Source { path: path.into(), bytes: text.as_bytes().into() });
    let found = lint(&sources, &names(), &Limits::default());
    let own = found.into_iter().filter(|fault| fault.file == path);
    own.map(|fault| (fault.code, fault.line, fault.hint.unwrap_or_default())).collect()
}

#[test]
fn the_shipped_policies_raise_no_doubt() {
    assert_eq!(lint(&shipped(), &names(), &Limits::default()), []);
}

#[test]
fn each_doubt_is_found_at_its_line_with_a_hint() {
    let overlay = "tenants/acme/standard/more.rego";
    let cases = [
        ("import data.base", "unused_import", 2, "remove the import of `base`"),
        (
            "block contains \"x\" if {\n\tn := input.env\n\tinput.env == \"staging\"\n}",
            "unused_variable",
            3,
            "`n`",
        ),
        ("block contains \"x\" if some f in input.findings", "unused_variable", 2, "`_`"),
        ("helper := 1", "unreachable_rule", 2, "remove `helper`"),
        ("min_coverage := 0.5", "unreachable_rule", 2, "remove `min_coverage`"),
        ("block contains \"x\" if input.tenant.id == \"globex\"", "never_true", 2, "write `acme`"),
        ("block contains \"x\" if input.bundle == \"strict\"", "never_true", 2, "write `standard`"),
        (
            "block contains \"x\" if {\n\tsome f in input.findings\n\tf.category == \"pii.emial\"\n}",
            "never_true",
            4,
            "write `pii.email`",
        ),
        (
            "block contains \"x\" if {\n\tsome f in input.findings\n\t\"secret\" in f.path\n}",
            "never_true",
            4,
            "write `secrets`",
        ),
        (
            "block contains \"x\" if {\n\tsome f in input.findings\n\tf.severity == \"hihg\"\n}",
            "never_true",
            4,
            "write `high`",
        ),
        (
            "block contains \"x\" if {\n\tsome f in input.findings\n\tf.score > \"0.5\"\n}",
            "never_true",
            4,
            "write `0.5`",
        ),
        ("block contains \"x\" if false", "never_true", 2, "remove"),
        (
            "execution := \"parallel\"\n\nexecution := \"cascade\" if input.env == \"staging\"",
            "conflicting_rules",
            4,
            "`default execution",
        ),
        ("required contains \"secretz\"", "unknown_detector", 2, "write `secrets`"),
    ];
    for (rules, code, line, hint) in cases {
        let found = doubts(overlay, &format!("package tenants.acme.standard\n{rules}\n"));
        let hit = found.iter().any(|(c, l, h)| (*c, *l) == (code, line) && h.contains(hint));
        assert!(hit && found.len() == 1, "{rules}: {found:?}");
    }
    let table = "settings:\n  required: [pii, secretz]\n  timeouts: {nobody: 5}\n";
    let found = doubts("tenants/acme/standard/data.yaml", table);
    assert_eq!(
        found.iter().map(|f| (f.0, f.1)).collect::<Vec<_>>(),
        [("unknown_detector", 2), ("unknown_detector", 3)]
    );
}

#[test]
fn names_used_in_nested_scopes_and_by_with_are_used() {
    let rules = "block contains r if {\n\tsome i\n\tf := input.findings[i]\n\tr := concat(\" \", [x | some x in f.path])\n\tevery d in f.path { d != \"\" }\n}";
    let found = doubts(
        "tenants/acme/standard/more.rego",
        &format!("package tenants.acme.standard\n{rules}\n"),
    );
    assert_eq!(found, []);
}

/// Codes with lines, and hints, of doubts about the table of acme beside `rules` of its own.
fn of_table(settings: &str, rules: &str) -> Vec<(&'static str, u32, String)> {
    let mut sources = shipped();
    let folder = "tenants/acme/standard";
    let rules = format!("package tenants.acme.standard\n\n{rules}\n");
    let table = format!("settings:\n  {settings}\n");
    for (name, text) in [("data.yaml", table), ("more.rego", rules)] {
        let path = format!("{folder}/{name}");
        sources.push(Source { path: path.as_str().into(), bytes: text.as_bytes().into() });
    }
    let found = lint(&sources, &names(), &Limits::default()).into_iter();
    let own = found.filter(|fault| fault.file.ends_with("acme/standard/data.yaml"));
    own.map(|fault| (fault.code, fault.line, fault.hint.unwrap_or_default())).collect()
}

#[test]
fn a_quorum_larger_than_the_voters_of_its_category_is_doubted() {
    for sound in [
        "quorum: {pii: 1}",
        "optional: [toxicity, toxicity-fixture]\n  quorum: {toxicity: 2}",
        "optional: ['*']\n  resolve: {toxicity: {quorum: 2}}",
        "secondary: [toxicity]\n  quorum: {toxicity: 1}",
    ] {
        assert_eq!(of_table(sound, ""), [], "{sound}");
    }
    for over in [
        "quorum: {toxicity: 3}",
        "quorum: {language: 1}",
        "quorum: {pii.email: 2}",
        "resolve: {toxicity: {quorum: 3}}",
    ] {
        let found = of_table(over, "");
        assert_eq!((found[0].0, found[0].1, found.len()), ("unreachable_quorum", 2, 1), "{over}");
    }
}

#[test]
fn a_quorum_counts_the_detectors_that_a_plan_can_ask() {
    for (over, hint) in [
        ("quorum: {toxicity: 1}", "in `optional`: toxicity, toxicity-fixture"),
        ("quorum: {toxicity: 2}\n  optional: [toxicity]", "in `optional`: toxicity-fixture"),
        ("quorum: {toxicity: 2}\n  optional: ['*']\n  skip: [toxicity]", "in `optional`: toxicity"),
    ] {
        let found = of_table(over, "");
        assert_eq!((found[0].0, found[0].1, found.len()), ("unreachable_quorum", 2, 1), "{over}");
        assert!(found[0].2.ends_with(hint), "{found:?}");
    }
    let one = "quorum: {toxicity: 1}";
    let code = "optional contains \"toxicity\" if input.request.type == \"code\"";
    assert_eq!(of_table(one, code), [], "a rule names it");
    assert_eq!(of_table("quorum: {toxicity: 2}", code).len(), 1, "only one of them");
    let computed = "optional contains name if some name in input.settings.custom.more";
    assert_eq!(of_table("quorum: {toxicity: 2}", computed), [], "nobody can tell");
    // `strict` passes the rules of `standard` on, over a table of its own.
    let found = doubts("strict/data.yaml", "settings:\n  quorum: {toxicity: 1}\n");
    assert_eq!((found[0].0, found.len()), ("unreachable_quorum", 1), "{found:?}");
}
