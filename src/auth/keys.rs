//! API keys: `orch_<12 hexadecimal digits>_<32 hexadecimal digits>`. The first two parts are the
//! shown prefix; the store holds a keyed hash of the whole.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::Instant;

use super::{Caller, Refused};
use crate::domain::access::{Scope, Scopes};
use crate::domain::error::Error;
use crate::seal::{self, Key, SealError};
use crate::store::{ApiKey, KeyHash, Store, StoreError};

/// Before every key.
pub(super) const MARK: &str = "orch_";
const ID_DIGITS: usize = 12;
const SECRET_DIGITS: usize = 32;
/// A key is read again after this; what was revoked elsewhere is refused from then on.
const FRESH: Duration = Duration::from_secs(1);
/// While the store is down, a key seen within this may still have content judged.
const REMEMBERED: Duration = Duration::from_secs(60);
/// The store's answer is waited for this long.
const PATIENCE: Duration = Duration::from_millis(500);
/// Keys remembered at once.
const SEEN_MAX: usize = 10_000;

/// The keys of a store.
pub struct Keyring {
    pub(super) store: Arc<dyn Store>,
    pub(super) pepper: Key,
    seen: Mutex<HashMap<String, (Instant, Arc<ApiKey>)>>,
}

impl Keyring {
    /// The keys in `store`, hashed with `pepper`.
    pub fn new(store: Arc<dyn Store>, pepper: Key) -> Keyring {
        Keyring { store, pepper, seen: Mutex::default() }
    }

    /// The caller whose key is `presented`.
    pub(super) async fn caller(&self, presented: &str) -> Result<Caller, Refused> {
        let prefix = prefix_of(presented).ok_or(Refused::NotValid("has no key's form"))?;
        let (key, up) = self.find(prefix).await?;
        let hash = self.hash(presented);
        let known = key.as_ref().map_or([0; 32], |key| key.hash.0);
        let same = seal::same(&hash.0, &known);
        let Some(key) = key.filter(|_| same) else {
            return Err(Refused::NotValid("is unknown"));
        };
        if up {
            self.remember(&key);
        }
        if key.revoked_at_ms.is_some() {
            return Err(Refused::NotValid("was revoked"));
        }
        if !key.holds(now_ms()) {
            return Err(Refused::NotValid("has expired"));
        }
        let mut caller = Caller::of_key(&key);
        if !up {
            (caller.withheld, caller.scopes) =
                caller.scopes.parted(Scopes::of(&[Scope::OrchestrateWrite]));
        }
        Ok(caller)
    }

    /// Whether the key of that prefix was revoked; one that the store does not have was not.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn is_revoked(&self, prefix: &str) -> Result<bool, Error> {
        let found = self.store.key(prefix.to_owned()).await.map_err(|error| {
            let message = "credentials cannot be checked now";
            Error::new(error.code(), message).caused_by(error)
        })?;
        Ok(found.is_some_and(|key| key.revoked_at_ms.is_some()))
    }

    /// The key of that prefix, and whether the store vouches for it.
    async fn find(&self, prefix: &str) -> Result<(Option<Arc<ApiKey>>, bool), Refused> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner).get(prefix).cloned();
        if let Some((at, key)) = &seen
            && at.elapsed() < FRESH
        {
            return Ok((Some(Arc::clone(key)), true));
        }
        let asked = tokio::time::timeout(PATIENCE, self.store.key(prefix.to_owned())).await;
        let answer = asked.unwrap_or(Err(StoreError::Slow {
            doing: "reading a key",
            waited_ms: PATIENCE.as_millis(),
        }));
        match (answer, seen) {
            (Ok(key), _) => Ok((key.map(Arc::new), true)),
            (Err(_), Some((at, key))) if at.elapsed() < REMEMBERED => Ok((Some(key), false)),
            (Err(error), _) => Err(Refused::Store(error)),
        }
    }

    /// Only a key whose secret was presented is remembered; guesses take no room.
    fn remember(&self, key: &Arc<ApiKey>) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.get(&key.prefix).is_some_and(|(at, _)| at.elapsed() < FRESH) {
            return;
        }
        if seen.len() >= SEEN_MAX {
            seen.retain(|_, (at, _)| at.elapsed() < FRESH);
            if seen.len() >= SEEN_MAX {
                seen.clear();
            }
        }
        seen.insert(key.prefix.clone(), (Instant::now(), Arc::clone(key)));
    }

    /// What was changed here is read again at once.
    pub(super) fn forget(&self, prefix: &str) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).remove(prefix);
    }

    pub(super) fn hash(&self, key: &str) -> KeyHash {
        KeyHash(self.pepper.hash([&b"api-key"[..], key.as_bytes()]))
    }
}

/// A fresh key and its prefix.
pub(super) fn fresh() -> Result<(SecretString, String), SealError> {
    let id = seal::token("")?;
    let id: String = id.expose_secret().chars().take(ID_DIGITS).collect();
    let prefix = format!("{MARK}{id}");
    Ok((seal::token(&format!("{prefix}_"))?, prefix))
}

/// The shown part of something that has a key's form.
pub(super) fn prefix_of(presented: &str) -> Option<&str> {
    let digits = |text: &str, length: usize| {
        text.len() == length && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    let (prefix, secret) = presented.rsplit_once('_')?;
    let id = prefix.strip_prefix(MARK)?;
    (digits(id, ID_DIGITS) && digits(secret, SECRET_DIGITS)).then_some(prefix)
}

/// Wall clock, milliseconds since 1970.
pub(super) fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}
