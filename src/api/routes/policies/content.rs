//! What an author may store, and where its faults lie in what was sent.

use super::check::{CaseFile, Module};
use crate::api::strict::Value;
use crate::domain::error::{Code, Error, FieldFault, Place};
use crate::snapshot::{OverlayCases, OverlayContent, OverlayModule};
use crate::yaml::fault::{Fault, FaultKind};

/// Files of one overlay.
pub(super) const MODULES_MAX: usize = 32;
/// Bytes of one file.
const FILE_BYTES_MAX: usize = 256 * 1024;
/// Bytes of all files.
const BYTES_MAX: usize = 1024 * 1024;
/// Objects and lists inside each other.
const DEPTH_MAX: usize = 32;

/// The content of a request, or every field that is out of bounds.
pub(super) fn parse(
    modules: Vec<Module>,
    cases: Vec<CaseFile>,
    data: Option<Value>,
) -> Result<OverlayContent, Error> {
    let data = data.map(|data| data.0);
    let modules: Vec<OverlayModule> = modules
        .into_iter()
        .map(|module| OverlayModule { path: module.path, rego: module.rego })
        .collect();
    let cases = cases.into_iter().map(|file| OverlayCases { path: file.path, yaml: file.yaml });
    let content = OverlayContent { modules, cases: cases.collect(), data };
    let details = out_of_bounds(&content);
    if details.is_empty() {
        return Ok(content);
    }
    let message = "the overlay is out of bounds; see errors";
    Err(Error { details, ..Error::new(Code::InvalidRequest, message) })
}

fn out_of_bounds(content: &OverlayContent) -> Vec<FieldFault> {
    let mut faults = Vec::new();
    let mut wrong = |pointer: String, code: &'static str, detail: String| {
        faults.push(FieldFault { pointer, detail, code, place: None });
    };
    let OverlayContent { modules, cases, data } = content;
    if modules.is_empty() && data.is_none() {
        let detail = "send `modules`, `data` or both; DELETE removes the overlay".into();
        wrong("/modules".into(), "missing_field", detail);
    }
    for (pointer, files) in [("/modules", modules.len()), ("/cases", cases.len())] {
        if files > MODULES_MAX {
            let detail = format!("send at most {MODULES_MAX}");
            wrong(pointer.into(), "too_many", detail);
        }
    }
    for (at, module) in modules.iter().enumerate().take(MODULES_MAX) {
        if !is_name(&module.path, ".rego") {
            let detail = "name a file without folder: letters, digits, `_` and `-`, at most 64, \
                          and `.rego`";
            wrong(format!("/modules/{at}/path"), "bad_path", detail.into());
        } else if modules.iter().take(at).any(|other| other.path == module.path) {
            let detail = "another module has this path; give each its own";
            wrong(format!("/modules/{at}/path"), "repeated", detail.into());
        }
        if module.rego.len() > FILE_BYTES_MAX {
            let detail = format!("send at most {FILE_BYTES_MAX} bytes a file; split it");
            wrong(format!("/modules/{at}/rego"), "too_large", detail);
        }
    }
    faults.extend(cases_out_of_bounds(cases));
    let mut wrong = |pointer: String, code: &'static str, detail: String| {
        faults.push(FieldFault { pointer, detail, code, place: None });
    };
    let table = data.as_ref().map(serde_json::Value::to_string).unwrap_or_default();
    if data.as_ref().is_some_and(|data| is_deeper(data, DEPTH_MAX)) {
        let detail = format!("nest objects and lists at most {DEPTH_MAX} deep");
        wrong("/data".into(), "too_deep", detail);
    }
    let bytes = modules.iter().map(|module| module.rego.len());
    let bytes = bytes.chain(cases.iter().map(|file| file.yaml.len())).sum::<usize>() + table.len();
    if bytes > BYTES_MAX || table.len() > FILE_BYTES_MAX {
        let detail = format!("send at most {BYTES_MAX} bytes, {FILE_BYTES_MAX} of them as `data`");
        wrong(String::new(), "too_large", detail);
    }
    faults
}

fn cases_out_of_bounds(cases: &[OverlayCases]) -> Vec<FieldFault> {
    let mut faults = Vec::new();
    for (at, file) in cases.iter().enumerate().take(MODULES_MAX) {
        let twice = cases.iter().take(at).any(|other| other.path == file.path);
        let (field, code, detail) = if !is_name(&file.path, "_cases.yaml") {
            let detail = "name a file without folder: letters, digits, `_` and `-`, at most 64, \
                          and `_cases.yaml`";
            ("path", "bad_path", detail.to_owned())
        } else if twice {
            ("path", "repeated", "another file has this path; give each its own".to_owned())
        } else if file.yaml.len() > FILE_BYTES_MAX {
            let detail = format!("send at most {FILE_BYTES_MAX} bytes a file; split it");
            ("yaml", "too_large", detail)
        } else {
            continue;
        };
        faults.push(FieldFault {
            pointer: format!("/cases/{at}/{field}"),
            detail,
            code,
            place: None,
        });
    }
    faults
}

fn is_name(path: &str, end: &str) -> bool {
    let stem = path.strip_suffix(end).unwrap_or_default();
    let plain = |c: u8| c.is_ascii_alphanumeric() || c == b'_' || c == b'-';
    (1..=64).contains(&stem.len()) && stem.bytes().all(plain)
}

fn is_deeper(value: &serde_json::Value, than: usize) -> bool {
    let Some(below) = than.checked_sub(1) else { return value.is_object() || value.is_array() };
    match value {
        serde_json::Value::Object(fields) => fields.values().any(|value| is_deeper(value, below)),
        serde_json::Value::Array(items) => items.iter().any(|value| is_deeper(value, below)),
        serde_json::Value::Null
        | serde_json::Value::Bool(_)
        | serde_json::Value::Number(_)
        | serde_json::Value::String(_) => false,
    }
}

/// What an author reads where the cases of the overlay in `folder` could not be run at all.
pub(super) fn unable(folder: &str) -> Fault {
    Fault {
        kind: FaultKind::Policy,
        file: folder.trim_end_matches('/').to_owned(),
        line: 0,
        column: 0,
        code: "engine",
        message: "the cases could not be run".into(),
        hint: Some("send it again later".into()),
    }
}

/// The refusal of an overlay in `folder`. Files are named as the author named them; what lies in
/// another tenant's folder is not the author's to see.
pub(super) fn refused(faults: Vec<Fault>, folder: &str, content: &OverlayContent) -> Error {
    let foreign = |fault: &Fault| {
        fault.file.starts_with("tenants/") && !format!("{}/", fault.file).starts_with(folder)
    };
    let details: Vec<FieldFault> = faults
        .into_iter()
        .filter(|fault| !foreign(fault))
        .map(|fault| field(fault, folder, content))
        .collect();
    let first = details.first();
    let message = first.map_or_else(
        || "the overlay cannot be loaded".to_owned(),
        |first| match &first.place {
            Some(place) => {
                format!("{}:{}:{}: {}", place.file, place.line, place.column, first.detail)
            }
            None => first.detail.clone(),
        },
    );
    Error { details, ..Error::new(Code::PolicyInvalid, message) }
}

fn field(fault: Fault, folder: &str, content: &OverlayContent) -> FieldFault {
    let own = fault.file.strip_prefix(folder);
    let module = own.and_then(|own| content.modules.iter().position(|m| m.path == own));
    let case = own.and_then(|own| content.cases.iter().position(|file| file.path == own));
    let at = module.map(|at| ("modules", at, "rego"));
    let at = at.or_else(|| case.map(|at| ("cases", at, "yaml")));
    let pointer = match (own, at, &content.data) {
        (_, Some((list, at, field)), _) => format!("/{list}/{at}/{field}"),
        (Some("data.yaml"), _, Some(data)) => {
            let mut lines = vec!["/data".to_owned()];
            pointers(data, "/data", &mut lines);
            let line = usize::try_from(fault.line.saturating_sub(1)).unwrap_or_default();
            lines.into_iter().nth(line).unwrap_or_else(|| "/data".into())
        }
        _ => String::new(),
    };
    let file = own.map_or_else(|| format!("policies/{}", fault.file), str::to_owned);
    let place = Place { file, line: fault.line, column: fault.column, hint: fault.hint };
    FieldFault { pointer, detail: fault.message, code: fault.code, place: Some(place) }
}

/// What each line after the first of the table's text, indented as it is loaded, holds.
pub(in crate::api::routes) fn pointers(
    value: &serde_json::Value,
    at: &str,
    lines: &mut Vec<String>,
) {
    let children: Vec<(String, &serde_json::Value)> = match value {
        serde_json::Value::Object(fields) => fields
            .iter()
            .map(|(key, value)| (key.replace('~', "~0").replace('/', "~1"), value))
            .collect(),
        serde_json::Value::Array(items) => {
            items.iter().enumerate().map(|(at, value)| (at.to_string(), value)).collect()
        }
        serde_json::Value::Null
        | serde_json::Value::Bool(_)
        | serde_json::Value::Number(_)
        | serde_json::Value::String(_) => return,
    };
    if children.is_empty() {
        return;
    }
    for (key, value) in children {
        let below = format!("{at}/{key}");
        lines.push(below.clone());
        pointers(value, &below, lines);
    }
    lines.push(at.to_owned());
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn module(path: &str, rego: &str) -> Module {
        Module { path: path.into(), rego: rego.into() }
    }

    fn codes(modules: Vec<Module>, data: Option<serde_json::Value>) -> Vec<(String, &'static str)> {
        let refused = parse(modules, Vec::new(), data.map(Value));
        let details = refused.err().map(|error| error.details).unwrap_or_default();
        details.into_iter().map(|fault| (fault.pointer, fault.code)).collect()
    }

    #[test]
    fn a_path_is_a_plain_name_and_nothing_else() {
        for good in ["a.rego", "A-b_9.rego", &format!("{}.rego", "x".repeat(64))] {
            assert_eq!(codes(vec![module(good, "")], None), [], "{good}");
        }
        for bad in [
            "",
            ".rego",
            "a",
            "a.yaml",
            "../a.rego",
            "a/b.rego",
            "/a.rego",
            "a\\b.rego",
            ".a.rego",
            "a b.rego",
            "a\0.rego",
            "a.rego\n",
            "ä.rego",
            "a.b.rego",
            "C:a.rego",
            "a.REGO",
            &format!("{}.rego", "x".repeat(65)),
        ] {
            let found = codes(vec![module(bad, "")], None);
            assert_eq!(found, [("/modules/0/path".to_owned(), "bad_path")], "{bad:?}");
        }
        let twice = codes(vec![module("a.rego", ""), module("a.rego", "")], None);
        assert_eq!(twice, [("/modules/1/path".to_owned(), "repeated")]);
    }

    #[test]
    fn sizes_numbers_and_depth_are_bounded() {
        let full = |count: usize, bytes: usize| {
            let rego = "#".repeat(bytes);
            (0..count).map(|n| module(&format!("m{n}.rego"), &rego)).collect::<Vec<_>>()
        };
        assert_eq!(codes(full(MODULES_MAX, 1), None), []);
        assert_eq!(codes(full(MODULES_MAX + 1, 1), None)[0].1, "too_many");
        assert_eq!(codes(full(4, FILE_BYTES_MAX), None), []);
        assert_eq!(codes(full(1, FILE_BYTES_MAX + 1), None)[0].0, "/modules/0/rego");
        assert_eq!(codes(full(5, FILE_BYTES_MAX), None), [(String::new(), "too_large")]);
        assert_eq!(codes(Vec::new(), None)[0].1, "missing_field");
        let deep = |depth: usize| (1..depth).fold(json!([]), |inner, _| json!([inner]));
        assert_eq!(codes(Vec::new(), Some(deep(DEPTH_MAX))), []);
        assert_eq!(codes(Vec::new(), Some(deep(DEPTH_MAX + 1)))[0].1, "too_deep");
    }

    #[test]
    fn each_line_of_a_table_points_to_its_value() {
        let data = json!({"a": {"b": [1, {"c/d": {}}], "e": []}, "f": null});
        let mut lines = vec!["/data".to_owned()];
        pointers(&data, "/data", &mut lines);
        let text = serde_json::to_string_pretty(&data).unwrap();
        assert_eq!(lines.len(), text.lines().count(), "{text}");
        for (line, pointer) in text.lines().zip(&lines) {
            let key = line.trim().split('"').nth(1).map(|key| key.replace('/', "~1"));
            if let Some(key) = key {
                assert_eq!(pointer.rsplit('/').next(), Some(key.as_str()), "{line}");
            }
        }
    }

    #[test]
    fn a_fault_in_another_tenants_folder_is_never_shown() {
        let fault = |file: &str| Fault {
            kind: crate::yaml::fault::FaultKind::Policy,
            file: file.into(),
            line: 1,
            column: 1,
            code: "parse",
            message: "unexpected".into(),
            hint: None,
        };
        let content = OverlayContent::default();
        let files = |faults| {
            let error = refused(faults, "tenants/a/standard/", &content);
            let places = error.details.into_iter().filter_map(|fault| fault.place);
            places.map(|place| place.file).collect::<Vec<_>>()
        };
        let shown = files(vec![
            fault("tenants/a/standard/x.rego"),
            fault("tenants/ab/standard/x.rego"),
            fault("tenants/a/strict/x.rego"),
            fault("standard/verdict.rego"),
        ]);
        assert_eq!(shown, ["x.rego", "policies/standard/verdict.rego"]);
        assert!(files(vec![fault("tenants/ab/standard")]).is_empty());
    }
}
