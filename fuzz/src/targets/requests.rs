//! What a caller sends.

use detector_orchestrator::api::wire::request::{Bounds, OrchestrateRequest};
use detector_orchestrator::auth::waf::{Place, inspect};
use detector_orchestrator::domain::id::{RequestId, TenantId};

const CHARS_MAX: usize = 500;

/// A body: what is accepted keeps the limits.
pub fn request(bytes: &[u8]) {
    let Ok(parsed) = OrchestrateRequest::parse(bytes) else { return };
    let (id, tenant) = (RequestId::parse("fuzz").unwrap(), TenantId::parse("fuzz").unwrap());
    let Ok(request) = parsed.into_domain(id, tenant, Bounds { content_chars_max: CHARS_MAX })
    else {
        return;
    };
    let pieces = request.body.pieces(request.judge, request.content_type);
    let chars: usize = pieces.iter().map(|piece| piece.chars).sum();
    assert!(chars <= CHARS_MAX, "{chars} characters were let in");
    for piece in pieces {
        // What is no text counts as one character.
        let counted = piece.text.as_deref().map_or(1, |text| text.chars().count());
        assert_eq!(counted, piece.chars, "{}", piece.pointer);
        assert!(piece.pointer.starts_with('/'), "{}", piece.pointer);
    }
    assert!(request.timeout_ms.is_none_or(|ms| (10..=300_000).contains(&ms)));
}

/// What stands around the content: the same value always looks the same.
pub fn envelope(bytes: &[u8]) {
    let Some((first, rest)) = bytes.split_first() else { return };
    let Ok(value) = std::str::from_utf8(rest) else { return };
    let places = [Place::Path, Place::Query, Place::Header, Place::Id, Place::Metadata];
    let place = places[usize::from(*first) % places.len()];
    assert_eq!(inspect(place, value), inspect(place, value));
}
