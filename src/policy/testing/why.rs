//! Why a test failed: the first statement of its body that no way through the earlier ones makes
//! hold, and the values it compares.

use std::fmt::Write as _;

use regorus::unstable::{Expr, Literal, LiteralStmt, Rule};
use regorus::{Engine, Value};
use serde::Serialize;

use super::super::rego::{self, Parsed};
use super::super::{bounded, layers};

/// Longest value shown, in characters.
const VALUE_CHARS_MAX: usize = 2_000;

/// A statement that did not hold.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Why {
    /// Its 1-based line.
    pub line: u32,
    /// Its 1-based column.
    pub column: u32,
    /// Its text.
    pub statement: String,
    /// The 1-based line of the last statement that held; 0 where it is the first.
    pub held_line: u32,
    /// Its parts, in the order they are written.
    pub values: Vec<Witness>,
}

/// A part of a statement and its value.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Witness {
    /// As it is written.
    pub expression: String,
    /// As JSON; sets are lists. `None` is undefined.
    pub value: Option<String>,
}

/// Explains each definition of the rule; `build` makes an engine whose test module has more rules.
pub(super) fn explain(
    file: &Parsed,
    name: &str,
    build: impl Fn(&str) -> Option<Engine>,
) -> Vec<Why> {
    let rules = file.rules.iter().zip(&file.module.policy);
    let own = rules.filter(|(facts, _)| facts.name == [name]).map(|(_, rule)| rule);
    own.filter_map(|rule| definition(file, rule, &build)).collect()
}

fn definition(file: &Parsed, rule: &Rule, build: &impl Fn(&str) -> Option<Engine>) -> Option<Why> {
    let Rule::Spec { bodies, .. } = rule else { return None };
    let statements = &bodies.first()?.query.stmts;
    let texts: Vec<&str> = statements.iter().map(text).collect::<Option<_>>()?;
    let mut probes = String::new();
    for count in 1..=texts.len() {
        let body = texts.get(..count)?.join("\n\t");
        // Writing to a String cannot fail.
        let _ = write!(probes, "\nprobe__{count} if {{\n\t{body}\n}}\n");
    }
    let mut engine = build(&probes)?;
    let prefix = format!("data.{}", layers::package(&file.package));
    let mut holds = |rule: &str| match engine.eval_rule(format!("{prefix}.{rule}")) {
        Ok(Value::Undefined | Value::Bool(false)) | Err(_) => None,
        Ok(value) => Some(value),
    };
    let failed = (1..=texts.len()).find(|count| holds(&format!("probe__{count}")).is_none())?;
    let (before, statement) = (texts.get(..failed - 1)?, statements.get(failed - 1)?);
    let parts = parts(statement);
    let mut probes = String::new();
    let with: Vec<&str> = statement.with_mods.iter().filter_map(|with| slice(&with.span)).collect();
    for (at, part) in parts.iter().enumerate() {
        let (body, with) = (before.join("\n\t"), with.join(" "));
        let _ = write!(
            probes,
            "\nwitness__{at} := value__ if {{\n\t{body}\n\tvalue__ := {part} {with}\n}}\n"
        );
    }
    let mut engine = build(&probes);
    let values = parts.iter().enumerate().map(|(at, part)| {
        let path = format!("{prefix}.witness__{at}");
        let value = engine.as_mut().and_then(|engine| engine.eval_rule(path).ok());
        Witness { expression: (*part).to_owned(), value: value.and_then(|value| shown(&value)) }
    });
    let values = values.collect();
    let (line, column) = start(statement);
    let held_line = (failed > 1).then(|| statements.get(failed - 2).map(|held| start(held).0));
    let statement = texts.get(failed - 1)?.to_string();
    Some(Why { line, column, statement, held_line: held_line.flatten().unwrap_or(0), values })
}

fn shown(value: &Value) -> Option<String> {
    if *value == Value::Undefined {
        return None;
    }
    if !bounded::is_small(value) {
        return Some("(too large to show)".to_owned());
    }
    let text = value.to_string();
    Some(match text.char_indices().nth(VALUE_CHARS_MAX) {
        Some((end, _)) => format!("{}…", text.get(..end)?),
        None => text,
    })
}

/// The expressions whose values tell why the statement does not hold; literals tell nothing.
fn parts(statement: &LiteralStmt) -> Vec<&str> {
    let mut found = Vec::new();
    match &statement.literal {
        Literal::SomeVars { .. } => {}
        Literal::SomeIn { collection, .. } => add(collection, &mut found),
        Literal::Every { domain, .. } => add(domain, &mut found),
        Literal::NotExpr { expr, .. } => add(expr, &mut found),
        Literal::Expr { expr, .. } => sides(expr, &mut found),
    }
    found
}

fn sides<'a>(expr: &'a Expr, found: &mut Vec<&'a str>) {
    #[expect(clippy::wildcard_enum_match_arm, reason = "other expressions are shown whole")]
    match expr {
        Expr::BoolExpr { lhs, rhs, .. } => {
            add(lhs, found);
            add(rhs, found);
        }
        Expr::AssignExpr { rhs, .. } => add(rhs, found),
        Expr::Membership { value, collection, .. } => {
            add(value, found);
            add(collection, found);
        }
        Expr::Call { params, .. } => {
            params.iter().for_each(|param| add(param, found));
            add(expr, found);
        }
        _ => add(expr, found),
    }
}

fn add<'a>(expr: &'a Expr, found: &mut Vec<&'a str>) {
    let literal = matches!(
        expr,
        Expr::String { .. }
            | Expr::RawString { .. }
            | Expr::Number { .. }
            | Expr::Bool { .. }
            | Expr::Null { .. }
    );
    if !literal {
        found.extend(slice(expr.span()));
    }
}

fn slice(span: &regorus::unstable::Span) -> Option<&str> {
    let (start, end) = (usize::try_from(span.start).ok()?, usize::try_from(span.end).ok()?);
    span.source.get_contents().get(start..end)
}

fn start(statement: &LiteralStmt) -> (u32, u32) {
    match &statement.literal {
        Literal::Expr { expr, .. } => rego::start(expr),
        Literal::SomeVars { span, .. }
        | Literal::SomeIn { span, .. }
        | Literal::NotExpr { span, .. }
        | Literal::Every { span, .. } => rego::position(span),
    }
}

/// The whole statement with its `with`, as it is written.
fn text(statement: &LiteralStmt) -> Option<&str> {
    let (from, to) = match &statement.literal {
        Literal::Expr { expr, .. } => (expr.span(), expr.span()),
        Literal::NotExpr { span, expr } => (span, expr.span()),
        Literal::SomeIn { span, collection, .. } => (span, collection.span()),
        Literal::SomeVars { span, .. } | Literal::Every { span, .. } => (span, span),
    };
    let end = statement.with_mods.last().map_or(to.end, |with| with.span.end);
    let (start, end) = (usize::try_from(from.start).ok()?, usize::try_from(end).ok()?);
    from.source.get_contents().get(start..end)
}
