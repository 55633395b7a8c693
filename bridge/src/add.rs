//! ADD: plan, execute, and take everything back if a step fails.
use crate::{
    Error,
    bridge::{self, Device},
    conf::Settings,
    error::Step,
    masquerade,
    names::Owner,
    plan::Plan,
    pod::{self, Sandbox, Veth},
    spoof,
    undo::Undo,
    vlan_port, wait,
};
use cni_conf::{AddResult, Interface, Version};
use linux_net::{Netlink, link::Kind};
use plugin::{Call, delegate};

/// IPAM plugins that never look at the interface: they are asked before it is made, so that an exhausted range costs no
/// device, whose removal takes longer than all the rest. Others (dhcp) find the interface there, as upstream's order has it.
const IPAM_BEFORE_INTERFACE: [&str; 2] = ["host-local", "static"];

/// The whole verb.
pub fn add(call: &Call) -> Result<AddResult, Error> {
    let settings = Settings::of(call)?;
    if !settings.layer3 && call.net.version < Version::V0_3_0 {
        // such a result cannot be told in the configuration's version: better now than when all is done
        return Err(cni_conf::Error::internal("cannot convert: no valid IP addresses").into());
    }
    let owner = Owner::of_call(call);
    let mut sandbox = Sandbox::open(&call.netns)?;
    let mut host = Netlink::open().step("failed to open a netlink socket")?;
    let bridge = bridge::ensure(&mut host, &settings)?;
    make_room(call, &owner, &mut host, &mut sandbox)?;

    let mut undo = Undo::default();
    let mut attachment = Attachment {
        call,
        settings: &settings,
        owner: &owner,
        host: &mut host,
        sandbox: &mut sandbox,
        bridge,
        gateway: None,
    };
    match attachment.make(&mut undo) {
        Ok(result) => Ok(result),
        Err(error) => {
            let failures = undo.run(call, &owner, &mut host);
            Err(with_failures(error, &failures))
        }
    }
}

/// The interface name must be free. What an ADD of this very attachment left when it was killed is removed: it bears our mark,
/// and it is not up yet, since coming up is an ADD's last step.
fn make_room(
    call: &Call,
    owner: &Owner,
    host: &mut Netlink,
    sandbox: &mut Sandbox,
) -> Result<(), Error> {
    let lookup = || format!("failed to lookup {:?}", call.ifname);
    let Some(link) = sandbox.netlink.link_by_name(&call.ifname).step(lookup())? else {
        return Ok(());
    };
    let leftover = match pod::host_end(host, owner).step(lookup())? {
        Some(end)
            if link.kind == Kind::Veth && !link.up && end.lower.is_none_or(|i| i == link.index) =>
        {
            end
        }
        _ => return Err(pod::interface_exists(owner, &call.ifname)),
    };
    let undo = Undo {
        veth: Some(leftover.name),
        ipam: true,
        masquerade: true,
        spoof_check: true,
    };
    let failures = undo.run(call, owner, host);
    if failures.is_empty() {
        Ok(())
    } else {
        let error = pod::interface_exists(owner, &call.ifname);
        Err(with_failures(error, &failures))
    }
}

fn with_failures(error: Error, failures: &[String]) -> Error {
    if failures.is_empty() {
        return error;
    }
    let mut error = cni_conf::Error::from(error);
    if !error.details.is_empty() {
        error.details.push_str("; ");
    }
    error.details.push_str("after that: ");
    error.details.push_str(&failures.join("; "));
    error.into()
}

/// One pod on its way to the bridge.
struct Attachment<'a> {
    call: &'a Call,
    settings: &'a Settings,
    owner: &'a Owner,
    host: &'a mut Netlink,
    sandbox: &'a mut Sandbox,
    bridge: Device,
    /// the VLAN interface with the gateway address, where there is one
    gateway: Option<Device>,
}

impl Attachment<'_> {
    fn make(&mut self, undo: &mut Undo) -> Result<AddResult, Error> {
        let mut ipam = AddResult::default();
        let early = IPAM_BEFORE_INTERFACE.contains(&self.call.net.ipam_type.as_str());
        if self.settings.layer3 && early {
            ipam = self.ask_ipam(undo)?;
        }
        let veth = self.make_veth(undo)?;
        if self.settings.layer3 && !early {
            ipam = self.ask_ipam(undo)?;
        }
        let plan = if self.settings.layer3 {
            let plan = Plan::new(self.settings, &ipam)?;
            self.serve(&plan, &veth)?;
            self.protect(&plan, &veth, undo)?;
            pod::prepare(
                self.sandbox,
                &self.call.ifname,
                self.settings,
                plan.has_ipv6(),
            )?;
            pod::configure(self.sandbox, &veth.container, &plan, self.settings)?;
            plan
        } else {
            self.protect(&Plan::default(), &veth, undo)?;
            if !self.settings.leave_down {
                pod::bring_up(self.sandbox, &veth.container)?;
            }
            Plan::default()
        };
        if !self.settings.leave_down {
            wait::port_up(self.host, &veth.host)?;
        }
        self.result(plan, veth, ipam)
    }

    fn ask_ipam(&self, undo: &mut Undo) -> Result<AddResult, Error> {
        let result = delegate::ipam_add(self.call)?;
        undo.ipam = true;
        Ok(result)
    }

    fn make_veth(&mut self, undo: &mut Undo) -> Result<Veth, Error> {
        let veth = pod::create(
            self.host,
            self.sandbox,
            self.owner,
            &self.call.ifname,
            &self.bridge,
            self.settings,
        )?;
        undo.veth = Some(veth.host.name.clone());
        vlan_port::configure(self.host, &veth.host, &self.settings.vlans)?;
        Ok(veth)
    }

    /// The bridge serves as the pods' gateway.
    fn serve(&mut self, plan: &Plan, veth: &Veth) -> Result<(), Error> {
        if !self.settings.gateway {
            return Ok(());
        }
        let mut own = vec![veth.host.index];
        self.gateway = vlan_port::gateway(self.host, &self.bridge, self.settings, &mut own)?;
        let device = self.gateway.as_ref().unwrap_or(&self.bridge);
        bridge::ensure_addresses(
            self.host,
            self.settings,
            device,
            &self.bridge,
            &plan.gateways,
            &own,
        )?;
        bridge::enable_forwarding(&plan.gateways)
    }

    /// Packet filter: masquerade, and the check of the pod's MAC. Before the pod can send anything.
    fn protect(&self, plan: &Plan, veth: &Veth, undo: &mut Undo) -> Result<(), Error> {
        if let Some(backend) = self.settings.masquerade
            && !plan.ips.is_empty()
        {
            undo.masquerade = true;
            masquerade::add(backend, self.owner, &plan.ips)?;
        }
        if self.settings.spoof_check
            && let Some(mac) = veth.container.mac
        {
            undo.spoof_check = true;
            spoof::add(self.owner, &veth.host.name, mac)?;
        }
        Ok(())
    }

    fn result(&mut self, plan: Plan, veth: Veth, ipam: AddResult) -> Result<AddResult, Error> {
        // without an address of its own a bridge that somebody else made may have taken the new port's MAC
        if !self.settings.gateway
            && let Some(link) = self
                .host
                .link_by_index(self.bridge.index)
                .step("failed to lookup the bridge")?
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
            dns: if configured.is_empty() {
                ipam.dns
            } else {
                configured.clone()
            },
        })
    }
}
