use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

fn call(uri: &str) -> Call {
    Call {
        method: http::Method::POST,
        uri: uri.parse().unwrap(),
        headers: http::HeaderMap::new(),
        body: "{}".into(),
        body_max: 1024,
    }
}

/// Spellings that reach something forbidden even in development.
const NEVER: &[&str] = &[
    "http://169.254.169.254/",
    "http://169.254.169.254./",
    "http://169.254.0.1/",
    "http://[::ffff:169.254.169.254]/",
    "http://[::ffff:a9fe:a9fe]/",
    "http://[::169.254.169.254]/",
    "http://[::ffff:0:169.254.169.254]/",
    "http://[64:ff9b::a9fe:a9fe]/",
    "http://[64:ff9b::169.254.169.254]/",
    "http://[64:ff9b:1::a9fe:a9fe]/",
    "http://[2002:a9fe:a9fe::]/",
    "http://[2002:a9fe:a9fe::1]/",
    "http://[2001:0:4136:e378:8000:63bf:3fff:fdd2]/",
    "http://[fd00:ec2::254]/",
    "http://[fe80::1]/",
    "http://[FEBF::1]/",
    "http://[ff02::1]/",
    "http://[::]/",
    "http://[::ffff:0.0.0.0]/",
    "http://0.0.0.0/",
    "http://0/",
    "http://0.1.2.3/",
    "http://224.0.0.1/",
    "http://255.255.255.255/",
    "http://240.0.0.1/",
    "http://100.100.100.200/",
    "http://168.63.129.16/",
    "http://192.0.0.192/",
    "http://2852039166/",
    "http://0xa9fea9fe/",
    "http://0XA9FEA9FE/",
    "http://0251.0376.0251.0376/",
    "http://0xa9.0xfe.0xa9.0xfe/",
    "http://169.254.43518/",
    "http://169.16689662/",
    "http://169.254.169.0xfe/",
    "http://user@169.254.169.254/",
    "http://good.example@169.254.169.254/",
    "ftp://good.example/",
    "gopher://127.0.0.1/",
    "/relative",
];

/// Spellings that reach this machine or its network: staging and production refuse them.
const PRIVATE: &[&str] = &[
    "http://127.0.0.1/",
    "https://127.0.0.1:8443/",
    "http://127.255.255.254/",
    "http://localhost/",
    "http://LOCALHOST./",
    "http://a.localhost/",
    "http://[::1]/",
    "http://[0:0:0:0:0:0:0:1]/",
    "http://[::ffff:127.0.0.1]/",
    "http://[::ffff:7f00:1]/",
    "http://[::127.0.0.1]/",
    "http://[64:ff9b::7f00:1]/",
    "http://[2002:7f00:1::]/",
    "http://[::ffff:10.0.0.1]/",
    "http://10.0.0.1/",
    "http://172.16.0.1/",
    "http://172.31.255.255/",
    "http://192.168.1.1/",
    "http://100.64.0.1/",
    "http://198.18.0.1/",
    "http://[fc00::1]/",
    "http://[fdff::1]/",
    "http://[fec0::1]/",
];

/// Numbers in disguise: nobody honest writes them, so no environment takes them.
const DISGUISED: &[&str] = &[
    "http://2130706433/",
    "http://0x7f000001/",
    "http://0x7f.1/",
    "http://0177.0.0.1/",
    "http://127.1/",
    "http://127.0.1/",
    "http://0x7f.0.0.0x1/",
    "http://017700000001/",
    "http://00000177.0.0.1/",
    "http://127.0.0.1.0/",
    "http://1.2.3.4.5/",
    "http://256.0.0.1/",
    "http://0x/",
];

const PUBLIC: &[&str] = &[
    "http://93.184.216.34/",
    "https://good.example/",
    "http://172.32.0.1/",
    "http://100.128.0.1/",
    "http://[2606:2800:220:1::1]/",
    "http://[2002:5db8:d822::1]/",
    "http://1.example/",
    "http://0x7f.example:9000/p",
];

#[test]
fn no_spelling_of_a_forbidden_address_passes() {
    let open = Guard::new(
        Env::Development,
        vec![Allow::parse("0.0.0.0/0").unwrap(), Allow::parse("::/0").unwrap()],
    );
    let strict = [Guard::new(Env::Staging, vec![]), Guard::new(Env::Production, vec![])];
    let check = |guard: &Guard, raw: &str| match raw.parse::<http::Uri>() {
        Ok(uri) => guard.check(&uri),
        Err(_) => Err(Forbidden::Host),
    };
    for raw in NEVER.iter().chain(DISGUISED) {
        assert!(check(&open, raw).is_err(), "{raw}");
    }
    for raw in NEVER.iter().chain(DISGUISED).chain(PRIVATE) {
        assert!(strict.iter().all(|guard| check(guard, raw).is_err()), "{raw}");
    }
    for raw in PRIVATE {
        assert_eq!(check(&open, raw), Ok(()), "{raw}");
    }
    for raw in PUBLIC {
        assert!(strict.iter().all(|guard| check(guard, raw).is_ok()), "{raw}");
    }
}

#[test]
fn the_allow_list_opens_what_it_names_and_nothing_else() {
    let allow = ["10.1.0.0/16", "127.0.0.1", "*.internal", "db"].map(|a| Allow::parse(a).unwrap());
    let guard = Guard::new(Env::Production, allow.to_vec());
    let admits = |host: &str, ip: &str| guard.admits(host, ip.parse().unwrap(), 80).is_ok();
    assert!(admits("x", "10.1.255.255") && !admits("x", "10.2.0.0"));
    assert!(admits("x", "127.0.0.1") && !admits("x", "127.0.0.2"));
    assert!(admits("a.internal", "192.168.0.1") && !admits("ainternal", "192.168.0.1"));
    assert!(admits("db", "192.168.0.1") && !admits("db", "169.254.169.254"));
    for bad in ["", "10.0.0.0/33", "a b", "10.0.0.0/x", "*.", "2130706433"] {
        assert!(Allow::parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn an_entry_with_a_port_opens_that_port_alone() {
    let allow = ["10.1.0.0/16:8080", "db:5000", "*.internal:443", "[fd00::/16]:9", "127.0.0.1:80"];
    let guard = Guard::new(Env::Production, allow.map(|a| Allow::parse(a).unwrap()).to_vec());
    let admits = |host: &str, ip: &str, port| guard.admits(host, ip.parse().unwrap(), port).is_ok();
    for (host, ip, port) in [
        ("x", "10.1.2.3", 8080),
        ("db", "192.168.0.1", 5000),
        ("a.internal", "192.168.0.1", 443),
        ("x", "fd00::1", 9),
    ] {
        assert!(admits(host, ip, port) && !admits(host, ip, port + 1), "{host} {ip}");
    }
    let checked = |raw: &str| guard.check(&raw.parse().unwrap()).is_ok();
    assert!(checked("http://127.0.0.1/") && checked("http://localhost:80/"));
    assert!(!checked("https://127.0.0.1/") && !checked("http://127.0.0.1:81/"));
    for bad in [
        "db:",
        "db:0",
        "db:65536",
        "db:+80",
        ":80",
        "db:80:81",
        "[db]:80",
        "[10.0.0.1]:80",
        "[fd00::1]",
    ] {
        assert!(Allow::parse(bad).is_err(), "{bad}");
    }
}

#[tokio::test]
async fn a_name_is_connected_to_at_its_allowed_port_alone() {
    let allow = vec![Allow::parse("db:1").unwrap()];
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let loopback = || Rebinding(AtomicUsize::new(0), vec![vec!["127.0.0.1".parse().unwrap()]; 2]);
    let guard = Arc::new(Guard::new(Env::Production, allow));
    let client = Client::with_resolver(guard, Arc::new(loopback()));
    let error = client.send(call(&format!("http://db:{port}/"))).await.unwrap_err();
    assert!(matches!(error, SendError::Forbidden(Forbidden::Private)), "{error:?}");
    let error = client.send(call("http://db:1/")).await.unwrap_err();
    assert!(!matches!(error, SendError::Forbidden(_)), "the allowed port was refused: {error:?}");
    // Whoever connected before would be accepted before.
    let own = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let (_, first) = listener.accept().await.unwrap();
    assert_eq!(first, own.local_addr().unwrap(), "a forbidden port was connected to");
}

/// Answers with the first list once, then with the second.
struct Rebinding(AtomicUsize, Vec<Vec<IpAddr>>);

impl Resolve for Rebinding {
    fn resolve(&self, _: &str) -> Resolving {
        let turn = self.0.fetch_add(1, Ordering::Relaxed).min(self.1.len() - 1);
        let answer = self.1[turn].iter().map(|ip| SocketAddr::new(*ip, 0)).collect();
        Box::pin(async move { Ok(answer) })
    }
}

fn rebinding(answers: &[&[&str]]) -> Arc<Rebinding> {
    let parse = |list: &&[&str]| list.iter().map(|ip| ip.parse().unwrap()).collect();
    Arc::new(Rebinding(AtomicUsize::new(0), answers.iter().map(parse).collect()))
}

async fn server() -> wiremock::MockServer {
    let server = wiremock::MockServer::start().await;
    wiremock::Mock::given(wiremock::matchers::any())
        .respond_with(wiremock::ResponseTemplate::new(200).set_body_string("ok"))
        .mount(&server)
        .await;
    server
}

#[tokio::test]
async fn a_name_that_turns_to_a_private_address_is_not_connected() {
    let server = server().await;
    let uri = format!("http://good.example:{}/", server.address().port());
    for (answers, env) in [
        (rebinding(&[&["127.0.0.1"]]), Env::Production),
        (rebinding(&[&["::ffff:127.0.0.1", "10.0.0.1"]]), Env::Staging),
        (rebinding(&[&["169.254.169.254"]]), Env::Development),
        (rebinding(&[&["::", "0.0.0.0"]]), Env::Development),
    ] {
        let client = Client::with_resolver(Arc::new(Guard::new(env, vec![])), answers);
        let error = client.send(call(&uri)).await.unwrap_err();
        assert!(matches!(error, SendError::Forbidden(_)), "{error:?}");
    }
    assert!(server.received_requests().await.unwrap().is_empty());
}

#[tokio::test]
async fn every_new_connection_asks_the_guard_again() {
    let server = server().await;
    let uri = format!("http://good.example:{}/", server.address().port());
    let answers = rebinding(&[&["169.254.1.1", "127.0.0.1"], &["169.254.1.1"]]);
    let guard = Arc::new(Guard::new(Env::Development, vec![]));
    let client = Client::with_resolver(Arc::clone(&guard), answers.clone());
    assert_eq!(client.send(call(&uri)).await.unwrap().body, "ok");
    let second = Client::with_resolver(guard, answers);
    assert!(matches!(second.send(call(&uri)).await, Err(SendError::Forbidden(_))));
}

#[tokio::test]
async fn an_ip_literal_that_never_meets_the_resolver_is_refused_too() {
    let server = server().await;
    let client = Client::new(Arc::new(Guard::new(Env::Production, vec![])));
    for uri in [server.uri(), format!("http://[::ffff:127.0.0.1]:{}", server.address().port())] {
        assert!(matches!(client.send(call(&uri)).await, Err(SendError::Forbidden(_))), "{uri}");
    }
    assert!(server.received_requests().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_plain_server_does_not_pass_for_tls() {
    let server = server().await;
    let client = Client::new(Arc::new(Guard::new(Env::Development, vec![])));
    let uri = server.uri().replace("http:", "https:");
    let error = client.send(call(&uri)).await.unwrap_err();
    assert!(matches!(error, SendError::Tls(_)), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_client_serves_every_thread_of_a_runtime() {
    let server = server().await;
    let client = Client::new(Arc::new(Guard::new(Env::Development, vec![])));
    let calls = (0..16).map(|_| client.send(call(&server.uri())));
    for reply in futures_util::future::join_all(calls).await {
        assert_eq!(reply.unwrap().body, "ok");
    }
}
