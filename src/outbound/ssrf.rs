//! Ways to make the service reach what it must not, beyond the spellings in `tests`: addresses that
//! parsers read apart, answers of resolvers that change, replies that point elsewhere.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

/// Refused in every environment, whatever the allow-list opens.
const NEVER: &[&str] = &[
    "file:///etc/passwd",
    "file://127.0.0.1/etc/passwd",
    "dict://127.0.0.1:11211/",
    "ldap://good.example/",
    "ws://good.example/",
    "jar:http://good.example!/",
    "data:text/plain,x",
    "javascript:alert(1)",
    "http:///",
    "http://",
    "http:good.example",
    "//good.example/",
    "good.example",
    "http:/169.254.169.254/",
    "http:\\\\169.254.169.254\\",
    "http://good.example\\@169.254.169.254/",
    "http://169.254.169.254#@good.example/",
    "http://169.254.169.254?@good.example/",
    "http://a:b@169.254.169.254/",
    "http://@169.254.169.254/",
    "http://169.254.169.254@good.example/",
    "http://good.example%40169.254.169.254/",
    "http://169.254.169.254%00.good.example/",
    "http://169.254.169.254%2f.good.example/",
    "http://%31%36%39.254.169.254/",
    "http://169.254.169.254\u{0}/",
    "http://169。254。169。254/",
    "http://①⑥⑨.②⑤④.①⑥⑨.②⑤④/",
    "http://１６９.254.169.254/",
    "http://169.254.169.254 /",
    "http://169.254.169.254\t/",
    "http://169.254.169.254\r\nHost: good.example/",
    "http://169.254.169.254../",
    "http://.169.254.169.254/",
    "http://169.254.169.254:80/",
    "http://169.254.169.254:099999/",
    "http://169.254.169.254:-1/",
    "https://169.254.169.254:443/",
    "HTTP://169.254.169.254/",
    "http://[::ffff:100.100.100.200]/",
    "http://[::ffff:168.63.129.16]/",
    "http://[::ffff:a83f:8110]/",
    "http://[64:ff9b::6464:64c8]/",
    "http://[2002:6464:64c8::]/",
    "http://[2002:e000:1::]/",
    "http://[0:0:0:0:0:ffff:a9fe:a9fe]/",
    "http://[0000:0000:0000:0000:0000:FFFF:169.254.169.254]/",
    "http://[fe80::1%25eth0]/",
    "http://[fe80::1%eth0]/",
    "http://[::ffff:169.254.169.254%25lo]/",
    "http://[FD00:EC2::254]/",
    "http://[169.254.169.254]/",
    "http://[v1.169.254.169.254]/",
    "http://[::1/",
    "http://::1/",
    "http://0xA9.254.169.254/",
    "http://0251.254.169.254/",
    "http://169.0376.43518/",
    "http://0x00000000a9fea9fe/",
    "http://425.510.425.510/",
    "http://7147006462/",
    "http://0/",
    "http://0x0/",
    "http://00000000/",
    "http://239.255.255.250:1900/",
    "http://255.255.255.255:9/",
];

/// Refused outside development.
const PRIVATE: &[&str] = &[
    "HTTP://127.0.0.1/",
    "http://127.0.0.1:22/",
    "http://127.0.0.1:0/",
    "http://127.0.0.1./",
    "http://LocalHost:6379/",
    "http://x.y.localhost./",
    "http://[::FFFF:127.0.0.1]:8080/",
    "http://[2002:a00:1::]/",
    "http://[64:ff9b::c0a8:101]/",
    "http://[::c0a8:101]/",
    "http://[::1]good.example/",
];

fn guard(env: Env, allow: &[&str]) -> Guard {
    Guard::new(env, allow.iter().map(|raw| Allow::parse(raw).unwrap()).collect())
}

/// What cannot even be written as an address is refused as well.
fn refused(guard: &Guard, raw: &str) -> bool {
    raw.parse::<http::Uri>().map_or(true, |uri| guard.check(&uri).is_err())
}

#[test]
fn no_trick_with_an_address_reaches_what_is_forbidden() {
    let open = guard(Env::Development, &["0.0.0.0/0", "::/0", "*.example", "good.example"]);
    let strict = [guard(Env::Staging, &["good.example"]), guard(Env::Production, &[])];
    for raw in NEVER {
        assert!(refused(&open, raw), "{raw:?}");
    }
    for raw in NEVER.iter().chain(PRIVATE) {
        assert!(strict.iter().all(|guard| refused(guard, raw)), "{raw:?}");
    }
    for raw in PRIVATE {
        assert!(!refused(&open, raw), "{raw:?}");
    }
    // A fragment is no part of where a call goes.
    let fragment = "http://good.example#@169.254.169.254/".parse::<http::Uri>().unwrap();
    assert_eq!(guard::host_of(&fragment).as_deref(), Some("good.example"));
    assert!(NEVER.len() + PRIVATE.len() >= 60);
}

/// Gives the next list with each question, the last for ever.
struct Turning(AtomicUsize, Vec<Vec<IpAddr>>);

impl Resolve for Turning {
    fn resolve(&self, _: &str) -> Resolving {
        let turn = self.0.fetch_add(1, Ordering::Relaxed).min(self.1.len() - 1);
        let answer = self.1[turn].iter().map(|ip| SocketAddr::new(*ip, 0)).collect();
        Box::pin(async move { Ok(answer) })
    }
}

fn turning(turns: &[&[&str]]) -> Arc<Turning> {
    let parse = |list: &&[&str]| list.iter().map(|ip| ip.parse().unwrap()).collect();
    Arc::new(Turning(AtomicUsize::new(0), turns.iter().map(parse).collect()))
}

fn call(uri: &str) -> Call {
    Call {
        method: http::Method::GET,
        uri: uri.parse().unwrap(),
        headers: http::HeaderMap::new(),
        body: "".into(),
        body_max: 1024,
    }
}

async fn server(reply: wiremock::ResponseTemplate) -> wiremock::MockServer {
    let server = wiremock::MockServer::start().await;
    let any = wiremock::Mock::given(wiremock::matchers::any());
    any.respond_with(reply).mount(&server).await;
    server
}

/// Each call is a new connection: the resolver is asked again, and its new answer is vetted again.
#[tokio::test]
async fn a_name_is_vetted_again_whenever_its_answer_changes() {
    let server = server(wiremock::ResponseTemplate::new(200)).await;
    let uri = format!("http://good.example:{}/", server.address().port());
    for second in [
        &["127.0.0.2"][..],
        &["10.0.0.1"],
        &["169.254.169.254"],
        &["100.100.100.200"],
        &["0.0.0.0"],
        &["::1"],
        &["::"],
        &["::ffff:127.0.0.2"],
        &["::ffff:169.254.169.254"],
        &["64:ff9b::a9fe:a9fe"],
        &["2002:7f00:2::"],
        &["fd00:ec2::254"],
        &["fe80::1", "10.0.0.1", "192.168.0.1"],
    ] {
        let guard = Arc::new(guard(Env::Production, &["127.0.0.1"]));
        let names = turning(&[&["127.0.0.1"], second]);
        let first = Client::with_resolver(Arc::clone(&guard), names.clone());
        assert_eq!(first.send(call(&uri)).await.unwrap().status, 200);
        let again = Client::with_resolver(guard, names);
        let error = again.send(call(&uri)).await.unwrap_err();
        assert!(matches!(error, SendError::Forbidden(_)), "{second:?}: {error:?}");
    }
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_not_a_new_address() {
    let target = server(wiremock::ResponseTemplate::new(200)).await;
    let to = [target.uri(), "http://169.254.169.254/".into(), "//127.0.0.1/".into()];
    for (status, location) in [301, 302, 303, 307, 308].iter().zip(to.iter().cycle()) {
        let reply =
            wiremock::ResponseTemplate::new(*status).insert_header("location", location.as_str());
        let server = server(reply).await;
        let client = Client::new(Arc::new(guard(Env::Development, &[])));
        assert_eq!(client.send(call(&server.uri())).await.unwrap().status.as_u16(), *status);
    }
    assert!(target.received_requests().await.unwrap().is_empty());
}
