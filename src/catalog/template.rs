//! Request templates: JSON whose texts may hold `{{placeholders}}`, understood when a file is read.

use serde_json::{Map, Value};

use crate::yaml::{nearest, shown};

/// A template, ready to be filled.
#[derive(Debug, Clone, PartialEq)]
pub enum Template {
    /// Sent as it stands.
    Literal(Value),
    /// A text that is one placeholder: it takes the placeholder's JSON value.
    Whole(Fill),
    /// A text with placeholders in it.
    Text(Vec<Bit>),
    /// A list.
    List(Vec<Template>),
    /// An object, in the order of the file.
    Map(Vec<(String, Template)>),
}

/// A part of a text.
#[derive(Debug, Clone, PartialEq)]
pub enum Bit {
    /// As it stands.
    Literal(String),
    /// A placeholder.
    Fill(Fill),
}

/// A placeholder: the first of its ways that the request has.
#[derive(Debug, Clone, PartialEq)]
pub struct Fill {
    /// Alternatives in order; never empty.
    pub ways: Vec<Slot>,
    /// The key falls away where no way leads to a value; else it holds null.
    pub drop: bool,
}

/// What a placeholder stands for.
#[derive(Debug, Clone, PartialEq)]
pub enum Slot {
    /// The judged text.
    Content,
    /// All texts of the call.
    Contents,
    /// `text`, `code` and so on.
    ContentType,
    /// `input`, `output` and so on.
    Direction,
    /// The caller's documents.
    Documents,
    /// The request's BCP 47 language.
    Language,
    /// Its primary subtag: `de` of `de-CH`.
    LanguagePrimary,
    /// The conversation.
    Messages,
    /// The request's metadata.
    Metadata,
    /// All parameters.
    Params,
    /// One parameter.
    Param(String),
    /// What led to the content.
    Prompt,
    /// The request's id.
    RequestId,
    /// The tenant.
    Tenant,
    /// The tools offered.
    Tools,
    /// Always this.
    Literal(String),
}

/// Names of placeholders, for messages.
const NAMES: [&str; 16] = [
    "content",
    "contents",
    "content_type",
    "direction",
    "documents",
    "language",
    "language_primary",
    "messages",
    "metadata",
    "options",
    "params",
    "prompt",
    "request_id",
    "tenant",
    "tools",
    "options.NAME or params.NAME",
];

/// Why a text is no template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateFault {
    /// JSON pointer below the template's root, such as `/input/0`.
    pub pointer: String,
    /// What is wrong.
    pub message: String,
    /// What to change.
    pub hint: String,
}

impl Template {
    /// Understands `raw`; `options` are put in at once.
    pub fn parse(raw: &Value, options: &Map<String, Value>) -> Result<Template, TemplateFault> {
        match raw {
            Value::String(text) => text_of(text, options),
            Value::Array(items) => {
                let parse = |(index, item)| {
                    Template::parse(item, options)
                        .map_err(|fault| below(fault, &format!("{index}")))
                };
                items.iter().enumerate().map(parse).collect::<Result<_, _>>().map(Template::List)
            }
            Value::Object(map) => {
                let parse = |(key, value): (&String, &Value)| {
                    let template = match key.contains("{{") {
                        true => Err(placeholder_in_key(key)),
                        false => Template::parse(value, options),
                    };
                    template
                        .map(|template| (key.clone(), template))
                        .map_err(|fault| below(fault, &key.replace('~', "~0").replace('/', "~1")))
                };
                map.iter().map(parse).collect::<Result<_, _>>().map(Template::Map)
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => Ok(Template::Literal(raw.clone())),
        }
    }

    /// Every placeholder.
    pub fn fills(&self) -> Vec<&Fill> {
        match self {
            Template::Literal(_) => Vec::new(),
            Template::Whole(fill) => vec![fill],
            Template::Text(bits) => bits
                .iter()
                .filter_map(|bit| match bit {
                    Bit::Literal(_) => None,
                    Bit::Fill(fill) => Some(fill),
                })
                .collect(),
            Template::List(items) => items.iter().flat_map(Template::fills).collect(),
            Template::Map(map) => map.iter().flat_map(|(_, value)| value.fills()).collect(),
        }
    }
}

impl Fill {
    /// Whether it always sends what is judged; a prompt or a document only leads to it.
    pub(super) fn is_judged(&self) -> bool {
        matches!(self.ways.first(), Some(Slot::Content | Slot::Contents | Slot::Messages))
    }
}

/// A text of options only, such as a path or a header; each value goes through `encode`.
pub(super) fn fixed(
    raw: &str,
    options: &Map<String, Value>,
    encode: fn(&str) -> String,
) -> Result<String, TemplateFault> {
    let encoded = options.iter().map(|(name, value)| {
        (name.clone(), Value::from(encode(value.as_str().unwrap_or_default())))
    });
    match text_of(raw, &encoded.collect())? {
        Template::Literal(Value::String(text)) => Ok(text),
        Template::Literal(_)
        | Template::Whole(_)
        | Template::Text(_)
        | Template::List(_)
        | Template::Map(_) => {
            let message = "this text holds a placeholder that changes with the request".to_owned();
            let hint = "use only {{options.NAME}} here".to_owned();
            Err(TemplateFault { pointer: String::new(), message, hint })
        }
    }
}

fn below(fault: TemplateFault, step: &str) -> TemplateFault {
    TemplateFault { pointer: format!("/{step}{}", fault.pointer), ..fault }
}

/// One pass from left to right, so that what an option holds is never read as a placeholder.
fn text_of(text: &str, options: &Map<String, Value>) -> Result<Template, TemplateFault> {
    let (mut bits, mut rest) = (Vec::new(), text);
    while let Some((before, after)) = rest.split_once("{{") {
        let Some((inside, tail)) = after.split_once("}}") else { return Err(open_ended(after)) };
        bits.push(Bit::Literal(before.to_owned()));
        bits.push(bit(inside, options)?);
        rest = tail;
    }
    if bits.len() == 2
        && rest.is_empty()
        && matches!(&bits[..], [Bit::Literal(b), _] if b.is_empty())
    {
        return Ok(match bits.pop() {
            Some(Bit::Fill(fill)) => Template::Whole(fill),
            Some(Bit::Literal(text)) => Template::Literal(text.into()),
            None => Template::Literal(Value::Null),
        });
    }
    bits.push(Bit::Literal(rest.to_owned()));
    let literal: Option<String> = bits
        .iter()
        .map(|bit| match bit {
            Bit::Literal(text) => Some(text.as_str()),
            Bit::Fill(_) => None,
        })
        .collect();
    Ok(literal.map_or(Template::Text(bits), |text| Template::Literal(text.into())))
}

fn bit(inside: &str, options: &Map<String, Value>) -> Result<Bit, TemplateFault> {
    let trimmed = inside.trim();
    let (inside, drop) = match trimmed.strip_suffix('?') {
        Some(inside) => (inside, true),
        None => (trimmed, false),
    };
    let mut ways = Vec::new();
    for (index, way) in inside.split('|').map(str::trim).enumerate() {
        match (slot(way), way.strip_prefix("options.")) {
            (_, Some(name)) => match options.get(name) {
                Some(value) => ways.push(Slot::Literal(value.as_str().unwrap_or_default().into())),
                None if index > 0 || inside.contains('|') || drop => {}
                None => return Err(unknown(way)),
            },
            (Some(slot), None) => ways.push(slot),
            (None, None) if index > 0 => ways.push(Slot::Literal(way.to_owned())),
            (None, None) => return Err(unknown(way)),
        }
    }
    Ok(match &ways[..] {
        [Slot::Literal(text), ..] => Bit::Literal(text.clone()),
        _ => Bit::Fill(Fill { ways, drop }),
    })
}

fn slot(name: &str) -> Option<Slot> {
    Some(match name {
        "content" => Slot::Content,
        "contents" => Slot::Contents,
        "content_type" => Slot::ContentType,
        "direction" => Slot::Direction,
        "documents" => Slot::Documents,
        "language" => Slot::Language,
        "language_primary" => Slot::LanguagePrimary,
        "messages" => Slot::Messages,
        "metadata" => Slot::Metadata,
        "params" => Slot::Params,
        "prompt" => Slot::Prompt,
        "request_id" => Slot::RequestId,
        "tenant" => Slot::Tenant,
        "tools" => Slot::Tools,
        _ => Slot::Param(name.strip_prefix("params.").filter(|key| !key.is_empty())?.to_owned()),
    })
}

fn placeholder_in_key(key: &str) -> TemplateFault {
    let message = format!("the key `{}` holds a placeholder", shown(key));
    let hint = "keys are sent as written; put the placeholder into the value".to_owned();
    TemplateFault { pointer: String::new(), message, hint }
}

fn open_ended(after: &str) -> TemplateFault {
    let message = format!("the placeholder `{{{{{}` has no end", shown(after));
    let hint = "close it with `}}`".to_owned();
    TemplateFault { pointer: String::new(), message, hint }
}

fn unknown(name: &str) -> TemplateFault {
    let hint = match nearest(name, NAMES) {
        Some(near) => format!("write {{{{{near}}}}}"),
        None => format!("use one of {}", NAMES.join(", ")),
    };
    let message = format!("there is no placeholder `{}`", shown(name));
    TemplateFault { pointer: String::new(), message, hint }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(raw: Value) -> Result<Template, TemplateFault> {
        let options = json!({"model": "m-{{content}}"});
        Template::parse(&raw, options.as_object().unwrap())
    }

    #[test]
    fn options_are_put_in_once_and_never_read_again() {
        assert_eq!(
            parse(json!({"m": "{{options.model}}", "n": "a {{options.model}}", "l": [1]})).unwrap(),
            Template::Map(vec![
                ("l".into(), Template::List(vec![Template::Literal(json!(1))])),
                ("m".into(), Template::Literal(json!("m-{{content}}"))),
                ("n".into(), Template::Literal(json!("a m-{{content}}"))),
            ])
        );
    }

    #[test]
    fn a_placeholder_has_alternatives_and_a_last_word() {
        let whole = |ways, drop| Template::Whole(Fill { ways, drop });
        for (text, expected) in [
            ("{{content}}", whole(vec![Slot::Content], false)),
            ("{{ params.a? }}", whole(vec![Slot::Param("a".into())], true)),
            ("{{prompt|}}", whole(vec![Slot::Prompt, Slot::Literal(String::new())], false)),
            ("{{language|options.none|en}}", {
                whole(vec![Slot::Language, Slot::Literal("en".into())], false)
            }),
        ] {
            assert_eq!(parse(json!(text)).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn an_unknown_placeholder_is_refused_with_its_place_and_the_nearest_name() {
        let fault = parse(json!({"a/b": ["{{conten}}"]})).unwrap_err();
        assert_eq!((fault.pointer.as_str(), fault.hint.as_str()), ("/a~1b/0", "write {{content}}"));
        assert!(parse(json!("{{options.modle}}")).is_err());
        assert!(parse(json!("{{params.}}")).is_err());
        let fault = parse(json!(["{{content"])).unwrap_err();
        assert_eq!((fault.pointer.as_str(), fault.hint.as_str()), ("/0", "close it with `}}`"));
        assert_eq!(parse(json!({"{{content}}": 1})).unwrap_err().pointer, "/{{content}}");
    }
}
