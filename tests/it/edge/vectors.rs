//! Requests that hide another one, `GET /smuggled`, from a reader that frames them otherwise.

/// What the service must make of it.
pub enum Reading {
    /// No answer, or one 4xx; then the connection closes.
    Refused,
    /// Exactly one request: what hides is its body, its trailer, or nothing.
    One,
}

pub struct Vector {
    pub name: String,
    pub reading: Reading,
    pub bytes: Vec<u8>,
}

const HIDDEN: &str = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
const POST: &str =
    "POST /api/v1/orchestrate HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n";

fn refused(name: &str, text: String) -> Vector {
    Vector { name: name.into(), reading: Reading::Refused, bytes: text.into_bytes() }
}

fn one(name: &str, text: String) -> Vector {
    Vector { name: name.into(), reading: Reading::One, bytes: text.into_bytes() }
}

/// A POST with these framing headers, an empty chunked body, then the hidden request.
fn framed(headers: &str) -> Vector {
    refused(&format!("{headers:?}"), format!("{POST}{headers}\r\n\r\n0\r\n\r\n{HIDDEN}"))
}

/// A chunked POST with this body, then the hidden request.
fn chunked(body: &str) -> Vector {
    let text = format!("{POST}Transfer-Encoding: chunked\r\n\r\n{body}{HIDDEN}");
    refused(&format!("chunks {:?}", body.chars().take(40).collect::<String>()), text)
}

/// A head after which the hidden request follows.
fn head(text: &str) -> Vector {
    refused(&format!("{:?}", text.chars().take(60).collect::<String>()), format!("{text}{HIDDEN}"))
}

pub fn vectors() -> Vec<Vector> {
    let mut all = lengths();
    all.extend(codings());
    all.extend(chunks());
    all.extend(heads());
    all.extend(single());
    all
}

fn lengths() -> Vec<Vector> {
    let both = [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
    ];
    let twice = [
        "Content-Length: 0\r\nContent-Length: 5",
        "Content-Length: 5\r\nContent-Length: 5",
        "Content-Length: 5\r\ncontent-length: 0",
    ];
    let odd = [
        "5, 5",
        "5,0",
        "+5",
        "-1",
        "0x5",
        "5e0",
        "5 5",
        "",
        "18446744073709551616",
        "99999999999999999999999",
        "5;",
        "5.0",
        "\u{b}5",
        "\"5\"",
        "5\u{a0}",
        "٥",
        "five",
    ];
    let odd = odd.iter().map(|value| framed(&format!("Content-Length: {value}")));
    both.iter().chain(&twice).map(|headers| framed(headers)).chain(odd).collect()
}

fn codings() -> Vec<Vector> {
    let odd = [
        "xchunked",
        "chunked, identity",
        "identity, chunked",
        "chunked, chunked",
        "gzip, chunked",
        "gzip",
        "chunked, gzip",
        "identity",
        "chunked;q=1",
        "\u{b}chunked",
        "\"chunked\"",
        "chunke",
        "chunked\u{0}",
        ", chunked",
        "chunked,",
        "",
    ];
    let mut all: Vec<Vector> =
        odd.iter().map(|value| framed(&format!("Transfer-Encoding: {value}"))).collect();
    all.extend(
        ["identity", "x", "chunked, x"]
            .map(|value| framed(&format!("Content-Length: 5\r\nTransfer-Encoding: {value}"))),
    );
    all.extend(
        [
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding : chunked",
            "Transfer-Encoding\t: chunked",
            "Content-Length : 5",
            "Content-Length\t: 5",
            " Transfer-Encoding: chunked",
            "X: a\r\n Transfer-Encoding: chunked",
            "X: a\r\n\tContent-Length: 5",
            "Transfer-Encoding:\r\n chunked",
            "Content-Length:\r\n 5",
            "X: a\rContent-Length: 5",
            "X: a\nContent-Length: 5\r\nTransfer-Encoding: chunked",
            "Content-Length: 5\nContent-Length: 0",
            "X: a\u{0}Content-Length: 5",
            "X\u{0}: a",
            "Content_Length: 5",
            "Transfer_Encoding: chunked",
            "Content-Length: 5\r\nTransfer_Encoding: chunked",
            "Tränsfer-Encoding: chunked",
            "Transfer-Encoding",
            ": chunked",
            "Transfer Encoding: chunked",
            "(Transfer-Encoding): chunked",
        ]
        .map(framed),
    );
    all.push(head("POST /api/v1/orchestrate HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"));
    all
}

fn chunks() -> Vec<Vector> {
    let all: Vec<Vector> = [
        "0x5\r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "5 5\r\nhello\r\n0\r\n\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
        "\r\nhello\r\n0\r\n\r\n",
        "g\r\nhello\r\n0\r\n\r\n",
        ";a=b\r\nhello\r\n0\r\n\r\n",
        "10000000000000005\r\nhello\r\n0\r\n\r\n",
        "FFFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5\rhello\r\n0\r\n\r\n",
        "5;a\nb\r\nhello\r\n0\r\n\r\n",
        "5;a\u{0}b\r\nhello\r\n0\r\n\r\n",
        "3\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello\r0\r\n\r\n",
        "5\r\nhello\r\n0\n\n",
    ]
    .map(chunked)
    .into();
    all
}

fn heads() -> Vec<Vector> {
    let long = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "a".repeat(200_000));
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: a\r\n".repeat(200));
    let mut all: Vec<Vector> = [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: user@a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a/smuggled\r\n\r\n",
        "GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET http://user@a/ HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 0\r\n\r\n",
        "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n",
        "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /  HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET\t/\tHTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1 HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.2\r\nHost: a\r\n\r\n",
        "GET / HTTP/2.0\r\nHost: a\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "GET / http/1.1\r\nHost: a\r\n\r\n",
        "GET /\r\n",
        "GET / HTTP/1.1\rHost: a\r\n\r\n",
        "GET / HTTP/1.1\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\nHost: a\n\n",
        "GET / HTTP/1.1\r\nHost: a\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\n",
        "GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n",
        "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: b\n c\r\n\r\n",
        "POST /api/v1/orchestrate HTTP/1.1\r\nHost: a\r\nContent-Length: 0\n\r\n",
        "POST /api/v1/orchestrate HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\n\r\n0\r\n\r\n",
        "POST /api/v1/orchestrate HTTP/1.1\r\nHost: a\r\nX: a\nContent-Length: 2\r\n\r\n{}",
        "POST /api/v1/orchestrate HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}GET / HTTP/1.1\nHost: a\r\n\r\n",
        "G\u{0}ET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "\u{feff}GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    ]
    .map(head)
    .into();
    all.push(head(&long));
    all.push(head(&many));
    all
}

/// What is one request beyond doubt.
fn single() -> Vec<Vector> {
    let n = HIDDEN.len();
    vec![
        one("as body", format!("{POST}Content-Length: {n}\r\n\r\n{HIDDEN}")),
        one("as body, zeros in front", format!("{POST}Content-Length: 000{n}\r\n\r\n{HIDDEN}")),
        one(
            "as body of GET",
            format!("GET /health/live HTTP/1.1\r\nHost: a\r\nContent-Length: {n}\r\n\r\n{HIDDEN}"),
        ),
        one(
            "as body of HEAD",
            format!("HEAD /health/live HTTP/1.1\r\nHost: a\r\nContent-Length: {n}\r\n\r\n{HIDDEN}"),
        ),
        one(
            "as body of DELETE",
            format!(
                "DELETE /health/live HTTP/1.1\r\nHost: a\r\nContent-Length: {n}\r\n\r\n{HIDDEN}"
            ),
        ),
        one(
            "length named by Connection",
            format!("{POST}Connection: content-length\r\nContent-Length: {n}\r\n\r\n{HIDDEN}"),
        ),
        one(
            "as chunk",
            format!("{POST}Transfer-Encoding: chunked\r\n\r\n{n:x}\r\n{HIDDEN}\r\n0\r\n\r\n"),
        ),
        one(
            "as chunk with extension",
            format!("{POST}Transfer-Encoding: chunked\r\n\r\n{n:x};a=b\r\n{HIDDEN}\r\n0\r\n\r\n"),
        ),
        one(
            "as chunk in mixed case",
            format!("{POST}tRANSFER-eNCODING: ChUnKeD\r\n\r\n{n:X}\r\n{HIDDEN}\r\n0\r\n\r\n"),
        ),
        one("as trailer", format!("{POST}Transfer-Encoding: chunked\r\n\r\n0\r\n{HIDDEN}")),
        one(
            "as trailer after a bare line feed",
            format!("{POST}Transfer-Encoding: chunked\r\n\r\n0\r\n\n{HIDDEN}"),
        ),
        one(
            "as chunk with a long extension",
            format!(
                "{POST}Transfer-Encoding: chunked\r\n\r\n{n:x};{}\r\n{HIDDEN}\r\n0\r\n\r\n",
                "a".repeat(200_000)
            ),
        ),
        one(
            "after close",
            format!("GET /health/live HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n{HIDDEN}"),
        ),
        one(
            "an offer of h2c is ignored",
            "GET /health/live HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n"
                .into(),
        ),
        one("after HTTP/1.0", format!("GET /health/live HTTP/1.0\r\n\r\n{HIDDEN}")),
        one("absolute form", "GET http://a/health/live HTTP/1.1\r\nHost: a\r\n\r\n".into()),
    ]
}
