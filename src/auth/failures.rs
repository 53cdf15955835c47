//! Refused credentials per source address, in bounded memory.
//!
//! Each address may fail a burst of one minute's worth; each failure is forgiven after its share of
//! the minute (GCRA: one instant per address).

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

const MINUTE: Duration = Duration::from_secs(60);
/// Addresses remembered at once.
const ADDRESSES_MAX: usize = 10_000;

pub(super) struct Failures {
    share: Duration,
    /// Address → when its failures will all be forgiven.
    forgiven: Mutex<HashMap<IpAddr, Instant>>,
}

impl Failures {
    pub(super) fn new(per_minute: u32) -> Failures {
        Failures { share: MINUTE / per_minute.max(1), forgiven: Mutex::default() }
    }

    /// Until when `from` is barred because it has failed too often.
    pub(super) fn bar(&self, from: IpAddr, now: Instant) -> Option<Duration> {
        let forgiven = self.forgiven.lock().unwrap_or_else(PoisonError::into_inner);
        let until = forgiven.get(&network(from)).copied();
        let pause = until?.checked_duration_since(now + (MINUTE - self.share))?;
        (!pause.is_zero()).then_some(pause)
    }

    /// Counts a failure of `from`.
    pub(super) fn count(&self, from: IpAddr, now: Instant) {
        let mut forgiven = self.forgiven.lock().unwrap_or_else(PoisonError::into_inner);
        let from = network(from);
        if forgiven.len() >= ADDRESSES_MAX && !forgiven.contains_key(&from) {
            forgiven.retain(|_, until| *until > now);
            // Whoever fails from that many addresses is not stopped by remembering them.
            if forgiven.len() >= ADDRESSES_MAX {
                forgiven.clear();
            }
        }
        let until = forgiven.entry(from).or_insert(now);
        *until = (*until).max(now) + self.share;
    }
}

/// One client has a whole /64 of IPv6.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_is_barred_after_a_minutes_worth_and_forgiven_in_time() {
        let failures = Failures::new(20);
        let (start, bad, other) = (Instant::now(), ip("192.0.2.1"), ip("192.0.2.2"));
        for n in 0..20 {
            assert_eq!(failures.bar(bad, start), None, "{n}");
            failures.count(bad, start);
        }
        assert_eq!(
            failures.bar(bad, start),
            Some(Duration::from_secs(3)),
            "its share of the minute"
        );
        assert_eq!(failures.bar(other, start), None);
        assert!(
            failures.bar(ip("::ffff:192.0.2.1"), start).is_some(),
            "the same address, written longer"
        );
        assert!(failures.bar(bad, start + Duration::from_millis(2_900)).is_some());
        let later = start + Duration::from_secs(3);
        assert_eq!(failures.bar(bad, later), None, "one is forgiven");
        failures.count(bad, later);
        assert!(failures.bar(bad, later).is_some());
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one_and_memory_stays_bounded() {
        let (failures, now) = (Failures::new(1), Instant::now());
        failures.count(ip("2001:db8::1"), now);
        assert!(failures.bar(ip("2001:db8::ffff:2"), now).is_some());
        assert_eq!(failures.bar(ip("2001:db8:0:1::1"), now), None);
        for n in 0..100_000_u32 {
            failures.count(IpAddr::V4(n.into()), now);
        }
        assert!(failures.forgiven.lock().unwrap().len() <= ADDRESSES_MAX);
    }
}
