//! Decisions looked for by when they were made and what was decided. A look passes so many rows of its
//! tenant and no more, however few of them fit; records that were purged are passed over.

use rusqlite::{Connection, Result, Row, params};

use super::Decision;
use super::rows::read_decision;
use crate::domain::action::Action;
use crate::domain::id::{BundleName, TenantId};

/// Rows that one look passes at most.
const LOOK_MAX: u32 = 10_000;

/// Which decisions are looked for: every part that is given must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sought {
    /// Made at this time or later, milliseconds since 1970.
    pub from_ms: Option<i64>,
    /// Made before this time, milliseconds since 1970.
    pub to_ms: Option<i64>,
    /// What was decided.
    pub action: Option<Action>,
    /// The bundle that decided.
    pub policy: Option<BundleName>,
    /// How the revision that decided begins.
    pub revision: Option<String>,
    /// Whether coverage sufficed.
    pub complete: Option<bool>,
}

/// Where a look stands, newest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Spot {
    /// When the decision was made, milliseconds since 1970.
    pub at_ms: i64,
    /// Its number among those of the same time.
    pub sequence: i64,
}

/// A row that a look passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passed {
    /// Where.
    pub spot: Spot,
    /// The decision, without its leaf, where it fits.
    pub fits: Option<Decision>,
}

/// How many decisions of one revision ended alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tally {
    /// The revision that decided.
    pub revision: String,
    /// What was decided.
    pub action: Action,
    /// Whether coverage sufficed.
    pub complete: bool,
    /// How many.
    pub decisions: u64,
    /// The first of them, milliseconds since 1970.
    pub first_ms: i64,
    /// The last of them, milliseconds since 1970.
    pub last_ms: i64,
}

impl Sought {
    /// Rows at and after this time are looked at.
    pub(super) fn begin(&self) -> i64 {
        self.from_ms.unwrap_or(i64::MIN)
    }

    /// Rows before this spot are looked at.
    pub(super) fn end(&self, after: Option<Spot>) -> Spot {
        let to = self.to_ms.map(|at_ms| Spot { at_ms, sequence: i64::MIN });
        let last = Spot { at_ms: i64::MAX, sequence: i64::MAX };
        [to, after].into_iter().flatten().min().unwrap_or(last)
    }
}

pub(super) fn most(rows: u32) -> u32 {
    rows.min(LOOK_MAX)
}

const ROWS: &str = "FROM decisions WHERE tenant = ?1 AND record <> '' AND at_ms >= ?2 \
    AND (at_ms, sequence) < (?3, ?4) ORDER BY at_ms DESC, sequence DESC LIMIT ?5";

pub(super) fn look(
    c: &Connection,
    (tenant, sought): (&TenantId, &Sought),
    after: Option<Spot>,
    rows: u32,
) -> Result<Vec<Passed>> {
    let end = sought.end(after);
    c.prepare_cached(&format!(
        "SELECT passed.at_ms AS passed_ms, passed.sequence AS passed, d.*, NULL AS place FROM \
         (SELECT sequence, at_ms, (?6 IS NULL OR action = ?6) AND (?7 IS NULL OR policy = ?7) \
          AND (?8 IS NULL OR substr(revision, 1, length(?8)) = ?8) \
          AND (?9 IS NULL OR complete = ?9) AS fits {ROWS}) AS passed \
         LEFT JOIN decisions AS d ON d.sequence = passed.sequence AND fits \
         ORDER BY passed.at_ms DESC, passed.sequence DESC"
    ))?
    .query_map(
        params![
            tenant.as_str(),
            sought.begin(),
            end.at_ms,
            end.sequence,
            most(rows),
            sought.action.map(Action::name),
            sought.policy.as_ref().map(BundleName::as_str),
            sought.revision,
            sought.complete,
        ],
        |row| {
            let spot = Spot { at_ms: row.get("passed_ms")?, sequence: row.get("passed")? };
            let fits = row.get::<_, Option<i64>>("sequence")?;
            let fits = fits.map(|_| read_decision(row)).transpose()?.map(|found| found.value);
            Ok(Passed { spot, fits })
        },
    )?
    .collect()
}

pub(super) fn tally(
    c: &Connection,
    (tenant, sought): (&TenantId, &Sought),
    rows: u32,
) -> Result<Vec<Tally>> {
    let end = sought.end(None);
    c.prepare_cached(&format!(
        "SELECT revision, action, complete, count(*) AS decisions, min(at_ms) AS first_ms, \
         max(at_ms) AS last_ms FROM (SELECT revision, action, complete, at_ms {ROWS}) \
         GROUP BY revision, action, complete ORDER BY max(at_ms) DESC, revision, action, complete"
    ))?
    .query_map(
        params![tenant.as_str(), sought.begin(), end.at_ms, end.sequence, most(rows)],
        read_tally,
    )?
    .collect()
}

fn read_tally(row: &Row<'_>) -> Result<Tally> {
    let action: String = row.get("action")?;
    Ok(Tally {
        revision: row.get("revision")?,
        action: Action::parse(&action)
            .ok_or(rusqlite::Error::InvalidColumnName("action".into()))?,
        complete: row.get("complete")?,
        decisions: row.get::<_, i64>("decisions")?.cast_unsigned(),
        first_ms: row.get("first_ms")?,
        last_ms: row.get("last_ms")?,
    })
}
