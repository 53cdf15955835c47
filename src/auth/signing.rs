//! Signed requests: HMAC-SHA256 over `<timestamp>.<body>` with a secret that the tenant shares.
//!
//! Each signature is good once while its timestamp is within the window. What was seen is kept in
//! bounded memory: where a tenant signs more than fits, the oldest timestamps are refused instead of
//! forgotten. Another instance, or this one after a restart, knows nothing of it.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};

use crate::catalog::Tenant;
use crate::domain::error::{Code, Error};
use crate::domain::id::TenantId;
use crate::seal;

/// Milliseconds that a timestamp may differ from our clock, either way.
const WINDOW_MS: i64 = 300_000;
/// Signatures remembered of one tenant.
const SEEN_MAX: usize = 20_000;
/// Bytes kept of a signature: enough that nobody finds two alike.
const MARK_BYTES: usize = 16;

/// The headers of a signed request.
#[derive(Debug, Clone, Copy)]
pub enum Presented<'a> {
    /// Neither of them.
    Nothing,
    /// Both, once each.
    Signature {
        /// `X-Timestamp`: seconds since 1970, with up to nine decimals.
        timestamp: &'a str,
        /// `X-Signature`: 64 hexadecimal digits.
        signature: &'a str,
    },
    /// One alone, or one twice.
    Unclear,
}

/// Why a signature is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refused {
    Missing,
    Unclear,
    Timestamp,
    Outside,
    Wrong,
    Replayed,
    Late,
}

impl Refused {
    /// What its sender is told: it holds a valid credential, and nothing here helps to forge one.
    fn message(self) -> &'static str {
        match self {
            Refused::Missing => {
                "the tenant's requests must be signed; send X-Timestamp and X-Signature"
            }
            Refused::Unclear => "send X-Timestamp and X-Signature, each exactly once",
            Refused::Timestamp => {
                "X-Timestamp is no time; send seconds since 1970, such as 1700000000.123"
            }
            Refused::Outside => {
                "X-Timestamp differs from the service's clock by more than 300 s; sign it anew"
            }
            Refused::Wrong => {
                "the signature is not that of `<X-Timestamp>.<body>` under the tenant's secret"
            }
            Refused::Replayed => {
                "this signature was used before; sign each request with a timestamp of its own"
            }
            Refused::Late => "newer requests crowded this one out; sign it anew",
        }
    }
}

/// Signatures that were used.
#[derive(Default)]
pub(super) struct Signatures(Mutex<All>);

#[derive(Default)]
struct All {
    /// When tenants that fell silent were last looked for.
    swept_ms: i64,
    by_tenant: HashMap<TenantId, Seen>,
}

/// What one tenant used.
#[derive(Default)]
struct Seen {
    /// By timestamp, so that the oldest goes first.
    marks: BTreeSet<(i64, [u8; MARK_BYTES])>,
    /// Timestamps up to this one are refused: they may have been forgotten.
    floor_ms: i64,
}

impl Signatures {
    /// Whether `tenant` signed `body`, now and for the first time.
    pub(super) fn check(
        &self,
        tenant: &Tenant,
        presented: Presented<'_>,
        (body, now_ms): (&[u8], i64),
    ) -> Result<(), Error> {
        let refused = match self.judge(tenant, presented, (body, now_ms)) {
            Ok(()) => return Ok(()),
            Err(refused) => refused,
        };
        tracing::warn!(tenant = %tenant.id, why = ?refused, "A signature was refused");
        Err(Error::new(Code::InvalidSignature, refused.message()))
    }

    fn judge(
        &self,
        tenant: &Tenant,
        presented: Presented<'_>,
        (body, now_ms): (&[u8], i64),
    ) -> Result<(), Refused> {
        let (timestamp, signature) = match presented {
            Presented::Nothing if tenant.signing.required => return Err(Refused::Missing),
            Presented::Nothing => return Ok(()),
            Presented::Unclear => return Err(Refused::Unclear),
            Presented::Signature { timestamp, signature } => (timestamp, signature),
        };
        let at_ms = milliseconds(timestamp).ok_or(Refused::Timestamp)?;
        if (at_ms - now_ms).abs() > WINDOW_MS {
            return Err(Refused::Outside);
        }
        let mut given = [0; 32];
        hex::decode_to_slice(signature, &mut given).map_err(|_| Refused::Wrong)?;
        let parts = || [timestamp.as_bytes(), b".", body];
        // Every secret is tried, so that time does not tell which one it was.
        let known = tenant.signing.secrets.iter().map(|secret| secret.hmac(parts()));
        if !known.fold(false, |found, mac| found | seal::same(&mac, &given)) {
            return Err(Refused::Wrong);
        }
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut mark = [0; MARK_BYTES];
        mark.iter_mut().zip(given).for_each(|(to, from)| *to = from);
        all.sweep(now_ms);
        all.by_tenant.entry(tenant.id.clone()).or_default().take((at_ms, mark), now_ms)
    }
}

impl All {
    /// Forgets, once in a window, what no longer matters of tenants that fell silent.
    fn sweep(&mut self, now_ms: i64) {
        if now_ms - self.swept_ms < WINDOW_MS {
            return;
        }
        self.swept_ms = now_ms;
        self.by_tenant.retain(|_, seen| {
            seen.forget(now_ms);
            // The floor is never above what is left.
            !seen.marks.is_empty()
        });
    }
}

impl Seen {
    fn take(&mut self, mark: (i64, [u8; MARK_BYTES]), now_ms: i64) -> Result<(), Refused> {
        if self.marks.contains(&mark) {
            return Err(Refused::Replayed);
        }
        if mark.0 <= self.floor_ms {
            return Err(Refused::Late);
        }
        self.forget(now_ms);
        self.marks.insert(mark);
        if self.marks.len() > SEEN_MAX
            && let Some((at, _)) = self.marks.pop_first()
        {
            self.floor_ms = self.floor_ms.max(at);
        }
        Ok(())
    }

    /// Drops what is outside the window and refused anyway.
    fn forget(&mut self, now_ms: i64) {
        while self.marks.first().is_some_and(|(at, _)| *at < now_ms - WINDOW_MS) {
            self.marks.pop_first();
        }
    }
}

/// Seconds with up to nine decimals, as milliseconds.
fn milliseconds(text: &str) -> Option<i64> {
    let (seconds, decimals) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |part: &str, most| {
        (1..=most).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit())
    };
    if !digits(seconds, 11) || !digits(decimals, 9) {
        return None;
    }
    let thousandths: String = decimals.chars().chain("000".chars()).take(3).collect();
    Some(seconds.parse::<i64>().ok()? * 1000 + thousandths.parse::<i64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_700_000_000_000;

    fn seen(marks: usize) -> Seen {
        let mut seen = Seen::default();
        for n in 0..marks {
            let mut mark = [0; MARK_BYTES];
            mark[..8].copy_from_slice(&n.to_be_bytes());
            seen.take((NOW + n as i64, mark), NOW).unwrap();
        }
        seen
    }

    #[test]
    fn a_timestamp_is_seconds_with_decimals_and_nothing_else() {
        for (text, expected) in [
            ("1700000000", Some(NOW)),
            ("1700000000.5", Some(NOW + 500)),
            ("1700000000.123456789", Some(NOW + 123)),
            ("", None),
            ("1700000000.", None),
            (".5", None),
            ("-1", None),
            ("+1700000000", None),
            ("1700000000 ", None),
            ("1e9", None),
            ("170000000000", None),
            ("1700000000.1234567890", None),
            ("1700000000.1.1", None),
            ("１７０００００００", None),
        ] {
            assert_eq!(milliseconds(text), expected, "{text:?}");
        }
    }

    #[test]
    fn what_does_not_fit_into_memory_is_refused_and_never_forgotten() {
        let mut seen = seen(SEEN_MAX + 10);
        assert_eq!(seen.marks.len(), SEEN_MAX);
        for n in 0..SEEN_MAX + 10 {
            let mut mark = [0; MARK_BYTES];
            mark[..8].copy_from_slice(&n.to_be_bytes());
            assert!(seen.take((NOW + n as i64, mark), NOW).is_err(), "{n} came twice");
        }
        assert_eq!(seen.take((NOW, [9; MARK_BYTES]), NOW), Err(Refused::Late));
    }

    #[test]
    fn what_is_outside_the_window_takes_no_memory() {
        let mut seen = seen(100);
        let later = NOW + WINDOW_MS + 1_000;
        assert_eq!(seen.take((later, [1; MARK_BYTES]), later), Ok(()));
        assert_eq!(seen.marks.len(), 1);
        assert_eq!(seen.take((later, [1; MARK_BYTES]), later), Err(Refused::Replayed));
    }

    #[test]
    fn a_tenant_that_fell_silent_takes_no_memory_after_the_window() {
        let mut all = All { swept_ms: NOW, ..All::default() };
        for (name, marks) in [("quiet", 100), ("crowded", SEEN_MAX + 10)] {
            all.by_tenant.insert(TenantId::parse(name).unwrap(), seen(marks));
        }
        for (at, left) in [(1_000, 2), (WINDOW_MS + 5, 2), (2 * WINDOW_MS + 20, 0)] {
            all.sweep(NOW + at);
            assert_eq!(all.by_tenant.len(), left, "{at}");
        }
    }
}
