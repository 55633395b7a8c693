//! Checks of container ids, network names and interface names (CNI spec section 2), with skel's
//! messages.

use crate::{Code, Error};

/// Longest interface name, in bytes: IFNAMSIZ of linux/if.h without its NUL.
const IFNAME_MAX: usize = 15;

/// Longest container id that ADD accepts, in bytes. The id is the content of files and the comment
/// of rules; runtimes use 64.
pub const CONTAINER_ID_MAX: usize = 4096;

/// Code 4 for an id that is too long for ADD. DEL accepts any: nothing has it.
pub fn check_container_id_length(id: &str) -> Result<(), Error> {
    if id.len() <= CONTAINER_ID_MAX {
        return Ok(());
    }
    let details = format!(
        "it has {} bytes; at most {CONTAINER_ID_MAX} are possible",
        id.len()
    );
    Err(Error::new(Code::InvalidEnvironment, "containerID is too long").details(details))
}

/// Code 4 unless the id matches `^[a-zA-Z0-9][a-zA-Z0-9_.\-]*$`; details: the id.
pub fn check_container_id(id: &str) -> Result<(), Error> {
    if id.is_empty() {
        return Err(Error::new(Code::InvalidEnvironment, "missing containerID"));
    }
    match is_id(id) {
        true => Ok(()),
        false => {
            let msg = "invalid characters in containerID";
            Err(Error::new(Code::InvalidEnvironment, msg).details(id))
        }
    }
}

/// Code 7 unless the name matches the pattern of container ids; details: the name.
pub fn check_network_name(name: &str) -> Result<(), Error> {
    if name.is_empty() {
        return Err(Error::new(
            Code::InvalidNetworkConfig,
            "missing network name",
        ));
    }
    if !is_id(name) {
        return Err(Error::new(
            Code::InvalidNetworkConfig,
            "invalid characters found in network name",
        )
        .details(name));
    }
    Ok(())
}

/// Code 4 unless the name has at most 15 bytes, is neither `.` nor `..`, and contains no `/`, `:`
/// or whitespace.
pub fn check_interface_name(name: &str) -> Result<(), Error> {
    let error = |msg| Err(Error::new(Code::InvalidEnvironment, msg));
    if name.is_empty() {
        return error("interface name is empty");
    }
    if name.len() > IFNAME_MAX {
        return Err(
            Error::new(Code::InvalidEnvironment, "interface name is too long")
                .details("interface name should be less than 16 characters"),
        );
    }
    if name == "." || name == ".." {
        return error("interface name is . or ..");
    }
    if name
        .chars()
        .any(|c| c == '/' || c == ':' || c.is_whitespace())
    {
        return error("interface name contains / or : or whitespace characters");
    }
    Ok(())
}

fn is_id(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes
        .next()
        .is_some_and(|first| first.is_ascii_alphanumeric())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_network_names_have_one_pattern() {
        for good in ["a", "0", "0123abcdef", "A.b_c-d", "cbr0"] {
            assert_eq!(check_container_id(good), Ok(()));
            assert_eq!(check_network_name(good), Ok(()));
        }
        for bad in [
            "../../etc/passwd",
            ".hidden",
            "-x",
            "_x",
            "a/b",
            "a b",
            "a\n",
            "a@eth0",
            "é",
            "a\0",
        ] {
            let error = check_container_id(bad).unwrap_err();
            assert_eq!(
                (error.code, error.msg.as_str()),
                (4, "invalid characters in containerID")
            );
            assert_eq!(error.details, bad);
            let error = check_network_name(bad).unwrap_err();
            assert_eq!(error.code, 7);
            assert_eq!(error.msg, "invalid characters found in network name");
        }
        assert_eq!(
            check_network_name("").unwrap_err().msg,
            "missing network name"
        );
    }

    #[test]
    fn interface_names_fit_the_kernel() {
        for good in ["eth0", "lo", "a23456789012345", "...", "net-1.100"] {
            assert_eq!(check_interface_name(good), Ok(()));
        }
        let message = |name| {
            let error = check_interface_name(name).unwrap_err();
            assert_eq!(error.code, 4);
            error.msg
        };
        assert_eq!(message("a234567890123456"), "interface name is too long");
        assert_eq!(message("éééééééé"), "interface name is too long");
        assert_eq!(message(".."), "interface name is . or ..");
        for bad in ["a/b", "a:1", "a b", "a\tb", "a\u{a0}b", "a\u{2003}b"] {
            assert_eq!(
                message(bad),
                "interface name contains / or : or whitespace characters"
            );
        }
    }
}
