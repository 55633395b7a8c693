//! A list of nodes, decoded while it arrives: of a page of megabytes, one node is in memory.

use super::{
    DecodeError, LONGEST_OBJECT, MAGIC, NodeObject,
    messages::{ListMeta, TypeMeta},
    text,
};
use bytes::{Buf, Bytes, BytesMut};
use prost::Message;

// fields of runtime.Unknown
const TYPE_META: u64 = 1;
const RAW: u64 = 2;
// fields of a list
const METADATA: u64 = 1;
const ITEMS: u64 = 2;

/// A part of a list.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ListItem {
    Metadata {
        resource_version: String,
        /// For the next page; empty on the last one.
        continue_token: String,
    },
    Node(NodeObject),
}

/// Decodes a NodeList.
#[derive(Debug, Default)]
pub(crate) struct ListReader {
    buffer: BytesMut,
    /// bytes of the answer that were decoded
    consumed: u64,
    place: Place,
}

/// Where the reader is.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
enum Place {
    #[default]
    Start,
    Envelope,
    /// In the list, which ends after so many bytes of the answer.
    List {
        end: u64,
    },
    /// In the envelope, after the list.
    End,
}

/// The start of a field.
struct Field {
    number: u64,
    /// The bytes of tag and length.
    header: usize,
    /// The bytes of the value.
    length: u64,
}

impl ListReader {
    /// Takes the next bytes.
    pub(crate) fn push(&mut self, chunk: &[u8]) {
        self.buffer.extend_from_slice(chunk);
    }

    /// The next part; None if its end has not arrived.
    pub(crate) fn next(&mut self) -> Result<Option<ListItem>, DecodeError> {
        loop {
            if self.place == (Place::List { end: self.consumed }) {
                self.place = Place::End;
            }
            if self.place == Place::Start {
                if self.buffer.len() < MAGIC.len() {
                    return Ok(None);
                }
                if self.take(MAGIC.len()) != MAGIC {
                    return Err(DecodeError::Magic);
                }
                self.place = Place::Envelope;
            }
            let Some(field) = Field::read(&self.buffer)? else {
                return Ok(None);
            };
            if let (Place::Envelope, RAW) = (self.place, field.number) {
                self.take(field.header);
                let end = self.consumed.saturating_add(field.length);
                self.place = Place::List { end };
                continue;
            }
            let Some(value) = self.value(&field)? else {
                return Ok(None);
            };
            if let Some(item) = self.item(field.number, value)? {
                return Ok(Some(item));
            }
        }
    }

    /// To be asked when the answer has ended: was it whole?
    pub(crate) fn end(&self) -> Result<(), DecodeError> {
        match self.place {
            Place::End if self.buffer.is_empty() => Ok(()),
            _ => Err(DecodeError::Truncated(
                self.consumed + self.buffer.len() as u64,
            )),
        }
    }

    /// The value of a field, without its header; None if its end has not arrived.
    fn value(&mut self, field: &Field) -> Result<Option<Bytes>, DecodeError> {
        let length = match usize::try_from(field.length) {
            Ok(length) if length <= LONGEST_OBJECT => length,
            _ => return Err(DecodeError::TooLong(field.length)),
        };
        let whole = field.header + length;
        if let Place::List { end } = self.place
            && self.consumed + whole as u64 > end
        {
            return Err(DecodeError::Truncated(end));
        }
        if self.buffer.len() < whole {
            self.buffer.reserve(whole - self.buffer.len());
            return Ok(None);
        }
        self.take(field.header);
        Ok(Some(self.take(length)))
    }

    fn item(&self, field: u64, value: Bytes) -> Result<Option<ListItem>, DecodeError> {
        match (self.place, field) {
            (Place::Envelope, TYPE_META) => {
                let kind = TypeMeta::decode(value)?.kind;
                match kind == "NodeList" {
                    true => Ok(None),
                    false => Err(DecodeError::Kind {
                        found: text(&kind),
                        expected: "NodeList",
                    }),
                }
            }
            (Place::List { .. }, METADATA) => {
                let metadata = ListMeta::decode(value)?;
                Ok(Some(ListItem::Metadata {
                    resource_version: text(&metadata.resource_version),
                    continue_token: text(&metadata.continue_token),
                }))
            }
            (Place::List { .. }, ITEMS) => Ok(Some(ListItem::Node(NodeObject::decode(value)?))),
            _ => Ok(None),
        }
    }

    fn take(&mut self, length: usize) -> Bytes {
        self.consumed += length as u64;
        self.buffer.split_to(length).freeze()
    }
}

impl Field {
    /// Reads tag and length; None if they have not arrived.
    fn read(mut bytes: &[u8]) -> Result<Option<Field>, DecodeError> {
        let before = bytes.len();
        let Some(tag) = varint(&mut bytes)? else {
            return Ok(None);
        };
        let length = match tag & 7 {
            0 => {
                let mut value = bytes;
                varint(&mut value)?.map(|_| (bytes.len() - value.len()) as u64)
            }
            1 => Some(8),
            2 => varint(&mut bytes)?,
            5 => Some(4),
            _ => return Err(DecodeError::FieldType),
        };
        Ok(length.map(|length| Field {
            number: tag >> 3,
            header: before - bytes.len(),
            length,
        }))
    }
}

/// Takes a varint off the bytes; None if its end has not arrived.
fn varint(bytes: &mut &[u8]) -> Result<Option<u64>, DecodeError> {
    let mut value = 0;
    for (index, byte) in bytes.iter().enumerate() {
        let bits = u64::from(byte & 0x7f);
        let shift = 7 * index;
        if shift > 63 || shift == 63 && bits > 1 {
            return Err(DecodeError::Number);
        }
        value |= bits << shift;
        if byte & 0x80 == 0 {
            bytes.advance(index + 1);
            return Ok(Some(value));
        }
    }
    Ok(None)
}
