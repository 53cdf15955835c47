//! A change that waits: its author keeps the edits, and another person reads and approves it.

use std::time::Duration;

use serde_json::json;

use super::{open, show};
use crate::access::{BOOT, key, send};
use crate::app::{edit, spawn_closed_with};
use crate::chromium::ENTER;

const TABLE: &str = "{\"settings\": {\"actions\": {\"pii\": \"review\"}}}";

#[tokio::test]
async fn a_change_that_waits_is_told_as_such_and_another_person_approves_it() {
    let app = spawn_closed_with(BOOT, |root| {
        std::fs::remove_dir_all(root.join("policies/tenants")).unwrap();
        edit(root, "config/settings.yaml", "require_review: false", "require_review: true");
    })
    .await;
    let author = key(&app, json!({"roles": ["tenant_admin"], "tenant": "acme"})).await;
    let reader = key(&app, json!({"roles": ["policy_approver"], "tenant": "acme"})).await;
    let app_key = key(&app, json!({"roles": ["app"], "tenant": "acme"})).await;
    let judged = async || {
        let body = json!({"content": "mail ana@evil.io"});
        send(&app, "POST", "/api/v1/orchestrate", &app_key, &body).await.json()["action"].clone()
    };

    let browser = open(&app, &author);
    // What is said has been done, however late answers come.
    browser.far_away(Duration::from_millis(300));
    show(&browser, "policies");
    browser.until_text("#faults", "Write rules or a table");
    let said = browser.text("#view");
    assert!(said.contains("no overlay is stored") && !said.contains("null"), "{said}");
    // What a check says stands below the buttons, so that none moves from under the pointer.
    let place = || {
        let top = "return document.querySelector('#store').getBoundingClientRect().top + scrollY";
        browser.run(top, &[])
    };
    browser.type_in("#table", &TABLE[..1]);
    browser.until_text("#faults", "1 fault");
    let stands = place();
    browser.type_in("#table", &TABLE[1..]);
    browser.until_text("#faults", "It loads");
    assert_eq!(place(), stands);
    // Looking elsewhere costs no edit.
    show(&browser, "reloads");
    show(&browser, "policies");
    // Its words are there before it is shown, which comes with the draft.
    browser.until("document.querySelector('#edited')?.hidden === false");
    assert_eq!(browser.run("return document.querySelector('#table').value", &[]), TABLE);
    browser.click("#store");
    browser.type_in("#ask-reason", "ticket 7");
    browser.press(&[ENTER]);
    browser.until_text("#said", "waits for another person");
    browser.until_text("#pending", "decides nothing yet");
    assert_eq!(browser.run("return document.querySelector('#table').value", &[]), TABLE);
    assert_eq!(judged().await, "redact");
    browser.click("#edited button");
    browser.until_text("#said", "discarded");
    assert_eq!(browser.run("return document.querySelector('#table').value", &[]), "");
    drop(browser);

    let browser = open(&app, &reader);
    show(&browser, "policies");
    browser.until_text("#pending", "ticket 7");
    browser.click("#pending summary");
    browser.until_text("#pending", "\"pii\": \"review\"");
    browser.click("#pending [data-act=approve]");
    browser.type_in("#ask-reason", "read it");
    browser.press(&[ENTER]);
    browser.until_text("#view", "stored overlay, version 1");
    assert_eq!(judged().await, "review");
}
