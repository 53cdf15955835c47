//! `GET /events/stream`: server-sent events for as long as the listener may listen.

use std::net::IpAddr;
use std::time::Duration;

use actix_web::web::{Bytes, Data};
use actix_web::{Error as HttpError, HttpRequest, HttpResponse};
use futures_util::stream::{Stream, unfold};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::json;
use tokio::time::{Interval, MissedTickBehavior, interval};
use utoipa::IntoParams;

use super::{Answer, EventView, pages, stream};
use crate::api::caller::query;
use crate::api::{Api, access};
use crate::auth::{Caller, Given};
use crate::domain::access::Scope;
use crate::domain::error::{Code, Error};
use crate::events::{Full, Heard, Listener};

/// Between two looks whether the listener may still listen.
const LOOK: Duration = Duration::from_secs(1);
/// Looks in a row at which the credential cannot be checked until the stream ends.
const AWAY: u32 = 3;
/// Looks without an event until the next sign of life.
const SIGN: u32 = 15;
/// When to come again after an end.
const RETRY_MS: u32 = 2_000;

/// From where.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct From {
    /// Only events behind this place, as `Last-Event-ID`, which goes before it. From now on unless set.
    #[param(pattern = "^[0-9]{1,18}$")]
    pub after: Option<String>,
}

/// Events of the caller's tenant as they happen (server-sent events): `id` is the event's `sequence`,
/// `event` its type, `data` the event. Who acts across tenants hears those of the tenant it names in
/// `X-Tenant-ID`, or those that concern no single tenant.
///
/// `event: missed`, `slow`, `closing`, `away` and `refused` say what became of the stream itself. Come
/// again with the last id as `Last-Event-ID`.
#[utoipa::path(get, path = "/api/v1/events/stream", tag = "events", operation_id = "events_stream",
    params(From, ("Last-Event-ID" = Option<String>, Header, description = "The last id that was heard"),
        ("X-Tenant-ID" = Option<String>, Header, description = "Whose")),
    responses((status = 200, body = String, content_type = "text/event-stream")))]
pub(crate) async fn listen(http: HttpRequest, api: Data<Api>) -> Answer {
    let from: From = query(&http)?;
    let header = http.headers().get("last-event-id").map(|id| id.to_str().unwrap_or("?"));
    let Some(after) = pages::before(header.or(from.after.as_deref())) else {
        let message = "Last-Event-ID and after are the `sequence` of an event";
        return Err(Error::new(Code::InvalidRequest, message).into());
    };
    let caller = api.caller(&http)?;
    let stream = stream(&http, &api, &caller)?;
    if !api.accepts_work() {
        let message = "the service is stopping; ask another instance";
        return Err(Error::new(Code::ShuttingDown, message).into());
    }
    let mut listener = api.feed.listen(stream, after).map_err(|Full { most }| {
        let message = format!("{most} streams are open, which is as many as a tenant may have");
        Error::new(Code::RateLimited, message)
    })?;
    // Who has the head of the answer hears what it does next.
    if let Err(error) = listener.begin().await {
        tracing::debug!(%error, "a stream begins without the store");
    }
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let credential = match access::given(http.headers()) {
        Given::Credential(credential) => Some(SecretString::from(credential)),
        Given::Nothing | Given::Unclear => None,
    };
    let from = access::source(&api, http.peer_addr(), http.headers());
    let listening = Listening {
        api,
        listener,
        caller,
        credential,
        from,
        look,
        quiet: 0,
        away: 0,
        begun: false,
    };
    Ok(HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header(("cache-control", "no-store"))
        .insert_header(("x-accel-buffering", "no"))
        .streaming(listening.told()))
}

struct Listening {
    api: Data<Api>,
    listener: Listener,
    caller: Caller,
    credential: Option<SecretString>,
    from: IpAddr,
    look: Interval,
    /// Looks since anything was sent.
    quiet: u32,
    /// Looks in a row at which the credential could not be checked.
    away: u32,
    begun: bool,
}

impl Listening {
    fn told(self) -> impl Stream<Item = Result<Bytes, HttpError>> {
        unfold(Some(self), |listening| async move {
            let mut listening = listening?;
            let (text, goes_on) = listening.next().await;
            Some((Ok(Bytes::from(text)), goes_on.then_some(listening)))
        })
    }

    /// What is sent next, and whether anything follows.
    async fn next(&mut self) -> (String, bool) {
        if !std::mem::replace(&mut self.begun, true) {
            return (format!("retry: {RETRY_MS}\n\n"), true);
        }
        loop {
            tokio::select! {
                heard = self.listener.next() => {
                    self.quiet = 0;
                    return self.said(heard);
                }
                _ = self.look.tick() => {
                    match self.standing().await {
                        Standing::May => self.away = 0,
                        Standing::Unknown => self.away += 1,
                        Standing::MayNot => return (of_itself("refused", json!({})), false),
                    }
                    if self.away >= AWAY {
                        return self.said(Some(Heard::Away));
                    }
                    self.quiet += 1;
                    if self.quiet >= SIGN {
                        self.quiet = 0;
                        return (":\n\n".to_owned(), true);
                    }
                }
            }
        }
    }

    fn said(&self, heard: Option<Heard>) -> (String, bool) {
        let resume = json!({ "resume_after": self.listener.after().to_string() });
        match heard {
            Some(Heard::Told(told)) => {
                let (id, view) = (told.sequence, EventView::of((*told).clone()));
                let data = serde_json::to_string(&view).unwrap_or_default();
                (format!("id: {id}\nevent: {}\ndata: {data}\n\n", view.event_type), true)
            }
            Some(Heard::Missed(after, next)) => {
                let gap = json!({ "after": after.to_string(), "next": next.to_string() });
                (of_itself("missed", gap), true)
            }
            Some(Heard::Slow) => (of_itself("slow", resume), false),
            Some(Heard::Away) => (of_itself("away", resume), false),
            Some(Heard::Closing) | None => (of_itself("closing", resume), false),
        }
    }

    /// Whether the credential still lets in whom it let in.
    async fn standing(&self) -> Standing {
        let given = match &self.credential {
            Some(credential) => Given::Credential(credential.expose_secret()),
            None => Given::Nothing,
        };
        let caller = match self.api.gate.authenticate(given, self.from).await {
            Ok(caller) => caller,
            Err(error) if error.code == Code::Unauthorized => return Standing::MayNot,
            Err(_) => return Standing::Unknown,
        };
        let snapshot = self.api.live.current();
        let is_served = caller.tenant.as_ref().is_none_or(|tenant| {
            let tenant = snapshot.catalog.tenants.get(tenant);
            tenant.is_some_and(|tenant| !snapshot.paused(tenant))
        });
        match caller.holds(Scope::OrchestrateStatus) {
            Ok(true) if is_served && caller.tenant == self.caller.tenant => Standing::May,
            Ok(_) => Standing::MayNot,
            Err(_) => Standing::Unknown,
        }
    }
}

/// Whether a listener may go on.
enum Standing {
    May,
    MayNot,
    /// The store is away: there is nothing new to hear, and nobody says whether it may.
    Unknown,
}

/// What is said of the stream and not by it.
fn of_itself(event: &str, data: serde_json::Value) -> String {
    format!("event: {event}\ndata: {data}\n\n")
}
