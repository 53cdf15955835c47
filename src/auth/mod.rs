//! A credential becomes a `Caller`. Today only development can be entered; anything else refuses
//! to start until credentials can be managed.

use std::net::IpAddr;
use std::path::Path;

use secrecy::ExposeSecret as _;

use crate::domain::error::{Code, Error};
use crate::domain::id::TenantId;
use crate::seal;
use crate::settings::Env;

pub mod waf;

/// Before every development key.
const PREFIX: &str = "orch_dev_";

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// For audits.
    pub actor: String,
    /// The only tenant it may act for; `None` may choose.
    pub tenant: Option<TenantId>,
    /// Whether a request of it may loosen the policy (`orchestrate:relax`).
    pub may_relax: bool,
    /// First characters of its key, for logs.
    pub key_prefix: Option<String>,
}

impl Caller {
    /// Unauthenticated development: acts as super administrator.
    pub fn development() -> Self {
        Self { actor: "development".into(), tenant: None, may_relax: true, key_prefix: None }
    }
}

/// Who may enter.
pub enum Gate {
    /// Development on loopback: everyone on this machine.
    Open,
    /// Development on another address: whoever holds the key.
    Key(DevelopmentKey),
}

/// The one key of a development instance that others can reach. `Debug` never shows it.
pub struct DevelopmentKey(String);

impl std::fmt::Debug for DevelopmentKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DevelopmentKey(…)")
    }
}

impl DevelopmentKey {
    /// The key itself, to be shown once to the one who starts the service.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// Why the service must not start.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Nobody could be authenticated.
    #[error(
        "{env} needs credentials, and this version cannot manage them yet; \
         start with ORCHESTRATION_ENV=development"
    )]
    NoCredentials {
        /// The environment.
        env: &'static str,
    },
    /// The key could not be kept.
    #[error("could not make the development key in {directory}")]
    Key {
        /// Where it should stand.
        directory: String,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

impl Gate {
    /// The gate that `env` demands for a service that listens on `address`. The development key
    /// stands in `data`, so that a restart keeps it.
    pub fn for_start(env: Env, address: IpAddr, data: &Path) -> Result<Gate, Refusal> {
        match env {
            Env::Development if address.is_loopback() => Ok(Gate::Open),
            Env::Development => {
                let key = kept_key(data).map_err(|source| Refusal::Key {
                    directory: data.display().to_string(),
                    source,
                })?;
                Ok(Gate::Key(DevelopmentKey(key)))
            }
            Env::Staging | Env::Production => Err(Refusal::NoCredentials { env: env.name() }),
        }
    }

    /// The caller that presents `key`.
    pub fn authenticate(&self, key: Option<&str>) -> Result<Caller, Error> {
        match self {
            Gate::Open => Ok(Caller::development()),
            Gate::Key(DevelopmentKey(own)) => match key {
                Some(given) if seal::same(given.as_bytes(), own.as_bytes()) => {
                    let prefix = own.chars().take(13).collect();
                    Ok(Caller { key_prefix: Some(prefix), ..Caller::development() })
                }
                Some(_) => Err(Error::new(Code::Unauthorized, "the key is not valid")),
                None => {
                    let message = "send the key the service printed as the header X-API-Key";
                    Err(Error::new(Code::Unauthorized, message))
                }
            },
        }
    }
}

/// The key in `data/development.key`, made with mode 0600 where it is missing.
fn kept_key(data: &Path) -> std::io::Result<String> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;

    let path = data.join("development.key");
    match std::fs::read_to_string(&path) {
        Ok(key) if key.trim().len() > PREFIX.len() => return Ok(key.trim().to_owned()),
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    std::fs::create_dir_all(data)?;
    let key = seal::token(PREFIX).map_err(std::io::Error::other)?;
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&path)?;
    writeln!(file, "{}", key.expose_secret())?;
    Ok(key.expose_secret().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_development_is_open() {
        let data = tempfile::tempdir().unwrap();
        let loopback: IpAddr = "127.0.0.1".parse().unwrap();
        let anywhere: IpAddr = "0.0.0.0".parse().unwrap();
        let gate = |env, address| Gate::for_start(env, address, data.path());
        assert!(matches!(gate(Env::Development, loopback), Ok(Gate::Open)));
        for env in [Env::Staging, Env::Production] {
            assert!(matches!(gate(env, loopback), Err(Refusal::NoCredentials { .. })));
        }
        let gate = gate(Env::Development, anywhere).unwrap();
        let Gate::Key(key) = &gate else { panic!("an open gate on every address") };
        assert!(gate.authenticate(Some(key.expose())).is_ok());
        for wrong in [None, Some(""), Some("orch_dev_x"), Some(&key.expose()[1..])] {
            let error = gate.authenticate(wrong).unwrap_err();
            assert_eq!(error.code, Code::Unauthorized);
        }
        assert!(!format!("{key:?}").contains(key.expose()));
    }

    #[test]
    fn a_restart_keeps_the_key() {
        let data = tempfile::tempdir().unwrap();
        let make = || match Gate::for_start(Env::Development, [0, 0, 0, 0].into(), data.path()) {
            Ok(Gate::Key(key)) => key.expose().to_owned(),
            _ => panic!("no key"),
        };
        assert_eq!(make(), make());
    }
}
