//! E-mail addresses: around each `@`, a local part and a host, each in its own script.

use std::ops::Range;

use unicode_normalization::char::is_combining_mark;

use super::edges::joins;

/// Endings of file names such as `icon@2x.png`.
const FILES: &[&str] = &["png", "jpg", "jpeg", "gif", "svg", "webp", "js", "css", "ts"];

/// Calls `found` with the bytes and the domain of each address outside `links`, which are sorted.
/// Linear: no step goes over the next `@` or behind the one before.
pub(super) fn find(
    text: &str,
    links: &[Range<usize>],
    mut found: impl FnMut(Range<usize>, String),
) {
    let mut done = 0;
    for (at, _) in text.match_indices('@') {
        let link = links.partition_point(|link| link.end <= at);
        let linked = links.get(link).is_some_and(|link| link.start <= at);
        if at < done || linked {
            continue;
        }
        let before = text.get(done..at).unwrap_or_default();
        let Some(local) = local(before) else { continue };
        let Some((end, domain)) = chain(text, at) else { continue };
        let start = at - local.len();
        // `git@host:path` is an address of a repository.
        let repository =
            local == "git" && text.get(end..).is_some_and(|rest| rest.starts_with(':'));
        if !repository {
            found(start..end, domain);
            done = end;
        }
    }
}

/// Where the host behind the `@` at `at` ends, and which it is. In `a@b.io@c.org` and
/// `a@b.io.a@b.io` nobody can say which part is whose: it is one address.
fn chain(text: &str, at: usize) -> Option<(usize, String)> {
    let mut last: Option<(usize, String)> = None;
    let mut at = at;
    loop {
        let rest = text.get(at + 1..).unwrap_or_default();
        let whole = run(rest);
        let next = at + 1 + whole;
        let contested = text.get(next..).is_some_and(|rest| rest.starts_with('@'));
        let host = rest.get(..whole).and_then(named);
        match host {
            Some(host) if !contested => return Some((at + 1 + host.len(), said(host))),
            Some(host) => last = Some((next, said(host))),
            None => return last,
        }
        at = next;
    }
}

fn said(host: &str) -> String {
    host.replace(['。', '．'], ".").to_lowercase()
}

fn is_letter(c: char) -> bool {
    c.is_alphanumeric() || is_combining_mark(c)
}

/// The local part that `before` ends in: letters of the scripts that its last one belongs to.
fn local(before: &str) -> Option<&str> {
    let sign = |c: char| c.is_ascii() && "._+-%&'~!$#^".contains(c);
    let mut letters = before.chars().rev().take_while(|c| is_letter(*c) || sign(*c));
    let foreign = letters.find(|c| c.is_alphabetic()).is_some_and(|c| !joins(c));
    let part = |c: char| sign(c) || is_letter(c) && (foreign || joins(c));
    let long = before.chars().rev().take_while(|c| part(*c)).map(char::len_utf8).sum::<usize>();
    let local = before.get(before.len() - long..)?;
    let local = local.rsplit("..").next()?;
    let local = local.trim_start_matches(|c: char| !is_letter(c) || is_combining_mark(c));
    let local = unescaped(before, local);
    (!local.is_empty() && !local.ends_with('.')).then_some(local)
}

/// `local`, the end of `before`, without the rest of an escape sequence that it begins with.
fn unescaped<'t>(before: &str, local: &'t str) -> &'t str {
    let sign = before.strip_suffix(local).and_then(|before| before.chars().next_back());
    let hex = |from: usize, to: usize| {
        local.get(from..to).is_some_and(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
    };
    let spent = match (sign, local.bytes().next()) {
        (Some('\\'), Some(b'u')) if hex(1, 5) => 5,
        (Some('\\'), Some(b'x')) if hex(1, 3) => 3,
        (Some('\\'), Some(b'b' | b'f' | b'n' | b'r' | b't')) => 1,
        (Some('%'), _) if hex(0, 2) => 2,
        (Some('[' | ';'), _) => coloured(before.strip_suffix(local).unwrap_or_default(), local),
        _ => 0,
    };
    local.get(spent..).filter(|rest| !rest.is_empty()).unwrap_or(local)
}

/// Bytes at the beginning of `local` that end a terminal's sequence which `before` begins.
fn coloured(before: &str, local: &str) -> usize {
    let begun = before.trim_end_matches(|c: char| c.is_ascii_digit() || c == ';');
    let written = ["\u{1b}[", "\\u001b[", "\\u001B[", "\\x1b[", "\\x1B[", "\\033[", "\\e["];
    let digits = local.bytes().take_while(u8::is_ascii_digit).count();
    let closed = local.as_bytes().get(digits).is_some_and(u8::is_ascii_alphabetic);
    if closed && written.iter().any(|sign| begun.ends_with(sign)) { digits + 1 } else { 0 }
}

/// Bytes of the letters, hyphens and dots that `rest` begins with, as far as one host may go:
/// a label ends where another script begins, and none of another follows two of these.
fn run(rest: &str) -> usize {
    let (mut end, mut dots, mut foreign, mut fresh) = (0, 0, false, true);
    for (at, c) in rest.char_indices() {
        let dot = c == '.' || dots == 0 && matches!(c, '。' | '．');
        if dot && !fresh {
            (dots, fresh) = (dots + 1, true);
        } else if is_letter(c) {
            if fresh {
                let outside = !joins(c);
                if outside && !foreign && dots > 1 {
                    break;
                }
                (foreign, fresh) = (outside, false);
            }
            if !foreign && !joins(c) {
                break;
            }
        } else if c != '-' || fresh {
            break;
        }
        if !dot {
            end = at + c.len_utf8();
        }
    }
    end
}

/// The part of a host that ends in a name of the top: without the `-4111` or `.4111` behind.
fn named(run: &str) -> Option<&str> {
    let mut host = run;
    loop {
        let dot = host.rfind(['.', '。', '．'])?;
        let top = host.get(dot..)?.trim_start_matches(['.', '。', '．']);
        let short = top.split('-').next().filter(|_| !top.starts_with("xn--")).unwrap_or(top);
        let letter = |c| is_letter(c) && !c.is_numeric();
        if short.chars().nth(1).is_some() && (top.starts_with("xn--") || short.chars().all(letter))
        {
            let file = FILES.iter().any(|ending| short.eq_ignore_ascii_case(ending));
            return host.get(..host.len() - top.len() + short.len()).filter(|_| !file);
        }
        host = host.get(..dot)?;
    }
}
