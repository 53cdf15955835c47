//! In the place of `onnx` in a binary without the feature `ml`: refuses every classifier.

use super::classifier::{Fault, Files};

/// There is none.
pub(super) enum Classifier {}

impl Classifier {
    pub(super) fn judge(&self, _: &str, _: &dyn Fn() -> bool) -> super::Windows {
        super::Windows::default()
    }
}

pub(super) fn load(_: &Files) -> Result<Classifier, Fault> {
    Err(Fault {
        key: "model",
        message: "names an ONNX model, which this binary cannot run".to_owned(),
        hint: "build it with `cargo build --release --features ml`, or remove the model's parameters",
    })
}
