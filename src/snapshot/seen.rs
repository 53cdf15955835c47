//! What a tenant sees of the catalog, prepared once per snapshot so that requests copy nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use crate::catalog::{Catalog, Detector};
use crate::domain::coverage::Abilities;
use crate::domain::digest::Digest;
use crate::domain::id::{DetectorName, TenantId};
use crate::domain::judgement;
use crate::policy;

/// The detectors a tenant may use, in the forms that the steps of an orchestration read.
#[derive(Debug)]
pub struct Seen {
    /// By name; without those that are only observed, whom no plan may name.
    pub detectors: BTreeMap<DetectorName, Arc<Detector>>,
    /// Those that are only observed.
    pub shadows: Vec<Arc<Detector>>,
    /// For plan documents.
    pub facts: Arc<[policy::DetectorFacts]>,
    /// For votes.
    pub votes: BTreeMap<DetectorName, judgement::DetectorFacts>,
    /// For coverage.
    pub abilities: Abilities,
    /// Of their definitions, credentials aside.
    pub digest: Digest,
    facts_digest: OnceLock<Digest>,
}

impl Seen {
    fn of<'a>(detectors: impl Iterator<Item = &'a Arc<Detector>>) -> Self {
        let (shadows, detectors): (Vec<_>, Vec<_>) =
            detectors.cloned().partition(|detector| detector.shadow);
        let detectors: BTreeMap<DetectorName, Arc<Detector>> =
            detectors.into_iter().map(|detector| (detector.name.clone(), detector)).collect();
        Self {
            shadows,
            facts: detectors.values().map(|detector| facts(detector)).collect(),
            votes: detectors
                .iter()
                .map(|(name, detector)| (name.clone(), votes(detector)))
                .collect(),
            abilities: detectors
                .iter()
                .map(|(name, detector)| (name.clone(), detector.categories.clone()))
                .collect(),
            digest: digest(&detectors),
            detectors,
            facts_digest: OnceLock::new(),
        }
    }

    /// Of what plan documents say of them.
    pub fn facts_digest(&self) -> Digest {
        *self.facts_digest.get_or_init(|| policy::facts_digest(&self.facts))
    }
}

/// Where a file stands does not change what its detector is: instances agree.
fn digest(detectors: &BTreeMap<DetectorName, Arc<Detector>>) -> Digest {
    let unplaced = |detector: &Detector| Detector { source: String::new(), ..detector.clone() };
    let whole = |detector: &Arc<Detector>| {
        let mut whole = unplaced(detector);
        for version in &mut whole.versions {
            version.detector = Arc::new(unplaced(&version.detector));
        }
        format!("{whole:?}")
    };
    let each: Vec<String> = detectors.values().map(whole).collect();
    Digest::of_all(each.iter().map(String::as_bytes))
}

fn facts(detector: &Detector) -> policy::DetectorFacts {
    policy::DetectorFacts {
        name: detector.name.clone(),
        version: Arc::clone(&detector.version),
        protocol: detector.protocol.name(),
        types: detector.types.clone(),
        categories: detector.categories.clone(),
        cost: detector.cost,
        weight: detector.weight,
    }
}

fn votes(detector: &Detector) -> judgement::DetectorFacts {
    judgement::DetectorFacts {
        categories: detector.categories.clone(),
        weight: detector.weight,
        annotator: detector.annotator,
        calibration: detector.calibration.clone(),
        versions: detector
            .versions
            .iter()
            .map(|version| &version.detector)
            .map(|version| (Arc::clone(&version.version), version.calibration.clone()))
            .collect(),
    }
}

/// What each tenant sees; tenants that see the same share it.
pub(super) fn by_tenant(catalog: &Catalog) -> BTreeMap<TenantId, Arc<Seen>> {
    let mut shared: BTreeMap<Vec<*const Detector>, Arc<Seen>> = BTreeMap::new();
    let mut seen = BTreeMap::new();
    for (id, tenant) in &catalog.tenants {
        let names = catalog.visible(tenant).map(Arc::as_ptr).collect();
        let same = shared.entry(names);
        let same = same.or_insert_with(|| Arc::new(Seen::of(catalog.visible(tenant))));
        seen.insert(id.clone(), Arc::clone(same));
    }
    seen
}
