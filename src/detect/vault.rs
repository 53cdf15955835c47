//! What a call to a detector is authorised with: the stored credential before the file's, a token
//! fetched for it, and the delegation token.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use arc_swap::ArcSwap;
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use secrecy::{ExposeSecret as _, SecretString};

use super::Detectors;
use super::delegation::Delegations;
use super::oauth::{NoToken, Tokens};
use super::sending::{About, Line};
use crate::catalog::detector::{Auth, Endpoint};
use crate::catalog::{CredentialParts, Detector};
use crate::domain::id::{DetectorName, TenantId};
use crate::outbound::Forbidden;
use crate::seal::{DataKeys, SealError};
use crate::settings::Env;
use crate::store::{AuditEntry, SealedSecret, Store, StoreError};

/// Whose credential of which detector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialPlace {
    /// For whose calls; `None` stands for all.
    pub tenant: Option<TenantId>,
    /// Of whom.
    pub detector: DetectorName,
    /// The addresses that it goes to, for a registered detector. Whoever gives that detector
    /// another address does not thereby learn what was stored for this one.
    pub origin: Option<String>,
}

impl CredentialPlace {
    /// The place for calls of `tenant` to `detector`.
    pub fn of(tenant: Option<&TenantId>, detector: &Detector) -> Self {
        let origin = origin(detector);
        Self { tenant: tenant.cloned(), detector: detector.name.clone(), origin }
    }

    /// What a seal belongs to.
    fn about(&self) -> Vec<&str> {
        let tenant = self.tenant.as_ref().map_or("", TenantId::as_str);
        let place = ["detector", tenant, self.detector.as_str()];
        place.into_iter().chain(self.origin.as_deref()).collect()
    }
}

/// Scheme and authority of each address of a registered detector.
fn origin(detector: &Detector) -> Option<String> {
    detector.private_to.as_ref()?;
    let of = |endpoint: &Endpoint| {
        let scheme = endpoint.uri.scheme_str().unwrap_or_default();
        let authority = endpoint.uri.authority().map_or("", |authority| authority.as_str());
        format!("{scheme}://{authority}").to_ascii_lowercase()
    };
    let all: BTreeSet<String> = detector.endpoints().map(of).collect();
    Some(all.into_iter().collect::<Vec<_>>().join(" "))
}

/// Where a stored row belongs.
fn place_of(row: &SealedSecret) -> CredentialPlace {
    let SealedSecret { tenant, detector, origin, .. } = row.clone();
    CredentialPlace { tenant, detector, origin }
}

/// Whether a detector has a credential, and of which kind.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct CredentialView {
    /// `none`, `api_key`, `bearer_token`, `basic_auth`, `oauth2` or `aws_sigv4`.
    pub kind: String,
    /// Whether calls can be authorised; false for none, and for one that cannot be opened.
    pub configured: bool,
}

/// Why a call is not sent.
pub(super) enum Unauthorised {
    /// The stored credential cannot be opened.
    Sealed,
    /// There is no token.
    Token(NoToken),
}

/// Every credential that is not a file's.
pub(super) struct Vault {
    keys: DataKeys,
    stored: ArcSwap<Stored>,
    loading: tokio::sync::Mutex<()>,
    tokens: Tokens,
    delegations: Delegations,
}

/// What the store held when it was last read.
#[derive(Default)]
struct Stored {
    generation: i64,
    by_name: HashMap<DetectorName, Vec<Held>>,
}

/// A stored credential; `auth` is `None` where it cannot be opened.
struct Held {
    tenant: Option<TenantId>,
    origin: Option<String>,
    kind: String,
    auth: Option<Auth>,
}

impl Stored {
    /// The tenant's own before everyone's; of a registered detector its tenant's, for its address.
    fn held(&self, tenant: Option<&TenantId>, detector: &Detector) -> Option<&Held> {
        let all = self.by_name.get(&detector.name)?;
        let origin = origin(detector);
        let of = |tenant: Option<&TenantId>| {
            all.iter().find(|held| held.tenant.as_ref() == tenant && held.origin == origin)
        };
        match &detector.private_to {
            Some(owner) => of(Some(owner)),
            None => of(tenant).or_else(|| of(None)),
        }
    }
}

impl Vault {
    pub(super) fn new(keys: DataKeys) -> Vault {
        Vault {
            keys,
            stored: ArcSwap::default(),
            loading: tokio::sync::Mutex::default(),
            tokens: Tokens::default(),
            delegations: Delegations::default(),
        }
    }

    fn open(&self, row: &SealedSecret, sealed: &[u8]) -> Option<Auth> {
        let detector = &row.detector;
        let opened = match self.keys.open(sealed, &place_of(row).about()) {
            Ok(opened) => opened,
            Err(why) => {
                let tenant = row.tenant.as_ref().map(TenantId::as_str);
                tracing::error!(%detector, tenant, %why, "A stored credential cannot be opened");
                return None;
            }
        };
        let parts: Option<CredentialParts> = serde_json::from_str(opened.expose_secret()).ok();
        // Where it may be sent was checked when it was stored.
        parts.and_then(|parts| parts.auth(Env::Development).ok())
    }

    fn seal(&self, parts: &CredentialParts, place: &CredentialPlace) -> Result<Vec<u8>, SealError> {
        let plain = serde_json::to_string(parts).map_err(|_| SealError::Crypto)?;
        self.keys.seal(&plain, &place.about())
    }
}

/// Why a credential was not stored.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// It could not be sealed.
    #[error("sealing a credential")]
    Seal(#[from] SealError),
    /// The store did not take it, or nobody knows.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Detectors {
    /// Reads the stored credentials where they changed.
    pub async fn load_credentials(&self, store: &dyn Store) -> Result<(), StoreError> {
        let _alone = self.line.vault.loading.lock().await;
        if store.secrets_generation().await? == self.line.vault.stored.load().generation {
            return Ok(());
        }
        let mut stored = Stored::default();
        for row in store.secrets().await? {
            stored.generation = stored.generation.max(row.sequence);
            let Some(sealed) = &row.value.sealed else { continue };
            let auth = self.line.vault.open(&row.value, sealed);
            let SealedSecret { tenant, detector, origin, kind, .. } = row.value;
            let held = Held { tenant, origin, kind, auth };
            stored.by_name.entry(detector).or_default().push(held);
        }
        self.line.vault.stored.store(Arc::new(stored));
        Ok(())
    }

    /// Seals anew what stands under the data key before the present one; how many.
    pub async fn seal_anew(&self, store: &dyn Store) -> Result<usize, VaultError> {
        let mut count = 0;
        for row in store.secrets().await? {
            let SealedSecret { tenant, detector, sealed: Some(sealed), .. } = &row.value else {
                continue;
            };
            let place = place_of(&row.value);
            let about = place.about();
            if !self.line.vault.keys.is_outdated(sealed) {
                continue;
            }
            // What no key opens stays as it is, and is told when it is read.
            let Ok(plain) = self.line.vault.keys.open(sealed, &about) else { continue };
            let sealed = Some(self.line.vault.keys.seal(plain.expose_secret(), &about)?);
            let entry = AuditEntry {
                tenant: tenant.clone(),
                at_ms: jiff::Timestamp::now().as_millisecond(),
                actor: "system".into(),
                action: "detector.credentials.seal".into(),
                target: format!("detector/{detector}"),
                reason: "the data key was replaced".into(),
                before: None,
                after: None,
            };
            store.put_secret(SealedSecret { sealed, ..row.value.clone() }, entry).await?;
            count += 1;
        }
        Ok(count)
    }

    /// Stores `parts`, or for the type `none` takes back what was stored; live at once.
    pub async fn store_credential(
        &self,
        store: &dyn Store,
        place: &CredentialPlace,
        parts: &CredentialParts,
        entry: AuditEntry,
    ) -> Result<(), VaultError> {
        let none = parts.kind == "none";
        let sealed = if none { None } else { Some(self.line.vault.seal(parts, place)?) };
        let CredentialPlace { tenant, detector, origin } = place.clone();
        let (kind, at_ms) = (parts.kind.clone(), entry.at_ms);
        let secret = SealedSecret { tenant, detector, origin, kind, sealed, at_ms };
        store.put_secret(secret, entry).await?;
        self.load_credentials(store).await?;
        Ok(())
    }

    /// What calls of `tenant` to `detector` are authorised with.
    pub fn credential(&self, tenant: Option<&TenantId>, detector: &Detector) -> CredentialView {
        match self.line.vault.stored.load().held(tenant, detector) {
            Some(held) => {
                CredentialView { kind: held.kind.clone(), configured: held.auth.is_some() }
            }
            None => CredentialView {
                kind: detector.auth.kind().to_owned(),
                configured: detector.auth != Auth::None,
            },
        }
    }

    /// Whether the guard lets the service connect to `uri`.
    pub fn may_reach(&self, uri: &Uri) -> Result<(), Forbidden> {
        self.config.guard.check(uri)
    }

    /// The public keys of delegation tokens (RFC 7517).
    pub fn key_set(&self) -> serde_json::Value {
        self.line.vault.keys.key_set()
    }
}

impl Line {
    /// Adds to `headers` what authorises a call; the answer is the fetched token, if there is one.
    /// `stale` is one that was refused.
    pub(super) async fn authorise(
        &self,
        for_whom: &About,
        detector: &Detector,
        (headers, stale): (&mut HeaderMap, Option<&SecretString>),
    ) -> Result<Option<SecretString>, Unauthorised> {
        let tenant = &for_whom.tenant;
        if let Some(name) = &detector.delegation {
            let about = (tenant, for_whom.caller.as_str(), &detector.name);
            let header = self.vault.delegations.header(self.vault.keys.issuer(), about);
            put(headers, name, &header);
        }
        let stored = self.vault.stored.load_full();
        let auth = match stored.held(Some(tenant), detector) {
            None => &detector.auth,
            Some(Held { auth: Some(auth), .. }) => auth,
            Some(Held { auth: None, .. }) => return Err(Unauthorised::Sealed),
        };
        match auth {
            Auth::None | Auth::Aws(_) => Ok(None),
            Auth::Header { name, value } => {
                put(headers, name, value);
                Ok(None)
            }
            Auth::Oauth2(client) => {
                let header = self.vault.tokens.header(&self.client, client, stale).await;
                let header = header.map_err(Unauthorised::Token)?;
                put(headers, "authorization", &header);
                Ok(Some(header))
            }
        }
    }
}

fn put(headers: &mut HeaderMap, name: &str, value: &SecretString) {
    let name = HeaderName::try_from(name);
    if let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(value.expose_secret())) {
        headers.insert(name, value);
    }
}
