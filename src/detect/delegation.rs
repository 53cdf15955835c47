//! A short-lived token that tells a detector for whom it is asked (RFC 8693's `act`).

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use secrecy::SecretString;
use serde_json::json;
use tokio::time::Instant;

use crate::domain::id::{DetectorName, TenantId};
use crate::seal::Issuer;

/// Who signs, and in whose name: the service.
const SERVICE: &str = "orchestrator";
/// Seconds that a token is good for.
const LIFE_SECONDS: i64 = 60;
/// A token is sent again for this long; what is left suffices for a call.
const REUSED: Duration = Duration::from_secs(45);
/// Tokens kept at once.
const KEPT_MAX: usize = 10_000;

type About = (TenantId, String, DetectorName);

/// Tokens that are good for a while.
#[derive(Default)]
pub(super) struct Delegations(Mutex<HashMap<About, (Instant, SecretString)>>);

impl Delegations {
    /// `Bearer …` for a call to `detector` on behalf of `caller` of `tenant`.
    pub(super) fn header(
        &self,
        issuer: &Issuer,
        (tenant, caller, detector): (&TenantId, &str, &DetectorName),
    ) -> SecretString {
        let about = (tenant.clone(), caller.to_owned(), detector.clone());
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, header)) = kept.get(&about)
            && at.elapsed() < REUSED
        {
            return header.clone();
        }
        if kept.len() >= KEPT_MAX {
            kept.retain(|_, (at, _)| at.elapsed() < REUSED);
            if kept.len() >= KEPT_MAX {
                kept.clear();
            }
        }
        let now = jiff::Timestamp::now().as_second();
        let token = issuer.sign(&json!({
            "iss": SERVICE,
            "sub": SERVICE,
            "act": {"tenant": tenant.as_str(), "caller": caller},
            "aud": detector.as_str(),
            "iat": now,
            "exp": now + LIFE_SECONDS,
        }));
        let header = SecretString::from(format!("Bearer {token}"));
        kept.insert(about, (Instant::now(), header.clone()));
        header
    }
}
