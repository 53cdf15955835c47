//! Fits curves to samples.

use super::Curve;
use super::quality::{Sample, brier};

/// Right and wrong samples that a fit needs of each.
pub const LEAST: usize = 20;
/// Folds of the cross-validation.
const FOLDS: usize = 5;
/// Bins of a curve of points, before neighbours are joined.
const BINS: usize = 10;

/// Why no curve was fitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// Too few of one kind.
    #[error(
        "needs {LEAST} right and {LEAST} wrong findings beside the fifth that is held out, there are {right} and {wrong}"
    )]
    TooFew {
        /// Right findings.
        right: usize,
        /// Wrong findings.
        wrong: usize,
    },
    /// A higher score does not mean that the finding is more often right.
    #[error("its scores do not rank: a higher score is not more often right")]
    NoRank,
}

/// The forms that can be fitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Form {
    /// [`Curve::Logistic`].
    Logistic,
    /// [`Curve::Points`].
    Points,
}

/// Fits a curve of `form`.
pub fn fit(form: Form, samples: &[Sample]) -> Result<Curve, Unfit> {
    let right = samples.iter().filter(|(_, right)| *right).count();
    let wrong = samples.len() - right;
    if right.min(wrong) < LEAST {
        return Err(Unfit::TooFew { right, wrong });
    }
    match form {
        Form::Logistic => platt(samples, right, wrong),
        Form::Points => points(samples),
    }
}

/// Every sample with the score that a curve fitted without its fold gives it. Folds take turns
/// within right and within wrong samples, so that each holds both.
pub fn cross_validated(form: Form, samples: &[Sample]) -> Result<Vec<Sample>, Unfit> {
    let mut seen = [0_usize; 2];
    let folds: Vec<usize> = samples
        .iter()
        .map(|(_, right)| {
            let [wrong, rights] = &mut seen;
            let turn = if *right { rights } else { wrong };
            *turn += 1;
            *turn % FOLDS
        })
        .collect();
    let mut judged = samples.to_vec();
    for fold in 0..FOLDS {
        let others: Vec<Sample> =
            samples.iter().zip(&folds).filter(|(_, f)| **f != fold).map(|(s, _)| *s).collect();
        let curve = fit(form, &others)?;
        for (sample, _) in judged.iter_mut().zip(&folds).filter(|(_, f)| **f == fold) {
            sample.0 = curve.at(sample.0);
        }
    }
    Ok(judged)
}

/// The form with the lower cross-validated Brier score; of equals the logistic.
pub fn best(samples: &[Sample]) -> Result<Form, Unfit> {
    let error = |form| cross_validated(form, samples).map(|judged| brier(&judged));
    match (error(Form::Logistic), error(Form::Points)) {
        (Ok(logistic), Ok(points)) if points < logistic => Ok(Form::Points),
        (Ok(_), _) => Ok(Form::Logistic),
        (Err(_), Ok(_)) => Ok(Form::Points),
        (Err(why), Err(_)) => Err(why),
    }
}

/// Platt scaling by Newton's method with the targets and the damping of Lin, Lin and Weng (2007).
fn platt(samples: &[Sample], right: usize, wrong: usize) -> Result<Curve, Unfit> {
    let (high, low) = ((right as f64 + 1.0) / (right as f64 + 2.0), 1.0 / (wrong as f64 + 2.0));
    let target = |right: bool| if right { high } else { low };
    let loss = |(a, b): (f64, f64)| -> f64 {
        let one = |(score, right): &Sample| {
            let x = a * score + b;
            // log(1 + e^x) - t·x without overflow.
            x.max(0.0) + (-x.abs()).exp().ln_1p() - target(*right) * x
        };
        samples.iter().map(one).sum()
    };
    let mut at = (0.0, ((right as f64 + 1.0) / (wrong as f64 + 1.0)).ln());
    let mut now = loss(at);
    for _ in 0..100 {
        let mut sums = [0.0, 0.0, 1e-12, 0.0, 1e-12];
        let [ga, gb, haa, hab, hbb] = &mut sums;
        for (score, right) in samples {
            let p = super::logistic(at.0 * score + at.1);
            let (gap, curve) = (p - target(*right), p * (1.0 - p));
            *ga += gap * score;
            *gb += gap;
            *haa += curve * score * score;
            *hab += curve * score;
            *hbb += curve;
        }
        if ga.abs() < 1e-5 && gb.abs() < 1e-5 {
            break;
        }
        let area = *haa * *hbb - *hab * *hab;
        let step = ((*hab * *gb - *hbb * *ga) / area, (*hab * *ga - *haa * *gb) / area);
        let downhill = *ga * step.0 + *gb * step.1;
        let mut size = 1.0;
        loop {
            let next = (at.0 + size * step.0, at.1 + size * step.1);
            let then = loss(next);
            if then < now + 1e-4 * size * downhill {
                (at, now) = (next, then);
                break;
            }
            size /= 2.0;
            if size < 1e-10 {
                return finish(at);
            }
        }
    }
    finish(at)
}

fn finish((slope, intercept): (f64, f64)) -> Result<Curve, Unfit> {
    let sound = slope.is_finite() && intercept.is_finite() && slope > 0.0;
    if sound { Ok(Curve::Logistic { slope, intercept }) } else { Err(Unfit::NoRank) }
}

struct Block {
    scores: f64,
    right: f64,
    count: f64,
}

impl Block {
    /// Laplace's rule, so that few samples promise neither 0 nor 1.
    fn share(&self) -> f64 {
        (self.right + 1.0) / (self.count + 2.0)
    }

    fn score(&self) -> f64 {
        self.scores / self.count
    }
}

/// Bins of equal count, joined while a later one is right less often (pool adjacent violators).
fn points(samples: &[Sample]) -> Result<Curve, Unfit> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let size = sorted.len().div_ceil(BINS);
    let mut blocks: Vec<Block> = Vec::new();
    for ties in sorted.chunk_by(|a, b| a.0 == b.0) {
        let right = ties.iter().filter(|(_, right)| *right).count() as f64;
        let scores: f64 = ties.iter().map(|(score, _)| score).sum();
        let count = ties.len() as f64;
        match blocks.last_mut().filter(|block| block.count < size as f64) {
            Some(block) => {
                block.scores += scores;
                block.right += right;
                block.count += count;
            }
            None => blocks.push(Block { scores, right, count }),
        }
    }
    let mut rising: Vec<Block> = Vec::new();
    for mut block in blocks {
        while let Some(last) = rising.pop_if(|last| last.share() >= block.share()) {
            block.scores += last.scores;
            block.right += last.right;
            block.count += last.count;
        }
        rising.push(block);
    }
    if rising.len() < 2 {
        return Err(Unfit::NoRank);
    }
    Ok(Curve::Points(rising.iter().map(|block| (block.score(), block.share())).collect()))
}
