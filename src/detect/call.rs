//! One detector in one fan-out: fitness, bulkhead, tries, and the report they make.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use http::header::{ACCEPT_ENCODING, CONTENT_TYPE, HeaderName};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use secrecy::SecretString;
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout_at};

use super::excerpt::{Excerpt, Texts};
use super::fit::{self, Fit};
use super::limits::jittered;
use super::local::{Judged, Trouble};
use super::member::Member;
use super::merge::{self, Ending};
use super::oauth::NoToken;
use super::protocol;
use super::vault::Unauthorised;
use super::{Ask, Detectors, unsent};
use crate::catalog::Detector;
use crate::catalog::detector::Protocol;
use crate::domain::content::Piece;
use crate::domain::report::{Report, ReportError, Status};
use crate::operations::breaker::Ended;
use crate::outbound::{Call, Reply, SendError};

/// Tells a detector which request a call belongs to.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What all calls of one fan-out share.
#[derive(Clone, Copy)]
pub(super) struct Run<'a> {
    pub(super) detectors: &'a Detectors,
    pub(super) texts: &'a Texts<'a>,
    pub(super) slots: &'a Semaphore,
    pub(super) deadline: Instant,
}

/// Why a call has no judgement.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Fail {
    Error(ReportError),
    /// With what people should know of it.
    Told(ReportError, Arc<str>),
    Timeout {
        cut: bool,
    },
}

/// A failed try.
struct Failed {
    fail: Fail,
    retryable: bool,
    ended: Ended,
}

struct One<'a> {
    run: Run<'a>,
    ask: &'a Ask,
    detector: &'a Detector,
    member: &'a Member,
    params: &'a Value,
}

impl Run<'_> {
    pub(super) async fn ask(&self, ask: &Ask) -> Report {
        let Some(detector) = &ask.detector else {
            return unsent(ask, ReportError::NotRegistered);
        };
        let start = Instant::now();
        let Fit { excerpts, several, late, mut gaps } = match fit::fit(detector, self.texts) {
            Ok(fit) => fit,
            Err(why) => {
                let unfit = unsent(ask, ReportError::UnsupportedContentType);
                return Report { detail: Some(why.into()), ..unfit };
            }
        };
        let member = self.detectors.member(detector);
        if let Some(error) = refused(&member, detector, self.deadline, start) {
            return unsent(ask, error);
        }
        let params = overlay(&detector.params, &ask.params);
        let one = One { run: *self, ask, detector, member: &member, params: &params };
        let batches = protocol::batches(detector, self.texts.work.request, excerpts);
        let ends = join_all(batches.iter().map(|batch| one.call(batch))).await;
        let mut report = Report {
            status: Status::Success,
            error: None,
            duration: start.elapsed(),
            ..unsent(ask, ReportError::Decided)
        };
        // The word of the piece with findings, then of the surest one, stands for all.
        let (mut best, mut failed, mut endings) = (None, Vec::new(), Vec::new());
        for (batch, (attempts, end)) in batches.iter().zip(ends) {
            report.attempts += attempts;
            match end {
                Ok(judged) => {
                    let rank = Some((!judged.findings.is_empty(), judged.score));
                    if rank > best {
                        best = rank;
                        (report.label, report.score) = (judged.label, judged.score);
                    }
                    report.findings.extend(judged.findings);
                    let ending = |excerpt| Ending { excerpt, left_out: None };
                    endings.extend(batch.iter().map(ending));
                    gaps.extend(judged.gaps);
                }
                Err(fail) => failed.push((batch, fail)),
            }
        }
        if failed.len() == batches.len() {
            return failed.first().map_or(report.clone(), |(_, fail)| fail_report(report, fail));
        }
        for (batch, fail) in failed {
            report.cut_by_deadline |= fail == Fail::Timeout { cut: true };
            let left_out = Some(fail.reason());
            endings.extend(batch.iter().map(|excerpt| Ending { excerpt, left_out }));
        }
        let left_out = Some(ReportError::TooLong);
        endings.extend(late.iter().map(|excerpt| Ending { excerpt, left_out }));
        let chars =
            |piece| self.texts.work.pieces.get(piece).map_or(0, |piece: &Piece| piece.chars);
        gaps.extend(merge::gaps(&endings, &chars));
        gaps.sort_by_key(|gap| gap.piece);
        report.gaps = gaps;
        if several {
            report.findings = merge::findings(report.findings);
        }
        report
    }

    /// The reply to one call about all texts, unread; no breaker, no second try.
    pub(super) async fn raw(&self, ask: &Ask) -> Option<Result<Reply, SendError>> {
        let detector = ask.detector.as_ref()?;
        let member = self.detectors.member(detector);
        let one = One { run: *self, ask, detector, member: &member, params: &detector.params };
        let pieces = 0..self.texts.work.pieces.len();
        let batch: Vec<_> = pieces.flat_map(|piece| self.texts.excerpts(piece, detector)).collect();
        let (headers, _) = one.headers(None).await.ok()?;
        one.reply(protocol::body(detector, one.params, self.texts, &batch), headers).await
    }
}

impl Fail {
    /// Why a part was left out of an answer that others gave.
    fn reason(&self) -> ReportError {
        match self {
            Fail::Error(error) | Fail::Told(error, _) => *error,
            Fail::Timeout { cut: true } => ReportError::Deadline,
            Fail::Timeout { cut: false } => ReportError::Communication,
        }
    }
}

fn fail_report(mut report: Report, fail: &Fail) -> Report {
    (report.status, report.error) = match fail {
        Fail::Error(error) | Fail::Told(error, _) => (error.status(), Some(*error)),
        Fail::Timeout { .. } => (Status::Timeout, None),
    };
    report.cut_by_deadline = *fail == Fail::Timeout { cut: true };
    if let Fail::Told(_, detail) = fail {
        report.detail = Some(Arc::clone(detail));
    }
    if report.attempts == 0 {
        report.duration = Duration::ZERO;
    }
    report
}

/// Why the detector is not worth asking now.
fn refused(
    member: &Member,
    detector: &Detector,
    deadline: Instant,
    now: Instant,
) -> Option<ReportError> {
    {
        let mut breaker = member.breaker();
        if breaker.refuses(&detector.breaker, now) {
            breaker.reject();
            return Some(ReportError::CircuitOpen);
        }
    }
    if member.is_away(now) {
        return Some(ReportError::Unhealthy);
    }
    let left = deadline.saturating_duration_since(now);
    let p50 = member.latency().p50(now);
    (left.is_zero() || p50.is_some_and(|p50| left < p50)).then_some(ReportError::Deadline)
}

/// The file's parameters with the request's laid over them.
fn overlay(file: &Value, over: &Value) -> Value {
    match (file, over) {
        (Value::Object(file), Value::Object(over)) => Value::Object(
            file.iter().chain(over).map(|(key, value)| (key.clone(), value.clone())).collect(),
        ),
        (_, Value::Null) => file.clone(),
        (_, _) => over.clone(),
    }
}

impl One<'_> {
    /// All tries of one call: how many were sent, and how they ended.
    async fn call(&self, batch: &[Excerpt<'_>]) -> (u32, Result<Judged, Fail>) {
        let deadline = self.run.deadline;
        let Ok(Ok(_slot)) = timeout_at(deadline, self.run.slots.acquire()).await else {
            return (0, Err(Fail::Error(ReportError::Deadline)));
        };
        let bulkhead = self.member.bulkhead();
        let patience = deadline.min(Instant::now() + self.ask.timeout);
        let room = match timeout_at(patience, bulkhead.enter()).await {
            Ok(Some(room)) => room,
            Err(_) if patience == deadline => {
                return (0, Err(Fail::Error(ReportError::Deadline)));
            }
            Ok(None) | Err(_) => return (0, Err(Fail::Error(ReportError::BulkheadFull))),
        };
        self.member.budget().call();
        if let Protocol::Builtin(kind) = self.detector.protocol {
            let Some(text) = batch.first() else {
                return (0, Err(Fail::Error(ReportError::UnsupportedContentType)));
            };
            let judging = self.run.detectors.pool.judge(kind, self.params, text.shared(), room);
            let end = self.one_try(async { local_end(judging.await, text) }).await;
            return end.map_or_else(
                |failed| (u32::from(failed.is_some()), Err(fail_of(failed))),
                |judged| (1, Ok(judged)),
            );
        }
        self.tries(batch).await
    }

    async fn tries(&self, batch: &[Excerpt<'_>]) -> (u32, Result<Judged, Fail>) {
        let body = protocol::body(self.detector, self.params, self.run.texts, batch);
        let mut backoff = self.detector.retry.backoff;
        let (mut attempts, mut last) = (0, None);
        while attempts < self.detector.retry.attempts.max(1) {
            match self.one_try(self.send(batch, body.clone())).await {
                Ok(judged) => return (attempts + 1, Ok(judged)),
                Err(None) => break,
                Err(Some(failed)) => {
                    // A forbidden address was never connected to.
                    let sent = failed.fail != Fail::Error(ReportError::EndpointForbidden);
                    attempts += u32::from(sent);
                    let retryable = failed.retryable;
                    last = Some(failed);
                    let pause = jittered(backoff);
                    let in_time = Instant::now() + pause < self.run.deadline;
                    let more = retryable && attempts < self.detector.retry.attempts && in_time;
                    if !more || !self.member.budget().retry() {
                        break;
                    }
                    sleep(pause).await;
                    backoff *= 2;
                }
            }
        }
        (attempts, Err(fail_of(last)))
    }

    /// One try under breaker and time-out; `Err(None)` when the breaker refuses it.
    async fn one_try(
        &self,
        work: impl Future<Output = Result<Judged, Failed>>,
    ) -> Result<Judged, Option<Failed>> {
        let trying = self.member.admit(self.detector).ok_or(None)?;
        let start = Instant::now();
        let own = start + self.ask.timeout;
        let until = own.min(self.run.deadline);
        let result = timeout_at(until, work).await;
        let took = start.elapsed();
        match result {
            Ok(Ok(judged)) => {
                trying.end(Ended::Success);
                self.member.latency().record(took, Instant::now());
                Ok(judged)
            }
            Ok(Err(failed)) => {
                trying.end(failed.ended);
                self.log(&failed);
                Err(Some(failed))
            }
            Err(_) => {
                let cut = self.run.deadline < own;
                // A caller in a hurry must not open the breaker for everyone.
                // Nor may a costly text take a built-in detector from everyone.
                let remote = !matches!(self.detector.protocol, Protocol::Builtin(_));
                let counts = remote && (!cut || took * 2 >= self.ask.timeout);
                let ended = if counts { Ended::Failure } else { Ended::Released };
                trying.end(ended);
                Err(Some(Failed { fail: Fail::Timeout { cut }, retryable: !cut, ended }))
            }
        }
    }

    /// The first failure in a breaker's window is worth a warning, each further one is noise.
    fn log(&self, failed: &Failed) {
        let Fail::Told(error, detail) = &failed.fail else { return };
        let (detector, error) = (&self.detector.name, error.name());
        let first = failed.ended == Ended::Failure && self.member.breaker().recent().0 == 1;
        if first {
            tracing::warn!(%detector, error, %detail, "A detector's answer cannot be used");
        } else {
            tracing::debug!(%detector, error, %detail, "A detector's answer cannot be used");
        }
    }

    async fn send(&self, batch: &[Excerpt<'_>], body: bytes::Bytes) -> Result<Judged, Failed> {
        let (headers, token) = self.headers(None).await?;
        let mut reply = self.answer(body.clone(), headers).await?;
        if reply.status == StatusCode::UNAUTHORIZED && token.is_some() {
            let (headers, _) = self.headers(token.as_ref()).await?;
            reply = self.answer(body, headers).await?;
        }
        if !reply.status.is_success() {
            return Err(self.status_failed(&reply));
        }
        protocol::read(self.detector, self.run.texts, batch, &reply.body)
            .map_err(|why| told(ReportError::BadResponse, &why.0))
    }

    async fn answer(&self, body: bytes::Bytes, headers: HeaderMap) -> Result<Reply, Failed> {
        let reply = self.reply(body, headers).await;
        reply.ok_or_else(|| bad(ReportError::Communication))?.map_err(send_failed)
    }

    /// What comes back; `None` where the protocol has no address for the request.
    async fn reply(
        &self,
        body: bytes::Bytes,
        mut headers: HeaderMap,
    ) -> Option<Result<Reply, SendError>> {
        let uri = protocol::target(self.detector, self.run.texts.work.request)?;
        protocol::sign(self.detector, &uri, &body, &mut headers);
        let body_max = self.run.detectors.config.reply_bytes_max;
        let call = Call { method: Method::POST, uri, headers, body, body_max };
        Some(self.run.detectors.client.send(call).await)
    }

    fn status_failed(&self, reply: &Reply) -> Failed {
        let status = reply.status;
        let says = format!("the service answers with status {}", status.as_u16());
        let asks_for_rest =
            matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
        let rest = reply.retry_after.filter(|_| asks_for_rest);
        if let Some(rest) = rest {
            self.member.rest(Instant::now() + rest.min(self.detector.breaker.open_max));
        }
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            tracing::warn!(detector = %self.detector.name, status = status.as_u16(),
                "A detector refuses our credential");
        }
        if protocol::is_timeout(self.detector, status) {
            let (fail, ended) = (Fail::Timeout { cut: false }, Ended::Failure);
            return Failed { fail, retryable: true, ended };
        }
        if status.is_server_error() {
            let retryable = rest.is_none();
            return Failed { retryable, ..told(ReportError::Communication, &says) };
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
        let work = self.run.texts.work;
        if let Ok(id) = HeaderValue::from_str(work.request.id.as_str()) {
            headers.insert(REQUEST_ID, id);
        }
        if let Some(parent) = &work.traceparent {
            put(&mut headers, "traceparent", parent);
        }
        protocol::headers(self.detector, &mut headers);
        let credential = (&mut headers, stale);
        let authorised = self.run.detectors.authorise(work, self.detector, credential).await;
        let token = authorised.map_err(|why| unauthorised(&why))?;
        headers.values_mut().for_each(|value| value.set_sensitive(true));
        Ok((headers, token))
    }
}

fn fail_of(failed: Option<Failed>) -> Fail {
    failed.map_or(Fail::Error(ReportError::CircuitOpen), |failed| failed.fail)
}

fn bad(error: ReportError) -> Failed {
    Failed { fail: Fail::Error(error), retryable: false, ended: Ended::Failure }
}

fn told(error: ReportError, detail: &str) -> Failed {
    Failed { fail: Fail::Told(error, detail.into()), ..bad(error) }
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
    match error {
        SendError::Forbidden(_) => {
            Failed { ended: Ended::Released, ..bad(ReportError::EndpointForbidden) }
        }
        SendError::Connect(_) | SendError::Broken(_) => {
            Failed { retryable: true, ..bad(ReportError::Communication) }
        }
        SendError::Tls(_) => bad(ReportError::Communication),
        SendError::Protocol(_) | SendError::TooLarge => bad(ReportError::BadResponse),
    }
}

fn local_end(end: Result<Judged, Trouble>, text: &Excerpt<'_>) -> Result<Judged, Failed> {
    match end {
        Ok(mut judged) => {
            for found in &mut judged.findings {
                let span = found.place.and_then(|place| place.span);
                let spot = text.spot_of(span).ok_or_else(|| bad(ReportError::BadResponse))?;
                (found.place, found.view) = (spot.place, spot.view);
            }
            Ok(judged)
        }
        Err(Trouble::Params) => {
            Err(Failed { ended: Ended::Released, ..bad(ReportError::Rejected) })
        }
        Err(Trouble::Panic) => Err(bad(ReportError::BadResponse)),
    }
}
