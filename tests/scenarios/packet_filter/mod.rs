//! packet-filter against the kernel, checked by `nft`.

mod fixtures;
mod sets;
mod shapes;
mod tables;
