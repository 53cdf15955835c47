//! Texts made to hurt the parser that reads them: each is refused with a code and its place, soon, and
//! costs little memory. `EDGE_SECONDS` (`just edge`) writes a row for each reader.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::slow::held;
use crate::app::{client, send};
use crate::binary::Served;
use crate::faults::checks::{Checks, row};
use crate::faults::serve;

/// What is sent, and what comes back: the code of the first fault, its line and column.
struct Vector {
    name: &'static str,
    bytes: Vec<u8>,
    expected: String,
}

fn vector(name: &'static str, bytes: impl Into<Vec<u8>>, expected: &str) -> Vector {
    Vector { name, bytes: bytes.into(), expected: expected.to_owned() }
}

fn deep(open: &str, times: usize) -> String {
    open.repeat(times)
}

/// A request whose metadata holds `value`.
fn metadata(value: &str) -> String {
    format!("{{\"content\":\"x\",\"metadata\":{{\"a\":{value}}}}}")
}

/// Depth, numbers and keys.
fn shapes() -> Vec<Vector> {
    let keys: String = (0..200_000).map(|n| format!("\"k{n}\":0,")).collect();
    vec![
        vector("lists 100 000 deep", metadata(&deep("[", 100_000)), "too_deep 1:157"),
        vector("objects 100 000 deep", metadata(&deep("{\"a\":", 100_000)), "too_deep 1:657"),
        vector(
            "nine million brackets",
            format!("{{\"content\":{}", deep("[", 9_000_000)),
            "wrong_type 1:12",
        ),
        vector(
            "129 deep and closed",
            metadata(&(deep("[", 129) + &deep("]", 129))),
            "too_deep 1:157",
        ),
        vector("1e400", "{\"content\":\"x\",\"timeout_ms\":1e400}", "invalid_json 1:33"),
        vector("1e400 in metadata", metadata("1e400"), "invalid_json 1:36"),
        vector(
            "a million digits",
            format!("{{\"timeout_ms\":{}}}", deep("9", 1_000_000)),
            "invalid_json 1:1000014",
        ),
        vector(
            "a million decimals",
            format!("{{\"timeout_ms\":0.{}1}}", deep("0", 1_000_000)),
            "wrong_type 1:1000017",
        ),
        vector(
            "an endless exponent",
            format!("{{\"timeout_ms\":1e{}}}", deep("9", 1_000_000)),
            "invalid_json 1:26",
        ),
        vector("a key twice", "{\"content\":\"a\",\"content\":\"b\"}", "duplicate_key 1:24"),
        vector(
            "a key and its escaped twin",
            "{\"content\":\"a\",\"c\\u006fntent\":\"b\"}",
            "duplicate_key 1:29",
        ),
        vector(
            "a key twice among 200 000",
            metadata(&format!("{{{keys}\"k0\":1}}")),
            "duplicate_key 1:2288926",
        ),
    ]
}

/// Encodings and lengths.
fn texts() -> Vec<Vector> {
    let message = "{\"role\":\"user\",\"content\":\"a\"},";
    let part = "{\"type\":\"text\",\"text\":\"\"},";
    let utf16: Vec<u8> = "{\"content\":\"x\"}".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let raw = |inside: &[u8]| [b"{\"content\":\"", inside, b"\"}"].concat();
    vec![
        vector("a byte that is no UTF-8", raw(b"\xff"), "invalid_json 1:13"),
        vector("an overlong slash", raw(b"\xc0\xaf"), "invalid_json 1:13"),
        vector("half a surrogate", raw(b"\\ud800"), "invalid_json 1:19"),
        vector("UTF-16", utf16, "invalid_json 1:2"),
        vector(
            "a byte order mark",
            b"\xef\xbb\xbf{\"content\":\"x\"}".as_slice(),
            "invalid_json 1:1",
        ),
        vector(
            "a key of nine million",
            format!("{{\"{}\":1}}", deep("k", 9_000_000)),
            "unknown_field 1:9000003",
        ),
        vector("a text of nine million", raw(&vec![b'x'; 9_000_000]), "too_long"),
        vector(
            "a text without its end",
            format!("{{\"content\":\"{}", deep("x", 9_000_000)),
            "invalid_json 1:9000012",
        ),
        vector(
            "300 000 messages, then none",
            format!("{{\"messages\":[{}{{}}]}}", deep(message, 300_000)),
            "too_long 1:30043",
        ),
        vector(
            "380 000 parts, then none",
            format!("{{\"content\":[{}{{}}]}}", deep(part, 380_000)),
            "too_long 1:26038",
        ),
    ]
}

/// Rego as a module of `POST /policies/validate` and of `PUT /policies/{bundle}`.
fn modules() -> Vec<(&'static str, String, &'static str)> {
    let rule = |value: &str| format!("package tenants.default.standard\n\nx := {value}\n");
    vec![
        ("75 bytes of mixed brackets", rule(&deep("[{(", 21)), "too_deep 3:16"),
        ("31 closed lists", rule(&(deep("[", 31) + "1" + &deep("]", 31))), "too_deep 3:16"),
        ("100 000 brackets", rule(&deep("[", 100_000)), "too_deep 3:16"),
        (
            "nested comprehensions",
            rule(&(deep("[y | y := ", 200) + "1" + &deep("]", 200))),
            "too_deep 3:106",
        ),
        ("20 000 additions", rule(&(deep("1 + ", 20_000) + "1")), "syntax 3:1024"),
        ("20 000 steps of a path", rule(&format!("input{}", deep(".a", 20_000))), "syntax 3:1024"),
        ("1e999999999", rule("1e999999999"), "number_too_large 3:7"),
        ("60 000 digits", rule(&deep("9", 60_000)), "syntax 3:6"),
        (
            "20 000 times not",
            format!(
                "package tenants.default.standard\n\nx if {{ {} true }}\n",
                deep("not ", 20_000)
            ),
            "syntax 3:8",
        ),
        ("a text without its end", rule(&format!("\"{}", deep("x", 60_000))), "syntax 3:6"),
    ]
}

/// YAML in the place of a file whose head is `head`; what a merge brings is told as `merged`.
fn files(head: &str, merged: &str) -> Vec<Vector> {
    // The head is two lines, and the mebibyte ends in the third.
    let too_large = format!("too_large 3:{}", (1 << 20) + 1 - head.len());
    let mut bomb = format!("{head}a: &a [x,x,x,x,x,x,x,x,x]\n");
    for (name, before) in ["b", "c", "d", "e", "f", "g", "h"].iter().zip("abcdefg".chars()) {
        bomb += &format!("{name}: &{name} [{}]\n", vec![format!("*{before}"); 9].join(","));
    }
    let indented: String = (0..900).map(|n| format!("{}a:\n", " ".repeat(n))).collect();
    vec![
        vector("anchors of anchors", bomb, "too_complex 7:11"),
        vector("an anchor inside itself", format!("{head}a: &a [*a]\n"), "yaml_syntax 3:8"),
        vector("a merge of an anchor", format!("{head}a: &a {{b: c}}\n<<: *a\n"), merged),
        vector("100 000 brackets", format!("{head}a: {}", deep("[", 100_000)), "yaml_syntax 3:259"),
        vector("900 indented keys", format!("{head}{indented}"), "too_complex 35:33"),
        vector("1e999", format!("{head}weight: 1e999\n"), "yaml_syntax 3:9"),
        vector(
            "a million digits",
            format!("{head}weight: {}\n", deep("9", 1_000_000)),
            "yaml_syntax 3:9",
        ),
        vector(
            "a key twice",
            format!("{head}{}", head.lines().next_back().unwrap()),
            "duplicate_key 3:1",
        ),
        vector("no UTF-8", [head.as_bytes(), b"description: \xff\n"].concat(), "not_utf8 3:14"),
        vector(
            "two megabytes",
            format!("{head}description: {}\n", deep("x", 2_000_000)),
            &too_large,
        ),
    ]
}

/// Where a JSON fault says it is.
fn position(detail: &str) -> String {
    let told = detail.rsplit_once("(line ").and_then(|(_, rest)| rest.strip_suffix(')'));
    told.map(|told| told.replace(", column ", ":")).unwrap_or_default()
}

/// Status, codes and position of an answer, in one line.
fn told(status: u16, value: &Value) -> String {
    let fault = &value["errors"][0];
    let of = |field: &str| fault[field].as_str().unwrap_or_default();
    let code = value["code"].as_str().map_or_else(|| value["is_valid"].to_string(), str::to_owned);
    let place = match fault["line"].as_u64() {
        Some(line) => format!("{line}:{}", fault["column"]),
        None => position(of("detail")),
    };
    format!("{status} {code} {} {place}", of("code")).trim_end().to_owned()
}

/// The service under test, and what it cost so far.
struct Bench {
    served: Served,
    checks: Checks,
    /// Of the reader that is tried now.
    longest: (Duration, &'static str),
    grown: f64,
    tried: usize,
}

impl Bench {
    /// Sends `body`; the answer and how long it took. Growth is what the process held at most beyond
    /// what it held before.
    async fn send(&mut self, way: (&str, &str), name: &'static str, body: &[u8]) -> (u16, Value) {
        // From now on the peak is this request's.
        let _ = std::fs::write(format!("/proc/{}/clear_refs", self.served.pid()), "5");
        let (_, before, peak) = held(&self.served);
        let at = format!("http://{}{}", self.served.address, way.1);
        let headers = [("content-type", "application/json")];
        let (client, began) = (client(), Instant::now());
        let answer = send(&client, (way.0, &at), &headers, body).await;
        let took = began.elapsed();
        let (_, _, most) = held(&self.served);
        self.longest = self.longest.max((took, name));
        self.grown =
            self.grown.max(most - before.max(if peak > before + 1.0 { peak } else { 0.0 }));
        self.tried += 1;
        let short = answer.text.len() <= 16 * 1024;
        self.checks.holds(short, || format!("{name}: {} bytes of answer", answer.text.len()));
        (answer.status, serde_json::from_str(&answer.text).unwrap_or_default())
    }

    fn expect(&mut self, name: &str, expected: &str, seen: &str) {
        self.checks.holds(seen == expected, || format!("{name}: {seen:?}, not {expected:?}"));
    }

    /// The row of a reader whose vectors have all been tried.
    fn reader(&mut self, name: &str, usual: Duration) {
        let (took, slowest) = self.longest;
        let took = took.saturating_sub(usual).as_secs_f64() * 1e3;
        let told = format!("{took:.0} ms at most ({slowest}), {:.1} MiB at most", self.grown);
        let n = format!("{} texts", self.tried);
        row(&format!("{name}: refused with code and place ≤ 100 ms, ≤ 64 MiB"), &told, &n);
        let grown = self.grown;
        self.checks.holds(grown <= 64.0, || format!("{name}: memory grew by {grown:.1} MiB"));
        self.forget();
    }

    /// What was tried so far is no part of what comes.
    fn forget(&mut self) {
        (self.longest, self.grown, self.tried) = ((Duration::ZERO, ""), 0.0, 0);
    }
}

fn bench(dir: &Path) -> Bench {
    detector_orchestrator::assets::write_to(dir).unwrap();
    let mut served = serve(dir, &[]);
    served.discard_output();
    let longest = (Duration::ZERO, "");
    Bench { served, checks: Checks::default(), longest, grown: 0.0, tried: 0 }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_text_made_to_hurt_a_parser_is_refused_with_its_code_and_place() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = bench(dir.path());
    let ask = ("POST", "/api/v1/orchestrate");
    bench.send(ask, "warm-up", b"{\"content\":\"x\"}").await;
    bench.forget();
    for Vector { name, bytes, expected } in shapes().into_iter().chain(texts()) {
        let (status, value) = bench.send(ask, name, &bytes).await;
        bench.expect(name, &format!("400 INVALID_REQUEST {expected}"), &told(status, &value));
    }
    bench.reader("JSON of requests", Duration::ZERO);
    for (name, rego, expected) in modules() {
        let body = json!({"modules": [{"path": "x.rego", "rego": rego}]}).to_string();
        let asked = bench.send(("POST", "/api/v1/policies/validate"), name, body.as_bytes()).await;
        bench.expect(name, &format!("200 false {expected}"), &told(asked.0, &asked.1));
        let put = bench.send(("PUT", "/api/v1/policies/standard"), name, body.as_bytes()).await;
        bench.expect(name, &format!("400 POLICY_INVALID {expected}"), &told(put.0, &put.1));
    }
    bench.reader("Rego (validate and PUT)", Duration::ZERO);
    for (path, head, merged) in [
        ("detectors/hostile.yaml", "name: hostile\nprotocol: builtin\n", "missing_key 1:1"),
        ("config/tenants/hostile.yaml", "schema_version: 1\nid: hostile\n", "unknown_key 3:1"),
        ("config/strategies.yaml", "schema_version: 1\nstrategies: {}\n", "missing_key 2:13"),
    ] {
        read_files(&mut bench, dir.path(), path, files(head, merged)).await;
    }
    let (status, _) = bench.send(ask, "afterwards", b"{\"content\":\"x\"}").await;
    bench.checks.holds(status == 200, || format!("it answers {status} afterwards"));
    let (code, _, error) = bench.served.stop();
    bench.checks.holds(code == Some(0) && !error.contains("panicked"), || error);
    bench.checks.end("parsers");
}

/// Hostile files in the place of `path`, each read at once by a reload.
async fn read_files(bench: &mut Bench, dir: &Path, path: &str, vectors: Vec<Vector>) {
    let reload = ("POST", "/api/v1/admin/reload");
    let reason = br#"{"reason": "a test"}"#;
    let before = std::fs::read(dir.join(path)).ok();
    // Reading everything else is no part of what one text costs; the first time it costs more.
    let mut usual = Duration::ZERO;
    for plain in ["nmae: x\n", "neam: x\n"] {
        std::fs::write(dir.join(path), plain).unwrap();
        bench.forget();
        bench.send(reload, "misspelt", reason).await;
        usual = bench.longest.0;
    }
    bench.forget();
    for Vector { name, bytes, expected } in vectors {
        std::fs::write(dir.join(path), bytes).unwrap();
        let (status, value) = bench.send(reload, name, reason).await;
        let fault = value["faults"].as_array().and_then(|faults| {
            faults.iter().find(|fault| fault["file"].as_str().is_some_and(|f| f.ends_with(path)))
        });
        let fault = fault.cloned().unwrap_or_default();
        let code = fault["code"].as_str().unwrap_or_default();
        let seen = format!("{status} {code} {}:{}", fault["line"], fault["column"]);
        bench.expect(&format!("{path}: {name}"), &format!("200 {expected}"), &seen);
    }
    bench.reader(&format!("YAML of {path}"), usual);
    match before {
        Some(bytes) => std::fs::write(dir.join(path), bytes).unwrap(),
        None => std::fs::remove_file(dir.join(path)).unwrap(),
    }
    bench.send(reload, "as before", reason).await;
    bench.forget();
}
