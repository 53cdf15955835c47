//! Links in text without spaces: a link ends where another script touches it.

use std::ops::Range;
use std::sync::LazyLock;

use linkify::{LinkFinder, LinkKind};
use unicode_normalization::char::is_combining_mark;

static FINDER: LazyLock<LinkFinder> = LazyLock::new(|| {
    let mut finder = LinkFinder::new();
    finder.kinds(&[LinkKind::Url]).url_must_have_scheme(false);
    finder
});

/// Links, with a scheme or without, in order. Linear: each stretch is searched once.
pub(super) fn links(text: &str) -> impl Iterator<Item = Range<usize>> {
    stretches(text).into_iter().flat_map(|stretch| {
        let found = FINDER.links(text.get(stretch.clone()).unwrap_or_default());
        found.map(move |link| stretch.start + link.start()..stretch.start + link.end())
    })
}

/// The text cut at each sign that is no ASCII and no letter, and where ASCII and a script that is
/// written without spaces touch: `詳細はhttp://evil.ioをご覧` is three, `a.io/wiki/日本` is one.
fn stretches(text: &str) -> Vec<Range<usize>> {
    if text.is_ascii() {
        return std::iter::once(0..text.len()).collect();
    }
    let (mut stretches, mut start, mut before) = (Vec::new(), 0, ' ');
    for (at, c) in text.char_indices() {
        let ascii = |a: char, b: char| a.is_ascii_alphanumeric() && is_foreign(b);
        let mark = |c: char| !(c.is_ascii() || c.is_alphanumeric() || is_combining_mark(c));
        if (ascii(before, c) || ascii(c, before) || mark(before) || mark(c)) && start < at {
            stretches.push(start..at);
            start = at;
        }
        before = c;
    }
    stretches.push(start..text.len());
    stretches
}

fn is_foreign(c: char) -> bool {
    c >= '\u{590}' && !matches!(c, '\u{1e00}'..='\u{1fff}' | '\u{ff01}'..='\u{ff5e}')
}
