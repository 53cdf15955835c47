//! Compressed bytes → files, within limits. Only plain files with plain names come out.

use std::io::Read as _;

use super::{Entries, Refused, refused};
use crate::yaml::shown;

/// Bytes of a bundle as it is sent.
pub const PACKED_BYTES_MAX: usize = 16 << 20;
/// Bytes of it unpacked.
const BYTES_MAX: usize = 64 << 20;
/// Bytes of one file.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Files.
const FILES_MAX: usize = 20_000;
/// Folders inside folders.
const DEPTH_MAX: usize = 8;
/// Bytes of a name.
const NAME_BYTES_MAX: usize = 512;

const REPACK: &str = "build it with `opa build`, or with tar from plain files";
const SPLIT: &str = "leave out what is no policy";

pub(super) fn unpack(packed: &[u8]) -> Result<Entries, Refused> {
    let plain = inflate(packed)?;
    let broken = |error: std::io::Error| {
        refused("not_an_archive", format!("is no tar archive: {error}"), REPACK)
    };
    let mut entries = Entries::new();
    for entry in tar::Archive::new(plain.as_slice()).entries().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        let kind = entry.header().entry_type();
        if kind.is_dir() || kind.is_pax_global_extensions() {
            continue;
        }
        let name = name(&entry.path_bytes())?;
        if !kind.is_file() {
            let message = format!("holds `{}`, which is a link or a device", shown(&name));
            return Err(refused("no_file", message, REPACK));
        }
        if entry.size() > FILE_BYTES_MAX {
            let message = format!("`{}` has more than {FILE_BYTES_MAX} bytes", shown(&name));
            return Err(refused("too_large", message, SPLIT));
        }
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).map_err(broken)?;
        if entries.len() >= FILES_MAX {
            let message = format!("holds more than {FILES_MAX} files");
            return Err(refused("too_many_files", message, SPLIT));
        }
        if entries.contains_key(&name) {
            let message = format!("holds `{}` twice", shown(&name));
            return Err(refused("duplicate_file", message, REPACK));
        }
        entries.insert(name, bytes);
    }
    match entries.is_empty() {
        true => Err(refused("not_an_archive", "holds no file", REPACK)),
        false => Ok(entries),
    }
}

/// All of it, so that its own checksum is looked at before anything in it is.
fn inflate(packed: &[u8]) -> Result<Vec<u8>, Refused> {
    if packed.len() > PACKED_BYTES_MAX {
        let message = format!("has more than {PACKED_BYTES_MAX} bytes");
        return Err(refused("too_large", message, SPLIT));
    }
    let mut reader = flate2::bufread::GzDecoder::new(packed);
    let mut plain = Vec::new();
    let most = BYTES_MAX as u64 + 1;
    reader.by_ref().take(most).read_to_end(&mut plain).map_err(|error| {
        refused("not_an_archive", format!("is no gzip that is whole: {error}"), REPACK)
    })?;
    if plain.len() > BYTES_MAX {
        let message = format!("has more than {BYTES_MAX} bytes unpacked");
        return Err(refused("too_large", message, SPLIT));
    }
    if !reader.into_inner().is_empty() {
        return Err(refused("not_an_archive", "goes on after its end", REPACK));
    }
    Ok(plain)
}

/// A name below the root. One slash or `./` before it is how `opa build` and tar write it.
fn name(raw: &[u8]) -> Result<String, Refused> {
    let bad = || {
        let raw = String::from_utf8_lossy(raw);
        let message = format!("holds a file of the name `{}`", shown(&raw));
        refused("bad_name", message, "name files by folders and names without `..`")
    };
    let text = std::str::from_utf8(raw).map_err(|_| bad())?;
    let name = text.strip_prefix("./").or_else(|| text.strip_prefix('/')).unwrap_or(text);
    let plain = name.split('/').all(|part| !["", ".", ".."].contains(&part));
    let written = !name.contains(|c: char| c == '\\' || c.is_control());
    let short = name.len() <= NAME_BYTES_MAX && name.split('/').count() <= DEPTH_MAX + 1;
    if plain && written && short { Ok(name.to_owned()) } else { Err(bad()) }
}
