//! Guards in front of builtins whose work or result has no bound of its own: the execution timer
//! cannot stop a builtin that runs.

use std::collections::BTreeSet;

use regorus::unstable::{BUILTINS, Expr, Ref, Span};
use regorus::{Engine, Source, Value};

use super::agree;

/// Numbers that `product` multiplies.
const FACTORS_MAX: usize = 64;
/// Longest text, in bytes, and longest list that a builtin may make or take.
const TEXT_MAX: usize = 1 << 20;
const LIST_MAX: usize = 10_000;

type Guard = fn(&[Value]) -> bool;

const GUARDS: [(&str, Guard); 20] = [
    ("numbers.range", |args| range(args).is_some_and(|length| length <= LIST_MAX as f64)),
    ("numbers.range_step", |args| range(args).is_some_and(|length| length <= LIST_MAX as f64)),
    ("sprintf", |args| text(args, 0).is_some_and(|format| !wide(format)) && small(args)),
    ("product", |args| args.iter().map(length).sum::<usize>() <= FACTORS_MAX),
    ("strings.count", |args| text(args, 1).is_some_and(|part| !part.is_empty())),
    ("concat", |args| {
        let glue = text(args, 0).map_or(0, str::len);
        small(args) && glue.saturating_mul(args.get(1).map_or(0, length)) <= TEXT_MAX
    }),
    ("replace", |args| replaced(text(args, 0), text(args, 1), text(args, 2))),
    ("strings.replace_n", |args| {
        let growth = args.first().map_or(0, |pairs| size(pairs, TEXT_MAX));
        growth.saturating_mul(text(args, 1).map_or(0, str::len) + 1) <= TEXT_MAX
    }),
    ("regex.replace", |args| {
        let (from, to) = (text(args, 0).map_or(0, str::len), text(args, 2).map_or(0, str::len));
        (from + 1).saturating_mul(to + 1) <= TEXT_MAX
    }),
    ("array.concat", |args| args.iter().map(length).sum::<usize>() <= LIST_MAX),
    ("bits.lsh", |args| args.get(1).and_then(|by| by.as_u64().ok()).is_some_and(|by| by <= 256)),
    ("to_number", |args| args.iter().all(|arg| !matches!(arg, Value::String(s) if huge(s)))),
    ("units.parse", |args| text(args, 0).is_some_and(|text| !huge(text))),
    ("units.parse_bytes", |args| text(args, 0).is_some_and(|text| !huge(text))),
    ("json.unmarshal", |args| text(args, 0).is_some_and(|text| !huge(text)) && small(args)),
    ("json.marshal", small),
    ("base64.encode", small),
    ("base64url.encode", small),
    ("hex.encode", small),
    ("urlquery.encode", small),
];

/// Puts the guards, and the answers that agree with the other engine, in front of the engine's
/// builtins.
pub(super) fn install(engine: &mut Engine) -> Result<(), String> {
    let guards = GUARDS.iter().map(|(name, _)| *name);
    let answers = agree::ANSWERS.iter().map(|(name, _)| *name);
    let patterns = agree::PATTERNS.iter().map(|(name, _)| *name);
    let names: BTreeSet<&str> = guards.chain(answers).chain(patterns).collect();
    let source = Source::from_contents("builtin".into(), String::new())
        .map_err(|error| error.to_string())?;
    for name in names {
        let Some((builtin, arity)) = BUILTINS.get(name).copied() else { continue };
        let guard = GUARDS.iter().find(|(own, _)| *own == name).map(|(_, guard)| *guard);
        let answer = agree::ANSWERS.iter().find(|(own, _)| *own == name).map(|(_, answer)| *answer);
        let pattern = agree::PATTERNS.iter().find(|(own, _)| *own == name).map(|(_, at)| *at);
        let span = Span { source: source.clone(), line: 1, col: 1, start: 0, end: 0 };
        let stand_in = |_| Ref::new(Expr::Null { span: span.clone(), value: Value::Null, eidx: 0 });
        let params: Vec<_> = (0..arity).map(stand_in).collect();
        let call = move |mut args: Vec<Value>| {
            if guard.is_some_and(|guard| !guard(&args)) {
                return Err(
                    span.error(&format!("`{name}` is called with arguments beyond its limits"))
                );
            }
            if let Some(answer) = answer.and_then(|answer| answer(&args)) {
                return answer.map_err(|why| span.error(&format!("`{name}`: {why}")));
            }
            if let Some(Value::String(text)) = pattern.and_then(|at| args.get_mut(at)) {
                *text = agree::pattern(text).into();
            }
            builtin(&span, &params, &args, true)
        };
        engine.add_extension(name.into(), arity, Box::new(call)).map_err(|e| e.to_string())?;
    }
    Ok(())
}

fn text(args: &[Value], at: usize) -> Option<&str> {
    args.get(at)?.as_string().ok().map(AsRef::as_ref)
}

fn range(args: &[Value]) -> Option<f64> {
    let end = |at: usize| args.get(at).and_then(|value| value.as_f64().ok());
    Some((end(1)? - end(0)?).abs())
}

fn length(value: &Value) -> usize {
    match value {
        Value::Array(items) => items.len(),
        Value::Set(items) => items.len(),
        Value::Object(fields) => fields.len(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Undefined => 1,
    }
}

/// Bytes of text and nodes in the value, at most about `budget`.
fn size(value: &Value, budget: usize) -> usize {
    let mut total = 1;
    let mut open = vec![value];
    while let (Some(value), true) = (open.pop(), total <= budget) {
        total += 1;
        match value {
            Value::String(text) => total += text.len(),
            Value::Array(items) => open.extend(items.iter()),
            Value::Set(items) => open.extend(items.iter()),
            Value::Object(fields) => open.extend(fields.iter().flat_map(|(k, v)| [k, v])),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Undefined => {}
        }
    }
    total
}

/// Whether the value, followed through everything it shares, stays within the limits.
pub(super) fn is_small(value: &Value) -> bool {
    size(value, TEXT_MAX) <= TEXT_MAX
}

fn small(args: &[Value]) -> bool {
    args.iter().all(is_small)
}

fn replaced(text: Option<&str>, old: Option<&str>, new: Option<&str>) -> bool {
    let (text, old, new) =
        (text.map_or(0, str::len), old.map_or(0, str::len), new.map_or(0, str::len));
    (text / old.max(1) + 1).saturating_mul(new).saturating_add(text) <= TEXT_MAX
}

/// Whether a format asks for a width or a precision of over 3 digits.
fn wide(format: &str) -> bool {
    format.split('%').skip(1).any(|verb| {
        let digits = verb.chars().skip_while(|c| !c.is_numeric());
        verb.chars().take_while(|c| c.is_numeric() || "+-# .".contains(*c)).count() > 4
            && digits.take_while(|c| c.is_numeric()).count() > 3
    })
}

/// Whether a text holds a number with an exponent of over 3 digits.
fn huge(text: &str) -> bool {
    text.split(['e', 'E']).skip(1).any(|tail| {
        let digits = tail.chars().skip_while(|c| matches!(c, '+' | '-' | '0'));
        digits.take_while(char::is_ascii_digit).count() > 3
    })
}
