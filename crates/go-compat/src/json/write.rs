//! JSON as Go writes it.
use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};
use std::io::{self, Write};

/// Go's `json.Marshal`, of a `map[string]any` above all: compact, keys of maps sorted, HTML
/// characters escaped, float64 number forms. "" for what JSON cannot hold, as [`marshal_indent`].
pub fn marshal(value: &impl Serialize) -> String {
    write(value, Numbers)
}

/// Go's `json.MarshalIndent(value, "", "    ")`: keys of structs in their order, those of maps
/// sorted, no newline at the end. "" for a value that JSON cannot hold, which no type of this crate
/// is (keys that are no text).
pub fn marshal_indent(value: &impl Serialize) -> String {
    write(value, PrettyFormatter::with_indent(b"    "))
}

fn write(value: &impl Serialize, formatter: impl Formatter) -> String {
    let mut bytes = Vec::new();
    if value
        .serialize(&mut Serializer::with_formatter(&mut bytes, formatter))
        .is_err()
    {
        return String::new();
    }
    escape(&String::from_utf8_lossy(&bytes))
}

/// What Go escapes and serde_json does not. None of these occurs outside of a string.
fn escape(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                escaped.push_str(&format!("\\u{:04x}", c as u32));
            }
            _ => escaped.push(c),
        }
    }
    escaped
}

/// Every number as the float64 that Go makes of it when it reads into `any`.
struct Numbers;

impl Formatter for Numbers {
    fn write_u64<W: ?Sized + Write>(&mut self, writer: &mut W, value: u64) -> io::Result<()> {
        self.write_f64(writer, value as f64)
    }
    fn write_i64<W: ?Sized + Write>(&mut self, writer: &mut W, value: i64) -> io::Result<()> {
        self.write_f64(writer, value as f64)
    }
    /// The shortest digits that read back as the same number; an exponent below 1e-6 and from 1e21
    /// on.
    fn write_f64<W: ?Sized + Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        let size = value.abs();
        if size == 0.0 || (1e-6..1e21).contains(&size) {
            return write!(writer, "{value}");
        }
        let digits = format!("{value:e}");
        match digits.contains("e-") {
            true => writer.write_all(digits.as_bytes()),
            false => writer.write_all(digits.replace('e', "e+").as_bytes()),
        }
    }
}
