//! Secrets that must turn up nowhere: the service at its most talkative, met with every kind of
//! secret, well and ill, and then everything it ever said is searched.

use std::path::Path;

use http_body_util::{BodyExt as _, Full};
use serde_json::{Value, json};
use wiremock::matchers::{method, path};
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

use crate::app::client;
use crate::binary::{Served, command, run, text};

/// One for each kind of secret; hexadecimal where the form demands it.
const BOOT: &str = "0123456789abcdefca9a71b007ca9a71";
const GUESS: &str = "0123456789abcdefca9a7166e55ca9a7";
const DATA_KEY: &str = "ca9a71da7aca9a71da7aca9a71da7aca9a71da7aca9a71da7aca9a71da7a00ff";
const PEPPER: &str = "ca9a719e99e7ca9a719e99e7ca9a719e99e7ca9a719e99e7ca9a719e99e700ff";
const JWT: &str = "canary-jwt-secret-of-more-than-32-bytes";
const SIGNING: &str = "canary-signing-secret-of-more-than-32-bytes";
const CONTENT: &str = "canary-content";
const BEARER: &str = "canary-bearer";
const PASSWORD: &str = "canary-password";
const CLIENT: &str = "canary-client-secret";
const TOKEN: &str = "canary-access-token";
const FILED: &str = "canary-of-a-file";
const DSN: &str = "canary-dsn";

const ALL: [&str; 13] = [
    BOOT, GUESS, DATA_KEY, PEPPER, JWT, SIGNING, CONTENT, BEARER, PASSWORD, CLIENT, TOKEN, FILED,
    DSN,
];

fn found_in(said: &[u8]) -> Vec<&'static str> {
    let base64 = |text: &&str| {
        use base64::Engine as _;
        // Without the end, which what follows would change.
        let coded = base64::engine::general_purpose::STANDARD.encode(format!("ana:{text}"));
        coded[..coded.len() - 4].to_owned()
    };
    let holds = |needle: &str| said.windows(needle.len()).any(|window| window == needle.as_bytes());
    ALL.into_iter().filter(|text| holds(text) || holds(&base64(text))).collect()
}

/// The service, and everything it answered.
struct Told {
    address: String,
    said: std::sync::Mutex<Vec<u8>>,
}

impl Told {
    async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> u16 {
        let mut request =
            hyper::Request::builder().method(method).uri(format!("http://{}{path}", self.address));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = client().request(request.body(Full::from(body.to_owned())).unwrap()).await;
        let (parts, body) = response.unwrap().into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let mut said = self.said.lock().unwrap();
        said.extend(format!("{:?}", parts.headers).into_bytes());
        said.extend(&bytes);
        parts.status.as_u16()
    }
}

/// Detectors that refuse, repeat what they are sent, and break off; a token server that does too.
async fn outside() -> MockServer {
    let server = MockServer::builder().start().await;
    let echo = |call: &Request| {
        let all = format!("{:?} {}", call.headers, String::from_utf8_lossy(&call.body));
        ResponseTemplate::new(401).set_body_string(all)
    };
    Mock::given(method("POST")).and(path("/refuses")).respond_with(echo).mount(&server).await;
    let odd = |call: &Request| {
        let all = format!("{:?}", call.headers);
        ResponseTemplate::new(200).set_body_json(json!({"label": {"x": all}, "score": "much"}))
    };
    Mock::given(method("POST")).and(path("/odd")).respond_with(odd).mount(&server).await;
    let grant = ResponseTemplate::new(200)
        .set_body_json(json!({"access_token": TOKEN, "token_type": "bearer", "expires_in": 60}));
    Mock::given(method("POST")).and(path("/token")).respond_with(grant).mount(&server).await;
    let no_token = ResponseTemplate::new(400)
        .set_body_json(json!({"error": "bad", "error_description": format!("{CLIENT} {TOKEN}")}));
    Mock::given(method("POST")).and(path("/no-token")).respond_with(no_token).mount(&server).await;
    server
}

fn prepare(dir: &Path, server: &MockServer) {
    assert!(run(dir, &["init"]).status.success());
    let detector = |name: &str, path: &str, more: &str| {
        let text = format!(
            "name: {name}\nprotocol: native\nendpoint: {}/{path}\ncategories: [toxicity]\n\
             health: {{path: ''}}\nretry: {{attempts: 1}}\n{more}",
            server.uri()
        );
        std::fs::write(dir.join(format!("detectors/{name}.yaml")), text).unwrap();
    };
    detector("refuses", "refuses", "auth: {type: bearer, env: FILED}\n");
    detector("odd", "odd", "delegation: x-delegation\n");
    let no_token = format!(
        "auth: {{type: oauth2, token_url: '{}/no-token', client_id: ana, client_secret: {{env: \
         CLIENT}}}}\n",
        server.uri()
    );
    detector("no-token", "odd", &no_token);
    std::fs::write(dir.join("signing"), SIGNING).unwrap();
    let tenant = format!(
        "schema_version: 1\nid: signs\nsigning: {{required: true, secrets: [{{file: {}}}]}}\n",
        dir.join("signing").display()
    );
    std::fs::write(dir.join("config/tenants/signs.yaml"), tenant).unwrap();
}

fn token(claims: &Value, secret: &str) -> String {
    use aws_lc_rs::hmac;
    use base64::Engine as _;
    let part = |bytes: &[u8]| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes);
    let message = [part(br#"{"alg":"HS256"}"#), part(claims.to_string().as_bytes())].join(".");
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    format!("{message}.{}", part(hmac::sign(&key, message.as_bytes()).as_ref()))
}

fn start(dir: &Path) -> Served {
    let mut start = command(dir);
    start.args(["serve", "--listen", "127.0.0.1:0"]);
    for (name, value) in [
        ("ORCHESTRATION_LOG_LEVEL", "trace"),
        ("ORCHESTRATION_SECURITY__WAF", "block"),
        ("ORCHESTRATION_BOOTSTRAP_KEY", &format!("orch_0123456789ab_{BOOT}")),
        ("ORCHESTRATION_DATA_KEY", DATA_KEY),
        ("ORCHESTRATION_KEY_PEPPER", PEPPER),
        ("ORCHESTRATION_EVIDENCE_KEY", PEPPER),
        ("ORCHESTRATION_JWT_SECRET_KEY", JWT),
        ("FILED", FILED),
        ("CLIENT", CLIENT),
    ] {
        start.env(name, value);
    }
    Served::start(start)
}

const JSON: (&str, &str) = ("content-type", "application/json");

impl Told {
    async fn put(&self, key: &str, name: &str, body: &Value) -> u16 {
        let path = format!("/api/v1/detectors/{name}/credentials");
        self.send("PUT", &path, &[JSON, ("x-api-key", key)], &body.to_string()).await
    }

    async fn ask(&self, headers: &[(&str, &str)], names: &[&str]) -> u16 {
        let body = json!({"content": format!("Mail {CONTENT}@evil.io"),
            "metadata": {"note": CONTENT}, "detectors": {"add": names}, "include": ["detectors"]});
        let headers: Vec<_> = [JSON].iter().chain(headers).copied().collect();
        self.send("POST", "/api/v1/orchestrate", &headers, &body.to_string()).await
    }

    /// Stores credentials of every kind and has them sent, then some that are wrong.
    async fn credentials(&self, key: &str, server: &MockServer) {
        let own = [("x-api-key", key)];
        let client = |path: &str| {
            json!({"type": "oauth2", "token_url": format!("{}/{path}", server.uri()),
                "client_id": "ana", "client_secret": CLIENT, "reason": "r"})
        };
        assert_eq!(self.ask(&own, &["refuses", "odd", "no-token"]).await, 200);
        for body in [
            json!({"type": "bearer_token", "token": BEARER, "reason": "r"}),
            json!({"type": "basic_auth", "username": "ana", "password": PASSWORD, "reason": "r"}),
            client("token"),
            client("no-token"),
        ] {
            assert_eq!(self.put(key, "odd", &body).await, 200);
            assert_eq!(self.put(key, "refuses", &body).await, 200);
            assert_eq!(self.ask(&own, &["refuses", "odd"]).await, 200);
        }
        for wrong in [
            json!({"type": "bearer_token", "token": [BEARER], "reason": "r"}),
            json!({"type": PASSWORD, "reason": "r"}),
            json!({"type": "bearer_token", "value": BEARER, "reason": "r"}),
            json!(BEARER),
        ] {
            assert_eq!(self.put(key, "odd", &wrong).await, 400);
        }
    }

    /// Credentials of callers that are wrong in many ways, and signatures.
    async fn callers(&self, key: &str) {
        let guess = format!("orch_0123456789ab_{GUESS}");
        for (header, value) in [
            ("x-api-key", guess.as_str()),
            ("authorization", &format!("Bearer {guess}")),
            ("authorization", &format!("Basic {BEARER}")),
            ("authorization", &format!("Bearer {BEARER}")),
            ("x-tenant-id", PASSWORD),
            ("x-request-id", &format!("{PASSWORD}!")),
        ] {
            assert_ne!(self.ask(&[("x-api-key", key), (header, value)], &[]).await, 200);
            assert_ne!(self.ask(&[(header, value)], &["nobody"]).await, 200);
        }
        let end = jiff::Timestamp::now().as_second() + 60;
        let mut claims = json!({"iss": "orchestrator", "aud": "orchestrator", "sub": "ana",
            "exp": end, "tenant_id": "signs", "roles": ["app"]});
        let good = format!("Bearer {}", token(&claims, JWT));
        let good = ("authorization", good.as_str());
        assert_eq!(self.ask(&[good], &[]).await, 401, "it is not signed");
        let forged = [good, ("x-timestamp", "1"), ("x-signature", BEARER)];
        assert_eq!(self.ask(&forged, &[]).await, 401);
        claims["aud"] = json!(PASSWORD);
        let bad = format!("Bearer {}", token(&claims, JWT));
        assert_eq!(self.ask(&[("authorization", &bad)], &[]).await, 401);
    }

    /// What the WAF speaks of, and every page there is.
    async fn envelopes(&self, key: &str) {
        let own = [JSON, ("x-api-key", key)];
        let hostile = format!("1' UNION SELECT {PASSWORD} FROM users--");
        let encoded = hostile.replace(' ', "%20").replace('\'', "%27");
        let path = format!("/api/v1/detectors?status={encoded}");
        assert_eq!(self.send("GET", &path, &own, "").await, 400);
        assert_eq!(self.ask(&[own[1], ("x-note", hostile.as_str())], &[]).await, 400);
        let body = json!({"content": CONTENT, "metadata": {"note": hostile}}).to_string();
        assert_eq!(self.send("POST", "/api/v1/orchestrate", &own, &body).await, 400);
        for path in [
            "/metrics",
            "/health/detailed",
            "/api/v1/detectors",
            "/api/v1/generations",
            "/api/v1/keys",
            "/api/v1/breakers",
            "/api/v1/detectors/odd",
            "/.well-known/jwks.json",
        ] {
            assert_eq!(self.send("GET", path, &own, "").await, 200, "{path}");
        }
    }
}

#[tokio::test]
async fn no_secret_and_no_content_is_ever_told() {
    let (dir, server) = (tempfile::tempdir().unwrap(), outside().await);
    prepare(dir.path(), &server);
    let served = start(dir.path());
    let told = Told { address: served.address.clone(), said: std::sync::Mutex::default() };
    let key = format!("orch_0123456789ab_{BOOT}");
    told.credentials(&key, &server).await;
    told.callers(&key).await;
    told.envelopes(&key).await;
    let (code, out, error) = served.stop();
    assert_eq!(code, Some(0), "{error}");
    assert!(out.contains("looks like an attack") && out.contains("TRACE"));
    let said = String::from_utf8_lossy(&told.said.lock().unwrap()).into_owned();
    // A caller gets its own content back.
    let said = said.replace(&format!("{CONTENT}@evil.io"), "");
    for (what, said) in [("answers", said), ("log", out), ("errors", error)] {
        let found = found_in(said.as_bytes());
        if let Some(first) = found.first() {
            let line = said.lines().find(|line| line.contains(first)).unwrap_or_default();
            panic!("{what} tell {found:?}: {}", line.chars().take(2000).collect::<String>());
        }
    }
    for entry in std::fs::read_dir(dir.path().join("data")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            assert_eq!(found_in(&std::fs::read(&path).unwrap()), [""; 0], "{}", path.display());
        }
    }
}

#[test]
fn a_start_that_fails_does_not_tell_its_secrets() {
    let dir = tempfile::tempdir().unwrap();
    let database = format!("postgres://ana:{DSN}@db/x");
    for (name, value) in [
        ("ORCHESTRATION_DATABASE_URL", database.as_str()),
        ("ORCHESTRATION_REDIS_URL", DSN),
        ("ORCHESTRATION_DATA_KEY", "canary-dsn-is-no-hexadecimal"),
        ("ORCHESTRATION_DATA_KEY_PREVIOUS", DSN),
        ("ORCHESTRATION_KEY_PEPPER", DSN),
        ("ORCHESTRATION_EVIDENCE_KEY", DSN),
        ("ORCHESTRATION_JWT_SECRET_KEY", DSN),
        ("ORCHESTRATION_BOOTSTRAP_KEY", DSN),
        ("ORCHESTRATION_DATA_KEYS", DSN),
    ] {
        let mut start = command(dir.path());
        start.args(["serve", "--listen", "127.0.0.1:0"]).env(name, value);
        let output = start.output().unwrap();
        assert!(!output.status.success(), "{name} was taken");
        let said = [output.stdout, output.stderr].concat();
        assert_eq!(found_in(&said), [""; 0], "{name}: {}", text(&said));
    }
}
