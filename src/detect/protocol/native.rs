//! Our own protocol: one piece in, label, score and findings out.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Bad, Said, own_label, parse, probability, to_bytes};
use crate::catalog::Detector;
use crate::detect::excerpt::{Excerpt, Texts};
use crate::detect::{Judged, Work, label};
use crate::domain::span::OffsetUnit;

#[derive(Serialize)]
struct Request<'a> {
    content: &'a str,
    content_type: &'a str,
    metadata: &'a Map<String, Value>,
    request_id: &'a str,
    tenant_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    params: Option<&'a Value>,
}

#[derive(Deserialize)]
struct Reply {
    label: Option<String>,
    output: Option<String>,
    score: Option<f64>,
    confidence: Option<f64>,
    severity: Option<String>,
    category: Option<String>,
    findings: Option<Vec<Item>>,
}

#[derive(Deserialize)]
struct Item {
    label: String,
    score: f64,
    category: Option<String>,
    severity: Option<String>,
    start: Option<u64>,
    end: Option<u64>,
}

/// Equal for every native detector without parameters, and made once; `{items: […]}` where the
/// file asks for batches.
pub(super) fn body(
    detector: &Detector,
    params: &Value,
    texts: &Texts<'_>,
    batch: &[Excerpt<'_>],
) -> Bytes {
    let id = texts.work.request.id.as_str();
    let make = || body_for(id, detector, params, (texts, batch));
    match batch {
        [first, ..] if detector.batch.is_none() && given(params).is_none() => first.native(make),
        _ => make(),
    }
}

/// The body with no id.
pub(super) fn without_id(
    detector: &Detector,
    params: &Value,
    texts: &Texts<'_>,
    batch: &[Excerpt<'_>],
) -> Bytes {
    body_for("", detector, params, (texts, batch))
}

fn body_for(
    id: &str,
    detector: &Detector,
    params: &Value,
    (texts, batch): (&Texts<'_>, &[Excerpt<'_>]),
) -> Bytes {
    #[derive(Serialize)]
    struct Items<'a> {
        items: Vec<Request<'a>>,
    }
    let one = |excerpt| request(id, given(params), texts, excerpt);
    match batch {
        _ if detector.batch.is_some() => {
            to_bytes(&Items { items: batch.iter().map(one).collect() })
        }
        [first, ..] => to_bytes(&one(first)),
        [] => Bytes::new(),
    }
}

fn given(params: &Value) -> Option<&Value> {
    Some(params).filter(|params| params.as_object().is_some_and(|params| !params.is_empty()))
}

fn request<'a>(
    id: &'a str,
    params: Option<&'a Value>,
    texts: &'a Texts<'_>,
    excerpt: &'a Excerpt<'_>,
) -> Request<'a> {
    let Work { request, pieces, .. } = texts.work;
    let piece = pieces.get(excerpt.piece);
    Request {
        content: excerpt.text(),
        content_type: piece.map_or(request.content_type, |piece| piece.content_type).name(),
        metadata: &request.metadata,
        request_id: id,
        tenant_id: request.tenant.as_str(),
        params,
    }
}

pub(super) fn read(
    detector: &Detector,
    batch: &[Excerpt<'_>],
    reply: &[u8],
) -> Result<Judged, Bad> {
    #[derive(Deserialize)]
    struct Items {
        items: Vec<Reply>,
    }
    let replies =
        if detector.batch.is_some() { parse::<Items>(reply)?.items } else { vec![parse(reply)?] };
    if replies.len() != batch.len() {
        return Err(Bad(format!("{} items answer {} texts", replies.len(), batch.len())));
    }
    let mut all = Judged::default();
    let mut best = None;
    for (excerpt, reply) in batch.iter().zip(replies) {
        let judged = read_one(detector, excerpt, &reply)?;
        // The word of the text with findings, then of the surest one, stands for all.
        let rank = Some((!judged.findings.is_empty(), judged.score));
        if rank > best {
            best = rank;
            (all.label, all.score) = (judged.label, judged.score);
        }
        all.findings.extend(judged.findings);
    }
    Ok(all)
}

fn read_one(detector: &Detector, excerpt: &Excerpt<'_>, reply: &Reply) -> Result<Judged, Bad> {
    let word = reply.label.as_deref().or(reply.output.as_deref());
    let score = reply.score.or(reply.confidence).map(probability).transpose()?;
    let mut findings = Vec::new();
    for item in reply.findings.iter().flatten() {
        let range = (item.start, item.end);
        let said = Said {
            label: &item.label,
            category: item.category.as_deref(),
            severity: severity(item.severity.as_deref())?,
            score: probability(item.score)?,
            spot: excerpt.spot(range, OffsetUnit::Codepoint).ok_or_else(outside)?,
        };
        findings.extend(said.finding(detector));
    }
    let severity = severity(reply.severity.as_deref())?;
    match (word, score) {
        (Some(word), Some(score)) if reply.findings.as_ref().is_none_or(Vec::is_empty) => {
            let spot = excerpt.spot_of(None).ok_or_else(outside)?;
            let category = reply.category.as_deref();
            findings
                .extend(Said { label: word, category, severity, score, spot }.finding(detector));
        }
        (Some(_), Some(_)) => {}
        (None, None) if reply.findings.is_some() => {}
        (Some(_) | None, _) => {
            return Err(Bad("the reply has neither label and score nor findings".to_owned()));
        }
    }
    Ok(Judged { label: own_label(word), score, findings, gaps: Vec::new() })
}

fn severity(raw: Option<&str>) -> Result<Option<crate::domain::finding::Severity>, Bad> {
    raw.map(|raw| label::severity(raw).ok_or_else(unknown)).transpose()
}

fn outside() -> Bad {
    Bad("a span is empty, half, or outside the text".to_owned())
}

fn unknown() -> Bad {
    Bad("a severity is none of low, medium, high and critical".to_owned())
}
