//! Turns the engine's messages into ones that teach: the offending token, and what to change.

use super::table;
use crate::yaml::fault::Fault;

/// Characters of a message: a token may be as long as the file.
const SHOWN_MAX: usize = 500;

/// The fault with its true column, the token there, and a hint; `text` is the file it is in.
pub(super) fn explain(fault: Fault, text: &str) -> Fault {
    let mut fault = taught(fault, text);
    fault.message = bounded(fault.message);
    fault.hint = fault.hint.map(bounded);
    fault
}

fn bounded(text: String) -> String {
    match text.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

fn taught(mut fault: Fault, text: &str) -> Fault {
    fault.column = column(text, fault.line, fault.column);
    let (token, before) = token(text, fault.line, fault.column);
    fault.column -= before;
    if let Some(name) = unsafe_name(&fault.message) {
        let near = table::nearest(&name, words(text).filter(|word| *word != name));
        fault.hint = Some(near.map_or_else(
            || format!("bind `{name}` by `some` or `:=`, or define a rule of that name"),
            |near| format!("write `{near}`"),
        ));
        fault.message = format!("nothing defines `{name}`");
        fault.code = "undefined_variable";
        return fault;
    }
    if let Some((_, other)) = fault.message.split_once("conflicts with rule at ") {
        fault.hint = Some(format!("give the second value of `{token}` by `else`"));
        fault.message = format!("`{token}` has another value at {other}");
        fault.code = "conflicting_rules";
        return fault;
    }
    if fault.message == "invalid character in string" {
        return open_string(fault, text);
    }
    if fault.code == "syntax" {
        fault.hint = Some(hint(&fault.message, &token));
    }
    if !token.is_empty() && !fault.message.contains(&format!("`{token}`")) {
        fault.message = format!("{}, at `{token}`", fault.message);
    }
    fault
}

/// The engine points behind the text; what the author looks for is the quote that opens it.
fn open_string(mut fault: Fault, text: &str) -> Fault {
    let line = line_of(text, fault.line).unwrap_or_default();
    if let Some((before, open)) = line.rsplit_once('"') {
        fault.column = u32::try_from(before.chars().count()).map_or(0, |count| count + 1);
        fault.message = format!("the text `\"{open}` is not closed");
    }
    fault.hint = Some("close it by `\"` on its own line".to_owned());
    fault
}

/// The name in the engine's two ways to say that it is undefined.
fn unsafe_name(message: &str) -> Option<String> {
    let (before, _) = message.split_once(" is unsafe")?;
    let name = before.rsplit(' ').next()?.trim_matches('`');
    (!name.is_empty()).then(|| name.to_owned())
}

fn hint(message: &str, token: &str) -> String {
    let knows = |part: &str| message.contains(part);
    let text = match token {
        _ if knows("`if` keyword is required") => "write `if` before the body",
        _ if knows("`contains` keyword is required") => "write `contains` between name and value",
        "'" => "write text in double quotes",
        "&" | "&&" => "write `;` or a new line in the place of `&&`",
        "|" | "||" => "write a second rule in the place of `||`",
        "=" | "==" | ":=" => "write one `==` to compare, or one `:=` to assign",
        "!" => "write `not` in the place of `!`",
        "else" => "put `else` right behind the `}` of the rule before",
        "if" => "remove `if`: each line of a body must hold anyway",
        token if knows("while parsing query") && token.starts_with(char::is_alphanumeric) => {
            return format!("write `{token}` on a line of its own; loop by `some … in`");
        }
        _ if knows("expecting `") || knows("expecting }") => {
            let wanted = message.split('`').nth(1).unwrap_or("}");
            return format!("write the missing `{wanted}`");
        }
        "" => "remove what is unfinished at the end of the file",
        token => return format!("correct or remove `{token}`"),
    };
    text.to_owned()
}

/// The 1-based column in characters; the engine counts a tab as four.
fn column(text: &str, line: u32, counted: u32) -> u32 {
    let Some(line) = line_of(text, line) else { return counted };
    let (mut at, mut column) = (1, 1);
    for c in line.chars() {
        if at >= counted {
            break;
        }
        at += if c == '\t' { 4 } else { 1 };
        column += 1;
    }
    column + counted.saturating_sub(at)
}

fn line_of(text: &str, line: u32) -> Option<&str> {
    text.lines().nth(usize::try_from(line).ok()?.checked_sub(1)?)
}

/// The word or operator at a place, and how many columns before it an operator begins. Of a call's
/// bracket or a dot it is the whole name.
fn token(text: &str, line: u32, column: u32) -> (String, u32) {
    let Some(line) = line_of(text, line) else { return (String::new(), 0) };
    let chars: Vec<char> = line.chars().collect();
    let at = usize::try_from(column).map_or(0, |column| column.saturating_sub(1));
    let Some(first) = chars.get(at).copied() else { return (String::new(), 0) };
    let named = |c: &char| c.is_alphanumeric() || matches!(c, '_' | '.');
    let run = |from: usize, belongs: &dyn Fn(&char) -> bool| -> String {
        chars.iter().skip(from).take_while(|c| belongs(c)).collect()
    };
    if named(&first) || first == '(' {
        let before = chars.iter().take(at).rev().take_while(|c| named(c)).count();
        return (run(at - before, &named), 0);
    }
    let operator = |c: &char| "&|=:!<>+-*/%".contains(*c);
    let before = chars.iter().take(at).rev().take_while(|c| operator(c)).count();
    match operator(&first) {
        true => (run(at - before, &operator), u32::try_from(before).unwrap_or(0)),
        false => (first.to_string(), 0),
    }
}

/// Every word of a text.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    text.split(move |c| !word(c)).filter(|word| word.len() > 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tabs_count_as_one_column_and_calls_are_named_whole() {
        let text = "package x\n\tfoo.bar(1) && y\n";
        assert_eq!(column(text, 2, 5), 2);
        assert_eq!(token(text, 2, 2).0, "foo.bar");
        assert_eq!(token(text, 2, 9).0, "foo.bar");
        assert_eq!(token(text, 2, 14), ("&&".to_owned(), 1));
        assert_eq!((column(text, 2, 40), token(text, 9, 1).0.as_str()), (37, ""));
    }
}
