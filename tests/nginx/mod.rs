//! An nginx of the tests' own over the settings in deploy/nginx: on a free port, gone with the tests.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Runs the server until standard input ends, as it does with the tests, then takes the folder away.
const KEEPER: &str =
    "\"$1\" -p \"$2\" -c \"$2/main.conf\" -g 'daemon off;' >\"$2/log\" 2>&1 & server=$!
    cat >/dev/null; kill -TERM $server; wait $server; rm -rf \"$2\"";

/// A plain port in front of the same upstream and locations.
const MAIN: &str = "
    worker_processes 1;
    USER
    pid FOLDER/pid;
    error_log FOLDER/error.log warn;
    events {}
    http {
        client_body_temp_path FOLDER/body;
        proxy_temp_path FOLDER/proxy;
        fastcgi_temp_path FOLDER/fastcgi;
        uwsgi_temp_path FOLDER/uwsgi;
        scgi_temp_path FOLDER/scgi;
        access_log off;
        include upstream.conf;
        server {
            listen 127.0.0.1:PORT;
            include locations.conf;
        }
    }";

/// A server; ends, and its folder with it, when dropped or when the tests end.
pub struct Server {
    folder: PathBuf,
    keeper: Child,
    pub port: u16,
}

impl Server {
    /// Starts one in front of `instances`; `edit` fits the shipped upstream to a test's time.
    pub fn start(instances: &[String], edit: impl Fn(String) -> String) -> Server {
        let folder = tempfile::tempdir().unwrap().keep();
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let mut upstream = shipped("upstream.conf");
        for (shipped, own) in ["172.30.0.11:8000", "172.30.0.12:8000"].iter().zip(instances) {
            assert!(upstream.contains(shipped), "deploy/nginx/upstream.conf names no {shipped}");
            upstream = upstream.replace(shipped, own);
        }
        for more in instances.iter().skip(2) {
            let line = format!("server {more} max_fails=1 fail_timeout=2s;\n    keepalive 64;");
            upstream = upstream.replace("keepalive 64;", &line);
        }
        std::fs::write(folder.join("upstream.conf"), edit(upstream)).unwrap();
        std::fs::write(folder.join("locations.conf"), shipped("locations.conf")).unwrap();
        let main = here(MAIN, &folder).replace("PORT", &port.to_string());
        std::fs::write(folder.join("main.conf"), main).unwrap();
        let mut keeper = Command::new("/bin/sh");
        keeper.args(["-c", KEEPER, "keeper"]).arg(program()).arg(&folder);
        keeper.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let server = Server { keeper: keeper.spawn().unwrap(), folder, port };
        let until = Instant::now() + Duration::from_secs(10);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < until, "nginx does not start: {}", server.log());
            std::thread::sleep(Duration::from_millis(10));
        }
        server
    }

    /// What it complained of.
    pub fn log(&self) -> String {
        let read = |name: &str| std::fs::read_to_string(self.folder.join(name)).unwrap_or_default();
        read("log") + &read("error.log")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

/// What nginx says of the shipped settings, with secrets and temporary files in `folder`.
pub fn check(folder: &Path) -> std::process::Output {
    for name in ["upstream.conf", "locations.conf"] {
        std::fs::write(folder.join(name), shipped(name)).unwrap();
    }
    let shown = folder.display().to_string();
    let main = shipped("nginx.conf").replace("/tmp", &shown).replace("/run/secrets", &shown);
    let main = main.replace("/dev/stdout", &format!("{shown}/access.log"));
    std::fs::write(folder.join("nginx.conf"), main).unwrap();
    let mut test = Command::new(program());
    test.arg("-t").arg("-p").arg(folder).arg("-c").arg(folder.join("nginx.conf")).output().unwrap()
}

fn here(text: &str, folder: &Path) -> String {
    let root = is_root();
    let text = text.replace("USER", if root { "user root;" } else { "" });
    text.replace("FOLDER", &folder.display().to_string())
}

/// Whether these tests are root's, whose nginx would work as nobody.
fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().unwrap();
    id.stdout.trim_ascii() == b"0"
}

fn shipped(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/nginx");
    std::fs::read_to_string(folder.join(name)).unwrap()
}

fn program() -> &'static str {
    let found = ["/usr/sbin/nginx", "nginx"]
        .into_iter()
        .find(|program| Command::new(program).arg("-v").stderr(Stdio::null()).status().is_ok());
    found.unwrap_or_else(|| panic!("nginx is missing: run tests/nginx/install"))
}
