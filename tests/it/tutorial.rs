//! Runs docs/tutorial.md: every `sh` block by a shell in one empty folder, with the built binary, and
//! holds what it prints against the block that follows.

use std::path::Path;
use std::time::{Duration, Instant};

use regex::Regex;
use serde_json::Value;

use crate::binary::{Served, command, program, text};
use crate::scenarios::holds;

/// Where the page lets the service listen; the test takes a free port.
const ADDRESS: &str = "127.0.0.1:8000";

/// A fenced block.
#[derive(Debug)]
struct Block {
    /// What stands behind the fence.
    kind: String,
    text: String,
}

fn blocks(page: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        let Some(kind) = line.strip_prefix("```") else { continue };
        let inside: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        blocks.push(Block { kind: kind.to_owned(), text: inside.join("\n") });
    }
    blocks
}

#[test]
fn the_tutorial_does_what_it_shows() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/tutorial.md"));
    let blocks = blocks(&page.unwrap());
    let dir = tempfile::tempdir().unwrap();
    let mut served: Option<Served> = None;
    let mut verdicts = 0;
    for (at, block) in blocks.iter().enumerate() {
        let shown = blocks.get(at + 1).filter(|next| !next.kind.starts_with("sh"));
        match block.kind.as_str() {
            "sh serve" => {
                let mut serve = command(dir.path());
                serve.args(["serve", "--listen", "127.0.0.1:0"]);
                served = Some(Served::start(serve));
            }
            "sh" => {
                let address = served.as_ref().map_or(ADDRESS, |served| &served.address);
                let script = block.text.replace(ADDRESS, address);
                verdicts += usize::from(shown.is_some_and(|shown| shown.kind == "json"));
                follow(dir.path(), &script, shown);
            }
            "text" | "json" => {}
            other => panic!("a block of {other}: {block:?}"),
        }
    }
    assert!(served.is_some() && verdicts >= 2, "{verdicts} verdicts");
}

/// Runs until it prints what is shown: a changed file is live within a second, not at once.
fn follow(dir: &Path, script: &str, shown: Option<&Block>) {
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        let (sound, printed) = run(dir, script);
        let difference = match shown {
            None => (!sound).then(|| "it fails".to_owned()),
            Some(_) if !sound => Some("it fails".to_owned()),
            Some(shown) if shown.kind == "json" => {
                let wanted: Value = serde_json::from_str(&shown.text).unwrap();
                let value: Value = serde_json::from_str(&printed).unwrap_or_default();
                holds(&value, &wanted, "").err()
            }
            Some(shown) => {
                let (printed, wanted) = (masked(&printed), masked(&shown.text));
                (printed != wanted).then(|| format!("the page shows\n{wanted}"))
            }
        };
        let Some(difference) = difference else { return };
        let live = script.starts_with("curl") && Instant::now() < until;
        assert!(live, "{script}\nprints\n{printed}\n{difference}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Whether it ended well, and what it printed, errors last.
fn run(dir: &Path, script: &str) -> (bool, String) {
    let binary = Path::new(env!("CARGO_BIN_EXE_orchestrator"));
    let path = std::env::var("PATH").unwrap();
    let path = format!("{}:{path}", binary.parent().unwrap().display());
    let shell = program("sh", dir).args(["-e", "-c", script]).env("PATH", path).output();
    let output = shell.unwrap();
    let printed = text(&output.stdout) + &text(&output.stderr);
    (output.status.success(), printed.trim_end().to_owned())
}

/// Without what differs from run to run: times, revisions, counts of what is shipped.
fn masked(text: &str) -> String {
    let mut text = text.trim_end().to_owned();
    for (what, mask) in [
        (r"\d+(\.\d+)? ms", "N ms"),
        (r"[0-9a-f]{64}", "REVISION"),
        (r"\d+ (detectors|tenants|policies)\b", "N $1"),
    ] {
        text = Regex::new(what).unwrap().replace_all(&text, mask).into_owned();
    }
    text
}
