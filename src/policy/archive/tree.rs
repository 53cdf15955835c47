//! Files of a bundle → files as they lie below `policies/`.

use serde_json::Value;

use super::{DATA, Entries, MANIFEST, Refused, SIGNATURES, refused};
use crate::policy::Source;
use crate::yaml::shown;

/// The revision, and the files. Tables that `opa build` wrote become each layer's own.
pub(super) fn tree(entries: Entries) -> Result<(String, Vec<Source>), Refused> {
    let mut revision = String::new();
    let mut sources: Vec<Source> = Vec::new();
    for (name, bytes) in entries {
        match name.as_str() {
            SIGNATURES => {}
            MANIFEST => revision = revision_of(&bytes)?,
            DATA => sources.extend(split(&bytes)?),
            _ => {
                let path = match name.strip_suffix("/data.json") {
                    Some(folder) => format!("{folder}/data.yaml"),
                    None => name,
                };
                sources.push(Source { path, bytes: bytes.into() });
            }
        }
    }
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    let twice = sources.iter().zip(sources.iter().skip(1)).find(|(a, b)| a.path == b.path);
    match twice {
        None => Ok((revision, sources)),
        Some((file, _)) => {
            let message = format!("`{}` is written twice, once in a data.json", shown(&file.path));
            Err(refused("duplicate_file", message, "keep one of them"))
        }
    }
}

fn revision_of(bytes: &[u8]) -> Result<String, Refused> {
    let wrong = |message: &str| {
        let hint = "write `{\"revision\": \"1\", \"roots\": [\"\"]}`, or let `opa build` write it";
        refused("manifest", message, hint)
    };
    let manifest: Value =
        serde_json::from_slice(bytes).map_err(|_| wrong("its `.manifest` is no JSON"))?;
    match manifest.get("revision") {
        None => Ok(String::new()),
        Some(Value::String(revision)) => Ok(revision.clone()),
        Some(_) => Err(wrong("the `revision` of its `.manifest` is no text")),
    }
}

/// One table of everything → `data.yaml` of each layer; JSON is YAML.
fn split(bytes: &[u8]) -> Result<Vec<Source>, Refused> {
    let wrong = || {
        let message = "its `data.json` is no object of layers";
        refused("unreadable", message, "build it with `opa build -b policies`")
    };
    let object = |value: Value| match value {
        Value::Object(fields) => Ok(fields),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Err(wrong())
        }
    };
    let table = |folder: String, value: &Value| Source {
        path: format!("{folder}/data.yaml"),
        bytes: value.to_string().into_bytes().into(),
    };
    let mut sources = Vec::new();
    for (layer, value) in object(serde_json::from_slice(bytes).map_err(|_| wrong())?)? {
        if layer != "tenants" {
            sources.push(table(layer, &value));
            continue;
        }
        for (tenant, bundles) in object(value)? {
            for (bundle, value) in object(bundles)? {
                sources.push(table(format!("tenants/{tenant}/{bundle}"), &value));
            }
        }
    }
    Ok(sources)
}
