use super::*;
use proptest::prelude::*;

fn parts(text: &str, max: usize, overlap: usize) -> Vec<String> {
    split(text, NonZeroUsize::new(max).unwrap(), overlap)
        .iter()
        .map(|span| text.chars().skip(span.start).take(span.end - span.start).collect())
        .collect()
}

#[test]
fn a_text_that_fits_is_one_range() {
    assert_eq!(parts("naïve", 5, 3), ["naïve"]);
    assert!(parts("", 5, 3).is_empty());
}

#[test]
fn the_best_boundary_of_the_last_quarter_wins() {
    assert_eq!(parts("One two three. Four five", 20, 0), ["One two three. ", "Four five"]);
    assert_eq!(parts("aaaa bbb. cc\n\ndd ee ff", 18, 0), ["aaaa bbb. cc\n\n", "dd ee ff"]);
    assert_eq!(parts("aaaa bbbb cccc", 12, 0), ["aaaa bbbb ", "cccc"]);
    assert_eq!(parts("abcdefgh", 4, 0), ["abcd", "efgh"]);
}

#[test]
fn the_overlap_begins_at_a_word_in_reach_and_is_never_less_than_asked() {
    assert_eq!(parts("aaaa bbbb cccc dddd", 12, 6), ["aaaa bbbb ", " bbbb cccc ", " cccc dddd"]);
    let found = parts("aaaa bbbb cccc dddd eeee ffff", 16, 4);
    assert_eq!(found, ["aaaa bbbb cccc ", "cccc dddd eeee ", "eeee ffff"]);
}

#[test]
fn a_grapheme_is_cut_only_when_it_alone_exceeds_the_limit() {
    let family = "👨‍👩‍👧‍👦";
    assert_eq!(family.chars().count(), 7);
    assert_eq!(parts(&format!("abc{family}def"), 7, 2), ["abc", family, "def"]);
    assert_eq!(parts(&format!("a{family}"), 4, 2).concat(), format!("a{family}"));
    assert_eq!(parts("\r\n\r\n", 3, 1), ["\r\n", "\r\n"]);
}

#[test]
fn a_long_text_of_anything_makes_few_ranges() {
    for unit in ["a", "a ", "a. ", "\n", "\u{301}", "👩\u{200D}", "🇩", "1."] {
        let text = unit.repeat(200_000 / unit.len());
        let spans = split(&text, NonZeroUsize::new(1_000).unwrap(), usize::MAX);
        let len = text.chars().count();
        assert!(spans.len() <= len / 200, "{unit:?} made {} ranges of {len}", spans.len());
    }
}

proptest! {
    #[test]
    fn ranges_cover_ascend_and_keep_graphemes(
        text in "([a-z]{1,6}[ .]|\\r\\n|\\PC|👩‍🔬|e\u{301}{1,3}|שלום |\n\n){0,40}",
        max in 1usize..30,
        overlap in 0usize..40,
    ) {
        let spans = split(&text, NonZeroUsize::new(max).unwrap(), overlap);
        let mut bounds = vec![0];
        for grapheme in text.graphemes(true) {
            bounds.push(bounds.last().unwrap() + grapheme.chars().count());
        }
        let longest = bounds.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0);
        let mut before = Span { start: 0, end: 0 };
        for (index, span) in spans.iter().enumerate() {
            prop_assert!(span.start < span.end && span.end - span.start <= max);
            prop_assert!(span.start <= before.end);
            let asked = overlap.min(max / 2).min(before.end.saturating_sub(before.start + 1));
            if index > 0 && longest == 1 {
                prop_assert!(before.end - span.start >= asked);
            }
            prop_assert!(overlap > 0 || span.start == before.end);
            prop_assert!(index == 0 || before.start < span.start);
            prop_assert!(before.end < span.end);
            if longest <= max {
                prop_assert!(bounds.contains(&span.start) && bounds.contains(&span.end));
            }
            before = *span;
        }
        prop_assert_eq!(before.end, text.chars().count());
    }
}
