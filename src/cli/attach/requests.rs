//! Bodies that services of this kind take, tried one after the other.

use serde_json::Value;

use super::file::{Draft, Speech, scalar};
use super::keys::Guess;
use super::read::{self, Read};
use super::sample::CLEAN;
use super::{Attach, Proposal, Stop, exit};
use crate::outbound::SendError;

/// From the most to the least usual.
const LIKELY: [&str; 17] = [
    r#"{"content": "{{content}}"}"#,
    r#"{"text": "{{content}}"}"#,
    r#"{"texts": "{{contents}}"}"#,
    r#"{"input": "{{content}}"}"#,
    r#"{"inputs": "{{contents}}"}"#,
    r#"{"inputs": "{{content}}"}"#,
    r#"{"contents": "{{contents}}", "detector_params": {}}"#,
    r#"{"messages": "{{messages}}"}"#,
    r#"{"text": "{{content}}", "language": "{{language_primary|en}}"}"#,
    r#"{"documents": "{{contents}}"}"#,
    r#"{"document": "{{content}}"}"#,
    r#"{"prompt": "{{content}}"}"#,
    r#"{"query": "{{content}}"}"#,
    r#"{"message": "{{content}}"}"#,
    r#"{"data": "{{content}}"}"#,
    r#"{"body": "{{content}}"}"#,
    r#""{{content}}""#,
];

/// What came back to one body.
enum Came {
    Json(Value),
    /// A status, or why it is no JSON.
    Other(String),
}

/// What is known after all tries.
#[derive(Default)]
struct Tries {
    told: Vec<String>,
    /// Paths at which a 200 spoke of an error.
    errors: Vec<String>,
    /// The first answer in which nothing looked like findings.
    silent: Option<(String, Value)>,
}

/// Stops early where no call can arrive.
pub(super) async fn knock(attach: &Attach<'_>) -> Result<(), Stop> {
    let body = attach.request.unwrap_or(r#"{"content": "{{content}}"}"#);
    came(attach, body, &[CLEAN]).await.map(|_| ())
}

/// The mapping of the first body that is answered with something like findings.
pub(super) async fn find(attach: &Attach<'_>) -> Result<Proposal, Stop> {
    let mut tries = Tries::default();
    let likely = LIKELY.iter().copied().filter(|_| attach.request.is_none());
    for body in attach.request.into_iter().chain(likely) {
        let Some((reply, read)) = tried(attach, body, &mut tries).await? else { continue };
        return proposal(attach, body, reply, read, tries).await;
    }
    Err(Stop(tries.failure(), exit::DATA))
}

async fn tried(
    attach: &Attach<'_>,
    body: &str,
    tries: &mut Tries,
) -> Result<Option<(Value, Read)>, Stop> {
    let sent = &attach.sent;
    if body.contains("{{contents}}") {
        let both = came(attach, body, &[CLEAN, sent.text]).await?;
        if let Some(reply) = tries.take(body, both)
            && let Some(read) = read::list(&reply, sent)
        {
            return Ok(Some((reply, read)));
        }
    }
    let planted = came(attach, body, &[sent.text]).await?;
    let Some(planted) = tries.take(body, planted) else { return Ok(None) };
    let clean = came(attach, body, &[CLEAN]).await?;
    let Some(clean) = tries.take(body, clean) else { return Ok(None) };
    let read = read::one(&clean, &planted, sent);
    if read.readers.is_empty() {
        tries.silent.get_or_insert((body.to_owned(), planted));
        return Ok(None);
    }
    Ok(Some((planted, read)))
}

async fn proposal(
    attach: &Attach<'_>,
    body: &str,
    reply: Value,
    read: Read,
    mut tries: Tries,
) -> Result<Proposal, Stop> {
    // What it says to a body without text may show how it speaks of errors.
    if let Ok(Came::Json(refusal)) = came(attach, r#"{"probe": "{{request_id}}"}"#, &[CLEAN]).await
    {
        tries.note_errors(&refusal);
    }
    let spoken = read::errors(&reply);
    tries.errors.extend(spoken.iter().filter(|(_, holds)| !holds).map(|(path, _)| path.clone()));
    tries.errors.retain(|path| !spoken.iter().any(|(said, holds)| said == path && *holds));
    tries.errors.sort();
    tries.errors.dedup();
    let mut general = read.general;
    if !tries.errors.is_empty() {
        let paths: Vec<String> = tries.errors.iter().map(|path| scalar(path)).collect();
        let why = "a 200 may hold an error".to_owned();
        general
            .insert(0, Guess { key: "error_when", value: format!("[{}]", paths.join(", ")), why });
    }
    let (mut notes, mut words, mut readers) = (Vec::new(), Vec::new(), Vec::new());
    for reader in read.readers {
        notes.extend(reader.notes);
        words.extend(reader.words);
        readers.push(reader.guesses);
    }
    super::print(&format!("It takes {body}."));
    words.sort();
    words.dedup();
    let request = body.to_owned();
    let speech = Speech::Mapped { request, general, readers };
    Ok(Proposal { speech, words, reply: Some(reply), notes })
}

impl Tries {
    /// The reply, unless it is none or speaks of an error.
    fn take(&mut self, body: &str, came: Came) -> Option<Value> {
        match came {
            Came::Other(why) => {
                self.told.push(format!("  {body}: {why}"));
                None
            }
            Came::Json(reply) if self.note_errors(&reply) => {
                self.told.push(format!("  {body}: an error inside a 200"));
                None
            }
            Came::Json(reply) => Some(reply),
        }
    }

    fn note_errors(&mut self, reply: &Value) -> bool {
        let errors = read::errors(reply).into_iter().filter(|(_, holds)| *holds);
        let before = self.errors.len();
        self.errors.extend(errors.map(|(path, _)| path));
        self.errors.len() > before
    }

    fn failure(self) -> String {
        let hint = "Look up in its documentation what it takes and give --request with \
                    {{content}} in the place of the text; docs/protocols/http.md lists what a \
                    mapping can read";
        match self.silent {
            Some((body, reply)) => format!(
                "the service answers {body} with\n{}\nbut nothing there looks like findings: no \
                 list, map or value that differs from the reply to a clean text. Give --text with \
                 something it finds, or put a translating service before it. {hint}",
                super::pretty(&reply)
            ),
            None => {
                format!("no body was answered with JSON:\n{}\n{hint}", self.told.join("\n"))
            }
        }
    }
}

/// Sends the body about the texts; a way that leads nowhere stops everything.
async fn came(attach: &Attach<'_>, body: &str, texts: &[&str]) -> Result<Came, Stop> {
    let speech =
        Speech::Mapped { request: body.to_owned(), general: Vec::new(), readers: Vec::new() };
    let detector = attach.load(&Draft { speech, ..attach.base.clone() })?;
    let reply = attach.session.deps.detectors.raw(&detector, texts).await;
    let unavailable = |why: String| Stop(why, exit::UNAVAILABLE);
    let url = &attach.base.endpoint;
    match reply {
        None => Ok(Came::Other("no answer in time".to_owned())),
        Some(Err(SendError::Forbidden(why))) => Err(unavailable(format!(
            "calls to {url} are not allowed: {why}; see security.outbound_allow in \
             docs/configuration.md"
        ))),
        Some(Err(error @ (SendError::Connect(_) | SendError::Tls(_)))) => {
            Err(unavailable(format!(
                "{url} could not be reached: {error}; check that it runs, and scheme, host and port"
            )))
        }
        Some(Err(error)) => Ok(Came::Other(error.to_string())),
        Some(Ok(reply)) if !reply.status.is_success() => {
            Ok(Came::Other(format!("status {}", reply.status.as_u16())))
        }
        Some(Ok(reply)) => Ok(match serde_json::from_slice(&reply.body) {
            Ok(value) => Came::Json(value),
            Err(_) => Came::Other("a 200 without JSON".to_owned()),
        }),
    }
}
