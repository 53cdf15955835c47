//! One detector in one fan-out: fitness, bulkhead, tries, and the report they make.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, join_all};
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use tracing::field::Empty;
use tracing::{Instrument as _, Span};

use super::excerpt::{Excerpt, Texts};
use super::fit::{self, Fit};
use super::flight::Waited;
use super::local::{Judged, Trouble};
use super::member::Member;
use super::merge::{self, Ending};
use super::protocol;
use super::sending::{self, About, Answer, Fail, Failed, Landing, Sending, bad};
use super::{Ask, Detectors, Work, series, unsent};
use crate::catalog::Detector;
use crate::catalog::detector::{Builtin, Protocol};
use crate::domain::content::Piece;
use crate::domain::digest::Digest;
use crate::domain::finding::Place;
use crate::domain::report::{Report, ReportError, Status};
use crate::operations::breaker::Ended;
use crate::outbound::{Reply, SendError};
use crate::telemetry::traces::{self, SPANS};

/// What all calls of one fan-out share.
#[derive(Clone, Copy)]
pub(super) struct Run<'a> {
    pub(super) detectors: &'a Detectors,
    pub(super) texts: &'a Texts<'a>,
    pub(super) slots: &'a Semaphore,
    pub(super) deadline: Instant,
}

struct One<'a> {
    run: Run<'a>,
    ask: &'a Ask,
    detector: &'a Arc<Detector>,
    member: &'a Arc<Member>,
    params: &'a Value,
}

/// How one call ended.
struct Called {
    /// Tries sent.
    attempts: u32,
    /// Whether it was another request's call.
    joined: bool,
    end: Result<Judged, Fail>,
}

impl Run<'_> {
    pub(super) async fn ask(&self, ask: &Ask) -> Report {
        let span = tracing::trace_span!(target: SPANS, "detector",
            otel.name = format!("detector {}", ask.name), otel.kind = "client",
            otel.status_code = Empty, detector.name = ask.name.as_str(), detector.version = Empty,
            detector.status = Empty, detector.error = Empty, detector.attempts = Empty);
        let report = self.report(ask).instrument(span.clone()).await;
        if !span.is_disabled() {
            tell(&span, &report);
        }
        report
    }

    async fn report(&self, ask: &Ask) -> Report {
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
            let rest = if error == ReportError::Unhealthy { member.rest(start) } else { None };
            return Report { rest, ..unsent(ask, error) };
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
        for (batch, called) in batches.iter().zip(ends) {
            report.attempts += called.attempts;
            report.coalesced |= called.joined;
            match called.end {
                Ok(judged) => {
                    let rank = Some((!judged.findings.is_empty(), judged.score));
                    if rank > best {
                        best = rank;
                        (report.label, report.score) = (judged.label, judged.score);
                    }
                    report.findings.extend(judged.findings);
                    let ending = |excerpt| Ending { excerpt, left_out: None };
                    endings.extend(batch.iter().map(ending));
                    judged.gaps.into_iter().for_each(|gap| merge::add(&mut gaps, gap));
                }
                Err(fail) => failed.push((batch, fail)),
            }
        }
        if failed.len() == batches.len() {
            return failed.first().map_or(report.clone(), |(_, fail)| fail_report(report, fail));
        }
        for (batch, fail) in failed {
            report.cut_by_deadline |= fail == Fail::Timeout { cut: true };
            report.rest = report.rest.max(fail.rest());
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
        one.sending(&batch).raw().await
    }
}

/// Writes into `span` how it ended.
fn tell(span: &Span, report: &Report) {
    span.record("detector.version", &*report.version);
    span.record("detector.status", report.status.name());
    span.record("detector.attempts", report.attempts);
    if let Some(error) = report.error {
        span.record("detector.error", error.name());
    }
    if !matches!(report.status, Status::Success | Status::Skipped) {
        span.record("otel.status_code", "ERROR");
    }
}

fn fail_report(mut report: Report, fail: &Fail) -> Report {
    (report.status, report.error) = match fail {
        Fail::Error(error) | Fail::Told(error, _) | Fail::Later(error, ..) => {
            (error.status(), Some(*error))
        }
        Fail::Timeout { .. } => (Status::Timeout, None),
    };
    report.cut_by_deadline = *fail == Fail::Timeout { cut: true };
    match fail {
        Fail::Told(_, detail) => report.detail = Some(Arc::clone(detail)),
        Fail::Later(_, detail, rest) => {
            (report.detail, report.rest) = (Some(Arc::clone(detail)), Some(*rest));
        }
        Fail::Error(ReportError::BulkheadFull) => {
            let why = "too many calls of it are under way and wait; see `bulkhead` and `throttle`";
            report.detail = Some(why.into());
        }
        Fail::Error(_) | Fail::Timeout { .. } => {}
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
    /// All tries of one call: how many were sent, whether another request's were, how they ended.
    async fn call(&self, batch: &[Excerpt<'_>]) -> Called {
        let deadline = self.run.deadline;
        let Ok(Ok(_slot)) = timeout_at(deadline, self.run.slots.acquire()).await else {
            return unsent_for(ReportError::Deadline);
        };
        match self.detector.protocol {
            Protocol::Builtin(kind) => self.judge(kind, batch).await,
            Protocol::Native | Protocol::Kserve(_) | Protocol::Http(_) => self.send(batch).await,
        }
    }

    /// Sends, or waits for an equal call that another request has sent.
    async fn send(&self, batch: &[Excerpt<'_>]) -> Called {
        let (detectors, deadline) = (self.run.detectors, self.run.deadline);
        let sending = self.sending(batch);
        let shares = self.run.texts.work.request.shares();
        let key = shares.then(|| self.key(&sending, batch));
        let gathered = self.gathering(&sending);
        let call = |progress| match gathered {
            Some((key, patience)) => {
                let gatherings = Arc::clone(&detectors.gatherings);
                Either::Left(gatherings.run(key, sending, (progress, patience)))
            }
            None => Either::Right(sending.run(progress)),
        };
        let ticket = detectors.flights.board(key, deadline, call);
        let joined = ticket.joined;
        let (attempts, end) = match ticket.wait(deadline).await {
            Waited::Late(0) => return unsent_for(ReportError::Deadline),
            Waited::Late(sent) => (sent, Err(Fail::Timeout { cut: true })),
            Waited::Crashed => (1, Err(Fail::Error(ReportError::BadResponse))),
            Waited::Landed(Landing { attempts, end }) => (attempts, end),
        };
        let end = end.and_then(|answer| self.read(batch, &answer));
        Called { attempts, joined, end }
    }

    /// With whom a call may be made together, and how long it waits for them. Over our own protocol
    /// each item says all that it is about.
    fn gathering(&self, sending: &Sending) -> Option<(Digest, Duration)> {
        let own = Some(self.detector.batch_delay).filter(|delay| !delay.is_zero());
        let patience = self.run.texts.work.request.gather.or(own)?;
        let native = matches!(self.detector.protocol, Protocol::Native);
        self.detector.batch.filter(|_| native)?;
        Some((self.with(sending, b""), patience))
    }

    fn read(&self, batch: &[Excerpt<'_>], answer: &Answer) -> Result<Judged, Fail> {
        match protocol::read(self.detector, self.run.texts, batch, &answer.body) {
            Ok(judged) => {
                answer.settle(self.member, Ended::Success);
                Ok(judged)
            }
            Err(why) => {
                let failed = sending::told(ReportError::BadResponse, &why.0);
                if answer.settle(self.member, failed.ended) {
                    sending::log(self.detector, self.member, &failed);
                }
                Err(failed.fail)
            }
        }
    }

    fn sending(&self, batch: &[Excerpt<'_>]) -> Sending {
        let texts = self.run.texts;
        let Work { request, caller, .. } = texts.work;
        Sending {
            line: Arc::clone(&self.run.detectors.line),
            detector: Arc::clone(self.detector),
            member: Arc::clone(self.member),
            about: About {
                request: request.id.clone(),
                tenant: request.tenant.clone(),
                caller: (*caller).to_owned(),
                trace: traces::current().or_else(|| request.trace.clone()),
            },
            timeout: self.ask.timeout,
            uris: protocol::targets(self.detector, request),
            body: protocol::body(self.detector, self.params, texts, batch),
        }
    }

    /// Equal for calls that differ in the request's id at most. A definition's address stands for
    /// name, version and file: the call keeps it alive, and a changed file is another one.
    fn key(&self, sending: &Sending, batch: &[Excerpt<'_>]) -> Digest {
        let body = protocol::without_id(self.detector, self.params, self.run.texts, batch);
        self.with(sending, body.as_ref().unwrap_or(&sending.body))
    }

    /// Of everything that a call is but its texts, and of `body`.
    fn with(&self, sending: &Sending, body: &[u8]) -> Digest {
        let definition = Arc::as_ptr(self.detector) as usize;
        let uri = sending.uris.first().map(ToString::to_string).unwrap_or_default();
        let caller = self.detector.delegation.as_ref().map_or("", |_| &sending.about.caller);
        Digest::of_all([
            sending.about.tenant.as_str().as_bytes(),
            &definition.to_ne_bytes(),
            &self.ask.timeout.as_nanos().to_ne_bytes(),
            uri.as_bytes(),
            caller.as_bytes(),
            body,
        ])
    }

    async fn judge(&self, kind: Builtin, batch: &[Excerpt<'_>]) -> Called {
        let deadline = self.run.deadline;
        let (bulkhead, began) = (self.member.bulkhead(), Instant::now());
        let patience = deadline.min(began + self.ask.timeout);
        let room = match timeout_at(patience, bulkhead.enter()).await {
            Ok(Some(room)) => room,
            Err(_) if patience == deadline => return unsent_for(ReportError::Deadline),
            Ok(None) | Err(_) => return unsent_for(ReportError::BulkheadFull),
        };
        self.run.detectors.config.metrics.turn(series(self.detector), began.elapsed());
        self.member.budget().call();
        let Some(text) = batch.first() else {
            return unsent_for(ReportError::UnsupportedContentType);
        };
        let trying = match self.member.admit(self.detector, 0) {
            Ok(trying) => trying,
            Err(error) => return unsent_for(error),
        };
        let (pool, priority) = (&self.run.detectors.pool, self.run.texts.work.request.priority);
        let judging = pool.judge((kind, self.params), text.shared(), priority, room);
        let start = Instant::now();
        let own = start + self.ask.timeout;
        let result = match timeout_at(own.min(deadline), judging).await {
            Ok(judged) => local_end(judged, text),
            // A costly text must not take a built-in detector from everyone.
            Err(_) => Err(Failed::late(deadline < own, Ended::Released)),
        };
        trying.end(result.as_ref().map_or_else(|failed| failed.ended, |_| Ended::Success));
        if result.is_ok() {
            self.member.latency().record(start.elapsed(), Instant::now());
        }
        Called { attempts: 1, joined: false, end: result.map_err(|failed| failed.fail) }
    }
}

fn unsent_for(error: ReportError) -> Called {
    Called { attempts: 0, joined: false, end: Err(Fail::Error(error)) }
}

fn local_end(end: Result<Judged, Trouble>, text: &Excerpt<'_>) -> Result<Judged, Failed> {
    match end {
        Ok(mut judged) => {
            for found in &mut judged.findings {
                let span = found.place.and_then(|place| place.span);
                let spot = text.spot_of(span).ok_or_else(|| bad(ReportError::BadResponse))?;
                (found.place, found.view) = (spot.place, spot.view);
            }
            for gap in &mut judged.gaps {
                let spot = text.spot_of(gap.span).and_then(|spot| spot.place);
                let Place { piece, span } = spot.ok_or_else(|| bad(ReportError::BadResponse))?;
                (gap.piece, gap.span) = (piece, span);
                gap.chars = span.map_or(gap.chars, |span| span.end - span.start);
            }
            Ok(judged)
        }
        Err(Trouble::Params) => Err(Failed::released(ReportError::Rejected)),
        Err(Trouble::Panic) => Err(bad(ReportError::BadResponse)),
    }
}
