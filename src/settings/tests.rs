//! Defaults, overrides, and every fault with its place.

use std::io::Write as _;

use super::*;
use crate::yaml::fault::Fault;

fn load(text: &str, variables: &[(&str, &str)]) -> Result<Settings, Vec<Fault>> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    let variables = variables.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned()));
    Settings::load(Some(file.path()), variables)
}

#[test]
fn the_shipped_file_equals_the_defaults_and_names_every_key() {
    assert_eq!(Settings::load(None, std::iter::empty()).unwrap(), Settings::default());
    let text =
        String::from_utf8(crate::assets::read("config/settings.yaml").unwrap().into()).unwrap();
    let shipped =
        crate::yaml::parse_value(crate::yaml::fault::FaultKind::Settings, "s", &text).unwrap();
    fn keys(value: &serde_json::Value, at: &str, into: &mut Vec<String>) {
        match value.as_object() {
            Some(object) => object.iter().for_each(|(k, v)| keys(v, &format!("{at}/{k}"), into)),
            None => into.push(at.to_owned()),
        }
    }
    let (mut written, mut known) = (Vec::new(), Vec::new());
    keys(&shipped, "", &mut written);
    keys(&serde_json::to_value(Settings::default()).unwrap(), "", &mut known);
    written.sort();
    known.sort();
    assert_eq!(written, known);
}

#[test]
fn the_environment_wins_over_the_file() {
    let settings = load(
        "server: {listen: \"127.0.0.1:1\", workers: 3}\n",
        &[
            ("ORCHESTRATION_SERVER__LISTEN", "0.0.0.0:9"),
            ("ORCHESTRATION_SERVER__LIMITS__BODY_TIMEOUT", "2s"),
            ("ORCHESTRATION_SECURITY__OUTBOUND_ALLOW", "[10.0.0.0/8]"),
            ("ORCHESTRATION_ENV", "production"),
            ("ORCHESTRATION_LOG_LEVEL", "warn"),
            ("PATH", "/bin"),
        ],
    )
    .unwrap();
    assert_eq!(settings.server.listen.to_string(), "0.0.0.0:9");
    assert_eq!(settings.server.workers, Some(3));
    assert_eq!(settings.server.limits.body_timeout.0.as_secs(), 2);
    assert_eq!(settings.security.outbound_allow, ["10.0.0.0/8"]);
    assert_eq!(settings.env, Env::Production);
    assert_eq!(settings.telemetry.log_level, "warn");
    assert_eq!(settings.shutdown_delay().as_secs(), 10);
}

#[test]
fn every_fault_is_named_at_once_with_its_place_and_the_nearest_key() {
    let text = "server:\n  listn: x\n  workers: 0\n  limits: {body_timeout: 5}\nenv: prod\n";
    let faults = load(
        text,
        &[
            ("ORCHESTRATION_SERVER__LISTN", "x"),
            ("ORCHESTRATION_ORCHESTRATION__PARALLEL_MAX", "many"),
            ("ORCHESTRATION_NATS_URLS", "nats://secret"),
        ],
    )
    .unwrap_err();
    let found: Vec<(u32, u32, &str, bool)> = faults
        .iter()
        .map(|f| (f.line, f.column, f.code, f.file.starts_with("ORCHESTRATION_")))
        .collect();
    for expected in [
        (2, 3, "unknown_key", false),
        (3, 12, "out_of_range", false),
        (4, 26, "invalid_value", false),
        (5, 6, "invalid_value", false),
        (0, 0, "unknown_variable", true),
        (0, 0, "invalid_value", true),
    ] {
        assert!(found.contains(&expected), "{expected:?} is missing in {faults:#?}");
    }
    assert_eq!(found.len(), 7, "{faults:#?}");
    let hints: Vec<&str> = faults.iter().filter_map(|fault| fault.hint.as_deref()).collect();
    assert!(hints.contains(&"did you mean `server.listen`?"), "{hints:?}");
    assert!(hints.contains(&"did you mean ORCHESTRATION_SERVER__LISTEN?"), "{hints:?}");
    assert!(!format!("{faults:?}").contains("secret"));
}

#[test]
fn a_file_or_section_that_is_no_mapping_is_refused_with_its_place() {
    for (text, expected) in [
        ("env:production\n", "1:1: bad_value: expected a mapping, found text"),
        ("# ours\n\nenv:production\n", "3:1: bad_value: expected a mapping, found text"),
        ("- production\n", "1:1: bad_value: expected a mapping, found a list"),
        ("[]\n", "1:1: bad_value: expected a mapping, found a list"),
        ("\"hello\"\n", "1:1: bad_value: expected a mapping, found text"),
        ("42\n", "1:1: bad_value: expected a mapping, found a number"),
        ("null\n", "1:1: bad_value: expected a mapping, found nothing"),
        ("security: []\n", "1:11: bad_value: security: expected a mapping, found a list"),
        ("security: [[10.0.0.0/8]]\n", "1:11: bad_value: security: expected a mapping"),
        ("server: {limits: []}\n", "1:18: bad_value: server.limits: expected a mapping"),
        ("server: [1]\n", "1:9: bad_value: server: expected a mapping, found a list"),
        ("server: 8000\n", "1:9: bad_value: server: expected a mapping, found a number"),
        ("tiers: {gold: [1, 1, 1, 1]}\n", "1:15: bad_value: tiers.gold: expected a mapping"),
        ("tiers: {gold: null}\n", "1:15: bad_value: tiers.gold: expected a mapping"),
        (
            "security: {rate_limit: {routes: {GET /keys: []}}}\n",
            "1:45: bad_value: security.rate_limit.routes.GET /keys: expected a mapping",
        ),
    ] {
        let faults = load(text, &[("ORCHESTRATION_LOG_LEVEL", "warn")]).unwrap_err();
        let [fault] = &faults[..] else { panic!("{text}: {faults:?}") };
        let shown = fault.to_string();
        assert!(shown.contains(&format!(":{expected}")), "{text}: {shown}");
        assert!(shown.ends_with("(write `key: value` lines)"), "{text}: {shown}");
    }
    for text in ["", "# nothing yet\n", "---\n# nothing\n...\n", "{}\n", "security:\n"] {
        assert!(load(text, &[]).is_ok(), "{text:?}");
    }
}

#[test]
fn a_wrong_value_is_told_in_words_of_the_file() {
    for (text, expected) in [
        (
            "orchestration: {parallel_max: many}\n",
            "expected a whole number, 0 or more, found `many`",
        ),
        (
            "security: {auth_failures_per_minute: -1}\n",
            "expected a whole number from 0 to 4294967295",
        ),
        ("security: {outbound_allow: {a: 1}}\n", "expected a list, found a mapping"),
        (
            "security: {outbound_allow: [[x]]}\n",
            "security.outbound_allow.0: expected a string, found a list",
        ),
        ("env: prod\n", "`prod` is none of the known values (write one of `development`"),
        ("a: &a [*a]\n", "an alias stands inside the value that it repeats"),
        ("telemetry: {trace_ratio: .nan}\n", "`.nan` is no finite number"),
    ] {
        let faults = load(text, &[]).unwrap_err();
        let shown = faults[0].to_string();
        assert!(shown.contains(expected), "{text}: {shown}");
    }
    let list = [("ORCHESTRATION_SECURITY__OUTBOUND_ALLOW", "[[x]]")];
    assert_eq!(load("", &list).unwrap_err()[0].file, list[0].0);
}

#[test]
fn a_lease_of_less_than_three_beats_is_refused_with_the_least_that_is_possible() {
    let faults = load("jobs: {lease: 2900ms}\n", &[]).unwrap_err();
    assert!(faults[0].message.contains("at least 3s"), "{faults:?}");
    assert!(load("jobs: {lease: 3s}\n", &[]).is_ok());
}

#[test]
fn envelopes_are_blocked_but_in_development_and_where_the_settings_say_otherwise() {
    let mode = |text: &str, env: &str| load(text, &[("ORCHESTRATION_ENV", env)]).unwrap().waf();
    for (env, mode_of_env) in [
        ("development", WafMode::Monitor),
        ("staging", WafMode::Block),
        ("production", WafMode::Block),
    ] {
        assert_eq!(mode("{}\n", env), mode_of_env);
        assert_eq!(mode("security: {waf: \"off\"}\n", env), WafMode::Off);
        assert_eq!(mode("security: {waf: monitor}\n", env), WafMode::Monitor);
        assert_eq!(mode("security: {waf: block}\n", env), WafMode::Block);
    }
    let by_variable = [("ORCHESTRATION_SECURITY__WAF", "block")];
    assert_eq!(load("{}\n", &by_variable).unwrap().waf(), WafMode::Block);
    assert!(load("security: {waf: loud}\n", &[]).is_err());
}

#[test]
fn tiers_and_rates_are_data_and_wrong_ones_are_refused() {
    let gold = "{requests_per_hour: 9, jobs_per_day: null, concurrent: 1, weight: 2}";
    let settings = load(&format!("tiers: {{gold: {gold}}}\n"), &[]).unwrap();
    assert_eq!(settings.tiers["gold"].requests_per_hour, Some(9));
    assert_eq!(settings.tiers["starter"].requests_per_hour, Some(500), "others stay");
    let one = load("tiers: {starter: {concurrent: null}}\n", &[]).unwrap().tiers["starter"];
    assert_eq!((one.concurrent, one.requests_per_hour), (None, Some(500)));
    let by_variable = [("ORCHESTRATION_TIERS__STARTER__CONCURRENT", "3")];
    assert_eq!(load("{}\n", &by_variable).unwrap().tiers["starter"].concurrent, Some(3));
    let rates = "keys: {orch_a: {per_minute: 60}}, routes: {GET /keys: {per_minute: 5, burst: 2}}";
    let settings = load(&format!("security: {{rate_limit: {{{rates}}}}}\n"), &[]).unwrap();
    let RateLimit { keys, routes, .. } = &settings.security.rate_limit;
    assert_eq!((keys["orch_a"].burst(), routes["GET /keys"].burst()), (6, 2));
    for wrong in [
        "tiers: {gold: {requests_per_hour: 0, jobs_per_day: null, concurrent: 1, weight: 2}}\n",
        "tiers: {gold: {requests_per_hour: 1, jobs_per_day: 1, concurrent: 1, weight: 0.05}}\n",
        "tiers: {gold: {requests_per_hour: 1, job_per_day: 1, concurrent: 1, weight: 1}}\n",
        "security: {rate_limit: {burst: 0}}\n",
        "security: {rate_limit: {keys: {a: {per_minute: 0}}}}\n",
        "security: {rate_limit: {routes: {GET /keys: {burst: 1}}}}\n",
    ] {
        let faults = load(wrong, &[]).unwrap_err();
        assert_eq!((faults.len(), faults[0].line), (1, 1), "{wrong}: {faults:?}");
    }
}

#[test]
fn the_databases_address_comes_by_file_or_environment_and_is_never_shown() {
    let url = "postgres://ana:canary@db/x";
    let text = "database: {url: \"postgres://ana:canary@elsewhere/x\"}\n";
    for variables in
        [&[("ORCHESTRATION_DATABASE_URL", url)][..], &[("ORCHESTRATION_DATABASE__URL", url)]]
    {
        let settings = load(text, variables).unwrap();
        let found = settings.database.url.clone().unwrap();
        assert_eq!(secrecy::ExposeSecret::expose_secret(found.secret()), url);
        let shown = format!("{settings:?} {}", serde_json::to_string(&settings).unwrap());
        assert!(!shown.contains("canary"), "{shown}");
    }
    let text = "database: {url: \"mysql://ana:canary@db/x\"}\n";
    for faults in [
        load(text, &[]).unwrap_err(),
        load("", &[("ORCHESTRATION_DATABASE_URL", "mysql://ana:canary@db/x")]).unwrap_err(),
    ] {
        let told = format!("{faults:?}");
        assert!(told.contains("postgres://USER") && !told.contains("canary"), "{told}");
    }
    assert_eq!(load("", &[("ORCHESTRATION_DATABASE_URL", "")]).unwrap().database.url, None);
}

#[test]
fn the_address_of_redis_is_never_shown_and_another_kind_is_refused() {
    let url = "rediss://:canary@cache:6380/1";
    let settings = load("{}\n", &[("ORCHESTRATION_REDIS_URL", url)]).unwrap();
    let found = settings.redis.url.clone().unwrap();
    assert_eq!(secrecy::ExposeSecret::expose_secret(found.secret()), url);
    let shown = format!("{settings:?} {}", serde_json::to_string(&settings).unwrap());
    assert!(!shown.contains("canary"), "{shown}");
    for wrong in ["http://:canary@cache", "cache:6379/canary", "unix:///run/canary"] {
        let faults = load("{}\n", &[("ORCHESTRATION_REDIS_URL", wrong)]).unwrap_err();
        let told = format!("{faults:?}");
        assert!(told.contains("rediss:// for TLS") && !told.contains("canary"), "{told}");
        assert!(load(&format!("redis: {{url: \"{wrong}\"}}\n"), &[]).is_err());
    }
    assert_eq!(load("", &[("ORCHESTRATION_REDIS_URL", "")]).unwrap().redis.url, None);
}

#[test]
fn the_address_of_nats_is_never_shown_and_another_kind_is_refused() {
    let url = "tls://orchestrator:canary@bus:4222";
    let settings = load("{}\n", &[("ORCHESTRATION_NATS_URL", url)]).unwrap();
    let found = settings.nats.url.clone().unwrap();
    assert_eq!(secrecy::ExposeSecret::expose_secret(found.secret()), url);
    let shown = format!("{settings:?} {}", serde_json::to_string(&settings).unwrap());
    assert!(!shown.contains("canary"), "{shown}");
    for wrong in ["ws://canary@bus", "bus:4222/canary", "http://canary@bus"] {
        let faults = load("{}\n", &[("ORCHESTRATION_NATS_URL", wrong)]).unwrap_err();
        let told = format!("{faults:?}");
        assert!(told.contains("tls:// for TLS") && !told.contains("canary"), "{told}");
    }
}

#[test]
fn only_development_migrates_unasked() {
    let of = |env: &str| load("", &[("ORCHESTRATION_ENV", env)]).unwrap().migrate();
    let found = ["development", "staging", "production"].map(of);
    assert_eq!(found, [Migrate::Auto, Migrate::Check, Migrate::Check]);
    assert_eq!(load("database: {migrate: check}\n", &[]).unwrap().migrate(), Migrate::Check);
}

#[test]
fn policies_from_elsewhere_need_the_key_that_signs_them() {
    let url = ("ORCHESTRATION_POLICY__REMOTE__URL", "https://example.com/bundle.tar.gz");
    let key = ("ORCHESTRATION_POLICY__REMOTE__PUBLIC_KEY_FILE", "key.pem");
    let faults = load("policy: {remote: {interval: 5s}}\n", &[url]).unwrap_err();
    assert!(faults[0].message.starts_with("policy.remote: needs `public_key_file`"), "{faults:?}");
    assert!(load("", &[key]).is_ok());
    let settings = load("policy: {remote: {interval: 5s}}\n", &[url, key]).unwrap();
    assert_eq!(settings.policy.remote.url.as_deref(), Some(url.1));
    let faults = load("policy: {remote: {interval: 10ms}}\n", &[]).unwrap_err();
    assert!(faults[0].message.contains("policy.remote.interval: must be at least 1s"));
}
