//! Edits by the hundred under load: whole or not at all, and never a failed request.
//!
//! 60 edits in every run; `RELOADS=1000` is the tier before a release (`just reloads`).

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use detector_orchestrator::yaml::fault::Fault;
use serde_json::{Value, json};

use super::load::{Answer, Ask, Load, stamped};
use super::tree::{BROKEN, BURST, OF_A_FILE, Tree, Way, vars};
use crate::app::client;
use crate::binary::{Served, program, service, text};

/// How long an edit may take until it serves, or its fault until it is seen, before the run fails.
const PATIENCE: Duration = Duration::from_secs(20);
/// A state of the disk that lasted less is never loaded.
const SETTLED: Duration = Duration::from_millis(100);

/// The size of a run.
#[derive(Clone, Copy)]
struct Size {
    edits: usize,
    /// Requests per second.
    rate: u32,
    /// Of so many edits one replaces the whole release, which ends the watching.
    release_every: usize,
    /// Of so many good versions one is asked again later.
    keep_every: usize,
    /// Where the kinds of broken files begin.
    first_kind: usize,
    /// The default, or one for a build that is not optimised.
    eval_timeout: &'static str,
}

impl Size {
    fn of_run() -> Size {
        match std::env::var("RELOADS").ok().and_then(|text| text.parse().ok()) {
            Some(edits) => Size {
                edits,
                rate: 220,
                release_every: 50,
                keep_every: 2,
                first_kind: 0,
                eval_timeout: "50ms",
            },
            None => {
                let first_kind = std::process::id() as usize;
                Size {
                    edits: 60,
                    rate: 60,
                    release_every: 60,
                    keep_every: 12,
                    first_kind,
                    eval_timeout: "500ms",
                }
            }
        }
    }
}

/// What an edit is.
enum Edit {
    Good(Way),
    /// Breaks a file as `BROKEN` at this place says, by this way.
    Broken(usize, Way),
}

/// Every tenth edit breaks something; the next one writes all files of the bundle anew.
fn plan(size: Size) -> Vec<Edit> {
    let (mut edits, mut at, mut broken, mut swapped) = (Vec::new(), 0, 0, 0);
    while at < size.edits {
        let step = edits.len();
        let way = OF_A_FILE[step % OF_A_FILE.len()];
        let way = if (at + 5) / 10 > broken {
            let kind = (broken + size.first_kind) % BROKEN.len();
            edits.push(Edit::Broken(kind, OF_A_FILE[broken % OF_A_FILE.len()]));
            broken += 1;
            at += 1;
            way
        } else if (at + size.release_every / 2) / size.release_every > swapped {
            swapped += 1;
            Way::ReleaseSwap
        } else {
            match step % 15 {
                3 | 10 => Way::DataSwap,
                6 => Way::Burst,
                13 => Way::FolderReplaced,
                _ => way,
            }
        };
        at += if way == Way::Burst { BURST } else { 1 };
        edits.push(Edit::Good(way));
    }
    edits
}

/// What a run measured beside what it asserts.
#[derive(Default)]
struct Figures {
    good: BTreeMap<Way, Vec<Duration>>,
    broken: BTreeMap<&'static str, usize>,
    visible: Vec<Duration>,
    kept: Vec<(PathBuf, String)>,
}

async fn generations(address: &str) -> Value {
    use http_body_util::BodyExt as _;
    let url = format!("http://{address}/api/v1/generations");
    let request = hyper::Request::get(url).body(http_body_util::Full::default()).unwrap();
    let body = client().request(request).await.unwrap().into_body();
    serde_json::from_slice(&body.collect().await.unwrap().to_bytes()).unwrap()
}

/// Waits for a fault of `file` with its position.
async fn fault(address: &str, name: &str, file: &str) {
    let until = Instant::now() + PATIENCE;
    loop {
        let state = generations(address).await;
        let faults = state["faults"].as_array().unwrap();
        let of_file = |fault: &&Value| fault["file"].as_str().is_some_and(|f| f.ends_with(file));
        if let Some(fault) = faults.iter().find(of_file) {
            let number = |key: &str| fault[key].as_u64().unwrap();
            assert!(number("line") > 0 && number("column") > 0, "{name}: no position: {fault:#}");
            assert_ne!(state["wanted"], state["revision"], "{name}");
            return;
        }
        assert!(Instant::now() < until, "{name}: no fault of {file}: {state:#}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn run(size: Size, tree: &mut Tree, address: &str, load: &Load) -> Figures {
    let mut figures = Figures::default();
    let mut good = 0;
    for edit in plan(size) {
        match edit {
            Edit::Good(way) => {
                let written = tree.edit(way);
                let first = load.seen.wait(&tree.revision(), PATIENCE).await;
                let Some(first) = first else {
                    panic!(
                        "{way:?} {}: never serves: {:#}",
                        tree.version,
                        generations(address).await
                    )
                };
                figures.good.entry(way).or_default().push(first.saturating_duration_since(written));
                good += 1;
                if good % size.keep_every == 0 {
                    figures.kept.push((tree.keep(), tree.revision()));
                }
            }
            Edit::Broken(at, way) => {
                let kind = &BROKEN[at];
                let written = tree.spoil(way, kind);
                fault(address, kind.name, kind.file).await;
                figures.visible.push(written.elapsed());
                *figures.broken.entry(kind.name).or_default() += 1;
            }
        }
    }
    figures
}

/// Answers that are no failure, and worth a number.
#[derive(Default)]
struct Odd {
    /// An edit was half done.
    between: usize,
    /// By `fail_mode` or `on_incomplete`.
    starved: usize,
}

/// Everything that must hold of every answer.
fn check(tree: &Tree, answers: &[Answer]) -> Odd {
    let mut odd = Odd::default();
    for answer in answers {
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.text, "", "{answer:?}");
        let Some(state) = tree.states.get(&answer.revision) else {
            panic!("this revision never stood on the disk: {answer:#?}");
        };
        assert!(!state.broken, "{answer:?} {state:?}");
        if answer.starved {
            odd.starved += 1;
            assert!(["review", "block"].contains(&answer.action.as_str()), "{answer:?}");
            continue;
        }
        let stamps = if answer.ask.tenant == "acme" { &state.acme } else { &state.globex };
        assert_eq!(&answer.stamps, stamps, "a mixed answer: {answer:#?}");
        assert_eq!(answer.reason, stamps.rego, "a mixed answer: {answer:#?}");
        assert_eq!(answer.action, stamps.action(answer.ask.personal), "{answer:?}");
        if state.between {
            odd.between += 1;
            assert!(state.lasted > SETTLED, "half an edit serves: {answer:#?} {state:#?}");
        } else if answer.ask.tenant == "acme" {
            assert!(stamps.table == stamps.rego && stamps.rego == stamps.overlay, "{answer:?}");
        } else {
            assert_eq!(stamps.table, stamps.rego, "{answer:?}");
        }
    }
    never_back(answers);
    odd
}

/// No request that began after a newer revision had answered is answered by an older one.
fn never_back(answers: &[Answer]) {
    let mut by_end: Vec<&Answer> = answers.iter().collect();
    by_end.sort_by_key(|answer| answer.done);
    let mut order: Vec<&str> = Vec::new();
    let mut rank = BTreeMap::new();
    for answer in &by_end {
        rank.entry(answer.revision.as_str()).or_insert_with(|| {
            order.push(&answer.revision);
            order.len()
        });
    }
    let mut by_start: Vec<&Answer> = answers.iter().collect();
    by_start.sort_by_key(|answer| answer.sent);
    let (mut newest, mut ended) = (0, by_end.iter().peekable());
    for answer in by_start {
        while let Some(end) = ended.next_if(|end| end.done < answer.sent) {
            newest = newest.max(rank[end.revision.as_str()]);
        }
        assert!(rank[answer.revision.as_str()] >= newest, "an older revision again: {answer:?}");
    }
}

/// Asks kept versions again, without the service; how many answers were compared.
fn again(tree: &Tree, kept: &[(PathBuf, String)]) -> usize {
    let mut equal = 0;
    for (dir, revision) in kept {
        let state = &tree.states[revision];
        for (tenant, stamps) in [("acme", &state.acme), ("globex", &state.globex)] {
            let asks = [true, false].map(|personal| Ask { tenant, personal });
            let names = ["personal.txt", "plain.txt"];
            for (ask, name) in asks.iter().zip(names) {
                std::fs::write(dir.join(name), ask.content()).unwrap();
            }
            let args = ["scan", "--json", "--tenant", tenant, names[0], names[1]];
            let output = program(&service(), dir).args(args).output().unwrap();
            let (out, error) = (text(&output.stdout), text(&output.stderr));
            let mut lines = out.lines();
            for ask in asks {
                let line = lines.next().unwrap_or_else(|| panic!("no answer: {error}"));
                let outcome: Value = serde_json::from_str(line).unwrap();
                assert_eq!(outcome["policy"]["revision"], json!(revision));
                assert_eq!(outcome["action"], stamps.action(ask.personal), "{outcome:#}");
                assert_eq!(stamped(&outcome), stamps.rego, "{outcome:#}");
                equal += 1;
            }
        }
    }
    equal
}

/// Count, p50, p99 and maximum.
fn spread(times: impl IntoIterator<Item = Duration>) -> String {
    let mut ms: Vec<f64> = times.into_iter().map(|time| time.as_secs_f64() * 1e3).collect();
    ms.sort_by(f64::total_cmp);
    let at = |part: f64| {
        let place = (ms.len() as f64 * part).ceil() as usize;
        ms.get(place.saturating_sub(1)).copied().unwrap_or_default()
    };
    format!("p50 {:.1}, p99 {:.1}, max {:.1} ms, n {}", at(0.5), at(0.99), at(1.0), ms.len())
}

fn tell(figures: &Figures, answers: &[Answer], took: Duration) {
    let good: usize = figures
        .good
        .iter()
        .map(|(way, times)| times.len() * if *way == Way::Burst { BURST } else { 1 })
        .sum();
    let broken: usize = figures.broken.values().sum();
    println!(
        "edits: {} in {:.0} s; {good} good, {broken} broken",
        good + broken,
        took.as_secs_f64()
    );
    for (way, times) in &figures.good {
        println!("  {way:?}: activation {}", spread(times.clone()));
    }
    let watched = figures.good.iter().filter(|(way, _)| **way != Way::ReleaseSwap);
    println!("activation, files watched: {}", spread(watched.flat_map(|(_, times)| times.clone())));
    println!("broken: {:?}", figures.broken);
    println!("fault visible: {}", spread(figures.visible.clone()));
    let rate = answers.len() as f64 / took.as_secs_f64();
    let revisions: BTreeSet<&str> = answers.iter().map(|answer| answer.revision.as_str()).collect();
    println!("answers: {} at {rate:.0}/s over {} revisions", answers.len(), revisions.len());
    println!("latency: {}", spread(answers.iter().map(|answer| answer.done - answer.sent)));
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("load average: {}", load.trim());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn edits_under_load_fail_no_request_and_mix_no_revisions() {
    let size = Size::of_run();
    let mut tree = Tree::new();
    let mut served = program(&service(), tree.path());
    served.args(["serve", "--listen", "127.0.0.1:0"]).envs(vars(&tree.root()));
    served.env("ORCHESTRATION_SERVER__WORKERS", "2");
    served.env("ORCHESTRATION_POLICY__EVAL_TIMEOUT", size.eval_timeout);
    let mut served = Served::start(served);
    served.discard_output();
    let load = Load::start(&served.address, size.rate);
    assert!(load.seen.wait(&tree.revision(), PATIENCE).await.is_some(), "it serves something else");
    let start = Instant::now();
    let figures = run(size, &mut tree, &served.address, &load).await;
    let took = start.elapsed();
    let answers = load.stop().await;
    tell(&figures, &answers, took);
    let odd = check(&tree, &answers);
    let (between, late) = (odd.between, odd.starved);
    println!("failed 0, mixed 0, of a broken version 0, back in time 0");
    println!(
        "while an edit was half done: {between}; by fail_mode or on_incomplete because the machine was slow: {late}"
    );
    let compared = again(&tree, &figures.kept);
    println!("evaluated again: {compared} of {compared} equal, {} versions", figures.kept.len());
    assert!(compared > 0 && answers.len() > size.edits, "nothing was tried");
}

#[test]
fn every_broken_edit_is_refused_with_its_place() {
    for kind in &BROKEN {
        let mut tree = Tree::new();
        tree.spoil(Way::InPlace, kind);
        let faults = tree.load().expect_err(kind.name);
        let of_file = |fault: &&Fault| fault.file.ends_with(kind.file);
        let fault = faults.iter().find(of_file).unwrap_or_else(|| panic!("{faults:#?}"));
        assert!(fault.line > 0 && fault.column > 0, "{}: {fault:#?}", kind.name);
        tree.edit(Way::InPlace);
        assert!(tree.load().is_ok(), "{}: it stays broken", kind.name);
    }
}
