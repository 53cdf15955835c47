//! Reads facts out of the syntax tree of one file's rules.

use std::collections::BTreeSet;

use regorus::unstable::{
    ArithOp, BoolOp, Expr, Literal, Module, Query, Rule, RuleAssign, RuleBody, RuleHead,
};

use super::growth::{self, Growth};
use super::rego::{Fields, Reference, RuleFacts, head, import, position, start, static_path, text};

/// Deepest expression: a longer sum is a tree that overflows the stack of whoever drops it.
pub(super) const EXPR_LEVELS_MAX: usize = 200;

/// Whether `input` whole has another name in the file.
fn aliases_input(module: &Module) -> bool {
    module.imports.iter().any(|import| {
        let mut path = Vec::new();
        !static_path(&import.refr, &mut path) || path == ["input"]
    })
}

fn walks_ignore_table(rule: &Rule) -> bool {
    let Rule::Spec { bodies, .. } = rule else { return false };
    !bodies.is_empty()
        && bodies.iter().all(|body| {
            body.query.stmts.iter().any(|statement| match &statement.literal {
                Literal::SomeIn { collection, .. } => {
                    let mut path = Vec::new();
                    static_path(collection, &mut path) && path == ["input", "settings", "ignore"]
                }
                Literal::SomeVars { .. }
                | Literal::Expr { .. }
                | Literal::NotExpr { .. }
                | Literal::Every { .. } => false,
            })
        })
}

/// Arithmetic that may give a fraction, by its operator: a division, or a fraction in it.
fn fraction(expr: &Expr) -> Option<(&'static str, (u32, u32))> {
    let Expr::ArithExpr { op, lhs, rhs, .. } = expr else { return None };
    let symbol = match op {
        ArithOp::Add => "+",
        ArithOp::Sub => "-",
        ArithOp::Mul => "*",
        ArithOp::Div => return Some(("/", start(lhs))),
        ArithOp::Mod => return None,
    };
    let sides = || [lhs, rhs].into_iter();
    let literal = |side: &&regorus::unstable::Ref<Expr>| {
        matches!(side.as_ref(), Expr::Number { value, .. }
            if value.as_i64().is_err() && value.as_u64().is_err())
    };
    let inner = sides().find_map(|side| fraction(side));
    inner.or_else(|| sides().find(literal).map(|_| (symbol, start(lhs))))
}

/// One way through a file's rules.
pub(super) struct Walk<'a> {
    module: &'a Module,
    refs: Vec<Reference>,
    products: usize,
    fields: Fields,
    /// Every `with`.
    pub(super) withs: Vec<(u32, u32)>,
    pub(super) inexact: Vec<(&'static str, (u32, u32))>,
    pub(super) words: BTreeSet<String>,
    level: usize,
    /// The first expression that is too deep.
    pub(super) too_long: Option<(u32, u32)>,
}

impl<'a> Walk<'a> {
    pub(super) fn of(module: &'a Module) -> Self {
        Self {
            module,
            refs: Vec::new(),
            products: 0,
            fields: Fields::none(),
            withs: Vec::new(),
            inexact: Vec::new(),
            words: BTreeSet::new(),
            level: 0,
            too_long: None,
        }
    }

    pub(super) fn rule(&mut self, rule: &Rule) -> RuleFacts {
        self.refs.clear();
        self.products = 0;
        // An alias of `input` itself is no path that could be followed.
        self.fields = if aliases_input(self.module) { Fields::All } else { Fields::none() };
        let (refr, arity, span) = match rule {
            Rule::Spec { span, head: rule_head, bodies } => {
                match rule_head {
                    RuleHead::Set { key, .. } => key.iter().for_each(|key| self.expr(key)),
                    RuleHead::Compr { assign, .. } | RuleHead::Func { assign, .. } => {
                        self.assign(assign.as_ref());
                    }
                }
                bodies.iter().for_each(|body| self.body(body));
                let (refr, args) = head(rule_head);
                args.iter().for_each(|args| args.iter().for_each(|arg| self.expr(arg)));
                (refr, args.map(<[_]>::len), span)
            }
            Rule::Default { span, refr, args, value, .. } => {
                self.expr(value);
                (refr.as_ref(), (!args.is_empty()).then_some(args.len()), span)
            }
        };
        self.indexes(refr);
        let mut name = Vec::new();
        static_path(refr, &mut name);
        RuleFacts {
            name,
            arity,
            position: position(span),
            refs: std::mem::take(&mut self.refs),
            products: std::mem::take(&mut self.products),
            growth: self.too_long.map_or_else(|| growth::of(rule), |_| Growth::default()),
            fields: std::mem::take(&mut self.fields),
            walks_ignore_table: walks_ignore_table(rule),
        }
    }

    fn assign(&mut self, assign: Option<&RuleAssign>) {
        assign.iter().for_each(|assign| self.expr(&assign.value));
    }

    fn body(&mut self, body: &RuleBody) {
        self.assign(body.assign.as_ref());
        self.query(&body.query);
    }

    fn query(&mut self, query: &Query) {
        for statement in &query.stmts {
            match &statement.literal {
                Literal::SomeVars { .. } => {}
                Literal::SomeIn { key, value, collection, .. } => {
                    key.iter().for_each(|key| self.expr(key));
                    self.expr(value);
                    self.expr(collection);
                }
                Literal::Expr { expr, .. } | Literal::NotExpr { expr, .. } => self.expr(expr),
                Literal::Every { domain, query, .. } => {
                    self.expr(domain);
                    self.query(query);
                }
            }
            for with in &statement.with_mods {
                self.withs.push(position(&with.span));
                self.expr(&with.refr);
                self.expr(&with.r#as);
            }
        }
    }

    /// Bracketed indexes along a reference.
    fn indexes(&mut self, expr: &Expr) {
        #[expect(clippy::wildcard_enum_match_arm, reason = "only references have indexes")]
        match expr {
            Expr::RefDot { refr, .. } => self.indexes(refr),
            Expr::RefBrack { refr, index, .. } => {
                self.indexes(refr);
                self.expr(index);
            }
            Expr::Var { .. } => {}
            other => self.expr(other),
        }
    }

    fn reference(&mut self, expr: &Expr, call: Option<usize>) {
        let mut path = Vec::new();
        static_path(expr, &mut path);
        let Some(root) = path.first() else { return };
        let imported = import(self.module, root);
        let mut path = match &imported {
            Some(target) => target.iter().chain(path.iter().skip(1)).cloned().collect(),
            None => path,
        };
        let absolute = path.first().is_some_and(|root| root == "data");
        if absolute {
            path.remove(0);
        } else if path.first().is_some_and(|root| root == "input") {
            let field = path.into_iter().nth(1).map(|field| Fields::Named([field].into()));
            self.fields.add(&field.unwrap_or(Fields::All));
            return;
        }
        self.refs.push(Reference { path, position: start(expr), absolute, call });
    }

    fn expr(&mut self, expr: &Expr) {
        if self.level >= EXPR_LEVELS_MAX {
            self.too_long.get_or_insert_with(|| position(expr.span()));
            return;
        }
        self.level += 1;
        self.parts(expr);
        self.level -= 1;
    }

    fn parts(&mut self, expr: &Expr) {
        match expr {
            Expr::String { .. } | Expr::RawString { .. } => {
                let word = text(expr).filter(|word| word.len() <= 64 && self.words.len() < 64);
                self.words.extend(word);
            }
            Expr::Number { .. } | Expr::Bool { .. } | Expr::Null { .. } => {}
            Expr::Var { .. } | Expr::RefDot { .. } | Expr::RefBrack { .. } => {
                self.reference(expr, None);
                self.indexes(expr);
            }
            Expr::Array { items, .. } | Expr::Set { items, .. } => {
                items.iter().for_each(|item| self.expr(item));
            }
            Expr::Object { fields, .. } => fields.iter().for_each(|(_, key, value)| {
                self.expr(key);
                self.expr(value);
            }),
            Expr::ArrayCompr { term, query, .. } | Expr::SetCompr { term, query, .. } => {
                self.expr(term);
                self.query(query);
            }
            Expr::ObjectCompr { key, value, query, .. } => {
                self.expr(key);
                self.expr(value);
                self.query(query);
            }
            Expr::Call { fcn, params, .. } => {
                self.reference(fcn, Some(params.len()));
                params.iter().for_each(|param| self.expr(param));
            }
            Expr::UnaryExpr { expr, .. } => self.expr(expr),
            Expr::BoolExpr { op, lhs, rhs, .. } => {
                let equality = matches!(op, BoolOp::Eq | BoolOp::Ne);
                let found = [lhs, rhs].into_iter().find_map(|side| fraction(side));
                self.inexact.extend(found.filter(|_| equality));
                self.expr(lhs);
                self.expr(rhs);
            }
            Expr::BinExpr { lhs, rhs, .. } | Expr::AssignExpr { lhs, rhs, .. } => {
                self.expr(lhs);
                self.expr(rhs);
            }
            Expr::ArithExpr { op, lhs, rhs, .. } => {
                self.products += usize::from(matches!(op, ArithOp::Mul));
                self.expr(lhs);
                self.expr(rhs);
            }
            Expr::Membership { key, value, collection, .. } => {
                key.iter().for_each(|key| self.expr(key));
                self.expr(value);
                self.expr(collection);
            }
        }
    }
}
