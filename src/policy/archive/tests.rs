//! Bundles that are good, and every way to spoil one.

use std::collections::BTreeMap;
use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

use super::*;
use crate::seal::{Key, Signer};

fn signer(seed: u8) -> Signer {
    Signer::of(&Key::from_bytes([seed; 32])).unwrap()
}

fn packed(tar: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(tar).unwrap();
    out.finish().unwrap()
}

fn plain<'a>(files: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_ustar();
        // As it stands: the builder's own names are always good ones.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        archive.append(&header, bytes).unwrap();
    }
    archive.into_inner().unwrap()
}

fn jws(signer: &Signer, head: &str, payload: &str) -> String {
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(head), URL_SAFE_NO_PAD.encode(payload));
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signer.sign(signed.as_bytes()).unwrap()))
}

/// A bundle on its way to be signed and packed.
#[derive(Clone)]
struct Draft {
    files: BTreeMap<String, Vec<u8>>,
    /// What is said of them.
    statement: serde_json::Value,
    head: String,
    seed: u8,
}

const TABLE: &str = r#"{"b": {"threshold": 0.75, "n": 3}, "a": "é \u2028 <&>"}"#;

impl Draft {
    fn new() -> Draft {
        let files = [
            (".manifest", r#"{"revision": "7", "roots": [""]}"#),
            ("base/data.yaml", "b: {n: 1.0, x: 0.5}\na: [1, two]\n"),
            ("data.json", TABLE),
            ("standard/verdict.rego", "package standard\n"),
        ];
        let owned = |(name, text): (&str, &str)| (name.to_owned(), text.as_bytes().to_vec());
        let hash = |text: &str| Digest::of(text.as_bytes()).hex();
        let said = [
            (".manifest", r#"{"revision":"7","roots":[""]}"#),
            ("base/data.yaml", r#"{"a":[1,"two"],"b":{"n":1,"x":0.5}}"#),
            ("data.json", "{\"a\":\"é \\u2028 <&>\",\"b\":{\"n\":3,\"threshold\":0.75}}"),
            ("standard/verdict.rego", "package standard\n"),
        ];
        let said = said
            .map(|(name, text)| json!({"name": name, "hash": hash(text), "algorithm": "SHA-256"}));
        Draft {
            files: files.map(owned).into(),
            statement: json!({"files": said}),
            head: r#"{"alg":"EdDSA"}"#.to_owned(),
            seed: 1,
        }
    }

    fn token(&self) -> String {
        jws(&signer(self.seed), &self.head, &self.statement.to_string())
    }

    fn files_signed_by(&self, tokens: &[String]) -> BTreeMap<String, Vec<u8>> {
        let mut files = self.files.clone();
        let signatures = json!({"signatures": tokens}).to_string();
        files.insert(SIGNATURES.to_owned(), signatures.into_bytes());
        files
    }

    fn signed(&self) -> BTreeMap<String, Vec<u8>> {
        self.files_signed_by(&[self.token()])
    }
}

fn pack(files: &BTreeMap<String, Vec<u8>>) -> Vec<u8> {
    packed(&plain(files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice()))))
}

fn read(bytes: &[u8]) -> Result<Archive, &'static str> {
    Archive::read(bytes, Some(&signer(1).public_key())).map_err(|refused| refused.code)
}

#[test]
fn a_signed_bundle_is_read_with_its_tables_at_their_layers() {
    let archive = read(&pack(&Draft::new().signed())).unwrap();
    assert_eq!(archive.revision, "7");
    let paths: Vec<&str> = archive.sources.iter().map(|file| file.path.as_str()).collect();
    let wanted = ["a/data.yaml", "b/data.yaml", "base/data.yaml", "standard/verdict.rego"];
    assert_eq!(paths, wanted);
    assert_eq!(&*archive.sources[1].bytes, br#"{"n":3,"threshold":0.75}"#);
    // As `opa build` names files.
    let mut slashed = Draft::new();
    slashed.files = slashed.files.into_iter().map(|(name, b)| (format!("/{name}"), b)).collect();
    assert_eq!(read(&pack(&slashed.signed())).unwrap().digest, archive.digest);
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table: each line is one way to spoil a bundle")]
fn a_bundle_that_was_tampered_with_is_refused() {
    let good = Draft::new().signed();
    let with = |change: &dyn Fn(&mut Draft)| {
        let mut draft = Draft::new();
        change(&mut draft);
        pack(&draft.signed())
    };
    // What was signed stays, the files change.
    let after = |change: &dyn Fn(&mut Entries)| {
        let mut files = good.clone();
        change(&mut files);
        pack(&files)
    };
    let text = |text: &str| text.as_bytes().to_vec();
    let mut flipped = pack(&good);
    let middle = flipped.len() / 2;
    flipped[middle] ^= 4;
    let whole = pack(&good);
    let token = Draft::new().token();
    let parts: Vec<&str> = token.split('.').collect();
    let other = Draft { statement: json!({"files": []}), ..Draft::new() };
    let body = URL_SAFE_NO_PAD.encode(other.statement.to_string());
    let swapped = format!("{}.{body}.{}", parts[0], parts[2]);
    let again = |name: &str| json!({"name": name, "hash": "00", "algorithm": "SHA-256"});
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        (
            "a rule changed",
            after(&|f| drop(f.insert("standard/verdict.rego".into(), text("package standard\n#")))),
            "digest_mismatch",
        ),
        (
            "a number changed",
            after(&|f| drop(f.insert(DATA.into(), text(&TABLE.replace("0.75", "0.76"))))),
            "digest_mismatch",
        ),
        (
            "a table's type changed",
            after(&|f| {
                drop(f.insert("base/data.yaml".into(), text("b: {n: '1', x: 0.5}\na: [1, two]\n")))
            }),
            "digest_mismatch",
        ),
        (
            "the revision changed",
            after(&|f| {
                drop(f.insert(MANIFEST.into(), text(r#"{"revision": "8", "roots": [""]}"#)))
            }),
            "digest_mismatch",
        ),
        (
            "a file added",
            after(&|f| drop(f.insert("floor/floor.rego".into(), text("package floor\n")))),
            "unsigned",
        ),
        ("a file removed", after(&|f| drop(f.remove("standard/verdict.rego"))), "missing_file"),
        (
            "a file renamed",
            after(&|f| {
                let bytes = f.remove("standard/verdict.rego").unwrap();
                f.insert("strict/verdict.rego".into(), bytes);
            }),
            "unsigned",
        ),
        (
            "contents swapped",
            after(&|f| {
                let a = f[DATA].clone();
                let b = f.insert("base/data.yaml".into(), a).unwrap();
                f.insert(DATA.into(), b);
            }),
            "digest_mismatch",
        ),
        ("the signature removed", after(&|f| drop(f.remove(SIGNATURES))), "unsigned"),
        ("no signature in the list", pack(&Draft::new().files_signed_by(&[])), "bad_signature"),
        (
            "a second signature",
            pack(&Draft::new().files_signed_by(&[token.clone(), token.clone()])),
            "bad_signature",
        ),
        ("another key", with(&|d| d.seed = 2), "bad_signature"),
        ("no algorithm", with(&|d| d.head = r#"{"alg":"none"}"#.into()), "bad_signature"),
        (
            "a shared secret's algorithm",
            with(&|d| d.head = r#"{"alg":"HS256"}"#.into()),
            "bad_signature",
        ),
        (
            "a critical head",
            with(&|d| d.head = r#"{"alg":"EdDSA","crit":["b64"],"b64":false}"#.into()),
            "bad_signature",
        ),
        (
            "another statement under the signature",
            pack(&Draft::new().files_signed_by(&[swapped])),
            "bad_signature",
        ),
        ("a scope", with(&|d| d.statement["scope"] = json!("write")), "bad_signature"),
        (
            "a weak digest",
            with(&|d| d.statement["files"][0]["algorithm"] = json!("MD5")),
            "bad_signature",
        ),
        (
            "a name signed twice",
            with(&|d| d.statement["files"].as_array_mut().unwrap().push(again("data.json"))),
            "bad_signature",
        ),
        ("a bit of the packed bytes", flipped, "not_an_archive"),
        ("an end cut off", whole[..whole.len() - 9].to_vec(), "not_an_archive"),
        ("a tail", [whole.as_slice(), b"tail"].concat(), "not_an_archive"),
        ("nothing", Vec::new(), "not_an_archive"),
    ];
    assert!(read(&whole).is_ok());
    for (what, bytes, code) in cases {
        assert_eq!(read(&bytes).map(drop), Err(code), "{what}");
    }
}

#[test]
fn names_that_lead_elsewhere_links_and_doubles_are_refused_signed_or_not() {
    let one = |name: &str| packed(&plain([(name, &b"x"[..])]));
    let code = |bytes: &[u8]| Archive::read(bytes, None).map(drop).map_err(|refused| refused.code);
    for bad in [
        "../x.rego",
        "a/../../x.rego",
        "a/./x.rego",
        "//etc/x.rego",
        "a//x.rego",
        "a/",
        "..",
        "a\\x.rego",
        "a\nb.rego",
        "1/2/3/4/5/6/7/8/9/x.rego",
    ] {
        assert_eq!(code(&one(bad)), Err("bad_name"), "{bad:?}");
    }
    assert_eq!(code(&one("./a/x.rego")), Ok(()));
    assert_eq!(code(&packed(&plain([("a", &b"x"[..]), ("./a", b"y")]))), Err("duplicate_file"));
    let data = [("data.json", &br#"{"a": {}}"#[..]), ("a/data.yaml", b"{}")];
    assert_eq!(code(&packed(&plain(data))), Err("duplicate_file"));
    for kind in [tar::EntryType::Symlink, tar::EntryType::Link, tar::EntryType::Fifo] {
        let mut archive = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(0);
        archive.append_link(&mut header, "a.rego", "/etc/passwd").unwrap();
        assert_eq!(code(&packed(&archive.into_inner().unwrap())), Err("no_file"), "{kind:?}");
    }
}

#[test]
fn a_bundle_that_is_too_large_anywhere_is_refused() {
    let code = |bytes: &[u8]| Archive::read(bytes, None).map(drop).map_err(|refused| refused.code);
    assert_eq!(code(&vec![0; PACKED_BYTES_MAX + 1]), Err("too_large"));
    // 64 MiB of nothing in 64 KiB.
    assert_eq!(code(&packed(&vec![0; (64 << 20) + 1])), Err("too_large"));
    let large = vec![b'#'; (1 << 20) + 1];
    assert_eq!(code(&packed(&plain([("a.rego", large.as_slice())]))), Err("too_large"));
    let names: Vec<String> = (0..20_001).map(|n| format!("{n}.rego")).collect();
    let many = plain(names.iter().map(|name| (name.as_str(), &b""[..])));
    assert_eq!(code(&packed(&many)), Err("too_many_files"));
}
