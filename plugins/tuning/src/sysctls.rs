//! Writes and compares sysctls in the calling thread's namespace.

use cni_conf::Error;

/// Sets each.
pub fn apply(sysctls: &[(String, String)]) -> Result<(), Error> {
    for (key, value) in sysctls {
        linux_net::sysctl::set(key, value).map_err(Error::internal)?;
    }
    Ok(())
}

/// CHECK: each still has its value.
pub fn check(sysctls: &[(String, String)]) -> Result<(), Error> {
    for (key, value) in sysctls {
        let is = linux_net::sysctl::get(key).map_err(Error::internal)?;
        // the kernel separates several numbers by tabs
        if is.split_whitespace().ne(value.split_whitespace()) {
            return Err(Error::internal(format!(
                "Error: Tuning configured value of {key} is {value}, current value is {is}"
            )));
        }
    }
    Ok(())
}
