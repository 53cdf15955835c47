//! A change of one row, and what must hold before it is stored.

use std::sync::Arc;

use super::{Change, ChangeError, Live, Row, RowKind, RowPlace, Snapshot};
use crate::domain::id::DetectorName;
use crate::settings::Settings;
use crate::store::{AuditEntry, Expected, Object};

/// A change of one row.
#[derive(Debug, Clone)]
pub struct RowChange {
    /// Of which.
    pub place: RowPlace,
    /// JSON; `None` deletes it.
    pub body: Option<String>,
    /// What the author believes to be there.
    pub expected: Expected,
    /// What the audit says of it.
    pub audit: AuditEntry,
}

impl Live {
    /// What would serve after a change of one overlay; it is compiled and probed, its tests are not
    /// run, and nothing is stored. Blocks.
    ///
    /// # Errors
    /// Every fault of the overlay, or that files define it.
    pub fn imagine(&self, change: &Change, settings: &Settings) -> Result<Snapshot, ChangeError> {
        let base = self.current();
        self.draft(&base, change, &base.policies, settings)
    }
}

impl RowChange {
    /// `rows` with what `object` makes of this one, in the order of the store.
    pub(super) fn made(&self, rows: &[Arc<Row>], object: &Object) -> Vec<Arc<Row>> {
        let others = rows.iter().filter(|other| other.place != self.place);
        let mut made: Vec<_> = others.cloned().collect();
        made.extend(Row::of(object).map(Arc::new));
        made.sort_by(|a, b| a.place.cmp(&b.place));
        made
    }

    /// Whether a file defines what this would store.
    pub(super) fn is_defined(&self, snapshot: &Snapshot) -> bool {
        let RowPlace { kind, tenant, name } = &self.place;
        let (Some(_), Some(tenant)) = (&self.body, tenant) else { return false };
        match kind {
            RowKind::Tenant => snapshot.file_defines_tenant(tenant),
            RowKind::Detector => DetectorName::parse(name)
                .is_ok_and(|name| snapshot.file_defines_detector(tenant, &name)),
            RowKind::Quota | RowKind::Pause | RowKind::Strategies => false,
        }
    }

    /// That the tenant has room for one more, where this makes one more.
    pub(super) fn check_room(&self, snapshot: &Snapshot, most: usize) -> Result<(), ChangeError> {
        if self.place.kind != RowKind::Detector || self.body.is_none() {
            return Ok(());
        }
        let own = snapshot.rows(RowKind::Detector);
        let own = own.filter(|row| row.place.tenant == self.place.tenant);
        let others = own.filter(|row| row.place != self.place).count();
        if others < most { Ok(()) } else { Err(ChangeError::Full { most }) }
    }
}
