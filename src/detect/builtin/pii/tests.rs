//! Vectors per kind, and what must not be found.

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::catalog::detector::Builtin;
use crate::detect::builtin::prepare;
use crate::detect::builtin::tests::judged;

fn found(text: &str) -> Vec<(String, String)> {
    judged(Builtin::Pii, Value::Null, text).into_iter().map(|(c, _, m)| (c, m)).collect()
}

#[test]
fn scripts_without_spaces_and_emoji_hide_and_lengthen_nothing() {
    for (text, kind, matched) in [
        ("邮箱是ana@evil.io。", "email", "ana@evil.io"),
        ("ส่งมาที่ana@evil.io.thได้เลย", "email", "ana@evil.io.th"),
        ("메일은 ana@evil.io입니다", "email", "ana@evil.io"),
        ("🏳️‍🌈ana@evil.io🏳️‍🌈", "email", "ana@evil.io"),
        ("卡号是4242 4242 4242 4242，", "credit_card", "4242 4242 4242 4242"),
        ("电话+81 3-1234-5678です", "phone", "+81 3-1234-5678"),
        ("账户DE89370400440532013000。", "iban", "DE89370400440532013000"),
        ("jörg@straße.example.de", "email", "jörg@straße.example.de"),
        ("nguyễn@example.vn", "email", "nguyễn@example.vn"),
        ("用户@example.cn", "email", "用户@example.cn"),
    ] {
        assert_eq!(found(text), [(format!("pii.{kind}"), matched.to_owned())], "{text}");
    }
    assert_eq!(found("éDE89370400440532013000"), []);
}

#[test]
fn each_kind_is_found_behind_characters_of_any_width() {
    let rows = [
        ("email", "to ana.b+x@mail.example.co.uk.", "ana.b+x@mail.example.co.uk"),
        ("phone", "call +44 20 7946 0958 now", "+44 20 7946 0958"),
        ("phone", "dial (415) 555-2671 or", "(415) 555-2671"),
        ("credit_card", "card 4111 1111 1111 1111 12/27", "4111 1111 1111 1111"),
        ("credit_card", "amex 3782-822463-10005", "3782-822463-10005"),
        ("iban", "IBAN GB82 WEST 1234 5698 7654 32 PLEASE", "GB82 WEST 1234 5698 7654 32"),
        ("iban", "DE89370400440532013000", "DE89370400440532013000"),
        ("iban", "pay de89 3704 0044 0532 0130 00 today", "de89 3704 0044 0532 0130 00"),
        ("iban", "DE89-3704-0044-0532-0130-00", "DE89-3704-0044-0532-0130-00"),
        ("ssn", "SSN 536-90-4399.", "536-90-4399"),
        ("ip_address", "from 203.0.113.77 at", "203.0.113.77"),
        ("ip_address", "host 2001:db8::8a2e:370:7334 up", "2001:db8::8a2e:370:7334"),
        ("mac_address", "mac 3C:22:FB:1A:9E:07", "3C:22:FB:1A:9E:07"),
        ("url", "see https://a.example.org/x?y=1.", "https://a.example.org/x?y=1"),
        ("date_of_birth", "born on 12 March 1985 in", "12 March 1985"),
        (
            "crypto_wallet",
            "btc 1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa",
            "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa",
        ),
        ("national_id", "NHS 943 476 5919", "943 476 5919"),
        ("national_id", "Steuer-ID 86 095 742 719", "86 095 742 719"),
        ("national_id", "DNI 12345678Z", "12345678Z"),
        ("national_id", "NIE X1234567L", "X1234567L"),
        ("national_id", "NIR 2 55 08 14 168 025 38", "2 55 08 14 168 025 38"),
        ("national_id", "RSSMRA85T10A562S", "RSSMRA85T10A562S"),
        ("national_id", "BSN 111222333", "111222333"),
        ("national_id", "PESEL 44051401359", "44051401359"),
        ("national_id", "CPF 529.982.247-25", "529.982.247-25"),
        ("national_id", "Aadhaar 9999 4105 7058", "9999 4105 7058"),
        ("national_id", "AHV 756.9217.0769.85", "756.9217.0769.85"),
        ("national_id", "SIN 130 692 544", "130 692 544"),
    ];
    for (kind, text, matched) in rows {
        let text = format!("😀 é {text}");
        let all = found(&text);
        assert!(all.contains(&(format!("pii.{kind}"), matched.to_owned())), "{text}: {all:?}");
    }
}

#[test]
fn ordinary_lines_hold_nothing() {
    let lines = [
        "Release 1.2.3.4 came out on 2024-05-12 at 12:30:45.",
        "Order 123-4567890-1234567 costs $1,299.00 or 1.299,00 EUR.",
        "id 550e8400-e29b-41d4-a716-446655440000",
        "sha 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "let x = std::vec::Vec::<u8>::with_capacity(4096);",
        "icon@2x.png and lodash@4.17.21, git@github.com:a/b.git",
        "ts=1700000000000 pid 123456789 took 12.5 ms",
        "DE89370400440532013001 and 4111 1111 1111 1112 are wrong",
        "listen on 127.0.0.1 or 0.0.0.0 or ::1",
        "000-12-3456 and 666-12-3456 are none",
        "Meet on 12/03/2024, 10:00-11:30, room 204.",
        "de89370400440532013001 and gb82-west-1234-5698-7654-33 are wrong",
        "51 Franklin Street, Boston, MA 02110-1301, USA; we call it home",
        "call 0123456789",
    ];
    for line in lines {
        assert_eq!(found(line), [], "{line}");
    }
}

/// Kind, matched text and score of what is found.
fn scored(text: &str) -> Vec<(String, String, f64)> {
    let chars: Vec<char> = text.chars().collect();
    let findings = prepare(Builtin::Pii, &Value::Null).unwrap().judge(text).findings;
    let matched = |f: &crate::domain::finding::Finding| {
        let span = f.place.unwrap().span.unwrap();
        chars[span.start..span.end].iter().collect()
    };
    findings.iter().map(|f| (f.category.to_string(), matched(f), f.score)).collect()
}

#[test]
fn what_the_text_calls_a_telephone_number_is_one() {
    for (text, number) in [
        ("Phone: 92 34 70", "92 34 70"),
        ("Tel. 22 525335, please", "22 525335"),
        ("Mobile: 53-55-05-64\nDesk: -", "53-55-05-64"),
        ("Phone:\n02.73.91.27.04\n", "02.73.91.27.04"),
        ("Call me on 469 2020.", "469 2020"),
        ("71 671 623 office\n", "71 671 623"),
        ("Fax: 522-024-1958x230", "522-024-1958x230"),
        ("call 413-197-2529 ext. 895 now", "413-197-2529 ext. 895"),
        ("call me at +44(0)1632960535", "+44(0)1632960535"),
        ("mobile number is (88) 158-170", "(88) 158-170"),
        ("reach me by phone, 1 (664) 511-3790", "1 (664) 511-3790"),
    ] {
        assert_eq!(found(text), [("pii.phone".to_owned(), number.to_owned())], "{text}");
    }
    for text in [
        "Date: 1972-05-18 23:24:30.262985\nName: Ana\nPhone: none",
        "most recent call last: expected 50331648 bytes",
        "Fax: 2 pages, Phone: 2024-05-06, Tel.: 12",
        "About 20000000 mobile users came, 1 000 000 mobile users stayed",
        "Suite 041 477 20 Rue Hegel",
        "0718 1115 Ross Street",
    ] {
        assert_eq!(found(text), [], "{text}");
    }
}

#[test]
fn a_card_of_no_known_range_needs_a_word_and_a_check_digit() {
    for number in ["4354396509025", "180033343637578", "630424505612", "3506624453694424"] {
        let text = format!("Please block my card {number} today");
        assert_eq!(found(&text), [("pii.credit_card".to_owned(), number.to_owned())]);
        assert_eq!(found(&format!("Order {number} has been sent")), [], "{number}");
        let last = (number.as_bytes()[number.len() - 1] - b'0' + 1) % 10;
        let wrong = format!("card {}{last}", &number[..number.len() - 1]);
        assert_eq!(found(&wrong), [], "{wrong}");
    }
    assert_eq!(found("SIM card 89445001021987654329"), []);
}

#[test]
fn words_speak_for_what_stands_behind_them_or_on_their_line() {
    let score = |text: &str| scored(text)[0].2;
    assert!(score("IBAN DE89370400440532013000") > score("DE89370400440532013000"));
    assert!(score("4111 1111 1111 1111, my card") > score("4111 1111 1111 1111\n\nmy card"));
}

#[test]
fn attributes_name_the_domain_the_country_and_the_issuer() {
    for (text, key, value) in [
        ("ana@Mail.Evil.io", "domain", "mail.evil.io"),
        ("https://u:p@Evil.io:8080/x", "domain", "evil.io"),
        ("+44 20 7946 0958", "country", "GB"),
        ("call 415-555-2671", "country", "US"),
        ("DE89370400440532013000", "country", "DE"),
        ("DNI 12345678Z", "country", "ES"),
        ("4111 1111 1111 1111", "issuer", "visa"),
        ("card 630424505612", "issuer", "maestro"),
    ] {
        let finding = prepare(Builtin::Pii, &Value::Null).unwrap().judge(text).findings.remove(0);
        assert_eq!(finding.attributes.get(key).map(String::as_str), Some(value), "{text}");
    }
}

#[test]
fn a_pesel_needs_a_day_that_exists() {
    assert_eq!(found("44051401359"), [("pii.national_id".to_owned(), "44051401359".to_owned())]);
    assert_eq!(found("44054501353 44991401352 12345678901"), []);
}

#[test]
fn params_choose_kinds_and_let_domains_pass() {
    let text = "a@acme.com b@evil.io 203.0.113.77";
    let only = |params| {
        judged(Builtin::Pii, params, text).into_iter().map(|(_, _, m)| m).collect::<Vec<_>>()
    };
    assert_eq!(only(json!({"kinds": ["email"], "allow": ["acme.com"]})), ["b@evil.io"]);
    assert_eq!(only(json!({"min_score": 0.9})), ["a@acme.com", "b@evil.io"]);
}

#[test]
fn addresses_end_where_another_script_or_a_sign_begins() {
    let rows: [(&str, &[&str]); 22] = [
        ("ana@evil.ioとbob@evil.io", &["ana@evil.io", "bob@evil.io"]),
        ("请联系ana@evil.io或bob@evil.io谢谢", &["ana@evil.io", "bob@evil.io"]),
        ("ana@evil.io、bob@evil.io", &["ana@evil.io", "bob@evil.io"]),
        ("ana@evil.io😀bob@evil.io", &["ana@evil.io", "bob@evil.io"]),
        ("はana@evil.ioまで。はbob@evil.ioまで", &["ana@evil.io", "bob@evil.io"]),
        ("ส่งana@evil.io.thหรือbob@evil.ioได้", &["ana@evil.io.th", "bob@evil.io"]),
        ("ana@evil.io\u{200b}bob@evil.io", &["ana@evil.io", "bob@evil.io"]),
        ("البريدana@evil.ioشكرا", &["ana@evil.io"]),
        ("иван@почта.рф", &["иван@почта.рф"]),
        ("用户@例子.广告", &["用户@例子.广告"]),
        ("अजय@डाटा.भारत", &["अजय@डाटा.भारत"]),
        ("ana@evil。io", &["ana@evil。io"]),
        ("ana@evil.io。次の文", &["ana@evil.io"]),
        ("ana@evil.io.谢谢", &["ana@evil.io"]),
        ("_ana@evil.io_ *bob@evil.io* **c@evil.io**", &["ana@evil.io", "bob@evil.io", "c@evil.io"]),
        ("mail_ana@evil.io_x", &["mail_ana@evil.io"]),
        ("`ana@evil.io` x=bob@evil.io", &["ana@evil.io", "bob@evil.io"]),
        ("/ana@evil.io |bob@evil.io|", &["ana@evil.io", "bob@evil.io"]),
        ("ana@evil.io@foo.com", &["ana@evil.io@foo.com"]),
        ("'ana@evil.io' (o'hara@evil.io)", &["ana@evil.io", "o'hara@evil.io"]),
        ("a@x.example.com-and more", &["a@x.example.com"]),
        ("@all a@b a@4.17.21 *@evil.io a..b@evil.io", &["b@evil.io"]),
    ];
    for (text, mails) in rows {
        let found: Vec<_> = found(text).into_iter().map(|(_, matched)| matched).collect();
        assert_eq!(found, mails, "{text}");
    }
}

#[test]
fn links_end_where_another_script_begins() {
    for (text, link) in [
        ("詳細はhttp://evil.ioをご覧", "http://evil.io"),
        ("「http://evil.io」", "http://evil.io"),
        ("http://evil.io/a。次の文", "http://evil.io/a"),
        ("https://ja.example.org/wiki/日本語 と", "https://ja.example.org/wiki/日本語"),
        ("https://例え.jp/x", "https://例え.jp/x"),
    ] {
        assert_eq!(found(text), [("pii.url".to_owned(), link.to_owned())], "{text}");
    }
}

/// What of `text` no finding of the shipped detectors covers.
fn uncovered(text: &str) -> String {
    let mut left: Vec<char> = text.chars().collect();
    for kind in [Builtin::Pii, Builtin::Secrets] {
        for finding in prepare(kind, &Value::Null).unwrap().judge(text).findings {
            let span = finding.place.unwrap().span.unwrap();
            left[span.start..span.end].fill('\u{2588}');
        }
    }
    left.into_iter().filter(|c| *c != '\u{2588}').collect()
}

#[test]
fn values_side_by_side_leave_nothing_in_clear() {
    let values = [
        "ana.lopez@evil.io",
        "4111111111111111",
        "4111 1111 1111 1111",
        "AKIAZ3VQ7JRTLWXK5P2D",
        "536-90-4399",
        "DE89370400440532013000",
        "+442079460958",
        "+44 20 7946 0958",
    ];
    let separators = [
        ",", ", ", ";", "|", "/", "\t", "\n", ":", "=", "、", "。", "と", "😀", "\"", "\"\"", ")(",
        "-", "_", ".", " ", "  ", "\u{a0}", "\u{200b}", "，", "：", "（", "#", "*", ">", "&",
    ];
    let mut wrong = Vec::new();
    for separator in separators {
        for (a, b) in values.iter().flat_map(|a| values.iter().map(move |b| (a, b))) {
            let text = format!("x: {a}{separator}{b} .");
            let left = uncovered(&text);
            if left.trim_matches(|c| "x: .".contains(c)).chars().any(|c| c.is_ascii_alphanumeric())
            {
                wrong.push(format!("{text:?} leaves {left:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of them:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn lists_and_columns_hide_no_number() {
    for (text, left) in [
        ("Ana,536-90-4399,4111111111111111,ana@evil.io", "Ana,,,"),
        ("1,4111111111111111,2", "1,,2"),
        ("4111111111111111,12/27,123", ",12/27,123"),
        ("id,phone\n1,+442079460958", "id,phone\n1,"),
        ("[4111111111111111,4012888888881881]", "[,]"),
        ("call 415-555-2671 4111 1111 1111 1111", "call "),
        ("x +44 20 7946 0958 12345", "x  12345"),
        ("x +44 20 7946 0958 536-90-4399", "x  "),
        ("a,415-555-2671,b", "a,,b"),
        ("4111.1111.1111.1111 4111/1111/1111/1111", " "),
        ("4111_1111_1111_1111", ""),
        ("4111\t1111\t1111\t1111", ""),
        ("4111 1111\r\n1111 1111", ""),
        ("card4111111111111111 id_4111111111111111_x", "card id__x"),
        ("4 1 1 1   1 1 1 1   1 1 1 1   1 1 1 1", ""),
        ("و4111111111111111", "و"),
    ] {
        assert_eq!(uncovered(text), left, "{text}");
    }
    for text in [
        "0.4111111111111111 -0.4012888888881881, 12.4111111111111111",
        "5a0e8400-e29b-41d4-4111-111111111111 and a1b2c3d4-4111-1111-1111-111111111111",
        "x94111111111111111 4111111111111111ab 94111111111111111",
    ] {
        assert_eq!(found(text), [], "{text}");
    }
}

proptest! {
    #[test]
    fn spans_lie_inside_any_text(text in "(\\PC|[0-9 .@:+-]|4111 1111 1111 1111|a@b\\.io|AKIAZ3VQ7JRTLWXK5P2D){0,30}") {
        let chars = text.chars().count();
        for kind in [Builtin::Pii, Builtin::Secrets] {
            for finding in prepare(kind, &Value::Null).unwrap().judge(&text).findings {
                let span = finding.place.unwrap().span.unwrap();
                prop_assert!(span.start < span.end && span.end <= chars);
            }
        }
    }
}

#[test]
fn five_digits_and_four_are_a_telephone_number_only_where_the_text_says_so() {
    assert_eq!(found("Tel: 06221-1234"), [("pii.phone".to_owned(), "06221-1234".to_owned())]);
    assert_eq!(found("MA 02110-1301 or phone us"), []);
}

#[test]
fn footnotes_and_escape_sequences_are_no_part_of_a_value() {
    for (text, kind, matched) in [
        ("ana@evil.io²", "email", "ana@evil.io"),
        ("ana@evil.io½ more", "email", "ana@evil.io"),
        ("card 4111 1111 1111 1111¹", "credit_card", "4111 1111 1111 1111"),
        ("card ²4111 1111 1111 1111", "credit_card", "4111 1111 1111 1111"),
        ("GB82WEST12345698765432²", "iban", "GB82WEST12345698765432"),
        ("SSN 536-90-4399¹", "ssn", "536-90-4399"),
        (r#"{"msg":"To:\nana@evil.io"}"#, "email", "ana@evil.io"),
        (r#"{"msg":"\u003cana@evil.io\u003e"}"#, "email", "ana@evil.io"),
        ("mail=%20ana@evil.io", "email", "ana@evil.io"),
    ] {
        assert_eq!(found(text), [(format!("pii.{kind}"), matched.to_owned())], "{text}");
    }
}
