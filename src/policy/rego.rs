//! One parsed Rego file: its package, rules, references and calls, read from the syntax tree.

use std::collections::BTreeSet;
use std::panic::catch_unwind;
use std::sync::Arc;

use regorus::unstable::{BUILTINS, Expr, Module, Parser, RuleHead, Span};

use super::growth::Growth;
use super::walk::{EXPR_LEVELS_MAX, Walk};
use super::{Limits, fault, scan, teach};
use crate::yaml::fault::Fault;

/// Builtins (or, with a final dot, families) that a pure policy may not call, and why.
const FORBIDDEN: [(&str, &str); 13] = [
    ("http.send", "it reaches the network"),
    ("opa.", "it reads the environment"),
    ("net.lookup_ip_addr", "it reaches the network"),
    ("net.cidr_expand", "its result is unbounded"),
    ("time.now_ns", "it reads the clock"),
    ("rand.", "it is random"),
    ("uuid.", "it is random"),
    ("print", "it writes to the log"),
    ("trace", "it writes to the log"),
    ("graph.reachable_paths", "its result is unbounded"),
    ("yaml.unmarshal", "its work is unbounded"),
    ("yaml.is_valid", "its work is unbounded"),
    ("json.match_schema", "its work is unbounded"),
];

/// A parsed file.
pub(super) struct Parsed {
    pub(super) file: Arc<str>,
    pub(super) text: Arc<str>,
    pub(super) module: Module,
    /// Package path, without `data`.
    pub(super) package: Vec<String>,
    /// What each rule is called and refers to.
    pub(super) rules: Vec<RuleFacts>,
    /// Equalities of computed fractions: the operator and its place.
    pub(super) inexact: Vec<(&'static str, (u32, u32))>,
    /// Its short string literals, for documents that its rules hold for.
    pub(super) words: BTreeSet<String>,
    /// Weight for the per-unit nesting limit.
    pub(super) nesting: u64,
    /// Where each `with` stands; only tests have any.
    withs: Vec<(u32, u32)>,
}

/// One rule of a file.
pub(super) struct RuleFacts {
    /// Path inside the package: the static part of its head.
    pub(super) name: Vec<String>,
    /// Number of parameters, for functions.
    pub(super) arity: Option<usize>,
    pub(super) position: (u32, u32),
    pub(super) refs: Vec<Reference>,
    /// Multiplications written in it.
    pub(super) products: usize,
    /// How it grows what it refers to.
    pub(super) growth: Growth,
    /// The fields of `input` that it mentions.
    pub(super) fields: Fields,
    /// Whether each of its bodies holds only for an entry of `input.settings.ignore`.
    pub(super) walks_ignore_table: bool,
}

/// First fields of `input`, as far as the text tells.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum Fields {
    /// No others than these.
    Named(BTreeSet<String>),
    /// `input` itself is passed on, or its fields are computed.
    #[default]
    All,
}

impl Fields {
    pub(super) fn none() -> Self {
        Fields::Named(BTreeSet::new())
    }

    pub(super) fn holds(&self, field: &str) -> bool {
        match self {
            Fields::All => true,
            Fields::Named(names) => names.contains(field),
        }
    }

    pub(super) fn add(&mut self, more: &Fields) {
        match (&mut *self, more) {
            (Fields::Named(names), Fields::Named(more)) => names.extend(more.iter().cloned()),
            (Fields::All, _) | (_, Fields::All) => *self = Fields::All,
        }
    }
}

/// What a rule refers to: another rule, a function, or a builtin.
#[derive(Clone)]
pub(super) struct Reference {
    /// Without `data`; imports are resolved.
    pub(super) path: Vec<String>,
    pub(super) position: (u32, u32),
    /// Written as `data.…` or through an import; others are looked up in the own package first.
    pub(super) absolute: bool,
    /// Number of arguments, for calls.
    pub(super) call: Option<usize>,
}

/// Scans and parses one file. Never takes long, whatever the text.
pub(super) fn parse(file: &str, text: &Arc<str>, limits: &Limits) -> Result<Parsed, Vec<Fault>> {
    let parsed = parse_test(file, text, limits)?;
    // The engine keeps values of rules over `with`, so that the second of two may be wrong.
    let faults: Vec<Fault> = parsed
        .withs
        .iter()
        .map(|at| {
            let hint = "pass the value to a function";
            fault(file, *at, "with_in_policy", "`with` is for tests only", hint)
        })
        .collect();
    if faults.is_empty() { Ok(parsed) } else { Err(faults) }
}

/// The same for a file of tests, which may use `with`.
pub(super) fn parse_test(
    file: &str,
    text: &Arc<str>,
    limits: &Limits,
) -> Result<Parsed, Vec<Fault>> {
    let nesting = scan::scan(file, text, limits).map_err(|fault| vec![fault])?;
    let module = catch_unwind(|| -> Result<Module, String> {
        let source = regorus::Source::from_contents(file.to_owned(), text.as_ref().to_owned())
            .map_err(|error| error.to_string())?;
        let mut parser = Parser::new(&source).map_err(|error| error.to_string())?;
        parser.enable_rego_v1().map_err(|error| error.to_string())?;
        parser.parse().map_err(|error| error.to_string())
    })
    .unwrap_or_else(|_| Err("the parser fails on this file".into()))
    .map_err(|error| vec![teach::explain(located(file, &error, "syntax"), text)])?;
    let mut package = Vec::new();
    static_path(&module.package.refr, &mut package);
    let mut faults = Vec::new();
    let mut walk = Walk::of(&module);
    let rules: Vec<RuleFacts> = module.policy.iter().map(|rule| walk.rule(rule)).collect();
    for rule in &rules {
        rule.refs.iter().filter_map(|called| forbidden(file, called)).for_each(|f| faults.push(f));
    }
    faults.extend(walk.too_long.map(|at| {
        let message = format!("an expression has over {EXPR_LEVELS_MAX} parts in a row");
        fault(file, at, "expression_too_long", message, "split it into rules or a list")
    }));
    if !faults.is_empty() {
        return Err(faults);
    }
    let Walk { withs, inexact, words, .. } = walk;
    let (file, text) = (file.into(), text.clone());
    Ok(Parsed { file, text, package, rules, inexact, words, nesting, withs, module })
}

fn forbidden(file: &str, called: &Reference) -> Option<Fault> {
    called.call?;
    let name = called.path.join(".");
    let (_, why) = FORBIDDEN.iter().find(|(banned, _)| match banned.strip_suffix('.') {
        Some(_) => name.starts_with(banned),
        None => name == *banned,
    })?;
    let message = format!("`{name}` is not allowed: {why}");
    let hint = format!("remove the call of `{name}`");
    Some(fault(file, called.position, "forbidden_builtin", message, &hint))
}

/// Number of arguments of a builtin.
pub(super) fn builtin_arity(name: &str) -> Option<usize> {
    BUILTINS.get(name).map(|(_, arity)| usize::from(*arity))
}

/// Every builtin that policies may call.
pub(super) fn builtin_names() -> impl Iterator<Item = &'static str> {
    BUILTINS.keys().copied().filter(|name| {
        FORBIDDEN.iter().all(|(banned, _)| match banned.strip_suffix('.') {
            Some(_) => !name.starts_with(banned),
            None => name != banned,
        })
    })
}

/// Reads the position and the sentence out of the engine's message, which never reaches anyone
/// whole because it quotes source lines.
pub(super) fn located(file: &str, message: &str, code: &'static str) -> Fault {
    // The first place is the caller's; further ones are quoted from below.
    let place = message.split("--> ").nth(1).and_then(|rest| rest.lines().next()).unwrap_or("");
    let mut numbers = place.rsplitn(3, ':');
    let column = numbers.next().and_then(|text| text.parse().ok()).unwrap_or(0);
    let line = numbers.next().and_then(|text| text.parse().ok()).unwrap_or(0);
    let named = numbers.next().filter(|_| line > 0).unwrap_or(file);
    let text = message
        .rsplit_once("error: ")
        .map_or(message, |(_, rest)| rest)
        .lines()
        .next()
        .unwrap_or_default();
    fault(named, (line, column), code, text.chars().take(300).collect::<String>(), "")
}

/// Line and column in characters; the parser's own columns count a tab as four.
pub(super) fn position(span: &Span) -> (u32, u32) {
    let text = span.source.get_contents();
    let before = usize::try_from(span.start).ok().and_then(|start| text.get(..start));
    let line = before.and_then(|before| before.rsplit('\n').next());
    let column = line.map_or(0, |line| u32::try_from(line.chars().count()).unwrap_or(u32::MAX));
    (span.line, column.saturating_add(1))
}

/// Where a reference begins: its own span may be that of its last dot.
pub(super) fn start(expr: &Expr) -> (u32, u32) {
    #[expect(clippy::wildcard_enum_match_arm, reason = "only references have dots")]
    match expr {
        Expr::RefDot { refr, .. } | Expr::RefBrack { refr, .. } => start(refr),
        _ => position(expr.span()),
    }
}

/// The leading static part of a reference: `a`, `b`, `c` of `a.b["c"][x]`; true if all of it is.
pub(super) fn static_path(expr: &Expr, into: &mut Vec<String>) -> bool {
    #[expect(clippy::wildcard_enum_match_arm, reason = "only references have paths")]
    match expr {
        Expr::Var { span, .. } => {
            into.push(span.text().to_owned());
            true
        }
        Expr::RefDot { refr, field, .. } => {
            let whole = static_path(refr, into);
            if whole {
                into.push(field.0.text().to_owned());
            }
            whole
        }
        Expr::RefBrack { refr, index, .. } => {
            let whole = static_path(refr, into);
            match (whole, text(index)) {
                (true, Some(name)) => {
                    into.push(name);
                    true
                }
                _ => false,
            }
        }
        _ => false,
    }
}

/// The value of a string literal.
pub(super) fn text(expr: &Expr) -> Option<String> {
    #[expect(clippy::wildcard_enum_match_arm, reason = "only strings have text")]
    match expr {
        Expr::String { value, .. } | Expr::RawString { value, .. } => {
            value.as_string().ok().map(|text| text.as_ref().to_owned())
        }
        _ => None,
    }
}

/// The path an import stands for, if `name` is one: `data.a.b` as `["data", "a", "b"]`.
pub(super) fn import(module: &Module, name: &str) -> Option<Vec<String>> {
    imports(module).find_map(|(alias, path, _)| (alias == name).then_some(path))
}

/// Every import below `data` or `input`: its alias, its path, and where it stands.
pub(super) fn imports(
    module: &Module,
) -> impl Iterator<Item = (String, Vec<String>, (u32, u32))> + '_ {
    module.imports.iter().filter_map(|import| {
        let mut path = Vec::new();
        static_path(&import.refr, &mut path);
        let alias = import.r#as.as_ref().map(|span| span.text().to_owned());
        let alias = alias.or_else(|| path.last().cloned())?;
        let real = matches!(path.first().map(String::as_str), Some("data" | "input"));
        (real && path.len() > 1).then(|| (alias, path, position(&import.span)))
    })
}

/// Head reference, parameters, and value expressions of a rule.
pub(super) fn head(head: &RuleHead) -> (&Expr, Option<&[regorus::unstable::Ref<Expr>]>) {
    match head {
        RuleHead::Compr { refr, .. } | RuleHead::Set { refr, .. } => (refr, None),
        RuleHead::Func { refr, args, .. } => (refr, Some(args)),
    }
}
