//! ADD: computes the plan, executes it, and rolls back if a step fails.

use crate::{
    Error, bridge,
    conf::Settings,
    container,
    device::{self, Device},
    error::Context,
    gateway, masquerade,
    plan::Plan,
    sandbox::Sandbox,
    spoof,
    undo::Undo,
    veth::{self, Veth},
    vlan, wait,
};
use cni_conf::{AddResult, Code, Interface, Version};
use linux_net::{Netlink, link::Kind};
use plugin::{Attachment, Call, Plugin, delegate};
use std::mem::take;

/// IPAM plugins that do not need the interface. They run before its creation, so that an exhausted
/// range costs no device, whose deletion takes longer than all other steps. Others (dhcp) run after
/// it, in upstream's order.
const IPAM_BEFORE_INTERFACE: [&str; 2] = ["host-local", "static"];

pub(crate) fn add(call: &Call) -> Result<AddResult, Error> {
    let settings = Settings::of(call)?;
    if call.net.ipam_type == crate::PLUGIN.name() {
        return Err(ipam_is_itself());
    }
    if !settings.layer3 && call.net.version < Version::V0_3_0 {
        return Err(Error::ResultNeedsAddress);
    }
    let sandbox = Sandbox::open(&call.netns)?;
    let mut host = Netlink::open().context("failed to open a netlink socket")?;
    let bridge = bridge::ensure(&mut host, &settings)?;
    let mut setup = Setup {
        call,
        settings,
        owner: call.attachment(),
        host,
        sandbox,
        bridge,
        gateway: None,
        undo: Undo::default(),
    };
    setup.remove_leftover()?;
    setup.run().map_err(|error| setup.roll_back(error))
}

fn ipam_is_itself() -> Error {
    let text = "\"ipam.type\" is \"bridge\": the plugin cannot be its own IPAM plugin";
    cni_conf::Error::new(Code::InvalidNetworkConfig, text).into()
}

/// The state that the steps of an ADD share.
struct Setup<'a> {
    call: &'a Call,
    settings: Settings,
    owner: Attachment,
    host: Netlink,
    sandbox: Sandbox,
    bridge: Device,
    /// The gateway interface of the VLAN.
    gateway: Option<Device>,
    undo: Undo,
}

impl Setup<'_> {
    /// Removes what a killed ADD of this attachment left: the host end has the attachment's alias,
    /// and the container's interface is down, because its coming up is the last step of an ADD.
    /// Err: the interface name is in use otherwise.
    fn remove_leftover(&mut self) -> Result<(), Error> {
        let ifname = &self.call.ifname;
        let Some(link) = device::lookup(&mut self.sandbox.netlink, ifname)? else {
            return Ok(());
        };
        let host_end = veth::find_host_end(&mut self.host, &self.owner)
            .context(format!("failed to lookup {ifname:?}"))?;
        let unfinished = link.kind == Kind::Veth && !link.up;
        let leftover = host_end
            .filter(|end| unfinished && end.lower.is_none_or(|index| index == link.index))
            .ok_or_else(|| veth::interface_exists(&self.owner))?;
        let undo = Undo {
            veth: Some(leftover.name),
            ipam: true,
            masquerade: true,
            spoof_check: true,
        };
        let failures = undo.run(self.call, &self.owner, &mut self.host);
        match failures.is_empty() {
            true => Ok(()),
            false => Err(with_failures(
                veth::interface_exists(&self.owner),
                &failures,
            )),
        }
    }

    fn roll_back(&mut self, error: Error) -> Error {
        let undo = take(&mut self.undo);
        with_failures(error, &undo.run(self.call, &self.owner, &mut self.host))
    }

    fn run(&mut self) -> Result<AddResult, Error> {
        // before IPAM: its address would be that of a pod that exists
        let name = veth::free_name(&mut self.host, &self.owner)?;
        let mut ipam = AddResult::default();
        let early = IPAM_BEFORE_INTERFACE.contains(&self.call.net.ipam_type.as_str());
        if self.settings.layer3 && early {
            ipam = self.run_ipam()?;
        }
        let veth = self.create_veth(name)?;
        if self.settings.layer3 && !early {
            ipam = self.run_ipam()?;
        }
        let plan = match self.settings.layer3 {
            true => Plan::new(&self.settings, &ipam)?,
            false => Plan::default(),
        };
        self.set_up_gateway(&plan, &veth)?;
        self.add_filter_rules(&plan, &veth)?;
        self.configure_container(&plan, &veth)?;
        if !self.settings.leave_down {
            wait::port_up(&mut self.host, &veth.host)?;
        }
        self.result(plan, veth, ipam)
    }

    fn run_ipam(&mut self) -> Result<AddResult, Error> {
        let result = delegate::ipam_add(self.call, self.sandbox.netlink.netns_cookie())?;
        self.undo.ipam = true;
        Ok(result)
    }

    fn create_veth(&mut self, name: u32) -> Result<Veth, Error> {
        let (host, sandbox) = (&mut self.host, &mut self.sandbox);
        let veth = veth::create(
            host,
            sandbox,
            &self.owner,
            name,
            &self.bridge,
            &self.settings,
        )?;
        self.undo.veth = Some(veth.host.name.clone());
        vlan::configure_port(host, &veth.host, &self.settings.vlans)?;
        Ok(veth)
    }

    /// Adds the gateway addresses to the bridge, or to the gateway interface of the VLAN.
    fn set_up_gateway(&mut self, plan: &Plan, veth: &Veth) -> Result<(), Error> {
        if !self.settings.gateway || !self.settings.layer3 {
            return Ok(());
        }
        let mut own_ports = vec![veth.host.index];
        let vlans = &self.settings.vlans;
        if let Some(vlan) = vlans.access {
            let keep = vlans.preserve_default;
            let (gateway, port) = vlan::ensure_gateway(&mut self.host, &self.bridge, vlan, keep)?;
            self.gateway = Some(gateway);
            own_ports.push(port);
        }
        gateway::ensure_addresses(
            &mut self.host,
            self.gateway.as_ref().unwrap_or(&self.bridge),
            self.bridge.index,
            &plan.gateways,
            &own_ports,
            self.settings.force_address,
        )?;
        gateway::enable_forwarding(&plan.gateways)
    }

    /// Masquerade and spoof check, installed before the pod can send.
    fn add_filter_rules(&mut self, plan: &Plan, veth: &Veth) -> Result<(), Error> {
        if let Some(backend) = self.settings.masquerade
            && !plan.ips.is_empty()
        {
            self.undo.masquerade = true;
            masquerade::add(backend, &self.owner, &plan.ips)?;
        }
        if self.settings.spoof_check
            && let Some(mac) = veth.container.mac
        {
            self.undo.spoof_check = true;
            spoof::add(&self.owner, &veth.host.name, mac)?;
        }
        Ok(())
    }

    fn configure_container(&mut self, plan: &Plan, veth: &Veth) -> Result<(), Error> {
        let (sandbox, settings) = (&mut self.sandbox, &self.settings);
        if settings.layer3 {
            container::set_sysctls(sandbox, &self.call.ifname, settings, plan.has_ipv6())?;
            return container::configure(sandbox, &veth.container, plan, settings);
        }
        match settings.leave_down {
            true => Ok(()),
            false => container::bring_up(sandbox, &veth.container),
        }
    }

    fn result(&mut self, plan: Plan, veth: Veth, ipam: AddResult) -> Result<AddResult, Error> {
        // a bridge without a fixed MAC may have taken the new port's
        if !self.settings.gateway
            && let Some(link) = self
                .host
                .link_by_index(self.bridge.index)
                .context("failed to lookup the bridge")?
        {
            self.bridge = link.into();
        }
        let show_mtu = self.call.net.version >= Version::V1_1_0;
        let interface = |device: &Device, sandbox: &str| Interface {
            name: device.name.clone(),
            mac: device.mac.map(|mac| mac.to_string()).unwrap_or_default(),
            mtu: show_mtu.then_some(device.mtu),
            sandbox: sandbox.to_owned(),
            ..Interface::default()
        };
        let mut interfaces = vec![
            interface(&self.bridge, ""),
            interface(&veth.host, ""),
            interface(&veth.container, &self.call.netns),
        ];
        interfaces.extend(self.gateway.as_ref().map(|device| interface(device, "")));
        let configured = &self.call.net.dns;
        Ok(AddResult {
            interfaces,
            ips: plan.ips,
            routes: plan.routes,
            dns: match configured.is_empty() {
                true => ipam.dns,
                false => configured.clone(),
            },
        })
    }
}

/// Appends the failures of the rollback to the error's details.
fn with_failures(error: Error, failures: &[Error]) -> Error {
    if failures.is_empty() {
        return error;
    }
    let mut error = cni_conf::Error::from(error);
    if !error.details.is_empty() {
        error.details.push_str("; ");
    }
    error.details.push_str("the rollback failed: ");
    let failures: Vec<_> = failures.iter().map(ToString::to_string).collect();
    error.details.push_str(&failures.join("; "));
    error.into()
}
