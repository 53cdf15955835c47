//! The open Detector API, kind text_contents: all texts in one call, a list of findings for each.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Bad, Said, parse, probability, to_bytes};
use crate::catalog::Detector;
use crate::detect::Judged;
use crate::detect::excerpt::Excerpt;
use crate::domain::span::OffsetUnit;

/// Appended to the endpoint.
pub(in crate::detect) const PATH: &str = "/api/v1/text/contents";

#[derive(Deserialize)]
struct Item {
    start: u64,
    end: u64,
    detection: String,
    detection_type: String,
    score: f64,
}

/// `detector_params` is sent even when empty: some servers demand it.
pub(super) fn body(params: &Value, batch: &[Excerpt<'_>]) -> Bytes {
    let params = if params.is_object() { params } else { &json!({}) };
    #[derive(serde::Serialize)]
    struct Request<'a> {
        contents: Vec<&'a str>,
        detector_params: &'a Value,
    }
    to_bytes(&Request {
        contents: batch.iter().map(Excerpt::text).collect(),
        detector_params: params,
    })
}

pub(super) fn read(
    detector: &Detector,
    batch: &[Excerpt<'_>],
    reply: &[u8],
) -> Result<Judged, Bad> {
    let lists: Vec<Vec<Item>> = parse(reply)?;
    if lists.len() != batch.len() {
        return Err(Bad);
    }
    let mut findings = Vec::new();
    for (excerpt, items) in batch.iter().zip(&lists) {
        for item in items {
            // The table may name either word; the more specific one comes first.
            let by_type = !detector.labels.contains_key(&item.detection)
                && detector.labels.contains_key(&item.detection_type);
            let said = Said {
                label: if by_type { &item.detection_type } else { &item.detection },
                category: Some(&item.detection_type),
                severity: None,
                score: probability(item.score)?,
                spot: excerpt
                    .spot((Some(item.start), Some(item.end)), OffsetUnit::Codepoint)
                    .ok_or(Bad)?,
            };
            findings.extend(said.finding(detector));
        }
    }
    Ok(Judged { label: None, score: None, findings })
}
