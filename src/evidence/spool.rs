//! Where records wait while the store is away: one file of frames, synced before anyone believes in
//! them, bounded, emptied from the front.
//!
//! A frame is its length (4 bytes, big-endian), the SHA-256 of its bytes, and the bytes: a decision as
//! JSON. Frames hold what the store would: no content.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::domain::action::Action;
use crate::domain::digest::Digest;
use crate::domain::id::{BundleName, RequestId, TenantId};
use crate::store::Decision;

/// Length and hash.
const HEAD_BYTES: u64 = 4 + 32;
/// Bytes of one decision; a length beyond it is damage.
const FRAME_BYTES_MAX: u64 = 1 << 24;
/// How long a file that another process holds is waited for.
const HELD_MAX: Duration = Duration::from_secs(2);

/// What a spool asks of a file.
pub trait Medium: Send {
    /// Its bytes now.
    fn length(&mut self) -> io::Result<u64>;
    /// Fills `bytes` from `offset` on.
    fn read_at(&mut self, offset: u64, bytes: &mut [u8]) -> io::Result<()>;
    /// Writes at `offset`, which is the end.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Returns once all that was written is durable.
    fn sync(&mut self) -> io::Result<()>;
    /// Cuts it to `length`.
    fn cut(&mut self, length: u64) -> io::Result<()>;
    /// Keeps a copy for people to look at.
    fn set_aside(&mut self) -> io::Result<()>;
}

/// A file of its own, held by this process alone.
pub struct OnDisk {
    file: File,
    path: PathBuf,
}

impl OnDisk {
    /// Opens the file, or makes it, readable by its owner only.
    ///
    /// # Errors
    /// Also where another process holds it.
    pub fn open(path: &Path) -> io::Result<OnDisk> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        if let Some(folder) = folder {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(path)?;
        must_be_file(&file)?;
        lock(&file)?;
        // A file is durable once its folder knows it.
        if let Some(folder) = folder {
            File::open(folder)?.sync_all()?;
        }
        Ok(OnDisk { file, path: path.to_owned() })
    }
}

/// A pipe or a device keeps no record.
fn must_be_file(opened: &File) -> io::Result<()> {
    match opened.metadata()?.is_file() {
        true => Ok(()),
        false => Err(io::Error::other("it is no file; remove what stands there")),
    }
}

/// Holds `file` alone; one that ends just now still has it for a moment.
#[expect(clippy::disallowed_methods, reason = "at the start, before anything is served")]
fn lock(file: &File) -> io::Result<()> {
    let until = Instant::now() + HELD_MAX;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) if Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(TryLockError::WouldBlock) => {
                return Err(io::Error::other(
                    "another process holds it; give each instance a folder of its own as paths.data",
                ));
            }
        }
    }
}

impl Medium for OnDisk {
    fn length(&mut self) -> io::Result<u64> {
        self.file.metadata().map(|metadata| metadata.len())
    }

    fn read_at(&mut self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(bytes, offset)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        self.file.set_len(length)
    }

    fn set_aside(&mut self) -> io::Result<()> {
        let mut name = self.path.clone().into_os_string();
        name.push(".damaged");
        let mut options = OpenOptions::new();
        let mut copy = options.write(true).create(true).truncate(true).mode(0o600).open(name)?;
        let mut bytes = vec![0; usize::try_from(self.length()?).map_err(io::Error::other)?];
        self.read_at(0, &mut bytes)?;
        copy.write_all(&bytes)?;
        copy.sync_all()
    }
}

/// Why records were not kept.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// As many bytes wait as may.
    #[error("the spool is full")]
    Full,
    /// The file cannot be written.
    #[error("the spool cannot be written")]
    Unwritable(#[source] io::Error),
    /// What was written may be lost although it can be read: nothing may be believed any more.
    #[error("the disk failed under the spool")]
    Broken(#[source] io::Error),
}

impl SpoolError {
    fn of(error: io::Error) -> SpoolError {
        // EIO.
        if error.raw_os_error() == Some(5) {
            SpoolError::Broken(error)
        } else {
            SpoolError::Unwritable(error)
        }
    }
}

/// What was found on opening besides whole frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Damage {
    /// Stretches that are no frames.
    pub frames: u64,
    /// Bytes of these.
    pub bytes: u64,
    /// Bytes at the end of a write that did not come to its end; nobody was told of it.
    pub torn_bytes: u64,
}

impl Damage {
    fn lose(&mut self, bytes: u64) {
        self.frames += 1;
        self.bytes += bytes;
    }
}

/// What opening a file as a spool would find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// It would be made.
    Absent,
    /// Another process holds it.
    Held,
    /// What it holds.
    There(Damage),
}

/// Looks at the file at `path` and changes nothing.
///
/// # Errors
/// Where it cannot be opened or read.
pub fn look(path: &Path) -> io::Result<Look> {
    let opened = OpenOptions::new().read(true).write(true).open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Look::Absent),
        Err(error) => return Err(error),
    };
    must_be_file(&file)?;
    match file.try_lock_shared() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(Look::Held),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    let mut spool = Spool::over(Box::new(OnDisk { file, path: path.to_owned() }), 0);
    let bytes = spool.bytes_of_medium()?;
    spool.scan(&bytes);
    Ok(Look::There(spool.damage))
}

/// The open spool.
pub struct Spool {
    medium: Box<dyn Medium>,
    /// Offset and length of each frame's bytes, oldest first.
    frames: VecDeque<(u64, u64)>,
    end: u64,
    bytes_max: u64,
    damage: Damage,
}

impl Spool {
    /// Reads `medium` once and cuts what is torn.
    pub fn open(medium: Box<dyn Medium>, bytes_max: u64) -> io::Result<Spool> {
        let mut spool = Self::over(medium, bytes_max);
        let bytes = spool.bytes_of_medium()?;
        let length = bytes.len() as u64;
        spool.scan(&bytes);
        if spool.damage.frames > 0 {
            spool.medium.set_aside()?;
        }
        if spool.end < length {
            spool.medium.cut(spool.end)?;
            spool.medium.sync()?;
        }
        Ok(spool)
    }

    fn over(medium: Box<dyn Medium>, bytes_max: u64) -> Spool {
        Spool { medium, frames: VecDeque::new(), end: 0, bytes_max, damage: Damage::default() }
    }

    fn bytes_of_medium(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(self.medium.length()?).map_err(io::Error::other)?];
        self.medium.read_at(0, &mut bytes)?;
        Ok(bytes)
    }

    /// What was found on opening.
    pub fn damage(&self) -> Damage {
        self.damage
    }

    /// Bytes of the file.
    pub fn bytes(&self) -> u64 {
        self.end
    }

    /// Decisions that wait.
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Makes decisions durable, in their order, as many as there is room for; says how many, and
    /// why not all.
    pub fn append(&mut self, decisions: &[&Decision]) -> (usize, Option<SpoolError>) {
        let (mut bytes, mut frames, mut full) = (Vec::new(), Vec::new(), None);
        for decision in decisions {
            let frame = encode(decision);
            let start = self.end + bytes.len() as u64 + HEAD_BYTES;
            let length = frame.len() as u64;
            if start + length > self.bytes_max || length > FRAME_BYTES_MAX {
                full = Some(SpoolError::Full);
                break;
            }
            bytes.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
            bytes.extend_from_slice(Digest::of(&frame).as_bytes());
            bytes.extend_from_slice(&frame);
            frames.push((start, length));
        }
        if frames.is_empty() {
            return (0, full);
        }
        let written = self.medium.write_at(self.end, &bytes).and_then(|()| self.medium.sync());
        if let Err(error) = written {
            // Best effort: what stays is no whole frame, or one that nobody was told of.
            let _ = self.medium.cut(self.end);
            return (0, Some(SpoolError::of(error)));
        }
        self.end += bytes.len() as u64;
        let kept = frames.len();
        self.frames.extend(frames);
        (kept, full)
    }

    /// At most `count` decisions from the front, and how many frames they stand for: a frame that
    /// was damaged since it was written holds none.
    pub fn front(&mut self, count: usize) -> (Vec<Decision>, usize) {
        let mut decisions = Vec::new();
        let taken = count.min(self.frames.len());
        for (offset, length) in self.frames.iter().take(count).copied() {
            match read(self.medium.as_mut(), offset, length) {
                Some(decision) => decisions.push(decision),
                None => {
                    self.damage.lose(HEAD_BYTES + length);
                    // Without a copy there is still the line that names it.
                    let _ = self.medium.set_aside();
                    tracing::error!(offset, "A frame of the evidence spool is damaged");
                }
            }
        }
        (decisions, taken)
    }

    /// Forgets `count` frames from the front; the file is cut once none is left.
    pub fn forget(&mut self, count: usize) {
        self.frames.drain(..count.min(self.frames.len()));
        if self.frames.is_empty() && self.end > 0 {
            // What stays after all is skipped by its ids.
            match self.medium.cut(0) {
                Ok(()) => self.end = 0,
                Err(error) => tracing::warn!(%error, "The evidence spool could not be cut"),
            }
        }
    }

    /// Finds whole frames; after damage the search goes on byte by byte.
    fn scan(&mut self, bytes: &[u8]) {
        let (mut at, mut damaged_from) = (0, None);
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            match whole(rest) {
                Some(length) => {
                    if let Some(offset) = damaged_from.take() {
                        self.damage.lose((at - offset) as u64);
                        tracing::error!(offset, "A frame of the evidence spool is damaged");
                    }
                    self.frames.push_back((at as u64 + HEAD_BYTES, length as u64));
                    at += HEAD_BYTES as usize + length;
                    self.end = at as u64;
                }
                None => {
                    damaged_from = damaged_from.or(Some(at));
                    at += 1;
                }
            }
        }
        if let Some(offset) = damaged_from {
            let tail = bytes.get(offset..).unwrap_or_default();
            if is_torn(tail) {
                self.damage.torn_bytes = tail.len() as u64;
                let bytes = tail.len();
                tracing::warn!(bytes, "The evidence spool ended within a write; it was cut");
            } else {
                // All of its bytes are there, so its hash should be right; or it never was a frame.
                self.damage.lose(tail.len() as u64);
                tracing::error!(offset, "The last frame of the evidence spool is damaged");
            }
        }
    }
}

/// Whether `rest` is the beginning of a frame whose end was not written.
fn is_torn(rest: &[u8]) -> bool {
    rest.split_first_chunk::<4>().is_none_or(|(length, _)| {
        let length = u64::from(u32::from_be_bytes(*length));
        (1..=FRAME_BYTES_MAX).contains(&length) && declared(rest).is_none()
    })
}

/// The bytes that a frame at the start of `rest` declares, where they are all there.
fn declared(rest: &[u8]) -> Option<&[u8]> {
    let (length, _) = rest.split_first_chunk::<4>()?;
    let length = u64::from(u32::from_be_bytes(*length));
    let fits = (1..=FRAME_BYTES_MAX).contains(&length);
    let (start, end) = (HEAD_BYTES as usize, (HEAD_BYTES + length) as usize);
    rest.get(start..end).filter(|_| fits)
}

/// The length of a whole frame at the start of `rest`.
fn whole(rest: &[u8]) -> Option<usize> {
    let bytes = declared(rest)?;
    let hash = rest.get(4..HEAD_BYTES as usize)?;
    (Digest::of(bytes).as_bytes() == hash).then_some(bytes.len())
}

fn read(medium: &mut dyn Medium, offset: u64, length: u64) -> Option<Decision> {
    let start = offset.checked_sub(HEAD_BYTES)?;
    let mut frame = vec![0; usize::try_from(HEAD_BYTES + length).ok()?];
    medium.read_at(start, &mut frame).ok()?;
    (whole(&frame)? as u64 == length).then_some(())?;
    decode(frame.get(HEAD_BYTES as usize..)?)
}

/// A decision on its way.
#[derive(Serialize, Deserialize)]
struct Frame<'a> {
    id: Cow<'a, str>,
    tenant: TenantId,
    request_id: RequestId,
    at_ms: i64,
    policy: BundleName,
    revision: Cow<'a, str>,
    action: Cow<'a, str>,
    complete: bool,
    record: Cow<'a, str>,
}

fn encode(decision: &Decision) -> Vec<u8> {
    let frame = Frame {
        id: decision.id.as_str().into(),
        tenant: decision.tenant.clone(),
        request_id: decision.request_id.clone(),
        at_ms: decision.at_ms,
        policy: decision.policy.clone(),
        revision: decision.revision.as_str().into(),
        action: decision.action.name().into(),
        complete: decision.complete,
        record: decision.record.as_str().into(),
    };
    // Texts and numbers always serialise.
    serde_json::to_vec(&frame).unwrap_or_default()
}

fn decode(bytes: &[u8]) -> Option<Decision> {
    let frame: Frame<'_> = serde_json::from_slice(bytes).ok()?;
    let action = Action::ALL.into_iter().find(|known| known.name() == frame.action)?;
    Some(Decision {
        id: frame.id.into_owned(),
        tenant: frame.tenant,
        request_id: frame.request_id,
        at_ms: frame.at_ms,
        policy: frame.policy,
        revision: frame.revision.into_owned(),
        action,
        complete: frame.complete,
        record: frame.record.into_owned(),
        leaf: None,
    })
}
