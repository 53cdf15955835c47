//! Which version of a detector judges a content: always the same one, until the shares move.

use super::Run;
use crate::catalog::Detector;
use crate::domain::content::Piece;
use crate::domain::digest::Digest;
use crate::domain::id::{DetectorName, TenantId};
use crate::domain::plan::Plan;
use crate::seal::Key;

#[cfg(test)]
mod tests;

/// Names in the plan the version that each detector with several is asked by.
pub(super) fn choose(run: &Run<'_>, plan: &mut Plan) {
    let named = plan.primary().chain(&plan.secondary);
    let split: Vec<_> = named
        .filter_map(|name| run.seen.detectors.get(name))
        .filter(|detector| detector.is_split())
        .collect();
    if split.is_empty() {
        return;
    }
    let content = content_hash(&run.pieces);
    for detector in split {
        let bucket = bucket(&run.deps.pepper, &run.tenant.id, &detector.name, &content);
        let version = detector.taking(bucket).version.clone();
        plan.versions.insert(detector.name.clone(), version);
    }
}

/// SHA-256 of the judged texts, joined by NUL.
fn content_hash(pieces: &[Piece]) -> Digest {
    let texts: Vec<&str> = pieces.iter().map(|piece| piece.text.as_deref().unwrap_or("")).collect();
    Digest::of(texts.join("\0").as_bytes())
}

/// 0..10 000: the first four bytes, big-endian, of
/// HMAC-SHA256(pepper, tenant NUL detector NUL content hash in hexadecimal digits), modulo 10 000.
fn bucket(pepper: &Key, tenant: &TenantId, detector: &DetectorName, content: &Digest) -> u32 {
    let (tenant, detector) = (tenant.as_str().as_bytes(), detector.as_str().as_bytes());
    let [a, b, c, d, ..] =
        pepper.plain_hash([tenant, b"\0", detector, b"\0", content.hex().as_bytes()]);
    u32::from_be_bytes([a, b, c, d]) % Detector::BUCKETS
}
