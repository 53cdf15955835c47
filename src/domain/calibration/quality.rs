//! How good scores are, measured on samples whose truth is known.

/// A score and whether the label says that the finding is right.
pub type Sample = (f64, bool);

/// One bin of a reliability curve.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bin {
    /// Scores from here…
    pub from: f64,
    /// …to below here; the last bin holds 1.
    pub to: f64,
    /// Samples in it.
    pub count: usize,
    /// Their mean score; 0 when empty.
    pub mean: f64,
    /// The share of them that is right; 0 when empty.
    pub right: f64,
}

/// Bins of equal width over 0..=1: a reliability curve.
pub fn reliability(samples: &[Sample], bins: usize) -> Vec<Bin> {
    let width = 1.0 / bins.max(1) as f64;
    let of = |score: f64| ((score / width) as usize).min(bins.max(1) - 1);
    let bin = |index: usize| {
        let inside: Vec<&Sample> =
            samples.iter().filter(|(score, _)| of(*score) == index).collect();
        let share = |sum: f64| if inside.is_empty() { 0.0 } else { sum / inside.len() as f64 };
        Bin {
            from: index as f64 * width,
            to: (index + 1) as f64 * width,
            count: inside.len(),
            mean: share(inside.iter().map(|(score, _)| score).sum()),
            right: share(inside.iter().filter(|(_, right)| *right).count() as f64),
        }
    };
    (0..bins.max(1)).map(bin).collect()
}

/// Expected calibration error over ten bins: the mean gap between score and truth, by count
/// (Naeini et al. 2015). 0 for no samples.
pub fn calibration_error(samples: &[Sample]) -> f64 {
    let gaps = reliability(samples, 10);
    let sum: f64 = gaps.iter().map(|bin| bin.count as f64 * (bin.mean - bin.right).abs()).sum();
    if samples.is_empty() { 0.0 } else { sum / samples.len() as f64 }
}

/// Mean squared gap between score and truth (Brier 1950). 0 for no samples.
pub fn brier(samples: &[Sample]) -> f64 {
    let gap = |(score, right): &Sample| score - f64::from(u8::from(*right));
    let sum: f64 = samples.iter().map(|sample| gap(sample).powi(2)).sum();
    if samples.is_empty() { 0.0 } else { sum / samples.len() as f64 }
}

/// Area under the ROC curve: how often a right sample scores above a wrong one, ties half.
/// `None` unless both kinds occur.
pub fn auc(samples: &[Sample]) -> Option<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let right = sorted.iter().filter(|(_, right)| *right).count();
    let wrong = sorted.len() - right;
    if right == 0 || wrong == 0 {
        return None;
    }
    let (mut below, mut sum) = (0_usize, 0.0);
    for ties in sorted.chunk_by(|a, b| a.0 == b.0) {
        let hits = ties.iter().filter(|(_, right)| *right).count();
        let misses = ties.len() - hits;
        sum += hits as f64 * (below as f64 + misses as f64 / 2.0);
        below += misses;
    }
    Some(sum / (right as f64 * wrong as f64))
}
