//! Overlays that may be at fault without refusing the rest. What a tenant stored must stop neither
//! the operator nor another tenant, and must not be lost in silence: where it no longer fits the
//! files that it stands on, every point but the floor's fails for that tenant under that bundle.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::entry::Ask;
use super::evaluator::Evaluator;
use super::layers::{self, Layers};
use super::load::View;
use super::rego::Parsed;
use super::{
    Failure, FailureKind, Limits, Point, Source, VerdictAnswer, VerdictFacts, answer, document,
    fault,
};
use crate::domain::digest::Digest;
use crate::domain::head::Head;
use crate::domain::id::{BundleName, TenantId};
use crate::yaml::fault::Fault;

/// Whose overlay, over which bundle.
pub type OverlayName = (TenantId, BundleName);
/// Overlays with what is wrong with each.
pub type OverlayFaults = BTreeMap<OverlayName, Vec<Fault>>;

/// Overlays that stand apart from the files.
#[derive(Debug, Default)]
pub struct Apart {
    /// All of them, with what is already known to be wrong with each.
    pub overlays: OverlayFaults,
    /// The one that is about to be stored; the others were accepted before.
    pub fresh: Option<OverlayName>,
}

/// The files that everyone stands on, and those of the overlays that `apart` names.
pub(super) fn split(
    sources: &[Source],
    apart: &OverlayFaults,
) -> (Vec<Source>, BTreeMap<OverlayName, Vec<Source>>) {
    let (mut shared, mut own) = (Vec::new(), BTreeMap::<OverlayName, Vec<Source>>::new());
    for source in sources {
        match owner(&source.path).filter(|name| apart.contains_key(name)) {
            Some(name) => own.entry(name).or_default().push(source.clone()),
            None => shared.push(source.clone()),
        }
    }
    (shared, own)
}

fn owner(path: &str) -> Option<OverlayName> {
    let (tenant, rest) = path.strip_prefix("tenants/")?.split_once('/')?;
    let (bundle, _) = rest.split_once('/')?;
    TenantId::parse(tenant).ok().zip(BundleName::parse(bundle).ok())
}

/// Adds each overlay to `layers`, or answers what is wrong with it.
pub(super) fn read(
    layers: &mut Layers,
    apart: OverlayFaults,
    own: &BTreeMap<OverlayName, Vec<Source>>,
    (limits, parsed): (&Limits, &BTreeMap<Digest, Arc<Parsed>>),
) -> OverlayFaults {
    let mut broken = OverlayFaults::new();
    for (name, known) in apart {
        let sources = own.get(&name).map_or(&[][..], Vec::as_slice);
        let found = match known.is_empty() {
            true => guarded(&name, || layers::read(sources, limits, parsed)).and_then(|read| read),
            false => Err(known),
        };
        match found {
            Ok(found) => layers.extend(found),
            Err(faults) => drop(broken.insert(name, faults)),
        }
    }
    broken
}

/// What `work` on an overlay gives; a panic is a fault of the overlay.
pub(super) fn guarded<T>(name: &OverlayName, work: impl FnOnce() -> T) -> Result<T, Vec<Fault>> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|_| {
        let file = format!("tenants/{}/{}", name.0, name.1);
        vec![fault(&file, (0, 0), "load", "the load panicked", "write it in another way")]
    })
}

impl View {
    /// The same without its tenant's overlay, which is at fault: nothing but the floor is asked.
    pub(super) fn broken(&self) -> View {
        let digest = Digest::of_all([self.digest.as_bytes().as_slice(), b"overlay broken"]);
        View { digest, is_broken: true, ..self.clone() }
    }

    /// Whether the tenant's stored overlay no longer fits the files that it stands on, so that the
    /// tenant's modes decide.
    pub fn is_broken(&self) -> bool {
        self.is_broken
    }

    /// The failure of `point` where the overlay is broken.
    pub(super) fn intact(&self, point: Point) -> Result<(), Failure> {
        if !self.is_broken {
            return Ok(());
        }
        let message = format!(
            "the tenant's stored overlay of `{}` no longer fits the files below it",
            self.bundle
        );
        Err(Failure::new(point, FailureKind::Overlay, &message))
    }
}

impl Evaluator {
    /// What the floor alone says, for when the layers above it failed. Never memoised.
    ///
    /// # Errors
    /// When the floor fails too.
    pub async fn floor_verdict(
        &self,
        view: &Arc<View>,
        head: &Head,
        facts: &VerdictFacts<'_>,
    ) -> Result<VerdictAnswer, Failure> {
        let asks = vec![(Ask::FloorVerdict, document::floor_verdict(view, head, facts))];
        let held = self.ask(view, &head.tenant.id, Point::Verdict, asks).await?.0;
        let mut answer = VerdictAnswer::default();
        let floor = held.into_iter().next().unwrap_or_default();
        answer::floor_verdict(&view.unit, &floor, facts.raw, &mut answer)?;
        Ok(answer)
    }
}
