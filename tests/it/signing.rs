//! Requests that a tenant signs, from outside.

use serde_json::{Value, json};

use crate::app::{Answer, App, spawn_closed_with};

const BOOT: &str = "orch_0123456789ab_0123456789abcdef0123456789abcdef";
const SECRET: &str = "a shared secret of canary-sign bytes";
const HEIR: &str = "the next shared secret, also long enough";

async fn house() -> (App, String) {
    let app = spawn_closed_with(BOOT, |root| {
        let (one, two) = (root.join("one"), root.join("two"));
        std::fs::write(&one, SECRET).unwrap();
        std::fs::write(&two, HEIR).unwrap();
        let file = root.join("config/tenants/acme.yaml");
        let text = std::fs::read_to_string(&file).unwrap();
        let (one, two) = (one.display(), two.display());
        let signing =
            format!("signing: {{required: true, secrets: [{{file: {one}}}, {{file: {two}}}]}}");
        std::fs::write(&file, format!("{text}\n{signing}\n")).unwrap();
    })
    .await;
    let key = key(&app, "acme").await;
    (app, key)
}

async fn key(app: &App, tenant: &str) -> String {
    let wanted = json!({"label": "test", "reason": "test", "tenant": tenant,
        "scopes": ["orchestrate:write", "registry:read"]});
    let headers = [("content-type", "application/json"), ("x-api-key", BOOT)];
    let made = app.send("POST", "/api/v1/keys", &headers, wanted.to_string().as_bytes()).await;
    assert_eq!(made.status, 201, "{}", made.text);
    made.json()["key"].as_str().unwrap().to_owned()
}

fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_secs()).unwrap()
}

fn sign(secret: &str, timestamp: &str, body: &str) -> String {
    use aws_lc_rs::hmac;
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    hex::encode(hmac::sign(&key, format!("{timestamp}.{body}").as_bytes()))
}

const BODY: &str = r#"{"content": "Mail ana@evil.io"}"#;

async fn ask(app: &App, key: &str, signed: &[(&str, &str)], body: &str) -> Answer {
    let mut headers = vec![("content-type", "application/json"), ("x-api-key", key)];
    headers.extend(signed);
    app.send("POST", "/api/v1/orchestrate", &headers, body.as_bytes()).await
}

fn code(answer: &Answer) -> Value {
    answer.json()["code"].clone()
}

#[tokio::test]
async fn the_documented_lines_sign_a_request_that_is_let_in_once() {
    let (app, key) = house().await;
    let manual = include_str!("../../docs/credentials.md");
    let (_, section) = manual.split_once("## Signed requests").unwrap();
    let lines = section.split("```").find(|block| block.contains("openssl dgst")).unwrap();
    let lines = lines.strip_prefix("sh\n").unwrap();
    let run = |script: String| {
        let output = std::process::Command::new("sh")
            .args(["-c", &script])
            .env("URL", format!("http://{}", app.address))
            .env("KEY", &key)
            .env("SIGNING_SECRET", SECRET)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let answer = run(lines.to_owned());
    let answer: Value = serde_json::from_str(&answer).unwrap_or_else(|_| panic!("{answer}"));
    assert_eq!(answer["action"], "redact", "{answer}");
    let curl = lines.split_once("curl").unwrap().1;
    let twice = run(format!("{lines}\necho ' and again'\ncurl{curl}"));
    let (first, second) = twice.split_once(" and again").unwrap();
    assert!(first.contains(r#""action":"redact""#), "{first}");
    assert!(second.contains("INVALID_SIGNATURE") && second.contains("used before"), "{second}");
}

#[tokio::test]
async fn what_is_not_signed_as_the_tenant_demands_is_refused() {
    let (app, key) = house().await;
    let (now, old, early) = (now(), now() - 301, now() + 302);
    let stamp = now.to_string();
    let good = sign(SECRET, &stamp, BODY);
    let signed = |at: i64| sign(SECRET, &at.to_string(), BODY);
    let decimal = format!("{now}.25");
    for (name, headers) in [
        ("nothing", vec![]),
        ("no time", vec![("x-signature", good.clone())]),
        ("no signature", vec![("x-timestamp", stamp.clone())]),
        (
            "two of them",
            vec![
                ("x-timestamp", stamp.clone()),
                ("x-signature", good.clone()),
                ("x-signature", good.clone()),
            ],
        ),
        ("too old", vec![("x-timestamp", old.to_string()), ("x-signature", signed(old))]),
        ("too early", vec![("x-timestamp", early.to_string()), ("x-signature", signed(early))]),
        ("another time", vec![("x-timestamp", decimal.clone()), ("x-signature", good.clone())]),
        (
            "no time at all",
            vec![
                ("x-timestamp", "yesterday".into()),
                ("x-signature", sign(SECRET, "yesterday", BODY)),
            ],
        ),
        (
            "another secret",
            vec![
                ("x-timestamp", stamp.clone()),
                ("x-signature", sign("somebody else's secret of 32 bytes", &stamp, BODY)),
            ],
        ),
        (
            "an empty secret",
            vec![("x-timestamp", stamp.clone()), ("x-signature", sign("", &stamp, BODY))],
        ),
        (
            "another body",
            vec![("x-timestamp", stamp.clone()), ("x-signature", sign(SECRET, &stamp, "{}"))],
        ),
        (
            "no border",
            vec![
                ("x-timestamp", stamp.clone()),
                ("x-signature", sign(SECRET, &stamp[..9], &format!("{}.{BODY}", &stamp[9..]))),
            ],
        ),
        ("no hexadecimal", vec![("x-timestamp", stamp.clone()), ("x-signature", "zz".repeat(32))]),
        ("half", vec![("x-timestamp", stamp.clone()), ("x-signature", good[..32].to_owned())]),
    ] {
        let headers: Vec<(&str, &str)> = headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
        let answer = ask(&app, &key, &headers, BODY).await;
        assert_eq!(answer.status, 401, "{name}: {}", answer.text);
        assert_eq!(code(&answer), "INVALID_SIGNATURE", "{name}");
        assert!(!answer.text.contains("canary") && !answer.text.contains("ana@"), "{name}");
    }
    let headers = [("x-timestamp", stamp.as_str()), ("x-signature", good.as_str())];
    assert_eq!(ask(&app, &key, &headers, BODY).await.status, 200);
    let upper = good.to_uppercase();
    let again = [("x-timestamp", stamp.as_str()), ("x-signature", upper.as_str())];
    assert_eq!(code(&ask(&app, &key, &again, BODY).await), "INVALID_SIGNATURE", "the same again");
    let heir = sign(HEIR, &decimal, BODY);
    let headers = [("x-timestamp", decimal.as_str()), ("x-signature", heir.as_str())];
    assert_eq!(ask(&app, &key, &headers, BODY).await.status, 200, "the next secret");
}

#[tokio::test]
async fn a_signature_is_asked_of_every_route_and_of_no_other_tenant() {
    let (app, acme) = house().await;
    let default = key(&app, "default").await;
    let get = async |key: &str, signed: &[(&str, &str)]| {
        let headers: Vec<_> = [("x-api-key", key)].iter().chain(signed).copied().collect();
        app.send("GET", "/api/v1/detectors", &headers, b"").await.status
    };
    let stamp = now().to_string();
    let signature = sign(SECRET, &stamp, "");
    let signed = [("x-timestamp", stamp.as_str()), ("x-signature", signature.as_str())];
    assert_eq!((get(&acme, &[]).await, get(&acme, &signed).await), (401, 200));
    assert_eq!((get(&default, &[]).await, get(BOOT, &[]).await), (200, 200));
    let large = format!(r#"{{"content": "{}"}}"#, "x".repeat(11 << 20));
    let stamp = format!("{stamp}.5");
    let signature = sign(SECRET, &stamp, &large);
    let signed = [("x-timestamp", stamp.as_str()), ("x-signature", signature.as_str())];
    assert_eq!(ask(&app, &acme, &signed, &large).await.status, 413, "limits hold");
}
