//! Nothing public is undocumented.

use detector_orchestrator::domain::error::Code;

fn doc(name: &str) -> String {
    let path = format!("{}/docs/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn every_error_code_has_a_section_and_every_section_a_code() {
    let text = doc("errors.md");
    let sections: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    let codes: Vec<&str> = Code::ALL.iter().map(|code| code.info().name).collect();
    assert_eq!(sections, codes);
}

#[test]
fn every_route_is_in_the_document() {
    let document: serde_json::Value =
        serde_json::from_str(&detector_orchestrator::api::openapi()).unwrap();
    let paths = document["paths"].as_object().unwrap();
    let mut routes = Vec::new();
    let mut folders = vec![format!("{}/src/api/routes", env!("CARGO_MANIFEST_DIR"))];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path.display().to_string());
                continue;
            }
            let text = std::fs::read_to_string(path).unwrap();
            for call in text.split("resource(&at(\"").skip(1) {
                routes.push(call.split('"').next().unwrap().to_owned());
            }
        }
    }
    assert!(routes.len() > 10, "{routes:?}");
    for route in routes {
        if ["/health", "/health/startup"].contains(&route.as_str()) {
            continue; // Aliases of /health/live and /health/ready.
        }
        assert!(paths.contains_key(&format!("/api/v1{route}")), "{route} is undocumented");
    }
}

#[test]
fn the_manual_shows_the_settings_file_as_it_is() {
    let shipped = detector_orchestrator::assets::read("config/settings.yaml").unwrap();
    let shipped = String::from_utf8(shipped.into_owned()).unwrap();
    assert!(doc("configuration.md").contains(&shipped), "docs/configuration.md is out of date");
}

#[test]
fn the_ledger_the_threats_and_the_faults_name_only_tests_that_exist() {
    let root = env!("CARGO_MANIFEST_DIR");
    let mut sources = String::new();
    let mut folders = vec![format!("{root}/src"), format!("{root}/tests")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path.display().to_string());
            } else if path.extension().is_some_and(|e| e == "rs") {
                sources.push_str(&std::fs::read_to_string(&path).unwrap());
            } else {
                sources.push_str(&path.file_stem().unwrap().to_string_lossy());
            }
        }
    }
    let ledger = doc("ledger.md") + &doc("threats.md") + &doc("reliability.md");
    let named: Vec<&str> = ledger
        .split('`')
        .skip(1)
        .step_by(2)
        .filter_map(|word| word.rsplit("::").next())
        .filter(|word| {
            word.matches('_').count() >= 3
                && word.chars().all(|c| c.is_ascii_lowercase() || c == '_')
        })
        .collect();
    assert!(named.len() > 15, "{named:?}");
    for name in named {
        assert!(sources.contains(name), "{name} is no test");
    }
}

#[test]
fn every_built_in_detector_has_figures_or_says_that_it_has_none() {
    let table = doc("built-in.md");
    let rows: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .filter(|row: &Vec<&str>| row.len() == 8)
        .collect();
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/detectors");
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        let linked = rows.iter().find(|row| row[0].starts_with(&format!("[{name}](")));
        match linked {
            Some(row) => {
                let page = row[0].rsplit('(').next().unwrap().trim_end_matches(')');
                assert!(doc(page).contains("\n## Measured\n"), "{page} holds no figures");
                let number = |cell: &&str| cell.parse::<f64>().is_ok();
                assert!([1, 2, 3, 4, 7].iter().all(|at| number(&row[*at])), "{row:?}");
                assert!(
                    row[6] == "–" || row[6].parse::<f64>().is_ok_and(f64::is_finite),
                    "{row:?}"
                );
            }
            None => {
                let told = rows.iter().find(|row| row[0].split(", ").any(|own| own == name));
                let told = told.unwrap_or_else(|| panic!("docs/built-in.md: no row of {name}"));
                assert_eq!(told[2..6], ["–"; 4], "{name} has figures but no page");
            }
        }
    }
}
