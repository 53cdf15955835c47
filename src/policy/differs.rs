//! What the engine answers unlike Open Policy Agent and is not made to agree: warnings for authors.

use super::fault;
use super::layers::Layer;
use super::rego::Parsed;
use crate::yaml::fault::Fault;

/// Builtin, how it differs, and what to do.
const BUILTINS: [(&str, &str, &str); 11] = [
    ("urlquery.decode", "`=` and `&` are lost here", "split the text before you decode its parts"),
    ("json.filter", "a null on the way of a path is dropped here", "use object.filter"),
    ("json.marshal", "`<`, `>`, `&` and 1.0 are not written alike", "build texts by concat"),
    ("yaml.marshal", "quotes and the order of keys differ", "build texts by concat"),
    ("semver.compare", "`v1.2.3` and `01.2.3` are errors here", "ask semver.is_valid first"),
    ("time.parse_duration_ns", "days are an error here", "write hours"),
    ("units.parse", "an unknown unit is undefined here, an error there", "match the unit first"),
    (
        "units.parse_bytes",
        "an unknown unit is undefined here, an error there",
        "match the unit first",
    ),
    ("json.is_valid", "numbers beyond 1e308 are not valid here", "do not decide by it"),
    ("time.add_date", "a day that the month lacks is its last here", "add days, not months"),
    ("base64url.decode", "texts without padding are errors here", "use base64.decode"),
];

/// Every call and comparison of the layer whose answer may differ.
pub(super) fn warnings(layer: &Layer) -> Vec<Fault> {
    layer.files.iter().flat_map(|file| calls(file).chain(comparisons(file))).collect()
}

fn calls(file: &Parsed) -> impl Iterator<Item = Fault> {
    let called = file.rules.iter().flat_map(|rule| &rule.refs).filter(|found| found.call.is_some());
    called.filter_map(|found| {
        let name = found.path.join(".");
        let (_, how, hint) = BUILTINS.iter().find(|(builtin, _, _)| *builtin == name)?;
        let message = format!("`{name}` differs from Open Policy Agent: {how}");
        Some(fault(&file.file, found.position, "differs_from_opa", message, hint))
    })
}

fn comparisons(file: &Parsed) -> impl Iterator<Item = Fault> {
    file.inexact.iter().map(|(symbol, at)| {
        let message =
            format!("`{symbol}` on fractions is binary here and decimal in Open Policy Agent");
        let hint = "compare with `<` or `>` and a margin";
        fault(&file.file, *at, "differs_from_opa", message, hint)
    })
}
