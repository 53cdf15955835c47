//! What only the environment holds, by value or by a file's name; never shown, never in a file of
//! settings.

use secrecy::{ExposeSecret as _, SecretString};

use super::{DatabaseUrl, NatsUrl, RedisUrl};

/// Bytes read of a file.
const FILE_BYTES_MAX: u64 = 4096;

/// A secret that the environment may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Secret {
    /// Key of the hashes that the store keeps of API keys: 64 hexadecimal digits.
    KeyPepper,
    /// Secret of HS256 tokens, at least 32 bytes.
    JwtSecretKey,
    /// Key under which detectors' credentials are sealed: 64 hexadecimal digits.
    DataKey,
    /// The one before it, while what it sealed is sealed anew.
    DataKeyPrevious,
    /// Seed of the signatures of the log of records: 64 hexadecimal digits.
    EvidenceKey,
    /// The key that becomes the first one on an empty store.
    BootstrapKey,
    /// Where the database is, with its password.
    DatabaseUrl,
    /// Where Redis is, with its password.
    RedisUrl,
    /// Where NATS is, with its password.
    NatsUrl,
}

impl Secret {
    const ALL: [Secret; 9] = [
        Secret::KeyPepper,
        Secret::JwtSecretKey,
        Secret::DataKey,
        Secret::DataKeyPrevious,
        Secret::EvidenceKey,
        Secret::BootstrapKey,
        Secret::DatabaseUrl,
        Secret::RedisUrl,
        Secret::NatsUrl,
    ];

    /// The variable, without prefix.
    fn name(self) -> &'static str {
        match self {
            Secret::KeyPepper => "KEY_PEPPER",
            Secret::JwtSecretKey => "JWT_SECRET_KEY",
            Secret::DataKey => "DATA_KEY",
            Secret::DataKeyPrevious => "DATA_KEY_PREVIOUS",
            Secret::EvidenceKey => "EVIDENCE_KEY",
            Secret::BootstrapKey => "BOOTSTRAP_KEY",
            Secret::DatabaseUrl => "DATABASE_URL",
            Secret::RedisUrl => "REDIS_URL",
            Secret::NatsUrl => "NATS_URL",
        }
    }

    /// The variable that holds it.
    pub fn variable(self) -> String {
        format!("ORCHESTRATION_{}", self.name())
    }

    /// What is wrong with it, without showing it.
    fn fault(self, value: &str) -> Option<&'static str> {
        match self {
            Secret::KeyPepper | Secret::DataKey | Secret::DataKeyPrevious | Secret::EvidenceKey => {
                let hexadecimal = value.len() == 64 && value.bytes().all(|b| b.is_ascii_hexdigit());
                (!hexadecimal).then_some("must be 64 hexadecimal digits; `openssl rand -hex 32`")
            }
            Secret::JwtSecretKey => {
                (value.len() < 32).then_some("must be at least 32 bytes; `openssl rand -hex 32`")
            }
            // Its form is checked where it is used.
            Secret::BootstrapKey => None,
            Secret::DatabaseUrl => (!DatabaseUrl::fits(value)).then_some(DatabaseUrl::FORM),
            Secret::RedisUrl => (!RedisUrl::fits(value)).then_some(RedisUrl::FORM),
            Secret::NatsUrl => (!NatsUrl::fits(value)).then_some(NatsUrl::FORM),
        }
    }
}

/// Those that were given. `Debug` shows nothing of them.
#[derive(Debug, Clone, Default)]
pub struct Secrets(Vec<(Secret, SecretString)>);

impl Secrets {
    /// One of them.
    pub fn get(&self, secret: Secret) -> Option<&SecretString> {
        self.0.iter().find(|(known, _)| *known == secret).map(|(_, value)| value)
    }

    /// Every variable, without prefix.
    pub(super) fn names() -> impl Iterator<Item = String> {
        let of = |secret: Secret| [secret.name().to_owned(), format!("{}_FILE", secret.name())];
        Secret::ALL.into_iter().flat_map(of)
    }

    /// Takes the variable `rest` if it is a secret or names a secret's file. An empty one is unset.
    pub(super) fn take(&mut self, rest: &str, raw: &str) -> Option<Result<(), String>> {
        let (name, in_file) = rest.strip_suffix("_FILE").map_or((rest, false), |name| (name, true));
        let secret = Secret::ALL.into_iter().find(|secret| secret.name() == name)?;
        if raw.is_empty() {
            return Some(Ok(()));
        }
        let value = if in_file { read(raw) } else { Ok(raw.to_owned()) };
        Some(value.and_then(|value| self.add(secret, value)))
    }

    fn add(&mut self, secret: Secret, value: String) -> Result<(), String> {
        if let Some(fault) = secret.fault(&value) {
            return Err(fault.to_owned());
        }
        if self.get(secret).is_some() {
            return Err("is given twice, by value and by file; unset one".to_owned());
        }
        self.0.push((secret, value.into()));
        Ok(())
    }
}

impl PartialEq for Secrets {
    fn eq(&self, other: &Secrets) -> bool {
        let exposed = |secret| other.get(secret).map(|value| value.expose_secret());
        self.0.len() == other.0.len()
            && self.0.iter().all(|(secret, value)| exposed(*secret) == Some(value.expose_secret()))
    }
}

fn read(path: &str) -> Result<String, String> {
    use std::io::Read as _;
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(|error| format!("cannot be read: {error}"))?;
    file.take(FILE_BYTES_MAX)
        .read_to_string(&mut text)
        .map_err(|error| format!("cannot be read: {error}"))?;
    match text.trim() {
        "" => Err("names an empty file".to_owned()),
        value => Ok(value.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_comes_by_value_or_by_file_and_is_never_shown() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pepper");
        let pepper = "0a".repeat(32);
        std::fs::write(&path, format!("{pepper}\n")).unwrap();
        let mut secrets = Secrets::default();
        assert_eq!(secrets.take("KEY_PEPPER_FILE", path.to_str().unwrap()), Some(Ok(())));
        let long = "a long secret of thirty-two bytes";
        assert_eq!(secrets.take("JWT_SECRET_KEY", long), Some(Ok(())));
        assert_eq!(secrets.get(Secret::KeyPepper).unwrap().expose_secret(), pepper);
        let shown = format!("{secrets:?}");
        assert!(!shown.contains(&pepper) && !shown.contains(long), "{shown}");
        assert!(secrets.take("KEY_PEPPER", &pepper).unwrap().is_err(), "given twice");
        assert!(secrets.take("LOG_LEVEL", "info").is_none());
    }

    #[test]
    fn a_weak_or_missing_secret_is_refused_without_its_value() {
        for (name, value) in [
            ("JWT_SECRET_KEY", "thirty-one bytes are too short"),
            ("KEY_PEPPER", "short"),
            ("KEY_PEPPER_FILE", "/nowhere/pepper"),
        ] {
            let refused = Secrets::default().take(name, value).unwrap().unwrap_err();
            assert!(!refused.contains(value), "{refused}");
        }
        assert_eq!(Secrets::default().take("BOOTSTRAP_KEY", ""), Some(Ok(())), "empty is unset");
    }
}
