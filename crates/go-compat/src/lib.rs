//! Text as Go's standard library reads and writes it: JSON (`encoding/json`), addresses and CIDRs
//! (`net`).

pub mod cidr;
pub mod json;
