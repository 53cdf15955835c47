//! A file in memory that forgets what was not synced.

use std::io;
use std::sync::{Arc, Mutex};

use super::super::spool::Medium;

/// Cheap to share: the test looks at what the spool wrote.
#[derive(Clone, Default)]
pub(super) struct Memory(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    bytes: Vec<u8>,
    synced: Vec<u8>,
    aside: Option<Vec<u8>>,
    /// What the next write or sync fails with.
    fails: Option<i32>,
    is_full: bool,
}

impl Memory {
    pub(super) fn of(bytes: Vec<u8>) -> Memory {
        let memory = Memory::default();
        memory.with(|state| (state.bytes, state.synced) = (bytes.clone(), bytes));
        memory
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        self.with(|state| state.bytes.clone())
    }

    /// What a power loss leaves.
    pub(super) fn synced(&self) -> Vec<u8> {
        self.with(|state| state.synced.clone())
    }

    pub(super) fn aside(&self) -> Option<Vec<u8>> {
        self.with(|state| state.aside.clone())
    }

    pub(super) fn fail(&self, errno: i32) {
        self.with(|state| state.fails = Some(errno));
    }

    /// Whether there is no room from now on.
    pub(super) fn fill(&self, is_full: bool) {
        self.with(|state| state.is_full = is_full);
    }

    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.0.lock().unwrap())
    }

    fn may(&self) -> io::Result<()> {
        let full = |state: &State| state.is_full.then_some(28);
        match self.with(|state| state.fails.take().or_else(|| full(state))) {
            Some(errno) => Err(io::Error::from_raw_os_error(errno)),
            None => Ok(()),
        }
    }
}

impl Medium for Memory {
    fn length(&mut self) -> io::Result<u64> {
        Ok(self.with(|state| state.bytes.len() as u64))
    }

    fn read_at(&mut self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.with(|state| {
            let from = offset as usize;
            let found = state.bytes.get(from..from + bytes.len());
            bytes.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        })
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.may()?;
        self.with(|state| {
            state.bytes.truncate(offset as usize);
            state.bytes.extend_from_slice(bytes);
        });
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.may()?;
        self.with(|state| state.synced.clone_from(&state.bytes));
        Ok(())
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        self.with(|state| state.bytes.truncate(length as usize));
        Ok(())
    }

    fn set_aside(&mut self) -> io::Result<()> {
        self.with(|state| state.aside = Some(state.bytes.clone()));
        Ok(())
    }
}
