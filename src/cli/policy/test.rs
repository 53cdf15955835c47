//! `orchestrator policy test`: Rego tests and cases, once or after every change.

use std::time::Instant;

use super::{Format, Session, TestArgs, cases, complain, exit, placed, report, runtime};
use crate::policy::testing::coverage::share;
use crate::policy::testing::{self, Report};
use crate::snapshot::{Changes, policy_limits};

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

async fn all(args: &TestArgs) -> Result<(Report, std::time::Duration), u8> {
    let start = Instant::now();
    let session = Session::open(args.config.as_deref())?;
    let root = session.sources.policies_root();
    let wanted = |file: &str, name: &str| {
        let inside = |path: &String| is_inside(path, &root, file);
        (args.paths.is_empty() || args.paths.iter().any(inside))
            && args.filter.as_ref().is_none_or(|filter| filter.is_match(name))
    };
    let limits = policy_limits(&session.deps.settings);
    let rego = testing::run(&session.files.policies, &wanted, &limits);
    let cases = cases::run(&session, &wanted).await;
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
