//! Rows of the fault matrix that no other test shows: descriptors used up, a caller who leaves, a
//! handler that panics, a tenant that nobody knows.

use std::time::{Duration, Instant};

use actix_web::middleware::from_fn;
use actix_web::{App, HttpResponse, web};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::checks::metric;
use super::checks::row;
use super::fakes::{self, Kind};
use super::load::{Target, complete};
use super::{BOOT, core_seconds, median, native, serve, tenant, tier};
use crate::app::{client, send, spawn, spawn_closed, write};
use crate::binary::{Served, program, service};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_descriptors_it_neither_ends_nor_spins_and_recovers_when_some_are_free() {
    let dir = tempfile::tempdir().unwrap();
    detector_orchestrator::assets::write_to(dir.path()).unwrap();
    let mut limited = program("sh", dir.path());
    limited.args(["-c", "ulimit -n 256 && exec \"$0\" serve --listen 127.0.0.1:0", &service()]);
    limited.env("ORCHESTRATION_SERVER__WORKERS", "2");
    limited.env("ORCHESTRATION_POLICY__EVAL_TIMEOUT", "2s");
    let mut served = Served::start(limited);
    served.discard_output();
    let kept = Target::new(&served.address, None);
    let asked = json!({"content": "hello"}).to_string();
    assert_eq!(kept.ask(asked.clone()).await.0, 200);
    let mut taken = Vec::new();
    // Some are accepted, the rest wait in the kernel.
    for _ in 0..320 {
        taken.push(TcpStream::connect(&served.address).await.unwrap());
    }
    let fds = || std::fs::read_dir(format!("/proc/{}/fd", served.pid())).unwrap().count();
    let until = Instant::now() + Duration::from_secs(10);
    while fds() < 250 && Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (open, before, began) = (fds(), core_seconds(&served), Instant::now());
    assert!(open >= 250, "only {open} descriptors are open");
    tokio::time::sleep(Duration::from_secs(3)).await;
    let spent = (core_seconds(&served) - before) / began.elapsed().as_secs_f64();
    row(
        "256 descriptors, all in use: CPU ≤ 20 %, requests on open connections answered",
        &format!("{:.1} % of a core; answered", spent * 100.0),
        "3 s",
    );
    assert!(spent <= 0.2, "it spends {:.0} % of a core", spent * 100.0);
    let (status, _, value) = kept.ask(asked.clone()).await;
    assert_eq!((status, complete(&value)), (200, true), "on a connection from before: {value}");
    drop(taken);
    let freed = Instant::now();
    let fresh = Target::new(&served.address, None);
    assert_eq!(fresh.ask(asked).await.0, 200);
    let took = format!("after {:.0?}", freed.elapsed());
    row("it recovers when descriptors are free: a new connection is answered", &took, "1");
    let (code, ..) = served.stop();
    assert_eq!(code, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_leaves_ends_the_calls_that_were_made_for_it() {
    let (mut tasks, dir) = (JoinSet::new(), tempfile::tempdir().unwrap());
    detector_orchestrator::assets::write_to(dir.path()).unwrap();
    let fake = fakes::start(&mut tasks, Kind::Obeys).await;
    let more = "timeout: 60s\nhealth: {path: ''}\n";
    native(dir.path(), "slow", ("http", fake.port), more);
    tenant(dir.path(), "t", "", &["slow".to_owned()]);
    let mut served = serve(dir.path(), &[]);
    let log = served.keep_output();
    let content =
        json!({"tenant_id": "t", "content": "fault:hang", "timeout_ms": 60_000}).to_string();
    let mut took = Vec::new();
    for number in 1..=20 {
        let mut stream = TcpStream::connect(&served.address).await.unwrap();
        let head = format!(
            "POST /api/v1/orchestrate HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{content}",
            content.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let until = Instant::now() + Duration::from_secs(20);
        while fake.calls() < number && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!((fake.calls(), fake.open()), (number, 1), "the detector was not asked");
        let left = Instant::now();
        drop(stream);
        while fake.open() > 0 && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(fake.open(), 0, "the call goes on for nobody");
        took.push(left.elapsed().as_secs_f64() * 1e3);
    }
    let most = took.iter().copied().fold(0.0, f64::max);
    let told = format!("{:.1} ms at the median, {most:.1} ms at most", median(took));
    row("a caller who leaves ends its detector calls within 50 ms", &told, "20");
    let bound = if tier().pairs > 1 { 50.0 } else { 5_000.0 };
    assert!(most <= bound, "a call went on for {most} ms");
    let text = Target::new(&served.address, None).get("/metrics").await;
    let gone = metric(&text, "orchestrator_http_requests_total", &[r#"code="499""#]);
    assert_eq!(gone, 20.0, "{text}");
    served.stop();
    let told = log.join().unwrap().matches(r#""code":"client_gone""#).count();
    assert_eq!(told, 20);
}

#[tokio::test]
async fn a_handler_that_panics_is_a_500_with_its_id_and_is_counted() {
    let running = spawn().await;
    let boom = || async {
        if std::hint::black_box(true) {
            panic!("on purpose");
        }
        HttpResponse::Ok().finish()
    };
    let app = App::new()
        .app_data(running.api.clone())
        .wrap(from_fn(detector_orchestrator::api::edge))
        .route("/boom", web::get().to(boom));
    let app = actix_web::test::init_service(app).await;
    let request =
        actix_web::test::TestRequest::get().uri("/boom").insert_header(("x-request-id", "r-1"));
    let error = actix_web::test::try_call_service(&app, request.to_request()).await.unwrap_err();
    let response = error.error_response();
    assert_eq!(response.status().as_u16(), 500);
    assert_eq!(response.headers().get("x-request-id").unwrap(), "r-1");
    let bytes = actix_web::body::to_bytes(response.into_body()).await.unwrap();
    let problem: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(problem["code"], "INTERNAL_ERROR");
    assert!(!problem.to_string().contains("on purpose"), "{problem}");
    let text = running.get("/metrics").await.text;
    assert_eq!(metric(&text, "orchestrator_panics_total", &[]), 1.0);
    assert_eq!(running.post("/api/v1/orchestrate", &json!({"content": "hi"})).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_tenant_is_answered_as_another_ones_is_and_as_fast() {
    let app = spawn_closed(BOOT).await;
    let client = client();
    let at = |path: &str| format!("http://{}/api/v1{path}", app.address);
    let made = json!({"roles": ["app"], "tenant": "default", "label": "a", "reason": "a test"});
    let headers = [("content-type", "application/json"), ("x-api-key", BOOT)];
    let made = send(&client, ("POST", &at("/keys")), &headers, made.to_string().as_bytes()).await;
    let key = made.json()["key"].as_str().unwrap().to_owned();
    let headers = [("content-type", "application/json"), ("x-api-key", key.as_str())];
    // `acme` is shipped.
    let names = ["acme", "nope"];
    let mut took = [Vec::new(), Vec::new()];
    let mut bodies = [serde_json::Value::Null, serde_json::Value::Null];
    for _ in 0..1_000 {
        for (side, name) in names.iter().enumerate() {
            let body = json!({"tenant_id": name, "content": "hello"}).to_string();
            let began = Instant::now();
            let answer =
                send(&client, ("POST", &at("/orchestrate")), &headers, body.as_bytes()).await;
            took[side].push(began.elapsed().as_secs_f64() * 1e3);
            assert_eq!(answer.status, 403, "{}", answer.text);
            let mut value = answer.json();
            value.as_object_mut().unwrap().remove("request_id");
            bodies[side] = value;
        }
    }
    assert_eq!(bodies[0], bodies[1]);
    let [known, unknown] = took.map(median);
    let told = format!("x{:.3} ({known:.3} and {unknown:.3} ms), bodies equal", unknown / known);
    row("an unknown tenant and another one's: medians within 10 %", &told, "1 000 each, in turn");
    let bound = if tier().pairs > 1 { 1.1 } else { 1.25 };
    assert!((unknown / known).max(known / unknown) <= bound, "{known} and {unknown} ms");
}

#[tokio::test]
async fn a_body_cut_short_costs_its_connection_and_no_other() {
    let app = spawn().await;
    let mut stream = TcpStream::connect(app.address).await.unwrap();
    let head = "POST /api/v1/orchestrate HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
                content-length: 100\r\n\r\n{";
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    assert!(!rest.starts_with(b"HTTP/1.1 200"));
    assert_eq!(app.post("/api/v1/orchestrate", &json!({"content": "hi"})).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_optional_detector_that_hangs_is_told_and_lacks_nothing_and_all_down_allows_nothing() {
    let (mut tasks, dir) = (JoinSet::new(), tempfile::tempdir().unwrap());
    detector_orchestrator::assets::write_to(dir.path()).unwrap();
    let fake = fakes::start(&mut tasks, Kind::Obeys).await;
    let quick = "timeout: 300ms\nhealth: {path: ''}\nbreaker: {failures: 10000}\n";
    native(dir.path(), "hangs", ("http", fake.port), quick);
    native(dir.path(), "gone", ("http", 1), quick);
    for (id, table) in [
        ("optional", "settings:\n  required: [pii]\n  optional: [hangs]\n"),
        ("down", "settings:\n  required: [hangs, gone]\n  optional: []\n"),
    ] {
        tenant(dir.path(), id, "", &[]);
        write(dir.path(), &format!("policies/tenants/{id}/standard/data.yaml"), table);
    }
    let mut served = serve(dir.path(), &[]);
    served.discard_output();
    let target = Target::new(&served.address, None);
    let body = |tenant: &str, n: usize| {
        json!({"tenant_id": tenant, "content": format!("fault:hang {n}"), "include": ["detectors"],
            "timeout_ms": 20_000})
        .to_string()
    };
    for n in 0..5 {
        let (status, _, value) = target.ask(body("optional", n)).await;
        let reports = value["detectors"].as_array().unwrap();
        let hangs = reports.iter().find(|report| report["name"] == "hangs").unwrap();
        assert_eq!((status, &value["action"]), (200, &json!("allow")), "{value}");
        assert_eq!((&hangs["status"], complete(&value)), (&json!("timeout"), true), "{value}");
        let took = hangs["duration_ms"].as_f64().unwrap();
        assert!(took <= 300.0 + tier().slack_ms, "the request waited {took} ms for it");
        let (status, _, value) = target.ask(body("down", n)).await;
        assert_eq!((status, &value["action"]), (200, &json!("review")), "{value}");
        let coverage = &value["coverage"];
        let codes = ["ALL_DETECTORS_UNAVAILABLE", "DETECTOR_COMMUNICATION_FAILED"];
        assert!(codes.contains(&coverage["code"].as_str().unwrap()), "{coverage}");
        assert_eq!((&coverage["complete"], &value["allowed"]), (&json!(false), &json!(false)));
    }
}
