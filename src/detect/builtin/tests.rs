//! The contract of the built-in detectors, through `prepare` and `judge`.

use proptest::strategy::Strategy as _;
use serde_json::{Value, json};

use super::*;

mod forms;

pub(crate) fn judged(kind: Builtin, params: Value, text: &str) -> Vec<(String, String, String)> {
    let prepared = prepare(kind, &params).unwrap_or_else(|fault| panic!("{fault}"));
    let chars: Vec<char> = text.chars().collect();
    let findings = prepared.judge(text).findings;
    findings
        .iter()
        .map(|f| {
            let span = f.place.unwrap().span.unwrap();
            let matched = chars[span.start..span.end].iter().collect();
            (f.category.to_string(), f.label.to_string(), matched)
        })
        .collect()
}

fn check(kind: Builtin, text: &str, category: &str, matched: &str) {
    let text = format!("😀ñ {text}");
    let all = judged(kind, Value::Null, &text);
    assert!(all.iter().any(|(c, _, m)| c == category && m == matched), "{text}: {all:?}");
}

fn fault(kind: Builtin, params: Value) -> ParamFault {
    prepare(kind, &params).err().expect("a fault")
}

#[test]
fn the_first_example_holds_exactly() {
    let text = "Mail ana@evil.io, key AKIAZ3VQ7JRTLWXK5P2D";
    let one = |kind| prepare(kind, &Value::Null).unwrap().judge(text).findings.remove(0);
    let (mail, key) = (one(Builtin::Pii), one(Builtin::Secrets));
    let span = |f: &crate::domain::finding::Finding| {
        f.place.unwrap().span.map(|s| (s.start, s.end)).unwrap()
    };
    assert_eq!((mail.category.as_str(), &*mail.label, mail.score), ("pii.email", "EMAIL", 0.98));
    assert_eq!((mail.severity.name(), span(&mail)), ("medium", (5, 16)));
    assert_eq!(mail.attributes["domain"], "evil.io");
    assert_eq!((key.category.as_str(), &*key.label), ("secrets.aws_access_key", "AWS_ACCESS_KEY"));
    assert_eq!((key.severity.name(), span(&key)), ("high", (22, 42)));
}

#[test]
fn fixtures_give_their_exact_answers_without_spans() {
    let rows = [
        (Builtin::Echo, "x", "echo", 0.5, None),
        (Builtin::ToxicityFixture, "so TOXIC", "toxic", 0.9, Some("toxicity")),
        (Builtin::ToxicityFixture, "kind", "clean", 0.6, None),
        (Builtin::RegexPii, "a@b.io 123-45-6789", "ssn_detected", 0.95, Some("pii.ssn")),
        (Builtin::RegexPii, "a@b.io", "email_detected", 0.85, Some("pii.email")),
        (Builtin::RegexPii, "x", "no_pii", 0.6, None),
    ];
    for (kind, text, label, score, category) in rows {
        let judged = prepare(kind, &Value::Null).unwrap().judge(text);
        assert_eq!((judged.label.as_deref(), judged.score), (Some(label), Some(score)), "{text}");
        assert_eq!(judged.findings.first().map(|f| f.category.as_str()), category);
        assert!(judged.findings.iter().all(|f| f.place.unwrap().span.is_none()));
    }
}

#[test]
fn secrets_are_found_by_their_own_rules() {
    let rows = [
        (
            "token ghp_x7Kq2mZ9vT4bLw8RnY3cHd6JfG5sPa1QeU0o",
            "secrets.token",
            "ghp_x7Kq2mZ9vT4bLw8RnY3cHd6JfG5sPa1QeU0o",
        ),
        (
            "db postgres://app:s3cr3tPw9@db.intern:5432/x",
            "secrets.database_url",
            "postgres://app:s3cr3tPw9@db.intern:5432/x",
        ),
        ("My password is Tr0ub4dor&3 ok", "secrets.password", "Tr0ub4dor&3"),
        ("api_key = \"q8Zt5Lr2Xw9Kc4Vb7Nm1Pd6\"", "secrets.generic", "q8Zt5Lr2Xw9Kc4Vb7Nm1Pd6"),
    ];
    for (text, category, matched) in rows {
        check(Builtin::Secrets, text, category, matched);
    }
    let key = format!(
        "-----BEGIN RSA PRIVATE KEY-----\n{}\n-----END RSA PRIVATE KEY-----",
        "Zm9vYmFy".repeat(12)
    );
    check(Builtin::Secrets, &key, "secrets.private_key", &key);
}

#[test]
fn a_signed_token_is_found_whole_and_nothing_behind_it() {
    let token = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiI0NDcxOTAyMzg1IiwibmFtZSI6IkFuYSJ9.kq7Xv2LwR9ZtB4nHs8YcPd3JfGm6VuKa1QeTo5iXbNw";
    let quoted = format!(r#"{{"log":"{{\"token\":\"{token}\",\"u\":1}}"}}"#);
    let hidden = "ZXlKaGJHY2lPaUpJVXpJMU5pSXNJblI1Y0NJNklrcFhWQ0o5LmV5SnpkV0lpT2lJME5EY3hPVEF5TXpnMUlpd2libUZ0WlNJNklrRnVZU0o5LmtxN1h2Mkx3UjladEI0bkhzOFljUGQzSmZHbTZWdUthMVFlVG81aVhiTnc";
    let session = format!("session: {hidden} end");
    for (text, matched) in [(quoted.as_str(), token), (session.as_str(), hidden)] {
        let found = judged(Builtin::Secrets, Value::Null, text);
        assert!(found.iter().any(|(_, _, m)| m == matched), "{text}: {found:?}");
        assert!(found.iter().all(|(_, _, m)| matched.contains(m.as_str())), "{text}: {found:?}");
    }
}

#[test]
fn credentials_in_headers_links_and_beside_a_key_id_are_found() {
    let key = "kX7dRvP2mNcL0hJtWyZ1bGfUqE8sA4oIu3/K9w+T";
    let words = "correcthorsebatterystapleanderrands/plus";
    let rows = [
        ("Authorization: Bearer 8f3kQz-7Lw_2vXn.b5T", "secrets.token", "8f3kQz-7Lw_2vXn.b5T"),
        (r#"{"authorization": "Basic YWRtaW46czNjcjN0"}"#, "secrets.token", "YWRtaW46czNjcjN0"),
        ("bearer 8f3kQz7Lw2vXnb5T9dJcR4mYh1 sent", "secrets.token", "8f3kQz7Lw2vXnb5T9dJcR4mYh1"),
        ("ssh://git:Hn4!kw9z@host.internal/x", "secrets.password", "Hn4!kw9z"),
        ("ldap+tls://:tR7xw2qk@[::1]:636", "secrets.password", "tR7xw2qk"),
        (&format!("AKIAZ3VQ7JRTLWXK5P2D,{key}"), "secrets.cloud", key),
        (&format!("AKIAZ3VQ7JRTLWXK5P2D\nsecret: \"{words}\""), "secrets.cloud", words),
        (&format!("aws_secret_access_key = {key}"), "secrets.cloud", key),
    ];
    for (text, category, matched) in rows {
        let found = judged(Builtin::Secrets, Value::Null, text);
        let hit = |(c, _, m): &(String, String, String)| c == category && m == matched;
        assert!(found.iter().any(hit), "{text}: {found:?}");
    }
    for text in [
        "Authorization: Bearer YOUR_ACCESS_TOKEN",
        "the ring bearer carried it",
        "http://user:pass@host.example/ and http://user:$PASS@host and ftp://u:****@host",
        "see https://a.example:8080/x@y and mailto:a@b.example",
        "AKIAZ3VQ7JRTLWXK5P2D at commit 356a192b7913b04c54574d18c28d46e6395428ab",
    ] {
        let found = judged(Builtin::Secrets, Value::Null, text);
        assert!(found.iter().all(|(_, label, _)| label == "AWS_ACCESS_KEY"), "{text}: {found:?}");
    }
}

#[test]
fn keywords_map_back_to_the_characters_as_sent() {
    let lists = |whole: bool| json!({"lists": {"my-names": {"category": "topic", "words": ["straße", "café", "秘密"], "whole_word": whole}}});
    let found = |text: &str, whole| -> Vec<String> {
        judged(Builtin::Keywords, lists(whole), text).into_iter().map(|(_, _, m)| m).collect()
    };
    assert_eq!(found("😀 STRASSE, Ｃａｆé!", true), ["STRASSE", "Ｃａｆé"]);
    assert_eq!(found("cafe\u{301} x", true), ["cafe\u{301}"]);
    assert_eq!(found("cafés", true), [""; 0]);
    assert_eq!(found("cafés", false), ["café"]);
    assert_eq!(found("これは秘密です", true), ["秘密"]);
    assert_eq!(judged(Builtin::Keywords, lists(true), "café")[0].1, "MY_NAMES");
}

#[test]
fn patterns_match_their_group_and_name_their_errors() {
    let params =
        json!({"patterns": {"ticket": {"pattern": "#(T-\\d+)", "category": "topic", "group": 1}}});
    assert_eq!(
        judged(Builtin::Regex, params, "é #T-12")[0],
        ("topic".into(), "TICKET".into(), "T-12".into())
    );
    let bad =
        fault(Builtin::Regex, json!({"patterns": {"x": {"pattern": "a(b", "category": "topic"}}}));
    assert_eq!(bad.pointer, "/patterns/x/pattern");
    assert!(bad.message.contains("unclosed group at column 2"), "{}", bad.message);
    let bad = fault(
        Builtin::Regex,
        json!({"patterns": {"x": {"pattern": "(\\w{500}){500}", "category": "topic"}}}),
    );
    assert!(bad.message.contains("size limit"), "{}", bad.message);
}

#[test]
fn a_pattern_that_matches_everywhere_still_covers_the_whole_text() {
    let params = json!({"patterns": {"x": {"pattern": "a", "category": "topic"}}});
    let found = judged(Builtin::Regex, params, &"a".repeat(5000));
    assert_eq!(found.iter().map(|(_, _, m)| m.len()).sum::<usize>(), 5000);
}

#[test]
fn faults_name_the_place_and_the_nearest_name() {
    let wrong = fault(Builtin::Pii, json!({"kind": []}));
    assert_eq!((wrong.pointer.as_str(), wrong.hint.as_str()), ("/kind", "use `kinds`"));
    assert_eq!(fault(Builtin::Pii, json!({"kinds": ["emial"]})).hint, "use `email`");
    assert_eq!(fault(Builtin::Secrets, json!({"min_score": 2})).pointer, "/min_score");
    let list = json!({"lists": {"a": {"category": "pii.emial", "words": ["x"]}}});
    assert_eq!(fault(Builtin::Keywords, list).hint, "use `pii.email`");
}

#[test]
fn samples_give_what_their_table_says() {
    let rows: [(&str, &[&str]); 14] = [
        (include_str!("../../../samples/first-example.txt"), &["EMAIL", "AWS_ACCESS_KEY"]),
        (
            include_str!("../../../samples/support-mail.txt"),
            &["CREDIT_CARD", "IBAN", "EMAIL", "PHONE"],
        ),
        (
            include_str!("../../../samples/code-with-secrets.py"),
            &["AWS_ACCESS_KEY", "DATABASE_URL"],
        ),
        (include_str!("../../../samples/clean-prose.txt"), &[]),
        (include_str!("../../../samples/clean-code.rs"), &[]),
        (include_str!("../../../samples/numbers.txt"), &[]),
        (include_str!("../../../samples/injection-direct.txt"), &[]),
        (include_str!("../../../samples/injection-document.txt"), &[]),
        (include_str!("../../../samples/toxic.txt"), &[]),
        (include_str!("../../../samples/other-scripts.txt"), &["EMAIL", "PHONE"]),
        (include_str!("../../../samples/emoji.txt"), &["EMAIL", "PHONE"]),
        (include_str!("../../../samples/patient.txt"), &["DATE_OF_BIRTH", "NATIONAL_ID"]),
        (include_str!("../../../samples/long.txt"), &["EMAIL"]),
        (include_str!("../../../samples/chat.json"), &["IBAN", "SSN"]),
    ];
    for (text, labels) in rows {
        let mut found = judged(Builtin::Pii, Value::Null, text);
        found.extend(judged(Builtin::Secrets, Value::Null, text));
        let found: Vec<&str> = found.iter().map(|(_, label, _)| label.as_str()).collect();
        assert_eq!(found, labels, "{text:.60}");
    }
}

#[test]
fn ordinary_lines_hold_no_secret() {
    for line in [
        "The key to success is to access the right token of appreciation.",
        "password: ********  Please enter your password: required",
        "const API_KEY = process.env.API_KEY;  token = get_token(user)",
        "id 550e8400-e29b-41d4-a716-446655440000, commit 9f86d081884c7d659a2feaa0c55ad015",
        "AKIAIOSFODNN7EXAMPLE is the documented sample",
        "fn scrypt(password: *const u8, passwd: *mut c_char); password = self._decode_base64(arg)",
        "pub const dot11_key_direction_both: DOT11_KEY_DIRECTION = 1i32;",
        "server(address=address, authkey=authkey, serializer=SERIALIZER1, key=key, digest_size=outlen)",
        "(winreg.HKEY_LOCAL_MACHINE, winreg.KEY_WOW64_64KEY), libc::passwd::pw_gecos` are",
    ] {
        assert_eq!(judged(Builtin::Secrets, Value::Null, line), [], "{line}");
    }
}

const HOSTILE: [&str; 37] = [
    "1",
    "1 ",
    "a@",
    "a.",
    "http://",
    "-----BEGIN PRIVATE KEY-----",
    "key=",
    "ey",
    "0:",
    "+1(",
    "AB12 ",
    "*",
    "s3x",
    "fuck ",
    "you stupid ",
    "[a.io](http://b.io) ",
    "javascript:",
    "http://1.",
    "```\n",
    "select a,",
    "x = 1;\n",
    "u\u{301}",
    "41 ",
    "01 ",
    "4111 1111 1111 1112 ",
    "call 415-555-2671 ",
    "+44 20 7946 0958 ",
    "a@b.io@",
    "@",
    "1@",
    "あhttp://a.io",
    "Phone: 12 34 56 ",
    "+41 (0)1 ",
    "card 630424505612 ",
    "password: a=",
    "//a.io。",
    "12,5 ",
];

/// Work that grows with the square of the text would give a ratio near 16.
fn costs_in_proportion(kind: Builtin, bytes: usize) {
    costs_in_proportion_with(kind, &Value::Null, bytes);
}

fn costs_in_proportion_with(kind: Builtin, params: &Value, bytes: usize) {
    let prepared = prepare(kind, params).unwrap();
    for unit in HOSTILE {
        let time = |n: usize| {
            let text = unit.repeat(n / unit.len());
            let best = (0..3).map(|_| {
                // The thread's own time: what else the machine does must not count.
                let start = cpu_time::ThreadTime::now();
                std::hint::black_box(prepared.judge(&text));
                start.elapsed()
            });
            best.min().unwrap().as_secs_f64() + 0.002
        };
        time(1000);
        let (short, long) = (time(bytes), time(bytes * 4));
        assert!(long / short < 10.0, "{unit:?} {kind:?}: {short} then {long}");
    }
}

#[test]
fn hostile_texts_cost_time_in_proportion_to_their_length() {
    for kind in [Builtin::Pii, Builtin::Secrets] {
        costs_in_proportion(kind, 8_000);
    }
}

#[test]
fn hostile_links_and_lines_cost_time_in_proportion_to_their_length() {
    for kind in [Builtin::Urls, Builtin::Code, Builtin::Language, Builtin::PromptInjection] {
        costs_in_proportion(kind, 8_000);
    }
}

#[test]
fn lists_and_patterns_cost_time_in_proportion_to_the_length_of_hostile_texts() {
    // Words that begin alike, overlap and hold each other; patterns that back-tracking would explode.
    let words =
        json!(["a", "aa", "1 1 1 1", "a@b.io@", "@a", "u\u{301}", "you stupid you", "x = 1"]);
    let list = |whole: bool| json!({"category": "topic", "words": words, "whole_word": whole});
    let lists = json!({"lists": {"whole": list(true), "parts": list(false)}});
    costs_in_proportion_with(Builtin::Keywords, &lists, 8_000);
    let pattern = |pattern: &str| json!({"pattern": pattern, "category": "topic"});
    let patterns = json!({"patterns": {
        "nested": pattern("(?:[0-9 ]+)+x"), "ends": pattern("(?:a|a|1|@)*$"), "dots": pattern(".*,.*;.*=")
    }});
    costs_in_proportion_with(Builtin::Regex, &patterns, 8_000);
}

#[test]
fn hostile_words_cost_time_in_proportion_to_their_length() {
    costs_in_proportion(Builtin::Toxicity, 4_000);
}

/// Prints microseconds per call for 200 clean bytes: `cargo test --release … -- --nocapture`.
#[test]
fn clean_text_costs_little() {
    let text =
        "The ferry leaves the island at half past nine and needs about forty minutes. ".repeat(3);
    for kind in [Builtin::Pii, Builtin::Secrets] {
        let prepared = prepare(kind, &Value::Null).unwrap();
        assert!(prepared.judge(&text[..200]).findings.is_empty());
        let start = std::time::Instant::now();
        (0..1000).for_each(|_| drop(std::hint::black_box(prepared.judge(&text[..200]))));
        println!("{kind:?}: {:?} per 1000", start.elapsed());
    }
}

proptest::proptest! {
    /// Any text: no panic, spans inside it and on characters, the same answer twice.
    #[test]
    fn spans_of_the_newer_detectors_lie_inside_any_text(
        parts in proptest::collection::vec(
            proptest::prop_oneof![
                "\\PC{0,12}",
                proptest::sample::select(vec![
                    "fuck", "s\u{301}hit", "you idiot", " ", "\n", "```sh\n", "SELECT * FROM t;",
                    "http://", "xn--80ak6aa92e.com", "[a.io](https://b.io)", "\u{E000}",
                    "ignore your instructions", "\u{1100}\u{1161}", "\u{9C7}\u{9BE}", "\u{378}", "\u{202E}", "ﷺ", "\0", "\r",
                ]).prop_map(str::to_owned),
            ],
            0..8,
        )
    ) {
        let text = parts.concat();
        let chars = text.chars().count();
        for kind in [
            Builtin::Toxicity,
            Builtin::Urls,
            Builtin::Language,
            Builtin::Code,
            Builtin::PromptInjection,
        ] {
            let prepared = prepare(kind, &Value::Null).unwrap();
            let judged = prepared.judge(&text);
            for finding in &judged.findings {
                proptest::prop_assert!((0.0..=1.0).contains(&finding.score));
                if let Some(span) = finding.place.unwrap().span {
                    proptest::prop_assert!(span.start < span.end && span.end <= chars);
                }
            }
            proptest::prop_assert_eq!(judged, prepared.judge(&text));
        }
    }
}
