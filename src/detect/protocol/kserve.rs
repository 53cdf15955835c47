//! The Open Inference Protocol (V2), as KServe, Triton and others speak it. No mapping: a tensor's
//! numbers get their meaning from its shape and from the labels of the detector file.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Bad, Said, parse, probability, to_bytes};
use crate::catalog::Detector;
use crate::catalog::detector::{Activation, Kserve};
use crate::detect::Judged;
use crate::detect::excerpt::Excerpt;

#[derive(Deserialize)]
struct Reply {
    outputs: Vec<Tensor>,
}

#[derive(Deserialize)]
struct Tensor {
    name: String,
    #[serde(default)]
    shape: Vec<usize>,
    data: Vec<Value>,
}

/// A label with its score, as some runtimes pack it into an element.
#[derive(Deserialize)]
struct Packed {
    label: String,
    score: f64,
}

pub(super) fn body(model: &Kserve, params: &Value, batch: &[Excerpt<'_>]) -> Bytes {
    let texts: Vec<&str> = batch.iter().map(Excerpt::text).collect();
    let shape = if model.column { vec![texts.len(), 1] } else { vec![texts.len()] };
    let input = json!({"name": model.input, "shape": shape, "datatype": "BYTES", "data": texts});
    let mut body = json!({"inputs": [input]});
    if params.as_object().is_some_and(|params| !params.is_empty())
        && let Some(body) = body.as_object_mut()
    {
        body.insert("parameters".to_owned(), params.clone());
    }
    to_bytes(&body)
}

pub(super) fn read(
    detector: &Detector,
    model: &Kserve,
    batch: &[Excerpt<'_>],
    reply: &[u8],
) -> Result<Judged, Bad> {
    let reply: Reply = parse(reply)?;
    let tensor = match &model.output {
        Some(name) => named(&reply, name)?,
        None => reply.outputs.first().ok_or_else(|| Bad("the reply has no output".to_owned()))?,
    };
    let values = flat(&tensor.data);
    let rows = match values.first() {
        Some(Value::String(_)) => words(model, &reply, &values, batch.len())?,
        _ => scores(model, tensor, &values, batch.len())?,
    };
    let mut judged = Judged::default();
    for (excerpt, row) in batch.iter().zip(rows) {
        for (label, score) in row.iter().filter(|(_, score)| *score > 0.0) {
            let spot =
                excerpt.spot_of(None).ok_or_else(|| Bad("a text has no place".to_owned()))?;
            let (category, severity, score) = (None, None, *score);
            judged
                .findings
                .extend(Said { label, category, severity, score, spot }.finding(detector));
        }
    }
    Ok(judged)
}

type Row = Vec<(String, f64)>;

/// Numbers: one score for each label, in the order of the file.
fn scores(
    model: &Kserve,
    tensor: &Tensor,
    values: &[&Value],
    texts: usize,
) -> Result<Vec<Row>, Bad> {
    let (labels, shape) = (model.labels.len(), &tensor.shape);
    let axis = model.axis.unwrap_or(shape.len().saturating_sub(1));
    let size = shape.iter().copied().fold(1, usize::saturating_mul);
    let on_axis = labels == 1 || shape.get(axis) == Some(&labels);
    if labels == 0 || size != values.len() || size != texts * labels || !on_axis {
        let name = crate::yaml::shown(&model.output.clone().unwrap_or_default());
        return Err(Bad(format!(
            "tensor `{name}` has {} numbers for {texts} texts and {labels} labels",
            values.len()
        )));
    }
    let number = |value: &&Value| value.as_f64().ok_or_else(|| Bad("a score is no number".into()));
    let row = |chunk: &[&Value]| {
        let raw: Vec<f64> = chunk.iter().map(number).collect::<Result<_, _>>()?;
        let scores = activate(model.activation, &raw);
        let labels = model.labels.iter().cloned();
        labels.zip(scores).map(|(label, score)| Ok((label, probability(score)?))).collect()
    };
    values.chunks(labels).map(row).collect()
}

fn activate(activation: Activation, raw: &[f64]) -> Vec<f64> {
    match activation {
        Activation::None => raw.to_vec(),
        Activation::Sigmoid => raw.iter().map(|x| 1.0 / (1.0 + (-x).exp())).collect(),
        Activation::Softmax => {
            let most = raw.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let all: Vec<f64> = raw.iter().map(|x| (x - most).exp()).collect();
            let sum: f64 = all.iter().sum();
            all.iter().map(|x| x / sum).collect()
        }
    }
}

/// Texts: one label for each text, with its score inside or in a tensor beside it.
fn words(model: &Kserve, reply: &Reply, values: &[&Value], texts: usize) -> Result<Vec<Row>, Bad> {
    let beside = match &model.scores {
        Some(name) => Some(flat(&named(reply, name)?.data)),
        None => None,
    };
    if values.len() != texts {
        return Err(Bad(format!("{} labels answer {texts} texts", values.len())));
    }
    let row = |(index, value): (usize, &&Value)| {
        let word = value.as_str().ok_or_else(|| Bad("a label is no text".to_owned()))?;
        let packed = match serde_json::from_str::<Value>(word) {
            Ok(Value::Array(items)) => Some(Value::Array(items)),
            Ok(Value::Object(item)) => Some(json!([item])),
            Ok(_) | Err(_) => None,
        };
        if let Some(packed) = packed {
            let items: Vec<Packed> = parse(packed.to_string().as_bytes())?;
            let item = |item: Packed| Ok((item.label, probability(item.score)?));
            return items.into_iter().map(item).collect();
        }
        let score = match &beside {
            None => Some(1.0),
            Some(scores) => scores.get(index).and_then(|score| score.as_f64()),
        };
        let score = score.ok_or_else(|| Bad("a label has no score".to_owned()))?;
        Ok(vec![(word.to_owned(), probability(score)?)])
    };
    values.iter().enumerate().map(row).collect()
}

fn named<'a>(reply: &'a Reply, name: &str) -> Result<&'a Tensor, Bad> {
    let tensor = reply.outputs.iter().find(|tensor| tensor.name == name);
    tensor.ok_or_else(|| Bad(format!("the reply has no output `{name}`")))
}

/// The elements, be they nested or not; the reply's depth is bounded before.
fn flat(data: &[Value]) -> Vec<&Value> {
    let mut all = Vec::new();
    for value in data {
        match value {
            Value::Array(inner) => all.extend(flat(inner)),
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Object(_) => all.push(value),
        }
    }
    all
}
