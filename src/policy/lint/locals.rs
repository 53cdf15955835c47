//! Imports and local variables that nobody uses.

use std::collections::{BTreeMap, BTreeSet};

use regorus::unstable::{AssignOp, Expr, Literal, Query, Rule, RuleAssign, RuleHead, Span};

use super::super::fault;
use super::super::rego::{self, Parsed};
use crate::yaml::fault::Fault;

/// Adds a fault for each import and each local variable of `file` that nothing uses.
pub(super) fn check(file: &Parsed, found: &mut BTreeSet<Fault>) {
    let mut all = BTreeSet::new();
    for rule in &file.module.policy {
        let mut names = Names::default();
        names.rule(rule);
        for (name, at) in names.declared.iter().filter(|(name, _)| !names.used.contains(*name)) {
            let message = format!("nothing uses the variable `{name}`");
            let hint = format!("write `_` in the place of `{name}`, or remove it");
            found.insert(fault(&file.file, *at, "unused_variable", message, &hint));
        }
        all.extend(names.used);
    }
    for (alias, path, at) in rego::imports(&file.module) {
        if !all.contains(&alias) {
            let message = format!("nothing uses the import `{}`", path.join("."));
            let hint = format!("remove the import of `{alias}`");
            found.insert(fault(&file.file, at, "unused_import", message, &hint));
        }
    }
}

/// Names of one rule; scopes inside it are not told apart, so a doubtful name counts as used.
#[derive(Default)]
struct Names {
    declared: BTreeMap<String, (u32, u32)>,
    used: BTreeSet<String>,
}

impl Names {
    fn rule(&mut self, rule: &Rule) {
        let (refr, value, bodies) = match rule {
            Rule::Default { refr, value, .. } => (refr, Some(value), [].as_slice()),
            Rule::Spec { head, bodies, .. } => match head {
                RuleHead::Set { refr, key, .. } => (refr, key.as_ref(), bodies.as_slice()),
                RuleHead::Compr { refr, assign, .. } => {
                    (refr, assign.as_ref().map(|assign| &assign.value), bodies.as_slice())
                }
                RuleHead::Func { refr, args, assign, .. } => {
                    args.iter().for_each(|arg| self.pattern(arg));
                    (refr, assign.as_ref().map(|assign| &assign.value), bodies.as_slice())
                }
            },
        };
        self.indexes(refr);
        value.iter().for_each(|value| self.expr(value));
        for body in bodies {
            body.assign.iter().for_each(|RuleAssign { value, .. }| self.expr(value));
            self.query(&body.query);
        }
    }

    fn declare(&mut self, span: &Span) {
        let name = span.text();
        if name != "_" {
            self.declared.entry(name.to_owned()).or_insert_with(|| rego::position(span));
        }
    }

    /// What `:=`, `some … in` and parameters bind.
    fn pattern(&mut self, expr: &Expr) {
        #[expect(clippy::wildcard_enum_match_arm, reason = "nothing else binds")]
        match expr {
            Expr::Var { span, .. } => self.declare(span),
            Expr::Array { items, .. } => items.iter().for_each(|item| self.pattern(item)),
            Expr::Object { fields, .. } => fields.iter().for_each(|(_, key, value)| {
                self.expr(key);
                self.pattern(value);
            }),
            other => self.expr(other),
        }
    }

    fn query(&mut self, query: &Query) {
        for statement in &query.stmts {
            match &statement.literal {
                Literal::SomeVars { vars, .. } => vars.iter().for_each(|var| self.declare(var)),
                Literal::SomeIn { key, value, collection, .. } => {
                    key.iter().for_each(|key| self.pattern(key));
                    self.pattern(value);
                    self.expr(collection);
                }
                Literal::Expr { expr, .. } | Literal::NotExpr { expr, .. } => self.expr(expr),
                Literal::Every { key, value, domain, query, .. } => {
                    key.iter().for_each(|key| self.declare(key));
                    self.declare(value);
                    self.expr(domain);
                    self.query(query);
                }
            }
            for with in &statement.with_mods {
                self.expr(&with.refr);
                self.expr(&with.r#as);
            }
        }
    }

    fn indexes(&mut self, expr: &Expr) {
        #[expect(clippy::wildcard_enum_match_arm, reason = "only references have indexes")]
        match expr {
            Expr::RefDot { refr, .. } => self.indexes(refr),
            Expr::RefBrack { refr, index, .. } => {
                self.indexes(refr);
                self.expr(index);
            }
            _ => {}
        }
    }

    fn expr(&mut self, expr: &Expr) {
        match expr {
            Expr::String { .. }
            | Expr::RawString { .. }
            | Expr::Number { .. }
            | Expr::Bool { .. }
            | Expr::Null { .. } => {}
            Expr::Var { span, .. } => drop(self.used.insert(span.text().to_owned())),
            Expr::RefDot { refr, .. } => self.expr(refr),
            Expr::RefBrack { refr: left, index: right, .. }
            | Expr::BinExpr { lhs: left, rhs: right, .. }
            | Expr::BoolExpr { lhs: left, rhs: right, .. }
            | Expr::ArithExpr { lhs: left, rhs: right, .. } => {
                self.expr(left);
                self.expr(right);
            }
            Expr::AssignExpr { op: AssignOp::ColEq, lhs, rhs, .. } => {
                self.pattern(lhs);
                self.expr(rhs);
            }
            Expr::AssignExpr { op: AssignOp::Eq, lhs, rhs, .. } => {
                self.expr(lhs);
                self.expr(rhs);
            }
            Expr::Array { items, .. } | Expr::Set { items, .. } => {
                items.iter().for_each(|item| self.expr(item));
            }
            Expr::Object { fields, .. } => fields.iter().for_each(|(_, key, value)| {
                self.expr(key);
                self.expr(value);
            }),
            Expr::ArrayCompr { term, query, .. } | Expr::SetCompr { term, query, .. } => {
                self.query(query);
                self.expr(term);
            }
            Expr::ObjectCompr { key, value, query, .. } => {
                self.query(query);
                self.expr(key);
                self.expr(value);
            }
            Expr::Call { fcn, params, .. } => {
                self.expr(fcn);
                params.iter().for_each(|param| self.expr(param));
            }
            Expr::UnaryExpr { expr, .. } => self.expr(expr),
            Expr::Membership { key, value, collection, .. } => {
                key.iter().for_each(|key| self.expr(key));
                self.expr(value);
                self.expr(collection);
            }
        }
    }
}
