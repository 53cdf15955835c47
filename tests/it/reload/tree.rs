//! A project whose policies say in three places which version they are, and every way to write it.

use std::collections::HashMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use detector_orchestrator::settings::Settings;
use detector_orchestrator::snapshot::{Files, Snapshot, Sources};
use detector_orchestrator::yaml::fault::Fault;

/// Rising; what the table says of personal data.
const TABLE: [&str; 4] = ["flag", "redact", "review", "block"];
/// What the Rego file says of everything.
const REGO: [&str; 3] = ["flag", "review", "block"];

/// Which version each place of a policy is of; empty where it has none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stamps {
    pub table: String,
    pub rego: String,
    pub overlay: String,
}

impl Stamps {
    /// The action that these versions give to content with or without personal data.
    pub fn action(&self, personal: bool) -> &'static str {
        let number = |stamp: &str| stamp.parse::<usize>().unwrap_or_default();
        let rego = REGO[number(&self.rego) / 4 % 3];
        let table = TABLE[number(&self.table) % 4];
        let rank = |action: &str| TABLE.iter().position(|known| *known == action);
        if personal && rank(table) > rank(rego) { table } else { rego }
    }
}

/// What stood on the disk at one moment.
#[derive(Debug, Clone)]
pub struct State {
    pub acme: Stamps,
    pub globex: Stamps,
    /// It must never serve.
    pub broken: bool,
    /// An edit was half done.
    pub between: bool,
    since: Instant,
    pub lasted: Duration,
}

/// A way to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    InPlace,
    TwoParts,
    RenameOver,
    Backup,
    MtimeKept,
    MtimeBackwards,
    Burst,
    FolderReplaced,
    DataSwap,
    ReleaseSwap,
}

/// Those that write one file.
pub const OF_A_FILE: [Way; 6] = [
    Way::InPlace,
    Way::TwoParts,
    Way::RenameOver,
    Way::Backup,
    Way::MtimeKept,
    Way::MtimeBackwards,
];
/// Versions in a burst.
pub const BURST: usize = 10;
/// Between two parts of a file.
const PAUSE: Duration = Duration::from_millis(20);

pub struct Tree {
    dir: tempfile::TempDir,
    sources: Sources,
    /// Everything that ever stood on the disk, by revision.
    pub states: HashMap<String, State>,
    last: Option<String>,
    pub version: usize,
    links: usize,
}

impl Tree {
    pub fn new() -> Tree {
        let dir = tempfile::tempdir().unwrap();
        let first = dir.path().join("release-0");
        detector_orchestrator::assets::write_to(&first).unwrap();
        symlink("release-0", dir.path().join("current")).unwrap();
        let root = dir.path().join("current");
        let tenant = "schema_version: 1\nid: globex\npolicies: [mounted]\n";
        fs::write(root.join("config/tenants/globex.yaml"), tenant).unwrap();
        fs::remove_dir_all(root.join("policies/tenants/globex")).unwrap();
        let settings = settings(&root);
        let check = detector_orchestrator::detect::builtin::check;
        let sources = Sources::of(&settings, None, check);
        let states = HashMap::new();
        let mut tree = Tree { dir, sources, states, last: None, version: 0, links: 0 };
        let mounted = root.join("policies/mounted");
        tree.mount(&mounted);
        for file in ["data.yaml", "plan.rego", "verdict.rego"] {
            symlink(format!("..data/{file}"), mounted.join(file)).unwrap();
        }
        for (path, text) in tree.standard() {
            fs::write(path, text).unwrap();
        }
        tree.note(false, false);
        tree
    }

    /// The folder of the test.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// What the service is pointed at.
    pub fn root(&self) -> PathBuf {
        self.dir.path().join("current")
    }

    /// The revision on the disk.
    pub fn revision(&self) -> String {
        self.last.clone().unwrap_or_default()
    }

    /// Writes down what stands on the disk; `broken`, if it must not serve.
    fn note(&mut self, broken: bool, between: bool) {
        let now = Instant::now();
        if let Some(state) = self.last.take().and_then(|last| self.states.get_mut(&last)) {
            state.lasted = now - state.since;
        }
        let Ok(files) = self.sources.read() else { return };
        let stamps = |bundle: &str| Stamps {
            table: stamp(&files, &format!("{bundle}/data.yaml"), "x-table"),
            rego: stamp(&files, &format!("{bundle}/verdict.rego"), "x-rego"),
            overlay: stamp(&files, &format!("tenants/acme/{bundle}/verdict.rego"), "x-overlay"),
        };
        let (acme, globex) = (stamps("standard"), stamps("mounted"));
        let (since, lasted) = (now, Duration::MAX);
        let state = State { acme, globex, broken, between, since, lasted };
        let revision = files.revision().hex();
        self.states.insert(revision.clone(), state);
        self.last = Some(revision);
    }

    /// The three files of the bundle `standard` as this version has them.
    fn standard(&self) -> [(PathBuf, String); 3] {
        let (root, n) = (self.root(), self.version);
        [
            (root.join("policies/standard/data.yaml"), table(n)),
            (root.join("policies/standard/verdict.rego"), rego("standard", n)),
            (root.join("policies/tenants/acme/standard/verdict.rego"), overlay(n)),
        ]
    }

    /// Makes the next good version by `way`; when its last byte was written.
    pub fn edit(&mut self, way: Way) -> Instant {
        self.version += 1;
        match way {
            Way::Burst => {
                for _ in 1..BURST {
                    self.write_all(Way::InPlace);
                    self.version += 1;
                }
                return self.write_all(Way::InPlace);
            }
            Way::FolderReplaced => self.replace_folder(),
            Way::DataSwap => self.mount(&self.root().join("policies/mounted")),
            Way::ReleaseSwap => self.replace_release(),
            Way::InPlace
            | Way::TwoParts
            | Way::RenameOver
            | Way::Backup
            | Way::MtimeKept
            | Way::MtimeBackwards => return self.write_all(way),
        }
        let done = Instant::now();
        self.note(false, false);
        done
    }

    fn write_all(&mut self, way: Way) -> Instant {
        let mut done = Instant::now();
        for (at, (path, text)) in self.standard().into_iter().enumerate() {
            self.write(way, &path, text.as_bytes(), false);
            done = Instant::now();
            self.note(false, at < 2);
        }
        done
    }

    /// Breaks one file by `way`; when its last byte was written.
    pub fn spoil(&mut self, way: Way, kind: &Broken) -> Instant {
        self.version += 1;
        let path = self.root().join("policies").join(kind.file);
        self.write(way, &path, &(kind.bytes)(self.version), true);
        let done = Instant::now();
        self.note(true, false);
        done
    }

    fn write(&mut self, way: Way, path: &Path, bytes: &[u8], broken: bool) {
        let before = fs::metadata(path).unwrap().modified().unwrap();
        let modified = |time: SystemTime| {
            fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
        };
        match way {
            Way::TwoParts => {
                let (a, b) = bytes.split_at(bytes.len() / 2);
                let mut file = fs::File::create(path).unwrap();
                file.write_all(a).unwrap();
                self.note(broken, true);
                std::thread::sleep(PAUSE);
                file.write_all(b).unwrap();
            }
            Way::RenameOver => {
                let other = path.with_extension("tmp");
                fs::write(&other, bytes).unwrap();
                fs::rename(&other, path).unwrap();
            }
            Way::Backup => {
                let name = path.file_name().unwrap().to_str().unwrap();
                fs::rename(path, path.with_file_name(format!("{name}~"))).unwrap();
                self.note(broken, true);
                fs::write(path, bytes).unwrap();
            }
            Way::MtimeKept => {
                fs::write(path, bytes).unwrap();
                modified(before);
            }
            Way::MtimeBackwards => {
                fs::write(path, bytes).unwrap();
                modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000));
            }
            Way::InPlace | Way::Burst | Way::FolderReplaced | Way::DataSwap | Way::ReleaseSwap => {
                fs::write(path, bytes).unwrap()
            }
        }
    }

    /// Another folder takes the place of `policies`.
    fn replace_folder(&mut self) {
        let (root, next) = (self.root(), self.path().join("next"));
        copy(&root.join("policies"), &next);
        for (path, text) in self.standard() {
            fs::write(next.join(path.strip_prefix(root.join("policies")).unwrap()), text).unwrap();
        }
        let old = self.path().join("old");
        fs::rename(root.join("policies"), &old).unwrap();
        self.note(true, true);
        fs::rename(&next, root.join("policies")).unwrap();
        fs::remove_dir_all(old).unwrap();
    }

    /// A new folder of a mounted volume, and the link that leads there.
    fn mount(&mut self, mounted: &Path) {
        self.links += 1;
        let name = format!("..{}", self.links);
        let folder = mounted.join(&name);
        fs::create_dir_all(&folder).unwrap();
        let plan = shipped("plan.rego").replace("package standard", "package mounted");
        fs::write(folder.join("plan.rego"), plan).unwrap();
        fs::write(folder.join("data.yaml"), table(self.version)).unwrap();
        fs::write(folder.join("verdict.rego"), rego("mounted", self.version)).unwrap();
        let old = fs::read_link(mounted.join("..data"));
        symlink(&name, mounted.join("..tmp")).unwrap();
        fs::rename(mounted.join("..tmp"), mounted.join("..data")).unwrap();
        if let Ok(old) = old {
            fs::remove_dir_all(mounted.join(old)).unwrap();
        }
    }

    /// The link to the whole project leads elsewhere: what is watched has gone.
    fn replace_release(&mut self) {
        self.links += 1;
        let (name, root) = (format!("release-{}", self.links), self.root());
        let old = root.canonicalize().unwrap();
        let next = self.path().join(&name);
        copy(&old, &next);
        for (path, text) in self.standard() {
            fs::write(next.join(path.strip_prefix(&root).unwrap()), text).unwrap();
        }
        self.mount(&next.join("policies/mounted"));
        symlink(&name, self.path().join("new")).unwrap();
        fs::rename(self.path().join("new"), root).unwrap();
        fs::remove_dir_all(old).unwrap();
    }

    /// Loads what stands there, as a service would.
    pub fn load(&self) -> Result<Snapshot, Vec<Fault>> {
        Snapshot::load(&self.sources, &settings(&self.root()), None)
    }

    /// A copy of what stands there, to be asked later.
    pub fn keep(&self) -> PathBuf {
        let kept = self.path().join(format!("kept-{}", self.version));
        fs::create_dir_all(&kept).unwrap();
        for part in ["policies", "detectors", "config"] {
            copy(&self.root().join(part), &kept.join(part));
        }
        kept
    }
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
}

/// Settings of a service over `root`, whatever its working directory.
pub fn vars(root: &Path) -> Vec<(String, String)> {
    let paths = [
        ("DETECTORS", "detectors"),
        ("POLICIES", "policies"),
        ("TENANTS", "config/tenants"),
        ("STRATEGIES", "config/strategies.yaml"),
    ];
    let path = |(name, path): (&str, &str)| {
        (format!("ORCHESTRATION_PATHS__{name}"), root.join(path).display().to_string())
    };
    paths.into_iter().map(path).collect()
}

fn settings(root: &Path) -> Settings {
    Settings::load(None, vars(root).into_iter()).unwrap_or_else(|faults| panic!("{faults:?}"))
}

/// The number behind `name` in a file.
fn stamp(files: &Files, path: &str, name: &str) -> String {
    let file = files.policies.iter().find(|file| file.path == path);
    let text = file.map(|file| String::from_utf8_lossy(&file.bytes)).unwrap_or_default();
    let rest = text.split_once(name).map_or("", |(_, rest)| rest);
    let digits = |c: &char| c.is_ascii_digit();
    rest.trim_start_matches(['"', ':', ' ']).chars().take_while(digits).collect()
}

fn shipped(file: &str) -> String {
    let path = format!("{}/policies/standard/{file}", env!("CARGO_MANIFEST_DIR"));
    fs::read_to_string(path).unwrap()
}

fn table(n: usize) -> String {
    let action = format!("pii: {}", TABLE[n % 4]);
    let text = shipped("data.yaml").replacen("pii: redact", &action, 1);
    assert!(text.contains(&action));
    format!("{text}  headers: {{x-table: \"{n}\"}}\n")
}

fn rego(bundle: &str, n: usize) -> String {
    let own = format!("headers := object.union(input.settings.headers, {{\"x-rego\": \"{n}\"}})");
    let text = shipped("verdict.rego")
        .replace("package standard", &format!("package {bundle}"))
        .replace("headers := input.settings.headers", &own);
    assert!(text.contains(&own));
    let action = REGO[n / 4 % 3];
    format!("{text}\n{action} contains {{\"reason\": \"rego {n}\", \"code\": \"stamp\"}}\n")
}

fn overlay(n: usize) -> String {
    format!("package tenants.acme.standard\n\nheaders := {{\"x-overlay\": \"{n}\"}}\n")
}

/// A file that must be refused.
pub struct Broken {
    pub name: &'static str,
    /// Below `policies`.
    pub file: &'static str,
    bytes: fn(usize) -> Vec<u8>,
}

const VERDICT: &str = "standard/verdict.rego";
const DATA: &str = "standard/data.yaml";
const OVERLAY: &str = "tenants/acme/standard/verdict.rego";

fn with(n: usize, more: &str) -> Vec<u8> {
    format!("{}\n{more}\n", rego("standard", n)).into_bytes()
}

/// Every kind of the list, first those that it names.
pub const BROKEN: [Broken; 16] = [
    Broken {
        name: "syntax",
        file: VERDICT,
        bytes: |n| with(n, "block contains x if {\n\tx := (1"),
    },
    Broken { name: "type", file: VERDICT, bytes: |n| with(n, "block contains 7") },
    Broken {
        name: "wrong package",
        file: OVERLAY,
        bytes: |n| overlay(n).replace("acme", "globex").into(),
    },
    Broken { name: "empty", file: VERDICT, bytes: |_| Vec::new() },
    Broken {
        name: "truncated",
        file: VERDICT,
        bytes: |n| {
            let text = rego("standard", n);
            text.as_bytes()[..text.len() - 20].to_vec()
        },
    },
    Broken { name: "10 MB", file: VERDICT, bytes: |n| with(n, &"# more\n".repeat(1_500_000)) },
    Broken {
        name: "non-UTF-8",
        file: VERDICT,
        bytes: |n| [with(n, "# "), vec![0xff, 0xfe, b'\n']].concat(),
    },
    Broken {
        name: "endless",
        file: VERDICT,
        bytes: |n| {
            with(
                n,
                "block contains \"x\" if {\n\tevery a in numbers.range(1, 9000) { every b in numbers.range(1, 9000) { a * b > 0 } }\n}",
            )
        },
    },
    Broken { name: "empty table", file: DATA, bytes: |_| Vec::new() },
    Broken {
        name: "truncated table",
        file: DATA,
        bytes: |n| {
            let text = table(n);
            text.as_bytes()[..text.len() - 5].to_vec()
        },
    },
    Broken {
        name: "type in a table",
        file: DATA,
        bytes: |n| table(n).replace("secrets: redact", "secrets: 7").into(),
    },
    Broken {
        name: "unknown action",
        file: DATA,
        bytes: |n| table(n).replace("secrets: redact", "secrets: explode").into(),
    },
    Broken {
        name: "deep nesting",
        file: OVERLAY,
        bytes: |n| format!("{}\nx := {}{}\n", overlay(n), "[".repeat(40), "]".repeat(40)).into(),
    },
    Broken {
        name: "unknown input",
        file: OVERLAY,
        bytes: |n| format!("{}\nblock contains \"x\" if input.fndings\n", overlay(n)).into(),
    },
    Broken {
        name: "network",
        file: OVERLAY,
        bytes: |n| format!("{}\nblock contains \"x\" if http.send({{}})\n", overlay(n)).into(),
    },
    Broken {
        name: "recursion",
        file: OVERLAY,
        bytes: |n| {
            format!("{}\nf(n) := f(n + 1)\n\nblock contains \"x\" if f(1)\n", overlay(n)).into()
        },
    },
];
