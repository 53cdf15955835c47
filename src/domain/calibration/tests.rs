//! Curves against values computed elsewhere, and fits against samples drawn from a known curve.

use super::fit::{Form, LEAST, Unfit, best, cross_validated, fit};
use super::quality::{Sample, auc, brier, calibration_error, reliability};
use super::*;

fn category(name: &str) -> Category {
    Category::parse(name).unwrap()
}

/// Deterministic numbers in 0..1 (splitmix64).
fn numbers(seed: u64) -> impl FnMut() -> f64 {
    let mut state = seed;
    move || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// `n` samples whose truth follows `curve`.
fn drawn(curve: impl Fn(f64) -> f64, n: usize) -> Vec<Sample> {
    let mut next = numbers(7);
    (0..n)
        .map(|_| {
            let score = next();
            (score, next() < curve(score))
        })
        .collect()
}

#[test]
fn the_most_specific_curve_decides_and_none_leaves_the_score() {
    let points = |y| Curve::Points(vec![(0.0, y)]);
    let calibration = Calibration(BTreeMap::from([
        ("pii".to_owned(), points(0.1)),
        ("pii.email".to_owned(), points(0.2)),
    ]));
    assert_eq!(calibration.apply(&category("pii.email"), 0.9), 0.2);
    assert_eq!(calibration.apply(&category("pii.phone"), 0.9), 0.1);
    assert_eq!(calibration.apply(&category("toxicity"), 0.9), 0.9);
    let any = Calibration(BTreeMap::from([(ANY.to_owned(), points(0.3))]));
    assert_eq!(any.apply(&category("toxicity.insult"), 0.9), 0.3);
}

#[test]
fn points_are_joined_by_lines_and_flat_outside() {
    let curve = Curve::Points(vec![(0.2, 0.1), (0.6, 0.5), (0.8, 1.0)]);
    for (score, expected) in
        [(0.0, 0.1), (0.2, 0.1), (0.4, 0.3), (0.6, 0.5), (0.7, 0.75), (0.8, 1.0), (1.0, 1.0)]
    {
        assert!((curve.at(score) - expected).abs() < 1e-12, "{score}: {}", curve.at(score));
    }
}

#[test]
fn a_logistic_fit_finds_the_curve_that_drew_the_samples() {
    let samples = drawn(|score| logistic(8.0 * score - 5.0), 20_000);
    let Ok(Curve::Logistic { slope, intercept }) = fit(Form::Logistic, &samples) else {
        panic!("no curve")
    };
    assert!((slope - 8.0).abs() < 0.4 && (intercept + 5.0).abs() < 0.3, "{slope} {intercept}");
}

/// The same small set fitted by an independent program: scikit-learn 1.9's
/// `_sigmoid_calibration`, which uses Platt's targets too (its A and B are the negatives of ours).
#[test]
fn a_logistic_fit_equals_an_independent_one() {
    let mut samples: Vec<Sample> = Vec::new();
    for i in 0..60_u32 {
        let score = f64::from(i) / 59.0;
        samples.push((score, (i * 7) % 60 < i));
    }
    let Ok(Curve::Logistic { slope, intercept }) = fit(Form::Logistic, &samples) else {
        panic!("no curve")
    };
    assert!((slope - INDEPENDENT.0).abs() < 1e-3, "{slope}");
    assert!((intercept - INDEPENDENT.1).abs() < 1e-3, "{intercept}");
}

const INDEPENDENT: (f64, f64) = (4.943_573_977, -2.766_864_611);

#[test]
fn a_fit_of_points_rises_and_lowers_the_error_of_overconfident_scores() {
    let samples = drawn(|score| score.powi(4), 5_000);
    let Ok(Curve::Points(points)) = fit(Form::Points, &samples) else { panic!("no curve") };
    assert!(points.len() >= 4 && points.is_sorted_by(|a, b| a.0 < b.0 && a.1 < b.1), "{points:?}");
    let judged = cross_validated(Form::Points, &samples).unwrap();
    assert!(calibration_error(&samples) > 0.2, "{}", calibration_error(&samples));
    assert!(calibration_error(&judged) < 0.05, "{}", calibration_error(&judged));
    assert!(brier(&judged) < brier(&samples));
    // A plateau that no logistic curve has.
    let steps = |score: f64| {
        if score < 0.3 {
            0.05
        } else if score < 0.9 {
            0.5
        } else {
            0.95
        }
    };
    assert_eq!(best(&drawn(steps, 5_000)), Ok(Form::Points));
    assert_eq!(best(&drawn(|score| logistic(8.0 * score - 5.0), 5_000)), Ok(Form::Logistic));
}

#[test]
fn too_few_samples_and_scores_that_do_not_rank_give_no_curve() {
    let few = [(0.5, true); LEAST];
    assert_eq!(fit(Form::Points, &few), Err(Unfit::TooFew { right: LEAST, wrong: 0 }));
    let inverse = drawn(|score| 1.0 - score, 1_000);
    assert_eq!(fit(Form::Logistic, &inverse), Err(Unfit::NoRank));
    assert_eq!(fit(Form::Points, &inverse), Err(Unfit::NoRank));
    let constant: Vec<Sample> = (0..100).map(|i| (0.8, i % 2 == 0)).collect();
    assert_eq!(best(&constant), Err(Unfit::NoRank));
}

#[test]
fn measures_equal_hand_computed_values() {
    let samples = [(0.1, false), (0.4, true), (0.4, false), (0.8, true)];
    // Pairs right above wrong: .4>.1, .4=.4 (half), .8>.1, .8>.4: 3.5 of 4.
    assert_eq!(auc(&samples), Some(0.875));
    assert!((brier(&samples) - (0.01 + 0.36 + 0.16 + 0.04) / 4.0).abs() < 1e-12);
    // Bins: .1 off by .1; two at .4 half right, off by .1 each; .8 off by .2.
    assert!((calibration_error(&samples) - (0.1 + 2.0 * 0.1 + 0.2) / 4.0).abs() < 1e-12);
    assert_eq!(auc(&[(0.5, true)]), None);
    let bins = reliability(&[(1.0, true), (0.95, false)], 10);
    assert_eq!((bins[9].count, bins[9].right), (2, 0.5));
}
