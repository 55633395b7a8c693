//! The file of a reservation: its name is the address, its content `<container id>\r\n<ifname>`.

use cni_conf::ids;
use plugin::Attachment;

/// The content of a reservation's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Content {
    /// The address is reserved. `ifname` is "" in a legacy file.
    Owner(Attachment),
    /// No bytes or zero bytes, left by a crash during the write. The ADD never ended, so the
    /// address is free.
    Empty,
    /// The file is not from a CNI plugin. It stays.
    Foreign,
}

/// True for the owner of a file from before 0.8, which names the container but no interface.
pub(crate) fn is_legacy(owner: &Attachment) -> bool {
    owner.ifname.is_empty()
}

/// The bytes of a reservation's file.
pub(super) fn content(owner: &Attachment) -> String {
    format!("{}\r\n{}", owner.container_id, owner.ifname)
}

impl Content {
    /// Parses a file in the store of `network`; ignores white space at both ends.
    pub(super) fn parse(bytes: &[u8], network: &str) -> Content {
        let Ok(text) = std::str::from_utf8(bytes) else {
            return Content::Foreign;
        };
        let text = text.trim();
        if text.bytes().all(|byte| byte == 0) {
            return Content::Empty;
        }
        let (id, ifname) = text.split_once("\r\n").unwrap_or((text, ""));
        let valid_ifname = ifname.is_empty() || ids::check_interface_name(ifname).is_ok();
        match ids::check_container_id(id).is_ok() && valid_ifname {
            true => Content::Owner(Attachment::new(network, id, ifname)),
            false => Content::Foreign,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn owner(id: &str, ifname: &str) -> Attachment {
        Attachment::new("net", id, ifname)
    }

    #[test]
    fn content_is_read_as_upstream_writes_it() {
        assert_eq!(content(&owner("c5", "eth0")), "c5\r\neth0");
        let parse = |text: &str| Content::parse(text.as_bytes(), "net");
        assert_eq!(parse("c5\r\neth0"), Content::Owner(owner("c5", "eth0")));
        assert_eq!(parse(" c5\r\neth0\n"), Content::Owner(owner("c5", "eth0")));
        assert_eq!(parse("c5\n"), Content::Owner(owner("c5", "")));
        for empty in ["", " \r\n", "\0\0\0\0"] {
            assert_eq!(parse(empty), Content::Empty);
        }
        for foreign in [
            "c5\neth0",
            "{\"id\": 1}",
            "c5\r\neth0\r\nx",
            "../c5\r\neth0",
            "c\0\0",
        ] {
            assert_eq!(parse(foreign), Content::Foreign, "{foreign:?}");
        }
        assert_eq!(Content::parse(b"\xff\xfe", "net"), Content::Foreign);
    }

    proptest! {
        #[test]
        fn written_content_is_read_back(id in "[a-zA-Z0-9][a-zA-Z0-9_.-]{0,70}", ifname in "[a-z][a-z0-9.@-]{0,14}") {
            let owner = owner(&id, &ifname);
            prop_assert_eq!(Content::parse(content(&owner).as_bytes(), "net"), Content::Owner(owner));
        }

        #[test]
        fn no_bytes_give_an_owner_with_white_space(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Content::Owner(owner) = Content::parse(&bytes, "net") {
                prop_assert!(!owner.container_id.contains(char::is_whitespace));
                prop_assert!(!owner.ifname.contains(char::is_whitespace));
            }
        }
    }
}
