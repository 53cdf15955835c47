//! Strategies by event: those of the file, and those that operators stored beside them.

use std::collections::BTreeSet;

use actix_web::web::{self, Data, Payload, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::tenants::row::{self, Wording};
use super::{Answer, at, resource};
use crate::api::caller::{NoQuery, query};
use crate::api::{Api, body};
use crate::catalog::{Catalog, Strategy};
use crate::domain::error::{Code, Error};
use crate::domain::plan::{Execution, StopOn};
use crate::snapshot::{RowChange, RowPlace, Snapshot};
use crate::store::AuditEntry;

/// Strategies that may be stored.
const STRATEGIES_MAX: usize = 200;
/// Characters of an event.
const EVENT_CHARS_MAX: usize = 128;

pub(super) fn configure(config: &mut ServiceConfig) {
    let (get, put) = (web::get().to(get), web::put().to(put));
    config.service(resource(&at("/orchestrator/config")).route(get).route(put));
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EventStrategy {
    /// The event.
    pub event: String,
    /// Detectors that become optional.
    #[serde(default)]
    pub detectors: Vec<String>,
    /// Order.
    #[serde(default)]
    #[schema(value_type = String)]
    pub execution: Execution,
    /// For people.
    #[serde(default)]
    pub description: String,
    /// Early end.
    #[serde(default)]
    #[schema(value_type = String)]
    pub stop_on: StopOn,
    /// Other names of the event.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// `file`, which the API does not change, or `stored`.
    #[serde(default = "stored")]
    pub source: String,
}

fn stored() -> String {
    "stored".to_owned()
}

impl EventStrategy {
    fn of(event: &str, strategy: &Strategy) -> Self {
        EventStrategy {
            event: event.to_owned(),
            detectors: strategy.detectors.iter().map(ToString::to_string).collect(),
            execution: strategy.execution,
            description: strategy.description.clone(),
            stop_on: strategy.stop_on,
            aliases: strategy.aliases.clone(),
            source: if strategy.stored { stored() } else { "file".to_owned() },
        }
    }

    fn names(&self) -> impl Iterator<Item = &String> {
        std::iter::once(&self.event).chain(&self.aliases)
    }
}

/// The stored strategies as they shall be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StrategiesRequest {
    /// All of them; those of the file may stand among them as they are.
    #[schema(max_items = 200)]
    pub strategies: Vec<EventStrategy>,
    /// For the audit, 1 to 500 characters.
    #[schema(min_length = 1, max_length = 500)]
    pub reason: String,
    /// As `GET` answers it; not read.
    #[serde(default, rename = "success")]
    #[schema(rename = "success")]
    pub _success: Option<bool>,
    /// As `GET` answers it; not read.
    #[serde(default, rename = "totalEvents")]
    #[schema(rename = "totalEvents")]
    pub _total_events: Option<usize>,
}

/// The strategies in force.
#[utoipa::path(get, path = "/api/v1/orchestrator/config", tag = "live",
    operation_id = "strategies", responses((status = 200, body = Strategies)))]
pub(crate) async fn get(http: HttpRequest, api: Data<Api>) -> Answer {
    query::<NoQuery>(&http)?;
    api.caller(&http)?;
    shown(&api.live.current())
}

fn shown(snapshot: &Snapshot) -> Answer {
    let all = snapshot.catalog.strategies.iter();
    let strategies: Vec<_> = all.map(|(event, one)| EventStrategy::of(event, one)).collect();
    let mut answer = HttpResponse::Ok();
    if let Some(row) = snapshot.row(&RowPlace::of_strategies()) {
        answer.insert_header(("etag", format!("\"{}\"", row.etag)));
    }
    let total_events = strategies.len();
    Ok(answer.json(Strategies { success: true, strategies, total_events }))
}

/// Stores the strategies that stand beside the file's; live at once.
#[utoipa::path(put, path = "/api/v1/orchestrator/config", tag = "live",
    operation_id = "strategies_put",
    params(("If-Match" = Option<String>, Header, description = "The ETag of what is changed")),
    request_body = StrategiesRequest,
    responses((status = 200, body = Strategies), (status = "4XX",
        body = crate::api::problem::Problem, content_type = "application/problem+json")))]
pub(crate) async fn put(http: HttpRequest, payload: Payload, api: Data<Api>) -> Answer {
    query::<NoQuery>(&http)?;
    let caller = api.caller(&http)?;
    let snapshot = api.live.current();
    let place = RowPlace::of_strategies();
    let before = snapshot.row(&place).map(AsRef::as_ref);
    let expected = row::expected(&http, before)?;
    let request: StrategiesRequest = body::json(&http, payload, api.body_limits()).await?;
    row::check_reason(&request.reason)?;
    let body = Some(document(&request.strategies, &snapshot.catalog)?);
    let audit = AuditEntry {
        tenant: None,
        at_ms: jiff::Timestamp::now().as_millisecond(),
        actor: caller.actor.clone(),
        action: "strategies.put".into(),
        target: "strategies".into(),
        reason: request.reason,
        before: before.map(|row| row.body.clone()),
        after: body.clone(),
    };
    let change = RowChange { place, body, expected, audit };
    let snapshot = row::store(&http, &api, change, &Wording { root: "/strategies", defined });
    shown(&*snapshot.await?)
}

fn defined() -> Error {
    let message = "the file of strategies serves this event; change it there";
    Error::new(Code::AlreadyExists, message)
}

/// What is stored: the strategies that are not the file's, as the file would write them.
fn document(given: &[EventStrategy], catalog: &Catalog) -> Result<String, Error> {
    let of_file = |(_, strategy): &(&String, &Strategy)| !strategy.stored;
    let files: Vec<EventStrategy> = catalog
        .strategies
        .iter()
        .filter(of_file)
        .map(|(event, one)| EventStrategy::of(event, one))
        .collect();
    let taken: BTreeSet<&String> = files.iter().flat_map(EventStrategy::names).collect();
    let mut names = BTreeSet::new();
    let mut stored = serde_json::Map::new();
    for (index, one) in given.iter().enumerate() {
        if files.contains(one) {
            continue;
        }
        if one.names().any(|name| taken.contains(name)) {
            return Err(Error { details: defined_at(index), ..defined() });
        }
        check(index, one, catalog)?;
        if let Some(twice) = one.names().find(|name| !names.insert((*name).clone())) {
            let detail = format!("event `{twice}` has two strategies; keep one");
            return Err(refused(index, "", "duplicate_event", detail));
        }
        stored.insert(
            one.event.clone(),
            serde_json::json!({
                "detectors": one.detectors, "execution": one.execution, "stop_on": one.stop_on,
                "description": one.description, "aliases": one.aliases,
            }),
        );
    }
    if stored.len() > STRATEGIES_MAX {
        let detail = format!("holds more than {STRATEGIES_MAX} strategies");
        return Err(Error::field(Code::InvalidRequest, "/strategies", "too_large", detail));
    }
    Ok(serde_json::json!({ "schema_version": 1, "strategies": stored }).to_string())
}

fn defined_at(index: usize) -> Vec<crate::domain::error::FieldFault> {
    let pointer = format!("/strategies/{index}/event");
    Error::field(Code::AlreadyExists, &pointer, "defined", "the file serves this event").details
}

fn refused(index: usize, at: &str, fault: &'static str, detail: String) -> Error {
    Error::field(Code::InvalidRequest, &format!("/strategies/{index}{at}"), fault, detail)
}

fn check(index: usize, one: &EventStrategy, catalog: &Catalog) -> Result<(), Error> {
    let sound = |name: &&String| {
        let length = name.chars().count();
        (1..=EVENT_CHARS_MAX).contains(&length) && !name.chars().any(char::is_control)
    };
    if let Some(_wrong) = one.names().find(|name| !sound(name)) {
        let detail = format!("an event has 1 to {EVENT_CHARS_MAX} characters, none of control");
        return Err(refused(index, "/event", "bad_value", detail));
    }
    if one.source != "stored" && one.source != "file" {
        return Err(refused(index, "/source", "bad_value", "must be file or stored".to_owned()));
    }
    let known = |name: &&String| catalog.detectors.contains_key(name.as_str());
    match one.detectors.iter().position(|name| !known(&name)) {
        None => Ok(()),
        Some(at) => {
            let detail = "is no detector that is everyone's; leave it out".to_owned();
            Err(refused(index, &format!("/detectors/{at}"), "unknown_detector", detail))
        }
    }
}
