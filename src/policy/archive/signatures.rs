//! `.signatures.json` as Open Policy Agent writes it: one signed statement (JWS, here EdDSA) of every
//! file's name and digest.
//!
//! What a key may sign is everything: a statement for a `scope` is for somebody else.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::{DATA, Entries, MANIFEST, Refused, SIGNATURES, refused};
use crate::domain::digest::Digest;
use crate::seal;
use crate::yaml::fault::FaultKind;
use crate::yaml::{self, shown};

/// Beyond it, whole numbers of a YAML table are written with an exponent.
const PLAIN_BELOW: f64 = 1e21;
const SIGN: &str =
    "sign it with the key of `policy.remote.public_key_file`, by `opa sign --signing-alg EdDSA`";
const AGAIN: &str = "build and sign it again; fetch it again if it was changed on its way";

#[derive(Deserialize)]
struct Signatures {
    signatures: Vec<String>,
}

#[derive(Deserialize)]
struct Statement {
    files: Vec<File>,
    #[serde(default)]
    scope: String,
}

#[derive(Deserialize)]
struct File {
    name: String,
    hash: String,
    algorithm: String,
}

pub(super) fn verify(entries: &Entries, key: &[u8; 32]) -> Result<(), Refused> {
    let file = entries
        .get(SIGNATURES)
        .ok_or_else(|| refused("unsigned", format!("holds no `{SIGNATURES}`"), SIGN))?;
    let wrong = |message: &str| refused("bad_signature", message, SIGN);
    let held: Signatures = serde_json::from_slice(file)
        .map_err(|_| wrong("its `.signatures.json` is no list of signatures"))?;
    let [token] = held.signatures.as_slice() else {
        return Err(wrong("its `.signatures.json` does not hold exactly one signature"));
    };
    let payload = seal::signed_payload(token, key)
        .ok_or_else(|| wrong("is not signed with EdDSA by the key that is trusted"))?;
    let statement: Statement = serde_json::from_slice(&payload)
        .map_err(|_| wrong("what is signed is no list of files"))?;
    if !statement.scope.is_empty() {
        return Err(wrong("is signed for a scope, and none is asked for here"));
    }
    compare(entries, statement.files)
}

fn compare(entries: &Entries, files: Vec<File>) -> Result<(), Refused> {
    let mut signed = BTreeMap::new();
    for file in files {
        let name = file.name.strip_prefix('/').unwrap_or(&file.name).to_owned();
        if file.algorithm != "SHA-256" {
            let message = format!("`{}` is not signed by its SHA-256", shown(&name));
            return Err(refused("bad_signature", message, SIGN));
        }
        if signed.insert(name.clone(), file.hash).is_some() {
            let message = format!("`{}` is signed twice", shown(&name));
            return Err(refused("bad_signature", message, SIGN));
        }
    }
    for (name, bytes) in entries.iter().filter(|(name, _)| *name != SIGNATURES) {
        let Some(hash) = signed.remove(name) else {
            let message = format!("`{}` is not among the files that are signed", shown(name));
            return Err(refused("unsigned", message, AGAIN));
        };
        if Digest::parse(&hash) != Some(digest(name, bytes)?) {
            let message = format!("`{}` is not what was signed", shown(name));
            return Err(refused("digest_mismatch", message, AGAIN));
        }
    }
    match signed.keys().next() {
        None => Ok(()),
        Some(name) => {
            let message = format!("`{}` is signed and missing", shown(name));
            Err(refused("missing_file", message, AGAIN))
        }
    }
}

/// Of the bytes; of tables and manifests, whose spaces and order mean nothing, of their values.
fn digest(name: &str, bytes: &[u8]) -> Result<Digest, Refused> {
    let last = name.rsplit('/').next().unwrap_or_default();
    let value = match last {
        DATA | MANIFEST => serde_json::from_slice(bytes).ok(),
        "data.yaml" => std::str::from_utf8(bytes)
            .ok()
            .and_then(|text| yaml::parse_value(FaultKind::Policy, name, text).ok()),
        _ => return Ok(Digest::of(bytes)),
    };
    let value: Value = value.ok_or_else(|| {
        let message = format!("`{}` cannot be read", shown(name));
        refused("unreadable", message, "correct it, then build and sign again")
    })?;
    let mut text = String::new();
    write(&value, last == "data.yaml", &mut text);
    Ok(Digest::of(text.as_bytes()))
}

/// As Go writes JSON without escapes for HTML, keys sorted by bytes.
fn write(value: &Value, is_yaml: bool, into: &mut String) {
    match value {
        Value::Object(fields) => {
            let mut sorted: Vec<(&String, &Value)> = fields.iter().collect();
            sorted.sort_by_key(|(key, _)| *key);
            into.push('{');
            for (at, (key, value)) in sorted.into_iter().enumerate() {
                into.push_str(if at > 0 { "," } else { "" });
                quote(key, into);
                into.push(':');
                write(value, is_yaml, into);
            }
            into.push('}');
        }
        Value::Array(items) => {
            into.push('[');
            for (at, item) in items.iter().enumerate() {
                into.push_str(if at > 0 { "," } else { "" });
                write(item, is_yaml, into);
            }
            into.push(']');
        }
        Value::String(text) => quote(text, into),
        // Through YAML, numbers become floats that print whole where they are.
        Value::Number(number) => match number.as_f64() {
            Some(float) if is_yaml && number.is_f64() && float.fract() == 0.0 => {
                match float.abs() < PLAIN_BELOW {
                    true => into.push_str(&format!("{float}")),
                    false => into.push_str(&number.to_string().replace('e', "e+")),
                }
            }
            _ => into.push_str(&number.to_string()),
        },
        Value::Null | Value::Bool(_) => into.push_str(&value.to_string()),
    }
}

fn quote(text: &str, into: &mut String) {
    let quoted = Value::String(text.to_owned()).to_string();
    into.push_str(&quoted.replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029"));
}
