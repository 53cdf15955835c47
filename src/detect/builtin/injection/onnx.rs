//! A text classifier in the ONNX format, run by `tract`: windows of tokens in, class logits out.
//!
//! Inputs `input_ids`, `attention_mask` and `token_type_ids`, of which a model may leave out any,
//! are 64-bit and `[1, window]`. The output `logits`, or the only one, is `[1, classes]`: class 0 is
//! harmless; one class alone is the attack's logit.

use std::io::Read as _;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

use sha2::{Digest as _, Sha256};
use tokenizers::{
    Encoding, PaddingDirection, PaddingParams, PostProcessor as _, PostProcessorWrapper, Tokenizer,
    TruncationDirection,
};
use tract_onnx::prelude::*;

use super::Windows;
use super::classifier::{Fault, Files};
use crate::detect::builtin::hit::widen;
use crate::domain::report::ReportError;

const MODEL_BYTES_MAX: u64 = 1 << 30;
const TOKENIZER_BYTES_MAX: u64 = 1 << 26;
/// No more of a text is cut into tokens than so many bytes for each token that is judged.
const TOKEN_BYTES: usize = 16;
const PADDING: [&str; 4] = ["[PAD]", "<pad>", "<|pad|>", "<|endoftext|>"];

type Plan = TypedRunnableModel<TypedModel>;

/// A loaded model with its tokenizer.
pub(super) struct Classifier {
    plan: Plan,
    inputs: Vec<Input>,
    cutter: Cutter,
    windows: usize,
    text_bytes_max: usize,
}

#[derive(Clone, Copy)]
enum Input {
    Ids,
    Mask,
    Types,
}

impl Input {
    fn named(name: &str) -> Option<Self> {
        match name {
            "input_ids" => Some(Self::Ids),
            "attention_mask" => Some(Self::Mask),
            "token_type_ids" => Some(Self::Types),
            _ => None,
        }
    }

    fn of(self, window: &Encoding) -> &[u32] {
        match self {
            Self::Ids => window.get_ids(),
            Self::Mask => window.get_attention_mask(),
            Self::Types => window.get_type_ids(),
        }
    }
}

/// Reads, checks and optimises a model; it has judged one text when this returns.
pub(super) fn load(files: &Files) -> Result<Classifier, Fault> {
    // One text is judged on one thread: no pool of the crate's own beside ours.
    tokenizers::parallelism::set_parallelism(false);
    let model = read(&files.model, "model", MODEL_BYTES_MAX)?;
    let tokenizer = read(&files.tokenizer, "tokenizer", TOKENIZER_BYTES_MAX)?;
    let digest = Sha256::new().chain_update(&model).chain_update(&tokenizer).finalize();
    if files.sha256.as_ref().is_some_and(|pin| *pin != hex::encode(digest)) {
        let message = format!("is not that of the two files, which is {}", hex::encode(digest));
        return Err(Fault { key: "sha256", message, hint: "use the files that the pin means" });
    }
    let made = catch_unwind(AssertUnwindSafe(|| Classifier::new(files, &model, &tokenizer)));
    made.unwrap_or_else(|_| {
        let hint = "export the model anew, with a fixed or dynamic length of the sequence";
        Err(Fault { key: "model", message: "made the ONNX runtime panic".to_owned(), hint })
    })
}

fn read(path: &str, key: &'static str, bytes_max: u64) -> Result<Vec<u8>, Fault> {
    let fault = |message: String, hint| Fault { key, message, hint };
    let lost = |error: std::io::Error| {
        fault(format!("cannot be read: {error}"), "name a file of this machine")
    };
    let about = std::fs::metadata(path).map_err(lost)?;
    if !about.is_file() {
        return Err(fault("is no file".to_owned(), "name a file of this machine"));
    }
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(lost)?;
    file.take(bytes_max + 1).read_to_end(&mut bytes).map_err(lost)?;
    if bytes.len() as u64 > bytes_max {
        return Err(fault(format!("is larger than {bytes_max} bytes"), "use a smaller one"));
    }
    Ok(bytes)
}

impl Classifier {
    fn new(files: &Files, model: &[u8], tokenizer: &[u8]) -> Result<Self, Fault> {
        let cutter = Cutter::new(tokenizer, files.window)?;
        let (plan, inputs) = plan(model, files.window)?;
        let text_bytes_max = files.windows * files.window * TOKEN_BYTES;
        let made = Self { plan, inputs, cutter, windows: files.windows, text_bytes_max };
        let tried = made.cutter.cut("Hello").map_err(|error| {
            let hint = "export tokenizer.json anew with the model";
            Fault { key: "tokenizer", message: format!("cuts no text: {error}"), hint }
        })?;
        match made.score(&tried) {
            Ok(_) => Ok(made),
            Err(why) => Err(unfit(format!("does not classify a text: {why}"))),
        }
    }

    /// The windows of `text` with their probabilities, in order, until `wanted` says no.
    pub(super) fn judge(&self, text: &str, wanted: &dyn Fn() -> bool) -> Windows {
        let (_, end) = widen(text, 0, self.text_bytes_max.min(text.len()));
        let mut judged = Windows::default();
        let Ok(first) = self.cutter.cut(text.get(..end).unwrap_or_default()) else {
            judged.left_out.push((0..text.len(), ReportError::BadResponse));
            return judged;
        };
        let mut reached = 0;
        let windows = std::iter::once(&first).chain(first.get_overflowing());
        let mut windows = windows.filter_map(|window| Some((window, place(window, text)?)));
        for (window, place) in windows.by_ref().take(self.windows).take_while(|_| wanted()) {
            match self.score(window) {
                Ok(score) => judged.scored.push((place.clone(), score)),
                Err(_) => judged.left_out.push((place.clone(), ReportError::BadResponse)),
            }
            reached = reached.max(place.end);
        }
        if windows.next().is_some() || end < text.len() {
            judged.left_out.push((reached..text.len(), ReportError::TooLong));
        }
        judged
    }

    /// The probability that the window is an attack.
    fn score(&self, window: &Encoding) -> Result<f64, String> {
        let tensor = |input: &Input| {
            let values: Vec<i64> = input.of(window).iter().map(|value| i64::from(*value)).collect();
            Ok(Tensor::from_shape(&[1, values.len()], &values)?.into_tvalue())
        };
        let inputs: TractResult<TVec<TValue>> = self.inputs.iter().map(tensor).collect();
        let said = inputs.and_then(|inputs| self.plan.run(inputs)).map_err(|e| reason(&e))?;
        let logits = said.first().ok_or("no output")?;
        let (&[1, 1..=1000], Ok(logits)) = (logits.shape(), logits.cast_to::<f32>()) else {
            return Err(format!("its output is {:?} instead of [1, classes]", logits.shape()));
        };
        let logits = logits.as_slice::<f32>().map_err(|error| reason(&error))?;
        probability(logits).ok_or_else(|| "a logit is not finite".to_owned())
    }
}

/// One minus the share of class 0 in the softmax; of one class, its sigmoid.
fn probability(logits: &[f32]) -> Option<f64> {
    let (harmless, attacks) = match logits {
        [] => return None,
        [attack] => (0.0, std::slice::from_ref(attack)),
        [harmless, attacks @ ..] => (*harmless, attacks),
    };
    let odds: f64 = attacks.iter().map(|logit| f64::from(logit - harmless).exp()).sum();
    let all_finite = logits.iter().all(|logit| logit.is_finite());
    all_finite.then(|| if odds.is_infinite() { 1.0 } else { odds / (1.0 + odds) })
}

/// The whole characters from the first to the last token that stands for text, in bytes.
fn place(window: &Encoding, text: &str) -> Option<Range<usize>> {
    let tokens = window.get_offsets().iter().zip(window.get_special_tokens_mask());
    let real = || tokens.clone().filter(|(_, special)| **special == 0).map(|(place, _)| *place);
    let start = real().map(|(start, _)| start).min()?;
    let end = real().map(|(_, end)| end).max()?;
    let (start, end) = widen(text, start, end);
    (start < end).then_some(start..end)
}

/// Cuts texts into windows of exactly `window` tokens. The crate's own truncation ends where the first
/// window does, so all that makes a window of tokens is done here.
struct Cutter {
    tokenizer: Tokenizer,
    frame: Option<PostProcessorWrapper>,
    padding: PaddingParams,
    window: usize,
    /// Tokens of a window that stand for text.
    room: usize,
}

impl Cutter {
    fn new(file: &[u8], window: usize) -> Result<Self, Fault> {
        let fault = |message: String| Fault {
            key: "tokenizer",
            message,
            hint: "name the tokenizer.json that was exported with the model",
        };
        let mut tokenizer = Tokenizer::from_bytes(file)
            .map_err(|error| fault(format!("is no tokenizer.json: {error}")))?;
        let frame = tokenizer.get_post_processor().cloned();
        let added = frame.as_ref().map_or(0, |frame| frame.added_tokens(false));
        if added * 2 > window {
            return Err(fault(format!("adds {added} tokens to a window of {window}")));
        }
        let known = PADDING.iter().find_map(|name| tokenizer.token_to_id(name));
        let padding = tokenizer.get_padding().cloned().unwrap_or_else(|| PaddingParams {
            pad_id: known.unwrap_or_default(),
            ..PaddingParams::default()
        });
        tokenizer.with_post_processor(None::<PostProcessorWrapper>).with_padding(None);
        tokenizer.with_truncation(None).map_err(|error| fault(reason(&error)))?;
        Ok(Self { tokenizer, frame, padding, window, room: window - added })
    }

    /// The first window, the others as what flows over it; neighbours share a quarter.
    fn cut(&self, text: &str) -> tokenizers::Result<Encoding> {
        let mut tokens = self.tokenizer.encode(text, false)?;
        tokens.truncate(self.room, self.room / 4, TruncationDirection::Right);
        let mut windows = match &self.frame {
            Some(frame) => frame.process(tokens, None, true)?,
            None => tokens,
        };
        let PaddingParams { pad_id, pad_type_id, pad_token, .. } = &self.padding;
        windows.pad(self.window, *pad_id, *pad_type_id, pad_token, PaddingDirection::Right);
        Ok(windows)
    }
}

fn plan(file: &[u8], window: usize) -> Result<(Plan, Vec<Input>), Fault> {
    let broken = |error: TractError| unfit(format!("is no ONNX model: {}", reason(&error)));
    let mut model = tract_onnx::onnx().model_for_read(&mut &*file).map_err(broken)?;
    let outlets = model.input_outlets().map_err(broken)?.to_vec();
    let mut inputs = Vec::new();
    for (at, outlet) in outlets.iter().enumerate() {
        let name = &model.node(outlet.node).name;
        let Some(input) = Input::named(name) else {
            return Err(unfit(format!("asks for the input `{name:.64}`")));
        };
        inputs.push(input);
        let fact = InferenceFact::dt_shape(i64::datum_type(), [1, window]);
        model.set_input_fact(at, fact).map_err(broken)?;
    }
    if model.find_outlet_label("logits").is_some() {
        model.set_output_names(["logits"]).map_err(broken)?;
    } else if model.output_outlets().map_err(broken)?.len() != 1 {
        return Err(unfit("has several outputs, none of which is `logits`".to_owned()));
    }
    let optimised = model.into_optimized().and_then(TypedModel::into_runnable);
    let wrong =
        |e: TractError| unfit(format!("does not take [1, {window}] tokens: {}", reason(&e)));
    optimised.map(|plan| (plan, inputs)).map_err(wrong)
}

fn unfit(message: String) -> Fault {
    let hint = "name a text classifier: input_ids and attention_mask in, [1, classes] logits out";
    Fault { key: "model", message, hint }
}

/// The innermost cause on one line, in at most 200 characters.
fn reason(error: &dyn std::fmt::Display) -> String {
    let said = format!("{error:#}");
    said.lines().last().unwrap_or_default().chars().take(200).collect()
}
