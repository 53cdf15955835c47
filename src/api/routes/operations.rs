//! What the service does, counted by operation.

use actix_web::HttpRequest;
use actix_web::web::{self, Data, ServiceConfig};
use serde::Serialize;
use utoipa::ToSchema;

use super::{Answer, at, json, resource};
use crate::api::Api;
use crate::api::caller::{NoQuery, query};
use crate::operations::{self, OperationView};

pub(super) fn configure(config: &mut ServiceConfig) {
    config.service(resource(&at("/operations")).route(web::get().to(list)));
}

/// Every operation of this instance.
#[derive(Debug, Serialize, ToSchema)]
pub struct Operations {
    /// In a fixed order.
    pub operations: Vec<Operation>,
}

/// One operation since the start.
#[derive(Debug, Serialize, ToSchema)]
pub struct Operation {
    /// Its name.
    pub name: &'static str,
    /// closed, open or half_open: what the next call meets.
    pub breaker_state: &'static str,
    /// Calls that ended; those that an open breaker refused are not among them.
    pub calls: u64,
    /// Of these, the ones that failed.
    pub errors: u64,
    /// Mean duration of a call in milliseconds.
    pub avg_ms: f64,
}

impl Operation {
    fn of(view: &OperationView) -> Self {
        let operations::OperationView { operation, state, calls, errors, avg_ms } = view;
        let (name, breaker_state) = (operation.name(), state.name());
        Self { name, breaker_state, calls: *calls, errors: *errors, avg_ms: *avg_ms }
    }
}

/// Operations with their breakers.
#[utoipa::path(get, path = "/api/v1/operations", tag = "live", operation_id = "operations_list",
    extensions(("x-stability" = json!("experimental"))),
    responses((status = 200, body = Operations)))]
pub(crate) async fn list(http: HttpRequest, api: Data<Api>) -> Answer {
    query::<NoQuery>(&http)?;
    api.caller(&http)?;
    let operations = api.deps.operations.views().iter().map(Operation::of).collect();
    json(&Operations { operations })
}
