//! File, then environment, then checks; every fault is collected before anything is refused.

use std::net::SocketAddr;
use std::path::Path;

use secrecy::SecretString;
use serde_json::Value;
use validator::{Validate as _, ValidationErrors, ValidationErrorsKind};

use super::{Env, Secret, Secrets, Settings, discovered};
use crate::yaml::fault::{Fault, FaultKind};
use crate::yaml::{self, Data, Node, Source, words};

/// Before every variable that is ours.
const PREFIX: &str = "ORCHESTRATION_";
/// Where the file is looked for.
const DEFAULT_FILE: &str = "config/settings.yaml";
/// Its copy inside the binary.
const EMBEDDED: &str = include_str!("../../config/settings.yaml");
/// Variables without section.
const FLAT: [(&str, &str); 2] = [("ENV", "/env"), ("LOG_LEVEL", "/telemetry/log_level")];
/// Maps whose keys are names that an operator gives.
const NAMED: [&str; 3] = ["/tiers", "/security/rate_limit/keys", "/security/rate_limit/routes"];

impl Settings {
    /// The settings of this process: `file`, else `config/settings.yaml` where it exists, else the
    /// embedded ones, under the environment, under `--listen` where the command line has it.
    pub fn load_here(
        file: Option<&Path>,
        listen: Option<SocketAddr>,
    ) -> Result<Settings, Vec<Fault>> {
        let default = Path::new(DEFAULT_FILE);
        let file = file.or_else(|| default.exists().then_some(default));
        // Variables that are not UTF-8 cannot be ours.
        let variables = std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        });
        Self::load_over(file, variables, listen)
    }

    /// The settings of `file`, or the embedded ones, under `variables`.
    pub fn load(
        file: Option<&Path>,
        variables: impl Iterator<Item = (String, String)>,
    ) -> Result<Settings, Vec<Fault>> {
        Self::load_over(file, variables, None)
    }

    fn load_over(
        file: Option<&Path>,
        variables: impl Iterator<Item = (String, String)>,
        listen: Option<SocketAddr>,
    ) -> Result<Settings, Vec<Fault>> {
        let (name, text) = read(file)?;
        let tree = yaml::tree(FaultKind::Settings, &name, &text)?;
        let known = serde_json::to_value(Settings::default()).unwrap_or_default();
        let mut loading =
            Loading { name: &name, tree: &tree, from: Vec::new(), faults: Vec::new() };
        let mut value = tree.to_json();
        loading.refuse_root(&mut value, &text);
        loading.refuse_unknown(&mut value, &known, "");
        let mut secrets = Secrets::default();
        let mut discovered = Vec::new();
        for (variable, raw) in variables {
            if let Some(rest) = variable.strip_prefix(PREFIX) {
                if let Some(taken) = secrets.take(rest, &raw) {
                    loading.refuse_secret(&variable, taken);
                    continue;
                }
                if let Some(found) = discovered::of(&variable, rest, &raw) {
                    match found {
                        Ok(found) => discovered.extend(found),
                        Err(why) => loading.refuse_detector(&variable, "invalid_value", why),
                    }
                    continue;
                }
                loading.apply(&mut value, &known, (&variable, rest), &raw);
            }
        }
        if let Some(listen) = listen {
            let variable = ("--listen", "SERVER__LISTEN");
            loading.apply(&mut value, &known, variable, &listen.to_string());
        }
        NAMED.iter().for_each(|pointer| fill(&mut value, &known, pointer));
        let settings = loading.decode(value, &known);
        if let Some(settings) = &settings
            && let Err(errors) = settings.validate()
        {
            loading.explain(&errors, "");
        }
        if settings.as_ref().is_some_and(|settings| settings.env == Env::Production) {
            for found in &discovered {
                let why = "must be a detector file in production, which says what it is and whose";
                loading.refuse_detector(&found.variable, "governance_missing", why);
            }
        }
        discovered.sort_by(|a, b| a.name.cmp(&b.name));
        loading.faults.sort();
        match settings {
            Some(mut settings) if loading.faults.is_empty() => {
                if let Some(url) = secrets.get(Secret::DatabaseUrl) {
                    settings.database.url = Some(url.clone().into());
                }
                if let Some(url) = secrets.get(Secret::RedisUrl) {
                    settings.redis.url = Some(url.clone().into());
                }
                if let Some(url) = secrets.get(Secret::NatsUrl) {
                    settings.nats.url = Some(url.clone().into());
                }
                Ok(Settings { secrets, discovered, ..settings })
            }
            _ => Err(loading.faults),
        }
    }
}

/// The value of a variable that a detector's file names as its credential.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
pub fn read_secret_variable(name: &str) -> Option<SecretString> {
    std::env::var(name).ok().filter(|value| !value.is_empty()).map(SecretString::from)
}

fn read(file: Option<&Path>) -> Result<(String, String), Vec<Fault>> {
    let Some(file) = file else {
        return Ok((format!("embedded/{DEFAULT_FILE}"), EMBEDDED.to_owned()));
    };
    let name = file.display().to_string();
    let bytes = std::fs::read(file).map_err(|error| {
        vec![Fault {
            kind: FaultKind::Settings,
            file: name.clone(),
            line: 0,
            column: 0,
            code: "unreadable",
            message: format!("could not be read: {error}"),
            hint: Some("name another file with --config".into()),
        }]
    })?;
    let text = yaml::text(FaultKind::Settings, &name, &bytes)?.to_owned();
    Ok((name, text))
}

struct Loading<'a> {
    name: &'a str,
    tree: &'a Node,
    /// Pointer → the variable that set it.
    from: Vec<(String, String)>,
    faults: Vec<Fault>,
}

impl Loading<'_> {
    /// A fault at `pointer`: in the variable that set it, else in the file.
    fn fault(&mut self, pointer: &str, code: &'static str, message: String, hint: Option<String>) {
        let path = dotted(pointer);
        let is_of = |set: &str| {
            pointer.strip_prefix(set).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let set = self.from.iter().rfind(|(set, _)| is_of(set));
        let (file, (line, column)) = match set {
            Some((_, variable)) => (variable.clone(), (0, 0)),
            None => (self.name.to_owned(), self.tree.nearest_to(pointer).at()),
        };
        let kind = FaultKind::Settings;
        let message = format!("{path}: {message}");
        self.faults.push(Fault { kind, file, line, column, code, message, hint });
    }

    /// Names a root that is no mapping; a file that says nothing is an empty one.
    fn refuse_root(&mut self, value: &mut Value, text: &str) {
        let empty = self.tree.data == Data::Null && says_nothing(text);
        if !value.is_object() && !empty {
            self.faults.push(self.tree.no_mapping(self.source()));
        }
        if !value.is_object() {
            *value = Value::Object(serde_json::Map::new());
        }
    }

    fn source(&self) -> Source<'_> {
        Source { kind: FaultKind::Settings, file: self.name }
    }

    /// Takes every unknown key away and names it, and every value that should be a mapping.
    fn refuse_unknown(&mut self, value: &mut Value, known: &Value, pointer: &str) {
        let (Some(object), Some(known)) = (value.as_object_mut(), known.as_object()) else {
            return;
        };
        let is_named = NAMED.contains(&pointer);
        let keys: Vec<String> = object.keys().cloned().collect();
        for key in keys {
            let below = step(pointer, &key);
            let known_here = known.get(&key);
            let Some(found) = object.get_mut(&key) else { continue };
            let is_section = is_named || known_here.is_some_and(Value::is_object);
            // A section without content is absent; whoever gives a name says something of it.
            let is_absent = found.is_null() && !is_named;
            if is_section && !found.is_object() {
                object.remove(&key);
                if !is_absent {
                    self.no_mapping(&below);
                }
            } else if let (Some(known), false) = (known_here, is_named) {
                self.refuse_unknown(found, known, &below);
            } else if !is_named {
                object.remove(&key);
                self.unknown_key(pointer, &key, known);
            }
        }
    }

    fn no_mapping(&mut self, pointer: &str) {
        let fault = self.tree.nearest_to(pointer).no_mapping(self.source());
        let message = format!("{}: {}", dotted(pointer), fault.message);
        self.faults.push(Fault { message, ..fault });
    }

    fn unknown_key(&mut self, pointer: &str, key: &str, known: &serde_json::Map<String, Value>) {
        let near = yaml::nearest(key, known.keys().map(String::as_str));
        let hint = match near {
            Some(near) => format!("did you mean `{}`?", dotted(&step(pointer, near))),
            None => {
                let known: Vec<&str> = known.keys().map(String::as_str).collect();
                format!("known here: {}", known.join(", "))
            }
        };
        let parent = self.tree.nearest_to(pointer);
        let entry = parent.entries().iter().find(|entry| entry.key == key);
        let (line, column) = entry.map_or(parent.at(), |entry| entry.at);
        self.faults.push(Fault {
            kind: FaultKind::Settings,
            file: self.name.to_owned(),
            line,
            column,
            code: "unknown_key",
            message: format!("unknown key `{}`", dotted(&step(pointer, key))),
            hint: Some(hint),
        });
    }

    fn apply(
        &mut self,
        value: &mut Value,
        known: &Value,
        (variable, rest): (&str, &str),
        raw: &str,
    ) {
        let flat = FLAT.iter().find(|(name, _)| *name == rest);
        let pointer = match flat {
            Some((_, pointer)) => (*pointer).to_owned(),
            None => format!("/{}", rest.to_lowercase().replace("__", "/")),
        };
        let Some(default) = known.pointer(&pointer).filter(|default| !default.is_object()) else {
            return self.unknown_variable(known, variable, rest);
        };
        let text = Value::String(raw.to_owned());
        let parsed = match default {
            Value::String(_) => text,
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::Array(_)
            | Value::Object(_) => {
                yaml::parse_value(FaultKind::Settings, variable, raw).unwrap_or(text)
            }
        };
        set(value, &pointer, parsed);
        self.from.push((pointer, variable.to_owned()));
    }

    fn refuse_secret(&mut self, variable: &str, taken: Result<(), String>) {
        let Err(message) = taken else { return };
        self.faults.push(Fault {
            kind: FaultKind::Settings,
            file: variable.to_owned(),
            line: 0,
            column: 0,
            code: "bad_secret",
            message: format!("`{variable}` {message}"),
            hint: Some("see docs/security.md".into()),
        });
    }

    fn refuse_detector(&mut self, variable: &str, code: &'static str, why: &str) {
        self.faults.push(Fault {
            kind: FaultKind::Settings,
            file: variable.to_owned(),
            line: 0,
            column: 0,
            code,
            message: format!("`{variable}` {why}"),
            hint: Some("see docs/detectors.md".into()),
        });
    }

    fn unknown_variable(&mut self, known: &Value, variable: &str, rest: &str) {
        let mut names: Vec<String> = FLAT.iter().map(|(name, _)| (*name).to_owned()).collect();
        names.extend(Secrets::names());
        leaves(known, "", &mut names);
        let hint = match yaml::nearest(rest, names.iter().map(String::as_str)) {
            Some(near) => format!("did you mean {PREFIX}{near}?"),
            None => "see docs/configuration.md for all names".to_owned(),
        };
        self.faults.push(Fault {
            kind: FaultKind::Settings,
            file: variable.to_owned(),
            line: 0,
            column: 0,
            code: "unknown_variable",
            message: format!("`{variable}` is no setting"),
            hint: Some(hint),
        });
    }

    /// Decodes; a value of the wrong type is named and replaced by its default, so that the next
    /// one is found too.
    fn decode(&mut self, mut value: Value, known: &Value) -> Option<Settings> {
        for _ in 0..100 {
            let error = match serde_path_to_error::deserialize::<_, Settings>(&value) {
                Ok(settings) => return Some(settings),
                Err(error) => error,
            };
            let keys = error.path().iter().map(ToString::to_string);
            let pointer = keys
                .fold(String::new(), |pointer, key| step(&pointer, key.trim_matches(['[', ']'])));
            let (message, hint) = words::told(&error.inner().to_string());
            self.fault(&pointer, "invalid_value", message, hint);
            let mut above = pointer.as_str();
            while known.pointer(above).is_none() {
                above = above.rsplit_once('/')?.0;
            }
            set(&mut value, above, known.pointer(above).cloned()?);
        }
        None
    }

    fn explain(&mut self, errors: &ValidationErrors, pointer: &str) {
        for (field, kind) in errors.errors() {
            // What is wrong with all of it stands under a name that no field has.
            let below = match *field == "__all__" {
                true => pointer.to_owned(),
                false => format!("{pointer}/{field}"),
            };
            match kind {
                ValidationErrorsKind::Struct(inner) => self.explain(inner, &below),
                ValidationErrorsKind::List(_) => {}
                ValidationErrorsKind::Field(errors) => {
                    for error in errors {
                        self.fault(&below, "out_of_range", wording(error), None);
                    }
                }
            }
        }
    }
}

/// Gives what `value` leaves out at `pointer` its default: who adds a tier keeps the others.
fn fill(value: &mut Value, known: &Value, pointer: &str) {
    let Some(Value::Object(defaults)) = known.pointer(pointer) else { return };
    for (key, default) in defaults {
        let below = format!("{pointer}/{key}");
        match value.pointer(&below) {
            Some(_) => fill(value, known, &below),
            None if value.pointer(pointer).is_none_or(Value::is_object) => {
                set(value, &below, default.clone());
            }
            None => {}
        }
    }
}

fn wording(error: &validator::ValidationError) -> String {
    if let Some(message) = &error.message {
        return message.to_string();
    }
    let bound = |name: &str| error.params.get(name).map(ToString::to_string);
    match (bound("min"), bound("max")) {
        (Some(min), Some(max)) => format!("must be {min} to {max}"),
        (Some(min), None) => format!("must be at least {min}"),
        (None, Some(max)) => format!("must be at most {max}"),
        (None, None) => "is not valid".to_owned(),
    }
}

/// Sets the value at `pointer`, making objects on the way.
fn set(value: &mut Value, pointer: &str, new: Value) {
    let mut at = value;
    for key in pointer.split('/').skip(1) {
        if !at.is_object() {
            *at = Value::Object(serde_json::Map::new());
        }
        let Some(object) = at.as_object_mut() else { return };
        at = object.entry(key.to_owned()).or_insert(Value::Null);
    }
    *at = new;
}

fn leaves(known: &Value, prefix: &str, into: &mut Vec<String>) {
    match known.as_object() {
        Some(object) => {
            for (key, value) in object {
                let name = key.to_uppercase();
                let below = if prefix.is_empty() { name } else { format!("{prefix}__{name}") };
                leaves(value, &below, into);
            }
        }
        None => into.push(prefix.to_owned()),
    }
}

/// The pointer of `key` in what `pointer` names.
fn step(pointer: &str, key: &str) -> String {
    format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"))
}

fn dotted(pointer: &str) -> String {
    pointer.trim_start_matches('/').replace('/', ".").replace("~1", "/").replace("~0", "~")
}

/// Whether a file holds nothing but comments and marks of a document.
fn says_nothing(text: &str) -> bool {
    let said = |line: &str| line.split('#').next().unwrap_or_default().trim().to_owned();
    text.lines().all(|line| ["", "---", "..."].contains(&said(line).as_str()))
}
