//! Links that deceive, and links that a list does not want. An ordinary link is no finding.
//!
//! It opens nothing and knows no reputation: `link.malicious` is never claimed.

use std::ops::Range;
use std::sync::LazyLock;

use ::regex::Regex;
use unicode_security::{RestrictionLevel, RestrictionLevelDetection as _, skeleton};
use url::Host;

use super::hit::{Hit, without_overlaps};
use super::params::{ParamFault, Params};
use super::stretch;
use crate::domain::category::Category;
use crate::domain::finding::Severity;

/// Longer names cannot be asked for in DNS.
const HOST_BYTES_MAX: usize = 253;
/// Characters of a link's text that are looked at.
const TEXT_CHARS_MAX: usize = 300;

/// Links that run something. Only the beginning is matched: that is where the harm is.
#[expect(clippy::expect_used, reason = "the pattern is constant and compiled by a test")]
static ACTIVE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r#"(?i)\b(?:(?:java|vb)script:[^\s"'<>]{0,64}?[(=%]|data:(?:text/html|text/javascript|application/(?:xhtml\+xml|javascript|ecmascript)|image/svg\+xml)[;,])"#,
    )
    .expect("constant")
});

/// Addresses in forms that the link finder does not take for a host: one number, hexadecimal.
#[expect(clippy::expect_used, reason = "the pattern is constant and compiled by a test")]
static NUMERIC: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r#"(?i)\b(?:https?|ftp)://(?:[^\s/?#@<>"']*@)?(?:0x[0-9a-f]+|[0-9]+)(?:\.(?:0x[0-9a-f]+|[0-9]+)){0,3}(?::[0-9]+)?(?:[/?#][^\s<>"'()]*|\b)"#,
    )
    .expect("constant")
});

/// What the link finder leaves out: links without a scheme, to IPv6 and to escaped hosts.
#[expect(clippy::expect_used, reason = "the pattern is constant and compiled by a test")]
static RELATIVE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r#"(?i)(?:\b(?:https?|ftp|wss?):)?//(?:\[[0-9a-f:.]{2,45}\](?::[0-9]+)?|[a-z0-9.%_-]+(?:\.|%2e)[a-z][a-z0-9-]+(?::[0-9]+)?(?-u:\b)|[\p{L}\p{M}\p{N}-]+(?:\.[\p{L}\p{M}\p{N}-]+)+)(?:[/?#](?:[0-9a-z_.~:/?#@!$&*+,;=%-]*[0-9a-z/])?)?"#,
    )
    .expect("constant")
});

/// Names written with an ideographic full stop, which browsers take for a dot.
#[expect(clippy::expect_used, reason = "the pattern is constant and compiled by a test")]
static DOTTED: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i)(?:(?:https?|ftp)://)?[a-z0-9-]{1,63}(?:[。．｡][a-z0-9-]{2,63}){1,4}")
        .expect("constant")
});

/// Ends of names that are files as often as hosts.
const FILES: &[&str] = &["md", "py", "rs", "sh", "pl", "cc", "ps", "so", "zip", "mov"];

pub(super) struct Urls {
    allow: Vec<String>,
    deny: Vec<String>,
}

/// What is wrong with a link: category, label, score, severity.
type Trick = (&'static str, &'static str, f64, Severity);

const HOMOGRAPH: Trick = ("link.homograph", "HOMOGRAPH", 0.9, Severity::High);
const MIXED: Trick = ("link.homograph", "MIXED_SCRIPT", 0.9, Severity::High);
const USERINFO: Trick = ("link.homograph", "FALSE_HOST", 0.9, Severity::High);
const MISMATCH: Trick = ("link.homograph", "FALSE_TEXT", 0.85, Severity::High);
const DISGUISED_IP: Trick = ("link", "DISGUISED_IP", 0.9, Severity::High);
const PLAIN_IP: Trick = ("link", "IP_HOST", 0.4, Severity::Low);
const PUNYCODE: Trick = ("link.punycode", "PUNYCODE", 0.6, Severity::Low);
const BAD_PUNYCODE: Trick = ("link.punycode", "BAD_PUNYCODE", 0.8, Severity::Medium);
const ACTIVE_LINK: Trick = ("link", "ACTIVE_LINK", 0.8, Severity::High);
const DENIED: Trick = ("link.denied", "DENIED_LINK", 1.0, Severity::High);
const UNLISTED: Trick = ("link.denied", "UNLISTED_LINK", 0.9, Severity::Medium);

/// Where a link leads.
struct Target {
    /// As DNS knows it: lower case, punycode.
    domain: String,
    /// Decoded, where that differs.
    shown: Option<String>,
    host: Option<Host<String>>,
    user: String,
    /// As written, lower case.
    written: String,
}

impl Urls {
    pub(super) fn prepare(params: &Params) -> Result<Self, ParamFault> {
        params.only(&["allow", "deny"])?;
        Ok(Self { allow: domains(params, "allow")?, deny: domains(params, "deny")? })
    }

    pub(super) fn find(&self, text: &str) -> Vec<Hit> {
        let forms = [&*NUMERIC, &*RELATIVE, &*DOTTED].into_iter();
        let forms = forms.flat_map(|form| form.find_iter(text).map(|found| found.range()));
        // What is left of `postgres://db.example` without its scheme is no link of its own.
        let own = |link: &Range<usize>| {
            let cut = text.get(link.clone()).is_some_and(|link| link.starts_with("//"));
            !(cut && text.get(..link.start).is_some_and(|before| before.ends_with([':', '/'])))
        };
        let judged = stretch::links(text).chain(forms.filter(own)).filter_map(|range| {
            let target = Target::of(text.get(range.clone())?)?;
            hit(range.clone(), self.trick(text, range, &target)?, attributes(&target))
        });
        let active = ACTIVE.find_iter(text);
        let active = active.filter_map(|found| hit(found.range(), ACTIVE_LINK, Vec::new()));
        without_overlaps(judged.chain(active).collect())
    }

    /// The gravest thing about the link. An allowed domain is beyond suspicion, unless it is only
    /// what the link pretends.
    fn trick(&self, text: &str, link: Range<usize>, target: &Target) -> Option<Trick> {
        let within = |list: &[String]| list.iter().any(|above| is_below(&target.domain, above));
        if within(&self.deny) {
            return Some(DENIED);
        }
        if within(&self.allow) {
            return None;
        }
        let schemed =
            text.get(link.clone()).is_some_and(|l| l.contains("://") || l.starts_with("//"));
        let text = link_text(text, link.start).filter(|_| schemed);
        let named = target.shown.as_deref().unwrap_or(&target.written);
        let mut labels = named.split('.');
        match &target.host {
            _ if target.user.contains('.') => Some(USERINFO),
            _ if text.is_some_and(|text| pretends(text, &target.domain)) => Some(MISMATCH),
            Some(Host::Ipv4(address)) if target.written != address.to_string() => {
                Some(DISGUISED_IP)
            }
            _ if labels.clone().any(is_mixed) => Some(MIXED),
            _ if is_ascii_zone(named) && labels.any(imitates_ascii) => Some(HOMOGRAPH),
            None => Some(BAD_PUNYCODE).filter(|_| target.written.contains("xn--")),
            Some(Host::Domain(_)) if target.written.contains("xn--") => Some(PUNYCODE),
            // A name without a scheme may be a file's: `main.rs`.
            Some(_) if schemed && !self.allow.is_empty() => Some(UNLISTED),
            Some(Host::Ipv4(address)) if schemed && !address.is_loopback() => Some(PLAIN_IP),
            Some(_) => None,
        }
    }
}

impl Target {
    fn of(link: &str) -> Option<Self> {
        let link = link.strip_prefix("//").unwrap_or(link);
        let (scheme, rest) = link.split_once("://").unwrap_or(("https", link));
        if !["http", "https", "ftp", "ws", "wss"].iter().any(|s| scheme.eq_ignore_ascii_case(s)) {
            return None;
        }
        let authority = rest.split(['/', '\\', '?', '#']).next()?;
        let (user, server) = authority.rsplit_once('@').unwrap_or(("", authority));
        let written = match server.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
            Some(_) | None => server,
        };
        if written.is_empty() || written.len() > HOST_BYTES_MAX {
            return None;
        }
        let host = Host::parse(written).ok();
        let domain = host.as_ref().map_or_else(|| written.to_lowercase(), Host::to_string);
        let shown = domain.contains("xn--").then(|| url::quirks::domain_to_unicode(&domain));
        let shown = shown.filter(|shown| *shown != domain);
        let user = user.split(':').next().unwrap_or_default().to_owned();
        Some(Self { domain, shown, host, user, written: written.to_lowercase() })
    }
}

fn attributes(target: &Target) -> Vec<(&'static str, String)> {
    let shown = target.shown.clone().map(|shown| ("host", shown));
    std::iter::once(("domain", target.domain.clone())).chain(shown).collect()
}

fn hit(
    Range { start, end }: Range<usize>,
    trick: Trick,
    attributes: Vec<(&'static str, String)>,
) -> Option<Hit> {
    let (category, label, score, severity) = trick;
    let category = Category::parse(category).ok()?;
    Some(Hit { start, end, category, label: label.into(), score, severity, attributes })
}

/// Domains under `key` as DNS knows them.
fn domains(params: &Params, key: &str) -> Result<Vec<String>, ParamFault> {
    let list = params.strings(key)?;
    let domain = |entry: &String| {
        let entry = entry.trim().trim_start_matches("*.").trim_start_matches('.');
        let host = Host::parse(entry).map(|host| host.to_string());
        host.map_err(|_| {
            params.fault(
                key,
                "holds something that is no domain",
                "write names such as example.com",
            )
        })
    };
    list.iter().map(domain).collect()
}

/// Whether `domain` is `above` or one of its subdomains.
fn is_below(domain: &str, above: &str) -> bool {
    domain.strip_suffix(above).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// Letters of scripts that are not written together within one label.
fn is_mixed(label: &str) -> bool {
    !label.is_ascii()
        && match label.detect_restriction_level() {
            RestrictionLevel::MinimallyRestrictive | RestrictionLevel::ModeratelyRestrictive => {
                true
            }
            RestrictionLevel::Unrestricted => {
                !unicode_security::MixedScript::is_single_script(label)
            }
            RestrictionLevel::ASCIIOnly
            | RestrictionLevel::SingleScript
            | RestrictionLevel::HighlyRestrictive => false,
        }
}

/// Whether the zone is one where names are ASCII, so that other letters surprise.
fn is_ascii_zone(host: &str) -> bool {
    host.rsplit('.').find(|label| !label.is_empty()).is_some_and(str::is_ascii)
}

/// A label without one ASCII letter that looks like one of nothing else.
fn imitates_ascii(label: &str) -> bool {
    !label.is_ascii() && skeleton(label).all(|c| c.is_ascii_alphanumeric() || c == '-')
}

/// The text of the Markdown link whose address begins at `at`.
fn link_text(text: &str, at: usize) -> Option<&str> {
    let before = text.get(..at)?;
    let before = before.strip_suffix('<').unwrap_or(before).strip_suffix("](")?;
    let opening = before.char_indices().rev().take(TEXT_CHARS_MAX).take_while(|(_, c)| *c != '\n');
    let (open, _) = opening.into_iter().find(|(_, c)| *c == '[')?;
    before.get(open + 1..)
}

/// Whether a link's text is itself an address, and another one than `domain`.
fn pretends(text: &str, domain: &str) -> bool {
    let text = text.trim().trim_matches(['*', '_', '`']);
    if text.contains(char::is_whitespace) || !text.contains('.') {
        return false;
    }
    let Some(host) = Target::of(text).and_then(|target| target.host) else { return false };
    let Host::Domain(said) = host else { return false };
    let zone = said.rsplit('.').next().unwrap_or_default();
    let file = FILES.contains(&zone) && !text.contains("://");
    let named = !file && zone.len() >= 2 && zone.chars().all(|c| c.is_ascii_alphabetic());
    named && !is_below(&said, &owner(domain)) && !is_below(domain, &owner(&said))
}

/// The last two labels.
fn owner(domain: &str) -> String {
    let labels: Vec<&str> = domain.rsplit('.').take(2).collect();
    labels.into_iter().rev().collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::tests::judged;
    use crate::catalog::detector::Builtin;

    fn check(text: &str, expected: &[(&str, &str)]) {
        with(Value::Null, text, expected);
    }

    fn with(params: Value, text: &str, expected: &[(&str, &str)]) {
        let found = judged(Builtin::Urls, params, &format!("é😀 {text} \u{301}."));
        let found: Vec<_> = found.iter().map(|(_, l, m)| (l.as_str(), m.as_str())).collect();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn ordinary_links_are_no_findings() {
        for text in [
            "see https://example.com/a?b=c#d and http://localhost:8000/x",
            "https://münchen.de https://пример.рф https://例え.jp https://café.example.fr",
            "main.rs e.g. foo.bar@x.io [docs](https://docs.rs/regex) [a.md](https://x.io/a.md)",
            "[example.com](https://www.example.com/) JavaScript: the good parts, data: 5, http://127.0.0.1/",
            "https://user:word@git.example.com/x.git data:image/png;base64,iVBORw0KGgo=",
        ] {
            check(text, &[]);
        }
    }

    #[test]
    fn deceiving_hosts_are_found_and_named() {
        check("https://аррӏе.com/login now", &[("HOMOGRAPH", "https://аррӏе.com/login")]);
        check("http://xn--80ak6aa92e.com", &[("HOMOGRAPH", "http://xn--80ak6aa92e.com")]);
        check("http://pаypal.com/x", &[("MIXED_SCRIPT", "http://pаypal.com/x")]);
        check("https://xn--mnchen-3ya.de", &[("PUNYCODE", "https://xn--mnchen-3ya.de")]);
        check("https://paypal.com@evil.io/a", &[("FALSE_HOST", "https://paypal.com@evil.io/a")]);
        check("[paypal.com](https://evil.io/p)", &[("FALSE_TEXT", "https://evil.io/p")]);
        check("[https://paypal.com/x](<http://evil.io>)", &[("FALSE_TEXT", "http://evil.io")]);
        for host in ["2130706434", "0x7f.1.1.1", "0177.0.0.2", "0x7f000002", "127.1"] {
            let link = format!("http://{host}/x");
            check(&link, &[("DISGUISED_IP", &link)]);
        }
        check("http://10.1.2.3/", &[("IP_HOST", "http://10.1.2.3/")]);
        check("javascript:alert(1)", &[("ACTIVE_LINK", "javascript:alert(")]);
        check("DATA:text/html;base64,PHNj", &[("ACTIVE_LINK", "DATA:text/html;")]);
    }

    #[test]
    fn lists_hold_for_a_domain_and_what_is_below_it() {
        let lists = json!({"deny": ["evil.io", "*.bücher.de"]});
        with(lists.clone(), "go to www.evil.io/x", &[("DENIED_LINK", "www.evil.io/x")]);
        with(lists.clone(), "https://notevil.io https://evil.io.example.com", &[]);
        with(lists, "http://a.xn--bcher-kva.de", &[("DENIED_LINK", "http://a.xn--bcher-kva.de")]);
        let lists = json!({"allow": ["example.com"], "deny": ["bad.example.com"]});
        with(lists.clone(), "https://www.example.com/ main.rs", &[]);
        with(
            lists.clone(),
            "https://bad.example.com",
            &[("DENIED_LINK", "https://bad.example.com")],
        );
        with(lists, "https://other.org", &[("UNLISTED_LINK", "https://other.org")]);
    }

    #[test]
    fn lists_hold_for_hosts_in_any_writing_and_between_any_scripts() {
        let deny = json!({"deny": ["evil.io"]});
        for (text, link) in [
            ("詳細はhttp://evil.ioをご覧", "http://evil.io"),
            ("（http://evil.io）", "http://evil.io"),
            ("http://evil.io！", "http://evil.io"),
            ("http://evil.io。次の文", "http://evil.io"),
            ("「http://evil.io」", "http://evil.io"),
            ("http://evil.io，谢谢", "http://evil.io"),
            ("//evil.io/x", "//evil.io/x"),
            ("http://evil%2eio/", "http://evil%2eio/"),
            ("evil。io", "evil。io"),
            ("日本evil.ioです", "evil.io"),
        ] {
            with(deny.clone(), text, &[("DENIED_LINK", link)]);
        }
        let allow = json!({"allow": ["good.io"]});
        for link in [
            "http://[::1]/",
            "https://例え.テスト",
            "https://παράδειγμα.δοκιμή/x",
            "//x.com/y",
            "http://bad.io",
        ] {
            with(allow.clone(), link, &[("UNLISTED_LINK", link)]);
        }
        with(allow, "//good.io/x a//b // c.d 詳細はhttp://good.ioをご覧", &[]);
        check("http://evil.io，谢谢 http://evil.io。 //x.com/y", &[]);
    }

    #[test]
    fn a_list_with_something_else_than_domains_is_refused() {
        let params = json!({"allow": ["a b"]});
        let fault = super::super::prepare(Builtin::Urls, &params).err().unwrap();
        assert_eq!(fault.pointer, "/allow");
    }
}
