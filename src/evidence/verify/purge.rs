//! Whether a record that is gone was purged.

use std::collections::{BTreeMap, BTreeSet};

use super::{Material, Outside, int, text};
use crate::domain::log::LogId;
use crate::evidence::custody::{Purge, purges};
use crate::evidence::purged::Row;
use crate::store::RawRow;

/// The purges that custody tells of.
pub(super) struct Purges<'a> {
    by_record: BTreeMap<&'a str, Vec<Purge>>,
    /// Logs that were vouched for from elsewhere.
    known: BTreeSet<LogId>,
}

impl<'a> Purges<'a> {
    pub(super) fn of(material: &'a Material, outside: &Outside) -> Self {
        let known = outside.keys.iter().flatten().map(LogId::of).collect();
        Self { by_record: purges(material), known }
    }

    /// Whether this log, or one that was vouched for, signed that the record of `row` was taken away.
    pub(super) fn speaks_of(&self, row: &RawRow, (log, tenant): (&LogId, &str)) -> bool {
        let purges = text(row, "id").and_then(|id| self.by_record.get(id));
        purges.into_iter().flatten().any(|it| {
            it.tenant.as_str() == tenant && (it.log == *log || self.known.contains(&it.log))
        })
    }

    /// What is wrong with an empty record of this log and tenant; `None` where its purge is proven.
    pub(super) fn fault(
        &self,
        row: &RawRow,
        (log, tenant): (&LogId, &str),
    ) -> Option<(&'static str, String)> {
        if text(row, "tenant") != Some(tenant) {
            return Some(("altered", "its leaf names another tenant".into()));
        }
        let purges = text(row, "id").and_then(|id| self.by_record.get(id));
        let purges = purges.into_iter().flatten().filter(|it| it.tenant.as_str() == tenant);
        let (own, other): (Vec<_>, Vec<_>) =
            purges.partition(|it| it.log == *log || self.known.contains(&it.log));
        let row = Row {
            action: text(row, "action"),
            at_ms: int(row, "at_ms"),
            complete: int(row, "complete").map(|it| it != 0),
            policy: text(row, "policy"),
            request_id: text(row, "request_id"),
            revision: text(row, "revision"),
        };
        match (own.first(), other.first()) {
            (Some(purge), _) => {
                purge.statement.fault(&row, purge.at_ms).map(|what| ("altered", what))
            }
            (None, Some(purge)) => {
                let what = format!(
                    "emptied; log {} signed its purge, which is not the record's own: name that \
                     log's key by --keys, or in evidence.known_keys of the service, if it is yours",
                    purge.log.as_str()
                );
                Some(("emptied", what))
            }
            (None, None) => Some(("emptied", "emptied, and no purge is on record".into())),
        }
    }
}
