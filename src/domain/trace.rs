//! Where a request stands among the spans of everybody who had to do with it, as W3C Trace Context
//! writes it.

use serde::{Deserialize, Serialize};

/// Bytes of `tracestate` that are carried on; W3C asks for no more.
const STATE_BYTES_MAX: usize = 512;

/// A span of somebody, as the headers `traceparent` and `tracestate` tell it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct TraceContext {
    /// `00-<32 digits>-<16 digits>-<2 digits>`.
    parent: String,
    /// What the systems on the way have added; carried on as it came.
    state: Option<String>,
}

/// The two headers.
#[derive(Serialize, Deserialize)]
struct Written {
    parent: String,
    state: Option<String>,
}

impl TryFrom<Written> for TraceContext {
    type Error = &'static str;

    fn try_from(written: Written) -> Result<TraceContext, Self::Error> {
        TraceContext::parse(&written.parent, written.state.as_deref()).ok_or("no trace context")
    }
}

impl From<TraceContext> for Written {
    fn from(TraceContext { parent, state }: TraceContext) -> Written {
        Written { parent, state }
    }
}

impl TraceContext {
    /// What the headers say; nothing where `parent` is not as W3C writes it, and then `state` counts
    /// for nothing either.
    pub fn parse(parent: &str, state: Option<&str>) -> Option<TraceContext> {
        let fields: Vec<&str> = parent.split('-').collect();
        let [version, trace, span, flags, more @ ..] = fields.as_slice() else { return None };
        let hex = |field: &str, digits: usize| {
            let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
            field.len() == digits && field.bytes().all(is_digit)
        };
        let given = |field: &str| field.bytes().any(|byte| byte != b'0');
        let sound = hex(version, 2) && hex(trace, 32) && hex(span, 16) && hex(flags, 2);
        // Later versions may say more behind.
        let known = *version != "ff" && (*version != "00" || more.is_empty());
        if !sound || !known || !given(trace) || !given(span) {
            return None;
        }
        let printable = |state: &&str| {
            let bytes = 1..=STATE_BYTES_MAX;
            bytes.contains(&state.len()) && state.bytes().all(|b| (b' '..=b'~').contains(&b))
        };
        let state = state.filter(printable).map(str::to_owned);
        Some(TraceContext { parent: format!("00-{trace}-{span}-{flags}"), state })
    }

    /// The span `span` of the trace `trace`.
    pub fn of(trace: [u8; 16], span: [u8; 8], sampled: bool, state: String) -> TraceContext {
        let (trace, span) = (hex::encode(trace), hex::encode(span));
        let parent = format!("00-{trace}-{span}-0{}", u8::from(sampled));
        TraceContext { parent, state: Some(state).filter(|state| !state.is_empty()) }
    }

    /// The header `traceparent`.
    pub fn parent(&self) -> &str {
        &self.parent
    }

    /// The header `tracestate`.
    pub fn state(&self) -> Option<&str> {
        self.state.as_deref()
    }

    /// 32 hexadecimal digits.
    pub fn trace_id(&self) -> &str {
        self.parent.get(3..35).unwrap_or_default()
    }

    /// 16 hexadecimal digits.
    pub fn span_id(&self) -> &str {
        self.parent.get(36..52).unwrap_or_default()
    }

    /// Whether the trace is kept by whoever began it.
    pub fn sampled(&self) -> bool {
        let flags = self.parent.get(53..).and_then(|flags| u8::from_str_radix(flags, 16).ok());
        flags.is_some_and(|flags| flags & 1 == 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    #[test]
    fn what_w3c_does_not_allow_is_no_context() {
        let good = format!("00-{TRACE}-00f067aa0ba902b7-01");
        let context = TraceContext::parse(&good, Some("a=1")).unwrap();
        assert_eq!(context.parent(), good);
        assert_eq!((context.trace_id(), context.span_id()), (TRACE, "00f067aa0ba902b7"));
        assert_eq!(context.state(), Some("a=1"));
        for bad in [
            "",
            "00",
            &good.to_uppercase(),
            &good.replacen("00-", "ff-", 1),
            &format!("{good}-more"),
            &good.replace(TRACE, &"0".repeat(32)),
            &good.replace("00f067aa0ba902b7", &"0".repeat(16)),
            &good.replace("-01", "-1"),
            &good.replace('4', "g"),
            &format!(" {good}"),
        ] {
            assert_eq!(TraceContext::parse(bad, None), None, "{bad}");
        }
    }

    #[test]
    fn a_later_version_may_say_more_and_is_carried_on_as_ours() {
        let later = format!("01-{TRACE}-00f067aa0ba902b7-01-more");
        let context = TraceContext::parse(&later, Some(&"a".repeat(513))).unwrap();
        assert_eq!(context.parent(), format!("00-{TRACE}-00f067aa0ba902b7-01"));
        assert_eq!(context.state(), None, "more than W3C asks to carry");
    }

    #[test]
    fn what_is_made_is_what_is_read() {
        let made = TraceContext::of([7; 16], [9; 8], true, "a=1".into());
        assert_eq!(TraceContext::parse(made.parent(), made.state()), Some(made.clone()));
        let written = serde_json::to_string(&made).unwrap();
        assert_eq!(serde_json::from_str::<TraceContext>(&written).unwrap(), made);
        assert!(serde_json::from_str::<TraceContext>(&written.replace("00-", "ff-")).is_err());
    }
}
