//! Heads that a server in front could read otherwise than actix does. Each is refused and its
//! connection closed, so that nothing behind it is taken for another request.

use actix_web::dev::ServiceRequest;
use actix_web::http::Method;
use actix_web::http::header::{HOST, HeaderValue, UPGRADE};

use crate::domain::error::{Code, Error};

/// Names that a gateway may write with a hyphen before it hands them on.
const FRAMING: [&str; 2] = ["content_length", "transfer_encoding"];

/// Refuses doubtful heads.
pub(super) fn check(request: &ServiceRequest) -> Result<(), Error> {
    let headers = request.headers();
    let refuse = |why: &str| Err(Error::new(Code::InvalidRequest, why));
    if FRAMING.iter().any(|name| headers.contains_key(*name)) {
        return refuse("a header that frames the body is spelled with an underscore; use a hyphen");
    }
    // actix reads all that follows these as one stream. Other upgrades are ignored, as HTTP allows:
    // some clients offer h2c with every first request.
    let websocket = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"websocket");
    if request.method() == Method::CONNECT || headers.get_all(UPGRADE).any(websocket) {
        return refuse("no tunnel and no websocket is opened here; send a plain request");
    }
    let host = headers.get(HOST).map(|host| host.as_bytes());
    if host.is_some_and(|host| !host.iter().all(host_byte)) {
        return refuse("the header Host must be a name or an address, with or without a port");
    }
    let authority = request.uri().authority().map(|authority| authority.as_str().as_bytes());
    match (authority, host) {
        (Some(authority), Some(host)) if !authority.eq_ignore_ascii_case(host) => {
            refuse("the address and the header Host name different hosts; send one of them")
        }
        _ => Ok(()),
    }
}

fn host_byte(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._:[]".contains(byte)
}
