//! Policies of IPsec: tunnel ESP between two addresses for the packets between two subnets.

use super::{family, ip, net};
use crate::{
    Request,
    netlink::{Mode, Read, attributes, header},
};
use ipnetwork::IpNetwork;
use netlink_packet_xfrm::{
    Address, LifetimeConfig, Selector, UserPolicyId, UserPolicyInfo, UserTemplate,
    XFRM_USER_POLICY_INFO_LEN, XFRM_USER_TEMPLATE_LEN, XfrmAttrs,
    constants::{
        IPPROTO_ESP, XFRM_MODE_TUNNEL, XFRM_MSG_DELPOLICY, XFRM_MSG_GETPOLICY, XFRM_MSG_NEWPOLICY,
        XFRM_MSG_UPDPOLICY, XFRM_POLICY_FWD, XFRM_POLICY_IN, XFRM_POLICY_OUT, XFRMA_IF_ID,
        XFRMA_MARK, XFRMA_OFFLOAD_DEV, XFRMA_POLICY_TYPE, XFRMA_SEC_CTX, XFRMA_TMPL,
    },
    policy::{DelGetMessage, ModifyMessage},
};
use std::{fmt, net::IpAddr};

/// Which packets a policy is about (XFRM_POLICY_*).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// Those that this host receives for itself.
    In,
    /// Those that leave it, its own and forwarded ones.
    Out,
    /// Those that it received and forwards.
    Forward,
}

/// How the packets have to be encrypted: ESP in tunnel mode (`struct xfrm_user_tmpl`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Template {
    /// The tunnel's end where packets are encrypted.
    pub src: IpAddr,
    /// The one where they are decrypted.
    pub dst: IpAddr,
    /// Security associations have the same number.
    pub reqid: u32,
    /// `level use`: packets without encryption pass too. Linux 6.1 and later refuse it for
    /// [`Direction::Out`].
    pub optional: bool,
}

/// A policy (`struct xfrm_userpolicy_info`). The kernel holds one for each selector and direction.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Policy {
    /// Packets from here,
    pub src: IpNetwork,
    /// to here.
    pub dst: IpNetwork,
    /// Which of them.
    pub direction: Direction,
    /// None: no template, several, or one of another protocol or mode.
    pub template: Option<Template>,
    /// Read only: the selector has a protocol, ports, an interface or a user, or the policy has a
    /// mark, an XFRM interface or a security context, so that it is not in the place of one that
    /// has none of them.
    pub narrowed: bool,
    /// Read only: it has an action, a priority, limits or flags that [`add`] does not set.
    pub altered: bool,
}

impl Policy {
    /// One that demands encryption.
    pub fn new(src: IpNetwork, dst: IpNetwork, direction: Direction, template: Template) -> Policy {
        Policy {
            src,
            dst,
            direction,
            template: Some(template),
            narrowed: false,
            altered: false,
        }
    }

    /// Lets packets without encryption pass too, if it has a template.
    pub fn accept_clear_text(&mut self) {
        if let Some(template) = &mut self.template {
            template.optional = true;
        }
    }

    /// Its place: unless they are narrowed, the kernel holds one policy there.
    pub fn place(&self) -> (IpNetwork, IpNetwork, Direction) {
        (self.src, self.dst, self.direction)
    }
}

impl Direction {
    fn number(self) -> u8 {
        match self {
            Direction::In => XFRM_POLICY_IN,
            Direction::Out => XFRM_POLICY_OUT,
            Direction::Forward => XFRM_POLICY_FWD,
        }
    }

    /// None for policies of sockets.
    fn of(number: u8) -> Option<Direction> {
        let mut all = [Direction::In, Direction::Out, Direction::Forward].into_iter();
        all.find(|direction| direction.number() == number)
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // as `ip xfrm policy` has them
        f.write_str(match self {
            Direction::In => "in",
            Direction::Out => "out",
            Direction::Forward => "fwd",
        })
    }
}

/// `src S dst D dir out, esp tunnel A -> B reqid 11`.
impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Policy {
            src,
            dst,
            direction,
            template,
            ..
        } = self;
        write!(f, "src {src} dst {dst} dir {direction}")?;
        match template {
            Some(Template {
                src,
                dst,
                reqid,
                optional,
            }) => {
                write!(f, ", esp tunnel {src} -> {dst} reqid {reqid}")?;
                f.write_str(if *optional { " level use" } else { "" })
            }
            None => Ok(()),
        }
    }
}

/// Adds a policy; EEXIST if there is one with its selector and direction.
pub fn add(policy: &Policy) -> Request {
    modify(XFRM_MSG_NEWPOLICY, policy, "add")
}

/// Adds a policy, or replaces the one with its selector and direction without a moment between.
pub fn update(policy: &Policy) -> Request {
    modify(XFRM_MSG_UPDPOLICY, policy, "update")
}

fn modify(kind: u16, policy: &Policy, verb: &str) -> Request {
    let user_policy_info = UserPolicyInfo {
        selector: selector(policy),
        direction: policy.direction.number(),
        ..UserPolicyInfo::default()
    };
    let templates = policy.template.iter().map(user_template).collect();
    let message = ModifyMessage {
        user_policy_info,
        nlas: vec![XfrmAttrs::Template(templates)],
    };
    // both kinds create: only XFRM_MSG_NEWPOLICY refuses what is there
    Request::new(
        kind,
        Mode::Existing,
        &message,
        format!("{verb} policy {policy}"),
    )
}

/// Deletes the policy with this selector and direction; ENOENT if there is none.
pub fn delete(policy: &Policy) -> Request {
    by_id(XFRM_MSG_DELPOLICY, policy, "delete")
}

/// Asks for the policy with this selector and direction.
pub(super) fn get(policy: &Policy) -> Request {
    by_id(XFRM_MSG_GETPOLICY, policy, "look up")
}

fn by_id(kind: u16, policy: &Policy, verb: &str) -> Request {
    let user_policy_id = UserPolicyId {
        selector: selector(policy),
        // 0: by the selector
        index: 0,
        direction: policy.direction.number(),
    };
    let message = DelGetMessage {
        user_policy_id,
        nlas: Vec::new(),
    };
    Request::new(
        kind,
        Mode::Existing,
        &message,
        format!("{verb} policy {policy}"),
    )
}

fn selector(policy: &Policy) -> Selector {
    Selector {
        saddr: Address::from_ip(&policy.src.ip()),
        daddr: Address::from_ip(&policy.dst.ip()),
        prefixlen_s: policy.src.prefix(),
        prefixlen_d: policy.dst.prefix(),
        family: family(policy.src.ip()),
        ..Selector::default()
    }
}

fn user_template(template: &Template) -> UserTemplate {
    let mut wire = UserTemplate::default();
    wire.source(&template.src);
    wire.destination(&template.dst);
    wire.protocol(IPPROTO_ESP);
    wire.mode(XFRM_MODE_TUNNEL);
    wire.reqid(template.reqid);
    wire.optional(template.optional);
    wire
}

/// `struct xfrm_userpolicy_info` and its attributes. None for a policy of a socket or of no address
/// family.
pub(crate) fn read(payload: &[u8]) -> Read<Option<Policy>> {
    let (info, rest) = header::<XFRM_USER_POLICY_INFO_LEN>(payload)?;
    let info = UserPolicyInfo::parse(&info)?;
    let Selector {
        saddr,
        daddr,
        family,
        prefixlen_s,
        prefixlen_d,
        ..
    } = info.selector;
    let src = net(&saddr, prefixlen_s, family)?;
    let dst = net(&daddr, prefixlen_d, family)?;
    let ends = src.zip(dst).zip(Direction::of(info.direction));
    let Some(((src, dst), direction)) = ends else {
        return Ok(None);
    };
    let plain = Selector {
        saddr,
        daddr,
        family,
        prefixlen_s,
        prefixlen_d,
        ..Selector::default()
    };
    let mut policy = Policy {
        src,
        dst,
        direction,
        template: None,
        narrowed: info.selector != plain,
        altered: !is_plain(&info),
    };
    for attribute in attributes(rest) {
        let attribute = attribute?;
        match attribute.kind {
            XFRMA_TMPL => policy.read_templates(attribute.value)?,
            XFRMA_MARK | XFRMA_SEC_CTX => policy.narrowed = true,
            XFRMA_IF_ID => policy.narrowed |= attribute.u32()? != 0,
            // `struct xfrm_userpolicy_type`: a sub-policy has a table of its own
            XFRMA_POLICY_TYPE => policy.narrowed |= header::<1>(attribute.value)?.0 != [0],
            XFRMA_OFFLOAD_DEV => policy.altered = true,
            _ => {}
        }
    }
    Ok(Some(policy))
}

/// True if it has what [`add`] sets. Time and counters are the kernel's, as is the index.
fn is_plain(info: &UserPolicyInfo) -> bool {
    info.lifetime_cfg == LifetimeConfig::default()
        && (info.priority, info.action, info.flags, info.share) == (0, 0, 0, 0)
}

impl Policy {
    fn read_templates(&mut self, bytes: &[u8]) -> Read<()> {
        let (first, others) = header::<XFRM_USER_TEMPLATE_LEN>(bytes)?;
        let wire = UserTemplate::parse(&first)?;
        let ends = ip(&wire.saddr, wire.family).zip(ip(&wire.id.daddr, wire.family));
        let tunnel = (wire.id.proto, wire.mode) == (IPPROTO_ESP, XFRM_MODE_TUNNEL);
        let Some((src, dst)) = ends.filter(|_| tunnel && others.is_empty()) else {
            return Ok(());
        };
        let template = Template {
            src,
            dst,
            reqid: wire.reqid,
            optional: wire.optional != 0,
        };
        self.altered |= user_template(&template) != wire;
        self.template = Some(template);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// `ip xfrm policy add src 10.244.1.0/24 dst 10.244.2.0/24 dir out tmpl src 192.0.2.1 dst
    /// 192.0.2.2 proto esp reqid 11 mode tunnel`, as a 6.18 kernel lists it.
    pub(crate) const CAPTURED: &[u8] = include_bytes!("../../testdata/xfrm-policy.bin");

    fn policy() -> Policy {
        Policy::new(
            "10.244.1.0/24".parse().unwrap(),
            "10.244.2.0/24".parse().unwrap(),
            Direction::Out,
            Template {
                src: [192, 0, 2, 1].into(),
                dst: [192, 0, 2, 2].into(),
                reqid: 11,
                optional: false,
            },
        )
    }

    #[test]
    fn captured_policy_is_read() {
        assert_eq!(read(CAPTURED), Ok(Some(policy())));
        assert_eq!(
            policy().to_string(),
            "src 10.244.1.0/24 dst 10.244.2.0/24 dir out, esp tunnel 192.0.2.1 -> 192.0.2.2 reqid 11"
        );
    }

    #[test]
    fn request_has_the_bytes_that_the_kernel_lists() {
        let body = add(&policy()).body().to_vec();
        // struct xfrm_selector
        let selector = [
            &[10, 244, 2, 0][..],
            &[0; 12],
            &[10, 244, 1, 0],
            &[0; 12],
            &[0; 8],
            &2u16.to_ne_bytes(),
            &[24, 24, 0, 0, 0, 0],
            &[0; 8],
        ]
        .concat();
        assert_eq!(body[..56], selector);
        assert_eq!(body[..56], CAPTURED[..56]);
        // no limits of bytes and packets, no lifetime
        assert_eq!(body[56..88], [255; 32]);
        assert_eq!(body[88..120], [0; 32]);
        // priority, index, then direction, action, flags, share
        assert_eq!(body[152..164], [0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]);
        let template = [
            &68u16.to_ne_bytes()[..],
            &5u16.to_ne_bytes(),
            &[192, 0, 2, 2],
            &[0; 12],
            // SPI, protocol
            &[0, 0, 0, 0, 50, 0, 0, 0],
            &2u16.to_ne_bytes(),
            &[0, 0, 192, 0, 2, 1],
            &[0; 12],
            &11u32.to_ne_bytes(),
            // mode, share, optional
            &[1, 0, 0, 0],
            &[255; 12],
        ]
        .concat();
        assert_eq!(body[168..], template);
        let delete = delete(&policy()).body().to_vec();
        assert_eq!(delete[..56], selector);
        assert_eq!(delete[56..], [0, 0, 0, 0, 1, 0, 0, 0]);
    }

    #[test]
    fn other_kinds_of_policies_are_told_apart() {
        let read = |change: fn(&mut Vec<u8>)| {
            let mut bytes = add(&policy()).body().to_vec();
            change(&mut bytes);
            read(&bytes).unwrap()
        };
        assert_eq!(read(|_| ()), Some(policy()));
        let narrowed = |found: Option<Policy>| found.unwrap().narrowed;
        // a port, a protocol, a mark, an XFRM interface
        assert!(narrowed(read(|bytes| bytes[32] = 1)));
        assert!(narrowed(read(|bytes| bytes[44] = 6)));
        let mark = [12, 0, 21, 0, 1, 0, 0, 0, 1, 0, 0, 0];
        let bytes = [add(&policy()).body(), &mark].concat();
        assert!(narrowed(super::read(&bytes).unwrap()));
        let bytes = [add(&policy()).body(), &[8, 0, 31, 0, 7, 0, 0, 0]].concat();
        assert!(narrowed(super::read(&bytes).unwrap()));
        // a priority, the action block
        for at in [152, 161] {
            let mut bytes = add(&policy()).body().to_vec();
            bytes[at] = 1;
            let found = super::read(&bytes).unwrap().unwrap();
            assert!(found.altered && !found.narrowed, "byte {at}");
        }
        // transport mode
        let found = read(|bytes| bytes[168 + 4 + 24 + 20 + 4] = 0).unwrap();
        assert_eq!(found.template, None);
        // two templates
        let mut bytes = add(&policy()).body().to_vec();
        let template = bytes[172..].to_vec();
        bytes[168..170].copy_from_slice(&132u16.to_ne_bytes());
        bytes.extend(template);
        assert_eq!(super::read(&bytes).unwrap().unwrap().template, None);
        // one of a socket
        assert_eq!(read(|bytes| bytes[160] = 3), None);
    }

    #[test]
    fn families_and_directions_are_written_and_read() {
        for (src, dst, from, to) in [
            ("10.244.1.0/24", "0.0.0.0/0", "192.0.2.1", "192.0.2.2"),
            (
                "fd00:10:244:1::/64",
                "fd00:10:244:2::/64",
                "fd31::1",
                "fd31::2",
            ),
        ] {
            for direction in [Direction::In, Direction::Out, Direction::Forward] {
                let template = Template {
                    src: from.parse().unwrap(),
                    dst: to.parse().unwrap(),
                    reqid: 11,
                    optional: direction != Direction::Out,
                };
                let policy = Policy::new(
                    src.parse().unwrap(),
                    dst.parse().unwrap(),
                    direction,
                    template,
                );
                assert_eq!(read(update(&policy).body()), Ok(Some(policy)));
            }
        }
    }

    #[test]
    fn truncated_policies_are_errors() {
        for length in 0..CAPTURED.len() {
            let found = read(&CAPTURED[..length]);
            // the attributes that follow the template say nothing
            let whole = matches!(&found, Ok(Some(found)) if found.template.is_some());
            assert!(
                found.is_err() || whole || length == XFRM_USER_POLICY_INFO_LEN,
                "{length}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(at in 0..CAPTURED.len(), value: u8) {
            let mut bytes = CAPTURED.to_vec();
            bytes[at] = value;
            drop(read(&bytes));
        }
    }
}
