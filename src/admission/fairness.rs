//! How evenly tenants are served for their weight.

/// Below this the index counts as unfair.
const UNFAIR_BELOW: f64 = 0.7;
/// Below this gravely so.
const GRAVE_BELOW: f64 = 0.5;
/// Refusals in a row that count as starvation.
const STARVED_AFTER: u32 = 10;

/// Jain's index (Σx)²/(n·Σx²): 1 where all are equal, 1/n where one has everything.
pub fn jain(shares: &[f64]) -> f64 {
    let sum: f64 = shares.iter().sum();
    let squares: f64 = shares.iter().map(|share| share * share).sum();
    if squares > 0.0 { sum * sum / (shares.len() as f64 * squares) } else { 1.0 }
}

/// How bad an index is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// From 0.7 on, or nobody was refused: unequal demand is no injustice.
    None,
    /// Below 0.7.
    Medium,
    /// Below 0.5.
    High,
}

impl Severity {
    /// Of `index`, where `anybody_refused`.
    pub fn of(index: f64, anybody_refused: bool) -> Severity {
        match index {
            _ if !anybody_refused || index >= UNFAIR_BELOW => Severity::None,
            _ if index < GRAVE_BELOW => Severity::High,
            _ => Severity::Medium,
        }
    }

    /// The name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Severity::None => "none",
            Severity::Medium => "medium",
            Severity::High => "high",
        }
    }
}

/// Whether a tenant that was refused so often in a row is starving.
pub fn starves(refused_in_a_row: u32) -> bool {
    refused_in_a_row >= STARVED_AFTER
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_equals_the_vectors_of_the_page() {
        for (shares, index) in [
            (&[1.0, 1.0, 1.0][..], 1.0),
            (&[1.0, 0.5], 0.9),
            (&[1.0, 0.0, 0.0], 1.0 / 3.0),
            (&[], 1.0),
            (&[0.0, 0.0], 1.0),
        ] {
            assert!((jain(shares) - index).abs() < 1e-12, "{shares:?}: {}", jain(shares));
        }
    }

    #[test]
    fn unfair_is_below_seven_tenths_and_only_where_somebody_was_refused() {
        let of = |index, refused| Severity::of(index, refused).name();
        assert_eq!(["none", "medium", "high"], [of(0.7, true), of(0.69, true), of(0.49, true)]);
        assert_eq!(of(0.1, false), "none");
        assert!(!starves(9) && starves(10));
    }
}
