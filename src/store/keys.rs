//! API keys: rows of the store, never their secrets.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension as _, Result, Row, params};

use super::beside::in_file;
use super::rows::{append_audit, before, limit, tenant};
use super::{Answer, AuditEntry, Numbered, Page, Sqlite, StoreError};
use crate::domain::access::{Grant, Role, Scope, Scopes};
use crate::domain::id::TenantId;
use crate::domain::request::Priority;

/// An API key as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// The shown part, unique; its name in lists, logs and audits.
    pub prefix: String,
    /// Keyed hash of the whole key.
    pub hash: KeyHash,
    /// The only tenant it acts for; `None` may choose.
    pub tenant: Option<TenantId>,
    /// What it may do.
    pub grant: Grant,
    /// Most urgent priority it may ask for; `None` is the tenant's.
    pub max_priority: Option<Priority>,
    /// What it is for, in its maker's words.
    pub label: String,
    /// Who made it.
    pub created_by: String,
    /// Wall clock, milliseconds since 1970.
    pub created_at_ms: i64,
    /// Refused from then on; milliseconds since 1970.
    pub expires_at_ms: Option<i64>,
    /// Refused since then; milliseconds since 1970.
    pub revoked_at_ms: Option<i64>,
    /// The prefix of the key that took its place.
    pub replaced_by: Option<String>,
}

impl ApiKey {
    /// Whether it is neither revoked nor expired at `now_ms`.
    pub fn holds(&self, now_ms: i64) -> bool {
        self.revoked_at_ms.is_none() && self.expires_at_ms.is_none_or(|end| now_ms < end)
    }
}

/// Keys that hold in the store at `path`, which is only read; none where there is no file. Blocks.
pub(super) fn keys_in_file(path: &Path, now_ms: i64) -> Result<u64, StoreError> {
    in_file(path, "counting keys", |c| counted(c, now_ms))
}

/// Whether the store at `path` ever held a key. Blocks.
pub(super) fn any_key_in_file(path: &Path) -> Result<bool, StoreError> {
    in_file(path, "looking for keys", |c| {
        c.query_row("SELECT EXISTS (SELECT 1 FROM keys)", [], |row| row.get(0))
    })
}

fn counted(c: &Connection, now_ms: i64) -> Result<u64> {
    let sql = "SELECT count(*) FROM keys WHERE revoked_at_ms IS NULL \
               AND (expires_at_ms IS NULL OR expires_at_ms > ?1)";
    c.query_row(sql, [now_ms], |row| row.get::<_, i64>(0)).map(i64::cast_unsigned)
}

/// A keyed hash; `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyHash(pub [u8; 32]);

impl std::fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyHash(…)")
    }
}

/// What becomes of keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyChange {
    /// A new one.
    Add(ApiKey),
    /// A new one, if there never was any.
    AddFirst(ApiKey),
    /// `new` takes the place of a key that holds, which ends at `until_ms` unless it ends before.
    Replace {
        /// Prefix of the old one.
        old: String,
        /// Its last moment, milliseconds since 1970.
        until_ms: i64,
        /// Its heir.
        new: ApiKey,
    },
    /// It is refused from `at_ms` on, for ever.
    Revoke {
        /// Which.
        prefix: String,
        /// Milliseconds since 1970.
        at_ms: i64,
    },
}

/// API keys.
pub trait Keys: Send + Sync {
    /// The key of that prefix, also one that no longer holds.
    fn key(&self, prefix: String) -> Answer<'_, Option<ApiKey>>;
    /// Keys of `tenant`, or all of them for `None`, newest first.
    fn keys(&self, tenant: Option<TenantId>, page: Page) -> Answer<'_, Vec<Numbered<ApiKey>>>;
    /// How many keys hold at `now_ms`.
    fn keys_that_hold(&self, now_ms: i64) -> Answer<'_, u64>;
    /// Makes `change` and appends `entry` to the audit, both or neither. False where the change
    /// does not apply: no such key, already revoked or replaced, not the first.
    fn change_key(&self, change: KeyChange, entry: AuditEntry) -> Answer<'_, bool>;
}

impl Keys for Sqlite {
    fn key(&self, prefix: String) -> Answer<'_, Option<ApiKey>> {
        self.read("reading a key", move |c| {
            c.prepare_cached("SELECT * FROM keys WHERE prefix = ?1")?
                .query_row([prefix], read_key)
                .optional()
                .map(|found| found.map(|row| row.value))
        })
    }

    fn keys(&self, tenant: Option<TenantId>, page: Page) -> Answer<'_, Vec<Numbered<ApiKey>>> {
        self.read("listing keys", move |c| {
            c.prepare_cached(
                "SELECT * FROM keys WHERE (?1 IS NULL OR tenant = ?1) AND sequence < ?2 \
                 ORDER BY sequence DESC LIMIT ?3",
            )?
            .query_map(
                params![tenant.as_ref().map(TenantId::as_str), before(page), limit(page)],
                read_key,
            )?
            .collect()
        })
    }

    fn keys_that_hold(&self, now_ms: i64) -> Answer<'_, u64> {
        self.read("counting keys", move |c| counted(c, now_ms))
    }

    fn change_key(&self, change: KeyChange, entry: AuditEntry) -> Answer<'_, bool> {
        const DOING: &str = "changing a key";
        self.write(DOING, move |c| {
            let failed = |error: rusqlite::Error| StoreError::of(DOING, &error);
            c.execute_batch("SAVEPOINT key").map_err(failed)?;
            let made = make(c, &change, entry.at_ms).and_then(|made| {
                if made {
                    append_audit(c, &entry)?;
                }
                Ok(made)
            });
            let end = if matches!(made, Ok(true)) { "" } else { "ROLLBACK TO key; " };
            c.execute_batch(&format!("{end}RELEASE key")).map_err(failed)?;
            made.map_err(failed)
        })
    }
}

/// Whether it was made; where not, the caller rolls back.
fn make(connection: &Connection, change: &KeyChange, now_ms: i64) -> Result<bool> {
    match change {
        KeyChange::Add(key) => insert(connection, key).map(|()| true),
        KeyChange::AddFirst(key) => {
            let any: bool =
                connection.query_row("SELECT EXISTS (SELECT 1 FROM keys)", [], |row| row.get(0))?;
            if any { Ok(false) } else { insert(connection, key).map(|()| true) }
        }
        KeyChange::Replace { old, until_ms, new } => {
            let ended = connection
                .prepare_cached(
                    "UPDATE keys SET replaced_by = ?2, \
                     expires_at_ms = min(coalesce(expires_at_ms, ?3), ?3) \
                     WHERE prefix = ?1 AND revoked_at_ms IS NULL AND replaced_by IS NULL \
                     AND (expires_at_ms IS NULL OR expires_at_ms > ?4)",
                )?
                .execute(params![old, new.prefix, until_ms, now_ms])?;
            if ended == 0 { Ok(false) } else { insert(connection, new).map(|()| true) }
        }
        KeyChange::Revoke { prefix, at_ms } => connection
            .prepare_cached(
                "UPDATE keys SET revoked_at_ms = ?2 WHERE prefix = ?1 AND revoked_at_ms IS NULL",
            )?
            .execute(params![prefix, at_ms])
            .map(|changed| changed == 1),
    }
}

fn insert(connection: &Connection, key: &ApiKey) -> Result<()> {
    let Names { roles, scopes } = Names::of(&key.grant);
    connection
        .prepare_cached(
            "INSERT INTO keys (prefix, hash, tenant, roles, scopes, max_priority, label, \
             created_by, created_at_ms, expires_at_ms, revoked_at_ms, replaced_by) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
        )?
        .execute(params![
            key.prefix,
            &key.hash.0[..],
            key.tenant.as_ref().map(TenantId::as_str),
            roles,
            scopes,
            key.max_priority.map(Priority::name),
            key.label,
            key.created_by,
            key.created_at_ms,
            key.expires_at_ms,
            key.revoked_at_ms,
            key.replaced_by,
        ])
        .map(|_| ())
}

/// The names of what a key may do, joined by commas; `None` where it claims none.
pub(super) struct Names {
    pub(super) roles: Option<String>,
    pub(super) scopes: Option<String>,
}

impl Names {
    pub(super) fn of(grant: &Grant) -> Names {
        let joined = |names: Vec<&str>| names.join(",");
        let roles = grant.roles.as_ref();
        Names {
            roles: roles.map(|roles| joined(roles.iter().map(|role| role.name()).collect())),
            scopes: grant.scopes.map(|scopes| joined(scopes.iter().map(Scope::name).collect())),
        }
    }
}

/// What names grant. One that this version does not know grants nothing.
pub(super) fn grant(roles: Option<String>, scopes: Option<String>) -> Grant {
    Grant {
        roles: roles.map(|names| names.split(',').filter_map(Role::parse).collect()),
        scopes: scopes
            .map(|names| -> Scopes { names.split(',').filter_map(Scope::parse).collect() }),
    }
}

fn read_key(row: &Row<'_>) -> Result<Numbered<ApiKey>> {
    let optional = |column: &str| row.get::<_, Option<String>>(column);
    let max_priority = optional("max_priority")?
        .map(|name| {
            Priority::parse(&name).ok_or(rusqlite::Error::InvalidColumnName("max_priority".into()))
        })
        .transpose()?;
    let value = ApiKey {
        prefix: row.get("prefix")?,
        hash: KeyHash(row.get("hash")?),
        tenant: tenant(row)?,
        grant: grant(optional("roles")?, optional("scopes")?),
        max_priority,
        label: row.get("label")?,
        created_by: row.get("created_by")?,
        created_at_ms: row.get("created_at_ms")?,
        expires_at_ms: row.get("expires_at_ms")?,
        revoked_at_ms: row.get("revoked_at_ms")?,
        replaced_by: row.get("replaced_by")?,
    };
    Ok(Numbered { sequence: row.get("sequence")?, value })
}
