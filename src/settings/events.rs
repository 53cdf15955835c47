//! What of requests becomes events, and who may listen.

use serde::{Deserialize, Serialize};
use validator::Validate;

/// What is told, and to how many.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Validate)]
#[serde(default, deny_unknown_fields)]
pub struct Events {
    /// Which requests are events of their own: each one is a row of the store.
    pub requests: RequestEvents,
    /// Open streams of one tenant on one instance.
    #[validate(range(min = 1, max = 1_000))]
    pub streams_per_tenant_max: usize,
    /// Consumer groups of one tenant, and of the service.
    #[validate(range(min = 1, max = 10_000))]
    pub groups_per_tenant_max: u32,
    /// Incidents that are shown, the latest.
    #[validate(range(min = 10, max = 5_000))]
    pub incidents_max: u32,
}

impl Default for Events {
    fn default() -> Self {
        Self {
            requests: RequestEvents::None,
            streams_per_tenant_max: 10,
            groups_per_tenant_max: 100,
            incidents_max: 500,
        }
    }
}

/// Which requests are events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RequestEvents {
    /// None: nothing is written for a request.
    #[default]
    None,
    /// Those that got no outcome.
    Failed,
    /// All.
    All,
}
