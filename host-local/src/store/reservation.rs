//! A reservation's file, byte for byte: the address is its name, `<container id>\r\n<ifname>` its content.
use cni_conf::ids;

/// Who holds an address.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Owner {
    /// container id
    pub container_id: String,
    /// interface name; "" in files of before 0.8, which tell the container alone
    pub ifname: String,
}

/// What a reservation's file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Somebody holds the address.
    Owner(Owner),
    /// Nothing, or zero bytes: what a crash leaves of a file that was being written. Nobody holds the address, because its ADD never
    /// came to an end.
    Nothing,
    /// What no CNI plugin writes. It is somebody's, and stays.
    Foreign,
}

impl Owner {
    /// For a call's container id and interface.
    pub fn new(container_id: &str, ifname: &str) -> Owner {
        Owner {
            container_id: container_id.trim().to_owned(),
            ifname: ifname.to_owned(),
        }
    }

    /// The file's bytes.
    pub fn content(&self) -> String {
        format!("{}\r\n{}", self.container_id, self.ifname)
    }

    /// The container alone, as files of before 0.8 tell it.
    pub fn is_legacy(&self) -> bool {
        self.ifname.is_empty()
    }
}

impl Content {
    /// Reads a file's bytes; white space around them does not count.
    pub fn parse(bytes: &[u8]) -> Content {
        let Ok(text) = std::str::from_utf8(bytes) else {
            return Content::Foreign;
        };
        let text = text.trim();
        if text.bytes().all(|byte| byte == 0) {
            return Content::Nothing;
        }
        let (id, ifname) = text.split_once("\r\n").unwrap_or((text, ""));
        let named = ifname.is_empty() || ids::check_interface_name(ifname).is_ok();
        if ids::check_container_id(id).is_ok() && named {
            Content::Owner(Owner::new(id, ifname))
        } else {
            Content::Foreign
        }
    }

    /// The owner, if there is one.
    pub fn owner(self) -> Option<Owner> {
        match self {
            Content::Owner(owner) => Some(owner),
            Content::Nothing | Content::Foreign => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bytes() {
        assert_eq!(Owner::new("c5", "eth0").content(), "c5\r\neth0");
        let parse = |text: &str| Content::parse(text.as_bytes());
        assert_eq!(
            parse("c5\r\neth0"),
            Content::Owner(Owner::new("c5", "eth0"))
        );
        assert_eq!(
            parse(" c5\r\neth0\n"),
            Content::Owner(Owner::new("c5", "eth0"))
        );
        assert_eq!(parse("c5\n"), Content::Owner(Owner::new("c5", "")));
        for nothing in ["", " \r\n", "\0\0\0\0"] {
            assert_eq!(parse(nothing), Content::Nothing);
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
        assert_eq!(Content::parse(b"\xff\xfe"), Content::Foreign);
    }

    proptest! {
        #[test]
        fn round_trip(id in "[a-zA-Z0-9][a-zA-Z0-9_.-]{0,70}", ifname in "[a-z][a-z0-9.@-]{0,14}") {
            let owner = Owner::new(&id, &ifname);
            prop_assert_eq!(Content::parse(owner.content().as_bytes()), Content::Owner(owner));
        }

        #[test]
        fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Content::Owner(owner) = Content::parse(&bytes) {
                prop_assert!(!owner.container_id.contains(char::is_whitespace));
                prop_assert!(!owner.ifname.contains(char::is_whitespace));
            }
        }
    }
}
