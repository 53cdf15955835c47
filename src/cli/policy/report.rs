//! Test results for people, programs, JUnit and lcov.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use super::{Format, TestArgs};
use crate::policy::testing::coverage::{FileCoverage, share};
use crate::policy::testing::{Report, Status, Test};

pub(super) fn print(args: &TestArgs, report: &Report, took: Duration) {
    let coverage = args.coverage || args.threshold.is_some();
    let text = match args.format {
        Format::Text => text(args, report, took, coverage),
        Format::Json => json(report, took, coverage),
        Format::Junit => junit(report),
        Format::Lcov => lcov(&report.coverage),
    };
    super::print(text.trim_end());
}

fn count(report: &Report, status: Status) -> usize {
    report.tests.iter().filter(|test| test.status == status).count()
}

fn by_file(report: &Report) -> BTreeMap<&str, Vec<&Test>> {
    let mut files: BTreeMap<&str, Vec<&Test>> = BTreeMap::new();
    for test in &report.tests {
        files.entry(&test.file).or_default().push(test);
    }
    files
}

fn text(args: &TestArgs, report: &Report, took: Duration, coverage: bool) -> String {
    // Writing to a String cannot fail, here and below.
    let mut out = String::new();
    for (file, tests) in by_file(report) {
        let _ = writeln!(out, "{file}");
        for test in tests {
            let milliseconds = test.duration_us as f64 / 1e3;
            let word = match test.status {
                Status::Passed => "ok   ",
                Status::Failed => "FAIL ",
                Status::Todo => "todo ",
                Status::Error => "ERROR",
            };
            let _ = writeln!(out, "  {word} {} ({milliseconds:.1} ms)", test.name);
            out.push_str(&reasons(test));
        }
    }
    let _ = writeln!(
        out,
        "{} passed, {} failed, {} errors, {} todo in {:.0} ms",
        count(report, Status::Passed),
        count(report, Status::Failed),
        count(report, Status::Error),
        count(report, Status::Todo),
        took.as_secs_f64() * 1e3
    );
    if coverage {
        let least = args.threshold.map_or_else(String::new, |least| {
            let below = share(&report.coverage) + 1e-9 < least;
            format!(
                ", {} the threshold {:.1} %",
                if below { "below" } else { "at least" },
                100.0 * least
            )
        });
        let _ = writeln!(out, "coverage {:.1} % of lines{least}", 100.0 * share(&report.coverage));
        for file in &report.coverage {
            let missed = match file.missed.is_empty() {
                true => String::new(),
                false => format!("  missed {}", ranges(file)),
            };
            let _ = writeln!(out, "  {:>5.1} % {}{missed}", 100.0 * file.share(), file.file);
        }
    }
    out
}

/// Why a test is bad, indented.
fn reasons(test: &Test) -> String {
    let mut out = String::new();
    if let Some(message) = &test.message {
        let _ = writeln!(out, "        {}:{}:{}: {message}", test.file, test.line, test.column);
    }
    for why in &test.why {
        let statement = why.statement.replace('\n', "\n        ");
        let place = format!("{}:{}:{}", test.file, why.line, why.column);
        let _ = writeln!(out, "        {place}: does not hold: {statement}");
        for witness in &why.values {
            let value = witness.value.as_deref().unwrap_or("undefined");
            let expression = witness.expression.replace('\n', "\n          ");
            let _ = writeln!(out, "          {expression} = {value}");
        }
        if why.held_line > 0 {
            let _ = writeln!(out, "          (held up to line {})", why.held_line);
        }
    }
    out
}

/// `3-5, 9`.
fn ranges(file: &FileCoverage) -> String {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for line in &file.missed {
        match ranges.last_mut() {
            Some((_, end)) if *end + 1 == *line => *end = *line,
            _ => ranges.push((*line, *line)),
        }
    }
    let shown = ranges.iter().map(|(start, end)| match start == end {
        true => start.to_string(),
        false => format!("{start}-{end}"),
    });
    shown.collect::<Vec<_>>().join(", ")
}

fn json(report: &Report, took: Duration, coverage: bool) -> String {
    let mut value = serde_json::json!({
        "passed": count(report, Status::Passed),
        "failed": count(report, Status::Failed),
        "errors": count(report, Status::Error),
        "todo": count(report, Status::Todo),
        "duration_ms": took.as_millis() as u64,
        "tests": report.tests,
    });
    if let (true, Some(object)) = (coverage, value.as_object_mut()) {
        let files: Vec<serde_json::Value> = report
            .coverage
            .iter()
            .map(|file| {
                serde_json::json!({"file": file.file, "share": file.share(),
                    "covered": file.covered, "missed": file.missed})
            })
            .collect();
        let whole = serde_json::json!({"share": share(&report.coverage), "files": files});
        object.insert("coverage".into(), whole);
    }
    serde_json::to_string_pretty(&value).unwrap_or_default()
}

fn junit(report: &Report) -> String {
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let tests = report.tests.len();
    let (failed, errors) = (count(report, Status::Failed), count(report, Status::Error));
    let _ =
        writeln!(out, "<testsuites tests=\"{tests}\" failures=\"{failed}\" errors=\"{errors}\">");
    for (file, tests) in by_file(report) {
        let of = |status| tests.iter().filter(|test| test.status == status).count();
        let seconds: f64 = tests.iter().map(|test| test.duration_us as f64 / 1e6).sum();
        let _ = writeln!(
            out,
            "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" errors=\"{}\" skipped=\"{}\" time=\"{seconds:.6}\">",
            escape(file),
            tests.len(),
            of(Status::Failed),
            of(Status::Error),
            of(Status::Todo)
        );
        for test in tests {
            let (name, seconds) = (escape(&test.name), test.duration_us as f64 / 1e6);
            let _ = write!(
                out,
                "    <testcase classname=\"{}\" name=\"{name}\" file=\"{0}\" line=\"{}\" time=\"{seconds:.6}\"",
                escape(file),
                test.line
            );
            let _ = match test.status {
                Status::Passed => writeln!(out, "/>"),
                Status::Todo => writeln!(out, "><skipped/></testcase>"),
                Status::Failed => {
                    writeln!(out, "><failure>{}</failure></testcase>", escape(&reasons(test)))
                }
                Status::Error => {
                    writeln!(out, "><error>{}</error></testcase>", escape(&reasons(test)))
                }
            };
        }
        let _ = writeln!(out, "  </testsuite>");
    }
    out.push_str("</testsuites>\n");
    out
}

/// XML 1.0 text: what it cannot hold becomes a space.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\t' => out.push(c),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

fn lcov(files: &[FileCoverage]) -> String {
    let mut out = String::new();
    for file in files {
        let _ = writeln!(out, "TN:\nSF:{}", file.file);
        let covered = file.covered.iter().map(|line| (*line, 1));
        let lines: BTreeMap<u32, u8> =
            file.missed.iter().map(|line| (*line, 0)).chain(covered).collect();
        for (line, hits) in &lines {
            let _ = writeln!(out, "DA:{line},{hits}");
        }
        let _ = writeln!(out, "LF:{}\nLH:{}\nend_of_record", lines.len(), file.covered.len());
    }
    out
}
