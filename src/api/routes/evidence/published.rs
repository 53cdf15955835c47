//! What everybody may know of the logs: their keys, and the heads that they signed.

use std::sync::Arc;
use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::web::Data;
use serde::Serialize;
use tokio::sync::Mutex;
use tokio::time::Instant;
use utoipa::ToSchema;

use super::super::policies::overlay::time;
use super::super::{Answer, json};
use super::away;
use crate::api::Api;
use crate::api::caller::{NoQuery, query};
use crate::domain::error::Error;
use crate::evidence::custody::Custodian;
use crate::evidence::proof;
use crate::store::Store;

/// How long an answer stands; whoever asks more often costs the store nothing.
const FRESH: Duration = Duration::from_secs(1);

/// The last answer, and when it was read.
#[derive(Default)]
pub struct Published(Mutex<Option<(Instant, Arc<Logs>)>>);

/// The logs of this deployment.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = EvidenceKeys)]
pub struct Logs {
    /// Oldest first.
    pub logs: Vec<LogView>,
}

/// A log.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = EvidenceLog)]
pub struct LogView {
    /// The SHA-256 of the public key.
    pub log_id: String,
    /// Ed25519, 64 hexadecimal digits.
    pub public_key: String,
    /// The key as verifiers of signed notes take it (C2SP signed-note).
    pub verifier: String,
    /// Its first use; RFC 3339 UTC with milliseconds.
    pub since: String,
    /// The newest head as a signed note (C2SP tlog-checkpoint); null while the log is empty. Keep
    /// it elsewhere: it proves later that nothing below was removed.
    pub checkpoint: Option<String>,
}

impl Published {
    async fn logs(&self, store: &dyn Store, custodian: &Custodian) -> Result<Arc<Logs>, Error> {
        let mut kept = self.0.lock().await;
        if let Some((_, logs)) = kept.as_ref().filter(|(at, _)| at.elapsed() < FRESH) {
            return Ok(Arc::clone(logs));
        }
        let mut logs = Vec::new();
        // What is published here is taken for ours.
        let own = store.logs().await.map_err(away)?;
        for key in own.into_iter().filter(|key| custodian.believes(&key.log)) {
            let head = proof::newest(store, &key).await.map_err(away)?.head;
            logs.push(LogView {
                log_id: key.log.as_str().to_owned(),
                public_key: hex::encode(key.public_key),
                verifier: key.log.verifier(&key.public_key),
                since: time(key.since_ms),
                checkpoint: head.map(|head| head.note(&key.public_key)),
            });
        }
        let logs = Arc::new(Logs { logs });
        *kept = Some((Instant::now(), Arc::clone(&logs)));
        Ok(logs)
    }
}

/// The logs of this service, what checks their signatures, and their newest signed heads.
#[utoipa::path(get, path = "/api/v1/evidence/keys", tag = "evidence",
    operation_id = "evidence_keys", responses((status = 200, body = Logs)))]
pub(crate) async fn keys(http: HttpRequest, api: Data<Api>) -> Answer {
    query::<NoQuery>(&http)?;
    json(&*api.published.logs(&*api.deps.store, &api.deps.custodian).await?)
}
