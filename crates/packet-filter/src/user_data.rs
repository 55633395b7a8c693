//! Comments: opaque user data for the kernel; the type-length-value form is libnftnl's, for `nft`.

/// Bytes of a comment at most (NFTNL_UDATA_COMMENT_MAXLEN).
pub const COMMENT_MAX: usize = 128;

/// NFTNL_UDATA_{TABLE,CHAIN,RULE,SET_ELEM}_COMMENT
const COMMENT: u8 = 0;
/// NFTNL_UDATA_SET_KEYBYTEORDER, ..._DATABYTEORDER, ..._COMMENT
const SET_KEY_ORDER: u8 = 0;
const SET_VALUE_ORDER: u8 = 1;
const SET_COMMENT: u8 = 7;

/// Truncates a text to `COMMENT_MAX` bytes.
fn truncated(comment: &str) -> &str {
    let mut end = comment.len().min(COMMENT_MAX);
    while !comment.is_char_boundary(end) {
        end -= 1;
    }
    &comment[..end]
}

fn put_text(kind: u8, text: &str, out: &mut Vec<u8>) {
    let text = truncated(text);
    out.extend([kind, text.len() as u8 + 1]);
    out.extend(text.as_bytes());
    out.push(0);
}

fn find(mut data: &[u8], wanted: u8) -> Option<&[u8]> {
    while let [kind, len, rest @ ..] = data {
        let value = rest.get(..usize::from(*len))?;
        if *kind == wanted {
            return Some(value);
        }
        data = &rest[value.len()..];
    }
    None
}

fn text(value: &[u8]) -> Option<String> {
    let value = value.strip_suffix(&[0]).unwrap_or(value);
    String::from_utf8(value.to_vec()).ok()
}

/// User data of a table, chain, rule or element.
pub(crate) fn comment(comment: &str) -> Vec<u8> {
    let mut out = Vec::new();
    put_text(COMMENT, comment, &mut out);
    out
}

/// The comment of a table, chain, rule or element, if there is one.
pub(crate) fn read_comment(data: &[u8]) -> Option<String> {
    find(data, COMMENT).and_then(text)
}

/// The byte order of numbers (`enum byteorder` of nft).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// for concatenations
    None = 0,
    Host = 1,
    Network = 2,
}

/// User data of a set or map.
pub(crate) fn set(key: Order, value: Option<Order>, comment: Option<&str>) -> Vec<u8> {
    let mut out = Vec::new();
    let mut put_order = |kind, order: Order| {
        out.extend([kind, 4]);
        out.extend((order as u32).to_ne_bytes());
    };
    put_order(SET_KEY_ORDER, key);
    if let Some(order) = value {
        put_order(SET_VALUE_ORDER, order);
    }
    if let Some(comment) = comment {
        put_text(SET_COMMENT, comment, &mut out);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn user_data_is_encoded_as_by_nft() {
        assert_eq!(comment("hello"), b"\x00\x06hello\x00");
        assert_eq!(
            set(Order::None, Some(Order::None), Some("mc")),
            b"\x00\x04\0\0\0\0\x01\x04\0\0\0\0\x07\x03mc\0"
        );
    }

    proptest! {
        #[test]
        fn comment_is_read_back(text in "\\PC{0,60}") {
            let read = read_comment(&comment(&text));
            prop_assert_eq!(read.as_deref(), Some(truncated(&text)));
        }

        #[test]
        fn malformed_user_data_is_no_comment(data: Vec<u8>) {
            if let Some(text) = read_comment(&data) {
                prop_assert!(text.len() <= data.len());
            }
        }
    }
}
