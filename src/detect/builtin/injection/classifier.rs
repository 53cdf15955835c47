//! A classifier of somebody's own in the place of the linear model: which files the detector names,
//! and the classifiers that are loaded.
//!
//! Files are opened only when a detector file is loaded. Parameters come from requests too: what a
//! request names and no detector file named before is refused, unopened.

use std::sync::{Arc, Mutex, PoisonError};

use super::onnx::{self, Classifier};
use crate::detect::builtin::params::{ParamFault, Params};

/// The parameters that name a classifier.
pub(super) const KEYS: [&str; 5] = ["model", "tokenizer", "sha256", "window", "windows"];
/// Classifiers that are kept, the last ones loaded or checked.
const LOADED_MAX: usize = 4;

/// Which classifier, and how it reads a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Files {
    /// Path of the ONNX model.
    pub(super) model: String,
    /// Path of its `tokenizer.json`.
    pub(super) tokenizer: String,
    /// SHA-256, in hexadecimal, of the model followed by the tokenizer.
    pub(super) sha256: Option<String>,
    /// Tokens of a window, 16..=2048; neighbours share a quarter.
    pub(super) window: usize,
    /// Windows of one text, 1..=4096; what is behind them is left out and named.
    pub(super) windows: usize,
}

/// What is wrong with a file, under the parameter that names it.
pub(super) struct Fault {
    pub(super) key: &'static str,
    pub(super) message: String,
    pub(super) hint: &'static str,
}

static LOADED: Mutex<Vec<(Files, Arc<Classifier>)>> = Mutex::new(Vec::new());

/// The classifier that `params` name, read from its files unless it is loaded already.
pub(super) fn load(params: &Params) -> Result<(), ParamFault> {
    let Some(files) = Files::named(params)? else { return Ok(()) };
    let known = find(&files);
    let read = || {
        let fault = |fault: Fault| params.fault(fault.key, &fault.message, fault.hint);
        onnx::load(&files).map(Arc::new).map_err(fault)
    };
    let classifier = known.map_or_else(read, Ok)?;
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    loaded.retain(|(other, _)| *other != files);
    loaded.insert(0, (files, classifier));
    loaded.truncate(LOADED_MAX);
    Ok(())
}

/// The classifier that `params` name, if they name one; it must be loaded.
pub(super) fn loaded(params: &Params) -> Result<Option<Arc<Classifier>>, ParamFault> {
    let Some(files) = Files::named(params)? else { return Ok(None) };
    let hint = "name the model in a detector file: a request cannot";
    find(&files).map(Some).ok_or_else(|| params.fault("model", "is not loaded", hint))
}

fn find(files: &Files) -> Option<Arc<Classifier>> {
    let loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    loaded.iter().find(|(other, _)| other == files).map(|(_, found)| Arc::clone(found))
}

impl Files {
    fn named(params: &Params) -> Result<Option<Self>, ParamFault> {
        if !KEYS.iter().any(|key| params.holds(key)) {
            return Ok(None);
        }
        let sha256 = params.holds("sha256").then(|| params.text("sha256")).transpose()?;
        let is_digest = |text: &&str| text.len() == 64 && hex::decode(text).is_ok();
        if sha256.is_some_and(|text| !is_digest(&text)) {
            let hint = "write what `cat MODEL TOKENIZER | sha256sum` prints";
            return Err(params.fault("sha256", "is not 64 hexadecimal digits", hint));
        }
        Ok(Some(Self {
            model: params.text("model")?.to_owned(),
            tokenizer: params.text("tokenizer")?.to_owned(),
            sha256: sha256.map(str::to_ascii_lowercase),
            window: params.count("window", 128, 16..=2048)?,
            windows: params.count("windows", 64, 1..=4096)?,
        }))
    }
}
