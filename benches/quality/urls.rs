//! `bench-quality urls`: deceiving and honest hosts.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use detector_orchestrator::catalog::detector::Builtin;

use crate::page::{self, THRESHOLD, share, text};

const INTRO: &str = "\
Found is a host with any finding of 0.5 or more; *as an imitation* one with `link.homograph`. A host in
punycode is always found (`link.punycode`): as letters it shows what is recognised.

| data | licence, use |
|---|---|
| hosts of known frauds and honest hosts: eth-phishing-detect 1.2.0 | DBAD licence, measured only |
| imitations: those honest hosts with letters exchanged by Unicode's table of confusables (in confusable-homoglyphs 3.3.1, MIT), seed 20261121. The detector stands on the same table, so this measures its rules, not the table | measured only |
| honest names: words of Django's translations under their country's zone, and the links of its documentation | BSD-3-Clause, measured only |

A name of one script that imitates no ASCII word is honest, and so is a fraud that only adds an accent
(`samuraïsaga`) to an eye that does not know the original: the detector has no list of brands.
";

pub(crate) fn run() {
    let (detector, held) = page::loaded(Builtin::Urls);
    let rows = page::rows("urls");
    let mut out = String::from("| hosts | N | found | share | as an imitation | share |\n|---|---|---|---|---|---|\n");
    let mut wrong: BTreeMap<String, usize> = BTreeMap::new();
    let (mut right, mut all_bad, mut false_alarms) = (0, 0, 0);
    for (set, rows) in page::sets(&rows) {
        let (mut found, mut imitated) = (0, 0);
        for row in &rows {
            let mut findings = detector.judge(text(row)).findings;
            findings.retain(|finding| finding.score >= THRESHOLD);
            found += usize::from(!findings.is_empty());
            imitated += usize::from(findings.iter().any(|f| f.category.as_str() == "link.homograph"));
            for finding in findings.iter().filter(|_| row["bad"] == false) {
                *wrong.entry(finding.label.to_string()).or_default() += 1;
            }
        }
        match rows[0]["bad"] == true {
            true => (right, all_bad) = (right + found, all_bad + rows.len()),
            false => false_alarms += found,
        }
        let n = rows.len();
        writeln!(out, "| {set} | {n} | {found} | {} | {imitated} | {} |", share(found, n), share(imitated, n)).unwrap();
    }
    let (precision, recall) = (right as f64 / (right + false_alarms) as f64, right as f64 / all_bad as f64);
    let f1 = 2.0 * precision * recall / (precision + recall);
    writeln!(out, "\nTogether: precision {precision:.3}, recall {recall:.3}, F1 {f1:.3}; scores are fixed by rule, so there is no AUC.").unwrap();
    writeln!(out, "\nFalse alarms by label: {wrong:?}.").unwrap();
    let ordinary = page::rows("ordinary");
    let texts: Vec<&str> = ordinary.iter().step_by(20).map(text).collect();
    let speed = page::speed(&detector, &texts);
    write!(out, "\n{speed:.1} MB/s on one core on the ordinary texts; {held:.1} MB held after the first text.\n").unwrap();
    page::write("urls", INTRO, &out);
}
