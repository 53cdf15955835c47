//! What is told of an orchestration: incidents always, requests where a setting asks. Nobody waits
//! for it.

use serde_json::json;

use super::{Deps, Ran};
use crate::bus::Severity;
use crate::domain::error::Error;
use crate::domain::event::EventType;
use crate::domain::outcome::Outcome;
use crate::domain::request::Request;
use crate::settings::RequestEvents;

/// Parts of an answer that something else stood in for, so that it is worth less than it looks.
const FALLBACKS: [&str; 3] = ["policy", "overlay_broken", "evidence"];

/// Tells what became of `request`.
pub(super) fn tell(deps: &Deps, request: &Request, ran: &Result<Ran, Error>) {
    let wanted = deps.settings.events.requests;
    match ran {
        Ok(Ran::Postponed(_)) => {}
        Ok(Ran::Outcome(outcome)) => {
            incidents(deps, request, outcome);
            if wanted == RequestEvents::All {
                routed(deps, request, outcome);
            }
        }
        Err(error) if wanted != RequestEvents::None => {
            let data = json!({ "request_id": request.id.as_str(), "code": error.code.info().name });
            let of = (Some(request.tenant.clone()), "orchestrator");
            deps.announcer.tell(EventType::RequestFailed, of.0, of.1, data);
        }
        Err(_) => {}
    }
}

fn incidents(deps: &Deps, request: &Request, outcome: &Outcome) {
    let tell = |severity, reason| {
        deps.announcer.incident(&request.tenant, (severity, reason), request.id.as_str());
    };
    let mut told = None;
    for degraded in &outcome.degraded {
        // They are sorted.
        if FALLBACKS.contains(&degraded.what) && told != Some(degraded.what) {
            told = Some(degraded.what);
            tell(Severity::High, degraded.what);
        }
    }
    if let Some(code) = outcome.coverage.code {
        tell(Severity::Medium, code.name());
    }
}

fn routed(deps: &Deps, request: &Request, outcome: &Outcome) {
    let data = json!({
        "request_id": request.id.as_str(),
        "policy": outcome.policy.as_str(),
        "action": outcome.verdict.action.name(),
        "complete": outcome.coverage.complete,
        "detectors": outcome.reports.len(),
        "duration_ms": outcome.duration.as_secs_f64() * 1e3,
    });
    let of = (Some(request.tenant.clone()), "orchestrator");
    deps.announcer.tell(EventType::RequestRouted, of.0, of.1, data);
}
