//! Builtins one by one: those that agree, and those that are known to differ and warned of.

use std::time::Duration;

use detector_orchestrator::policy::{Case, Limits, Policies, Source, validate_modules};
use serde_json::{Value, json};

use super::documents::{Dice, TEXTS};
use super::{Opa, SEED, Said, even, shipped};

const TEXTS_REGO: &str = include_str!("../../opa/texts.rego");
const INPUTS: usize = 450;

const MORE: [&str; 22] = [
    "Abc Def",
    "ÀÉß",
    "straße İI",
    "🇩🇪 e\u{301}",
    "ab\tc\n",
    "12x",
    "1e5",
    "true",
    "ΑΣ ς",
    "ﬁn",
    "ǆ",
    "Aa1 b2",
    "%41+b",
    "1.2.3",
    "1.2",
    "a_b-c",
    "K",
    "ᾳ ᾀ",
    "a,b c",
    "ŉ",
    "\u{2003}wide\u{2003}",
    "ab.c.com",
];
const WHOLE: [i64; 12] = [-300, -7, -1, 0, 1, 2, 3, 7, 20, 255, 65_536, 1_000_000_007];
/// Not between -1 and 0, whose `floor` and `ceil` OPA gets wrong, and not so small that JSON writes
/// an exponent, which OPA's `%f` takes for text.
const FRACTIONS: [f64; 12] =
    [0.5, -1.5, 2.5, -2.5, 0.1, 0.25, 0.999, 3.75, -1.125, 123_456.789, 0.0001, 1e-3];

fn input(dice: &mut Dice) -> Value {
    let text = |dice: &mut Dice| match dice.below(2) {
        0 => *dice.of(&TEXTS),
        _ => *dice.of(&MORE),
    };
    let list = |dice: &mut Dice| (0..dice.below(5)).map(|_| text(dice)).collect::<Vec<_>>();
    let object = |dice: &mut Dice| {
        let field = |dice: &mut Dice| {
            let value = match dice.below(4) {
                0 => json!(text(dice)),
                1 => json!(list(dice)),
                2 => json!({ "a": text(dice), "b": dice.below(9) }),
                _ => json!(*dice.of(&WHOLE)),
            };
            ((*dice.of(&["a", "b", "é", "😀", "ab"])).to_owned(), value)
        };
        Value::Object((0..dice.below(4)).map(|_| field(dice)).collect())
    };
    json!({
        "s": format!("{}{}", text(dice), text(dice)),
        "t": if dice.below(2) == 0 { dice.of(&["", "a", " ", ",", "😀", "é", "\u{301}", "com"]) } else { text(dice) },
        "p": dice.of(&["a", "b", " ", "😀", "é", "\u{301}", "ab", "ß", "."]),
        "u": text(dice),
        "l": list(dice), "l2": list(dice), "o": object(dice), "o2": object(dice),
        "i": dice.of(&WHOLE), "m": dice.of(&[1, 2, 3, 7, 10]), "j": dice.of(&[0, 1, 2, 3, 5, 9]),
        "k": dice.of(&[0, 1, 2, 3]), "f": dice.of(&FRACTIONS), "g": dice.of(&FRACTIONS),
        "il": (0..1 + dice.below(4)).map(|_| *dice.of(&WHOLE)).map(|n| n % 1000).collect::<Vec<_>>(),
        "b": dice.below(2) == 0,
        "r": dice.of(&["a+", r"\d{2}", "(?i)abc", ".", "^$", r"\p{L}+", r"\bé", r"[\w-]+@", r"[^\s]", "[[:alpha:]]", "(a)(b)?"]),
        "ns": dice.of(&["1", "1.5", "-7", "0.10", "1e3", "42", "-0.25", "1000000", "007"]),
        "time": 1_577_836_800_000_000_000_i64 + 86_400_000_000_000 * i64::try_from(dice.below(900)).unwrap(),
        "ip": dice.of(&["10.1.2.3", "10.0.0.0/9", "11.0.0.1", "192.168.0.0/16"]),
    })
}

fn limits() -> Limits {
    Limits { eval_timeout: Duration::from_secs(20), ..Limits::default() }
}

/// What the product says to each rule of a module.
fn product(module: &str, rules: &[String], inputs: &[Value]) -> Vec<Vec<Said>> {
    let cases: Vec<Case> = inputs
        .iter()
        .flat_map(|input| {
            let case = move |rule: &String| json!({ "rule": rule, "input": input, "expect": null });
            rules.iter().map(case).map(|case| serde_json::from_value(case).unwrap())
        })
        .collect();
    let modules = [("texts.rego".to_owned(), module.to_owned())];
    let validation = validate_modules(&modules, None, &cases, &limits());
    if validation.errors.iter().any(|fault| fault.code == "engine") {
        // The engine panicked, which fails a decision as an error does.
        return inputs.iter().map(|_| rules.iter().map(|_| Said::Error).collect()).collect();
    }
    assert!(validation.errors.is_empty(), "{:#?}", validation.errors);
    let said = validation.case_results.into_iter().map(|case| match (case.error, case.actual) {
        (Some(_), _) => Said::Error,
        (None, Some(value)) => Said::Value(even(&value)),
        (None, None) => Said::Undefined,
    });
    let said: Vec<Said> = said.collect();
    said.chunks(rules.len()).map(<[_]>::to_vec).collect()
}

#[test]
fn text_and_number_builtins_say_the_same_in_opa() {
    let rules: Vec<String> = TEXTS_REGO
        .lines()
        .filter(|line| line.contains(" := ") || line.contains(" if "))
        .filter(|line| !line.starts_with(['#', '\t']))
        .map(|line| format!("texts.{}", line.split(' ').next().unwrap()))
        .collect();
    assert!(rules.len() >= 60, "{rules:?}");
    let mut dice = Dice::new(SEED);
    let inputs: Vec<Value> = (0..INPUTS).map(|_| input(&mut dice)).collect();
    let mut opa = Opa::start();
    let modules = json!({ "texts.rego": TEXTS_REGO });
    opa.open("texts", modules.as_object().unwrap(), &json!({}));
    let theirs = opa.ask("texts", &rules, &inputs);
    let ours = product(TEXTS_REGO, &rules, &inputs);
    let (mut errors, mut total, mut differences) = (0, 0, Vec::new());
    for ((input, ours), theirs) in inputs.iter().zip(ours).zip(theirs) {
        for ((rule, ours), theirs) in rules.iter().zip(ours).zip(theirs) {
            total += 1;
            errors += usize::from((&ours, &theirs) == (&Said::Error, &Said::Error));
            if ours != theirs {
                differences.push(format!("{rule}: {ours:?}, OPA {theirs:?}: {input}"));
            }
        }
    }
    println!("{total} answers of {} rules, {errors} times both fail", rules.len());
    let mut named: Vec<&str> =
        differences.iter().filter_map(|text| text.split(':').next()).collect();
    named.dedup();
    named.sort_unstable();
    named.dedup();
    let shown: Vec<&String> = differences.iter().take(12).collect();
    assert!(differences.is_empty(), "{} differ: {named:?} {shown:#?}", differences.len());
    assert!(errors * 100 < total, "{errors} of {total}");
}

/// Every letter of Unicode that both know.
#[test]
fn every_letter_has_the_same_capital_in_opa() {
    let module = "package letters\n\nlow := lower(input.s)\n\nup := upper(input.s)\n";
    let rules = ["letters.low".to_owned(), "letters.up".to_owned()];
    let letters: Vec<char> = ('\u{1}'..=char::MAX).filter(|c| c.is_alphabetic()).collect();
    let inputs: Vec<Value> =
        letters.chunks(2_000).map(|part| json!({ "s": part.iter().collect::<String>() })).collect();
    let mut opa = Opa::start();
    opa.open("letters", json!({ "letters.rego": module }).as_object().unwrap(), &json!({}));
    let theirs = opa.ask("letters", &rules, &inputs);
    let ours = product(module, &rules, &inputs);
    let text = |said: &Said| {
        let Said::Value(Value::String(text)) = said else { panic!("{said:?}") };
        text.chars().collect::<Vec<_>>()
    };
    let mut differing = Vec::new();
    for ((part, ours), theirs) in letters.chunks(2_000).zip(&ours).zip(&theirs) {
        for (ours, theirs) in ours.iter().zip(theirs) {
            for ((letter, ours), theirs) in part.iter().zip(text(ours)).zip(text(theirs)) {
                if ours != theirs {
                    assert_eq!(theirs, *letter, "OPA knows it, and another than {ours:?}");
                    differing.push(format!("{:x} {ours:?} {theirs:?}", u32::from(*letter)));
                }
            }
        }
    }
    println!("{} letters are newer than its tables", differing.len());
    assert!(differing.len() < 150, "{differing:?}");
}

/// Differences that stay and that `check` warns of, each with an expression that shows it.
const KNOWN: [(&str, &str); 13] = [
    ("urlquery.decode", r#"urlquery.decode("a=1&b=2")"#),
    ("json.filter", r#"json.filter({"a": null}, ["a/b"])"#),
    ("json.marshal", r#"json.marshal("<b>")"#),
    ("yaml.marshal", r#"yaml.marshal({"true": null})"#),
    ("semver.compare", r#"semver.compare("v1.2.3", "1.2.3")"#),
    ("time.parse_duration_ns", r#"time.parse_duration_ns("1d")"#),
    ("time.add_date", "time.add_date(1611878400000000000, 0, 1, 0)"),
    ("units.parse", r#"units.parse("5x")"#),
    ("units.parse_bytes", r#"units.parse_bytes("5x")"#),
    ("json.is_valid", r#"json.is_valid("1E400")"#),
    ("base64url.decode", r#"base64url.decode("NaN")"#),
    ("+", "0.1 + 0.2 == 0.3"),
    ("/", "1 / 10 * 3 == 0.3"),
];

/// Where the other engine writes a fault into a text, or answers garbage, the product fails.
const STRICTER: [&str; 6] = [
    r#"sprintf("%d", ["x"])"#,
    r#"sprintf("%s %s", ["x"])"#,
    r#"sprintf("%s", [1])"#,
    r#"sprintf("%.2f", [1])"#,
    r#"replace("é", "", "x")"#,
    r#"strings.count("a", "")"#,
];

#[test]
fn where_opa_writes_a_fault_into_a_text_the_product_fails() {
    let mut opa = Opa::start();
    for expression in STRICTER {
        let module = format!("package known\n\nshown := {expression}\n");
        let rules = ["known.shown".to_owned()];
        opa.open("known", json!({ "known.rego": module }).as_object().unwrap(), &json!({}));
        let theirs = opa.ask("known", &rules, &[json!({})]);
        assert!(matches!(theirs[0][0], Said::Value(_)), "{expression}: {theirs:?}");
        let ours = product(&module, &rules, &[json!({})]);
        assert_eq!(ours[0][0], Said::Error, "{expression}");
    }
}

#[test]
fn what_differs_from_opa_is_known_and_warned_of() {
    let mut opa = Opa::start();
    for (name, expression) in KNOWN {
        let module = format!("package known\n\nshown := {expression}\n");
        let rules = ["known.shown".to_owned()];
        let inputs = [json!({})];
        opa.open("known", json!({ "known.rego": module }).as_object().unwrap(), &json!({}));
        let theirs = opa.ask("known", &rules, &inputs);
        let ours = product(&module, &rules, &inputs);
        println!("{name}: {:?}, OPA {:?}", ours[0][0], theirs[0][0]);
        assert_ne!(ours, theirs, "{name} differs no longer: end its warning");
        let overlay = format!("package tenants.acme.standard\n\nshown := {expression}\n");
        let mut sources = shipped();
        sources.push(Source {
            path: "tenants/acme/standard/known.rego".into(),
            bytes: overlay.as_bytes().into(),
        });
        let loaded = Policies::load(&sources, &[], &limits(), None).unwrap();
        let warned = loaded.warnings.iter().find(|fault| fault.code == "differs_from_opa");
        let warned = warned.unwrap_or_else(|| panic!("no warning of {name}"));
        assert!(warned.message.contains(&format!("`{name}`")), "{warned:?}");
        assert_eq!((warned.line, warned.hint.is_some()), (3, true), "{warned:?}");
    }
}
