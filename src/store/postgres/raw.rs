//! Rows as they lie in a database, for verification: in one transaction that changes nothing, under the
//! roles of the service. Decisions and custody are shown tenant by tenant, as to everybody.

use std::collections::BTreeMap;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Error, Row, Transaction};

use super::{Postgres, Scope, fault, wait};
use crate::domain::id::TenantId;
use crate::store::raw::{self, HEADS_SEEN};
use crate::store::{Cell, Part, RawRow, RawTables, StoreError, Table};

const DOING: &str = "reading what is to be verified";

/// What is read in one transaction.
type Reading<'t, T> = BoxFuture<'t, Result<T, Error>>;

impl Postgres {
    /// Everything that can be verified, beside running services too; statements may take their time.
    /// Blocks.
    pub(in crate::store) fn raw(&self) -> Result<RawTables, StoreError> {
        self.at_once(|t| read(t).boxed())
    }

    /// The logs, and the newest heads of each.
    pub(in crate::store) fn raw_heads(&self) -> Result<RawTables, StoreError> {
        self.at_once(|t| heads(t).boxed())
    }

    /// Records of a tenant with their leaves and custody.
    pub(in crate::store) fn raw_records(&self, part: Part) -> Result<RawTables, StoreError> {
        self.at_once(|t| records(t, part).boxed())
    }

    /// The leaves of a tenant, or of one of its decisions.
    pub(in crate::store) fn raw_leaves(
        &self,
        tenant: TenantId,
        id: Option<String>,
    ) -> Result<Vec<RawRow>, StoreError> {
        self.at_once(|t| {
            async move {
                t.batch_execute(&Scope::Tenant(tenant.clone()).enter()).await?;
                let sql = "WHERE tenant = $1 AND ($2::text IS NULL OR decision = $2)";
                rows(t, Table::Leaves, (sql, &[&tenant.as_str(), &id])).await
            }
            .boxed()
        })
    }

    /// Of one moment, by a connection of its own.
    fn at_once<T: Send>(
        &self,
        read: impl for<'t> FnOnce(&'t Transaction<'t>) -> Reading<'t, T> + Send,
    ) -> Result<T, StoreError> {
        let runtime = self.runtime.as_ref().ok_or(StoreError::Closed { doing: DOING })?;
        let connector = self.writer.connector();
        wait(runtime, async move {
            let mut client = connector.patient(DOING).await?;
            let failed = |error: Error| fault::of(DOING, &error);
            let moment = client.build_transaction().read_only(true);
            let isolation = tokio_postgres::IsolationLevel::RepeatableRead;
            let t = moment.isolation_level(isolation).start().await.map_err(failed)?;
            let found = read(&t).await.map_err(failed)?;
            t.rollback().await.map_err(failed)?;
            Ok(found)
        })
    }
}

async fn read(t: &Transaction<'_>) -> Result<RawTables, Error> {
    let mut tables = RawTables::new();
    t.batch_execute(&Scope::Purge.enter()).await?;
    let mut tenants: Vec<String> = Vec::new();
    for row in t.query("SELECT DISTINCT tenant FROM decisions ORDER BY tenant", &[]).await? {
        tenants.push(row.try_get(0)?);
    }
    t.batch_execute(&Scope::Service.enter()).await?;
    for table in [Table::Logs, Table::Leaves, Table::Nodes, Table::Checkpoints, Table::Sources] {
        tables.insert(table, rows(t, table, ("", &[])).await?);
    }
    for table in [Table::Decisions, Table::Custody] {
        let all: &mut Vec<RawRow> = tables.entry(table).or_default();
        // Also under a name that no tenant can have: somebody may have written it past the service.
        for tenant in &tenants {
            t.batch_execute("SET LOCAL ROLE orch_app").await?;
            t.query("SELECT set_config('app.tenant', $1, true)", &[tenant]).await?;
            all.extend(rows(t, table, ("", &[])).await?);
        }
    }
    Ok(tables)
}

async fn heads(t: &Transaction<'_>) -> Result<RawTables, Error> {
    t.batch_execute(&Scope::Service.enter()).await?;
    let logs = rows(t, Table::Logs, ("ORDER BY number", &[])).await?;
    let mut heads = Vec::new();
    for log in &logs {
        if let Some(Cell::Int(number)) = log.get("number") {
            let sql = "WHERE log = $1 ORDER BY size DESC LIMIT $2";
            let of: [&(dyn ToSql + Sync); 2] = [number, &i64::from(HEADS_SEEN)];
            heads.extend(rows(t, Table::Checkpoints, (sql, &of)).await?);
        }
    }
    Ok(BTreeMap::from([(Table::Logs, logs), (Table::Checkpoints, heads)]))
}

async fn records(t: &Transaction<'_>, part: Part) -> Result<RawTables, Error> {
    let last = part.last();
    let Part { tenant, id, limit, .. } = part;
    t.batch_execute(&Scope::Tenant(tenant.clone()).enter()).await?;
    let sql = "WHERE tenant = $1 AND sequence <= $2 AND ($3::text IS NULL OR id = $3) \
               ORDER BY sequence DESC LIMIT $4";
    let tenant = tenant.as_str();
    let of: [&(dyn ToSql + Sync); 4] = [&tenant, &last, &id, &i64::from(limit)];
    let decisions = rows(t, Table::Decisions, (sql, &of)).await?;
    let ids: Vec<&str> = decisions
        .iter()
        .filter_map(|row| match row.get("id") {
            Some(Cell::Text(id)) => Some(id.as_str()),
            _ => None,
        })
        .collect();
    let leaves = rows(t, Table::Leaves, ("WHERE decision = ANY ($1)", &[&ids])).await?;
    let entries = ("WHERE evidence = ANY ($1) AND tenant = $2", &[&ids as _, &tenant as _][..]);
    let custody = rows(t, Table::Custody, entries).await?;
    let all = [(Table::Decisions, decisions), (Table::Leaves, leaves), (Table::Custody, custody)];
    Ok(BTreeMap::from(all))
}

async fn rows(
    t: &Transaction<'_>,
    table: Table,
    (of, values): (&str, &[&(dyn ToSql + Sync)]),
) -> Result<Vec<RawRow>, Error> {
    let rows = t.query(&format!("{} {of}", raw::of(table)), values).await?;
    rows.iter().map(cells).collect()
}

fn cells(row: &Row) -> Result<RawRow, Error> {
    let mut cells = BTreeMap::new();
    for (at, column) in row.columns().iter().enumerate() {
        let cell = match *column.type_() {
            Type::INT8 => row.try_get::<_, Option<i64>>(at)?.map(Cell::Int),
            Type::BOOL => row.try_get::<_, Option<bool>>(at)?.map(|it| Cell::Int(it.into())),
            Type::TEXT => row.try_get::<_, Option<String>>(at)?.map(Cell::Text),
            Type::BYTEA => row.try_get::<_, Option<Vec<u8>>>(at)?.map(Cell::Bytes),
            _ => None,
        };
        cells.insert(column.name().to_owned(), cell.unwrap_or(Cell::Null));
    }
    Ok(cells)
}
