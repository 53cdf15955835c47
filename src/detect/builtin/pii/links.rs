//! E-mail addresses and URLs.

use std::ops::Range;

use super::super::stretch;
use super::{Seen, mails};

/// Calls `found` with the kind, the bytes and the scores of each.
pub(super) fn find(text: &str, mut found: impl FnMut(&'static str, Range<usize>, Seen)) {
    let seen = |len, score, domain| {
        let attribute = Some(("domain", domain));
        Seen { len, plain: score, near: score, attribute }
    };
    let mut links = Vec::new();
    for link in stretch::links(text) {
        let address = text.get(link.clone()).unwrap_or_default();
        if let Some(domain) = url(address) {
            found("url", link.clone(), seen(link.len(), 0.6, domain));
        }
        // A link names its user before an `@`, whatever its scheme.
        if address.contains("://") {
            links.push(link);
        }
    }
    mails::find(text, &links, |mail, domain| {
        let len = mail.len();
        found("email", mail, seen(len, 0.98, domain));
    });
}

fn url(address: &str) -> Option<String> {
    let (scheme, rest) = address.split_once("://")?;
    if !["http", "https", "ftp"].contains(&scheme.to_ascii_lowercase().as_str()) {
        return None;
    }
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
    (!host.is_empty()).then(|| host.to_lowercase())
}
