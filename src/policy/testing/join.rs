//! Several files of one package as one module, and the way back to their lines.
//!
//! Under `with`, regorus 0.14.1 loses rules of a package's later files, so tests see each package
//! as one module. Columns stay as they are.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::rego::{self, Parsed};
use super::super::{fault, layers};
use crate::yaml::fault::Fault;

/// One package as one module.
pub(super) struct Module {
    /// What the engine calls it: the file's name, or the package's where there are several.
    pub(super) name: String,
    pub(super) text: String,
    /// For each line: which file, which line of it.
    lines: Vec<(Arc<str>, u32)>,
}

impl Module {
    /// Where a 1-based line of the module comes from.
    pub(super) fn origin(&self, line: u32) -> Option<(&str, u32)> {
        let at = usize::try_from(line).ok()?.checked_sub(1)?;
        self.lines.get(at).map(|(file, line)| (file.as_ref(), *line))
    }

    /// The same module with more text at its end.
    pub(super) fn with_text(&self, text: String) -> Module {
        Module { name: self.name.clone(), text, lines: self.lines.clone() }
    }

    fn push(&mut self, text: &str, file: &Arc<str>, line: u32) {
        self.text.push_str(text);
        self.text.push('\n');
        self.lines.push((file.clone(), line));
    }
}

/// One module for each package.
pub(super) fn packages(files: &[&Parsed]) -> Result<BTreeMap<Vec<String>, Module>, Vec<Fault>> {
    let mut packages: BTreeMap<Vec<String>, Vec<&Parsed>> = BTreeMap::new();
    for file in files {
        packages.entry(file.package.clone()).or_default().push(file);
    }
    let mut faults = Vec::new();
    let modules = packages.into_iter().map(|(path, files)| {
        let module = join(&path, &files, &mut faults);
        (path, module)
    });
    let modules = modules.collect();
    if faults.is_empty() { Ok(modules) } else { Err(faults) }
}

fn join(path: &[String], files: &[&Parsed], faults: &mut Vec<Fault>) -> Module {
    let mut module = Module { name: String::new(), text: String::new(), lines: Vec::new() };
    if let [only] = files {
        module.name = only.file.to_string();
        for (line, number) in only.text.lines().zip(1..) {
            module.push(line, &only.file, number);
        }
        return module;
    }
    module.name = layers::package(path);
    if let Some(first) = files.first() {
        module.push(&format!("package {}", layers::package(path)), &first.file, 1);
        module.push("import rego.v1", &first.file, 1);
    }
    let mut aliases: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for file in files {
        for (alias, target, at) in rego::imports(&file.module) {
            match aliases.get(&alias) {
                Some(known) if *known == target => {}
                Some(_) => {
                    let message = format!("`{alias}` is another import in a file beside this one");
                    let hint = format!("write `as` and another name than `{alias}`");
                    faults.push(fault(&file.file, at, "import_conflict", message, &hint));
                }
                None => {
                    let line = format!("import {} as {alias}", layers::package(&target));
                    module.push(&line, &file.file, at.0);
                    aliases.insert(alias, target);
                }
            }
        }
    }
    for file in files {
        let imports = file.module.imports.iter().map(|import| import.span.line);
        let head: Vec<u32> = imports.chain([file.module.package.span.line]).collect();
        for (line, number) in file.text.lines().zip(1..) {
            module.push(if head.contains(&number) { "" } else { line }, &file.file, number);
        }
    }
    module
}
