//! The multilingual corpus through the command: what is found, where, and what stays after it.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::app::{edit, write};
use crate::binary::{command, run, text};

const CORPUS: &str = include_str!("../corpus/multilingual.jsonl");

/// Category and text of each expectation; `views` says whether those of the other views count.
fn expected(line: &Value, views: bool) -> BTreeSet<(String, String)> {
    let all = line["expect"].as_array().unwrap().iter();
    all.filter(|expect| views || expect.get("view").is_none())
        .map(|expect| {
            let part = |name: &str| expect[name].as_str().unwrap().to_owned();
            (part("category"), part("text"))
        })
        .collect()
}

/// The expectations that only the decoded view shows.
fn encoded(line: &Value) -> Vec<(String, String)> {
    let all = line["expect"].as_array().unwrap().iter();
    let part = |expect: &Value, name: &str| expect[name].as_str().unwrap().to_owned();
    all.filter(|expect| expect["view"] == "decoded")
        .map(|expect| (part(expect, "category"), part(expect, "text")))
        .collect()
}

fn lines() -> Vec<Value> {
    CORPUS.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn each_expectation_of_the_corpus_stands_once_in_its_text() {
    let (mut languages, mut views) = (BTreeSet::new(), BTreeSet::new());
    for line in lines() {
        let text = line["text"].as_str().unwrap();
        for (_, part) in expected(&line, true) {
            assert_eq!(text.matches(&part).count(), 1, "{part:?} in {text:?}");
        }
        languages.insert(line["note"].as_str().unwrap().split(':').next().unwrap().to_owned());
        let named = line["expect"].as_array().unwrap().iter();
        views.extend(named.map(|expect| expect["view"].as_str().unwrap_or("raw").to_owned()));
    }
    assert!(languages.len() >= 20, "{languages:?}");
    assert_eq!(
        views.iter().map(String::as_str).collect::<Vec<_>>(),
        ["decoded", "normalized", "raw"]
    );
}

#[test]
fn what_stands_or_hides_in_any_script_is_found_exactly_where_it_stands() {
    let dir = tempfile::tempdir().unwrap();
    // On a busy machine the first text, which compiles every pattern, may take its time.
    assert_eq!(run(dir.path(), &["init"]).status.code(), Some(0));
    edit(dir.path(), "detectors/pii.yaml", "params: {}", "params: {}\ntimeout: 60s");
    let lines = lines();
    let names: Vec<String> = (0..lines.len()).map(|at| format!("{at:03}.txt")).collect();
    for (name, line) in names.iter().zip(&lines) {
        write(dir.path(), name, line["text"].as_str().unwrap());
    }
    let args: Vec<&str> =
        ["scan", "--json"].into_iter().chain(names.iter().map(String::as_str)).collect();
    let mut scan = command(dir.path());
    scan.env("ORCHESTRATION_ORCHESTRATION__SLA__NORMAL_MS", "60000").args(&args);
    let output = text(&scan.output().unwrap().stdout);
    let mut wrong = Vec::new();
    assert_eq!(output.lines().count(), lines.len());
    for (answer, line) in output.lines().zip(&lines) {
        let answer: Value = serde_json::from_str(answer).unwrap();
        let sent: Vec<char> = line["text"].as_str().unwrap().chars().collect();
        let findings = answer["findings"].as_array().into_iter().flatten();
        let found: BTreeSet<(String, String)> = findings
            .map(|finding| {
                let at = |end: &str| finding["span"][end].as_u64().unwrap() as usize;
                let part = sent[at("start")..at("end")].iter().collect();
                (finding["category"].as_str().unwrap().to_owned(), part)
            })
            .collect();
        let all = expected(line, true);
        // What an encoding hides is found at its groups, which lie inside the encoded run.
        let hidden = |(category, part): &(String, String)| {
            let raw = all.contains(&(category.clone(), part.clone()));
            raw || encoded(line).iter().any(|(c, run)| c == category && run.contains(part))
        };
        if found.len() != all.len() || !found.iter().all(hidden) {
            wrong.push(format!("{}: {found:?} instead of {all:?}", line["note"]));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
