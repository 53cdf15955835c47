//! What is refused at load, with its position; what is only a warning.

use super::*;

/// The fault that a hostile file beside the shipped ones is refused with.
fn refused(path: &str, text: &str) -> (&'static str, u32, u32) {
    let mut sources = shipped();
    sources.retain(|source| source.path != path);
    sources.push(source(path, text));
    let start = std::time::Instant::now();
    let faults = Policies::load(&sources, &scopes(), &Limits::default(), None).unwrap_err();
    assert!(start.elapsed().as_secs() < 10, "{text}");
    let fault = faults.iter().find(|fault| fault.file == path).unwrap_or(&faults[0]);
    (fault.code, fault.line, fault.column)
}

#[test]
fn every_hostile_or_mistaken_policy_is_refused_with_its_position() {
    let cases = [
        ("f(n) := f(n + 1)\nblock contains \"x\" if f(1)", ("recursion", 2, 1)),
        ("f(n) := g(n)\ng(n) := f(n)\nblock contains \"x\" if f(1)", ("recursion", 2, 1)),
        ("f(n) := data.demo.f(n)\nblock contains \"x\" if f(1)", ("recursion", 2, 1)),
        (
            "import data.demo.f as g\nf(n) := g(n)\nblock contains \"x\" if f(1)",
            ("recursion", 3, 1),
        ),
        ("f(n) := data[\"demo\"].f(n)\nblock contains \"x\" if f(1)", ("recursion", 2, 1)),
        ("x := object.get(data, \"a\", 1)", ("recursion", 2, 1)),
        ("block contains \"x\" if http.send({}).ok", ("forbidden_builtin", 2, 23)),
        ("block contains \"x\" if time.now_ns() > 1", ("forbidden_builtin", 2, 23)),
        ("block contains \"x\" if rand.intn(\"a\", 2) > 1", ("forbidden_builtin", 2, 23)),
        ("block contains \"x\" if opa.runtime().env", ("forbidden_builtin", 2, 23)),
        ("block contains \"x\" if print(1)", ("forbidden_builtin", 2, 23)),
        ("block contains \"x\" if numbrs.range(1, 2)", ("unknown_function", 2, 23)),
        ("block contains \"x\" if count(1, 2) > 1", ("wrong_arity", 2, 23)),
        ("block contains \"x\" if count(numbers.range(1, 30000000)) > 1", ("probe_error", 2, 42)),
        ("block contains sprintf(\"%2000000000d\", [1])", ("probe_error", 2, 23)),
        ("block contains \"x\" if strings.count(\"a\", \"\") > 1", ("probe_error", 2, 36)),
        ("block contains \"x\" if bits.lsh(1, 4000000000) > 1", ("probe_error", 2, 31)),
        ("block contains \"x\" if to_number(\"12x\") > 1", ("probe_error", 2, 32)),
        (
            "block contains \"x\" if {\n\tsome a in numbers.range(1, 9000)\n\tsome b in numbers.range(1, 9000)\n\ta * b < 0\n}",
            ("probe_timeout", 2, 1),
        ),
        ("block contains \"x\" if input.request.priorty == \"low\"", ("unknown_input", 2, 37)),
        (
            "block contains f.id if {\n\tsome f in input.findings\n\tf.categry == \"pii\"\n}",
            ("unknown_input", 4, 4),
        ),
        (
            "block contains \"x\" if {\n\tr := input.request\n\tr.kind == \"text\"\n}",
            ("unknown_input", 4, 4),
        ),
        (
            "block contains x if some x in [f.lable | some f in input.findings]",
            ("unknown_input", 2, 34),
        ),
        (
            "bad(f) if f.scor > 1\nblock contains \"x\" if {\n\tsome f in input.findings\n\tbad(f)\n}",
            ("unknown_input", 2, 13),
        ),
        ("deny contains \"x\" if count(input.findings) > 0", ("unknown_input", 2, 34)),
        ("block contains \"x\" if input[input.env]", ("dynamic_input", 2, 29)),
        ("block contains \"x\" if data.standrd.block", ("undefined_reference", 2, 23)),
        (
            "block contains \"x\" if data.tenants.acme.standard.block",
            ("undefined_reference", 2, 23),
        ),
        ("block contains \"x\" if input.env == \"a\" with input as {}", ("with_in_policy", 2, 40)),
        ("block contains \"x\" if {", ("syntax", 3, 1)),
        ("block[\"x\"] { true }", ("syntax", 2, 12)),
    ];
    let mut wrong = Vec::new();
    for (rules, expected) in cases {
        let found = refused("demo/policy.rego", &format!("package demo\n{rules}\n"));
        if found != expected {
            wrong.push(format!("{rules}: {found:?} instead of {expected:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn files_out_of_place_and_too_deep_ones_are_refused() {
    let nest = format!("package demo\nr := {}1", "[".repeat(60));
    assert_eq!(refused("demo/policy.rego", &nest).0, "too_deep");
    let chain: String = (1..200).map(|at| format!("r{at} := r{}\n", at - 1)).collect();
    let chain = format!("package demo\nr0 := 1\n{chain}");
    assert_eq!(refused("demo/policy.rego", &chain).0, "chain_too_long");
    assert_eq!(refused("demo/policy.rego", "package standard\n"), ("wrong_package", 1, 1));
    assert_eq!(refused("a/b/c/d.rego", "package a\n").0, "wrong_place");
    assert_eq!(refused("every/x.rego", "package every\n").0, "wrong_place");
    assert_eq!(refused("tenants/acme/standrd/data.yaml", "settings: {}\n").0, "unknown_bundle");
    let floor = "package floor\nblock contains \"x\" if input.settings.mode == \"x\"\n";
    assert_eq!(refused("floor/x.rego", floor).0, "floor_reads_settings");
}

#[test]
fn a_tenant_that_names_a_missing_policy_gets_the_nearest_name() {
    let tenants = [scope("acme", &["standrd"])];
    let faults = Policies::load(&shipped(), &tenants, &Limits::default(), None).unwrap_err();
    assert_eq!((faults[0].kind, faults[0].code), (FaultKind::Tenant, "unknown_policy"));
    assert_eq!(faults[0].hint.as_deref(), Some("write `standard`"));
}

#[test]
fn test_files_notes_and_hidden_files_are_never_part_of_a_unit() {
    let mut sources = shipped();
    for path in ["standard/x_test.rego", "standard/.x.rego", "standard/notes.txt", ".git/x.rego"] {
        sources.push(source(path, "not rego at all {{{{"));
    }
    load(&sources);
}

#[test]
fn validation_names_faults_and_runs_cases() {
    let check = |text: &str, cases: &[Case]| {
        let modules = [("mine.rego".to_owned(), text.to_owned())];
        validate_modules(&modules, None, cases, &Limits::default())
    };
    let bad = check("package mine\nblock contains", &[]);
    assert!(!bad.is_valid);
    assert_eq!((bad.errors[0].file.as_str(), bad.errors[0].code), ("mine.rego", "syntax"));
    let nest = check(&format!("package mine\nx := {}1", "[".repeat(60)), &[]);
    assert_eq!((nest.errors[0].code, nest.errors[0].line), ("too_deep", 2));
    assert_eq!(check("package base\n", &[]).errors[0].code, "reserved_package");
    assert_eq!(check("package mine\nf(n) := f(n)", &[]).errors[0].code, "recursion");
    let case = |expect: serde_json::Value| Case {
        rule: "data.mine.twice".into(),
        input: serde_json::json!({"n": 4}),
        expect,
    };
    let text = "package mine\ntwice := input.n * 2";
    let good = check(text, &[case(8.into())]);
    assert!(good.is_valid, "{good:?}");
    assert_eq!(good.rules, ["mine.twice"]);
    assert!(!check(text, &[case(9.into())]).is_valid);
}

#[test]
fn a_validation_ends_even_where_an_evaluation_cannot_be_stopped() {
    let grow = |v: &str| {
        let more = (1..5)
            .map(|at| format!("\t{v}{at} := [{v}{} | some _ in numbers.range(1, 3000)]\n", at - 1));
        format!("\t{v}0 := [1]\n{}", more.collect::<String>())
    };
    let text = format!("package mine\nx if {{\n{}{}\tp4 != q4\n}}\n", grow("p"), grow("q"));
    let case = Case {
        rule: "data.mine.x".into(),
        input: serde_json::Value::Null,
        expect: serde_json::Value::Null,
    };
    let modules = [("mine.rego".to_owned(), text)];
    let validation = validate_modules(&modules, None, &[case], &Limits::default());
    assert_eq!(validation.errors[0].code, "timeout");
}

#[test]
fn a_rule_whose_name_is_almost_an_asked_one_is_a_warning() {
    let mut sources = shipped();
    let text = "package demo\nblocks contains \"x\" if input.env == \"x\"\n";
    sources.push(source("demo/policy.rego", text));
    let loaded = Policies::load(&sources, &scopes(), &Limits::default(), None).unwrap();
    let found: Vec<_> = loaded.warnings.iter().map(|w| (w.code, w.file.as_str(), w.line)).collect();
    assert_eq!(found, [("unused_rule", "demo/policy.rego", 2)]);
    assert_eq!(loaded.warnings[0].hint.as_deref(), Some("write `block`, or remove the rule"));
}

#[test]
fn a_chain_of_multiplications_is_refused_before_it_runs() {
    let mut text = "package mine\n\nx0 := 12345678901234567\n".to_owned();
    for n in 1..40 {
        text.push_str(&format!("x{n} := x{} * x{}\n", n - 1, n - 1));
    }
    let check = |text: &str| {
        validate_modules(&[("a.rego".to_owned(), text.to_owned())], None, &[], &Limits::default())
    };
    let refused = check(&text);
    assert_eq!(refused.errors.first().map(|fault| fault.code), Some("too_many_products"));
    assert!(
        check("package mine\n\nx := 2 * 3 * input.request.timeout\n")
            .errors
            .iter()
            .all(|f| f.code != "too_many_products")
    );
}

#[test]
fn an_empty_table_or_file_is_refused_at_its_first_line() {
    assert_eq!(refused("standard/data.yaml", ""), ("wrong_value", 1, 1));
    assert_eq!(refused("standard/data.yaml", "# settings: {}\n").0, "wrong_value");
    assert_eq!(refused("standard/verdict.rego", "").1, 1);
    assert!(refused("standard/verdict.rego", "package standard\n\nblock contains 7\n").1 == 3);
}
