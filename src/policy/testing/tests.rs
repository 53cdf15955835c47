use super::super::tests::shipped;
use super::*;

fn source(path: &str, text: &str) -> Source {
    Source { path: path.into(), bytes: text.as_bytes().into() }
}

fn all(sources: &[Source]) -> Report {
    run(sources, &|_, _| true, &Limits::default()).unwrap_or_else(|faults| panic!("{faults:#?}"))
}

#[test]
fn the_shipped_tests_pass_and_their_lines_are_counted() {
    let report = all(&shipped());
    let bad: Vec<&Test> = report.tests.iter().filter(|t| t.status != Status::Passed).collect();
    assert!(bad.is_empty(), "{bad:#?}");
    assert!(report.tests.len() >= 17);
    let verdict = report.coverage.iter().find(|f| f.file == "standard/verdict.rego").unwrap();
    assert!(verdict.share() > 0.5, "{verdict:?}");
    assert!(report.coverage.iter().all(|file| !file.file.ends_with("_test.rego")));
}

#[test]
fn a_failure_names_the_statement_its_values_and_the_last_line_that_held() {
    let rules = "package demo\n\nblock contains f.id if {\n\tsome f in input.findings\n\tf.score > 0.5\n}\n";
    let tests = "package demo_test\n\nimport data.demo\n\ntest_all_block if {\n\tfindings := [{\"id\": 1, \"score\": 0.9}, {\"id\": 2, \"score\": 0.1}]\n\tcount(findings) == 2\n\tdemo.block == {1, 2} with input as {\"findings\": findings}\n\tdemo.block != {}\n}\n\ntest_one if demo.block == {1} with input.findings as [{\"id\": 1, \"score\": 1}]\n\ntodo_test_later if false\n";
    let report = all(&[source("demo/v.rego", rules), source("demo/v_test.rego", tests)]);
    let states: Vec<Status> = report.tests.iter().map(|test| test.status).collect();
    assert_eq!(states, [Status::Failed, Status::Passed, Status::Todo]);
    let why = &report.tests[0].why[0];
    assert_eq!((why.line, why.column, why.held_line), (8, 2, 7));
    assert_eq!(why.statement, "demo.block == {1, 2} with input as {\"findings\": findings}");
    let values: Vec<(&str, Option<&str>)> =
        why.values.iter().map(|w| (w.expression.as_str(), w.value.as_deref())).collect();
    assert_eq!(values, [("demo.block", Some("[1]")), ("{1, 2}", Some("[1,2]"))]);
    assert!((report.coverage[0].share() - 1.0).abs() < 1e-9, "{:?}", report.coverage);
}

#[test]
fn files_of_one_package_are_seen_whole_under_with() {
    let report = all(&[
        source(
            "demo/a.rego",
            "package demo\n\nimport data.base.names as words\n\nblock contains \"a\" if {\n\tinput.x\n\twords\n}\n",
        ),
        source(
            "demo/b.rego",
            "package demo\n\nblock contains \"b\" if input.x\n\nreview contains \"c\" if {\n\tinput.never\n\tinput.env\n}\n",
        ),
        source("base/n.rego", "package base\n\nnames := {\"x\": 1}\n"),
        source(
            "demo/x_test.rego",
            "package demo_test\n\nimport data.demo\n\ntest_both if demo.block == {\"a\", \"b\"} with input as {\"x\": 1}\n",
        ),
        source(
            "demo/y_test.rego",
            "package demo_test\n\nimport data.demo\n\ntest_none if count(demo.block) == 0 with input as {}\n",
        ),
    ]);
    assert!(report.tests.iter().all(|test| test.status == Status::Passed), "{report:#?}");
    let b = report.coverage.iter().find(|file| file.file == "demo/b.rego").unwrap();
    assert!(b.covered.contains(&3), "{b:?}");
    assert!(b.missed.contains(&7), "{b:?}");
}

#[test]
fn a_file_that_no_test_enters_counts_as_missed() {
    let report = all(&[
        source("demo/a.rego", "package demo\n\nblock contains \"a\" if input.x\n"),
        source("other/b.rego", "package other\n\nblock contains \"b\" if {\n\tinput.x\n}\n"),
        source(
            "demo/a_test.rego",
            "package demo_test\n\ntest_a if \"a\" in data.demo.block with input as {\"x\": 1}\n",
        ),
    ]);
    let other = report.coverage.iter().find(|file| file.file == "other/b.rego").unwrap();
    assert_eq!((other.covered.len(), other.missed.len()), (0, 2));
    assert!((coverage::share(&report.coverage) - 1.0 / 3.0).abs() < 1e-9);
}

#[test]
fn errors_and_faults_of_tests_are_placed_in_their_own_file() {
    let rules = source("demo/a.rego", "package demo\n\nn := to_number(input.x)\n");
    let other = source("demo/b.rego", "package demo\n\nm := to_number(input.y)\n");
    let text = "package demo_test\n\ntest_n if data.demo.m == 1 with input as {\"x\": \"1\", \"y\": \"1z\"}\n";
    let report = all(&[rules.clone(), other, source("demo/a_test.rego", text)]);
    assert_eq!(report.tests[0].status, Status::Error);
    let message = report.tests[0].message.as_deref().unwrap();
    assert!(message.starts_with("demo/b.rego:3:"), "{message}");
    let code = |text: &str| {
        let sources = [rules.clone(), source("demo/a_test.rego", text)];
        run(&sources, &|_, _| true, &Limits::default()).unwrap_err().remove(0)
    };
    let cases = [
        ("package demo\n\ntest_x if true\n", "wrong_package", 1),
        ("package demo_test\n\ntest_x if true\n\ntest_x if false\n", "duplicate_test", 5),
        ("package demo_test\n\ntest_x if data.demo.nn\n", "undefined_reference", 3),
        ("package demo_test\n\ntest_x if nothing == 1\n", "undefined_variable", 3),
    ];
    for (text, wanted, line) in cases {
        let fault = code(text);
        assert_eq!((fault.code, fault.line), (wanted, line), "{fault}");
    }
}
