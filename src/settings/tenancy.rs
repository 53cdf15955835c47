//! How often a tenant may ask: rates, and tiers as data.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use validator::{Validate, ValidationError};

/// Requests per minute, and how many of them may come at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// In the long run, 1 to 1 000 000.
    pub per_minute: u32,
    /// At once, 1 to 1 000 000; a tenth of `per_minute` unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<u32>,
}

/// The most of either.
const RATE_MAX: u32 = 1_000_000;

impl Rate {
    /// How many may come at once.
    pub fn burst(self) -> u32 {
        self.burst.unwrap_or((self.per_minute / 10).max(1))
    }

    /// Whether both are in their range.
    pub fn is_sound(self) -> bool {
        (1..=RATE_MAX).contains(&self.per_minute) && (1..=RATE_MAX).contains(&self.burst())
    }
}

/// Rates where a tenant's file names none, and of single keys and routes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[serde(default, deny_unknown_fields)]
pub struct RateLimit {
    /// Of each tenant.
    #[validate(range(min = 1, max = 1_000_000))]
    pub per_minute: u32,
    /// Of each tenant, at once.
    #[validate(range(min = 1, max = 1_000_000))]
    pub burst: u32,
    /// Of single API keys, by prefix; beside their tenant's.
    #[validate(custom(function = "sound_rates"))]
    pub keys: BTreeMap<String, Rate>,
    /// Of each tenant on one route, such as `POST /orchestrate/batch`; beside the tenant's own.
    #[validate(custom(function = "sound_rates"))]
    pub routes: BTreeMap<String, Rate>,
}

impl Default for RateLimit {
    fn default() -> Self {
        Self { per_minute: 1000, burst: 100, keys: BTreeMap::new(), routes: BTreeMap::new() }
    }
}

impl RateLimit {
    /// Of a tenant whose file names none.
    pub fn of_tenants(&self) -> Rate {
        Rate { per_minute: self.per_minute, burst: Some(self.burst) }
    }
}

fn sound_rates(rates: &BTreeMap<String, Rate>) -> Result<(), ValidationError> {
    match rates.iter().find(|(_, rate)| !rate.is_sound()) {
        None => Ok(()),
        Some((name, _)) => {
            let message = format!("{name}: per_minute and burst must be 1 to {RATE_MAX}");
            Err(ValidationError::new("range").with_message(message.into()))
        }
    }
}

/// What a tier includes; `None` is unlimited.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tier {
    /// Requests judged in each hour of the clock; a fifth more passes as burst.
    pub requests_per_hour: Option<u32>,
    /// Jobs started each day.
    pub jobs_per_day: Option<u32>,
    /// Requests being judged at once.
    pub concurrent: Option<u32>,
    /// Share against other tenants, 0.1 to 1 000 000.
    pub weight: f64,
}

/// Tiers by name.
pub type Tiers = BTreeMap<String, Tier>;

/// The shipped tiers.
pub(super) fn shipped() -> Tiers {
    let tier = |limits: [Option<u32>; 3], weight| {
        let [requests_per_hour, jobs_per_day, concurrent] = limits;
        Tier { requests_per_hour, jobs_per_day, concurrent, weight }
    };
    [
        ("starter", tier([Some(500), Some(5), Some(2)], 1.0)),
        ("professional", tier([Some(2_000), Some(25), Some(10)], 3.0)),
        ("enterprise", tier([Some(10_000), Some(100), Some(50)], 10.0)),
        ("unlimited", tier([None; 3], 1.0)),
    ]
    .map(|(name, tier)| (name.to_owned(), tier))
    .into()
}

pub(super) fn sound_tiers(tiers: &Tiers) -> Result<(), ValidationError> {
    let wrong = |(name, tier): (&String, &Tier)| {
        let limits = [tier.requests_per_hour, tier.jobs_per_day, tier.concurrent];
        if limits.into_iter().flatten().any(|limit| !(1..=1_000_000_000).contains(&limit)) {
            return Some(format!("{name}: limits must be 1 to 1000000000, or null"));
        }
        let weighs = (0.1..=1_000_000.0).contains(&tier.weight);
        (!weighs).then(|| format!("{name}: weight must be 0.1 to 1000000"))
    };
    match tiers.iter().find_map(wrong) {
        None => Ok(()),
        Some(message) => Err(ValidationError::new("range").with_message(message.into())),
    }
}
