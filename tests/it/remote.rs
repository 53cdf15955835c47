//! Policies from a signed bundle: published, tampered with, rolled back, gone; and lying in the
//! folder. Bundles are signed by Open Policy Agent's own functions.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use detector_orchestrator::assets;
use detector_orchestrator::seal::{Key, Signer};
use detector_orchestrator::yaml::{self, fault::FaultKind};
use serde_json::{Map, Value, json};
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate, matchers};

use crate::app::{App, spawn_named, write};
use crate::binary::{command, run, text};
use crate::opa::{Opa, Said};

const SEED: [u8; 32] = [9; 32];
/// What `opa sign` does, in Rego: a digest of each text and of each table's canonical form.
const SIGN: &str = r#"package signer
import rego.v1
listed contains {"name": name, "algorithm": "SHA-256", "hash": crypto.sha256(text)} if some name, text in input.texts
listed contains {"name": name, "algorithm": "SHA-256", "hash": crypto.sha256(json.marshal(value))} if some name, value in input.tables
token := io.jwt.encode_sign({"alg": "EdDSA", "kid": "k"}, {"files": [file | some file in listed]}, input.key)
"#;
const CONTENT: &str = "key AKIAZ3VQ7JRTLWXK5P2D";
/// A look each second, and the debug build's time.
const SOON: Duration = Duration::from_secs(10);

/// A tree of policies on its way into a bundle.
#[derive(Clone)]
struct Tree(BTreeMap<String, String>);

impl Tree {
    /// The shipped one at a revision, in which secrets have `action`.
    fn shipped(revision: u64, action: &str) -> Tree {
        let mut files = BTreeMap::new();
        for path in assets::paths() {
            let Some(name) = path.strip_prefix("policies/") else { continue };
            let bytes = assets::read(&path).unwrap();
            files.insert(name.to_owned(), String::from_utf8(bytes.to_vec()).unwrap());
        }
        let manifest = json!({"revision": revision.to_string(), "roots": [""]});
        files.insert(".manifest".into(), manifest.to_string());
        let table = files.get_mut("standard/data.yaml").unwrap();
        *table = table.replace("secrets: redact", &format!("secrets: {action}"));
        Tree(files)
    }

    fn with(mut self, name: &str, text: &str) -> Tree {
        self.0.insert(name.into(), text.into());
        self
    }

    fn signed(self, opa: &mut Opa) -> Tree {
        let (mut texts, mut tables) = (Map::new(), Map::new());
        for (name, text) in &self.0 {
            let last = name.rsplit('/').next().unwrap();
            if last == "data.yaml" || last == ".manifest" {
                let value = yaml::parse_value(FaultKind::Policy, name, text).unwrap();
                tables.insert(name.clone(), whole(value));
            } else {
                texts.insert(name.clone(), json!(text));
            }
        }
        let public = URL_SAFE_NO_PAD.encode(signer().public_key());
        let key =
            json!({"kty": "OKP", "crv": "Ed25519", "x": public, "d": URL_SAFE_NO_PAD.encode(SEED)});
        let modules = Map::from_iter([("signer.rego".to_owned(), json!(SIGN))]);
        opa.open("signer", &modules, &json!({}));
        let input = json!({"texts": texts, "tables": tables, "key": key});
        let said = opa.ask("signer", &["signer.token".to_owned()], &[input]);
        let Said::Value(token) = &said[0][0] else { panic!("OPA did not sign: {said:?}") };
        let signatures = json!({"signatures": [token]}).to_string();
        self.with(".signatures.json", &signatures)
    }

    fn packed(&self) -> Vec<u8> {
        let out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        let mut archive = tar::Builder::new(out);
        for (name, text) in &self.0 {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            archive.append_data(&mut header, name, text.as_bytes()).unwrap();
        }
        archive.into_inner().unwrap().finish().unwrap()
    }
}

/// Through YAML, Go reads 1.0 as the number that it writes as 1.
fn whole(value: Value) -> Value {
    match value {
        Value::Object(fields) => fields.into_iter().map(|(name, v)| (name, whole(v))).collect(),
        Value::Array(items) => items.into_iter().map(whole).collect(),
        Value::Number(number) => match number.as_f64() {
            Some(float) if float.fract() == 0.0 => json!(float as i64),
            _ => Value::Number(number),
        },
        other @ (Value::Null | Value::Bool(_) | Value::String(_)) => other,
    }
}

fn signer() -> Signer {
    Signer::of(&Key::from_bytes(SEED)).unwrap()
}

fn pem() -> String {
    let head = [0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x21, 0];
    let body = STANDARD.encode([&head[..], &signer().public_key()].concat());
    format!("-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n")
}

/// Serves one bundle under its ETag, or 500 where there is none.
#[derive(Clone, Default)]
struct Publisher(Arc<Mutex<(Vec<u8>, usize)>>);

impl Publisher {
    async fn start(&self) -> (MockServer, String) {
        let server = MockServer::start().await;
        Mock::given(matchers::path("/bundle.tar.gz"))
            .respond_with(self.clone())
            .mount(&server)
            .await;
        let url = format!("{}/bundle.tar.gz", server.uri());
        (server, url)
    }

    fn publish(&self, bytes: Vec<u8>) {
        self.0.lock().unwrap().0 = bytes;
    }

    /// Looks that were answered "not modified".
    fn unchanged(&self) -> usize {
        self.0.lock().unwrap().1
    }
}

impl Respond for Publisher {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let mut state = self.0.lock().unwrap();
        if state.0.is_empty() {
            return ResponseTemplate::new(500);
        }
        let digest = detector_orchestrator::domain::digest::Digest::of(&state.0);
        let etag = format!("\"{}\"", digest.hex());
        if request.headers.get("if-none-match").is_some_and(|known| *known == *etag) {
            state.1 += 1;
            return ResponseTemplate::new(304).insert_header("etag", etag);
        }
        ResponseTemplate::new(200).insert_header("etag", etag).set_body_bytes(state.0.clone())
    }
}

fn following(url: &str, key: &Path) -> Vec<(&'static str, String)> {
    vec![
        ("ORCHESTRATION_POLICY__REMOTE__URL", url.to_owned()),
        ("ORCHESTRATION_POLICY__REMOTE__INTERVAL", "1s".to_owned()),
        ("ORCHESTRATION_POLICY__REMOTE__PUBLIC_KEY_FILE", key.display().to_string()),
    ]
}

async fn acts(app: &App, action: &str) {
    app.ask_until(&json!({"content": CONTENT}), |told| told["action"] == action).await;
}

/// Waits for a fault of this code, or for none; all of them.
async fn faults(app: &App, code: Option<&str>) -> Value {
    let begun = Instant::now();
    loop {
        let state = app.get("/api/v1/generations").await.json();
        let found = state["faults"].as_array().unwrap().clone();
        let holds = match code {
            Some(code) => found.iter().any(|fault| fault["code"] == code),
            None => found.is_empty(),
        };
        if holds {
            return state["faults"].clone();
        }
        assert!(begun.elapsed() < SOON, "never {code:?}: {state}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bundle_that_opa_signed_serves_and_nothing_older_or_changed_does() {
    let (mut opa, publisher) = (Opa::start(), Publisher::default());
    let (_server, url) = publisher.start().await;
    let keys = tempfile::tempdir().unwrap();
    write(keys.path(), "key.pem", &pem());
    let first = Tree::shipped(1, "redact").signed(&mut opa).packed();
    publisher.publish(first.clone());
    let app = spawn_named(following(&url, &keys.path().join("key.pem")), |root| {
        std::fs::remove_dir_all(root.join("policies")).unwrap();
    })
    .await;
    acts(&app, "redact").await;
    let second = Tree::shipped(2, "block").signed(&mut opa);
    publisher.publish(second.packed());
    acts(&app, "block").await;
    let before = publisher.unchanged();
    while publisher.unchanged() < before + 2 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    publisher.publish(first);
    faults(&app, Some("older_revision")).await;
    let metrics = app.get("/metrics").await.text;
    let failed = "orchestrator_config_last_reload_successful{kind=\"policies\"} 0";
    assert!(metrics.contains(failed), "{metrics}");
    let table = &second.0["standard/data.yaml"];
    let tampered = second.clone().with("standard/data.yaml", &table.replace("block", "flag"));
    publisher.publish(tampered.packed());
    faults(&app, Some("digest_mismatch")).await;
    publisher.publish(Tree::shipped(2, "flag").signed(&mut opa).packed());
    faults(&app, Some("same_revision")).await;
    publisher.publish(Vec::new());
    faults(&app, Some("unreachable")).await;
    let broken =
        Tree::shipped(3, "flag").with("standard/verdict.rego", "package standard\nblock if {");
    publisher.publish(broken.signed(&mut opa).packed());
    let told = faults(&app, Some("syntax")).await;
    assert_eq!(told[0]["file"], "policy.remote/standard/verdict.rego", "{told}");
    acts(&app, "block").await;
    // What serves is not older than itself. Nobody has to wait for the next look.
    publisher.publish(second.packed());
    let reason = json!({"reason": "drill"});
    let told = app.post("/api/v1/admin/reload", &reason).await;
    assert_eq!(told.json()["faults"], json!([]), "{}", told.text);
    faults(&app, None).await;
    let healed = "orchestrator_config_last_reload_successful{kind=\"policies\"} 1";
    assert!(app.get("/metrics").await.text.contains(healed));

    // Away at the next start, and back with what is older.
    publisher.publish(Vec::new());
    let app = app.restart().await;
    acts(&app, "block").await;
    faults(&app, Some("unreachable")).await;
    publisher.publish(Tree::shipped(1, "redact").signed(&mut opa).packed());
    faults(&app, Some("older_revision")).await;
    acts(&app, "block").await;
    // What was published meanwhile and is broken holds no start up.
    let broken = Tree::shipped(4, "flag").with("standard/verdict.rego", "package other\n");
    publisher.publish(broken.signed(&mut opa).packed());
    let app = app.restart().await;
    acts(&app, "block").await;
    faults(&app, Some("wrong_package")).await;
    publisher.publish(Tree::shipped(5, "redact").signed(&mut opa).packed());
    acts(&app, "redact").await;
}

#[test]
fn a_start_without_any_policies_is_refused_and_so_is_an_address_inside() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "key.pem", &pem());
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    drop(taken);
    let url = format!("http://127.0.0.1:{port}/bundle.tar.gz");
    for (env, says) in
        [("development", "no connection was made"), ("staging", "add it to the allow-list")]
    {
        let mut serve = command(dir.path());
        serve.args(["serve", "--listen", "127.0.0.1:0"]).env("ORCHESTRATION_ENV", env);
        for (name, value) in following(&url, Path::new("key.pem")) {
            serve.env(name, value);
        }
        let done = serve.output().unwrap();
        let error = text(&done.stderr);
        assert_eq!(done.status.code(), Some(69), "{error}");
        assert!(error.contains("policy.remote: unreachable") && error.contains(says), "{error}");
        assert!(!error.contains("policies serve"), "nothing serves: {error}");
    }
}

#[test]
fn a_bundle_in_the_folder_serves_alone_and_signed_where_a_key_is_named() {
    let mut opa = Opa::start();
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    assets::write_to(root).unwrap();
    let tree = Tree::shipped(1, "block").with("schemas/README.md", "no policy");
    let check = |config: &str| {
        write(root, "config/settings.yaml", config);
        let done = run(root, &["check"]);
        (done.status.code(), text(&done.stdout) + &text(&done.stderr))
    };
    let (code, said) = check("{policy: {remote: {public_key_file: none.pem}}}");
    assert!(code == Some(65) && said.contains("none.pem: unreadable"), "{said}");
    std::fs::write(root.join("policies/bundle.tar.gz"), tree.packed()).unwrap();
    let (code, said) = check("{}");
    assert!(code == Some(65) && said.contains("two_trees"), "{said}");
    for entry in std::fs::read_dir(root.join("policies")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            std::fs::remove_dir_all(path).unwrap();
        }
    }
    let (code, said) = check("{}");
    assert_eq!(code, Some(0), "{said}");
    let scanned = crate::binary::run_with(root, &["scan", "-"], CONTENT);
    assert_eq!(scanned.status.code(), Some(20), "the bundle blocks: {scanned:?}");
    let (code, said) = check("paths: {policies: policies/bundle.tar.gz}");
    assert_eq!(code, Some(0), "{said}");

    let signed = "policy: {remote: {public_key_file: key.pem}}";
    write(root, "key.pem", "none");
    let (code, said) = check(signed);
    assert!(code == Some(65) && said.contains("bad_key"), "{said}");
    write(root, "key.pem", &pem());
    let (code, said) = check(signed);
    assert!(code == Some(65) && said.contains("unsigned"), "{said}");
    std::fs::write(root.join("policies/bundle.tar.gz"), tree.signed(&mut opa).packed()).unwrap();
    let (code, said) = check(signed);
    assert_eq!(code, Some(0), "{said}");
    std::fs::remove_file(root.join("policies/bundle.tar.gz")).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", root.join("policies/bundle.tar.gz")).unwrap();
    let (code, said) = check(signed);
    assert!(code == Some(65) && said.contains("link_outside"), "{said}");
}

/// The `opa` program, where somebody installed it: `OPA` names it, or it stands in the path.
fn program() -> Option<PathBuf> {
    let named = std::env::var_os("OPA").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut found = std::env::split_paths(&path).map(|folder| folder.join("opa"));
    named.or_else(|| found.find(|program| program.is_file()))
}

#[test]
fn a_bundle_that_the_opa_program_built_and_signed_is_taken() {
    let Some(opa) = program() else {
        println!("skipped: there is no `opa` in the path; name one by OPA=/path/to/opa");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    assets::write_to(root).unwrap();
    crate::app::edit(root, "policies/standard/data.yaml", "secrets: redact", "secrets: block");
    let head = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    let body = STANDARD.encode([&head[..], &SEED].concat());
    let key = format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n");
    write(root, "private.pem", &key);
    write(root, "key.pem", &pem());
    let mut build = std::process::Command::new(opa);
    build.current_dir(root).args(["build", "-b", "policies", "-o", "bundle.tar.gz"]);
    build.args(["--revision", "7", "--signing-alg", "EdDSA", "--signing-key", "private.pem"]);
    let built = build.output().unwrap();
    assert!(built.status.success(), "{}", text(&built.stderr));
    std::fs::remove_dir_all(root.join("policies")).unwrap();
    std::fs::create_dir(root.join("policies")).unwrap();
    std::fs::rename(root.join("bundle.tar.gz"), root.join("policies/bundle.tar.gz")).unwrap();
    let signed = "policy: {remote: {public_key_file: key.pem}}";
    write(root, "config/settings.yaml", signed);
    let checked = run(root, &["check"]);
    assert_eq!(checked.status.code(), Some(0), "{}", text(&checked.stderr));
    let scanned = crate::binary::run_with(root, &["scan", "-"], CONTENT);
    assert_eq!(scanned.status.code(), Some(20), "the bundle blocks: {scanned:?}");
}
