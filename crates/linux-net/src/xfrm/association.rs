//! Security associations of IPsec: one direction of a tunnel that has keys.

use super::ip;
use crate::netlink::{Read, header};
use netlink_packet_xfrm::{
    UserSaInfo, XFRM_USER_SA_INFO_LEN,
    constants::{IPPROTO_ESP, XFRM_MODE_TUNNEL},
};
use std::net::IpAddr;

/// A security association (`struct xfrm_usersa_info`), without its keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SecurityAssociation {
    /// The end where packets are encrypted.
    pub src: IpAddr,
    /// The one where they are decrypted.
    pub dst: IpAddr,
    /// Its number there.
    pub spi: u32,
    /// Policies with this number use it.
    pub reqid: u32,
    /// ESP in tunnel mode.
    pub is_esp_tunnel: bool,
}

/// The structure. None for one of no address family.
pub(crate) fn read(payload: &[u8]) -> Read<Option<SecurityAssociation>> {
    let (info, _) = header::<XFRM_USER_SA_INFO_LEN>(payload)?;
    let info = UserSaInfo::parse(&info)?;
    let ends = ip(&info.saddr, info.family).zip(ip(&info.id.daddr, info.family));
    let association = ends.map(|(src, dst)| SecurityAssociation {
        src,
        dst,
        spi: info.id.spi,
        reqid: info.reqid,
        is_esp_tunnel: (info.id.proto, info.mode) == (IPPROTO_ESP, XFRM_MODE_TUNNEL),
    });
    Ok(association)
}

#[cfg(test)]
mod tests {
    use super::*;
    use netlink_packet_core::Emitable;
    use netlink_packet_xfrm::{Address, Id};
    use proptest::prelude::*;

    #[test]
    fn ends_spi_and_reqid_are_read() {
        let mut info = UserSaInfo {
            id: Id {
                daddr: Address::from_ip(&[192, 0, 2, 2].into()),
                spi: 0xc0de_0001,
                proto: IPPROTO_ESP,
            },
            saddr: Address::from_ip(&[192, 0, 2, 1].into()),
            reqid: 11,
            family: 2,
            mode: XFRM_MODE_TUNNEL,
            ..UserSaInfo::default()
        };
        let mut bytes = vec![0; info.buffer_len()];
        info.emit(&mut bytes);
        // an attribute with a key follows
        bytes.extend([8, 0, 18, 0, 1, 2, 3, 4]);
        let expected = SecurityAssociation {
            src: [192, 0, 2, 1].into(),
            dst: [192, 0, 2, 2].into(),
            spi: 0xc0de_0001,
            reqid: 11,
            is_esp_tunnel: true,
        };
        assert_eq!(read(&bytes), Ok(Some(expected)));
        info.mode = 0;
        info.emit(&mut bytes);
        assert!(!read(&bytes).unwrap().unwrap().is_esp_tunnel);
        info.family = 0;
        info.emit(&mut bytes);
        assert_eq!(read(&bytes), Ok(None));
        assert!(read(&bytes[..XFRM_USER_SA_INFO_LEN - 1]).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 200..260)) {
            drop(read(&bytes));
        }
    }
}
