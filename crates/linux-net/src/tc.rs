//! Traffic control, as far as shaping a pod needs it: token buckets, the ingress hook, and a filter
//! there that sends all traffic through another device (linux/pkt_sched.h, linux/pkt_cls.h,
//! tc_act/tc_mirred.h).
//!
//! Token buckets are encoded by hand: netlink-packet-route has no type for them, and a `tc` process
//! takes 2.5 ms of processor time.

use crate::{
    Netlink, Request, Result,
    netlink::{Mode, Read, attributes, header},
};
use netlink_packet_core::DefaultNla;
use netlink_packet_route::tc::{
    TcAction, TcActionAttribute, TcActionGeneric, TcActionMirror, TcActionMirrorOption,
    TcActionOption, TcActionType, TcAttribute, TcFilterU32, TcFilterU32Option, TcMessage, TcMirror,
    TcMirrorActionType, TcOption, TcU32Key, TcU32Selector, TcU32SelectorFlags,
};
use nix::libc::{
    ETH_P_ALL, RTM_DELQDISC, RTM_GETQDISC, RTM_NEWQDISC, RTM_NEWTFILTER, TCA_KIND, TCA_OPTIONS,
};
use std::time::Duration;

pub use netlink_packet_route::tc::TcHandle;

// not in libc (linux/pkt_sched.h)
const TCA_TBF_PARMS: u16 = 1;
const TCA_TBF_RATE64: u16 = 4;

const TBF: &str = "tbf";
const INGRESS: &str = "ingress";
/// Handles as the Go plugin gives them: 1: for the bucket, ffff: for the ingress hook.
const BUCKET: TcHandle = TcHandle { major: 1, minor: 0 };
const HOOK: TcHandle = TcHandle {
    major: 0xffff,
    minor: 0,
};

/// The parameters of a token bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tbf {
    /// bytes a second
    pub rate: u64,
    /// bytes that may be queued
    pub limit: u32,
    /// time to fill the bucket, in ticks of 64 ns
    pub buffer: u32,
}

impl Tbf {
    /// A bucket of `burst` bytes that fills at `rate` bytes a second, and a queue that delays by at
    /// most `latency`. Rounded as the Go plugin rounds, whose CHECK compares the three parameters.
    pub fn new(rate: u64, burst: u32, latency: Duration) -> Self {
        let microseconds = |bytes: u32| u128::from(bytes) * 1_000_000 / u128::from(rate.max(1));
        let fill = u128::from(saturated(microseconds(burst)));
        let waiting = u128::from(rate).saturating_mul(latency.as_micros()) / 1_000_000;
        Self {
            rate,
            limit: saturated(waiting).saturating_add(burst),
            // 1,000 ns are 15.625 ticks (/proc/net/psched, the same on every kernel since 2.6.31)
            buffer: saturated(fill * 1_000 / 64),
        }
    }

    /// `struct tc_tbf_qopt`: two `struct tc_ratespec` (rate, peak rate), limit, buffer, mtu.
    fn parameters(&self) -> Vec<u8> {
        let mut bytes = vec![0; 8];
        bytes.extend(saturated(self.rate.into()).to_ne_bytes());
        bytes.resize(24, 0);
        bytes.extend(self.limit.to_ne_bytes());
        bytes.extend(self.buffer.to_ne_bytes());
        bytes.resize(36, 0);
        bytes
    }

    fn read(options: &[u8]) -> Read<Tbf> {
        let mut tbf = Tbf {
            rate: 0,
            limit: 0,
            buffer: 0,
        };
        for attribute in attributes(options) {
            let attribute = attribute?;
            match attribute.kind {
                TCA_TBF_PARMS => {
                    let (_, numbers) = header::<8>(attribute.value)?;
                    let (rate, numbers) = header::<4>(numbers)?;
                    let (_, numbers) = header::<12>(numbers)?;
                    let (limit, numbers) = header::<4>(numbers)?;
                    let (buffer, _) = header::<4>(numbers)?;
                    tbf.rate = tbf.rate.max(u32::from_ne_bytes(rate).into());
                    tbf.limit = u32::from_ne_bytes(limit);
                    tbf.buffer = u32::from_ne_bytes(buffer);
                }
                TCA_TBF_RATE64 => {
                    let (rate, _) = header::<8>(attribute.value)?;
                    tbf.rate = u64::from_ne_bytes(rate);
                }
                _ => {}
            }
        }
        Ok(tbf)
    }
}

fn saturated(number: u128) -> u32 {
    number.try_into().unwrap_or(u32::MAX)
}

/// A queueing discipline on a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Qdisc {
    /// ifindex
    pub index: u32,
    /// its own handle: 1:0 is "1:"
    pub handle: TcHandle,
    /// the handle of what it is attached to
    pub parent: TcHandle,
    /// "tbf", "noqueue", ...
    pub kind: String,
    /// the parameters, if it is a "tbf"
    pub tbf: Option<Tbf>,
}

/// Adds a token bucket as the link's root, handle `1:`.
pub fn add_tbf(index: u32, tbf: &Tbf) -> Request {
    let mut options = vec![option(TCA_TBF_PARMS, tbf.parameters())];
    if tbf.rate > u32::MAX.into() {
        options.push(option(TCA_TBF_RATE64, tbf.rate.to_ne_bytes().to_vec()));
    }
    let message = message(index, BUCKET, TcHandle::ROOT, TBF, options);
    let what = format!(
        "add qdisc tbf to link {index}: rate {} bytes/s, limit {} bytes",
        tbf.rate, tbf.limit
    );
    Request::new(RTM_NEWQDISC, Mode::Create, &message, what)
}

/// Adds the hook for filters on what a link receives, handle `ffff:`.
pub fn add_ingress(index: u32) -> Request {
    let message = message(index, HOOK, TcHandle::INGRESS, INGRESS, Vec::new());
    let what = format!("add qdisc ingress to link {index}");
    Request::new(RTM_NEWQDISC, Mode::Create, &message, what)
}

/// Deletes the link's root; the kernel puts its default there.
pub fn delete_root(index: u32) -> Request {
    let mut message = TcMessage::with_index(index.cast_signed());
    message.header.parent = TcHandle::ROOT;
    let what = format!("delete root qdisc of link {index}");
    Request::new(RTM_DELQDISC, Mode::Existing, &message, what)
}

/// Deletes the ingress hook and its filters.
pub fn delete_ingress(index: u32) -> Request {
    let mut message = TcMessage::with_index(index.cast_signed());
    message.header.handle = HOOK;
    message.header.parent = TcHandle::INGRESS;
    let what = format!("delete ingress qdisc of link {index}");
    Request::new(RTM_DELQDISC, Mode::Existing, &message, what)
}

/// Redirects all that the link receives to the egress of `target` (a u32 filter that matches
/// everything, with a mirred action). Go's netlink library adds a second action that is never
/// reached.
pub fn redirect(index: u32, target: u32) -> Request {
    let mut selector = TcU32Selector::default();
    selector.flags = TcU32SelectorFlags::Terminal;
    selector.nkeys = 1;
    selector.keys = vec![TcU32Key::default()];
    let mut generic = TcActionGeneric::default();
    generic.action = TcActionType::Stolen;
    let mut mirror = TcMirror::default();
    mirror.generic = generic;
    mirror.eaction = TcMirrorActionType::EgressRedir;
    mirror.ifindex = target;
    let mut action = TcAction::default();
    action.attributes = vec![
        TcActionAttribute::Kind(TcActionMirror::KIND.into()),
        TcActionAttribute::Options(vec![TcActionOption::Mirror(TcActionMirrorOption::Parms(
            mirror,
        ))]),
    ];
    let flow = TcHandle { major: 1, minor: 1 };
    let options = [
        TcFilterU32Option::Selector(selector),
        TcFilterU32Option::ClassId(flow),
        TcFilterU32Option::Action(vec![action]),
    ];
    let options = options.into_iter().map(TcOption::U32).collect();
    let mut message = message(index, TcHandle::UNSPEC, HOOK, TcFilterU32::KIND, options);
    // priority 1, every protocol
    message.header.info = 1 << 16 | u32::from((ETH_P_ALL as u16).to_be());
    let what = format!("redirect what link {index} receives to link {target}");
    Request::new(RTM_NEWTFILTER, Mode::Create, &message, what)
}

fn option(kind: u16, value: Vec<u8>) -> TcOption {
    TcOption::Other(DefaultNla::new(kind, value))
}

fn message(
    index: u32,
    handle: TcHandle,
    parent: TcHandle,
    kind: &str,
    options: Vec<TcOption>,
) -> TcMessage {
    let mut message = TcMessage::with_index(index.cast_signed());
    message.header.handle = handle;
    message.header.parent = parent;
    message.attributes = vec![
        TcAttribute::Kind(kind.to_owned()),
        TcAttribute::Options(options),
    ];
    message
}

impl Netlink {
    /// The queueing disciplines of a link.
    pub fn qdiscs(&mut self, index: u32) -> Result<Vec<Qdisc>> {
        let message = TcMessage::with_index(index.cast_signed());
        let what = format!("list qdiscs of link {index}");
        let request = Request::new(RTM_GETQDISC, Mode::Dump, &message, what);
        self.client.dump(&request, |kind, payload| {
            if kind != RTM_NEWQDISC {
                return Ok(None);
            }
            Ok(Some(read(payload)?).filter(|qdisc| qdisc.index == index))
        })
    }
}

/// `struct tcmsg` and the attributes that a [`Qdisc`] has.
pub(crate) fn read(payload: &[u8]) -> Read<Qdisc> {
    let (_, rest) = header::<4>(payload)?;
    let (index, rest) = header::<4>(rest)?;
    let (handle, rest) = header::<4>(rest)?;
    let (parent, rest) = header::<4>(rest)?;
    let (_, rest) = header::<4>(rest)?;
    let (mut kind, mut options) = (String::new(), &[][..]);
    for attribute in attributes(rest) {
        let attribute = attribute?;
        match attribute.kind {
            TCA_KIND => kind = attribute.string(),
            TCA_OPTIONS => options = attribute.value,
            _ => {}
        }
    }
    let tbf = (kind == TBF).then(|| Tbf::read(options)).transpose()?;
    Ok(Qdisc {
        index: u32::from_ne_bytes(index),
        handle: u32::from_ne_bytes(handle).into(),
        parent: u32::from_ne_bytes(parent).into(),
        kind,
        tbf,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LATENCY: Duration = Duration::from_millis(25);

    /// The Go plugin's request for 8 Mbit/s and a burst of 800,000 bit.
    #[test]
    fn bucket_is_rounded_and_encoded_as_by_go() {
        let tbf = Tbf::new(1_000_000, 100_000, LATENCY);
        let expected = Tbf {
            rate: 1_000_000,
            limit: 125_000,
            buffer: 1_562_500,
        };
        assert_eq!(tbf, expected);
        let options: [&[u8]; 4] = [
            &[8, 0, 1, 0, b't', b'b', b'f', 0, 44, 0, 2, 0, 40, 0, 1, 0],
            &[0, 0, 0, 0, 0, 0, 0, 0, 0x40, 0x42, 0x0f, 0, 0, 0, 0, 0],
            &[
                0, 0, 0, 0, 0, 0, 0, 0, 0x48, 0xe8, 1, 0, 0x84, 0xd7, 0x17, 0,
            ],
            &[0, 0, 0, 0],
        ];
        let request = add_tbf(3, &tbf);
        assert_eq!(request.body()[20..], options.concat());
    }

    #[test]
    fn large_rates_are_sent_in_64_bits() {
        let tbf = Tbf::new(5_000_000_000, 100_000, LATENCY);
        let qdisc = read(add_tbf(3, &tbf).body()).unwrap();
        assert_eq!((qdisc.tbf, qdisc.index), (Some(tbf), 3));
        assert_eq!((qdisc.handle, qdisc.parent), (BUCKET, TcHandle::ROOT));
        // no overflow, no division by zero
        let extreme = Tbf::new(u64::MAX, u32::MAX, Duration::MAX);
        assert_eq!(extreme.limit, u32::MAX);
        assert_eq!(Tbf::new(0, u32::MAX, LATENCY).buffer, u32::MAX);
    }

    proptest! {
        #[test]
        fn no_answer_panics(tail in prop::collection::vec(any::<u8>(), 0..120)) {
            let tbf = [8, 0, 1, 0, b't', b'b', b'f', 0, 124, 0, 2, 0];
            let answer = [&[0; 20][..], &tbf, &tail].concat();
            if let Ok(qdisc) = read(&answer) {
                prop_assert!(qdisc.tbf.is_some() || qdisc.kind != "tbf");
            }
        }
    }
}
