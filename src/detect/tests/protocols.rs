//! Each protocol against exchanges that its vendor documents: what is sent, what is read.

use super::*;
use crate::domain::content::{Message, Role};
use crate::domain::report::Status::{Failed, Success};

mod tensors;

/// One recorded or documented exchange.
pub(super) struct Fixture {
    pub(super) request: Value,
    pub(super) reply: Value,
}

pub(super) fn fixture(name: &str) -> Fixture {
    let path = format!("{}/tests/fixtures/replies/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    let mut value: Value = serde_json::from_str(&text).unwrap();
    Fixture { request: value["request"].take(), reply: value["reply"].take() }
}

/// What came of one detector before a server that answers with the fixture.
pub(super) struct Played {
    pub(super) report: Report,
    /// Path, headers and body of each request.
    pub(super) sent: Vec<(String, http::HeaderMap, Value)>,
}

impl Played {
    /// `category label score`, and `start..end` where there is a span.
    pub(super) fn findings(&self) -> Vec<String> {
        let text = |f: &crate::domain::finding::Finding| {
            let span = f.place.and_then(|place| place.span);
            let span = span.map(|s| format!(" {}..{}", s.start, s.end)).unwrap_or_default();
            format!("{} {} {}{span}", f.category, f.label, f.score)
        };
        self.report.findings.iter().filter(|f| f.score > 0.001).map(text).collect()
    }
}

pub(super) async fn play(lines: &str, sample: &Sample, reply: &Value) -> Played {
    let server = wiremock::MockServer::start().await;
    let status = u16::try_from(reply["status"].as_u64().unwrap()).unwrap();
    let template = wiremock::ResponseTemplate::new(status).set_body_json(&reply["body"]);
    wiremock::Mock::given(wiremock::matchers::any()).respond_with(template).mount(&server).await;
    let detector = loaded(&lines.replace("SERVER", &server.uri()));
    let report = detectors().fan_out(&[ask(detector)], &sample.work(), soon()).await.remove(0);
    let received = server.received_requests().await.unwrap();
    let sent = received.into_iter().map(|request| {
        let query = request.url.query().map(|query| format!("?{query}")).unwrap_or_default();
        let path = format!("{}{query}", request.url.path());
        (path, request.headers, serde_json::from_slice(&request.body).unwrap())
    });
    Played { report, sent: sent.collect() }
}

/// The detector is sent what the fixture says and understands its reply as `findings`.
async fn check(lines: &str, sample: &Sample, name: &str, findings: &[&str]) -> Played {
    let fixture = fixture(name);
    let played = play(lines, sample, &fixture.reply).await;
    assert_eq!(played.report.status, Success, "{name}: {:?}", played.report);
    assert_eq!(played.findings(), findings, "{name}");
    assert_eq!(played.sent.len(), 1, "{name}");
    assert_eq!(played.sent[0].0, fixture.request["path"], "{name}");
    assert_eq!(played.sent[0].2, fixture.request["body"], "{name}");
    played
}

async fn fails(lines: &str, sample: &Sample, name: &str, error: ReportError) {
    let played = play(lines, sample, &fixture(name).reply).await;
    assert_eq!((played.report.status, played.report.error), (Failed, Some(error)), "{name}");
}

pub(super) fn texts(name: &str, pointer: &str) -> Sample {
    let body = fixture(name).request["body"].take();
    let found = body.pointer(pointer).unwrap();
    let one = std::slice::from_ref(found);
    let list = found.as_array().map_or(one, Vec::as_slice);
    let list: Vec<&str> = list.iter().map(|text| text.as_str().unwrap()).collect();
    sample(&list)
}

pub(super) fn chat(messages: &[(Role, &str)]) -> Sample {
    let message = |(role, text): &(Role, &str)| Message {
        role: *role,
        content: Some(Content::Text((*text).into())),
        name: None,
        tool_calls: vec![],
        tool_call_id: None,
    };
    let body = Body::Messages(messages.iter().map(message).collect());
    let (id, tenant) = (RequestId::parse("r-1").unwrap(), TenantId::parse("acme").unwrap());
    let pieces = body.pieces(Which::Last, ContentType::Text);
    Sample { request: Request::plain(id, tenant, body), pieces }
}

pub(super) const PRESIDIO: &str = "protocol: presidio\nendpoint: SERVER/\ncategories: [pii]\n";

#[tokio::test]
async fn presidio_judges_all_texts_in_one_call() {
    let name = "presidio/recorded-several-texts";
    let fixture = fixture(name);
    let played = play(PRESIDIO, &texts(name, "/text"), &fixture.reply).await;
    assert_eq!(played.report.status, Success, "{:?}", played.report);
    let lists = fixture.reply["body"].as_array().unwrap();
    let counts = |item: &&Value| item["entity_type"] != "DATE_TIME";
    let told: usize =
        lists.iter().map(|list| list.as_array().unwrap().iter().filter(counts).count()).sum();
    assert_eq!(played.report.findings.len(), told);
    let last = played.report.findings.iter().find(|f| f.place.unwrap().piece == lists.len() - 1);
    assert_eq!(last.unwrap().category.as_str(), "pii.email");
    assert_eq!(played.sent.len(), 1);
    assert_eq!(played.sent[0].0, "/analyze");
    assert_eq!(played.sent[0].2, fixture.request["body"]);
    let table = play(
        &format!("{PRESIDIO}batch: {{max_items: 1}}\n"),
        &sample(&["a", "b"]),
        &json!({"status": 200, "body": [[]]}),
    )
    .await;
    assert_eq!((table.report.status, table.sent.len()), (Success, 2));
}

#[tokio::test]
async fn presidio_is_told_the_language_and_the_parameters_it_knows() {
    let lines = format!("{PRESIDIO}params: {{entities: [URL], score_threshold: 0.6, odd: 1}}\n");
    let mut sample = sample(&["hi"]);
    sample.request.language = Some("de-CH".into());
    let played = play(&lines, &sample, &json!({"status": 200, "body": [[]]})).await;
    let sent =
        json!({"text": ["hi"], "language": "de", "entities": ["URL"], "score_threshold": 0.6});
    assert_eq!(played.sent[0].2, sent);
    assert_eq!((played.report.status, played.report.findings.len()), (Success, 0));
    fails(&lines, &sample, "presidio/recorded-unknown-language", ReportError::Communication).await;
    for (body, detail) in [
        (json!({"error": "secret words"}), "the reply speaks of an error at `error`"),
        (json!({}), "the reply has no list at its top"),
        (json!([[], []]), "2 entries at its top answer 1 texts"),
        (json!([[{"entity_type": "URL"}]]), "the reply has no score at `score`"),
        (
            json!([[{"entity_type": "secret words", "score": 7}]]),
            "the score at `score` is out of range",
        ),
    ] {
        let played = play(&lines, &sample, &json!({"status": 200, "body": body})).await;
        assert_eq!(played.report.error, Some(ReportError::BadResponse), "{body}");
        assert_eq!(played.report.detail.as_deref(), Some(detail));
    }
}

pub(super) const MODERATION: &str =
    "protocol: openai-moderation\nendpoint: SERVER/v1/moderations\ncategories: [toxicity]\n";

#[tokio::test]
async fn moderation_scores_are_findings_and_a_flag_is_worth_a_half() {
    let name = "openai-moderation/batch";
    let played = check(
        MODERATION,
        &texts(name, "/input"),
        name,
        &played_moderation(&fixture(name)).iter().map(String::as_str).collect::<Vec<_>>(),
    )
    .await;
    assert!(played.report.findings.iter().any(|f| f.place.unwrap().piece == 2 && f.score > 0.5));
    let lines = format!("{MODERATION}options: {{model: small}}\n");
    let scores = json!({"violence": 0.2, "hate": 0.1});
    let flags = json!({"violence": true, "hate": false});
    let reply =
        json!({"results": [{"flagged": true, "categories": flags, "category_scores": scores}]});
    let played = play(&lines, &sample(&["x"]), &json!({"status": 200, "body": reply})).await;
    assert_eq!(played.findings(), ["hate hate 0.1", "violence violence 0.5"]);
    assert_eq!(played.sent[0].2["model"], "small");
    let error = ReportError::Rejected;
    fails(&lines, &sample(&["x"]), "openai-moderation/error", error).await;
}

/// The scores of the reply in its order.
fn played_moderation(fixture: &Fixture) -> Vec<String> {
    let table = [
        ("harassment", "toxicity"),
        ("harassment/threatening", "toxicity.threat"),
        ("hate", "hate"),
        ("illicit", "illicit"),
        ("illicit/violent", "illicit.weapons"),
        ("violence", "violence"),
        ("hate/threatening", "hate.threatening"),
    ];
    let mut all = Vec::new();
    for result in fixture.reply["body"]["results"].as_array().unwrap() {
        for (name, score) in result["category_scores"].as_object().unwrap() {
            let score = score.as_f64().unwrap();
            if score > 0.001 {
                let known = table.iter().find(|(label, _)| label == name);
                all.push(format!("{} {name} {score}", known.unwrap().1));
            }
        }
    }
    all
}

pub(super) fn fms(more: &str) -> String {
    format!("protocol: fms\nendpoint: SERVER\ncategories: [injection]\n{more}\n")
}

#[tokio::test]
async fn fms_contents_are_a_list_for_each_text() {
    let name = "fms/recorded-several-texts";
    let lines = fms("params: {regex: [email, us-social-security-number, credit-card, ipv4]}");
    let played = play(&lines, &texts(name, "/contents"), &fixture(name).reply).await;
    assert_eq!(played.report.status, Success, "{:?}", played.report);
    assert!(played.report.findings.iter().all(|f| f.category.as_str().starts_with("pii.")));
    assert!(!played.report.findings.is_empty());
    assert_eq!(played.sent[0].1["detector-id"], "d");
    let name = "fms/contents-whole-text";
    let lines = fms("options: {detector_id: hap}");
    let found = ["injection LABEL_1 0.9876 0..17"];
    let played = check(&lines, &texts(name, "/contents"), name, &found).await;
    assert_eq!(played.sent[0].1["detector-id"], "hap");
    let missing =
        json!({"status": 200, "body": [[{"detection": "a", "detection_type": "b", "score": 1}]]});
    let played = play(&lines, &sample(&["x"]), &missing).await;
    assert_eq!(played.report.status, Success, "an adapter without spans speaks of the whole text");
}

#[tokio::test]
async fn fms_generation_needs_a_prompt_and_context_needs_documents() {
    let lines = fms(
        "options: {kind: generation, detector_id: relevance}\nlabels: {relevant: {polarity: negative}}",
    );
    let mut sample = texts("fms/generation", "/generated_text");
    sample.request.direction = Direction::Output;
    let skipped = play(&lines, &sample, &json!({"status": 200, "body": []})).await;
    assert_eq!(skipped.report.reason(), "unsupported_content_type");
    assert!(skipped.sent.is_empty());
    sample.request.context.prompt = Some("When does it open?".into());
    check(&lines, &sample, "fms/generation", &[]).await;
    let lines = fms("options: {kind: context}");
    let mut sample = texts("fms/context-doc", "/content");
    let skipped = play(&lines, &sample, &json!({"status": 200, "body": []})).await;
    assert_eq!(skipped.report.reason(), "unsupported_content_type");
    sample.request.context.documents = vec!["The shop opens at eight.".into()];
    check(&lines, &sample, "fms/context-doc", &["injection Yes 0.93"]).await;
    let talk = chat(&[(Role::User, "When does it open?"), (Role::Assistant, "It opens at noon.")]);
    let lines = fms("options: {kind: generation}\nlabels: {relevant: {polarity: negative}}");
    check(&lines, &talk, "fms/generation", &[]).await;
}

#[tokio::test]
async fn fms_chat_is_one_call_with_messages_and_tools() {
    let lines = fms("options: {kind: chat}");
    let talk = chat(&[(Role::User, "Tell me how to pick a lock.")]);
    let played = check(&lines, &talk, "fms/chat-llama-guard", &["injection unsafe 0.91"]).await;
    assert_eq!(played.report.findings[0].place.map(|place| place.piece), Some(0));
    let nested = json!({"status": 200, "body": [[{"detection": "No", "detection_type": "risk", "score": 0.3}]]});
    let mut with_tools = chat(&[(Role::System, "s"), (Role::User, "u")]);
    with_tools.request.tools = vec![json!({"type": "function"})];
    let played = play(&lines, &with_tools, &nested).await;
    assert_eq!((played.report.status, played.report.findings.len()), (Success, 0));
    assert_eq!(played.sent[0].2["messages"][0], json!({"role": "system", "content": "s"}));
    assert_eq!(played.sent[0].2["tools"], json!([{"type": "function"}]));
    let content = play(&lines, &sample(&["x", "y"]), &json!({"status": 200, "body": [{"detection": "Yes", "detection_type": "risk", "score": 1}]})).await;
    assert_eq!(content.sent.len(), 1);
    assert_eq!(content.sent[0].2["messages"][0]["role"], "user");
    assert_eq!(content.report.findings[0].place, None);
    fails(&lines, &talk, "fms/error-nested", ReportError::Rejected).await;
    let error = json!({"status": 200, "body": {"error": {"message": "no"}}});
    assert_eq!(play(&lines, &talk, &error).await.report.error, Some(ReportError::BadResponse));
}

#[tokio::test]
async fn native_texts_travel_together_where_the_file_asks_for_it() {
    let lines =
        "protocol: native\nendpoint: SERVER/a\ncategories: [toxicity]\nbatch: {max_items: 2}\n";
    let one = json!({"label": "toxic", "score": 0.9});
    let reply = json!({"status": 200, "body": {"items": [{"label": "ok", "score": 0.2}, one]}});
    let played = play(lines, &sample(&["a", "b"]), &reply).await;
    assert_eq!(played.report.findings[0].place.unwrap().piece, 1);
    assert_eq!(played.report.label.as_deref(), Some("toxic"));
    assert_eq!(played.sent[0].2["items"][1]["content"], "b");
    let played = play(lines, &sample(&["a", "b", "c"]), &reply).await;
    assert_eq!((played.sent.len(), played.report.gaps.len()), (2, 1));
}

pub(super) const GUARD: &str =
    "protocol: llm-guard\nendpoint: SERVER\ncategories: [injection, pii]\n";

#[tokio::test]
async fn llm_guard_is_asked_about_prompts_and_outputs_by_direction() {
    let found = ["pii Anonymize 1", "injection.prompt PromptInjection 0.9"];
    let name = "llm-guard/analyze-prompt";
    check(GUARD, &texts(name, "/prompt"), name, &found).await;
    let name = "llm-guard/analyze-prompt-clean";
    check(GUARD, &texts(name, "/prompt"), name, &[]).await;
    let lines =
        format!("{GUARD}options: {{mode: scan}}\nparams: {{scanners_suppress: [TokenLimit]}}\n");
    let name = "llm-guard/scan-prompt";
    check(&lines, &texts(name, "/prompt"), name, &["injection.prompt PromptInjection 0.9"]).await;
    let name = "llm-guard/analyze-output";
    let mut sample = texts(name, "/output");
    sample.request.direction = Direction::Output;
    sample.request.context.prompt = Some("Who runs the desk?".into());
    check(GUARD, &sample, name, &["pii Sensitive 1", "toxicity Toxicity 0.8"]).await;
}

#[tokio::test]
async fn llm_guard_may_be_invalid_without_a_scanner_and_has_its_own_time_out() {
    let sample = sample(&["x"]);
    let reply = json!({"status": 200, "body": {"is_valid": false, "scanners": {"Toxicity": -1.0}}});
    assert_eq!(play(GUARD, &sample, &reply).await.findings(), ["injection invalid 1"]);
    let lines = format!("{GUARD}retry: {{attempts: 1}}\n");
    let played = play(&lines, &sample, &fixture("llm-guard/timeout").reply).await;
    assert_eq!((played.report.status, played.report.error), (Status::Timeout, None));
    fails(GUARD, &sample, "llm-guard/invalid-key", ReportError::Rejected).await;
    let empty = json!({"status": 200, "body": {}});
    assert_eq!(play(GUARD, &sample, &empty).await.report.error, Some(ReportError::BadResponse));
    let odd = json!({"status": 200, "body": {"is_valid": false, "scanners": {"Toxicity": -7}}});
    assert_eq!(play(GUARD, &sample, &odd).await.report.error, Some(ReportError::BadResponse));
}

pub(super) const LAKERA: &str =
    "protocol: lakera\nendpoint: SERVER/v2/guard\ncategories: [injection, pii]\n";

#[tokio::test]
async fn lakera_judges_the_conversation_and_only_the_judged_message_counts() {
    let turns = [
        (Role::System, "You help with orders."),
        (Role::User, "Where is 🍕 order 7?"),
        (Role::Assistant, "Call me: +1 202 555 0143."),
    ];
    let found = ["pii.phone pii/phone_number 1", "pii.phone pii/phone_number 0.5 9..24"];
    check(LAKERA, &chat(&turns), "lakera/chat", &found).await;
    let longer: Vec<_> = turns.into_iter().chain([(Role::User, "Thanks.")]).collect();
    let played = play(LAKERA, &chat(&longer), &fixture("lakera/chat").reply).await;
    assert!(played.findings().is_empty(), "the phone number is in a message of the past");
    let name = "lakera/payload-and-breakdown";
    let lines = format!("{LAKERA}options: {{project_id: project-1234567890}}\n");
    let found = [
        "injection.prompt prompt_attack 1",
        "pii.person pii/name 1",
        "pii.email pii/email 1",
        "link unknown_links 1",
        "pii.person pii/name 0.5 38..46",
        "pii.email pii/email 0.5 48..63",
        "link unknown_links 0.5 69..85",
    ];
    let body = fixture(name).request["body"].take();
    let said = body["messages"][0]["content"].as_str().unwrap();
    check(&lines, &chat(&[(Role::User, said)]), name, &found).await;
}

#[tokio::test]
async fn lakera_may_flag_without_reason_and_locate_without_flag() {
    let one = sample(&["I am Ana Lima."]);
    let flagged = play(LAKERA, &one, &fixture("lakera/flagged-only").reply).await;
    assert_eq!(flagged.findings(), ["injection flagged 1"]);
    let located = play(LAKERA, &one, &fixture("lakera/payload-not-flagged").reply).await;
    assert_eq!(located.findings(), ["pii.person pii/name 0.4 5..13"]);
    assert!(play(LAKERA, &one, &fixture("lakera/clean").reply).await.findings().is_empty());
    fails(LAKERA, &one, "lakera/error", ReportError::Rejected).await;
    let empty = json!({"status": 200, "body": {}});
    assert_eq!(play(LAKERA, &one, &empty).await.report.error, Some(ReportError::BadResponse));
}

pub(super) const AZURE: &str = "protocol: azure-content-safety\nendpoint: SERVER/\ncategories: [hate]\n\
    auth: {type: api_key, header: ocp-apim-subscription-key, env: KEY}\n";

#[tokio::test]
async fn azure_severities_become_scores_and_a_blocklist_hit_is_certain() {
    let name = "azure-content-safety/analyze";
    let (four, six) = (4.0 / 7.0, 6.0 / 7.0);
    let found = [format!("hate Hate {four}"), format!("violence Violence {six}")];
    let found: Vec<&str> = found.iter().map(String::as_str).collect();
    let played = check(AZURE, &texts(name, "/text"), name, &found).await;
    assert_eq!(played.sent[0].1["ocp-apim-subscription-key"], "secret");
    let name = "azure-content-safety/analyze-blocklist";
    let lines = format!(
        "{AZURE}params: {{blocklistNames: [projects], haltOnBlocklistHit: true, outputType: FourSeverityLevels}}\n"
    );
    check(&lines, &texts(name, "/text"), name, &["hate blocklist 1"]).await;
    fails(AZURE, &sample(&["x"]), "azure-content-safety/error", ReportError::Rejected).await;
    let nine = json!({"status": 200, "body": {"categoriesAnalysis": [{"category": "Hate", "severity": 9}]}});
    let played = play(AZURE, &sample(&["x"]), &nine).await;
    assert_eq!(played.report.error, Some(ReportError::BadResponse));
}

#[tokio::test]
async fn azure_shields_prompts_and_documents() {
    let lines = format!("{AZURE}options: {{api: shield-prompt}}\n");
    let name = "azure-content-safety/shield-prompt";
    let mut prompt = texts(name, "/userPrompt");
    let documents = fixture(name).request["body"]["documents"].take();
    prompt.request.context.documents = serde_json::from_value(documents).unwrap();
    let found = ["injection.jailbreak prompt-attack 1", "injection.indirect document-attack 1"];
    let played = check(&lines, &prompt, name, &found).await;
    assert_eq!(played.report.findings[1].place, None, "the document is context");
    let mut documents = sample(&["a", "b"]);
    documents.request.direction = Direction::Retrieval;
    let played = play(&lines, &documents, &fixture(name).reply).await;
    assert_eq!(played.report.findings[0].place.map(|place| place.piece), Some(1));
    assert_eq!(played.sent[0].2, json!({"userPrompt": "", "documents": ["a", "b"]}));
    let mut many = sample(&["a"; 6]);
    many.request.direction = Direction::Retrieval;
    assert_eq!(play(&lines, &many, &fixture(name).reply).await.sent.len(), 2, "five at a time");
}

pub(super) const BEDROCK: &str = "protocol: bedrock-guardrail\nendpoint: SERVER\ncategories: [topic]\n\
    options: {guardrail: abcdefghijkl, version: \"1\"}\n\
    auth: {type: aws_sigv4, access_key: {env: A}, secret_key: {env: B}, session_token: {env: C}}\n";

#[tokio::test]
async fn bedrock_calls_are_signed_and_every_policy_is_read() {
    let name = "bedrock-guardrail/blocked";
    let found = [
        "topic DENY 1",
        "injection.prompt PROMPT_ATTACK 1",
        "toxicity.insult INSULTS 0.75",
        "topic custom-word 1",
        "toxicity.profanity PROFANITY 1",
    ];
    let played = check(BEDROCK, &texts(name, "/content/0/text/text"), name, &found).await;
    let headers = &played.sent[0].1;
    let signed = headers["authorization"].to_str().unwrap();
    assert!(signed.starts_with("AWS4-HMAC-SHA256 Credential=secret/20"), "{signed}");
    assert!(signed.contains("/us-east-1/bedrock/aws4_request"), "{signed}");
    assert_eq!(headers["x-amz-security-token"], "secret");
    let name = "bedrock-guardrail/anonymized";
    let mut output = texts(name, "/content/0/text/text");
    output.request.direction = Direction::Output;
    let found = ["pii.person NAME 1", "pii.email EMAIL 1", "pii regex 1"];
    let played = check(BEDROCK, &output, name, &found).await;
    assert!(!format!("{:?}", played.report).contains("Lima"), "`match` is the matched text");
}

#[tokio::test]
async fn bedrock_tells_what_it_left_out_and_may_fail_inside_a_200() {
    let one = sample(&[&"x".repeat(200)]);
    let played = play(BEDROCK, &one, &fixture("bedrock-guardrail/partly-guarded").reply).await;
    assert_eq!(played.report.status, Success, "{:?}", played.report);
    let gap = played.report.gaps[0];
    assert_eq!((gap.piece, gap.chars, gap.reason), (0, 100, ReportError::TooLong));
    for (name, found) in [
        ("none", vec![]),
        ("full-scope", vec![]),
        ("grounding", vec!["topic GROUNDING 0.89".to_owned()]),
    ] {
        let reply = fixture(&format!("bedrock-guardrail/{name}")).reply;
        assert_eq!(play(BEDROCK, &one, &reply).await.findings(), found, "{name}");
    }
    fails(BEDROCK, &one, "bedrock-guardrail/failure-in-200", ReportError::BadResponse).await;
    fails(BEDROCK, &one, "bedrock-guardrail/validation", ReportError::Rejected).await;
    let bare =
        json!({"status": 200, "body": {"action": "GUARDRAIL_INTERVENED", "assessments": []}});
    assert_eq!(play(BEDROCK, &one, &bare).await.findings(), ["topic intervened 1"]);
}
