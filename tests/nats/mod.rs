//! A NATS server of the tests' own: on a free port, over a folder of its own, gone with the tests.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::panic,
    clippy::zombie_processes,
    dead_code,
    reason = "used by two programs of tests, each in its part; a test that cannot go on fails"
)]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Runs the server until standard input ends, as it does with the tests, then takes the folder away.
const KEEPER: &str = "\"$2\" -c \"$1/nats.conf\" >\"$1/log\" 2>&1 & server=$!
    echo $server >\"$1/pid\"; cat >/dev/null; kill -KILL $server; wait $server; rm -rf \"$1\"";

/// Makes an authority, and a certificate of it for `localhost`, in the folder it runs in.
const CERTIFY: &str = "
    new='-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes'
    openssl req -x509 $new -keyout ca.key -out ca.pem -subj /CN=tests -days 2 &&
    openssl req $new -keyout server.key -out server.csr -subj /CN=localhost &&
    echo subjectAltName=DNS:localhost >names &&
    openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 \
        -extfile names -out server.pem";

/// A server; ends, and its folder with it, when dropped or when the tests end.
pub struct Server {
    folder: PathBuf,
    keeper: Child,
    pub port: u16,
}

/// A message as the stream holds it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Held {
    pub id: String,
    pub subject: String,
    pub body: String,
}

impl Server {
    /// Makes and starts one, whose user is the one of deploy/nats/nats.conf.
    pub fn start() -> Server {
        Self::start_with(|_| String::new())
    }

    /// The same, which speaks TLS and nothing else: its address for the service, and the authority.
    pub fn start_with_tls() -> (Server, String, PathBuf) {
        let server = Self::start_with(|folder| {
            let made = Command::new("/bin/sh").current_dir(folder).args(["-c", CERTIFY]).output();
            let made = made.unwrap();
            assert!(made.status.success(), "openssl: {}", String::from_utf8_lossy(&made.stderr));
            let at = folder.display();
            format!("tls {{ cert_file: \"{at}/server.pem\", key_file: \"{at}/server.key\" }}\n")
        });
        let url = format!("tls://orchestrator:{PASSWORD}@localhost:{}", server.port);
        let authority = server.folder.join("ca.pem");
        (server, url, authority)
    }

    /// `options` writes what else the server's settings hold.
    fn start_with(options: impl Fn(&Path) -> String) -> Server {
        let mut said = String::new();
        // Another program may take the port before the server does.
        for _ in 0..5 {
            let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let port = free.local_addr().unwrap().port();
            drop(free);
            let folder = tempfile::tempdir().unwrap().keep();
            let shipped = include_str!("../../deploy/nats/nats.conf");
            let own = shipped
                .replace("0.0.0.0:4222", &format!("127.0.0.1:{port}"))
                .replace("http: 127.0.0.1:8222", "")
                .replace("store_dir: /data", &format!("store_dir: \"{}/data\"", folder.display()))
                .replace("users: [", &format!("users: [{{user: reader, password: {PASSWORD}}}"));
            std::fs::write(folder.join("nats.conf"), own + &options(&folder)).unwrap();
            let keeper = keep(&folder);
            let server = Server { folder, keeper, port };
            if server.answers_within(Duration::from_secs(10)) {
                return server;
            }
            said = server.log();
        }
        panic!("nats-server does not start: {said}");
    }

    /// Its address, with the user of the service.
    pub fn url(&self) -> String {
        format!("nats://orchestrator:{PASSWORD}@127.0.0.1:{}", self.port)
    }

    /// Sends `signal` to the server.
    pub fn signal(&self, signal: &str) {
        let pid = std::fs::read_to_string(self.folder.join("pid")).unwrap();
        let sent = Command::new("kill").args([signal, pid.trim()]).status().unwrap();
        assert!(sent.success());
    }

    /// Ends it by SIGKILL; what it holds stays.
    pub fn kill(&self) {
        self.signal("-KILL");
        while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Takes away all that it holds.
    pub fn wipe(&self) {
        std::fs::remove_dir_all(self.folder.join("data")).unwrap();
    }

    /// Starts it again, at the same port.
    pub fn start_again(&mut self) {
        // The keeper of the killed one would take the folder away.
        self.keeper.kill().unwrap();
        self.keeper.wait().unwrap();
        self.keeper = keep(&self.folder);
        assert!(self.answers_within(Duration::from_secs(20)), "{}", self.log());
    }

    /// All that the stream holds, in its order.
    pub async fn held(&self) -> Vec<Held> {
        // The service may not read.
        let reader = ("reader".to_owned(), PASSWORD.to_owned());
        let mut options = async_nats::ConnectOptions::with_user_and_password(reader.0, reader.1);
        let authority = self.folder.join("ca.pem");
        if authority.exists() {
            options = options.add_root_certificates(authority);
        }
        let client = options.connect(format!("localhost:{}", self.port)).await.unwrap();
        let streams = async_nats::jetstream::new(client);
        let Ok(mut stream) = streams.get_stream("ORCH_EVENTS").await else { return Vec::new() };
        let state = stream.info().await.unwrap().state.clone();
        let mut held = Vec::new();
        if state.messages == 0 {
            return held;
        }
        for at in state.first_sequence..=state.last_sequence {
            let message = stream.get_raw_message(at).await.unwrap();
            held.push(Held {
                id: message.headers.get("Nats-Msg-Id").unwrap().to_string(),
                subject: message.subject.to_string(),
                body: String::from_utf8(message.payload.to_vec()).unwrap(),
            });
        }
        held
    }

    fn answers_within(&self, time: Duration) -> bool {
        use std::io::Read as _;
        let until = Instant::now() + time;
        while Instant::now() < until {
            if let Ok(mut connection) = std::net::TcpStream::connect(("127.0.0.1", self.port)) {
                let mut greeting = [0; 4];
                if connection.read_exact(&mut greeting).is_ok() && &greeting == b"INFO" {
                    return true;
                }
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        false
    }

    fn log(&self) -> String {
        let log = std::fs::read_to_string(self.folder.join("log"));
        format!("NATS in {}: {}", self.folder.display(), log.unwrap_or_default())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

const PASSWORD: &str = "a-password-of-the-tests";

/// The program that `tests/nats/install` puts there.
pub fn program() -> PathBuf {
    let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/nats");
    let program = home.join("site/bin/nats-server");
    let missing = || std::fs::read_to_string(home.join("missing")).unwrap_or_default();
    assert!(program.exists(), "the NATS server is missing: run tests/nats/install\n{}", missing());
    program
}

fn keep(folder: &Path) -> Child {
    let mut keeper = Command::new("/bin/sh");
    keeper.args(["-c", KEEPER, "keeper"]).arg(folder).arg(program());
    keeper.env("NATS_PASSWORD", PASSWORD);
    keeper.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}
