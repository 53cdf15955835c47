//! The files below `policies/` sorted into layers: package = directory.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::rego::{self, Parsed};
use super::{Limits, Source, fault, table};
use crate::domain::digest::Digest;
use crate::domain::id::{BundleName, TenantId};
use crate::yaml;
use crate::yaml::fault::{Fault, FaultKind};

/// One layer: a directory.
#[derive(Default)]
pub(super) struct Layer {
    pub(super) files: Vec<Arc<Parsed>>,
    pub(super) settings: Map<String, Value>,
    /// Whether its `.manifest` allows `input[…]` with a computed key.
    pub(super) reads_all: bool,
    /// Whether its `.manifest` promises that no later report takes a block back.
    pub(super) block_is_final: bool,
    /// Of its Rego files, sorted by path.
    pub(super) digest: Option<Digest>,
}

/// Says what a layer reads and promises:
/// `{"metadata": {"orchestrator": {"reads": "all", "block_is_final": true}}}`.
const MANIFEST: &str = ".manifest";

/// Every layer by package path.
pub(super) type Layers = BTreeMap<Vec<String>, Layer>;

/// Whether a file of this name is read at all.
pub(super) fn is_read(name: &str) -> bool {
    let rego = name.ends_with(".rego") && !name.ends_with("_test.rego");
    name == MANIFEST || (!name.starts_with('.') && (rego || name == "data.yaml"))
}

/// Reads every file; parsed files of `previous` with equal text are used again.
pub(super) fn read(
    sources: &[Source],
    limits: &Limits,
    previous: &BTreeMap<Digest, Arc<Parsed>>,
) -> Result<Layers, Vec<Fault>> {
    let mut layers = Layers::new();
    let mut faults = Vec::new();
    let mut sorted: Vec<&Source> = sources.iter().collect();
    sorted.sort_by(|a, b| a.path.cmp(&b.path));
    for source in sorted {
        let mut path: Vec<String> = source.path.split('/').map(str::to_owned).collect();
        let name = path.pop().unwrap_or_default();
        let hidden = path.iter().any(|part| part.starts_with('.'));
        // The manifest of the whole tree is OPA's, and says nothing here.
        let of_tree = path.is_empty() && name == MANIFEST;
        let skip = hidden || of_tree || path.first().is_some_and(|top| top == "schemas");
        if skip || !is_read(&name) {
            continue;
        }
        if let Err(fault) = place(&source.path, &path) {
            faults.push(fault);
            continue;
        }
        match add(layers.entry(path).or_default(), source, &name, limits, previous) {
            Ok(()) => {}
            Err(found) => faults.extend(found),
        }
    }
    for (path, layer) in &mut layers {
        faults.extend(layer.files.iter().filter_map(|file| wrong_package(path, file)));
        let parts =
            layer.files.iter().flat_map(|file| [file.file.as_bytes(), file.text.as_bytes()]);
        layer.digest = (!layer.files.is_empty()).then(|| Digest::of_all(parts));
    }
    if faults.is_empty() { Ok(layers) } else { Err(faults) }
}

/// The content address of one file.
pub(super) fn address(path: &str, bytes: &[u8]) -> Digest {
    Digest::of_all([path.as_bytes(), bytes])
}

fn add(
    layer: &mut Layer,
    source: &Source,
    name: &str,
    limits: &Limits,
    previous: &BTreeMap<Digest, Arc<Parsed>>,
) -> Result<(), Vec<Fault>> {
    let file = source.path.as_str();
    if name.ends_with(".rego")
        && let Some(parsed) = previous.get(&address(file, &source.bytes))
    {
        layer.files.push(parsed.clone());
        return Ok(());
    }
    let text: Arc<str> = text(file, &source.bytes, limits)?.into();
    if name == MANIFEST {
        (layer.reads_all, layer.block_is_final) = manifest(file, &text)?;
    } else if name == "data.yaml" {
        layer.settings = table::settings(file, &table::read(file, &text)?)?;
    } else {
        layer.files.push(Arc::new(rego::parse(file, &text, limits)?));
    }
    Ok(())
}

/// Whether the layer reads all, and whether a block of it is final.
fn manifest(file: &str, text: &str) -> Result<(bool, bool), Vec<Fault>> {
    let wrong = |key: &str, message: &str, hint: &str| {
        let before = text.find(&format!("\"{key}\"")).and_then(|at| text.as_bytes().get(..at));
        let at = before.map_or((0, 0), yaml::end);
        vec![fault(file, at, "manifest", message, hint)]
    };
    let reads = "write {\"metadata\": {\"orchestrator\": {\"reads\": \"all\"}}}";
    let manifest: Value = serde_json::from_str(text)
        .map_err(|error| wrong("", &format!("it is no JSON: {error}"), reads))?;
    let said = |key: &str| manifest.pointer("/metadata/orchestrator").and_then(|own| own.get(key));
    let all = match said("reads") {
        None => false,
        Some(reads) if reads == "all" => true,
        Some(_) => return Err(wrong("reads", "`reads` can only be `all`", reads)),
    };
    match said("block_is_final") {
        None => Ok((all, false)),
        Some(Value::Bool(promised)) => Ok((all, *promised)),
        Some(_) => {
            let message = "`block_is_final` is neither true nor false";
            Err(wrong("block_is_final", message, "write `true`, or remove it"))
        }
    }
}

pub(super) fn text<'a>(
    file: &str,
    bytes: &'a [u8],
    limits: &Limits,
) -> Result<&'a str, Vec<Fault>> {
    if bytes.len() > limits.source_bytes_max {
        let message = format!("the file is larger than {} bytes", limits.source_bytes_max);
        let at = yaml::end(bytes.get(..limits.source_bytes_max).unwrap_or_default());
        return Err(vec![fault(file, at, "too_large", message, "split it")]);
    }
    yaml::text(FaultKind::Policy, file, bytes)
}

/// Only known places hold layers.
fn place(file: &str, path: &[String]) -> Result<(), Fault> {
    let names: Vec<&str> = path.iter().map(String::as_str).collect();
    let wrong = |message: String| {
        fault(
            file,
            (0, 0),
            "wrong_place",
            message,
            "move it to <bundle>/ or tenants/<tenant>/<bundle>/",
        )
    };
    match names.as_slice() {
        ["base" | "floor"] => Ok(()),
        [bundle] => BundleName::parse(bundle).map(drop).map_err(|error| wrong(error.to_string())),
        ["tenants", tenant, bundle] => {
            TenantId::parse(tenant).map_err(|error| wrong(error.to_string()))?;
            BundleName::parse(bundle).map_err(|error| wrong(error.to_string()))?;
            Ok(())
        }
        _ => Err(wrong("no layer lies in this directory".into())),
    }
}

fn wrong_package(path: &[String], file: &Parsed) -> Option<Fault> {
    (file.package != path).then(|| {
        let at = rego::position(&file.module.package.span);
        let message = format!("the package `{}` is not the folder's", dotted(&file.package));
        let hint = format!("write `package {}`", package(path));
        fault(&file.file, at, "wrong_package", message, &hint)
    })
}

/// The layer's name in answers: `tenants.acme.standard`.
pub(super) fn dotted(path: &[String]) -> String {
    path.join(".")
}

/// The package as Rego text, with brackets where a part is no identifier.
pub fn package(path: &[String]) -> String {
    let mut text = String::new();
    for part in path {
        let plain = part.starts_with(|c: char| c.is_ascii_alphabetic())
            && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        match (plain, text.is_empty()) {
            (true, true) => text.push_str(part),
            (true, false) => text.extend([".", part]),
            (false, _) => text.extend(["[\"", part, "\"]"]),
        }
    }
    text
}
