//! Counts the failures in a row after which the back-off grows.

/// HTTP 410: the server no longer has the version from which a watch is to go on.
pub(super) const GONE: u16 = 410;

/// Failures since the last connection that was good.
#[derive(Debug, Default)]
pub(super) struct Failures {
    count: u32,
    /// One of them was an answer of the server.
    answered: bool,
}

impl Failures {
    /// A failure; `code` is that of the server's answer, if there is one. The count begins anew
    /// with the first answer after a time without any, since the server is back, and with each
    /// answer that asks for a listing, since the server works. Returns the count.
    pub(super) fn add(&mut self, code: Option<u16>) -> u32 {
        let is_first_answer = code.is_some() && !self.answered;
        if is_first_answer || code == Some(GONE) {
            self.count = 0;
        }
        self.answered |= code.is_some();
        self.count = self.count.saturating_add(1);
        self.count
    }

    /// The API server answers as it should.
    pub(super) fn clear(&mut self) {
        *self = Failures::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(codes: &[Option<u16>]) -> u32 {
        let mut failures = Failures::default();
        let counts = codes.iter().map(|code| failures.add(*code));
        counts.last().unwrap_or_default()
    }

    #[test]
    fn failures_count_until_the_server_is_back() {
        assert_eq!(after(&[None; 7]), 7);
        assert_eq!(after(&[None, None, None, Some(403)]), 1);
        assert_eq!(after(&[None, None, Some(403), Some(403), Some(503)]), 3);
        // a server that answers now and then is not asked more often
        let now_and_then = [None, Some(503), None, Some(503), None, Some(503)];
        assert_eq!(after(&now_and_then), 5);
    }

    #[test]
    fn listing_that_the_server_asks_for_is_not_delayed_by_an_outage() {
        assert_eq!(after(&[None, None, Some(403), Some(403), Some(GONE)]), 1);
        // one that fails is, a little longer each time
        assert_eq!(after(&[Some(GONE), Some(500), Some(500)]), 3);
    }
}
