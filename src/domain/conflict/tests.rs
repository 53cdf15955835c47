//! The vectors E1–E26, the quorum vectors and the invariants of the conflict arithmetic.

use proptest::prelude::*;
use proptest::strategy::Strategy as Strategy_;

use super::*;

/// `A:safe@.92` and so on; `null` is no score.
fn votes(text: &str) -> Vec<Candidate> {
    let vote = |word: &str| {
        let (detector, rest) = word.split_once(':').unwrap();
        let (label, score) = rest.split_once('@').unwrap();
        Candidate { detector: name(detector), label: label.into(), score: score.parse().ok() }
    };
    text.split_whitespace().map(vote).collect()
}

fn name(raw: &str) -> DetectorName {
    DetectorName::parse(&raw.to_lowercase()).unwrap()
}

fn weights(text: &str) -> BTreeMap<DetectorName, f64> {
    let pairs = text.split_whitespace().map(|pair| pair.split_once('=').unwrap());
    pairs.map(|(detector, weight)| (name(detector), weight.parse().unwrap())).collect()
}

fn hints(content_type: ContentType, strategy: &str) -> Hints {
    let strategy = (!strategy.is_empty()).then(|| strategy.to_owned());
    Hints {
        content_type,
        spec: ResolveSpec { strategy, ..ResolveSpec::default() },
        ..Hints::default()
    }
}

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() < 1e-6
}

const TEXT: ContentType = ContentType::Text;
const CODE: ContentType = ContentType::Code;
const IMAGE: ContentType = ContentType::Image;
const DOCUMENT: ContentType = ContentType::Document;
const THREE: &str = "A:safe@.51 B:safe@.52 C:toxic@.90";
const FIVE: &str = "d1:toxic@.80 d2:safe@.85 d3:toxic@.75 d4:safe@.65 d5:safe@.55";

/// Runs the vector `id`; returns the answer for further questions.
fn check(
    id: &str,
    given: (&str, &Hints),
    winner: &str,
    tie_breaker: Option<&str>,
    delta: f64,
) -> Settled {
    let settled = settle(&votes(given.0), given.1);
    let label = settled.winner.as_deref().unwrap_or("none");
    let by = settled.detector.as_ref().map_or("", DetectorName::as_str);
    assert_eq!(format!("{label}/{by}"), winner, "{id}");
    assert_eq!(settled.tie_breaker, tie_breaker, "{id}");
    assert!(near(settled.delta, delta), "{id}: delta {}", settled.delta);
    settled
}

fn normalized(id: &str, settled: &Settled, expected: &[(&str, f64)]) {
    assert_eq!(settled.normalized.len(), expected.len(), "{id}");
    for (label, mean) in expected {
        assert!(near(settled.normalized[*label], *mean), "{id}: {label}");
    }
}

#[test]
fn e1_to_e11_settle_as_the_table_says() {
    let e1 = check("E1", ("A:safe@.92 B:safe@.81", &hints(IMAGE, "")), "safe/a", None, 0.11);
    normalized("E1", &e1, &[("safe", 0.865)]);
    let tie = Some("highest_confidence->alphabetical");
    let e2 = check("E2", ("A:safe@.80 B:toxic@.80", &hints(IMAGE, "")), "safe/a", tie, 0.0);
    normalized("E2", &e2, &[("safe", 0.8), ("toxic", 0.8)]);
    let mut weighed = hints(TEXT, "");
    weighed.spec.weights = weights("C=.5 A=.25 B=.25");
    let both = [("safe", 0.515), ("toxic", 0.9)];
    normalized("E3", &check("E3", (THREE, &weighed), "toxic/c", None, 0.385), &both);
    normalized("E4", &check("E4", (THREE, &hints(TEXT, "")), "toxic/c", None, 0.385), &both);
    weighed.content_type = CODE;
    normalized("E5", &check("E5", (THREE, &weighed), "safe/b", None, 0.0), &both);
    let tie = Some("majority_vote->highest_confidence");
    let e6 = check("E6", ("d1:safe@.6 d2:toxic@.9", &hints(CODE, "")), "toxic/d2", tie, 0.0);
    normalized("E6", &e6, &[("safe", 0.6), ("toxic", 0.9)]);
    let tie = Some("majority_vote->alphabetical");
    let mut code = hints(CODE, "");
    check("E7", ("A:safe@.8 B:toxic@.8", &code), "safe/a", tie, 0.0);
    code.spec.preferred_detector = Some(name("B"));
    let tie = Some("majority_vote->preferred_detector");
    check("E8", ("A:safe@.8 B:toxic@.8", &code), "toxic/b", tie, 0.0);
    let mut preferring = hints(TEXT, "tenant_preference");
    preferring.spec.preferred_detector = Some(name("A"));
    check("E9", (THREE, &preferring), "safe/a", Some("preferred_detector"), 0.0);
    preferring.spec.preferred_detector = Some(name("zzz"));
    let e10 = check("E10", (THREE, &preferring), "toxic/c", None, 0.385);
    assert_eq!(e10.strategy, "tenant_preference");
    check("E11", (THREE, &hints(DOCUMENT, "")), "toxic/c", None, 0.385);
}

#[test]
fn e12_to_e20_settle_as_the_table_says() {
    let mut ranks = hints(DOCUMENT, "");
    ranks.spec.severity_rank = [("toxic".to_owned(), 3.0), ("safe".to_owned(), 0.0)].into();
    ranks.spec.min_score = 0.6;
    check("E12", ("a:safe@.95 b:toxic@.60", &ranks), "toxic/b", None, 0.35);
    let both = [("toxic", 0.775), ("safe", 0.683_333_3)];
    normalized("E13", &check("E13", (FIVE, &hints(IMAGE, "")), "safe/d2", None, 0.05), &both);
    let e14 = check("E14", (FIVE, &hints(TEXT, "")), "toxic/d1", None, 0.091_666_7);
    normalized("E14", &e14, &both);
    normalized("E15", &check("E15", (FIVE, &hints(CODE, "")), "safe/d2", None, 0.0), &both);
    let e16 = "a:safe@.6 b:safe@.6 c:toxic@.9";
    check("E16", (e16, &hints(TEXT, "")), "toxic/c", None, 0.3);
    let e17 = "d1:toxic@.8 d2:safe@.7 d3:toxic@.6";
    for factor in [1.0, 0.1, 2.5, 10.0, 100.0] {
        let mut weighed = hints(TEXT, "");
        weighed.file_weights = weights("d1=3 d2=1 d3=2");
        weighed.file_weights.values_mut().for_each(|weight| *weight *= factor);
        let settled = check("E17", (e17, &weighed), "toxic/d1", None, 0.02);
        normalized("E17", &settled, &[("toxic", 0.72), ("safe", 0.7)]);
    }
    normalized("E18", &check("E18", ("", &hints(IMAGE, "")), "none/", None, 0.0), &[]);
    let tie = Some("weighted_average->alphabetical");
    let nonsense = hints(TEXT, "nonsense");
    let e19 = check("E19", ("A:safe@.80 B:toxic@.80", &nonsense), "safe/a", tie, 0.0);
    assert!(e19.unknown_strategy);
    let e20 = "zeta:toxic@.9 alpha:toxic@.9 m:safe@.1";
    check("E20", (e20, &hints(IMAGE, "")), "toxic/alpha", None, 0.8);
}

#[test]
fn e21_to_e26_settle_as_the_table_says() {
    let e21 = "toxicity:toxic@.9 regex-pii:ssn_detected@.95 echo:echo@.5";
    let settled = check("E21", (e21, &hints(TEXT, "")), "ssn_detected/regex-pii", None, 0.05);
    normalized("E21", &settled, &[("toxic", 0.9), ("ssn_detected", 0.95), ("echo", 0.5)]);
    let e22 = check("E22", ("a:safe@null b:toxic@.1", &hints(IMAGE, "")), "toxic/b", None, 0.1);
    assert!(near(e22.normalized["safe"], 0.0));
    let mut weightless = hints(TEXT, "");
    weightless.spec.weights = weights("a=0");
    let e23 = check("E23", ("a:safe@.9 b:toxic@.1", &weightless), "toxic/b", None, 0.1);
    assert!(near(e23.normalized["safe"], 0.0));
    check("E24", ("a:safe@.9 b:toxic@.1", &hints(IMAGE, "")), "safe/a", None, 0.8);
    let mut consensus = hints(TEXT, "required_detector_consensus");
    consensus.required = [name("a"), name("b")].into();
    let e25 = check("E25", ("a:toxic@.7 b:toxic@.9 c:safe@.99", &consensus), "toxic/b", None, 0.0);
    assert_eq!(e25.score, Some(0.7));
    let fallback = Some("required_detector_consensus->highest_confidence");
    let e26 =
        check("E26", ("a:toxic@.7 b:safe@.9 c:safe@.99", &consensus), "safe/b", fallback, 0.2);
    assert_eq!(Some(e26.strategy), fallback);
}

#[test]
fn no_required_voter_means_the_surest_of_all() {
    let mut consensus = hints(TEXT, "required_detector_consensus");
    consensus.required = [name("absent")].into();
    let fallback = Some("required_detector_consensus->highest_confidence");
    check("–", ("a:toxic@.7 c:safe@.99", &consensus), "safe/c", fallback, 0.29);
}

#[test]
fn labels_are_grouped_without_their_padding() {
    let mut padded = votes("a:safe@.6 b:safe@.6 c:toxic@.7");
    padded[0].label = " safe ".into();
    let settled = settle(&padded, &hints(CODE, ""));
    assert_eq!((settled.winner.as_deref(), settled.normalized.len()), (Some("safe"), 2));
}

#[test]
fn min_score_drops_groups_in_every_strategy() {
    for strategy in [
        "highest_confidence",
        "weighted_average",
        "majority_vote",
        "most_restrictive",
        "tenant_preference",
        "required_detector_consensus",
    ] {
        let mut strict = hints(TEXT, strategy);
        strict.spec.min_score = 0.8;
        strict.spec.preferred_detector = Some(name("a"));
        strict.required = [name("a")].into();
        let given = votes("a:toxic@.7 b:toxic@.7 c:safe@.81");
        assert_eq!(settle(&given, &strict).winner.as_deref(), Some("safe"), "{strategy}");
        strict.spec.min_score = 0.9;
        assert_eq!(settle(&given, &strict).winner, None, "{strategy}");
    }
}

#[test]
fn a_quorum_needs_k_flags_or_makes_them_impossible() {
    for (flagged, cleared, expected) in [
        (1, 1, Resolved::Unresolved),
        (0, 1, Resolved::Unresolved),
        (1, 0, Resolved::Unresolved),
        (0, 2, Resolved::Clear),
        (2, 0, Resolved::Flagged),
    ] {
        assert_eq!(quorum(2, 3, flagged, cleared), expected, "{flagged} {cleared}");
    }
    assert_eq!(quorum(4, 3, 3, 0), Resolved::Unresolved);
}

fn any_strategy() -> impl Strategy_<Value = &'static str> {
    prop::sample::select(vec![
        "",
        "highest_confidence",
        "weighted_average",
        "majority_vote",
        "most_restrictive",
        "tenant_preference",
        "required_detector_consensus",
    ])
}

fn any_votes() -> impl Strategy_<Value = Vec<Candidate>> {
    let label = prop::sample::select(vec!["clean", "safe", "toxic", "hate"]);
    let score = prop::option::of((0u32..=20).prop_map(|twentieths| f64::from(twentieths) / 20.0));
    prop::collection::vec((label, score), 0..8).prop_map(|votes| {
        let vote = |(index, (label, score)): (usize, (&str, Option<f64>))| Candidate {
            detector: name(&format!("d{index}")),
            label: label.into(),
            score,
        };
        votes.into_iter().enumerate().map(vote).collect()
    })
}

fn any_hints() -> impl Strategy_<Value = Hints> {
    let rank = prop::collection::btree_map(
        prop::sample::select(vec!["safe".to_owned(), "toxic".to_owned(), "hate".to_owned()]),
        (0u8..4).prop_map(f64::from),
        0..3,
    );
    let weight = prop::collection::vec(0.0..4.0, 8);
    (any_strategy(), rank, weight, 0usize..9, prop::collection::btree_set(0usize..8, 0..3))
        .prop_map(|(strategy, severity_rank, weight, preferred, required)| {
            let mut hints = hints(TEXT, strategy);
            let weights = weight.into_iter().enumerate();
            hints.file_weights = weights.map(|(i, w)| (name(&format!("d{i}")), w)).collect();
            hints.spec.severity_rank = severity_rank;
            hints.spec.preferred_detector = Some(name(&format!("d{preferred}")));
            hints.required = required.iter().map(|i| name(&format!("d{i}"))).collect();
            hints
        })
}

proptest! {
    #[test]
    fn the_order_of_votes_never_matters(
        (votes, shuffled) in any_votes()
            .prop_flat_map(|votes| (Just(votes.clone()), Just(votes).prop_shuffle())),
        hints in any_hints(),
    ) {
        prop_assert_eq!(settle(&votes, &hints), settle(&shuffled, &hints));
    }

    #[test]
    fn scaling_every_weight_keeps_the_winner(
        votes in any_votes(), hints in any_hints(), power in -6i32..=6,
    ) {
        let mut scaled = hints.clone();
        scaled.file_weights.values_mut().for_each(|weight| *weight *= 2f64.powi(power));
        prop_assert_eq!(settle(&votes, &hints).winner, settle(&votes, &scaled).winner);
    }

    #[test]
    fn means_lie_between_0_and_1_and_somebody_wins(votes in any_votes(), hints in any_hints()) {
        let settled = settle(&votes, &hints);
        prop_assert!(settled.normalized.values().all(|mean| (0.0..=1.0).contains(mean)));
        prop_assert!((0.0..=4.0).contains(&settled.delta));
        prop_assert_eq!(settled.winner.is_some(), !votes.is_empty());
        let stands_for_it = |vote: &Candidate| {
            Some(&vote.detector) == settled.detector.as_ref()
                && Some(&vote.label) == settled.winner.as_ref()
        };
        prop_assert!(votes.is_empty() || votes.iter().any(stands_for_it));
    }

    #[test]
    fn one_more_vote_for_the_majority_keeps_it(votes in any_votes(), score in 0.0..=1.0f64) {
        let hints = hints(CODE, "majority_vote");
        let Some(winner) = settle(&votes, &hints).winner else { return Ok(()) };
        let mut more = votes;
        let late = Candidate { detector: name("late"), label: winner.clone(), score: Some(score) };
        more.push(late);
        prop_assert_eq!(settle(&more, &hints).winner, Some(winner));
    }

    #[test]
    fn a_further_flag_never_clears_a_quorum(
        k in 0u32..6, n in 0usize..6, flagged in 0usize..6, cleared in 0usize..6,
    ) {
        let now = quorum(k, n, flagged, cleared);
        if now == Resolved::Flagged {
            prop_assert_eq!(quorum(k, n, flagged + 1, cleared), now);
        }
        if now == Resolved::Clear {
            prop_assert_eq!(quorum(k, n, flagged, cleared + 1), now);
        }
    }
}
