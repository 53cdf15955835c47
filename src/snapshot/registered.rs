//! Detectors that tenants registered and strategies that operators stored, beside those of files.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::rows::{Row, RowKind, RowPlace};
use crate::catalog::{Catalog, Detector, LoadContext};
use crate::domain::id::DetectorName;
use crate::yaml::fault::Fault;

/// Registered detectors as they were read, by place.
pub(super) type Registered = BTreeMap<RowPlace, Known>;

/// One of them; read again only when its row says something else.
#[derive(Debug, Clone)]
pub(super) struct Known {
    body: Arc<str>,
    read: Result<Arc<Detector>, Vec<Fault>>,
}

/// What does not serve.
#[derive(Default)]
pub(super) struct Unfit {
    pub(super) shadowed: Vec<Fault>,
    pub(super) broken: BTreeMap<RowPlace, Vec<Fault>>,
}

/// Every registered detector of `rows`; what `before` knows is not read again.
pub(super) fn read(
    rows: &[Arc<Row>],
    context: &LoadContext<'_>,
    before: Option<&Registered>,
) -> Registered {
    let detectors = rows.iter().filter(|row| row.place.kind == RowKind::Detector);
    let known = |row: &Row| {
        let known = before?.get(&row.place)?;
        (*known.body == *row.body).then(|| known.clone())
    };
    let one = |row: &Arc<Row>| {
        let known = known(row).unwrap_or_else(|| Known {
            body: row.body.as_str().into(),
            read: detector(row, context),
        });
        (row.place.clone(), known)
    };
    detectors.map(one).collect()
}

fn detector(row: &Row, context: &LoadContext<'_>) -> Result<Arc<Detector>, Vec<Fault>> {
    let Some(tenant) = &row.place.tenant else { return Err(Vec::new()) };
    let mut detector = Catalog::registered(&row.file(), tenant, context)?;
    detector.source = format!("stored/{tenant}/{}", detector.name);
    Ok(Arc::new(detector))
}

/// Puts what was read, and the strategies of `rows`, into `catalog` in the place of what it may have
/// had of other rows.
pub(super) fn settle(catalog: &mut Catalog, registered: &Registered, rows: &[Arc<Row>]) -> Unfit {
    let mut unfit = Unfit::default();
    catalog.private.clear();
    catalog.strategies.retain(|_, strategy| !strategy.stored);
    for row in rows {
        match (row.place.kind, registered.get(&row.place)) {
            (RowKind::Detector, Some(known)) => place(catalog, row, known, &mut unfit),
            (RowKind::Strategies, _) => strategies(catalog, row, &mut unfit),
            (RowKind::Detector | RowKind::Tenant | RowKind::Quota | RowKind::Pause, _) => {}
        }
    }
    unfit
}

fn place(catalog: &mut Catalog, row: &Row, known: &Known, unfit: &mut Unfit) {
    let tenant = row.place.tenant.as_ref().and_then(|id| catalog.tenants.get(id));
    // A detector of nobody is asked by nobody.
    let Some(tenant) = tenant else { return };
    let detector = match &known.read {
        Ok(detector) => detector,
        Err(faults) => return drop(unfit.broken.insert(row.place.clone(), faults.clone())),
    };
    if !tenant.lists(&detector.name) {
        let message = format!("the tenant may not use a detector named `{}`", detector.name);
        let hint = "have the operator add the name to the tenant's `detectors`, or choose another";
        let faults = vec![row.fault("not_listed", message, hint)];
        return drop(unfit.broken.insert(row.place.clone(), faults));
    }
    if catalog.visible_one(tenant, &detector.name).is_some_and(|d| d.private_to.is_none()) {
        let message =
            "a detector of this name that is everyone's serves instead of this stored one";
        let hint = "delete the stored detector, or have the other one removed";
        return unfit.shadowed.push(row.fault("shadowed", message.into(), hint));
    }
    let id = tenant.id.clone();
    let own = catalog.private.entry(id).or_default();
    own.insert(detector.name.clone(), Arc::clone(detector));
}

fn strategies(catalog: &mut Catalog, row: &Row, unfit: &mut Unfit) {
    let read = match Catalog::stored_strategies(&row.file()) {
        Ok(read) => read,
        Err(faults) => return drop(unfit.broken.insert(row.place.clone(), faults)),
    };
    let names: BTreeSet<String> = catalog.event_names().map(str::to_owned).collect();
    for (event, mut strategy) in read {
        if std::iter::once(&event).chain(&strategy.aliases).any(|name| names.contains(name)) {
            let message = format!("the file's strategy serves `{event}` instead of the stored one");
            let hint = "store the strategies without it, or remove it from the file";
            unfit.shadowed.push(row.fault("shadowed", message, hint));
            continue;
        }
        let known = |name: &DetectorName| catalog.detectors.contains_key(name);
        for name in strategy.detectors.iter().filter(|name| !known(name)) {
            let message = format!("strategy `{event}` names the unknown detector `{name}`");
            let hint = "add the detector or remove the name";
            unfit.shadowed.push(row.fault("unknown_detector", message, hint));
        }
        strategy.detectors.retain(known);
        catalog.strategies.insert(event, strategy);
    }
}
