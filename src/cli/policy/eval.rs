//! `orchestrator policy eval` and `resolve`: the answers of the routes of the same names.

use std::io::Read as _;
use std::path::Path;

use super::{EvalArgs, ResolveArgs, Session, complain, exit, print, runtime, tenant};
use crate::api::{self, Asked};
use crate::domain::error::{Code, Error};

/// Bytes of a document.
const INPUT_BYTES_MAX: u64 = 10 << 20;

pub(super) fn evaluate(args: &EvalArgs) -> u8 {
    match try_evaluate(args) {
        Ok(answer) => {
            print(&serde_json::to_string_pretty(&answer).unwrap_or_default());
            exit::OK
        }
        Err(code) => code,
    }
}

fn try_evaluate(args: &EvalArgs) -> Result<serde_json::Value, u8> {
    let session = Session::open(args.config.as_deref())?;
    let id = tenant(&args.tenant)?;
    let input = args.input.as_deref().map(read).transpose()?;
    let input = input.unwrap_or_else(|| serde_json::json!({}));
    let asked = Asked { policy: args.policy.as_deref(), point: &args.point, input };
    let answer = api::evaluated(&session.deps, &session.snapshot, &id, asked);
    let mut answer = runtime()?.block_on(answer).map_err(|error| refuse(&args.tenant, &error))?;
    if let (false, Some(object)) = (args.explain, answer.as_object_mut()) {
        object.remove("explain");
    }
    Ok(answer)
}

pub(super) fn resolve(args: &ResolveArgs) -> u8 {
    match try_resolve(args) {
        Ok(()) => exit::OK,
        Err(code) => code,
    }
}

fn try_resolve(args: &ResolveArgs) -> Result<(), u8> {
    let session = Session::open(args.config.as_deref())?;
    let id = tenant(&args.tenant)?;
    let resolved = api::resolved(&session.snapshot, &id, args.policy.as_deref());
    let resolved = resolved.map_err(|error| refuse(&args.tenant, &error))?;
    if args.json {
        print(&serde_json::to_string_pretty(&resolved).unwrap_or_default());
        return Ok(());
    }
    print(&format!("{} of {}: {}", resolved.policy, resolved.tenant, resolved.layers.join(" < ")));
    let mut rows = Vec::new();
    flatten(&resolved.settings, "", &mut rows);
    let width = rows.iter().map(|(key, value)| key.len() + value.len() + 2).max().unwrap_or(0);
    for (key, value) in rows {
        let layer = resolved.origin.get(&key).map_or("", String::as_str);
        print(&format!("{:<1$}  {layer}", format!("{key}: {value}"), width.min(72)));
    }
    Ok(())
}

/// Dotted keys with their values, as the origin names them.
fn flatten(value: &serde_json::Value, path: &str, rows: &mut Vec<(String, String)>) {
    match value.as_object() {
        Some(object) if !object.is_empty() => {
            for (key, value) in object {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                flatten(value, &path, rows);
            }
        }
        _ => rows.push((path.to_owned(), value.to_string())),
    }
}

fn refuse(tenant: &str, error: &Error) -> u8 {
    let is_inside = |pointer: &str| pointer == "/input" || pointer.starts_with("/input/");
    let evaluated = error.code == Code::PolicyInvalid;
    let inside = error.details.iter().find(|field| !evaluated && is_inside(&field.pointer));
    match inside {
        Some(field) => complain(&format!("--input: {}: {}", field.pointer, field.detail)),
        None => complain(&format!("tenant {tenant}: {}", error.message)),
    }
    exit::DATA
}

fn read(file: &Path) -> Result<serde_json::Value, u8> {
    let shown = file.display();
    let mut text = String::new();
    let result = match file == Path::new("-") {
        true => std::io::stdin().lock().take(INPUT_BYTES_MAX + 1).read_to_string(&mut text),
        false => std::fs::File::open(file)
            .and_then(|file| file.take(INPUT_BYTES_MAX + 1).read_to_string(&mut text)),
    };
    result.map_err(|error| {
        complain(&format!("--input {shown}: could not be read: {error}"));
        exit::NO_INPUT
    })?;
    if text.len() as u64 > INPUT_BYTES_MAX {
        complain(&format!("--input {shown}: is too large; a document has at most 10 MiB"));
        return Err(exit::DATA);
    }
    serde_json::from_str(&text).map_err(|error| {
        complain(&format!("--input {shown}: is not JSON: {error}; write one object"));
        exit::DATA
    })
}
