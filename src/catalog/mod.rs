//! Detector files, tenant files and strategies become one validated `Catalog`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::domain::id::{DetectorName, TenantId};
use crate::domain::plan::{Execution, StopOn};

mod calibration;
mod chunks;
mod credential;
pub mod detector;
mod detector_file;
mod load;
mod mapping;
mod preset;
mod reach;
mod signing;
mod strategy_file;
mod template;
pub mod tenant;
mod tenant_file;

#[cfg(test)]
mod tests;

pub use credential::{CredentialParts, PartFault, SecretRef, basic};
pub use detector::Detector;
pub use load::{LoadContext, ParamFault, SourceFile};
pub use reach::guard;
pub use signing::Signing;
pub use tenant::Tenant;

/// Everything live but the policies. Immutable.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    /// Detectors by name.
    pub detectors: BTreeMap<DetectorName, Arc<Detector>>,
    /// Tenants by id.
    pub tenants: BTreeMap<TenantId, Arc<Tenant>>,
    /// Strategies by event.
    pub strategies: BTreeMap<String, Strategy>,
}

/// What to do on an event.
#[derive(Debug, Clone, PartialEq)]
pub struct Strategy {
    /// Detectors that become optional.
    pub detectors: Vec<DetectorName>,
    /// Default order.
    pub execution: Execution,
    /// For people.
    pub description: String,
    /// Default early end.
    pub stop_on: StopOn,
    /// Other names of the event.
    pub aliases: Vec<String>,
}

impl Catalog {
    /// The strategy of `event` or of its alias; an unknown one takes `default` and says so.
    pub fn strategy(&self, event: &str) -> Option<(&str, &Strategy)> {
        self.strategies
            .iter()
            .find(|(name, strategy)| *name == event || strategy.aliases.iter().any(|a| a == event))
            .or_else(|| self.strategies.get_key_value("default"))
            .map(|(name, strategy)| (name.as_str(), strategy))
    }

    /// The detectors that `tenant` may use, in name order.
    pub fn visible<'a>(&'a self, tenant: &'a Tenant) -> impl Iterator<Item = &'a Arc<Detector>> {
        self.detectors.values().filter(move |detector| may_use(tenant, detector))
    }

    /// The detector of that name, where `tenant` may use it.
    pub fn visible_one(&self, tenant: &Tenant, name: &DetectorName) -> Option<&Arc<Detector>> {
        self.detectors.get(name).filter(|detector| may_use(tenant, detector))
    }
}

fn may_use(tenant: &Tenant, detector: &Detector) -> bool {
    let holds = |names: &BTreeSet<String>, name: &str| names.contains("*") || names.contains(name);
    holds(&tenant.detectors, detector.name.as_str()) && holds(&detector.tenants, tenant.id.as_str())
}
