//! Versions of a detector file.

use super::*;

#[test]
fn a_version_that_says_too_little_or_too_much_is_refused_at_its_place() {
    for (extra, expected) in [
        ("shadow: maybe\n", "5:9:bad_value"),
        ("versions: {a: 1}\n", "5:11:bad_value"),
        ("versions: []\n", "5:11:bad_value"),
        ("versions: [{weight: 100}]\n", "5:12:bad_value"),
        ("versions: [{version: 'a b', weight: 100}]\n", "5:22:bad_value"),
        ("versions: [{version: a}]\n", "5:12:missing_key"),
        ("versions: [{version: a, weight: 100.001}]\n", "5:33:out_of_range"),
        ("versions: [{version: a, weight: 33.333}]\n", "5:33:out_of_range"),
        ("versions: [{version: a, weight: 90}]\n", "5:11:out_of_range"),
        ("versions: [{version: a, weight: 50}, {version: a, weight: 50}]\n", "5:38:bad_value"),
        ("versions: [{version: a, weight: 100, tenants: [x]}]\n", "5:38:bad_value"),
        ("versions: [{version: a, weight: 5, shadow: true}]\n", "5:33:bad_value"),
        ("versions: [{version: '1', shadow: true}]\n", "5:11:bad_value"),
        ("shadow: true\nversions: [{version: a, weight: 100}]\n", "5:9:bad_value"),
        ("versions: [{version: a, weight: 100, retry: {attempts: 9}}]\n", "5:56:out_of_range"),
        ("versions: [{version: a, weight: 100, timout: 1s}]\n", "5:38:unknown_key"),
    ] {
        let text = format!("{GOOD}{extra}");
        let files = [file(FaultKind::Detector, "d.yaml", &text)];
        let faults = load(Env::Development, &files).unwrap_err();
        assert_eq!(codes(&faults), format!("d.yaml:{expected}"), "{extra} {faults:?}");
    }
}

#[test]
fn a_version_is_a_whole_detector_with_the_files_keys_below_its_own() {
    let text = "name: d\nprotocol: native\ncategories: [toxicity]\ntimeout: 200ms\nweight: 3\n\
         versions:\n- {version: 1.5, weight: 99.5, endpoint: http://h/a}\n\
         - {version: b, weight: 0.5, endpoint: http://h/b, timeout: 1s}\n\
         - {version: next, shadow: true, endpoint: http://h/c, retry: {attempts: 1}}\n";
    let (catalog, _) =
        load(Env::Development, &[file(FaultKind::Detector, "d.yaml", text)]).unwrap();
    let detector = &catalog.detectors["d"];
    let seen = |found: &Arc<Detector>| {
        let endpoint = found.endpoint.as_ref().unwrap().uri.to_string();
        (found.version.to_string(), endpoint, found.timeout.as_millis(), found.shadow)
    };
    let known: Vec<_> = detector.definitions().map(seen).collect();
    let version = |name: &str, path: &str, timeout, shadow| {
        (name.to_owned(), format!("http://h/{path}"), timeout, shadow)
    };
    let expected = [
        version("1.5", "a", 200, false),
        version("b", "b", 1000, false),
        version("next", "c", 200, true),
    ];
    assert_eq!(known, expected);
    assert!(detector.definitions().all(|found| found.weight == 3.0 && found.name == detector.name));
    let taking = |bucket| detector.taking(bucket).version.to_string();
    assert_eq!([taking(0), taking(9_949)], ["1.5", "1.5"]);
    assert_eq!([taking(9_950), taking(9_999)], ["b", "b"]);
    let observed = GOOD.to_owned() + "versions: [{version: next, shadow: true}]\n";
    let files = [file(FaultKind::Detector, "d.yaml", &observed)];
    let (catalog, _) = load(Env::Development, &files).unwrap();
    let detector = &catalog.detectors["d"];
    let names: Vec<&str> = detector.definitions().map(|found| &*found.version).collect();
    assert_eq!((names, detector.taking(9_999).version.as_ref()), (vec!["1", "next"], "1"));
}

#[test]
fn a_version_with_another_endpoint_has_none_of_the_files_replicas() {
    let text = GOOD.to_owned()
        + "replicas: [{endpoint: http://h/2}]\nversions:\n- {version: a, weight: 50}\n\
           - {version: b, weight: 30, endpoint: http://h/b}\n\
           - {version: c, weight: 20, replicas: [{endpoint: http://h/c}]}\n";
    let (catalog, _) =
        load(Env::Development, &[file(FaultKind::Detector, "d.yaml", &text)]).unwrap();
    let paths: Vec<Vec<&str>> = catalog.detectors["d"]
        .definitions()
        .map(|found| found.endpoints().map(|endpoint| endpoint.uri.path()).collect())
        .collect();
    assert_eq!(paths, [vec!["/x", "/2"], vec!["/b"], vec!["/c"]]);
}
