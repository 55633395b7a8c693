//! Which attachments no longer exist. Pure: from what was found to what is removed and left.

use flannel_cni::StateFile;
use host_local::{Container, Reservation};
use plugin::Attachment;
use std::{
    collections::{BTreeMap, HashSet},
    fmt,
    path::PathBuf,
};

/// What was found on the node.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// host-local's reservations, each with its `dataDir`.
    pub(super) reservations: Vec<(PathBuf, Reservation)>,
    /// flannel's state files.
    pub(super) states: Vec<StateFile>,
    /// The `dataDir` of host-local that state files without one mean.
    pub(super) data_dir: PathBuf,
    /// The containers for which a plugin runs. None: the processes cannot be read.
    pub(super) busy: Option<HashSet<String>>,
    /// The aliases of the links of the host.
    pub(super) aliases: HashSet<String>,
}

/// An attachment whose container no longer exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Gone {
    pub(super) owner: Attachment,
    /// Its addresses, and host-local's folder of each.
    pub(super) addresses: Vec<(PathBuf, String)>,
    /// It has a state file of flannel.
    pub(super) has_state: bool,
    reason: String,
}

impl fmt::Display for Gone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Attachment {
            network,
            container_id,
            ifname,
        } = &self.owner;
        write!(
            f,
            "container {container_id}, interface {ifname}, network {network}"
        )?;
        let mut parts: Vec<&str> = self.addresses.iter().map(|(_, ip)| ip.as_str()).collect();
        if self.has_state {
            parts.push("state file");
        }
        write!(f, " ({}): {}", parts.join(", "), self.reason)
    }
}

/// What to do.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) gone: Vec<Gone>,
    /// What is left, each with the reason.
    pub(super) left: Vec<(String, String)>,
}

/// Decides about each attachment that something was found of.
pub(super) fn judge(findings: &Findings) -> Plan {
    let mut plan = Plan::default();
    let mut gone: BTreeMap<(String, String, String), Gone> = BTreeMap::new();
    for (
        data_dir,
        Reservation {
            owner,
            address,
            container,
        },
    ) in &findings.reservations
    {
        let what = || format!("addresses of network {}", owner.network);
        let reason = match container {
            Container::Exists => continue,
            Container::Ending(_) => {
                let in_use = "nothing is at their CNI_NETNS, but a process is in the namespace";
                plan.left.push((what(), in_use.to_owned()));
                continue;
            }
            Container::Unknown(reason) => {
                plan.left.push((what(), (*reason).to_owned()));
                continue;
            }
            Container::Gone(reason) => reason,
        };
        if let Some(doubt) = findings.doubt(owner) {
            plan.left.push((what(), doubt));
            continue;
        }
        let one = gone.entry(key(owner)).or_insert_with(|| Gone {
            owner: with_interface(owner),
            addresses: Vec::new(),
            has_state: false,
            reason: reason.clone(),
        });
        one.addresses.push((data_dir.clone(), address.clone()));
    }
    for state in &findings.states {
        match findings.state(state, &gone) {
            Verdict::Exists => {}
            Verdict::Unknown(reason) => {
                let what = format!("state file {}", state.path.display());
                plan.left.push((what, reason));
            }
            Verdict::Gone(owner, reason) => {
                let one = gone.entry(key(&owner)).or_insert_with(|| Gone {
                    owner,
                    addresses: Vec::new(),
                    has_state: true,
                    reason,
                });
                one.has_state = true;
            }
        }
    }
    plan.gone = gone.into_values().collect();
    plan
}

enum Verdict {
    Exists,
    Unknown(String),
    Gone(Attachment, String),
}

impl Findings {
    fn state(&self, state: &StateFile, gone: &BTreeMap<(String, String, String), Gone>) -> Verdict {
        let Some(owner) = state.owner() else {
            return Verdict::Unknown("it is damaged".to_owned());
        };
        let data_dir = state.ipam_data_dir.as_ref().unwrap_or(&self.data_dir);
        let mut of_container = self.reservations.iter().filter(|(folder, found)| {
            let found = &found.owner;
            let is_interface =
                state.ifname.is_none() || found.ifname.is_empty() || found.ifname == owner.ifname;
            folder == data_dir
                && found.network == owner.network
                && found.container_id == owner.container_id
                && is_interface
        });
        if let Some((_, reservation)) = of_container.next() {
            // that of the reservation, which upstream's file does not tell
            return match gone.get(&key(&reservation.owner)) {
                Some(one) => Verdict::Gone(one.owner.clone(), one.reason.clone()),
                // its address is left, with the reason
                None => Verdict::Exists,
            };
        }
        if state.ipam != "host-local" {
            let ipam = &state.ipam;
            return Verdict::Unknown(format!(
                "{ipam:?} does not tell whether its container exists"
            ));
        }
        match self.doubt(&owner) {
            Some(doubt) => Verdict::Unknown(doubt),
            None => Verdict::Gone(owner, "it has no address any more".to_owned()),
        }
    }

    /// Why an attachment may exist although its namespace, or its address, is gone.
    fn doubt(&self, owner: &Attachment) -> Option<String> {
        let owner = with_interface(owner);
        let is_same = |found: &Reservation| {
            found.owner.container_id == owner.container_id && found.container == Container::Exists
        };
        if self.reservations.iter().any(|(_, found)| is_same(found)) {
            return Some("another interface of the container exists".to_owned());
        }
        if self.aliases.contains(&owner.alias("bridge")) {
            return Some("the container's link exists".to_owned());
        }
        match &self.busy {
            None => return Some("the processes of this machine cannot be read".to_owned()),
            Some(busy) if busy.contains(&owner.container_id) => {
                return Some("a plugin runs for the container".to_owned());
            }
            Some(_) => {}
        }
        None
    }
}

/// A reservation from before 0.8 names no interface.
fn with_interface(owner: &Attachment) -> Attachment {
    let mut owner = owner.clone();
    if owner.ifname.is_empty() {
        owner.ifname = "eth0".to_owned();
    }
    owner
}

fn key(owner: &Attachment) -> (String, String, String) {
    let Attachment {
        network,
        container_id,
        ifname,
    } = with_interface(owner);
    (network, container_id, ifname)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATA: &str = "/var/lib/cni/networks";

    fn reservation(id: &str, ifname: &str, container: Container) -> (PathBuf, Reservation) {
        let reservation = Reservation {
            owner: Attachment::new("net", id, ifname),
            address: format!("10.0.0.{}", id.len()),
            container,
        };
        (DATA.into(), reservation)
    }

    fn state(id: &str, ifname: Option<&str>, ipam: &str) -> StateFile {
        StateFile {
            path: format!("/var/lib/cni/flannel/{id}").into(),
            container_id: id.to_owned(),
            ifname: ifname.map(str::to_owned),
            network: Some("net".to_owned()),
            ipam: ipam.to_owned(),
            ipam_data_dir: None,
        }
    }

    fn found() -> Findings {
        Findings {
            data_dir: DATA.into(),
            busy: Some(HashSet::new()),
            ..Findings::default()
        }
    }

    fn ended() -> Container {
        Container::Gone("its namespace is gone".to_owned())
    }

    fn gone(findings: &Findings) -> Vec<String> {
        let plan = judge(findings).gone;
        plan.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn reservation_and_state_of_one_attachment_go_together() {
        let findings = Findings {
            reservations: vec![
                reservation("c1", "eth0", ended()),
                reservation("c22", "eth0", Container::Exists),
                reservation("c333", "eth0", Container::Unknown("why")),
            ],
            states: vec![
                state("c1", Some("eth0"), "host-local"),
                state("c22", Some("eth0"), "host-local"),
                state("c333", None, "host-local"),
            ],
            ..found()
        };
        assert_eq!(
            gone(&findings),
            [
                "container c1, interface eth0, network net (10.0.0.2, state file): its namespace is gone"
            ]
        );
        let left = [("addresses of network net".to_owned(), "why".to_owned())];
        assert_eq!(judge(&findings).left, left);
    }

    /// Go's DEL releases the address and removes one of the two names.
    #[test]
    fn state_without_an_address_goes() {
        let mut findings = Findings {
            states: vec![
                state("c1", Some("eth0"), "host-local"),
                state("c2", Some("eth0"), "dhcp"),
            ],
            ..found()
        };
        assert_eq!(
            gone(&findings),
            ["container c1, interface eth0, network net (state file): it has no address any more"]
        );
        assert_eq!(judge(&findings).left.len(), 1);
        for doubt in ["alias", "plugin", "processes"] {
            findings.aliases.clear();
            findings.busy = Some(HashSet::new());
            match doubt {
                "alias" => {
                    let owner = Attachment::new("net", "c1", "eth0");
                    findings.aliases.insert(owner.alias("bridge"));
                }
                "plugin" => findings.busy = Some(["c1".to_owned()].into()),
                _ => findings.busy = None,
            }
            assert_eq!(gone(&findings), [""; 0], "{doubt}");
            assert_eq!(judge(&findings).left.len(), 2);
        }
    }

    #[test]
    fn container_with_an_interface_that_exists_keeps_the_others() {
        let findings = Findings {
            reservations: vec![
                reservation("c1", "eth0", Container::Exists),
                reservation("c1", "net1", ended()),
            ],
            ..found()
        };
        assert_eq!(gone(&findings), [""; 0]);
        assert_eq!(
            judge(&findings).left[0].1,
            "another interface of the container exists"
        );
    }

    #[test]
    fn upstreams_files_are_judged_by_the_reservation() {
        let mut old = reservation("c1", "", ended());
        old.1.owner.ifname.clear();
        let findings = Findings {
            reservations: vec![old, reservation("c22", "net1", ended())],
            states: vec![
                state("c1", None, "host-local"),
                state("c22", None, "host-local"),
            ],
            ..found()
        };
        let plan = judge(&findings);
        assert_eq!(plan.gone.len(), 2);
        assert!(plan.gone.iter().all(|one| one.has_state), "{plan:?}");
        assert_eq!(plan.gone[1].owner, Attachment::new("net", "c22", "net1"));
        assert_eq!(plan.left, []);
    }
}
