//! How large and deep a rule's values can become by naming parts again and again: each
//! `[x, x]` doubles what a comparison or a print visits, and nothing can interrupt either.

use std::collections::BTreeMap;

use regorus::unstable::{BUILTINS, Expr, Literal, Query, Ref, Rule, RuleHead};

use super::rego;

/// How often statements are gone through, since they may stand in any order.
const ROUNDS_MAX: usize = 32;

/// What one rule adds to the values it refers to.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Growth {
    /// Factor in size, as a power of two.
    pub(super) bits: f64,
    /// Levels of nesting.
    pub(super) levels: f64,
}

impl Growth {
    pub(super) fn or(self, other: Growth) -> Growth {
        Growth { bits: self.bits.max(other.bits), levels: self.levels.max(other.levels) }
    }

    pub(super) fn and(self, other: Growth) -> Growth {
        Growth { bits: self.bits + other.bits, levels: self.levels + other.levels }
    }

    fn deeper(self) -> Growth {
        Growth { levels: self.levels + 1.0, ..self }
    }
}

type Known = BTreeMap<String, Growth>;

/// The growth of a rule over what it refers to.
pub(super) fn of(rule: &Rule) -> Growth {
    let Rule::Spec { head, bodies, .. } = rule else { return Growth::default() };
    let none = Known::new();
    let written = |known: &Known| match head {
        RuleHead::Set { key, .. } => key.as_ref().map(|key| expr(key, known)).unwrap_or_default(),
        RuleHead::Compr { assign, .. } | RuleHead::Func { assign, .. } => {
            assign.as_ref().map(|assign| expr(&assign.value, known)).unwrap_or_default()
        }
    };
    let bodies = bodies.iter().map(|body| {
        let known = query(&body.query, &none);
        let own = body.assign.as_ref().map(|assign| expr(&assign.value, &known));
        // A value may also be compared inside the body, without ever leaving it.
        let inside = known.values().copied().fold(Growth::default(), Growth::or);
        written(&known).or(own.unwrap_or_default()).or(inside)
    });
    bodies.fold(written(&none), Growth::or)
}

fn query(query: &Query, outer: &Known) -> Known {
    let mut known = outer.clone();
    for _ in 0..ROUNDS_MAX {
        let before = known.clone();
        for statement in &query.stmts {
            match &statement.literal {
                Literal::SomeVars { .. } | Literal::NotExpr { .. } | Literal::Every { .. } => {}
                Literal::SomeIn { key, value, collection, .. } => {
                    let growth = expr(collection, &known);
                    key.iter().for_each(|key| bind(key, growth, &mut known));
                    bind(value, growth, &mut known);
                }
                Literal::Expr { expr: equation, .. } => {
                    if let Expr::AssignExpr { lhs, rhs, .. } = equation.as_ref() {
                        let (left, right) = (expr(lhs, &known), expr(rhs, &known));
                        bind(lhs, right, &mut known);
                        bind(rhs, left, &mut known);
                    }
                }
            }
        }
        if known == before {
            break;
        }
    }
    known
}

/// Every variable of a pattern may be the whole value.
fn bind(pattern: &Expr, growth: Growth, known: &mut Known) {
    #[expect(clippy::wildcard_enum_match_arm, reason = "nothing else binds variables")]
    match pattern {
        Expr::Var { span, .. } => {
            let slot = known.entry(span.text().to_owned()).or_default();
            *slot = slot.or(growth);
        }
        Expr::Array { items, .. } => items.iter().for_each(|item| bind(item, growth, known)),
        Expr::Object { fields, .. } => {
            fields.iter().for_each(|(_, _, value)| bind(value, growth, known));
        }
        _ => {}
    }
}

fn expr(value: &Expr, known: &Known) -> Growth {
    match value {
        Expr::Var { span, .. } => known.get(span.text()).copied().unwrap_or_default(),
        Expr::RefDot { refr, .. } | Expr::RefBrack { refr, .. } => expr(refr, known),
        Expr::Array { items, .. } | Expr::Set { items, .. } => {
            holds(items.iter().map(AsRef::as_ref), known)
        }
        Expr::Object { fields, .. } => {
            holds(fields.iter().flat_map(|(_, key, value)| [key.as_ref(), value.as_ref()]), known)
        }
        Expr::ArrayCompr { term, query: inner, .. } | Expr::SetCompr { term, query: inner, .. } => {
            expr(term, &query(inner, known)).deeper()
        }
        Expr::ObjectCompr { key, value, query: inner, .. } => {
            let known = query(inner, known);
            expr(key, &known).or(expr(value, &known)).deeper()
        }
        Expr::Call { fcn, params, .. } => call(fcn, params, known),
        Expr::BinExpr { lhs, rhs, .. } => {
            let levels = expr(lhs, known).or(expr(rhs, known)).levels;
            Growth { levels, ..holds([lhs.as_ref(), rhs.as_ref()].into_iter(), known) }
        }
        Expr::AssignExpr { lhs, rhs, .. } => expr(lhs, known).or(expr(rhs, known)),
        Expr::String { .. }
        | Expr::RawString { .. }
        | Expr::Number { .. }
        | Expr::Bool { .. }
        | Expr::Null { .. }
        | Expr::UnaryExpr { .. }
        | Expr::BoolExpr { .. }
        | Expr::ArithExpr { .. }
        | Expr::Membership { .. } => Growth::default(),
    }
}

/// A value made of others: their sizes add up. Constants cost what they take to write.
fn holds<'a>(parts: impl Iterator<Item = &'a Expr>, known: &Known) -> Growth {
    let named = parts.filter(|part| !is_scalar(part)).map(|part| expr(part, known));
    let (mut size, mut levels) = (0.0_f64, None);
    for part in named {
        size += part.bits.min(1000.0).exp2();
        levels = Some(part.levels.max(levels.unwrap_or(0.0)));
    }
    match levels {
        None => Growth::default(),
        Some(levels) => Growth { bits: size.log2().max(0.0), levels: levels + 1.0 },
    }
}

fn is_scalar(value: &Expr) -> bool {
    matches!(
        value,
        Expr::String { .. }
            | Expr::RawString { .. }
            | Expr::Number { .. }
            | Expr::Bool { .. }
            | Expr::Null { .. }
    )
}

/// Functions of the unit may put their arguments into one value, more than once; of the builtins
/// a few join two values.
fn call(function: &Expr, params: &[Ref<Expr>], known: &Known) -> Growth {
    let mut path = Vec::new();
    rego::static_path(function, &mut path);
    let name = path.join(".");
    let joined = || holds(params.iter().map(AsRef::as_ref), known);
    match (BUILTINS.contains_key(name.as_str()), name.as_str()) {
        (true, "array.concat" | "object.union" | "object.union_n" | "union" | "json.patch") => {
            joined()
        }
        (true, _) => {
            params.iter().map(|param| expr(param, known)).fold(Growth::default(), Growth::or)
        }
        (false, _) => joined().and(Growth { bits: 1.0, levels: 1.0 }),
    }
}
