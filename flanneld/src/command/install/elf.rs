//! Whether this machine executes a file: the first bytes of an ELF file (elf(5)).

use std::fmt;

const MAGIC: &[u8] = b"\x7fELF";
const CLASS_64: u8 = 2;
const LITTLE_ENDIAN: u8 = 1;
/// `e_machine` by Rust's name of the architecture (elf.h, `EM_*`).
const MACHINES: &[(&str, u16)] = &[
    ("x86_64", 62),
    ("aarch64", 183),
    ("riscv64", 243),
    ("powerpc64", 21),
    ("s390x", 22),
    ("loongarch64", 258),
    ("x86", 3),
    ("arm", 40),
];

/// Why a file is not executed here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    NotAnExecutable,
    Architecture { file: String, own: &'static str },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::NotAnExecutable => f.write_str("not a Linux executable"),
            Refusal::Architecture { file, own } => {
                write!(f, "an executable for {file}, and this machine is {own}")
            }
        }
    }
}

/// Compares with the architecture that flanneld itself is compiled for.
pub(super) fn check(file: &[u8]) -> Result<(), Refusal> {
    check_for(std::env::consts::ARCH, file)
}

fn check_for(own: &'static str, file: &[u8]) -> Result<(), Refusal> {
    let header = file.get(..20).filter(|header| header.starts_with(MAGIC));
    let Some(&[class, order, .., low, high]) = header.and_then(|header| header.get(4..)) else {
        return Err(Refusal::NotAnExecutable);
    };
    let machine = match order {
        LITTLE_ENDIAN => u16::from_le_bytes([low, high]),
        _ => u16::from_be_bytes([low, high]),
    };
    let name = MACHINES.iter().find(|(_, number)| *number == machine);
    let name = name.map_or_else(
        || format!("machine {machine}"),
        |(name, _)| name.to_string(),
    );
    let is_64 = class == CLASS_64;
    if name == own && is_64 == cfg!(target_pointer_width = "64") {
        return Ok(());
    }
    let bits = if is_64 { "64" } else { "32" };
    let file = format!("{name} ({bits} bit)");
    Err(Refusal::Architecture { file, own })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(class: u8, machine: u16) -> Vec<u8> {
        let mut header = [MAGIC, &[class, LITTLE_ENDIAN, 1, 0]].concat();
        header.extend([0; 8]);
        header.extend([2, 0]);
        header.extend(machine.to_le_bytes());
        header
    }

    #[test]
    fn own_executable_is_accepted() {
        let own = std::fs::read("/proc/self/exe").unwrap();
        assert_eq!(check(&own), Ok(()));
    }

    #[test]
    fn architecture_is_named() {
        assert_eq!(check_for("x86_64", &header(2, 62)), Ok(()));
        let refusal = |own, class, machine| check_for(own, &header(class, machine)).unwrap_err();
        assert_eq!(
            refusal("x86_64", 2, 183).to_string(),
            "an executable for aarch64 (64 bit), and this machine is x86_64"
        );
        assert!(
            refusal("x86_64", 1, 62)
                .to_string()
                .contains("x86_64 (32 bit)")
        );
        assert!(
            refusal("aarch64", 2, 9999)
                .to_string()
                .contains("machine 9999")
        );
    }

    #[test]
    fn other_files_are_refused() {
        for file in [b"".as_slice(), b"#!/bin/sh\n", b"\x7fELF\x02\x01", &[0; 64]] {
            assert_eq!(check(file), Err(Refusal::NotAnExecutable));
        }
    }
}
