//! `orchestrator evidence`: what is recorded of decisions, without a server.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::Serialize;

use super::session::refuse;
use super::{exit, load_settings};
use crate::domain::log::{Checkpoint, parse_heads};
use crate::orchestrator::{self, own_keys};
use crate::settings::Settings;
use crate::store::{Kept, StoreError};
use gathered::Keys;

mod export;
mod gathered;
mod replay;
mod verify;

/// What to do with records.
#[derive(Debug, Subcommand)]
pub enum EvidenceCommand {
    /// Decide recorded decisions again and compare; exit 0 when all are equal, 65 when not.
    #[command(
        after_help = "Example: orchestrator evidence replay --tenant acme --since 2026-01-31"
    )]
    Replay(ReplayArgs),
    /// Verify a package or the store; exit 0 when all is well, 65 when not.
    #[command(
        after_help = "Example: orchestrator evidence verify acme.jsonl --checkpoint head.txt"
    )]
    Verify(VerifyArgs),
    /// Write a tenant's records with everything that proves them into a file.
    #[command(after_help = "Example: orchestrator evidence export --tenant acme acme.jsonl")]
    Export(ExportArgs),
    /// Print each log's key and its newest checkpoint: keep them elsewhere.
    #[command(after_help = "Example: orchestrator evidence keys --json")]
    Keys(LogKeysArgs),
}

/// Options of `evidence verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// A package; the store unless set.
    #[arg(value_name = "FILE")]
    pub package: Option<PathBuf>,
    /// The store, file or database, as the settings name it; the default.
    #[arg(long, conflicts_with = "package")]
    pub store: bool,
    /// Checkpoints that were kept elsewhere, as `evidence keys` prints them or the service's log holds
    /// them: find what was cut off since.
    #[arg(long, value_name = "FILE")]
    pub checkpoint: Vec<PathBuf>,
    /// The only keys to believe, as `evidence keys --json` prints them.
    #[arg(long, value_name = "FILE")]
    pub keys: Option<PathBuf>,
    /// The record whose content is checked.
    #[arg(long, requires = "content")]
    pub id: Option<String>,
    /// What was sent: a text, or the JSON of `content` or `messages`.
    #[arg(long, value_name = "FILE", requires_all = ["salt", "id"])]
    pub content: Option<PathBuf>,
    /// The salt of the receipt.
    #[arg(long, value_name = "HEX")]
    pub salt: Option<String>,
    /// JSON instead of text.
    #[arg(long)]
    pub json: bool,
    /// Settings file.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Options of `evidence export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// Where to.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Whose.
    #[arg(long)]
    pub tenant: String,
    /// One record.
    #[arg(long)]
    pub id: Option<String>,
    /// Only records from this day or moment on, UTC.
    #[arg(long, value_name = "DATE", value_parser = moment)]
    pub since: Option<i64>,
    /// Only records before this day or moment, UTC.
    #[arg(long, value_name = "DATE", value_parser = moment)]
    pub until: Option<i64>,
    /// Checkpoints that were kept elsewhere, so that `evidence verify` compares the package with them.
    #[arg(long, value_name = "FILE")]
    pub checkpoint: Vec<PathBuf>,
    /// Settings file.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Options of `evidence keys`.
#[derive(Debug, Args)]
pub struct LogKeysArgs {
    /// JSON instead of checkpoints.
    #[arg(long)]
    pub json: bool,
    /// Settings file.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Options of `evidence replay`.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// One record.
    #[arg(long, conflicts_with_all = ["all", "since"])]
    pub id: Option<String>,
    /// Every record; the default unless --id is given.
    #[arg(long)]
    pub all: bool,
    /// Whose; every known tenant's unless set.
    #[arg(long)]
    pub tenant: Option<String>,
    /// Only records from this day or moment on, UTC.
    #[arg(long, value_name = "DATE", value_parser = moment)]
    pub since: Option<i64>,
    /// The records of a package instead of the store's.
    #[arg(long, value_name = "FILE")]
    pub package: Option<PathBuf>,
    /// One JSON object per record, the last one the sum.
    #[arg(long)]
    pub json: bool,
    /// Settings file.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

pub(super) fn run(command: &EvidenceCommand) -> u8 {
    match command {
        EvidenceCommand::Replay(args) => replay::run(args),
        EvidenceCommand::Verify(args) => verify::run(args),
        EvidenceCommand::Export(args) => export::run(args),
        EvidenceCommand::Keys(args) => export::keys(args),
    }
}

/// An exit code and why.
type Refused = (u8, String);

/// What is stored may hold anything, and a terminal obeys control characters and turns lines around.
fn shown(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        match c {
            _ if c.is_control() => out.extend(c.escape_debug()),
            _ if is_unseen(c) => out.extend(c.escape_unicode()),
            _ => out.push(c),
        }
        out
    })
}

/// The same of JSON, which stays what it is: such characters stand in texts alone.
fn shown_json(value: &impl Serialize) -> String {
    let json = serde_json::to_string(value).unwrap_or_default();
    json.chars().fold(String::with_capacity(json.len()), |mut out, c| {
        if c.is_control() || is_unseen(c) {
            let mut units = [0; 2];
            let units = c.encode_utf16(&mut units).iter();
            out.extend(units.map(|unit| format!("\\u{unit:04x}")));
        } else {
            out.push(c);
        }
        out
    })
}

/// Directions, joiners, ends of lines and tags, none of which is seen.
fn is_unseen(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{feff}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}'
    )
}

fn settings(config: Option<&Path>) -> Result<Settings, Refused> {
    let faults = |faults: Vec<_>| (refuse(&faults), "the settings are at fault".to_owned());
    load_settings(config, None).map_err(faults)
}

/// The store that the settings name, which must be there.
fn stored(config: Option<&Path>) -> Result<(Settings, Kept), Refused> {
    let settings = settings(config)?;
    let kept = orchestrator::kept(&settings, None);
    let kept = kept.map_err(|error| (exit::UNAVAILABLE, error.to_string()))?;
    match &kept {
        Kept::File(path) if !path.exists() => {
            let path = path.display();
            let what =
                format!("there is no store at {path}; name its settings by --config, or a package");
            Err((exit::NO_INPUT, what))
        }
        Kept::File(_) | Kept::Database(_) => Ok((settings, kept)),
    }
}

/// What a command that read `kept` ends with: what is damaged is no fault of the way to it.
fn unread(kept: &Kept, error: &StoreError) -> Refused {
    let code = match (kept, error) {
        (_, StoreError::Damaged { .. } | StoreError::Corrupt { .. })
        | (Kept::File(_), StoreError::Failed { .. }) => exit::DATA,
        (Kept::File(_), StoreError::ReadOnly { .. }) => exit::NO_INPUT,
        _ => exit::UNAVAILABLE,
    };
    (code, format!("{kept}: {error}"))
}

/// The keys of the service, its present one where it is at hand.
fn own(settings: &Settings) -> Result<Keys, Refused> {
    own_keys(settings).map_err(|error| (exit::DATA, format!("the log's own key: {error}")))
}

/// A file as text; where it is none, the place is named.
fn read(file: &Path) -> Result<String, Refused> {
    let name = file.display();
    let bytes = std::fs::read(file).map_err(|it| (exit::NO_INPUT, format!("{name}: {it}")))?;
    String::from_utf8(bytes).map_err(|error| {
        let place = error.utf8_error().valid_up_to();
        let before = error.as_bytes().get(..place).unwrap_or_default();
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        let column = before.iter().rev().take_while(|byte| **byte != b'\n').count() + 1;
        let what = format!("{name}: line {line}, byte {column} is no UTF-8: it was damaged");
        (exit::DATA, what)
    })
}

/// The heads in these files.
fn heads(files: &[PathBuf]) -> Result<Vec<Checkpoint>, Refused> {
    let mut all = Vec::new();
    for file in files {
        let name = file.display();
        let heads = parse_heads(&read(file)?).map_err(|line| {
            (exit::DATA, format!("{name}: line {line} begins a checkpoint and does not hold one"))
        })?;
        if heads.is_empty() {
            return Err((exit::DATA, format!("{name} holds no checkpoint")));
        }
        all.extend(heads);
    }
    Ok(all)
}

/// A day or a moment, in milliseconds since 1970.
fn moment(text: &str) -> Result<i64, String> {
    let day = || {
        let date: jiff::civil::Date = text.parse().ok()?;
        Some(date.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp())
    };
    let moment = text.parse::<jiff::Timestamp>().ok().or_else(day);
    let moment = moment.ok_or("write a day, 2026-01-31, or a moment, 2026-01-31T12:00:00Z")?;
    Ok(moment.as_millisecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_obeys_is_escaped_and_json_stays_what_it_is() {
        let odd = "a\u{1b}\u{9b}2J\u{7f}\u{202e}\u{2066}\u{e0041}\u{e9}";
        let told = shown(odd);
        assert_eq!(told, "a\\u{1b}\\u{9b}2J\\u{7f}\\u{202e}\\u{2066}\\u{e0041}\u{e9}");
        let told = shown_json(&serde_json::json!({ odd: [odd] }));
        let unseen = told.chars().any(|c| c.is_control() || is_unseen(c));
        assert!(!unseen && told.contains("\\u202e") && told.contains("\u{e9}"), "{told}");
        let back: serde_json::Value = serde_json::from_str(&told).unwrap();
        assert_eq!(back, serde_json::json!({ odd: [odd] }));
    }
}
