//! What a decoder expected and found, in the words of whoever writes the file.

use super::shown;

/// What was expected: `usize` is a whole number, `struct Server` a mapping.
pub fn expected(raw: &str) -> String {
    let plain = match raw {
        "u8" => "a whole number from 0 to 255",
        "u16" => "a whole number from 0 to 65535",
        "u32" => "a whole number from 0 to 4294967295",
        "u64" | "usize" => "a whole number, 0 or more",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "a map" => "a mapping",
        "a sequence" => "a list",
        "path string" => "a path as text",
        "socket address" => "an address with a port, such as 127.0.0.1:8000",
        _ if raw.starts_with("struct ") => "a mapping",
        _ if raw.starts_with("enum ") || raw == "string or map" => "one name",
        other => other,
    };
    plain.to_owned()
}

/// What was found, a value of the file in backticks.
pub fn found(raw: &str) -> String {
    match raw {
        "sequence" => "a list".to_owned(),
        "map" => "a mapping".to_owned(),
        "null" | "unit value" | "Option value" => "nothing".to_owned(),
        other => {
            let kinds = ["integer ", "floating point ", "boolean "];
            let value = kinds.into_iter().find_map(|kind| other.strip_prefix(kind));
            let text = other.strip_prefix("string \"").and_then(|text| text.strip_suffix('"'));
            match (value, text) {
                (Some(value), _) => shown(value),
                (_, Some(text)) => format!("`{}`", shown(text)),
                (None, None) => shown(other),
            }
        }
    }
}

/// A decoder's message, and what to do about it where it says so.
pub fn told(message: &str) -> (String, Option<String>) {
    let wrong = ["invalid type: ", "invalid value: "];
    if let Some(rest) = wrong.into_iter().find_map(|start| message.strip_prefix(start))
        && let Some((was, wanted)) = rest.rsplit_once(", expected ")
    {
        return (format!("expected {}, found {}", expected(wanted), found(was)), None);
    }
    for (start, what) in
        [("unknown variant `", "is none of the known values"), ("unknown field `", "is unknown")]
    {
        if let Some((name, known)) =
            message.strip_prefix(start).and_then(|rest| rest.split_once("`, expected "))
        {
            return (format!("`{}` {what}", shown(name)), Some(format!("write {known}")));
        }
    }
    if let Some(key) = message.strip_prefix("missing field ") {
        return (format!("key {key} is missing"), None);
    }
    (message.to_owned(), None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_word_of_the_decoder_reaches_whoever_writes_the_file() {
        for (raw, plain) in [
            (
                "invalid type: string \"many\", expected usize",
                "expected a whole number, 0 or more, found `many`",
            ),
            (
                "invalid value: integer `-1`, expected u32",
                "expected a whole number from 0 to 4294967295, found `-1`",
            ),
            ("invalid type: sequence, expected struct Server", "expected a mapping, found a list"),
            ("invalid type: null, expected a map", "expected a mapping, found nothing"),
            ("invalid type: map, expected a sequence", "expected a list, found a mapping"),
            ("unknown variant `prod`, expected `a` or `b`", "`prod` is none of the known values"),
            ("missing field `weight`", "key `weight` is missing"),
            ("must be at least 1s", "must be at least 1s"),
        ] {
            assert_eq!(told(raw).0, plain);
        }
        assert_eq!(told("unknown field `a`, expected `b`").1.as_deref(), Some("write `b`"));
    }
}
