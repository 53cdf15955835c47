//! The way into the readers of replies for `fuzz/`.

use super::excerpt::Texts;
use super::{Judged, Work, protocol};
use crate::catalog::Detector;
use crate::domain::content::Piece;
use crate::domain::request::Request;

/// What `reply`, the body of a 2xx, says about `pieces` of `request`; else why it is no answer.
pub fn read_reply(
    detector: &Detector,
    request: &Request,
    pieces: &[Piece],
    reply: &[u8],
) -> Result<Judged, String> {
    let work = Work { request, caller: "system", pieces };
    let texts = Texts::new(&work);
    let excerpts = (0..pieces.len()).flat_map(|piece| texts.excerpts(piece, detector)).collect();
    let batches = protocol::batches(detector, request, excerpts);
    let batch = batches.first().ok_or("nothing is asked")?;
    protocol::read(detector, &texts, batch, reply).map_err(|bad| bad.0)
}
