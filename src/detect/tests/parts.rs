//! Long texts and views: what is cut is whole again in the report.

use std::num::NonZeroUsize;
use std::sync::{Condvar, Mutex};

use super::*;
use crate::domain::finding::{Finding, Place, Severity, TextView};
use crate::domain::report::Gap;
use crate::domain::span::Span;

/// Finds `SECRET` and panics on `BOOM`.
pub(super) struct Finder;

/// Tells how often a finder was warmed.
static WARMED: (Mutex<usize>, Condvar) = (Mutex::new(0), Condvar::new());

impl Judge for Finder {
    fn warm(&self) {
        *WARMED.0.lock().unwrap() += 1;
        WARMED.1.notify_all();
    }

    fn judge(&self, text: &str) -> Judged {
        assert!(!text.contains("BOOM"));
        let finding = |(at, word): (usize, &str)| {
            let start = text[..at].chars().count();
            Finding {
                category: Category::parse("secrets").unwrap(),
                label: "SECRET".into(),
                score: 0.9,
                severity: Severity::High,
                place: Some(Place {
                    piece: 0,
                    span: Some(Span { start, end: start + word.chars().count() }),
                }),
                view: None,
                attributes: Default::default(),
            }
        };
        let findings = text.match_indices("SECRET").map(finding).collect();
        Judged { findings, ..Judged::default() }
    }
}

fn finder(max_chars: usize, overlap: usize, max: usize) -> Detector {
    Detector {
        max_chars: NonZeroUsize::new(max_chars),
        chunks: file::Chunks { overlap, max },
        views: vec![TextView::Raw],
        ..detector("finder", Protocol::Builtin(Builtin::Keywords), "")
    }
}

async fn judged(detector: Detector, text: &str) -> Report {
    detectors().fan_out(&[ask(detector)], &sample(&[text]).work(), soon()).await.remove(0)
}

fn spans(report: &Report) -> Vec<(usize, usize)> {
    let place = |finding: &Finding| finding.place.unwrap().span.unwrap();
    report.findings.iter().map(place).map(|span| (span.start, span.end)).collect()
}

#[tokio::test]
async fn a_long_text_is_cut_and_every_finding_stands_once_in_its_place() {
    let text = format!("SECRET {} SECRET é{} SECRET", "😀".repeat(19), "לום ".repeat(20));
    let whole = judged(finder(10_000, 0, 64), &text).await;
    assert_eq!(whole.attempts, 1);
    for most in [12, 13, 20, 50] {
        let cut = judged(finder(most, 6, 64), &text).await;
        assert!(cut.attempts > 1);
        assert_eq!((cut.status, cut.gaps.len()), (Status::Success, 0));
        assert_eq!(spans(&cut), spans(&whole), "{most}");
    }
}

#[tokio::test]
async fn a_part_without_an_answer_is_a_gap_of_its_characters() {
    let text = format!("{}BOOM{}SECRET", "x".repeat(40), "y".repeat(40));
    let report = judged(finder(20, 0, 64), &text).await;
    assert_eq!(report.status, Status::Success);
    assert_eq!(spans(&report), [(84, 90)]);
    let [Gap { span: Some(gap), chars: 20, reason: ReportError::BadResponse, .. }] = *report.gaps
    else {
        panic!("{:?}", report.gaps)
    };
    assert!(gap.start <= 40 && 44 <= gap.end, "{gap:?}");
    let none = judged(finder(20, 0, 64), "BOOM").await;
    assert_eq!(none.error, Some(ReportError::BadResponse));
}

#[tokio::test]
async fn what_is_more_than_the_file_allows_is_left_out_and_named() {
    let text = format!("{}SECRET", "x".repeat(84));
    let report = judged(finder(30, 0, 2), &text).await;
    assert_eq!((report.attempts, report.findings.len()), (2, 0));
    let rest = Gap {
        piece: 0,
        span: Some(Span { start: 60, end: 90 }),
        chars: 30,
        reason: ReportError::TooLong,
    };
    assert_eq!(report.gaps, [rest]);
}

#[tokio::test]
async fn a_view_finds_what_is_hidden_and_the_span_is_the_raw_one() {
    let hidden = "see S\u{200b}E\u{200b}C\u{200b}R\u{200b}E\u{200b}T and SECRET";
    assert_eq!(spans(&judged(finder(999, 0, 64), hidden).await), [(20, 26)]);
    for views in [vec![TextView::Raw, TextView::Normalized], vec![TextView::Normalized]] {
        let with_raw = views.contains(&TextView::Raw);
        let report = judged(Detector { views, ..finder(12, 6, 64) }, hidden).await;
        assert_eq!(spans(&report), [(4, 15), (20, 26)]);
        let view = |n: usize| report.findings[n].view;
        assert_eq!(view(0), Some(TextView::Normalized));
        assert_eq!(view(1), (!with_raw).then_some(TextView::Normalized));
    }
    let plain =
        judged(Detector { views: vec![TextView::Normalized], ..finder(99, 0, 9) }, "SECRET");
    assert_eq!(plain.await.findings[0].view, None);
}

#[test]
fn built_in_detectors_are_made_ready_before_anybody_asks() {
    let finder = finder(99, 0, 9);
    let mut catalog = Catalog::default();
    catalog.detectors.insert(finder.name.clone(), Arc::new(finder));
    detectors().warm(&catalog);
    let warmed = WARMED.0.lock().unwrap();
    let patience = Duration::from_secs(30);
    let (warmed, _) = WARMED.1.wait_timeout_while(warmed, patience, |n| *n == 0).unwrap();
    assert_eq!(*warmed, 1);
}
