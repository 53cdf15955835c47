//! The call graph of one unit: recursion, missing references, wrong numbers of arguments.
//!
//! A recursive function overflows the stack and ends the process, so a doubtful edge counts.

use std::collections::{BTreeMap, BTreeSet};

use super::growth::Growth;
use super::rego::{Parsed, Reference, builtin_arity, builtin_names};
use super::{DEPTH_OF_CALLS_MAX, fault, table};
use crate::yaml::fault::Fault;

/// Multiplications on one chain of rules: 2^12 times the digits of a literal take milliseconds.
const PRODUCTS_MAX: usize = 12;
/// Most that a chain of rules may add to a value: a million parts are compared in milliseconds,
/// and a value that nests deeper overflows the stack of whoever drops it.
const GROWTH_MAX: Growth = Growth { bits: 20.0, levels: 500.0 };

/// Absolute rule paths of a unit, with what each refers to.
pub(super) struct Graph<'a> {
    nodes: Vec<Node<'a>>,
    by_path: BTreeMap<Vec<&'a str>, usize>,
}

struct Node<'a> {
    path: Vec<&'a str>,
    arity: Option<usize>,
    places: Vec<(&'a Parsed, usize)>,
    edges: BTreeSet<usize>,
}

/// Checks the graph; `tables` are `data` paths that tables define.
pub(super) fn check<'a>(
    files: &[&'a Parsed],
    tables: &[Vec<&str>],
) -> Result<Graph<'a>, Vec<Fault>> {
    let mut graph = Graph { nodes: Vec::new(), by_path: BTreeMap::new() };
    for file in files {
        for (index, rule) in file.rules.iter().enumerate() {
            let path: Vec<&str> =
                file.package.iter().chain(&rule.name).map(String::as_str).collect();
            let at = *graph.by_path.entry(path.clone()).or_insert_with(|| {
                graph.nodes.push(Node {
                    path,
                    arity: rule.arity,
                    places: Vec::new(),
                    edges: BTreeSet::new(),
                });
                graph.nodes.len() - 1
            });
            if let Some(node) = graph.nodes.get_mut(at) {
                node.places.push((file, index));
            }
        }
    }
    let mut faults = Vec::new();
    for index in 0..graph.nodes.len() {
        let edges = graph.edges(index, tables, &mut faults);
        if let Some(node) = graph.nodes.get_mut(index) {
            node.edges = edges;
        }
    }
    if faults.is_empty() {
        graph.depths(&mut faults);
    }
    if faults.is_empty() { Ok(graph) } else { Err(faults) }
}

impl<'a> Graph<'a> {
    /// Every rule reachable from the rules called `names` in any package, by file and index.
    pub(super) fn reachable(&self, names: &[&str]) -> Vec<(&'a Parsed, usize)> {
        let mut seen = BTreeSet::new();
        let mut open: Vec<usize> = (0..self.nodes.len())
            .filter(|at| {
                self.nodes.get(*at).is_some_and(|node| {
                    node.places.iter().any(|(file, rule)| {
                        let name = file.rules.get(*rule).and_then(|rule| rule.name.first());
                        name.is_some_and(|name| names.contains(&name.as_str()))
                    })
                })
            })
            .collect();
        let mut found = Vec::new();
        while let Some(at) = open.pop() {
            if let (true, Some(node)) = (seen.insert(at), self.nodes.get(at)) {
                found.extend(node.places.iter().copied());
                open.extend(&node.edges);
            }
        }
        found
    }

    fn edges(&self, at: usize, tables: &[Vec<&str>], faults: &mut Vec<Fault>) -> BTreeSet<usize> {
        let mut edges = BTreeSet::new();
        let Some(node) = self.nodes.get(at) else { return edges };
        for (file, rule) in &node.places {
            for reference in file.rules.get(*rule).iter().flat_map(|rule| &rule.refs) {
                let found = self.resolve(file, reference);
                if let Some(fault) = self.wrong(file, reference, &found, tables) {
                    faults.push(fault);
                }
                edges.extend(found);
            }
        }
        edges
    }

    /// The rules a reference may mean: equal paths, those below, or the one above.
    fn resolve(&self, file: &Parsed, reference: &Reference) -> Vec<usize> {
        let path: Vec<&str> = if reference.absolute {
            reference.path.iter().map(String::as_str).collect()
        } else {
            file.package.iter().chain(&reference.path).map(String::as_str).collect()
        };
        let below = self
            .by_path
            .range(path.clone()..)
            .take_while(|(name, _)| name.starts_with(&path))
            .map(|(_, at)| *at);
        let above = (1..path.len())
            .filter_map(|length| path.get(..length))
            .filter_map(|name| self.by_path.get(name).copied());
        below.chain(above).collect()
    }

    fn wrong(
        &self,
        file: &Parsed,
        reference: &Reference,
        found: &[usize],
        tables: &[Vec<&str>],
    ) -> Option<Fault> {
        let name = reference.path.join(".");
        let Some(given) = reference.call else {
            let path: Vec<&str> = reference.path.iter().map(String::as_str).collect();
            let table =
                tables.iter().any(|table| path.starts_with(table) || table.starts_with(&path));
            if !reference.absolute || !found.is_empty() || table {
                return None;
            }
            return Some(self.undefined(file, reference, &name));
        };
        let arity = found.iter().find_map(|at| self.nodes.get(*at)?.arity);
        let Some(wanted) = arity.or_else(|| builtin_arity(&name)) else {
            let message = format!("no function is called `{name}`");
            let own = file.rules.iter().filter(|rule| rule.arity.is_some());
            let own = own.filter_map(|rule| rule.name.first().map(String::as_str));
            let known: Vec<&str> = own.chain(builtin_names().map(|name| name as &str)).collect();
            let hint = table::nearest(&name, known)
                .map_or_else(|| format!("define `{name}`"), |near| format!("write `{near}`"));
            return Some(fault(&file.file, reference.position, "unknown_function", message, &hint));
        };
        (given != wanted && !(name == "walk" && given == 2)).then(|| {
            let message = format!("`{name}` takes {wanted} arguments, not {given}");
            let hint = format!("give `{name}` {wanted} arguments");
            fault(&file.file, reference.position, "wrong_arity", message, &hint)
        })
    }

    fn undefined(&self, file: &Parsed, reference: &Reference, name: &str) -> Fault {
        let message = format!("nothing defines `data.{name}`");
        let known: Vec<String> = self.by_path.keys().map(|path| path.join(".")).collect();
        let hint = match table::nearest(name, known.iter().map(String::as_str)) {
            _ if is_foreign(&file.package, &reference.path) => {
                "copy the rule here: another tenant's rules are out of reach".to_owned()
            }
            Some(near) => format!("write `data.{near}`"),
            None => format!("remove `data.{name}`, or define it in a bundle"),
        };
        fault(&file.file, reference.position, "undefined_reference", message, &hint)
    }

    /// Faults for cycles and for chains that are too long.
    fn depths(&self, faults: &mut Vec<Fault>) {
        let mut depths: Vec<Option<usize>> = vec![None; self.nodes.len()];
        let mut products = vec![0; self.nodes.len()];
        let mut growths = vec![Growth::default(); self.nodes.len()];
        for start in 0..self.nodes.len() {
            let mut open: Vec<(usize, Vec<usize>)> = Vec::new();
            let mut way = BTreeSet::new();
            let mut next = Some(start);
            loop {
                if let Some(at) = next.take() {
                    if way.contains(&at) {
                        faults.push(self.recursion(at));
                        return;
                    }
                    if depths.get(at).is_some_and(Option::is_none) {
                        way.insert(at);
                        let edges = self.nodes.get(at).map(|n| n.edges.iter().copied().collect());
                        open.push((at, edges.unwrap_or_default()));
                    }
                }
                let Some((at, edges)) = open.last_mut() else { break };
                if let Some(edge) = edges.pop() {
                    next = Some(edge);
                    continue;
                }
                let at = *at;
                open.pop();
                way.remove(&at);
                let depth = 1 + self.nodes.get(at).map_or(0, |node| {
                    let below = node.edges.iter().filter_map(|edge| depths.get(*edge).copied());
                    below.flatten().max().unwrap_or(0)
                });
                let product = self.products(at, &products);
                if product > PRODUCTS_MAX {
                    faults.push(self.too_many_products(at));
                    return;
                }
                if let Some(slot) = products.get_mut(at) {
                    *slot = product;
                }
                let growth = self.growth(at, &growths);
                let grows = growth.bits > GROWTH_MAX.bits || growth.levels > GROWTH_MAX.levels;
                // A test runs for its author alone, under the time limit of tests.
                if grows && !self.is_test(at) {
                    faults.push(self.grows_too_much(at));
                    return;
                }
                if let Some(slot) = growths.get_mut(at) {
                    *slot = growth;
                }
                if depth > DEPTH_OF_CALLS_MAX {
                    faults.push(self.too_deep(at));
                    return;
                }
                if let Some(slot) = depths.get_mut(at) {
                    *slot = Some(depth);
                }
            }
        }
    }

    fn recursion(&self, at: usize) -> Fault {
        let (file, position, name) = self.place(at);
        let message = format!("`{name}` refers to itself, directly or through others");
        let hint = format!("break the cycle, or rename variables called as `{name}`");
        fault(file, position, "recursion", message, &hint)
    }

    fn too_deep(&self, at: usize) -> Fault {
        let (file, position, name) = self.place(at);
        let message = format!("`{name}` depends on a chain of over {DEPTH_OF_CALLS_MAX} rules");
        fault(file, position, "chain_too_long", message, "shorten the chain")
    }

    /// Multiplications on the longest way down from a rule: each may double the digits of a
    /// number, and a multiplication cannot be interrupted.
    fn products(&self, at: usize, below: &[usize]) -> usize {
        let Some(node) = self.nodes.get(at) else { return 0 };
        let own = node.places.iter().filter_map(|(file, rule)| file.rules.get(*rule));
        let own = own.map(|rule| rule.products).max().unwrap_or(0);
        let most = node.edges.iter().filter_map(|edge| below.get(*edge)).max();
        own + most.copied().unwrap_or(0)
    }

    fn too_many_products(&self, at: usize) -> Fault {
        let (file, position, name) = self.place(at);
        let message = format!("`{name}` depends on a chain of over {PRODUCTS_MAX} multiplications");
        fault(file, position, "too_many_products", message, "multiply less, or add logarithms")
    }

    fn growth(&self, at: usize, below: &[Growth]) -> Growth {
        let Some(node) = self.nodes.get(at) else { return Growth::default() };
        let most =
            |growths: &mut dyn Iterator<Item = Growth>| growths.fold(Growth::default(), Growth::or);
        let own = node.places.iter().filter_map(|(file, rule)| file.rules.get(*rule));
        let own = most(&mut own.map(|rule| rule.growth));
        let of = |functions: bool| {
            let edges = node.edges.iter().filter(move |edge| {
                self.nodes.get(**edge).is_some_and(|node| node.arity.is_some() == functions)
            });
            edges.filter_map(|edge| below.get(*edge).copied())
        };
        // A function may grow the very value that another rule gave.
        own.and(most(&mut of(true))).and(most(&mut of(false)))
    }

    fn is_test(&self, at: usize) -> bool {
        self.place(at).0.ends_with("_test.rego")
    }

    fn grows_too_much(&self, at: usize) -> Fault {
        let (file, position, name) = self.place(at);
        let message = format!("`{name}` builds a value that holds the same parts too many times");
        let hint = "name each part once, in a flat list or object";
        fault(file, position, "value_too_large", message, hint)
    }

    fn place(&self, at: usize) -> (&str, (u32, u32), String) {
        let Some(node) = self.nodes.get(at) else { return ("", (0, 0), String::new()) };
        let name = node.path.join(".");
        match node.places.first() {
            Some((file, rule)) => {
                let position = file.rules.get(*rule).map_or((0, 0), |rule| rule.position);
                (&file.file, position, name)
            }
            None => ("", (0, 0), name),
        }
    }
}

/// Whether a path lies in the folder of a tenant that is not the package's.
fn is_foreign(package: &[String], path: &[String]) -> bool {
    path.first().is_some_and(|top| top == "tenants") && package.get(1) != path.get(1)
}
