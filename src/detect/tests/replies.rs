//! What is asked in each protocol, and what its replies come to mean.

use super::*;

#[tokio::test]
async fn native_findings_carry_their_piece_and_code_points() {
    let mut tasks = JoinSet::new();
    let body = r#"{"label":"toxic","score":0.9,"findings":[{"label":"toxic","score":0.8,"start":1,"end":2,"severity":"high"}]}"#;
    let (uri, _) = hostile(&mut tasks, ok(body), Then::Close).await;
    let report = one(&detectors(), detector("a", Protocol::Native, &uri), &["a😀", "b😀c"]).await;
    assert_eq!(report.label.as_deref(), Some("toxic"));
    let places: Vec<_> = report.findings.iter().map(|f| f.place.unwrap()).collect();
    assert_eq!(places.iter().map(|p| p.piece).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(places[1].span.map(|s| (s.start, s.end)), Some((1, 2)));
    assert_eq!(report.findings[0].category.as_str(), "toxicity");
    assert_eq!(report.findings[0].severity.name(), "high");
    let (uri, _) = hostile(&mut tasks, ok(CLEAN), Then::Close).await;
    let report = one(&detectors(), detector("a", Protocol::Native, &uri), &["x"]).await;
    assert_eq!((report.label.as_deref(), report.findings.len()), (Some("clean"), 0));
}

#[tokio::test]
async fn a_surer_clean_piece_does_not_hide_the_word_of_a_guilty_one() {
    let server = wiremock::MockServer::start().await;
    for (content, label, score) in [("fine", "clean", 0.99), ("foul", "toxic", 0.6)] {
        let reply = json!({"label": label, "score": score});
        wiremock::Mock::given(wiremock::matchers::body_partial_json(json!({"content": content})))
            .respond_with(wiremock::ResponseTemplate::new(200).set_body_json(reply))
            .mount(&server)
            .await;
    }
    let native = detector("a", Protocol::Native, &server.uri());
    let report = one(&detectors(), native, &["fine", "foul", "lost"]).await;
    assert_eq!((report.label.as_deref(), report.score), (Some("toxic"), Some(0.6)));
    assert_eq!((report.status, report.attempts), (Status::Success, 3));
    assert_eq!((report.gaps.len(), report.gaps[0].piece), (1, 2));
    assert_eq!(report.gaps[0].reason, ReportError::Rejected);
}

#[tokio::test]
async fn fms_asks_once_for_all_texts_and_skips_what_has_none() {
    let mut tasks = JoinSet::new();
    let body = r#"[[],[{"start":0,"end":1,"text":"b","detection":"Odd","detection_type":"pii","score":1,"evidences":[]}]]"#;
    let (uri, count) = hostile(&mut tasks, ok(body), Then::Close).await;
    let fms = |uri: &str| loaded(&format!("protocol: fms\nendpoint: {uri}\ncategories: [pii]\n"));
    let mut sample = sample(&["a", "b", "c"]);
    let image = &mut sample.pieces[1];
    (image.text, image.content_type) = (None, ContentType::Image);
    let work = sample.work();
    let detectors = detectors();
    let asks = [ask(fms(&uri))];
    let report = detectors.fan_out(&asks, &work, soon()).await.remove(0);
    assert_eq!(report.status, Status::Success, "{report:?}");
    assert_eq!(report.findings[0].place.unwrap().piece, 2);
    assert_eq!(report.findings[0].category.as_str(), "pii");
    assert_eq!((report.gaps.len(), report.gaps[0].piece), (1, 1));
    assert_eq!(count.load(Ordering::SeqCst), 1);
    let (uri, _) = hostile(&mut tasks, ok(r#"{"error":{"code":500}}"#), Then::Close).await;
    let report = one(&detectors, fms(&uri), &["x"]).await;
    assert_eq!(report.error, Some(ReportError::BadResponse));
}

#[tokio::test]
async fn a_mapping_speaks_to_any_json_service() {
    let server = wiremock::MockServer::start().await;
    let content = "say {{tenant}} \"é😀\"";
    let sent = json!({"q": content, "all": [content], "who": "t=acme", "lang": null, "n": 1,
        "k": 5, "d": "none"});
    let reply = json!({"r": {"hits": [
        {"kind": "rude", "safe": 0.25, "from": 18, "to": 22}, {"kind": "ok", "safe": 0.5},
    ]}});
    wiremock::Mock::given(wiremock::matchers::body_json(sent))
        .and(wiremock::matchers::header("x-extra", "1"))
        .and(wiremock::matchers::header("traceparent", TRACE))
        .respond_with(wiremock::ResponseTemplate::new(200).set_body_json(reply))
        .mount(&server)
        .await;
    let http = loaded(&format!(
        r#"protocol: http
endpoint: {}
categories: [toxicity]
params: {{k: 5}}
headers: {{x-extra: "1"}}
request: {{q: "{{{{content}}}}", all: "{{{{contents}}}}", who: "t={{{{tenant}}}}",
  lang: "{{{{language}}}}", n: 1, k: "{{{{params.k}}}}", gone: "{{{{params.x?}}}}", d: "{{{{prompt|none}}}}"}}
response: {{items: r.hits, label: kind, score: safe, start: from?, end: to?, offset_unit: byte,
  score_transform: invert, error_when: e}}
"#,
        server.uri()
    ));
    let report = one(&detectors(), http, &[content]).await;
    assert_eq!(report.status, Status::Success, "{report:?}");
    assert_eq!(report.findings.len(), 1);
    assert_eq!(report.findings[0].score, 0.75);
    let span = report.findings[0].place.unwrap().span.unwrap();
    assert_eq!((span.start, span.end), (17, 18));
}

#[test]
fn a_word_means_what_the_file_says_else_what_the_reply_says_else_the_first_category() {
    let two = Detector {
        categories: ["pii", "toxicity"].map(|c| Category::parse(c).unwrap()).into(),
        ..detector("d", Protocol::Native, "http://127.0.0.1:1/")
    };
    let one = detector("d", Protocol::Native, "http://127.0.0.1:1/");
    let mut told = one.clone();
    let severity = crate::domain::finding::Severity::Low;
    let polarity = crate::domain::finding::Polarity::Positive;
    let category = Category::parse("hate").ok();
    told.labels.insert("clean".into(), file::Label { category, polarity, severity });
    let fms = loaded("protocol: fms\nendpoint: http://127.0.0.1:1/\ncategories: [toxicity]\n");
    for (detector, word, own, expected) in [
        (&told, "clean", Some("pii"), Some("hate")),
        (&two, "clean", Some("pii.email"), Some("pii.email")),
        (&one, "clean", Some("pii.email"), None),
        (&one, "bad", Some("toxicity.insult"), Some("toxicity.insult")),
        (&one, "bad", Some("injection"), Some("toxicity")),
        (&one, "bad", Some("nonsense"), Some("toxicity")),
        (&one, "Clean", None, None),
        (&one, "no_pii", None, None),
        (&two, "bad", None, Some("toxicity")),
        (&two, "bad", Some("other.else"), Some("toxicity")),
        (&fms, "bad", None, Some("toxicity")),
        (&fms, "relevance", Some("risk"), Some("toxicity")),
    ] {
        let meaning = label::meaning(detector, word, own);
        assert_eq!(meaning.category.as_ref().map(Category::as_str), expected, "{word} {own:?}");
    }
    assert_eq!(&*label::clean("a\nb"), "a\\u{a}b");
    assert_eq!(label::clean(&"é\0".repeat(500)).chars().count(), 128);
}

#[test]
fn native_detectors_without_parameters_share_one_body() {
    let sample = sample(&["x"]);
    let work = sample.work();
    let texts = Texts::new(&work);
    let native = detector("a", Protocol::Native, "http://127.0.0.1:1/");
    let batch = texts.excerpts(0, &native);
    let (plain, set) = (json!({}), json!({"a": 1}));
    let first = protocol::body(&native, &plain, &texts, &batch);
    assert_eq!(first.as_ptr(), protocol::body(&native, &plain, &texts, &batch).as_ptr());
    let other: Value =
        serde_json::from_slice(&protocol::body(&native, &set, &texts, &batch)).unwrap();
    assert_eq!(other["params"], set);
    let sent: Value = serde_json::from_slice(&first).unwrap();
    let expected = json!({"content": "x", "content_type": "text", "metadata": {},
        "request_id": "r-1", "tenant_id": "acme"});
    assert_eq!(sent, expected);
}
