//! What a writer believes to be there, from `If-Match` and `If-None-Match` (RFC 9110, 13).

use actix_web::http::header::{HeaderMap, HeaderName, IF_MATCH, IF_NONE_MATCH};

use crate::domain::error::{Code, Error};
use crate::store::Expected;

/// Holds the headers against the `ETag` and version that are there.
pub(in crate::api::routes) fn expected(
    headers: &HeaderMap,
    current: Option<(&str, u64)>,
) -> Result<Expected, Error> {
    let found = current.map_or(Expected::Absent, |(_, version)| Expected::Version(version));
    let names = |name: &HeaderName| {
        let mut values = headers.get_all(name).peekable();
        values.peek()?;
        let tags = values.filter_map(|value| value.to_str().ok()).flat_map(|text| text.split(','));
        let known = current.map(|(etag, _)| format!("\"{etag}\""));
        let named = |tag: &str| known.as_deref().is_some_and(|known| tag == "*" || tag == known);
        Some(tags.map(str::trim).any(named))
    };
    match (names(&IF_MATCH), names(&IF_NONE_MATCH)) {
        (Some(false), _) => Err(failed("it changed since it was read; read it again")),
        (_, Some(true)) => Err(failed("it exists; change it with its ETag as If-Match")),
        (None, _) if current.is_some() => {
            let message = "something is there; send its ETag as If-Match to change it";
            Err(Error::new(Code::PreconditionRequired, message))
        }
        (None | Some(true), None | Some(false)) => Ok(found),
    }
}

/// Somebody else was first.
pub(in crate::api::routes) fn failed(message: &str) -> Error {
    Error::new(Code::PreconditionFailed, message)
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    fn check(headers: &[(HeaderName, &'static str)], current: Option<u64>) -> String {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name.clone(), HeaderValue::from_static(value));
        }
        match expected(&map, current.map(|version| ("abc", version))) {
            Ok(expected) => format!("{expected:?}"),
            Err(error) => error.code.info().name.to_owned(),
        }
    }

    #[test]
    fn only_the_strong_tag_of_what_is_there_lets_it_be_changed() {
        let (there, absent) = (Some(7), None);
        for (value, on_there, on_absent) in [
            ("\"abc\"", "Version(7)", "PRECONDITION_FAILED"),
            ("\"x\", \"abc\"", "Version(7)", "PRECONDITION_FAILED"),
            ("*", "Version(7)", "PRECONDITION_FAILED"),
            ("W/\"abc\"", "PRECONDITION_FAILED", "PRECONDITION_FAILED"),
            ("abc", "PRECONDITION_FAILED", "PRECONDITION_FAILED"),
            ("\"ABC\"", "PRECONDITION_FAILED", "PRECONDITION_FAILED"),
            ("", "PRECONDITION_FAILED", "PRECONDITION_FAILED"),
        ] {
            assert_eq!(check(&[(IF_MATCH, value)], there), on_there, "{value}");
            assert_eq!(check(&[(IF_MATCH, value)], absent), on_absent, "{value}");
        }
        assert_eq!(check(&[(IF_MATCH, "\"x\""), (IF_MATCH, "\"abc\"")], there), "Version(7)");
    }

    #[test]
    fn what_exists_is_never_changed_without_its_tag() {
        assert_eq!(check(&[], Some(7)), "PRECONDITION_REQUIRED");
        assert_eq!(check(&[(IF_NONE_MATCH, "\"x\"")], Some(7)), "PRECONDITION_REQUIRED");
        assert_eq!(check(&[(IF_NONE_MATCH, "*")], Some(7)), "PRECONDITION_FAILED");
        let both = [(IF_MATCH, "\"abc\""), (IF_NONE_MATCH, "*")];
        assert_eq!(check(&both, Some(7)), "PRECONDITION_FAILED");
        assert_eq!(check(&[], None), "Absent");
        assert_eq!(check(&[(IF_NONE_MATCH, "*")], None), "Absent");
    }
}
