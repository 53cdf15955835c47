//! `orchestrator detectors probe --url`: asks a service that nobody here has seen and proposes the
//! file that attaches it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use super::{ProbeArgs, Session, complain, exit, print};
use crate::catalog::{Detector, SourceFile};
use crate::detect::builtin;
use crate::domain::finding::Finding;
use crate::domain::id::DetectorName;
use crate::domain::report::Report;
use crate::domain::span::OffsetUnit;
use crate::settings::Env;
use crate::snapshot::Snapshot;
use crate::yaml::fault::FaultKind;

mod file;
mod keys;
mod known;
mod labels;
mod positions;
mod read;
mod requests;
mod sample;
mod scores;
mod shape;

use file::{Credential, Draft, Speech, quoted};
use sample::{CLEAN, PLANTED, SAMPLE, Sent};

const UNKNOWN: &str = "note: nobody can see from outside which other labels there are, how long a \
    text may be (`max_chars`), and which languages and directions it judges\n";
/// Findings that the self-check prints.
const SHOWN_MAX: usize = 20;

/// Why there is nothing to propose: what to tell, and the exit code.
struct Stop(String, u8);

/// What the steps share.
struct Attach<'a> {
    session: &'a Session,
    /// The file so far; every trial is a copy of it.
    base: Draft,
    sent: Sent<'a>,
    /// The body to send, where the user knows it.
    request: Option<&'a str>,
}

/// What was found out.
struct Proposal {
    speech: Speech,
    /// Words of the service for what it can find.
    words: Vec<String>,
    /// The reply to the planted text, where it was read here.
    reply: Option<serde_json::Value>,
    notes: Vec<String>,
}

pub(super) fn run(args: &ProbeArgs, url: &str) -> u8 {
    match proposed(args, url) {
        Ok(()) => exit::OK,
        Err(Stop(message, code)) => {
            if !message.is_empty() {
                complain(&message);
            }
            code
        }
    }
}

fn proposed(args: &ProbeArgs, url: &str) -> Result<(), Stop> {
    let session =
        Session::open(args.config.as_deref()).map_err(|code| Stop(String::new(), code))?;
    let attach = Attach {
        base: base(args, url, &session)?,
        sent: Sent::new(args.text.as_deref().unwrap_or(SAMPLE)),
        request: args.request.as_deref(),
        session: &session,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime
        .map_err(|_| Stop("the async runtime could not be started".to_owned(), exit::INTERNAL))?;
    let found = runtime.block_on(attach.find())?;
    if let Some(reply) = &found.reply {
        print(&format!("It answers:\n{}\n", pretty(reply)));
    }
    let (draft, file) = runtime.block_on(attach.labelled(found.speech, &found.words))?;
    let name = &draft.name;
    print(&format!("Proposed detectors/{name}.yaml:\n\n{file}"));
    for note in &found.notes {
        print(&format!("note: {note}; findings speak of the whole text"));
    }
    print(UNKNOWN);
    let sound = runtime.block_on(attach.check(&draft))?;
    if !sound {
        let message = "the proposed file finds nothing in the planted text: correct it by the \
                       reply above, or give --text with something that the service finds";
        return Err(Stop(message.to_owned(), exit::DATA));
    }
    if args.save { save(&session, name, &file) } else { Ok(()) }
}

/// What the command line already settles.
fn base(args: &ProbeArgs, url: &str, session: &Session) -> Result<Draft, Stop> {
    let usage = |message: String| Stop(message, exit::USAGE);
    let mut headers = BTreeMap::new();
    for header in &args.header {
        let Some((name, value)) = header.split_once(':') else {
            return Err(usage("a --header has no `:`; write --header 'Name: value'".to_owned()));
        };
        let name = name.trim().to_ascii_lowercase();
        if ["auth", "key", "token", "secret", "cookie"].iter().any(|word| name.contains(word)) {
            let hint = format!("put it into a variable: --auth {name}=env:NAME");
            return Err(usage(format!("header `{name}` would stand in the file readably; {hint}")));
        }
        headers.insert(name, value.trim().to_owned());
    }
    let credential = args.auth.as_deref().map(|raw| {
        let (header, variable) = match raw.split_once("=env:") {
            Some((header, variable)) => (Some(header.to_owned()), Some(variable)),
            None => (None, raw.strip_prefix("env:")),
        };
        let variable = variable.filter(|name| !name.is_empty()).ok_or_else(|| {
            let hint =
                "write --auth env:NAME for a bearer token, --auth x-api-key=env:NAME for a header";
            usage(format!("--auth names no variable; {hint}"))
        })?;
        Ok(Credential { header, variable: variable.to_owned() })
    });
    let name = args.name.clone().unwrap_or_else(|| name_of(url));
    let known = DetectorName::parse(&name).map_err(|error| usage(error.to_string()))?;
    if session.snapshot.catalog.detectors.contains_key(&known) {
        let hint = "give another name: detectors probe NAME --url URL";
        return Err(usage(format!("there already is a detector `{name}`; {hint}")));
    }
    Ok(Draft {
        name,
        endpoint: url.to_owned(),
        credential: credential.transpose()?,
        headers,
        speech: Speech::Known { protocol: "native", options: None },
        labels: Vec::new(),
        categories: std::collections::BTreeSet::new(),
        healthy: true,
        governed: session.deps.settings.env == Env::Production,
    })
}

/// The host's first word, where it is one.
fn name_of(url: &str) -> String {
    let uri = url.parse::<http::Uri>().ok();
    let host = uri.as_ref().and_then(http::Uri::host).unwrap_or_default().to_ascii_lowercase();
    let first = host.split('.').next().unwrap_or_default();
    let word = first.starts_with(|c: char| c.is_ascii_lowercase())
        && first.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    if word { first.to_owned() } else { "attached".to_owned() }
}

impl Attach<'_> {
    /// Known protocols first: they say more than a mapping that was guessed.
    async fn find(&self) -> Result<Proposal, Stop> {
        requests::knock(self).await?;
        let known = if self.request.is_none() && self.base.headers.is_empty() {
            known::find(self).await
        } else {
            None
        };
        if let Some(speech) = known {
            return Ok(Proposal { speech, words: Vec::new(), reply: None, notes: Vec::new() });
        }
        requests::find(self).await
    }

    /// The file as the product loads it; every fault in its own words.
    fn load(&self, draft: &Draft) -> Result<Arc<Detector>, Stop> {
        let file = SourceFile {
            kind: FaultKind::Detector,
            path: format!("detectors/{}.yaml", draft.name),
            bytes: draft.render().into_bytes().into(),
        };
        Snapshot::detector(file, builtin::check, &self.session.deps.settings).map_err(|faults| {
            let lines: Vec<String> = faults.iter().map(|fault| format!("error: {fault}")).collect();
            Stop(lines.join("\n"), exit::DATA)
        })
    }

    async fn ask(&self, detector: &Arc<Detector>, text: &str) -> Report {
        self.session.deps.detectors.probe(detector, text).await.report
    }

    /// The draft with a table of the labels that the service uses.
    async fn labelled(&self, speech: Speech, words: &[String]) -> Result<(Draft, String), Stop> {
        let mut draft = Draft { speech, ..self.base.clone() };
        if let Speech::Known { protocol, .. } = &draft.speech {
            draft.endpoint = known::endpoint(protocol, &draft.endpoint);
        }
        let detector = self.load(&draft)?;
        let probed = self.session.deps.detectors.probe(&detector, self.sent.text).await;
        draft.healthy =
            detector.health.path.is_empty() || probed.health == crate::detect::HealthState::Healthy;
        let clean = self.ask(&detector, CLEAN).await;
        (draft.labels, draft.categories) =
            labels::table(&draft.name, &probed.report, &clean, words, &self.sent);
        let file = draft.render();
        Ok((draft, file))
    }

    /// Loads the file as the product would and asks once more; whether anything was found.
    async fn check(&self, draft: &Draft) -> Result<bool, Stop> {
        let detector = self.load(draft)?;
        let report = self.ask(&detector, self.sent.text).await;
        let detail = report.detail.as_deref().map(|detail| format!(", {detail}"));
        let detail = detail.unwrap_or_default();
        print(&format!("Loaded and asked once more: {}{detail}", report.status.name()));
        for finding in report.findings.iter().take(SHOWN_MAX) {
            self.show(finding);
        }
        if report.findings.len() > SHOWN_MAX {
            print(&format!("  and {} more", report.findings.len() - SHOWN_MAX));
        }
        self.tell_planted(&report);
        let clean = self.ask(&detector, CLEAN).await;
        let sure = clean.findings.iter().filter(|finding| finding.score >= 0.5).count();
        print(&format!("in a clean text: {sure} findings of 0.5 or more"));
        Ok(report.answered() && !report.findings.is_empty())
    }
}

impl Attach<'_> {
    /// What of the sent text stands at the finding's place.
    fn slice(&self, finding: &Finding) -> Option<&str> {
        let span = finding.place.and_then(|place| place.span)?;
        self.sent.slice(span.start as u64, span.end as u64, OffsetUnit::Codepoint)
    }

    fn show(&self, finding: &Finding) {
        let span = finding.place.and_then(|place| place.span);
        let place = span.map(|span| format!("{}..{}", span.start, span.end));
        let place = place.unwrap_or_else(|| "no place".to_owned());
        let shown = self.slice(finding).map(|slice| format!(" {}", quoted(slice)));
        let (category, label) = (&finding.category, &finding.label);
        let shown = shown.unwrap_or_default();
        print(&format!("  {place:<10} {category} {label} {:.2}{shown}", finding.score));
    }

    /// Which of the planted things were found, at their place or at all.
    fn tell_planted(&self, report: &Report) {
        let (mut placed, mut unplaced, mut missed) = (Vec::new(), Vec::new(), Vec::new());
        for part in PLANTED.iter().filter(|part| self.sent.text.contains(part.text)) {
            let at = |finding: &Finding| {
                let slice = self.slice(finding);
                slice
                    .and_then(|slice| self.sent.planted(slice))
                    .is_some_and(|p| p.what == part.what)
            };
            let near = |finding: &Finding| {
                let root = finding.category.root();
                let whole = finding.place.is_none_or(|place| place.span.is_none());
                whole && finding.score >= 0.5 && part.category.starts_with(root.as_str())
            };
            match () {
                () if report.findings.iter().any(at) => placed.push(part.what),
                () if report.findings.iter().any(near) => unplaced.push(part.what),
                () => missed.push(part.what),
            }
        }
        for (what, parts) in
            [("at its place", placed), ("perhaps, without place", unplaced), ("not found", missed)]
        {
            if !parts.is_empty() {
                print(&format!("{what}: {}", parts.join(", ")));
            }
        }
    }
}

/// At most 2 000 characters of the reply.
fn pretty(reply: &serde_json::Value) -> String {
    const MOST: usize = 2_000;
    let text = serde_json::to_string_pretty(reply).unwrap_or_default();
    let shown = file::visible(&text);
    let mut short: String = shown.chars().take(MOST).collect();
    if short.len() < shown.len() {
        let _ = write!(short, "\n… {} characters more", shown.chars().count() - MOST);
    }
    short
}

/// Writes the file where the product reads it; never over another.
fn save(session: &Session, name: &str, file: &str) -> Result<(), Stop> {
    use std::io::Write as _;
    let folder = &session.deps.settings.paths.detectors;
    if !folder.is_dir() {
        let shown = folder.display();
        let message = format!(
            "{shown} is no folder, and making it would leave out the detectors inside the \
             program; run `orchestrator init` first"
        );
        return Err(Stop(message, exit::NO_INPUT));
    }
    let path = folder.join(format!("{name}.yaml"));
    let failed = |error: std::io::Error| {
        let hint = "give another name, or save it yourself";
        Stop(format!("could not write {}: {error}; {hint}", path.display()), exit::DATA)
    };
    let mut target = std::fs::File::create_new(&path).map_err(failed)?;
    target.write_all(file.as_bytes()).map_err(failed)?;
    print(&format!("Saved as {}.", path.display()));
    Ok(())
}
