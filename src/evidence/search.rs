//! Decisions found again, and revisions held against each other. One page looks at so many rows and no
//! more; where it ends before the page is full, the next page goes on there.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::kept::{DetectedFinding, KeptReport};
use crate::domain::action::Action;
use crate::domain::category;
use crate::domain::category::Category;
use crate::domain::id::{DetectorName, TenantId};
use crate::store::{Decision, Decisions, Passed, Sought, Spot, StoreError, Tally};

/// Rows that one page passes at most.
pub const PASSED_MAX: u32 = 10_000;
/// Records that one page reads at most.
const READ_MAX: usize = 1_000;
/// Rows of one look at the store.
const LOOK_MAX: u32 = 500;
/// Decisions of a revision below which nothing is said of it.
const DECISIONS_MIN: u64 = 5;
/// Standard errors from which on a difference is no chance.
const DIFFERS: f64 = 3.0;

/// What is looked for.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// By what the row says.
    pub row: Sought,
    /// Who was asked.
    pub detector: Option<DetectorName>,
    /// What was found, or something below it.
    pub category: Option<Category>,
}

/// A decision that was found.
#[derive(Debug)]
pub struct Found {
    /// As its row says, with its record.
    pub decision: Decision,
    /// What was found in it, by name.
    pub categories: BTreeSet<String>,
    /// Who was asked and did not answer.
    pub failed: BTreeSet<DetectorName>,
}

/// What one page found.
#[derive(Debug)]
pub struct FoundPage {
    /// Newest first.
    pub found: Vec<Found>,
    /// Where the next page goes on.
    pub next: Option<Spot>,
}

/// What a record says of what was found by whom.
#[derive(Deserialize)]
struct Said {
    #[serde(default)]
    reports: Vec<KeptReport>,
    #[serde(default)]
    findings: Vec<DetectedFinding>,
}

impl Wanted {
    fn of(&self, decision: Decision) -> Option<Found> {
        // A record that says something else is found by its row.
        let said = serde_json::from_str(&decision.record);
        let Said { reports, findings } =
            said.unwrap_or(Said { reports: Vec::new(), findings: Vec::new() });
        let asked = |name: &DetectorName| reports.iter().any(|report| report.detector == *name);
        let below = |above: &Category| {
            findings.iter().any(|finding| category::covers(above.as_str(), &finding.category))
        };
        if !self.detector.as_ref().is_none_or(asked) || !self.category.as_ref().is_none_or(below) {
            return None;
        }
        let answered = |report: &KeptReport| ["success", "skipped"].contains(&&*report.status);
        let failed = reports.iter().filter(|report| !answered(report));
        let failed = failed.map(|report| report.detector.clone()).collect();
        let categories = findings.into_iter().map(|finding| finding.category).collect();
        Some(Found { decision, categories, failed })
    }
}

/// At most `shown` decisions of `tenant` behind `after`, newest first.
///
/// # Errors
/// Where the store does not answer.
pub async fn find(
    store: &(impl Decisions + ?Sized),
    (tenant, wanted): (&TenantId, &Wanted),
    mut after: Option<Spot>,
    shown: usize,
) -> Result<FoundPage, StoreError> {
    let (mut found, mut passed, mut read) = (Vec::new(), 0, 0);
    // What fits is dense as a rule: then one look suffices, and reads little more than is shown.
    let mut rows = u32::try_from(shown).unwrap_or(LOOK_MAX).saturating_add(1).min(LOOK_MAX);
    while passed < PASSED_MAX && read < READ_MAX {
        let sought = wanted.row.clone();
        let looked = store.look(tenant.clone(), sought, after, rows).await?;
        let ended = looked.len() < rows as usize;
        for Passed { spot, fits } in looked {
            let one = fits.and_then(|decision| {
                read += 1;
                wanted.of(decision)
            });
            if one.is_some() && found.len() == shown {
                return Ok(FoundPage { found, next: after });
            }
            found.extend(one);
            after = Some(spot);
            passed += 1;
        }
        if ended {
            return Ok(FoundPage { found, next: None });
        }
        rows = rows.saturating_mul(4).min(LOOK_MAX);
    }
    Ok(FoundPage { found, next: after })
}

/// What one revision decided.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Decided {
    /// Which.
    pub revision: String,
    /// The first that was counted, milliseconds since 1970.
    pub first_ms: i64,
    /// The last that was counted, milliseconds since 1970.
    pub last_ms: i64,
    /// How many.
    pub decisions: u64,
    /// How many of each action.
    pub actions: BTreeMap<Action, u64>,
    /// How many without the coverage that suffices.
    pub incomplete: u64,
    /// How many were for review, blocked or incomplete.
    pub stopped: u64,
}

impl Decided {
    /// The share of decisions that were for review, blocked or incomplete.
    pub fn stopped_share(&self) -> f64 {
        self.stopped as f64 / self.decisions.max(1) as f64
    }
}

/// What each revision decided, the newest first.
pub fn by_revision(rows: Vec<Tally>) -> Vec<Decided> {
    let mut all: BTreeMap<String, Decided> = BTreeMap::new();
    for row in rows {
        let one = all.entry(row.revision.clone()).or_insert_with(|| Decided {
            revision: row.revision,
            first_ms: row.first_ms,
            last_ms: row.last_ms,
            ..Decided::default()
        });
        one.first_ms = one.first_ms.min(row.first_ms);
        one.last_ms = one.last_ms.max(row.last_ms);
        one.decisions += row.decisions;
        *one.actions.entry(row.action).or_default() += row.decisions;
        if !row.complete {
            one.incomplete += row.decisions;
        }
        if !row.complete || !row.action.lets_pass() {
            one.stopped += row.decisions;
        }
    }
    let mut all: Vec<Decided> = all.into_values().collect();
    all.sort_by_key(|one| std::cmp::Reverse((one.first_ms, one.last_ms)));
    all
}

/// Of `newest_first`, the revision that stops more than the one before it did, by most and by more
/// than chance explains: a test of two shares, three standard errors, five decisions of each at least.
pub fn suspect(newest_first: &[Decided]) -> Option<(&Decided, &Decided)> {
    let spoken: Vec<&Decided> =
        newest_first.iter().filter(|one| one.decisions >= DECISIONS_MIN).collect();
    let pairs = spoken.windows(2).filter_map(|pair| match pair {
        [later, before] => Some((*later, *before, rise(later, before)?)),
        _ => None,
    });
    let worst = pairs.filter(|(.., rise)| *rise > DIFFERS).max_by(|a, b| a.2.total_cmp(&b.2));
    worst.map(|(later, before, _)| (later, before))
}

/// By how many standard errors the share of what is stopped rose; nothing where both are all or none.
fn rise(later: &Decided, before: &Decided) -> Option<f64> {
    let (n, m) = (later.decisions as f64, before.decisions as f64);
    let pooled = (later.stopped + before.stopped) as f64 / (n + m);
    let error = (pooled * (1.0 - pooled) * (1.0 / n + 1.0 / m)).sqrt();
    (error > 0.0).then(|| (later.stopped_share() - before.stopped_share()) / error)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;
    use crate::domain::id::{BundleName, RequestId};
    use crate::store::{Answer, Numbered, Page};

    /// So many decisions, of which the oldest alone found something.
    struct Rows(i64, std::sync::atomic::AtomicU32);

    impl Decisions for Rows {
        fn decision(&self, _: TenantId, _: String) -> Answer<'_, Option<Decision>> {
            async { Ok(None) }.boxed()
        }

        fn decisions(&self, _: TenantId, _: Page) -> Answer<'_, Vec<Numbered<Decision>>> {
            async { Ok(Vec::new()) }.boxed()
        }

        fn look(
            &self,
            tenant: TenantId,
            sought: Sought,
            after: Option<Spot>,
            rows: u32,
        ) -> Answer<'_, Vec<Passed>> {
            self.1.fetch_add(rows, std::sync::atomic::Ordering::Relaxed);
            let first = after.map_or(self.0, |after| after.sequence - 1);
            let passed = (1..=first).rev().take(rows as usize).map(|sequence| {
                let found =
                    if sequence == 1 { r#"[{"category":"pii.email","score":1}]"# } else { "[]" };
                let decision = Decision {
                    id: sequence.to_string(),
                    tenant: tenant.clone(),
                    request_id: RequestId::parse("r").unwrap(),
                    at_ms: 5,
                    policy: BundleName::parse("standard").unwrap(),
                    revision: "a".into(),
                    action: Action::Allow,
                    complete: true,
                    record: format!(r#"{{"findings":{found}}}"#),
                    leaf: None,
                };
                let fits = sought.action.is_none_or(|action| action == decision.action);
                Passed { spot: Spot { at_ms: 5, sequence }, fits: fits.then_some(decision) }
            });
            let passed = passed.collect();
            async { Ok(passed) }.boxed()
        }

        fn tally(&self, _: TenantId, _: Sought, _: u32) -> Answer<'_, Vec<Tally>> {
            async { Ok(Vec::new()) }.boxed()
        }
    }

    /// Pages until the end: what was found, and how many rows each page asked for.
    async fn walked(rows: i64, wanted: Wanted, shown: usize) -> (Vec<String>, Vec<u32>) {
        let store = Rows(rows, 0.into());
        let tenant = TenantId::parse("acme").unwrap();
        let (mut found, mut asked, mut after) = (Vec::new(), Vec::new(), None);
        loop {
            let page = find(&store, (&tenant, &wanted), after, shown).await.unwrap();
            assert!(page.found.len() <= shown);
            found.extend(page.found.into_iter().map(|one| one.decision.id));
            asked.push(store.1.swap(0, std::sync::atomic::Ordering::Relaxed));
            after = page.next;
            if after.is_none() {
                return (found, asked);
            }
        }
    }

    #[tokio::test]
    async fn a_page_looks_at_so_many_rows_and_the_next_one_goes_on_there() {
        let category = Category::parse("pii").ok();
        let wanted = Wanted { category, ..Wanted::default() };
        let (found, asked) = walked(3_000, wanted, 50).await;
        assert_eq!(found, ["1"]);
        assert!(asked.len() == 3 && asked.iter().all(|rows| *rows <= 1_500), "{asked:?}");
        let row = Sought { action: Some(Action::Block), ..Sought::default() };
        let (found, asked) = walked(25_000, Wanted { row, ..Wanted::default() }, 50).await;
        assert!(found.is_empty() && asked.len() == 3, "{found:?} {asked:?}");
        assert!(asked.iter().all(|rows| *rows <= PASSED_MAX + LOOK_MAX), "{asked:?}");
    }

    #[tokio::test]
    async fn every_decision_is_found_once_whatever_the_page() {
        for (rows, shown) in [(0, 1), (1, 1), (7, 3), (6, 3), (120, 50), (50, 50), (51, 50)] {
            let (found, asked) = walked(rows, Wanted::default(), shown).await;
            let all: Vec<String> = (1..=rows).rev().map(|id| id.to_string()).collect();
            assert_eq!(found, all, "{rows} by {shown}");
            assert!(asked.iter().all(|asked| *asked as usize <= shown + 1), "{asked:?}");
        }
    }

    fn one(revision: &str, first_ms: i64, (decisions, stopped): (u64, u64)) -> Decided {
        let revision = revision.to_owned();
        Decided { revision, first_ms, decisions, stopped, ..Decided::default() }
    }

    fn named(all: &[Decided]) -> Option<&str> {
        suspect(all).map(|(one, _)| one.revision.as_str())
    }

    #[test]
    fn the_revision_whose_share_rose_is_suspected_and_not_the_one_that_stops_most() {
        // c mends a little of what b broke.
        let all = [one("c", 3, (100, 85)), one("b", 2, (100, 90)), one("a", 1, (100, 5))];
        assert_eq!(named(&all), Some("b"));
        let more = [one("d", 4, (9, 9)), all[0].clone(), all[1].clone(), all[2].clone()];
        assert_eq!(named(&more), Some("b"), "the greatest rise counts");
    }

    #[test]
    fn what_chance_explains_or_too_few_say_is_nobodys_fault() {
        for all in [
            &[one("b", 2, (20, 3)), one("a", 1, (20, 1))][..],
            &[one("b", 2, (4, 4)), one("a", 1, (100, 0))],
            &[one("b", 2, (50, 50)), one("a", 1, (50, 50))],
            &[one("b", 2, (50, 0)), one("a", 1, (50, 50))],
            &[one("a", 1, (50, 50))],
            &[],
        ] {
            assert_eq!(named(all), None, "{all:?}");
        }
        // One with few decisions in between is passed over.
        let all = [one("c", 3, (50, 50)), one("b", 2, (1, 1)), one("a", 1, (50, 0))];
        assert_eq!(named(&all), Some("c"));
    }

    #[test]
    fn what_ended_otherwise_is_counted_together() {
        let row = |action, complete, decisions, at| Tally {
            revision: "a".into(),
            action,
            complete,
            decisions,
            first_ms: at,
            last_ms: at + 1,
        };
        let rows = vec![
            row(Action::Allow, true, 3, 5),
            row(Action::Allow, false, 2, 4),
            row(Action::Block, false, 1, 6),
        ];
        let all = by_revision(rows);
        assert_eq!(all.len(), 1);
        assert_eq!((all[0].first_ms, all[0].last_ms, all[0].decisions), (4, 7, 6));
        assert_eq!((all[0].incomplete, all[0].stopped), (3, 3));
        assert_eq!(all[0].actions, BTreeMap::from([(Action::Allow, 5), (Action::Block, 1)]));
    }
}
