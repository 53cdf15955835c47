//! What a start would find in the data folder and the store. It is looked at: nothing is made, and
//! nothing stays.

use std::collections::BTreeSet;

use super::DepsError;
use super::opened::{SPOOL_FILE, kept};
use crate::auth::{self, Refusal};
use crate::domain::log::LogId;
use crate::evidence::spool::{self, Damage, Look};
use crate::seal::{DataKeys, Signer};
use crate::settings::{Env, Secret, Settings};
use crate::store::Kept;

/// What was seen.
#[derive(Debug, Default)]
pub struct Sight {
    /// Why a start would be refused.
    pub refusals: Vec<DepsError>,
    /// What a start would only tell: a code, and what it is.
    pub warnings: Vec<(&'static str, String)>,
    /// Whether a service runs on this folder.
    pub is_served: bool,
}

/// Looks at keys, store and spool as a start with these settings opens them. What of the store cannot
/// be read is told by whoever loads what is stored. Blocks.
pub fn look_at_data(settings: &Settings) -> Sight {
    let data = &settings.paths.data;
    let mut sight = Sight::default();
    let refusals = auth::look_at_keys(settings, data);
    sight.refusals.extend(refusals.into_iter().map(DepsError::from));
    match spool::look(&data.join(SPOOL_FILE)) {
        Ok(Look::Absent) => {}
        Ok(Look::Held) => sight.is_served = true,
        Ok(Look::There(damage)) => {
            sight.warnings.extend(spoilt(damage).map(|what| ("spool_damaged", what)));
        }
        // A folder that is none was told with the keys.
        Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => {}
        Err(error) => sight.refusals.push(DepsError::Spool(error)),
    }
    if let Ok(kept) = kept(settings, None) {
        let newer = kept.look().err();
        let newer =
            newer.filter(|error| matches!(error, crate::store::StoreError::NewerSchema { .. }));
        sight.refusals.extend(newer.map(DepsError::Store));
        sight.refusals.extend(lost_pepper(settings, &kept).map(DepsError::from));
        sight.warnings.extend(lost(settings, &kept));
        sight.warnings.extend(other_pepper(settings, &kept));
        sight.warnings.extend(strange_logs(settings, &kept));
        let keys = auth::data_keys_there(settings);
        let sealed = keys.zip(kept.job_seals().ok());
        let sealed = sealed.and_then(|(keys, seals)| sealed_jobs(&seals, &keys));
        sight.warnings.extend(sealed.map(|what| ("lost_key", what)));
    }
    sight
}

/// What of the spool a start could not read.
fn spoilt(damage: Damage) -> Option<String> {
    const SPOOL: &str = "the evidence spool below paths.data";
    let Damage { frames, bytes, torn_bytes } = damage;
    if frames > 0 {
        return Some(format!(
            "{SPOOL} holds {bytes} bytes that are no records; a start sets a copy aside and goes on \
             with the rest"
        ));
    }
    (torn_bytes > 0).then(|| {
        format!(
            "{SPOOL} ends with {torn_bytes} bytes of a write that did not come to its end; nobody was \
             told of it, and a start cuts them off"
        )
    })
}

/// Keys that are not there, beside what they alone open: a start makes others.
///
/// # Errors
/// Where it must not.
pub(super) fn lost_keys(settings: &Settings) -> Result<Vec<(&'static str, String)>, Refusal> {
    // In a database they must be given.
    let kept = settings.database.url.is_none().then(|| kept(settings, None).ok()).flatten();
    match &kept {
        None => Ok(Vec::new()),
        Some(kept) => lost_pepper(settings, kept).map_or_else(|| Ok(lost(settings, kept)), Err),
    }
}

/// Why a start that would make another pepper is refused.
fn lost_pepper(settings: &Settings, kept: &Kept) -> Option<Refusal> {
    auth::without_pepper(settings, kept.keys_that_hold(now_ms()).ok()?)
}

fn lost(settings: &Settings, kept: &Kept) -> Vec<(&'static str, String)> {
    let missing = auth::missing_keys(settings, &settings.paths.data);
    let mut lost = Vec::new();
    let keys = kept.keys_that_hold(now_ms()).unwrap_or(0);
    // Elsewhere the start is refused.
    if settings.env == Env::Development && keys > 0 && missing.contains(&Secret::KeyPepper) {
        let what = format!(
            "the pepper of {keys} API keys in the store is not there: a start makes another, and none \
             of them is valid; give ORCHESTRATION_KEY_PEPPER, or restore keys/pepper below paths.data"
        );
        lost.push(("lost_key", what));
    }
    let sealed = kept.sealed().unwrap_or(0);
    if sealed > 0 && missing.contains(&Secret::DataKey) {
        let what = format!(
            "the key of {sealed} stored credentials of detectors is not there: a start makes another, \
             and none of them can be opened; give ORCHESTRATION_DATA_KEY, or restore keys/data below \
             paths.data"
        );
        lost.push(("lost_key", what));
    }
    lost
}

/// A pepper that is there, and another one than the latest key was made with.
fn other_pepper(settings: &Settings, kept: &Kept) -> Option<(&'static str, String)> {
    // A file that holds no key is told by itself.
    let pepper = auth::pepper_there(settings).ok()??;
    let marks = kept.objects(auth::PEPPER_MARK).ok()?;
    let holding = kept.keys_that_hold(now_ms()).ok()?;
    Some(("lost_key", auth::another_pepper(&pepper, &marks, holding)?))
}

/// Content of jobs that needs another data key than those of `keys`.
pub(super) fn sealed_jobs(seals: &[(String, u64)], keys: &DataKeys) -> Option<String> {
    let own = keys.ids();
    let count: u64 = seals.iter().filter(|(id, _)| !own.contains(id)).map(|(_, count)| count).sum();
    (count > 0).then(|| {
        format!(
            "{count} contents, results and callback addresses of jobs are sealed under another data key \
             than this one: such jobs wait for a day at most, results cannot be read; give that key as \
             ORCHESTRATION_DATA_KEY_PREVIOUS"
        )
    })
}

fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

fn strange_logs(settings: &Settings, kept: &Kept) -> Vec<(&'static str, String)> {
    let present = auth::evidence_key_there(settings).ok().flatten();
    let present = present.and_then(|key| Signer::of(&key).ok());
    let mut own: BTreeSet<LogId> = settings.evidence.known().iter().map(LogId::of).collect();
    own.extend(present.map(|signer| LogId::of(&signer.public_key())));
    let strange = kept.logs().unwrap_or_default().into_iter().filter(|key| !own.contains(&key.log));
    let told = strange.map(|key| {
        let what = format!(
            "log {} in the store is of another key and is not believed; restore the key, or name the \
             public key {} in evidence.known_keys if it was yours",
            key.log.as_str(),
            hex::encode(key.public_key)
        );
        ("strange_log", what)
    });
    told.collect()
}
