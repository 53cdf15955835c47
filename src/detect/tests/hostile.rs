//! Servers that lie, stall and flood: each ends with its status by its time-out.

use super::*;

type Hostile = (&'static str, Vec<u8>, Then, Option<ReportError>);

fn broken_transport() -> Vec<Hostile> {
    static CHUNK: [u8; 65536] = [b'a'; 65536];
    let endless = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
    let huge = |length: &str| format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
    vec![
        ("hang", vec![], Then::Hang, None),
        ("head then hang", huge("9").into_bytes(), Then::Hang, None),
        ("one byte at a time", huge("900000").into_bytes(), Then::Drip, None),
        ("closes", vec![], Then::Close, Some(ReportError::Communication)),
        ("reset", vec![], Then::Reset, Some(ReportError::Communication)),
        (
            "reset mid body",
            [huge("900").into_bytes(), b"{".to_vec()].concat(),
            Then::Reset,
            Some(ReportError::Communication),
        ),
        (
            "end mid body",
            [huge("900").into_bytes(), b"{".to_vec()].concat(),
            Then::Close,
            Some(ReportError::Communication),
        ),
        (
            "garbage",
            b"\x00\x01\x02 what\r\n\r\n".to_vec(),
            Then::Close,
            Some(ReportError::BadResponse),
        ),
        ("endless body", endless, Then::Stream(&CHUNK), Some(ReportError::BadResponse)),
        (
            "endless head",
            b"HTTP/1.1 200 OK\r\nx: ".to_vec(),
            Then::Stream(&CHUNK),
            Some(ReportError::BadResponse),
        ),
        (
            "a gigabyte promised",
            huge("1073741824").into_bytes(),
            Then::Hang,
            Some(ReportError::BadResponse),
        ),
        (
            "length beyond numbers",
            huge("99999999999999999999999").into_bytes(),
            Then::Hang,
            Some(ReportError::BadResponse),
        ),
        (
            "two lengths",
            b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n{}".to_vec(),
            Then::Hang,
            Some(ReportError::BadResponse),
        ),
        (
            "bad chunk",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n".to_vec(),
            Then::Hang,
            Some(ReportError::BadResponse),
        ),
    ]
}

fn strange_heads() -> Vec<Hostile> {
    let many = "x: y\r\n".repeat(100_000);
    let gzip = "content-encoding: gzip\r\n";
    vec![
        ("many headers", http("200 OK", &many, CLEAN), Then::Hang, Some(ReportError::BadResponse)),
        ("gzip", http("200 OK", gzip, CLEAN), Then::Hang, Some(ReportError::BadResponse)),
        (
            "redirect",
            http("302 Found", "location: http://127.0.0.1:1/\r\n", ""),
            Then::Hang,
            Some(ReportError::BadResponse),
        ),
        (
            "switch",
            b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n"
                .to_vec(),
            Then::Hang,
            Some(ReportError::BadResponse),
        ),
        ("server error", http("500 X", "", CLEAN), Then::Hang, Some(ReportError::Communication)),
        ("gateway error", http("502 X", "", CLEAN), Then::Hang, Some(ReportError::Communication)),
        ("refusal", http("401 X", "", CLEAN), Then::Hang, Some(ReportError::Rejected)),
        ("bad request", http("400 X", "", CLEAN), Then::Hang, Some(ReportError::Rejected)),
        ("no content", http("204 X", "", ""), Then::Hang, Some(ReportError::BadResponse)),
    ]
}

/// Replies that are no judgement.
const STRANGE: &[(&str, &str)] = &[
    ("no json", "<html>"),
    ("list", "[]"),
    ("nothing", "{}"),
    ("NaN", r#"{"label":"a","score":NaN}"#),
    ("infinity", r#"{"label":"a","score":1e999}"#),
    ("above one", r#"{"label":"a","score":1.01}"#),
    ("below nought", r#"{"label":"a","score":-0.1}"#),
    ("text score", r#"{"label":"a","score":"0.5"}"#),
    ("number label", r#"{"label":1,"score":0.5}"#),
    ("no score", r#"{"label":"a"}"#),
    ("no label", r#"{"score":0.5}"#),
    ("key twice", r#"{"label":"a","label":"clean","score":0.5}"#),
    ("span outside", r#"{"findings":[{"label":"a","score":1,"start":0,"end":6}]}"#),
    ("span empty", r#"{"findings":[{"label":"a","score":1,"start":1,"end":1}]}"#),
    ("span turned", r#"{"findings":[{"label":"a","score":1,"start":2,"end":1}]}"#),
    ("span negative", r#"{"findings":[{"label":"a","score":1,"start":-1,"end":1}]}"#),
    ("span half", r#"{"findings":[{"label":"a","score":1,"start":1}]}"#),
    ("severity", r#"{"label":"a","score":1,"severity":"huge"}"#),
];

fn strange_bodies() -> Vec<Hostile> {
    let deep = format!(
        "{{\"label\":\"a\",\"score\":1,\"metadata\":{}1{}}}",
        "[".repeat(40),
        "]".repeat(40)
    );
    let bad = Some(ReportError::BadResponse);
    let latin = b"HTTP/1.1 200 OK\r\ncontent-length: 25\r\n\r\n{\"label\":\"\xff\",\"score\":0.5}";
    let strange = STRANGE.iter().copied().chain([("deep", &*deep)]);
    strange
        .map(|(name, body)| (name, ok(body), Then::Hang, bad))
        .chain([("invalid utf-8", latin.to_vec(), Then::Hang, bad)])
        .collect()
}

#[tokio::test]
async fn every_hostile_reply_ends_with_its_status_by_its_time_out() {
    let cases = broken_transport().into_iter().chain(strange_heads()).chain(strange_bodies());
    let mut tasks = JoinSet::new();
    let (mut asks, mut expected) = (Vec::new(), Vec::new());
    for (index, (name, reply, then, error)) in cases.enumerate() {
        let (uri, _) = hostile(&mut tasks, reply, then).await;
        let mut detector = detector(&format!("d{index}"), Protocol::Native, &uri);
        if error.is_some() {
            // Only those who say nothing may use up their time, however busy the machine is.
            detector.timeout = Duration::from_secs(60);
        }
        asks.push(ask(detector));
        expected.push((name, error));
    }
    let start = Instant::now();
    let deadline = start + Duration::from_secs(120);
    let reports = detectors().fan_out(&asks, &sample(&["hello"]).work(), deadline).await;
    for (report, (name, error)) in reports.iter().zip(expected) {
        let status = error.map_or(Status::Timeout, ReportError::status);
        assert_eq!((report.status, report.error), (status, error), "{name}");
        assert!(!report.cut_by_deadline && report.attempts == 1, "{name}");
        assert!(error.is_none() || report.detail.is_some(), "{name}: nobody says why");
    }
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
}
