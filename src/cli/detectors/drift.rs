//! `orchestrator detectors drift`: whether recorded decisions change from week to week.

use std::collections::{BTreeMap, BTreeSet};

use comfy_table::{Table, presets};
use jiff::civil::Weekday;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};

use crate::cli::{DriftArgs, Session, complain, exit, print};
use crate::domain::drift::{CHANGED, Period, WORTH_A_LOOK};
use crate::domain::id::{DetectorName, TenantId};
use crate::domain::report::Status;
use crate::evidence::Detected;
use crate::orchestrator;
use crate::store::{self, Page, StoreError};

/// By the Monday that a week begins with, UTC.
type Weeks = BTreeMap<String, Period>;

/// Rows read at once.
const ROWS: u32 = 1000;

pub(in crate::cli) fn run(args: &DriftArgs) -> u8 {
    let session = match Session::open(args.config.as_deref()) {
        Ok(session) => session,
        Err(code) => return code,
    };
    let known = || session.snapshot.catalog.tenants.keys();
    let tenants: Vec<&TenantId> =
        known().filter(|id| args.tenant.as_deref().is_none_or(|one| one == id.as_str())).collect();
    if tenants.is_empty() {
        let names: Vec<&str> = known().map(TenantId::as_str).collect();
        complain(&format!("no such tenant; there are: {}", names.join(", ")));
        return exit::NO_INPUT;
    }
    let kept = match orchestrator::kept(&session.deps.settings, None) {
        Ok(kept) => kept,
        Err(error) => {
            complain(&format!("error: {error}"));
            return exit::UNAVAILABLE;
        }
    };
    let from = monday(Timestamp::now(), i64::from(args.weeks) - 1);
    let (mut weeks, mut unread) = (Weeks::new(), 0);
    for tenant in tenants {
        if let Err(error) = gather(&kept, tenant, &from, &mut weeks, &mut unread) {
            complain(&format!("{kept}: {error}"));
            return exit::NO_INPUT;
        }
    }
    if unread > 0 {
        complain(&format!("{unread} records of another release could not be read"));
    }
    if weeks.is_empty() {
        complain(&format!("{kept} holds no decision since {from}; name another --config"));
        return exit::NO_INPUT;
    }
    let rows = rows(&weeks);
    if args.json {
        rows.iter().for_each(|row| print(&row.json()))
    } else {
        show(&rows)
    }
    exit::OK
}

/// The Monday `back` weeks before the week of `at`.
fn monday(at: Timestamp, back: i64) -> String {
    let day = at.to_zoned(TimeZone::UTC).date();
    let since = i64::from(day.weekday().since(Weekday::Monday));
    day.saturating_sub((since + back * 7).days()).to_string()
}

fn gather(
    kept: &store::Kept,
    tenant: &TenantId,
    from: &str,
    weeks: &mut Weeks,
    unread: &mut usize,
) -> Result<(), StoreError> {
    let mut before = None;
    loop {
        let page = kept.decisions(tenant, Page { limit: ROWS, before })?;
        let Some(last) = page.last() else { return Ok(()) };
        before = Some(last.sequence);
        for row in &page {
            let at = Timestamp::from_millisecond(row.value.at_ms).unwrap_or(Timestamp::UNIX_EPOCH);
            let week = monday(at, 0);
            if week.as_str() < from {
                return Ok(());
            }
            match Detected::read(&row.value.record) {
                Some(kept) => count(weeks.entry(week).or_default(), &kept),
                None => *unread += 1,
            }
        }
    }
}

fn count(period: &mut Period, kept: &Detected) {
    for report in kept.reports.iter().filter(|one| one.status == Status::Success.name()) {
        period.answer(&report.detector);
    }
    for finding in &kept.findings {
        for detector in finding.detectors() {
            period.finding(detector, &finding.category, finding.score);
        }
    }
}

/// One detector, category and week.
struct Line<'a> {
    detector: &'a str,
    category: &'a str,
    week: &'a str,
    answered: u64,
    found: u64,
    mean: Option<f64>,
    /// From the week before.
    distance: Option<f64>,
}

fn rows(weeks: &Weeks) -> Vec<Line<'_>> {
    let keys: BTreeSet<&(DetectorName, String)> =
        weeks.values().flat_map(|period| period.scores.keys()).collect();
    let mut rows = Vec::new();
    for key in keys {
        let mut earlier: Option<&Period> = None;
        for (week, period) in weeks {
            let scores = period.scores.get(key);
            rows.push(Line {
                detector: key.0.as_str(),
                category: &key.1,
                week,
                answered: period.answered.get(&key.0).copied().unwrap_or(0),
                found: scores.map_or(0, |scores| scores.found()),
                mean: scores.and_then(|scores| scores.mean()),
                distance: earlier.and_then(|earlier| period.distance(earlier, key)),
            });
            earlier = Some(period);
        }
    }
    rows
}

impl Line<'_> {
    fn json(&self) -> String {
        serde_json::json!({
            "detector": self.detector,
            "category": self.category,
            "week": self.week,
            "answered": self.answered,
            "found": self.found,
            "mean_score": self.mean,
            "psi": self.distance,
        })
        .to_string()
    }

    fn word(&self) -> &'static str {
        match self.distance {
            Some(distance) if distance >= CHANGED => "changed",
            Some(distance) if distance >= WORTH_A_LOOK => "look",
            Some(_) | None => "",
        }
    }
}

fn show(rows: &[Line<'_>]) {
    let mut table = Table::new();
    let head = ["DETECTOR", "CATEGORY", "WEEK OF", "ANSWERED", "FOUND", "MEAN SCORE", "PSI", ""];
    table.load_style(presets::NOTHING).set_header(head);
    let number = |value: Option<f64>| value.map(|value| format!("{value:.3}")).unwrap_or_default();
    for row in rows {
        table.add_row([
            row.detector,
            row.category,
            row.week,
            &row.answered.to_string(),
            &row.found.to_string(),
            &number(row.mean),
            &number(row.distance),
            row.word(),
        ]);
    }
    print(&table.to_string());
}
