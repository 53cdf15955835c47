//! What a mapping reads of a reply, and what it refuses to overlook.

use super::protocols::{BEDROCK, LAKERA, MODERATION, fms, play};
use super::*;

/// Findings, or the detail of the bad response.
async fn told(response: &str, reply: Value) -> Result<Vec<String>, String> {
    let lines = format!(
        "protocol: http\nendpoint: SERVER\ncategories: [injection, hate]\n\
         request: {{t: '{{{{content}}}}'}}\nresponse: {response}\n"
    );
    let played =
        play(&lines, &sample(&["some text"]), &json!({"status": 200, "body": reply})).await;
    if played.report.status == Status::Success {
        return Ok(played.findings());
    }
    assert_eq!(played.report.error, Some(ReportError::BadResponse));
    Err(played.report.detail.unwrap().to_string())
}

async fn check(response: &str, reply: Value, expected: Result<&[&str], &str>) {
    let found = told(response, reply.clone()).await;
    let found = found.as_ref().map(|all| all.iter().map(String::as_str).collect::<Vec<_>>());
    let expected = expected.map(<[&str]>::to_vec);
    assert_eq!(found.map_err(String::as_str), expected, "{response} {reply}");
}

#[tokio::test]
async fn a_path_that_finds_nothing_breaks_the_reply_unless_it_may_be_absent() {
    let hit = json!({"hits": [{"k": "BAD"}]});
    for key in ["when", "flag", "category", "severity", "start", "end", "score", "message"] {
        let response = |path: &str| format!("{{items: hits, label: k, {key}: '{path}'}}");
        let expected = told(&response("zz"), hit.clone()).await.unwrap_err();
        assert!(expected.ends_with("at `zz`"), "{key}: {expected}");
        let expected: &[&str] = if key == "when" { &[] } else { &["injection BAD 1"] };
        check(&response("zz?"), hit.clone(), Ok(expected)).await;
    }
    check("{items: 'hits?', label: k}", json!({}), Ok(&[])).await;
    check("{items: 'hits?', label: k}", json!({"hits": null}), Ok(&[])).await;
    let null = json!({"hits": null});
    check("{items: hits, label: k, ok_when_empty: true}", null.clone(), Ok(&[])).await;
    check("{items: hits, label: k}", null, Err("the reply has nothing at `hits`")).await;
}

#[tokio::test]
async fn words_for_no_are_no_truth() {
    for no in ["false", "False", "0", "no", ""] {
        let hit = json!({"bad": no});
        check("{when: bad, label: =x}", hit.clone(), Ok(&[])).await;
        check("{when: '!bad', label: =x}", hit.clone(), Ok(&["injection x 1"])).await;
        check("{label: =x, score: bad, score_transform: bool}", hit, Ok(&[])).await;
    }
    check("{when: bad, label: =x}", json!({"bad": "yes"}), Ok(&["injection x 1"])).await;
}

#[tokio::test]
async fn numbers_are_read_as_services_write_them() {
    let reply = |s: Value| json!({"l": "x", "s": s});
    let percent = "{label: l, score: s, score_transform: percent}";
    check(percent, reply(json!(90)), Ok(&["injection x 0.9"])).await;
    check("{label: l, score: s}", reply(json!("0.75")), Ok(&["injection x 0.75"])).await;
    let odd = Err("the score at `s` is out of range");
    check("{label: l, score: s}", reply(json!(90)), odd).await;
    let places = json!({"l": "x", "a": 5.0, "b": "9"});
    check("{label: l, start: a, end: b}", places, Ok(&["injection x 1 5..9"])).await;
    let half = json!({"l": "x", "a": 5.5, "b": 9});
    check("{label: l, start: a, end: b}", half, Err("the reply has no position at `a`")).await;
    for (raw, name) in [(json!(2), "low"), (json!("4"), "medium"), (json!(6.0), "high")] {
        let lines = "protocol: http\nendpoint: SERVER\ncategories: [hate]\n\
            request: {t: '{{content}}'}\nresponse: {label: l, severity: s}\n";
        let reply = json!({"status": 200, "body": reply(raw)});
        let played = play(lines, &sample(&["x"]), &reply).await;
        assert_eq!(played.report.findings[0].severity.name(), name);
    }
    let wrong = Err("`s` holds no known severity");
    check("{label: l, severity: s}", reply(json!(8)), wrong).await;
}

#[tokio::test]
async fn an_error_beside_an_empty_list_is_no_clean_answer() {
    let quota = json!({"error": "quota", "hits": []});
    let error = Err("the reply speaks of an error at `error`");
    check("{items: hits, label: k}", quota.clone(), error).await;
    check("{items: hits, label: k, error_when: []}", quota, Ok(&[])).await;
    check("{items: hits, label: k}", json!({"error": null, "hits": []}), Ok(&[])).await;
}

#[tokio::test]
async fn what_is_flagged_without_a_name_is_the_files_first_category() {
    let flagged = json!({"bad": true, "hits": []});
    check("{items: hits, label: k, flag: bad}", flagged, Ok(&["injection flagged 1"])).await;
    let clean = json!({"bad": "false", "hits": []});
    check("{items: hits, label: k, flag: bad}", clean, Ok(&[])).await;
    let denied = json!({"bad": true, "hits": [{"k": "safe"}]});
    check("{items: hits, label: k, flag: bad}", denied, Ok(&["injection flagged 1"])).await;
    let foreign =
        json!({"hits": [{"k": "NEW", "c": "pii.email"}, {"k": "B", "c": "hate.identity"}]});
    let found = Ok(&["injection NEW 1", "hate.identity B 1"][..]);
    check("{items: hits, label: k, category: c}", foreign, found).await;

    let one = sample(&["x"]);
    let says = |body: Value| json!({"status": 200, "body": body});
    let empty = json!({"flagged": true, "categories": {}, "category_scores": {}});
    let low =
        json!({"flagged": true, "categories": {"hate": false}, "category_scores": {"hate": 0.1}});
    let bare = json!({"action": "GUARDRAIL_INTERVENED", "assessments": []});
    let relevance = json!([[{"start": 0, "end": 1, "text": "x", "detection": "relevance",
        "detection_type": "risk", "score": 0.9}]]);
    for (lines, body, expected) in [
        (MODERATION, json!({"results": [empty]}), "toxicity flagged 1"),
        (MODERATION, json!({"results": [low]}), "toxicity flagged 1"),
        (LAKERA, json!({"flagged": true}), "injection flagged 1"),
        (BEDROCK, bare, "topic intervened 1"),
        (&*fms(""), relevance, "injection relevance 0.9 0..1"),
    ] {
        let found = play(lines, &one, &says(body)).await.findings();
        assert_eq!(found.last().map(String::as_str), Some(expected), "{lines}");
    }
}

#[tokio::test]
async fn the_example_in_the_manual_does_what_the_manual_says() {
    let page = include_str!("../../../docs/protocols/http.md");
    let block =
        |start: &'static str| page.split(start).map(|rest| rest.split("```").next().unwrap());
    let yaml = block("```yaml\n").nth(1).unwrap();
    let json: Vec<Value> =
        block("```json\n").skip(1).map(|text| serde_json::from_str(text).unwrap()).collect();
    let lines = yaml.replace("name: vendor\n", "").replace("https://vendor.example", "SERVER");
    let text = sample(&[json[0]["text"].as_str().unwrap()]);
    let played = play(&lines, &text, &json!({"status": 200, "body": json[1]})).await;
    assert_eq!(played.sent[0].2, json[0]);
    assert_eq!(played.findings(), ["toxicity.profanity BAD_WORD 0.93 2..6"]);
    let list = format!(
        "protocol: http\nendpoint: SERVER\ncategories: [hate]\n{}",
        block("```yaml\n").nth(3).unwrap()
    );
    let two = sample(&["darn", "fine"]);
    let played = play(&list, &two, &json!({"status": 200, "body": json[2]})).await;
    assert_eq!(played.sent[0].2, json!({"texts": ["darn", "fine"]}));
    assert_eq!((played.sent.len(), played.findings()), (1, vec!["hate BAD_WORD 1".to_owned()]));
}
