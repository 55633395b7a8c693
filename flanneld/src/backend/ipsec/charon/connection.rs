//! A connection of charon for a tunnel, named and configured as upstream's.

use super::message::{TooLong, Writer};
use crate::{
    backend::{Tunnel, ipsec::Keys},
    reconcile::REQID,
};

/// Upstream's: AES-256, SHA-256 and a group of 4096 bits.
const IKE_PROPOSAL: &str = "aes256-sha256-modp4096";
/// Keys are replaced after this.
const REKEY_TIME: &str = "1h";
/// A peer that sends nothing for this long is asked whether it is there, and forgotten if it does
/// not answer.
const DPD_DELAY: &str = "10s";

/// The name of a tunnel's connection: `<localIP>-<localSubnet>-<remoteSubnet>-<remoteIP>`.
pub(super) fn name(tunnel: &Tunnel) -> String {
    let Tunnel {
        own_address,
        own_subnet,
        peer_address,
        peer_subnet,
    } = tunnel;
    format!("{own_address}-{own_subnet}-{peer_subnet}-{peer_address}")
}

/// The name of its only child: `<localSubnet>-<remoteSubnet>`.
fn child_name(tunnel: &Tunnel) -> String {
    format!("{}-{}", tunnel.own_subnet, tunnel.peer_subnet)
}

/// The message of `load-conn`.
pub(super) fn message(name: &str, tunnel: &Tunnel, keys: &Keys) -> Result<Writer, TooLong> {
    let encap: &[u8] = if keys.udp_encap { b"yes" } else { b"no" };
    let mut message = Writer::default();
    message.section(name, |connection| {
        connection.value("version", b"2")?;
        connection.list("local_addrs", &[tunnel.own_address.to_string()])?;
        connection.list("remote_addrs", &[tunnel.peer_address.to_string()])?;
        connection.list("proposals", &[IKE_PROPOSAL.to_owned()])?;
        // again and again
        connection.value("keyingtries", b"0")?;
        connection.value("encap", encap)?;
        connection.value("dpd_delay", DPD_DELAY.as_bytes())?;
        for end in ["local", "remote"] {
            connection.section(end, |end| end.value("auth", b"psk"))?;
        }
        connection.section("children", |children| {
            children.section(&child_name(tunnel), |child| put_child(child, tunnel, keys))
        })
    })?;
    Ok(message)
}

fn put_child(child: &mut Writer, tunnel: &Tunnel, keys: &Keys) -> Result<(), TooLong> {
    child.list("local_ts", &[tunnel.own_subnet.to_string()])?;
    child.list("remote_ts", &[tunnel.peer_subnet.to_string()])?;
    child.list("esp_proposals", std::slice::from_ref(&keys.esp_proposal))?;
    child.value("mode", b"tunnel")?;
    // flanneld's
    child.value("policies", b"no")?;
    child.value("reqid", REQID.to_string().as_bytes())?;
    child.value("rekey_time", REKEY_TIME.as_bytes())?;
    child.value("start_action", b"start")?;
    child.value("close_action", b"trap")?;
    child.value("dpd_action", b"restart")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tunnel() -> Tunnel {
        Tunnel {
            own_address: [192, 0, 2, 1].into(),
            own_subnet: "10.244.1.0/24".parse().unwrap(),
            peer_address: [192, 0, 2, 2].into(),
            peer_subnet: "10.244.2.0/24".parse().unwrap(),
        }
    }

    #[test]
    fn names_and_values_are_upstreams() {
        let name = name(&tunnel());
        assert_eq!(name, "192.0.2.1-10.244.1.0/24-10.244.2.0/24-192.0.2.2");
        let keys = Keys {
            udp_encap: true,
            ..Keys::default()
        };
        let packet = message(&name, &tunnel(), &keys).unwrap();
        let packet = packet.request("load-conn").unwrap();
        let text = String::from_utf8_lossy(&packet);
        for part in [
            "load-conn",
            "\u{1}/192.0.2.1-10.244.1.0/24-10.244.2.0/24-192.0.2.2",
            "\u{1}\u{1b}10.244.1.0/24-10.244.2.0/24",
            "aes256-sha256-modp4096",
            "aes128gcm16-sha256-prfsha256-ecp256",
            "\u{3}\u{8}policies\u{0}\u{2}no",
            "\u{3}\u{5}reqid\u{0}\u{2}11",
            "\u{3}\u{5}encap\u{0}\u{3}yes",
            "\u{3}\u{c}start_action\u{0}\u{5}start",
            "\u{3}\u{c}close_action\u{0}\u{4}trap",
        ] {
            assert!(text.contains(part), "{part:?} in {text:?}");
        }
    }
}
