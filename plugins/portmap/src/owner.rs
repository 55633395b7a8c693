//! Whose an element or rule is: the comment that it carries.
use plugin::Call;
use sha2::{Digest, Sha512};

/// An attachment of a container to a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) container_id: String,
    pub(crate) ifname: String,
    pub(crate) network: String,
}

/// A comment holds 128 bytes: 70 of them for the id, 15 for the interface, 40 for the network, two spaces.
const ID_MAX: usize = 70;
const NETWORK_MAX: usize = 40;

impl Owner {
    pub(crate) fn of(call: &Call) -> Owner {
        Owner {
            container_id: call.container_id.clone(),
            ifname: call.ifname.clone(),
            network: call.net.name.clone(),
        }
    }

    /// `ID IFNAME NETWORK`; what is too long for that is given as `#` and the start of its hash.
    pub(crate) fn comment(&self) -> String {
        format!(
            "{} {} {}",
            part(&self.container_id, ID_MAX),
            self.ifname,
            part(&self.network, NETWORK_MAX)
        )
    }

    /// Is it the comment of this attachment, whatever its network was called when it was made? An interface of a container
    /// belongs to one network at a time.
    pub(crate) fn owns(&self, comment: &str) -> bool {
        let start = format!("{} {} ", part(&self.container_id, ID_MAX), self.ifname);
        comment.starts_with(&start)
    }
}

/// Does the comment name an attachment to this network? Neither ids nor names hold spaces.
pub(crate) fn is_of_network(comment: &str, network: &str) -> bool {
    let parts: Vec<_> = comment.split(' ').collect();
    matches!(parts.as_slice(), [_, _, last] if *last == part(network, NETWORK_MAX))
}

fn part(text: &str, max: usize) -> String {
    if text.len() <= max {
        return text.to_owned();
    }
    let hash = Sha512::digest(text);
    let hex: String = hash[..16]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("#{hex}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_too_long_and_always_told_apart() {
        let owner = |id: &str, network: &str| Owner {
            container_id: id.into(),
            ifname: "a-name-of-15-by".into(),
            network: network.into(),
        };
        let long = "x".repeat(200);
        let other = format!("{long}y");
        assert_eq!(owner("id", "net").comment(), "id a-name-of-15-by net");
        let comment = owner(&long, &long).comment();
        assert!(comment.len() <= packet_filter::COMMENT_MAX, "{comment}");
        assert_ne!(comment, owner(&other, &long).comment());
        assert_ne!(comment, owner(&long, &other).comment());
        assert!(owner(&long, "renamed").owns(&comment));
        assert!(!owner(&other, &long).owns(&comment));
        assert!(is_of_network(&comment, &long));
        assert!(!is_of_network(&comment, &other));
        // the Go plugin's comment names no network
        assert!(!is_of_network("net", "net"));
    }
}
