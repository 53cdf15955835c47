use serde_json::{Value, json};

use super::super::tests::judged;
use crate::catalog::detector::Builtin;

/// What is found at the default threshold of 0.5, behind characters of several bytes.
fn found(params: &Value, text: &str) -> Vec<(String, String)> {
    let judge = super::super::prepare(Builtin::Toxicity, params).unwrap();
    let text = format!("é😀 {text}");
    let chars: Vec<char> = text.chars().collect();
    let sure = judge.judge(&text).findings.into_iter().filter(|f| f.score >= 0.5);
    sure.map(|f| {
        let span = f.place.unwrap().span.unwrap();
        (f.category.to_string(), chars[span.start..span.end].iter().collect())
    })
    .collect()
}

fn check(text: &str, expected: &[(&str, &str)]) {
    let found = found(&Value::Null, text);
    let found: Vec<_> = found.iter().map(|(c, m)| (c.as_str(), m.as_str())).collect();
    assert_eq!(found, expected, "{text}");
}

#[test]
fn the_gravest_class_of_a_word_is_named_at_its_characters() {
    check("f.u.c.king ana.lopez", &[("toxicity.obscene", "f.u.c.king")]);
    check("well shit happens", &[("toxicity.profanity", "shit")]);
    check("you are a complete moron, sir", &[("toxicity.insult", "moron")]);
    check("you stupid idiot!", &[("toxicity.insult", "stupid"), ("toxicity.insult", "idiot")]);
    check("a n1gger", &[("hate.identity", "n1gger")]);
    check("go kys now", &[("toxicity.severe", "kys")]);
    check("I'm going to kill you tonight", &[("toxicity.threat", "I'm going to kill you")]);
    check("we will break your legs", &[("toxicity.threat", "we will break your legs")]);
    check("you deserve to die", &[("toxicity.threat", "you deserve to die")]);
    check("free porn", &[("sexual", "porn")]);
    check("I really hate you", &[("toxicity.insult", "I really hate you")]);
}

#[test]
fn disguises_are_seen_through_and_covered_whole() {
    for disguise in [
        "sh1t",
        "$hit",
        "s.h.i.t",
        "s h i t",
        "shiiiiit",
        "SHIT",
        "ѕhіt",
        "ｓｈｉｔ",
        "𝐬𝐡𝐢𝐭",
        "śhìt",
        "s\u{301}hi\u{300}t",
        "sh\u{200b}it",
        "s\u{202e}hit",
        "s-h-i-t",
    ] {
        check(&format!("what a {disguise} day"), &[("toxicity.profanity", disguise)]);
    }
}

#[test]
fn technical_medical_and_plain_words_are_not_found() {
    for text in [
        "kill the process with kill -9 1234, then abort the child and reap the orphan",
        "the master/slave replication has a slave node and a dumb terminal",
        "Scunthorpe, Penistone and Essex assess the cocktail; Dickens read Moby Dick",
        "the classic analysis of the assembly was passed to the assistant",
        "breast cancer screening, sex education and the penis of a mammal; fatty acids",
        "the gay and Jewish communities of Niger and Nigeria",
        "Hitler and the Nazis were defeated in 1945; slavery ended earlier",
        "I hate Mondays. This sucks. What the hell, damn it!",
        "thank you. Stupid printer again",
        "this will kill you if you drink it; smoking kills; shoot me a mail",
        "execute the script, mount the disk, strip the binary and blame the commit",
        "let $hash = @array[5]; assert_eq!(a.class(), \"button\"); x |= 0xA55;",
        "日本語のテキストです。これは普通の文です。",
        "function(e,t):t(n,0x1fffffff)+x1fffffff; https://x.example/fck?a=1",
    ] {
        check(text, &[]);
    }
}

#[test]
fn words_with_an_ordinary_meaning_are_found_where_they_are_meant_badly() {
    check("you are such a bastard", &[("toxicity.insult", "bastard")]);
    check("suck my dick", &[("sexual", "suck my"), ("toxicity.obscene", "dick")]);
    check("oh, shut up, all of you", &[("toxicity.insult", "shut up")]);
    for text in [
        "the bastard son of the duke; before the cock crew; a great tit sang",
        "Dr Hiscock and Dick Francis went to Phuket with a shih tzu",
        "she was told to shut up; the word \"bitch\" means a dog; he called her a slut",
        "H2O at 5-HT receptors, FVC 3.2 L, p. p. 14, xxxxx, f(a) 3, DIC and HO-1",
        "a pregnant patient had sexual intercourse; breast tissue, vagina, prostitution",
        "train en retard, Il fait froid; nu är det slut på rean; det er slut; Slut med det",
    ] {
        check(text, &[]);
    }
}

#[test]
fn threats_and_hatred_of_groups_are_found_and_reports_of_them_are_not() {
    for (text, category) in [
        ("I'm going to find you and cut your throat", "toxicity.threat"),
        ("I hope you get cancer", "toxicity.threat"),
        ("Immigrants are cockroaches", "hate.identity"),
        ("we must exterminate the Roma", "hate.identity"),
    ] {
        let found = found(&Value::Null, text);
        assert!(found.iter().any(|(found, _)| found == category), "{text} {found:?}");
    }
    check("saying that all Muslims are terrorists is wrong; women are not inferior to men", &[]);
}

#[test]
fn abuse_in_other_languages_is_found() {
    for text in ["du Hurensohn", "sale pute", "filho da puta", "иди на хуй", "操你妈", "죽어 씨발"]
    {
        assert!(!found(&Value::Null, text).is_empty(), "{text}");
    }
}

#[test]
fn params_choose_categories_severity_and_words() {
    let only = json!({"categories": ["hate"]});
    assert_eq!(found(&only, "shit and n1gger"), [("hate.identity".into(), "n1gger".into())]);
    let high = json!({"min_severity": "high"});
    assert_eq!(found(&high, "shit and then kys"), [("toxicity.severe".into(), "kys".into())]);
    assert_eq!(found(&json!({"allow": ["SHIT happens"]}), "shit happens").len(), 0);
    let denied = found(&json!({"deny": ["Blöder Wicht"]}), "du BLÖDER wicht, wichtig");
    assert_eq!(denied, [("toxicity".to_owned(), "BLÖDER wicht".to_owned())]);
    let low = judged(Builtin::Toxicity, Value::Null, "damn");
    assert_eq!(low.len(), 1, "low severity is reported below the usual threshold");
}

#[test]
fn of_the_samples_only_the_toxic_one_is_found() {
    for text in [
        include_str!("../../../../samples/first-example.txt"),
        include_str!("../../../../samples/support-mail.txt"),
        include_str!("../../../../samples/code-with-secrets.py"),
        include_str!("../../../../samples/clean-prose.txt"),
        include_str!("../../../../samples/clean-code.rs"),
        include_str!("../../../../samples/numbers.txt"),
        include_str!("../../../../samples/injection-direct.txt"),
        include_str!("../../../../samples/injection-document.txt"),
        include_str!("../../../../samples/other-scripts.txt"),
        include_str!("../../../../samples/emoji.txt"),
        include_str!("../../../../samples/patient.txt"),
        include_str!("../../../../samples/long.txt"),
        include_str!("../../../../samples/chat.json"),
    ] {
        check(text, &[]);
    }
    check(include_str!("../../../../samples/toxic.txt").trim(), &[("toxicity.insult", "idiot")]);
}
