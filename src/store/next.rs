//! The version that follows, the same in every store.

use super::{Expected, Object, ObjectKey, StoreError};
use crate::domain::digest::Digest;

impl Expected {
    /// What follows `newest`, which may be a tombstone; no body makes a tombstone.
    pub(super) fn next(
        self,
        key: &ObjectKey,
        newest: Option<Object>,
        body: Option<String>,
    ) -> Result<Object, StoreError> {
        let last = newest.as_ref().map_or(0, |object| object.version);
        let live = newest.filter(|object| object.body.is_some()).map_or(0, |object| object.version);
        let agrees = match self {
            Expected::Any => body.is_some() || live > 0,
            Expected::Absent => body.is_some() && live == 0,
            Expected::Version(version) => version > 0 && version == live,
        };
        if !agrees {
            let ObjectKey { kind, name, .. } = key.clone();
            return Err(StoreError::Conflict { kind, name, found: live });
        }
        let version = last + 1;
        let at_ms = jiff::Timestamp::now().as_millisecond();
        let text = body.as_deref().unwrap_or_default();
        let etag = Digest::of_all([&version.to_be_bytes()[..], text.as_bytes()]).hex();
        Ok(Object { key: key.clone(), version, at_ms, etag, body })
    }
}
