//! A host whose `flannel-wg` this process serves.

use data_path::{Opened, Settings, Workers, wireguard::Wireguard};
use linux_net::wireguard as keys;
use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, TcpListener, TcpStream},
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};
use tests::{
    Host, Underlay,
    process::eventually,
    underlay::{ip, ip6},
};
use wireguard::{Device, DeviceConfig, PeerConfig, PrivateKey, PublicKey};

pub(super) const NAME: &str = "flannel-wg";
pub(super) const PORT: u16 = 51820;
const MTU: usize = 1420;

/// How long the first ping may take where a handshake begins at once.
pub(super) const SOON: Duration = Duration::from_secs(10);

/// The private key of host N.
pub(super) fn key(number: u8) -> PrivateKey {
    PrivateKey::new([number; 32])
}

/// Host N as a peer of the others, reached over IPv4 or IPv6.
pub(super) fn peer(number: u8, over_ipv6: bool) -> PeerConfig {
    let address: IpAddr = match over_ipv6 {
        true => ip6(number.into()).parse().expect("address"),
        false => ip(number.into()).parse().expect("address"),
    };
    PeerConfig {
        public_key: key(number).public(),
        preshared_key: None,
        endpoint: Some((address, PORT).into()),
        allowed_ips: nets(number).map(|net| net.parse().expect("network")).into(),
        persistent_keepalive: 0,
    }
}

/// The subnets of host N.
pub(super) fn nets(number: u8) -> [String; 2] {
    [
        format!("10.244.{number}.0/24"),
        format!("fd00:10:244:{number}::/64"),
    ]
}

/// The addresses of host N inside of the tunnel.
pub(super) fn inside(number: u8) -> [String; 2] {
    nets(number).map(|net| net.split_once('/').expect("prefix").0.to_owned())
}

/// Text of a public key, as `wg` reads it.
pub(super) fn text(key: PublicKey) -> String {
    keys::PublicKey(key.0).to_string()
}

/// Addresses and routes of the device, as flanneld gives them.
pub(super) fn address(host: &Host, device: &str, number: u8) {
    let [v4, v6] = inside(number);
    host.sh(&format!(
        "ip link set {device} mtu {MTU} up && ip addr add {v4}/32 dev {device} \
         && ip addr add {v6}/128 dev {device} nodad \
         && ip route add 10.244.0.0/16 dev {device} scope link \
         && ip route add fd00:10:244::/48 dev {device}"
    ));
}

/// Running workers.
pub(super) struct Served {
    pub(super) device: Arc<Device>,
    workers: Option<Workers>,
}

impl Served {
    /// Serves the host's device, which is made if there is none.
    pub(super) fn start(host: &Host, number: u8, peers: Vec<PeerConfig>) -> Served {
        let config = DeviceConfig {
            private_key: key(number),
            mtu: MTU,
            peers,
        };
        let device = Device::new(config, Instant::now()).expect("few peers");
        let settings = Settings {
            device: NAME.to_owned(),
            workers: 2,
            port: Some(PORT),
            port_v6: Some(PORT),
            address: Some(Ipv4Addr::new(10, 244, number, 0)),
            address_v6: inside(number)[1].parse().ok(),
        };
        let workers = host.run(|| {
            let opened = Opened::open(&settings).expect("device and sockets");
            let engine = |worker| Wireguard::new(device.clone(), worker, settings.workers);
            Workers::start(opened, &settings, engine, &mpsc::channel().0).expect("threads")
        });
        Served {
            device,
            workers: Some(workers),
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if let Some(workers) = self.workers.take() {
            drop(workers.stop());
        }
    }
}

/// Two hosts of an underlay that are served, and know each other.
pub(super) fn two(over_ipv6: bool) -> (Underlay, [Served; 2]) {
    let underlay = Underlay::new(2);
    let served = [(0, 1, 2), (1, 2, 1)].map(|(index, own, other)| {
        let host = &underlay.hosts[index];
        let served = Served::start(host, own, vec![peer(other, over_ipv6)]);
        address(host, NAME, own);
        served
    });
    (underlay, served)
}

/// Pings host N's addresses inside of the tunnel.
#[track_caller]
pub(super) fn pings(host: &Host, number: u8, options: &str) {
    for address in inside(number) {
        host.sh(&format!("ping -n -c 1 -W 5 {options} {address}"));
    }
}

/// Waits until the pings of both families pass.
#[track_caller]
pub(super) fn eventually_pings(host: &Host, number: u8, limit: Duration) {
    for address in inside(number) {
        eventually("a ping", limit, || {
            let ping = host.try_sh(&format!("ping -n -c 1 -W 0.2 {address}"));
            ping.status.success().then_some(())
        });
    }
}

/// Sends so many bytes by TCP from a host to host N inside of the tunnel, and checks each.
#[track_caller]
pub(super) fn stream(from: &Host, to: &Host, number: u8, megabytes: usize) {
    let block: Vec<u8> = (0..1 << 20).map(|index: u32| (index % 251) as u8).collect();
    for address in inside(number) {
        let listener = to
            .run(|| TcpListener::bind((address.as_str(), 0)))
            .expect("listen");
        let port = listener.local_addr().expect("address").port();
        let limit = Some(Duration::from_secs(60));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut stream = from
                    .run(|| TcpStream::connect((address.as_str(), port)))
                    .expect("connect");
                stream.set_write_timeout(limit).expect("time limit");
                for _ in 0..megabytes {
                    stream.write_all(&block).expect("write");
                }
            });
            let (mut stream, _) = listener.accept().expect("accept");
            stream.set_read_timeout(limit).expect("time limit");
            let mut received = vec![0; block.len()];
            for _ in 0..megabytes {
                stream.read_exact(&mut received).expect("read");
                assert!(received == block, "the stream is changed");
            }
        });
    }
}
