//! Random texts of many scripts, and random spans over them that touch, nest and overlap.

use detector_orchestrator::domain::span::Span;
use proptest::prelude::*;
use proptest::sample::Index;

/// What texts are made of. Lone marks, joiners, jamo and regional indicators join their neighbours.
pub const CLASSES: &[(&str, &[&str])] = &[
    ("ascii", &["a", "Z", "7", "@", ".", "[", "]", "*", "ana@evil.io"]),
    ("space", &[" ", "\t", "\u{a0}", "\u{3000}", "\u{2009}"]),
    ("line end", &["\r\n", "\r", "\n", "\u{2028}", "\u{85}"]),
    (
        "emoji",
        &[
            "\u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467}\u{200d}\u{1f466}",
            "\u{1f469}\u{1f3fd}\u{200d}\u{1f4bb}",
            "1\u{fe0f}\u{20e3}",
            "\u{1f600}",
            "\u{1f3fd}",
            "\u{200d}",
        ],
    ),
    (
        "flag",
        &[
            "\u{1f1e9}\u{1f1ea}",
            "\u{1f1eb}",
            "\u{1f3f4}\u{e0067}\u{e0062}\u{e0065}\u{e006e}\u{e0067}\u{e007f}",
            "\u{1f3f3}\u{fe0f}\u{200d}\u{1f308}",
        ],
    ),
    ("combining", &["e\u{301}", "a\u{308}\u{323}", "\u{301}", "\u{e9}", "Z\u{351}\u{36b}\u{343}"]),
    (
        "right to left",
        &[
            "سلام",
            "ل\u{651}\u{64e}",
            "\u{644}\u{627}",
            "ש\u{5c1}\u{5b8}",
            "עד",
            "\u{202e}",
            "\u{200f}",
        ],
    ),
    ("thai", &["กำ", "น\u{e49}ำ", "เ", "\u{e33}", "ครับ"]),
    ("devanagari", &["क\u{94d}षि", "नमस\u{94d}ते", "\u{94d}", "\u{93f}", "९"]),
    ("hangul", &["\u{1112}\u{1161}\u{11ab}", "\u{1112}", "\u{1161}", "\u{11ab}", "한"]),
    ("astral", &["\u{1d4b3}", "\u{10348}", "\u{20bb7}", "\u{1f9ff}", "字"]),
    ("zero width", &["\u{200b}", "\u{feff}", "\u{ad}", "\u{2060}", "\u{200c}"]),
];

/// A text and the classes of its atoms.
#[derive(Debug, Clone)]
pub struct Text {
    pub text: String,
    pub classes: Vec<usize>,
}

impl Text {
    /// For the tally: which classes occur.
    pub fn met(&self) -> Vec<(&'static str, bool)> {
        let classes = CLASSES.iter().enumerate();
        classes.map(|(at, (name, _))| (*name, self.classes.contains(&at))).collect()
    }
}

/// Texts of up to `atoms` atoms, every class equally likely.
pub fn texts(atoms: usize) -> impl Strategy<Value = Text> {
    let atom = (0..CLASSES.len(), any::<Index>());
    prop::collection::vec(atom, 0..=atoms).prop_map(|atoms| Text {
        text: atoms.iter().map(|(class, item)| *item.get(CLASSES[*class].1)).collect(),
        classes: atoms.iter().map(|(class, _)| *class).collect(),
    })
}

/// How a span stands to the one before it.
#[derive(Debug, Clone, Copy)]
enum Stands {
    Anywhere,
    Equal,
    Inside,
    Touching,
    Across,
}

fn length_of(text: &str) -> usize {
    text.chars().count()
}

/// A text and up to `count` spans inside it, in any order.
pub fn marked(atoms: usize, count: usize) -> impl Strategy<Value = (Text, Vec<Span>)> {
    use Stands::{Across, Anywhere, Equal, Inside, Touching};
    let stands = prop::sample::select(vec![Anywhere, Anywhere, Equal, Inside, Touching, Across]);
    let wish = (stands, any::<Index>(), 1usize..6);
    (texts(atoms), prop::collection::vec(wish, 0..=count)).prop_map(|(text, wishes)| {
        let length = length_of(&text.text);
        let mut spans: Vec<Span> = Vec::new();
        for (stands, at, width) in wishes.into_iter().filter(|_| length > 0) {
            let last = spans.last().copied().unwrap_or(Span { start: 0, end: 1 });
            let start = match stands {
                Anywhere => at.index(length),
                Equal => last.start,
                Inside | Across => last.start + at.index(last.end - last.start),
                Touching => last.end.min(length - 1),
            };
            let end = match stands {
                Equal => last.end,
                Inside => last.end.min(start + width),
                Across => (last.end + width).min(length),
                Anywhere | Touching => (start + width).min(length),
            };
            spans.push(Span { start, end });
        }
        (text, spans)
    })
}
