//! Recall and false positives of the envelope WAF on the corpus of `scripts/waf-corpus`.
//!
//! Reads lines `[kind, text]`. Patterns were written against the texts of the even half; the odd
//! half was looked at only by this program. Exits with 1 where a floor is missed.

#![expect(clippy::print_stdout, reason = "the table is what the program is for")]
#![expect(clippy::unwrap_used, reason = "a measurement may stop at a broken corpus")]

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Instant;

use detector_orchestrator::auth::waf::{Place, inspect};

/// Least part of the attacks of one kind that is seen as any violation, on the odd half.
const RECALL_MIN: f64 = 0.75;
/// Greatest part of the benign values that is.
const FALSE_MAX: f64 = 0.001;

#[derive(Default)]
struct Row {
    all: [u32; 2],
    seen: [u32; 2],
    in_query: [u32; 2],
}

fn main() -> ExitCode {
    let path = std::env::args_os().nth(1).unwrap();
    let text = std::fs::read_to_string(path).unwrap();
    let lines: Vec<(String, String)> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut rows: BTreeMap<&str, Row> = BTreeMap::new();
    let started = Instant::now();
    let mut bytes = 0;
    for (kind, text) in &lines {
        let half = half(text);
        let place = if kind.ends_with("user_agent") { Place::Header } else { Place::Metadata };
        let row = rows.entry(if kind.starts_with("benign") { "benign" } else { kind }).or_default();
        let count = |counts: &mut [u32; 2], holds: bool| {
            *counts.get_mut(half).unwrap() += u32::from(holds);
        };
        let seen = inspect(place, text).is_some();
        if seen && kind.starts_with("benign") {
            println!("{kind}: {text}");
        }
        count(&mut row.all, true);
        count(&mut row.seen, seen);
        count(&mut row.in_query, inspect(Place::Query, text).is_some());
        bytes += text.len();
    }
    let took = started.elapsed();
    println!("| kind | N even | seen | N odd (held out) | seen | seen in a query |");
    println!("|---|---|---|---|---|---|");
    let mut good = true;
    for (kind, Row { all: [even, odd], seen: [seen_even, seen_odd], in_query }) in rows {
        let part = |seen: u32, all: u32| f64::from(seen) / f64::from(all);
        let share = |seen, all| format!("{seen} ({:.2} %)", 100.0 * part(seen, all));
        let query = share(in_query.iter().sum(), even + odd);
        let (seen, held) = (share(seen_even, even), share(seen_odd, odd));
        println!("| {kind} | {even} | {seen} | {odd} | {held} | {query} |");
        let reached = part(seen_odd, odd);
        good &= if kind == "benign" { reached <= FALSE_MAX } else { reached >= RECALL_MIN };
    }
    let each = took.as_secs_f64() * 1e6 / (2.0 * lines.len() as f64);
    println!("\n{each:.1} µs per value, {} bytes on average", bytes / lines.len());
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// FNV-1a; the halves must not depend on the order of the corpus.
fn half(text: &str) -> usize {
    let fold = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(16_777_619);
    (text.bytes().fold(2_166_136_261, fold) >> 8) as usize % 2
}
