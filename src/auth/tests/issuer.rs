//! An issuer that publishes its keys over HTTP: a real server that changes, lies and hangs.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use aws_lc_rs::signature::Ed25519KeyPair;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;

use super::*;

/// Answers every request with what `says` holds; nothing at all where it is empty.
struct Issuer {
    url: String,
    says: Arc<Mutex<String>>,
    asked: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl Issuer {
    async fn start(says: String) -> Issuer {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/keys", listener.local_addr().unwrap());
        let (says, asked) = (Arc::new(Mutex::new(says)), Arc::new(AtomicUsize::new(0)));
        let (own, count) = (Arc::clone(&says), Arc::clone(&asked));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut each = JoinSet::new();
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                count.fetch_add(1, Ordering::Relaxed);
                let says = own.lock().unwrap_or_else(PoisonError::into_inner).clone();
                each.spawn(async move {
                    let _ = stream.read(&mut [0; 4096]).await;
                    if says.is_empty() {
                        std::future::pending::<()>().await;
                    }
                    let _ = stream.write_all(says.as_bytes()).await;
                });
            }
        });
        Issuer { url, says, asked, _tasks: tasks }
    }

    fn say(&self, says: String) {
        *self.says.lock().unwrap() = says;
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

fn ok(body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}")
}

/// As if the last look were that long ago; the clock of sockets cannot be paused.
async fn later(gate: &Gate, seconds: u64) {
    let tokens = gate.tokens.as_ref().unwrap();
    *tokens.looked.lock().await -= Duration::from_secs(seconds);
}

async fn gate(house: &House, issuer: &Issuer) -> Gate {
    let variables = [("SECURITY__JWT__JWKS_URL", issuer.url.as_str())];
    house.start(Env::Development, "127.0.0.1", &variables).await.unwrap()
}

fn key() -> Ed25519KeyPair {
    Ed25519KeyPair::generate().unwrap()
}

#[tokio::test]
async fn an_issuer_changes_its_keys_and_is_asked_once_for_all_who_wait() {
    let (old, old_set) = signed(&key(), "2025");
    let (new, new_set) = signed(&key(), "2026");
    let (house, issuer) = (House::new(), Issuer::start(ok(&old_set)).await);
    let gate = gate(&house, &issuer).await;
    assert_eq!((code(&gate, &old).await, issuer.asked()), (None, 1));
    issuer.say(ok(&new_set));
    assert_eq!(code(&gate, &new).await, Some(Code::Unauthorized), "asked a moment ago");
    assert_eq!(issuer.asked(), 1);
    later(&gate, 5).await;
    let all = futures_util::future::join_all((0..50).map(|_| code(&gate, &new))).await;
    assert_eq!(all, [None; 50]);
    assert_eq!(issuer.asked(), 2);
    assert_eq!(code(&gate, &old).await, Some(Code::Unauthorized), "what is gone is refused");
}

#[tokio::test]
async fn what_an_issuer_says_wrongly_changes_nothing() {
    let (good, set) = signed(&key(), "1");
    let (house, issuer) = (House::new(), Issuer::start(ok(&set)).await);
    let gate = gate(&house, &issuer).await;
    let unknown = signed(&key(), "unknown").0;
    let moved = "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\
                 connection: close\r\n\r\n";
    for (number, wrong) in [
        ok("{}"),
        ok("garbage"),
        ok(&format!("{set}{}", " ".repeat(1 << 20))),
        ok(r#"{"keys": [{"kty": "oct", "kid": "x", "k": "c2VjcmV0"}]}"#),
        "HTTP/1.1 500 Oops\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".into(),
        "HTTP/1.1 204 Nothing\r\nconnection: close\r\n\r\n".into(),
        moved.into(),
        "no HTTP at all".into(),
    ]
    .into_iter()
    .enumerate()
    {
        issuer.say(wrong.clone());
        later(&gate, 5).await;
        // Refused credentials of one address are counted.
        let from = ip(&format!("192.0.2.{number}"));
        let refused = gate.authenticate(Given::Credential(&unknown), from).await.unwrap_err();
        assert_eq!(refused.code, Code::Unauthorized, "{wrong}");
        assert_eq!(code(&gate, &good).await, None, "{wrong}");
        assert_eq!(issuer.asked(), number + 2, "{wrong}");
    }
}

#[tokio::test]
async fn an_issuer_that_hangs_holds_up_only_tokens_that_nobody_knows() {
    let (good, set) = signed(&key(), "1");
    let (house, issuer) = (House::new(), Issuer::start(ok(&set)).await);
    let gate = gate(&house, &issuer).await;
    issuer.say(String::new());
    later(&gate, 60).await;
    let unknown = signed(&key(), "unknown").0;
    let (waits, goes) = tokio::join!(code(&gate, &unknown), async {
        let before = std::time::Instant::now();
        (code(&gate, &good).await, before.elapsed())
    });
    assert_eq!((waits, goes.0), (Some(Code::Unauthorized), None));
    assert!(goes.1 < Duration::from_secs(1), "{:?}", goes.1);
}

#[tokio::test]
async fn a_start_without_an_answer_goes_on_and_its_tokens_are_not_called_wrong() {
    let (token, set) = signed(&key(), "1");
    let (house, issuer) = (House::new(), Issuer::start("garbage".into()).await);
    let gate = gate(&house, &issuer).await;
    for _ in 0..30 {
        assert_eq!(code(&gate, &token).await, Some(Code::StoreUnavailable));
    }
    issuer.say(ok(&set));
    later(&gate, 5).await;
    assert_eq!(code(&gate, &token).await, None);
}

#[tokio::test]
async fn an_address_that_must_not_be_asked_refuses_the_start() {
    let house = House::new();
    let file = house.data.path().join("keys.json");
    std::fs::write(&file, signed(&key(), "1").1).unwrap();
    for (env, url, file, expected) in [
        (Env::Production, "http://issuer.example/keys", None, "must be https"),
        (Env::Staging, "https://127.0.0.1/keys", None, "private"),
        (Env::Development, "http://169.254.169.254/keys", None, "link-local"),
        (Env::Development, "file:///etc/passwd", None, "is no address"),
        (Env::Development, "gopher://issuer.example/", None, "scheme"),
        (Env::Development, "http://127.0.0.1:1/keys", file.to_str(), "keep one"),
    ] {
        let mut variables = vec![("SECURITY__JWT__JWKS_URL", url)];
        variables.extend(file.map(|file| ("SECURITY__JWT__JWKS_FILE", file)));
        let refused = house.start(env, "127.0.0.1", &variables).await.err().unwrap();
        assert!(refused.to_string().contains(expected), "{url}: {refused}");
    }
}
