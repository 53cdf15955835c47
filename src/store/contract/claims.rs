//! What every store must do with claims.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::{BoxFuture, join_all};

use super::tenant;
use crate::store::{Claim, Claimed, Store, Terms};

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

fn claim(of: &str, key: u8, owner: u8) -> Claim {
    Claim { tenant: tenant(of), key: [key; 32], owner: [owner; 16] }
}

fn terms(request: u8) -> Terms {
    Terms { request: [request; 32], lease: MINUTE * 60, keep: DAY }
}

pub(super) async fn hold(store: &dyn Store) {
    one_of_many_at_once_claims_and_another_tenant_knows_nothing(store).await;
    whoever_takes_over_closes_the_claim_to_the_one_before(store).await;
    what_is_over_is_forgotten_and_nothing_else(store).await;
}

async fn one_of_many_at_once_claims_and_another_tenant_knows_nothing(store: &dyn Store) {
    let all = join_all((0..100).map(|owner| store.claim(claim("acme", 1, owner), terms(1)))).await;
    let all: Vec<Claimed> = all.into_iter().map(Result::unwrap).collect();
    let mine = all.iter().position(|claimed| *claimed == Claimed::Mine).unwrap();
    assert_eq!(all.iter().filter(|claimed| **claimed == Claimed::InFlight).count(), 99);
    let winner = claim("acme", 1, u8::try_from(mine).unwrap());
    let loser = Claim { owner: [100; 16], ..winner.clone() };
    assert_eq!(store.finish(loser.clone(), vec![1]).await, Ok(false));
    assert_eq!(store.claim(loser.clone(), terms(2)).await, Ok(Claimed::Mismatch));
    assert_eq!(store.claim(claim("globex", 1, 0), terms(2)).await, Ok(Claimed::Mine));
    assert_eq!(store.finish(winner.clone(), vec![7]).await, Ok(true));
    assert_eq!(store.finish(winner.clone(), vec![7]).await, Ok(true), "it may say so again");
    assert_eq!(store.renew(winner.clone(), MINUTE).await, Ok(false), "there is nothing to hold");
    assert_eq!(store.release(winner).await, Ok(false));
    assert_eq!(store.claim(loser.clone(), terms(1)).await, Ok(Claimed::Finished(vec![7])));
    assert_eq!(store.claim(loser, terms(2)).await, Ok(Claimed::Mismatch));
}

async fn whoever_takes_over_closes_the_claim_to_the_one_before(store: &dyn Store) {
    let (killed, heir) = (claim("acme", 2, 1), claim("acme", 2, 2));
    let ended = Terms { lease: Duration::ZERO, ..terms(1) };
    assert_eq!(store.claim(killed.clone(), ended).await, Ok(Claimed::Mine));
    assert_eq!(store.claim(heir.clone(), terms(2)).await, Ok(Claimed::Mismatch), "still its body");
    assert_eq!(store.claim(heir.clone(), terms(1)).await, Ok(Claimed::Mine));
    for late in [
        store.renew(killed.clone(), MINUTE).await,
        store.finish(killed.clone(), vec![1]).await,
        store.release(killed.clone()).await,
    ] {
        assert_eq!(late, Ok(false));
    }
    assert_eq!(store.release(heir).await, Ok(true));
    assert_eq!(store.claim(killed, terms(1)).await, Ok(Claimed::Mine), "free at once");
}

async fn what_is_over_is_forgotten_and_nothing_else(store: &dyn Store) {
    let short = Terms { keep: Duration::ZERO, ..terms(1) };
    for key in 10..13 {
        assert_eq!(store.claim(claim("acme", key, 1), short).await, Ok(Claimed::Mine));
    }
    assert_eq!(store.forget_claims(2).await, Ok(2));
    assert_eq!(store.forget_claims(100).await, Ok(1));
    assert_eq!(store.forget_claims(100).await, Ok(0), "what still counts stays");
}

/// The same by definition: one row for each key, and a clock.
#[derive(Default)]
struct Model {
    minute: u64,
    rows: BTreeMap<(u8, u8), Row>,
}

#[derive(Clone)]
struct Row {
    request: u8,
    owner: u8,
    leased_until: u64,
    forget_at: u64,
    answer: Option<Vec<u8>>,
}

impl Model {
    fn claim(&mut self, at: (u8, u8), owner: u8, request: u8) -> Claimed {
        let now = self.minute;
        let fresh =
            Row { request, owner, leased_until: now + 60, forget_at: now + 1440, answer: None };
        match self.rows.get(&at).filter(|row| row.forget_at > now).cloned() {
            None => drop(self.rows.insert(at, fresh)),
            Some(row) if row.request != request => return Claimed::Mismatch,
            Some(Row { answer: Some(answer), .. }) => return Claimed::Finished(answer),
            Some(row) if row.leased_until > now => return Claimed::InFlight,
            Some(row) => drop(self.rows.insert(at, Row { forget_at: row.forget_at, ..fresh })),
        }
        Claimed::Mine
    }

    fn change(&mut self, at: (u8, u8), owner: u8, change: impl FnOnce(&mut Row) -> bool) -> bool {
        self.rows.get_mut(&at).filter(|row| row.owner == owner).is_some_and(change)
    }

    /// How many are over.
    fn forget(&mut self) -> usize {
        let (before, now) = (self.rows.len(), self.minute);
        self.rows.retain(|_, row| row.forget_at > now);
        before - self.rows.len()
    }
}

/// Lets `minutes` pass in the store.
pub(in crate::store) type Pass<'a> = &'a dyn Fn(u64) -> BoxFuture<'a, ()>;

/// Claims, renewals, answers, releases, crashes and time in any order, beside the model. Nobody lets
/// go of a claim when its owner crashes: it is only never heard of again.
pub(in crate::store) async fn equal_the_model(store: &dyn Store, pass: Pass<'_>, steps: u32) {
    let (mut model, mut seed) = (Model::default(), 0x9e37_79b9_7f4a_7c15_u64);
    let mut met = BTreeMap::<String, u32>::new();
    for step in 0..steps {
        let mut below = |n: u64| {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            u8::try_from((seed >> 33) % n).unwrap()
        };
        let (at, owner, request) = ((below(2), below(3)), below(4), u8::from(below(8) == 0));
        let of = claim(["left", "right"][usize::from(at.0)], at.1, owner);
        let op = below(10);
        let (found, expected) = match op {
            0..4 => {
                // An owner claims once: a crashed one comes back under another name.
                let known = model.rows.get(&at).is_some_and(|row| row.owner == owner);
                if known {
                    continue;
                }
                let expected = model.claim(at, owner, request);
                (
                    format!("{:?}", store.claim(of, terms(request)).await.unwrap()),
                    format!("{expected:?}"),
                )
            }
            4 => {
                let (now, lease) = (model.minute, MINUTE * 60);
                let expected = model.change(at, owner, |row| {
                    row.leased_until = now + 60;
                    row.answer.is_none()
                });
                (store.renew(of, lease).await.unwrap().to_string(), expected.to_string())
            }
            5 => {
                let answer = vec![below(200)];
                let expected = model.change(at, owner, |row| {
                    row.answer = Some(answer.clone());
                    true
                });
                (store.finish(of, answer).await.unwrap().to_string(), expected.to_string())
            }
            6 => {
                let expected = model.change(at, owner, |row| {
                    row.leased_until = 0;
                    row.answer.is_none()
                });
                (store.release(of).await.unwrap().to_string(), expected.to_string())
            }
            7 => (store.forget_claims(100).await.unwrap().to_string(), model.forget().to_string()),
            _ => {
                let minutes = if below(12) == 0 { 720 } else { 20 };
                model.minute += minutes;
                pass(minutes).await;
                continue;
            }
        };
        let kind = expected.split('(').next().unwrap_or_default();
        *met.entry(format!("{op} {kind}")).or_default() += 1;
        assert_eq!(found, expected, "step {step}, operation {op} on {at:?} by {owner}");
    }
    for kind in ["0 Mine", "0 InFlight", "0 Finished", "0 Mismatch", "4 true", "4 false", "5 false"]
    {
        assert!(met.contains_key(kind), "{kind} was never met: {met:?}");
    }
}
