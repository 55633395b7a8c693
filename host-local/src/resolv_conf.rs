//! resolv.conf(5), as far as a CNI result has room for it.
use cni_conf::Dns;

/// Servers, search domains and options add up; of several domains the last one stays. `#` and `;` begin a comment line; what is
/// not known is left out.
pub fn parse(text: &str) -> Dns {
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
    fn what_upstream_makes_of_it() {
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
