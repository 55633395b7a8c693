//! Reads what the plugins keep, and what tells which containers exist. The order matters: what is
//! to be judged is read before what it is judged by, so that a container that is added meanwhile is
//! not taken for one that is gone.

use super::{judge::Findings, options::Options, report::Report};
use flannel_cni::StateFile;
use host_local::{Container, Reservation, Store};
use linux_net::in_use::{Here, InUse, Survey};
use std::{
    collections::{BTreeSet, HashSet},
    fs,
    io::{self, ErrorKind},
    net::IpAddr,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

/// How long a namespace that ends may keep its veth.
const DISMANTLE_TIMEOUT: Duration = Duration::from_secs(2);
const DISMANTLE_INTERVAL: Duration = Duration::from_millis(50);

/// What there is.
#[derive(Debug)]
pub(super) struct Inventory {
    pub(super) findings: Findings,
    pub(super) rules: Rules,
}

/// What leads to addresses that no container has.
#[derive(Debug, Default)]
pub(super) struct Rules {
    pub(super) portmap: portmap::Leftover,
    pub(super) bridge: bridge::Leftover,
}

impl Inventory {
    /// Err: nothing can be judged.
    pub(super) fn read(options: &Options, report: &mut Report) -> Result<Inventory, String> {
        let data_dir = options.data_dir.join("networks");
        // a state file is written before the address is reserved, by a plugin that runs meanwhile
        let states = flannel_cni::state_files(&options.data_dir.join("flannel"))
            .map_err(|error| error.to_string())?;
        let busy = containers_of_plugins().ok();
        let stores = stores(&data_dir, &states)?;
        let rules = Rules::read(report);
        let View {
            in_use,
            reservations,
            survey,
            aliases,
        } = View::settled(&stores).map_err(|error| error.to_string())?;
        let doubt = match (&in_use.unreadable, &survey.unseen) {
            (Some(error), _) => Some(format!("cannot read every process in /proc: {error}")),
            (_, Some(reason)) => Some(reason.clone()),
            (None, None) => None,
        };
        let rules = rules.judged(&survey.addresses, doubt, report);
        let findings = Findings {
            reservations,
            states,
            data_dir,
            busy,
            aliases,
        };
        Ok(Inventory { findings, rules })
    }
}

impl Rules {
    /// A packet filter that cannot be read is reported.
    fn read(report: &mut Report) -> Rules {
        let portmap = portmap::Leftover::read();
        let bridge = bridge::Leftover::read();
        Rules {
            portmap: portmap.unwrap_or_else(|error| {
                report.failed("host ports", error);
                portmap::Leftover::default()
            }),
            bridge: bridge.unwrap_or_else(|error| {
                report.failed("masquerade rules", error);
                bridge::Leftover::default()
            }),
        }
    }

    /// Leaves those of no address; none of them while there is a doubt.
    fn judged(
        self,
        addresses: &BTreeSet<IpAddr>,
        doubt: Option<String>,
        report: &mut Report,
    ) -> Rules {
        let exists = |ip| addresses.contains(&ip);
        let rules = Rules {
            portmap: self.portmap.without(exists),
            bridge: self.bridge.without(exists),
        };
        let Some(doubt) = doubt else { return rules };
        for ip in rules.portmap.addresses() {
            report.left(format!("host ports to {ip}"), &doubt);
        }
        for ip in rules.bridge.addresses() {
            report.left(format!("masquerade rules of {ip}"), &doubt);
        }
        Rules::default()
    }
}

/// The stores of host-local: those of the default folder, and those that state files name.
fn stores(data_dir: &Path, states: &[StateFile]) -> Result<Vec<(PathBuf, Store)>, String> {
    let named = states
        .iter()
        .filter_map(|state| state.ipam_data_dir.clone());
    let folders: BTreeSet<PathBuf> = named.chain([data_dir.to_owned()]).collect();
    let mut stores = Vec::new();
    for folder in folders {
        for network in host_local::networks(&folder).map_err(|error| error.to_string())? {
            let store = Store::read(&folder, &network).map_err(|error| error.to_string())?;
            stores.extend(store.map(|store| (folder.clone(), store)));
        }
    }
    Ok(stores)
}

/// What tells which containers exist, at one moment.
struct View {
    in_use: InUse,
    reservations: Vec<(PathBuf, Reservation)>,
    survey: Survey,
    /// Those of the host's links.
    aliases: HashSet<String>,
}

impl View {
    /// Looks again while a namespace ends: its last process, and then its veth, take a moment.
    fn settled(stores: &[(PathBuf, Store)]) -> linux_net::Result<View> {
        let until = Instant::now() + DISMANTLE_TIMEOUT;
        loop {
            let view = View::read(stores)?;
            if view.is_settled() || Instant::now() > until {
                return Ok(view);
            }
            thread::sleep(DISMANTLE_INTERVAL);
        }
    }

    fn read(stores: &[(PathBuf, Store)]) -> linux_net::Result<View> {
        let in_use = InUse::read().unwrap_or_else(InUse::unread);
        let reservations = stores.iter().flat_map(|(folder, store)| {
            let reservations = store.reservations(&in_use).into_iter();
            reservations.map(move |one| (folder.clone(), one))
        });
        let here = Here::read()?;
        let survey = in_use.survey(&here);
        let mut reservations: Vec<_> = reservations.collect();
        for (_, one) in &mut reservations {
            if is_of_another_namespace(one, &survey) {
                let reason = "nothing is at its CNI_NETNS, and no namespace has the address";
                one.container = Container::Gone(reason.to_owned());
            }
        }
        Ok(View {
            survey,
            aliases: (here.links.into_iter())
                .filter_map(|link| link.alias)
                .collect(),
            in_use,
            reservations,
        })
    }

    fn is_settled(&self) -> bool {
        let is_ending = |one: &Reservation| match one.container {
            Container::Ending(_) => true,
            Container::Gone(_) => self.aliases.contains(&one.owner.alias("bridge")),
            Container::Exists | Container::Unknown(_) => false,
        };
        let mut all = self.reservations.iter();
        self.survey.unseen.is_none() && !all.any(|(_, one)| is_ending(one))
    }
}

/// True if the namespace that has the number of the reservation's does not have its address: the
/// kernel gave the number of one that has ended to the next one.
fn is_of_another_namespace(reservation: &Reservation, survey: &Survey) -> bool {
    let Container::Ending(inode) = reservation.container else {
        return false;
    };
    let found = survey.by_namespace.get(&inode);
    let address = reservation.address.parse::<IpAddr>();
    found.is_some_and(|found| address.is_ok_and(|address| !found.contains(&address)))
}

/// The containers in the environments of all processes.
fn containers_of_plugins() -> io::Result<HashSet<String>> {
    let mut containers = HashSet::new();
    for process in fs::read_dir("/proc")? {
        let process = process?;
        let is_process = process
            .file_name()
            .as_encoded_bytes()
            .iter()
            .all(u8::is_ascii_digit);
        if !is_process {
            continue;
        }
        let environment = match fs::read(process.path().join("environ")) {
            // it has ended
            Err(error) if has_ended(&error) => continue,
            environment => environment?,
        };
        let variables = environment.split(|byte| *byte == 0);
        let ids = variables.filter_map(|variable| variable.strip_prefix(b"CNI_CONTAINERID="));
        containers.extend(ids.map(|id| String::from_utf8_lossy(id).into_owned()));
    }
    Ok(containers)
}

fn has_ended(error: &io::Error) -> bool {
    const ESRCH: i32 = 3;
    error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(ESRCH)
}
