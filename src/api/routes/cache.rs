//! Caches: how they fare, and emptying them.

use actix_web::web::{self, Data, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::admin::{self, Deed};
use super::{Answer, at, json, resource};
use crate::api::Api;
use crate::api::caller::{NoQuery, query};

pub(super) fn configure(config: &mut ServiceConfig) {
    config.service(resource(&at("/cache/stats")).route(web::get().to(stats)));
    config.service(resource(&at("/cache")).route(web::delete().to(clear)));
}

/// Every cache; none for a tenant's credential, since all tenants share them.
#[derive(Debug, Serialize, ToSchema)]
pub struct Caches {
    /// Empty also where `cache.responses` is off.
    pub caches: Vec<CacheView>,
}

/// How a cache of this instance fares; counts are since start. Where instances share a Redis, entries,
/// capacity and evictions are those of the memory that stands in for it.
#[derive(Debug, Serialize, ToSchema)]
pub struct CacheView {
    /// `responses`.
    pub name: &'static str,
    /// Values kept now.
    pub entries: u64,
    /// Bytes they may take.
    pub capacity: u64,
    /// Requests answered from it.
    pub hits: u64,
    /// Requests that found nothing.
    pub misses: u64,
    /// Hits among both, 0 to 1; 0 before the first.
    pub hit_ratio: f64,
    /// Values that went because of time or room.
    pub evictions: u64,
    /// Values put in.
    pub loads: u64,
    /// Detector calls that were waited for instead of made once more.
    pub coalesced_waiters: u64,
    /// Times it was emptied.
    pub invalidations: u64,
    /// Milliseconds that a value is kept.
    pub ttl_ms: u64,
}

async fn views(api: &Api) -> Vec<CacheView> {
    let Some(cache) = &api.deps.responses else { return Vec::new() };
    let stats = cache.stats().await;
    let looks = (stats.hits + stats.misses).max(1);
    vec![CacheView {
        name: "responses",
        entries: stats.entries,
        capacity: stats.capacity,
        hits: stats.hits,
        misses: stats.misses,
        hit_ratio: stats.hits as f64 / looks as f64,
        evictions: stats.evictions,
        loads: stats.loads,
        coalesced_waiters: api.deps.detectors.coalescing().1,
        invalidations: stats.invalidations,
        ttl_ms: stats.ttl_ms,
    }]
}

/// How every cache fares.
#[utoipa::path(get, path = "/api/v1/cache/stats", tag = "cache", operation_id = "cache_stats",
    responses((status = 200, body = Caches)))]
pub(crate) async fn stats(http: HttpRequest, api: Data<Api>) -> Answer {
    query::<NoQuery>(&http)?;
    let caches = match api.caller(&http)?.tenant {
        Some(_) => Vec::new(),
        None => views(&api).await,
    };
    json(&Caches { caches })
}

/// Why caches are emptied.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ClearWhy {
    /// For the audit, 1 to 500 characters.
    pub reason: String,
}

/// Forgets what is kept for equal requests, of all tenants.
#[utoipa::path(delete, path = "/api/v1/cache", tag = "cache", operation_id = "cache_clear",
    params(ClearWhy), responses((status = 204, description = "Forgotten"), (status = "4XX",
        body = crate::api::problem::Problem, content_type = "application/problem+json")))]
pub(crate) async fn clear(http: HttpRequest, api: Data<Api>) -> Answer {
    let why: ClearWhy = query(&http)?;
    let caller = api.caller(&http)?;
    let reason = admin::sound(why.reason)?;
    let entries = |views: &[CacheView]| views.iter().map(|view| view.entries).sum::<u64>();
    let before = entries(&views(&api).await);
    let deed = Deed {
        action: "cache.clear".to_owned(),
        target: "cache/responses".to_owned(),
        reason,
        before: serde_json::json!({ "entries": before }),
        after: serde_json::json!({ "entries": 0 }),
    };
    admin::keep(&api, &caller, deed, "it could not be recorded, so nothing was forgotten").await?;
    if let Some(cache) = &api.deps.responses {
        cache.clear().await;
    }
    Ok(HttpResponse::NoContent().finish())
}
