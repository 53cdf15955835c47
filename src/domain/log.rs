//! The words of a transparency log: RFC 6962 for its hashes, C2SP tlog-checkpoint for its heads.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::digest::Digest;

/// Ed25519 among the kinds of keys of a signed note.
const ED25519: u8 = 1;

/// Which log: the SHA-256 of its Ed25519 public key (RFC 6962, 3.2), as 64 hexadecimal digits.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct LogId(String);

impl LogId {
    /// Of the log that this public key signs for.
    pub fn of(public_key: &[u8; 32]) -> Self {
        Self(Digest::of(public_key).hex())
    }

    /// Parses 64 lower-case hexadecimal digits.
    pub fn parse(raw: &str) -> Option<Self> {
        let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        (raw.len() == 64 && raw.bytes().all(digit)).then(|| Self(raw.to_owned()))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first line of its checkpoints, and the name of its key.
    pub fn origin(&self) -> String {
        format!("detector-orchestrator/{}", self.0)
    }

    /// The key as verifiers of C2SP signed notes take it: `<name>+<id>+<base64>`.
    pub fn verifier(&self, public_key: &[u8; 32]) -> String {
        let key = STANDARD.encode([&[ED25519][..], public_key].concat());
        format!("{}+{}+{key}", self.origin(), hex::encode(self.note_key(public_key)))
    }

    /// Names the key inside a signed note.
    fn note_key(&self, public_key: &[u8; 32]) -> [u8; 4] {
        let name = self.origin();
        let digest = Digest::of(&[name.as_bytes(), &[b'\n', ED25519], public_key].concat());
        let [a, b, c, d, ..] = *digest.as_bytes();
        [a, b, c, d]
    }
}

/// Where a record stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// In which log.
    pub log: LogId,
    /// Its place, from 0, without gaps.
    pub index: u64,
    /// SHA-256(0x00 ‖ record).
    pub hash: Digest,
}

/// A complete subtree of 2^`level` leaves; level 0 is a leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Node {
    /// 0, 8, 16, 24 and so on: tiles of 256.
    pub level: u8,
    /// From 0, among the nodes of its level.
    pub index: u64,
    /// SHA-256(0x01 ‖ left ‖ right), or that of a leaf.
    pub hash: Digest,
}

/// The signed head of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Whose.
    pub log: LogId,
    /// Leaves under `root`.
    pub size: u64,
    /// The root of the tree.
    pub root: Digest,
    /// Wall clock of the signature, milliseconds since 1970.
    pub at_ms: i64,
    /// Ed25519 over the text of the checkpoint.
    pub signature: [u8; 64],
}

impl Checkpoint {
    /// What is signed: origin, size, root, and the time on a line of its own (C2SP
    /// tlog-checkpoint).
    pub fn text(&self) -> String {
        let root = STANDARD.encode(self.root.as_bytes());
        format!("{}\n{}\n{root}\ntime {}\n", self.log.origin(), self.size, self.at_ms)
    }

    /// The signed note.
    pub fn note(&self, public_key: &[u8; 32]) -> String {
        let signature =
            STANDARD.encode([&self.log.note_key(public_key)[..], &self.signature].concat());
        format!("{}\n\u{2014} {} {signature}\n", self.text(), self.log.origin())
    }
}

/// Log, size and root of a signed note, whose signature is not checked here.
pub fn parse_note(note: &str) -> Option<(LogId, u64, Digest)> {
    let mut lines = note.lines();
    let log = LogId::parse(lines.next()?.strip_prefix("detector-orchestrator/")?)?;
    let size = lines.next()?.parse().ok()?;
    let root = STANDARD.decode(lines.next()?).ok()?;
    Some((log, size, Digest::from_bytes(root.try_into().ok()?)))
}

/// What a caller holds of the record of its decision. The salt opens the record's commitment to the
/// content; nobody else has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// The record's id.
    pub id: String,
    /// `None` where it is not in a log.
    pub receipt: Option<Receipt>,
}

/// What shows that a decision is in a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// Which log.
    pub log: LogId,
    /// The record's leaf.
    pub leaf_hash: Digest,
    /// That it is there; `None` where the answer did not wait for that.
    pub proof: Option<Proof>,
    /// 64 hexadecimal digits.
    pub salt: String,
}

/// A record's place under a signed head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// Where it stands.
    pub leaf: Leaf,
    /// The head that it is under.
    pub checkpoint: Checkpoint,
    /// The audit path, from the leaf upwards.
    pub path: Vec<Digest>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_is_a_note_of_origin_size_root_and_time() {
        let key = [7; 32];
        let log = LogId::of(&key);
        let root = Digest::of(b"");
        let checkpoint =
            Checkpoint { log: log.clone(), size: 3, root, at_ms: 5, signature: [1; 64] };
        let lines: Vec<String> = checkpoint.note(&key).lines().map(str::to_owned).collect();
        let origin = format!("detector-orchestrator/{}", log.as_str());
        let root = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
        assert_eq!(lines[..5], [origin.as_str(), "3", root, "time 5", ""]);
        let (name, signature) =
            lines[5].strip_prefix("\u{2014} ").unwrap().split_once(' ').unwrap();
        assert_eq!(name, origin);
        let signed = STANDARD.decode(signature).unwrap();
        assert_eq!(signed.len(), 4 + 64);
        let id = hex::encode(&signed[..4]);
        assert!(log.verifier(&key).starts_with(&format!("{origin}+{id}+AQcHBw")), "{id}");
    }

    #[test]
    fn only_64_lower_case_digits_name_a_log() {
        assert!(LogId::parse(&"0a".repeat(32)).is_some());
        for bad in ["", &"0A".repeat(32), &"0a".repeat(31), &"0g".repeat(32)] {
            assert_eq!(LogId::parse(bad), None);
        }
    }
}
