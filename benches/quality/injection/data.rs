//! The texts that `scripts/quality-data` made, one JSON object a line.

use std::path::Path;

use serde::Deserialize;

/// Where the script puts them, from the root of the repository.
pub const FOLDER: &str = "target/quality-data/injection";

/// A labelled text.
#[derive(Deserialize)]
pub struct Text {
    /// 1 for an attack, 0 for a harmless text.
    pub label: u8,
    pub lang: String,
    pub kind: String,
    pub text: String,
}

impl Text {
    pub fn is_attack(&self) -> bool {
        self.label == 1
    }
}

/// The set of that name; stops the program if the script was not run.
pub fn load(name: &str) -> Vec<Text> {
    let path = Path::new(FOLDER).join(format!("{name}.jsonl"));
    let Ok(lines) = std::fs::read_to_string(&path) else {
        panic!("{} is missing: run scripts/quality-data", path.display());
    };
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Every fifth text of the documentation calibrates, the others train.
pub fn is_held_out(index: usize) -> bool {
    index.is_multiple_of(5)
}
