//! Starts the whole service on a free port with a project folder of its own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use detector_orchestrator::app::Application;
use detector_orchestrator::settings::Settings;
use detector_orchestrator::snapshot::Sources;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

/// A running service; stopped when dropped.
pub struct App {
    pub address: SocketAddr,
    /// Where it serves health and metrics alone, if it does.
    pub admin: Option<SocketAddr>,
    pub dir: tempfile::TempDir,
    /// What the routes work with, to break parts of it.
    pub api: actix_web::web::Data<detector_orchestrator::api::Api>,
    client: HttpClient,
    env: Vec<(&'static str, String)>,
    stop: Option<mpsc::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// A response with its body read.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: hyper::HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("no JSON: {}", self.text))
    }
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// The shipped files in a temporary folder, then changed by `prepare`, then served.
pub async fn spawn_with(prepare: impl FnOnce(&Path)) -> App {
    let dir = tempfile::tempdir().unwrap();
    detector_orchestrator::assets::write_to(dir.path()).unwrap();
    prepare(dir.path());
    spawn_in(dir).await
}

/// The service as shipped.
pub async fn spawn() -> App {
    spawn_with(|_| {}).await
}

/// The same under more variables.
pub async fn spawn_named(env: Vec<(&'static str, String)>, prepare: impl FnOnce(&Path)) -> App {
    let dir = tempfile::tempdir().unwrap();
    detector_orchestrator::assets::write_to(dir.path()).unwrap();
    prepare(dir.path());
    spawn_under(dir, env).await
}

/// The service as shipped in staging, where `key` is its first.
pub async fn spawn_closed(key: &str) -> App {
    spawn_closed_with(key, |_| {}).await
}

/// The same over files that `prepare` changed.
pub async fn spawn_closed_with(key: &str, prepare: impl FnOnce(&Path)) -> App {
    let dir = tempfile::tempdir().unwrap();
    detector_orchestrator::assets::write_to(dir.path()).unwrap();
    prepare(dir.path());
    let env = [
        ("ORCHESTRATION_ENV", "staging"),
        ("ORCHESTRATION_BOOTSTRAP_KEY", key),
        ("ORCHESTRATION_SECURITY__AUTH_FAILURES_PER_MINUTE", "100000"),
        ("ORCHESTRATION_SECURITY__RATE_LIMIT__PER_MINUTE", "1000000"),
        ("ORCHESTRATION_SECURITY__RATE_LIMIT__BURST", "1000000"),
    ];
    let env = env.map(|(name, value)| (name, value.to_owned()));
    spawn_under(dir, env.to_vec()).await
}

async fn spawn_in(dir: tempfile::TempDir) -> App {
    spawn_under(dir, Vec::new()).await
}

async fn spawn_under(dir: tempfile::TempDir, env: Vec<(&'static str, String)>) -> App {
    let root = dir.path().to_path_buf();
    let kept = env.clone();
    let (ready, started) = tokio::sync::oneshot::channel();
    let (stop, stopped) = mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        actix_web::rt::System::new().block_on(async move {
            let settings = settings(&root, env);
            let sources =
                Sources::of(&settings, None, detector_orchestrator::detect::builtin::check);
            let application = match Application::build(settings, sources, None).await {
                Ok(application) => application,
                Err(error) => panic!("the service did not start: {error}"),
            };
            let handle = application.handle();
            let admin = application.admin_address;
            let _ = ready.send((application.address, admin, application.api.clone()));
            std::thread::spawn(move || {
                let _ = stopped.recv();
                actix_web::rt::System::new().block_on(handle.stop(false));
            });
            application.run().await.unwrap();
        });
    });
    let (address, admin, api) = started.await.expect("the service started");
    App {
        address,
        admin,
        dir,
        api,
        client: client(),
        env: kept,
        stop: Some(stop),
        thread: Some(thread),
    }
}

pub type HttpClient = Client<HttpConnector, Full<Bytes>>;

pub fn client() -> HttpClient {
    Client::builder(TokioExecutor::new()).build_http()
}

/// Sends `method` to the address `at`, wherever that is.
pub async fn send(
    client: &HttpClient,
    (method, at): (&str, &str),
    headers: &[(&str, &str)],
    body: &[u8],
) -> Answer {
    let mut request = hyper::Request::builder().method(method).uri(at);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(Bytes::copy_from_slice(body))).unwrap();
    let response = client.request(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    Answer {
        status: parts.status.as_u16(),
        headers: parts.headers,
        text: String::from_utf8(bytes.to_vec()).unwrap(),
    }
}

/// Settings of a test: a free port, and every path inside `root`.
fn settings(root: &Path, env: Vec<(&'static str, String)>) -> Settings {
    let path = |name: &str| root.join(name).display().to_string();
    let file = root.join("config/settings.yaml");
    let vars = [
        ("ORCHESTRATION_SERVER__LISTEN", "127.0.0.1:0".to_owned()),
        ("ORCHESTRATION_SERVER__WORKERS", "2".to_owned()),
        ("ORCHESTRATION_PATHS__DETECTORS", path("detectors")),
        ("ORCHESTRATION_PATHS__POLICIES", path("policies")),
        ("ORCHESTRATION_PATHS__TENANTS", path("config/tenants")),
        ("ORCHESTRATION_PATHS__STRATEGIES", path("config/strategies.yaml")),
        ("ORCHESTRATION_PATHS__DATA", path("data")),
    ];
    // The shipped limit is for the optimised program: this one is some ten times slower.
    let is_shipped = std::fs::read_to_string(&file).unwrap().contains("eval_timeout: 50ms");
    let patient = ("ORCHESTRATION_POLICY__EVAL_TIMEOUT", "500ms".to_owned());
    let vars = vars.into_iter().chain(env).chain(is_shipped.then_some(patient));
    let vars = vars.map(|(name, value)| (name.to_owned(), value));
    Settings::load(Some(&file), vars).unwrap_or_else(|faults| panic!("{faults:?}"))
}

impl App {
    pub async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let at = format!("http://{}{path}", self.address);
        send(&self.client, (method, &at), headers, body).await
    }

    /// Stops the service; its folder stays as long as what is answered.
    pub fn stop(mut self) -> tempfile::TempDir {
        drop(self.stop.take());
        self.thread.take().unwrap().join().unwrap();
        let empty = tempfile::tempdir().unwrap();
        std::mem::replace(&mut self.dir, empty)
    }

    /// Stops the service and starts another over the same folder.
    pub async fn restart(mut self) -> App {
        drop(self.stop.take());
        self.thread.take().unwrap().join().unwrap();
        let empty = tempfile::tempdir().unwrap();
        let dir = std::mem::replace(&mut self.dir, empty);
        spawn_under(dir, std::mem::take(&mut self.env)).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], b"").await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        let headers = [("content-type", "application/json")];
        self.send("POST", path, &headers, body.to_string().as_bytes()).await
    }

    /// Has detectors asked, whatever they said to an equal request before.
    pub async fn ask(&self, body: &Value) -> Answer {
        let headers = [("content-type", "application/json"), ("cache-control", "no-store")];
        self.send("POST", "/api/v1/orchestrate", &headers, body.to_string().as_bytes()).await
    }

    /// Asks until `holds`, at most 10 s.
    pub async fn ask_until(&self, body: &Value, holds: impl Fn(&Value) -> bool) -> Value {
        let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
        loop {
            let answer = self.ask(body).await;
            let value = serde_json::from_str(&answer.text).unwrap_or_default();
            if holds(&value) {
                return value;
            }
            assert!(std::time::Instant::now() < until, "never: {}", answer.text);
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    pub fn path(&self, relative: &str) -> PathBuf {
        self.dir.path().join(relative)
    }

    pub fn edit(&self, relative: &str, from: &str, to: &str) {
        edit(self.dir.path(), relative, from, to);
    }
}

/// Replaces `from`, which must occur, in a file.
pub fn edit(root: &Path, relative: &str, from: &str, to: &str) {
    let path = root.join(relative);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{relative} does not hold {from}");
    std::fs::write(&path, text.replacen(from, to, 1)).unwrap();
}

/// Writes a file and its folders.
pub fn write(root: &Path, relative: &str, text: &str) {
    let path = root.join(relative);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

impl Drop for App {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
