//! Claims on work that is carried out once: whose it is, until when, and what came of it.
//!
//! Times are the store's own, so that instances whose clocks differ agree.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _, Result, params};

use super::{Answer, Sqlite, StoreError};
use crate::domain::id::TenantId;

/// One piece of work, and one who would carry it out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Whose work.
    pub tenant: TenantId,
    /// Which: a keyed hash.
    pub key: [u8; 32],
    /// Unique for each try to claim. Whatever another has claimed since is closed to this one.
    pub owner: [u8; 16],
}

/// How work is claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// What is asked for, as a keyed hash: the same work is always the same request.
    pub request: [u8; 32],
    /// How long it is the owner's unless renewed.
    pub lease: Duration,
    /// How long after its first claim it is remembered.
    pub keep: Duration,
}

/// What became of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claimed {
    /// Carry it out.
    Mine,
    /// Another owner does.
    InFlight,
    /// It was carried out, with this answer.
    Finished(Vec<u8>),
    /// The same work was claimed for another request.
    Mismatch,
}

/// Claims. `false` says that the claim is not the owner's any more, and nothing was changed.
pub trait Claims: Send + Sync {
    /// Claims what nobody has claimed, whose lease has ended, or whose time is over; durable once it is
    /// answered.
    fn claim(&self, claim: Claim, terms: Terms) -> Answer<'_, Claimed>;
    /// Begins the lease anew.
    fn renew(&self, claim: Claim, lease: Duration) -> Answer<'_, bool>;
    /// Keeps the answer. The owner may do so again.
    fn finish(&self, claim: Claim, answer: Vec<u8>) -> Answer<'_, bool>;
    /// Ends the lease without an answer.
    fn release(&self, claim: Claim) -> Answer<'_, bool>;
    /// Forgets up to `most` whose time is over; how many.
    fn forget_claims(&self, most: u32) -> Answer<'_, u64>;
}

/// What a row says to one whom it was not given.
pub(super) fn other(row: Option<(Vec<u8>, Option<Vec<u8>>)>, terms: &Terms) -> Claimed {
    match row {
        Some((request, _)) if request != terms.request => Claimed::Mismatch,
        Some((_, Some(answer))) => Claimed::Finished(answer),
        // One that was forgotten this moment is there to be claimed at the next try.
        Some((_, None)) | None => Claimed::InFlight,
    }
}

/// For SQL.
pub(super) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 4)
}

/// The store's clock.
pub(super) const NOW: &str = "CAST(unixepoch('subsec') * 1000 AS INTEGER)";
const OWN: &str = "tenant = ?1 AND key = ?2 AND owner = ?3";

impl Claims for Sqlite {
    fn claim(&self, claim: Claim, terms: Terms) -> Answer<'_, Claimed> {
        const DOING: &str = "claiming an idempotency key";
        self.write(DOING, move |c| {
            try_claim(c, &claim, &terms).map_err(|error| StoreError::of(DOING, &error))
        })
    }

    fn renew(&self, claim: Claim, lease: Duration) -> Answer<'_, bool> {
        let sql = format!(
            "UPDATE claims SET leased_until_ms = {NOW} + ?4 WHERE {OWN} AND answer IS NULL"
        );
        self.alter("renewing a claim", claim, (sql, millis(lease)))
    }

    fn finish(&self, claim: Claim, answer: Vec<u8>) -> Answer<'_, bool> {
        let sql = format!("UPDATE claims SET answer = ?4 WHERE {OWN}");
        self.alter("keeping an answer", claim, (sql, answer))
    }

    fn release(&self, claim: Claim) -> Answer<'_, bool> {
        let sql = format!("UPDATE claims SET leased_until_ms = ?4 WHERE {OWN} AND answer IS NULL");
        self.alter("releasing a claim", claim, (sql, 0))
    }

    fn forget_claims(&self, most: u32) -> Answer<'_, u64> {
        const DOING: &str = "forgetting claims";
        self.write(DOING, move |c| {
            let sql = format!(
                "DELETE FROM claims WHERE rowid IN \
                 (SELECT rowid FROM claims WHERE forget_at_ms <= {NOW} LIMIT ?1)"
            );
            let gone = c.prepare_cached(&sql).and_then(|mut sql| sql.execute([most]));
            gone.map(|gone| gone as u64).map_err(|error| StoreError::of(DOING, &error))
        })
    }
}

impl Sqlite {
    fn alter(
        &self,
        doing: &'static str,
        claim: Claim,
        (sql, value): (String, impl rusqlite::ToSql + Send + 'static),
    ) -> Answer<'_, bool> {
        self.write(doing, move |c| {
            let Claim { tenant, key, owner } = &claim;
            let own = params![tenant.as_str(), key, owner, value];
            let changed = c.prepare_cached(&sql).and_then(|mut sql| sql.execute(own));
            changed.map(|rows| rows == 1).map_err(|error| StoreError::of(doing, &error))
        })
    }
}

fn try_claim(connection: &Connection, claim: &Claim, terms: &Terms) -> Result<Claimed> {
    let Claim { tenant, key, owner } = claim;
    let sql = format!(
        "INSERT INTO claims (tenant, key, request, owner, leased_until_ms, forget_at_ms) \
         VALUES (?1, ?2, ?3, ?4, {NOW} + ?5, {NOW} + ?6) \
         ON CONFLICT (tenant, key) DO UPDATE SET request = excluded.request, \
         owner = excluded.owner, leased_until_ms = excluded.leased_until_ms, \
         forget_at_ms = CASE WHEN forget_at_ms <= {NOW} THEN excluded.forget_at_ms \
         ELSE forget_at_ms END, answer = NULL \
         WHERE forget_at_ms <= {NOW} OR (answer IS NULL AND leased_until_ms <= {NOW} \
         AND request = excluded.request)"
    );
    let (lease, keep) = (millis(terms.lease), millis(terms.keep));
    let of = params![tenant.as_str(), key, terms.request, owner, lease, keep];
    if connection.prepare_cached(&sql)?.execute(of)? == 1 {
        return Ok(Claimed::Mine);
    }
    let sql = "SELECT request, answer FROM claims WHERE tenant = ?1 AND key = ?2";
    let row = connection
        .prepare_cached(sql)?
        .query_row(params![tenant.as_str(), key], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    Ok(other(row, terms))
}
