//! Whose turn it is to have policies checked: a few at once, and of each tenant one, so that a tenant
//! waits behind itself and not behind what another sends.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::domain::id::TenantId;

/// The queue of checks; each may take a thread for long.
pub struct Turns {
    all: Arc<Semaphore>,
    /// One place for each tenant that ever came; no more than there are tenants.
    own: Mutex<BTreeMap<TenantId, Arc<Semaphore>>>,
}

/// Ends when it is dropped.
pub struct Turn {
    _all: OwnedSemaphorePermit,
    _own: OwnedSemaphorePermit,
}

impl Turns {
    /// So many checks at once.
    pub fn new(at_once: usize) -> Self {
        Self { all: Arc::new(Semaphore::new(at_once)), own: Mutex::default() }
    }

    /// The tenant's turn; `None` if it does not come in time.
    pub async fn take(&self, tenant: &TenantId, patience: Duration) -> Option<Turn> {
        let own = {
            let mut places = self.own.lock().unwrap_or_else(PoisonError::into_inner);
            let place = places.entry(tenant.clone());
            Arc::clone(place.or_insert_with(|| Arc::new(Semaphore::new(1))))
        };
        let turn = async {
            // The own place first: who waits for it takes no place in the other queue.
            let own = own.acquire_owned().await.ok()?;
            let all = Arc::clone(&self.all).acquire_owned().await.ok()?;
            Some(Turn { _all: all, _own: own })
        };
        tokio::time::timeout(patience, turn).await.ok().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_tenant_that_sends_many_waits_behind_itself() {
        let turns = Turns::new(2);
        let id = |name: &str| TenantId::parse(name).unwrap();
        let soon = Duration::from_secs(1);
        let first = turns.take(&id("evil"), soon).await;
        assert!(first.is_some());
        assert!(turns.take(&id("evil"), soon).await.is_none(), "one tenant has two turns");
        let victim = turns.take(&id("victim"), Duration::ZERO).await;
        assert!(victim.is_some(), "another tenant's queue held it up");
        assert!(turns.take(&id("third"), soon).await.is_none(), "three at once");
        drop(first);
        assert!(turns.take(&id("third"), Duration::ZERO).await.is_some());
        assert!(turns.take(&id("evil"), Duration::ZERO).await.is_some());
    }
}
