//! `orchestrator evidence verify`.

use std::collections::BTreeSet;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Refused, VerifyArgs};
use crate::cli::{complain, exit, print};
use crate::evidence::verify::{Material, Outside, Problem, Verified, text};
use crate::evidence::{Kept, commit_json, package};
use crate::orchestrator::verified;
use crate::seal::Salt;
use crate::store::{RawRow, Table};

pub(super) fn run(args: &VerifyArgs) -> u8 {
    match verify(args) {
        Ok((found, content)) => told(args, &found, content),
        Err((code, why)) => {
            complain(&format!("error: {why}"));
            code
        }
    }
}

fn verify(args: &VerifyArgs) -> Result<(Verified, Option<bool>), Refused> {
    let (material, mut problems) = match &args.package {
        Some(file) => package::unpack(&super::read(file)?),
        None => (stored(args)?, Vec::new()),
    };
    let mut found = verified(&material, &outside(args)?);
    found.problems.append(&mut problems);
    let content = args.content.as_deref().map(|file| is_committed(args, &material, file));
    let content = content.transpose()?;
    let what = match content {
        Some(Some(false)) => "the content is not what the record commits to",
        Some(None) => "it holds no commitment any more: the content cannot be checked",
        Some(Some(true)) | None => return Ok((found, content.flatten())),
    };
    let (id, what) = (args.id.clone(), what.to_owned());
    found.problems.push(Problem { kind: "content", id, index: None, what });
    Ok((found, content.flatten()))
}

fn stored(args: &VerifyArgs) -> Result<Material, Refused> {
    let (settings, kept) = super::stored(args.config.as_deref())?;
    let has_gaps = settings.database.url.is_some();
    let tables = kept.raw().map_err(|error| super::unread(&kept, &error))?;
    Ok(Material { tables, has_gaps, ..Material::default() })
}

fn outside(args: &VerifyArgs) -> Result<Outside, Refused> {
    let heads = super::heads(&args.checkpoint)?;
    let keys = match &args.keys {
        Some(file) => Some(keys(file)?),
        None => super::own(&super::settings(args.config.as_deref())?)?,
    };
    Ok(Outside { heads, keys, are_all: args.keys.is_some() })
}

fn keys(file: &Path) -> Result<BTreeSet<[u8; 32]>, Refused> {
    #[derive(Deserialize)]
    struct Line {
        public_key: String,
    }
    let key = |(at, line): (usize, &str)| {
        let read: Option<Line> = serde_json::from_str(line).ok();
        let key = read.and_then(|line| hex::decode(line.public_key).ok()?.try_into().ok());
        let what = format!(
            "{}: line {at} holds no key of a log; give lines of `evidence keys --json`",
            file.display()
        );
        key.ok_or((exit::DATA, what))
    };
    (1..).zip(super::read(file)?.lines()).map(key).collect()
}

/// Whether the record commits to what `file` holds: as a text, with or without the ends of lines at its
/// end, or as JSON, whole or below `content` or `messages`. `None` where nothing is left of the record
/// that says.
fn is_committed(
    args: &VerifyArgs,
    material: &Material,
    file: &Path,
) -> Result<Option<bool>, Refused> {
    let salt = args.salt.as_deref().and_then(Salt::from_hex);
    let salt = salt.ok_or((exit::USAGE, "--salt takes 64 hexadecimal digits".to_owned()))?;
    let rows = material.tables.get(&Table::Decisions).into_iter().flatten();
    let is_it = |row: &&RawRow| args.id.is_some() && text(row, "id") == args.id.as_deref();
    let row = rows.filter(is_it).max_by_key(|row| text(row, "record").map_or(0, str::len));
    let row = row.ok_or((exit::NO_INPUT, "there is no record of that --id".to_owned()))?;
    let Some(record) = text(row, "record").and_then(Kept::read) else { return Ok(None) };
    let text = super::read(file)?;
    let mut meant = vec![json!(text), json!(text.trim_end_matches(['\n', '\r']))];
    if let Ok(value) = serde_json::from_str::<Value>(&text) {
        meant.extend(["content", "messages"].iter().filter_map(|key| value.get(*key)).cloned());
        meant.push(value);
    }
    let commits = |value| commit_json(&salt, value).is_ok_and(|it| it.hex() == record.commitment);
    Ok(Some(meant.into_iter().any(commits)))
}

fn told(args: &VerifyArgs, found: &Verified, content: Option<bool>) -> u8 {
    let content = match content {
        Some(true) => "valid",
        Some(false) => "invalid",
        None => "not checked",
    };
    if args.json {
        let mut value = serde_json::to_value(found).unwrap_or_default();
        if let Some(fields) = value.as_object_mut() {
            fields.insert("valid".into(), found.problems.is_empty().into());
            fields.insert("content".into(), content.into());
        }
        print(&super::shown_json(&value));
    } else {
        for Problem { kind, id, index, what } in &found.problems {
            let index = index.map(|index| format!(" leaf {index}")).unwrap_or_default();
            let id = id.as_ref().map(|id| format!(" {id}")).unwrap_or_default();
            print(&super::shown(&format!("{kind}{index}{id}: {what}")));
        }
        let Verified { logs, leaves, records, purged, checkpoints, unvouched, sources, .. } = found;
        let problems = &found.problems;
        found.notes.iter().for_each(|note| print(&super::shown(&format!("note: {note}"))));
        let believed = match unvouched {
            0 => String::new(),
            _ => format!("; signed by {unvouched} keys nobody vouched for: give them by --keys"),
        };
        print(&format!(
            "{records} records, {purged} purged, {leaves} leaves, {checkpoints} checkpoints of {logs} logs, \
             {sources} sources; content {content}; {} problems{believed}",
            problems.len()
        ));
    }
    if found.problems.is_empty() { exit::OK } else { exit::DATA }
}
