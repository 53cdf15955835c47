//! Rows as they lie in a database, for verification: in one transaction that changes nothing, under the
//! roles of the service. Decisions and custody are shown tenant by tenant, as to everybody.

use std::collections::BTreeMap;

use tokio_postgres::types::Type;
use tokio_postgres::{Error, Row, Transaction};

use super::{Postgres, Scope, fault, wait};
use crate::domain::id::TenantId;
use crate::store::{Cell, RawRow, RawTables, StoreError, Table};

const DOING: &str = "reading what is to be verified";

impl Postgres {
    /// Everything that can be verified, beside running services too; statements may take their time.
    /// Blocks.
    pub(in crate::store) fn raw(&self) -> Result<RawTables, StoreError> {
        let runtime = self.runtime.as_ref().ok_or(StoreError::Closed { doing: DOING })?;
        let connector = self.writer.connector();
        wait(runtime, async move {
            let mut client = connector.patient(DOING).await?;
            read(&mut client).await.map_err(|error| fault::of(DOING, &error))
        })
    }
}

async fn read(client: &mut tokio_postgres::Client) -> Result<RawTables, Error> {
    // One moment for all tables.
    let moment = client.build_transaction().read_only(true);
    let isolation = tokio_postgres::IsolationLevel::RepeatableRead;
    let t = moment.isolation_level(isolation).start().await?;
    let mut tables = RawTables::new();
    t.batch_execute(&Scope::Purge.enter()).await?;
    let mut tenants: Vec<String> = Vec::new();
    for row in t.query("SELECT DISTINCT tenant FROM decisions ORDER BY tenant", &[]).await? {
        tenants.push(row.try_get(0)?);
    }
    t.batch_execute(&Scope::Service.enter()).await?;
    for table in [Table::Logs, Table::Leaves, Table::Nodes, Table::Checkpoints, Table::Sources] {
        tables.insert(table, rows(&t, table).await?);
    }
    for table in [Table::Decisions, Table::Custody] {
        let all: &mut Vec<RawRow> = tables.entry(table).or_default();
        // What no tenant can be called is shown to nobody.
        for tenant in tenants.iter().filter_map(|tenant| TenantId::parse(tenant).ok()) {
            t.batch_execute(&Scope::Tenant(tenant).enter()).await?;
            all.extend(rows(&t, table).await?);
        }
    }
    t.rollback().await?;
    Ok(tables)
}

async fn rows(t: &Transaction<'_>, table: Table) -> Result<Vec<RawRow>, Error> {
    let rows = t.query(&format!("SELECT * FROM {}", table.name()), &[]).await?;
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
