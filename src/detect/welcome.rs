//! A detector that nobody tried takes part once its service answered and is what its definition says.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, StatusCode, Uri};
use serde::Deserialize;
use tokio::time::timeout;

use super::health::HealthState;
use super::member::{Member, lock};
use crate::catalog::Detector;
use crate::catalog::detector::Protocol;
use crate::domain::category::Category;
use crate::domain::content::ContentType;
use crate::outbound::{Call, Client};

/// Names in a reply that are read.
const NAMES_MAX: usize = 100;
/// Bytes of a reply.
const REPLY_BYTES_MAX: usize = 64 * 1024;

/// Whether a detector takes part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It does.
    Active,
    /// Not yet.
    Pending {
        /// Why, once its service was asked.
        why: Option<Arc<str>>,
    },
}

/// What a service says of itself at `GET …/capabilities`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Capabilities {
    /// What it can find, the first of them what it flags without a known name. Never empty.
    pub categories: Vec<Category>,
    /// What it judges.
    #[serde(default = "text")]
    pub types: BTreeSet<ContentType>,
}

fn text() -> BTreeSet<ContentType> {
    BTreeSet::from([ContentType::Text])
}

/// How far a detector has come.
#[derive(Debug)]
pub(super) struct Welcome {
    standing: Standing,
    told: Option<Capabilities>,
}

impl Welcome {
    pub(super) fn of(detector: &Detector) -> Welcome {
        let standing = match detector.must_answer_first() {
            true => Standing::Pending { why: None },
            false => Standing::Active,
        };
        Welcome { standing, told: None }
    }

    pub(super) fn is_pending(&self) -> bool {
        self.standing != Standing::Active
    }

    pub(super) fn standing(&self) -> Standing {
        self.standing.clone()
    }

    pub(super) fn told(&self) -> Option<&Capabilities> {
        self.told.as_ref()
    }

    /// A definition that says other things has to be answered for again; whether it has.
    pub(super) fn adopt(&mut self, before: &Detector, now: &Detector) -> bool {
        let said = |d: &Detector| (d.categories.clone(), d.types.clone());
        if said(before) == said(now) && before.protocol == now.protocol {
            return false;
        }
        // What the service told needs no second answer.
        match &self.told {
            Some(told) if mismatch(now, told).is_none() => self.standing = Standing::Active,
            Some(_) | None => *self = Welcome::of(now),
        }
        self.is_pending()
    }
}

/// Asks the service of a pending detector what it can, after its health was `seen`; false where
/// another definition has to be asked for meanwhile.
pub(super) async fn welcome(
    client: &Client,
    (member, at): (&Member, &Uri),
    seen: Option<HealthState>,
) -> bool {
    let detector = member.detector();
    let why = match (seen, &detector.protocol) {
        (Some(HealthState::Unhealthy), _) => Some("its health address does not answer".into()),
        (_, Protocol::Native) => introduced(client, (member, at), &detector).await,
        (_, Protocol::Builtin(_) | Protocol::Kserve(_) | Protocol::Http(_)) => None,
    };
    if !Arc::ptr_eq(&detector, &member.detector()) {
        return false;
    }
    let mut welcome = lock(&member.welcome);
    if why.is_none() {
        let (tenant, name) = (detector.private_to.as_ref(), &detector.name);
        tracing::info!(%name, ?tenant, "A detector answered and takes part");
    }
    welcome.standing = match why {
        None => Standing::Active,
        Some(why) => Standing::Pending { why: Some(why) },
    };
    true
}

/// What a native service said that stands in the way; `None` if nothing does.
async fn introduced(
    client: &Client,
    (member, at): (&Member, &Uri),
    detector: &Detector,
) -> Option<Arc<str>> {
    let told = match capabilities(client, at, detector).await {
        Ok(told) => told,
        // Its owner says what it can; a service that says nothing does not contradict.
        Err(Silent::Absent) if detector.private_to.is_some() => return None,
        Err(Silent::Absent) => return Some("it has no capabilities address".into()),
        Err(Silent::Failed) => return Some("its capabilities address does not answer".into()),
        Err(Silent::Unreadable(why)) => {
            return Some(format!("its capabilities cannot be read: {why}").into());
        }
    };
    let why = mismatch(detector, &told);
    lock(&member.welcome).told = Some(told);
    why
}

/// What the definition promises and the service does not.
fn mismatch(detector: &Detector, told: &Capabilities) -> Option<Arc<str>> {
    let finds = |own: &&Category| !told.categories.iter().any(|theirs| theirs.touches(own));
    let missing: Vec<String> =
        detector.categories.iter().filter(finds).map(ToString::to_string).collect();
    if !missing.is_empty() {
        return Some(format!("its service does not find {}", missing.join(", ")).into());
    }
    let types = detector.types.difference(&told.types).map(|kind| kind.name());
    let missing: Vec<&str> = types.collect();
    (!missing.is_empty())
        .then(|| format!("its service does not judge {}", missing.join(", ")).into())
}

/// Why a service said nothing.
enum Silent {
    /// It has no such address.
    Absent,
    Failed,
    Unreadable(String),
}

async fn capabilities(
    client: &Client,
    at: &Uri,
    detector: &Detector,
) -> Result<Capabilities, Silent> {
    let uri = address(at, &detector.health.path).ok_or(Silent::Failed)?;
    let (method, headers, body) = (Method::GET, HeaderMap::new(), Bytes::new());
    let call = Call { method, uri, headers, body, body_max: REPLY_BYTES_MAX };
    let Ok(Ok(reply)) = timeout(detector.health.timeout, client.send(call)).await else {
        return Err(Silent::Failed);
    };
    match reply.status {
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => Err(Silent::Absent),
        status if status.is_success() => read(&reply.body).map_err(Silent::Unreadable),
        _ => Err(Silent::Failed),
    }
}

/// Beside the health address.
fn address(at: &Uri, health: &str) -> Option<Uri> {
    let folder = health.rfind('/').and_then(|end| health.get(..=end)).unwrap_or("/");
    let mut parts = at.clone().into_parts();
    parts.path_and_query = PathAndQuery::try_from(format!("{folder}capabilities")).ok();
    Uri::from_parts(parts).ok()
}

fn read(body: &[u8]) -> Result<Capabilities, String> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let told: Capabilities = serde_path_to_error::deserialize(&mut json).map_err(unread)?;
    match told.categories.len() {
        0 => Err("`categories` is empty".to_owned()),
        1..=NAMES_MAX => Ok(told),
        _ => Err(format!("`categories` has more than {NAMES_MAX} names")),
    }
}

/// A parser's words may repeat the reply: its place, and what should stand there.
fn unread(error: serde_path_to_error::Error<serde_json::Error>) -> String {
    let (path, inner) = (error.path().to_string(), error.inner());
    let wanted = match path.as_str() {
        _ if !inner.is_data() => {
            "send JSON: {\"categories\": [\"pii.email\"], \"types\": [\"text\"]}"
        }
        at if at.starts_with("categories") => {
            "`categories` lists names of the category tree, such as `pii.email`"
        }
        at if at.starts_with("types") => "`types` lists some of text, document, code, image",
        _ => "send an object with `categories`, a list of names of the category tree",
    };
    format!("line {}, column {}: {wanted}", inner.line(), inner.column())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_lie_beside_the_health_address() {
        let at = |health: &str| {
            let target: Uri = "https://h:8443/v1/analyze".parse().unwrap();
            address(&target, health).unwrap().to_string()
        };
        assert_eq!(at("/health"), "https://h:8443/capabilities");
        assert_eq!(at("/v2/health/ready"), "https://h:8443/v2/health/capabilities");
        assert_eq!(at(""), "https://h:8443/capabilities");
    }

    #[test]
    fn a_reply_is_read_strictly_and_never_repeated() {
        let told = read(br#"{"categories": ["pii.email"], "version": "2"}"#).unwrap();
        assert_eq!(told.types, text());
        let told = read(br#"{"categories": ["toxicity", "hate"]}"#).unwrap();
        let names: Vec<&str> = told.categories.iter().map(Category::as_str).collect();
        assert_eq!(names, ["toxicity", "hate"], "the first is what an unknown label means");
        for hostile in [
            &b"secret"[..],
            br#"{"categories": []}"#,
            br#"{"categories": ["secret"]}"#,
            br#"{"types": ["text"]}"#,
            br#"{"categories": ["pii"], "types": ["secret"]}"#,
            b"\xff",
        ] {
            let why = read(hostile).unwrap_err();
            assert!(!why.contains("secret"), "{why}");
            assert!(
                why.contains("`categories`") || why.contains("`types`") || why.contains("JSON")
            );
        }
        let why = read(br#"{"categories": ["pii"], "types": ["secret"]}"#).unwrap_err();
        assert_eq!(why, "line 1, column 42: `types` lists some of text, document, code, image");
    }
}
