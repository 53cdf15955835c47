//! `orchestrator scan`: the main job on files, without a server.

use std::io::{IsTerminal as _, Read as _};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{ScanArgs, Session, complain, exit, print};
use crate::api::wire::request::{Bounds, OrchestrateRequest};
use crate::api::wire::response;
use crate::auth::Caller;
use crate::domain::action::Action;
use crate::domain::content::Body;
use crate::domain::error::Error;
use crate::domain::id::{RequestId, TenantId};
use crate::domain::outcome::Outcome;
use crate::domain::request::{Include, Request};
use crate::orchestrator;

/// Files judged at once.
const PARALLEL: usize = 8;

/// Bytes of a file; four per character at most.
const BYTES_PER_CHAR: u64 = 4;

pub(super) fn run(args: &ScanArgs) -> u8 {
    let session = match Session::open(args.config.as_deref()) {
        Ok(session) => session,
        Err(code) => return code,
    };
    let Ok(tenant) = TenantId::parse(&args.tenant) else {
        complain(&format!("--tenant: `{}` is no tenant id", args.tenant));
        return exit::USAGE;
    };
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        complain("the async runtime could not be started");
        return exit::INTERNAL;
    };
    runtime.block_on(all(args, &session, tenant))
}

async fn all(args: &ScanArgs, session: &Session, tenant: TenantId) -> u8 {
    let bar = progress(args.files.len());
    let jobs = args.files.iter().map(|file| {
        let tenant = tenant.clone();
        async move { (file, one(args, session, tenant, file).await) }
    });
    let mut results = futures_util::stream::iter(jobs).buffered(PARALLEL);
    let mut worst = exit::OK;
    let mut failed = None;
    while let Some((file, result)) = results.next().await {
        bar.inc(1);
        match result {
            Ok(judged) if args.redact && judged.outcome.redacted.is_none() => {
                let why = "not everything was judged, so no redacted text can be given";
                let name = file.display();
                bar.suspend(|| {
                    complain(&format!("{name}: {why}; scan it without --redact to see what"))
                });
                failed = failed.max(Some(exit::UNAVAILABLE));
            }
            Ok(judged) => {
                bar.suspend(|| show(args, file, &judged));
                worst = worst.max(code_of(judged.outcome.verdict.action));
            }
            Err(fault) => {
                bar.suspend(|| complain(&format!("{}: {}", file.display(), fault.message)));
                failed = failed.max(Some(fault.exit));
            }
        }
    }
    bar.finish_and_clear();
    failed.unwrap_or(worst)
}

fn code_of(action: Action) -> u8 {
    match action {
        Action::Allow | Action::Flag => exit::OK,
        Action::Redact | Action::Review => exit::LOOK,
        Action::Block => exit::BLOCK,
    }
}

fn progress(files: usize) -> ProgressBar {
    if files < 2 || !std::io::stderr().is_terminal() {
        return ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
    }
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} files, {eta} left");
    let bar = ProgressBar::new(files as u64);
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

struct Judged {
    request: Request,
    outcome: Outcome,
    took: Duration,
}

struct Fault {
    exit: u8,
    message: String,
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self { exit: exit::NO_INPUT, message: error.message }
    }
}

async fn one(
    args: &ScanArgs,
    session: &Session,
    tenant: TenantId,
    file: &Path,
) -> Result<Judged, Fault> {
    let started = Instant::now();
    let bytes_max = session.content_max_chars() as u64 * BYTES_PER_CHAR;
    let bytes = read(file, bytes_max)?;
    let wire = wire(args, file, bytes)?;
    let id = uuid::Uuid::now_v7().to_string();
    let id = RequestId::parse(&id)
        .map_err(|error| Fault { exit: exit::INTERNAL, message: error.to_string() })?;
    let bounds = Bounds { content_chars_max: session.content_max_chars() };
    let mut request = wire.into_domain(id, tenant, bounds)?;
    if args.redact {
        request.include.push(Include::Redacted);
    }
    let caller = Caller { actor: "scan".into(), ..Caller::development() };
    let outcome = orchestrator::run(&session.deps, &session.snapshot, &caller, &request).await?;
    Ok(Judged { request, outcome, took: started.elapsed() })
}

fn read(file: &Path, bytes_max: u64) -> Result<Vec<u8>, Fault> {
    let unreadable = |error: std::io::Error| Fault {
        exit: exit::NO_INPUT,
        message: format!("could not be read: {error}"),
    };
    let mut bytes = Vec::new();
    if file == Path::new("-") {
        std::io::stdin().lock().take(bytes_max + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    } else {
        let opened = std::fs::File::open(file).map_err(unreadable)?;
        if opened.metadata().is_ok_and(|data| data.is_dir()) {
            let message = "is a folder; name its files, such as with folder/*".to_owned();
            return Err(Fault { exit: exit::NO_INPUT, message });
        }
        opened.take(bytes_max + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    }
    if bytes.len() as u64 > bytes_max {
        let message = format!("holds more than {bytes_max} bytes; split it");
        return Err(Fault { exit: exit::NO_INPUT, message });
    }
    Ok(bytes)
}

/// A `.json` file that holds `messages` or `content` is a request; anything else is plain text.
fn wire(args: &ScanArgs, file: &Path, bytes: Vec<u8>) -> Result<OrchestrateRequest, Fault> {
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let message = format!("is no UTF-8 text (byte {at}); convert it first");
        Fault { exit: exit::NO_INPUT, message }
    })?;
    let mut wire = if file.extension().is_some_and(|ending| ending == "json") && is_request(&text) {
        OrchestrateRequest::parse(text.as_bytes())?
    } else {
        OrchestrateRequest::of_text(&text)
    };
    wire.policy = args.policy.clone().or(wire.policy);
    wire.tenant_id = None;
    if let Some(style) = &args.style {
        // Only names of styles are accepted.
        wire.redaction.0.style = serde_json::from_value(style.as_str().into()).ok();
    }
    if args.content_type != "text" {
        wire.content_type =
            serde_json::from_value(args.content_type.clone().into()).map_err(|_| {
                let message = "--type must be text, document, code or image".to_owned();
                Fault { exit: exit::USAGE, message }
            })?;
    }
    Ok(wire)
}

fn is_request(text: &str) -> bool {
    let value: Option<serde_json::Map<String, serde_json::Value>> = serde_json::from_str(text).ok();
    value.is_some_and(|object| object.contains_key("messages") || object.contains_key("content"))
}

fn show(args: &ScanArgs, file: &Path, judged: &Judged) {
    let answer = response::render(&judged.outcome, &judged.request, judged.took);
    if args.json {
        let mut value = serde_json::to_value(&answer).unwrap_or_default();
        if let Some(object) = value.as_object_mut() {
            object.insert("file".into(), file.display().to_string().into());
        }
        return print(&value.to_string());
    }
    if args.redact {
        return print(&redacted_text(judged));
    }
    let reasons: Vec<&str> = answer.reasons.iter().map(|reason| reason.message.as_str()).collect();
    let reasons =
        if reasons.is_empty() { String::new() } else { format!("  {}", reasons.join("; ")) };
    print(&format!("{}: {}{reasons}", file.display(), answer.action.name()));
    for finding in &judged.outcome.judgement.findings {
        let place = place_of(judged, finding.place).unwrap_or_default();
        let detectors: Vec<&str> = finding.detectors.iter().map(|name| name.as_str()).collect();
        print(&format!(
            "  {place:<8} {} {:.2} {} ({})",
            finding.category,
            finding.score,
            finding.severity.name(),
            detectors.join(", ")
        ));
    }
    for gap in &answer.unjudged {
        let what = gap.detector.or(gap.pointer).unwrap_or("content");
        print(&format!("  unjudged {what}: {}", gap.reason));
    }
}

fn redacted_text(judged: &Judged) -> String {
    let Some(redacted) = &judged.outcome.redacted else { return String::new() };
    match &redacted.body {
        Body::Content(crate::domain::content::Content::Text(text)) => text.to_string(),
        Body::Content(_) | Body::Messages(_) => {
            serde_json::to_string_pretty(&redacted.body).unwrap_or_default()
        }
    }
}

/// `line:column`, 1-based, of where a finding starts.
fn place_of(judged: &Judged, place: Option<crate::domain::finding::Place>) -> Option<String> {
    let place = place?;
    let span = place.span?;
    let text: &Arc<str> = judged.outcome.pieces.get(place.piece)?.text.as_ref()?;
    let (mut line, mut column) = (1, 1);
    for c in text.chars().take(span.start) {
        if c == '\n' {
            line += 1;
            column = 1;
        } else {
            column += 1;
        }
    }
    Some(format!("{line}:{column}"))
}
