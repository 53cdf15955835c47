//! The bounded patterns: every one in a single automaton that reads a value once.

use std::sync::LazyLock;

use regex::bytes::{RegexSet, RegexSetBuilder};

use super::Violation;

/// What stands between two commands of a shell, or opens a command inside a text.
macro_rules! after_separator {
    ($command:literal) => {
        concat!(r"(?i)(?:;|\|\|?|&&|`|\$\(|[<>]\()\s*(?:/(?:usr/)?s?bin/)?", $command)
    };
}

/// Kind and pattern. Bounded repetition only, so that the automaton stays small.
const PATTERNS: &[(Violation, &str)] = &[
    // A step upwards at the edge of a path element, also `....//` and `..;/`.
    (Violation::Traversal, r#"(?:^|[\\/=:,\s"'(])\.{2,8}(?:[\\/]|;/)"#),
    (Violation::Traversal, r"[\\/]\.{2,8}(?:[\\/;?#]|$)"),
    // Overlong and 16-bit spellings of dot and slash, which no decoder of ours accepts.
    (
        Violation::Traversal,
        r"(?i)%(?:c0%(?:ae|af|2e|2f|5c|9v)|c1%(?:9c|1c|8s|af|pc)|e0%80%a[ef]|f0%80%80%a[ef]|uff0e|u2215|u2216|u00(?:2[ef]|5c))|\.\.(?:／|＼|∕|⁄)",
    ),
    (Violation::Traversal, r"(?i)(?:0x2e){2}|(?:\.%00|%2500|%00)[\\/.]|[\\/.]%00"),
    (
        Violation::Traversal,
        r"(?i)(?:^|[\s/\\:=])etc[\\/]{1,3}(?:passwd|shadow|group|gshadow|sudoers|hosts|hostname|issue|fstab|crontab|ssh/|nginx/|apache2?/|httpd/|my\.cnf|mysql/)",
    ),
    (
        Violation::Traversal,
        r"(?i)[\\/]proc[\\/](?:self|version|cpuinfo|mounts|net|\d{1,7})(?:[\\/]|\b)",
    ),
    (Violation::Traversal, r"(?i)\b[a-z]:[\\/]{1,3}(?:windows|winnt|boot\.ini|inetpub)\b"),
    (
        Violation::Traversal,
        r"(?i)[\\/](?:win\.ini|boot\.ini|system32[\\/]|web-inf[\\/]|\.htpasswd|\.ssh[\\/]|\.git[\\/]|\.aws[\\/]credentials|id_rsa\b)",
    ),
    (
        Violation::Traversal,
        r"(?i)[\\/]var[\\/](?:log|www)[\\/]|\b(?:php://(?:filter|input)|phar://|expect://|zip://|file:/{2,3}(?:etc|proc|c:|localhost))|\bdata://text/plain;base64|/serviceaccount/token\b|[\\/]root[\\/]\.\w",
    ),
    // Words that nobody writes but to run them.
    (
        Violation::Command,
        r"(?i)(?:;|\||&|`|\$\(|[<>]\(|\n)\s*(?:/(?:usr/)?s?bin/)?(?:whoami|uname|ifconfig|ipconfig|netstat|nslookup|systeminfo|tasklist|printenv|powershell(?:\.exe)?|cmd\.exe|wget\s|curl\s|rm\s+-[rf]|nc\s+-|ncat\s|socat\s+\w+:|java\s+-jar\s|bash\s+-|sh\s+-|python[23]?\s+-c|perl\s+-e|ruby\s+-e|php\s+-r|chmod\s|chown\s|net\s+(?:user|localgroup)|reg\s+query)",
    ),
    // Words of everyday language too: only as an argument shows.
    (
        Violation::Command,
        after_separator!(
            r"(?:cat|tac|nl|more|less|head|tail|type|dir|find|grep|awk|sed|strings|xxd|base64)\s+(?:-\w{1,20}\s+)?[^\s]{0,80}[\\/*$]"
        ),
    ),
    (
        Violation::Command,
        after_separator!(
            r"(?:ls|id|pwd|w|ps|env|dir|set|hostname|ifconfig|date|sleep|ping|echo|touch|kill)\s*(?:[;|&`)#]|$)"
        ),
    ),
    (
        Violation::Command,
        after_separator!(
            r"(?:ls|ps|id|env|netstat|ping|sleep|touch|kill|echo|dig|host|timeout)\s+(?:-\w|\d{1,5}\s*(?:[;|&`)#]|$)|[\\/$'`])"
        ),
    ),
    (
        Violation::Command,
        after_separator!(
            r#"(?:echo|dig|host|ping|touch|tee|export|source|eval|exec|nohup|xargs|sudo)\s+[\w./$"'-]{2,80}"#
        ),
    ),
    (
        Violation::Command,
        r#"(?i)(?:^|[\s;|&`(="'])/(?:usr/)?s?bin/(?:\w*sh|cat|ls|id|env|nc|python\w{0,4}|perl|wget|curl|uname|whoami|ping|sleep)\b"#,
    ),
    (
        Violation::Command,
        r"(?i)\$\{?IFS\b|/dev/(?:tcp|udp)/|\(\)\s{0,4}\{\s{0,4}:\s{0,4};\s{0,4}\}|\$\{\s{0,4}(?:jndi|env|sys|lower|upper)\s{0,4}:|\$\(\(?\s*\d{1,9}\s*[-+*]",
    ),
    (
        Violation::Command,
        r#"(?i)\b(?:eval|exec|shell_exec|passthru|popen|proc_open|pcntl_exec|subprocess\.\w{1,20}|os\.(?:system|popen)|runtime\.getruntime|child_process)\b\s{0,2}\(|\bsystem\(\s{0,4}["'$]|__import__\s{0,4}\("#,
    ),
    (
        Violation::Command,
        r"(?i)\b(?:cmd|command)(?:\.exe)?\s+/[ck]\s|\bpowershell(?:\.exe)?\s+-\w|<\?php\b|<\?=",
    ),
    (
        Violation::Ldap,
        r"\)\s{0,4}\(\s{0,4}[|&!]\s{0,4}(?:\(|\)|$|\w)|\(\s{0,4}[|&!]\s{0,4}\(\s{0,4}\w{1,40}\s{0,4}[~<>]?=",
    ),
    (
        Violation::Ldap,
        r"\)\s{0,4}\(\s{0,4}[\w.;-]{1,40}\s{0,4}[~<>:]{0,2}=|\*\s{0,4}\)\s{0,4}(?:\(|\)|%00|$)|\)\s{0,4}\(\s{0,4}\*|\(\s{0,4}[\w.-]{1,40}\s{0,4}[~<>]?=\s{0,4}\*",
    ),
    (
        Violation::Ldap,
        r"(?i)(?:^|[(&|!*])\s{0,4}(?:objectclass|objectcategory|samaccountname|userpassword|memberof|useraccountcontrol|distinguishedname|unicodepwd)\s{0,4}(?:[~<>:]{0,2}=|:\d)",
    ),
    (Violation::Ldap, r"\\(?:2a|28|29|00|5c)\\?(?:28|29|2a|\)|\()"),
    (
        Violation::XmlEntity,
        r"(?i)<!(?:entity|element|attlist|notation)\b|<!\[cdata\[|<!doctype\s[^>]{0,200}(?:\[|\bsystem\b|\bpublic\b)|<xi:include|<\?xml(?:-stylesheet)?\s|<xs[dl]?:(?:import|include|stylesheet|schema)",
    ),
    (
        Violation::Crlf,
        r"(?i)[\r\n]\s{0,8}(?:set-cookie|location|content-(?:type|length|disposition|security-policy)|transfer-encoding|x-[\w-]{1,40}|access-control-[\w-]{1,40}|refresh|strict-transport-security)\s{0,4}:",
    ),
    (
        Violation::Crlf,
        r"(?i)[\r\n]\s{0,8}(?:http/\d|(?:get|post|put|delete|head|options)\s+[/h]\S{0,200}\s+http/\d)|嘊嘍|嘍嘊|\\r\\n\s{0,4}[\w-]{1,40}:|\\n\s{0,4}(?:set-cookie|location)\s{0,4}:|\\u000[ad]|%u000[ad]",
    ),
    (
        Violation::Xss,
        r#"(?i)<\s{0,4}/?\s{0,4}(?:script|iframe|object|embed|applet|meta|base|svg|math|form|isindex|frameset|noscript|template)\b|\b(?:java|vb|live)script\s{0,8}:|\bdata\s{0,4}:\s{0,4}text/html"#,
    ),
    (
        Violation::Xss,
        r#"(?i)(?:^|[\s"'/<>;])on(?:abort|after\w{1,12}|animation\w{1,12}|auxclick|before\w{1,16}|blur|canplay\w{0,8}|change|click|close|contextmenu|copy|cut|dblclick|drag\w{0,8}|drop|durationchange|ended|error|focus\w{0,4}|formdata|fullscreen\w{0,8}|hashchange|input|invalid|key(?:down|press|up)|load\w{0,12}|message|mouse\w{1,8}|pagehide|pageshow|paste|play\w{0,4}|pointer\w{1,16}|popstate|progress|readystatechange|reset|resize|scroll\w{0,16}|search|seek\w{1,4}|select\w{0,12}|show|start|submit|timeupdate|toggle|touch\w{1,8}|transition\w{1,8}|unload|volumechange|waiting|wheel|webkit\w{1,24}|finish|bounce|repeat|begin|end)\s{0,8}="#,
    ),
    (
        Violation::Xss,
        r"(?i)\b(?:document\.(?:cookie|location|write\w{0,2}|domain|body)|window\.(?:location|name|open)|(?:alert|prompt|confirm|settimeout|setinterval|fetch|import|atob)\s{0,4}(?:\(|`|&lpar;|&#40;)|string\.fromcharcode|\.innerhtml\b|\\(?:u00|x)3c/?script|srcdoc\s{0,4}=|&#x?0{0,6}(?:3c|60|6a|106);?)",
    ),
    // Stacked and blind forms that libinjection's fingerprints leave out.
    (
        Violation::Sqli,
        r"(?i)\bunion\b[\s/*!+(]{1,40}(?:all|distinct)?[\s/*!+(]{0,40}select\b|;\s{0,8}(?:drop|alter|truncate|create)\s+(?:table|database|schema|user|index|view)\b|;\s{0,8}(?:insert\s+into|delete\s+from|update\s+\w{1,64}\s+set|exec(?:ute)?\s+\w|shutdown\b|declare\s+@)",
    ),
    (
        Violation::Sqli,
        r#"(?i)\b(?:waitfor\s+delay\s|benchmark\s{0,4}\(\s{0,4}\d|pg_sleep\s{0,4}\(|sleep\s{0,4}\(\s{0,4}\d|dbms_(?:pipe|lock|ldap)\.|utl_(?:http|inaddr|file)\.|xp_(?:cmdshell|dirtree|regread)|extractvalue\s{0,4}\(|updatexml\s{0,4}\(|load_file\s{0,4}\(|into\s+(?:out|dump)file\b|information_schema\b|sysobjects\b|sqlite_master\b|\(\s{0,4}select\s+(?:\*|version|user|database|@@|password|null\b|case\b)|pg_catalog\b|@@(?:version|hostname|datadir))"#,
    ),
    (
        Violation::Sqli,
        r#"(?i)['"`)]\s{0,8}(?:or|and|xor|\|\||&&)\s{0,8}\(?['"`]?[\w ]{1,32}['"`]?\s{0,8}(?:=|<|>|\blike\b|\bin\b|\bis\b|\bbetween\b)|\border\s+by\s+\d{1,4}\s{0,4}(?:--|#|/\*)|\b(?:or|and)\s+\(?(\d{1,6})\)?\s{0,4}=\s{0,4}\(?\d{1,6}\b|\{\s{0,4}["']?\$(?:where|ne|gt|lt|gte|lte|in|nin|regex|or|and|exists)["']?\s{0,4}:"#,
    ),
];

#[expect(clippy::expect_used, reason = "the patterns are constants, and a test compiles them")]
static SET: LazyLock<RegexSet> = LazyLock::new(|| {
    let patterns = PATTERNS.iter().map(|(_, pattern)| *pattern);
    let set = RegexSetBuilder::new(patterns).unicode(false).build();
    set.expect("the patterns of the WAF compile")
});

/// The first kind in the order of the list that `text` shows.
pub(super) fn first(text: &str) -> Option<Violation> {
    let matched = SET.matches(text.as_bytes()).iter().next()?;
    PATTERNS.get(matched).map(|(violation, _)| *violation)
}
