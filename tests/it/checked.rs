//! What `orchestrator check` sees of data, keys and addresses, beside what a start says of them.

use std::collections::BTreeSet;
use std::path::Path;

use crate::app::write;
use crate::binary::{Served, command, run, text};

const FREE: (&str, &str) = ("SERVER__LISTEN", "127.0.0.1:0");

/// Exit code and all that was printed.
fn told(dir: &Path, args: &[&str], variables: &[(&str, &str)]) -> (Option<i32>, String) {
    let mut command = command(dir);
    command.args(args);
    for (name, value) in [&[FREE], variables].concat() {
        command.env(format!("ORCHESTRATION_{name}"), value);
    }
    let output = crate::binary::ended(&mut command);
    (output.status.code(), format!("{}{}", text(&output.stdout), text(&output.stderr)))
}

fn start(dir: &Path) -> Served {
    let mut serve = command(dir);
    serve.env("ORCHESTRATION_SERVER__LISTEN", "127.0.0.1:0");
    Served::start(serve)
}

/// Takes the store's log into its file, as whoever closes it last does.
fn close(dir: &Path) {
    let store = rusqlite::Connection::open(dir.join("data/orchestrator.db")).unwrap();
    store.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
}

/// Every file below `dir`.
fn files(dir: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        }
        found.insert(path.display().to_string());
    }
    found
}

#[test]
fn check_refuses_keys_and_files_of_data_that_a_start_refuses() {
    let dir = tempfile::tempdir().unwrap();
    start(dir.path()).stop();
    close(dir.path());
    let data = dir.path().join("data");
    for (file, expected) in [
        ("keys/pepper", "does not hold 64 hexadecimal digits"),
        ("keys/data", "does not hold 64 hexadecimal digits"),
        ("keys/evidence", "does not hold 64 hexadecimal digits"),
        ("redaction.key", "does not hold 64 hexadecimal digits"),
        ("orchestrator.db", "the file is damaged or no database"),
    ] {
        let sound = std::fs::read(data.join(file)).unwrap();
        std::fs::write(data.join(file), "garbage ".repeat(200)).unwrap();
        let (status, said) = told(dir.path(), &["check"], &[]);
        assert_eq!((status, said.contains(expected)), (Some(65), true), "{file}: {said}");
        let (status, said) = told(dir.path(), &["serve"], &[]);
        assert_eq!((status, said.contains(expected)), (Some(69), true), "{file}: {said}");
        std::fs::write(data.join(file), sound).unwrap();
        let (status, said) = told(dir.path(), &["check"], &[]);
        assert_eq!(status, Some(0), "{file}: {said}");
    }
    let store = rusqlite::Connection::open(data.join("orchestrator.db")).unwrap();
    store.execute("UPDATE refinery_schema_history SET version = version + 1000", []).unwrap();
    drop(store);
    for (command, code) in [("check", 65), ("serve", 69)] {
        let (status, said) = told(dir.path(), &[command], &[]);
        assert_eq!(
            (status, said.contains("start the newer program")),
            (Some(code), true),
            "{said}"
        );
    }
    let store = rusqlite::Connection::open(data.join("orchestrator.db")).unwrap();
    store.execute("UPDATE refinery_schema_history SET version = version - 1000", []).unwrap();
    drop(store);
    std::fs::remove_file(data.join("evidence.spool")).unwrap();
    std::fs::create_dir(data.join("evidence.spool")).unwrap();
    for (command, code) in [("check", 65), ("serve", 69)] {
        let (status, said) = told(dir.path(), &[command], &[]);
        assert_eq!(status, Some(code), "{said}");
        assert!(said.contains("the evidence spool below paths.data"), "{said}");
    }
    std::fs::remove_dir(data.join("evidence.spool")).unwrap();
    for file in ["evidence.spool", "keys/pepper"] {
        let path = data.join(file);
        let _ = std::fs::remove_file(&path);
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        for (command, code) in [("check", 65), ("serve", 69)] {
            let (status, said) = told(dir.path(), &[command], &[]);
            assert_eq!((status, said.contains("it is no file")), (Some(code), true), "{said}");
        }
        std::fs::remove_file(&path).unwrap();
    }
    let blocked = tempfile::tempdir().unwrap();
    write(blocked.path(), "data", "");
    for (command, code) in [("check", 65), ("serve", 69)] {
        let (status, said) = told(blocked.path(), &[command], &[]);
        assert_eq!(status, Some(code), "{said}");
        assert!(said.contains("could not read or make a key in data"), "{said}");
    }
}

#[test]
fn check_and_a_start_warn_of_keys_that_were_lost() {
    let dir = tempfile::tempdir().unwrap();
    let made = ["keys", "create", "--role", "super_admin", "--label", "a", "--reason", "a"];
    assert_eq!(run(dir.path(), &made).status.code(), Some(0));
    start(dir.path()).stop();
    let (status, said) = told(dir.path(), &["check"], &[]);
    assert_eq!((status, said.contains("warning")), (Some(0), false), "{said}");
    std::fs::remove_file(dir.path().join("data/keys/evidence")).unwrap();
    std::fs::remove_file(dir.path().join("data/keys/pepper")).unwrap();
    let (status, said) = told(dir.path(), &["check"], &[]);
    assert_eq!(status, Some(0), "{said}");
    let lost = "the pepper of 1 API keys in the store is not there";
    assert!(said.contains(&format!("warning: settings: lost_key: {lost}")), "{said}");
    assert!(said.contains("warning: settings: strange_log: log "), "{said}");
    assert!(!dir.path().join("data/keys/pepper").exists(), "check made a key");
    let (_, out, _) = start(dir.path()).stop();
    assert!(out.contains(lost) && out.contains("is of another key and is not believed"), "{out}");
}

#[test]
fn another_pepper_than_the_latest_key_was_made_with_is_told() {
    let (one, other) = ("1a".repeat(32), "2b".repeat(32));
    let said = "was made with another pepper than the present one";
    let make = ["keys", "create", "--role", "super_admin", "--label", "a", "--reason", "a"];
    let database = crate::postgres::Server::shared().database();
    let keys = [("DATA_KEY", one.as_str()), ("EVIDENCE_KEY", one.as_str())];
    for store in [&[][..], &[("DATABASE_URL", database.as_str())]] {
        let dir = tempfile::tempdir().unwrap();
        let given = [&keys[..], store].concat();
        let warns = |args: &[&str], pepper: &str, warned: bool| {
            let variables = [&given[..], &[("KEY_PEPPER", pepper)]].concat();
            let (status, what) = told(dir.path(), args, &variables);
            assert_eq!((status, what.contains(said)), (Some(0), warned), "{args:?}: {what}");
        };
        warns(&make, &one, false);
        warns(&["check"], &one, false);
        warns(&["check"], &other, true);
        let mut serve = command(dir.path());
        for (name, value) in [&given[..], &[FREE, ("KEY_PEPPER", &other)]].concat() {
            serve.env(format!("ORCHESTRATION_{name}"), value);
        }
        let (_, out, _) = Served::start(serve).stop();
        assert!(out.contains(said), "{out}");
        // Whoever makes one all the same is told, and goes on with it.
        warns(&make, &other, true);
        warns(&["check"], &other, false);
        warns(&["check"], &one, true);
    }
}

#[test]
fn check_warns_of_a_damaged_spool_and_leaves_it_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    start(dir.path()).stop();
    let spool = dir.path().join("data/evidence.spool");
    let frame = [&[0, 0, 0, 5][..], &[7; 32], b"hello"].concat();
    std::fs::write(&spool, &frame).unwrap();
    let (status, said) = told(dir.path(), &["check"], &[]);
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains("spool_damaged: the evidence spool"), "{said}");
    assert_eq!(std::fs::read(&spool).unwrap(), frame);
    let torn = &frame[..20];
    std::fs::write(&spool, torn).unwrap();
    let (status, said) = told(dir.path(), &["check"], &[]);
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains("ends with 20 bytes of a write"), "{said}");
    let noise: Vec<u8> =
        (0_u32..300).flat_map(|n| (!n).wrapping_mul(0x9E37_79B1).to_be_bytes()).collect();
    std::fs::write(&spool, &noise).unwrap();
    let (status, said) = told(dir.path(), &["check"], &[]);
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains("holds 1200 bytes that are no records"), "{said}");
    assert_eq!(std::fs::read(&spool).unwrap(), noise);
    start(dir.path()).stop();
    assert_eq!(std::fs::read(dir.path().join("data/evidence.spool.damaged")).unwrap(), noise);
}

#[test]
fn what_is_no_store_is_refused_by_its_name_and_a_file_without_tables_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data/orchestrator.db");
    std::fs::create_dir_all(&path).unwrap();
    let refused = |expected: &str| {
        for (command, code) in [("check", 65), ("serve", 69), ("migrate", 69)] {
            let (status, said) = told(dir.path(), &[command], &[]);
            assert_eq!((status, said.contains(expected)), (Some(code), true), "{command}: {said}");
        }
    };
    refused("data/orchestrator.db` is a folder or a device and no file");
    std::fs::remove_dir(&path).unwrap();
    let foreign = rusqlite::Connection::open(&path).unwrap();
    foreign.execute_batch("CREATE TABLE notes (text TEXT)").unwrap();
    let before = std::fs::read(&path).unwrap();
    refused("data/orchestrator.db` holds tables of another program and none of the store");
    assert_eq!(std::fs::read(&path).unwrap(), before);
    foreign.execute_batch("DROP TABLE notes").unwrap();
    drop(foreign);
    let (status, said) = told(dir.path(), &["check"], &[]);
    assert_eq!(status, Some(0), "{said}");
    start(dir.path()).stop();
}

#[test]
fn check_leaves_no_file_behind() {
    let dir = tempfile::tempdir().unwrap();
    let check = |moment: &str| {
        let before = files(dir.path());
        let (status, said) = told(dir.path(), &["check"], &[]);
        assert_eq!(status, Some(0), "{moment}: {said}");
        assert_eq!(files(dir.path()), before, "{moment}");
    };
    check("nothing is there");
    let served = start(dir.path());
    check("a service runs");
    served.stop();
    check("it was stopped");
    close(dir.path());
    assert!(!dir.path().join("data/orchestrator.db-wal").exists());
    check("the store has no log");
    drop(start(dir.path()));
    assert!(dir.path().join("data/orchestrator.db-wal").exists());
    check("it was killed");
}

#[test]
fn check_tries_the_addresses_to_listen_on() {
    let dir = tempfile::tempdir().unwrap();
    // Of a network for documents: no machine has it.
    for name in ["SERVER__LISTEN", "SERVER__ADMIN_LISTEN"] {
        let foreign = [(name, "192.0.2.1:8000")];
        let expected = "could not listen on 192.0.2.1:8000";
        for (command, code) in [("check", 65), ("serve", 69)] {
            let (status, said) = told(dir.path(), &[command], &foreign);
            assert_eq!((status, said.contains(expected)), (Some(code), true), "{name}: {said}");
        }
    }
    let served = start(dir.path());
    let taken = [("SERVER__LISTEN", served.address.as_str())];
    let (status, said) = told(dir.path(), &["check", "--json"], &taken);
    assert_eq!(status, Some(0), "{said}");
    let note: serde_json::Value = serde_json::from_str(said.lines().next().unwrap()).unwrap();
    assert_eq!((&note["severity"], &note["code"]), (&"note".into(), &"address_in_use".into()));
    assert!(said.contains("a service runs on this data folder"), "{said}");
    let other = tempfile::tempdir().unwrap();
    let (status, said) = told(other.path(), &["check"], &taken);
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains("warning: settings: address_in_use"), "{said}");
    let (status, _) = told(other.path(), &["serve"], &taken);
    assert_eq!(status, Some(69));
}

#[test]
fn commands_of_keys_that_fail_make_no_store() {
    let dir = tempfile::tempdir().unwrap();
    let why = ["--reason", "a"];
    let create = ["keys", "create", "--label", "a"];
    for (args, code, expected) in [
        (&["keys", "list"][..], 66, "there is no store in "),
        (&["keys", "revoke", "orch_1a2b3c4d5e6f", why[0], why[1]], 66, "there is no store in "),
        (&["keys", "rotate", "orch_1a2b3c4d5e6f", why[0], why[1]], 66, "there is no store in "),
        (&[&create[..], &["--role", "king"], &why].concat(), 65, "roles: is unknown"),
        (&[&create[..], &["--role", "app"], &why].concat(), 65, "name the tenant"),
        (&[&create[..], &["--role", "super_admin", "--reason", ""]].concat(), 65, "say why"),
    ] {
        let output = run(dir.path(), args);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        assert!(said.contains(expected), "{args:?}: {said}");
        assert_eq!(files(dir.path()), BTreeSet::new(), "{args:?}");
    }
    write(dir.path(), "data/keys/pepper", "garbage");
    let before = files(dir.path());
    let made = run(dir.path(), &[&create[..], &["--role", "super_admin"], &why].concat());
    assert_eq!(made.status.code(), Some(69), "{}", text(&made.stderr));
    assert_eq!(files(dir.path()), before);
}

#[test]
fn check_makes_no_tables_in_a_database() {
    let (server, dir) = (crate::postgres::Server::start(), tempfile::tempdir().unwrap());
    let url = server.database();
    let name = url.rsplit('/').next().unwrap();
    let keys = crate::shared::orchestrator(dir.path(), &url, &[]);
    let keys: Vec<(String, String)> = keys
        .get_envs()
        .filter_map(|(name, value)| Some((name.to_str()?, value?.to_str()?)))
        .filter_map(|(name, value)| Some((name.strip_prefix("ORCHESTRATION_")?, value)))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let check = |env: &str| {
        let given = keys.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let variables: Vec<_> = given.chain([("ENV", env)]).collect();
        told(dir.path(), &["check"], &variables)
    };
    let (code, said) = check("development");
    assert_eq!(code, Some(0), "a start makes them: {said}");
    let (code, said) = check("staging");
    assert!(code == Some(65) && said.contains("run `orchestrator migrate`"), "{said}");
    assert_eq!(server.sql(name, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"), "0");
}

/// Makes a key of the store in `dir` that holds for `expires`; what it prints.
fn first_key(dir: &Path, expires: &str) -> (Option<i32>, String) {
    let make = ["keys", "create", "--role", "super_admin", "--label", "a", "--reason", "a"];
    told(dir, &[&make[..], &["--expires", expires]].concat(), &[("ENV", "production")])
}

#[test]
fn a_bootstrap_key_lets_nobody_into_a_store_that_held_a_key() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(first_key(dir.path(), "1s").0, Some(0));
    let given = [("ENV", "production"), ("BOOTSTRAP_KEY", crate::access::BOOT)];
    assert_eq!(told(dir.path(), &["check"], &given).0, Some(0), "its key holds");
    std::thread::sleep(std::time::Duration::from_millis(1_100));
    let spent = "ORCHESTRATION_BOOTSTRAP_KEY counts only while the store never held a key";
    let (code, said) = told(dir.path(), &["check"], &given);
    assert!(code == Some(65) && said.contains(spent), "{code:?}: {said}");
    let (code, said) = told(dir.path(), &["serve"], &given);
    assert!(code == Some(64) && said.contains(spent), "{code:?}: {said}");
    let fresh = tempfile::tempdir().unwrap();
    assert_eq!(told(fresh.path(), &["check"], &given).0, Some(0), "a start makes it a key");
}

#[test]
fn production_makes_no_second_pepper_beside_keys() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(first_key(dir.path(), "1h").0, Some(0));
    std::fs::remove_file(dir.path().join("data/keys/pepper")).unwrap();
    let lost = "the pepper of 1 API keys in the store is not there, so none is valid";
    for (command, expected) in [("check", 65), ("serve", 69)] {
        let (code, said) = told(dir.path(), &[command], &[("ENV", "production")]);
        assert!(code == Some(expected) && said.contains(lost), "{command} {code:?}: {said}");
    }
    assert!(!dir.path().join("data/keys/pepper").exists());
}

#[test]
fn a_data_folder_that_is_a_link_to_nowhere_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/nowhere/data", dir.path().join("data")).unwrap();
    for (command, expected) in [("check", 65), ("serve", 69)] {
        let (code, said) = told(dir.path(), &[command], &[]);
        assert!(code == Some(expected) && said.contains("not a directory"), "{code:?}: {said}");
    }
}
