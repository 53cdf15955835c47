//! The cache that instances share; without one, each has its own.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use validator::Validate;

use super::hidden::hidden_address;

hidden_address!(
    RedisUrl,
    ["redis://", "rediss://"],
    "must be redis://:PASSWORD@HOST:6379, or rediss:// for TLS"
);

/// The cache that instances share.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, Validate)]
#[serde(default, deny_unknown_fields)]
pub struct Redis {
    /// Where it is; the process' own memory unless set.
    pub url: Option<RedisUrl>,
    /// Certificates in PEM that the server's must lead to; the public ones unless set.
    pub ca_file: Option<PathBuf>,
}
