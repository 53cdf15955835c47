//! What follows a reload: runtime state of what is gone goes, and operators are told.

use std::collections::BTreeSet;
use std::sync::PoisonError;

use super::Deps;
use crate::metrics::ConfigKind;
use crate::snapshot::Snapshot;
use crate::yaml::fault::{Fault, FaultKind};

impl Deps {
    /// `snapshot` serves from now on.
    pub fn adopt(&self, snapshot: &Snapshot) {
        self.serve(snapshot);
        for kind in ConfigKind::ALL {
            self.metrics.config_reload(*kind, true, now());
        }
    }

    /// The same after a change that no file made.
    pub fn serve(&self, snapshot: &Snapshot) {
        let mut served = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        // Who swapped first may come here last.
        if snapshot.generation < *served {
            return;
        }
        *served = snapshot.generation;
        self.detectors.retain(&snapshot.catalog);
        self.detectors.warm(&snapshot.catalog);
        self.metrics.snapshot(&snapshot.revision, snapshot.broken.len());
        // How many a tenant registered is its own matter.
        let everyones = snapshot.catalog.all().filter(|detector| detector.private_to.is_none());
        self.metrics.active_services(everyones.count());
    }

    /// A change was refused for `faults`.
    pub fn refused(&self, faults: &[Fault]) {
        let kinds: BTreeSet<FaultKind> = faults.iter().map(|fault| fault.kind).collect();
        for kind in kinds {
            let kind = match kind {
                FaultKind::Detector => ConfigKind::Detectors,
                FaultKind::Tenant => ConfigKind::Tenants,
                FaultKind::Strategy => ConfigKind::Strategies,
                FaultKind::Policy | FaultKind::Settings => ConfigKind::Policies,
            };
            self.metrics.config_reload(kind, false, now());
        }
    }
}

/// Seconds since 1970.
fn now() -> f64 {
    jiff::Timestamp::now().as_millisecond() as f64 / 1e3
}
