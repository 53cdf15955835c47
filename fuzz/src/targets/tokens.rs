//! Tokens and the sets of keys that check them.

use std::sync::LazyLock;

use detector_orchestrator::seal::jwt::Verifier;
use secrecy::SecretString;

static VERIFIER: LazyLock<Verifier> = LazyLock::new(|| {
    let secret = SecretString::from("a secret that no input can know, 32 bytes or more".to_owned());
    Verifier::new("orchestrator", "orchestrator").with_secret(&secret)
});

/// Nobody who lacks the secret makes a token that is believed.
pub fn token(bytes: &[u8]) {
    let Ok(raw) = std::str::from_utf8(bytes) else { return };
    assert!(VERIFIER.verify(raw).is_err(), "{raw} was believed");
}

/// A file of keys is a set or a fault.
pub fn key_set(bytes: &[u8]) {
    let Ok(raw) = std::str::from_utf8(bytes) else { return };
    let _ = Verifier::new("orchestrator", "orchestrator").with_key_set(raw);
}
