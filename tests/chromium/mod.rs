//! A Chromium of the tests' own, without a window, spoken to by WebDriver; gone with the test.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::zombie_processes,
    reason = "a test that cannot go on fails"
)]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use serde_json::{Value, json};

/// Runs the driver until standard input ends, as it does with the test; then ends it, and the browser
/// that it may leave, which alone has this folder.
const KEEPER: &str = "chromedriver --port=0 & driver=$!; cat >/dev/null; kill $driver 2>/dev/null; \
    pkill -KILL -f -- \"--user-data-dir=$1\"; rm -rf \"$1\"";
/// How long something may take to be seen.
const SOON: Duration = Duration::from_secs(20);
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";
pub const ENTER: &str = "\u{e007}";
pub const TAB: &str = "\u{e004}";
pub const ESCAPE: &str = "\u{e00c}";

/// A browser with one page; ends when dropped.
pub struct Browser {
    keeper: Child,
    port: u16,
    session: String,
}

impl Browser {
    /// Starts one of that many pixels.
    pub fn start(width: u32, height: u32) -> Browser {
        let folder = tempfile::tempdir().unwrap().keep();
        let mut keeper = Command::new("/bin/sh")
            .args(["-c", KEEPER, "sh", folder.to_str().unwrap()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(keeper.stdout.take().unwrap()).lines();
        let port = lines.by_ref().find_map(|line| {
            let line = line.unwrap();
            line.split("successfully on port ").nth(1)?.trim_end_matches('.').parse().ok()
        });
        let port = port.unwrap_or_else(|| panic!("no chromedriver: run tests/chromium/install"));
        std::thread::spawn(move || lines.for_each(drop));
        let mut browser = Browser { keeper, port, session: String::new() };
        let args = [
            "--headless=new",
            "--no-sandbox",
            "--disable-dev-shm-usage",
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--hide-scrollbars",
            &format!("--user-data-dir={}", folder.display()),
            &format!("--window-size={width},{height}"),
        ];
        let wanted = json!({"capabilities": {"alwaysMatch": {"browserName": "chrome",
            "goog:chromeOptions": {"args": args},
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"}}}});
        let begun = browser.send("POST", "", &wanted);
        browser.session = format!("/{}", begun["sessionId"].as_str().unwrap());
        browser.size(width, height);
        browser
    }

    /// One command of the driver; its value.
    fn send(&self, method: &str, path: &str, body: &Value) -> Value {
        let answer = self.try_send(method, path, body);
        answer.unwrap_or_else(|error| panic!("{method} {path} {body}: {error}"))
    }

    fn try_send(&self, method: &str, path: &str, body: &Value) -> Result<Value, String> {
        let mut wire = TcpStream::connect(("127.0.0.1", self.port)).map_err(|e| e.to_string())?;
        wire.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let body = if method == "POST" { body.to_string() } else { String::new() };
        let (path, length) = (format!("/session{}{path}", self.session), body.len());
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
        );
        wire.write_all(format!("{head}{body}").as_bytes()).map_err(|error| error.to_string())?;
        let body = read(&mut BufReader::new(wire)).map_err(|error| error.to_string())?;
        let answer: Value = serde_json::from_slice(&body).map_err(|error| error.to_string())?;
        match answer["value"]["error"].as_str() {
            Some(error) => Err(format!("{error}: {}", answer["value"]["message"])),
            None => Ok(answer["value"].clone()),
        }
    }

    /// Opens an address.
    pub fn go(&self, url: &str) {
        self.send("POST", "/url", &json!({"url": url}));
    }

    /// What a function's body gives; `arguments` are `args`.
    pub fn run(&self, script: &str, args: &[Value]) -> Value {
        self.send("POST", "/execute/sync", &json!({"script": script, "args": args}))
    }

    /// The same for a body that awaits.
    pub fn run_async(&self, script: &str) -> Value {
        let script = format!(
            "const done = arguments[arguments.length - 1]; \
             (async () => {{ {script} }})().then(done, (error) => done('' + error));"
        );
        self.send("POST", "/execute/async", &json!({"script": script, "args": []}))
    }

    /// Waits until the expression is true.
    pub fn until(&self, expression: &str) {
        let begun = Instant::now();
        while self.run(&format!("return Boolean({expression})"), &[]) != true {
            if begun.elapsed() > SOON {
                let page = self.run("return document.body.innerText", &[]);
                panic!("never: {expression}\n{}", page.as_str().unwrap());
            }
            std::thread::sleep(Duration::from_millis(30));
        }
    }

    /// Waits until an element is there whose text holds `text`.
    pub fn until_text(&self, selector: &str, text: &str) {
        let (selector, text) = (json!(selector), json!(text));
        self.until(&format!("document.querySelector({selector})?.innerText.includes({text})"));
    }

    /// The text of an element, once it is there.
    pub fn text(&self, selector: &str) -> String {
        let wanted = json!(selector);
        self.until(&format!("document.querySelector({wanted})"));
        let text = self.run("return document.querySelector(arguments[0]).innerText", &[wanted]);
        text.as_str().unwrap().to_owned()
    }

    fn find(&self, selector: &str) -> String {
        self.until(&format!("document.querySelector({})", json!(selector)));
        let query = json!({"using": "css selector", "value": selector});
        self.send("POST", "/element", &query)[ELEMENT].as_str().unwrap().to_owned()
    }

    /// Clicks as a mouse does, where the element can be seen.
    pub fn click(&self, selector: &str) {
        let begun = Instant::now();
        // What is drawn anew meanwhile is looked for again.
        while let Err(error) =
            self.try_send("POST", &format!("/element/{}/click", self.find(selector)), &json!({}))
        {
            assert!(begun.elapsed() < SOON, "{selector}: {error}");
            std::thread::sleep(Duration::from_millis(30));
        }
    }

    /// Types into an element.
    pub fn type_in(&self, selector: &str, text: &str) {
        let path = format!("/element/{}/value", self.find(selector));
        self.send("POST", &path, &json!({"text": text}));
    }

    /// Presses keys, one after the other, wherever the focus is.
    pub fn press(&self, keys: &[&str]) {
        let strokes = keys
            .iter()
            .flat_map(|key| ["keyDown", "keyUp"].map(|kind| json!({"type": kind, "value": key})));
        let actions: Vec<Value> = strokes.collect();
        let all = json!({"actions": [{"type": "key", "id": "keyboard", "actions": actions}]});
        self.send("POST", "/actions", &all);
    }

    /// Sets the size of what is seen.
    pub fn size(&self, width: u32, height: u32) {
        let metrics = json!({"width": width, "height": height, "deviceScaleFactor": 1,
            "mobile": false});
        self.cdp("Emulation.setDeviceMetricsOverride", &metrics);
    }

    /// Makes the system's colours `light` or `dark`.
    pub fn scheme(&self, scheme: &str) {
        let feature = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        self.cdp("Emulation.setEmulatedMedia", &json!({"features": feature}));
    }

    /// Lets every answer come that much later, as from far away.
    pub fn far_away(&self, latency: Duration) {
        let conditions = json!({"offline": false, "latency": latency.as_millis(),
            "throughput": 10_000_000});
        let body = json!({"network_conditions": conditions});
        self.send("POST", "/chromium/network_conditions", &body);
    }

    fn cdp(&self, command: &str, params: &Value) -> Value {
        self.send("POST", "/goog/cdp/execute", &json!({"cmd": command, "params": params}))
    }

    /// The whole page as PNG.
    pub fn picture(&self) -> Vec<u8> {
        let params = json!({"format": "png", "captureBeyondViewport": true});
        let data = self.cdp("Page.captureScreenshot", &params)["data"].clone();
        base64::engine::general_purpose::STANDARD.decode(data.as_str().unwrap()).unwrap()
    }

    /// What was logged since the last look: `browser` or `performance`.
    pub fn log(&self, kind: &str) -> Vec<Value> {
        let log = self.send("POST", "/se/log", &json!({"type": kind}));
        log.as_array().unwrap().clone()
    }

    /// Addresses that were asked for since the last look.
    pub fn asked(&self) -> Vec<String> {
        let messages = self
            .log("performance")
            .into_iter()
            .map(|line| serde_json::from_str::<Value>(line["message"].as_str().unwrap()).unwrap());
        let sent = messages.filter(|one| one["message"]["method"] == "Network.requestWillBeSent");
        sent.map(|one| one["message"]["params"]["request"]["url"].as_str().unwrap().to_owned())
            .collect()
    }
}

/// The body of an answer; the driver does not close its connections.
fn read(wire: &mut BufReader<TcpStream>) -> std::io::Result<Vec<u8>> {
    let (mut length, mut line) = (0, String::new());
    while wire.read_line(&mut line)? > 2 {
        let (name, value) = line.split_once(':').unwrap_or_default();
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().unwrap();
        }
        line.clear();
    }
    let mut body = vec![0; length];
    wire.read_exact(&mut body)?;
    Ok(body)
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.try_send("DELETE", "", &json!({}));
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}
