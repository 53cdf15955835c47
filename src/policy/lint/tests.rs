use super::super::tests::shipped;
use super::*;

fn names() -> Voters {
    let category = |name| [Category::parse(name).unwrap()].into();
    [
        ("pii", category("pii")),
        ("secrets", category("secrets")),
        ("toxicity", category("toxicity")),
        ("toxicity-fixture", category("toxicity.insult")),
        ("prompt-injection", category("injection")),
        ("language", BTreeSet::new()),
    ]
    .map(|(name, votes)| (DetectorName::parse(name).unwrap(), votes))
    .into()
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

#[test]
fn a_quorum_larger_than_the_voters_of_its_category_is_doubted() {
    let path = "tenants/acme/standard/data.yaml";
    let codes = |table: &str| doubts(path, table).into_iter().map(|doubt| (doubt.0, doubt.1));
    for sound in ["quorum: {toxicity: 2}", "quorum: {pii: 1}", "resolve: {toxicity: {quorum: 2}}"] {
        assert_eq!(codes(&format!("settings:\n  {sound}\n")).count(), 0, "{sound}");
    }
    for over in [
        "quorum: {toxicity: 3}",
        "quorum: {language: 1}",
        "quorum: {pii.email: 2}",
        "resolve: {toxicity: {quorum: 3}}",
    ] {
        let found: Vec<_> = codes(&format!("settings:\n  {over}\n")).collect();
        assert_eq!(found, [("unreachable_quorum", 2)], "{over}");
    }
}
