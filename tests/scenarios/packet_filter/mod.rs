//! nftables by netlink: `nft` lists what we write in its own words, and we read back what we wrote.
mod fixtures;
mod sets;
mod shapes;
mod tables;
