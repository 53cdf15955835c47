//! Events.

use std::time::Duration;

use deadpool_postgres::Transaction;
use futures_util::FutureExt as _;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::custody::digest;
use super::fault::Fault;
use super::jobs::{known, now};
use super::rows::parsed;
use super::{Postgres, Scope};
use crate::domain::event::{Event, EventType};
use crate::domain::id::TenantId;
use crate::store::claims::millis;
use crate::store::{Answer, Events, StoreError, Stream, Told};

pub(super) const LIMIT_MAX: u32 = 1000;
pub(super) const COLUMNS: &str = "events.id, tenant, event_type, at_ms, source, data, events.sequence, \
    own_sequence";
/// Numbers what has none: those of one tenant and of all in one order.
const NUMBER: &str = "WITH fresh AS (SELECT place, tenant FROM events WHERE sequence IS NULL \
        ORDER BY place LIMIT $1), \
    counted AS (INSERT INTO event_counters AS kept (stream, last) \
        SELECT stream, count(*) FROM (SELECT tenant AS stream FROM fresh \
        UNION ALL SELECT '*' FROM fresh) AS each GROUP BY stream \
        ON CONFLICT (stream) DO UPDATE SET last = kept.last + excluded.last RETURNING stream, last), \
    placed AS (SELECT place, tenant, row_number() OVER (ORDER BY place) - count(*) OVER () AS back, \
        row_number() OVER (PARTITION BY tenant ORDER BY place) \
        - count(*) OVER (PARTITION BY tenant) AS own_back FROM fresh) \
    UPDATE events SET sequence = every.last + back, own_sequence = own.last + own_back \
    FROM placed, counted AS own, counted AS every WHERE events.place = placed.place \
    AND own.stream = placed.tenant AND every.stream = '*'";

pub(super) type Of<'a> = &'a [&'a (dyn ToSql + Sync)];

impl Stream {
    pub(super) fn scope(&self) -> Scope {
        match self {
            Stream::Tenant(tenant) => Scope::Tenant(tenant.clone()),
            Stream::Service | Stream::All | Stream::Callbacks => Scope::Service,
        }
    }
}

/// Keeps an event unless its id is known; whether it was new.
pub(super) async fn insert_event(
    t: &Transaction<'_>,
    event: &Event,
    tells: bool,
) -> Result<bool, Fault> {
    let sql = "INSERT INTO events (id, tenant, event_type, at_ms, source, data, tells) \
               VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (id) DO NOTHING";
    let sql = t.prepare_cached(sql).await?;
    let tenant = event.tenant.as_ref().map_or("", TenantId::as_str);
    let (id, name) = (&event.id.as_bytes()[..], event.event_type.name());
    // PostgreSQL keeps no NUL; in JSON it is escaped.
    let (source, data) = (event.source.replace('\0', "\u{FFFD}"), event.data.to_string());
    let of: [&(dyn ToSql + Sync); 7] = [&id, &tenant, &name, &event.at_ms, &source, &data, &tells];
    Ok(t.execute(&sql, &of).await? == 1)
}

impl Events for Postgres {
    fn append_events(&self, events: Vec<Event>) -> Answer<'_, u64> {
        let first = events.first().and_then(|event| event.tenant.clone());
        let scope = if events.iter().all(|event| event.tenant == first) {
            Scope::of(first)
        } else {
            Scope::Service
        };
        self.alter("keeping events", scope, move |t| {
            async move {
                let mut new = 0;
                for event in &events {
                    new += u64::from(insert_event(t, event, false).await?);
                }
                Ok(new)
            }
            .boxed()
        })
    }

    fn number_events(&self, most: u32) -> Answer<'_, u64> {
        self.alter("numbering events", Scope::Service, move |t| {
            async move {
                // Held until the numbers are seen: they appear in order.
                let alone = "SELECT pg_try_advisory_xact_lock(7201005)";
                if !t.query_one(alone, &[]).await?.try_get::<_, bool>(0)? {
                    return Ok(0);
                }
                let sql = t.prepare_cached(NUMBER).await?;
                Ok(t.execute(&sql, &[&i64::from(most.min(LIMIT_MAX))]).await?)
            }
            .boxed()
        })
    }

    fn events(&self, stream: Stream, after: i64, limit: u32) -> Answer<'_, Vec<Told>> {
        self.run("reading events", stream.scope(), move |t| {
            async move {
                let (place, holds) = (stream.place(), stream.holds("$1"));
                let rest = format!(
                    "{holds} AND sequence IS NOT NULL AND {place} > $2 ORDER BY {place} LIMIT $3"
                );
                let limit = i64::from(limit.min(LIMIT_MAX));
                select(t, &rest, &[&stream.column(), &after, &limit]).await
            }
            .boxed()
        })
    }

    fn latest_events(
        &self,
        stream: Stream,
        event_type: EventType,
        limit: u32,
    ) -> Answer<'_, Vec<Told>> {
        self.run("reading the latest events", stream.scope(), move |t| {
            async move {
                let rest = format!(
                    "{} AND event_type = $2 AND sequence IS NOT NULL ORDER BY sequence DESC LIMIT $3",
                    stream.holds("$1")
                );
                let limit = i64::from(limit.min(LIMIT_MAX));
                select(t, &rest, &[&stream.column(), &event_type.name(), &limit]).await
            }
            .boxed()
        })
    }

    fn last_event(&self, stream: Stream) -> Answer<'_, i64> {
        self.run("reading the last event", stream.scope(), move |t| {
            async move {
                let sql = "SELECT last FROM event_counters WHERE stream = $1";
                let sql = t.prepare_cached(sql).await?;
                let row = t.query_opt(&sql, &[&stream.counter()]).await?;
                Ok(row.map(|row| row.try_get(0)).transpose()?.unwrap_or(0))
            }
            .boxed()
        })
    }

    fn unpublished(&self, limit: u32) -> Answer<'_, Vec<Told>> {
        self.run("reading unpublished events", Scope::Service, move |t| {
            async move {
                let rest = "NOT published AND sequence IS NOT NULL ORDER BY sequence LIMIT $1";
                select(t, rest, &[&i64::from(limit.min(LIMIT_MAX))]).await
            }
            .boxed()
        })
    }

    fn mark_published(&self, global: Vec<i64>) -> Answer<'_, ()> {
        self.alter("marking events as published", Scope::Service, move |t| {
            async move {
                // In one order everywhere, so that two instances cannot wait for each other.
                let sql = "UPDATE events SET published = true WHERE sequence IN \
                           (SELECT sequence FROM events WHERE sequence = ANY($1) \
                           AND NOT published ORDER BY sequence FOR UPDATE)";
                let sql = t.prepare_cached(sql).await?;
                t.execute(&sql, &[&global]).await?;
                Ok(())
            }
            .boxed()
        })
    }

    fn purge_events(&self, kept: Duration, most: u32) -> Answer<'_, u64> {
        self.alter("purging events", Scope::Service, move |t| {
            async move {
                let sql = "WITH gone AS (DELETE FROM events WHERE place IN (SELECT place FROM events \
                           WHERE published AND at_ms <= $1 LIMIT $2 FOR UPDATE SKIP LOCKED) \
                           RETURNING sequence), undelivered AS (DELETE FROM event_deliveries \
                           WHERE sequence IN (SELECT sequence FROM gone)) \
                           SELECT count(*) FROM gone";
                let sql = t.prepare_cached(sql).await?;
                let before = now(t).await? - millis(kept);
                let row = t.query_one(&sql, &[&before, &i64::from(most)]).await?;
                Ok(row.try_get::<_, i64>(0)?.cast_unsigned())
            }
            .boxed()
        })
    }
}

async fn select(t: &Transaction<'_>, rest: &str, of: Of<'_>) -> Result<Vec<Told>, Fault> {
    let sql = t.prepare_cached(&format!("SELECT {COLUMNS} FROM events WHERE {rest}")).await?;
    t.query(&sql, of).await?.iter().map(read).collect()
}

pub(super) fn read(row: &Row) -> Result<Told, Fault> {
    let tenant = match row.try_get("tenant")? {
        "" => None,
        _ => Some(parsed(row, "tenant", TenantId::parse)?),
    };
    let event = Event {
        id: digest(row, "id")?,
        event_type: known(row, "event_type", EventType::parse)?,
        tenant,
        at_ms: row.try_get("at_ms")?,
        source: row.try_get("source")?,
        data: serde_json::from_str(row.try_get("data")?).map_err(|_| wrong("data"))?,
    };
    Ok(Told { global: row.try_get("sequence")?, sequence: row.try_get("own_sequence")?, event })
}

pub(super) fn wrong(column: &str) -> Fault {
    let reason = format!("column {column} holds something else");
    StoreError::Damaged { doing: "reading an event", reason }.into()
}
