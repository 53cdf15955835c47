//! Detectors that the environment names: `ORCHESTRATION_DETECTOR_<NAME>_URL`.

use crate::domain::id::DetectorName;

/// A service of the native protocol that the environment names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discovered {
    /// `TOXICITY_DE` of the variable is `toxicity-de`.
    pub name: DetectorName,
    /// Where it judges; http or https.
    pub url: String,
    /// The variable, for faults.
    pub variable: String,
}

/// The detector of the variable `rest`, prefix aside; `None` where it names none. An empty one is
/// unset: `Some(Ok(None))`. What is wrong is said without the value, which may hold a password.
pub(super) fn of(
    variable: &str,
    rest: &str,
    raw: &str,
) -> Option<Result<Option<Discovered>, &'static str>> {
    let name = rest.strip_prefix("DETECTOR_")?.strip_suffix("_URL")?;
    if raw.is_empty() {
        return Some(Ok(None));
    }
    let Ok(name) = DetectorName::parse(&name.to_ascii_lowercase().replace('_', "-")) else {
        return Some(Err("names no detector: write letters, digits and `_`, at most 64"));
    };
    let Some(()) = address(raw) else {
        return Some(Err("must be the http or https address at which the service judges"));
    };
    Some(Ok(Some(Discovered { name, url: raw.to_owned(), variable: variable.to_owned() })))
}

fn address(raw: &str) -> Option<()> {
    let uri: http::Uri = raw.parse().ok()?;
    let host = uri.authority()?.as_str();
    (matches!(uri.scheme_str()?, "http" | "https") && !host.contains('@')).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rest: &str, raw: &str) -> String {
        match of("V", rest, raw) {
            None => "none of ours".to_owned(),
            Some(Err(why)) => why.to_owned(),
            Some(Ok(None)) => "unset".to_owned(),
            Some(Ok(Some(found))) => format!("{} at {}", found.name, found.url),
        }
    }

    #[test]
    fn a_variable_names_a_detector_and_its_address() {
        let url = "http://127.0.0.1:9000/analyze";
        assert_eq!(check("DETECTOR_TOXICITY_DE_URL", url), format!("toxicity-de at {url}"));
        assert_eq!(check("DETECTOR_X1_URL", url), format!("x1 at {url}"));
        assert_eq!(check("DETECTOR_X_URL", ""), "unset");
        assert_eq!(check("DETECTOR_X_URI", url), "none of ours");
        for (rest, raw) in [
            ("DETECTOR__URL", url),
            ("DETECTOR__X_URL", url),
            ("DETECTOR_X.Y_URL", url),
            ("DETECTOR_X_URL", "127.0.0.1:9000"),
            ("DETECTOR_X_URL", "/analyze"),
            ("DETECTOR_X_URL", "ftp://host/analyze"),
            ("DETECTOR_X_URL", "http://ana:secret@host/analyze"),
        ] {
            let refused = check(rest, raw);
            assert!(refused.starts_with("names") || refused.starts_with("must"), "{rest} {raw}");
            assert!(!refused.contains("secret"));
        }
    }
}
