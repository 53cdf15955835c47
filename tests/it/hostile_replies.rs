//! A detector that wants to be more than a detector: its words stay labels.

use serde_json::{Value, json};
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

use crate::app::{client, write};
use crate::binary::{Served, command, text};

const CANARY: &str =
    "cANaRY\r\nX-Evil: 1\u{0}\u{1b}[31m\u{202e}\"}],\"action\":\"allow\",{{content}}<script>";

/// A reply in which the word stands in another place each time.
fn reply(round: usize, word: &str) -> Value {
    let finding = |more: Value| {
        let mut finding = json!({"label": word, "score": 0.9, "start": 0, "end": 3});
        finding.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"label": word, "score": 0.9, "findings": [finding]})
    };
    match round % 6 {
        0 => json!({"label": word, "score": 0.9}),
        1 => finding(json!({})),
        2 => finding(json!({"category": word})),
        3 => finding(json!({"severity": word})),
        4 => json!({"label": "toxic", "score": 0.9, "metadata": {word: word}, word: word}),
        _ => json!({"label": "toxic", "score": 0.9, "category": word}),
    }
}

/// Where the word stands in an answer: the keys on the way.
fn found(value: &Value, key: &str, into: &mut Vec<String>) {
    match value {
        Value::String(text) if text.contains("cANaRY") => into.push(key.to_owned()),
        Value::Array(items) => items.iter().for_each(|item| found(item, key, into)),
        Value::Object(map) => {
            for (name, value) in map {
                assert!(!name.contains("cANaRY"), "a key of the answer: {name}");
                found(value, name, into);
            }
        }
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[tokio::test]
async fn the_words_of_a_reply_stand_in_labels_and_nowhere_else() {
    let server = MockServer::start().await;
    let respond = |request: &Request| {
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        let round = body["content"].as_str().unwrap().len();
        let word = CANARY.repeat(1 + round % 9 * 40);
        ResponseTemplate::new(200)
            .insert_header("x-evil", "cANaRY")
            .set_body_json(reply(round, &word))
    };
    Mock::given(wiremock::matchers::method("POST")).respond_with(respond).mount(&server).await;
    let dir = tempfile::tempdir().unwrap();
    write(
        dir.path(),
        "detectors/evil.yaml",
        &format!(
            "name: evil\nprotocol: native\nendpoint: {}/analyze\ncategories: [toxicity]\n",
            server.uri()
        ),
    );
    let mut start = command(dir.path());
    start.args(["serve", "--listen", "127.0.0.1:0"]).env("ORCHESTRATION_LOG_LEVEL", "debug");
    let served = Served::start(start);
    let mut places = Vec::new();
    for round in 3..63 {
        let ask = json!({"content": "x".repeat(round), "detectors": {"add": ["evil"]},
            "include": ["all"]});
        let request = hyper::Request::post(format!("http://{}/api/v1/orchestrate", served.address))
            .header("content-type", "application/json")
            .body(http_body_util::Full::<hyper::body::Bytes>::from(ask.to_string()))
            .unwrap();
        let (head, body) = read(request).await;
        assert!(!head.contains("cANaRY") && !head.contains("evil"), "{head}");
        let answer: Value = serde_json::from_str(&body).unwrap();
        found(&answer, "", &mut places);
        let allowed = answer["allowed"].as_bool().unwrap();
        assert!(!allowed, "{answer:#}");
    }
    places.sort();
    places.dedup();
    assert_eq!(places, ["label"]);
    let metrics = hyper::Request::get(format!("http://{}/metrics", served.address));
    let (_, metrics) = read(metrics.body(Default::default()).unwrap()).await;
    let (_, out, error) = served.stop();
    assert!(out.contains("\"decision\""), "{out}");
    for told in [&metrics, &out, &error] {
        assert!(!told.contains("cANaRY") && !told.contains("Evil"), "{told}");
    }
    for entry in std::fs::read_dir(dir.path().join("data")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            continue; // Keys.
        }
        // Records hold labels, which detectors vote with, as answers do.
        let text = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
        for (at, _) in text.match_indices("cANaRY") {
            let before: String = text[..at].chars().rev().take(160).collect();
            let before: String = before.chars().rev().collect();
            let field = ["\"label\":\"", "\"normalized\":{", "\"winner\":\""];
            assert!(
                field.iter().any(|field| before.contains(field)),
                "{}: {before}",
                path.display()
            );
        }
    }
}

async fn read(
    request: hyper::Request<http_body_util::Full<hyper::body::Bytes>>,
) -> (String, String) {
    use http_body_util::BodyExt as _;
    let response = client().request(request).await.unwrap();
    let head = format!("{:?}", response.headers());
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (head, text(&bytes))
}
