//! The two flavours of iptables: which are installed, and which one a host uses. Rules of one are
//! not seen by the other, and packets pass those of both.

use super::{Iptables, find};
use crate::{Error, Family, Nft};
use std::fmt;

/// The first version whose MASQUERADE has `--random-fully`.
const RANDOM_FULLY_SINCE: Version = (1, 6, 2);
/// What the chains of kubelet and kube-proxy begin with.
const KUBERNETES: &str = ":KUBE-";
/// Tables of the kernel that the nftables flavour fills.
const NFT_TABLES: [&str; 5] = ["filter", "nat", "mangle", "raw", "security"];

type Version = (u32, u32, u32);

/// Where the kernel keeps the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Flavour {
    /// in nf_tables, in tables of the same names
    Nft,
    /// in ip_tables and ip6_tables
    Legacy,
}

/// Programs of one flavour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Programs {
    flavour: Flavour,
    infix: &'static str,
    version: Version,
}

/// What the programs of a flavour find on this host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// there are chains of kubelet or kube-proxy
    pub kubernetes: bool,
    /// the number of rules, of both families
    pub rules: usize,
}

impl fmt::Display for Flavour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Flavour::Nft => "nf_tables",
            Flavour::Legacy => "legacy",
        })
    }
}

impl fmt::Display for Programs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, minor, patch) = self.version;
        let Programs { flavour, infix, .. } = self;
        write!(f, "iptables{infix} v{major}.{minor}.{patch} ({flavour})")
    }
}

impl Programs {
    /// The programs that the host calls `iptables`; None: there are none.
    pub fn usual() -> Result<Option<Programs>, Error> {
        Programs::named("")
    }

    /// Those of a flavour; None: they are not installed.
    pub fn of(flavour: Flavour) -> Result<Option<Programs>, Error> {
        let infix = match flavour {
            Flavour::Nft => "-nft",
            Flavour::Legacy => "-legacy",
        };
        let named = Programs::named(infix)?;
        let usual = match named {
            None => Programs::usual()?,
            named => named,
        };
        Ok(usual.filter(|programs| programs.flavour == flavour))
    }

    /// Those of the flavour that the host's other programs use: the one with chains of Kubernetes
    /// (nf_tables, if both have them), else the one with more rules, else that of `iptables`. None:
    /// there are none. Kubernetes' iptables-wrappers decides so too, but for the last step.
    pub fn in_use(nft: Option<&mut Nft>) -> Result<Option<Programs>, Error> {
        let usual = Programs::usual()?;
        let installed = [Programs::of(Flavour::Nft)?, Programs::of(Flavour::Legacy)?];
        let (Some(of_nft), Some(of_legacy)) = (installed[0], installed[1]) else {
            return Ok(installed.into_iter().flatten().next());
        };
        let present = has_nft_tables(nft)?;
        let usage = [
            match present {
                true => of_nft.usage()?,
                false => Usage::default(),
            },
            of_legacy.usage()?,
        ];
        let usual = usual.map_or(Flavour::Nft, |usual| usual.flavour);
        Ok(Some(match choose(usage, usual) {
            Flavour::Nft => of_nft,
            Flavour::Legacy => of_legacy,
        }))
    }

    /// Those that have these names now, if they are of another flavour: `update-alternatives` may
    /// change what `iptables` is. Names with a flavour keep it, and start no process.
    pub fn changed(self) -> Result<Option<Programs>, Error> {
        if !self.infix.is_empty() {
            return Ok(None);
        }
        let now = Programs::named(self.infix)?;
        Ok(now.filter(|now| now.flavour != self.flavour))
    }

    /// The flavour.
    pub fn flavour(self) -> Flavour {
        self.flavour
    }

    /// True if MASQUERADE has `--random-fully`.
    pub fn has_random_fully(self) -> bool {
        self.version >= RANDOM_FULLY_SINCE
    }

    /// Those of one family.
    pub fn family(self, ipv6: bool) -> Iptables {
        Iptables {
            infix: self.infix,
            ..Iptables::of(ipv6)
        }
    }

    /// What is in all tables. A table of the legacy flavour that the kernel does not have counts as
    /// empty, and is not made.
    pub fn usage(self) -> Result<Usage, Error> {
        let mut usage = Usage::default();
        for ipv6 in [false, true] {
            let iptables = self.family(ipv6);
            let is_empty = match self.flavour {
                Flavour::Nft => false,
                Flavour::Legacy => iptables.legacy_tables()?.is_empty(),
            };
            if is_empty || !iptables.is_installed() {
                continue;
            }
            let output = iptables.run("save", &[], None)?;
            let of_family = count(&String::from_utf8_lossy(&output.stdout));
            usage.kubernetes |= of_family.kubernetes;
            usage.rules += of_family.rules;
        }
        Ok(usage)
    }

    fn named(infix: &'static str) -> Result<Option<Programs>, Error> {
        let iptables = Iptables {
            infix,
            ..Iptables::of(false)
        };
        if find(&iptables.program("restore")).is_none() {
            return Ok(None);
        }
        let output = iptables.run("restore", &["--version"], None)?;
        let (version, flavour) = read_version(&String::from_utf8_lossy(&output.stdout));
        Ok(Some(Programs {
            flavour,
            infix,
            version,
        }))
    }
}

/// Tables that the nftables flavour may have filled. Without a socket: none.
fn has_nft_tables(nft: Option<&mut Nft>) -> Result<bool, Error> {
    let Some(nft) = nft else { return Ok(false) };
    Ok(nft.tables()?.iter().any(|(family, name)| {
        matches!(family, Family::Ip | Family::Ip6) && NFT_TABLES.contains(&name.as_str())
    }))
}

/// `usage` of nf_tables and of the legacy flavour.
fn choose([nft, legacy]: [Usage; 2], usual: Flavour) -> Flavour {
    match (nft.kubernetes, legacy.kubernetes) {
        (true, _) => Flavour::Nft,
        (false, true) => Flavour::Legacy,
        (false, false) if nft.rules == legacy.rules => usual,
        (false, false) if legacy.rules > nft.rules => Flavour::Legacy,
        (false, false) => Flavour::Nft,
    }
}

fn count(listing: &str) -> Usage {
    let mut lines = listing.lines();
    Usage {
        rules: lines.clone().filter(|line| line.starts_with("-A ")).count(),
        kubernetes: lines.any(|line| line.starts_with(KUBERNETES)),
    }
}

/// Of "iptables-restore v1.8.9 (nf_tables)". Versions before 1.8 name no flavour: they are legacy.
fn read_version(text: &str) -> (Version, Flavour) {
    let mut words = text.split_whitespace();
    let version = words.find_map(|word| word.strip_prefix('v'));
    let mut numbers = version.unwrap_or_default().split('.').map(|number| {
        let digits = number.split(|c: char| !c.is_ascii_digit()).next();
        digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)
    });
    let mut next = || numbers.next().unwrap_or(0);
    let version = (next(), next(), next());
    let flavour = match text.contains("nf_tables") {
        true => Flavour::Nft,
        false => Flavour::Legacy,
    };
    (version, flavour)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_and_flavour_are_read() {
        for (text, version, flavour) in [
            (
                "iptables-restore v1.8.9 (nf_tables)\n",
                (1, 8, 9),
                Flavour::Nft,
            ),
            (
                "iptables-restore v1.8.9 (legacy)\n",
                (1, 8, 9),
                Flavour::Legacy,
            ),
            ("iptables v1.4.21\n", (1, 4, 21), Flavour::Legacy),
            (
                "iptables-restore v1.8.10-rc1 (nf_tables)",
                (1, 8, 10),
                Flavour::Nft,
            ),
            ("v99999999999.x", (0, 0, 0), Flavour::Legacy),
            ("", (0, 0, 0), Flavour::Legacy),
        ] {
            assert_eq!(read_version(text), (version, flavour), "{text}");
        }
        let of = |version| Programs {
            flavour: Flavour::Nft,
            infix: "-nft",
            version,
        };
        assert!(!of((1, 6, 1)).has_random_fully());
        assert!(of((1, 6, 2)).has_random_fully() && of((1, 8, 0)).has_random_fully());
        assert_eq!(of((1, 8, 9)).to_string(), "iptables-nft v1.8.9 (nf_tables)");
    }

    #[test]
    fn flavour_with_chains_of_kubernetes_or_more_rules_is_in_use() {
        let usage = |kubernetes, rules| Usage { kubernetes, rules };
        use Flavour::{Legacy, Nft};
        for (nft, legacy, usual, expected) in [
            (usage(false, 0), usage(false, 0), Nft, Nft),
            (usage(false, 0), usage(false, 0), Legacy, Legacy),
            (usage(false, 3), usage(false, 3), Legacy, Legacy),
            (usage(false, 3), usage(false, 4), Nft, Legacy),
            (usage(false, 4), usage(false, 3), Legacy, Nft),
            (usage(false, 90), usage(true, 3), Nft, Legacy),
            (usage(true, 1), usage(false, 90), Legacy, Nft),
            (usage(true, 1), usage(true, 90), Legacy, Nft),
        ] {
            assert_eq!(choose([nft, legacy], usual), expected, "{nft:?} {legacy:?}");
        }
    }

    #[test]
    fn rules_and_chains_of_kubernetes_are_counted() {
        let text = "*mangle\n:PREROUTING ACCEPT [0:0]\n:KUBE-KUBELET-CANARY - [0:0]\nCOMMIT\n*nat\n-A PREROUTING -j A\nCOMMIT\n";
        let usage = Usage {
            kubernetes: true,
            rules: 1,
        };
        assert_eq!(count(text), usage);
        let text = "*nat\n-A A -m comment --comment \":KUBE-A\" -j B\n";
        assert!(!count(text).kubernetes);
    }
}
