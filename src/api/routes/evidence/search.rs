//! Decisions found again: by when they were made, what was decided, by which policy and revision, who
//! was asked and what was found. And what each revision decided.

use actix_web::HttpRequest;
use actix_web::web::Data;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::super::pages;
use super::super::policies::overlay::time;
use super::super::{Answer, json};
use super::away;
use crate::api::Api;
use crate::api::caller::{query, tenant};
use crate::domain::action::Action;
use crate::domain::category::Category;
use crate::domain::error::{Code, Error};
use crate::domain::id::{BundleName, DetectorName};
use crate::evidence::integrity::is_of_its_tenant;
use crate::evidence::search::{self, Decided, Found, FoundPage, PASSED_MAX, Wanted};
use crate::store::{Sought, Spot};

/// Which decisions to list; every part that is given must hold.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DecisionFilter {
    /// Made at this time or later, RFC 3339 such as 2026-01-31T12:00:00Z.
    pub from: Option<String>,
    /// Made before this time, RFC 3339.
    pub to: Option<String>,
    /// allow, flag, redact, review or block.
    pub action: Option<String>,
    /// The bundle that decided.
    pub policy: Option<String>,
    /// The revision that decided, or how it begins: 8 to 64 hexadecimal digits.
    pub revision: Option<String>,
    /// Whether coverage sufficed.
    pub complete: Option<bool>,
    /// A detector that was asked.
    pub detector: Option<String>,
    /// A category that was found, or one above it.
    pub category: Option<String>,
    /// Rows, 1 to 200.
    #[param(minimum = 1, maximum = 200, default = 50)]
    pub limit: Option<u32>,
    /// `next` of the page before.
    #[param(pattern = "^[0-9]{1,18}-[0-9]{1,18}$")]
    pub cursor: Option<String>,
}

/// Decisions, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct DecisionList {
    /// At most `limit`; fewer, or none, where the page ended at the rows it may look at.
    pub decisions: Vec<DecisionRow>,
    /// The cursor of the next page; null where every decision was looked at.
    pub next: Option<String>,
}

/// A decision in a list.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DecisionRow)]
pub struct DecisionRow {
    /// Its id, as `GET /evidence/{id}` takes it.
    pub id: String,
    /// The caller's id of the request.
    pub request_id: String,
    /// RFC 3339 UTC with milliseconds.
    pub at: String,
    /// What was decided.
    pub action: &'static str,
    /// Whether coverage sufficed.
    pub complete: bool,
    /// The bundle that decided.
    pub policy: String,
    /// The revision that decided.
    pub revision: String,
    /// Categories that were found, by name.
    pub categories: Vec<String>,
    /// Detectors that were asked and did not answer, by name.
    pub failed: Vec<String>,
}

impl DecisionRow {
    fn of(found: Found) -> DecisionRow {
        let Found { decision, categories, failed } = found;
        DecisionRow {
            id: decision.id,
            request_id: decision.request_id.to_string(),
            at: time(decision.at_ms),
            action: decision.action.name(),
            complete: decision.complete,
            policy: decision.policy.to_string(),
            revision: decision.revision,
            categories: categories.into_iter().collect(),
            failed: failed.iter().map(ToString::to_string).collect(),
        }
    }
}

/// Decisions that still have their record, newest first. To be listed stands in no custody: what is
/// shown is no more than the log's columns, categories and names of detectors.
#[utoipa::path(get, path = "/api/v1/evidence", tag = "evidence", operation_id = "evidence_list",
    params(DecisionFilter, ("X-Tenant-ID" = Option<String>, Header, description = "Whose")),
    responses((status = 200, body = DecisionList)))]
pub(crate) async fn list(http: HttpRequest, api: Data<Api>) -> Answer {
    let filter: DecisionFilter = query(&http)?;
    let (limit, after) = page(filter.limit, filter.cursor.as_deref())?;
    let wanted = wanted(filter)?;
    let caller = api.caller(&http)?;
    let tenant = tenant(&http, &caller, None, &api.live.current())?;
    let _turn = api.turn(Some(&tenant)).await?;
    let found = search::find(&*api.deps.store, (&tenant, &wanted), after, limit).await;
    let FoundPage { found, next } = found.map_err(away)?;
    let next = next.map(|Spot { at_ms, sequence }| format!("{at_ms}-{sequence}"));
    let own = found.into_iter().filter(|found| is_of_its_tenant(&found.decision));
    json(&DecisionList { decisions: own.map(DecisionRow::of).collect(), next })
}

fn refused(parameter: &str, advice: &str) -> Error {
    Error::new(Code::InvalidRequest, format!("the query parameter {parameter} {advice}"))
}

fn page(limit: Option<u32>, cursor: Option<&str>) -> Result<(usize, Option<Spot>), Error> {
    let limit = Some(limit.unwrap_or(50)).filter(|limit| (1..=200).contains(limit));
    let number = |digits: &str| pages::before(Some(digits)).flatten();
    let spot = |cursor: &str| {
        let (at_ms, sequence) = cursor.split_once('-')?;
        Some(Spot { at_ms: number(at_ms)?, sequence: number(sequence)? })
    };
    let after = cursor.map(|cursor| {
        let advice = "is the `next` of the page before; begin without it";
        spot(cursor).ok_or_else(|| refused("cursor", advice))
    });
    let limit = limit.ok_or_else(|| refused("limit", "is a number from 1 to 200"))?;
    Ok((usize::try_from(limit).unwrap_or(usize::MAX), after.transpose()?))
}

fn wanted(filter: DecisionFilter) -> Result<Wanted, Error> {
    let DecisionFilter { from, to, action, policy, revision, complete, detector, category, .. } =
        filter;
    let range = range(from.as_deref(), to.as_deref())?;
    let action = action.map(|name| {
        let names = Action::ALL.map(Action::name).join(", ");
        Action::parse(&name).ok_or_else(|| refused("action", &format!("is one of {names}")))
    });
    let policy = policy.map(|name| {
        BundleName::parse(&name).map_err(|error| refused("policy", &format!("is wrong: {error}")))
    });
    let detector = detector.map(|name| {
        let wrong = |error| refused("detector", &format!("is wrong: {error}"));
        DetectorName::parse(&name).map_err(wrong)
    });
    let category = category.map(|name| {
        Category::parse(&name).map_err(|error| refused("category", &format!("is wrong: {error}")))
    });
    let digits = |text: &String| {
        (8..=64).contains(&text.len())
            && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    if !revision.as_ref().is_none_or(digits) {
        return Err(refused("revision", "is 8 to 64 hexadecimal digits, in lower case"));
    }
    let (action, policy) = (action.transpose()?, policy.transpose()?);
    let row = Sought { action, policy, revision, complete, ..range };
    Ok(Wanted { row, detector: detector.transpose()?, category: category.transpose()? })
}

fn range(from: Option<&str>, to: Option<&str>) -> Result<Sought, Error> {
    let moment = |parameter: &str, raw: Option<&str>| {
        let read = |raw: &str| {
            let at = raw.parse::<jiff::Timestamp>().map_err(|_| {
                refused(parameter, "is no time; write it like 2026-01-31T12:00:00Z")
            })?;
            Ok::<_, Error>(at.as_millisecond())
        };
        raw.map(read).transpose()
    };
    let (from_ms, to_ms) = (moment("from", from)?, moment("to", to)?);
    if from_ms.zip(to_ms).is_some_and(|(from, to)| from >= to) {
        return Err(refused("to", "is not later than `from`; exchange them"));
    }
    Ok(Sought { from_ms, to_ms, ..Sought::default() })
}

/// Which decisions to count.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RevisionFilter {
    /// Made at this time or later, RFC 3339 such as 2026-01-31T12:00:00Z.
    pub from: Option<String>,
    /// Made before this time, RFC 3339.
    pub to: Option<String>,
}

/// What each revision decided.
#[derive(Debug, Serialize, ToSchema)]
pub struct Revisions {
    /// That which decided first last of all comes first.
    pub revisions: Vec<RevisionRow>,
    /// The revision that holds up, blocks or leaves incomplete more than the one before it did, by
    /// most and by more than chance explains; null where none does.
    pub suspect: Option<Suspect>,
    /// Decisions that were counted: the newest 10 000 of the time, at most.
    pub counted: u64,
}

/// What one revision decided.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RevisionRow)]
pub struct RevisionRow {
    /// Which.
    pub revision: String,
    /// Its first decision that was counted, RFC 3339 UTC with milliseconds.
    pub first_at: String,
    /// Its last one.
    pub last_at: String,
    /// Decisions.
    pub decisions: u64,
    /// Of them with each action.
    pub actions: Actions,
    /// Of them without the coverage that suffices.
    pub incomplete: u64,
    /// Share of decisions that were for review, blocked or incomplete, 0 to 1.
    pub stopped_share: f64,
}

/// Decisions by action.
#[derive(Debug, Default, Serialize, ToSchema)]
#[schema(as = ActionCounts)]
pub struct Actions {
    /// Let through.
    pub allow: u64,
    /// Let through and noted.
    pub flag: u64,
    /// Let through redacted.
    pub redact: u64,
    /// For review.
    pub review: u64,
    /// Blocked.
    pub block: u64,
}

/// A revision that stops more than the one before it did.
#[derive(Debug, Serialize, ToSchema)]
pub struct Suspect {
    /// Which.
    pub revision: String,
    /// Its share of decisions that were for review, blocked or incomplete, 0 to 1.
    pub stopped_share: f64,
    /// The revision before it.
    pub before: String,
    /// The share of that one.
    pub before_share: f64,
}

impl RevisionRow {
    fn of(one: &Decided) -> RevisionRow {
        let of = |action| one.actions.get(&action).copied().unwrap_or_default();
        RevisionRow {
            revision: one.revision.clone(),
            first_at: time(one.first_ms),
            last_at: time(one.last_ms),
            decisions: one.decisions,
            actions: Actions {
                allow: of(Action::Allow),
                flag: of(Action::Flag),
                redact: of(Action::Redact),
                review: of(Action::Review),
                block: of(Action::Block),
            },
            incomplete: one.incomplete,
            stopped_share: one.stopped_share(),
        }
    }
}

/// What each revision decided for the caller's tenant, so that an edit that was taken and does harm
/// can be named.
#[utoipa::path(get, path = "/api/v1/evidence/revisions", tag = "evidence",
    operation_id = "evidence_revisions",
    params(RevisionFilter, ("X-Tenant-ID" = Option<String>, Header, description = "Whose")),
    responses((status = 200, body = Revisions)))]
pub(crate) async fn revisions(http: HttpRequest, api: Data<Api>) -> Answer {
    let RevisionFilter { from, to } = query(&http)?;
    let sought = range(from.as_deref(), to.as_deref())?;
    let caller = api.caller(&http)?;
    let tenant = tenant(&http, &caller, None, &api.live.current())?;
    let _turn = api.turn(Some(&tenant)).await?;
    let rows = api.deps.store.tally(tenant, sought, PASSED_MAX).await.map_err(away)?;
    let all = search::by_revision(rows);
    let suspect = search::suspect(&all).map(|(one, before)| Suspect {
        revision: one.revision.clone(),
        stopped_share: one.stopped_share(),
        before: before.revision.clone(),
        before_share: before.stopped_share(),
    });
    let counted = all.iter().map(|one| one.decisions).sum();
    json(&Revisions { revisions: all.iter().map(RevisionRow::of).collect(), suspect, counted })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_one_that_we_could_have_written() {
        let after = |cursor| page(None, Some(cursor)).ok().and_then(|(_, after)| after);
        let spot = Spot { at_ms: 1_700_000_000_000, sequence: 42 };
        assert_eq!(after("1700000000000-42"), Some(spot));
        for bad in ["", "-", "1-", "-1", "1", "1-2-3", "+1-2", "1- 2", &"9".repeat(40)] {
            assert!(page(None, Some(bad)).is_err(), "{bad}");
        }
        assert_eq!(page(None, None).ok(), Some((50, None)));
        assert!(page(Some(0), None).is_err() && page(Some(201), None).is_err());
    }
}
