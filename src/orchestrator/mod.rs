//! The order of one orchestration. Only `run` knows it; leaves never call each other.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;
use tracing::field::Empty;

use crate::auth::Caller;
use crate::bus::{Announcer, Bus};
use crate::cache::{Cache, Redis};
use crate::catalog::Tenant;
use crate::detect::Detectors;
use crate::domain::action::Action;
use crate::domain::content::Piece;
use crate::domain::coverage::{self, Coverage};
use crate::domain::error::{Code, Error};
use crate::domain::head::Head;
use crate::domain::judgement;
use crate::domain::outcome::Outcome;
use crate::domain::request::Request;
use crate::domain::verdict::{self, Joined};
use crate::evidence::custody::Custodian;
use crate::evidence::{Log, Trail};
use crate::metrics::Metrics;
use crate::operations::{Operation, Operations};
use crate::policy::{Evaluator, Failure, Point, View};
use crate::seal::Key;
use crate::settings::Settings;
use crate::snapshot::{Seen, Snapshot};
use crate::store::Store;
use crate::telemetry::traces::SPANS;

mod adopt;
mod assemble;
pub mod cases;
mod data;
mod deps;
mod facts;
mod forgotten;
mod hold;
mod judge;
mod opened;
mod plan;
mod record;
mod replay;
mod reuse;
mod shadow;
mod sources;
mod split;
mod stages;
mod steps;
mod told;
mod verified;

pub use data::{Sight, look_at_data};
pub use deps::{DepsError, look};
pub use facts::{budget, plain_head, view_of};
pub use hold::{Held, hold};
pub use opened::{SPOOL_FILE, STORE_FILE, kept, migrate, open_store, own_keys};
pub use replay::{Difference, Replay, Replayed};
pub use steps::{Ran, Step, Steps};
pub use verified::{KeptSources, verified};

/// What an orchestration works with; all of it outlives the request.
pub struct Deps {
    /// Detectors' runtime state.
    pub detectors: Arc<Detectors>,
    /// Policy evaluation.
    pub evaluator: Evaluator,
    /// What must survive.
    pub store: Arc<dyn Store>,
    /// Puts decisions on record; `None` where they are only tried.
    pub log: Option<Log>,
    /// Keeps the custody of evidence.
    pub custodian: Custodian,
    /// What detectors said about equal requests; `None` asks them always.
    pub responses: Option<Arc<dyn Cache>>,
    /// What instances share and may forget; `None` shares nothing.
    pub redis: Option<Arc<Redis>>,
    /// What carries events, and rings between instances.
    pub bus: Arc<dyn Bus>,
    /// Takes what is to be told.
    pub announcer: Arc<Announcer>,
    /// For placeholders that are hashes, and keys of caches.
    pub redaction_key: Key,
    /// Decides which version judges a content.
    pub pepper: Key,
    /// Calls to shadow detectors, which outlive their requests; what is only tried asks none.
    pub observing: Option<TaskTracker>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// What the service does, counted, and what of it rests.
    pub operations: Arc<Operations>,
    /// Static settings.
    pub settings: Arc<Settings>,
    /// The generation whose detectors are kept; held while they change.
    served: Mutex<u64>,
}

/// One orchestration under way: what every step reads.
struct Run<'a> {
    deps: &'a Deps,
    snapshot: &'a Snapshot,
    request: &'a Request,
    /// Who asks, as audits name it.
    caller: &'a str,
    tenant: &'a Tenant,
    seen: &'a Seen,
    view: &'a Arc<View>,
    head: Head,
    pieces: Arc<[Piece]>,
    started: Instant,
    deadline: Instant,
}

/// Asks, measures, settles, decides, records.
///
/// `Err` means that no outcome can be given: unknown tenant or policy, a refusal by policy, or a
/// record that could not be kept. Slow or failing detectors are part of the outcome.
pub async fn run(
    deps: &Deps,
    snapshot: &Snapshot,
    caller: &Caller,
    request: &Request,
) -> Result<Outcome, Error> {
    match run_in_steps(deps, snapshot, (caller, request), Steps::default()).await? {
        Ran::Outcome(outcome) => Ok(*outcome),
        Ran::Postponed(_) => Err(Error::new(Code::InternalError, "it was to wait for nothing")),
    }
}

/// The same, telling how far it is, and ending before any detector is asked where it will take longer
/// than the caller's patience.
pub async fn run_in_steps(
    deps: &Deps,
    snapshot: &Snapshot,
    (caller, request): (&Caller, &Request),
    steps: Steps<'_>,
) -> Result<Ran, Error> {
    let ran = in_steps(deps, snapshot, (caller, request), steps).await;
    told::tell(deps, request, &ran);
    ran
}

/// Whether `request` would be refused as it stands: by its policy, or for what it names or loosens. No
/// detector is asked.
pub async fn check(
    deps: &Deps,
    snapshot: &Snapshot,
    caller: &Caller,
    request: &Request,
) -> Result<(), Error> {
    let run = Run::begin(deps, snapshot, caller, request)?;
    plan::make(&run, caller).await.map(drop)
}

async fn in_steps(
    deps: &Deps,
    snapshot: &Snapshot,
    (caller, request): (&Caller, &Request),
    steps: Steps<'_>,
) -> Result<Ran, Error> {
    let run = Run::begin(deps, snapshot, caller, request)?;
    record::ready(&run)?;
    let planning = tracing::trace_span!(target: SPANS, "plan");
    let planned = plan::make(&run, caller).instrument(planning).await?;
    if let Some(projected) = steps.postpones(&run, &planned.plan) {
        return Ok(Ran::Postponed(projected));
    }
    steps.tell(Step::Planned);
    let asked = reuse::ask(&run, &planned).await;
    steps.tell(Step::Asked);
    let abilities = &run.seen.abilities;
    let coverage = coverage::measure(&planned.plan, &asked.reports, &run.pieces, abilities);
    asked.keep(&run, &coverage).await;
    let (mut outcome, trail) = concluded(&run, planned, (asked, coverage), steps).await?;
    record::keep(&run, &mut outcome, &trail).await?;
    Ok(Ran::Outcome(Box::new(outcome)))
}

/// Settles and decides what was reported.
async fn concluded(
    run: &Run<'_>,
    planned: plan::Planned,
    (asked, coverage): (reuse::Asked, Coverage),
    steps: Steps<'_>,
) -> Result<(Outcome, Trail), Error> {
    let reuse::Asked { mut reports, cache, shadows, .. } = asked;
    let assessing = run.deps.operations.begin(Operation::AssessRisk)?;
    let raw = judgement::raw(&reports, &run.pieces);
    judgement::calibrate(&mut reports, &run.seen.votes);
    let settled = judge::settle(run, &planned.plan, &reports).await;
    let judge::Settled { judgement, mut degraded, conflict } = settled;
    assessing.done();
    let on_incomplete = run.on_incomplete(planned.floor_on_incomplete);
    let hurried = facts::hurried(run, &planned.plan, &reports);
    let joined = Joined {
        on_incomplete,
        floor_on_incomplete: planned.floor_on_incomplete,
        plan_failure: planned.least_action.max(hurried.as_ref().map(|_| on_incomplete)),
        mode: planned.mode.unwrap_or(run.tenant.mode),
    };
    let decided = judge::decide(run, &judgement, &raw, (&reports, &coverage)).await;
    steps.tell(Step::Decided);
    let trail = Trail {
        plan_failed: planned.failure,
        conflict,
        verdict_failed: decided.failure,
        raw,
        joined,
        hurried: hurried.is_some(),
    };
    degraded.extend(planned.degraded);
    degraded.extend(hurried);
    degraded.extend(decided.degraded);
    degraded.extend(reuse::alone(run));
    let mut verdict = verdict::join(&decided.rules, &judgement, &trail.raw, &coverage, joined);
    if let Some(action) = decided.failed {
        judge::fail_closed(&mut verdict, action);
    }
    let conflict = trail.conflict.as_ref();
    let explain =
        judge::explain(run, (&judgement, &trail.raw), (&reports, &coverage), conflict).await;
    degraded.extend(explain.1);
    let outcome = assemble::outcome(
        run,
        assemble::Parts {
            plan: planned.plan,
            reports,
            coverage,
            judgement,
            raw: &trail.raw,
            verdict,
            failed: decided.failed.is_some(),
            explain: explain.0,
            degraded,
            cache,
            shadows,
        },
    );
    Ok((outcome, trail))
}

impl<'a> Run<'a> {
    fn begin(
        deps: &'a Deps,
        snapshot: &'a Snapshot,
        caller: &'a Caller,
        request: &'a Request,
    ) -> Result<Run<'a>, Error> {
        let started = Instant::now();
        let unknown = || {
            let message = "the tenant is unknown or not the credential's";
            Error::field(Code::TenantMismatch, "/tenant_id", "tenant_mismatch", message)
        };
        let tenant = snapshot.catalog.tenants.get(&request.tenant).ok_or_else(unknown)?;
        if snapshot.paused(tenant) {
            // Only its own credential is told that it exists.
            return Err(match &caller.tenant {
                Some(_) => Error::new(Code::TenantPaused, "the tenant is paused"),
                None => unknown(),
            });
        }
        let seen = snapshot
            .seen
            .get(&tenant.id)
            .ok_or_else(|| Error::new(Code::InternalError, "the tenant is not prepared"))?;
        check_length(deps, tenant, request)?;
        let view = facts::view_of(snapshot, tenant, request.policy.as_ref())?;
        let pieces: Arc<[Piece]> = request.body.pieces(request.judge, request.content_type).into();
        let health = || facts::health(&deps.detectors, seen.detectors.values());
        let opt_in = facts::opt_in(view, (caller, request, &pieces), health);
        let head = facts::head(deps, tenant, view, (request, opt_in));
        let deadline = started + facts::budget(deps, tenant, request);
        let caller = caller.actor.as_str();
        Ok(Run {
            deps,
            snapshot,
            request,
            caller,
            tenant,
            seen,
            view,
            head,
            pieces,
            started,
            deadline,
        })
    }

    /// The tenant's action for incomplete coverage, at least the floor's.
    fn on_incomplete(&self, floor: Option<Action>) -> Action {
        self.tenant.on_incomplete.max(floor.unwrap_or(Action::Allow))
    }

    /// What a policy answers, counted. One that fails is its tenant's matter and rests nothing.
    async fn policy<T>(
        &self,
        point: Point,
        answer: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let span = tracing::trace_span!(target: SPANS, "policy",
            otel.name = format!("policy {}", point.name()), otel.status_code = Empty,
            policy.point = point.name(), policy.bundle = self.view.bundle().as_str());
        let running = self.deps.operations.begin(Operation::PolicyEvaluate);
        let answer = answer.instrument(span.clone()).await;
        if answer.is_err() {
            span.record("otel.status_code", "ERROR");
        }
        match (running, &answer) {
            (Ok(running), Ok(_)) => running.done(),
            (Ok(running), Err(_)) => running.failed_for_one(),
            (Err(_), _) => {}
        }
        answer
    }

    fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}

fn check_length(deps: &Deps, tenant: &Tenant, request: &Request) -> Result<(), Error> {
    let Some(most) = tenant.content_max_chars else { return Ok(()) };
    let most = most.min(deps.settings.orchestration.content_max_chars);
    let pieces = request.body.pieces(request.judge, request.content_type);
    let chars: usize = pieces.iter().map(|piece| piece.chars).sum();
    if chars <= most {
        return Ok(());
    }
    let pointer = format!("/{}", request.body.field());
    let detail = format!("holds {chars} characters; the tenant may send {most}, split it");
    Err(Error::field(Code::InvalidRequest, &pointer, "too_long", detail))
}
