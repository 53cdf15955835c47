//! What serves at each instance over one store: every one tells the others, and any can say it of all.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::Live;
use super::generations::{Generations, Instance};
use crate::store::InstanceTold;

/// Between looks whether something else serves here.
const LOOK: Duration = Duration::from_millis(100);
/// Between two tellings of the same.
const EVERY: Duration = Duration::from_secs(2);
/// Whoever said nothing for so long is not shown.
const SILENT: Duration = Duration::from_secs(10);

/// Tells the store what serves here, at once when that changes; for ever, drop it to stop.
pub async fn tell(live: &Live) {
    let Some(store) = live.store() else { return };
    let (mut told, mut at) = (String::new(), Instant::now());
    loop {
        let revision = live.current().revision.clone();
        if revision != told || at.elapsed() >= EVERY {
            let said = store.tell_instance(live.told()).await;
            if let Err(error) = &said {
                tracing::debug!(%error, "what serves here could not be told");
                sleep(EVERY / 2).await;
            }
            told = if said.is_ok() { revision } else { String::new() };
            at = Instant::now();
        }
        sleep(LOOK).await;
    }
}

impl Live {
    fn told(&self) -> InstanceTold {
        let now = self.generations();
        InstanceTold {
            id: self.instance().to_owned(),
            revision: now.revision,
            generation: now.generation,
            wanted: now.wanted,
            loaded_at: now.loaded_at,
        }
    }

    /// What [`Live::generations`] says, with every instance that was heard of within the last seconds.
    pub async fn generations_of_all(&self) -> Generations {
        let mut now = self.generations();
        let Some(store) = self.store() else { return now };
        match store.instances(SILENT).await {
            Ok(seen) => {
                let others = seen.into_iter().filter(|one| one.told.id != now.instance);
                now.instances.extend(others.map(Instance::from));
                now.instances.sort_by(|a, b| a.instance.cmp(&b.instance));
                now.every_instance = true;
            }
            Err(error) => tracing::debug!(%error, "the other instances are not known now"),
        }
        now
    }

    /// This instance ends: the others need not wait until it has been silent.
    pub async fn leave(&self) {
        if let Some(store) = self.store()
            && let Err(error) = store.forget_instance(self.instance().to_owned()).await
        {
            tracing::debug!(%error, "the end of this instance could not be told");
        }
    }
}
