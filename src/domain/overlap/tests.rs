//! Which label wins, and that nothing of a cluster stays.

use proptest::prelude::*;

use super::*;

fn mark(
    (start, end): (usize, usize),
    label: &'static str,
    (score, severity): (f64, Severity),
) -> Mark<'static> {
    Mark { span: Span { start, end }, label, category: "pii", score, severity }
}

fn shown(marks: Vec<Mark<'_>>, rule: &Rule) -> Vec<(usize, usize, String)> {
    let united = resolve(marks, rule);
    united.iter().map(|c| (c.span.start, c.span.end, c.label.to_owned())).collect()
}

#[test]
fn the_rule_says_whose_label_stands_for_the_whole_union() {
    let long = mark((0, 9), "LONG", (0.6, Severity::Low));
    let sure = mark((8, 12), "SURE", (0.9, Severity::Medium));
    let bad = mark((2, 4), "BAD", (0.7, Severity::Critical));
    let secret = Mark { category: "secrets.token", ..mark((3, 4), "T", (0.1, Severity::Low)) };
    let order = || vec![Category::parse("secrets").unwrap()];
    for (prefer, order, expected) in [
        (Prefer::Length, vec![], "LONG"),
        (Prefer::Score, vec![], "SURE"),
        (Prefer::Severity, vec![], "BAD"),
        (Prefer::Length, order(), "T"),
        (Prefer::Score, order(), "T"),
    ] {
        let rule = Rule { order, prefer };
        let found = shown(vec![bad, long, secret, sure], &rule);
        assert_eq!(found, [(0, 12, expected.to_owned())], "{rule:?}");
    }
}

#[test]
fn ties_go_on_to_the_next_criterion() {
    let check = |prefer, a: Mark<'static>, b: Mark<'static>, expected: &str| {
        let rule = Rule { prefer, ..Rule::default() };
        for both in [vec![a, b], vec![b, a]] {
            assert_eq!(shown(both, &rule)[0].2, expected, "{prefer:?}");
        }
    };
    let base = mark((0, 4), "A", (0.5, Severity::Medium));
    let surer = mark((1, 5), "B", (0.6, Severity::Low));
    let worse = mark((1, 5), "C", (0.5, Severity::High));
    let longer = mark((0, 5), "D", (0.5, Severity::Medium));
    let later = mark((1, 5), "E", (0.5, Severity::Medium));
    check(Prefer::Length, base, surer, "B");
    check(Prefer::Length, base, worse, "C");
    check(Prefer::Score, base, worse, "C");
    check(Prefer::Score, base, longer, "D");
    check(Prefer::Severity, base, surer, "A");
    check(Prefer::Severity, base, longer, "D");
    check(Prefer::Severity, base, later, "A");
    check(Prefer::Length, base, mark((0, 4), "B", (0.5, Severity::Medium)), "A");
}

#[test]
fn touching_spans_stay_apart_and_chains_unite() {
    let at = |start, end| mark((start, end), "X", (0.5, Severity::Medium));
    let spans = |given| {
        let united = shown(given, &Rule::default());
        united.into_iter().map(|(start, end, _)| (start, end)).collect::<Vec<_>>()
    };
    assert_eq!(spans(vec![at(4, 6), at(1, 4)]), [(1, 4), (4, 6)]);
    assert_eq!(spans(vec![at(5, 8), at(1, 4), at(3, 6)]), [(1, 8)]);
    assert_eq!(spans(vec![at(1, 9), at(2, 3), at(8, 9), at(9, 9)]), [(1, 9)]);
}

#[test]
fn each_span_is_compared_at_most_once_after_the_sort() {
    for n in [1_000, 2_000, 4_000] {
        let nested = |i| mark((i, 2 * n - i), "N", (0.5, Severity::Medium));
        let chained = |i| mark((i, i + 2), "C", (0.5, Severity::Medium));
        let shapes: [Vec<Mark<'_>>; 2] =
            [(0..n).map(nested).collect(), (0..n).map(chained).collect()];
        for sorted in shapes {
            let mut asked = 0;
            let united = unite(&sorted, |_, _| {
                asked += 1;
                asked % 2 == 0
            });
            assert_eq!((united.len(), asked), (1, n - 1));
        }
    }
}

fn any() -> impl Strategy<Value = Vec<Mark<'static>>> {
    let severities = [Severity::Low, Severity::Medium, Severity::High, Severity::Critical];
    let one = (0usize..40, 1usize..9, 0u8..4, prop::sample::select(severities.to_vec()))
        .prop_flat_map(|given| (Just(given), prop::sample::select(vec!["A", "B", "C"])))
        .prop_map(|((start, len, score, severity), label)| {
            mark((start, start + len), label, (f64::from(score) / 4.0, severity))
        });
    prop::collection::vec(one, 0..12)
}

proptest! {
    #[test]
    fn the_union_is_kept_exactly_disjoint_and_in_order(given in any()) {
        let united = resolve(given.clone(), &Rule::default());
        for pair in united.windows(2) {
            prop_assert!(pair[0].span.end <= pair[1].span.start);
        }
        let covered = |list: &[Mark<'_>], at| list.iter().any(|c| c.span.start <= at && at < c.span.end);
        for at in 0..60 {
            prop_assert_eq!(covered(&given, at), covered(&united, at), "{}", at);
        }
    }

    #[test]
    fn the_order_in_which_spans_come_never_matters(
        (given, shuffled) in any().prop_flat_map(|list| (Just(list.clone()), Just(list).prop_shuffle())),
        prefer in prop::sample::select(vec![Prefer::Length, Prefer::Score, Prefer::Severity]),
    ) {
        let rule = Rule { prefer, ..Rule::default() };
        prop_assert_eq!(shown(given, &rule), shown(shuffled, &rule));
    }
}
