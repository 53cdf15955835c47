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

/// Equal for every native detector without parameters, and made once.
pub(super) fn body(params: &Value, texts: &Texts<'_>, excerpt: &Excerpt<'_>) -> Bytes {
    let plain = params.as_object().is_none_or(Map::is_empty);
    let make = || {
        let Work { request, pieces, .. } = texts.work;
        let piece = pieces.get(excerpt.piece);
        let content_type = piece.map_or(request.content_type, |piece| piece.content_type);
        to_bytes(&Request {
            content: excerpt.text(),
            content_type: content_type.name(),
            metadata: &request.metadata,
            request_id: request.id.as_str(),
            tenant_id: request.tenant.as_str(),
            params: (!plain).then_some(params),
        })
    };
    if plain { excerpt.native(make) } else { make() }
}

pub(super) fn read(
    detector: &Detector,
    excerpt: &Excerpt<'_>,
    reply: &[u8],
) -> Result<Judged, Bad> {
    let reply: Reply = parse(reply)?;
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
            spot: excerpt.spot(range, OffsetUnit::Codepoint).ok_or(Bad)?,
        };
        findings.extend(said.finding(detector));
    }
    let severity = severity(reply.severity.as_deref())?;
    match (word, score) {
        (Some(word), Some(score)) if reply.findings.as_ref().is_none_or(Vec::is_empty) => {
            let spot = excerpt.spot_of(None).ok_or(Bad)?;
            let category = reply.category.as_deref();
            findings
                .extend(Said { label: word, category, severity, score, spot }.finding(detector));
        }
        (Some(_), Some(_)) => {}
        (None, None) if reply.findings.is_some() => {}
        (Some(_) | None, _) => return Err(Bad),
    }
    Ok(Judged { label: own_label(word), score, findings })
}

fn severity(raw: Option<&str>) -> Result<Option<crate::domain::finding::Severity>, Bad> {
    raw.map(|raw| label::severity(raw).ok_or(Bad)).transpose()
}
