//! Messages of VICI, charon's configuration interface (strongSwan,
//! src/libcharon/plugins/vici/README.md): named values, lists and sections, in packets with a
//! length. What charon sends is read with limits.

use std::fmt;

/// The longest packet that charon sends or takes (VICI_MESSAGE_SIZE_MAX), in bytes.
pub(super) const MAX_PACKET: usize = 512 * 1024;
/// Sections inside each other. Charon's own messages have four.
const MAX_DEPTH: usize = 16;

const SECTION_START: u8 = 1;
const SECTION_END: u8 = 2;
const KEY_VALUE: u8 = 3;
const LIST_START: u8 = 4;
const LIST_ITEM: u8 = 5;
const LIST_END: u8 = 6;

const CMD_REQUEST: u8 = 0;
const CMD_RESPONSE: u8 = 1;
const CMD_UNKNOWN: u8 = 2;
const EVENT_CONFIRM: u8 = 5;
const EVENT_UNKNOWN: u8 = 6;
const EVENT: u8 = 7;

/// A message that is written. It may hold the PSK, so it is never shown.
#[derive(Default)]
pub(super) struct Writer(Vec<u8>);

impl Writer {
    /// A name and its value.
    pub(super) fn value(&mut self, name: &str, value: &[u8]) -> Result<(), TooLong> {
        self.named(KEY_VALUE, name)?;
        self.bytes(value)
    }

    /// A name and its values.
    pub(super) fn list(&mut self, name: &str, items: &[String]) -> Result<(), TooLong> {
        self.named(LIST_START, name)?;
        for item in items {
            self.0.push(LIST_ITEM);
            self.bytes(item.as_bytes())?;
        }
        self.0.push(LIST_END);
        Ok(())
    }

    /// A name and what `content` writes.
    pub(super) fn section(
        &mut self,
        name: &str,
        content: impl FnOnce(&mut Writer) -> Result<(), TooLong>,
    ) -> Result<(), TooLong> {
        self.named(SECTION_START, name)?;
        content(self)?;
        self.0.push(SECTION_END);
        Ok(())
    }

    fn named(&mut self, kind: u8, name: &str) -> Result<(), TooLong> {
        self.0.push(kind);
        self.0.push(name.len().try_into().map_err(|_| TooLong)?);
        self.0.extend(name.as_bytes());
        Ok(())
    }

    fn bytes(&mut self, value: &[u8]) -> Result<(), TooLong> {
        let length = u16::try_from(value.len()).map_err(|_| TooLong)?;
        self.0.extend(length.to_be_bytes());
        self.0.extend(value);
        Ok(())
    }

    /// The packet of a command with this message.
    pub(super) fn request(self, command: &str) -> Result<Vec<u8>, TooLong> {
        let mut packet = Writer(vec![0; 4]);
        packet.named(CMD_REQUEST, command)?;
        packet.0.extend(self.0);
        let length = packet.0.len() - 4;
        if length > MAX_PACKET {
            return Err(TooLong);
        }
        let length = u32::try_from(length).map_err(|_| TooLong)?;
        let mut packet = packet.0;
        if let Some(header) = packet.first_chunk_mut() {
            *header = length.to_be_bytes();
        }
        Ok(packet)
    }
}

/// A name has more than 255 bytes, a value more than 65,535, or a message more than
/// [`MAX_PACKET`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a name or a value is too long for charon")]
pub(super) struct TooLong;

/// What charon sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Packet {
    /// The answer to a command.
    Response(Section),
    /// Charon has no such command.
    UnknownCommand,
    /// An answer about an event, or an event: nothing that this client asks for.
    Other,
}

/// Values by name, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Section(Vec<(String, Value)>);

/// What is under a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Text(String),
    List(Vec<String>),
    Section(Section),
}

impl Section {
    fn get(&self, name: &str) -> Option<&Value> {
        let found = self.0.iter().find(|(found, _)| found == name);
        found.map(|(_, value)| value)
    }

    /// A text; None if the name is absent or of another kind.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        match self.get(name)? {
            Value::Text(text) => Some(text),
            Value::List(_) | Value::Section(_) => None,
        }
    }

    /// A list; None if the name is absent or of another kind.
    pub(super) fn list(&self, name: &str) -> Option<&[String]> {
        match self.get(name)? {
            Value::List(items) => Some(items),
            Value::Text(_) | Value::Section(_) => None,
        }
    }
}

/// Why a packet of charon is unreadable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    #[error("it ends inside an element")]
    Truncated,
    #[error("it has an element of the unknown type {0}")]
    UnknownElement(u8),
    #[error("it has a packet of the unknown type {0}")]
    UnknownPacket(u8),
    #[error("a section or a list has no end, or an end has no beginning")]
    Unbalanced,
    #[error("its sections are too deep")]
    TooDeep,
}

/// Reads a packet, without its length.
pub(super) fn read(packet: &[u8]) -> Result<Packet, Malformed> {
    let mut reader = Reader(packet);
    match reader.byte()? {
        CMD_RESPONSE => {
            let section = reader.section(0)?;
            Ok(Packet::Response(section))
        }
        CMD_UNKNOWN => Ok(Packet::UnknownCommand),
        EVENT_CONFIRM | EVENT_UNKNOWN | EVENT => Ok(Packet::Other),
        other => Err(Malformed::UnknownPacket(other)),
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// The content of a section, up to its end; at depth 0 up to the end of the packet.
    fn section(&mut self, depth: usize) -> Result<Section, Malformed> {
        if depth > MAX_DEPTH {
            return Err(Malformed::TooDeep);
        }
        let mut values = Vec::new();
        loop {
            if self.0.is_empty() {
                return match depth {
                    0 => Ok(Section(values)),
                    _ => Err(Malformed::Unbalanced),
                };
            }
            let kind = self.byte()?;
            let value = match kind {
                SECTION_END if depth > 0 => return Ok(Section(values)),
                SECTION_END | LIST_ITEM | LIST_END => return Err(Malformed::Unbalanced),
                SECTION_START => (self.name()?, Value::Section(self.section(depth + 1)?)),
                KEY_VALUE => (self.name()?, Value::Text(self.text()?)),
                LIST_START => (self.name()?, Value::List(self.items()?)),
                other => return Err(Malformed::UnknownElement(other)),
            };
            values.push(value);
        }
    }

    fn items(&mut self) -> Result<Vec<String>, Malformed> {
        let mut items = Vec::new();
        loop {
            match self.byte().map_err(|_| Malformed::Unbalanced)? {
                LIST_ITEM => items.push(self.text()?),
                LIST_END => return Ok(items),
                _ => return Err(Malformed::Unbalanced),
            }
        }
    }

    fn name(&mut self) -> Result<String, Malformed> {
        let length = self.byte()?.into();
        self.take(length).map(lossy)
    }

    fn text(&mut self) -> Result<String, Malformed> {
        let (length, rest) = self.0.split_first_chunk().ok_or(Malformed::Truncated)?;
        self.0 = rest;
        self.take(u16::from_be_bytes(*length).into()).map(lossy)
    }

    fn byte(&mut self) -> Result<u8, Malformed> {
        let (byte, rest) = self.0.split_first().ok_or(Malformed::Truncated)?;
        self.0 = rest;
        Ok(*byte)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self
            .0
            .split_at_checked(length)
            .ok_or(Malformed::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a message of {} bytes", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The example of strongSwan's description of the format.
    const EXAMPLE: &[u8] = b"\x03\x04key1\x00\x06value1\
        \x01\x08section1\
        \x01\x0bsub-section\
        \x03\x04key2\x00\x06value2\
        \x02\
        \x04\x05list1\
        \x05\x00\x05item1\
        \x05\x00\x05item2\
        \x06\
        \x02";

    fn response(message: &[u8]) -> Result<Packet, Malformed> {
        read(&[&[CMD_RESPONSE][..], message].concat())
    }

    #[test]
    fn example_of_the_format_is_written_and_read() {
        let mut writer = Writer::default();
        writer.value("key1", b"value1").unwrap();
        let written = writer.section("section1", |section| {
            section.section("sub-section", |sub| sub.value("key2", b"value2"))?;
            section.list("list1", &["item1".to_owned(), "item2".to_owned()])
        });
        written.unwrap();
        assert_eq!(writer.0, EXAMPLE);
        let Ok(Packet::Response(section)) = response(EXAMPLE) else {
            panic!("no response");
        };
        assert_eq!(section.text("key1"), Some("value1"));
        assert_eq!(section.list("key1"), None);
        let Some(Value::Section(inner)) = section.get("section1") else {
            panic!("no section");
        };
        let items = ["item1".to_owned(), "item2".to_owned()];
        assert_eq!(inner.list("list1"), Some(&items[..]));
        assert_eq!((inner.text("list1"), inner.text("absent")), (None, None));
    }

    #[test]
    fn request_has_length_type_and_name() {
        let mut writer = Writer::default();
        writer.value("a", b"b").unwrap();
        let expected = [&[0, 0, 0, 15][..], b"\x00\x07version\x03\x01a\x00\x01b"].concat();
        assert_eq!(writer.request("version").unwrap(), expected);
        let mut long = Writer::default();
        assert_eq!(long.value(&"x".repeat(256), b""), Err(TooLong));
        assert_eq!(Writer::default().value("x", &[0; 65_536]), Err(TooLong));
        let mut large = Writer::default();
        for _ in 0..9 {
            large.value("x", &[0; 65_535]).unwrap();
        }
        assert_eq!(large.request("load-conn"), Err(TooLong));
    }

    #[test]
    fn message_is_not_shown() {
        let mut writer = Writer::default();
        writer.value("data", b"secret").unwrap();
        let shown = format!("{writer:?}");
        assert!(
            !shown.contains("secret") && !shown.contains("115"),
            "{shown}"
        );
    }

    #[test]
    fn broken_messages_are_errors() {
        for length in 1..EXAMPLE.len() {
            // an element ends behind these
            let whole = [14].contains(&length);
            assert_eq!(response(&EXAMPLE[..length]).is_ok(), whole, "{length}");
        }
        for (message, reason) in [
            (&b"\x02"[..], Malformed::Unbalanced),
            (b"\x06", Malformed::Unbalanced),
            (b"\x05\x00\x01a", Malformed::Unbalanced),
            (b"\x04\x01l\x03\x01a\x00\x00", Malformed::Unbalanced),
            (b"\x09", Malformed::UnknownElement(9)),
        ] {
            assert_eq!(response(message), Err(reason), "{message:?}");
        }
        let deep = b"\x01\x01s".repeat(MAX_DEPTH + 1);
        assert_eq!(response(&deep), Err(Malformed::TooDeep));
        assert_eq!(read(&[]), Err(Malformed::Truncated));
        assert_eq!(read(&[CMD_UNKNOWN]), Ok(Packet::UnknownCommand));
        assert_eq!(read(&[EVENT, 1]), Ok(Packet::Other));
        assert_eq!(read(&[9]), Err(Malformed::UnknownPacket(9)));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            drop(read(&bytes));
        }

        #[test]
        fn what_is_written_is_read(
            name in "[a-z0-9./:-]{0,80}",
            value in "[ -~]{0,200}",
            items in prop::collection::vec("[ -~]{0,50}", 0..5),
        ) {
            let mut writer = Writer::default();
            writer.value(&name, value.as_bytes()).unwrap();
            writer.list("l", &items).unwrap();
            let expected = Section(vec![
                (name, Value::Text(value)),
                ("l".to_owned(), Value::List(items)),
            ]);
            prop_assert_eq!(response(&writer.0), Ok(Packet::Response(expected)));
        }
    }
}
