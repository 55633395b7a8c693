//! firewalld over the system's D-Bus: a container's addresses are sources of a zone.

use crate::{
    bus::{self, Bus, BusFailure},
    dbus::Call,
    error::Failure,
};
use go_compat::cidr;
use std::net::IpAddr;

const FIREWALLD: &str = "org.fedoraproject.FirewallD1";

pub(crate) struct Firewalld(Bus);

impl Firewalld {
    /// None if firewalld does not run, or the bus cannot be used, which upstream does not
    /// distinguish.
    pub(crate) fn running() -> Option<Firewalld> {
        let mut bus = Bus::connect().ok()?;
        bus.call_bus("GetNameOwner", &[FIREWALLD]).ok()?;
        Some(Firewalld(bus))
    }

    pub(crate) fn connect() -> Result<Firewalld, Failure> {
        Bus::connect()
            .map(Firewalld)
            .map_err(|source| Failure::Bus {
                socket: bus::socket_path(),
                source,
            })
    }

    /// An address that is in a zone already stays there, as upstream.
    pub(crate) fn add(&mut self, zone: &str, ips: &[IpAddr]) -> Result<(), Failure> {
        for ip in ips {
            match self.zone_call("addSource", zone, *ip) {
                Err(BusFailure::Answer { text, .. }) if text.contains("ZONE_ALREADY_SET") => {}
                Err(source) => {
                    return Err(Failure::AddSource {
                        address: cidr::host(*ip).to_string(),
                        zone: zone.to_owned(),
                        source,
                    });
                }
                Ok(_) => {}
            }
        }
        Ok(())
    }

    /// An error answer means that the address is not in the zone. A lost connection means that
    /// firewalld has stopped, which removed all addresses.
    pub(crate) fn remove(&mut self, zone: &str, ips: &[IpAddr]) {
        for ip in ips {
            match self.zone_call("removeSource", zone, *ip) {
                Err(BusFailure::Answer { .. }) | Ok(_) => {}
                Err(error) => {
                    plugin::warn(format_args!("firewall: removing {ip} from {zone}: {error}"));
                }
            }
        }
    }

    pub(crate) fn check(&mut self, zone: &str, ips: &[IpAddr]) -> Result<(), Failure> {
        for ip in ips {
            // a failed call is a missing address, as upstream
            if !matches!(self.zone_call("querySource", zone, *ip), Ok(Some(true))) {
                return Err(Failure::MissingSource {
                    address: cidr::host(*ip).to_string(),
                    zone: zone.to_owned(),
                });
            }
        }
        Ok(())
    }

    fn zone_call(
        &mut self,
        member: &str,
        zone: &str,
        ip: IpAddr,
    ) -> Result<Option<bool>, BusFailure> {
        self.0.call(&Call {
            destination: FIREWALLD,
            path: "/org/fedoraproject/FirewallD1",
            interface: "org.fedoraproject.FirewallD1.zone",
            member,
            args: &[zone, &cidr::host(ip).to_string()],
        })
    }
}
