//! Which paths a policy may read below `input`, by the schemas.
//!
//! A misspelt path is undefined, which would be a silent allow: it is a fault at load.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use regorus::unstable::{Expr, Literal, Query, Ref, Rule, RuleBody, RuleHead, Span};
use serde_json::{Map, Value};

use super::rego::{self, Parsed};
use super::{Point, fault, table};
use crate::yaml::fault::Fault;

static SCHEMAS: LazyLock<[Value; 3]> = LazyLock::new(|| {
    [
        include_str!("../../policies/schemas/plan.json"),
        include_str!("../../policies/schemas/conflict.json"),
        include_str!("../../policies/schemas/verdict.json"),
    ]
    .map(|text| serde_json::from_str(text).unwrap_or_default())
});

/// How deep calls are followed, and how many queries are walked per unit and point.
const CALLS_MAX: usize = 16;
const BODIES_MAX: usize = 20_000;

pub(super) fn schema(point: Point) -> &'static Value {
    let [plan, conflict, verdict] = &*SCHEMAS;
    match point {
        Point::Plan => plan,
        Point::Conflict => conflict,
        Point::Verdict => verdict,
    }
}

/// The only texts that a field of this name may hold in any document; `None` where some field of
/// the name is free.
pub(super) fn words(field: &str) -> Option<Vec<&'static str>> {
    let mut fields = Vec::new();
    SCHEMAS.iter().for_each(|schema| named(schema, field, &mut fields));
    let lists = fields.into_iter().map(|schema| schema.get("enum").and_then(Value::as_array));
    let lists: Vec<_> = lists.collect::<Option<_>>()?;
    let words = lists.into_iter().flatten().filter_map(Value::as_str);
    let words: BTreeSet<&str> = words.collect();
    (!words.is_empty()).then(|| words.into_iter().collect())
}

/// The one type that a field of this name has in every document, if it is no text.
pub(super) fn kind(field: &str) -> Option<&'static str> {
    let mut fields = Vec::new();
    SCHEMAS.iter().for_each(|schema| named(schema, field, &mut fields));
    let kinds: BTreeSet<&str> =
        fields.iter().filter_map(|part| part.get("type")?.as_str()).collect();
    match (kinds.len(), kinds.first()) {
        (1, Some(&kind)) if matches!(kind, "number" | "integer" | "boolean") => Some(kind),
        _ => None,
    }
}

fn named(schema: &'static Value, field: &str, into: &mut Vec<&'static Value>) {
    for (name, part) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        if name == field {
            // Of a list the entries count.
            into.push(part.get("items").unwrap_or(part));
        }
        named(part, field, into);
    }
    for part in ["items", "additionalProperties"].iter().filter_map(|key| schema.get(key)) {
        named(part, field, into);
    }
}

/// What is known of a value.
#[derive(Clone, Copy, PartialEq)]
enum Shape {
    Open,
    Known(&'static Value),
    /// An array or a set of these, made by a comprehension.
    ListOf(&'static Value),
}

impl Shape {
    fn items(self) -> Shape {
        match self {
            Shape::Open => Shape::Open,
            Shape::ListOf(item) => Shape::Known(item),
            Shape::Known(schema) => {
                match schema.get("items").or(schema.get("additionalProperties")) {
                    Some(item @ Value::Object(_)) => Shape::Known(item),
                    _ => Shape::Open,
                }
            }
        }
    }

    fn field(self, name: &str) -> Result<Shape, &'static Map<String, Value>> {
        let Shape::Known(schema) = self else { return Ok(Shape::Open) };
        let Some(fields) = schema.get("properties").and_then(Value::as_object) else {
            return Ok(self.items());
        };
        match (fields.get(name), schema.get("additionalProperties")) {
            (Some(field), _) => Ok(Shape::Known(field)),
            (None, Some(Value::Bool(false))) => Err(fields),
            (None, _) => Ok(Shape::Open),
        }
    }
}

/// Opt-in facts that rules name, by their `x-read` in the schemas.
pub(super) type Reads = BTreeSet<&'static str>;

/// Every opt-in fact of every point.
pub(super) fn all_reads() -> Reads {
    fn gather(schema: &'static Value, into: &mut Reads) {
        into.extend(schema.get("x-read").and_then(Value::as_str));
        let parts = schema.get("properties").and_then(Value::as_object);
        parts.into_iter().flatten().for_each(|(_, part)| gather(part, into));
        schema.get("items").into_iter().for_each(|item| gather(item, into));
    }
    let mut reads = Reads::new();
    SCHEMAS.iter().for_each(|schema| gather(schema, &mut reads));
    reads
}

/// Faults of the given rules for documents of `point`, and what they read of the opt-in facts.
/// `files` are the whole unit; `reads_all` lets them compute keys of `input`.
pub(super) fn check(
    point: Point,
    rules: &[(&Parsed, usize)],
    files: &[&Parsed],
    reads_all: bool,
) -> (BTreeSet<Fault>, Reads) {
    let mut checker = Checker {
        root: Shape::Known(schema(point)),
        reads_all,
        reads: Reads::new(),
        files,
        faults: BTreeSet::new(),
        bodies: 0,
        calls: 0,
    };
    for (file, index) in rules {
        if let Some(rule) = file.module.policy.get(*index) {
            checker.rule(file, rule, &[]);
        }
    }
    (checker.faults, checker.reads)
}

type Bindings = BTreeMap<String, Shape>;

struct Checker<'a> {
    root: Shape,
    reads_all: bool,
    reads: Reads,
    files: &'a [&'a Parsed],
    faults: BTreeSet<Fault>,
    bodies: usize,
    calls: usize,
}

impl Checker<'_> {
    fn rule(&mut self, file: &Parsed, rule: &Rule, arguments: &[Shape]) {
        let Rule::Spec { head, bodies, .. } = rule else { return };
        let mut scope = Bindings::new();
        let (_, params) = rego::head(head);
        for (at, param) in params.unwrap_or_default().iter().enumerate() {
            let shape = arguments.get(at).copied().unwrap_or(Shape::Open);
            self.bind(param, shape, &mut scope);
        }
        let values = |scope: &Bindings, checker: &mut Self| match head {
            RuleHead::Set { key, .. } => key.iter().for_each(|key| {
                checker.shape(file, key, scope);
            }),
            RuleHead::Compr { assign, refr, .. } | RuleHead::Func { assign, refr, .. } => {
                checker.index(file, refr, scope);
                assign.iter().for_each(|assign| {
                    checker.shape(file, &assign.value, scope);
                });
            }
        };
        for (at, RuleBody { query, assign, .. }) in bodies.iter().enumerate() {
            let inner = self.query(file, query, &scope);
            assign.iter().for_each(|assign| {
                self.shape(file, &assign.value, &inner);
            });
            if at == 0 {
                values(&inner, self);
            }
        }
        if bodies.is_empty() {
            values(&scope, self);
        }
    }

    fn index(&mut self, file: &Parsed, refr: &Expr, scope: &Bindings) {
        if let Expr::RefBrack { index, .. } = refr {
            self.shape(file, index, scope);
        }
    }

    /// Walks a query, returns what it binds. Statements may stand in any order, so bindings are
    /// gathered once before anything is judged.
    fn query(&mut self, file: &Parsed, query: &Query, scope: &Bindings) -> Bindings {
        let mut inner = scope.clone();
        self.bodies += 1;
        if self.bodies > BODIES_MAX {
            let message = "the rules call each other in too many ways to be checked".to_owned();
            self.faults.insert(fault(
                &file.file,
                (0, 0),
                "too_complex",
                message,
                "simplify the calls",
            ));
            return inner;
        }
        let faults = self.faults.clone();
        self.statements(file, query, &mut inner);
        self.faults = faults;
        self.statements(file, query, &mut inner);
        inner
    }

    fn statements(&mut self, file: &Parsed, query: &Query, scope: &mut Bindings) {
        for statement in &query.stmts {
            match &statement.literal {
                Literal::SomeVars { vars, .. } => {
                    for var in vars {
                        scope.entry(var.text().to_owned()).or_insert(Shape::Open);
                    }
                }
                Literal::SomeIn { key, value, collection, .. } => {
                    let items = self.shape(file, collection, scope).items();
                    if let Some(key) = key {
                        self.bind(key, Shape::Open, scope);
                    }
                    self.bind(value, items, scope);
                }
                Literal::Expr { expr, .. } => self.statement(file, expr, scope),
                Literal::NotExpr { expr, .. } => {
                    self.shape(file, expr, scope);
                }
                Literal::Every { key, value, domain, query, .. } => {
                    let items = self.shape(file, domain, scope).items();
                    let mut inner = scope.clone();
                    inner.insert(value.text().to_owned(), items);
                    key.iter().for_each(|key| {
                        inner.insert(key.text().to_owned(), Shape::Open);
                    });
                    self.query(file, query, &inner);
                }
            }
            for with in &statement.with_mods {
                self.shape(file, &with.refr, scope);
                self.shape(file, &with.r#as, scope);
            }
        }
    }

    fn statement(&mut self, file: &Parsed, expr: &Expr, scope: &mut Bindings) {
        let Expr::AssignExpr { lhs, rhs, .. } = expr else {
            self.shape(file, expr, scope);
            return;
        };
        let right = self.shape(file, rhs, scope);
        if let Expr::Var { .. } = lhs.as_ref() {
            self.bind(lhs, right, scope);
        } else {
            let left = self.shape(file, lhs, scope);
            self.bind(rhs, left, scope);
        }
    }

    fn bind(&mut self, pattern: &Expr, shape: Shape, scope: &mut Bindings) {
        if let Expr::Var { span, .. } = pattern
            && !matches!(span.text(), "input" | "data" | "_")
            && (shape != Shape::Open || !scope.contains_key(span.text()))
        {
            scope.insert(span.text().to_owned(), shape);
        }
    }

    fn shape(&mut self, file: &Parsed, expr: &Expr, scope: &Bindings) -> Shape {
        match expr {
            Expr::String { .. }
            | Expr::RawString { .. }
            | Expr::Number { .. }
            | Expr::Bool { .. }
            | Expr::Null { .. } => Shape::Open,
            Expr::Var { span, .. } => self.variable(file, span, scope),
            Expr::RefDot { refr, field, .. } => {
                let shape = self.shape(file, refr, scope);
                self.field(file, shape, field.0.text(), &field.0)
            }
            Expr::RefBrack { refr, index, .. } => self.bracket(file, refr, index, scope),
            Expr::Array { items, .. } | Expr::Set { items, .. } => self.all(file, items, scope),
            Expr::Object { fields, .. } => {
                for (_, key, value) in fields {
                    self.shape(file, key, scope);
                    self.shape(file, value, scope);
                }
                Shape::Open
            }
            Expr::ArrayCompr { term, query, .. } | Expr::SetCompr { term, query, .. } => {
                let inner = self.query(file, query, scope);
                match self.shape(file, term, &inner) {
                    Shape::Known(item) => Shape::ListOf(item),
                    Shape::Open | Shape::ListOf(_) => Shape::Open,
                }
            }
            Expr::ObjectCompr { key, value, query, .. } => {
                let inner = self.query(file, query, scope);
                self.shape(file, key, &inner);
                match self.shape(file, value, &inner) {
                    Shape::Known(item) => Shape::ListOf(item),
                    Shape::Open | Shape::ListOf(_) => Shape::Open,
                }
            }
            Expr::Call { fcn, params, .. } => self.call(file, fcn, params, scope),
            Expr::UnaryExpr { expr, .. } => self.shape(file, expr, scope),
            Expr::BinExpr { lhs, rhs, .. }
            | Expr::BoolExpr { lhs, rhs, .. }
            | Expr::ArithExpr { lhs, rhs, .. }
            | Expr::AssignExpr { lhs, rhs, .. } => {
                self.shape(file, lhs, scope);
                self.shape(file, rhs, scope);
                Shape::Open
            }
            Expr::Membership { key, value, collection, .. } => {
                key.iter().for_each(|key| {
                    self.shape(file, key, scope);
                });
                self.shape(file, value, scope);
                self.shape(file, collection, scope);
                Shape::Open
            }
        }
    }

    fn variable(&mut self, file: &Parsed, span: &Span, scope: &Bindings) -> Shape {
        let name = span.text();
        if name == "input" {
            return self.root;
        }
        if let Some(shape) = scope.get(name) {
            return *shape;
        }
        match rego::import(&file.module, name) {
            Some(path) if path.first().is_some_and(|root| root == "input") => path
                .iter()
                .skip(1)
                .fold(self.root, |shape, field| self.field(file, shape, field, span)),
            _ => Shape::Open,
        }
    }

    fn field(&mut self, file: &Parsed, shape: Shape, name: &str, span: &Span) -> Shape {
        match shape.field(name) {
            Ok(shape) => {
                if let Shape::Known(schema) = shape {
                    self.reads.extend(schema.get("x-read").and_then(Value::as_str));
                }
                shape
            }
            Err(known) => {
                let hint = table::nearest(name, known.keys().map(String::as_str)).map_or_else(
                    || {
                        format!(
                            "use one of {}",
                            known.keys().cloned().collect::<Vec<_>>().join(", ")
                        )
                    },
                    |name| format!("write `{name}`"),
                );
                let message = format!("the document has no `{name}` here");
                let at = rego::position(span);
                self.faults.insert(fault(&file.file, at, "unknown_input", message, &hint));
                Shape::Open
            }
        }
    }

    fn bracket(&mut self, file: &Parsed, refr: &Expr, index: &Expr, scope: &Bindings) -> Shape {
        let shape = self.shape(file, refr, scope);
        if let Some(name) = rego::text(index) {
            return self.field(file, shape, &name, index.span());
        }
        self.shape(file, index, scope);
        if shape == self.root && !self.reads_all {
            let message = "`input[…]` with a computed key hides what the policy reads".to_owned();
            let at = rego::start(index);
            let hint = "name the field, or let the layer's .manifest say that it reads all";
            self.faults.insert(fault(&file.file, at, "dynamic_input", message, hint));
        }
        shape.items()
    }

    fn all(&mut self, file: &Parsed, items: &[Ref<Expr>], scope: &Bindings) -> Shape {
        items.iter().for_each(|item| {
            self.shape(file, item, scope);
        });
        Shape::Open
    }

    /// Follows calls of the unit's own functions with what is known of the arguments.
    fn call(&mut self, file: &Parsed, fcn: &Expr, params: &[Ref<Expr>], scope: &Bindings) -> Shape {
        let shapes: Vec<Shape> =
            params.iter().map(|param| self.shape(file, param, scope)).collect();
        let mut path = Vec::new();
        rego::static_path(fcn, &mut path);
        if let ["object", "get"] = path.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            let key = params.get(1).and_then(|key| rego::text(key).map(|name| (name, key)));
            return match (shapes.first(), key) {
                (Some(shape), Some((name, key))) => self.field(file, *shape, &name, key.span()),
                _ => Shape::Open,
            };
        }
        if shapes.iter().all(|shape| *shape == Shape::Open) || self.calls >= CALLS_MAX {
            return Shape::Open;
        }
        if let Some(target) = path.first().and_then(|name| rego::import(&file.module, name)) {
            path.splice(0..1, target);
        }
        let absolute: Vec<String> = match path.split_first() {
            Some((root, rest)) if root == "data" => rest.to_vec(),
            _ => file.package.iter().chain(&path).cloned().collect(),
        };
        self.calls += 1;
        let files = self.files;
        for target in files.iter().filter(|target| absolute.starts_with(&target.package)) {
            for (facts, rule) in target.rules.iter().zip(&target.module.policy) {
                if facts.arity.is_some()
                    && absolute.get(target.package.len()..) == Some(&facts.name)
                {
                    self.rule(target, rule, &shapes);
                }
            }
        }
        self.calls -= 1;
        Shape::Open
    }
}
