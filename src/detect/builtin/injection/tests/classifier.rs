//! Classifiers of others: what is refused, and what a tiny one finds.

use serde_json::{Value, json};

use crate::catalog::detector::Builtin::PromptInjection;
use crate::detect::builtin::{ParamFault, load, prepare};

fn refused(params: Value) -> ParamFault {
    load(PromptInjection, &params).expect_err("a fault")
}

#[test]
fn parameters_that_name_no_whole_classifier_are_refused() {
    let rows = [
        (json!({"tokenizer": "t"}), "/model", "missing"),
        (json!({"model": "m"}), "/tokenizer", "missing"),
        (json!({"model": "m", "tokenizer": "t", "window": 8}), "/window", "16 to 2048"),
        (json!({"model": "m", "tokenizer": "t", "windows": 0}), "/windows", "1 to 4096"),
        (json!({"model": "m", "tokenizer": "t", "sha256": "ab"}), "/sha256", "64 hex"),
        (json!({"model": null, "tokenizer": "t"}), "/model", "missing"),
    ];
    for (params, pointer, part) in rows {
        let fault = refused(params);
        assert_eq!(fault.pointer, pointer);
        assert!(fault.message.contains(part), "{fault}");
    }
}

#[cfg(not(feature = "ml"))]
#[test]
fn a_binary_without_the_feature_says_how_to_build_it() {
    let fault = refused(json!({"model": "m.onnx", "tokenizer": "t.json"}));
    assert_eq!(fault.pointer, "/model");
    assert!(fault.hint.contains("--features ml"), "{}", fault.hint);
}

#[test]
fn parameters_of_a_request_open_no_file() {
    let params = json!({"model": "/etc/passwd", "tokenizer": "/etc/passwd"});
    let fault = prepare(PromptInjection, &params).err().expect("a fault");
    assert_eq!((&*fault.pointer, &*fault.message), ("/model", "is not loaded"));
}

#[cfg(feature = "ml")]
mod run {
    use std::cell::Cell;

    use super::super::super::classifier::{Fault, Files};
    use super::super::super::onnx;
    use super::*;
    use crate::detect::Judged;
    use crate::domain::report::ReportError;

    /// What of a tiny model is wrong, if anything.
    #[derive(Clone, Copy, PartialEq)]
    enum Flaw {
        None,
        /// Its input has another name.
        Input,
        /// It gives logits for each token.
        EachToken,
        /// Its weights are infinite.
        NotFinite,
    }

    /// The message of protocol buffers with these fields.
    struct Message(Vec<u8>);

    impl Message {
        fn new() -> Self {
            Self(Vec::new())
        }

        fn number(mut self, mut value: u64) -> Self {
            while value > 127 {
                self.0.push((value & 127) as u8 | 128);
                value >>= 7;
            }
            self.0.push(value as u8);
            self
        }

        fn varint(self, field: u64, value: u64) -> Self {
            self.number(field << 3).number(value)
        }

        fn bytes(self, field: u64, bytes: &[u8]) -> Self {
            let mut message = self.number(field << 3 | 2).number(bytes.len() as u64);
            message.0.extend(bytes);
            message
        }
    }

    fn value(name: &str, of: u64, dims: &[u64]) -> Message {
        let shape = dims
            .iter()
            .fold(Message::new(), |shape, dim| shape.bytes(1, &Message::new().varint(1, *dim).0));
        let tensor = Message::new().varint(1, of).bytes(2, &shape.0);
        let of = Message::new().bytes(1, &tensor.0);
        Message::new().bytes(1, name.as_bytes()).bytes(2, &of.0)
    }

    fn tensor(name: &str, of: u64, dims: &[u64], data: &[u8]) -> Message {
        let dims = dims.iter().fold(Message::new(), |tensor, dim| tensor.varint(1, *dim));
        dims.varint(2, of).bytes(8, name.as_bytes()).bytes(9, data)
    }

    fn node(op: &str, inputs: &[&str], output: &str, attributes: &[(&str, u64)]) -> Message {
        let node = inputs.iter().fold(Message::new(), |node, i| node.bytes(1, i.as_bytes()));
        let node = node.bytes(2, output.as_bytes()).bytes(3, output.as_bytes());
        attributes.iter().fold(node.bytes(4, op.as_bytes()), |node, (name, value)| {
            let ints = *name == "axes";
            let attribute = Message::new().bytes(1, name.as_bytes());
            let attribute = attribute.varint(if ints { 8 } else { 3 }, *value);
            node.bytes(5, &attribute.varint(20, if ints { 7 } else { 2 }).0)
        })
    }

    /// A model that finds token 2: logits [0, 4] where the window has it, else [0, -4].
    fn model(flaw: Flaw) -> Vec<u8> {
        const FLOAT: u64 = 1;
        const INT64: u64 = 7;
        let weights: [f32; 8] = [0.0, -4.0, 0.0, -4.0, 0.0, 4.0, 0.0, -4.0];
        let added = if flaw == Flaw::NotFinite { f32::INFINITY } else { 0.0 };
        let weights: Vec<u8> = weights.iter().flat_map(|w| (w + added).to_le_bytes()).collect();
        let input = if flaw == Flaw::Input { "pixels" } else { "input_ids" };
        let each = flaw == Flaw::EachToken;
        let found = if each { "logits" } else { "found" };
        let mut graph = Message::new()
            .bytes(1, &node("Gather", &["weights", input], found, &[("axis", 0)]).0)
            .bytes(2, b"tiny")
            .bytes(5, &tensor("weights", FLOAT, &[4, 2], &weights).0)
            .bytes(11, &value(input, INT64, &[1, 16]).0);
        if !each {
            let most = [("axes", 1), ("keepdims", 0)];
            graph = graph.bytes(1, &node("ReduceMax", &["found"], "logits", &most).0);
        }
        let dims: &[u64] = if each { &[1, 16, 2] } else { &[1, 2] };
        let graph = graph.bytes(12, &value("logits", FLOAT, dims).0);
        let opset = Message::new().bytes(1, b"").varint(2, 11);
        Message::new().varint(1, 6).bytes(7, &graph.0).bytes(8, &opset.0).0
    }

    const TOKENIZER: &str = r#"{"version": "1.0", "added_tokens": [],
        "normalizer": {"type": "Lowercase"}, "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": null, "decoder": null, "truncation": null, "padding": null,
        "model": {"type": "WordLevel", "unk_token": "[UNK]",
            "vocab": {"[UNK]": 0, "[PAD]": 1, "attack": 2, "hello": 3}}}"#;

    /// The same with a token before and one behind each window, as of BERT.
    fn framed() -> String {
        TOKENIZER.replace(
            r#""post_processor": null"#,
            r#""post_processor": {"type": "TemplateProcessing", "pair": [],
                "single": [{"SpecialToken": {"id": "[UNK]", "type_id": 0}},
                    {"Sequence": {"id": "A", "type_id": 0}},
                    {"SpecialToken": {"id": "[PAD]", "type_id": 0}}],
                "special_tokens": {
                    "[UNK]": {"id": "[UNK]", "ids": [0], "tokens": ["[UNK]"]},
                    "[PAD]": {"id": "[PAD]", "ids": [1], "tokens": ["[PAD]"]}}}"#,
        )
    }

    struct Given {
        folder: tempfile::TempDir,
    }

    impl Given {
        fn new(model: &[u8], tokenizer: &str) -> Self {
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join("model.onnx"), model).unwrap();
            std::fs::write(folder.path().join("tokenizer.json"), tokenizer).unwrap();
            Self { folder }
        }

        fn params(&self, more: Value) -> Value {
            let path = |name| self.folder.path().join(name);
            let mut params = json!({"model": path("model.onnx"), "tokenizer":
                path("tokenizer.json"), "window": 16});
            params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            params
        }

        fn files(&self) -> Files {
            let path = |name| self.folder.path().join(name).to_str().unwrap().to_owned();
            let (model, tokenizer) = (path("model.onnx"), path("tokenizer.json"));
            Files { model, tokenizer, sha256: None, window: 16, windows: 4 }
        }

        fn fault(&self) -> Fault {
            onnx::load(&self.files()).err().expect("a fault")
        }
    }

    fn judged(text: &str, more: Value) -> Judged {
        judged_with(TOKENIZER, text, more)
    }

    fn judged_with(tokenizer: &str, text: &str, more: Value) -> Judged {
        let given = Given::new(&model(Flaw::None), tokenizer);
        let params = given.params(more);
        load(PromptInjection, &params).unwrap_or_else(|fault| panic!("{fault}"));
        prepare(PromptInjection, &params).unwrap().judge(text)
    }

    fn span(judged: &Judged) -> (usize, usize) {
        let span = judged.findings[0].place.unwrap().span.unwrap();
        (span.start, span.end)
    }

    #[test]
    fn the_window_with_the_attack_is_found_with_its_probability() {
        let found = judged("é hello ATTACK hello", json!({}));
        let [finding] = &*found.findings else { panic!("{found:?}") };
        assert_eq!((finding.category.as_str(), span(&found)), ("injection.prompt", (0, 20)));
        assert!((finding.score - 1.0 / (1.0 + f64::exp(-4.0))).abs() < 1e-6);
        assert!(found.gaps.is_empty());
        let clean = judged("hello hello", json!({}));
        assert!(clean.findings.is_empty() && clean.gaps.is_empty());
        assert_eq!(judged("hello", json!({"min_score": 0.0})).findings[0].score.round(), 0.0);
        assert_eq!(judged("", json!({})), Judged::default());
    }

    #[test]
    fn in_a_long_text_only_the_windows_around_the_attack_are_found() {
        let text = format!("{}attack{}", "hello ".repeat(40), " hello".repeat(40));
        let found = judged(&text, json!({}));
        let (start, end) = span(&found);
        assert!(start <= 240 && 246 <= end && end - start <= 16 * 6, "{start}..{end}");
        // An attack across the border of two windows stands whole in one of them.
        for before in 0..40 {
            let text = format!("{}attack{}", "hello ".repeat(before), " hello".repeat(40));
            assert!(!judged(&text, json!({})).findings.is_empty(), "{before}");
        }
    }

    #[test]
    fn the_tokens_around_a_window_are_no_place_in_the_text() {
        let text = format!("{}attack{}", "hello ".repeat(40), " hello".repeat(40));
        let found = judged_with(&framed(), &text, json!({}));
        let (start, end) = span(&found);
        assert!(start <= 240 && 246 <= end && end - start <= 14 * 6, "{start}..{end}");
        assert!(judged_with(&framed(), "hello", json!({})).findings.is_empty());
    }

    #[test]
    fn a_detector_file_whose_model_is_missing_is_refused_where_it_names_it() {
        use crate::catalog::{Catalog, LoadContext, SourceFile};
        use crate::outbound::{Env, Guard};
        use crate::yaml::fault::FaultKind;

        let given = Given::new(&model(Flaw::None), TOKENIZER);
        let catalog = |name: &str| {
            let folder = given.folder.path().display();
            let text = format!(
                "name: prompt-injection\nprotocol: builtin\ncategories: [injection]\nparams:\n  \
                 model: {folder}/{name}\n  tokenizer: {folder}/tokenizer.json\n  window: 16\n"
            );
            let (kind, path) = (FaultKind::Detector, "prompt-injection.yaml".to_owned());
            let context = LoadContext {
                env: crate::settings::Env::Development,
                secret: &|_| None,
                guard: &Guard::new(Env::Development, vec![]),
                check_params: &crate::detect::builtin::check,
                tiers: &crate::settings::Settings::default().tiers,
            };
            Catalog::load(&[SourceFile { kind, path, bytes: text.as_bytes().into() }], &context)
        };
        let faults = catalog("gone.onnx").unwrap_err();
        let [fault] = &*faults else { panic!("{faults:?}") };
        assert_eq!((fault.code, fault.line, fault.column), ("bad_params", 5, 10));
        assert!(fault.message.contains("cannot be read"), "{}", fault.message);
        assert!(catalog("model.onnx").is_ok());
    }

    #[test]
    fn what_stands_behind_the_last_window_is_named_and_not_judged() {
        let text = format!("{}é attack", "hello ".repeat(28));
        let found = judged(&text, json!({"windows": 2}));
        let [gap] = &*found.gaps else { panic!("{found:?}") };
        let span = gap.span.unwrap();
        assert_eq!((span.end, gap.reason), (text.chars().count(), ReportError::TooLong));
        assert_eq!((span.start, gap.chars), (28 * 6 - 1, 9));
        assert!(found.findings.is_empty());
        let whole = judged(&text, json!({"windows": 3}));
        assert!(whole.gaps.is_empty() && !whole.findings.is_empty());
    }

    #[test]
    fn a_huge_text_is_cut_before_it_becomes_tokens() {
        let text = "é".repeat(1 << 20);
        let found = judged(&text, json!({"windows": 2}));
        let [gap] = &*found.gaps else { panic!("{:?}", found.gaps) };
        assert_eq!(gap.span.unwrap().end, 1 << 20);
        assert!(gap.chars > (1 << 20) - 1000, "{}", gap.chars);
    }

    #[test]
    fn nothing_more_is_judged_once_nobody_waits() {
        let given = Given::new(&model(Flaw::None), TOKENIZER);
        let params = given.params(json!({}));
        load(PromptInjection, &params).unwrap();
        let prepared = prepare(PromptInjection, &params).unwrap();
        let asked = Cell::new(0);
        let wanted = || {
            asked.set(asked.get() + 1);
            asked.get() <= 2
        };
        crate::detect::Judge::judge_while(&prepared, &"hello ".repeat(200), &wanted);
        assert_eq!(asked.get(), 3);
        assert!(!crate::detect::Judge::is_quick(&prepared));
    }

    #[test]
    fn a_model_that_cannot_serve_is_refused_with_what_is_wrong() {
        let rows = [
            (model(Flaw::Input), TOKENIZER, "model", "the input `pixels`"),
            (model(Flaw::EachToken), TOKENIZER, "model", "instead of [1, classes]"),
            (model(Flaw::NotFinite), TOKENIZER, "model", "not finite"),
            (b"not protobuf".to_vec(), TOKENIZER, "model", "no ONNX model"),
            (Vec::new(), TOKENIZER, "model", ""),
            (model(Flaw::None), "{}", "tokenizer", "no tokenizer.json"),
            (model(Flaw::None), "", "tokenizer", "no tokenizer.json"),
        ];
        for (model, tokenizer, key, part) in rows {
            let fault = Given::new(&model, tokenizer).fault();
            assert_eq!(fault.key, key, "{}", fault.message);
            assert!(fault.message.contains(part), "{}", fault.message);
        }
    }

    #[test]
    fn a_missing_file_and_a_folder_are_refused_by_their_parameter() {
        let given = Given::new(&model(Flaw::None), TOKENIZER);
        let path = given.folder.path().to_str().unwrap().to_owned();
        let gone = Files { model: format!("{path}/gone"), ..given.files() };
        let fault = onnx::load(&gone).err().unwrap();
        assert!(fault.key == "model" && fault.message.contains("cannot be read"));
        let fault = onnx::load(&Files { tokenizer: path, ..given.files() }).err().unwrap();
        assert_eq!((fault.key, &*fault.message), ("tokenizer", "is no file"));
    }

    #[test]
    fn the_pin_holds_for_both_files_together() {
        use sha2::Digest as _;
        let given = Given::new(&model(Flaw::None), TOKENIZER);
        let both = [&*model(Flaw::None), TOKENIZER.as_bytes()].concat();
        let pin = hex::encode(sha2::Sha256::digest(both));
        assert!(load(PromptInjection, &given.params(json!({"sha256": pin}))).is_ok());
        let other = given.params(json!({"sha256": pin.replace(&pin[..1], "x")}));
        assert_eq!(refused(other).message, "is not 64 hexadecimal digits");
        let fault = refused(given.params(json!({"sha256": "0".repeat(64)})));
        assert!(fault.pointer == "/sha256" && fault.message.contains(&pin), "{fault}");
    }

    #[test]
    fn the_trained_network_gives_the_scores_that_its_trainer_wrote() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/quality/network");
        let params = json!({"model": format!("{folder}/model.onnx"), "min_score": 0.0,
            "tokenizer": format!("{folder}/tokenizer.json"), "windows": 1000});
        load(PromptInjection, &params).unwrap_or_else(|fault| panic!("{fault}"));
        let network = prepare(PromptInjection, &params).unwrap();
        let checks = std::fs::read_to_string(format!("{folder}/checks.json")).unwrap();
        let checks: Vec<(String, f64)> = serde_json::from_str(&checks).unwrap();
        assert!(checks.len() >= 16);
        for (text, score) in checks {
            let found = network.judge(&text).findings;
            let most = found.iter().map(|finding| finding.score).fold(0.0, f64::max);
            assert!((most - score).abs() < 1e-4, "{text}: {most} instead of {score}");
        }
    }
}
