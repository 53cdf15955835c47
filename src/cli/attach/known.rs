//! Protocols that the product knows: each is asked in its own words, and only an answer that makes
//! sense in them counts.

use super::Attach;
use super::file::{Draft, Speech};
use super::sample::CLEAN;
use crate::domain::report::Report;
use crate::domain::span::OffsetUnit;

/// Protocols with the path that they append to their endpoint.
const PROTOCOLS: [(&str, &str); 7] = [
    ("native", ""),
    ("presidio", "/analyze"),
    ("fms", "/api/v1/text/contents"),
    ("llm-guard", "/analyze/prompt"),
    ("azure-content-safety", "/contentsafety/text:analyze"),
    ("openai-moderation", ""),
    ("lakera", ""),
];

/// The protocol that the service answers to, if any.
pub(super) async fn find(attach: &Attach<'_>) -> Option<Speech> {
    if let Some(model) = model(&attach.base.endpoint) {
        let options = format!("{{model: {}}}", super::file::scalar(model));
        return Some(Speech::Known { protocol: "kserve-v2", options: Some(options) });
    }
    for (protocol, _) in PROTOCOLS {
        let speech = Speech::Known { protocol, options: None };
        let draft = Draft {
            name: format!("probe-{protocol}"),
            endpoint: endpoint(protocol, &attach.base.endpoint),
            speech: speech.clone(),
            ..attach.base.clone()
        };
        let Ok(detector) = attach.load(&draft) else { continue };
        let planted = attach.ask(&detector, attach.sent.text).await;
        if !makes_sense(attach, protocol, &planted) {
            continue;
        }
        if attach.ask(&detector, CLEAN).await.answered() {
            super::print(&format!("It speaks the protocol {protocol}."));
            return Some(speech);
        }
    }
    None
}

/// Without the path that the protocol appends itself.
pub(super) fn endpoint(protocol: &str, url: &str) -> String {
    if protocol == "kserve-v2" {
        return url.split("/v2/models/").next().unwrap_or(url).to_owned();
    }
    let known = PROTOCOLS.iter().find(|(name, _)| *name == protocol);
    let plain = url.split('?').next().unwrap_or(url).trim_end_matches('/');
    match known {
        Some((_, path)) if !path.is_empty() => plain.strip_suffix(path).unwrap_or(plain).to_owned(),
        Some(_) | None => url.to_owned(),
    }
}

fn model(url: &str) -> Option<&str> {
    url.split_once("/v2/models/")?.1.split('/').next().filter(|model| !model.is_empty())
}

/// A finding whose place holds words, and a word that the protocol knows where it has its own.
fn makes_sense(attach: &Attach<'_>, protocol: &str, report: &Report) -> bool {
    let place = |finding: &crate::domain::finding::Finding| {
        let Some(span) = finding.place.and_then(|place| place.span) else { return true };
        let sent = &attach.sent;
        let slice = sent.slice(span.start as u64, span.end as u64, OffsetUnit::Codepoint);
        slice.is_some_and(|slice| sent.is_words(slice))
    };
    let own_words = matches!(protocol, "native" | "fms");
    let known = |finding: &crate::domain::finding::Finding| {
        own_words || !finding.category.as_str().starts_with("other.")
    };
    report.answered() && report.findings.iter().all(place) && report.findings.iter().any(known)
}
