//! The wire protocols: what is sent for a piece, and what a reply means. Every reply is untrusted.

use std::sync::Arc;

use ::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::catalog::Detector;
use crate::catalog::detector::{Auth, Exchange, Fill, Grain, Mapping, Protocol, Slot};
use crate::detect::excerpt::{Excerpt, Spot, Texts};
use crate::detect::{Judged, label};
use crate::domain::finding::{Finding, Polarity, Severity};
use crate::domain::request::Request;
use crate::seal::AwsRequest;

mod fill;
mod http;
mod kserve;
mod native;

const DEPTH_MAX: usize = 32;
const FINDINGS_MAX: usize = 10_000;
/// Texts per call of a protocol that takes a list, unless the file says otherwise.
const LIST_MAX: usize = 32;

/// Why the reply breaks the protocol or a bound, for people; never text of the reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bad(pub(super) String);

/// Whether the request holds what the detector must be told; else what is missing, for people.
pub(super) fn suits(detector: &Detector, request: &Request) -> Result<(), &'static str> {
    let Protocol::Http(mapping) = &detector.protocol else { return Ok(()) };
    let has = |slot: &Slot| match slot {
        Slot::Prompt => fill::prompt(request).is_some(),
        Slot::Documents => !request.context.documents.is_empty(),
        Slot::Content
        | Slot::Contents
        | Slot::ContentType
        | Slot::Direction
        | Slot::Language
        | Slot::LanguagePrimary
        | Slot::Messages
        | Slot::Metadata
        | Slot::Params
        | Slot::Param(_)
        | Slot::RequestId
        | Slot::Tenant
        | Slot::Tools
        | Slot::Literal(_) => true,
    };
    let lacks = |fill: &&Fill| !fill.drop && !fill.ways.iter().any(has);
    let exchange = mapping.exchange(request.direction);
    let exchange = exchange.ok_or("the protocol has no call for this direction")?;
    match exchange.request.fills().into_iter().find(lacks) {
        None => Ok(()),
        Some(fill) if fill.ways.contains(&Slot::Prompt) => Err("the request has no prompt"),
        Some(_) => Err("the request has no documents"),
    }
}

/// Where a call may go: each endpoint, with the protocol's path appended where it has one. Empty
/// where the protocol has no address for the request.
pub(super) fn targets(detector: &Detector, request: &Request) -> Vec<Uri> {
    let path = match &detector.protocol {
        Protocol::Builtin(_) | Protocol::Native => "",
        Protocol::Kserve(model) => &model.path,
        Protocol::Http(mapping) => match mapping.exchange(request.direction) {
            Some(exchange) => &exchange.path,
            None => return Vec::new(),
        },
    };
    let uris: Option<_> = detector.endpoints().map(|to| target(&to.uri, path)).collect();
    uris.unwrap_or_default()
}

fn target(uri: &Uri, path: &str) -> Option<Uri> {
    if path.is_empty() {
        return Some(uri.clone());
    }
    let mut parts = uri.clone().into_parts();
    let path = format!("{}{path}", uri.path().trim_end_matches('/'));
    parts.path_and_query = Some(path.parse().ok()?);
    Uri::from_parts(parts).ok()
}

/// The calls that `excerpts` need: a list where the protocol takes one.
pub(super) fn batches<'a>(
    detector: &Detector,
    request: &Request,
    excerpts: Vec<Excerpt<'a>>,
) -> Vec<Vec<Excerpt<'a>>> {
    let most = |least| detector.batch.map_or(least, Into::into);
    let exchange = exchange(detector, request);
    match exchange.map(Exchange::grain) {
        Some(Grain::List) => {
            let vendors = exchange.and_then(|exchange| exchange.batch).map(Into::into);
            chunks(excerpts, most(LIST_MAX).min(vendors.unwrap_or(usize::MAX)))
        }
        Some(Grain::Each) => chunks(excerpts, 1),
        Some(Grain::Whole) => rounds(excerpts),
        None => {
            let list = matches!(detector.protocol, Protocol::Kserve(_));
            chunks(excerpts, most(if list { LIST_MAX } else { 1 }))
        }
    }
}

fn chunks(excerpts: Vec<Excerpt<'_>>, most: usize) -> Vec<Vec<Excerpt<'_>>> {
    let mut batches: Vec<Vec<_>> = Vec::new();
    for excerpt in excerpts {
        match batches.last_mut() {
            Some(last) if last.len() < most => last.push(excerpt),
            Some(_) | None => batches.push(vec![excerpt]),
        }
    }
    batches
}

/// One call for the whole conversation, and one more for each further excerpt of a piece.
fn rounds(excerpts: Vec<Excerpt<'_>>) -> Vec<Vec<Excerpt<'_>>> {
    let mut rounds: Vec<Vec<Excerpt<'_>>> = Vec::new();
    for excerpt in excerpts {
        let free = |round: &&mut Vec<Excerpt<'_>>| round.iter().all(|e| e.piece != excerpt.piece);
        match rounds.iter_mut().find(free) {
            Some(round) => round.push(excerpt),
            None => rounds.push(vec![excerpt]),
        }
    }
    rounds
}

fn exchange<'a>(detector: &'a Detector, request: &Request) -> Option<&'a Exchange> {
    mapping(detector)?.exchange(request.direction)
}

fn mapping(detector: &Detector) -> Option<&Mapping> {
    match &detector.protocol {
        Protocol::Http(mapping) => Some(mapping),
        Protocol::Native | Protocol::Kserve(_) | Protocol::Builtin(_) => None,
    }
}

/// The headers that the protocol adds.
pub(super) fn headers(detector: &Detector, into: &mut HeaderMap) {
    for (name, value) in mapping(detector).into_iter().flat_map(|mapping| &mapping.headers) {
        let (name, value) = (HeaderName::try_from(name), HeaderValue::from_str(value));
        if let (Ok(name), Ok(value)) = (name, value) {
            into.insert(name, value);
        }
    }
}

/// Signs the call where the credential asks for it; `headers` are complete.
pub(super) fn sign(detector: &Detector, uri: &Uri, body: &[u8], headers: &mut HeaderMap) {
    let Auth::Aws(keys) = &detector.auth else { return };
    let Some(signing) = mapping(detector).and_then(|mapping| mapping.signing.as_ref()) else {
        return;
    };
    let host = uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
    let region = signing.region.as_deref().or_else(|| aws_region(host)).unwrap_or("us-east-1");
    let time = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
    let request = AwsRequest {
        time: &time,
        region,
        service: &signing.service,
        method: "POST",
        path: uri.path(),
        headers: &[("content-type", "application/json"), ("host", host)],
        body,
    };
    for (name, value) in keys.sign(&request) {
        if let Ok(mut value) = HeaderValue::try_from(value) {
            value.set_sensitive(true);
            headers.insert(name, value);
        }
    }
}

/// `eu-central-1` of `bedrock-runtime.eu-central-1.amazonaws.com`.
fn aws_region(host: &str) -> Option<&str> {
    host.split_once(".amazonaws.com")?.0.rsplit('.').next()
}

/// Whether the service says with `status` that it took too long.
pub(super) fn is_timeout(detector: &Detector, status: StatusCode) -> bool {
    mapping(detector).and_then(|mapping| mapping.timeout_status) == Some(status.as_u16())
}

/// The body of one call.
pub(super) fn body(
    detector: &Detector,
    params: &Value,
    texts: &Texts<'_>,
    batch: &[Excerpt<'_>],
) -> Bytes {
    match (&detector.protocol, exchange(detector, texts.work.request)) {
        (Protocol::Native, _) => native::body(detector, params, texts, batch),
        (Protocol::Kserve(model), _) => kserve::body(model, params, batch),
        (_, Some(exchange)) => {
            let id = texts.work.request.id.as_str();
            to_bytes(&fill::Filling { texts, batch, params, id }.fill(&exchange.request))
        }
        (Protocol::Builtin(_) | Protocol::Http(_), None) => Bytes::new(),
    }
}

/// The body of one call as it would be without the request's id; `None` where it holds none.
pub(super) fn without_id(
    detector: &Detector,
    params: &Value,
    texts: &Texts<'_>,
    batch: &[Excerpt<'_>],
) -> Option<Bytes> {
    match (&detector.protocol, exchange(detector, texts.work.request)) {
        (Protocol::Native, _) => Some(native::without_id(detector, params, texts, batch)),
        (_, Some(exchange)) => {
            let named = |fill: &Fill| fill.ways.contains(&Slot::RequestId);
            exchange.request.fills().into_iter().any(named).then(|| {
                let filling = fill::Filling { texts, batch, params, id: "" };
                to_bytes(&filling.fill(&exchange.request))
            })
        }
        (Protocol::Builtin(_) | Protocol::Kserve(_) | Protocol::Http(_), None) => None,
    }
}

/// What the body of a 2xx says.
pub(super) fn read(
    detector: &Detector,
    texts: &Texts<'_>,
    batch: &[Excerpt<'_>],
    reply: &[u8],
) -> Result<Judged, Bad> {
    if too_deep(reply) {
        return Err(Bad(format!("the reply nests deeper than {DEPTH_MAX}")));
    }
    let judged = match (&detector.protocol, exchange(detector, texts.work.request)) {
        (Protocol::Native, _) => native::read(detector, batch, reply),
        (Protocol::Kserve(model), _) => kserve::read(detector, model, batch, reply),
        (_, Some(exchange)) => {
            http::read(&http::Reading { detector, texts, batch }, exchange, reply)
        }
        (Protocol::Builtin(_) | Protocol::Http(_), None) => {
            Err(Bad("the protocol has no call for this direction".to_owned()))
        }
    }?;
    if judged.findings.len() > FINDINGS_MAX {
        return Err(Bad(format!("the reply holds more than {FINDINGS_MAX} findings")));
    }
    Ok(judged)
}

fn parse<T: DeserializeOwned>(reply: &[u8]) -> Result<T, Bad> {
    serde_json::from_slice(reply).map_err(|error| {
        let what = match error.classify() {
            serde_json::error::Category::Data => "has not the shape of the protocol",
            serde_json::error::Category::Io
            | serde_json::error::Category::Syntax
            | serde_json::error::Category::Eof => "is no JSON",
        };
        Bad(format!("the reply {what} (line {}, column {})", error.line(), error.column()))
    })
}

/// Whether brackets outside strings nest deeper than allowed; looks at bytes, parses nothing.
fn too_deep(reply: &[u8]) -> bool {
    let (mut depth, mut quoted, mut escaped) = (0usize, false, false);
    for byte in reply {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'[' | b'{' if !quoted => depth += 1,
            b']' | b'}' if !quoted => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEPTH_MAX {
            return true;
        }
    }
    false
}

fn probability(score: f64) -> Result<f64, Bad> {
    if (0.0..=1.0).contains(&score) {
        return Ok(score);
    }
    Err(Bad("a score is out of range".to_owned()))
}

/// One thing a reply says, before its word is understood.
struct Said<'a> {
    label: &'a str,
    category: Option<&'a str>,
    severity: Option<Severity>,
    score: f64,
    spot: Spot,
}

impl Said<'_> {
    /// A finding, unless the word speaks for the content.
    fn finding(self, detector: &Detector) -> Option<Finding> {
        let meaning = label::meaning(detector, self.label, self.category);
        if meaning.polarity == Polarity::Negative {
            return None;
        }
        let known = detector.labels.contains_key(self.label);
        Some(Finding {
            category: meaning.category?,
            label: label::clean(self.label),
            score: self.score,
            severity: self.severity.filter(|_| !known).unwrap_or(meaning.severity),
            place: self.spot.place,
            view: self.spot.view,
            attributes: std::collections::BTreeMap::new(),
        })
    }
}

fn to_bytes(value: &impl serde::Serialize) -> Bytes {
    // Maps with text keys and finite numbers always serialise.
    serde_json::to_vec(value).unwrap_or_default().into()
}

fn own_label(label: Option<&str>) -> Option<Arc<str>> {
    label.map(label::clean)
}
