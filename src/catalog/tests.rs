//! Tables of bad files with the place and code of each fault.

use std::sync::LazyLock;
use std::time::Duration;

use secrecy::ExposeSecret as _;

use super::detector::{Auth, Protocol};
use super::*;
use crate::domain::finding::Polarity;
use crate::domain::id::DetectorName;
use crate::outbound::{self, Guard};
use crate::settings::{Env, Settings};
use crate::yaml::fault::{Fault, FaultKind};

mod calibration;
mod registered;
mod tenants;
mod versions;

static OPEN: LazyLock<Guard> = LazyLock::new(|| Guard::new(outbound::Env::Development, vec![]));

fn file(kind: FaultKind, path: &str, text: &str) -> SourceFile {
    SourceFile { kind, path: path.to_owned(), bytes: text.as_bytes().into() }
}

fn load(env: Env, files: &[SourceFile]) -> Result<(Catalog, Vec<Fault>), Vec<Fault>> {
    let secret = |place: &SecretRef| match place {
        SecretRef::Env(name) if name == "KEY" => Some("s3cret".into()),
        SecretRef::Env(_) | SecretRef::File(_) => None,
    };
    Catalog::load(
        files,
        &LoadContext {
            env,
            secret: &secret,
            guard: &OPEN,
            check_params: &|_| Ok(()),
            tiers: &Settings::default().tiers,
        },
    )
}

fn codes(faults: &[Fault]) -> String {
    let seen: Vec<_> =
        faults.iter().map(|f| format!("{}:{}:{}:{}", f.file, f.line, f.column, f.code)).collect();
    seen.join(" ")
}

const GOOD: &str = "name: d\nprotocol: native\nendpoint: http://h/x\ncategories: [toxicity]\n";

#[test]
fn a_newcomers_file_takes_every_default_of_the_page() {
    let files = [file(FaultKind::Detector, "detectors/d.yaml", GOOD)];
    let (catalog, warnings) = load(Env::Development, &files).unwrap();
    let detector = &catalog.detectors["d"];
    assert!(warnings.is_empty());
    assert_eq!(detector.timeout, Duration::from_millis(3000));
    assert_eq!((detector.retry.attempts, detector.retry.backoff.as_millis()), (2, 50));
    assert_eq!((detector.breaker.failures, detector.breaker.probes), (5, 3));
    assert_eq!((detector.bulkhead.max_in_flight, detector.bulkhead.queue), (32, 64));
    assert_eq!(detector.health.path, "/health");
    assert_eq!(detector.protocol, Protocol::Native);
}

#[test]
fn every_bad_detector_file_is_refused_at_its_place() {
    for (extra, expected) in [
        ("timeout: 300\n", "5:10:bad_value"),
        ("timout: 1s\n", "5:1:unknown_key"),
        ("retry: {attempts: 9}\n", "5:19:out_of_range"),
        ("retry: {atempts: 2}\n", "5:9:unknown_key"),
        ("schema_version: 2\n", "5:17:schema_version"),
        ("hedge: {after: 0s}\n", "5:16:out_of_range"),
        ("hedge: {}\n", "5:8:missing_key"),
        ("throttle: {bytes_per_second: 0}\n", "5:30:bad_value"),
        ("replicas: []\n", "5:11:bad_value"),
        ("replicas: [{endpoint: http://h/x}]\n", "5:23:bad_endpoint"),
        ("replicas: [{endpoint: ftp://h/x}]\n", "5:23:bad_endpoint"),
        ("replicas: [{endpoint: http://u:p@h/x}]\n", "5:23:bad_endpoint"),
        ("replicas: [{endpoint: http://i/x, weight: 0}]\n", "5:43:out_of_range"),
        ("replicas: [{endpoint: http://169.254.169.254/x}]\n", "5:23:endpoint_forbidden"),
        ("replicas: [{endpoint: http://0x7f.1/x}]\n", "5:23:endpoint_forbidden"),
        ("replicas: [{weight: 1}]\n", "5:12:missing_key"),
        ("views: [decoded]\n", "5:8:bad_value"),
        ("chunks: {max: 9}\n", "5:9:bad_value"),
        ("max_chars: 0\n", "5:12:bad_value"),
        ("chunks: {overlap: 60}\nmax_chars: 100\n", "5:19:out_of_range"),
        ("labels: {X: {category: pii.emial}}\n", "5:24:unknown_category"),
        ("labels: {X: {severity: low}}\n", "5:13:missing_key"),
        (
            "auth: {type: oauth2, env: KEY}\n",
            "5:7:missing_key d.yaml:5:7:missing_key d.yaml:5:22:unknown_key",
        ),
        ("auth: {type: bearer, env: NONE}\n", "5:27:secret_missing"),
        ("auth: {type: bearer}\n", "5:7:bad_value"),
        (
            "auth: {type: aws_sigv4, access_key: {env: KEY}, secret_key: {env: KEY}}\n",
            "5:7:bad_value",
        ),
        ("auth: {type: aws_sigv4, access_key: {env: KEY}}\n", "5:7:missing_key"),
        ("request: {a: 1}\n", "5:10:bad_value"),
        ("options: {a: 1}\n", "5:10:bad_value"),
        ("batch: {max_items: 0}\n", "5:20:bad_value"),
        ("batch: {max_items: 2000}\n", "5:20:out_of_range"),
        ("batch: {max_delay: 5s}\n", "5:20:out_of_range"),
        ("risk: huge\n", "5:7:bad_value"),
        ("breaker: {probes: 0}\n", "5:19:out_of_range"),
        ("health: {path: up}\n", "5:16:bad_value"),
        ("health: {path: '/up and running'}\n", "5:16:bad_value"),
        ("calibration: {toxicty: {slope: 1, intercept: 0}}\n", "5:24:unknown_category"),
        ("calibration: {toxicity: {slope: 1}}\n", "5:25:bad_value"),
        ("calibration: {toxicity: {slope: -1, intercept: 0}}\n", "5:25:bad_value"),
        ("calibration: {toxicity: {slope: 0, intercept: 1}}\n", "5:25:bad_value"),
        ("calibration: {toxicity: {points: []}}\n", "5:25:bad_value"),
        ("calibration: {toxicity: {points: [[0.1, 0.2, 0.3]]}}\n", "5:25:bad_value"),
        ("calibration: {'*': {points: [[0.5, 0.9], [0.6, 0.1]]}}\n", "5:20:bad_value"),
        ("calibration: {'*': {points: [[0.5, 0.9], [0.6, 1.1]]}}\n", "5:20:bad_value"),
        ("calibration: {'*': {point: []}}\n", "5:21:unknown_key"),
        ("weight: -1\n", "5:9:out_of_range"),
        ("weight: .nan\n", "5:9:yaml_syntax"),
    ] {
        let text = format!("{GOOD}{extra}");
        let files = [file(FaultKind::Detector, "d.yaml", &text)];
        let faults = load(Env::Development, &files).unwrap_err();
        assert_eq!(codes(&faults), format!("d.yaml:{expected}"), "{extra} {faults:?}");
    }
}

#[test]
fn every_bad_option_and_mapping_is_refused_at_its_place() {
    for (lines, expected) in [
        ("protocol: fms\noptions: {kind: talk}\n", "4:17:bad_value"),
        ("protocol: fms\noptions: {knd: chat}\n", "4:11:unknown_key"),
        ("protocol: fms\noptions: {kind: 1}\n", "4:17:bad_value"),
        ("protocol: fms\nrequest: {a: 1}\n", "4:10:bad_value"),
        ("protocol: http\nrequest: {a: '{{conten}}'}\nresponse: {label: l}\n", "4:14:bad_value"),
        ("protocol: http\n", "1:1:missing_key d.yaml:1:1:missing_key"),
        (
            "protocol: http\nrequest: {a: '{{content}}'}\nresponse: {label: l, lists: ''}\n",
            "5:29:bad_value",
        ),
        ("protocol: http\nrequest: {a: '{{content}}'}\nresponse: {itms: a}\n", "5:12:unknown_key"),
        (
            "protocol: http\nrequest: {a: '{{content}}'}\nresponse: {findings: [], items: a}\n",
            "5:26:bad_value",
        ),
        (
            "protocol: http\nrequest: {a: '{{content}}'}\nresponse: {label: l}\nheaders: {x: '{{tenant}}'}\n",
            "6:14:bad_value",
        ),
        ("protocol: kserve-v2\n", "1:1:missing_key"),
        ("protocol: kserve-v2\noptions: {model: m, labls: [a]}\n", "4:21:unknown_key"),
        ("protocol: bedrock-guardrail\n", "1:1:missing_key"),
    ] {
        let text = format!("name: d\nendpoint: http://h/x\n{lines}categories: [pii]\n");
        let files = [file(FaultKind::Detector, "d.yaml", &text)];
        let faults = load(Env::Development, &files).unwrap_err();
        assert_eq!(codes(&faults), format!("d.yaml:{expected}"), "{lines} {faults:?}");
    }
}

/// A file of protocol `http` whose last keys are `lines`, from line 5 on.
fn mapped(lines: &str) -> Vec<SourceFile> {
    let head = "name: d\nprotocol: http\nendpoint: http://h/x\ncategories: [pii]\n";
    vec![file(FaultKind::Detector, "d.yaml", &format!("{head}{lines}"))]
}

fn mapping_fault(lines: &str) -> (String, String) {
    let faults = load(Env::Development, &mapped(lines)).map(|_| ()).expect_err(lines);
    (codes(&faults), faults[0].hint.clone().unwrap_or_default())
}

#[test]
fn a_request_that_never_sends_what_is_judged_is_refused() {
    let never = "put {{content}}, {{contents}} or {{messages}} into a value";
    for (request, at, hint) in [
        ("{text: hello}", "5:10", never),
        ("{t: '{{prompt}}'}", "5:10", never),
        ("{t: '{{params.text|content}}'}", "5:10", never),
        ("{t: '{{content'}", "5:14", "close it with `}}`"),
        (
            "{'{{content}}': 1}",
            "5:26",
            "keys are sent as written; put the placeholder into the value",
        ),
        (
            "{a: '{{content}}', 'x{{tenant}}': 1}",
            "5:44",
            "keys are sent as written; put the placeholder into the value",
        ),
    ] {
        let (code, told) = mapping_fault(&format!("request: {request}\nresponse: {{label: l}}\n"));
        assert_eq!((code, told.as_str()), (format!("d.yaml:{at}:bad_value"), hint), "{request}");
    }
    let good = mapped("request: ['say {{content}}']\nresponse: {label: l}\n");
    assert!(load(Env::Development, &good).is_ok());
}

#[test]
fn a_reply_must_be_described_in_paths_that_can_find_something() {
    let write = |right: &str| format!("write `{right}`: keys and indexes with dots between");
    let says = "add `label:`, and `items:` where a list holds the findings".to_owned();
    for (response, at, hint) in [
        ("{items: 'a[*].b', label: l}", "6:19:bad_value", write("a.*.b")),
        ("{items: a, label: 'a..b'}", "6:29:bad_value", write("a.b")),
        ("{items: $.hits, label: l}", "6:19:bad_value", write("hits")),
        ("{items: a, label: l, start: 'p[0]'}", "6:39:bad_value", write("p.0")),
        ("{label: l, lists: ' a'}", "6:29:bad_value", write("a")),
        ("{findings: [{label: l}, {label: l, when: 'a[0]=b'}]}", "6:52:bad_value", write("a.0")),
        (
            "{items: a, label: 'b.*'}",
            "6:29:bad_value",
            "write the list in `items`, and this path from an item on".to_owned(),
        ),
        ("{items: a, label: 'b?'}", "6:29:bad_value", "remove the question mark".to_owned()),
        (
            "{items: a, label: l, score: '@key'}",
            "6:39:bad_value",
            "use it for `label`, or at the end of `flag`".to_owned(),
        ),
        ("{}", "6:11:missing_key", says.clone()),
        ("{error_when: e}", "6:11:missing_key", says.clone()),
        ("{findings: []}", "6:11:missing_key", says),
    ] {
        let lines = format!("request: {{a: '{{{{contents}}}}'}}\nresponse: {response}\n");
        assert_eq!(mapping_fault(&lines), (format!("d.yaml:{at}"), hint), "{response}");
    }
    let good = "{items: a.*.b, label: '@key', score: '@value', flag: 'c.@key?', when: 'd?!=x', \
        severity: =high, start: p.0?, end: p.1?, error_when: $type, category: a/b}";
    let lines = format!("request: {{a: '{{{{content}}}}'}}\nresponse: {good}\n");
    assert!(load(Env::Development, &mapped(&lines)).is_ok());
}

#[test]
fn headers_of_the_connection_credentials_and_line_breaks_are_refused() {
    let body = "request: {a: '{{content}}'}\nresponse: {label: l}\nheaders: ";
    for (headers, at, hint) in [
        ("{Host: evil}", "7:17", "remove it"),
        ("{Content-Length: '5'}", "7:27", "remove it"),
        ("{transfer-encoding: chunked}", "7:30", "remove it"),
        ("{Authorization: Bearer abc}", "7:26", "remove it and use `auth`"),
        ("{x y: a}", "7:16", "use letters, digits and hyphens"),
        (r#"{x: "a\nb"}"#, "7:14", "remove the control characters"),
    ] {
        let (code, told) = mapping_fault(&format!("{body}{headers}\n"));
        assert_eq!((code, &*told), (format!("d.yaml:{at}:bad_value"), hint), "{headers}");
    }
}

#[test]
fn a_batch_where_each_call_takes_one_text_is_refused() {
    let batch = "batch: {max_items: 8}\n";
    for lines in [
        "protocol: lakera\n",
        "protocol: http\nrequest: {a: '{{contents}}'}\nresponse: {label: l}\n",
    ] {
        let text = format!("name: d\ncategories: [pii]\nendpoint: http://h/x\n{lines}{batch}");
        let faults = load(Env::Development, &[file(FaultKind::Detector, "d.yaml", &text)]);
        assert_eq!(faults.unwrap_err()[0].message, "each call of this protocol takes one text");
    }
    let list =
        format!("request: {{a: '{{{{contents}}}}'}}\nresponse: {{label: l, lists: r}}\n{batch}");
    assert!(load(Env::Development, &mapped(&list)).is_ok());
}

#[test]
fn an_unknown_key_is_told_every_key_that_is_built_once() {
    let files = [file(FaultKind::Detector, "d.yaml", &format!("{GOOD}qqqqqqqq: 1\n"))];
    let hint = load(Env::Development, &files).unwrap_err().remove(0).hint.unwrap();
    let known: Vec<&str> = hint.rsplit("known are ").next().unwrap().split(", ").collect();
    assert!(known.is_sorted_by(|a, b| a < b), "{hint}");
    assert!(known.contains(&"headers") && !known.contains(&"holdback"), "{hint}");
}

#[test]
fn the_files_own_labels_lie_over_the_presets() {
    let text = "name: d\nprotocol: presidio\nendpoint: http://h\ncategories: [pii]\n\
        labels: {URL: {polarity: negative}, NEW: {category: pii.person}}\n";
    let files = [file(FaultKind::Detector, "d.yaml", text)];
    let (catalog, _) = load(Env::Development, &files).unwrap();
    let detector = &catalog.detectors["d"];
    assert_eq!(detector.labels["URL"].category, None);
    let category = |label: &str| detector.labels[label].category.as_ref().map(|c| c.as_str());
    assert_eq!((category("NEW"), category("US_SSN")), (Some("pii.person"), Some("pii.ssn")));
    assert_eq!((detector.protocol.name(), &*detector.health.path), ("presidio", "/health"));
}

#[test]
fn all_faults_of_all_files_come_at_once() {
    let files = [
        file(FaultKind::Detector, "a.yaml", "name: b\nprotocol: natve\ncategories: [pi]\n"),
        file(FaultKind::Detector, "c.yaml", "name: [\n"),
        file(FaultKind::Tenant, "t.yaml", "id: t\nmode: loud\n"),
    ];
    let faults = load(Env::Development, &files).unwrap_err();
    assert_eq!(
        codes(&faults),
        "a.yaml:1:7:name_mismatch a.yaml:2:11:bad_value a.yaml:3:14:unknown_category \
         c.yaml:1:7:yaml_syntax t.yaml:1:1:missing_key t.yaml:2:7:bad_value"
    );
}

#[test]
fn a_missing_governance_key_refuses_production_only() {
    let files = [file(FaultKind::Detector, "d.yaml", GOOD)];
    assert!(load(Env::Development, &files).is_ok());
    let faults = load(Env::Production, &files).unwrap_err();
    assert_eq!(faults.len(), 5);
    assert!(faults.iter().all(|f| f.code == "governance_missing"));
}

#[test]
fn a_credential_is_resolved_and_never_printed() {
    let text = format!("{GOOD}auth: {{type: bearer, env: KEY}}\n");
    let files = [file(FaultKind::Detector, "d.yaml", &text)];
    let (catalog, _) = load(Env::Development, &files).unwrap();
    let Auth::Header { name, value } = &catalog.detectors["d"].auth else { panic!() };
    assert_eq!((name.as_str(), value.expose_secret()), ("authorization", "Bearer s3cret"));
    assert!(!format!("{catalog:?}").contains("s3cret"));
}

#[test]
fn a_strategy_that_names_an_unknown_detector_loses_it_with_a_warning() {
    let text = "strategies:\n  default: {detectors: [d, zzz]}\n  a: {aliases: [b]}\n";
    let files = [
        file(FaultKind::Strategy, "strategies.yaml", text),
        file(FaultKind::Detector, "d.yaml", GOOD),
    ];
    let (catalog, warnings) = load(Env::Development, &files).unwrap();
    assert_eq!(codes(&warnings), "strategies.yaml:2:12:unknown_detector");
    assert_eq!(catalog.strategies["default"].detectors.len(), 1);
    assert_eq!(catalog.strategy("b").unwrap().0, "a");
    assert_eq!(catalog.strategy("nothing").unwrap().0, "default");
}

#[test]
fn an_event_has_one_strategy() {
    let text = "strategies:\n  default: {}\n  a: {aliases: [default]}\n";
    let faults = load(Env::Development, &[file(FaultKind::Strategy, "s.yaml", text)]);
    assert_eq!(codes(&faults.unwrap_err()), "s.yaml:3:3:duplicate_event");
}

#[test]
fn a_detector_is_seen_only_where_tenant_and_detector_agree() {
    let files = [
        file(FaultKind::Detector, "d.yaml", &format!("{GOOD}tenants: [a, b]\n")),
        file(FaultKind::Tenant, "a.yaml", "schema_version: 1\nid: a\n"),
        file(FaultKind::Tenant, "b.yaml", "schema_version: 1\nid: b\ndetectors: []\n"),
        file(FaultKind::Tenant, "c.yaml", "schema_version: 1\nid: c\n"),
    ];
    let (catalog, _) = load(Env::Development, &files).unwrap();
    let name = DetectorName::parse("d").unwrap();
    for (tenant, seen) in [("a", true), ("b", false), ("c", false)] {
        let tenant = &catalog.tenants[tenant];
        assert_eq!(catalog.visible_one(tenant, &name).is_some(), seen, "{}", tenant.id);
        assert_eq!(catalog.visible(tenant).count() == 1, seen);
    }
}

#[test]
fn faults_of_parameters_are_reported_at_their_pointer() {
    let text =
        "name: regex\nprotocol: builtin\ncategories: [pii]\nparams:\n  patterns:\n    - x: 1\n";
    let check = |_: &Detector| {
        let (message, hint) = ("bad".to_owned(), "fix it".to_owned());
        Err(ParamFault { pointer: "/params/patterns/0/x".to_owned(), message, hint })
    };
    let context = LoadContext {
        env: Env::Development,
        secret: &|_| None,
        guard: &OPEN,
        check_params: &check,
        tiers: &Settings::default().tiers,
    };
    let files = [file(FaultKind::Detector, "regex.yaml", text)];
    let faults = Catalog::load(&files, &context).unwrap_err();
    assert_eq!(codes(&faults), "regex.yaml:6:10:bad_params");
}

#[test]
fn the_shipped_tenants_and_strategies_are_sound() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let mut files = vec![(FaultKind::Strategy, root.join("strategies.yaml"))];
    for entry in std::fs::read_dir(root.join("tenants")).unwrap() {
        files.push((FaultKind::Tenant, entry.unwrap().path()));
    }
    let files: Vec<_> = files
        .iter()
        .map(|(kind, path)| {
            file(*kind, path.to_str().unwrap(), &std::fs::read_to_string(path).unwrap())
        })
        .collect();
    let (catalog, _) = load(Env::Production, &files).unwrap();
    let tenants: Vec<&str> = catalog.tenants.keys().map(|id| id.as_str()).collect();
    assert_eq!(tenants, ["acme", "default", "globex"]);
    assert_eq!(&*catalog.tenants["default"].facts.tier, "unlimited");
    assert_eq!(catalog.strategies.len(), 8);
    assert_eq!(catalog.strategy("pull_request.opened").unwrap().0, "content.submitted");
    assert_eq!(catalog.strategy("scheduled.weekly_agents").unwrap().0, "scheduled.weekly");
}

#[test]
fn every_key_of_every_file_is_in_the_manual() {
    let manual = include_str!("../../docs/configuration.md");
    for (kind, name) in [
        (FaultKind::Detector, "d.yaml"),
        (FaultKind::Tenant, "t.yaml"),
        (FaultKind::Strategy, "strategies.yaml"),
    ] {
        let files = [file(kind, name, "never_a_key_of_ours: 1\n")];
        let faults = load(Env::Development, &files).unwrap_err();
        let hint = faults.iter().find(|f| f.code == "unknown_key").unwrap().hint.clone().unwrap();
        let known: Vec<&str> = hint.rsplit("known are ").next().unwrap().split(", ").collect();
        assert!(known.len() > 1, "{hint}");
        for key in known {
            assert!(manual.contains(&format!("`{key}`")), "{name}: {key} is not in the manual");
        }
    }
}

const PROTOCOLS: [&str; 10] = [
    "azure-content-safety",
    "bedrock-guardrail",
    "fms",
    "http",
    "kserve-v2",
    "lakera",
    "llm-guard",
    "native",
    "openai-moderation",
    "presidio",
];

#[test]
fn the_file_on_every_protocols_page_loads_and_the_page_holds_its_labels() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/protocols");
    assert_eq!(std::fs::read_dir(&root).unwrap().count(), PROTOCOLS.len());
    for protocol in PROTOCOLS {
        let page = std::fs::read_to_string(root.join(format!("{protocol}.md"))).unwrap();
        let text = page.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
        let name = text.lines().next().unwrap().strip_prefix("name: ").unwrap();
        let files = [file(FaultKind::Detector, &format!("{name}.yaml"), text)];
        let secret = |_: &SecretRef| Some("key".into());
        let env = Env::Development;
        let context = LoadContext {
            env,
            secret: &secret,
            guard: &OPEN,
            check_params: &|_| Ok(()),
            tiers: &Settings::default().tiers,
        };
        let (catalog, warnings) = Catalog::load(&files, &context).unwrap();
        assert!(warnings.is_empty(), "{protocol}: {warnings:?}");
        let detector = &catalog.detectors[name];
        assert_eq!(detector.protocol.name(), protocol);
        let own = |label: &str| text.contains(&format!("{label}: {{"));
        for (label, meaning) in detector.labels.iter().filter(|(label, _)| !own(label)) {
            let row = match (&meaning.category, meaning.polarity) {
                (_, Polarity::Negative) => format!("| `{label}` | speaks for the content |  |"),
                (Some(category), _) => {
                    format!("| `{label}` | {category} | {} |", meaning.severity.name())
                }
                (None, _) => {
                    format!(
                        "| `{label}` | the file's first category | {} |",
                        meaning.severity.name()
                    )
                }
            };
            assert!(page.contains(&row), "{protocol}: {row}");
        }
    }
}

#[test]
fn a_tenant_is_read_again_only_where_its_file_differs() {
    let tenant = |name: &str, more: &str| {
        let text = format!("schema_version: 1\nid: {name}\ntier: unlimited\n{more}");
        file(FaultKind::Tenant, &format!("tenants/{name}.yaml"), &text)
    };
    let before = [tenant("a", ""), tenant("b", "")];
    let (old, _) = load(Env::Development, &before).unwrap();
    let secret = |_: &SecretRef| None;
    let context = LoadContext {
        env: Env::Development,
        secret: &secret,
        guard: &OPEN,
        check_params: &|_| Ok(()),
        tiers: &Settings::default().tiers,
    };
    let after = |files: &[SourceFile]| Catalog::load_after(Some((&old, &before)), files, &context);
    let (new, _) = after(&[tenant("a", ""), tenant("b", "paused: true\n")]).unwrap();
    assert!(std::sync::Arc::ptr_eq(&old.tenants["a"], &new.tenants["a"]));
    assert!(new.tenants["b"].paused && !old.tenants["b"].paused);
    assert!(after(&[tenant("a", ""), tenant("b", "paused: perhaps\n")]).is_err());
}
