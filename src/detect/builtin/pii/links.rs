//! E-mail addresses and URLs.

use std::sync::LazyLock;

use linkify::{LinkFinder, LinkKind};

use super::{Seen, joins};

static FINDER: LazyLock<LinkFinder> = LazyLock::new(LinkFinder::new);
/// Endings of file names such as `icon@2x.png`.
const FILES: &[&str] = &["png", "jpg", "jpeg", "gif", "svg", "webp", "js", "css", "ts"];

/// Calls `found` with the kind, the bytes and the scores of each.
pub(super) fn find(text: &str, mut found: impl FnMut(&'static str, std::ops::Range<usize>, Seen)) {
    for link in FINDER.links(text) {
        let whole = link.start()..link.end();
        let (kind, range, score) = match link.kind() {
            LinkKind::Email => ("email", narrowed(text, whole), 0.98),
            LinkKind::Url => ("url", whole, 0.6),
            _ => continue,
        };
        let address = text.get(range.clone()).unwrap_or_default();
        let domain = if kind == "email" { email(address) } else { url(address) };
        // `git@host:path` is an address of a repository.
        let repository = address.starts_with("git@")
            && text.get(range.end..).is_some_and(|rest| rest.starts_with(':'));
        if let Some(domain) = domain.filter(|_| !repository) {
            let attribute = Some(("domain", domain));
            let len = range.len();
            found(kind, range, Seen { len, plain: score, near: score, attribute });
        }
    }
}

/// The address without what touches it and is no part of it: `邮箱是ana@evil.io。`. One that is
/// written in such a script itself stays whole.
fn narrowed(text: &str, range: std::ops::Range<usize>) -> std::ops::Range<usize> {
    let address = text.get(range.clone()).unwrap_or_default();
    let Some((local, domain)) = address.rsplit_once('@') else { return range };
    let foreign = local.char_indices().rev().find(|(_, c)| !joins(*c));
    let cut = foreign.map(|(at, c)| at + c.len_utf8()).filter(|cut| *cut < local.len());
    let kept = domain.split(|c| !joins(c)).next().unwrap_or_default().trim_end_matches(['.', '-']);
    let kept = if kept.contains('.') { kept.len() } else { domain.len() };
    range.start + cut.unwrap_or(0)..range.end - domain.len() + kept
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
