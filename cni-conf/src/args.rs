//! `CNI_ARGS`: `K=V;K=V`, as Go's types.LoadArgs reads it.
use crate::Error;
/// The pairs in order. `ARGS: invalid pair "x"` (code 999) for anything that is not exactly `K=V`; "" gives none.
pub fn parse(_args: &str) -> Result<Vec<(String, String)>, Error> {
    todo!()
}
/// Picks the known keys (case-sensitive); an unknown one is `ARGS: unknown args ["FOO=1"]` unless IgnoreUnknown=1|true is there.
/// Returns the value of each of `known`, in that order.
pub fn load(_args: &str, _known: &[&str]) -> Result<Vec<Option<String>>, Error> {
    todo!()
}
