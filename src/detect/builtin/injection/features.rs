//! What the model sees of a text: hashed character n-grams, words, pairs of words, cues and
//! punctuation, sentence by sentence. Training and judging share this file.
//!
//! Time is linear in the text: a word has at most `WORD_CHARS_MAX` characters, a sentence `WORDS_MAX`
//! words, and nothing looks further back than `REACH` words.

use super::cues::{self, Cue};

/// Buckets of the hash, a power of two.
pub const BUCKETS: usize = 1 << 18;
const WORD_CHARS_MAX: usize = 24;
const WORDS_MAX: usize = 40;
/// A shorter sentence goes on with the next one.
const WORDS_MIN: usize = 3;
/// How many words apart two cues may stand to be a pair.
const REACH: usize = 6;

/// What a feature is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Characters of a word.
    Gram,
    /// A whole word.
    Word,
    /// Two words, or the first and last of three.
    Pair,
    /// One to three cues.
    Cue,
    /// Signs between words, and how a word is written.
    Mark,
}

impl Kind {
    /// How much a feature of this kind counts.
    pub fn value(self) -> f32 {
        match self {
            Self::Gram => 0.7,
            Self::Word | Self::Pair => 1.5,
            Self::Mark => 2.0,
            Self::Cue => 2.5,
        }
    }
}

/// A sentence, or a part of a very long one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sentence {
    /// Its bytes in the text.
    pub start: usize,
    /// One past its last byte.
    pub end: usize,
    /// The sum of `value · weight` of its features.
    pub sum: f32,
    /// The sum of the squares of its features' values.
    pub square: f32,
    /// How many features it has.
    pub features: usize,
    /// The bits of its cues.
    pub cues: u32,
}

/// The sentences of `text` that hold a word; `weight` is asked for each feature's bucket.
pub fn read(text: &str, weight: impl FnMut(Kind, usize) -> f32) -> Vec<Sentence> {
    let mut reader = Reader {
        weight,
        done: Vec::new(),
        now: None,
        words: 0,
        word: Word::default(),
        text: String::new(),
        before: [START; 2],
        cues: Vec::new(),
        marks: String::new(),
    };
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let next = chars.peek().map_or(' ', |(_, next)| *next);
        reader.take(at, c, next);
    }
    reader.close_word(text.len());
    reader.close_sentence();
    reader.done
}

const START: u32 = 0x9e37;

#[derive(Default)]
struct Word {
    /// Lower case, without accents; `^` before, and in the end `$` behind.
    chars: Vec<char>,
    start: usize,
    capitals: usize,
    digits: usize,
    signs: usize,
    /// How often a letter follows a sign or a letter of another script, or the other way round.
    odd: usize,
    last: Option<Sort>,
    /// Whether its script has no spaces.
    joined: bool,
}

impl Word {
    fn is_empty(&self) -> bool {
        self.chars.is_empty()
    }

    fn push(&mut self, at: usize, c: char) {
        if self.is_empty() {
            self.start = at;
            self.joined = unspaced(c);
            self.chars.push('^');
        }
        self.capitals += usize::from(c.is_uppercase());
        self.digits += usize::from(c.is_ascii_digit());
        self.signs += usize::from(disguised(c));
        let sort = Some(sort(c));
        self.odd += usize::from(self.last.is_some() && self.last != sort);
        self.last = sort;
        self.chars.push(plain(c));
    }

    fn letters(&self) -> usize {
        self.chars.len().saturating_sub(1 + self.digits + self.signs)
    }

    /// Signs and digits among letters become letters; a number is only a number.
    fn undisguise(&mut self) {
        if self.digits + self.signs > 0 {
            let letters = self.letters() > 1;
            for c in self.chars.iter_mut().skip(1) {
                *c = if letters { letter(*c) } else { digit(*c) };
            }
        }
    }
}

struct Reader<W> {
    weight: W,
    done: Vec<Sentence>,
    now: Option<Sentence>,
    words: usize,
    word: Word,
    /// The last word as a text.
    text: String,
    before: [u32; 2],
    cues: Vec<(usize, Cue)>,
    marks: String,
}

impl<W: FnMut(Kind, usize) -> f32> Reader<W> {
    fn take(&mut self, at: usize, c: char, next: char) {
        let goes_on = self.word.chars.len() > 2 && disguised(c) && next.is_alphanumeric();
        if is_letter(c) || goes_on {
            let full = self.word.chars.len() > WORD_CHARS_MAX;
            if full || (!self.word.is_empty() && unspaced(c) != self.word.joined) {
                self.close_word(at);
            }
            self.close_marks();
            self.word.push(at, c);
            return;
        }
        // An apostrophe is no end of a word.
        if matches!(c, '\'' | '’') && !self.word.is_empty() && next.is_alphabetic() {
            return;
        }
        self.close_word(at);
        if c.is_whitespace() {
            self.close_marks();
        } else if self.marks.len() < 8 {
            self.marks.push(c);
        }
        let stop = match c {
            // A line that goes on in lower case is only wrapped.
            '\n' => !next.is_lowercase(),
            '。' | '！' | '？' | '।' => true,
            '.' | '!' | '?' | ';' => next.is_whitespace(),
            _ => false,
        };
        if stop && self.words >= WORDS_MIN || self.words >= WORDS_MAX {
            self.close_sentence();
        }
    }

    fn close_word(&mut self, end: usize) {
        if self.word.is_empty() {
            return;
        }
        let mut word = std::mem::take(&mut self.word);
        word.undisguise();
        self.text.clear();
        self.text.extend(word.chars.iter().skip(1));
        let number = word.letters() == 0;
        word.chars.push('$');
        let start = word.start;
        let empty = Sentence { start, end, sum: 0.0, square: 0.0, features: 0, cues: 0 };
        self.now.get_or_insert(empty).end = end;
        self.words += 1;
        let own = hash(b'w', self.text.as_bytes());
        // What is only said again says nothing more, however often; numbers all look alike here.
        if number || !self.before.contains(&own) {
            self.features_of_word(&word, own);
        }
        word.chars.clear();
        self.word = Word { chars: word.chars, ..Word::default() };
    }

    fn features_of_word(&mut self, word: &Word, own: u32) {
        self.grams(word);
        self.add(own, Kind::Word);
        let [last, older] = self.before;
        self.add(join(b'b', last, own), Kind::Pair);
        self.add(join(b's', older, own), Kind::Pair);
        self.before = [own, last];
        if word.capitals > 2 && word.capitals * 2 > word.chars.len() {
            self.add(hash(b'C', b"CAPITALS"), Kind::Mark);
        }
        if word.odd > 1 && word.letters() > 2 {
            self.add(hash(b'C', b"DISGUISED"), Kind::Mark);
        }
        self.cues_of_word(word.joined);
    }

    /// n-grams of 3 to 5 characters; of 1 to 3 where a character is a word.
    fn grams(&mut self, word: &Word) {
        let (least, most) = if word.joined { (1, 3) } else { (3, 5) };
        for from in 0..word.chars.len() {
            let mut gram = hash(b'g', &[]);
            for (size, c) in (1..=most).zip(word.chars.iter().skip(from)) {
                gram = step(gram, u32::from(*c));
                if size >= least {
                    self.add(gram, Kind::Gram);
                }
            }
        }
    }

    fn cues_of_word(&mut self, joined: bool) {
        let text = std::mem::take(&mut self.text);
        if joined {
            cues::inside(&text).for_each(|cue| self.cue(cue));
        } else if let Some(cue) = cues::of_word(&text) {
            self.cue(cue);
        }
        self.text = text;
    }

    fn cue(&mut self, cue: Cue) {
        if let Some(now) = &mut self.now {
            now.cues |= cue.bit();
        }
        self.add(hash(b'c', &[cue as u8]), Kind::Cue);
        for near in (self.cues.len().saturating_sub(REACH)..self.cues.len()).rev() {
            let Some(other) = self.near(near) else { break };
            self.add(hash(b'p', &[other as u8, cue as u8]), Kind::Cue);
            for far in (near.saturating_sub(REACH)..near).rev() {
                let Some(third) = self.near(far) else { break };
                self.add(hash(b't', &[third as u8, other as u8, cue as u8]), Kind::Cue);
            }
        }
        self.cues.push((self.words, cue));
    }

    fn near(&self, at: usize) -> Option<Cue> {
        let (word, cue) = self.cues.get(at)?;
        (word + REACH >= self.words).then_some(*cue)
    }

    fn close_marks(&mut self) {
        if !self.marks.is_empty() && self.now.is_some() {
            self.add(hash(b'm', self.marks.as_bytes()), Kind::Mark);
        }
        self.marks.clear();
    }

    fn close_sentence(&mut self) {
        self.close_marks();
        self.done.extend(self.now.take());
        self.words = 0;
        self.before = [START; 2];
        self.cues.clear();
    }

    fn add(&mut self, hash: u32, kind: Kind) {
        let (weight, value) = ((self.weight)(kind, bucket(hash)), kind.value());
        if let Some(now) = &mut self.now {
            now.sum += weight * value;
            now.square += value * value;
            now.features += 1;
        }
    }
}

/// The bucket of a hash; the upper bits are the better ones.
fn bucket(hash: u32) -> usize {
    (hash ^ (hash >> 15)) as usize & (BUCKETS - 1)
}

/// FNV-1a.
fn hash(kind: u8, bytes: &[u8]) -> u32 {
    let start = step(0x811c_9dc5, u32::from(kind));
    bytes.iter().fold(start, |hash, byte| step(hash, u32::from(*byte)))
}

fn step(hash: u32, unit: u32) -> u32 {
    (hash ^ unit).wrapping_mul(0x0100_0193)
}

fn join(kind: u8, one: u32, other: u32) -> u32 {
    [one, one >> 16, other, other >> 16].into_iter().fold(hash(kind, &[]), step)
}

fn is_letter(c: char) -> bool {
    c.is_ascii_alphanumeric() || (!c.is_ascii() && c.is_alphanumeric()) || is_mark(c)
}

/// Vowel signs and the like, which belong to the word.
fn is_mark(c: char) -> bool {
    matches!(c, '\u{300}'..='\u{36F}' | '\u{900}'..='\u{903}' | '\u{93A}'..='\u{94F}' | '\u{64B}'..='\u{65F}')
}

/// Scripts without spaces between words.
fn unspaced(c: char) -> bool {
    matches!(c, '\u{3040}'..='\u{30FF}' | '\u{3400}'..='\u{9FFF}' | '\u{E00}'..='\u{EFF}' | '\u{20000}'..='\u{3FFFF}')
}

/// Signs that stand for letters inside a word (`s@fety`).
fn disguised(c: char) -> bool {
    matches!(c, '@' | '$' | '!' | '|')
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sort {
    Latin,
    Sign,
    Other,
}

fn sort(c: char) -> Sort {
    match c {
        'a'..='z' | 'A'..='Z' | '\u{C0}'..='\u{24F}' | '\u{300}'..='\u{36F}' => Sort::Latin,
        c if c.is_ascii() => Sort::Sign,
        _ => Sort::Other,
    }
}

fn letter(c: char) -> char {
    match c {
        '0' => 'o',
        '1' | '!' | '|' => 'i',
        '3' => 'e',
        '4' | '@' => 'a',
        '5' | '$' => 's',
        '7' => 't',
        c => c,
    }
}

fn digit(c: char) -> char {
    if c.is_ascii_digit() { '0' } else { c }
}

/// Lower case, without the accents of Latin letters.
fn plain(c: char) -> char {
    if c.is_ascii() {
        return c.to_ascii_lowercase();
    }
    match c.to_lowercase().next().unwrap_or(c) {
        'à'..='å' | 'ā' | 'ă' | 'ą' => 'a',
        'ç' | 'ć' | 'č' => 'c',
        'è'..='ë' | 'ē' | 'ę' | 'ě' => 'e',
        'ì'..='ï' | 'ī' | 'ı' => 'i',
        'ñ' | 'ń' => 'n',
        'ò'..='ö' | 'ø' | 'ō' | 'ő' => 'o',
        'ß' | 'ś' | 'š' | 'ş' => 's',
        'ù'..='ü' | 'ū' | 'ů' | 'ű' => 'u',
        'ý' | 'ÿ' => 'y',
        'ź' | 'ż' | 'ž' => 'z',
        'ğ' => 'g',
        'ł' => 'l',
        c => c,
    }
}
