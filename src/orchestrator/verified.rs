//! Verifies what is stored or packed, down to the sources that every record names.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::digest::Digest;
use crate::domain::id::TenantId;
use crate::evidence::verify::{Material, Outside, Problem, Verified, verify};
use crate::snapshot::Files;
use crate::store::{Cell, Table};

/// The sources of a store or a package, by owner and digest.
pub struct KeptSources<'a>(BTreeMap<(&'a str, &'a [u8]), &'a [u8]>);

impl<'a> KeptSources<'a> {
    /// Of `material`; rows that cannot be read are left out.
    pub fn of(material: &'a Material) -> Self {
        let rows = material.tables.get(&Table::Sources).into_iter().flatten();
        let read = rows.filter_map(|row| {
            match (row.get("tenant")?, row.get("digest")?, row.get("bytes")?) {
                (Cell::Text(tenant), Cell::Bytes(digest), Cell::Bytes(bytes)) => {
                    Some(((tenant.as_str(), digest.as_slice()), bytes.as_slice()))
                }
                _ => None,
            }
        });
        Self(read.collect())
    }

    /// One blob.
    pub fn get(&self, tenant: Option<&TenantId>, digest: Digest) -> Option<Vec<u8>> {
        let owner = tenant.map_or("", TenantId::as_str);
        self.0.get(&(owner, &digest.as_bytes()[..])).map(|bytes| bytes.to_vec())
    }
}

/// As [`verify`], and whether the sources of every record are there.
pub fn verified(material: &Material, outside: &Outside) -> Verified {
    let mut found = verify(material, outside);
    // A package that the API gave away has none: they hold what its tenant need not see.
    if material.without_sources && !material.tables.contains_key(&Table::Sources) {
        return found;
    }
    let sources = KeptSources::of(material);
    let rows = material.tables.get(&Table::Decisions).into_iter().flatten();
    // What only purged records name need not be there any more.
    let kept =
        rows.filter(|row| *row.get("record").unwrap_or(&Cell::Null) != Cell::Text(String::new()));
    let named: BTreeSet<(&str, &str)> = kept
        .filter_map(|row| match (row.get("tenant")?, row.get("revision")?) {
            (Cell::Text(tenant), Cell::Text(revision)) => {
                Some((tenant.as_str(), revision.as_str()))
            }
            _ => None,
        })
        .collect();
    for (tenant, revision) in named {
        let Ok(id) = TenantId::parse(tenant) else { continue };
        let mut get = |tenant: Option<&TenantId>, digest| Ok(sources.get(tenant, digest));
        if let Err(error) = Files::of_revision(revision, &id, &mut get) {
            let what = format!("records of {tenant} under revision {revision}: {error}");
            found.problems.push(Problem { kind: "source", id: None, index: None, what });
        }
    }
    found
}
