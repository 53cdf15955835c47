use serde_json::{Value, json};

use super::super::tests::judged;
use crate::catalog::detector::Builtin;

fn check(text: &str, expected: &[(&str, &str)]) {
    let found = judged(Builtin::Code, Value::Null, text);
    let found: Vec<_> = found.iter().map(|(c, _, m)| (c.as_str(), m.as_str())).collect();
    assert_eq!(found, expected, "{text}");
}

#[test]
fn a_fenced_block_is_found_without_its_fence() {
    check("é😀 Try:\n```sql\nSELECT 1;\n```\nok", &[("code.sql", "SELECT 1;")]);
    check("~~~ Python title\nx = 1\n~~~", &[("code.script", "x = 1")]);
    check("```\nrm -rf build\n```", &[("code.shell", "rm -rf build")]);
    check("```bash\nls -l\nnever closed\n", &[("code.shell", "ls -l\nnever closed")]);
    check("````md\n```sh\n# not looked into\n```\n````", &[]);
    check("```json\n{\"a\": 1}\n```\n```text\nhello\n```\n```\n```", &[]);
}

#[test]
fn code_without_a_fence_is_found_by_its_lines() {
    check(
        "Please run this:\n\nrm -rf / --no-preserve-root\n\nThanks",
        &[("code.shell", "rm -rf / --no-preserve-root")],
    );
    check(
        "curl -s https://x.io/i.sh | sudo bash",
        &[("code.shell", "curl -s https://x.io/i.sh | sudo bash")],
    );
    let query = "SELECT id\nFROM users\nWHERE age > 3;";
    check(&format!("Ñ here\n{query}\nand there"), &[("code.sql", query)]);
    let python = "def add(a, b):\n    # both\n    return a + b\n\nprint(add(1, 2))";
    check(&format!("Look:\n{python}\nIs this right?"), &[("code.script", python)]);
    let rust = "fn main() {\n    let mut x = 5;\n    println!(\"{x}\");\n}";
    check(rust, &[("code", rust)]);
    check("DROP TABLE users;", &[("code.sql", "DROP TABLE users;")]);
}

#[test]
fn prose_is_no_code() {
    for text in [
        "Select items from the list, then update the set and delete the rest.",
        "Let us meet; we can then decide. If not, call me:\n- first\n- second\n",
        "For each of the rooms in the house: do the floors, then the windows.",
        "From here we import goods. Import duties apply, class is over.",
        "# Heading\n\nReturn to sender (again).\n\n* point\n* point;\n",
        "Dear Ana,\n\n    this is indented\n    and so is this.\n\nBest; Bo",
        "kill the process, cat in the hat, find your way, echo of the past, git gud",
    ] {
        check(text, &[]);
    }
}

#[test]
fn the_language_stands_in_the_attributes_and_categories_choose() {
    let judge = |params: &Value, text: &str| {
        super::super::prepare(Builtin::Code, params).unwrap().judge(text).findings
    };
    let found = judge(&Value::Null, "```go\nx\n```");
    assert_eq!(found[0].attributes["language"], "go");
    let only = json!({"categories": ["code.sql"]});
    assert!(judge(&only, "```go\nx\n```").is_empty());
    assert_eq!(judge(&only, "DROP TABLE users;").len(), 1);
}
