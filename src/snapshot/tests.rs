//! What is loaded, and that every way of writing a file is seen.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::*;

mod broken;
mod rows;
mod stored;

/// What the audit says of a change that a test makes.
fn audited(tenant: &crate::domain::id::TenantId) -> crate::store::AuditEntry {
    crate::store::AuditEntry {
        tenant: Some(tenant.clone()),
        at_ms: 1,
        actor: "a".into(),
        action: "policy.put".into(),
        target: "policy/standard".into(),
        reason: String::new(),
        before: None,
        after: None,
    }
}

struct Project {
    dir: tempfile::TempDir,
    settings: Arc<Settings>,
}

fn sound(_: &crate::catalog::Detector) -> Result<(), crate::catalog::ParamFault> {
    Ok(())
}

impl Project {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        crate::assets::write_to(dir.path()).unwrap();
        let mut settings = Settings::default();
        for path in [
            &mut settings.paths.detectors,
            &mut settings.paths.policies,
            &mut settings.paths.tenants,
            &mut settings.paths.strategies,
        ] {
            *path = dir.path().join(&path);
        }
        Self { dir, settings: Arc::new(settings) }
    }

    fn sources(&self) -> Sources {
        Sources::of(&self.settings, None, sound)
    }

    fn load(&self) -> Result<Snapshot, Vec<Fault>> {
        Snapshot::load(&self.sources(), &self.settings, None)
    }

    fn live(&self) -> Arc<Live> {
        let sources = self.sources();
        let first = Snapshot::load(&sources, &self.settings, None).unwrap();
        Arc::new(Live::new(first, sources, None))
    }

    fn path(&self, relative: &str) -> std::path::PathBuf {
        self.dir.path().join(relative)
    }
}

fn tenant(tier: &str) -> String {
    format!("schema_version: 1\nid: acme\ntier: {tier}\npolicies: [standard, strict]\n")
}

#[test]
fn the_shipped_files_load_on_disk_and_embedded_alike() {
    let project = Project::new();
    let on_disk = project.load().unwrap_or_else(|faults| panic!("{faults:#?}"));
    // Seen from an empty folder, the default folders are absent.
    let settings = Settings::default();
    let empty = tempfile::tempdir().unwrap();
    let sources = Sources::of(&settings, Some(empty.path()), sound);
    let embedded = Snapshot::load(&sources, &settings, None).unwrap();
    assert_eq!(on_disk.revision, embedded.revision);
    assert_eq!(on_disk.revision.len(), 64);
    assert!(on_disk.warnings.is_empty(), "{:#?}", on_disk.warnings);
}

#[test]
fn the_revision_changes_exactly_when_content_does() {
    let project = Project::new();
    let before = project.load().unwrap().revision;
    let path = project.path("config/tenants/acme.yaml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, &text).unwrap();
    assert_eq!(project.load().unwrap().revision, before);
    std::fs::write(&path, format!("{text}# more\n")).unwrap();
    assert_ne!(project.load().unwrap().revision, before);
    std::fs::write(&path, &text).unwrap();
    std::fs::write(project.path("policies/standard/README.md"), "ignored").unwrap();
    std::fs::write(project.path("detectors/.hidden.yaml"), "ignored").unwrap();
    assert_eq!(project.load().unwrap().revision, before);
}

#[test]
fn a_file_under_a_name_that_is_nearly_read_is_refused() {
    for (from, to) in [
        ("policies/floor/data.yaml", "policies/floor/data.yml"),
        ("policies/floor/data.yaml", "policies/floor/Data.yaml"),
        ("policies/standard/data.yaml", "policies/standard/data.json"),
        ("policies/standard/verdict.rego", "policies/standard/verdict.REGO"),
        ("detectors/pii.yaml", "detectors/pii.yml"),
        ("config/tenants/acme.yaml", "config/tenants/acme.yml"),
    ] {
        let project = Project::new();
        std::fs::rename(project.path(from), project.path(to)).unwrap();
        let faults = project.load().unwrap_err();
        assert_eq!(faults[0].code, "misnamed_file", "{to}: {faults:#?}");
        assert!(faults[0].file.ends_with(to), "{faults:#?}");
        assert!(faults[0].hint.as_deref().unwrap().contains("rename it to"), "{faults:#?}");
    }
}

#[test]
fn a_floor_without_its_table_or_its_rules_is_refused() {
    for file in ["policies/floor/data.yaml", "policies/floor/floor.rego"] {
        let project = Project::new();
        std::fs::remove_file(project.path(file)).unwrap();
        let faults = project.load().unwrap_err();
        assert_eq!(faults[0].code, "missing_layer", "{file}: {faults:#?}");
    }
}

#[test]
fn a_link_out_of_the_folder_is_refused_and_one_inside_is_followed() {
    let project = Project::new();
    std::os::unix::fs::symlink("/etc/passwd", project.path("detectors/x.yaml")).unwrap();
    let faults = project.load().unwrap_err();
    assert_eq!(faults[0].code, "link_outside", "{faults:#?}");
}

#[test]
fn a_folder_that_vanishes_is_a_fault_and_never_no_policy() {
    let project = Project::new();
    let live = project.live();
    let before = live.current().revision.clone();
    std::fs::remove_dir_all(project.path("policies")).unwrap();
    assert!(matches!(live.refresh(&project.settings), Some(Err(_))));
    assert_eq!(live.current().revision, before);
    assert!(live.refresh(&project.settings).is_none(), "the same loss is reported once");
}

#[test]
fn a_refused_change_that_is_taken_back_leaves_no_fault() {
    let project = Project::new();
    let live = project.live();
    let path = project.path("config/tenants/acme.yaml");
    let good = std::fs::read(&path).unwrap();
    std::fs::write(&path, "schema_version: 1\nid: acme\ntiger: x\n").unwrap();
    let Some(Err(faults)) = live.refresh(&project.settings) else { panic!("it was accepted") };
    assert_eq!((faults[0].line, faults[0].column), (3, 1), "{faults:#?}");
    assert_eq!(live.generations().faults, faults);
    assert_ne!(live.generations().wanted, live.generations().revision);
    std::fs::write(&path, good).unwrap();
    assert!(matches!(live.refresh(&project.settings), Some(Ok(_))));
    assert!(live.generations().faults.is_empty());
    assert_eq!(live.generations().generation, 1, "nothing new was loaded");
}

/// Runs the real watcher on a thread and waits for the swap that `change` causes.
fn is_seen(what: &str, change: impl FnOnce(&Path)) {
    let project = Project::new();
    let path = project.path("config/tenants/acme.yaml");
    std::fs::write(&path, tenant("starter")).unwrap();
    let live = project.live();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (looked, settings) = (Arc::clone(&live), Arc::clone(&project.settings));
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let (tell, told) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                () = watch(&looked, &settings, |event| drop(tell.send(event))) => {}
                _ = stopped => {}
            }
        });
    });
    let until = Instant::now() + Duration::from_secs(20);
    let wait_for = |tier: &str| loop {
        let left = until.saturating_duration_since(Instant::now());
        let Ok(event) = told.recv_timeout(left) else {
            panic!("{what}: {tier} was never seen: {:#?}", live.generations());
        };
        let Event::Swapped(snapshot) = event else { continue };
        let acme = snapshot.catalog.tenants.values().find(|tenant| tenant.id.as_str() == "acme");
        if acme.is_some_and(|acme| acme.facts.tier.as_ref() == tier) {
            break;
        }
    };
    // Once this is seen, the watcher is up.
    std::fs::write(&path, tenant("professional")).unwrap();
    wait_for("professional");
    change(&path);
    wait_for("enterprise");
    let _ = stop.send(());
    thread.join().unwrap();
}

#[test]
fn every_way_of_writing_a_file_is_seen() {
    is_seen("in place", |path| std::fs::write(path, tenant("enterprise")).unwrap());
    is_seen("in two parts", |path| {
        use std::io::Write as _;
        let text = tenant("enterprise");
        let (a, b) = text.split_at(20);
        let mut file = std::fs::File::create(path).unwrap();
        file.write_all(a.as_bytes()).unwrap();
        file.sync_all().unwrap();
        file.write_all(b.as_bytes()).unwrap();
    });
    is_seen("a rename over it", |path| {
        let other = path.with_extension("tmp");
        std::fs::write(&other, tenant("enterprise")).unwrap();
        std::fs::rename(&other, path).unwrap();
    });
    is_seen("an editor's backup", |path| {
        std::fs::rename(path, path.with_extension("yaml~")).unwrap();
        std::fs::write(path, tenant("enterprise")).unwrap();
    });
    is_seen("a burst", |path| {
        for _ in 0..50 {
            std::fs::write(path, tenant("starter")).unwrap();
        }
        std::fs::write(path, tenant("enterprise")).unwrap();
    });
    is_seen("an unchanged modification time", |path| {
        let before = std::fs::metadata(path).unwrap().modified().unwrap();
        std::fs::write(path, tenant("enterprise")).unwrap();
        std::fs::File::options().write(true).open(path).unwrap().set_modified(before).unwrap();
    });
    is_seen("a replaced folder", |path| {
        let folder = path.parent().unwrap();
        let next = folder.with_file_name("next");
        std::fs::create_dir(&next).unwrap();
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), next.join(entry.file_name())).unwrap();
        }
        std::fs::write(next.join("acme.yaml"), tenant("enterprise")).unwrap();
        std::fs::rename(folder, folder.with_file_name("old")).unwrap();
        std::fs::rename(&next, folder).unwrap();
    });
}

#[test]
fn the_swap_of_a_mounted_volume_is_seen() {
    let project = Project::new();
    let root = project.path("config/tenants");
    let files: Vec<_> = std::fs::read_dir(&root).unwrap().map(|entry| entry.unwrap()).collect();
    let version = |name: &str, tier: &str| {
        let folder = root.join(name);
        std::fs::create_dir(&folder).unwrap();
        for file in &files {
            if file.file_name() != "acme.yaml" && file.path().exists() {
                std::fs::copy(file.path(), folder.join(file.file_name())).unwrap();
            }
        }
        std::fs::write(folder.join("acme.yaml"), tenant(tier)).unwrap();
    };
    version("..1", "starter");
    version("..2", "enterprise");
    std::os::unix::fs::symlink("..1", root.join("..data")).unwrap();
    for file in &files {
        std::fs::remove_file(file.path()).unwrap();
        let target = Path::new("..data").join(file.file_name());
        std::os::unix::fs::symlink(target, file.path()).unwrap();
    }
    let live = project.live();
    std::os::unix::fs::symlink("..2", root.join("..tmp")).unwrap();
    std::fs::rename(root.join("..tmp"), root.join("..data")).unwrap();
    assert!(matches!(live.refresh(&project.settings), Some(Ok(_))));
    let current = live.current();
    let acme = current.catalog.tenants.values().find(|tenant| tenant.id.as_str() == "acme");
    assert_eq!(acme.unwrap().facts.tier.as_ref(), "enterprise");
}

#[tokio::test]
async fn every_edit_is_remembered_with_what_became_of_it_and_the_file_at_fault() {
    let project = Project::new();
    let live = project.live();
    let table = project.path("policies/standard/data.yaml");
    let sound = std::fs::read_to_string(&table).unwrap();
    for text in
        [sound.replace("pii: redact", "pii: block"), sound.replace("pii: redact", "pii: bloc")]
    {
        std::fs::write(&table, text).unwrap();
        let _ = live.refresh(&project.settings);
    }
    std::fs::write(&table, sound.replace("pii: redact", "pii: block")).unwrap();
    let _ = live.refresh(&project.settings);
    let history = live.generations().history;
    let results: Vec<Became> = history.iter().map(|edit| edit.result).collect();
    assert_eq!(results, [Became::Restored, Became::Refused, Became::Loaded]);
    let (refused, loaded) = (&history[1], &history[2]);
    assert!(refused.changed[0].ends_with("policies/standard/data.yaml"), "{refused:?}");
    assert_eq!(refused.changed.len(), 1, "{refused:?}");
    assert_eq!(refused.faults[0].file, refused.changed[0], "{refused:?}");
    assert_eq!(loaded.changed, refused.changed);
    assert_eq!(loaded.revision, live.generations().revision);
    assert_ne!(refused.revision, loaded.revision);
}
