//! `orchestrator keys`: API keys of the configured store, also beside a running service.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand};
use secrecy::ExposeSecret as _;
use serde_json::json;
use tokio::runtime::Runtime;

use super::session::{load, refuse, refused};
use super::{complain, exit, load_settings, print};
use crate::api::{KeyRequest, KeyView};
use crate::auth::{self, Caller, Keyring, Minted};
use crate::detect::builtin;
use crate::domain::error::{Code, Error};
use crate::domain::id::TenantId;
use crate::orchestrator::{DepsError, STORE_FILE, open_store};
use crate::seal::Key;
use crate::settings::Secret;
use crate::snapshot::Sources;
use crate::store::{Page, Store};

/// Keys of a page of the list.
const PAGE_ROWS: u32 = 500;

/// What to do with keys.
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Make one; its secret is printed once, alone on standard output.
    #[command(after_help = "Example: orchestrator keys create --tenant acme --role app \
        --label shop --expires 90d --reason 'ticket 7'")]
    Create(CreateArgs),
    /// List them, newest first, without secrets.
    List(ListArgs),
    /// Make one that grants the same; the old one goes on for the overlap.
    #[command(after_help = "Example: orchestrator keys rotate orch_1a2b3c4d5e6f --overlap 24h \
        --reason quarterly")]
    Rotate(RotateArgs),
    /// Refuse one for ever; running services do within a second.
    #[command(after_help = "Example: orchestrator keys revoke orch_1a2b3c4d5e6f --reason leaked")]
    Revoke(RevokeArgs),
}

/// What every one of them takes.
#[derive(Debug, Args)]
pub struct Common {
    /// JSON instead of text.
    #[arg(long)]
    pub json: bool,
    /// Settings file.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Options of `keys create`.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// What it is for.
    #[arg(long)]
    pub label: String,
    /// Why, for the audit.
    #[arg(long)]
    pub reason: String,
    /// Whose it is; none for roles that act across tenants.
    #[arg(long)]
    pub tenant: Option<String>,
    /// A role; may be repeated.
    #[arg(long)]
    pub role: Vec<String>,
    /// A scope; may be repeated; with roles, only what both allow.
    #[arg(long)]
    pub scope: Vec<String>,
    /// Most urgent priority it may ask for.
    #[arg(long)]
    pub max_priority: Option<String>,
    /// When it ends: 30m, 12h, 90d; never unless set.
    #[arg(long, value_parser = seconds)]
    pub expires: Option<u32>,
    /// Of every command.
    #[command(flatten)]
    pub common: Common,
}

/// Options of `keys list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Whose; everyone's unless set.
    #[arg(long)]
    pub tenant: Option<String>,
    /// Of every command.
    #[command(flatten)]
    pub common: Common,
}

/// Options of `keys rotate`.
#[derive(Debug, Args)]
pub struct RotateArgs {
    /// The shown part of the key.
    pub prefix: String,
    /// How long the old key goes on: 0s, 30m, 24h, 7d.
    #[arg(long, value_parser = seconds, default_value = "24h")]
    pub overlap: u32,
    /// Why, for the audit.
    #[arg(long)]
    pub reason: String,
    /// Of every command.
    #[command(flatten)]
    pub common: Common,
}

/// Options of `keys revoke`.
#[derive(Debug, Args)]
pub struct RevokeArgs {
    /// The shown part of the key.
    pub prefix: String,
    /// Why, for the audit.
    #[arg(long)]
    pub reason: String,
    /// Of every command.
    #[command(flatten)]
    pub common: Common,
}

pub(super) fn run(command: KeysCommand) -> u8 {
    let common = match &command {
        KeysCommand::Create(args) => &args.common,
        KeysCommand::List(args) => &args.common,
        KeysCommand::Rotate(args) => &args.common,
        KeysCommand::Revoke(args) => &args.common,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let Ok(runtime) = runtime else {
        complain("could not start the runtime");
        return exit::INTERNAL;
    };
    let (keyring, store) = match open(common, &command, &runtime) {
        Ok(opened) => opened,
        Err(code) => return code,
    };
    let done = runtime.block_on(act(&keyring, command));
    store.close();
    match done {
        Ok(()) => exit::OK,
        Err(error) => failed(&error),
    }
}

fn failed(error: &Error) -> u8 {
    complain(&told(error));
    let away = matches!(error.code, Code::StoreUnavailable | Code::Overloaded);
    if away { exit::UNAVAILABLE } else { exit::DATA }
}

fn told(error: &Error) -> String {
    let fields: Vec<String> = error
        .details
        .iter()
        .map(|field| format!("{}: {}", field.pointer.trim_start_matches('/'), field.detail))
        .collect();
    let what = if fields.is_empty() { error.message.clone() } else { fields.join("; ") };
    match &error.cause {
        Some(cause) => format!("error: {what}: {cause}"),
        None => format!("error: {what}"),
    }
}

/// The store; a new one only for a first key that can be made.
fn open(
    common: &Common,
    command: &KeysCommand,
    on: &Runtime,
) -> Result<(Keyring, Arc<dyn Store>), u8> {
    let settings =
        load_settings(common.config.as_deref(), None).map_err(|faults| refuse(&faults))?;
    let unusable = |error: DepsError| {
        complain(&format!("error: {error}"));
        refused(&error)
    };
    let data = &settings.paths.data;
    let is_file = settings.database.url.is_none();
    let is_new = is_file && !data.join(STORE_FILE).exists();
    let place = std::path::absolute(data).unwrap_or_else(|_| data.clone());
    let makes = match command {
        KeysCommand::Create(args) => {
            possible(args).map_err(|error| failed(&error))?;
            true
        }
        KeysCommand::List(_) | KeysCommand::Rotate(_) | KeysCommand::Revoke(_) if is_new => {
            complain(&format!(
                "error: there is no store in {}, so there are no keys; name the one of the service as \
                 paths.data",
                place.display()
            ));
            return Err(exit::NO_INPUT);
        }
        KeysCommand::Rotate(_) => true,
        KeysCommand::List(_) | KeysCommand::Revoke(_) => false,
    };
    // Before a new store, which stays where this fails.
    let pepper = || auth::pepper(&settings).map_err(|refusal| unusable(refusal.into()));
    let first = is_new.then(pepper).transpose()?;
    if is_new {
        crate::store::make_folder(data).map_err(|error| {
            complain(&format!("error: could not make {}: {error}", data.display()));
            exit::UNAVAILABLE
        })?;
    }
    let store = open_store(&settings, None).map_err(|error| unusable(error.into()))?;
    let key = match (first, makes) {
        (Some(pepper), _) => {
            complain(&format!(
                "note: made a new store in {}; a service knows its keys only where paths.data and \
                 the pepper are the same",
                place.display()
            ));
            pepper
        }
        (None, true) => {
            let missing = auth::missing_keys(&settings, data);
            if is_file && missing.contains(&Secret::KeyPepper) {
                of_another_pepper(&*store, &place, on)?;
            }
            pepper()?
        }
        // Nothing is hashed.
        (None, false) => Key::random().map_err(|error| unusable(DepsError::Key(error)))?,
    };
    Ok((Keyring::new(Arc::clone(&store), key), store))
}

fn possible(args: &CreateArgs) -> Result<(), Error> {
    auth::look_at_key(&operator(), asked(args).wanted()?, &args.reason)
}

/// Refuses to make a second pepper beside keys: whoever made those hashes with one from elsewhere.
fn of_another_pepper(store: &dyn Store, place: &Path, on: &Runtime) -> Result<(), u8> {
    match on.block_on(store.keys(None, Page { limit: 1, before: None })) {
        Ok(keys) if keys.is_empty() => Ok(()),
        Ok(_) => {
            complain(&format!(
                "error: the keys in {} have a pepper that is not there; give \
                 ORCHESTRATION_KEY_PEPPER or ORCHESTRATION_KEY_PEPPER_FILE as the service has it",
                place.display()
            ));
            Err(exit::USAGE)
        }
        Err(error) => {
            complain(&format!("error: {error}"));
            Err(exit::UNAVAILABLE)
        }
    }
}

/// Whoever may write the store is its administrator; the audit names the user.
fn operator() -> Caller {
    use std::os::unix::fs::MetadataExt as _;
    let user = std::fs::metadata("/proc/self").map(|own| format!("cli/uid-{}", own.uid()));
    Caller::super_admin(user.unwrap_or_else(|_| "cli".into()))
}

async fn act(keyring: &Keyring, command: KeysCommand) -> Result<(), Error> {
    let by = operator();
    match command {
        KeysCommand::Create(args) => {
            warn_of_pepper(keyring).await;
            let minted = keyring.create(&by, asked(&args).wanted()?, &args.reason).await?;
            show(&minted, args.common.json);
            let config = args.common.config.as_deref();
            let doubt = args.tenant.and_then(|tenant| doubt_of(&tenant, config));
            doubt.iter().for_each(|doubt| complain(&format!("warning: {doubt}")));
        }
        KeysCommand::List(args) => list(keyring, by, &args).await?,
        KeysCommand::Rotate(args) => {
            warn_of_pepper(keyring).await;
            let overlap = Duration::from_secs(args.overlap.into());
            let minted = keyring.rotate(&by, &args.prefix, overlap, &args.reason).await?;
            show(&minted, args.common.json);
        }
        KeysCommand::Revoke(args) => {
            keyring.revoke(&by, &args.prefix, &args.reason).await?;
            if !args.common.json {
                complain(&format!("{} is refused from now on", args.prefix));
            }
        }
    }
    Ok(())
}

/// Says that the service may have another pepper than this command.
async fn warn_of_pepper(keyring: &Keyring) {
    if let Ok(Some(what)) = keyring.of_another_pepper().await {
        complain(&format!("warning: {what}"));
    }
}

/// What to say where neither files nor the store hold the tenant, or that cannot be told.
fn doubt_of(tenant: &str, config: Option<&Path>) -> Option<String> {
    let known = load_settings(config, None).and_then(|settings| {
        let sources = Sources::of(&settings, None, builtin::check);
        let snapshot = load(&sources.read()?, &sources, &settings, None)?;
        Ok(snapshot.catalog.tenants.contains_key(tenant))
    });
    match known {
        Ok(true) => None,
        Ok(false) => Some(format!(
            "there is no tenant `{tenant}` yet, and until there is the key is refused: add \
             config/tenants/{tenant}.yaml, or PUT /api/v1/tenants/{tenant}"
        )),
        Err(_) => Some(format!(
            "whether there is a tenant `{tenant}` cannot be told, since the project has faults: run \
             `orchestrator check`"
        )),
    }
}

fn asked(args: &CreateArgs) -> KeyRequest {
    let some = |names: &Vec<String>| (!names.is_empty()).then(|| names.clone());
    KeyRequest {
        label: args.label.clone(),
        reason: args.reason.clone(),
        tenant: args.tenant.clone(),
        roles: some(&args.role),
        scopes: some(&args.scope),
        max_priority: args.max_priority.clone(),
        expires_in_s: args.expires,
    }
}

/// The secret alone on standard output, so that a script can keep it; the rest beside it.
fn show(minted: &Minted, json: bool) {
    let view = KeyView::of(&minted.key);
    let secret = minted.secret.expose_secret();
    if json {
        let mut value = serde_json::to_value(&view).unwrap_or_default();
        if let Some(object) = value.as_object_mut() {
            object.insert("key".into(), json!(secret));
        }
        return print(&value.to_string());
    }
    complain(&format!("{}\nKeep it now, it is never shown again:", line(&view)));
    print(secret);
}

async fn list(keyring: &Keyring, by: Caller, args: &ListArgs) -> Result<(), Error> {
    let tenant = args
        .tenant
        .as_deref()
        .map(TenantId::parse)
        .transpose()
        .map_err(|error| Error::new(Code::InvalidRequest, format!("--tenant: {error}")))?;
    let by = Caller { tenant, ..by };
    let mut before = None;
    loop {
        let rows = keyring.list(&by, Page { limit: PAGE_ROWS, before }).await?;
        for row in &rows {
            let view = KeyView::of(&row.value);
            match args.common.json {
                true => print(&serde_json::to_value(&view).unwrap_or_default().to_string()),
                false => print(&line(&view)),
            }
        }
        match rows.last() {
            Some(last) if rows.len() == PAGE_ROWS as usize => before = Some(last.sequence),
            _ => return Ok(()),
        }
    }
}

fn line(view: &KeyView) -> String {
    let joined = |names: &Option<Vec<&'static str>>| names.as_ref().map(|names| names.join(","));
    let ends = view.expires_at.as_deref().unwrap_or("never");
    format!(
        "{}  {}  tenant {}  roles {}  scopes {}  ends {ends}  {}",
        view.prefix,
        view.state,
        view.tenant.as_deref().unwrap_or("any"),
        joined(&view.roles).unwrap_or_else(|| "-".into()),
        joined(&view.scopes).unwrap_or_else(|| "-".into()),
        view.label,
    )
}

/// `30m`, `12h`, `90d` as seconds, at most ten years.
fn seconds(raw: &str) -> Result<u32, String> {
    let unit = raw.chars().next_back().unwrap_or_default();
    let factor = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err("write a number and s, m, h or d, such as 90d".into()),
    };
    let number = raw.strip_suffix(unit).and_then(|number| number.parse::<u32>().ok());
    let seconds = number.and_then(|number| number.checked_mul(factor));
    seconds
        .filter(|seconds| *seconds <= 315_360_000)
        .ok_or_else(|| "write a number and s, m, h or d, at most ten years".into())
}
