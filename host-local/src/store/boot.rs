//! Which boot of the machine this is.
use std::fs;

/// The kernel's random id of this boot; unknown where /proc does not tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Boot(Option<String>);

impl Boot {
    /// Of the running kernel.
    pub fn current() -> Boot {
        Boot::read(
            fs::read_to_string("/proc/sys/kernel/random/boot_id")
                .ok()
                .as_deref(),
        )
    }

    /// From the file's text.
    pub fn read(text: Option<&str>) -> Boot {
        let id = text
            .map(str::trim)
            .filter(|id| !id.is_empty() && !id.contains(char::is_whitespace));
        Boot(id.map(str::to_owned))
    }

    /// The id.
    pub fn id(&self) -> Option<&str> {
        self.0.as_deref()
    }
}
