//! One immutable, validated set of catalog and compiled policies, and the swap to the next one.
//!
//! `Snapshot::load` is all that can fail; the swap cannot.

use std::collections::BTreeMap;
use std::sync::Arc;

use secrecy::SecretString;

use crate::catalog::{self, Catalog, Detector, LoadContext, SecretRef, SourceFile};
use crate::domain::id::TenantId;
use crate::outbound::Guard;
use crate::policy::{self, Apart, Limits, OverlayFaults, OverlayName, Policies, TenantScope};
use crate::settings::{self, Settings};
use crate::store::Object;
use crate::yaml;
use crate::yaml::fault::{Fault, FaultKind};
use rows::Settled;

mod change;
mod generations;
mod history;
mod instances;
mod layers;
mod live;
mod manifest;
mod overlays;
mod registered;
mod remote;
mod rows;
mod seen;
mod sources;
mod tree;
mod trial;
mod trust;
mod watch;

pub use change::RowChange;
pub use generations::{Generations, Instance};
pub use history::{Became, Edit};
pub use instances::tell;
pub use live::{Change, ChangeError, Changed, Gate, Live};
pub use manifest::{Branch, Get, Rank, Unfound};
pub use overlays::{Overlay, OverlayCases, OverlayContent, OverlayModule, key, tag};
pub use remote::{Asked, Remote, follow, refresh};
pub use rows::{KINDS, Quota, Row, RowKind, RowPlace, stored};
pub use seen::Seen;
pub use sources::{CheckParams, Files, Sources, Told};
pub use watch::{Changes, Event, Looked, look, watch};

/// Everything live, at one moment.
#[derive(Debug)]
pub struct Snapshot {
    /// Hexadecimal SHA-256 over all live files and stored overlays, whatever their order.
    pub revision: String,
    /// Counts the swaps of this process, from 1.
    pub generation: u64,
    /// When it was loaded, RFC 3339 UTC with milliseconds.
    pub loaded_at: String,
    /// Detectors, tenants, strategies.
    pub catalog: Catalog,
    /// What each tenant sees of the detectors.
    pub seen: BTreeMap<TenantId, Arc<Seen>>,
    /// Compiled policies.
    pub policies: Policies,
    /// What is odd but serves.
    pub warnings: Vec<Fault>,
    /// Stored overlays that do not fit the files, so that their tenants' modes decide; files are
    /// named as the policy tree does.
    pub broken: OverlayFaults,
    /// What administrators said of tenants.
    held: rows::Held,
    /// What it was made of; the next one may be made of the same.
    files: Files,
}

/// Whom a request is for that names nobody.
const DEFAULT: &str = "default";
const NO_DEFAULT: &str = "no_default_tenant";

fn no_default() -> Fault {
    Fault {
        kind: FaultKind::Tenant,
        file: "tenants".into(),
        line: 0,
        column: 0,
        code: NO_DEFAULT,
        message: "there is no tenant `default`: requests that name none are refused".into(),
        hint: Some("add default.yaml, or let every key and request name its tenant".into()),
    }
}

impl Snapshot {
    /// Reads, parses, cross-checks, compiles and probes everything; whole or not at all.
    pub fn load(
        sources: &Sources,
        settings: &Settings,
        previous: Option<&Snapshot>,
    ) -> Result<Snapshot, Vec<Fault>> {
        Self::from_files(&sources.read()?, sources, settings, previous)
    }

    /// Loads the first one. Where its policies were brought from elsewhere and have faults, those that
    /// served last serve again.
    pub fn first(sources: &Sources, settings: &Settings) -> Result<Snapshot, Vec<Fault>> {
        let first = match (Self::load(sources, settings, None), sources.remote()) {
            (Err(faults), Some(remote)) if remote.fall_back(&faults) => {
                for fault in &faults {
                    tracing::error!(%fault, "new policies are at fault; the last good ones serve");
                }
                Self::load(sources, settings, None)
            }
            (first, _) => first,
        }?;
        if let Some(remote) = sources.remote() {
            remote.settle(&first);
        }
        Ok(first)
    }

    /// Whether its policy tree is this.
    fn is_of(&self, policies: &[policy::Source]) -> bool {
        let own = &self.files.policies;
        let same =
            |(a, b): (&policy::Source, &policy::Source)| a.path == b.path && a.bytes == b.bytes;
        own.len() == policies.len() && own.iter().zip(policies).all(same)
    }

    /// One detector file by itself, as loading would read it.
    pub fn detector(
        file: SourceFile,
        check_params: CheckParams,
        settings: &Settings,
    ) -> Result<Arc<Detector>, Vec<Fault>> {
        let context = LoadContext {
            env: settings.env,
            guard: &guard(settings)?,
            tiers: &settings.tiers,
            secret: &secret,
            check_params: &check_params,
        };
        let shown = file.path.clone();
        let (catalog, _) = Catalog::load(&[file], &context)?;
        catalog.detectors.into_values().next().ok_or_else(|| {
            let source = yaml::Source { kind: FaultKind::Detector, file: &shown };
            vec![source.fault((0, 0), "missing_key", "the file holds no detector".into(), None)]
        })
    }

    /// The same from files that were read before.
    pub fn from_files(
        files: &Files,
        sources: &Sources,
        settings: &Settings,
        previous: Option<&Snapshot>,
    ) -> Result<Snapshot, Vec<Fault>> {
        Self::from_files_with(&secret, files, (sources, settings), previous)
    }

    /// The same to decide again and to call nobody: every secret is blank.
    pub fn rebuild(
        files: &Files,
        sources: &Sources,
        settings: &Settings,
        previous: Option<&Snapshot>,
    ) -> Result<Snapshot, Vec<Fault>> {
        let blank = |_: &SecretRef| Some("0".repeat(BLANK_BYTES).into());
        Self::from_files_with(&blank, files, (sources, settings), previous)
    }

    fn from_files_with(
        secret: &dyn Fn(&SecretRef) -> Option<SecretString>,
        files: &Files,
        (sources, settings): (&Sources, &Settings),
        previous: Option<&Snapshot>,
    ) -> Result<Snapshot, Vec<Fault>> {
        let guard = guard(settings)?;
        let context = LoadContext { secret, ..context(sources, settings, &guard) };
        // Policies cannot be checked against tenants that are not known.
        let known = previous.map(|old| (&old.catalog, old.files.catalog.as_slice()));
        let (catalog, warnings) = Catalog::load_after(known, &files.catalog, &context)?;
        let held = previous.map(|snapshot| &snapshot.held);
        let settled = rows::settle(catalog, warnings, files, &context, held);
        let before = previous.map(|snapshot| &snapshot.policies);
        let base = Base { sources, settings, previous: before };
        let policies = load_policies(files, &scopes(&settled.catalog), &base, None)
            .map_err(|faults| sources.place(files, faults))?;
        let generation = previous.map_or(1, |snapshot| snapshot.generation + 1);
        Ok(Self::whole(files.clone(), settled, policies, generation))
    }

    fn whole(files: Files, settled: Settled, policies: policy::Loaded, generation: u64) -> Self {
        let Settled { catalog, seen, mut warnings, held } = settled;
        warnings.extend(policies.warnings);
        warnings.retain(|warning| warning.code != NO_DEFAULT);
        warnings.extend((!catalog.tenants.contains_key(DEFAULT)).then(no_default));
        warnings.sort();
        Snapshot {
            revision: files.revision().hex(),
            generation,
            loaded_at: now(),
            seen,
            catalog,
            policies: policies.policies,
            warnings,
            broken: policies.broken,
            held,
            files,
        }
    }

    /// The first snapshot beside what the store holds.
    pub fn beside(
        self,
        objects: &[Object],
        sources: &Sources,
        settings: &Settings,
    ) -> Result<Snapshot, Vec<Fault>> {
        if objects.is_empty() {
            return Ok(self);
        }
        let files = self.files.beside(overlays::overlays(objects), rows::rows(objects));
        let next = self
            .with_files(files.clone(), &Base::over(&self.policies, sources, settings), None)
            .map_err(|faults| sources.place(&files, faults))?;
        Ok(Snapshot { generation: self.generation, ..next })
    }

    /// The same catalog with other policies and stored tenants of `files`. Nothing is read again, so what became of
    /// the files since cannot be at fault. Faults name files as the policy tree does.
    fn with_files(
        &self,
        files: Files,
        base: &Base<'_>,
        fresh: Option<OverlayName>,
    ) -> Result<Snapshot, Vec<Fault>> {
        let kept = self.warnings.iter().filter(|fault| fault.kind != FaultKind::Policy);
        let warnings: Vec<Fault> = kept.cloned().collect();
        let catalog = self.catalog.clone();
        let settled = match rows::same(&self.files.rows, &files.rows) {
            true => Settled { catalog, warnings, seen: self.seen.clone(), held: self.held.clone() },
            false => {
                let guard = guard(base.settings)?;
                let context = context(base.sources, base.settings, &guard);
                rows::settle(catalog, warnings, &files, &context, Some(&self.held))
            }
        };
        let policies = load_policies(&files, &scopes(&settled.catalog), base, fresh)?;
        Ok(Self::whole(files, settled, policies, self.generation + 1))
    }
}

/// Bytes of what stands for a secret.
const BLANK_BYTES: usize = 64;

/// Where detectors may be.
fn guard(settings: &Settings) -> Result<Guard, Vec<Fault>> {
    catalog::guard(settings).map_err(|error| {
        let source = yaml::Source { kind: FaultKind::Settings, file: "settings.yaml" };
        let message = format!("security.outbound_allow: {error}");
        let hint = Some("write a network or a host name".to_owned());
        vec![source.fault((0, 0), "bad_value", message, hint)]
    })
}

fn context<'a>(sources: &'a Sources, settings: &'a Settings, guard: &'a Guard) -> LoadContext<'a> {
    LoadContext {
        env: settings.env,
        guard,
        tiers: &settings.tiers,
        secret: &secret,
        check_params: &sources.check_params,
    }
}

/// What policies are loaded over.
struct Base<'a> {
    sources: &'a Sources,
    settings: &'a Settings,
    /// Its units are used again.
    previous: Option<&'a Policies>,
}

impl<'a> Base<'a> {
    fn over(units: &'a Policies, sources: &'a Sources, settings: &'a Settings) -> Self {
        Base { sources, settings, previous: Some(units) }
    }
}

fn scopes(catalog: &Catalog) -> Vec<TenantScope> {
    let tenants = catalog.tenants.values();
    tenants
        .map(|tenant| TenantScope { id: tenant.id.clone(), bundles: tenant.policies.clone() })
        .collect()
}

fn load_policies(
    files: &Files,
    tenants: &[TenantScope],
    base: &Base<'_>,
    fresh: Option<OverlayName>,
) -> Result<policy::Loaded, Vec<Fault>> {
    let Base { sources, settings, previous } = *base;
    let (limits, apart) = (policy_limits(settings), Apart { overlays: files.apart(), fresh });
    let loaded = Policies::load_beside(&files.sources(), tenants, &limits, previous, apart);
    let gaps = layers::gaps(&files.policies);
    let mut loaded = match loaded {
        Ok(loaded) if gaps.is_empty() => loaded,
        Ok(_) => return Err(gaps),
        Err(faults) => return Err(layers::beside(gaps, faults)),
    };
    loaded.warnings.extend(overlays::warnings(&loaded.broken));
    loaded.warnings = sources.place(files, loaded.warnings);
    loaded.warnings.extend(files.shadowed());
    Ok(loaded)
}

/// What policies may cost.
pub fn policy_limits(settings: &Settings) -> Limits {
    Limits {
        eval_timeout: settings.policy.eval_timeout.0,
        threads: settings.policy.threads,
        memo_entries: settings.policy.memo_entries,
        prepared_max: settings.policy.prepared_max,
        ..Limits::default()
    }
}

fn secret(reference: &SecretRef) -> Option<SecretString> {
    match reference {
        SecretRef::Env(name) => settings::read_secret_variable(name),
        SecretRef::File(path) => {
            let text = std::fs::read_to_string(path).ok()?;
            Some(text.trim_end_matches(['\n', '\r']).into())
        }
    }
}

fn kind_name(kind: FaultKind) -> &'static str {
    match kind {
        FaultKind::Settings => "settings",
        FaultKind::Detector => "detector",
        FaultKind::Tenant => "tenant",
        FaultKind::Strategy => "strategy",
        FaultKind::Policy => "policy",
    }
}

fn now() -> String {
    time(jiff::Timestamp::now())
}

fn time(at: jiff::Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

#[cfg(test)]
mod tests;
