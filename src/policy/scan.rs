//! Looks at Rego text before the parser does: the parser needs exponential time for nested
//! brackets and huge number literals, and nothing can stop it once it runs.

use super::{Limits, fault};
use crate::yaml::fault::Fault;

/// Characters of an exponent that are looked at; one that is longer is refused.
const EXPONENT_SEEN: usize = 64;

/// The sum of 2^depth over the innermost brackets of `text`, or why it must not be parsed.
pub(super) fn scan(file: &str, text: &str, limits: &Limits) -> Result<u64, Fault> {
    if text.len() > limits.source_bytes_max {
        let message = format!("the file is larger than {} bytes", limits.source_bytes_max);
        return Err(fault(
            file,
            (0, 0),
            "too_large",
            message,
            "split it, or move data into a table",
        ));
    }
    if let Some(found) = unseen(file, text) {
        return Err(found);
    }
    let mut scanner = Scanner { open: Vec::new(), sum: 0, line: 1, column: 0 };
    let mut chars = text.chars().peekable();
    let mut before = ' ';
    while let Some(c) = chars.next() {
        scanner.step(c);
        match c {
            '#' => scanner.skip_to(&mut chars, '\n', false),
            '"' => scanner.skip_to(&mut chars, '"', true),
            '`' => scanner.skip_to(&mut chars, '`', false),
            '[' | '{' | '(' => {
                if let Some(inner) = scanner.open.last_mut() {
                    *inner = true;
                }
                scanner.open.push(false);
                if scanner.open.len() > limits.depth_max {
                    let message =
                        format!("brackets nest deeper than {}, at `{c}`", limits.depth_max);
                    let at = (scanner.line, scanner.column);
                    return Err(fault(
                        file,
                        at,
                        "too_deep",
                        message,
                        "name the inner parts as rules",
                    ));
                }
            }
            ']' | '}' | ')' => {
                if scanner.open.last() == Some(&false) {
                    scanner.sum += 1 << scanner.open.len().min(40);
                }
                scanner.open.pop();
            }
            'e' | 'E' if before.is_ascii_digit() => {
                let ahead: String = chars.clone().take(EXPONENT_SEEN).collect();
                if let Some(message) = huge_exponent(c, &ahead) {
                    let at = (scanner.line, scanner.column);
                    let hint = "write a smaller number";
                    return Err(fault(file, at, "number_too_large", message, hint));
                }
            }
            _ => {}
        }
        before = c;
    }
    if scanner.sum > limits.nesting_sum_max {
        return Err(nesting(file, limits));
    }
    Ok(scanner.sum)
}

/// What is wrong with the exponent that begins after `e`, whose leading zeros count for nothing.
fn huge_exponent(e: char, ahead: &str) -> Option<String> {
    let digits = ahead.trim_start_matches(['+', '-', '0']);
    let digits = digits.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
    let all_zeros = digits.is_empty() && ahead.chars().count() == EXPONENT_SEEN;
    let sign_or_digit = |c: &char| c.is_ascii_digit() || matches!(c, '+' | '-');
    let shown: String = ahead.chars().take_while(sign_or_digit).take(9).collect();
    (digits.len() > 3 || all_zeros)
        .then(|| format!("a number has an exponent above 999, at `{e}{shown}`"))
}

/// A control character: the engine ends at some without a word, and what follows is lost.
fn unseen(file: &str, text: &str) -> Option<Fault> {
    let hidden = |c: char| c.is_control() && !matches!(c, '\t' | '\n' | '\r');
    let (before, _) = text.split_once(hidden)?;
    let found = text[before.len()..].chars().next()?;
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    let at = (u32::try_from(line).unwrap_or(0), u32::try_from(column).unwrap_or(0));
    let message = format!("the control character `{}`", found.escape_unicode());
    Some(fault(
        file,
        at,
        "control_character",
        message,
        "remove it; in text write it as \\u and four digits",
    ))
}

/// The fault of files that nest too much together.
pub(super) fn nesting(file: &str, limits: &Limits) -> Fault {
    let message = format!(
        "the nested brackets would take too long to parse (sum of 2^depth above {})",
        limits.nesting_sum_max
    );
    fault(file, (0, 0), "too_nested", message, "move big literals into data.yaml")
}

struct Scanner {
    /// One entry per open bracket: whether another opened inside.
    open: Vec<bool>,
    sum: u64,
    line: u32,
    column: u32,
}

impl Scanner {
    fn step(&mut self, c: char) {
        if c == '\n' {
            self.line += 1;
            self.column = 0;
        } else {
            self.column += 1;
        }
    }

    fn skip_to(
        &mut self,
        chars: &mut std::iter::Peekable<std::str::Chars<'_>>,
        end: char,
        escapes: bool,
    ) {
        while let Some(c) = chars.next() {
            self.step(c);
            if escapes && c == '\\' {
                if let Some(escaped) = chars.next() {
                    self.step(escaped);
                }
            } else if c == end || (escapes && c == '\n') {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> Option<&'static str> {
        scan("x.rego", text, &Limits::default()).err().map(|fault| fault.code)
    }

    #[test]
    fn a_75_byte_nest_of_brackets_is_refused_at_once_with_its_position() {
        let text = format!("package x\nr := {}1{}", "[".repeat(31), "]".repeat(28));
        let start = std::time::Instant::now();
        let fault = scan("x.rego", &text, &Limits::default()).unwrap_err();
        assert!(start.elapsed().as_millis() < 50);
        assert_eq!((fault.code, fault.line, fault.column), ("too_deep", 2, 16));
    }

    #[test]
    fn a_control_character_is_refused_at_its_place_also_in_comments() {
        let text = "package a\n\nblock contains 1\n# c \0\nblock contains 2\n";
        let fault = scan("x.rego", text, &Limits::default()).unwrap_err();
        assert_eq!((fault.code, fault.line, fault.column), ("control_character", 4, 5));
        assert_eq!(code("package a\r\n\tblock contains 1\r\n"), None);
    }

    #[test]
    fn brackets_in_strings_and_comments_do_not_count() {
        let nest = "[".repeat(40);
        for text in [format!("# {nest}\n"), format!("\"\\\"{nest}\""), format!("`{nest}\n{nest}`")]
        {
            assert_eq!(code(&text), None, "{text}");
        }
        assert_eq!(code(&format!("# c\n{nest}")), Some("too_deep"));
        assert_eq!(code(&format!("\"\\\\\"{nest}")), Some("too_deep"));
    }

    #[test]
    fn many_deep_literals_are_refused_together() {
        let literal = format!("{}1{}", "[".repeat(10), "]".repeat(10));
        assert_eq!(code(&literal.repeat(64)), None);
        assert_eq!(code(&literal.repeat(65)), Some("too_nested"));
    }

    #[test]
    fn large_files_and_huge_exponents_are_refused() {
        assert_eq!(code(&" ".repeat(256 * 1024 + 1)), Some("too_large"));
        assert_eq!(code("x := 1e999999999"), Some("number_too_large"));
        assert_eq!(code("x := 1e300 # e9999"), None);
    }
}
