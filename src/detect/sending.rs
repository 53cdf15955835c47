//! One call to a remote detector with all its tries. It owns what it needs, so that it can outlive
//! the request that began it; what a reply means is read by each who waits.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::{Either, select};
use http::header::{ACCEPT_ENCODING, CONTENT_TYPE, HeaderName};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use secrecy::SecretString;
use tokio::time::{Instant, sleep, timeout};

use super::flight::Progress;
use super::limits::jittered;
use super::member::{Member, Trying, lock};
use super::oauth::NoToken;
use super::place::Place;
use super::protocol;
use super::series;
use super::vault::{Unauthorised, Vault};
use crate::catalog::Detector;
use crate::domain::id::{RequestId, TenantId};
use crate::domain::report::ReportError;
use crate::domain::trace::TraceContext;
use crate::metrics::Metrics;
use crate::operations::breaker::Ended;
use crate::outbound::{Call, Client, Reply, SendError};

/// Tells a detector which request a call belongs to.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What calls go out by.
pub(super) struct Line {
    pub(super) client: Client,
    pub(super) vault: Vault,
    /// Longest reply body in bytes.
    pub(super) reply_bytes_max: usize,
    pub(super) metrics: Arc<Metrics>,
}

/// For whom a call is made.
#[derive(Debug, Clone)]
pub(super) struct About {
    pub(super) request: RequestId,
    pub(super) tenant: TenantId,
    pub(super) caller: String,
    /// The span it is made in.
    pub(super) trace: Option<TraceContext>,
}

/// A call that is ready to be sent.
pub(super) struct Sending {
    pub(super) line: Arc<Line>,
    pub(super) detector: Arc<Detector>,
    pub(super) member: Arc<Member>,
    pub(super) about: About,
    /// Of one try.
    pub(super) timeout: Duration,
    /// In the order of the member's places; empty where the protocol has no address for the request.
    pub(super) uris: Vec<Uri>,
    pub(super) body: Bytes,
}

/// How all tries ended.
#[derive(Clone)]
pub(super) struct Landing {
    pub(super) attempts: u32,
    pub(super) end: Result<Arc<Answer>, Fail>,
}

/// A 2xx. Whether it counts as a success, the first who reads it says.
pub(super) struct Answer {
    pub(super) body: Bytes,
    /// Shared by the parts of a reply to several requests.
    open: Arc<Mutex<Option<(Trying, Duration)>>>,
}

/// Why a call has no judgement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fail {
    Error(ReportError),
    /// With what people should know of it.
    Told(ReportError, Arc<str>),
    /// The same, and it may pass: after so long, or nobody knows when.
    Later(ReportError, Arc<str>, Duration),
    Timeout {
        cut: bool,
    },
}

/// Why a try brought nothing.
enum Missed {
    /// It was not sent.
    Refused(ReportError),
    Failed(Failed),
}

/// A failed try.
pub(super) struct Failed {
    pub(super) fail: Fail,
    retryable: bool,
    pub(super) ended: Ended,
}

impl Fail {
    /// How long it asks to be left alone, where it refused only for now.
    pub(super) fn rest(&self) -> Option<Duration> {
        match self {
            Fail::Later(_, _, rest) => Some(*rest),
            Fail::Error(_) | Fail::Told(..) | Fail::Timeout { .. } => None,
        }
    }

    /// Why a part was left out of an answer that others gave.
    pub(super) fn reason(&self) -> ReportError {
        match self {
            Fail::Error(error) | Fail::Told(error, _) | Fail::Later(error, ..) => *error,
            Fail::Timeout { cut: true } => ReportError::Deadline,
            Fail::Timeout { cut: false } => ReportError::Communication,
        }
    }
}

impl Failed {
    /// Nobody is to blame, or nobody knows.
    pub(super) fn released(error: ReportError) -> Failed {
        Failed { ended: Ended::Released, ..bad(error) }
    }

    /// Its time is over.
    pub(super) fn late(cut: bool, ended: Ended) -> Failed {
        Failed { fail: Fail::Timeout { cut }, retryable: !cut, ended }
    }
}

impl Landing {
    /// The same end with another body, where it has one.
    pub(super) fn with_body(&self, body: impl FnOnce() -> Bytes) -> Landing {
        let part = |answer: &Arc<Answer>| {
            Arc::new(Answer { body: body(), open: Arc::clone(&answer.open) })
        };
        Landing { attempts: self.attempts, end: self.end.as_ref().map(part).map_err(Clone::clone) }
    }
}

impl Answer {
    /// Tells the breaker how the call ended; true for the first who does.
    pub(super) fn settle(&self, member: &Member, ended: Ended) -> bool {
        let Some((trying, took)) = lock(&self.open).take() else { return false };
        trying.end(ended);
        if ended == Ended::Success {
            member.latency().record(took, Instant::now());
        }
        true
    }
}

/// A try under way. If everybody leaves, and somebody because a deadline came, it counts as a
/// failure where it had half of its own time: a caller in a hurry must not open the breaker for
/// everyone.
struct Underway<'a> {
    trying: Option<Trying>,
    progress: &'a Progress,
    start: Instant,
    timeout: Duration,
}

impl Underway<'_> {
    fn end(mut self, ended: Ended) {
        if let Some(trying) = self.trying.take() {
            trying.end(ended);
        }
    }
}

impl Drop for Underway<'_> {
    fn drop(&mut self) {
        let Some(trying) = self.trying.take() else { return };
        let late = self.progress.late.load(Ordering::Relaxed);
        let counts = late && self.start.elapsed() * 2 >= self.timeout;
        trying.end(if counts { Ended::Failure } else { Ended::Released });
    }
}

impl Sending {
    /// Sends, again where that may help, until everybody who waits has left.
    pub(super) async fn run(self, progress: Arc<Progress>) -> Landing {
        let began = Instant::now();
        let bulkhead = self.member.bulkhead();
        let Ok(Some(_room)) = timeout(self.timeout, bulkhead.enter()).await else {
            let end = Err(Fail::Error(ReportError::BulkheadFull));
            return Landing { attempts: 0, end };
        };
        self.line.metrics.turn(series(&self.detector), began.elapsed());
        self.member.budget().call();
        let mut backoff = self.detector.retry.backoff;
        let attempts_max = self.detector.retry.attempts.max(1);
        let sent = || progress.sent.load(Ordering::Relaxed);
        let tried = AtomicU32::new(0);
        let mut end = Err(Fail::Error(ReportError::CircuitOpen));
        while sent() < attempts_max {
            match self.try_next(&progress, &tried).await {
                Ok(answer) => {
                    end = Ok(Arc::new(answer));
                    break;
                }
                Err(Missed::Refused(error)) => {
                    if tried.load(Ordering::Relaxed) == 0 {
                        end = Err(Fail::Error(error));
                    }
                    break;
                }
                Err(Missed::Failed(failed)) => {
                    let pause = jittered(backoff);
                    let in_time = Instant::now() + pause < progress.until();
                    let more = failed.retryable && sent() < attempts_max && in_time;
                    end = Err(failed.fail);
                    if !more || !self.member.budget().retry() {
                        break;
                    }
                    sleep(pause).await;
                    backoff *= 2;
                }
            }
        }
        Landing { attempts: sent(), end }
    }

    /// One try when the throttle lets it go, and perhaps another beside it.
    async fn try_next(&self, progress: &Progress, tried: &AtomicU32) -> Result<Answer, Missed> {
        self.pace(progress).await?;
        match self.detector.hedge.filter(|_| progress.sent.load(Ordering::Relaxed) == 0) {
            Some(after) => self.race(after, progress, tried).boxed().await,
            None => self.one_try(progress, tried).await,
        }
    }

    async fn pace(&self, progress: &Progress) -> Result<(), Missed> {
        let Some(rate) = self.detector.throttle else { return Ok(()) };
        let paced = self.member.throttle.pace(rate, self.body.len(), progress.until()).await;
        paced.ok_or(Missed::Refused(ReportError::BulkheadFull))
    }

    /// A try, and another where it has not ended `after` so long. The first answer wins; the other
    /// try is dropped, which gives its permit back.
    async fn race(
        &self,
        after: Duration,
        progress: &Progress,
        tried: &AtomicU32,
    ) -> Result<Answer, Missed> {
        let mut first = self.one_try(progress, tried).boxed();
        if let Ok(end) = timeout(after, &mut first).await {
            return end;
        }
        if !self.member.budget().retry() {
            return first.await;
        }
        let second = async {
            self.pace(progress).await?;
            self.one_try(progress, tried).await
        };
        match select(first, second.boxed()).await {
            Either::Left((Err(missed), other)) | Either::Right((Err(missed), other)) => {
                other.await.map_err(|later| match later {
                    Missed::Refused(_) => missed,
                    Missed::Failed(_) => later,
                })
            }
            Either::Left((answer, _)) | Either::Right((answer, _)) => answer,
        }
    }

    /// One try under breaker and time-out, at a place that is not in `tried` where that can be.
    async fn one_try(&self, progress: &Progress, tried: &AtomicU32) -> Result<Answer, Missed> {
        let so_far = tried.load(Ordering::Relaxed);
        let trying = self.member.admit(&self.detector, so_far).map_err(Missed::Refused)?;
        let unspeakable = || Missed::Failed(bad(ReportError::Communication));
        let (index, place) = trying.place().ok_or_else(unspeakable)?;
        let (uri, place) = (self.uris.get(index).ok_or_else(unspeakable)?, Arc::clone(place));
        tried.fetch_or(1 << index, Ordering::Relaxed);
        progress.sent.fetch_add(1, Ordering::Relaxed);
        let (start, timeout_of_try) = (Instant::now(), self.timeout);
        let trying = Some(trying);
        let mut underway = Underway { trying, progress, start, timeout: timeout_of_try };
        match timeout(timeout_of_try, self.send(uri, &place)).await {
            Ok(Ok(body)) => {
                let open = underway.trying.take().map(|trying| (trying, start.elapsed()));
                Ok(Answer { body, open: Arc::new(Mutex::new(open)) })
            }
            Ok(Err(failed)) => {
                if failed.fail == Fail::Error(ReportError::EndpointForbidden) {
                    // It was never connected to.
                    progress.sent.fetch_sub(1, Ordering::Relaxed);
                    if let Some(trying) = underway.trying.take() {
                        trying.shun();
                    }
                    let retryable = self.uris.len() > 1;
                    return Err(Missed::Failed(Failed { retryable, ..failed }));
                }
                underway.end(failed.ended);
                log(&self.detector, &self.member, &failed);
                Err(Missed::Failed(failed))
            }
            Err(_) => {
                underway.end(Ended::Failure);
                Err(Missed::Failed(Failed::late(false, Ended::Failure)))
            }
        }
    }

    async fn send(&self, uri: &Uri, place: &Place) -> Result<Bytes, Failed> {
        let (headers, token) = self.headers(None).await?;
        let mut reply = self.reply(uri, headers).await.map_err(send_failed)?;
        if reply.status == StatusCode::UNAUTHORIZED && token.is_some() {
            let (headers, _) = self.headers(token.as_ref()).await?;
            reply = self.reply(uri, headers).await.map_err(send_failed)?;
        }
        if !reply.status.is_success() {
            return Err(self.status_failed(&reply, place));
        }
        Ok(reply.body)
    }

    /// The reply to one call, unread; no breaker, no second try.
    pub(super) async fn raw(&self) -> Option<Result<Reply, SendError>> {
        let (headers, _) = self.headers(None).await.ok()?;
        Some(self.reply(self.uris.first()?, headers).await)
    }

    async fn reply(&self, uri: &Uri, mut headers: HeaderMap) -> Result<Reply, SendError> {
        let (uri, body) = (uri.clone(), self.body.clone());
        protocol::sign(&self.detector, &uri, &body, &mut headers);
        let body_max = self.line.reply_bytes_max;
        let call = Call { method: Method::POST, uri, headers, body, body_max };
        self.line.client.send(call).await
    }

    fn status_failed(&self, reply: &Reply, place: &Place) -> Failed {
        let status = reply.status;
        let says = format!("the service answers with status {}", status.as_u16());
        let asks_for_rest =
            matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
        let rest = reply.retry_after.filter(|_| asks_for_rest);
        let rest = rest.map(|rest| rest.min(self.detector.breaker.open_max));
        if let Some(rest) = rest {
            place.rest(Instant::now() + rest);
        }
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            tracing::warn!(detector = %self.detector.name, status = status.as_u16(),
                "A detector refuses our credential");
        }
        if protocol::is_timeout(&self.detector, status) {
            return Failed::late(false, Ended::Failure);
        }
        if status.is_server_error() {
            let (error, retryable) = (ReportError::Communication, rest.is_none());
            let says_later = status == StatusCode::SERVICE_UNAVAILABLE;
            let failed = match rest.or(says_later.then_some(Duration::ZERO)) {
                Some(rest) => later(error, &says, rest),
                None => told(error, &says),
            };
            return Failed { retryable, ..failed };
        }
        if refuses_for_now(status) {
            let rest = rest.unwrap_or_default();
            return Failed { ended: Ended::Success, ..later(ReportError::Rejected, &says, rest) };
        }
        if status.is_client_error() {
            return Failed { ended: Ended::Success, ..told(ReportError::Rejected, &says) };
        }
        told(ReportError::BadResponse, &says)
    }

    /// Every header, and the token that was fetched for one of them; `stale` is one that was refused.
    async fn headers(
        &self,
        stale: Option<&SecretString>,
    ) -> Result<(HeaderMap, Option<SecretString>), Failed> {
        let mut headers = HeaderMap::with_capacity(8);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let put = |headers: &mut HeaderMap, name: &str, value: &str| {
            let (name, value) = (HeaderName::try_from(name), HeaderValue::from_str(value));
            if let (Ok(name), Ok(value)) = (name, value) {
                headers.insert(name, value);
            }
        };
        if let Ok(id) = HeaderValue::from_str(self.about.request.as_str()) {
            headers.insert(REQUEST_ID, id);
        }
        if let Some(trace) = &self.about.trace {
            put(&mut headers, "traceparent", trace.parent());
            trace.state().into_iter().for_each(|state| put(&mut headers, "tracestate", state));
        }
        protocol::headers(&self.detector, &mut headers);
        let credential = (&mut headers, stale);
        let authorised = self.line.authorise(&self.about, &self.detector, credential).await;
        let token = authorised.map_err(|why| unauthorised(&why))?;
        headers.values_mut().for_each(|value| value.set_sensitive(true));
        Ok((headers, token))
    }
}

/// The first failure in a breaker's window is worth a warning, each further one is noise.
pub(super) fn log(detector: &Detector, member: &Member, failed: &Failed) {
    let (Fail::Told(error, detail) | Fail::Later(error, detail, _)) = &failed.fail else { return };
    let (detector, error) = (&detector.name, error.name());
    let first = failed.ended == Ended::Failure && member.breaker().recent().0 == 1;
    if first {
        tracing::warn!(%detector, error, %detail, "A detector's answer cannot be used");
    } else {
        tracing::debug!(%detector, error, %detail, "A detector's answer cannot be used");
    }
}

pub(super) fn bad(error: ReportError) -> Failed {
    Failed { fail: Fail::Error(error), retryable: false, ended: Ended::Failure }
}

pub(super) fn told(error: ReportError, detail: &str) -> Failed {
    Failed { fail: Fail::Told(error, detail.into()), ..bad(error) }
}

fn later(error: ReportError, detail: &str, rest: Duration) -> Failed {
    Failed { fail: Fail::Later(error, detail.into(), rest), ..bad(error) }
}

/// Whether the same call may be answered at another time, although it was refused.
fn refuses_for_now(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS
    )
}

/// Nothing was sent: whether the detector is well nobody knows.
fn unauthorised(why: &Unauthorised) -> Failed {
    let failed = match why {
        Unauthorised::Sealed => {
            told(ReportError::Rejected, "its stored credential cannot be opened; store it again")
        }
        Unauthorised::Token(NoToken::Forbidden(_)) => bad(ReportError::EndpointForbidden),
        Unauthorised::Token(trouble @ NoToken::Failed(_)) => {
            told(ReportError::Communication, &trouble.to_string())
        }
    };
    Failed { ended: Ended::Released, ..failed }
}

fn send_failed(error: SendError) -> Failed {
    let says = error.to_string();
    match error {
        SendError::Forbidden(_) => Failed::released(ReportError::EndpointForbidden),
        SendError::Connect(_) | SendError::Broken(_) => {
            Failed { retryable: true, ..told(ReportError::Communication, &says) }
        }
        SendError::Tls(_) => told(ReportError::Communication, &says),
        SendError::Protocol(_) | SendError::TooLarge => told(ReportError::BadResponse, &says),
    }
}
