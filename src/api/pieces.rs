//! Answers in pieces: actix copies what a body gives at once, and keeps it until it is read.

use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::Error;
use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::web::Bytes;

const PIECE_BYTES: usize = 16 * 1024;

/// What is left of an answer.
struct Pieces(Bytes);

/// `body`, in pieces where it is large.
pub(super) fn of(body: BoxBody) -> BoxBody {
    match body.size() {
        BodySize::Sized(bytes) if bytes > PIECE_BYTES as u64 => match body.try_into_bytes() {
            Ok(whole) => BoxBody::new(Pieces(whole)),
            Err(body) => body,
        },
        BodySize::Sized(_) | BodySize::None | BodySize::Stream => body,
    }
}

impl MessageBody for Pieces {
    type Error = Error;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.0.len() as u64)
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Error>>> {
        let next = self.0.len().min(PIECE_BYTES);
        Poll::Ready((next > 0).then(|| Ok(self.0.split_to(next))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[actix_web::test]
    async fn an_answer_of_any_length_comes_whole() {
        for length in [0, 1, PIECE_BYTES, PIECE_BYTES + 1, 5 * PIECE_BYTES, 100_003] {
            let whole: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
            let mut body = std::pin::pin!(of(BoxBody::new(whole.clone())));
            assert_eq!(body.size(), BodySize::Sized(length as u64));
            let mut told = Vec::new();
            while let Some(piece) = std::future::poll_fn(|cx| body.as_mut().poll_next(cx)).await {
                let piece = piece.unwrap();
                assert!(piece.len() <= PIECE_BYTES);
                told.extend_from_slice(&piece);
            }
            assert_eq!(told, whole);
        }
    }
}
