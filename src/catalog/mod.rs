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
pub use tenant::{AuditMode, RETENTION_DAYS, Tenant};

/// Everything live but the policies. Immutable.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    /// Everyone's detectors by name.
    pub detectors: BTreeMap<DetectorName, Arc<Detector>>,
    /// Those that tenants registered, each seen by its tenant alone. No name is one that the tenant
    /// sees among everyone's.
    pub private: BTreeMap<TenantId, BTreeMap<DetectorName, Arc<Detector>>>,
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
    /// True for one that the API stored, false for the file's.
    pub stored: bool,
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

    /// The detectors that strategies ask.
    pub fn of_strategies(&self) -> BTreeSet<DetectorName> {
        self.strategies.values().flat_map(|strategy| &strategy.detectors).cloned().collect()
    }

    /// Every event and alias that has a strategy.
    pub fn event_names(&self) -> impl Iterator<Item = &str> {
        let aliases = self.strategies.values().flat_map(|strategy| &strategy.aliases);
        self.strategies.keys().chain(aliases).map(String::as_str)
    }

    /// The detectors that `tenant` may use, in name order.
    pub fn visible<'a>(&'a self, tenant: &'a Tenant) -> impl Iterator<Item = &'a Arc<Detector>> {
        let shared = self.detectors.values().filter(move |detector| may_use(tenant, detector));
        let own = self.private.get(&tenant.id).into_iter().flat_map(BTreeMap::values);
        let (mut own, mut shared) = (own.peekable(), shared.peekable());
        std::iter::from_fn(move || match (own.peek(), shared.peek()) {
            (Some(a), Some(b)) if a.name > b.name => shared.next(),
            (Some(_), _) => own.next(),
            (None, _) => shared.next(),
        })
    }

    /// The detector of that name, where `tenant` may use it.
    pub fn visible_one(&self, tenant: &Tenant, name: &DetectorName) -> Option<&Arc<Detector>> {
        let shared = self.detectors.get(name).filter(|detector| may_use(tenant, detector));
        shared.or_else(|| self.private.get(&tenant.id)?.get(name))
    }

    /// Every detector, of everyone and of each tenant.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Detector>> {
        self.detectors.values().chain(self.private.values().flat_map(BTreeMap::values))
    }
}

fn may_use(tenant: &Tenant, detector: &Detector) -> bool {
    tenant.lists(&detector.name) && holds(&detector.tenants, tenant.id.as_str())
}

fn holds(names: &BTreeSet<String>, name: &str) -> bool {
    names.contains("*") || names.contains(name)
}

impl Tenant {
    /// Whether its own list lets it use a detector of that name.
    pub fn lists(&self, name: &DetectorName) -> bool {
        holds(&self.detectors, name.as_str())
    }
}
