//! Events on SQLite.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _, Params, Result, Row, params};

use super::fair::{ENROLLED_MAX, chosen};
use super::{
    Begin, Delivering, Delivery, Events, Group, Groups, LIMIT_MAX, Shares, Stream, Then, Told,
};
use crate::domain::digest::Digest;
use crate::domain::event::{Event, EventType};
use crate::domain::id::TenantId;
use crate::store::claims::millis;
use crate::store::jobs::now;
use crate::store::rows::parsed;
use crate::store::{Answer, Numbered, Sqlite};

const COLUMNS: &str = "events.id, tenant, event_type, at_ms, source, data, events.sequence, \
    own_sequence";
/// Of deliveries, where ?3 is now: one sent after now was sent by a clock that has stepped back since.
const OVERDUE: &str = "dead = 0 AND (due_ms <= ?3 OR sent_at_ms > ?3)";
const OWN: &str = "stream = ?1 AND name = ?2";

/// Keeps an event unless its id is known; whether it was new.
pub(in crate::store) fn insert_event(c: &Connection, event: &Event, tells: bool) -> Result<bool> {
    c.prepare_cached(
        "INSERT INTO events (id, tenant, event_type, at_ms, source, data, tells) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (id) DO NOTHING",
    )?
    .execute(params![
        event.id.as_bytes(),
        event.tenant.as_ref().map_or("", TenantId::as_str),
        event.event_type.name(),
        event.at_ms,
        event.source,
        event.data.to_string(),
        tells,
    ])
    .map(|rows| rows == 1)
}

impl Events for Sqlite {
    fn append_events(&self, events: Vec<Event>) -> Answer<'_, u64> {
        self.atomically("keeping events", move |c| {
            let mut new = 0;
            for event in &events {
                new += u64::from(insert_event(c, event, false)?);
            }
            Ok(new)
        })
    }

    fn number_events(&self, most: u32) -> Answer<'_, u64> {
        self.atomically("numbering events", move |c| {
            let fresh: Vec<(i64, String)> = c
                .prepare_cached(
                    "SELECT place, tenant FROM events WHERE sequence IS NULL \
                     ORDER BY place LIMIT ?1",
                )?
                .query_map([most.min(LIMIT_MAX)], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect::<Result<_>>()?;
            for (place, tenant) in &fresh {
                c.prepare_cached(
                    "UPDATE events SET sequence = ?2, own_sequence = ?3 WHERE place = ?1",
                )?
                .execute(params![place, next(c, "*")?, next(c, tenant)?])?;
            }
            Ok(fresh.len() as u64)
        })
    }

    fn events(&self, stream: Stream, after: i64, limit: u32) -> Answer<'_, Vec<Told>> {
        self.read("reading events", move |c| {
            let (place, holds) = (stream.place(), stream.holds("?1"));
            let rest = format!(
                "{holds} AND sequence IS NOT NULL AND {place} > ?2 ORDER BY {place} LIMIT ?3"
            );
            select(c, &rest, params![stream.column(), after, limit.min(LIMIT_MAX)])
        })
    }

    fn latest_events(
        &self,
        stream: Stream,
        event_type: EventType,
        limit: u32,
    ) -> Answer<'_, Vec<Told>> {
        self.read("reading the latest events", move |c| {
            let rest = format!(
                "{} AND event_type = ?2 AND sequence IS NOT NULL ORDER BY sequence DESC LIMIT ?3",
                stream.holds("?1")
            );
            select(c, &rest, params![stream.column(), event_type.name(), limit.min(LIMIT_MAX)])
        })
    }

    fn last_event(&self, stream: Stream) -> Answer<'_, i64> {
        self.read("reading the last event", move |c| {
            c.prepare_cached("SELECT last FROM event_counters WHERE stream = ?1")?
                .query_row([stream.counter()], |row| row.get(0))
                .optional()
                .map(Option::unwrap_or_default)
        })
    }

    fn unpublished(&self, limit: u32) -> Answer<'_, Vec<Told>> {
        self.read("reading unpublished events", move |c| {
            let rest = "published = 0 AND sequence IS NOT NULL ORDER BY sequence LIMIT ?1";
            select(c, rest, [limit.min(LIMIT_MAX)])
        })
    }

    fn mark_published(&self, global: Vec<i64>) -> Answer<'_, ()> {
        self.atomically("marking events as published", move |c| {
            let mut sql =
                c.prepare_cached("UPDATE events SET published = 1 WHERE sequence = ?1")?;
            global.iter().try_for_each(|place| sql.execute([place]).map(drop))
        })
    }

    fn purge_events(&self, kept: Duration, most: u32) -> Answer<'_, u64> {
        self.atomically("purging events", move |c| {
            let old: Vec<i64> = c
                .prepare_cached(
                    "SELECT sequence FROM events WHERE published = 1 AND at_ms <= ?1 LIMIT ?2",
                )?
                .query_map(params![now(c)? - millis(kept), most], |row| row.get(0))?
                .collect::<Result<_>>()?;
            for place in &old {
                c.prepare_cached("DELETE FROM event_deliveries WHERE sequence = ?1")?
                    .execute([place])?;
                c.prepare_cached("DELETE FROM events WHERE sequence = ?1")?.execute([place])?;
            }
            Ok(old.len() as u64)
        })
    }
}

/// The next number of a stream, which is its last from now on.
fn next(c: &Connection, stream: &str) -> Result<i64> {
    c.prepare_cached(
        "INSERT INTO event_counters (stream, last) VALUES (?1, 1) \
         ON CONFLICT (stream) DO UPDATE SET last = last + 1 RETURNING last",
    )?
    .query_row([stream], |row| row.get(0))
}

fn select(c: &Connection, rest: &str, of: impl Params) -> Result<Vec<Told>> {
    c.prepare_cached(&format!("SELECT {COLUMNS} FROM events WHERE {rest}"))?
        .query_map(of, read)?
        .collect()
}

#[cfg(test)]
impl Sqlite {
    /// As after a backup was brought back: `stream` ends at `last`.
    pub(crate) async fn bring_back(&self, stream: Stream, last: i64) {
        let done = self.atomically("bringing a backup back", move |c| {
            let (place, holds) = (stream.place(), stream.holds("?1"));
            c.execute(
                &format!("DELETE FROM events WHERE {holds} AND {place} > ?2"),
                params![stream.column(), last],
            )?;
            let sql = "UPDATE event_counters SET last = ?2 WHERE stream = ?1";
            c.execute(sql, params![stream.counter(), last])
        });
        done.await.unwrap();
    }
}

impl Groups for Sqlite {
    fn deliver(
        &self,
        group: Group,
        begin: Begin,
        how: Delivering,
    ) -> Answer<'_, Option<Vec<Delivery>>> {
        self.atomically("delivering events", move |c| {
            start(c, &group, begin)?.then(|| deliver(c, &group, how)).transpose()
        })
    }

    fn deliver_fairly(
        &self,
        group: Group,
        how: Delivering,
        shares: Shares,
    ) -> Answer<'_, Vec<Delivery>> {
        self.atomically("delivering events", move |c| deliver_fairly(c, &group, how, &shares))
    }

    fn acknowledge(&self, group: Group, ids: Vec<Digest>) -> Answer<'_, u64> {
        self.atomically("acknowledging events", move |c| {
            let sql = format!("DELETE FROM event_deliveries WHERE {OWN} AND id = ?3");
            let (mut sql, mut gone) = (c.prepare_cached(&sql)?, 0);
            for id in &ids {
                gone += sql.execute(params![group.stream.column(), group.name, id.as_bytes()])?;
            }
            Ok(gone as u64)
        })
    }

    fn refuse(
        &self,
        group: Group,
        id: Digest,
        (rest, deliveries_max): (Duration, u32),
        why: Option<String>,
    ) -> Answer<'_, bool> {
        self.atomically("refusing an event", move |c| {
            let sql = format!(
                "UPDATE event_deliveries SET sent_at_ms = ?4, due_ms = ?4 + ?5, \
                 dead = (count >= ?6), last_error = ?7 WHERE {OWN} AND id = ?3 AND dead = 0"
            );
            let (stream, id) = (group.stream.column(), id.as_bytes());
            let of = params![stream, group.name, id, now(c)?, millis(rest), deliveries_max, why];
            c.prepare_cached(&sql)?.execute(of).map(|rows| rows == 1)
        })
    }

    fn dead_deliveries(
        &self,
        group: Group,
        after: i64,
        limit: u32,
    ) -> Answer<'_, Vec<Numbered<Delivery>>> {
        self.read("listing dead deliveries", move |c| {
            let of = params![group.stream.column(), group.name, after, limit.min(LIMIT_MAX)];
            let dead = "dead = 1 AND d.sequence > ?3 ORDER BY d.sequence LIMIT ?4";
            Ok(deliveries(c, dead, of)?.into_iter().map(numbered).collect())
        })
    }

    fn count_dead(&self, group: Group) -> Answer<'_, u64> {
        self.read("counting dead deliveries", move |c| {
            let sql = format!("SELECT count(*) FROM event_deliveries WHERE {OWN} AND dead = 1");
            let of = params![group.stream.column(), group.name];
            let count: i64 = c.prepare_cached(&sql)?.query_row(of, |row| row.get(0))?;
            Ok(count.cast_unsigned())
        })
    }

    fn end_dead(&self, group: Group, id: Digest, then: Then) -> Answer<'_, bool> {
        self.atomically("ending a dead delivery", move |c| {
            let what = match then {
                Then::Requeue => {
                    "UPDATE event_deliveries SET dead = 0, count = 0, due_ms = sent_at_ms, \
                     last_error = NULL"
                }
                Then::Discard => "DELETE FROM event_deliveries",
            };
            c.prepare_cached(&format!("{what} WHERE {OWN} AND id = ?3 AND dead = 1"))?
                .execute(params![group.stream.column(), group.name, id.as_bytes()])
                .map(|rows| rows == 1)
        })
    }
}

/// Begins the group where it is not there and its stream is not full; whether it is there.
fn start(c: &Connection, group: &Group, begin: Begin) -> Result<bool> {
    let (stream, name) = (group.stream.column(), &group.name);
    let there = format!("SELECT 1 FROM event_groups WHERE {OWN}");
    if c.prepare_cached(&there)?.exists(params![stream, name])? {
        return Ok(true);
    }
    let (place, holds) = (group.stream.place(), group.stream.holds("?1"));
    let count = "SELECT count(*) FROM event_groups WHERE stream = ?1";
    let count =
        || -> Result<u32> { c.prepare_cached(count)?.query_one([stream], |row| row.get(0)) };
    if count()? >= begin.groups_max {
        let sql = format!(
            "DELETE FROM event_groups WHERE stream = ?1 AND cursor < coalesce((SELECT sequence \
             FROM events WHERE {holds} AND sequence IS NOT NULL ORDER BY {place} LIMIT 1), ?2)"
        );
        c.prepare_cached(&sql)?.execute(params![stream, i64::MAX])?;
        if count()? >= begin.groups_max {
            return Ok(false);
        }
    }
    let sql = format!(
        "INSERT INTO event_groups (stream, name, cursor) SELECT ?1, ?2, \
         coalesce((SELECT max(sequence) FROM events WHERE {holds} AND {place} <= ?3), 0)"
    );
    c.prepare_cached(&sql)?.execute(params![stream, name, begin.after])?;
    Ok(true)
}

fn deliver(c: &Connection, group: &Group, how: Delivering) -> Result<Vec<Delivery>> {
    let (stream, name, now) = (group.stream.column(), group.name.as_str(), now(c)?);
    let most = how.most.min(LIMIT_MAX);
    begin(c, group, (now, how))?;
    let due = now.saturating_add(millis(how.ack_wait));
    let sql = format!(
        "UPDATE event_deliveries SET count = count + 1, sent_at_ms = ?3, due_ms = ?4 WHERE {OWN} \
         AND sequence IN (SELECT sequence FROM event_deliveries WHERE {OWN} AND {OVERDUE} \
         ORDER BY sequence LIMIT ?5) RETURNING sequence"
    );
    let mut out: Vec<i64> = c
        .prepare_cached(&sql)?
        .query_map(params![stream, name, now, due, most], |row| row.get(0))?
        .collect::<Result<_>>()?;
    let more = most.saturating_sub(u32::try_from(out.len()).unwrap_or(most));
    out.extend(enroll(c, group, (1, more), (now, due))?);
    out.sort_unstable();
    given(c, group, &out)
}

fn deliver_fairly(
    c: &Connection,
    group: &Group,
    how: Delivering,
    shares: &Shares,
) -> Result<Vec<Delivery>> {
    let (stream, name, now) = (group.stream.column(), group.name.as_str(), now(c)?);
    let most = how.most.min(LIMIT_MAX);
    begin(c, group, (now, how))?;
    enroll(c, group, (0, ENROLLED_MAX), (now, now))?;
    // OVERDUE names columns that only deliveries have.
    let sql = format!(
        "SELECT sequence, tenant FROM (SELECT d.sequence, e.tenant, d.count > 0 AS again, \
         row_number() OVER (PARTITION BY e.tenant ORDER BY d.count > 0, d.sequence) AS turn \
         FROM event_deliveries AS d JOIN events AS e ON e.sequence = d.sequence \
         WHERE {OWN} AND {OVERDUE}) WHERE turn <= ?4 ORDER BY again, turn, sequence LIMIT ?5"
    );
    let looked_at = shares.looked_at(most);
    let candidates = c
        .prepare_cached(&sql)?
        .query_map(params![stream, name, now, shares.each, looked_at], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?
        .collect::<Result<Vec<_>>>()?;
    let places = chosen(candidates, shares, most);
    let due = now.saturating_add(millis(how.ack_wait));
    let sql = format!(
        "UPDATE event_deliveries SET count = count + 1, sent_at_ms = ?3, due_ms = ?4 \
         WHERE {OWN} AND sequence = ?5"
    );
    for place in &places {
        c.prepare_cached(&sql)?.execute(params![stream, name, now, due, place])?;
    }
    given(c, group, &places)
}

/// Makes the group where it is new, and dead what was delivered as often as it may.
fn begin(c: &Connection, group: &Group, (now, how): (i64, Delivering)) -> Result<()> {
    let (stream, name) = (group.stream.column(), group.name.as_str());
    c.prepare_cached(
        "INSERT INTO event_groups (stream, name, cursor) VALUES (?1, ?2, 0) ON CONFLICT DO NOTHING",
    )?
    .execute([stream, name])?;
    let sql = format!(
        "UPDATE event_deliveries SET dead = 1, sent_at_ms = ?3 \
         WHERE {OWN} AND {OVERDUE} AND count >= ?4"
    );
    c.prepare_cached(&sql)?.execute(params![stream, name, now, how.deliveries_max]).map(drop)
}

/// Gives the group rows of up to `most` new events, delivered `count` times.
fn enroll(
    c: &Connection,
    group: &Group,
    (count, most): (u32, u32),
    (now, due): (i64, i64),
) -> Result<Vec<i64>> {
    let (stream, name) = (group.stream.column(), group.name.as_str());
    let sql = format!(
        "INSERT INTO event_deliveries (stream, name, sequence, id, count, sent_at_ms, due_ms) \
         SELECT ?1, ?2, sequence, id, ?6, ?3, ?4 FROM events WHERE {} AND sequence > \
         (SELECT cursor FROM event_groups WHERE {OWN}) ORDER BY sequence LIMIT ?5 \
         RETURNING sequence",
        group.stream.holds("?1")
    );
    let fresh: Vec<i64> = c
        .prepare_cached(&sql)?
        .query_map(params![stream, name, now, due, most, count], |row| row.get(0))?
        .collect::<Result<_>>()?;
    if let Some(last) = fresh.iter().max() {
        c.prepare_cached(&format!("UPDATE event_groups SET cursor = ?3 WHERE {OWN}"))?
            .execute(params![stream, name, last])?;
    }
    Ok(fresh)
}

/// What stands at `places`, in their order.
fn given(c: &Connection, group: &Group, places: &[i64]) -> Result<Vec<Delivery>> {
    let (stream, name) = (group.stream.column(), group.name.as_str());
    let mut told = Vec::with_capacity(places.len());
    for place in places {
        told.extend(deliveries(c, "d.sequence = ?3", params![stream, name, place])?);
    }
    Ok(told)
}

fn deliveries(c: &Connection, which: &str, of: impl Params) -> Result<Vec<Delivery>> {
    let sql = format!(
        "SELECT {COLUMNS}, count, sent_at_ms, last_error FROM event_deliveries AS d JOIN events \
         ON events.sequence = d.sequence WHERE {OWN} AND {which}"
    );
    let read = |row: &Row<'_>| {
        let (at_ms, error) = (row.get("sent_at_ms")?, row.get("last_error")?);
        Ok(Delivery { told: read(row)?, count: row.get("count")?, at_ms, error })
    };
    c.prepare_cached(&sql)?.query_map(of, read)?.collect()
}

/// By its place among all.
pub(in crate::store) fn numbered(value: Delivery) -> Numbered<Delivery> {
    Numbered { sequence: value.told.global, value }
}

fn read(row: &Row<'_>) -> Result<Told> {
    let wrong = |column: &str| rusqlite::Error::InvalidColumnName(column.to_owned());
    let text = |column: &str| row.get::<_, String>(column);
    let tenant = match text("tenant")?.as_str() {
        "" => None,
        _ => Some(parsed(row, "tenant", TenantId::parse)?),
    };
    let event = Event {
        id: Digest::from_bytes(row.get("id")?),
        event_type: EventType::parse(&text("event_type")?).ok_or_else(|| wrong("event_type"))?,
        tenant,
        at_ms: row.get("at_ms")?,
        source: row.get("source")?,
        data: serde_json::from_str(&text("data")?).map_err(|_| wrong("data"))?,
    };
    Ok(Told { global: row.get("sequence")?, sequence: row.get("own_sequence")?, event })
}
