//! `bench-quality urls`: deceiving and honest hosts.

use std::collections::BTreeMap;

use detector_orchestrator::catalog::detector::Builtin;

use crate::page::{self, Figures, Page, THRESHOLD, say, share, text};

pub(crate) fn run() {
    let (detector, cost) = page::costs(Builtin::Urls);
    let rows = page::rows("urls");
    let mut out = String::from(
        "| hosts | N | found | share | as an imitation | share |\n|---|---|---|---|---|---|\n",
    );
    let mut wrong: BTreeMap<String, usize> = BTreeMap::new();
    let (mut right, mut all_bad, mut false_alarms) = (0, 0, 0);
    for (set, rows) in page::sets(&rows) {
        let (mut found, mut imitated) = (0, 0);
        for row in &rows {
            let mut findings = detector.judge(text(row)).findings;
            findings.retain(|finding| finding.score >= THRESHOLD);
            found += usize::from(!findings.is_empty());
            imitated +=
                usize::from(findings.iter().any(|f| f.category.as_str() == "link.homograph"));
            for finding in findings.iter().filter(|_| row["bad"] == false) {
                *wrong.entry(finding.label.to_string()).or_default() += 1;
            }
        }
        match rows[0]["bad"] == true {
            true => (right, all_bad) = (right + found, all_bad + rows.len()),
            false => false_alarms += found,
        }
        let n = rows.len();
        say!(
            out,
            "| {set} | {n} | {found} | {} | {imitated} | {} |",
            share(found, n),
            share(imitated, n)
        );
    }
    let figures = Figures::of_counts(rows.len(), right, false_alarms, all_bad);
    say!(
        out,
        "\nTogether: {right} of {all_bad} deceiving hosts and {false_alarms} honest ones are found."
    );
    say!(out, "Scores are fixed by rule, so there is no AUC. False alarms by label: {wrong:?}.");
    page::write(&Page { name: "urls", detector: "urls", body: &out, figures: &figures, cost });
}
