//! `versions`: entries that lie over the file's own keys, and the share of requests each takes.

use std::sync::Arc;

use crate::yaml::fault::Fault;
use crate::yaml::{Data, Entry, Node, Source, shown};

/// Ten-thousandths of all requests.
const WHOLE: u32 = 10_000;
const VERSIONS_MAX: usize = 16;
const NAME_CHARS_MAX: usize = 32;
/// The name of a file's own definition.
pub(super) const OWN: &str = "1";

/// Who may use a detector, and what votes and coverage ask of it, are of all its versions.
const SHARED: [&str; 15] = [
    "schema_version",
    "name",
    "description",
    "owner",
    "risk",
    "contexts",
    "safety",
    "types",
    "languages",
    "directions",
    "categories",
    "annotator",
    "cost",
    "tenants",
    "versions",
];

/// Where it answers: a version that says one of them says them all.
const PLACES: [&str; 2] = ["endpoint", "replicas"];

/// One version before its keys are read.
pub(super) struct Planned {
    pub(super) name: Arc<str>,
    /// Ten-thousandths of all requests; 0 where it is only observed.
    pub(super) share: u32,
    /// The file's keys with the version's laid over them.
    pub(super) tree: Node,
}

/// Takes a file apart: what it says itself, and its versions.
pub(super) fn split(tree: Node, source: Source<'_>) -> Result<(Node, Vec<Planned>), Vec<Fault>> {
    let Data::Map(entries) = tree.data else { return Ok((tree, Vec::new())) };
    let (listed, own): (Vec<Entry>, Vec<Entry>) =
        entries.into_iter().partition(|entry| entry.key == "versions");
    let own = Node { data: Data::Map(own), ..tree };
    let Some(list) = listed.into_iter().next().filter(|e| e.value.data != Data::Null) else {
        return Ok((own, Vec::new()));
    };
    let mut reading = Reading { source, faults: Vec::new() };
    let versions = reading.all(&own, &list.value);
    match reading.faults.is_empty() {
        true => Ok((own, versions)),
        false => Err(reading.faults),
    }
}

struct Reading<'a> {
    source: Source<'a>,
    faults: Vec<Fault>,
}

impl Reading<'_> {
    fn refuse(&mut self, at: (u32, u32), code: &'static str, message: &str, hint: &str) {
        let hint = Some(hint.to_owned());
        self.faults.push(self.source.fault(at, code, message.to_owned(), hint));
    }

    fn all(&mut self, own: &Node, list: &Node) -> Vec<Planned> {
        let items = match &list.data {
            Data::List(items) if (1..=VERSIONS_MAX).contains(&items.len()) => items,
            Data::List(_)
            | Data::Null
            | Data::Bool(_)
            | Data::Number(_)
            | Data::Text(_)
            | Data::Map(_) => {
                let message = format!("`versions` is no list of 1 to {VERSIONS_MAX} versions");
                self.refuse(list.at(), "bad_value", &message, "write `- version: NAME` lines");
                return Vec::new();
            }
        };
        if let Some(shadow) = own.get("shadow") {
            let message = "`shadow` of the file stands beside `versions`";
            self.refuse(
                shadow.at(),
                "bad_value",
                message,
                "say it in the version that it is about",
            );
        }
        let mut versions: Vec<Planned> = Vec::new();
        for item in items {
            let Some(version) = self.one(own, item) else { continue };
            if versions.iter().any(|known| known.name == version.name) {
                let message = format!("the version `{}` stands twice", version.name);
                self.refuse(item.at(), "bad_value", &message, "rename one of the two");
            }
            versions.push(version);
        }
        let all: u32 = versions.iter().map(|version| version.share).sum();
        if all == 0 && versions.iter().any(|version| *version.name == *OWN) {
            let message =
                format!("the version `{OWN}` is the file's own, which takes all requests");
            self.refuse(list.at(), "bad_value", &message, "name the version otherwise");
        }
        if self.faults.is_empty() && all != 0 && all != WHOLE {
            let all = f64::from(all) / 100.0;
            let message = format!("the weights of `versions` make {all} percent together");
            self.refuse(list.at(), "out_of_range", &message, "make them 100 percent");
        }
        versions
    }

    fn one(&mut self, own: &Node, item: &Node) -> Option<Planned> {
        let name = self.name(item)?;
        for entry in item.entries().iter().filter(|entry| SHARED.contains(&entry.key.as_str())) {
            let message = format!("`{}` is of all versions", entry.key);
            self.refuse(entry.at, "bad_value", &message, "say it once, beside `versions`");
        }
        let shadow = item.get("shadow").is_some_and(|node| node.data == Data::Bool(true));
        let share = match (item.get("weight"), shadow) {
            (None, true) => 0,
            (Some(weight), true) => {
                let message = "a version with `shadow` takes no requests";
                self.refuse(weight.at(), "bad_value", message, "remove `weight` or `shadow`");
                return None;
            }
            (None, false) => {
                let message = "the version says no share of the requests";
                self.refuse(item.at(), "missing_key", message, "add `weight:` in percent");
                return None;
            }
            (Some(weight), false) => self.share(weight)?,
        };
        let over = item.entries().iter().filter(|e| e.key != "version" && e.key != "weight");
        let over: Vec<Entry> = over.cloned().collect();
        // Another endpoint is another service: the file's replicas are none of it.
        let moves = over.iter().any(|new| PLACES.contains(&new.key.as_str()));
        let kept = |entry: &&Entry| {
            let moved = moves && PLACES.contains(&entry.key.as_str());
            !moved && !over.iter().any(|new| new.key == entry.key)
        };
        let entries = own.entries().iter().filter(kept).cloned().chain(over.clone()).collect();
        Some(Planned { name, share, tree: Node { data: Data::Map(entries), ..own.clone() } })
    }

    fn name(&mut self, item: &Node) -> Option<Arc<str>> {
        let (at, text) = match item.get("version") {
            None => (item.at(), None),
            Some(node) => match &node.data {
                Data::Text(text) => (node.at(), Some(text.clone())),
                Data::Number(number) => (node.at(), Some(number.to_string())),
                Data::Null | Data::Bool(_) | Data::List(_) | Data::Map(_) => (node.at(), None),
            },
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let is_name = |text: &String| {
            (1..=NAME_CHARS_MAX).contains(&text.len())
                && text.starts_with(|c: char| c.is_ascii_alphanumeric())
                && text.chars().all(plain)
        };
        let named = text.as_ref().filter(|text| is_name(text));
        if named.is_none() {
            let told = text.as_ref().map_or_else(
                || "an entry of `versions` says no `version`".to_owned(),
                |text| format!("`{}` is no name of a version", shown(text)),
            );
            let hint = "write `version:` and 1 to 32 letters, digits, dots or dashes";
            self.refuse(at, "bad_value", &told, hint);
        }
        named.map(|text| text.as_str().into())
    }

    /// Percent with at most two decimals, as ten-thousandths.
    fn share(&mut self, weight: &Node) -> Option<u32> {
        let percent = match &weight.data {
            Data::Number(number) => number.as_f64(),
            Data::Null | Data::Bool(_) | Data::Text(_) | Data::List(_) | Data::Map(_) => None,
        };
        let share = percent.map(|percent| percent * 100.0).filter(|share| {
            (0.0..=f64::from(WHOLE)).contains(share) && (share - share.round()).abs() < 1e-6
        });
        if share.is_none() {
            let message = "the weight is no percentage";
            let hint = "write a number from 0 to 100 with at most two decimals";
            self.refuse(weight.at(), "out_of_range", message, hint);
        }
        share.map(|share| share.round() as u32)
    }
}
