//! Requests held against rates, quotas and places, and what their answers say of it.

use std::time::Duration;

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use actix_web::{HttpMessage as _, HttpRequest};
use tokio::time::Instant;

use super::Api;
use super::routes::PREFIX;
use crate::admission::{Entrant, Level, Moment, Place, Refused, Slot, Spending};
use crate::auth::Caller;
use crate::domain::error::Error;
use crate::domain::id::TenantId;
use crate::domain::request::Request;
use crate::operations::Operation;
use crate::orchestrator;
use crate::settings::Rate;
use crate::snapshot::Snapshot;

/// What the answer will say; kept with the request.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Told {
    /// The rate that is nearest to its end.
    level: Option<Level>,
    /// Whether any of it was beyond the quota.
    burst: bool,
}

fn tell(http: &HttpRequest, change: impl FnOnce(&mut Told)) {
    let mut extensions = http.extensions_mut();
    let mut told = extensions.get::<Told>().copied().unwrap_or_default();
    change(&mut told);
    extensions.insert(told);
}

/// The error of a refusal, with when to come back.
pub(super) fn refusal(refused: Refused) -> Error {
    refused.error.retry_after(refused.wait)
}

/// Counts one request against the rates of its tenant, key and route.
pub(super) fn enter(api: &Api, http: &HttpRequest, who: Entrant<'_>) -> Result<(), Error> {
    let running = api.deps.operations.begin(Operation::CheckRateLimit)?;
    let (level, entered) = api.admission.enter(who, Moment::now());
    running.done();
    if level.is_some() {
        tell(http, |told| told.level = level);
    }
    entered.map_err(refusal)
}

/// A place among the requests of `tenant` that are being judged; `None` for nobody's.
pub(super) fn place(
    api: &Api,
    snapshot: &Snapshot,
    tenant: &TenantId,
) -> Result<Option<Place>, Error> {
    let Some(tenant) = snapshot.catalog.tenants.get(tenant) else { return Ok(None) };
    let place = api.admission.place(&tenant.id, &snapshot.limits(tenant), Moment::now());
    place.map(Some).map_err(refusal)
}

/// Whether a request of `caller` may find a place to wait, as far as it is known without its body.
pub(super) fn hope(api: &Api, caller: &Caller) -> Result<(), Error> {
    let Some(most) = caller.max_priority else { return Ok(()) };
    api.admission.hope(most).map_err(refusal)
}

/// A slot among the requests that the service judges at once. One that had to wait has so much less
/// time for its detectors; it gives up when half of its time is gone.
pub(super) async fn slot<'a>(
    api: &'a Api,
    snapshot: &Snapshot,
    request: &mut Request,
) -> Result<Option<Slot<'a>>, Error> {
    let Some(tenant) = snapshot.catalog.tenants.get(&request.tenant) else { return Ok(None) };
    let began = Instant::now();
    let budget = orchestrator::budget(&api.deps, tenant, request);
    let slot = api.admission.slot(request, tenant.tier.weight, began + budget / 2).await;
    let slot = slot.map_err(refusal)?;
    let waited = began.elapsed();
    if waited >= Duration::from_millis(1) {
        let left = budget.saturating_sub(waited).as_millis();
        request.timeout_ms = u64::try_from(left).ok();
    }
    Ok(Some(slot))
}

/// Whether the guard has held a request against its rates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// What the guard let in, or the first of a batch.
    First,
    /// Another of a batch.
    Further,
}

/// Counts one thing to be judged against what it was not held against yet.
pub(super) fn count(
    api: &Api,
    http: &HttpRequest,
    (caller, snapshot): (&Caller, &Snapshot),
    (tenant, part): (&TenantId, Part),
) -> Result<(), Error> {
    rate(api, http, (caller, snapshot), (tenant, part))?;
    quota((api, http), snapshot, tenant)
}

/// Counts one thing against the rates of `tenant` where the guard did not: where it knew no tenant,
/// and for all of a batch but the first.
pub(super) fn rate(
    api: &Api,
    http: &HttpRequest,
    (caller, snapshot): (&Caller, &Snapshot),
    (tenant, part): (&TenantId, Part),
) -> Result<(), Error> {
    let Some(tenant) = snapshot.catalog.tenants.get(tenant) else { return Ok(()) };
    let further = part == Part::Further;
    if !further && caller.tenant.is_some() {
        return Ok(());
    }
    let pattern = http.match_pattern().unwrap_or_default();
    let path = pattern.strip_prefix(PREFIX).unwrap_or(&pattern);
    let key = caller.key_prefix.as_deref().filter(|_| further);
    let tenant = Some((&tenant.id, tenant.rate_limit));
    enter(api, http, Entrant { tenant, key, route: (http.method().as_str(), path) })
}

/// Counts one thing to be judged against the quota of `tenant`.
pub(super) fn quota(
    (api, http): (&Api, &HttpRequest),
    snapshot: &Snapshot,
    tenant: &TenantId,
) -> Result<(), Error> {
    let Some(tenant) = snapshot.catalog.tenants.get(tenant) else { return Ok(()) };
    let counted = api.admission.count(&tenant.id, &snapshot.limits(tenant), Moment::now());
    if counted.map_err(refusal)?.burst {
        tell(http, |told| told.burst = true);
    }
    Ok(())
}

/// Requests of a job that are counted; taken back where no job comes of them.
pub(super) struct Spent {
    tenant: TenantId,
    rate: Option<Rate>,
    key: Option<String>,
    route: (String, String),
    spending: (Spending, Moment),
}

impl Spent {
    fn entrant(&self) -> Entrant<'_> {
        let (method, path) = &self.route;
        let key = self.key.as_deref();
        Entrant { tenant: Some((&self.tenant, self.rate)), key, route: (method, path) }
    }

    /// Nothing is judged for them.
    pub(super) fn take_back(&self, api: &Api) {
        api.admission.unspend(self.entrant(), self.spending);
    }
}

/// Counts the `requests` of a job of `tenant` against its quota and against the rates as far as the
/// guard did not: all or none. `None` for nobody's.
pub(super) fn spend(
    (api, http): (&Api, &HttpRequest),
    (caller, snapshot): (&Caller, &Snapshot),
    (tenant, requests): (&TenantId, u32),
) -> Result<Option<Spent>, Error> {
    let Some(tenant) = snapshot.catalog.tenants.get(tenant) else { return Ok(None) };
    let further = requests.saturating_sub(1);
    let of_tenant = if caller.tenant.is_some() { further } else { requests };
    let pattern = http.match_pattern().unwrap_or_default();
    let path = pattern.strip_prefix(PREFIX).unwrap_or(&pattern);
    let spent = Spent {
        tenant: tenant.id.clone(),
        rate: tenant.rate_limit,
        key: caller.key_prefix.clone(),
        route: (http.method().as_str().to_owned(), path.to_owned()),
        spending: (Spending { requests, tenant: of_tenant, key: further }, Moment::now()),
    };
    let limits = snapshot.limits(tenant);
    let running = api.deps.operations.begin(Operation::CheckRateLimit)?;
    let (level, counted) = api.admission.spend(spent.entrant(), &limits, spent.spending);
    running.done();
    if level.is_some() {
        tell(http, |told| told.level = level);
    }
    if counted.map_err(refusal)?.burst {
        tell(http, |told| told.burst = true);
    }
    Ok(Some(spent))
}

/// What the answer to a request is to say; `None` where no limit applied.
pub(super) fn told(http: &HttpRequest) -> Option<Told> {
    http.extensions().get::<Told>().copied()
}

/// Writes it into the headers of the answer.
pub(super) fn show(told: Told, headers: &mut HeaderMap) {
    let mut number = |name: &'static str, value: u64| {
        headers.insert(HeaderName::from_static(name), HeaderValue::from(value));
    };
    if let Some(Level { rate, left, full_in, .. }) = told.level {
        let burst = rate.burst().into();
        let reset = full_in.as_secs_f64().ceil() as u64;
        for (limit, remaining, until) in [
            ("ratelimit-limit", "ratelimit-remaining", "ratelimit-reset"),
            ("x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"),
        ] {
            number(limit, burst);
            number(remaining, left.into());
            number(until, reset);
        }
        let policy = format!("{};w=60;burst={burst}", rate.per_minute);
        if let Ok(policy) = HeaderValue::try_from(policy) {
            headers.insert(HeaderName::from_static("ratelimit-policy"), policy);
        }
    }
    if told.burst {
        headers.insert(HeaderName::from_static("x-quota-burst"), HeaderValue::from_static("true"));
    }
}
