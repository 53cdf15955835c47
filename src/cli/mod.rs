//! The subcommands that need no server.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::domain::redaction::Style;

mod attach;
mod check;
mod detectors;
pub mod evidence;
mod health;
mod init;
pub mod keys;
mod migrate;
pub mod policy;
mod scan;
mod session;

pub use session::{Session, load_settings, load_settings_over, refused};

/// Asks many detectors about content and lets policies decide.
#[derive(Debug, Parser)]
#[command(name = "orchestrator", version, about, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// What to do; `serve` unless named.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Options of `serve`.
    #[command(flatten)]
    pub serve: ServeArgs,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the HTTP API (the default).
    #[command(after_help = "Example: orchestrator serve --listen 127.0.0.1:8000")]
    Serve(ServeArgs),
    /// Check detectors, tenants, strategies and policies; exit 0 when sound, 65 when not.
    #[command(after_help = "Example: orchestrator check . --json")]
    Check(CheckArgs),
    /// Judge files without a server; exit 10 on redact or review, 20 on block.
    #[command(after_help = "Example: orchestrator scan samples/*\n         \
        git diff | orchestrator scan - --redact")]
    Scan(ScanArgs),
    /// Write the embedded settings, detectors, policies and samples into a folder.
    #[command(after_help = "Example: orchestrator init my-project")]
    Init(InitArgs),
    /// Look at detectors.
    #[command(subcommand, after_help = "Example: orchestrator detectors probe pii")]
    Detectors(DetectorsCommand),
    /// Write, check, test and try policies.
    #[command(subcommand, after_help = "Example: orchestrator policy new demo --tenant acme")]
    Policy(policy::PolicyCommand),
    /// Look at what is recorded of decisions, without a server.
    #[command(subcommand, after_help = "Example: orchestrator evidence replay --all")]
    Evidence(evidence::EvidenceCommand),
    /// Manage API keys of the configured store.
    #[command(subcommand, after_help = "Example: orchestrator keys list")]
    Keys(keys::KeysCommand),
    /// Bring the store's schema up to date; a database's as the owner of its tables.
    #[command(after_help = "Example: ORCHESTRATION_DATABASE_URL=postgres://owner@db/orchestrator \
        orchestrator migrate --dry-run")]
    Migrate(MigrateArgs),
    /// Ask the service on this machine whether it is ready; exit 0 when it is, 69 when not.
    #[command(after_help = "Example: orchestrator health --listen 127.0.0.1:8000")]
    Health(ServeArgs),
    /// Print the OpenAPI document.
    #[command(after_help = "Example: orchestrator openapi > openapi.json")]
    Openapi,
}

/// Options of `serve` and `health`.
#[derive(Debug, Clone, Default, Args)]
pub struct ServeArgs {
    /// Settings file; config/settings.yaml where it exists, else the embedded one.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Address to listen on, over the settings; port 0 takes a free one.
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<std::net::SocketAddr>,
}

/// Options of `migrate`.
#[derive(Debug, Args)]
pub struct MigrateArgs {
    /// Tell what is missing and change nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Settings file.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Options of `check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// A project folder as `init` writes it.
    #[arg(value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Settings file.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Address that `serve` would be given, over the settings.
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<std::net::SocketAddr>,
    /// One JSON object per fault.
    #[arg(long)]
    pub json: bool,
}

/// Options of `scan`.
#[derive(Debug, Args)]
pub struct ScanArgs {
    /// Files, or `-` for standard input.
    #[arg(value_name = "FILES", required = true)]
    pub files: Vec<PathBuf>,
    /// Whose policies decide.
    #[arg(long, default_value = "default")]
    pub tenant: String,
    /// Which policy; the tenant's default unless set.
    #[arg(long)]
    pub policy: Option<String>,
    /// text, document, code or image.
    #[arg(long = "type", default_value = "text")]
    pub content_type: String,
    /// Print the redacted content instead of the report.
    #[arg(long)]
    pub redact: bool,
    /// What stands in the place of redacted text; the tenant's unless set.
    #[arg(long, value_parser = Style::NAMES)]
    pub style: Option<String>,
    /// One JSON object per file.
    #[arg(long, conflicts_with = "redact")]
    pub json: bool,
    /// Settings file.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Options of `init`.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// Where to write; the working directory unless set.
    #[arg(value_name = "DIR", default_value = ".")]
    pub dir: PathBuf,
}

/// What to do with detectors.
#[derive(Debug, Subcommand)]
pub enum DetectorsCommand {
    /// List them.
    List(ListArgs),
    /// Ask one about a sample, or with --url an unknown service, for which a file is proposed.
    #[command(after_help = "Example: orchestrator detectors probe pii\n         \
        orchestrator detectors probe vendor --url https://vendor.example/v1/check --save")]
    Probe(ProbeArgs),
    /// Fit what one's scores are worth to labelled texts; print the key `calibration` for its file.
    #[command(after_help = "Example: orchestrator detectors calibrate toxicity \
        --labelled labelled.jsonl\n\n\
        Each line of the file: {\"text\": \"...\", \"categories\": [\"toxicity\"]}, with no \
        category where the text is clean.")]
    Calibrate(CalibrateArgs),
    /// Compare the scores and categories of recorded decisions week by week.
    #[command(after_help = "Example: orchestrator detectors drift --tenant acme --weeks 8")]
    Drift(DriftArgs),
}

/// Options of `detectors list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// One JSON object per detector.
    #[arg(long)]
    pub json: bool,
    /// Settings file.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Options of `detectors probe`.
#[derive(Debug, Args)]
pub struct ProbeArgs {
    /// The detector; with --url, the name of the file.
    #[arg(required_unless_present = "url")]
    pub name: Option<String>,
    /// What to ask it about; a sample unless set.
    #[arg(long)]
    pub text: Option<String>,
    /// A service that no file attaches yet.
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// The JSON body to send, with {{content}} or another placeholder of protocol http.
    #[arg(long, value_name = "JSON", requires = "url")]
    pub request: Option<String>,
    /// A header to send, `Name: value`; never a secret.
    #[arg(long, value_name = "HEADER", requires = "url")]
    pub header: Vec<String>,
    /// Where the secret is: env:NAME for a bearer token, HEADER=env:NAME for another header.
    #[arg(long, requires = "url")]
    pub auth: Option<String>,
    /// Write the proposed file into the folder of detectors, unless it exists.
    #[arg(long, requires = "url")]
    pub save: bool,
    /// Settings file.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Options of `detectors calibrate`.
#[derive(Debug, Args)]
pub struct CalibrateArgs {
    /// The detector.
    pub name: String,
    /// Texts whose categories are known, one JSON object a line.
    #[arg(long, value_name = "FILE")]
    pub labelled: PathBuf,
    /// The form of the curve; the one with the lower cross-validated error unless set.
    #[arg(long, value_parser = ["logistic", "points"])]
    pub form: Option<String>,
    /// One JSON object per category.
    #[arg(long)]
    pub json: bool,
    /// Add the key to the detector's file, unless it has one.
    #[arg(long)]
    pub write: bool,
    /// Settings file.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Options of `detectors drift`.
#[derive(Debug, Args)]
pub struct DriftArgs {
    /// Whose decisions; everyone's unless set.
    #[arg(long)]
    pub tenant: Option<String>,
    /// How many weeks back, this one included.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(2..=104))]
    pub weeks: u16,
    /// One JSON object per detector, category and week.
    #[arg(long)]
    pub json: bool,
    /// Settings file.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Exit codes, after sysexits where one fits.
pub mod exit {
    /// All well.
    pub const OK: u8 = 0;
    /// A test failed, coverage is below its threshold, or `lint` warns.
    pub const FAILED: u8 = 1;
    /// `scan`: something is to be redacted or reviewed.
    pub const LOOK: u8 = 10;
    /// `scan`: something is blocked.
    pub const BLOCK: u8 = 20;
    /// Wrong use.
    pub const USAGE: u8 = 64;
    /// Faults in the data given.
    pub const DATA: u8 = 65;
    /// An input cannot be read.
    pub const NO_INPUT: u8 = 66;
    /// Something needed does not answer.
    pub const UNAVAILABLE: u8 = 69;
    /// A fault of this program.
    pub const INTERNAL: u8 = 70;
}

/// Runs every subcommand but `serve`; returns the exit code.
pub fn run(command: Command) -> u8 {
    match command {
        // `main` serves; it never hands that here.
        Command::Serve(_) => exit::INTERNAL,
        Command::Check(args) => check::run(&args),
        Command::Scan(args) => scan::run(&args),
        Command::Init(args) => init::run(&args),
        Command::Detectors(DetectorsCommand::List(args)) => detectors::list(&args),
        Command::Detectors(DetectorsCommand::Probe(args)) => detectors::probe(&args),
        Command::Detectors(DetectorsCommand::Calibrate(args)) => detectors::calibrate(&args),
        Command::Detectors(DetectorsCommand::Drift(args)) => detectors::drift(&args),
        Command::Policy(command) => policy::run(&command),
        Command::Evidence(command) => evidence::run(&command),
        Command::Keys(command) => keys::run(command),
        Command::Migrate(args) => migrate::run(&args),
        Command::Health(args) => health::run(&args),
        Command::Openapi => {
            print(&crate::api::openapi());
            exit::OK
        }
    }
}

/// Writes a line to standard output; a closed pipe is no fault.
fn print(line: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

/// Writes a line to standard error.
pub fn complain(line: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}
