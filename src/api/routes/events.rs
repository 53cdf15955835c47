//! What happened: read, shared among the members of a group, listened to.

use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::web::{self, Data, Payload, ServiceConfig};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::pages::{self, Pages};
use super::policies::overlay::time;
use super::{Answer, at, json, resource};
use crate::api::caller::{NoQuery, query, tenant};
use crate::api::{Api, body};
use crate::auth::Caller;
use crate::domain::digest::Digest;
use crate::domain::error::{Code, Error};
use crate::domain::event::EventType;
use crate::store::{Begin, Delivering, Delivery, Group, StoreError, Stream, Told};

pub(crate) mod listen;

pub(super) fn configure(config: &mut ServiceConfig) {
    config.service(resource(&at("/events")).route(web::get().to(list)));
    config.service(resource(&at("/events/ack")).route(web::post().to(acknowledge)));
    config.service(resource(&at("/events/incidents")).route(web::get().to(incidents)));
    config.service(resource(&at("/events/stream")).route(web::get().to(listen::listen)));
}

/// Events, oldest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct Events {
    /// At most `limit`.
    pub events: Vec<EventView>,
    /// `after` of the next page; null where nothing follows yet.
    pub next: Option<String>,
}

/// One thing that happened.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Event)]
pub struct EventView {
    /// The same however often it is told: 64 hexadecimal digits.
    pub id: String,
    /// Its place among the events of its tenant, without gaps.
    pub sequence: i64,
    /// What.
    pub event_type: &'static str,
    /// Where NATS has it.
    pub subject: String,
    /// RFC 3339 UTC with milliseconds.
    pub timestamp: String,
    /// Whose; null where it concerns no single tenant.
    pub tenant: Option<String>,
    /// What tells it, such as `job/0192…` or `detector/pii`.
    pub source: String,
    /// By type; never content.
    #[schema(value_type = Object)]
    pub data: Value,
    /// To a group: which delivery it is, 1 to 3.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivery: Option<u32>,
}

impl EventView {
    fn of(told: Told) -> Self {
        let event = told.event;
        Self {
            id: event.id.hex(),
            sequence: told.sequence,
            event_type: event.event_type.name(),
            subject: event.subject(),
            timestamp: time(event.at_ms),
            tenant: event.tenant.map(|tenant| tenant.to_string()),
            source: event.source,
            data: event.data,
            delivery: None,
        }
    }

    fn delivered(delivery: Delivery) -> Self {
        Self { delivery: Some(delivery.count), ..Self::of(delivery.told) }
    }
}

/// Which events.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Wanted {
    /// Only those behind this place; of a new group, where it begins. The oldest that are kept unless set.
    #[param(pattern = "^[0-9]{1,18}$")]
    pub after: Option<String>,
    /// In whose name they are taken. Who took one acknowledges it within 30 s, or another member of the
    /// group gets it.
    #[param(pattern = "^[a-z0-9][a-z0-9_-]{0,63}$")]
    pub group: Option<String>,
    /// Of a group: those that were delivered three times and never acknowledged.
    pub dead: Option<bool>,
    /// Events, 1 to 200.
    #[param(minimum = 1, maximum = 200, default = 50)]
    pub limit: Option<u32>,
}

/// Events of the caller's tenant, oldest first. Who acts across tenants sees those of the tenant it
/// names in `X-Tenant-ID`, or those that concern no single tenant.
#[utoipa::path(get, path = "/api/v1/events", tag = "events", operation_id = "events_list",
    params(Wanted, ("X-Tenant-ID" = Option<String>, Header, description = "Whose")),
    responses((status = 200, body = Events)))]
pub(crate) async fn list(http: HttpRequest, api: Data<Api>) -> Answer {
    let wanted: Wanted = query(&http)?;
    let limit = wanted.limit.unwrap_or(50);
    let (Some(after), true) = (pages::before(wanted.after.as_deref()), (1..=200).contains(&limit))
    else {
        let message = "limit is 1 to 200, after the `sequence` of an event";
        return Err(Error::new(Code::InvalidRequest, message).into());
    };
    let stream = stream(&http, &api, &api.caller(&http)?)?;
    let store = &api.deps.store;
    let Some(name) = wanted.group else {
        if wanted.dead.is_some() {
            let message = "only a group has dead events: name it";
            return Err(Error::new(Code::InvalidRequest, message).into());
        }
        let told = store.events(stream, after.unwrap_or_default(), limit).await.map_err(away)?;
        let next = told.last().filter(|_| told.len() == limit as usize);
        let next = next.map(|told| told.sequence.to_string());
        return json(&Events { events: told.into_iter().map(EventView::of).collect(), next });
    };
    let group = group(stream, name)?;
    if wanted.dead == Some(true) {
        let dead = store.dead_deliveries(group, after.unwrap_or_default(), limit);
        let dead = dead.await.map_err(away)?;
        let next = dead.last().filter(|_| dead.len() == limit as usize);
        let next = next.map(|last| last.sequence.to_string());
        let events = dead.into_iter().map(|dead| EventView::delivered(dead.value)).collect();
        return json(&Events { events, next });
    }
    let most = api.deps.settings.events.groups_per_tenant_max;
    let begin = Begin { after: after.unwrap_or_default(), groups_max: most };
    let how = Delivering { most: limit, ..Delivering::default() };
    let Some(taken) = store.deliver(group, begin, how).await.map_err(away)? else {
        let message = format!(
            "there are {most} groups, as many as a tenant may have; go on in the name of one of \
             them: a place comes free seven days after the last that a group was given"
        );
        let pause = Duration::from_secs(60);
        return Err(Error::new(Code::RateLimited, message).retry_after(pause).into());
    };
    let events = taken.into_iter().map(EventView::delivered).collect();
    json(&Events { events, next: None })
}

/// What was handled.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Acknowledgement {
    /// In whose name the events were taken.
    #[schema(pattern = "^[a-z0-9][a-z0-9_-]{0,63}$")]
    pub group: String,
    /// Their ids, 1 to 200.
    #[schema(min_items = 1, max_items = 200)]
    pub ids: Vec<String>,
}

/// What became of it.
#[derive(Debug, Serialize, ToSchema)]
pub struct Acknowledged {
    /// How many were out; others were acknowledged before, or are out no longer.
    pub acknowledged: u64,
}

/// Says that a group has handled events; they are not delivered to it again.
#[utoipa::path(post, path = "/api/v1/events/ack", tag = "events", operation_id = "events_ack",
    params(("X-Tenant-ID" = Option<String>, Header, description = "Whose")),
    request_body = Acknowledgement, responses((status = 200, body = Acknowledged)))]
pub(crate) async fn acknowledge(http: HttpRequest, payload: Payload, api: Data<Api>) -> Answer {
    query::<NoQuery>(&http)?;
    let stream = stream(&http, &api, &api.caller(&http)?)?;
    let said: Acknowledgement = body::json(&http, payload, api.body_limits()).await?;
    let group = group(stream, said.group)?;
    let ids: Option<Vec<Digest>> = said.ids.iter().map(|id| Digest::parse(id)).collect();
    let Some(ids) = ids.filter(|ids| (1..=200).contains(&ids.len())) else {
        let detail = "holds 1 to 200 ids of events, 64 hexadecimal digits each";
        return Err(Error::field(Code::InvalidRequest, "/ids", "bad_value", detail).into());
    };
    let acknowledged = api.deps.store.acknowledge(group, ids).await.map_err(away)?;
    json(&Acknowledged { acknowledged })
}

/// Incidents, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct Incidents {
    /// At most `limit`.
    pub incidents: Vec<EventView>,
    /// The cursor of the next page.
    pub next: Option<String>,
}

/// The latest incidents of the caller's tenant, as many as `events.incidents_max` says.
#[utoipa::path(get, path = "/api/v1/events/incidents", tag = "events",
    operation_id = "events_incidents",
    params(Pages, ("X-Tenant-ID" = Option<String>, Header, description = "Whose")),
    responses((status = 200, body = Incidents)))]
pub(crate) async fn incidents(http: HttpRequest, api: Data<Api>) -> Answer {
    let page = pages::wanted(&http)?;
    let stream = stream(&http, &api, &api.caller(&http)?)?;
    let most = api.deps.settings.events.incidents_max;
    let latest = api.deps.store.latest_events(stream, EventType::Incident, most);
    let latest = latest.await.map_err(away)?.into_iter();
    let rows = latest
        .filter(|told| page.before.is_none_or(|before| told.sequence < before))
        .map(|told| crate::store::Numbered { sequence: told.sequence, value: told })
        .take(page.limit as usize);
    let (told, next) = pages::cut(rows.collect(), page);
    json(&Incidents { incidents: told.into_iter().map(EventView::of).collect(), next })
}

/// Whose events are meant.
fn stream(http: &HttpRequest, api: &Api, caller: &Caller) -> Result<Stream, Error> {
    let of_one = caller.tenant.is_some() || http.headers().contains_key("x-tenant-id");
    match of_one {
        true => Ok(Stream::Tenant(tenant(http, caller, None, &api.live.current())?)),
        false => Ok(Stream::Service),
    }
}

fn group(stream: Stream, name: String) -> Result<Group, Error> {
    let word = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let is_sound = (1..=64).contains(&name.len())
        && name.bytes().all(|c| word(c) || c == b'_' || c == b'-')
        && name.bytes().next().is_some_and(word);
    if is_sound {
        return Ok(Group { stream, name });
    }
    let message = "a group is called by 1 to 64 of a-z, 0-9, _ and -, the first a letter or digit";
    Err(Error::new(Code::InvalidRequest, message))
}

fn away(error: StoreError) -> Error {
    Error::new(error.code(), "the store does not answer; send it again later").caused_by(error)
}
