//! Removes what differs in every run: MAC and link-local addresses, random names of veths, indexes,
//! times and counters.

/// Replaces each random part by a word that says what it is.
pub(super) fn normalize(text: &str) -> String {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let lines: Vec<_> = lines.map(|text| line(&without_quoted_rule(text))).collect();
    lines.join("\n")
}

/// Removes a rule that a message quotes: which one depends on the order of the checks.
fn without_quoted_rule(text: &str) -> String {
    match (text.find("rule `"), text.rfind('`')) {
        (Some(start), Some(end)) => format!("{}RULE{}", &text[..start], &text[end + 1..]),
        _ => text.to_owned(),
    }
}

fn line(text: &str) -> String {
    // "3: eth0@if5: ..."
    let text = match text.split_once(": ") {
        Some((number, rest)) if number.bytes().all(|byte| byte.is_ascii_digit()) => rest,
        _ => text,
    };
    let mut plain = String::new();
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let at_start = !plain.ends_with(|c: char| c.is_ascii_alphanumeric() || c == ':');
        let found = at_start.then(|| random(rest)).flatten();
        match found {
            Some((length, word)) => {
                plain += word;
                rest = &rest[length..];
            }
            None => {
                plain.push(next);
                rest = &rest[next.len_utf8()..];
            }
        }
    }
    plain.replace(" tentative", "").replace(" dynamic", "")
}

/// The length of the random part at the start of `text`, and the word that replaces it.
fn random(text: &str) -> Option<(usize, &'static str)> {
    let while_in = |allowed: &str, from: usize| {
        from + text[from..]
            .bytes()
            .take_while(|byte| allowed.as_bytes().contains(byte))
            .count()
    };
    const HEX: &str = "0123456789abcdef";
    if text.starts_with("fe80::") {
        return Some((while_in("0123456789abcdef:", 0), "LINKLOCAL"));
    }
    let mac = text.get(..17).is_some_and(|mac| {
        mac.bytes().enumerate().all(|(at, byte)| {
            if at % 3 == 2 {
                byte == b':'
            } else {
                HEX.as_bytes().contains(&byte)
            }
        })
    });
    if mac && while_in("0123456789abcdef:", 0) == 17 {
        return Some((17, "MAC"));
    }
    for (prefix, digits, word) in [("veth", 8, "VETH"), ("bwp", 12, "IFB")] {
        if text.starts_with(prefix) && while_in(HEX, prefix.len()) == prefix.len() + digits {
            return Some((prefix.len() + digits, word));
        }
    }
    for prefix in ["if", "link-netnsid ", "peer_ifindex "] {
        let end = while_in("0123456789", prefix.len().min(text.len()));
        if text.starts_with(prefix) && end > prefix.len() {
            return Some((end, "NUMBER"));
        }
    }
    // [12:345], the counters of iptables-save
    let end = text.strip_prefix('[').and_then(|rest| rest.find(']'))?;
    let counters = &text[1..=end];
    let is_counter = counters.contains(':')
        && counters
            .bytes()
            .all(|byte| byte == b':' || byte.is_ascii_digit());
    is_counter.then_some((end + 2, "[COUNTERS]"))
}
