//! `orchestrator detectors`: what is there, and whether it answers.

use std::sync::Arc;

use comfy_table::Table;
use comfy_table::presets;

mod calibrate;
mod drift;

pub(super) use calibrate::run as calibrate;
pub(super) use drift::run as drift;

use super::{ListArgs, ProbeArgs, Session, attach, complain, exit, print};
use crate::catalog::Detector;
use crate::domain::id::DetectorName;

pub(super) fn list(args: &ListArgs) -> u8 {
    let session = match Session::open(args.config.as_deref()) {
        Ok(session) => session,
        Err(code) => return code,
    };
    let detectors = session.snapshot.catalog.detectors.values();
    if args.json {
        for detector in detectors {
            let categories: Vec<&str> = detector.categories.iter().map(|c| c.as_str()).collect();
            print(
                &serde_json::json!({
                    "name": detector.name.as_str(),
                    "protocol": detector.protocol.name(),
                    "categories": categories,
                    "endpoint": detector.endpoint.as_ref().map(|e| e.uri.to_string()),
                    "timeout_ms": detector.timeout.as_millis() as u64,
                    "description": detector.description,
                })
                .to_string(),
            );
        }
        return exit::OK;
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header([
        "NAME",
        "PROTOCOL",
        "CATEGORIES",
        "DESCRIPTION",
    ]);
    for detector in detectors {
        let categories: Vec<&str> = detector.categories.iter().map(|c| c.as_str()).collect();
        table.add_row([
            detector.name.as_str(),
            detector.protocol.name(),
            &categories.join(" "),
            &detector.description,
        ]);
    }
    print(&table.to_string());
    exit::OK
}

/// The detector of that name; complains where there is none.
fn named<'a>(session: &'a Session, wanted: &str) -> Option<&'a Arc<Detector>> {
    let detectors = &session.snapshot.catalog.detectors;
    let found = DetectorName::parse(wanted).ok().and_then(|name| detectors.get(&name));
    if found.is_none() {
        let known: Vec<&str> = detectors.keys().map(|name| name.as_str()).collect();
        complain(&format!("no detector `{wanted}`; there are: {}", known.join(", ")));
    }
    found
}

/// What an attached detector is asked about unless told.
const SAMPLE: &str = "Mail ana@evil.io, key AKIAZ3VQ7JRTLWXK5P2D";

pub(super) fn probe(args: &ProbeArgs) -> u8 {
    if let Some(url) = &args.url {
        return attach::run(args, url);
    }
    let wanted = args.name.as_deref().unwrap_or_default();
    let session = match Session::open(args.config.as_deref()) {
        Ok(session) => session,
        Err(code) => return code,
    };
    let Some(detector) = named(&session, wanted) else { return exit::NO_INPUT };
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        complain("the async runtime could not be started");
        return exit::INTERNAL;
    };
    let text = args.text.as_deref().unwrap_or(SAMPLE);
    let probed = runtime.block_on(session.deps.detectors.probe(detector, text));
    let report = probed.report;
    print(&format!(
        "{}: {}{} after {:.1} ms, {} tries",
        detector.name,
        report.status.name(),
        report.error.map(|error| format!(" ({})", error.name())).unwrap_or_default(),
        report.duration.as_secs_f64() * 1e3,
        report.attempts
    ));
    if let Some(detail) = &report.detail {
        print(&format!("  {detail}"));
    }
    for finding in &report.findings {
        let span = finding.place.and_then(|place| place.span);
        let span = span.map(|span| format!("{}..{}", span.start, span.end)).unwrap_or_default();
        print(&format!("  {span:<10} {} {} {:.2}", finding.category, finding.label, finding.score));
    }
    if report.answered() { exit::OK } else { exit::UNAVAILABLE }
}
