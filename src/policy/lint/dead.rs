//! Rules that nobody asks, conditions that never hold, complete rules that conflict.

use std::collections::{BTreeMap, BTreeSet};

use regorus::unstable::{BoolOp, Expr, Literal, LiteralStmt, Rule, RuleHead, Span};

use super::super::entry::Ask;
use super::super::graph::Graph;
use super::super::rego::{self, Parsed};
use super::super::{fault, inputs, table};
use crate::domain::category::{Category, TREE};
use crate::yaml::fault::Fault;

/// Adds a fault for each rule that no decision point asks and that no asked rule reads.
pub(super) fn unreachable(files: &[&Parsed], graph: &Graph<'_>, found: &mut BTreeSet<Fault>) {
    let asked = |floor: bool| {
        let asks = Ask::ALL.into_iter().filter(move |ask| ask.of_floor() == floor);
        asks.flat_map(|ask| ask.rules().iter().copied()).collect::<Vec<&str>>()
    };
    let (floors, others) = (asked(true), asked(false));
    let all: Vec<&str> = floors.iter().chain(&others).copied().collect();
    let reached: BTreeSet<(&str, usize)> = graph
        .reachable(&all)
        .into_iter()
        .map(|(file, index)| (file.file.as_ref(), index))
        .collect();
    for file in files {
        let own = if file.package == ["floor"] { &floors } else { &others };
        for (index, rule) in file.rules.iter().enumerate() {
            let Some(name) = rule.name.first() else { continue };
            let elsewhere = all.contains(&name.as_str()) && !own.contains(&name.as_str());
            if reached.contains(&(file.file.as_ref(), index)) && !elsewhere {
                continue;
            }
            let message = match elsewhere {
                true => format!("nobody asks `{name}` of this layer"),
                false => format!("nothing asks or reads the rule `{}`", rule.name.join(".")),
            };
            let hint = format!("remove `{name}`, or read it in a rule that is asked");
            found.insert(fault(&file.file, rule.position, "unreachable_rule", message, &hint));
        }
    }
}

/// Package and name.
type RulePath<'a> = (&'a [String], &'a [String]);

/// Adds a fault for each second value of a complete rule that holds together with the first.
pub(super) fn conflicts(files: &[&Parsed], found: &mut BTreeSet<Fault>) {
    let mut first: BTreeMap<RulePath<'_>, Vec<(String, String)>> = BTreeMap::new();
    for file in files {
        for (facts, rule) in file.rules.iter().zip(&file.module.policy) {
            let Rule::Spec { head: RuleHead::Compr { assign, refr, .. }, bodies, .. } =
                rule.as_ref()
            else {
                continue;
            };
            let mut path = Vec::new();
            if !rego::static_path(refr, &mut path) {
                continue;
            }
            let value = assign.as_ref().map_or("true", |assign| text(assign.value.span()));
            let body = bodies.first().map_or(String::new(), |body| {
                let statements = body.query.stmts.iter().map(|statement| text(&statement.span));
                statements.collect::<Vec<_>>().join("; ")
            });
            let known = first.entry((&file.package, &facts.name)).or_default();
            let clash = known.iter().any(|(other, when)| {
                other != value && (when.is_empty() || body.is_empty() || *when == body)
            });
            if clash {
                let name = facts.name.join(".");
                let message = format!("`{name}` gets another value where it already has one");
                let hint = format!("write `default {name} := …` for one, or exclude one by `else`");
                let at = facts.position;
                found.insert(fault(&file.file, at, "conflicting_rules", message, &hint));
            }
            known.push((value.to_owned(), body));
        }
    }
}

/// Adds a fault for each top-level condition of a rule that no document makes true.
pub(super) fn conditions(file: &Parsed, found: &mut BTreeSet<Fault>) {
    for rule in &file.module.policy {
        let Rule::Spec { bodies, .. } = rule.as_ref() else { continue };
        let statements = bodies.iter().flat_map(|body| &body.query.stmts);
        for statement in statements {
            if let Some((span, message, hint)) = never(file, statement) {
                let at = rego::position(span);
                found.insert(fault(&file.file, at, "never_true", message, &hint));
            }
        }
    }
}

type Doubt<'a> = (&'a Span, String, String);

fn never<'a>(file: &Parsed, statement: &'a LiteralStmt) -> Option<Doubt<'a>> {
    let Literal::Expr { expr, .. } = &statement.literal else { return None };
    #[expect(clippy::wildcard_enum_match_arm, reason = "other expressions depend on the document")]
    match expr.as_ref() {
        Expr::Bool { span, .. } if span.text() == "false" => {
            Some((span, "`false` never holds".into(), "remove the rule".into()))
        }
        Expr::BoolExpr { op, lhs, rhs, .. } => match (rego::text(lhs), rego::text(rhs)) {
            (None, Some(word)) => compared(file, (lhs, op), &word, rhs.span()),
            (Some(word), None) => compared(file, (rhs, op), &word, lhs.span()),
            (None, None) | (Some(_), Some(_)) => None,
        },
        Expr::Membership { value, collection, .. } => {
            let word = rego::text(value)?;
            compared(file, (collection, &BoolOp::Eq), &word, value.span())
        }
        _ => None,
    }
}

/// Why a reference cannot equal, hold, or compare to this text.
fn compared<'a>(
    file: &Parsed,
    (refr, op): (&Expr, &BoolOp),
    word: &str,
    span: &'a Span,
) -> Option<Doubt<'a>> {
    let mut path = Vec::new();
    let whole = rego::static_path(refr, &mut path);
    let names: Vec<&str> = path.iter().map(String::as_str).collect();
    let field =
        *names.last().filter(|_| whole && names.len() > 1 && names.first() != Some(&"data"))?;
    if let Some(kind) = inputs::kind(field) {
        let message = format!("`{field}` is a {kind}, `\"{word}\"` a text");
        return Some((span, message, format!("write `{word}` without quotes")));
    }
    if *op != BoolOp::Eq {
        return None;
    }
    if let Some(own) = own_word(file, &names).filter(|own| *own != word) {
        let message = format!("`{word}` never decides here: the overlay is `{own}`'s");
        return Some((span, message, format!("write `{own}`, or remove the condition")));
    }
    let known: Vec<&str> = match field {
        "category" | "path" if Category::parse(word).is_ok() => return None,
        "category" | "path" => TREE.to_vec(),
        field => inputs::words(field)?,
    };
    if known.contains(&word) {
        return None;
    }
    let message = format!("`{field}` is never `{word}`");
    let hint = table::nearest(word, known.iter().copied()).map_or_else(
        || format!("use one of {}", known.join(", ")),
        |near| format!("write `{near}`"),
    );
    Some((span, message, hint))
}

/// The only value that a field of the head has for the file's overlay.
fn own_word<'a>(file: &'a Parsed, field: &[&str]) -> Option<&'a String> {
    let [_, tenant, bundle] = file.package.as_slice() else { return None };
    match field {
        ["input", "tenant", "id"] => Some(tenant),
        ["input", "bundle"] => Some(bundle),
        _ => None,
    }
}

fn text(span: &Span) -> &str {
    let range = usize::try_from(span.start).ok().zip(usize::try_from(span.end).ok());
    let found = range.and_then(|(start, end)| span.source.get_contents().get(start..end));
    found.unwrap_or_default()
}
