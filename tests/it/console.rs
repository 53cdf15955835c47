//! The web console: its files on the wire, and itself in a real Chromium by clicks and keys, with
//! authentication on.

use serde_json::{Value, json};

use crate::access::{BOOT, key, send};
use crate::app::{App, spawn_named, write};
use crate::chromium::{Browser, ENTER, TAB};
use crate::jobs::{dead_telling, given_up};

mod review;
mod views;

const VIEWS: [&str; 7] =
    ["overview", "detectors", "tenants", "jobs", "decisions", "policies", "reloads"];
/// What a reader sees is judged as axe-core judges it.
const AXE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/axe/axe.min.js");
const NOT_JUDGED: &str = "Mail ana@evil.io, key AKIAZ3VQ7JRTLWXK5P2D";

/// A service with authentication on, a detector that never answers, and a tenant that may ask once a
/// minute.
async fn service() -> App {
    let env = [
        ("ORCHESTRATION_ENV", "staging"),
        ("ORCHESTRATION_BOOTSTRAP_KEY", BOOT),
        ("ORCHESTRATION_SECURITY__AUTH_FAILURES_PER_MINUTE", "100000"),
        ("ORCHESTRATION_SECURITY__RATE_LIMIT__PER_MINUTE", "1000000"),
        ("ORCHESTRATION_SECURITY__RATE_LIMIT__BURST", "1000000"),
        ("ORCHESTRATION_SECURITY__OUTBOUND_ALLOW", "[127.0.0.1]"),
    ];
    spawn_named(env.map(|(name, value)| (name, value.to_owned())).to_vec(), |root| {
        let sickly = "name: sickly\nprotocol: native\nendpoint: http://127.0.0.1:1/analyze\n\
                      categories: [toxicity]\nhealth: {path: ''}\n";
        write(root, "detectors/sickly.yaml", sickly);
        let grumpy = "schema_version: 1\nid: grumpy\nrate_limit: {per_minute: 1, burst: 1}\n";
        write(root, "config/tenants/grumpy.yaml", grumpy);
    })
    .await
}

/// Traffic of two tenants; the id of a recorded decision of `default`.
async fn traffic(app: &App) -> String {
    let acme = key(app, json!({"roles": ["app"], "tenant": "acme"})).await;
    let grumpy = key(app, json!({"roles": ["app"], "tenant": "grumpy"})).await;
    for at in 0..12 {
        let body =
            json!({"content": format!("{NOT_JUDGED} {at}"), "detectors": {"add": ["sickly"]}});
        assert_eq!(send(app, "POST", "/api/v1/orchestrate", &acme, &body).await.status, 200);
        let body = json!({"content": "x"});
        let asked = send(app, "POST", "/api/v1/orchestrate", &grumpy, &body).await;
        assert_eq!(asked.status, if at == 0 { 200 } else { 429 });
    }
    let body = json!({"content": NOT_JUDGED, "include": ["evidence"]});
    let made = send(app, "POST", "/api/v1/orchestrate", BOOT, &body).await.json();
    let id = made["evidence"]["id"].as_str().unwrap().to_owned();
    let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
    let path = format!("/api/v1/evidence/{id}");
    while send(app, "GET", &path, BOOT, &json!({})).await.status != 200 {
        assert!(std::time::Instant::now() < until, "never recorded");
        tokio::task::yield_now().await;
    }
    id
}

fn open(app: &App, key: &str) -> Browser {
    let browser = Browser::start(1280, 900);
    browser.go(&format!("http://{}/console", app.address));
    sign_in(&browser, key);
    browser
}

fn sign_in(browser: &Browser, key: &str) {
    browser.until("document.activeElement?.id === 'key'");
    browser.press(
        &key.chars()
            .map(String::from)
            .collect::<Vec<_>>()
            .iter()
            .map(String::as_str)
            .collect::<Vec<_>>(),
    );
    browser.press(&[ENTER]);
    browser.until("!document.querySelector('nav').hidden");
}

fn show(browser: &Browser, view: &str) {
    browser.click(&format!("nav a[href='#/{view}']"));
    browser.until(&format!("location.hash === '#/{view}'"));
    browser.until("document.querySelector('#view')?.innerText.length > 30");
    browser.until("!document.querySelector('#view').innerText.includes('Loading')");
}

#[tokio::test]
async fn its_files_are_served_to_everybody_with_a_strict_policy_and_asked_for_once() {
    let app = service().await;
    let moved = app.get("/console").await;
    assert_eq!((moved.status, moved.header("location")), (302, "/console/"));
    let page = app.get("/console/").await;
    assert_eq!((page.status, page.header("x-content-type-options")), (200, "nosniff"));
    let policy = page.header("content-security-policy");
    for part in ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'"] {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    assert!(!page.text.contains("style=") && !page.text.contains("onclick"), "nothing is inline");
    for (file, kind) in
        [("style.css", "text/css"), ("app.js", "text/javascript"), ("icon.svg", "image/svg+xml")]
    {
        let path = format!("/console/{file}");
        let first = app.get(&path).await;
        assert!(first.status == 200 && first.header("content-type").starts_with(kind), "{file}");
        assert_eq!(first.header("cache-control"), "no-cache");
        let tag = first.header("etag").to_owned();
        let again = app.send("GET", &path, &[("if-none-match", &tag)], b"").await;
        assert_eq!((again.status, again.text.len(), again.header("etag")), (304, 0, tag.as_str()));
        let other = app.send("GET", &path, &[("if-none-match", "\"x\"")], b"").await;
        assert_eq!(other.status, 200);
    }
    for gone in
        ["/console/none.js", "/console/../Cargo.toml", "/console/views", "/console/%2e%2e/build.rs"]
    {
        assert!([400, 403, 404].contains(&app.get(gone).await.status), "{gone}");
    }
    assert_eq!(app.get("/console/?key=x").await.status, 400, "a key never stands in an address");
}

fn rests(browser: &Browser, form: &str) -> bool {
    let script = "return document.querySelector(arguments[0] + ' button').disabled";
    browser.run(script, &[json!(form)]) == true
}

/// What a viewer may not ask has a button that rests, and says why.
fn rests_where_it_may_not_ask(browser: &Browser) {
    show(browser, "decisions");
    for (form, help, scope) in [
        ("#judge", "#judge-help", "orchestrate:write"),
        ("#find", "#find-help", "audit:read"),
        ("#filter", "#filter-help", "audit:read"),
    ] {
        assert!(rests(browser, form), "{form}");
        let told = browser.text(help);
        assert!(told.contains("lacks the scope") && told.contains(scope), "{form}: {told}");
    }
}

#[tokio::test]
async fn whoever_brings_no_good_key_or_lacks_a_scope_is_told_what_to_do() {
    let app = service().await;
    let browser = Browser::start(1280, 900);
    browser.go(&format!("http://{}/console/", app.address));
    browser.until("document.activeElement?.id === 'key'");
    browser.type_in("#key", "orch_000000000000_00000000000000000000000000000000");
    browser.press(&[ENTER]);
    browser.until_text("#told", "UNAUTHORIZED");
    assert!(browser.text("#told").contains("request "), "a request can be named to others");
    assert_eq!(browser.run("return document.querySelector('nav').hidden", &[]), true);
    let viewer = key(&app, json!({"roles": ["viewer"], "tenant": "acme"})).await;
    browser.run("document.getElementById('key').value = ''", &[]);
    browser.type_in("#key", &viewer);
    browser.click("#sign button.main");
    browser.until_text("h1", "Overview");
    show(&browser, "tenants");
    browser.until_text("#view", "tenants:write");
    assert!(browser.text("#view").contains("Your key may not list tenants"));
    show(&browser, "policies");
    browser.until("document.querySelector('#evaluate')");
    assert_eq!(
        browser.run("return document.querySelector('#store')", &[]),
        serde_json::Value::Null
    );
    // Whoever may not count decisions is not told that an edit did no harm.
    show(&browser, "overview");
    browser.until_text("#ask-edit", "not known");
    show(&browser, "reloads");
    browser.until_text("#bad-edit", "audit:read");
    show(&browser, "detectors");
    browser.until_text("tbody", "pii");
    rests_where_it_may_not_ask(&browser);
    show(&browser, "detectors");
    // What the key may not do has no button, and what it may only read is not offered to be stored.
    assert_eq!(browser.run("return document.querySelectorAll('#view [data-act]').length", &[]), 0);
    let app_key = key(&app, json!({"roles": ["app"], "tenant": "acme"})).await;
    browser.click("#leave");
    sign_in(&browser, &app_key);
    browser.until_text("#sick", "not known");
    show(&browser, "overview");
    browser.until_text("#view", "metrics:read");
    show(&browser, "decisions");
    assert_eq!((rests(&browser, "#judge"), rests(&browser, "#find")), (false, true));
    show(&browser, "overview");
    browser.until_text("#ask-sick", "not known");
    // The key is gone where nobody asked to keep it, and stays in the tab where somebody did.
    browser.go(&format!("http://{}/console/", app.address));
    browser.until("document.querySelector('#key')");
    browser.click("#keep");
    browser.type_in("#key", &viewer);
    browser.press(&[ENTER]);
    browser.until_text("h1", "Overview");
    browser.go(&format!("http://{}/console/#/detectors", app.address));
    browser.run("location.reload()", &[]);
    browser.until_text("h1", "Detectors");
    browser.click("#leave");
    browser.until("document.querySelector('#key')");
    assert_eq!(browser.run("return sessionStorage.length", &[]), 0);
}

#[tokio::test]
async fn an_operator_sees_who_is_sick_angry_or_wrong_and_acts_by_mouse_and_keyboard() {
    let app = service().await;
    traffic(&app).await;
    app.edit("policies/standard/data.yaml", "toxicity: block", "toxicity: blok");
    let reloaded = send(&app, "POST", "/api/v1/admin/reload", BOOT, &json!({"reason": "t"})).await;
    assert_eq!(reloaded.json()["faults"].as_array().unwrap().len(), 1, "{}", reloaded.text);
    let browser = open(&app, BOOT);

    browser.until_text("#ask-sick", "sickly");
    browser.until_text("#ask-angry", "grumpy");
    browser.until_text("#ask-edit", "standard/data.yaml:");
    browser.until_text("#view", "What was decided");
    // Going on after a pause reads anew at once.
    for _ in 0..2 {
        browser.click("#pause");
        browser.until_text("#updated", "paused");
        browser.click("#pause");
        browser.until("!document.querySelector('#updated').innerText.includes('paused')");
    }
    browser.until("document.querySelectorAll('svg[role=img]').length === 2");

    // By keyboard: past the link to the content, the first view's link, the second, in.
    browser.run("document.querySelector('nav a').focus()", &[]);
    browser.press(&[TAB, ENTER]);
    browser.until_text("#sick", "sickly");
    let first = browser.text("tbody tr:first-child");
    assert!(first.contains("sickly") && first.contains("open"), "the sickest is first: {first}");
    views::force_a_breaker(&app, &browser).await;
    show(&browser, "tenants");
    browser.until_text("#angry", "grumpy");
    views::pause_a_tenant(&app, &browser).await;
    show(&browser, "reloads");
    browser.until_text("#bad-edit", "standard/data.yaml:");
    browser.until_text("#view", "unknown_action");
    assert!(browser.text("#view").contains("refused"), "the edit is in the history");
    assert!(browser.text("#view").contains("breaker.open"), "and the audit beside it");
    show(&browser, "jobs");
    browser.until_text("#view", "Dead letters");
    nothing_leaked(&browser, &app);
}

#[tokio::test]
async fn a_decision_is_explained_on_a_text_that_never_leaves_the_page() {
    let app = service().await;
    let id = traffic(&app).await;
    let browser = open(&app, BOOT);
    views::explain_a_decision(&browser, &id);
    nothing_leaked(&browser, &app);
}

#[tokio::test]
async fn decisions_are_looked_up_and_opened_by_keyboard() {
    let app = service().await;
    let id = traffic(&app).await;
    let browser = open(&app, BOOT);
    browser.until_text("#who", "orch_0123456789ab");
    assert!(browser.text("#who").contains("super_admin"), "{}", browser.text("#who"));
    views::find_decisions(&browser, &id);
    nothing_leaked(&browser, &app);
}

#[tokio::test]
async fn an_edit_that_was_taken_and_does_harm_is_named_where_edits_are_seen() {
    let app = service().await;
    let reload = json!({"reason": "t"});
    let (mut last, mut seen) = (String::new(), None);
    for (from, to) in [("", ""), ("pii: redact", "pii: block")] {
        if !from.is_empty() {
            app.edit("policies/standard/data.yaml", from, to);
            let done = send(&app, "POST", "/api/v1/admin/reload", BOOT, &reload).await;
            assert_eq!(done.json()["faults"], json!([]), "{}", done.text);
            let browser = open(&app, BOOT);
            browser.until_text("#ask-edit", "not known");
            seen = Some(browser);
        }
        for n in 0..10 {
            let body = json!({"content": format!("Mail ana@evil.io {n}"), "include": ["evidence"]});
            let made = send(&app, "POST", "/api/v1/orchestrate", BOOT, &body).await;
            assert_eq!(made.status, 200, "{}", made.text);
            last = made.json()["evidence"]["id"].as_str().unwrap().to_owned();
        }
    }
    let browser = seen.unwrap();
    browser.until_text("#ask-edit", "policies/standard/data.yaml");
    browser.until_text("#ask-edit", "100 %");
    show(&browser, "reloads");
    browser.until_text("#bad-edit", "policies/standard/data.yaml");
    let told = browser.text("#bad-edit");
    assert!(told.contains("0 % before") && told.contains("It serves."), "{told}");
    browser.click("#bad-edit a");
    browser.until(&format!("document.querySelector({})", json!(format!("[data-key='{last}']"))));
    let rows = browser.run(
        "return [...document.querySelectorAll('#found tbody tr')].map((r) => r.cells[1].innerText)",
        &[],
    );
    let rows = rows.as_array().unwrap();
    assert!(
        rows.len() == 10 && rows.iter().all(|row| row.as_str().unwrap().contains("block")),
        "{rows:?}"
    );
    nothing_leaked(&browser, &app);
}

#[tokio::test]
async fn dead_letters_are_requeued_and_discarded_and_ends_told_anew_by_their_buttons() {
    let app = service().await;
    let (again, gone) = (given_up(&app, "default").await, given_up(&app, "default").await);
    let (telling, _server) = dead_telling(&app, BOOT).await;
    let browser = open(&app, BOOT);
    views::clear_dead_letters(&app, &browser, [&again, &gone], &telling).await;
    nothing_leaked(&browser, &app);
}

#[tokio::test]
async fn a_policy_is_edited_checked_and_compared_before_anything_is_stored() {
    let app = service().await;
    let id = traffic(&app).await;
    let browser = open(&app, BOOT);
    show(&browser, "policies");
    views::play_with_a_policy(&app, &browser, &id).await;
    nothing_leaked(&browser, &app);
}

#[tokio::test]
async fn everybody_can_read_and_reach_every_view_in_light_and_dark_wide_and_narrow() {
    let app = service().await;
    let id = traffic(&app).await;
    let browser = open(&app, BOOT);
    let axe = std::fs::read_to_string(AXE)
        .unwrap_or_else(|_| panic!("no axe-core: run tests/chromium/install"));
    browser.run(&axe, &[]);
    for view in VIEWS {
        show(&browser, view);
        if view == "decisions" {
            browser.type_in("#find-id", &id);
            browser.press(&[ENTER]);
            browser.until("document.querySelector('#action')");
            browser.type_in("#overlay-text", NOT_JUDGED);
        }
        for (scheme, width) in [("light", 1280), ("dark", 360)] {
            browser.scheme(scheme);
            browser.size(width, 800);
            let wide = browser.run("return document.documentElement.scrollWidth", &[]);
            assert!(wide.as_u64().unwrap() <= u64::from(width), "{view} is {wide} wide at {width}");
            views::keep_picture(&browser, &format!("{view}-{scheme}-{width}"));
            let found = browser.run_async(
                "const {violations} = await axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', \
                 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']}); \
                 return violations.map(({id, nodes}) => [id, nodes.map(({html}) => html)]);",
            );
            assert_eq!(found, json!([]), "{view} {scheme} {width}: {found:#}");
        }
    }
    // The switch wins over the system, and stays.
    browser.size(1280, 800);
    browser.run("document.getElementById('theme').focus()", &[]);
    browser.press(&["L"]);
    browser.until("document.documentElement.dataset.theme === 'light'");
    assert_eq!(browser.run("return localStorage.theme", &[]), "light");
}

/// No error in the console, nothing asked of anybody else, and nothing kept but the theme.
fn nothing_leaked(browser: &Browser, app: &App) {
    // That an edit is refused with 400 is what the playground is for.
    let tried = |line: &Value| {
        let message = line["message"].as_str().unwrap();
        message.contains("/policies/evaluate") && message.contains("status of 400")
    };
    let errors: Vec<Value> = browser.log("browser");
    let errors: Vec<&Value> = errors.iter().filter(|line| !tried(line)).collect();
    assert!(errors.is_empty(), "{errors:#?}");
    let own = format!("http://{}/", app.address);
    let asked = browser.asked();
    let foreign: Vec<&String> = asked
        .iter()
        .filter(|url| {
            !url.starts_with(&own) && !url.starts_with("data:") && !url.starts_with("chrome")
        })
        .collect();
    assert!(foreign.is_empty(), "{foreign:?}");
    assert!(asked.iter().any(|url| url.contains("/api/v1/")), "the log is not empty");
    assert!(asked.iter().all(|url| !url.contains("0123456789abcdef")), "a key in an address");
    let kept = browser.run(
        "return JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])",
        &[],
    );
    assert_eq!(kept, "[{},{},\"\"]");
}
