//! Holds results that the caller brings against a policy: the same decision, nothing asked,
//! nothing recorded.

use super::{Deps, Run, judge, plan};
use crate::auth::Caller;
use crate::domain::coverage;
use crate::domain::error::Error;
use crate::domain::judgement;
use crate::domain::outcome::Degraded;
use crate::domain::report::Report;
use crate::domain::request::Request;
use crate::domain::verdict::{self, Joined};
use crate::snapshot::Snapshot;

/// What a policy says to results.
#[derive(Debug)]
pub struct Held {
    /// The verdict.
    pub verdict: verdict::Verdict,
    /// How far the results cover what the policy requires.
    pub coverage: coverage::Coverage,
    /// What was worked around.
    pub degraded: Vec<Degraded>,
}

/// Decides on `reports` as if `request` had brought them.
pub async fn hold(
    deps: &Deps,
    snapshot: &Snapshot,
    request: &Request,
    mut reports: Vec<Report>,
) -> Result<Held, Error> {
    let caller = Caller::development();
    let run = Run::begin(deps, snapshot, &caller, request)?;
    let planned = plan::make(&run, &caller).await?;
    let coverage = coverage::measure(&planned.plan, &reports, &run.pieces, &run.seen.abilities);
    let raw = judgement::raw(&reports, &run.pieces);
    judgement::calibrate(&mut reports, &run.seen.votes);
    let settled = judge::settle(&run, &planned.plan, &reports).await;
    let judge::Settled { judgement, mut degraded, .. } = settled;
    let decided = judge::decide(&run, &judgement, &raw, (&reports, &coverage)).await;
    let joined = Joined {
        on_incomplete: run.on_incomplete(planned.floor_on_incomplete),
        floor_on_incomplete: planned.floor_on_incomplete,
        plan_failure: planned.least_action,
        mode: planned.mode.unwrap_or(run.tenant.mode),
    };
    let mut verdict = verdict::join(&decided.rules, &judgement, &raw, &coverage, joined);
    if let Some(action) = decided.failed {
        judge::fail_closed(&mut verdict, action);
    }
    degraded.extend(planned.degraded);
    degraded.extend(decided.degraded);
    Ok(Held { verdict, coverage, degraded })
}
