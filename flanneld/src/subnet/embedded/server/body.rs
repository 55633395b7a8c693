//! Bodies of answers: whole ones, and ones that are made while they are read.
use super::STALL;
use http_body_util::{Either, Full};
use hyper::body::{Body, Bytes, Frame};
use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::{
    sync::{Notify, mpsc},
    time::timeout,
};

/// Either kind.
pub type AnyBody = Either<Full<Bytes>, Pieces>;

/// A body whose pieces come from a [`Writer`].
pub struct Pieces(mpsc::Receiver<Bytes>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0
            .poll_recv(context)
            .map(|piece| piece.map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// Writes pieces; holds one at most, so that a slow reader costs no memory.
pub struct Writer {
    pieces: mpsc::Sender<Bytes>,
    stalled: Arc<Notify>,
}

/// The reader is gone, or too slow to be kept.
pub struct Gone;

/// A body and what fills it; `stalled` is told if the reader takes nothing for [`STALL`].
pub fn pieces(stalled: Arc<Notify>) -> (Writer, AnyBody) {
    let (sender, receiver) = mpsc::channel(1);
    let writer = Writer {
        pieces: sender,
        stalled,
    };
    (writer, Either::Right(Pieces(receiver)))
}

/// A whole body.
pub fn whole(text: String) -> AnyBody {
    Either::Left(Full::from(text))
}

impl Writer {
    /// Waits until the piece before has been taken.
    pub async fn send(&self, piece: String) -> Result<(), Gone> {
        match timeout(STALL, self.pieces.send(piece.into())).await {
            Ok(sent) => sent.map_err(|_| Gone),
            Err(_) => {
                self.stalled.notify_one();
                Err(Gone)
            }
        }
    }

    /// Returns when the reader is gone.
    pub async fn closed(&self) {
        self.pieces.closed().await;
    }
}
