//! Reads `src/` and holds it to the floors of the architecture: imports go down only, one
//! technology stands behind one module, files and functions stay short.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may fail by panicking, also outside its #[test] function"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Module → floor. A new module must be given one here.
const FLOORS: &[(&str, u8)] = &[
    ("yaml", 0),
    ("domain", 0),
    ("settings", 1),
    ("telemetry", 1),
    ("metrics", 1),
    ("seal", 1),
    ("outbound", 1),
    ("operations", 1),
    ("assets", 1),
    ("catalog", 2),
    ("bus", 2),
    ("cache", 2),
    ("policy", 2),
    ("store", 2),
    ("snapshot", 3),
    ("detect", 3),
    ("auth", 3),
    ("evidence", 3),
    ("admission", 4),
    ("events", 4),
    ("orchestrator", 5),
    ("jobs", 6),
    ("api", 7),
    ("cli", 8),
    ("app", 9),
    ("main", 10),
    ("lib", 10),
];

/// Path prefix → the modules that may name it.
const TECHNOLOGIES: &[(&str, &[&str])] = &[
    ("actix_web", &["api", "app"]),
    ("actix_cors", &["api", "app"]),
    ("actix_http", &["app"]),
    ("actix_server", &["app"]),
    ("actix_service", &["app"]),
    ("socket2", &["app"]),
    ("tracing_actix_web", &["api", "app"]),
    ("utoipa_swagger_ui", &["api"]),
    ("regorus", &["policy"]),
    ("tar::", &["policy"]),
    ("flate2", &["policy"]),
    ("rusqlite", &["store"]),
    ("refinery", &["store"]),
    ("tokio_postgres", &["store"]),
    ("tokio_postgres_rustls", &["store"]),
    ("deadpool_postgres", &["store"]),
    ("rustls", &["store"]),
    ("webpki_roots", &["store"]),
    ("prometheus", &["metrics"]),
    ("async_nats", &["bus"]),
    ("moka", &["cache"]),
    ("deadpool_redis", &["cache"]),
    ("redis", &["cache"]),
    ("notify", &["snapshot"]),
    ("notify_debouncer_full", &["snapshot"]),
    ("hyper", &["outbound"]),
    ("hyper_util", &["outbound"]),
    ("hyper_rustls", &["outbound"]),
    ("serde_saphyr", &["yaml"]),
    ("tract_onnx", &["detect"]),
    ("tokenizers", &["detect"]),
    ("hmac", &["seal"]),
    ("aws_lc_rs", &["seal"]),
    ("subtle", &["seal"]),
    ("serde_json_canonicalizer", &["seal"]),
    ("libinjectionrs", &["auth"]),
    ("getrandom", &["seal"]),
    ("jsonwebtoken", &["seal"]),
    ("tracing_subscriber", &["telemetry"]),
    ("tracing_appender", &["telemetry"]),
    ("tracing_opentelemetry", &["telemetry"]),
    ("opentelemetry", &["telemetry"]),
    ("opentelemetry_http", &["telemetry"]),
    ("opentelemetry_otlp", &["telemetry"]),
    ("opentelemetry_sdk", &["telemetry"]),
    ("rust_embed", &["assets", "api", "settings"]),
    ("clap", &["cli", "app", "main"]),
    ("std::env::var", &["settings"]),
    ("std::env::vars", &["settings"]),
    ("std::env::var_os", &["settings"]),
    ("env::var", &["settings"]),
    ("env::vars", &["settings"]),
];

/// Where breakers, time-outs, waits and caches live, which a clock that jumps must not move.
const MONOTONIC: &[&str] = &["operations", "detect", "cache", "admission"];
/// What there knows the time of day: quotas of an hour, and what others sign or keep by it.
const TIME_OF_DAY: &[&str] =
    &["admission/mod.rs", "detect/delegation.rs", "detect/protocol/mod.rs", "detect/vault.rs"];

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;

/// Faults of one source text that belongs to `module`; `depth` is how many modules deep it lies.
fn faults(module: &str, depth: usize, source: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let Some(floor) = floor(module) else {
        return vec![format!("`{module}` has no floor: give it one in FLOORS")];
    };
    let code = product_code(source);
    faults.extend(long_functions(&code));
    for used in used_modules(&code, depth) {
        match FLOORS.iter().find(|(name, _)| *name == used) {
            _ if used == module => {}
            Some((_, below)) if *below < floor => {}
            Some((_, other)) => {
                faults.push(format!("`{module}` (floor {floor}) imports `{used}` (floor {other})"));
            }
            // `lib` and `main` name modules by `pub mod`; a crate-level item is no module.
            None => faults.push(format!("imports `crate::{used}`, which has no floor")),
        }
    }
    for (technology, owners) in TECHNOLOGIES {
        if !owners.contains(&module) && names(&code, technology) {
            faults.push(format!("`{technology}` belongs to {owners:?}"));
        }
    }
    if module == "main" {
        for used in used_modules(&code.replace("detector_orchestrator::", "crate::"), depth) {
            if !["cli", "app"].contains(&used.as_str()) {
                faults.push(format!("main imports `{used}`: only cli and app"));
            }
        }
    }
    faults
}

/// Holds for every file, tests too.
fn too_long(source: &str) -> Option<String> {
    let lines = source.lines().count();
    (lines > FILE_LINES_MAX).then(|| format!("{lines} lines, at most {FILE_LINES_MAX}: split it"))
}

fn floor(module: &str) -> Option<u8> {
    FLOORS.iter().find(|(name, _)| *name == module).map(|(_, floor)| *floor)
}

/// The text without comments, strings and what follows the inline test module, so that line
/// counts and imports are those of the product.
fn product_code(source: &str) -> String {
    let mut code = String::new();
    for line in source.lines() {
        if line.starts_with("mod tests {") {
            break;
        }
        code.push_str(&without_strings_and_comment(line));
        code.push('\n');
    }
    code
}

fn without_strings_and_comment(line: &str) -> String {
    let (mut kept, mut quoted, mut previous) = (String::new(), false, ' ');
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' if quoted => {
                chars.next();
            }
            '"' if quoted || previous != '\'' => quoted = !quoted,
            '/' if !quoted && chars.peek() == Some(&'/') => break,
            _ if !quoted => kept.push(c),
            _ => {}
        }
        previous = c;
    }
    kept
}

/// Top-level modules named through `crate::`, `super::…` above the top, or groups of either.
fn used_modules(code: &str, depth: usize) -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    let to_the_top = "super::".repeat(depth);
    let mut roots = vec!["crate::".to_owned()];
    if depth > 0 {
        roots.push(to_the_top);
    }
    let dense: String = code.split_whitespace().collect::<Vec<_>>().join(" ");
    for root in roots {
        for (at, _) in dense.match_indices(&root) {
            let before = dense[..at].chars().next_back().unwrap_or(' ');
            if before.is_alphanumeric() || before == '_' || before == '$' || before == ':' {
                continue;
            }
            used.extend(first_segments(&dense[at + root.len()..]));
        }
    }
    used.remove("self");
    used.remove("super");
    used
}

/// `a::b` → a; `{a::{b, c}, d}` → a, d.
fn first_segments(path: &str) -> Vec<String> {
    let segment = |text: &str| -> String {
        text.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
    };
    let Some(group) = path.strip_prefix('{') else { return vec![segment(path)] };
    let (mut level, mut start, mut found) = (0, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => level += 1,
            ',' if level == 0 => {
                found.push(segment(&group[start..at]));
                start = at + 1;
            }
            '}' if level == 0 => {
                found.push(segment(&group[start..at]));
                break;
            }
            '}' => level -= 1,
            _ => {}
        }
    }
    found.retain(|name| !name.is_empty());
    found
}

/// Whether `code` holds `path::` or `path` as a whole path from its start.
fn names(code: &str, path: &str) -> bool {
    code.match_indices(path).any(|(at, _)| {
        let before = code[..at].chars().next_back().unwrap_or(' ');
        let after = &code[at + path.len()..];
        let from_start = !(before.is_alphanumeric() || before == '_' || before == ':');
        let imported = code[..at].trim_end().ends_with("use") || after.starts_with("::");
        let called = path.contains("::") && after.starts_with('(');
        from_start && (imported || called)
    })
}

fn long_functions(code: &str) -> Vec<String> {
    let lines: Vec<&str> = code.lines().collect();
    let mut faults = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let body = line.trim_start();
        let indent = line.len() - body.len();
        let Some(name) = body.split("fn ").nth(1).filter(|_| {
            let head = body.split("fn ").next().unwrap_or("x");
            head.is_empty() || head.ends_with(' ') && !head.contains('(') && !head.contains('=')
        }) else {
            continue;
        };
        let end = format!("{}}}", " ".repeat(indent));
        let length = lines[at..].iter().position(|line| *line == end).map_or(1, |end| end + 1);
        if length > FUNCTION_LINES_MAX {
            let name: String = name.chars().take_while(|c| *c != '(').collect();
            faults.push(format!("`{name}` has {length} lines, at most {FUNCTION_LINES_MAX}"));
        }
    }
    faults
}

fn sources(dir: &Path, into: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

/// `store/rows.rs` → (`store`, 2); `store/mod.rs` → (`store`, 1); `main.rs` → (`main`, 0).
fn place(path: &Path) -> (String, usize) {
    let mut parts: Vec<String> =
        path.with_extension("").iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if parts.last().is_some_and(|last| last == "mod") {
        parts.pop();
    }
    let root = parts.len() == 1 && ["lib", "main"].contains(&parts[0].as_str());
    (parts[0].clone(), if root { 0 } else { parts.len() })
}

fn is_test_file(path: &Path) -> bool {
    path.iter().any(|part| ["tests.rs", "tests", "contract.rs"].iter().any(|name| part == *name))
}

#[test]
fn every_source_file_keeps_to_its_floor_and_size() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    assert!(files.len() > 20, "the sources were not found");
    let mut found = Vec::new();
    for file in &files {
        let path = file.strip_prefix(&root).unwrap();
        let (module, depth) = place(path);
        let source = fs::read_to_string(file).unwrap();
        let mut faults = if is_test_file(file) { vec![] } else { faults(&module, depth, &source) };
        faults.extend(too_long(&source));
        found.extend(faults.iter().map(|fault| format!("src/{}: {fault}", path.display())));
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[track_caller]
fn check(module: &str, depth: usize, source: &str, expected: &str) {
    let found = faults(module, depth, source).join("; ");
    let agrees = if expected.is_empty() { found.is_empty() } else { found.contains(expected) };
    assert!(agrees, "{module}: {source:?} gave {found:?}, wanted {expected:?}");
}

#[test]
fn planted_violations_are_caught() {
    check("domain", 1, "use crate::store::Store;", "imports `store`");
    check("store", 1, "use crate::policy::Engine;", "imports `policy`");
    check("store", 2, "use crate::{domain::id::TenantId, detect::{Breaker, call}};", "`detect`");
    check("store", 1, "use crate::{\n    domain,\n    api,\n};", "imports `api`");
    check("store", 2, "use super::super::jobs::Job;", "imports `jobs`");
    check("store", 1, "use super::api;", "imports `api`");
    check("metrics", 1, "pub use crate::snapshot::Live;", "imports `snapshot`");
    check("metrics", 1, "fn f() -> crate::app::App { g() }", "imports `app`");
    check("brandnew", 1, "", "has no floor");
    check("detect", 1, "use crate::brandnew::X;", "no floor");
    check("detect", 1, "use regorus::Engine;", "`regorus` belongs to");
    check("catalog", 1, "fn f(c: &rusqlite::Connection) {}", "`rusqlite` belongs to");
    check("catalog", 1, "use prometheus;", "`prometheus` belongs to");
    check("detect", 1, "fn f() { let x = std::env::var(\"A\"); }", "`std::env::var` belongs to");
    check("detect", 1, "use std::env;\nfn f() { env::vars(); }", "`env::vars` belongs to");
    check("main", 0, "use detector_orchestrator::store::Sqlite;", "main imports `store`");
    assert_eq!(too_long(&"\n".repeat(501)).as_deref(), Some("501 lines, at most 500: split it"));
    assert_eq!(too_long(&"\n".repeat(500)), None);
    let long = format!(
        "impl X {{\n    pub async fn f(\n    ) {{\n{}    }}\n}}",
        "        a();\n".repeat(70)
    );
    check("store", 1, &long, "`f` has 73 lines");
}

#[test]
fn what_is_allowed_passes() {
    check("store", 1, "use crate::domain::id::TenantId;\nuse super::super::x;", "");
    check("store", 2, "use super::Store;\nuse crate::store::error::StoreError;", "");
    check("store", 1, "use rusqlite::Connection;", "");
    check("app", 1, "use crate::{api, cli, store};", "");
    check("main", 0, "use detector_orchestrator::{app, cli};", "");
    check("domain", 1, "// crate::store::Store and regorus::Engine\n/// `crate::api::x`", "");
    check("domain", 1, "const A: &str = \"crate::api::x regorus::y\";", "");
    check("domain", 1, "mod tests {\n    use crate::store::Store;\n}", "");
    check("policy", 1, "fn hyper_active() { my_regorus::x(); let env_var = 1; }", "");
}

/// The words behind `call`, such as the names of commands.
fn called<'a>(text: &'a str, call: &'a str) -> impl Iterator<Item = &'a str> {
    text.split(call).skip(1).filter_map(|rest| rest.split(['"', '\'']).next())
}

#[test]
fn redis_is_a_cache_and_never_a_bus_or_a_queue() {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src/cache/redis"));
    let mut asked = BTreeSet::new();
    for entry in fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        asked.extend(called(&text, "redis::cmd(\"").map(str::to_owned));
        asked.extend(called(&text, "redis.call('").map(str::to_owned));
        // Whatever is asked is written as above: no other way of the crate is used.
        for way in ["Commands", "pipe(", "aio::PubSub", "ConnectionManager", ".subscribe(", "cmd(&"]
        {
            assert!(is_test_file(&path) || !text.contains(way), "{} uses {way}", path.display());
        }
    }
    let allowed = ["GET", "GETRANGE", "SET", "TIME"].map(str::to_owned);
    assert_eq!(asked, BTreeSet::from(allowed));
}

#[test]
fn a_clock_that_jumps_moves_no_breaker_time_out_or_wait() {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src"));
    let mut files = Vec::new();
    sources(root, &mut files);
    let mut looked = 0;
    for file in files {
        let name = file.strip_prefix(root).unwrap().display().to_string();
        let guarded = MONOTONIC.iter().any(|module| name.starts_with(&format!("{module}/")));
        if !guarded || is_test_file(&file) || TIME_OF_DAY.contains(&name.as_str()) {
            continue;
        }
        let code = product_code(&fs::read_to_string(&file).unwrap());
        for clock in ["SystemTime", "Timestamp", "UNIX_EPOCH"] {
            assert!(!code.contains(clock), "{name} names {clock}: measure by Instant");
        }
        looked += 1;
    }
    assert!(looked > 20, "only {looked} files were read");
}
