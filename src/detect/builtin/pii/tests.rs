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
    ];
    for line in lines {
        assert_eq!(found(line), [], "{line}");
    }
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
