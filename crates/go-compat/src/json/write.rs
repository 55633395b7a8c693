//! Writes JSON as Go does.

use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};
use std::io::{self, Write};

/// Go's `json.Marshal` of a `map[string]any`: compact, keys of maps sorted, HTML characters
/// escaped, numbers as float64. "" for a value that JSON cannot hold, such as a map whose keys are
/// not texts.
pub fn marshal(value: &impl Serialize) -> String {
    write(value, Numbers)
}

/// Go's `json.MarshalIndent(value, "", "    ")`: keys of structs in their order, keys of maps
/// sorted, no newline at the end. "" as for [`marshal`].
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

/// Escapes what Go escapes and serde_json does not. None of these occurs outside of a string.
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

/// Writes every number as a float64, which is what Go reads into `any`.
struct Numbers;

impl Formatter for Numbers {
    fn write_u64<W: ?Sized + Write>(&mut self, writer: &mut W, value: u64) -> io::Result<()> {
        self.write_f64(writer, value as f64)
    }

    fn write_i64<W: ?Sized + Write>(&mut self, writer: &mut W, value: i64) -> io::Result<()> {
        self.write_f64(writer, value as f64)
    }

    /// The shortest digits that read back as the same number, with an exponent below 1e-6 and from
    /// 1e21 on.
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
