//! What is live: generations and strategies.

use actix_web::web::{Data, ServiceConfig};
use actix_web::{HttpRequest, web};
use serde::Serialize;
use utoipa::ToSchema;

use super::{Answer, at, json, resource};
use crate::api::Api;
use crate::api::caller::{NoQuery, query};

pub(super) fn configure(config: &mut ServiceConfig) {
    config.service(resource(&at("/generations")).route(web::get().to(generations)));
    config.service(resource(&at("/orchestrator/config")).route(web::get().to(strategies)));
}

/// What serves, and what of the last change was refused.
#[utoipa::path(get, path = "/api/v1/generations", tag = "live",
    responses((status = 200, description = "Revision, generation, faults of the last change",
        body = Object)))]
pub(crate) async fn generations(http: HttpRequest, api: Data<Api>) -> Answer {
    query::<NoQuery>(&http)?;
    api.caller(&http)?;
    json(&api.live.generations())
}

/// Strategies by event.
#[derive(Debug, Serialize, ToSchema)]
pub struct Strategies {
    /// Always true.
    pub success: bool,
    /// One per event.
    pub strategies: Vec<EventStrategy>,
    /// How many.
    #[serde(rename = "totalEvents")]
    pub total_events: usize,
}

/// What to do on an event.
#[derive(Debug, Serialize, ToSchema)]
pub struct EventStrategy {
    /// The event.
    pub event: String,
    /// Detectors that become optional.
    pub detectors: Vec<String>,
    /// Order.
    #[schema(value_type = String)]
    pub execution: crate::domain::plan::Execution,
    /// For people.
    pub description: String,
    /// Early end.
    #[schema(value_type = String)]
    pub stop_on: crate::domain::plan::StopOn,
    /// Other names of the event.
    pub aliases: Vec<String>,
}

/// The strategies in force.
#[utoipa::path(get, path = "/api/v1/orchestrator/config", tag = "live",
    responses((status = 200, body = Strategies)))]
pub(crate) async fn strategies(http: HttpRequest, api: Data<Api>) -> Answer {
    query::<NoQuery>(&http)?;
    api.caller(&http)?;
    let snapshot = api.live.current();
    let strategies: Vec<EventStrategy> = snapshot
        .catalog
        .strategies
        .iter()
        .map(|(event, strategy)| EventStrategy {
            event: event.clone(),
            detectors: strategy.detectors.iter().map(ToString::to_string).collect(),
            execution: strategy.execution,
            description: strategy.description.clone(),
            stop_on: strategy.stop_on,
            aliases: strategy.aliases.clone(),
        })
        .collect();
    json(&Strategies { success: true, total_events: strategies.len(), strategies })
}
