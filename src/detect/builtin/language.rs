//! Which language and script a text is written in, by `whatlang`; says nothing where it is unsure.

use std::collections::BTreeMap;

use unicode_normalization::UnicodeNormalization as _;
use unicode_normalization::char::is_combining_mark;
use whatlang::{Info, Script};

use super::Judged;
use super::params::{ParamFault, Params};
use crate::domain::category::Category;
use crate::domain::finding::{Finding, Place, Severity};

/// Letters below which a script that many languages share tells too little.
const LETTERS_MIN: usize = 20;
/// The same for a script that belongs to one language.
const OWN_LETTERS_MIN: usize = 4;

/// ISO 639-3 and the shorter code that BCP 47 prefers. Codes without one stay as they are.
const SHORT: &[(&str, &str)] = &[
    ("afr", "af"),
    ("aka", "ak"),
    ("amh", "am"),
    ("ara", "ar"),
    ("aze", "az"),
    ("bel", "be"),
    ("ben", "bn"),
    ("bul", "bg"),
    ("cat", "ca"),
    ("ces", "cs"),
    ("cmn", "zh"),
    ("cym", "cy"),
    ("dan", "da"),
    ("deu", "de"),
    ("ell", "el"),
    ("eng", "en"),
    ("epo", "eo"),
    ("est", "et"),
    ("fin", "fi"),
    ("fra", "fr"),
    ("guj", "gu"),
    ("heb", "he"),
    ("hin", "hi"),
    ("hrv", "hr"),
    ("hun", "hu"),
    ("hye", "hy"),
    ("ind", "id"),
    ("ita", "it"),
    ("jav", "jv"),
    ("jpn", "ja"),
    ("kan", "kn"),
    ("kat", "ka"),
    ("khm", "km"),
    ("kor", "ko"),
    ("lat", "la"),
    ("lav", "lv"),
    ("lit", "lt"),
    ("mal", "ml"),
    ("mar", "mr"),
    ("mkd", "mk"),
    ("mya", "my"),
    ("nep", "ne"),
    ("nld", "nl"),
    ("nob", "nb"),
    ("ori", "or"),
    ("pan", "pa"),
    ("pes", "fa"),
    ("pol", "pl"),
    ("por", "pt"),
    ("ron", "ro"),
    ("rus", "ru"),
    ("sin", "si"),
    ("slk", "sk"),
    ("slv", "sl"),
    ("sna", "sn"),
    ("spa", "es"),
    ("srp", "sr"),
    ("swe", "sv"),
    ("tam", "ta"),
    ("tel", "te"),
    ("tgl", "tl"),
    ("tha", "th"),
    ("tuk", "tk"),
    ("tur", "tr"),
    ("ukr", "uk"),
    ("urd", "ur"),
    ("uzb", "uz"),
    ("vie", "vi"),
    ("yid", "yi"),
    ("zul", "zu"),
];

pub(super) struct Language {
    min_score: f64,
}

impl Language {
    pub(super) fn prepare(params: &Params) -> Result<Self, ParamFault> {
        params.only(&["min_score"])?;
        Ok(Self { min_score: params.score("min_score", 0.9)? })
    }

    /// At most one finding, on the whole text.
    pub(super) fn judge(&self, text: &str) -> Judged {
        let text = letters(text);
        let info = whatlang::detect(&text).filter(|info| self.is_sure(&text, info));
        let finding = info.and_then(|info| finding(&info));
        Judged { findings: finding.into_iter().collect(), ..Judged::default() }
    }

    fn is_sure(&self, text: &str, info: &Info) -> bool {
        let least = if info.script().langs().len() > 1 && info.script() != Script::Mandarin {
            LETTERS_MIN
        } else {
            OWN_LETTERS_MIN
        };
        let letters = text.chars().filter(|c| c.is_alphabetic()).take(least).count();
        info.confidence() >= self.min_score && letters == least
    }
}

/// The text without full-width forms and signs, which the library counts as Hangul.
fn letters(text: &str) -> String {
    let kept = |c: char| c.is_alphabetic() || c.is_ascii() || is_combining_mark(c);
    text.nfkc().map(|c| if kept(c) { c } else { ' ' }).collect()
}

fn finding(info: &Info) -> Option<Finding> {
    let code = info.lang().code();
    let short = SHORT.iter().find(|(long, _)| *long == code).map_or(code, |(_, short)| short);
    let attribute = |key: &str, value: &str| (key.to_owned(), value.to_lowercase());
    Some(Finding {
        category: Category::parse("language").ok()?,
        label: short.into(),
        score: info.confidence().clamp(0.0, 1.0),
        severity: Severity::Low,
        place: Some(Place { piece: 0, span: None }),
        view: None,
        attributes: BTreeMap::from([
            attribute("language", short),
            attribute("script", info.script().name()),
        ]),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> Option<(String, String)> {
        let language = Language { min_score: 0.9 };
        let found = language.judge(text).findings;
        assert!(found.iter().all(|finding| finding.place.unwrap().span.is_none()));
        found.first().map(|f| (f.label.to_string(), f.attributes["script"].clone()))
    }

    #[test]
    fn a_sentence_is_named_by_its_language_and_script() {
        for (text, language, script) in [
            (
                "The meeting moved to Tuesday because nobody could come on Monday morning.",
                "en",
                "latin",
            ),
            (
                "Das Treffen wurde auf Dienstag verschoben, weil am Montag niemand kommen konnte.",
                "de",
                "latin",
            ),
            (
                "La réunion a été déplacée à mardi parce que personne ne pouvait venir lundi.",
                "fr",
                "latin",
            ),
            ("Я думаю, что это хорошая идея и мы должны её попробовать.", "ru", "cyrillic"),
            ("Η συνάντηση μεταφέρθηκε την Τρίτη", "el", "greek"),
            ("会議は火曜日に変更されました。", "ja", "mandarin"),
            (
                "資料は１２ページです。価格は￥１，２００。「ソフトウェア」の「価格」！！",
                "ja",
                "katakana",
            ),
            ("회의가 화요일로 옮겨졌습니다", "ko", "hangul"),
            ("การประชุมถูกย้ายไปวันอังคาร", "th", "thai"),
        ] {
            assert_eq!(said(text), Some((language.to_owned(), script.to_owned())), "{text}");
        }
    }

    #[test]
    fn a_text_that_tells_too_little_is_not_guessed_at() {
        for text in ["", "ok", "Hello there", "1234 !!", "no", "😀", "Berlin Madrid", "α"] {
            assert_eq!(said(text), None, "{text}");
        }
    }

    #[test]
    fn every_language_has_the_code_that_bcp_47_prefers() {
        let long: Vec<&str> = SHORT.iter().map(|(long, _)| *long).collect();
        assert!(long.is_sorted_by(|a, b| a < b));
        for language in whatlang::Lang::all() {
            assert!(long.contains(&language.code()), "{}", language.code());
        }
    }
}
