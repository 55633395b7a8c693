//! Lines of a watch, one after the other, of bounded length.
use super::http::Stream;
use crate::subnet::embedded::wire::{LINE_LIMIT, Line};

/// A stream of bytes, cut at line ends.
pub struct Lines {
    stream: Stream,
    buffer: Vec<u8>,
    /// bytes of the buffer that have no line end in them
    searched: usize,
}

impl Lines {
    /// From the start.
    pub fn new(stream: Stream) -> Lines {
        Lines {
            stream,
            buffer: Vec::new(),
            searched: 0,
        }
    }

    /// The next line. May be dropped and called again: nothing is lost. Err: why there is none.
    pub async fn next(&mut self) -> Result<Line, String> {
        loop {
            let rest = &self.buffer[self.searched..];
            if let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=self.searched + end).collect();
                self.searched = 0;
                return go_compat::json::from_slice(&line)
                    .map_err(|error| format!("not a line of a watch: {error}"));
            }
            self.searched = self.buffer.len();
            if self.buffer.len() > LINE_LIMIT {
                return Err(format!("a line longer than {LINE_LIMIT} bytes"));
            }
            match self.stream.next().await? {
                Some(bytes) => self.buffer.extend_from_slice(&bytes),
                None => return Err("the server ended the watch".to_owned()),
            }
        }
    }
}
