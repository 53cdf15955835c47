//! Whether the paths of a mapping are paths, said when the file is read.

use crate::catalog::mapping::{Reader, ResponseMapping};
use crate::yaml::fault::Fault;
use crate::yaml::{Node, Source, shown};

/// Every path of `response` that can never find anything; `node` is what it was read from.
pub(super) fn faults(response: &ResponseMapping, node: &Node, source: Source<'_>) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut check = |path: &str, marks: &str, at: Option<&Node>| {
        if let Err((message, hint)) = plain(path, marks) {
            faults.push(source.fault(at.unwrap_or(node).at(), "bad_value", message, Some(hint)));
        }
    };
    response.error_when.iter().for_each(|path| check(path, "", node.get("error_when")));
    response.require.iter().for_each(|path| check(path, "", node.get("require")));
    check(response.lists.as_deref().unwrap_or_default(), "", node.get("lists"));
    if let Some(paths) = &response.coverage {
        for path in [&paths.judged, &paths.total] {
            check(path, "?", node.get("coverage"));
        }
    }
    for (index, reader) in response.findings.iter().enumerate() {
        let node = match node.get("findings") {
            Some(_) => node.nearest_to(&format!("/findings/{index}")),
            None => node,
        };
        for (key, path, marks) in keys(reader) {
            check(path, marks, Some(node.get(key).unwrap_or(node)));
        }
    }
    faults
}

/// The paths of a reader, and what may stand in each beside a plain path: `*`, `?` at the end,
/// `=literal`, `k` for `@key`, `v` for `@value`.
fn keys(reader: &Reader) -> [(&'static str, &str, &'static str); 10] {
    [
        ("items", &reader.items, "*?"),
        ("label", &reader.label, "=k"),
        ("score", &reader.score, "=v?"),
        ("category", &reader.category, "=?"),
        ("severity", &reader.severity, "=?"),
        ("start", &reader.start, "?"),
        ("end", &reader.end, "?"),
        ("message", &reader.message, "?"),
        ("flag", &reader.flag, "k?"),
        ("when", reader.condition().map_or("", |condition| condition.path), "?"),
    ]
}

fn plain(path: &str, marks: &str) -> Result<(), (String, String)> {
    if marks.contains('=') && path.starts_with('=') {
        return Ok(());
    }
    let bare = path.strip_suffix('?').filter(|_| marks.contains('?')).unwrap_or(path);
    let right = repaired(bare);
    if bare != right {
        let message = format!("`{}` is no path", shown(path));
        return Err((message, format!("write `{right}`: keys and indexes with dots between")));
    }
    for step in bare.split('.') {
        let (allowed, hint) = match step {
            "*" => {
                (marks.contains('*'), "write the list in `items`, and this path from an item on")
            }
            "@key" => (marks.contains('k'), "use it for `label`, or at the end of `flag`"),
            "@value" => (marks.contains('v'), "use it for `score`"),
            _ => (!step.contains('?'), "remove the question mark"),
        };
        if !allowed {
            let message = format!("`{}` cannot stand in `{}`", shown(step), shown(path));
            return Err((message, hint.to_owned()));
        }
    }
    Ok(())
}

/// The path as it should be written: other languages of paths put into ours.
fn repaired(path: &str) -> String {
    let rooted = ["$.", "$["].iter().any(|root| path.starts_with(root)) || path == "$";
    let path = if rooted { path.trim_start_matches('$') } else { path };
    let path = path.replace('[', ".").replace([']', '\'', '"'], "");
    let steps: Vec<&str> = path.split('.').map(str::trim).filter(|step| !step.is_empty()).collect();
    steps.join(".")
}
