//! The sources of the packages in Cargo.lock, where `cargo fetch` put them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Their files by ending, in order.
pub(crate) fn files() -> BTreeMap<String, Vec<PathBuf>> {
    let arguments = ["metadata", "--format-version", "1", "--locked"];
    let said = Command::new("cargo").args(arguments).output().unwrap();
    let packages: Value = serde_json::from_slice(&said.stdout).unwrap();
    let mut files = BTreeMap::new();
    for package in packages["packages"].as_array().unwrap() {
        if !package["source"].is_null() {
            let manifest = Path::new(package["manifest_path"].as_str().unwrap());
            collect(manifest.parent().unwrap(), &mut files);
        }
    }
    files.values_mut().for_each(|paths| paths.sort());
    files
}

fn collect(folder: &Path, files: &mut BTreeMap<String, Vec<PathBuf>>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, files);
        } else if let Some(kind) = path.extension().and_then(|kind| kind.to_str()) {
            files.entry(kind.to_owned()).or_default().push(path.clone());
        }
    }
}

/// The paragraphs of a Markdown text that hold no markup.
pub(crate) fn prose(text: &str) -> Vec<&str> {
    let marked = |part: &&str| {
        part.chars().count() >= 120
            && !part.contains(['`', '|', '<', '='])
            && part.starts_with(|c: char| c.is_alphabetic())
    };
    text.split("\n\n").filter(marked).collect()
}
