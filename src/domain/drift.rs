//! Whether detection changes over time: counts of scores by detector, category and period, and the
//! distance between two periods.

use std::collections::BTreeMap;

use super::id::DetectorName;

/// Bins of scores over 0..=1.
pub const BINS: usize = 10;

/// From here on a distance is worth a look, by the usual rule of thumb.
pub const WORTH_A_LOOK: f64 = 0.1;

/// From here on it is a change, by the same rule.
pub const CHANGED: f64 = 0.25;

/// What one detector found of one category in one period.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Scores {
    bins: [u64; BINS],
    sum: f64,
}

impl Scores {
    /// How many findings.
    pub fn found(&self) -> u64 {
        self.bins.iter().sum()
    }

    /// Their mean score; `None` without findings.
    pub fn mean(&self) -> Option<f64> {
        (self.found() > 0).then(|| self.sum / self.found() as f64)
    }

    fn add(&mut self, score: f64) {
        let bin = ((score * BINS as f64) as usize).min(BINS - 1);
        if let Some(count) = self.bins.get_mut(bin) {
            *count += 1;
        }
        self.sum += score;
    }
}

/// Counts of one period.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Period {
    /// Decisions for which the detector answered.
    pub answered: BTreeMap<DetectorName, u64>,
    /// By detector and category.
    pub scores: BTreeMap<(DetectorName, String), Scores>,
}

impl Period {
    /// Counts an answer.
    pub fn answer(&mut self, detector: &DetectorName) {
        *self.answered.entry(detector.clone()).or_default() += 1;
    }

    /// Counts a finding.
    pub fn finding(&mut self, detector: &DetectorName, category: &str, score: f64) {
        let key = (detector.clone(), category.to_owned());
        self.scores.entry(key).or_default().add(score);
    }

    /// The population stability index against an `earlier` period, for one detector and category:
    /// the sum of (p - q) ln(p / q) over the bins of scores and "nothing found". Half a decision is
    /// added to each bin, so that an empty one does not make it infinite. `None` where the detector
    /// did not answer in both.
    pub fn distance(&self, earlier: &Period, key: &(DetectorName, String)) -> Option<f64> {
        let (now, then) = (self.shares(key)?, earlier.shares(key)?);
        Some(now.iter().zip(then).map(|(p, q)| (p - q) * (p / q).ln()).sum())
    }

    fn shares(&self, key: &(DetectorName, String)) -> Option<[f64; BINS + 1]> {
        let answered = *self.answered.get(&key.0).filter(|count| **count > 0)?;
        let none = Scores::default();
        let scores = self.scores.get(key).unwrap_or(&none);
        let silent = answered.saturating_sub(scores.found());
        let mut shares = [0.5; BINS + 1];
        for (share, count) in shares.iter_mut().zip(scores.bins.iter().chain([&silent])) {
            *share += *count as f64;
        }
        let all: f64 = shares.iter().sum();
        Some(shares.map(|share| share / all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn period(answers: u64, scores: &[(f64, u64)]) -> Period {
        let name = DetectorName::parse("d").unwrap();
        let mut period = Period::default();
        (0..answers).for_each(|_| period.answer(&name));
        for (score, times) in scores {
            (0..*times).for_each(|_| period.finding(&name, "toxicity", *score));
        }
        period
    }

    fn key() -> (DetectorName, String) {
        (DetectorName::parse("d").unwrap(), "toxicity".into())
    }

    #[test]
    fn equal_periods_are_no_distance_apart_and_a_silent_detector_has_none() {
        let one = period(1_000, &[(0.9, 100), (0.2, 50)]);
        assert_eq!(one.distance(&one, &key()), Some(0.0));
        assert_eq!(one.distance(&Period::default(), &key()), None);
    }

    /// (.1 - .3) ln(.1/.3) + (.9 - .7) ln(.9/.7) = 0.26999, but for half a decision a bin.
    #[test]
    fn the_distance_is_the_population_stability_index() {
        let (then, now) = (period(100_000, &[(0.9, 30_000)]), period(100_000, &[(0.9, 10_000)]));
        let distance = now.distance(&then, &key()).unwrap();
        assert!((distance - 0.269_99).abs() < 1e-4, "{distance}");
        assert!(distance > CHANGED);
    }

    #[test]
    fn moved_scores_of_equally_many_findings_are_a_change() {
        let (then, now) = (period(1_000, &[(0.9, 300)]), period(1_000, &[(0.55, 300)]));
        assert!(now.distance(&then, &key()).unwrap() > CHANGED);
        assert_eq!(now.scores[&key()].mean().map(|mean| (mean * 100.0).round()), Some(55.0));
    }
}
