//! The bus that carries events to others and rings between instances; without one, each polls.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use validator::Validate;

use super::hidden::hidden_address;

hidden_address!(
    NatsUrl,
    ["nats://", "tls://"],
    "must be nats://USER:PASSWORD@HOST:4222, or tls:// for TLS"
);

/// The bus between instances.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, Validate)]
#[serde(default, deny_unknown_fields)]
pub struct Nats {
    /// Where it is; the process itself unless set.
    pub url: Option<NatsUrl>,
    /// Certificates in PEM that the server's must lead to; the system's unless set.
    pub ca_file: Option<PathBuf>,
}
