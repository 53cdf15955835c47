//! With which pepper the latest API key was made: beside the keys lies a hash that tells one pepper
//! from another, and nothing else of it.

use super::Keyring;
use super::keys::now_ms;
use crate::seal::Key;
use crate::store::{Expected, Object, ObjectKey, StoreError};

/// Where the mark lies among the objects of the store.
pub const PEPPER_MARK: &str = "pepper";

/// What to say where the store's `marks` are of another pepper than `pepper`, beside so many keys
/// that hold.
pub fn another_pepper(pepper: &Key, marks: &[Object], holding: u64) -> Option<String> {
    let mark = marks.first().and_then(|mark| mark.body.as_deref())?;
    (holding > 0 && mark != of(pepper)).then(|| {
        format!(
            "the latest of {holding} API keys in the store was made with another pepper than the \
             present one: whatever was made with that one is not valid; give ORCHESTRATION_KEY_PEPPER, \
             or keys/pepper below paths.data, as it was, or revoke what is lost and make a new key"
        )
    })
}

impl Keyring {
    /// What to say where the latest key was made with another pepper.
    pub async fn of_another_pepper(&self) -> Result<Option<String>, StoreError> {
        let holding = self.store.keys_that_hold(now_ms()).await?;
        let marks = self.store.objects(PEPPER_MARK.to_owned()).await?;
        Ok(another_pepper(&self.pepper, &marks, holding))
    }

    /// Leaves the mark of this pepper, with which a key was just made. The key is made in any case.
    pub(super) async fn leave_mark(&self) {
        let key = ObjectKey { kind: PEPPER_MARK.into(), tenant: None, name: "keys".into() };
        let mark = of(&self.pepper);
        let left = match self.store.object(key.clone()).await {
            Ok(Some(there)) if there.body.as_deref() == Some(&mark) => return,
            Ok(_) => self.store.put(key, mark, Expected::Any).await.map(drop),
            Err(error) => Err(error),
        };
        if let Err(error) = left {
            tracing::warn!(%error, "with which pepper a key was made could not be kept");
        }
    }
}

/// As JSON.
fn of(pepper: &Key) -> String {
    format!("\"{}\"", hex::encode(pepper.hash([&b"mark of the pepper"[..]])))
}
