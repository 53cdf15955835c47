//! `orchestrator detectors calibrate`: what a detector's scores are worth, from labelled texts.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use comfy_table::{Table, presets};
use futures_util::StreamExt as _;
use serde::Deserialize;

use crate::catalog::Detector;
use crate::cli::{CalibrateArgs, Session, complain, exit, print};
use crate::domain::calibration::Curve;
use crate::domain::calibration::fit::{self, Form};
use crate::domain::calibration::quality::{self, Sample};
use crate::domain::category::Category;
use crate::domain::report::Report;

/// Largest file of labelled texts in bytes.
const BYTES_MAX: u64 = 1 << 30;
/// Calls at once.
const CALLS: usize = 8;
/// Bins of the curve that is shown.
const BINS: usize = 10;

/// One line of the file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Labelled {
    text: String,
    #[serde(default)]
    categories: Vec<Category>,
}

/// What the samples say about one category.
struct Fitted {
    category: Category,
    form: Form,
    curve: Curve,
    samples: Vec<Sample>,
    judged: Vec<Sample>,
    /// Texts of the category in which nothing was found.
    missed: usize,
}

pub(in crate::cli) fn run(args: &CalibrateArgs) -> u8 {
    let session = match Session::open(args.config.as_deref()) {
        Ok(session) => session,
        Err(code) => return code,
    };
    let Some(detector) = super::named(&session, &args.name) else { return exit::NO_INPUT };
    let labelled = match read(&args.labelled) {
        Ok(labelled) => labelled,
        Err((code, why)) => {
            complain(&format!("{}: {why}", args.labelled.display()));
            return code;
        }
    };
    let reports = match ask(&session, detector, &labelled) {
        Ok(reports) => reports,
        Err((code, why)) => {
            complain(&why);
            return code;
        }
    };
    let form = args.form.as_deref().map(|form| match form {
        "points" => Form::Points,
        _ => Form::Logistic,
    });
    let mut fitted = Vec::new();
    for category in &detector.categories {
        match fit_one(category, form, &labelled, &reports) {
            Ok(one) => fitted.push(one),
            Err(why) => complain(&format!("{category}: not calibrated: {why}")),
        }
    }
    for one in &fitted {
        if args.json { print(&one.json().to_string()) } else { one.show() }
    }
    if fitted.is_empty() {
        complain("no category could be calibrated; label more texts in which it finds something");
        return exit::DATA;
    }
    let key = key(&fitted);
    if !args.json {
        print(&format!("\n{key}"));
    }
    if args.write { write(detector, &key) } else { exit::OK }
}

/// The texts with their line numbers.
fn read(path: &Path) -> Result<Vec<Labelled>, (u8, String)> {
    let unreadable = |error: std::io::Error| (exit::NO_INPUT, error.to_string());
    let length = std::fs::metadata(path).map_err(unreadable)?.len();
    if length > BYTES_MAX {
        return Err((exit::DATA, format!("has {length} bytes, more than {BYTES_MAX}; split it")));
    }
    let bytes = std::fs::read(path).map_err(unreadable)?;
    let text = std::str::from_utf8(&bytes).map_err(|error| {
        let line =
            bytes.iter().take(error.valid_up_to()).filter(|byte| **byte == b'\n').count() + 1;
        (exit::DATA, format!("line {line} is not UTF-8; save the file as UTF-8"))
    })?;
    // Some editors begin a file with a byte order mark.
    let lines = text
        .trim_start_matches('\u{FEFF}')
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(index, line)| {
            serde_json::from_str(line).map_err(|error| {
                let hint = r#"write {"text": "...", "categories": ["toxicity"]}"#;
                let (line, column) = (index + 1, error.column());
                (exit::DATA, format!("line {line}, column {column}: {}; {hint}", plain(&error)))
            })
        })
        .collect()
}

/// The error without its own position, which counts lines of one line.
fn plain(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" at line").map_or(text.clone(), |(message, _)| message.to_owned())
}

/// One report per text; an error where one does not answer.
fn ask(
    session: &Session,
    detector: &Arc<Detector>,
    labelled: &[Labelled],
) -> Result<Vec<Report>, (u8, String)> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| (exit::INTERNAL, format!("the async runtime did not start: {error}")))?;
    let bar = indicatif::ProgressBar::new(labelled.len() as u64);
    let reports = runtime.block_on(async {
        let calls = labelled.iter().map(|one| session.deps.detectors.ask(detector, &one.text));
        let mut calls = futures_util::stream::iter(calls).buffered(CALLS);
        let mut reports = Vec::with_capacity(labelled.len());
        while let Some(report) = calls.next().await {
            bar.inc(1);
            if !report.answered() {
                let why = report.error.map_or(report.status.name(), |error| error.name());
                let (name, text) = (&detector.name, reports.len() + 1);
                return Err((exit::UNAVAILABLE, format!("{name}: text {text}: {why}")));
            }
            reports.push(report);
        }
        Ok(reports)
    });
    bar.finish_and_clear();
    reports
}

/// Right is a finding in a text that is labelled with its category, one above or one below it.
fn fit_one(
    category: &Category,
    form: Option<Form>,
    labelled: &[Labelled],
    reports: &[Report],
) -> Result<Fitted, fit::Unfit> {
    let (mut samples, mut missed) = (Vec::new(), 0);
    for (one, report) in labelled.iter().zip(reports) {
        let is = one.categories.iter().any(|label| label.touches(category));
        let found = report.findings.iter().filter(|finding| category.covers(&finding.category));
        match found.map(|finding| finding.score).max_by(f64::total_cmp) {
            Some(score) => samples.push((score, is)),
            None => missed += usize::from(is),
        }
    }
    let form = match form {
        Some(form) => form,
        None => fit::best(&samples)?,
    };
    let curve = fit::fit(form, &samples)?;
    let judged = fit::cross_validated(form, &samples)?;
    Ok(Fitted { category: category.clone(), form, curve, samples, judged, missed })
}

impl Fitted {
    /// The same figures before and after, the latter cross-validated.
    fn figures(&self) -> [(&'static str, f64, f64); 3] {
        let auc = |samples: &[Sample]| quality::auc(samples).unwrap_or(0.5);
        let (before, after) = (&self.samples, &self.judged);
        [
            ("Brier score", quality::brier(before), quality::brier(after)),
            (
                "calibration error",
                quality::calibration_error(before),
                quality::calibration_error(after),
            ),
            ("AUC", auc(before), auc(after)),
        ]
    }

    fn right(&self) -> usize {
        self.samples.iter().filter(|(_, right)| *right).count()
    }

    fn show(&self) {
        print(&format!(
            "{}: {} findings, {} of them right; nothing found in {} texts of it",
            self.category,
            self.samples.len(),
            self.right(),
            self.missed
        ));
        for (what, before, after) in self.figures() {
            print(&format!("  {what:<18} {before:.4} before, {after:.4} after (5 folds)"));
        }
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_header(["SCORE", "FINDINGS", "MEAN", "RIGHT"]);
        for bin in quality::reliability(&self.samples, BINS).iter().filter(|bin| bin.count > 0) {
            table.add_row([
                format!("{:.1} to {:.1}", bin.from, bin.to),
                bin.count.to_string(),
                format!("{:.3}", bin.mean),
                format!("{:.3}", bin.right),
            ]);
        }
        print(&table.to_string());
    }

    fn json(&self) -> serde_json::Value {
        let bin = |bin: quality::Bin| {
            serde_json::json!({
                "from": bin.from, "to": bin.to, "findings": bin.count,
                "mean": bin.mean, "right": bin.right,
            })
        };
        let bins = |samples: &[Sample]| -> Vec<_> {
            quality::reliability(samples, BINS).into_iter().map(bin).collect()
        };
        let [(_, brier0, brier), (_, error0, error), (_, auc0, auc)] = self.figures();
        let of = |brier, error, auc, reliability| {
            serde_json::json!({
                "brier": brier, "calibration_error": error, "auc": auc, "reliability": reliability,
            })
        };
        serde_json::json!({
            "category": self.category.as_str(),
            "form": match self.form { Form::Logistic => "logistic", Form::Points => "points" },
            "findings": self.samples.len(),
            "right": self.right(),
            "missed": self.missed,
            "before": of(brier0, error0, auc0, bins(&self.samples)),
            "after": of(brier, error, auc, bins(&self.judged)),
            "curve": yaml_of(&self.curve),
        })
    }
}

/// The curve as a detector file holds it.
fn yaml_of(curve: &Curve) -> String {
    match curve {
        Curve::Logistic { slope, intercept } => {
            format!("{{slope: {slope:.4}, intercept: {intercept:.4}}}")
        }
        Curve::Points(points) => {
            let points: Vec<String> =
                points.iter().map(|(x, y)| format!("[{x:.4}, {y:.4}]")).collect();
            format!("{{points: [{}]}}", points.join(", "))
        }
    }
}

fn key(fitted: &[Fitted]) -> String {
    let lines = fitted.iter().map(|one| format!("\n  {}: {}", one.category, yaml_of(&one.curve)));
    format!("calibration:{}", lines.collect::<String>())
}

fn write(detector: &Detector, key: &str) -> u8 {
    let path = Path::new(&detector.source);
    if !path.is_file() {
        complain(&format!(
            "{}: its file is embedded; write the project with `orchestrator init` first",
            detector.name
        ));
        return exit::DATA;
    }
    if !detector.calibration.is_empty() {
        complain(&format!("{}: has `calibration` already; remove it first", path.display()));
        return exit::DATA;
    }
    let append = || {
        let old = std::fs::read_to_string(path)?;
        let line = if old.ends_with('\n') { "" } else { "\n" };
        let next = path.with_extension("yaml.tmp");
        let mut file = std::fs::File::create(&next)?;
        writeln!(file, "{old}{line}{key}")?;
        file.sync_all()?;
        std::fs::rename(next, path)
    };
    match append() {
        Ok(()) => {
            print(&format!("written to {}", path.display()));
            exit::OK
        }
        Err(error) => {
            complain(&format!("{}: {error}", path.display()));
            exit::NO_INPUT
        }
    }
}
