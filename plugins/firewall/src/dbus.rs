//! Messages of D-Bus (dbus.freedesktop.org/doc/dbus-specification.html, "Message Protocol"), as far as a few calls with strings
//! as arguments need them.

/// No answer that is looked at here is longer, in bytes.
const LONGEST: usize = 1 << 20;
/// Byte order, type, flags, version, length of the body, serial, length of the header fields.
pub(crate) const HEAD: usize = 16;

/// A method call.
pub(crate) struct Call<'a> {
    pub(crate) destination: &'a str,
    pub(crate) path: &'a str,
    pub(crate) interface: &'a str,
    pub(crate) member: &'a str,
    pub(crate) args: &'a [&'a str],
}

/// What a bus sends.
#[derive(Debug, PartialEq)]
pub(crate) enum Message {
    /// METHOD_RETURN
    Return {
        reply_to: u32,
        /// the first value, if it is a boolean
        boolean: Option<bool>,
    },
    /// ERROR
    Error {
        reply_to: u32,
        name: String,
        /// the first value, if it is a string
        text: String,
    },
    /// signals and calls, which are nobody's answer
    Other,
}

/// The bytes are no message.
#[derive(Debug, PartialEq, thiserror::Error)]
#[error("not a D-Bus message: {0}")]
pub(crate) struct Malformed(&'static str);

impl Call<'_> {
    /// Little-endian.
    pub(crate) fn encode(&self, serial: u32) -> Vec<u8> {
        let mut body = Vec::new();
        for arg in self.args {
            put_string(&mut body, arg);
        }
        let mut fields = Vec::new();
        for (code, kind, value) in [
            (1, b'o', self.path),
            (2, b's', self.interface),
            (3, b's', self.member),
            (6, b's', self.destination),
        ] {
            align(&mut fields, 8);
            fields.extend([code, 1, kind, 0]);
            put_string(&mut fields, value);
        }
        if !self.args.is_empty() {
            align(&mut fields, 8);
            let signature = vec![b's'; self.args.len()];
            fields.extend([8, 1, b'g', 0, signature.len() as u8]);
            fields.extend(signature);
            fields.push(0);
        }
        let mut message = vec![b'l', 1, 0, 1];
        message.extend((body.len() as u32).to_le_bytes());
        message.extend(serial.to_le_bytes());
        message.extend((fields.len() as u32).to_le_bytes());
        message.extend(fields);
        align(&mut message, 8);
        message.extend(body);
        message
    }
}

fn align(bytes: &mut Vec<u8>, to: usize) {
    bytes.resize(bytes.len().next_multiple_of(to), 0);
}

fn put_string(bytes: &mut Vec<u8>, text: &str) {
    align(bytes, 4);
    bytes.extend((text.len() as u32).to_le_bytes());
    bytes.extend(text.as_bytes());
    bytes.push(0);
}

/// The length of the whole message that begins with these bytes.
pub(crate) fn length(head: &[u8; HEAD]) -> Result<usize, Malformed> {
    let mut reader = Reader::new(head)?;
    reader.at = 4;
    let body = reader.u32()? as usize;
    reader.at = 12;
    let fields = reader.u32()? as usize;
    let header = (HEAD + fields.min(LONGEST)).next_multiple_of(8);
    match header + body.min(LONGEST) {
        length if fields < LONGEST && body < LONGEST => Ok(length),
        _ => Err(Malformed("longer than any answer")),
    }
}

/// A whole message.
pub(crate) fn decode(bytes: &[u8]) -> Result<Message, Malformed> {
    let mut reader = Reader::new(bytes)?;
    let kind = bytes.get(1).copied().unwrap_or_default();
    reader.at = 12;
    let end = HEAD + reader.u32()? as usize;
    let (mut reply_to, mut name, mut signature) = (0, String::new(), String::new());
    while reader.at < end {
        reader.align(8);
        let code = reader.u8()?;
        match (code, reader.signature()?.as_str()) {
            (5, "u") => reply_to = reader.u32()?,
            (4, "s") => name = reader.string()?,
            (8, "g") => signature = reader.signature()?,
            (_, "s" | "o") => drop(reader.string()?),
            (_, "g") => drop(reader.signature()?),
            (_, "u") => drop(reader.u32()?),
            _ => return Err(Malformed("header field of an unknown type")),
        }
    }
    reader.align(8);
    Ok(match kind {
        2 => Message::Return {
            reply_to,
            boolean: match signature.starts_with('b') {
                true => Some(reader.u32()? != 0),
                false => None,
            },
        },
        3 => Message::Error {
            reply_to,
            name,
            text: match signature.starts_with('s') {
                true => reader.string()?,
                false => String::new(),
            },
        },
        _ => Message::Other,
    })
}

/// Reads values of either byte order, aligned from the message's start.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    little: bool,
}

impl<'a> Reader<'a> {
    fn new(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let little = match bytes.first() {
            Some(b'l') => true,
            Some(b'B') => false,
            _ => return Err(Malformed("no byte order")),
        };
        Ok(Reader {
            bytes,
            at: 0,
            little,
        })
    }

    fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let end = self.at.checked_add(length).ok_or(Malformed("too long"))?;
        let taken = self.bytes.get(self.at..end).ok_or(Malformed("too short"))?;
        self.at = end;
        Ok(taken)
    }

    fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(self.take(1)?.first().copied().unwrap_or_default())
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        self.align(4);
        let four = *self.take(4)?.first_chunk().ok_or(Malformed("too short"))?;
        Ok(if self.little {
            u32::from_le_bytes(four)
        } else {
            u32::from_be_bytes(four)
        })
    }

    fn string(&mut self) -> Result<String, Malformed> {
        let length = self.u32()? as usize;
        self.text(length)
    }

    fn signature(&mut self) -> Result<String, Malformed> {
        let length = self.u8()?.into();
        self.text(length)
    }

    fn text(&mut self, length: usize) -> Result<String, Malformed> {
        let text = String::from_utf8_lossy(self.take(length)?).into_owned();
        // the NUL behind it
        self.take(1)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_call_is_what_other_libraries_send() {
        let call = Call {
            destination: "org.freedesktop.DBus",
            path: "/org/freedesktop/DBus",
            interface: "org.freedesktop.DBus",
            member: "Hello",
            args: &[],
        };
        // the Hello of dbus-send, as strace shows it, with the fields in this order
        let expected = [
            &b"l\x01\0\x01\0\0\0\0\x01\0\0\0\x6e\0\0\0"[..],
            b"\x01\x01o\0\x15\0\0\0/org/freedesktop/DBus\0\0\0",
            b"\x02\x01s\0\x14\0\0\0org.freedesktop.DBus\0\0\0\0",
            b"\x03\x01s\0\x05\0\0\0Hello\0\0\0",
            b"\x06\x01s\0\x14\0\0\0org.freedesktop.DBus\0\0\0\0",
        ]
        .concat();
        let bytes = call.encode(1);
        assert_eq!(bytes[16..], expected[16..]);
        assert_eq!(bytes.len() % 8, 0);
        assert_eq!(length(bytes.first_chunk().unwrap()), Ok(bytes.len()));
        assert_eq!(decode(&bytes), Ok(Message::Other));
    }

    /// An answer as a bus of the other byte order would send it.
    fn answer(kind: u8, signature: &str, body: &[u8], error: Option<&str>) -> Vec<u8> {
        let mut fields = vec![5, 1, b'u', 0, 0, 0, 0, 7];
        if let Some(name) = error {
            fields.extend([4, 1, b's', 0]);
            fields.extend((name.len() as u32).to_be_bytes());
            fields.extend(name.as_bytes());
            fields.push(0);
            align(&mut fields, 8);
        }
        fields.extend([8, 1, b'g', 0, signature.len() as u8]);
        fields.extend(signature.as_bytes());
        fields.push(0);
        let mut message = vec![b'B', kind, 1, 1];
        message.extend((body.len() as u32).to_be_bytes());
        message.extend([0, 0, 0, 9]);
        message.extend((fields.len() as u32).to_be_bytes());
        message.extend(fields);
        align(&mut message, 8);
        message.extend(body);
        message
    }

    #[test]
    fn answers() {
        let yes = answer(2, "b", &[0, 0, 0, 1], None);
        assert_eq!(
            decode(&yes),
            Ok(Message::Return {
                reply_to: 7,
                boolean: Some(true)
            })
        );
        assert_eq!(length(yes.first_chunk().unwrap()), Ok(yes.len()));
        let refused = answer(3, "s", b"\0\0\0\x02no\0", Some("a.b.C"));
        assert_eq!(
            decode(&refused),
            Ok(Message::Error {
                reply_to: 7,
                name: "a.b.C".into(),
                text: "no".into()
            })
        );
        assert!(length(b"l\x02\0\x01\xff\xff\xff\xff\0\0\0\0\0\0\0\0").is_err());
    }

    proptest! {
        #[test]
        fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..80), order in "[lB]") {
            let bytes = [order.as_bytes(), &bytes].concat();
            decode(&bytes).ok();
            if let Some(head) = bytes.first_chunk() {
                length(head).ok();
            }
        }
    }
}
