//! One HTTP/1 call with bounded reply, over a connection pool per worker thread and runtime.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, ETAG, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Incoming};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::runtime::{Handle, Id};

use super::connect::{DialError, Guarded, Resolve, System, find};
use super::guard::{Forbidden, Guard};

/// What to send.
#[derive(Debug, Clone)]
pub struct Call {
    /// The method.
    pub method: Method,
    /// The full address.
    pub uri: Uri,
    /// Headers beside Host and Content-Length.
    pub headers: HeaderMap,
    /// The body; shared, not copied.
    pub body: Bytes,
    /// Longest reply body in bytes.
    pub body_max: usize,
}

/// What came back. The body of anything but a 2xx is not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// How long the peer wants to be left alone.
    pub retry_after: Option<Duration>,
    /// `Content-Type`, if it is text.
    pub content_type: Option<String>,
    /// `ETag`, as it was sent.
    pub etag: Option<HeaderValue>,
    /// At most `body_max` bytes.
    pub body: Bytes,
}

/// No reply.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The guard refuses the address; nothing was sent.
    #[error("the address is forbidden")]
    Forbidden(#[source] Forbidden),
    /// Name resolution or TCP.
    #[error("no connection was made")]
    Connect(#[source] Cause),
    /// The TLS handshake.
    #[error("the TLS handshake failed")]
    Tls(#[source] Cause),
    /// The connection broke before the reply was complete.
    #[error("the connection broke before the reply was complete")]
    Broken(#[source] Cause),
    /// The reply is no HTTP/1 within the limits on headers, or is compressed.
    #[error("the reply is no plain HTTP/1: compressed, or its head is wrong or too large")]
    Protocol(#[source] Cause),
    /// The body exceeds `body_max`.
    #[error("the reply is too large")]
    TooLarge,
}

type Cause = Box<dyn std::error::Error + Send + Sync>;
type Pool = legacy::Client<HttpsConnector<Guarded>, Full<Bytes>>;

const HEADERS_MAX: usize = 100;
const HEAD_BYTES_MAX: usize = 64 * 1024;
const IDLE_PER_HOST_MAX: usize = 64;
const IDLE_MAX: Duration = Duration::from_secs(30);

/// The client. Every worker thread keeps its own connections, so workers never contend.
pub struct Client {
    id: Arc<u64>,
    connector: HttpsConnector<Guarded>,
}

struct Held {
    owner: Weak<u64>,
    runtime: Id,
    pool: Pool,
}

thread_local! {
    static POOLS: RefCell<Vec<Held>> = const { RefCell::new(Vec::new()) };
}

impl Client {
    /// A client that connects only where `guard` allows.
    pub fn new(guard: Arc<Guard>) -> Self {
        Self::with_resolver(guard, Arc::new(System))
    }

    /// The same with a resolver of the caller's choice.
    pub fn with_resolver(guard: Arc<Guard>, resolver: Arc<dyn Resolve>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let connector = HttpsConnectorBuilder::new()
            .with_webpki_roots()
            .https_or_http()
            .enable_http1()
            .wrap_connector(Guarded::new(guard, resolver));
        Self { id: Arc::new(NEXT.fetch_add(1, Ordering::Relaxed)), connector }
    }

    /// Sends `call` and reads the whole reply. Needs a tokio runtime.
    ///
    /// Dropping the future closes the connection.
    pub async fn send(&self, call: Call) -> Result<Reply, SendError> {
        let mut request = Request::new(Full::new(call.body));
        *request.method_mut() = call.method;
        *request.uri_mut() = call.uri;
        *request.headers_mut() = call.headers;
        let response = self.pool().request(request).await.map_err(request_error)?;
        read(response, call.body_max).await
    }

    /// This thread's connections under the current runtime.
    fn pool(&self) -> Pool {
        let runtime = Handle::current().id();
        POOLS.with_borrow_mut(|pools| {
            let own = |held: &&Held| {
                held.runtime == runtime && std::ptr::eq(held.owner.as_ptr(), &raw const *self.id)
            };
            if let Some(held) = pools.iter().find(own) {
                return held.pool.clone();
            }
            pools.retain(|held| held.owner.strong_count() > 0);
            let pool = self.build();
            let owner = Arc::downgrade(&self.id);
            pools.push(Held { owner, runtime, pool: pool.clone() });
            pool
        })
    }

    fn build(&self) -> Pool {
        legacy::Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_MAX)
            .pool_max_idle_per_host(IDLE_PER_HOST_MAX)
            .http1_max_headers(HEADERS_MAX)
            .http1_max_buf_size(HEAD_BYTES_MAX)
            .build(self.connector.clone())
    }
}

async fn read(response: Response<Incoming>, body_max: usize) -> Result<Reply, SendError> {
    let (head, mut incoming) = response.into_parts();
    let mut reply = Reply {
        status: head.status,
        retry_after: head.headers.get(RETRY_AFTER).and_then(|raw| retry_after(raw.to_str().ok()?)),
        content_type: head
            .headers
            .get(CONTENT_TYPE)
            .and_then(|raw| raw.to_str().ok().map(str::to_owned)),
        etag: head.headers.get(ETAG).cloned(),
        body: Bytes::new(),
    };
    if !head.status.is_success() {
        return Ok(reply);
    }
    if head.headers.get(CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
        return Err(SendError::Protocol("the reply is compressed".into()));
    }
    if incoming.size_hint().lower() > body_max as u64 {
        return Err(SendError::TooLarge);
    }
    let mut body = BytesMut::new();
    while let Some(frame) = incoming.frame().await {
        let Ok(data) = frame.map_err(reply_error)?.into_data() else { continue };
        if body.len() + data.len() > body_max {
            return Err(SendError::TooLarge);
        }
        if body.is_empty() && incoming.is_end_stream() {
            reply.body = data;
            return Ok(reply);
        }
        body.extend_from_slice(&data);
    }
    reply.body = body.freeze();
    Ok(reply)
}

fn request_error(error: legacy::Error) -> SendError {
    if let Some(dial) = find::<DialError>(&error) {
        return match dial {
            DialError::Forbidden(why) => SendError::Forbidden(*why),
            DialError::Connect(_) => SendError::Connect(error.into()),
        };
    }
    if error.is_connect() {
        return SendError::Tls(error.into());
    }
    match find::<hyper::Error>(&error) {
        Some(inner) if inner.is_parse() => SendError::Protocol(error.into()),
        Some(_) | None => SendError::Broken(error.into()),
    }
}

fn reply_error(error: hyper::Error) -> SendError {
    // A chunk header that is none arrives as an input/output error of kind `InvalidInput`.
    let garbled = find::<std::io::Error>(&error).is_some_and(|inner| {
        matches!(inner.kind(), std::io::ErrorKind::InvalidInput | std::io::ErrorKind::InvalidData)
    });
    if garbled || error.is_parse() {
        SendError::Protocol(error.into())
    } else {
        SendError::Broken(error.into())
    }
}

/// `Retry-After` as seconds or as a date (RFC 9110 §10.2.3).
fn retry_after(raw: &str) -> Option<Duration> {
    if let Ok(seconds) = raw.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(raw.trim()).ok()?;
    Some(Duration::try_from(until.duration_since(jiff::Timestamp::now())).unwrap_or_default())
}
