//! The envelope WAF as a caller meets it.

use serde_json::{Value, json};

use crate::app::{Answer, App, edit, spawn_with};

const HOSTILE: &str = "1' UNION SELECT password FROM users--";
const ESSAY: &str = "An essay about SQL injection. Take a form that asks for a name and pastes it \
    into SELECT * FROM users WHERE name = '…'. Who answers ' OR '1'='1' -- reads every row; who \
    answers '; DROP TABLE users; -- leaves none. The same carelessness in a page lets \
    <script>alert(document.cookie)</script> run, in a path ../../etc/passwd be read, in a shell \
    ; cat /etc/passwd be run, and in a directory *)(uid=*))(|(uid=* match everyone.";

async fn spawn(mode: &str) -> App {
    spawn_with(|root| edit(root, "config/settings.yaml", "waf: null", &format!("waf: {mode}")))
        .await
}

async fn violations(app: &App) -> f64 {
    let text = app.get("/metrics").await.text;
    let lines =
        text.lines().filter(|line| line.starts_with("orchestrator_security_violations_total{"));
    lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

fn assert_blocked(answer: &Answer, field: &str, kind: &str) {
    assert_eq!(answer.status, 400, "{field}: {}", answer.text);
    let problem = answer.json();
    assert_eq!(problem["code"], "WAF_BLOCKED", "{field}: {problem}");
    assert_eq!(problem["errors"][0]["pointer"], field, "{problem}");
    assert_eq!(problem["errors"][0]["code"], kind, "{problem}");
    for told in ["detail", "title"] {
        assert!(
            !problem[told].as_str().unwrap().contains("UNION"),
            "the value came back: {problem}"
        );
    }
    assert!(!problem["errors"].to_string().contains("UNION"), "the value came back: {problem}");
}

#[tokio::test]
async fn a_hostile_envelope_is_refused_with_its_field_and_without_its_value() {
    let app = spawn("block").await;
    let path = "/api/v1/orchestrate";
    let encoded = "1%27%20UNION%20SELECT%20password%20FROM%20users--";
    assert_blocked(&app.get(&format!("/api/v1/detectors/{encoded}")).await, "/path", "sqli");
    assert_blocked(&app.get("/api/v1/%2e%2e%2fetc").await, "/path", "traversal");
    let query = app.get(&format!("/api/v1/detectors?status={encoded}")).await;
    assert_blocked(&query, "/query/status", "sqli");
    let header = app.send("GET", "/api/v1/detectors", &[("x-note", HOSTILE)], b"").await;
    assert_blocked(&header, "/headers/x-note", "sqli");
    for (field, body) in [
        ("/tenant_id", json!({"content": "a", "tenant_id": HOSTILE})),
        ("/policy", json!({"content": "a", "policy": HOSTILE})),
        ("/event", json!({"content": "a", "event": HOSTILE})),
        ("/language", json!({"content": "a", "language": HOSTILE})),
        ("/contexts/1", json!({"content": "a", "contexts": ["mobile", HOSTILE]})),
        ("/detectors/add/0", json!({"content": "a", "detectors": {"add": [HOSTILE]}})),
        (
            "/detectors/thresholds",
            json!({"content": "a", "detectors": {"thresholds": {HOSTILE: 0.5}}}),
        ),
        ("/metadata/a~1b/1/c", json!({"content": "a", "metadata": {"a/b": [1, {"c": HOSTILE}]}})),
        ("/metadata/a", json!({"content": "a", "metadata": {"a": {HOSTILE: 1}}})),
        ("/metadata", json!({"content": "a", "metadata": {HOSTILE: 1}})),
    ] {
        assert_blocked(&app.post(path, &body).await, field, "sqli");
        let batch =
            app.post("/api/v1/orchestrate/batch", &json!({"requests": [body]})).await.json();
        let problem = &batch["results"][0]["problem"];
        assert_eq!(problem["code"], "WAF_BLOCKED", "{batch}");
        assert_eq!(problem["errors"][0]["pointer"], format!("/requests/0{field}"), "{batch}");
    }
    let script = json!({"content": "a", "metadata": {"note": "<script>alert(1)</script>"}});
    assert_blocked(&app.ask(&script).await, "/metadata/note", "xss");
    assert_eq!(violations(&app).await, 4.0 + 20.0 + 1.0);
}

#[tokio::test]
async fn content_is_never_held_against_the_waf() {
    let app = spawn("block").await;
    for content in ["Please see the report (page 3).", ESSAY, HOSTILE, "<script>alert(1)</script>"]
    {
        for body in [
            json!({"content": content}),
            json!({"content": [{"type": "text", "text": content}]}),
            json!({"messages": [{"role": "user", "content": content}]}),
            json!({"content": "a", "context": {"prompt": content, "documents": [content]}}),
        ] {
            let answer = app.ask(&body).await;
            assert_eq!(answer.status, 200, "{body}: {}", answer.text);
        }
    }
    assert_eq!(violations(&app).await, 0.0);
}

#[tokio::test]
async fn the_usual_envelope_passes() {
    let app = spawn("block").await;
    let agent = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) \
                 Chrome/130.0.0.0 Safari/537.36";
    let headers = [
        ("content-type", "application/json; charset=utf-8"),
        ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"),
        ("accept-language", "en-GB,en;q=0.9,de;q=0.8"),
        ("user-agent", agent),
        ("sec-ch-ua", "\"Chromium\";v=\"130\", \"Not?A_Brand\";v=\"99\""),
        ("cookie", "session=eyJhbGciOiJIUzI1NiJ9.e30.c2ln; theme=dark; id=5"),
        ("referer", "https://example.org/a?q=O%27Brien&lang=en"),
        ("forwarded", "for=192.0.2.60;proto=http;by=203.0.113.43"),
        ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
    ];
    let body = json!({"content": "a", "event": "content.submitted", "language": "en-GB", "metadata": {
        "name": "Sinéad O'Brien", "firm": "Tom & Jerry; Sons", "url": "https://example.org/a?b=c&d=e#f",
        "agent": agent, "token": "eyJhbGciOiJIUzI1NiJ9.e30.c2ln", "json": "{\"a\": [1, \"b\"]}",
        "note": "Please see the report (page 3).\nSecond line: it's fine.", "n": [1, 2.5, null, true]}});
    let answer =
        app.send("POST", "/api/v1/orchestrate", &headers, body.to_string().as_bytes()).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(violations(&app).await, 0.0);
}

#[tokio::test]
async fn monitor_counts_and_lets_through_and_off_does_not_look() {
    let body = json!({"content": "a", "metadata": {"q": HOSTILE}});
    // Development's own mode is `monitor`.
    for (mode, counted) in [("null", 1.0), ("monitor", 1.0), ("off", 0.0)] {
        let app = spawn(mode).await;
        let answer = app.ask(&body).await;
        assert_eq!(answer.status, 200, "{mode}: {}", answer.text);
        assert_eq!(violations(&app).await, counted, "{mode}");
        let value: Value = answer.json();
        assert_eq!(value["action"], "allow", "{mode}: {value}");
    }
}
