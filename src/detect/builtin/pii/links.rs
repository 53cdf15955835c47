//! E-mail addresses and URLs.

use std::sync::LazyLock;

use linkify::{LinkFinder, LinkKind};

use super::Seen;

static FINDER: LazyLock<LinkFinder> = LazyLock::new(LinkFinder::new);
/// Endings of file names such as `icon@2x.png`.
const FILES: &[&str] = &["png", "jpg", "jpeg", "gif", "svg", "webp", "js", "css", "ts"];

/// Calls `found` with the kind, the bytes and the scores of each.
pub(super) fn find(text: &str, mut found: impl FnMut(&'static str, std::ops::Range<usize>, Seen)) {
    for link in FINDER.links(text) {
        let (kind, domain, score) = match link.kind() {
            LinkKind::Email => ("email", email(link.as_str()), 0.98),
            LinkKind::Url => ("url", url(link.as_str()), 0.6),
            _ => continue,
        };
        // `git@host:path` is an address of a repository.
        let repository = link.as_str().starts_with("git@")
            && text.get(link.end()..).is_some_and(|rest| rest.starts_with(':'));
        if let Some(domain) = domain.filter(|_| !repository) {
            let attribute = Some(("domain", domain));
            let len = link.end() - link.start();
            found(
                kind,
                link.start()..link.end(),
                Seen { len, plain: score, near: score, attribute },
            );
        }
    }
}

fn email(address: &str) -> Option<String> {
    let (local, domain) = address.rsplit_once('@')?;
    // Stars stand for what was redacted.
    let masked = local.chars().all(|c| c == '*');
    let (_, top) = domain.rsplit_once('.')?;
    let named = top.len() >= 2 && (top.starts_with("xn--") || top.chars().all(char::is_alphabetic));
    let domain = domain.to_lowercase();
    (named && !masked && !FILES.contains(&top.to_lowercase().as_str())).then_some(domain)
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
