//! The words of a transparency log: RFC 6962 for its hashes, C2SP tlog-checkpoint for its heads.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::digest::Digest;

/// How the first line of a note begins.
const ORIGIN: &str = "detector-orchestrator/";
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
        format!("{ORIGIN}{}", self.0)
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

/// Heads as somebody kept them: signed notes, lines of `evidence keys --json`, and the `Checkpoint`
/// lines of a service's log, other lines of which are left out. No signature is checked here.
///
/// # Errors
/// The number of the first line that begins a head and does not hold one.
pub fn parse_heads(text: &str) -> Result<Vec<Checkpoint>, usize> {
    let (mut heads, mut lines) = (Vec::new(), (1_usize..).zip(text.lines()));
    while let Some((at, line)) = lines.next() {
        if line.starts_with(ORIGIN) {
            let mut note = line.to_owned();
            for (_, line) in lines.by_ref().take(5) {
                note = format!("{note}\n{line}");
            }
            heads.push(parse_note(&note).ok_or(at)?);
        } else if let Some(line) = line.find('{').and_then(|start| line.get(start..)) {
            // A collector of logs may put something of its own before the line.
            let Ok(line) = serde_json::from_str::<Line>(line) else { continue };
            match (line.message.as_deref(), line.checkpoint) {
                (_, Some(note)) => heads.push(parse_note(&note).ok_or(at)?),
                (Some("Checkpoint"), None) => heads.push(line.told.ok_or(at)?.head().ok_or(at)?),
                (_, None) => {}
            }
        }
    }
    Ok(heads)
}

#[derive(Deserialize)]
struct Line {
    message: Option<String>,
    /// A whole note.
    checkpoint: Option<String>,
    #[serde(flatten)]
    told: Option<Told>,
}

/// The fields of a `Checkpoint` line.
#[derive(Deserialize)]
struct Told {
    log: String,
    size: u64,
    root: String,
    at_ms: i64,
    signature: String,
}

impl Told {
    fn head(&self) -> Option<Checkpoint> {
        let mut signature = [0; 64];
        hex::decode_to_slice(&self.signature, &mut signature).ok()?;
        let (log, root) = (LogId::parse(&self.log)?, Digest::parse(&self.root)?);
        Some(Checkpoint { log, size: self.size, root, at_ms: self.at_ms, signature })
    }
}

fn parse_note(note: &str) -> Option<Checkpoint> {
    let mut lines = note.lines();
    let log = LogId::parse(lines.next()?.strip_prefix(ORIGIN)?)?;
    let size = lines.next()?.parse().ok()?;
    let root = STANDARD.decode(lines.next()?).ok()?;
    let root = Digest::from_bytes(root.try_into().ok()?);
    let at_ms = lines.next()?.strip_prefix("time ")?.parse().ok()?;
    let signed = lines.find_map(|line| line.strip_prefix("\u{2014} "))?;
    let signed = STANDARD.decode(signed.strip_prefix(&log.origin())?.trim()).ok()?;
    let signature = signed.get(4..)?.try_into().ok()?;
    Some(Checkpoint { log, size, root, at_ms, signature })
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
    fn heads_are_read_from_notes_keys_and_lines_of_the_log_and_a_broken_one_is_named() {
        let key = [7; 32];
        let head = |size| Checkpoint {
            log: LogId::of(&key),
            size,
            root: Digest::of(b""),
            at_ms: 5,
            signature: [size as u8; 64],
        };
        let line = |size| {
            let Checkpoint { log, root, signature, .. } = head(size);
            let (root, signature) = (root.hex(), hex::encode(signature));
            serde_json::json!({"level": "INFO", "message": "Checkpoint", "log": log, "size": size,
                "root": root, "at_ms": 5, "signature": signature})
            .to_string()
        };
        let keys = serde_json::json!({"log_id": "x", "checkpoint": head(2).note(&key)});
        let text = format!(
            "{}{}\n{keys}\n{{\"message\":\"other\"}}\nservice-1  | {}\nplain {{words\n{}",
            head(1).note(&key),
            head(9).note(&key),
            line(3),
            line(4)
        );
        assert_eq!(parse_heads(&text), Ok([1, 9, 2, 3, 4].map(head).into()));
        assert_eq!(parse_heads("nothing\n"), Ok(Vec::new()));
        let unsigned = line(3).replace("signature", "other");
        assert_eq!(parse_heads(&format!("{}\n{unsigned}", line(4))), Err(2));
        assert_eq!(parse_heads(&head(1).note(&key).replace("time", "when")), Err(1));
    }

    #[test]
    fn only_64_lower_case_digits_name_a_log() {
        assert!(LogId::parse(&"0a".repeat(32)).is_some());
        for bad in ["", &"0A".repeat(32), &"0a".repeat(31), &"0g".repeat(32)] {
            assert_eq!(LogId::parse(bad), None);
        }
    }
}
