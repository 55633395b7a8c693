//! Which subnets a network has: upstream's defaults, checks and messages, the same for both families.

/// What differs between the families in upstream's checks.
pub struct Family {
    bits: u8,
    /// "" or "IPv6", before the names of keys
    prefix: &'static str,
    /// longest SubnetLen
    longest: u8,
    too_long: &'static str,
    /// networks up to this length get subnets of length `usual`
    roomy: u8,
    usual: u8,
    too_small: &'static str,
}

/// IPv4.
pub const V4: Family = Family {
    bits: 32,
    prefix: "",
    longest: 30,
    too_long: "SubnetLen must be less than /31",
    roomy: 22,
    usual: 24,
    too_small: "network is too small. Minimum useful network prefix is /28",
};
/// IPv6.
pub const V6: Family = Family {
    bits: 128,
    prefix: "IPv6",
    longest: 126,
    too_long: "SubnetLen must be less than /127",
    roomy: 62,
    usual: 64,
    too_small: "IPv6Network is too small. Minimum useful network prefix is /124",
};

/// A network and its keys, as numbers.
pub struct Numbers {
    /// Its first address.
    pub network: u128,
    /// Its length.
    pub prefix: u8,
    /// SubnetMin.
    pub min: Option<u128>,
    /// SubnetMax.
    pub max: Option<u128>,
    /// SubnetLen; 0: not given.
    pub len: u8,
}

/// The subnets that may be leased.
pub struct Range {
    /// First.
    pub min: u128,
    /// Last.
    pub max: u128,
    /// Length of each.
    pub len: u8,
}

impl Family {
    /// Fills in what is not given and checks all; `show` writes an address.
    pub fn check(&self, numbers: Numbers, show: impl Fn(u128) -> String) -> Result<Range, String> {
        let len = self.subnet_len(numbers.prefix, numbers.len)?;
        let size = 1u128 << (self.bits - len);
        let last_address = numbers.network | (self.all() >> numbers.prefix);
        let inside = |number: u128| (numbers.network..=last_address).contains(&number);
        let name = self.prefix;
        // the first subnet is not used: its first address is the network's own
        let min = numbers.min.unwrap_or(numbers.network + size);
        if !inside(min) {
            return Err(format!(
                "{name}SubnetMin is not in the range of the {name}Network"
            ));
        }
        let max = numbers.max.unwrap_or(last_address - (size - 1));
        if !inside(max) {
            return Err(format!(
                "{name}SubnetMax is not in the range of the {name}Network"
            ));
        }
        for (key, number) in [("SubnetMin", min), ("SubnetMax", max)] {
            if number % size != 0 {
                return Err(format!(
                    "{name}{key} is not on a SubnetLen boundary: {}",
                    show(number)
                ));
            }
        }
        Ok(Range { min, max, len })
    }

    /// The given length, checked, or the default: the usual one, or four subnets if the network is small.
    fn subnet_len(&self, network: u8, given: u8) -> Result<u8, String> {
        if given > 0 {
            if given > self.longest {
                return Err(self.too_long.to_owned());
            }
            if given < network + 2 {
                return Err("network must be able to accommodate at least four subnets".to_owned());
            }
            Ok(given)
        } else if network > self.longest - 2 {
            Err(self.too_small.to_owned())
        } else if network <= self.roomy {
            Ok(self.usual)
        } else {
            Ok(network + 2)
        }
    }

    /// All bits of an address.
    fn all(&self) -> u128 {
        u128::MAX >> (128 - self.bits)
    }
}
