//! `orchestrator migrate`: brings the store's schema up to date.

use super::session::refuse;
use super::{MigrateArgs, complain, exit, load_settings, print};
use crate::orchestrator::migrate;
use crate::store::StoreError;

pub(super) fn run(args: &MigrateArgs) -> u8 {
    let settings = match load_settings(args.config.as_deref(), None) {
        Ok(settings) => settings,
        Err(faults) => return refuse(&faults),
    };
    let migrated = match migrate(&settings, args.dry_run) {
        Ok(migrated) => migrated,
        Err(error) => {
            complain(&format!("error: {error}"));
            let newer = matches!(error, StoreError::NewerSchema { .. });
            return if newer { exit::DATA } else { exit::UNAVAILABLE };
        }
    };
    migrated.changes.iter().for_each(|change| print(change));
    let (before, after) = (migrated.before, migrated.after);
    complain(&match (migrated.changes.is_empty(), args.dry_run) {
        (true, _) => format!("the schema is version {before}; nothing is missing"),
        (false, true) => format!("the schema is version {before}; these would make it {after}"),
        (false, false) => format!("the schema was version {before} and is {after}"),
    });
    exit::OK
}
