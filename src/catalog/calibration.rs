//! The key `calibration` of a detector file: what its scores are worth.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::detector_file::protocol;
use crate::domain::calibration::{ANY, Calibration, Curve};
use crate::yaml::Fields;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CurveEntry {
    slope: Option<f64>,
    intercept: Option<f64>,
    points: Option<Vec<Vec<f64>>>,
}

/// Points of one curve at most.
const POINTS_MAX: usize = 64;

/// Curves by category or `*`.
pub(super) fn read(fields: &mut Fields<'_>) -> Calibration {
    let entries: BTreeMap<String, CurveEntry> = fields.take("calibration").unwrap_or_default();
    let mut curves = BTreeMap::new();
    for (name, entry) in entries {
        let at = format!("/calibration/{name}");
        if name != ANY && protocol::category(fields, &at, &name).is_none() {
            continue;
        }
        match curve(entry) {
            Ok(curve) => drop(curves.insert(name, curve)),
            Err((message, hint)) => fields.refuse(&at, "bad_value", message.to_owned(), hint),
        }
    }
    Calibration(curves)
}

fn curve(entry: CurveEntry) -> Result<Curve, (&'static str, &'static str)> {
    match (entry.slope, entry.intercept, entry.points) {
        (Some(slope), Some(intercept), None) => {
            if slope <= 0.0 || slope.abs() > 1e6 || intercept.abs() > 1e6 {
                return Err((
                    "a curve does not rise, or its numbers exceed a million",
                    "write a slope above 0; `orchestrator detectors calibrate` fits one",
                ));
            }
            Ok(Curve::Logistic { slope, intercept })
        }
        (None, None, Some(points)) => {
            let bounded = |(x, y): &(f64, f64)| (0.0..=1.0).contains(x) && (0.0..=1.0).contains(y);
            let pairs = points.iter().map_while(|point| match point.as_slice() {
                [score, probability] => Some((*score, *probability)),
                _ => None,
            });
            let (given, points) = (points.len(), pairs.collect::<Vec<_>>());
            let rises = points.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1);
            let some = (1..=POINTS_MAX).contains(&given) && points.len() == given;
            if !(rises && some && points.iter().all(bounded)) {
                return Err((
                    "points are 1 to 64 pairs [score, probability] in 0..=1, scores growing, \
                     probabilities never falling",
                    "sort them; `orchestrator detectors calibrate` fits some",
                ));
            }
            Ok(Curve::Points(points))
        }
        _ => Err((
            "a curve is either `slope` and `intercept`, or `points`",
            "write `{slope: 6, intercept: -3}` or `{points: [[0, 0.05], [1, 0.9]]}`",
        )),
    }
}
