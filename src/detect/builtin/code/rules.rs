//! What lines of code look like, language by language.

use std::sync::LazyLock;

use ::regex::bytes::{RegexSet, RegexSetBuilder};

/// A language of code: its name and its category.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Tongue(pub(super) &'static str, pub(super) &'static str);

const SHELL: Tongue = Tongue("shell", "code.shell");
const POWERSHELL: Tongue = Tongue("powershell", "code.shell");
const SQL: Tongue = Tongue("sql", "code.sql");
const PYTHON: Tongue = Tongue("python", "code.script");
const JAVASCRIPT: Tongue = Tongue("javascript", "code.script");
const PHP: Tongue = Tongue("php", "code.script");
const RUBY: Tongue = Tongue("ruby", "code.script");
const PERL: Tongue = Tongue("perl", "code.script");
const RUST: Tongue = Tongue("rust", "code");
const C: Tongue = Tongue("c", "code");
const JAVA: Tongue = Tongue("java", "code");
const GO: Tongue = Tongue("go", "code");
/// Code of no particular language.
pub(super) const ANY: Tongue = Tongue("unknown", "code");

/// Language, weight, pattern of a trimmed line. Weight 2 is code by itself, 1 needs company.
const RULES: &[(Tongue, u32, &str)] = &[
    (SHELL, 3, r"^#!\s*/(?:usr/)?bin/(?:env\s+)?(?:ba|z|k|da)?sh\b"),
    (SHELL, 3, r"\b(?:curl|wget)\b.*\|\s*(?:sudo\s+)?(?:ba|z)?sh\b"),
    (SHELL, 2, r"^\$\s+[a-z./][\w./-]*(?:\s|$)"),
    (
        SHELL,
        2,
        r"^(?:sudo\s+)?(?:rm|cp|mv|ls|mkdir|chmod|chown|kill|tar|grep|sed|awk|ps|ln|curl|wget|ssh|scp|rsync|nc|dd|find|docker|kubectl|git|apt|apt-get|systemctl|du|df|set)\s(?:.*\s)?-{1,2}[a-zA-Z]",
    ),
    (
        SHELL,
        1,
        r#"^(?:sudo\s+)?(?:apt-get|apt|yum|dnf|brew|pip3?|npm|cargo|git|docker|kubectl|systemctl|chmod|chown|mkdir|rm|cp|mv|cd|cat|grep|tar|ssh|scp|curl|wget|export|source|echo|touch|ln)\s+(?:-|[~/.$"'*]|install\b|run\b|[\w.-]+[/=])"#,
    ),
    (SHELL, 2, r"^(?:if|while|elif|until)\s+(?:!\s+)?\[\[?\s"),
    (SHELL, 2, r"^for\s+\w+\s+in\s.*;\s*do\b"),
    (SHELL, 1, r"^(?:fi|done|esac|then|do)\b\s*;?\s*$"),
    (SHELL, 2, r"2>&1|>\s*/dev/null|\$\{\w+[:#%/]|\$\(\(?[a-z]"),
    (SHELL, 1, r#"^[A-Z_][A-Z0-9_]+=(?:["'$/\w]|$)"#),
    (
        POWERSHELL,
        2,
        r"^(?:\$\w+\s*=\s*)?(?:Get|Set|New|Remove|Invoke|Start|Stop|Write|Import)-[A-Z]\w+\b",
    ),
    (SQL, 3, r"^SELECT\b.*\sFROM\s"),
    (SQL, 3, r"(?i)^select\s+(?:\*|distinct\s|count\s*\(|[\w.]+(?:\s*,\s*[\w.]+)+\s).*\bfrom\s+\w"),
    (SQL, 3, r"(?i)^select\s.*\sfrom\s+\w.*(?:;\s*$|\swhere\s.*[=<>])"),
    (SQL, 3, r#"(?i)^insert\s+into\s+[\w."`]+\s*(?:\(|values\b|select\b)"#),
    (SQL, 3, r#"(?i)^update\s+[\w."`]+\s+set\s+[\w."`]+\s*="#),
    (SQL, 3, r#"(?i)^delete\s+from\s+[\w."`]+\s*(?:;|\swhere\s.*[=<>])"#),
    (
        SQL,
        3,
        r#"(?i)^(?:create|alter|drop|truncate)\s+(?:or\s+replace\s+)?(?:unique\s+|temp(?:orary)?\s+)?(?:table|view|index|database|schema|function|trigger|sequence)\s+(?:if\s+(?:not\s+)?exists\s+)?[\w."`]+\s*(?:[(;]|$|\s(?:as|on|add|drop|alter|cascade)\b)"#,
    ),
    (SQL, 2, r"^SELECT\s+[\w.*]+(?:\s*,\s*[\w.*]+)*,?$"),
    (SQL, 2, r"(?i)\bunion\s+(?:all\s+)?select\b"),
    (
        SQL,
        1,
        r"^(?:SELECT|FROM|WHERE|GROUP BY|ORDER BY|(?:LEFT|RIGHT|INNER|CROSS) JOIN|JOIN|HAVING|LIMIT|VALUES|SET|UNION)\b",
    ),
    (SQL, 1, r"(?i)^(?:where|and|on|or)\s+[\w.]+\s*(?:=|<|>|like\s|in\s*\()"),
    (PYTHON, 3, r"^#!.*\bpython"),
    (PYTHON, 3, r"^(?:async\s+)?def\s+\w+\s*\(.*(?::|,|\()\s*$"),
    (PYTHON, 2, r"^class\s+\w+(?:\([^)]*\))?:\s*$"),
    (PYTHON, 2, r"^from\s+[\w.]+\s+import\s+[\w*(]"),
    (PYTHON, 3, r"^if\s+__name__\s*=="),
    (PYTHON, 1, r"^import\s+\w+(?:\.\w+)*(?:\s+as\s+\w+)?(?:\s*,\s*\w+)*$"),
    (PYTHON, 1, r"^(?:if|elif|for|while|with|except|try|else|finally)\b.*:$"),
    (PYTHON, 2, r"^print\(.*\)$|\bself\.\w+\s*=|^@(?:property|staticmethod|classmethod|pytest\.)"),
    (
        PYTHON,
        1,
        r#"^(?:return|raise|yield|assert|del)\s+\w+[^.;]*$|^"""|"""$|\b(?:None|True|False)\b.*[),:\]]$"#,
    ),
    (JAVASCRIPT, 2, r"^(?:export\s+)?(?:default\s+)?(?:async\s+)?function\b\s*\*?\s*\w*\s*\("),
    (JAVASCRIPT, 2, r"^(?:export\s+)?(?:const|let|var)\s+[\w{\[$].*=\s*\S"),
    (
        JAVASCRIPT,
        2,
        r"\)\s*=>\s*[\w({\[]|\bconsole\.\w+\(|\brequire\(['\x22]|\bdocument\.\w+|===|!==",
    ),
    (JAVASCRIPT, 3, r"^import\s.*\sfrom\s+['\x22]|^(?:module\.)?exports\b.*=|</?script\b"),
    (PHP, 3, r"<\?php|^\$\w+\s*=\s*.*;$|^\$this->"),
    (
        RUBY,
        2,
        r"^require(?:_relative)?\s+['\x22]|^puts\s+\S|\bdo\s*\|\w|^attr_\w+\s+:|^def\s+[\w.?!]+(?:\(.*\))?$",
    ),
    (RUBY, 1, r"^end$"),
    (PERL, 3, r"^#!.*\bperl|^use\s+(?:strict|warnings);|^my\s+[$@%(]|^sub\s+\w+\s*\{"),
    (RUST, 3, r"^(?:pub(?:\([\w\s:]+\))?\s+)?(?:const\s+|unsafe\s+|async\s+)*fn\s+\w+\s*[<(]"),
    (
        RUST,
        3,
        r"^let\s+mut\s|^(?:pub(?:\(\w+\))?\s+)?(?:struct|enum|impl|trait|mod)\b.*[{;]$|^(?:pub\s+)?use\s+[\w:]+(?:::[{*]|;)|^#!?\[\w+|\b(?:println|format|vec|assert_eq|assert|panic)!\(",
    ),
    (RUST, 3, r"^let\s+\w+(?:\s*:\s*[\w<>&:\s]+)?\s*=.*;$"),
    (C, 3, r"^#\s*(?:include\s*[<\x22]|define\s+\w+|ifdef\b|ifndef\b)|\bstd::\w+"),
    (
        C,
        2,
        r"^(?:(?:static|const|unsigned|inline|extern|struct)\s+)*(?:int|void|char|double|float|long|size_t|bool|auto)\s+\**\w+\s*[(=;\[]",
    ),
    (C, 1, r"\bprintf\s*\(|->\w+"),
    (
        JAVA,
        3,
        r"^(?:public|private|protected)\s+(?:static\s+|final\s+|abstract\s+)*(?:class|interface|enum|void|[A-Z]\w*(?:<.*>)?|int|boolean)\s+\w+|^import\s+(?:static\s+)?[a-z][\w.]+(?:\.\*)?;$|^package\s+[\w.]+;$|\bSystem\.out\.",
    ),
    (
        GO,
        3,
        r"^func\s+(?:\([^)]*\)\s*)?\w+\(.*\{$|^import\s+\($|\bfmt\.\w+\(|^type\s+\w+\s+(?:struct|interface)\s*\{",
    ),
    (GO, 1, r"^package\s+\w+$|\s:=\s"),
    (ANY, 1, r"[\w)\]\x22']\s*;\s*$|\)\s*\{\s*$|^\}\s*(?:else|catch|while)?.*[;{]?$"),
    (ANY, 1, r"^[\w.]+(?:::\w+)*\(.*\)[;,]?$|^[\w.\[\]$]+\s*(?:[-+*/|&]|)=\s*\S+$"),
];

static SET: LazyLock<Option<RegexSet>> = LazyLock::new(|| {
    let patterns = RULES.iter().map(|(_, _, pattern)| pattern);
    RegexSetBuilder::new(patterns).unicode(false).build().ok()
});

/// The heaviest rule of each language that the trimmed line meets.
pub(super) fn weigh(line: &str) -> impl Iterator<Item = (Tongue, u32)> {
    let matches = SET.as_ref().map(|set| set.matches(line.as_bytes()));
    let rules = matches.into_iter().flatten().filter_map(|at| RULES.get(at));
    rules.map(|(tongue, weight, _)| (*tongue, *weight))
}

/// The language that the tag behind a fence names; `None` for what is no code.
pub(super) fn tagged(tag: &str) -> Option<Tongue> {
    Some(match tag {
        "sh" | "bash" | "zsh" | "shell" | "console" | "fish" | "shell-session" | "bat" | "cmd" => {
            SHELL
        }
        "powershell" | "ps1" | "pwsh" => POWERSHELL,
        "sql" | "psql" | "mysql" | "plsql" | "postgresql" | "sqlite" => SQL,
        "py" | "python" | "python3" | "pycon" => PYTHON,
        "js" | "javascript" | "jsx" | "ts" | "typescript" | "tsx" | "mjs" => JAVASCRIPT,
        "php" => PHP,
        "rb" | "ruby" => RUBY,
        "pl" | "perl" => PERL,
        "rs" | "rust" => RUST,
        "c" | "cpp" | "c++" | "h" | "cc" => C,
        "java" | "kotlin" | "scala" => JAVA,
        "go" | "golang" => GO,
        "text" | "txt" | "plain" | "plaintext" | "output" | "md" | "markdown" | "json" | "yaml"
        | "yml" | "toml" | "xml" | "csv" | "diff" | "ini" | "log" | "http" | "mermaid" => {
            return None;
        }
        _ => ANY,
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_rule_compiles() {
        assert_eq!(super::SET.as_ref().unwrap().len(), super::RULES.len());
    }
}
