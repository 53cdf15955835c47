//! How decisions are put on record.

use serde::{Deserialize, Serialize};
use validator::{Validate, ValidationError};

/// How decisions are put on record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Validate)]
#[serde(default, deny_unknown_fields)]
pub struct Evidence {
    /// Bytes of the file in which records wait while the store is away.
    #[validate(range(min = 1_048_576_u64, max = 1_099_511_627_776_u64))]
    pub spool_bytes_max: u64,
    /// Records that may wait in memory.
    #[validate(range(min = 256, max = 1_000_000))]
    pub queue_max: u64,
    /// Bytes of them.
    #[validate(range(min = 1_048_576_u64, max = 1_099_511_627_776_u64))]
    pub queue_bytes_max: u64,
    /// Bytes of records that memory holds while neither the store nor that file takes them; beyond
    /// them they are lost. A record counts its own bytes and 512.
    #[validate(range(min = 1_048_576_u64, max = 1_099_511_627_776_u64))]
    pub held_bytes_max: u64,
    /// Public keys of this service's logs beside that of its present key, such as earlier ones: 64
    /// hexadecimal digits each. Whoever may write the store can put other logs in it.
    #[validate(custom(function = "public_keys"))]
    pub known_keys: Vec<String>,
}

impl Evidence {
    /// The known keys.
    pub fn known(&self) -> Vec<[u8; 32]> {
        self.known_keys.iter().filter_map(|digits| public_key(digits)).collect()
    }
}

fn public_key(digits: &str) -> Option<[u8; 32]> {
    hex::decode(digits).ok()?.try_into().ok()
}

fn public_keys(keys: &[String]) -> Result<(), ValidationError> {
    match keys.iter().position(|digits| public_key(digits).is_none()) {
        None => Ok(()),
        Some(at) => {
            let message = format!("key {} must be 64 hexadecimal digits", at + 1);
            Err(ValidationError::new("bad_value").with_message(message.into()))
        }
    }
}

impl Default for Evidence {
    fn default() -> Self {
        Self {
            spool_bytes_max: 67_108_864,
            queue_max: 8_192,
            queue_bytes_max: 67_108_864,
            held_bytes_max: 67_108_864,
            known_keys: Vec::new(),
        }
    }
}
