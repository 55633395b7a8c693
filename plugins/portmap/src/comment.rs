//! The comment of an nftables element or rule names the attachment that it belongs to: `ID IFNAME
//! NETWORK`, with long ids and networks replaced by `#` and their hash.

use crate::holder::Owner;
use plugin::{Attachment, hash::shortened};

/// A comment holds 128 bytes: 70 for the id, 15 for the interface, 40 for the network, two spaces.
const ID_MAX: usize = 70;
const NETWORK_MAX: usize = 40;

pub(crate) fn comment(owner: &Attachment) -> String {
    format!(
        "{}{}",
        prefix(owner),
        shortened(&owner.network, NETWORK_MAX)
    )
}

/// True if the comment names this attachment. The network is not compared: it may have been renamed
/// since ADD, and a container's interface belongs to one network at a time.
pub(crate) fn names(comment: &str, owner: &Attachment) -> bool {
    comment.starts_with(&prefix(owner))
}

fn prefix(owner: &Attachment) -> String {
    let id = shortened(&owner.container_id, ID_MAX);
    format!("{id} {} ", owner.ifname)
}

/// True if the comment names an attachment to this network. Neither ids nor names contain spaces.
pub(crate) fn names_network(comment: &str, network: &str) -> bool {
    let parts: Vec<_> = comment.split(' ').collect();
    matches!(parts.as_slice(), [_, _, last] if *last == shortened(network, NETWORK_MAX))
}

/// The owner of an element, or of a rule of the Go plugin, whose comment is the id alone.
pub(crate) fn owner(comment: Option<&str>) -> Owner {
    let parts: Vec<_> = comment.unwrap_or_default().split(' ').collect();
    let (id, description) = match parts.as_slice() {
        [id, ifname, network] => (
            *id,
            format!("container {id} (interface {ifname}, network {network})"),
        ),
        [id] if !id.is_empty() => (*id, format!("container {id}")),
        _ => ("", "a container without a name".to_owned()),
    };
    let is_whole = !id.is_empty() && !id.starts_with('#');
    Owner {
        container_id: is_whole.then(|| id.to_owned()),
        description,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comment_fits_and_differs_for_each_attachment() {
        let owner = |id: &str, network: &str| Attachment::new(network, id, "a-name-of-15-by");
        let long = "x".repeat(200);
        let other = format!("{long}y");
        assert_eq!(comment(&owner("id", "net")), "id a-name-of-15-by net");
        let text = comment(&owner(&long, &long));
        assert!(text.len() <= packet_filter::COMMENT_MAX, "{text}");
        assert_ne!(text, comment(&owner(&other, &long)));
        assert_ne!(text, comment(&owner(&long, &other)));
        assert!(names(&text, &owner(&long, "renamed")));
        assert!(!names(&text, &owner(&other, &long)));
        assert!(names_network(&text, &long));
        assert!(!names_network(&text, &other));
        // the Go plugin's comment names no network
        assert!(!names_network("net", "net"));
    }
}
