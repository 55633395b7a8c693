//! The device: its configuration, and the tables that workers look peers up in.

use crate::{
    allowed_ips::AllowedIps,
    config::{DeviceConfig, MAX_PEERS, PeerConfig, PrivateKey, PublicKey, TooManyPeers},
    peer::Peer,
    waiting::Waiting,
};
use boringtun::{noise::rate_limiter::RateLimiter, x25519};
use std::{
    collections::{HashMap, VecDeque},
    fmt,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak,
        atomic::{
            AtomicU64, AtomicUsize,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    time::{Duration, Instant},
};

/// Handshake messages in a second beyond which a sender has to prove its address with a cookie.
/// Both ends' initiations and the answers to ours count, so it is more than [`BEGIN_INTERVAL`]
/// allows.
const HANDSHAKES_PER_SECOND: u64 = 1000;
/// Between two handshakes that the device begins by itself: 400 in a second.
const BEGIN_INTERVAL: Duration = Duration::from_micros(2500);
/// What it begins at once at most.
const BEGIN_BURST: u32 = 40;

/// What follows from the private key.
pub(crate) struct Identity {
    pub(crate) private: PrivateKey,
    pub(crate) public: x25519::PublicKey,
    /// Of every handshake message that arrives.
    pub(crate) limiter: RateLimiter,
    /// Of the tunnels, which check once more: never under load, since the device has counted.
    pub(crate) unlimited: Arc<RateLimiter>,
}

impl Identity {
    fn new(private: &PrivateKey) -> Self {
        let public = x25519::PublicKey::from(private.secret());
        Self {
            private: private.clone(),
            public,
            limiter: RateLimiter::new(&public, HANDSHAKES_PER_SECOND),
            unlimited: Arc::new(RateLimiter::new(&public, u64::MAX)),
        }
    }
}

/// What workers look up. A change of the configuration makes it anew.
pub(crate) struct Tables {
    pub(crate) identity: Arc<Identity>,
    pub(crate) mtu: usize,
    pub(crate) peers: Vec<Arc<Peer>>,
    by_key: HashMap<PublicKey, usize>,
    by_index: HashMap<u32, usize>,
    allowed_ips: AllowedIps<usize>,
}

impl Tables {
    fn new(identity: Arc<Identity>, mtu: usize) -> Self {
        Self {
            identity,
            mtu,
            peers: Vec::new(),
            by_key: HashMap::new(),
            by_index: HashMap::new(),
            allowed_ips: AllowedIps::new(),
        }
    }

    fn insert(&mut self, peer: Arc<Peer>, config: &PeerConfig) {
        let position = self.peers.len();
        self.by_key.insert(peer.key, position);
        self.by_index.insert(peer.index, position);
        for network in &config.allowed_ips {
            self.allowed_ips.insert(*network, position);
        }
        self.peers.push(peer);
    }

    pub(crate) fn by_key(&self, key: PublicKey) -> Option<&Arc<Peer>> {
        self.peers.get(*self.by_key.get(&key)?)
    }

    /// The peer of a receiver index, whose lower 8 bits number its sessions.
    pub(crate) fn by_receiver_index(&self, index: u32) -> Option<&Arc<Peer>> {
        self.peers.get(*self.by_index.get(&(index >> 8))?)
    }

    pub(crate) fn by_address(&self, address: std::net::IpAddr) -> Option<&Arc<Peer>> {
        self.peers.get(self.allowed_ips.get(address)?)
    }
}

/// Peers whose handshake the device begins by itself, at a bounded rate.
struct Beginning {
    peers: VecDeque<Weak<Peer>>,
    /// Until when handshakes are paid for.
    next: Instant,
}

/// Peers that a handshake is to begin with.
#[derive(Default)]
pub(crate) struct Due {
    pub(crate) peers: Vec<Arc<Peer>>,
    /// Others follow soon.
    pub(crate) more: bool,
}

/// From when time pays for handshakes: not for more than a burst.
fn earliest(now: Instant) -> Instant {
    now.checked_sub(BEGIN_INTERVAL * BEGIN_BURST).unwrap_or(now)
}

/// A WireGuard device, shared by the workers of a data path.
pub struct Device {
    tables: RwLock<Arc<Tables>>,
    /// Counts the changes of `tables`.
    generation: AtomicU64,
    config: Mutex<DeviceConfig>,
    beginning: Mutex<Beginning>,
    waiting: Arc<AtomicUsize>,
}

impl fmt::Debug for Device {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let peers = &self.current().peers;
        formatter
            .debug_struct("Device")
            .field("peers", peers)
            .finish_non_exhaustive()
    }
}

/// What is known of a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// Names it.
    pub public_key: PublicKey,
    /// Where packets to it go.
    pub endpoint: Option<SocketAddr>,
    /// How long ago the session in use began. Absent: there is none.
    pub latest_handshake: Option<Duration>,
    /// Bytes of authentic datagrams that came from it.
    pub received: u64,
    /// Bytes of datagrams that went to it.
    pub sent: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Device {
    /// A device that begins a handshake with each of its peers: its neighbours may have sessions
    /// with a predecessor of the same key, and then send what nobody decrypts.
    ///
    /// # Errors
    ///
    /// More peers than a device has room for.
    pub fn new(config: DeviceConfig, now: Instant) -> Result<Arc<Self>, TooManyPeers> {
        let none = DeviceConfig {
            peers: Vec::new(),
            ..config.clone()
        };
        let identity = Arc::new(Identity::new(&config.private_key));
        let device = Self {
            tables: RwLock::new(Arc::new(Tables::new(identity, config.mtu))),
            generation: AtomicU64::new(0),
            config: Mutex::new(none),
            beginning: Mutex::new(Beginning {
                peers: VecDeque::new(),
                next: earliest(now),
            }),
            waiting: Arc::default(),
        };
        device.change(config, true, now)?;
        Ok(Arc::new(device))
    }

    /// Takes a whole configuration: peers that stay as they are notice nothing. A peer whose
    /// preshared key is another, and every peer where the private key is, gets a new session at
    /// once; a new peer gets one with its first packet.
    ///
    /// # Errors
    ///
    /// More peers than a device has room for; nothing changes then.
    pub fn configure(&self, config: DeviceConfig, now: Instant) -> Result<(), TooManyPeers> {
        self.change(config, false, now)
    }

    fn change(&self, config: DeviceConfig, begin: bool, now: Instant) -> Result<(), TooManyPeers> {
        if config.peers.len() > MAX_PEERS {
            return Err(TooManyPeers(config.peers.len()));
        }
        let mut last = lock(&self.config);
        let old = self.current();
        let same_key = last.private_key == config.private_key;
        let identity = match same_key {
            true => old.identity.clone(),
            false => Arc::new(Identity::new(&config.private_key)),
        };
        let own = PublicKey(identity.public.to_bytes());
        let mut tables = Tables::new(identity, config.mtu);
        let mut beginning = Vec::new();
        for peer in &config.peers {
            // the kernel ignores a peer with the device's own key; of two entries the first counts
            if peer.public_key == own || tables.by_key.contains_key(&peer.public_key) {
                continue;
            }
            let known = old.by_key(peer.public_key);
            let kept = known.filter(|known| same_key && known.state().keeps_sessions(peer));
            let entry = if let Some(kept) = kept {
                kept.state().configure(peer);
                kept.clone()
            } else {
                let entry = Arc::new(self.new_peer(&tables, &old, peer, now));
                if begin || known.is_some() {
                    beginning.push(Arc::downgrade(&entry));
                }
                entry
            };
            tables.insert(entry, peer);
        }
        *self.tables.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(tables);
        self.generation.fetch_add(1, Release);
        *last = config;
        lock(&self.beginning).peers.extend(beginning);
        Ok(())
    }

    fn new_peer(&self, tables: &Tables, old: &Tables, config: &PeerConfig, now: Instant) -> Peer {
        let taken =
            |index: &u32| tables.by_index.contains_key(index) || old.by_index.contains_key(index);
        let mut index = random_index();
        while taken(&index) {
            index = (index + 1) & INDEX_MASK;
        }
        let waiting = Waiting::new(self.waiting.clone());
        Peer::new(&tables.identity, index, config, waiting, now)
    }

    /// The tables of now.
    pub(crate) fn current(&self) -> Arc<Tables> {
        let tables = self.tables.read().unwrap_or_else(PoisonError::into_inner);
        tables.clone()
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Acquire)
    }

    /// The peers that a handshake is to begin with now.
    pub(crate) fn due(&self, now: Instant) -> Due {
        let mut beginning = lock(&self.beginning);
        let mut due = Due::default();
        beginning.next = beginning.next.max(earliest(now));
        while beginning.next <= now {
            let Some(peer) = beginning.peers.pop_front() else {
                break;
            };
            // else it was removed meanwhile
            if let Some(peer) = peer.upgrade() {
                due.peers.push(peer);
                beginning.next += BEGIN_INTERVAL;
            }
        }
        due.more = !beginning.peers.is_empty();
        due
    }

    /// Every peer, in the order of the configuration.
    pub fn peers(&self) -> Vec<PeerStatus> {
        let tables = self.current();
        let status = tables.peers.iter().map(|peer| {
            let state = peer.state();
            PeerStatus {
                public_key: peer.key,
                endpoint: state.endpoint,
                latest_handshake: state.tunnel.time_since_last_handshake(),
                received: state.received,
                sent: state.sent,
            }
        });
        status.collect()
    }

    /// Bytes of packets that wait for handshakes.
    pub fn waiting_bytes(&self) -> usize {
        self.waiting.load(Relaxed)
    }
}

/// The receiver index has this many bits for the peer; the other 8 number its sessions.
const INDEX_MASK: u32 = (1 << 24) - 1;

/// Without randomness, which the kernel always has once it runs programs, the first index.
fn random_index() -> u32 {
    getrandom::u32().unwrap_or_default() & INDEX_MASK
}
