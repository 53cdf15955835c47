//! A PostgreSQL of the tests' own: in a folder that goes with it, reached by a socket in there.

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
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Where Debian and others put the server's programs.
const PLACES: [&str; 2] = ["/usr/lib/postgresql", "/usr/local"];
/// Runs the server until standard input ends, as it does with the tests, then takes the folder away.
const KEEPER: &str = "\"$1\" -D \"$2/data\" -k \"$2\" -c fsync=off -c max_connections=300 \
    -c shared_buffers=16MB $3 >\"$2/log\" 2>&1 & server=$!
    cat >/dev/null; kill -QUIT $server; wait $server; rm -rf \"$2\"";

/// Makes an authority, and a certificate of it for `localhost`, in the folder it runs in.
const CERTIFY: &str = "
    new='-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes'
    openssl req -x509 $new -keyout ca.key -out ca.pem -subj /CN=tests -days 2 &&
    openssl req $new -keyout server.key -out server.csr -subj /CN=localhost &&
    echo subjectAltName=DNS:localhost >names &&
    openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 \
        -extfile names -out server.pem && chmod 600 server.key";

/// A server; ends, and its folder with it, when dropped or when the tests end.
pub struct Server {
    pub folder: PathBuf,
    keeper: Child,
    options: String,
    databases: AtomicU32,
}

impl Server {
    /// Makes and starts one.
    pub fn start() -> Server {
        Self::start_with(|_| "-c listen_addresses=".to_owned())
    }

    /// The same, whose commits reach the disk: for measurements, where others need only outlive a kill.
    pub fn start_synced() -> Server {
        Self::start_with(|_| "-c listen_addresses= -c fsync=on".to_owned())
    }

    /// The same, which speaks TLS on a free port of `localhost`, and that port.
    pub fn start_with_tls() -> (Server, u16) {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let server = Self::start_with(|folder| {
            let made =
                as_user(Path::new("/bin/sh")).current_dir(folder).args(["-c", CERTIFY]).output();
            let made = made.unwrap();
            assert!(made.status.success(), "openssl: {}", String::from_utf8_lossy(&made.stderr));
            let folder = folder.display();
            format!(
                "-c listen_addresses=localhost -c port={free} -c ssl=on \
                 -c ssl_cert_file={folder}/server.pem -c ssl_key_file={folder}/server.key"
            )
        });
        (server, free)
    }

    /// `options` writes what else the server's command line holds.
    fn start_with(options: impl FnOnce(&Path) -> String) -> Server {
        let folder = tempfile::tempdir().unwrap().keep();
        if let Some((user, group)) = unprivileged() {
            std::os::unix::fs::chown(&folder, Some(user), Some(group)).unwrap();
        }
        let mut init = as_user(&program("initdb"));
        init.args(["-A", "trust", "-U", "owner", "-E", "UTF8", "--no-sync", "--no-locale", "-D"]);
        let made = init.arg(folder.join("data")).output().unwrap();
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let options = options(&folder);
        let keeper = keep(&folder, &options);
        let server = Server { folder, keeper, options, databases: AtomicU32::new(0) };
        server.wait_until_it_answers();
        server
    }

    /// The server that all tests of this program share.
    pub fn shared() -> &'static Server {
        static SHARED: OnceLock<Server> = OnceLock::new();
        SHARED.get_or_init(Server::start)
    }

    /// The address of a new, empty database, as the server's owner.
    pub fn database(&self) -> String {
        let name = format!("test{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.sql("postgres", &format!("CREATE DATABASE {name}"));
        self.url("owner", &name)
    }

    /// The address of `database` for `user`.
    pub fn url(&self, user: &str, database: &str) -> String {
        let host = self.folder.display().to_string().replace('/', "%2F");
        format!("postgres://{user}@{host}/{database}")
    }

    /// Runs `sql` as the owner; what it prints, without head and edges.
    pub fn sql(&self, database: &str, sql: &str) -> String {
        let done = self.psql(database, sql);
        let told = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{sql}: {told}");
        String::from_utf8(done.stdout).unwrap().trim().to_owned()
    }

    /// The same, which may fail; standard error where it does.
    pub fn try_sql(&self, database: &str, sql: &str) -> Result<String, String> {
        let done = self.psql(database, sql);
        let text = |bytes| String::from_utf8(bytes).unwrap().trim().to_owned();
        if done.status.success() { Ok(text(done.stdout)) } else { Err(text(done.stderr)) }
    }

    fn psql(&self, database: &str, sql: &str) -> std::process::Output {
        let mut psql = Command::new(program("psql"));
        psql.args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-U", "owner", "-h"]);
        if let Some(port) = self.options.split("port=").nth(1) {
            psql.env("PGPORT", port.split(' ').next().unwrap());
        }
        psql.arg(&self.folder).args(["-d", database, "-c", sql]).output().unwrap()
    }

    /// Ends it by SIGKILL; the folder stays. Its children go by themselves, and until they have gone
    /// they may answer on connections that are open and hold its memory.
    pub fn kill(&self) {
        let server = self.pid();
        let all = children(&server).into_iter().chain([server]);
        self.signal("-KILL");
        all.for_each(|pid| self.wait_while(&pid, |state| !matches!(state, 'Z' | 'X')));
    }

    fn wait_while(&self, pid: &str, holds: impl Fn(char) -> bool) {
        let until = Instant::now() + Duration::from_secs(60);
        while state(pid).is_some_and(|(state, _)| holds(state)) {
            assert!(Instant::now() < until, "process {pid} does not end: {}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Sends `signal` to the server.
    pub fn signal(&self, signal: &str) {
        assert!(Command::new("kill").args([signal, &self.pid()]).status().unwrap().success());
    }

    fn pid(&self) -> String {
        let file = std::fs::read_to_string(self.folder.join("data/postmaster.pid")).unwrap();
        file.lines().next().unwrap().to_owned()
    }

    /// Starts the killed one again over the same folder.
    pub fn start_again(&mut self) {
        // The keeper of the killed one would take the folder away.
        self.keeper.kill().unwrap();
        self.keeper.wait().unwrap();
        // While anybody has still to wait for it, its number looks like that of a running server.
        self.wait_while(&self.pid(), |state| state == 'Z');
        self.keeper = keep(&self.folder, &self.options);
        self.wait_until_it_answers();
    }

    fn wait_until_it_answers(&self) {
        let until = Instant::now() + Duration::from_secs(60);
        while !self.psql("postgres", "SELECT 1").status.success() {
            assert!(Instant::now() < until, "{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn log(&self) -> String {
        let log = std::fs::read_to_string(self.folder.join("log"));
        format!("PostgreSQL in {}: {}", self.folder.display(), log.unwrap_or_default())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

fn keep(folder: &Path, options: &str) -> Child {
    let mut keeper = as_user(Path::new("/bin/sh"));
    keeper.args(["-c", KEEPER, "keeper"]).arg(program("postgres")).arg(folder).arg(options);
    keeper.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// The server refuses to run as root: then it runs as nobody.
fn as_user(program: &Path) -> Command {
    use std::os::unix::process::CommandExt as _;
    let mut command = Command::new(program);
    command.current_dir("/");
    if let Some((user, group)) = unprivileged() {
        command.uid(user).gid(group);
    }
    command
}

fn unprivileged() -> Option<(u32, u32)> {
    use std::os::unix::fs::MetadataExt as _;
    let is_root = std::fs::metadata("/proc/self").unwrap().uid() == 0;
    is_root.then_some((65_534, 65_534))
}

/// State and parent of a process; of one that has gone nothing.
fn state(pid: &str) -> Option<(char, String)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before it may hold anything.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut words = rest.split_whitespace();
    Some((words.next()?.chars().next()?, words.next()?.to_owned()))
}

fn children(of: &str) -> Vec<String> {
    let all = std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    all.filter(|pid| state(pid).is_some_and(|(_, parent)| parent == of)).collect()
}

/// A program of PostgreSQL: of the newest version where there are several.
fn program(name: &str) -> PathBuf {
    let mut found: Vec<PathBuf> = PLACES
        .iter()
        .filter_map(|place| std::fs::read_dir(place).ok())
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path().join("bin").join(name)))
        .filter(|path| path.exists())
        .collect();
    found.sort();
    let in_path = Path::new("/usr/bin").join(name);
    found.pop().or(in_path.exists().then_some(in_path)).unwrap_or_else(|| {
        panic!("{name} of PostgreSQL is missing: install it (Debian: apt-get install postgresql)")
    })
}
