//! `orchestrator policy test`: Rego tests and cases, once or after every change.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::{Format, Session, TestArgs, complain, exit, placed, report, runtime};
use crate::api::wire::case;
use crate::orchestrator::cases::Stage;
use crate::policy::Limits;
use crate::policy::testing::coverage::share;
use crate::policy::testing::{self, Report, Test};
use crate::snapshot::{Changes, policy_limits};
use crate::yaml::fault::Fault;

pub(super) fn run(args: &TestArgs) -> u8 {
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(code) => return code,
    };
    runtime.block_on(async {
        if !args.watch {
            return once(args).await;
        }
        // The first look may refuse files; only settings that cannot be read end the watch.
        let sources = match super::super::load_settings(args.config.as_deref(), None) {
            Ok(settings) => {
                crate::snapshot::Sources::of(&settings, None, crate::detect::builtin::check)
            }
            Err(faults) => return super::super::session::refuse(&faults),
        };
        let mut changes = Changes::of(&sources);
        loop {
            let code = once(args).await;
            complain(&format!("exit code would be {code}; waiting for changes"));
            changes.next().await;
        }
    })
}

async fn once(args: &TestArgs) -> u8 {
    match all(args).await {
        Ok((report, took)) => {
            report::print(args, &report, took);
            verdict(args, &report)
        }
        Err(code) => code,
    }
}

async fn all(args: &TestArgs) -> Result<(Report, Duration), u8> {
    let start = Instant::now();
    let session = Session::of_files(args.config.as_deref())?;
    let root = session.sources.policies_root();
    let suite = Arc::new(Suite::new(args, root.clone(), start));
    let limits = policy_limits(&session.deps.settings);
    let ran = async {
        let rego = suite.rego(&session, limits).await?;
        Some((rego, suite.cases(&session).await?))
    };
    let Some((rego, cases)) = ran.await.filter(|_| !suite.cut.load(Ordering::Relaxed)) else {
        complain(&suite.overrun(args.budget));
        return Err(exit::FAILED);
    };
    let mut report = match (rego, cases) {
        (Ok(mut report), Ok(cases)) => {
            report.tests.extend(cases);
            report
        }
        (rego, cases) => {
            let faults = rego.err().into_iter().chain(cases.err()).flatten().collect();
            return Err(super::super::session::refuse(&placed(&session, faults)));
        }
    };
    if report.tests.is_empty() {
        let there =
            |path: &&String| Path::new(path).exists() || Path::new(&root).join(path).exists();
        if let Some(lost) = args.paths.iter().find(|path| !there(path)) {
            complain(&format!("{lost}: no such file or folder; name one below {root}"));
            return Err(exit::NO_INPUT);
        }
        complain("no test matches; name files or folders below policies, or loosen --filter");
        return Err(exit::NO_INPUT);
    }
    let covered = |file: &str| args.paths.iter().any(|path| is_inside(path, &root, file));
    report.coverage.retain(|file| args.paths.is_empty() || covered(&file.file));
    for test in &mut report.tests {
        test.file = format!("{root}/{}", test.file);
    }
    for file in &mut report.coverage {
        file.file = format!("{root}/{}", file.file);
    }
    Ok((report, start.elapsed()))
}

/// Which tests are run, until when, and which one is.
struct Suite {
    paths: Vec<String>,
    filter: Option<regex::Regex>,
    root: String,
    end: Instant,
    begun: AtomicUsize,
    /// File and name of what began last.
    last: Mutex<Option<(String, String)>>,
    /// Whether something was left out because the time was over.
    cut: AtomicBool,
}

impl Suite {
    fn new(args: &TestArgs, root: String, start: Instant) -> Self {
        Self {
            paths: args.paths.clone(),
            filter: args.filter.clone(),
            root,
            end: start + Duration::from_secs(args.budget),
            begun: AtomicUsize::new(0),
            last: Mutex::new(None),
            cut: AtomicBool::new(false),
        }
    }

    /// Whether the test runs, which it does at once.
    fn begins(&self, file: &str, name: &str) -> bool {
        let inside = |path: &String| is_inside(path, &self.root, file);
        let wanted = (self.paths.is_empty() || self.paths.iter().any(inside))
            && self.filter.as_ref().is_none_or(|filter| filter.is_match(name));
        if !wanted {
            return false;
        }
        if Instant::now() >= self.end {
            self.cut.store(true, Ordering::Relaxed);
            return false;
        }
        self.begun.fetch_add(1, Ordering::Relaxed);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Some((file.to_owned(), name.to_owned()));
        true
    }

    /// The Rego tests, on a thread that is left behind when the time is over: `None`.
    async fn rego(
        self: &Arc<Self>,
        session: &Session,
        limits: Limits,
    ) -> Option<Result<Report, Vec<Fault>>> {
        let (send, receive) = oneshot::channel();
        let (sources, own) = (session.files.policies.clone(), Arc::clone(self));
        std::thread::spawn(move || {
            let wanted = |file: &str, name: &str| own.begins(file, name);
            let _ = send.send(testing::run(&sources, &wanted, &limits));
        });
        timeout_at(self.end, receive).await.ok()?.ok()
    }

    async fn cases(&self, session: &Session) -> Option<Result<Vec<Test>, Vec<Fault>>> {
        let stage = Stage { deps: &session.deps, snapshot: &session.snapshot, read: case::read };
        let wanted = |file: &str, name: &str| self.begins(file, name);
        timeout_at(self.end, stage.run(session.files.policies.iter(), &wanted)).await.ok()
    }

    fn overrun(&self, budget: u64) -> String {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let ended = self.begun.load(Ordering::Relaxed).saturating_sub(1);
        let what = match &*last {
            Some((file, name)) => {
                format!("`{name}` of {}/{file} was running, {ended} had ended", self.root)
            }
            None => "none had begun".to_owned(),
        };
        format!("the tests did not end within {budget} s: {what}; bound it, or raise --budget")
    }
}

/// Whether `path`, as typed, names `file` or a folder above it; with the root or without.
fn is_inside(path: &str, root: &str, file: &str) -> bool {
    let path = path.trim_start_matches("./").trim_end_matches('/');
    let root = root.trim_start_matches("./");
    let whole = format!("{root}/{file}");
    [file, &whole].iter().any(|name| {
        name.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

fn verdict(args: &TestArgs, report: &Report) -> u8 {
    let failed = report.tests.iter().any(|test| test.status.is_bad());
    let below = args.threshold.is_some_and(|least| share(&report.coverage) + 1e-9 < least);
    if below && args.format != Format::Text {
        complain(&format!(
            "coverage {:.1} % is below its threshold",
            100.0 * share(&report.coverage)
        ));
    }
    if failed || below { exit::FAILED } else { exit::OK }
}
