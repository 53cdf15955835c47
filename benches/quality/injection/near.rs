//! Near duplicates: texts whose sets of five-letter pieces overlap by at least 0.7 (Jaccard), found
//! through MinHash (12 bands of 3).

use std::collections::{BTreeSet, HashMap};

const BANDS: u64 = 12;
const ROWS: u64 = 3;
const ALIKE: f64 = 0.7;

/// The texts to compare with.
#[derive(Default)]
pub struct Index {
    pieces: Vec<BTreeSet<u64>>,
    bands: HashMap<(u64, Vec<u64>), Vec<usize>>,
}

impl Index {
    pub fn add(&mut self, text: &str) {
        let pieces = pieces(text);
        for key in keys(&pieces) {
            self.bands.entry(key).or_default().push(self.pieces.len());
        }
        self.pieces.push(pieces);
    }

    pub fn holds_near(&self, text: &str) -> bool {
        let own = pieces(text);
        let mut seen = BTreeSet::new();
        keys(&own).iter().filter_map(|key| self.bands.get(key)).flatten().any(|at| {
            seen.insert(*at) && {
                let common = own.intersection(&self.pieces[*at]).count() as f64;
                common >= ALIKE * (own.len() + self.pieces[*at].len()) as f64 / (1.0 + ALIKE)
            }
        })
    }
}

fn pieces(text: &str) -> BTreeSet<u64> {
    let letters: Vec<char> =
        text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
    let size = letters.len().clamp(1, 5);
    letters
        .windows(size)
        .map(|piece| piece.iter().fold(0, |hash, c| mix(hash, *c as u64)))
        .collect()
}

fn keys(pieces: &BTreeSet<u64>) -> Vec<(u64, Vec<u64>)> {
    let least = |seed| pieces.iter().map(|piece| mix(seed, *piece)).min().unwrap_or(0);
    (0..BANDS)
        .map(|band| (band, (0..ROWS).map(|row| least(band * ROWS + row + 1)).collect()))
        .collect()
}

fn mix(one: u64, other: u64) -> u64 {
    let mixed =
        (one ^ other.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    mixed ^ (mixed >> 32)
}
