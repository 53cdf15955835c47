//! The binary itself: what it prints, where it listens, how it ends.

use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const BINARY: &str = env!("CARGO_BIN_EXE_orchestrator");

/// The service under load: this build's, or the one that `SERVICE_BINARY` names.
pub fn service() -> String {
    std::env::var("SERVICE_BINARY").unwrap_or_else(|_| BINARY.to_owned())
}

/// A command in `dir` with no variable of ours.
pub fn command(dir: &Path) -> Command {
    program(BINARY, dir)
}

/// Any program, as above.
pub fn program(name: &str, dir: &Path) -> Command {
    let mut command = Command::new(name);
    command.current_dir(dir).stdin(Stdio::null());
    for (name, _) in std::env::vars() {
        if name.starts_with("ORCHESTRATION_") {
            command.env_remove(name);
        }
    }
    command
}

/// Runs `command` to its end, which comes within a minute or by force.
pub fn ended(command: &mut Command) -> Output {
    let made = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (pid, (done, finished)) = (made.id(), std::sync::mpsc::channel::<()>());
    let late = std::thread::spawn(move || {
        let is_late = finished.recv_timeout(Duration::from_secs(60))
            == Err(std::sync::mpsc::RecvTimeoutError::Timeout);
        if is_late {
            let _ = Command::new("kill").args(["-KILL", &pid.to_string()]).status();
        }
    });
    let output = made.wait_with_output().unwrap();
    drop(done);
    late.join().unwrap();
    output
}

/// Runs to the end.
pub fn run(dir: &Path, args: &[&str]) -> Output {
    command(dir).args(args).output().unwrap()
}

/// Runs a line of the shell in which `orchestrator` is this binary.
pub fn shell(dir: &Path, line: &str) -> Output {
    let own = Path::new(BINARY).parent().unwrap().display().to_string();
    let path = format!("{own}:{}", std::env::var("PATH").unwrap());
    let mut shell = Command::new("sh");
    shell.args(["-c", line]).current_dir(dir).stdin(Stdio::null()).env("PATH", path);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("ORCHESTRATION_")) {
        shell.env_remove(name);
    }
    shell.output().unwrap()
}

/// Runs to the end with `input` on standard input.
pub fn run_with(dir: &Path, args: &[&str], input: &str) -> Output {
    let mut child = command(dir)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A served instance; killed when dropped.
pub struct Served {
    pub address: String,
    child: Child,
    out: Box<dyn BufRead + Send>,
    seen: String,
}

impl Served {
    /// Starts `command` and waits until it listens.
    pub fn start(mut command: Command) -> Served {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut out = Box::new(BufReader::new(child.stdout.take().unwrap()));
        let mut seen = String::new();
        loop {
            let mut line = String::new();
            if out.read_line(&mut line).unwrap() == 0 {
                let mut error = String::new();
                child.stderr.take().unwrap().read_to_string(&mut error).unwrap();
                panic!("it ended before it listened: {seen}{error}");
            }
            seen.push_str(&line);
            let value: serde_json::Value = serde_json::from_str(&line).unwrap();
            if value["message"] == "Listening" {
                let address = value["address"].as_str().unwrap().to_owned();
                return Served { address, child, out, seen };
            }
        }
    }

    /// Its number among processes.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Reads what it prints from now on, so that it can go on printing, and keeps nothing.
    pub fn discard_output(&mut self) {
        let mut out = std::mem::replace(&mut self.out, Box::new(std::io::empty()));
        std::thread::spawn(move || std::io::copy(&mut out, &mut std::io::sink()));
    }

    /// Reads what it prints from now on, so that it can go on printing, until it ends.
    pub fn keep_output(&mut self) -> std::thread::JoinHandle<String> {
        let mut out = std::mem::replace(&mut self.out, Box::new(std::io::empty()));
        std::thread::spawn(move || {
            let mut told = String::new();
            out.read_to_string(&mut told).unwrap();
            told
        })
    }

    /// As `keep_output`; what it printed so far is there at any time.
    pub fn share_output(&mut self) -> Arc<Mutex<String>> {
        let out = std::mem::replace(&mut self.out, Box::new(std::io::empty()));
        let told = Arc::<Mutex<String>>::default();
        let shared = Arc::clone(&told);
        std::thread::spawn(move || {
            out.lines().for_each(|line| *told.lock().unwrap() += &(line.unwrap() + "\n"));
        });
        shared
    }

    /// Ends it by SIGTERM; exit code, standard output, standard error.
    pub fn stop(mut self) -> (Option<i32>, String, String) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        self.end()
    }

    /// Waits until it ends by itself; exit code, standard output, standard error.
    pub fn ended(mut self, within: Duration) -> (Option<i32>, String, String) {
        let begun = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            assert!(begun.elapsed() < within, "it does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
        self.end()
    }

    fn end(&mut self) -> (Option<i32>, String, String) {
        self.out.read_to_string(&mut self.seen).unwrap();
        let mut error = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut error).unwrap();
        let code = self.child.wait().unwrap().code();
        (code, std::mem::take(&mut self.seen), error)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
