//! The subset of resolv.conf(5) that a CNI result holds.

use cni_conf::Dns;

/// Servers, search domains and options of several lines are joined; the last domain wins. `#` and
/// `;` start a comment line; unknown keywords are ignored.
pub(crate) fn parse(text: &str) -> Dns {
    let mut dns = Dns::default();
    for line in text.lines() {
        let line = line.trim();
        if line.starts_with(['#', ';']) {
            continue;
        }
        let mut words = line.split_whitespace();
        let key = words.next();
        let first = words.clone().next();
        match (key, first) {
            (Some("nameserver"), Some(server)) => dns.nameservers.push(server.to_owned()),
            (Some("domain"), Some(domain)) => dns.domain = domain.to_owned(),
            (Some("search"), _) => dns.search.extend(words.map(str::to_owned)),
            (Some("options"), _) => dns.options.extend(words.map(str::to_owned)),
            _ => {}
        }
    }
    dns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keywords_are_read_as_upstream_reads_them() {
        let dns = parse(
            "nameserver 1.1.1.1 # first\nnameserver\n; nameserver 9.9.9.9\n#search no\ndomain a\ndomain b c\n\
             search x y\nsearch z\noptions ndots:5 timeout:1\nfoo bar\n\n  nameserver  fd00::1\r\n",
        );
        assert_eq!(dns.nameservers, ["1.1.1.1", "fd00::1"]);
        assert_eq!(dns.domain, "b");
        assert_eq!(dns.search, ["x", "y", "z"]);
        assert_eq!(dns.options, ["ndots:5", "timeout:1"]);
        assert!(parse("").is_empty());
    }
}
