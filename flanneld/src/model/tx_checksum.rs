//! Whether the kernel may leave the checksums of packets that a vxlan device sends to the
//! underlay's interface (`-tx-checksum-offload`).

use std::{fmt, str::FromStr};

/// The value of the option.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum TxChecksumOffload {
    /// Off where a wrong checksum is known to follow, else as it is.
    #[default]
    Auto,
    On,
    Off,
}

/// The first kernel, by its first two numbers, whose address translation leaves the checksum of an
/// encapsulated packet right that a device is still to complete.
const FIXED_KERNEL: (u32, u32) = (5, 7);
/// The driver of a virtual machine's interface with which some hypervisors send wrong checksums of
/// vxlan packets.
const BAD_DRIVER: &str = "vmxnet3";

/// Why auto switches the offload off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Trap {
    /// The release of the kernel.
    Kernel(String),
    /// The interface.
    Driver(String),
}

impl TxChecksumOffload {
    /// What the offload of a vxlan device is to be; None: as it is.
    pub(crate) fn wanted(self, trap: Option<&Trap>) -> Option<bool> {
        match self {
            TxChecksumOffload::On => Some(true),
            TxChecksumOffload::Off => Some(false),
            TxChecksumOffload::Auto => trap.map(|_| false),
        }
    }
}

impl Trap {
    /// What is known of a kernel (`uname -r`) and of the driver of the interface that packets leave
    /// by. A release that cannot be read is a new one.
    pub(crate) fn find(release: &str, interface: &str, driver: &str) -> Option<Trap> {
        if driver == BAD_DRIVER {
            return Some(Trap::Driver(interface.to_owned()));
        }
        let mut numbers = release.split(|character: char| !character.is_ascii_digit());
        let mut number = || numbers.next()?.parse::<u32>().ok();
        let version = number().zip(number())?;
        (version < FIXED_KERNEL).then(|| Trap::Kernel(release.to_owned()))
    }
}

impl fmt::Display for Trap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trap::Kernel(release) => write!(
                f,
                "kernel {release} is older than {}.{} and may send wrong checksums after address translation",
                FIXED_KERNEL.0, FIXED_KERNEL.1
            ),
            Trap::Driver(interface) => write!(
                f,
                "the driver {BAD_DRIVER} of {interface} may send wrong checksums"
            ),
        }
    }
}

impl fmt::Display for TxChecksumOffload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TxChecksumOffload::Auto => "auto",
            TxChecksumOffload::On => "on",
            TxChecksumOffload::Off => "off",
        })
    }
}

impl FromStr for TxChecksumOffload {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<TxChecksumOffload, &'static str> {
        match text {
            "auto" => Ok(TxChecksumOffload::Auto),
            "on" => Ok(TxChecksumOffload::On),
            "off" => Ok(TxChecksumOffload::Off),
            _ => Err("it is auto, on or off"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_kernels_and_one_driver_are_the_trap() {
        for (release, is_trap) in [
            ("4.18.0-553.el8_10.x86_64", true),
            ("5.4.0-216-generic", true),
            ("5.6.19", true),
            ("5.7.0", false),
            ("5.10.0-34-amd64", false),
            ("6.1.0-50-cloud-amd64", false),
            ("10.0", false),
            ("", false),
            ("unknown", false),
            ("99999999999999999999.1", false),
        ] {
            let trap = Trap::find(release, "eth0", "virtio_net");
            assert_eq!(trap.is_some(), is_trap, "{release}");
        }
        let trap = Trap::find("6.12.0", "ens192", "vmxnet3").unwrap();
        assert!(trap.to_string().contains("vmxnet3 of ens192"));
    }

    #[test]
    fn auto_leaves_the_offload_as_it_is_without_a_trap() {
        let trap = Trap::Kernel("5.4.0".to_owned());
        for (option, without, with) in [
            ("auto", None, Some(false)),
            ("on", Some(true), Some(true)),
            ("off", Some(false), Some(false)),
        ] {
            let option: TxChecksumOffload = option.parse().unwrap();
            assert_eq!(
                (option.wanted(None), option.wanted(Some(&trap))),
                (without, with)
            );
        }
        assert!("true".parse::<TxChecksumOffload>().is_err());
        assert_eq!(TxChecksumOffload::default().to_string(), "auto");
    }
}
