//! nftables by netlink: tables as plain data, whole transactions, and reading back. No `nft` process. Knows nothing of CNI.
pub mod error;
pub mod nft;
pub mod rule;
pub mod table;

pub use error::Error;
pub use nft::{Nft, Transaction};
pub use rule::{Rule, Statement};
pub use table::{BaseChain, Chain, ChainType, Family, Hook, Table};
