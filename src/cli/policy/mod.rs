//! `orchestrator policy`: what authors of policies need, without a server.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::{Session, complain, exit, print};
use crate::domain::id::TenantId;
use crate::yaml::fault::Fault;

mod build;
mod eval;
mod lint;
mod new;
mod report;
mod test;

/// What to do with policies.
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Write a policy that works: a table, rules, a passing test and a case; with a tenant, an overlay.
    #[command(after_help = "Example: orchestrator policy new demo --tenant acme")]
    New(NewArgs),
    /// Run Rego tests and cases; exit 1 when one fails or coverage is below its threshold.
    #[command(after_help = "Example: orchestrator policy test --coverage --threshold 0.8")]
    Test(TestArgs),
    /// Evaluate a decision point on a document.
    #[command(after_help = "Example: echo '{\"findings\": []}' | \
        orchestrator policy eval --point verdict --input - --explain")]
    Eval(EvalArgs),
    /// Show the merged table, and which layer set each key.
    #[command(after_help = "Example: orchestrator policy resolve --tenant acme")]
    Resolve(ResolveArgs),
    /// Find what loads but is probably not meant; exit 1 on warnings, 65 on faults.
    #[command(after_help = "Example: orchestrator policy lint --json")]
    Lint(LintArgs),
    /// Write a tenant's policy as a bundle that Open Policy Agent evaluates to the same answers.
    #[command(after_help = "Example: orchestrator policy build --tenant acme --bundle standard")]
    Build(BuildArgs),
}

/// Options of `policy build`.
#[derive(Debug, Args)]
pub struct BuildArgs {
    /// Whose policy.
    #[arg(long)]
    pub tenant: String,
    /// Which of its policies.
    #[arg(long)]
    pub bundle: String,
    /// Where to write.
    #[arg(short, long, value_name = "FILE", default_value = "bundle.tar.gz")]
    pub output: PathBuf,
    /// Settings file.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Options of `policy new`.
#[derive(Debug, Args)]
pub struct NewArgs {
    /// The policy; for one that exists only the tenant's overlay is written.
    pub name: String,
    /// Writes an overlay for this tenant, and its file if there is none.
    #[arg(long)]
    pub tenant: Option<String>,
    /// Settings file.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Options of `policy test`.
#[derive(Debug, Args)]
pub struct TestArgs {
    /// Only tests and cases in these files or folders.
    #[arg(value_name = "PATHS")]
    pub paths: Vec<String>,
    /// Only tests and cases whose name matches this regular expression.
    #[arg(long, value_name = "RE")]
    pub filter: Option<regex::Regex>,
    /// Show which lines the Rego tests evaluated.
    #[arg(long)]
    pub coverage: bool,
    /// Least share of covered lines, 0 to 1; asks for coverage.
    #[arg(long, value_name = "SHARE", value_parser = share)]
    pub threshold: Option<f64>,
    /// How to print.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    /// Seconds for all tests and cases together; over them the exit code is 1.
    #[arg(long, value_name = "SECONDS", default_value_t = 60,
        value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub budget: u64,
    /// Run again whenever a file changes.
    #[arg(long)]
    pub watch: bool,
    /// Settings file.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// How test results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object.
    Json,
    /// JUnit XML.
    Junit,
    /// Line coverage for lcov.
    Lcov,
}

/// Options of `policy eval`.
#[derive(Debug, Args)]
pub struct EvalArgs {
    /// plan, conflict or verdict.
    #[arg(long, value_parser = ["plan", "conflict", "verdict"])]
    pub point: String,
    /// The document as JSON, or `-` for standard input; head fields and settings are filled in.
    #[arg(long, value_name = "FILE")]
    pub input: Option<PathBuf>,
    /// Whose policy.
    #[arg(long, default_value = "default")]
    pub tenant: String,
    /// Which policy; the tenant's default unless set.
    #[arg(long)]
    pub policy: Option<String>,
    /// Also which rule of which layer held, where, with its value.
    #[arg(long)]
    pub explain: bool,
    /// Settings file.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Options of `policy resolve`.
#[derive(Debug, Args)]
pub struct ResolveArgs {
    /// Whose policy.
    #[arg(long, default_value = "default")]
    pub tenant: String,
    /// Which policy; the tenant's default unless set.
    #[arg(long)]
    pub policy: Option<String>,
    /// The answer of `GET /api/v1/policies/resolve`.
    #[arg(long)]
    pub json: bool,
    /// Settings file.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Options of `policy lint`.
#[derive(Debug, Args)]
pub struct LintArgs {
    /// One JSON object per fault.
    #[arg(long)]
    pub json: bool,
    /// Settings file.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

pub(super) fn run(command: &PolicyCommand) -> u8 {
    match command {
        PolicyCommand::New(args) => new::run(args),
        PolicyCommand::Test(args) => test::run(args),
        PolicyCommand::Eval(args) => eval::evaluate(args),
        PolicyCommand::Resolve(args) => eval::resolve(args),
        PolicyCommand::Lint(args) => lint::run(args),
        PolicyCommand::Build(args) => build::run(args),
    }
}

fn share(raw: &str) -> Result<f64, String> {
    let share = raw.parse::<f64>().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "write a number from 0 to 1".to_owned())
}

fn tenant(raw: &str) -> Result<TenantId, u8> {
    TenantId::parse(raw).map_err(|error| {
        complain(&format!("--tenant: {error}"));
        exit::USAGE
    })
}

fn runtime() -> Result<tokio::runtime::Runtime, u8> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|_| {
        complain("the async runtime could not be started");
        exit::INTERNAL
    })
}

/// Faults of policy files, named as an operator would.
fn placed(session: &Session, faults: Vec<Fault>) -> Vec<Fault> {
    session.sources.place(&session.files, faults)
}
