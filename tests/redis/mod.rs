//! A Redis of the tests' own: on a free port, with nothing on disk, gone with the tests.

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
const KEEPER: &str = "redis-server --port \"$2\" --bind 127.0.0.1 --unixsocket \"$1/socket\" \
    --dir \"$1\" --save '' --appendonly no --daemonize no $3 >\"$1/log\" 2>&1 & server=$!
    echo $server >\"$1/pid\"; cat >/dev/null; kill -KILL $server; wait $server; rm -rf \"$1\"";

/// Makes an authority, and a certificate of it for `localhost`, in the folder it runs in.
const CERTIFY: &str = "
    new='-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes'
    openssl req -x509 $new -keyout ca.key -out ca.pem -subj /CN=tests -days 2 &&
    openssl req $new -keyout server.key -out server.csr -subj /CN=localhost &&
    echo subjectAltName=DNS:localhost >names &&
    openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 \
        -extfile names -out server.pem";

/// What the service may ask of Redis, as docs/deployment.md gives it to its user.
pub const MAY: &str = "resetchannels ~orch:1:* -@all +get +set +getrange +evalsha +time \
    +script|load +auth +select";

/// A server; ends, and its folder with it, when dropped or when the tests end.
pub struct Server {
    folder: PathBuf,
    keeper: Child,
    pub port: u16,
    options: String,
}

impl Server {
    /// Makes and starts one.
    pub fn start() -> Server {
        Self::start_with(|_| String::new())
    }

    /// The same, which speaks TLS on a free port of `localhost`: its address there, and the authority.
    pub fn start_with_tls() -> (Server, String, PathBuf) {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let server = Self::start_with(|folder| {
            let made = Command::new("/bin/sh").current_dir(folder).args(["-c", CERTIFY]).output();
            let made = made.unwrap();
            assert!(made.status.success(), "openssl: {}", String::from_utf8_lossy(&made.stderr));
            let folder = folder.display();
            format!(
                "--tls-port {free} --tls-auth-clients no --tls-ca-cert-file {folder}/ca.pem \
                 --tls-cert-file {folder}/server.pem --tls-key-file {folder}/server.key"
            )
        });
        let authority = server.folder.join("ca.pem");
        (server, format!("rediss://localhost:{free}"), authority)
    }

    /// `options` writes what else the server's command line holds.
    fn start_with(options: impl Fn(&Path) -> String) -> Server {
        let mut said = String::new();
        // Another program may take the port before the server does.
        for _ in 0..5 {
            let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let port = free.local_addr().unwrap().port();
            drop(free);
            let folder = tempfile::tempdir().unwrap().keep();
            let options = options(&folder);
            let keeper = keep(&folder, port, &options);
            let server = Server { folder, keeper, port, options };
            if server.answers_within(Duration::from_secs(10)) {
                return server;
            }
            said = server.log();
        }
        panic!("redis-server does not start: {said}");
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Its address for a user who may do what the service needs, and nothing else.
    pub fn narrow_url(&self) -> String {
        let mut args = vec!["ACL", "SETUSER", "service", "on", ">word"];
        args.extend(MAY.split_whitespace());
        assert_eq!(self.cli(&args), "OK");
        format!("redis://service:word@127.0.0.1:{}", self.port)
    }

    /// Runs one command; what it prints.
    pub fn cli(&self, args: &[&str]) -> String {
        let done = cli().arg("-s").arg(self.folder.join("socket")).args(args).output().unwrap();
        assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8_lossy(&done.stdout).trim().to_owned()
    }

    /// The names that are kept, of one kind.
    pub fn names(&self, kind: &str) -> Vec<String> {
        let told = self.cli(&["--scan", "--pattern", &format!("orch:1:{kind}:*")]);
        told.lines().map(str::to_owned).collect()
    }

    /// How often the command was called since [`Server::forget_calls`], by scripts too.
    pub fn calls(&self, command: &str) -> u64 {
        let told = self.cli(&["INFO", "commandstats"]);
        let line = format!("cmdstat_{command}:calls=");
        let found = told.lines().find_map(|told| told.strip_prefix(&line)?.split(',').next());
        found.map_or(0, |calls| calls.parse().unwrap())
    }

    /// Counts anew.
    pub fn forget_calls(&self) {
        assert_eq!(self.cli(&["CONFIG", "RESETSTAT"]), "OK");
    }

    /// Writes down every command from now on, until it is dropped.
    pub fn watch(&self) -> Watch {
        let path = self.folder.join("monitor");
        let file = std::fs::File::create(&path).unwrap();
        let mut monitor = cli();
        monitor.arg("-s").arg(self.folder.join("socket")).arg("MONITOR");
        let child = monitor.stdout(file).stderr(Stdio::null()).spawn().unwrap();
        let until = Instant::now() + Duration::from_secs(10);
        while !std::fs::read_to_string(&path).unwrap().starts_with("OK") {
            assert!(Instant::now() < until, "MONITOR does not begin");
            std::thread::sleep(Duration::from_millis(5));
        }
        Watch { path, child }
    }

    /// Waits until `watch` has written down everything that was sent before.
    pub fn tell_all(&self, watch: &Watch) {
        self.cli(&["ECHO", "all is told"]);
        let until = Instant::now() + Duration::from_secs(10);
        while !watch.text().contains("all is told") {
            assert!(Instant::now() < until, "MONITOR tells no more");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Sends `signal` to the server.
    pub fn signal(&self, signal: &str) {
        let pid = std::fs::read_to_string(self.folder.join("pid")).unwrap();
        let sent = Command::new("kill").args([signal, pid.trim()]).status().unwrap();
        assert!(sent.success());
    }

    /// Ends it by SIGKILL; the folder stays.
    pub fn kill(&self) {
        self.signal("-KILL");
        while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Starts it again, empty, at the same port.
    pub fn start_again(&mut self) {
        // The keeper of the killed one would take the folder away.
        self.keeper.kill().unwrap();
        self.keeper.wait().unwrap();
        self.keeper = keep(&self.folder, self.port, &self.options);
        assert!(self.answers_within(Duration::from_secs(20)), "{}", self.log());
    }

    fn answers_within(&self, time: Duration) -> bool {
        let until = Instant::now() + time;
        while Instant::now() < until {
            let mut ping = cli();
            ping.arg("-s").arg(self.folder.join("socket")).arg("PING");
            if ping.output().unwrap().stdout.starts_with(b"PONG") {
                return true;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        false
    }

    /// What was asked of it since it started, where it answers.
    fn stats(&self) -> String {
        let mut asked = Command::new("timeout");
        asked.args(["2", "redis-cli", "-s"]).arg(self.folder.join("socket"));
        let told = asked.args(["INFO", "commandstats"]).stderr(Stdio::null()).output();
        told.map_or(String::new(), |told| String::from_utf8_lossy(&told.stdout).into_owned())
    }

    fn log(&self) -> String {
        let log = std::fs::read_to_string(self.folder.join("log"));
        format!("Redis in {}: {}", self.folder.display(), log.unwrap_or_default())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let stats = self.stats();
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
        // Whatever was tested, Redis was a cache and never a bus or a queue.
        let foreign = NEVER.iter().find(|name| stats.contains(&format!("cmdstat_{name}:")));
        if !std::thread::panicking() {
            assert_eq!(foreign, None, "Redis is a cache here, and was asked for this");
        }
    }
}

/// What nobody may ask of it.
const NEVER: &[&str] = &[
    "publish",
    "spublish",
    "subscribe",
    "psubscribe",
    "ssubscribe",
    "xadd",
    "xread",
    "xreadgroup",
    "lpush",
    "rpush",
    "lpop",
    "rpop",
    "blpop",
    "brpop",
    "zpopmin",
    "bzpopmin",
];

/// What Redis was asked.
pub struct Watch {
    path: PathBuf,
    child: Child,
}

impl Watch {
    /// Every command so far that a client sent, in capitals; those of scripts apart.
    pub fn commands(&self) -> Vec<String> {
        let told = std::fs::read_to_string(&self.path).unwrap();
        let sent = told.lines().filter(|line| !line.contains(" lua] ") && line.contains("] \""));
        let name = |line: &str| line.split("] \"").nth(1)?.split('"').next().map(str::to_uppercase);
        sent.filter_map(name).collect()
    }

    /// All that was written down.
    pub fn text(&self) -> String {
        std::fs::read_to_string(&self.path).unwrap()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn keep(folder: &Path, port: u16, options: &str) -> Child {
    let mut keeper = Command::new("/bin/sh");
    keeper.args(["-c", KEEPER, "keeper"]).arg(folder).arg(port.to_string()).arg(options);
    keeper.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn cli() -> Command {
    let found = ["redis-server", "redis-cli"]
        .iter()
        .all(|name| Command::new(name).arg("--version").stdout(Stdio::null()).status().is_ok());
    assert!(found, "Redis is missing: install it (Debian: apt-get install redis-server)");
    let mut cli = Command::new("redis-cli");
    cli.stdin(Stdio::null());
    cli
}
