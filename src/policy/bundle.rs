//! A view as a bundle of Open Policy Agent, which evaluates it to the same answers.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io;

use flate2::{Compression, GzBuilder};

use super::entry::{self, Ask};
use super::load::View;
use super::rego::Parsed;

/// How the answers of the layers are joined.
const JOIN: &str = include_str!("bundle.rego");

impl View {
    /// The bundle as a compressed archive: the same bytes for the same view.
    /// `data.entry.answer.{plan,conflict,verdict}` are what `POST /policies/evaluate` answers.
    ///
    /// # Errors
    /// Never but for lack of memory.
    pub fn opa_bundle(&self) -> io::Result<Vec<u8>> {
        // No time and no name, so that the bytes depend on the files alone.
        let compressed = GzBuilder::new().write(Vec::new(), Compression::best());
        let mut archive = tar::Builder::new(compressed);
        archive.mode(tar::HeaderMode::Deterministic);
        let mut add = |path: &str, content: &[u8]| {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            archive.append_data(&mut header, path, content)
        };
        add(".manifest", self.manifest().to_string().as_bytes())?;
        let floor = &self.unit.floor_settings;
        let data = serde_json::json!({
            "entry": { "settings": self.settings() },
            "floor": { "settings": floor },
        });
        add("data.json", data.to_string().as_bytes())?;
        for file in &self.unit.files {
            add(&file.file, file.text.as_bytes())?;
        }
        add("entry.rego", self.entry().as_bytes())?;
        archive.into_inner()?.finish()
    }

    fn manifest(&self) -> serde_json::Value {
        let packages = self.unit.files.iter().map(|file| file.package.join("/"));
        let roots: BTreeSet<String> = packages.chain(["entry".into(), "floor".into()]).collect();
        serde_json::json!({
            "revision": self.digest().hex(),
            "roots": roots,
            "rego_version": 1,
            "metadata": { "orchestrator": {
                "bundle": self.bundle().as_str(),
                "layers": self.layers(),
                "asked": self.unit.layers,
            } },
        })
    }

    /// Asks as the product's own entry does, and puts the merged table where rules expect it.
    fn entry(&self) -> String {
        let mut layers: Vec<(Vec<String>, Vec<&Parsed>)> = Vec::new();
        for name in &self.unit.layers {
            let files: Vec<&Parsed> = self.unit.files.iter().map(AsRef::as_ref).collect();
            let own: Vec<&Parsed> =
                files.into_iter().filter(|file| file.package.join(".") == *name).collect();
            let path = own.first().map(|file| file.package.clone()).unwrap_or_default();
            layers.push((path, own));
        }
        let mut text = String::from("package entry\n\nimport rego.v1\n");
        // Rules must exist to be referred to. Writing to a String cannot fail.
        for ask in Ask::ALL {
            let _ = write!(text, "\n{} contains held if some held in []\n", ask.rule());
        }
        for (ask, index, package, name) in entry::asked(&layers) {
            let table = match ask.of_floor() {
                true => "",
                false => " with input.settings as data.entry.settings",
            };
            let _ = write!(
                text,
                "\n{} contains [{index}, \"{name}\", value] if value := data.{package}.{name}{table}\n",
                ask.rule()
            );
        }
        text + "\n" + JOIN
    }
}
