//! What a file says that its scores are worth.

use super::*;

#[test]
fn a_curve_for_what_the_detector_never_finds_is_a_warning() {
    let warned = |category: &str| {
        let curve = format!("{GOOD}calibration: {{{category}: {{slope: 2, intercept: -1}}}}\n");
        let files = [file(FaultKind::Detector, "d.yaml", &curve)];
        codes(&load(Env::Development, &files).unwrap().1)
    };
    assert_eq!(warned("pii.email"), "d.yaml:0:0:unknown_category");
    for known in ["toxicity", "toxicity.insult", "'*'"] {
        assert_eq!(warned(known), "", "{known}");
    }
}
