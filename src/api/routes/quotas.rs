//! What tenants may have judged, what they have used of it, and how evenly they are served.

use actix_web::web::{self, Data, Path, Payload, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::policies::overlay::time;
use super::tenants::RateView;
use super::tenants::row::{Target, Wanted, unknown};
use super::{Answer, at, json, resource};
use crate::admission::fairness::{Severity, starves};
use crate::admission::{Moment, Share};
use crate::api::caller::{NoQuery, query};
use crate::api::{Api, body};
use crate::domain::error::{Code, Error};
use crate::snapshot::{Quota, RowKind, RowPlace, Snapshot};
use crate::store::Expected;

pub(super) fn configure(config: &mut ServiceConfig) {
    config.service(
        resource(&at("/quotas/{tenant}")).route(web::get().to(one)).route(web::put().to(put)),
    );
    config.service(resource(&at("/fairness")).route(web::get().to(fairness)));
}

/// A tenant's limits and what it has used.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Quota)]
pub struct QuotaView {
    /// Whose.
    pub tenant: String,
    /// Its tier.
    pub tier: String,
    /// False in development on this machine, where requests are counted and never refused.
    pub enforced: bool,
    /// Requests judged in each hour of the clock; null is unlimited.
    pub requests_per_hour: Option<u32>,
    /// Requests judged in this hour.
    pub used: u32,
    /// When the hour ends, RFC 3339 UTC.
    pub resets_at: String,
    /// Requests being judged at once; null is unlimited.
    pub concurrent: Option<u32>,
    /// Requests being judged now.
    pub running: u32,
    /// Jobs taken in each day, UTC; null is unlimited.
    pub jobs_per_day: Option<u32>,
    /// How often it may ask.
    pub rate_limit: RateView,
    /// What an administrator set instead of the tier's limits; null is the tier's.
    #[schema(value_type = Option<QuotaLimits>)]
    pub own: Option<Quota>,
}

/// Limits of a tenant's own; null is the tier's.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes snapshot::Quota, which knows no HTTP")]
pub struct QuotaLimits {
    /// Requests judged in each hour of the clock.
    pub requests_per_hour: Option<u32>,
    /// Jobs started each day.
    pub jobs_per_day: Option<u32>,
    /// Requests being judged at once.
    pub concurrent: Option<u32>,
}

/// One tenant's quota.
#[utoipa::path(get, path = "/api/v1/quotas/{tenant}", tag = "tenants", operation_id = "quotas_one",
    params(("tenant" = String, Path, description = "A tenant's id")),
    responses((status = 200, body = QuotaView), (status = "4XX",
        body = crate::api::problem::Problem, content_type = "application/problem+json")))]
pub(crate) async fn one(http: HttpRequest, id: Path<String>, api: Data<Api>) -> Answer {
    query::<NoQuery>(&http)?;
    let target = Target::known(&http, &api, &id)?;
    shown(&api, &target.snapshot, &target, HttpResponse::Ok())
}

fn shown(
    api: &Api,
    snapshot: &Snapshot,
    target: &Target,
    mut answer: HttpResponseBuilder,
) -> Answer {
    let tenant = snapshot.catalog.tenants.get(&target.id).ok_or_else(unknown)?;
    let (limits, now) = (snapshot.limits(tenant), Moment::now());
    let spent = api.admission.spent(&tenant.id, now);
    let row = snapshot.row(&RowPlace::of_tenant(RowKind::Quota, &tenant.id));
    if let Some(row) = row {
        answer.insert_header(("etag", format!("\"{}\"", row.etag)));
    }
    let hour_ends_ms = i64::from(now.hour()).saturating_add(1) * 3_600_000;
    Ok(answer.json(QuotaView {
        tenant: tenant.id.to_string(),
        tier: tenant.facts.tier.to_string(),
        enforced: api.admission.enforces(),
        requests_per_hour: limits.requests_per_hour,
        used: spent.used,
        resets_at: time(hour_ends_ms),
        concurrent: limits.concurrent,
        running: spent.running,
        jobs_per_day: limits.jobs_per_day,
        rate_limit: RateView::of(api.admission.rate(tenant.rate_limit)),
        own: row.and_then(|row| serde_json::from_str(&row.body).ok()),
    }))
}

/// Limits instead of the tier's; those that are absent or null stay the tier's.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct QuotaRequest {
    /// Requests judged in each hour of the clock.
    #[schema(minimum = 1)]
    pub requests_per_hour: Option<u32>,
    /// Jobs taken in each day, UTC.
    #[schema(minimum = 1)]
    pub jobs_per_day: Option<u32>,
    /// Requests being judged at once.
    #[schema(minimum = 1)]
    pub concurrent: Option<u32>,
    /// For the audit, 1 to 500 characters.
    #[schema(min_length = 1, max_length = 500)]
    pub reason: String,
}

/// Sets a tenant's limits instead of its tier's; they hold from the next request on.
#[utoipa::path(put, path = "/api/v1/quotas/{tenant}", tag = "tenants", operation_id = "quotas_put",
    params(("tenant" = String, Path, description = "A tenant's id"),
        ("If-Match" = Option<String>, Header, description = "The ETag of what is changed")),
    request_body = QuotaRequest,
    responses((status = 200, body = QuotaView), (status = 201, description = "Created",
        body = QuotaView), (status = "4XX", body = crate::api::problem::Problem,
        content_type = "application/problem+json")))]
pub(crate) async fn put(
    http: HttpRequest,
    id: Path<String>,
    payload: Payload,
    api: Data<Api>,
) -> Answer {
    query::<NoQuery>(&http)?;
    let target = Target::known(&http, &api, &id)?;
    if !target.snapshot.catalog.tenants.contains_key(&target.id) {
        return Err(unknown().into());
    }
    let expected = target.expected(&http, RowKind::Quota)?;
    let request: QuotaRequest = body::json(&http, payload, api.body_limits()).await?;
    let QuotaRequest { requests_per_hour, jobs_per_day, concurrent, reason } = request;
    for (pointer, limit) in [
        ("/requests_per_hour", requests_per_hour),
        ("/jobs_per_day", jobs_per_day),
        ("/concurrent", concurrent),
    ] {
        if limit.is_some_and(|limit| !(1..=1_000_000_000).contains(&limit)) {
            let detail = "must be 1 to 1000000000; to stop a tenant, pause it";
            let code = Code::InvalidRequest;
            return Err(Error::field(code, pointer, "out_of_range", detail).into());
        }
    }
    let quota = Quota { requests_per_hour, jobs_per_day, concurrent };
    let body = Some(serde_json::to_string(&quota).unwrap_or_default());
    let wanted = Wanted { kind: RowKind::Quota, act: "quota.put", body, expected, reason };
    let snapshot = target.change(&http, &api, wanted).await?;
    let answer = match expected {
        Expected::Absent => HttpResponse::Created(),
        Expected::Any | Expected::Version(_) => HttpResponse::Ok(),
    };
    shown(&api, &snapshot, &target, answer)
}

/// How evenly tenants are served.
#[derive(Debug, Serialize, ToSchema)]
pub struct Fairness {
    /// Jain's index over what was judged this hour for its weight: 1 is even, 1/n is all for one.
    pub index: f64,
    /// none, medium (below 0.7) or high (below 0.5); none where nobody was refused.
    pub violation: &'static str,
    /// Tenants that asked this hour, by id; one's own, for a credential of one tenant.
    pub tenants: Vec<FairShare>,
}

/// What one tenant had this hour.
#[derive(Debug, Serialize, ToSchema)]
pub struct FairShare {
    /// Whose.
    pub tenant: String,
    /// Its weight.
    pub weight: f64,
    /// Requests judged.
    pub served: u32,
    /// Requests refused by rate, quota or for want of a place.
    pub refused: u32,
    /// Refusals since the last request that was judged.
    pub refused_in_a_row: u32,
    /// Whether those are ten or more.
    pub starving: bool,
}

/// Tenants of one answer, those refused most first where there are more.
const SHARES_MAX: usize = 200;

/// How evenly tenants are served. Experimental.
#[utoipa::path(get, path = "/api/v1/fairness", tag = "tenants", operation_id = "fairness",
    extensions(("x-stability" = json!("experimental"))),
    responses((status = 200, body = Fairness)))]
pub(crate) async fn fairness(http: HttpRequest, api: Data<Api>) -> Answer {
    query::<NoQuery>(&http)?;
    let caller = api.caller(&http)?;
    let (index, mut shares) = api.admission.fairness(&api.live.current(), Moment::now());
    let anybody_refused = shares.iter().any(|share| share.spent.refused > 0);
    shares.retain(|share| caller.tenant.as_ref().is_none_or(|own| *own == share.tenant));
    if shares.len() > SHARES_MAX {
        shares.sort_by_key(|share| std::cmp::Reverse(share.spent.refused));
        shares.truncate(SHARES_MAX);
        shares.sort_by(|a, b| a.tenant.cmp(&b.tenant));
    }
    let of = |Share { tenant, weight, spent }: Share| FairShare {
        tenant: tenant.to_string(),
        weight,
        served: spent.used,
        refused: spent.refused,
        refused_in_a_row: spent.refused_in_a_row,
        starving: starves(spent.refused_in_a_row),
    };
    let violation = Severity::of(index, anybody_refused).name();
    json(&Fairness { index, violation, tenants: shares.into_iter().map(of).collect() })
}
