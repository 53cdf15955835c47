//! Measures the built-in detectors on texts that `scripts/quality-data` makes of packages.
//!
//! `bench-quality NAME` rewrites what stands behind the marker of docs/quality/NAME.md, and the
//! detector's row in docs/built-in.md; `bench-quality train-injection` makes the two files of the
//! prompt-injection model, the same bytes each time. `scripts/quality` runs them in order.

#![expect(clippy::print_stdout, reason = "it says what it wrote")]
#![expect(clippy::panic, reason = "so is the answer to a wrong argument")]
#![expect(clippy::indexing_slicing, reason = "rows hold what the programs in texts write")]
#![expect(clippy::unwrap_used, reason = "a measurement may stop at a broken set")]

mod beside;
mod code;
mod injection;
mod language;
mod ordinary;
mod page;
mod samples;
mod sources;
mod speed;
mod toxicity;
mod urls;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["pii"] => beside::pii(),
        ["secrets"] => beside::secrets(),
        ["injection"] => injection::report(),
        ["train-injection"] => injection::train(),
        ["training-texts"] => injection::texts(),
        #[cfg(feature = "ml")]
        ["injection-onnx"] => injection::beside(),
        ["toxicity"] => toxicity::run(),
        ["urls"] => urls::run(),
        ["language"] => language::run(),
        ["code"] => code::run(),
        ["ordinary"] => ordinary::run(),
        ["speed"] => speed::run(),
        _ => panic!(
            "bench-quality pii | secrets | injection | train-injection | training-texts | \
             injection-onnx (with the feature ml) | toxicity | urls | language | code | ordinary | \
             speed"
        ),
    }
}
