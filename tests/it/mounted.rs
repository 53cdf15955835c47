//! The ConfigMaps of deploy/kubernetes laid out as the kubelet lays them, and swapped under load.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use detector_orchestrator::yaml::{self, fault::FaultKind};
use serde_json::{Value, json};

use crate::app::spawn_with;
use crate::reload::load;

/// Every object of a manifest.
pub fn objects(file: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/kubernetes").join(file);
    let text = std::fs::read_to_string(path).unwrap();
    let parts = text.split("\n---\n");
    parts.map(|part| yaml::parse_value(FaultKind::Settings, file, part).unwrap()).collect()
}

pub fn object(file: &str, kind: &str, name: &str) -> Value {
    let own = |object: &Value| object["kind"] == kind && object["metadata"]["name"] == name;
    objects(file).into_iter().find(own).unwrap_or_else(|| panic!("{file} holds no {kind} {name}"))
}

/// A volume of a ConfigMap, as the kubelet keeps it: real files in a folder of a time, `..data` a
/// link to it, and at the top a link through `..data` for each first name.
struct Mount {
    root: PathBuf,
    swaps: u32,
    files: BTreeMap<String, String>,
}

impl Mount {
    /// The files that volume `volume` of the Deployment has in the pod.
    fn of(root: PathBuf, volume: &str) -> Mount {
        let deployment = object("orchestrator.yaml", "Deployment", "orchestrator");
        let volumes = deployment["spec"]["template"]["spec"]["volumes"].as_array().unwrap().clone();
        let own = volumes.iter().find(|own| own["name"] == volume).unwrap();
        let map = own["configMap"]["name"].as_str().unwrap();
        let data = object("files.yaml", "ConfigMap", map)["data"].clone();
        let text = |key: &str| data[key].as_str().unwrap_or_else(|| panic!("no {key}")).to_owned();
        let files = match own["configMap"]["items"].as_array() {
            Some(items) => items
                .iter()
                .map(|item| (item["path"].as_str().unwrap(), item["key"].as_str().unwrap()))
                .map(|(path, key)| (path.to_owned(), text(key)))
                .collect(),
            None => data.as_object().unwrap().keys().map(|key| (key.clone(), text(key))).collect(),
        };
        std::fs::create_dir_all(&root).unwrap();
        let mut mount = Mount { root, swaps: 0, files };
        mount.lay();
        mount
    }

    /// As the kubelet's atomic writer does.
    fn lay(&mut self) {
        let old = std::fs::read_link(self.root.join("..data")).ok();
        self.swaps += 1;
        let fresh = format!("..2026_11_22_05_00_0{}.{}", self.swaps, self.swaps);
        for (path, text) in &self.files {
            let file = self.root.join(&fresh).join(path);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
        }
        std::os::unix::fs::symlink(&fresh, self.root.join("..data_tmp")).unwrap();
        std::fs::rename(self.root.join("..data_tmp"), self.root.join("..data")).unwrap();
        for path in self.files.keys() {
            let top = path.split('/').next().unwrap();
            let link = self.root.join(top);
            if link.symlink_metadata().is_err() {
                std::os::unix::fs::symlink(format!("..data/{top}"), link).unwrap();
            }
        }
        if let Some(old) = old {
            std::fs::remove_dir_all(self.root.join(old)).unwrap();
        }
    }

    fn swap(&mut self, path: &str, from: &str, to: &str) {
        let text = self.files.get_mut(path).unwrap();
        assert!(text.contains(from), "{path} holds no `{from}`");
        *text = text.replace(from, to);
        self.lay();
    }
}

#[tokio::test]
async fn config_maps_swapped_twice_under_load_serve_and_fail_no_request() {
    let mut mounts = Vec::new();
    let app = spawn_with(|root| {
        for (volume, folder) in
            [("policies", "policies"), ("detectors", "detectors"), ("tenants", "config/tenants")]
        {
            std::fs::remove_dir_all(root.join(folder)).unwrap();
            mounts.push(Mount::of(root.join(folder), volume));
        }
    })
    .await;
    let body = json!({"content": "key AKIAZ3VQ7JRTLWXK5P2D"});
    app.ask_until(&body, |told| told["action"] == "redact").await;
    let done = Arc::new(AtomicBool::new(false));
    let (sent, failed) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let load = load(app.address, &done, &sent, &failed);
    mounts[0].swap("standard/data.yaml", "secrets: redact", "secrets: block");
    app.ask_until(&body, |told| told["action"] == "block").await;
    mounts[0].swap("standard/data.yaml", "secrets: block", "secrets: review");
    app.ask_until(&body, |told| told["action"] == "review").await;
    done.store(true, Ordering::Relaxed);
    load.await.unwrap();
    assert!(sent.load(Ordering::Relaxed) > 5, "no load was made");
    assert_eq!(failed.load(Ordering::Relaxed), 0, "requests failed during a swap");
    let state = app.get("/api/v1/generations").await.json();
    assert_eq!(state["faults"], json!([]), "{state}");
}
