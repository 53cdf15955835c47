//! `orchestrator evidence`: what is recorded of decisions, without a server.

use std::path::PathBuf;

use clap::{Args, Subcommand};

mod export;
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
    /// A checkpoint that was kept elsewhere: finds what was cut off since.
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
