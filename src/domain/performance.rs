//! How well a service spares its detectors work, in one figure.

/// Requests a second at which the last tenth of the score is whole.
const RPS_WHOLE: f64 = 10_000.0;

/// What the score is made of.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Efficiency {
    /// Requests.
    pub total: u64,
    /// Of these, the ones that waited for another's detector call.
    pub coalesced: u64,
    /// Of these, the ones that the service failed.
    pub errors: u64,
    /// Of these, the urgent ones that nothing kept back.
    pub bypasses: u64,
    /// Requests a second.
    pub rps: f64,
}

impl Efficiency {
    /// 0.4 of those coalesced, 0.3 of those without error, 0.2 of those that bypassed, 0.1 of the
    /// rate: 0 to 1, and 0 before the first request.
    pub fn score(&self) -> f64 {
        if self.total == 0 {
            return 0.0;
        }
        let share = |part: u64| part as f64 / self.total as f64;
        0.4 * share(self.coalesced)
            + 0.3 * (1.0 - share(self.errors))
            + 0.2 * share(self.bypasses)
            + 0.1 * (self.rps / RPS_WHOLE).min(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_score_equals_the_vectors_of_the_first_release() {
        let some = Efficiency { total: 1000, coalesced: 600, errors: 10, ..Efficiency::default() };
        assert!((some.score() - 0.537).abs() < 1e-9, "{}", some.score());
        let more = Efficiency { bypasses: 200, rps: 2000.0, ..some };
        assert!((more.score() - 0.597).abs() < 1e-9, "{}", more.score());
        assert_eq!(Efficiency::default().score(), 0.0);
        let most = Efficiency { coalesced: 1000, errors: 0, bypasses: 1000, rps: 1e9, ..some };
        assert!((most.score() - 1.0).abs() < 1e-9);
    }
}
