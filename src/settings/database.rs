//! The database that instances share; without one, each keeps a file.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use validator::Validate;

use super::at_least_1_ms;
use super::hidden::hidden_address;
use crate::yaml::Span;

hidden_address!(
    DatabaseUrl,
    ["postgres://", "postgresql://"],
    "must be postgres://USER:PASSWORD@HOST/DATABASE"
);

/// The database that instances share.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Validate)]
#[serde(default, deny_unknown_fields)]
pub struct Database {
    /// Where it is; a file in the data folder unless set.
    pub url: Option<DatabaseUrl>,
    /// Certificates in PEM that the server's must lead to; the public ones unless set.
    pub ca_file: Option<PathBuf>,
    /// Who brings its schema up to date; by environment unless set.
    pub migrate: Option<Migrate>,
    /// Connections for reads and changes.
    #[validate(range(min = 1, max = 1000))]
    pub connections_max: usize,
    /// How long a free one is waited for.
    #[validate(custom(function = "at_least_1_ms"))]
    pub connection_wait: Span,
    /// How long the server may work on one statement.
    #[validate(custom(function = "at_least_1_ms"))]
    pub statement_timeout: Span,
}

impl Default for Database {
    fn default() -> Self {
        Self {
            url: None,
            ca_file: None,
            migrate: None,
            connections_max: 8,
            connection_wait: Span(Duration::from_millis(100)),
            statement_timeout: Span(Duration::from_secs(5)),
        }
    }
}

/// Who brings a database's schema up to date. A file's is brought up to date by whoever opens it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Migrate {
    /// The service at its start, as the owner of the tables.
    Auto,
    /// `orchestrator migrate`; an older schema is refused at start.
    Check,
}
