//! A ledger in memory that answers at once, so that the paused clock stands still meanwhile, and fails
//! as it is told.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use futures_util::FutureExt as _;
use tokio::sync::watch;

use super::*;
use crate::domain::digest::Digest;
use crate::domain::log::{Checkpoint, Leaf};
use crate::store::{Answer, LeafRow, Ledger, LogBatch, LogKey, StoreError, Trace};

/// What a store does to a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Nothing, until the fault ends; then the batch is taken.
    Hang,
    /// It says no.
    Refuse,
    /// It takes the batch, and the answer is lost.
    Lose,
    /// Its disk fails.
    Broken,
}

/// One log.
pub(super) struct Faulty {
    state: Mutex<State>,
    fault: watch::Receiver<Option<Fault>>,
}

#[derive(Default)]
struct State {
    rows: Vec<(Decision, Digest)>,
    nodes: HashMap<(u8, u64), Digest>,
    heads: Vec<Checkpoint>,
}

/// Says what fails from now on.
#[derive(Clone)]
pub(super) struct Faults(watch::Sender<Option<Fault>>);

impl Faults {
    pub(super) fn set(&self, fault: Option<Fault>) {
        self.0.send_replace(fault);
    }
}

impl Faulty {
    pub(super) fn new() -> (Arc<Faulty>, Faults) {
        let (tell, fault) = watch::channel(None);
        (Arc::new(Faulty { state: Mutex::default(), fault }), Faults(tell))
    }

    /// In the order of their leaves.
    pub(super) fn ids(&self) -> Vec<String> {
        self.state.lock().unwrap().rows.iter().map(|(row, _)| row.id.clone()).collect()
    }

    fn answer<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut State) -> Result<T, StoreError> + Send + 'static,
    ) -> Answer<'_, T> {
        async move {
            let doing = "testing";
            let mut told = self.fault.clone();
            let fault = *told.borrow();
            match fault {
                Some(Fault::Refuse) => {
                    return Err(StoreError::Unreachable { doing, reason: "told so".into() });
                }
                Some(Fault::Broken) => return Err(StoreError::Broken { doing }),
                Some(Fault::Hang) => {
                    let _ = told.wait_for(|fault| *fault != Some(Fault::Hang)).await;
                }
                Some(Fault::Lose) | None => {}
            }
            let done = work(&mut self.state.lock().unwrap());
            match fault {
                Some(Fault::Lose) => Err(StoreError::Slow { doing, waited_ms: 0 }),
                _ => done,
            }
        }
        .boxed()
    }
}

impl Ledger for Faulty {
    fn open_log(&self, _: LogKey) -> Answer<'_, ()> {
        self.answer(|_| Ok(()))
    }

    fn logs(&self) -> Answer<'_, Vec<LogKey>> {
        self.answer(|_| Ok(Vec::new()))
    }

    fn append_batch(&self, batch: Arc<LogBatch>) -> Answer<'_, ()> {
        self.answer(move |state| {
            let (kind, name) = ("log".to_owned(), String::new());
            let found = state.rows.len() as u64;
            if batch.checkpoint.size - batch.decisions.len() as u64 != found {
                return Err(StoreError::Conflict { kind, name, found });
            }
            let known = |row: &Decision| state.rows.iter().any(|(kept, _)| kept.id == row.id);
            if batch.decisions.iter().any(|(row, _)| known(row)) {
                return Err(StoreError::Refused { doing: "testing", reason: "it is taken".into() });
            }
            state.rows.extend(batch.decisions.iter().cloned());
            state.heads.push(batch.checkpoint.clone());
            let nodes = batch.nodes.iter().map(|node| ((node.level, node.index), node.hash));
            state.nodes.extend(nodes);
            Ok(())
        })
    }

    fn tail(&self, _: LogId) -> Answer<'_, Option<Checkpoint>> {
        self.answer(|state| Ok(state.heads.last().cloned()))
    }

    fn heads(&self, _: LogId, below: u64, limit: u32) -> Answer<'_, Vec<Checkpoint>> {
        self.answer(move |state| {
            let newest = state.heads.iter().rev().filter(|head| head.size < below);
            Ok(newest.take(limit as usize).cloned().collect())
        })
    }

    fn checkpoint(&self, _: LogId, size: u64) -> Answer<'_, Option<Checkpoint>> {
        self.answer(move |state| Ok(state.heads.iter().find(|head| head.size >= size).cloned()))
    }

    fn hashes(&self, _: LogId, level: u8, first: u64, count: u32) -> Answer<'_, Vec<Digest>> {
        self.answer(move |state| {
            let wanted = first..first + u64::from(count);
            let hash = |index: u64| match level {
                0 => state.rows.get(index as usize).map(|(_, hash)| *hash),
                _ => state.nodes.get(&(level, index)).copied(),
            };
            Ok(wanted.map_while(hash).collect())
        })
    }

    fn leaf(&self, _: TenantId, decision: String) -> Answer<'_, Option<Leaf>> {
        self.answer(move |state| {
            let place = state.rows.iter().position(|(row, _)| row.id == decision);
            Ok(place.map(|place| Leaf {
                log: state.heads[0].log.clone(),
                index: place as u64,
                hash: state.rows[place].1,
            }))
        })
    }

    fn leaves(&self, tenant: TenantId, after: String, limit: u32) -> Answer<'_, Vec<String>> {
        self.answer(move |state| {
            let own = state.rows.iter().filter(|(row, _)| row.tenant == tenant && row.id > after);
            let mut ids: Vec<String> = own.map(|(row, _)| row.id.clone()).collect();
            ids.sort();
            ids.truncate(limit as usize);
            Ok(ids)
        })
    }

    fn traces(&self, decisions: Vec<String>) -> Answer<'_, Vec<Trace>> {
        self.answer(move |state| {
            let trace = |decision: String| {
                let place = state.rows.iter().position(|(row, _)| row.id == decision)?;
                let log = Some(state.heads[0].log.clone());
                let (place, hash) = (place as u64, state.rows[place].1);
                let leaf = Some(LeafRow { log, number: 1, place, hash });
                Some(Trace { decision, leaf, has_row: true })
            };
            Ok(decisions.into_iter().filter_map(trace).collect())
        })
    }
}
