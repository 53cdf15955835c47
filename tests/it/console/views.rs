//! What is done in single views.

use serde_json::json;

use super::{NOT_JUDGED, show};
use crate::access::{BOOT, key, send};
use crate::app::App;
use crate::chromium::{Browser, ENTER, ESCAPE, TAB};

/// Resets and opens a breaker, with a reason.
pub(super) async fn force_a_breaker(app: &App, browser: &Browser) {
    let state = async || {
        let one = send(app, "GET", "/api/v1/breakers/pii", BOOT, &json!({})).await;
        one.json()["breakers"][0]["state"].as_str().unwrap().to_owned()
    };
    browser.click("button[aria-label='Open the breaker of pii']");
    browser.until("document.activeElement?.id === 'ask-reason'");
    browser.press(&[ESCAPE]);
    browser.until("!document.getElementById('ask').open");
    assert_eq!(state().await, "closed", "nothing was confirmed");
    browser.click("button[aria-label='Open the breaker of pii']");
    browser.until("document.activeElement?.id === 'ask-reason'");
    browser.type_in("#ask-reason", "it floods the logs");
    browser.press(&[ENTER]);
    browser.until_text("tr[data-key=pii]", "open");
    assert_eq!(state().await, "open");
    browser.until_text("#said", "pii");
    let audit = send(app, "GET", "/api/v1/audit?limit=1", BOOT, &json!({})).await.json();
    assert_eq!(audit["audit"][0]["reason"], "it floods the logs");
    browser.click("button[aria-label='Close the breaker of pii']");
    browser.type_in("#ask-reason", "over");
    browser.click("#ask-yes");
    browser.until_text("tr[data-key=pii]", "closed");
    assert_eq!(state().await, "closed");
}

/// Pauses a tenant by keyboard, and lets it go on.
pub(super) async fn pause_a_tenant(app: &App, browser: &Browser) {
    let own = key(app, json!({"roles": ["app"], "tenant": "acme"})).await;
    let body = json!({"content": "x"});
    let asked = async || send(app, "POST", "/api/v1/orchestrate", &own, &body).await.status;
    assert_eq!(asked().await, 200);
    for (how, word, status) in [("Pause", "paused", 403), ("Resume", "serves", 200)] {
        let button = format!("button[aria-label='{how} acme']");
        browser.until(&format!("document.querySelector({})", json!(button)));
        browser.run("document.querySelector(arguments[0]).focus()", &[json!(button)]);
        browser.press(&[ENTER]);
        browser.until("document.activeElement?.id === 'ask-reason'");
        browser.type_in("#ask-reason", "drill");
        browser.press(&[ENTER]);
        browser.until_text("tr[data-key=acme]", word);
        assert_eq!(asked().await, status, "{how}");
    }
    browser.until_text("tr[data-key=grumpy]", "11");
}

/// Looks decisions up by keyboard alone, and opens one.
pub(super) fn find_decisions(browser: &Browser, id: &str) {
    show(browser, "decisions");
    let listed = format!("[data-key='{id}']");
    browser.until(&format!("document.querySelector({})", json!(listed)));
    let count = |browser: &Browser| {
        let all = "return document.querySelectorAll('#found tbody tr[data-key]').length";
        browser.run(all, &[]).as_u64().unwrap()
    };
    let all = count(browser);
    assert!(all >= 1, "{}", browser.text("#found"));
    // Secrets alone, by keyboard: the last field, then the button behind it.
    browser.run("document.getElementById('filter-category').focus()", &[]);
    let typed: Vec<String> = "hate".chars().map(String::from).collect();
    browser.press(&typed.iter().map(String::as_str).collect::<Vec<_>>());
    browser.press(&[TAB, ENTER]);
    browser.until_text("#found", "None");
    assert_eq!(count(browser), 0);
    browser.run("document.getElementById('filter-category').value = ''", &[]);
    browser.run("document.getElementById('filter-category').focus()", &[]);
    let typed: Vec<String> = "secrets".chars().map(String::from).collect();
    browser.press(&typed.iter().map(String::as_str).collect::<Vec<_>>());
    browser.press(&[ENTER]);
    browser.until(&format!("document.querySelector({})", json!(listed)));
    let row = browser.text(&listed);
    for told in ["redact", "complete", "standard", "secrets.aws_access_key", "pii.email"] {
        assert!(row.contains(told), "{told}: {row}");
    }
    // From the button past the table's own region to the first row's link.
    browser.run("document.querySelector('#filter button').focus()", &[]);
    browser.press(&[TAB, TAB]);
    let at = browser.run("return document.activeElement.getAttribute('href')", &[]);
    assert_eq!(at, json!(format!("#/decisions/{id}")), "the keyboard reaches the row");
    browser.press(&[ENTER]);
    browser.until_text("#decision", id);
    browser.until("document.activeElement?.id === 'one'");
}

/// The marks over a text: what each covers.
fn marks(browser: &Browser) -> serde_json::Value {
    browser.until("document.querySelector('#highlighted')");
    browser.run(
        "return [...document.querySelectorAll('#highlighted mark')].map((m) => m.textContent)",
        &[],
    )
}

/// Opens a record, pastes its text, judges another.
pub(super) fn explain_a_decision(browser: &Browser, id: &str) {
    show(browser, "decisions");
    browser.type_in("#find-id", id);
    browser.press(&[ENTER]);
    browser.until_text("#action", "redact");
    let page = browser.text("#decision");
    for told in ["pii.email", "secrets.aws_access_key", "complete", "leaf", id] {
        assert!(page.contains(told), "{told}: {page}");
    }
    assert!(!page.contains("ana@evil.io"), "the record holds no content");
    browser.asked();
    browser.run(
        "const area = document.querySelector('#overlay-text'); area.value = arguments[0]; \
         area.dispatchEvent(new Event('input'));",
        &[json!(NOT_JUDGED)],
    );
    assert_eq!(marks(browser), json!(["ana@evil.io", "AKIAZ3VQ7JRTLWXK5P2D"]));
    assert!(browser.asked().is_empty(), "pasting asks nobody");
    browser.click("#decision button");
    browser.until_text("#verified", "sound");
    // Characters of several code units, and findings behind them.
    browser.run("document.querySelector('#judge-text').value = '\u{1f468}\u{200d}\u{1f469} é bo@evil.io \u{1f389}'", &[]);
    browser.click("#judge button");
    browser.until_text("#highlighted", "bo@evil.io");
    assert_eq!(marks(browser), json!(["bo@evil.io"]));
    browser.until_text("#decision", "Rules that held");
    browser.until_text("#view", "Judged in this page");
}

/// Requeues a dead job and discards another, tells the end of a job anew, each by its button.
pub(super) async fn clear_dead_letters(
    app: &App,
    browser: &Browser,
    letters: [&str; 2],
    telling: &str,
) {
    show(browser, "jobs");
    let row = |id: &str| format!("#view section:nth-of-type(2) [data-key='{id}']");
    let [again, gone] = letters;
    browser.until_text(&row(again), "INTERNAL_ERROR");
    let act = |how: &str, id: &str, reason: &str| {
        let button = format!("button[data-act=letter][aria-label='{how} {id}']");
        browser.run("document.querySelector(arguments[0]).focus()", &[json!(button)]);
        browser.press(&[ENTER]);
        browser.until("document.activeElement?.id === 'ask-reason'");
        browser.type_in("#ask-reason", reason);
        browser.press(&[ENTER]);
        browser.until("!document.getElementById('ask').open");
    };
    act("Discard", gone, "nobody wants it");
    browser.until(&format!("!document.querySelector({})", json!(row(gone))));
    // Content that cannot be opened cannot be opened later either: it comes back as a letter.
    act("Requeue", again, "the key is back");
    browser.until_text("#said", "Requeue is done");
    let webhook = format!("#view section:nth-of-type(3) [data-key='{telling}']");
    browser.until_text(&webhook, "7");
    act("Requeue", telling, "their server is back");
    browser.until(&format!("!document.querySelector({})", json!(webhook)));
    let audit = send(app, "GET", "/api/v1/audit?limit=3", BOOT, &json!({})).await.json();
    let acts: Vec<_> =
        audit["audit"].as_array().unwrap().iter().map(|act| &act["action"]).collect();
    assert_eq!(acts, ["webhook.requeue", "job.requeue", "job.discard"], "{audit}");
    assert_eq!(audit["audit"][2]["reason"], "nobody wants it");
}

fn write_into(browser: &Browser, area: &str, text: &str) {
    browser.click(area);
    browser.run("document.querySelector(arguments[0]).select()", &[json!(area)]);
    browser.type_in(area, text);
}

/// A fault and its line, a rule that changes a verdict, the lines that were evaluated, the store.
pub(super) async fn play_with_a_policy(app: &App, browser: &Browser, id: &str) {
    browser.until_text("#faults", "Write rules or a table");
    let package = "package tenants.default.standard\n\nimport rego.v1\n\n";
    let package = package.replace(".default.", "[\"default\"].");
    let wrong = format!("{package}block contains entry if {{\n\tsome f in input.findigs\n}}\n");
    let wrong = wrong.replace('\t', "  ");
    write_into(browser, "#rules", &wrong);
    browser.until_text("#faults", "line ");
    let faults = browser.text("#faults");
    assert!(faults.contains("verdict.rego, line "), "{faults}");
    browser.until("document.querySelector('.gutter .fault')");
    browser.click("#faults button");
    browser.until("document.activeElement?.id === 'rules'");
    let line = browser.run(
        "const a = document.activeElement; return a.value.slice(0, a.selectionStart).split('\\n').length",
        &[],
    );
    assert!(faults.contains(&format!("line {line},")), "{faults}: {line}");

    let rule = "block contains {\"finding\": f.id, \"reason\": \"no secrets here\"} if {\n  some f in \
                input.findings\n  \"secrets\" in f.path\n}\n\nflag contains {\"reason\": \"never\"} if \
                {\n  input.request.type == \"code\"\n  count(input.findings) > 3\n}\n";
    write_into(browser, "#rules", &format!("{package}{rule}"));
    browser.until_text("#faults", "It loads");
    write_into(browser, "#table", "{\"settings\": {\"actions\": {\"pii\": \"blok\"}}}");
    browser.until_text("#faults", "data.yaml, line 1");
    write_into(browser, "#table", "{\"settings\": {\"actions\": {\"pii\": \"review\"}}");
    browser.until_text("#faults", "the table is no JSON here");
    write_into(browser, "#table", "{\"settings\": {\"actions\": {\"pii\": \"review\"}}}");
    browser.until_text("#faults", "It loads");
    browser.type_in("#input-record", id);
    browser.press(&[ENTER]);
    browser.until_text("#inputs", "Record ");
    browser.type_in("#input-text", "call zoe@evil.io");
    browser.press(&[ENTER]);
    browser.until_text("#inputs", "Text 1");
    browser.click("#evaluate");
    browser.until_text("#results", "Text 1");
    let results = browser.text("#results");
    for told in ["redact → block", "redact → review", "+ block: no secrets here", "the same"] {
        assert!(results.contains(told), "{told}: {results}");
    }
    let covered = browser.text("#covered");
    assert!(covered.contains("Not evaluated: 10, 12"), "{covered}");
    let stored = async || send(app, "GET", "/api/v1/policies/standard", BOOT, &json!({})).await;
    assert_eq!(stored().await.json()["overlay"], json!(null), "nothing is stored yet");
    browser.click("#store");
    browser.type_in("#ask-reason", "ticket 7");
    browser.press(&[ENTER]);
    browser.until_text("#view", "version 1");
    assert_eq!(stored().await.json()["overlay"]["data"]["settings"]["actions"]["pii"], "review");
}

/// Keeps a picture where `CONSOLE_PICTURES` names a folder.
pub(super) fn keep_picture(browser: &Browser, name: &str) {
    if let Ok(folder) = std::env::var("CONSOLE_PICTURES") {
        std::fs::write(format!("{folder}/{name}.png"), browser.picture()).unwrap();
    }
}
