//! What became of the last edits of this process, so that a bad one can be named.

use std::collections::{BTreeMap, VecDeque};

use serde::Serialize;

use super::{Files, RowPlace};
use crate::domain::id::{BundleName, TenantId};
use crate::yaml::fault::Fault;

/// Edits kept.
const EDITS_MAX: usize = 50;
/// Names of one edit.
const CHANGED_MAX: usize = 50;
/// Faults of one edit.
const FAULTS_MAX: usize = 10;

/// What became of an edit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Became {
    /// Files, or what another instance stored, serve since.
    Loaded,
    /// It came through the API here and serves since.
    Stored,
    /// It is at fault; what served before still does.
    Refused,
    /// A refused edit was taken back.
    Restored,
}

/// One edit.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Edit {
    /// RFC 3339 UTC with milliseconds.
    pub at: String,
    /// What became of it.
    pub result: Became,
    /// The revision that it makes, or would.
    pub revision: String,
    /// Files and stored objects that differ from what served, at most 50, by name.
    pub changed: Vec<String>,
    /// Why it was refused, at most ten.
    pub faults: Vec<Fault>,
}

/// Edits, oldest first.
#[derive(Default)]
pub(super) struct History(VecDeque<Edit>);

impl History {
    pub(super) fn note(
        &mut self,
        result: Became,
        revision: &str,
        mut changed: Vec<String>,
        faults: &[Fault],
    ) {
        changed.truncate(CHANGED_MAX);
        let faults = faults.iter().take(FAULTS_MAX).cloned().collect();
        let (at, revision) = (super::now(), revision.to_owned());
        self.0.push_back(Edit { at, result, revision, changed, faults });
        if self.0.len() > EDITS_MAX {
            self.0.pop_front();
        }
    }

    pub(super) fn newest_first(&self) -> Vec<Edit> {
        self.0.iter().rev().cloned().collect()
    }
}

impl Files {
    /// Names of what `other` holds otherwise, not at all or in addition; policy files lie below `root`.
    pub(super) fn differences(&self, other: &Files, root: &str) -> Vec<String> {
        let (mine, theirs) = (self.by_name(root), other.by_name(root));
        let changed = mine.iter().filter(|(name, bytes)| theirs.get(*name) != Some(bytes));
        let gone = theirs.keys().filter(|name| !mine.contains_key(*name));
        let mut names: Vec<String> = changed.map(|(name, _)| name).chain(gone).cloned().collect();
        names.sort();
        names
    }

    fn by_name(&self, root: &str) -> BTreeMap<String, &[u8]> {
        let catalog = self.catalog.iter().map(|file| (file.path.clone(), &*file.bytes));
        let policies =
            self.policies.iter().map(|file| (format!("{root}/{}", file.path), &*file.bytes));
        let overlays = self.overlays.iter();
        let overlays = overlays.map(|one| (stored(&one.tenant, &one.bundle), one.body.as_bytes()));
        let rows = self.rows.iter().map(|row| (row.place.shown(), row.body.as_bytes()));
        catalog.chain(policies).chain(overlays).chain(rows).collect()
    }
}

/// How an edit names the overlay of `bundle` that `tenant` stored.
pub(super) fn stored(tenant: &TenantId, bundle: &BundleName) -> String {
    format!("stored/tenants/{tenant}/{bundle}")
}

impl RowPlace {
    /// How an edit names it: whose it is stands behind `tenants`, as in a fault.
    pub(super) fn shown(&self) -> String {
        let kind = self.kind.name();
        match &self.tenant {
            Some(tenant) if tenant.as_str() == self.name => {
                format!("stored/tenants/{tenant}/{kind}")
            }
            Some(tenant) => format!("stored/tenants/{tenant}/{kind}/{}", self.name),
            None => format!("stored/{kind}"),
        }
    }
}
