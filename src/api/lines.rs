//! Holds the lines of heads to CRLF. httparse takes a bare line feed for the end of a line, as RFC
//! 9112 §2.2 lets it; a server in front may take it for a part of a value.
//!
//! Bytes are followed as they come from the socket: heads are read line by line, bodies are skipped
//! by their length or their chunks. A bare line feed in a head becomes a NUL, which no head may
//! hold, so the parser refuses it and closes. What cannot be followed is the parser's to refuse; it
//! is never touched.

/// A line is looked at up to here: no longer one frames a body.
const LINE_MAX: usize = 64;

/// Where in a stream of requests the next byte stands.
#[derive(Debug)]
pub(super) struct Lines {
    state: State,
    /// The beginning of the present line, without its end.
    line: Vec<u8>,
    /// The byte before the next one.
    last: u8,
    /// What the head so far says of its body.
    body: Body,
    /// Whether the head has a line yet.
    begun: bool,
    /// Whether a byte has come since the last head or body ended.
    touched: bool,
    /// Heads that have ended.
    heads: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Head,
    /// So many bytes that are no lines.
    Skip(u64),
    /// The size of a chunk.
    Size,
    /// So many bytes of a chunk with its end.
    Chunk(u64),
    Trailer,
    /// Nobody can tell; the parser refuses it.
    Lost,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Body {
    Length(u64),
    Chunks,
    Unclear,
}

impl Default for Lines {
    fn default() -> Self {
        Self {
            state: State::Head,
            line: Vec::with_capacity(LINE_MAX),
            last: 0,
            body: Body::Length(0),
            begun: false,
            touched: false,
            heads: 0,
        }
    }
}

impl Lines {
    /// Follows `bytes`, the next of the stream, and spoils a bare line feed of a head.
    pub(super) fn follow(&mut self, mut bytes: &mut [u8]) {
        while !bytes.is_empty() {
            let taken = match self.state {
                State::Lost => return,
                State::Skip(left) => self.skip(bytes, left, State::Head, State::Skip),
                State::Chunk(left) => self.skip(bytes, left, State::Size, State::Chunk),
                State::Head | State::Size | State::Trailer => self.read(bytes),
            };
            bytes = bytes.get_mut(taken..).unwrap_or_default();
        }
    }

    /// The number of a head that has begun and not ended.
    pub(super) fn unfinished(&self) -> Option<usize> {
        (self.touched && self.state == State::Head).then_some(self.heads)
    }

    fn skip(&mut self, bytes: &[u8], left: u64, then: State, more: fn(u64) -> State) -> usize {
        let taken = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        let left = left - taken as u64;
        self.state = if left == 0 { then } else { more(left) };
        taken
    }

    /// Reads to the end of the line, or of the bytes.
    fn read(&mut self, bytes: &mut [u8]) -> usize {
        self.touched |= self.state == State::Head;
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let part = bytes.get(..end.unwrap_or(bytes.len())).unwrap_or_default();
        let room = LINE_MAX - self.line.len();
        self.line.extend(part.iter().take(room));
        let before = part.last().copied().unwrap_or(self.last);
        let Some(end) = end else {
            self.last = before;
            return bytes.len();
        };
        self.last = b'\n';
        if before == b'\r' {
            self.ended();
        } else if self.state == State::Head {
            if let Some(byte) = bytes.get_mut(end) {
                *byte = 0;
            }
            self.state = State::Lost;
        } else {
            self.state = State::Lost;
        }
        end + 1
    }

    fn ended(&mut self) {
        let whole = std::mem::take(&mut self.line);
        let line = whole.strip_suffix(b"\r").unwrap_or(&whole);
        match self.state {
            State::Head if line.is_empty() && self.begun => self.head_ended(),
            // Empty lines before a head are no part of it.
            State::Head if line.is_empty() => {}
            State::Head => {
                self.begun = true;
                self.body = body(line, self.body);
            }
            State::Size => self.state = size(line),
            State::Trailer if line.is_empty() => self.state = State::Head,
            State::Trailer | State::Skip(_) | State::Chunk(_) | State::Lost => {}
        }
        self.line = whole;
        self.line.clear();
    }

    fn head_ended(&mut self) {
        self.state = match self.body {
            Body::Length(0) => State::Head,
            Body::Length(length) => State::Skip(length),
            Body::Chunks => State::Size,
            Body::Unclear => State::Lost,
        };
        (self.body, self.begun, self.touched) = (Body::Length(0), false, false);
        self.heads += 1;
    }
}

/// What a line of a head says of the body, beside what was said before it.
fn body(line: &[u8], before: Body) -> Body {
    let Some(colon) = line.iter().position(|byte| *byte == b':') else { return before };
    let (name, value) = line.split_at(colon);
    let value = value.get(1..).unwrap_or_default().trim_ascii();
    if name.eq_ignore_ascii_case(b"transfer-encoding") {
        let chunked = value.eq_ignore_ascii_case(b"chunked") && before == Body::Length(0);
        return if chunked { Body::Chunks } else { Body::Unclear };
    }
    if name.eq_ignore_ascii_case(b"content-length") {
        let digits = std::str::from_utf8(value).ok().filter(|text| !text.starts_with('+'));
        return match (digits.and_then(|text| text.parse().ok()), before) {
            (Some(length), Body::Length(0)) => Body::Length(length),
            _ => Body::Unclear,
        };
    }
    before
}

/// What follows the line with the size of a chunk.
fn size(line: &[u8]) -> State {
    let digits = line.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    let size = std::str::from_utf8(digits).ok().and_then(|text| u64::from_str_radix(text, 16).ok());
    match size {
        Some(0) => State::Trailer,
        // With the line end behind it.
        Some(size) => size.checked_add(2).map_or(State::Lost, State::Chunk),
        None => State::Lost,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What becomes of `text` when it comes in pieces of `step` bytes.
    fn followed(text: &str, step: usize) -> String {
        let mut lines = Lines::default();
        let mut bytes = text.as_bytes().to_vec();
        for piece in bytes.chunks_mut(step) {
            lines.follow(piece);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn check(text: &str, spoiled: Option<usize>) {
        for step in [1, 2, 3, 7, 1000] {
            let mut wanted = text.as_bytes().to_vec();
            if let Some(at) = spoiled {
                assert_eq!(wanted[at], b'\n', "{text:?}");
                wanted[at] = 0;
            }
            let wanted = String::from_utf8_lossy(&wanted).into_owned();
            assert_eq!(followed(text, step), wanted, "in steps of {step}");
        }
    }

    #[test]
    fn a_bare_line_feed_is_spoiled_in_heads_alone() {
        check("GET / HTTP/1.1\r\nHost: a\r\n\r\n", None);
        check("GET / HTTP/1.1\nHost: a\r\n\r\n", Some(14));
        check("GET / HTTP/1.1\r\nHost: a\n\r\n", Some(23));
        check("GET / HTTP/1.1\r\nHost: a\r\n\n", Some(25));
        check("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Some(0));
        check("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", None);
        check("GET / HTTP/1.1\r\nX: a\nGET /smuggled HTTP/1.1\r\n\r\n", Some(20));
    }

    #[test]
    fn bodies_are_never_touched_and_the_head_behind_them_is() {
        let head = "POST / HTTP/1.1\r\nHost: a\r\n";
        let bad = "GET / HTTP/1.1\nHost: a\r\n\r\n";
        for framed in [
            "Content-Length: 6\r\n\r\na\nb\n\n\n",
            "content-length:6\r\n\r\na\nb\n\n\n",
            "Content-Length: 0\r\n\r\n",
            "Transfer-Encoding: chunked\r\n\r\n3\r\na\nb\r\n2;x=y\r\n\n\n\r\n0\r\n\r\n",
            "Transfer-Encoding: chunked\r\n\r\n0\r\nX: y\r\n\r\n",
        ] {
            let whole = format!("{head}{framed}");
            check(&whole, None);
            check(&format!("{whole}{head}\r\n"), None);
            check(&format!("{whole}{bad}"), Some(whole.len() + 14));
        }
    }

    #[test]
    fn a_head_is_unfinished_from_its_first_byte_to_its_empty_line() {
        let text = "GET / HTTP/1.1\r\n\r\n\r\nPOST / HTTP/1.1\r\nContent-Length: 2\r\n\r\nabG";
        let mut lines = Lines::default();
        let mut told = Vec::new();
        for byte in text.bytes() {
            lines.follow(&mut [byte]);
            told.push(lines.unfinished());
        }
        told.dedup();
        assert_eq!(told, [Some(0), None, Some(1), None, Some(2)]);
    }

    proptest! {
        #[test]
        fn requests_that_hold_to_crlf_pass_unchanged(
            bodies in proptest::collection::vec("[ab\\n\\r]{0,40}", 1..6),
            chunked in any::<bool>(),
            step in 1..50usize,
        ) {
            let mut text = String::new();
            for body in &bodies {
                let length = body.len();
                text.push_str("POST /x HTTP/1.1\r\nHost: a\r\nX-Long: ");
                text.push_str(&"y".repeat(length * 4));
                text.push_str(&match chunked {
                    true if body.is_empty() => "\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
                    true => format!(
                        "\r\nTransfer-Encoding: chunked\r\n\r\n{length:x}\r\n{body}\r\n0\r\n\r\n"
                    ),
                    false => format!("\r\nContent-Length: {length}\r\n\r\n{body}"),
                });
            }
            prop_assert_eq!(followed(&text, step), text);
        }
    }
}
