//! What a find of the lexicon is worth. The lexicon sees disguises everywhere (`H2O`, `Scunthorpe`);
//! only a word that is crude in itself, or said to somebody, reaches the usual threshold.

use std::ops::Range;
use std::sync::LazyLock;

use ::regex::Regex;
use unicode_normalization::UnicodeNormalization as _;
use unicode_normalization::char::is_combining_mark;
use unicode_security::skeleton;

use super::{Class, phrases};
use crate::domain::finding::Severity;

/// Beginnings of words that are crude whatever is meant.
const CRUDE: &str = "ahole arsehole asshole asswipe assclown azzhole asshat beaner beetch bellend \
    biatch biotch bitch blowjob boobs chink clusterfuck cocksuck cuck cumshot cumslut cunt deepthroat \
    dickhead dickwad dipshit dirtbag douche dumbass faggot fagot fag fatass fck fcuk fuck fuk gangbang \
    gook gtfo handjob hentai horny imbecile jackass jerkoff jizz kike kys lardass libtard milf mofo \
    moron nigga niggah nigger phuck phuk porn pussy raghead retards rimjob scum scumbag shemale shit \
    skank sleazebag slut spic stfu thot titties towelhead trannie tranny turd twat wank wetback whore";

/// Words with an ordinary meaning too: crude only behind certain words.
const AMBIGUOUS: &str = "arse ass balls bastard boob cock coon cretin cum dick dildo dyke hoe prick \
    retard retarded tit";

const BEFORE_CRUDE: &str = "mother mutha motha muther bull horse bat ape dip dumb jack fat smart lard \
    cluster mind un ass butt dick cock cunt whore skull rat brain goat piss shit fuck chicken dog pig \
    sand face";

const AFTER_CRUDE: &str = "s es ez ed er ers y ies ie ing ings in ish head heads hole holes face faces \
    bag bags wad wads wit wits tard tards ass able ty show shows storm stain stains load loads hat \
    hats boy boys fest ery lord lords stick sticks sucker suckers licker lickers job jobs off up wipe \
    wipes ton tons nut nuts you";

/// Several words that are an insult together.
const PHRASES: &str = r"^(?:(?:go\s)?(?:and\s)?kill\s(?:your|ur|yo)\s?sel(?:f|ves)
    |shut\sthe\s(?:fuck|hell)\sup|piece\sof\s(?:shit|crap)|white\strash|suck\s(?:it|my\b.*)|eat\sshit
    |drop\sdead|(?:rot|burn)\sin\shell|go\sto\shell|(?:you\s)?deserve\sto\sdie|hang\syourself|gang\s?bang
    |blow\s?job|hand\s?job|jerk(?:ing)?\soff|bull\s?shit|die\sin\sa\sfire|son\sof\sa\s(?:bitch|whore)
    |go\sdie|please\sdie|your\smom\b.*)$";

/// What stands before an ambiguous word that is meant badly.
const LEAD: &str = r"(?:^|[^\p{L}\p{N}])(?:my|your|ur|you|u|this|that|these|his|her|their|what\san?
    |such\san?|fuck\w*|damn|stupid|dumb|little|big|fat|nice|suck\w*|lick\w*|kick\w*|kiss\w*|hard|wet|tight
    |huge|hot|dirty|filthy|dead|smart|lazy|sorry|whole|ugly|rich|lying|cheating|evil|selfish|cheap|crazy
    |show|eat\w*|grab\w*|whoop\w*|beat\w*)(?:[\s,'-]+\w+)?[\s,'-]*$";

/// `shut up` is an order at the beginning of what is said, elsewhere often a story.
const ORDER: &str =
    r"(?:^|[.!?,;:\n]\s*|\byou\s+(?:guys\s+)?(?:should\s+)?)(?:just\s+|please\s+|so\s+|now\s+)?$";

/// A word that is spoken about is not used: `the word "bitch"`, `called her a slut`.
const MENTION: &str = r#"(?:\b(?:word|term|phrase|expression|slur|insult|epithet)s?(?:\s+(?:such\s+as|like))?
    |\b[Cc]all(?:ed|ing|s)\s+(?:him|her|me|them|us|people|some(?:body|one)|\p{Lu}\w+)\s+(?:an?\s+)?
    |\b(?:was|were|being|been)\s+called\s+(?:an?\s+)?)[\s"'“”‘’«]*$"#;

struct Rules {
    crude: Regex,
    ambiguous: Regex,
    phrases: Regex,
    lead: Regex,
    order: Regex,
    mention: Regex,
}

#[expect(clippy::expect_used, reason = "the patterns are constant and compiled by a test")]
static RULES: LazyLock<Rules> = LazyLock::new(|| {
    let (before, after) = (plain_words(BEFORE_CRUDE), plain_words(AFTER_CRUDE));
    let new = |pattern: &str| Regex::new(&format!("(?x){pattern}")).expect("constant");
    let folded = |pattern: &str| new(&format!("(?i){pattern}"));
    Rules {
        crude: new(&format!("^(?:{before})?(?:{})(?:{after}){{0,2}}$", disguised(CRUDE))),
        ambiguous: new(&format!("^(?:{})(?:s|es)?$", disguised(AMBIGUOUS))),
        phrases: new(PHRASES),
        lead: folded(LEAD),
        order: folded(ORDER),
        mention: new(MENTION),
    }
});

/// Characters before a word that are looked at.
const BEFORE: usize = 40;

/// The words around `run` and what they are worth; nothing where the find is by chance.
pub(super) fn weigh(text: &str, run: Range<usize>, class: Class) -> Option<(Range<usize>, Class)> {
    let run = trimmed(text, run)?;
    let whole = widened(text, &run);
    let own = text.get(run.clone())?;
    if is_spelled_out(own) {
        let joined: String = own.split_whitespace().collect();
        let sure = run == whole && joined.chars().nth(3).is_some() && is_crude(&folded(&joined));
        return sure.then_some((whole, class));
    }
    let said = folded(text.get(whole.clone())?);
    let before = text.get(..whole.start)?;
    let from = before.char_indices().rev().take(BEFORE).last().map_or(0, |(from, _)| from);
    let before = before.get(from..)?;
    let mild = (class.0, Severity::Low);
    // With a capital letter it is a name.
    let small = ["dick", "dicks"].contains(&own);
    let crude =
        small || said.split_whitespace().any(has_crude) || RULES.phrases.is_match(&unmasked(&said));
    if crude || is_meant(&said, before) {
        let told = class.0 != "hate.identity" && RULES.mention.is_match(before);
        let sure = (class.0, class.1.max(Severity::Medium));
        return Some((whole, if told { mild } else { sure }));
    }
    if said == "shut up" {
        return Some((whole, if RULES.order.is_match(before) { class } else { mild }));
    }
    let to_you = phrases::insult(text, whole.start) > Severity::Low;
    let aimed = class.0 == "toxicity.insult" || class.0 == "toxicity.obscene";
    if to_you && aimed && plain(&unmasked(&said)) {
        return Some((whole, (class.0, class.1.max(Severity::Medium))));
    }
    (run == whole && own.chars().all(char::is_alphabetic)).then_some((whole, mild))
}

/// Without spaces and punctuation at the ends, which the lexicon reads over.
fn trimmed(text: &str, run: Range<usize>) -> Option<Range<usize>> {
    let own = text.get(run.clone())?;
    let edge = |c: char| c.is_whitespace() || ",.;:<>()/\"'“”‘’?=&[]{}#".contains(c);
    let start = run.start + own.len() - own.trim_start_matches(edge).len();
    let end = run.start + own.trim_end_matches(edge).len();
    (start < end).then_some(start..end)
}

/// Grown to the ends of the words that it touches.
fn widened(text: &str, run: &Range<usize>) -> Range<usize> {
    let inner = |c: &char| c.is_alphanumeric();
    let before = text.get(..run.start).unwrap_or_default().chars().rev().take_while(inner);
    let after = text.get(run.end..).unwrap_or_default().chars().take_while(inner);
    let bytes = |c: char| c.len_utf8();
    run.start - before.map(bytes).sum::<usize>()..run.end + after.map(bytes).sum::<usize>()
}

/// `s h i t`: one character, one space.
fn is_spelled_out(own: &str) -> bool {
    let mut words = own.split_whitespace().peekable();
    let several = words.clone().nth(1).is_some();
    words.peek().is_some() && several && words.all(|word| word.chars().nth(1).is_none())
}

/// Lower case, look-alikes as the Latin letters that they look like.
fn folded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.nfkc() {
        match c.is_ascii() {
            true => out.push(c.to_ascii_lowercase()),
            false => {
                let one = c.to_lowercase().collect::<String>();
                out.extend(skeleton(&one).filter(|c| !is_combining_mark(*c)));
            }
        }
    }
    out
}

/// Digits and signs in the middle of words as the letters that they stand for.
fn unmasked(said: &str) -> String {
    let mask = |c: char| match c {
        '0' => 'o',
        '1' | '!' => 'i',
        '3' => 'e',
        '4' | '@' => 'a',
        '5' | '$' => 's',
        '7' => 't',
        c if c.is_whitespace() => ' ',
        c => c,
    };
    said.chars().map(mask).collect()
}

fn plain(said: &str) -> bool {
    said.chars().all(|c| c.is_alphabetic() || c == ' ')
}

fn has_crude(word: &str) -> bool {
    is_crude(word) || word.split(['-', '\'', '’']).any(is_crude)
}

fn is_crude(word: &str) -> bool {
    let word: String = word.chars().filter(|c| !"._-~/\\^,\"".contains(*c)).collect();
    let letters = word.chars().filter(|c| c.is_alphabetic()).count();
    letters * 2 >= word.chars().count() && RULES.crude.is_match(&word)
}

/// Whether the last word is ambiguous and the words before it show what is meant.
fn is_meant(said: &str, before: &str) -> bool {
    let (rest, last) = said.rsplit_once(char::is_whitespace).unwrap_or(("", said));
    RULES.ambiguous.is_match(last) && (RULES.lead.is_match(before) || RULES.lead.is_match(rest))
}

fn plain_words(words: &str) -> String {
    words.split_whitespace().collect::<Vec<_>>().join("|")
}

/// Each letter once or more, or a sign that stands for it.
fn disguised(words: &str) -> String {
    let letter = |c: char| match c {
        'a' => "[a4@*%]+".to_owned(),
        'b' => "[b8]+".to_owned(),
        'c' => "[c(*%]+".to_owned(),
        'e' => "[e3*%]+".to_owned(),
        'g' => "[g9]+".to_owned(),
        'i' => "[i1!|l*%]+".to_owned(),
        'l' => "[l1|!]+".to_owned(),
        'o' => "[o0*%]+".to_owned(),
        's' => "[s5$]+".to_owned(),
        't' => "[t7+]+".to_owned(),
        'u' => "[uv*%]+".to_owned(),
        c => format!("{c}+"),
    };
    let word = |word: &str| word.chars().map(letter).collect::<String>();
    words.split_whitespace().map(word).collect::<Vec<_>>().join("|")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crude_word_is_seen_whole_with_its_beginning_and_end() {
        for word in
            ["fucking", "bullshit", "sh1t", "f**k", "a$$hole", "shitheads", "ѕhіt", "ｃｕｎｔ"]
        {
            assert!(has_crude(&folded(word)), "{word}");
        }
    }

    #[test]
    fn a_word_that_only_holds_a_crude_one_is_not_crude() {
        for word in
            ["scunthorpe", "matsushita", "phuket", "shiitake", "middlesex", "5-ht", "who're"]
        {
            assert!(!has_crude(&folded(word)), "{word}");
        }
    }
}
