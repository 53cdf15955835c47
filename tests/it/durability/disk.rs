//! A disk that fills up, fails, refuses or hangs, and a clock that jumps, under load.
//!
//! A full disk is a file system of a few megabytes. The other faults stand between the service and
//! the C library: `faults.c`.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::*;

/// A folder of faults, for a service that [`Faults::command`] starts.
pub(super) struct Faults {
    dir: tempfile::TempDir,
}

impl Faults {
    pub(super) fn build() -> Faults {
        let dir = tempfile::tempdir().unwrap();
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/durability/faults.c");
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(dir.path().join("faults.so"));
        assert!(compiler.args([source, "-ldl"]).status().unwrap().success(), "cc is missing");
        Faults { dir }
    }

    /// The command that serves `project` under them.
    pub(super) fn command(&self, project: &Path) -> Command {
        let mut serve = serve(project);
        serve.env("LD_PRELOAD", self.dir.path().join("faults.so")).env("FAULTS", self.dir.path());
        serve
    }

    fn start(&self, project: &Path) -> Served {
        started(self.command(project))
    }

    pub(super) fn set(&self, what: &str, to: &str) {
        // Whole or not at all: the service reads it at any moment.
        let (new, name) = (self.dir.path().join("new"), self.dir.path().join(what));
        std::fs::write(&new, to).unwrap();
        std::fs::rename(new, name).unwrap();
    }

    fn clear(&self, what: &str) {
        std::fs::remove_file(self.dir.path().join(what)).unwrap();
    }
}

/// A small file system that only a service sees which [`Small::command`] starts; gone when dropped.
struct Small {
    holder: Child,
}

impl Small {
    /// Over `path`.
    fn over(path: &Path, megabytes: u32) -> Small {
        std::fs::create_dir_all(path).unwrap();
        let mount =
            format!("mount -t tmpfs -o size={megabytes}M tmpfs \"$1\" && echo ready && exec cat");
        let mut holder = Command::new("unshare");
        holder.args(["-rm", "sh", "-c", &mount, "sh"]).arg(path);
        let holder = holder.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut holder = holder.expect("unshare is missing: install util-linux");
        let mut ready = String::new();
        std::io::BufRead::read_line(
            &mut std::io::BufReader::new(holder.stdout.as_mut().unwrap()),
            &mut ready,
        )
        .unwrap();
        assert_eq!(ready, "ready\n", "no file system of its own: allow user namespaces");
        Small { holder }
    }

    /// Where everybody else finds what the service has at `path`.
    fn outside(&self, path: &Path) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.holder.id()));
        root.join(path.strip_prefix("/").unwrap())
    }

    fn start(&self, project: &Path) -> Served {
        let plain = serve(project);
        let mut inside = Command::new("nsenter");
        let pid = self.holder.id().to_string();
        inside.args(["-t", &pid, "-U", "-m", "--preserve-credentials"]);
        // The folder it comes from is that of the file system outside.
        inside.args(["sh", "-c", "cd \"$0\" && exec \"$@\""]).arg(project);
        inside.arg(plain.get_program()).args(plain.get_args());
        for (name, value) in plain.get_envs() {
            match value {
                Some(value) => inside.env(name, value),
                None => inside.env_remove(name),
            };
        }
        started(inside)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// Writes until there is no room.
fn fill(path: &Path) {
    let mut file = std::fs::File::create(path).unwrap();
    while std::io::Write::write_all(&mut file, &[7; 4096]).is_ok() {}
}

/// Waits until so many more strict requests were answered.
pub(super) async fn answered(told: &Told, more: usize) {
    let (before, begun) = (told.strict.lock().unwrap().len(), Instant::now());
    while told.strict.lock().unwrap().len() < before + more {
        assert!(begun.elapsed() < Duration::from_secs(30), "strict requests are not answered");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Waits until so many more strict requests were refused.
async fn refused(told: &Told, more: u64) {
    let (before, begun) = (told.refused.load(Relaxed), Instant::now());
    while told.refused.load(Relaxed) < before + more {
        assert!(begun.elapsed() < Duration::from_secs(30), "strict requests are not refused");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Waits until so many answers said that only memory has their record; how many did.
async fn until_held(told: &Told, count: usize) -> usize {
    let begun = Instant::now();
    loop {
        let held = told.held.lock().unwrap().len();
        if held >= count {
            return held;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "no record is held in memory");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn health(served: &Served) -> serde_json::Value {
    let at = format!("http://{}/api/v1/health/detailed", served.address);
    let answer = app::send(&client(), ("GET", &at), &[], b"").await;
    serde_json::from_str(&answer.text).unwrap()
}

pub(super) async fn end(stop: &AtomicBool, running: Vec<tokio::task::JoinHandle<()>>) {
    stop.store(true, Relaxed);
    for one in running {
        one.await.unwrap();
    }
}

pub(super) fn sqlite(file: PathBuf) -> Sqlite {
    Sqlite::open(&SqliteOptions::at(Place::File(file))).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_costs_strict_answers_and_no_record_and_all_go_on_when_there_is_room() {
    let dir = project();
    let data = dir.path().join("data");
    let disk = Small::over(&data, 16);
    let served = disk.start(dir.path());
    let told = Arc::new(Told::default());
    let (stop, running) = callers(&served, &told);
    answered(&told, 20).await;
    let ballast = disk.outside(&data).join("ballast");
    let mut held = 0;
    for _ in 0..2 {
        fill(&ballast);
        refused(&told, 50).await;
        // Not even the spool has room; answers say so, and so does who is asked how the service is.
        held = until_held(&told, held + 20).await;
        let health = health(&served).await;
        let check = &health["checks"]["evidence"];
        assert_eq!((&health["status"], &check["status"]), (&json!("degraded"), &json!("warn")));
        assert!(check["message"].as_str().unwrap().contains("held in memory"), "{check}");
        std::fs::remove_file(&ballast).unwrap();
        answered(&told, 20).await;
    }
    end(&stop, running).await;
    let begun = Instant::now();
    while health(&served).await["checks"]["evidence"]["status"] != "pass" {
        assert!(begun.elapsed() < Duration::from_secs(20), "records still wait");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(told.lost.load(Relaxed), 0, "memory has room for all");
    let held = std::mem::take(&mut *told.held.lock().unwrap());
    let only_held = held.len();
    told.standard.lock().unwrap().extend(held.into_iter().map(|id| (Instant::now(), id)));
    assert_eq!(served.stop().0, Some(0));
    let refused = told.refused.load(Relaxed);
    // SQLite would resolve the way into the namespace by itself, to a place outside.
    for entry in std::fs::read_dir(disk.outside(&data)).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            std::fs::copy(entry.path(), data.join(entry.file_name())).unwrap();
        }
    }
    let result = verify(&sqlite(data.join(STORE_FILE)), &told).await;
    println!(
        "a disk that was full twice: {result}, of which {only_held} were held in memory; {refused} \
         answered 503"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_disk_ends_the_service_and_a_new_start_has_all_that_was_acknowledged() {
    let faults = Faults::build();
    // EIO, and EROFS: what a file system says that gave itself up.
    for errno in ["5", "30"] {
        let dir = project();
        let served = faults.start(dir.path());
        let told = Arc::new(Told::default());
        let (stop, running) = callers(&served, &told);
        answered(&told, 20).await;
        let failed = Instant::now();
        faults.set("disk", errno);
        let (code, _, error) = served.ended(Duration::from_secs(20));
        assert_eq!(code, Some(70), "{error}");
        assert!(error.contains("the disk failed; replace it and start again"), "{error}");
        end(&stop, running).await;
        faults.clear("disk");
        told.settle(Some(failed));
        let served = faults.start(dir.path());
        assert_eq!(ask(&served).await.status, 200);
        empty(dir.path()).await;
        assert_eq!(served.stop().0, Some(0));
        let store = sqlite(dir.path().join("data").join(STORE_FILE));
        println!("a disk that failed ({errno}): {}", verify(&store, &told).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_hangs_costs_a_strict_answer_a_quarter_of_a_second_and_no_record() {
    let (dir, faults) = (project(), Faults::build());
    let served = faults.start(dir.path());
    let told = Arc::new(Told::default());
    let (stop, running) = callers(&served, &told);
    let mut slowest = Duration::ZERO;
    for _ in 0..2 {
        answered(&told, 20).await;
        faults.set("disk", "hang");
        // What was under way may still be answered.
        tokio::time::sleep(Duration::from_millis(300)).await;
        for _ in 0..10 {
            let begun = Instant::now();
            let answer = ask(&served).await;
            slowest = slowest.max(begun.elapsed());
            assert_eq!(answer.status, 503, "{}", answer.text);
        }
        faults.clear("disk");
    }
    answered(&told, 20).await;
    end(&stop, running).await;
    empty(dir.path()).await;
    assert_eq!(served.stop().0, Some(0));
    let (refused, store) = (told.refused.load(Relaxed), dir.path().join("data").join(STORE_FILE));
    let result = verify(&sqlite(store), &told).await;
    println!("a disk that hung twice: {result}; {refused} answered 503 within {slowest:?}");
    assert!(slowest < Duration::from_secs(2), "{slowest:?}: it waits for the disk");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_jumps_an_hour_loses_no_record_and_changes_no_order() {
    let (dir, faults) = (project(), Faults::build());
    let served = faults.start(dir.path());
    let told = Arc::new(Told::default());
    let (stop, running) = callers(&served, &told);
    for jump in ["3600", "-3600", "0", "-7200"] {
        answered(&told, 20).await;
        faults.set("clock", jump);
        // Leases, batches and time-outs go on by the clock that never jumps.
        answered(&told, 20).await;
    }
    end(&stop, running).await;
    empty(dir.path()).await;
    assert_eq!((told.refused.load(Relaxed), served.stop().0), (0, Some(0)));
    let store = sqlite(dir.path().join("data").join(STORE_FILE));
    println!("a clock that jumps: {}", verify(&store, &told).await);
    // It did jump: times go back where places go on.
    let mut all = decisions(&store, "careful").await;
    all.sort_by_key(|decision| decision.leaf.as_ref().unwrap().index);
    let back = all.windows(2).filter(|pair| pair[1].at_ms + 3_000_000 < pair[0].at_ms).count();
    assert!(back > 0, "no jump was seen");
}
