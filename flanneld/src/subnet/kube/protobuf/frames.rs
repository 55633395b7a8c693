//! The frames of a watch: 4 bytes with the length, big endian, and so many bytes.

use super::{DecodeError, LONGEST_OBJECT};
use bytes::{Buf, Bytes, BytesMut};

const PREFIX: usize = size_of::<u32>();

/// Splits a stream of bytes into frames. A frame that lies within one chunk is not copied.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    /// the beginning of a frame whose end has not arrived
    partial: BytesMut,
    chunk: Bytes,
}

impl Frames {
    /// Takes the next bytes, after [`Frames::next`] returned None for those before.
    pub(crate) fn push(&mut self, chunk: Bytes) {
        self.collect(self.chunk.len());
        self.chunk = chunk;
    }

    /// The next frame; None if its end has not arrived.
    pub(crate) fn next(&mut self) -> Result<Option<Bytes>, DecodeError> {
        if self.partial.is_empty() {
            let Some(length) = frame_length(&self.chunk)? else {
                self.collect(self.chunk.len());
                return Ok(None);
            };
            if self.chunk.len() >= PREFIX + length {
                self.chunk.advance(PREFIX);
                return Ok(Some(self.chunk.split_to(length)));
            }
        }
        self.collect(PREFIX);
        let Some(length) = frame_length(&self.partial)? else {
            return Ok(None);
        };
        self.collect(PREFIX + length);
        if self.partial.len() < PREFIX + length {
            return Ok(None);
        }
        let mut frame = std::mem::take(&mut self.partial).freeze();
        frame.advance(PREFIX);
        Ok(Some(frame))
    }

    /// True if the stream may end here.
    pub(crate) fn is_empty(&self) -> bool {
        self.partial.is_empty() && self.chunk.is_empty()
    }

    /// Moves bytes from the chunk to the partial frame, until that has `length` bytes.
    fn collect(&mut self, length: usize) {
        let missing = length.saturating_sub(self.partial.len());
        let available = missing.min(self.chunk.len());
        if available > 0 {
            self.partial.reserve(missing);
            self.partial
                .extend_from_slice(&self.chunk.split_to(available));
        }
    }
}

/// The length in a frame's prefix; None if the prefix is not whole.
fn frame_length(bytes: &[u8]) -> Result<Option<usize>, DecodeError> {
    let Some(prefix) = bytes.first_chunk() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes(*prefix);
    match usize::try_from(length) {
        Ok(length) if length <= LONGEST_OBJECT => Ok(Some(length)),
        _ => Err(DecodeError::TooLong(length.into())),
    }
}
