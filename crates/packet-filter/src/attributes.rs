//! Reading netlink attributes as they lie in a reply. The typed messages of netlink-packet-netfilter, with which requests are
//! built, print each list for an error text that is hardly ever needed: a dump of 500 elements took them half a second.
use netlink_packet_core::NlasIterator;

/// The attributes of one level, in order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Attributes<'b>(Vec<(u16, &'b [u8])>);

impl<'b> Attributes<'b> {
    /// What is malformed ends the list.
    pub(crate) fn read(bytes: &'b [u8]) -> Self {
        let mut attributes = Vec::new();
        let mut rest = bytes;
        while let Some(Ok(attribute)) = NlasIterator::new(rest).next() {
            let length = usize::from(attribute.length());
            attributes.push((attribute.kind(), &rest[4..length]));
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        Attributes(attributes)
    }

    /// The first of a kind.
    pub(crate) fn get(&self, kind: u16) -> Option<&'b [u8]> {
        let mut attributes = self.0.iter();
        attributes
            .find(|(found, _)| *found == kind)
            .map(|(_, value)| *value)
    }

    /// A number in network order.
    pub(crate) fn u32(&self, kind: u16) -> Option<u32> {
        Some(u32::from_be_bytes(self.get(kind)?.try_into().ok()?))
    }

    /// A number in network order.
    pub(crate) fn u64(&self, kind: u16) -> Option<u64> {
        Some(u64::from_be_bytes(self.get(kind)?.try_into().ok()?))
    }

    /// A text, up to its NUL.
    pub(crate) fn text(&self, kind: u16) -> Option<&'b str> {
        let bytes = self.get(kind)?;
        let end = bytes.iter().position(|byte| *byte == 0);
        std::str::from_utf8(&bytes[..end.unwrap_or(bytes.len())]).ok()
    }

    /// What is inside one; nothing if it is not there.
    pub(crate) fn nested(&self, kind: u16) -> Attributes<'b> {
        self.get(kind).map(Attributes::read).unwrap_or_default()
    }

    /// What is inside each element of a list (NFTA_LIST_ELEM).
    pub(crate) fn list(&self, kind: u16) -> impl Iterator<Item = Attributes<'b>> {
        const NFTA_LIST_ELEM: u16 = 1;
        let list = self.nested(kind).0.into_iter();
        list.filter(|(kind, _)| *kind == NFTA_LIST_ELEM)
            .map(|(_, value)| Attributes::read(value))
    }

    /// Has it attributes of these kinds and no others?
    pub(crate) fn only(&self, kinds: &[u16]) -> bool {
        self.0.iter().all(|(kind, _)| kinds.contains(kind))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn values_by_kind() {
        let bytes = [
            &[8, 0, 2, 0, 0, 0, 0, 7][..],
            &[7, 0, 1, 0x80, b'h', b'i', 0, 0],
            &[5, 0, 3, 0, 9],
        ]
        .concat();
        let attributes = Attributes::read(&bytes);
        assert_eq!(attributes.u32(2), Some(7));
        assert_eq!(attributes.text(1), Some("hi"));
        assert_eq!(attributes.get(3), Some(&[9][..]));
        assert_eq!(attributes.u32(3), None, "too short");
        assert_eq!(attributes.get(4), None);
        assert!(attributes.only(&[1, 2, 3]) && !attributes.only(&[1, 2]));
    }

    proptest! {
        #[test]
        fn garbage_does_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let attributes = Attributes::read(&bytes);
            let lengths: usize = attributes.0.iter().map(|(_, value)| 4 + value.len()).sum();
            prop_assert!(lengths <= bytes.len());
            prop_assert!(attributes.list(1).count() <= bytes.len());
        }
    }
}
