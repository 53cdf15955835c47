//! What a detector's score is worth: curves that turn it into a probability, so that scores of
//! different detectors compare.
//!
//! Fitting stands in [`fit`], how good scores are in [`quality`].

use std::collections::BTreeMap;

use super::category::Category;

pub mod fit;
pub mod quality;

#[cfg(test)]
mod tests;

/// Matches every category that no other key covers.
pub const ANY: &str = "*";

/// One non-decreasing curve from score to probability, both 0..=1.
#[derive(Debug, Clone, PartialEq)]
pub enum Curve {
    /// `1 / (1 + exp(-(slope * score + intercept)))`, Platt's form; the slope is above 0.
    Logistic {
        /// Per unit of score.
        slope: f64,
        /// At score 0.
        intercept: f64,
    },
    /// Straight lines between points of strictly growing score; flat outside them. Never empty.
    Points(Vec<(f64, f64)>),
}

impl Curve {
    /// The probability for `score`, 0..=1.
    pub fn at(&self, score: f64) -> f64 {
        match self {
            Curve::Logistic { slope, intercept } => logistic(slope * score + intercept),
            Curve::Points(points) => on_points(points, score),
        }
    }
}

/// `1 / (1 + exp(-x))`.
pub fn logistic(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

fn on_points(points: &[(f64, f64)], score: f64) -> f64 {
    let above = points.partition_point(|(x, _)| *x < score);
    let (left, right) = (above.checked_sub(1).and_then(|i| points.get(i)), points.get(above));
    match (left, right) {
        (Some((x0, y0)), Some((x1, y1))) => y0 + (y1 - y0) * (score - x0) / (x1 - x0),
        (Some((_, y)), None) | (None, Some((_, y))) => *y,
        (None, None) => score,
    }
}

/// The curves of one detector by category; empty leaves scores alone.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Calibration(pub BTreeMap<String, Curve>);

impl Calibration {
    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The score of a finding of `category`: the curve of the most specific name of its path, then
    /// of [`ANY`], else the score itself.
    pub fn apply(&self, category: &Category, score: f64) -> f64 {
        let mut names = category.path().chain(std::iter::once(ANY));
        names.find_map(|name| self.0.get(name)).map_or(score, |curve| curve.at(score))
    }
}
