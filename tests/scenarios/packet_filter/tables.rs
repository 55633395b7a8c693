//! Whole tables: written, read back, restored; transactions; foreign tables; notifications.

use super::fixtures::*;
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use packet_filter::{Changed, Family, Nft, NftMonitor, Statement, Transaction};
use std::{collections::BTreeSet, os::fd::AsFd};
use tests::{Host, scenario};

#[scenario]
fn changed_table_is_detected_and_restored() {
    let host = Host::new("node");
    for _ in 0..2 {
        host.run(|| {
            let mut transaction = Transaction::new();
            for family in [Family::Ip, Family::Ip6] {
                transaction.set_table(&flannel(family));
            }
            let mut nft = Nft::open().expect("open");
            nft.commit(&transaction).expect("commit");
            for family in [Family::Ip, Family::Ip6] {
                let wanted = flannel(family);
                assert_eq!(nft.table(family, &wanted.name).expect("read"), Some(wanted));
            }
            assert_eq!(nft.table(Family::Ip, "flannel-ipv6").expect("read"), None);
        });
    }
    assert_eq!(
        host.sh("nft list table ip flannel-ipv4"),
        r#"table ip flannel-ipv4 {
	comment "rules for flannel-ipv4"
	chain postrtg {
		comment "chain to manage traffic masquerading by flannel"
		type nat hook postrouting priority srcnat; policy accept;
		meta mark 0x00004000 return
		ip saddr 10.244.1.0/24 ip daddr 10.244.0.0/16 return
		ip saddr 10.244.0.0/16 ip daddr 10.244.1.0/24 return
		ip saddr != 10.244.1.0/24 ip daddr 10.244.0.0/16 return
		ip saddr 10.244.0.0/16 ip daddr != 224.0.0.0/4 masquerade fully-random
		ip saddr != 10.244.0.0/16 ip daddr 10.244.0.0/16 masquerade fully-random
	}

	chain forward {
		comment "chain to accept flannel traffic"
		type filter hook forward priority filter; policy accept;
		ip saddr 10.244.0.0/16 accept
		ip daddr 10.244.0.0/16 accept
	}
}
"#
    );
    let ipv6 = host.sh("nft list table ip6 flannel-ipv6");
    assert!(
        ipv6.contains("ip6 saddr != fd00:10:244:1::/64 ip6 daddr fd00:10:244::/48 return"),
        "{ipv6}"
    );
    assert!(
        ipv6.contains("ip6 daddr != ff00::/8 masquerade fully-random"),
        "{ipv6}"
    );

    // another program changes it
    host.sh(
        "nft delete chain ip flannel-ipv4 forward; nft insert rule ip flannel-ipv4 postrtg counter",
    );
    host.run(|| {
        let mut nft = Nft::open().expect("open");
        let wanted = flannel(Family::Ip);
        let found = nft.table(Family::Ip, &wanted.name).expect("read");
        assert_ne!(found.as_ref(), Some(&wanted));
        let postrtg = &found.expect("table").chains[0];
        assert_ne!(postrtg.rules[0], rule(Family::Ip, []));
        assert_eq!(postrtg.rules[1..], wanted.chains[0].rules);
        let mut transaction = Transaction::new();
        nft.commit(transaction.set_table(&wanted)).expect("repair");
        assert_eq!(
            nft.table(Family::Ip, &wanted.name).expect("read"),
            Some(wanted)
        );
    });
}

#[scenario]
fn refused_transaction_changes_nothing() {
    let host = Host::new("node");
    host.run(|| {
        let mut nft = Nft::open().expect("open");
        let before = nft.generation().expect("generation");
        let mut transaction = Transaction::new();
        transaction.set_table(&flannel(Family::Ip));
        transaction.append(
            Family::Ip,
            "flannel-ipv4",
            "forward",
            &rule(Family::Ip, [Statement::Jump("nowhere".into())]),
        );
        let error = nft.commit(&transaction).expect_err("no such chain");
        assert_eq!(error.errno(), Some(Errno::ENOENT));
        assert!(
            error
                .to_string()
                .starts_with("add rule ip flannel-ipv4 forward: "),
            "{error}"
        );
        assert_eq!(nft.table(Family::Ip, "flannel-ipv4").expect("read"), None);
        assert_eq!(nft.generation().expect("generation"), before);

        // the second commit depends on an outdated generation
        let mut transaction = Transaction::new();
        transaction.only_if(before).set_table(&flannel(Family::Ip));
        nft.commit(&transaction).expect("commit");
        let error = nft.commit(&transaction).expect_err("outdated");
        assert_eq!(error.errno(), Some(Errno::ERESTART), "{error}");
        assert!(nft.commit(&Transaction::new()).is_ok());
    });
}

#[scenario]
fn foreign_tables_are_left_alone() {
    let host = Host::new("node");
    host.sh("nft -f - <<'END'
table ip foreign { chain c { type filter hook input priority 0; policy accept; tcp dport { 1, 2 } counter drop; }
}
table netdev edge { chain c { type filter hook ingress device lo priority 0; policy accept; }
}
END");
    let foreign = || host.sh("nft list table ip foreign; nft list table netdev edge");
    let before = foreign();
    host.run(|| {
        let mut nft = Nft::open().expect("open");
        let mut transaction = Transaction::new();
        nft.commit(transaction.set_table(&flannel(Family::Ip)))
            .expect("commit");
        assert_eq!(
            nft.tables().expect("tables"),
            [
                (Family::Ip, "foreign".to_owned()),
                (Family::Ip, "flannel-ipv4".to_owned())
            ]
        );
        nft.commit(Transaction::new().delete_table(Family::Ip, "flannel-ipv4"))
            .expect("delete");
    });
    assert_eq!(foreign(), before);
    assert!(!host.sh("nft list ruleset").contains("flannel"));
}

#[scenario]
fn rules_of_unknown_shape_are_written_back_unchanged() {
    let host = Host::new("node");
    host.sh("nft -f - <<'END'
table ip t {
    chain c {
        tcp flags syn limit rate 10/second burst 5 packets counter packets 3 bytes 4 drop
        meta mark set 0x7 ip dscp set cs1 log prefix \"seen \" group 2
        ct state new ct mark > 0x5 tcp dport != 80 masquerade random
    }
}
END");
    let before = host.sh("nft list table ip t");
    host.run(|| {
        let mut nft = Nft::open().expect("open");
        let table = nft.table(Family::Ip, "t").expect("read").expect("table");
        let mut transaction = Transaction::new();
        transaction.delete_table(Family::Ip, "t").set_table(&table);
        nft.commit(&transaction).expect("commit");
    });
    assert_eq!(host.sh("nft list table ip t"), before);
}

#[scenario]
fn monitor_names_changed_tables_and_chains() {
    let host = Host::new("node");
    host.run(|| {
        let mut monitor = NftMonitor::open().expect("open");
        assert_eq!(monitor.changed().expect("read"), Some(BTreeSet::new()));
        let changed = |family: Family, table: &str, chain: Option<&str>| Changed {
            family,
            table: table.to_owned(),
            chain: chain.map(str::to_owned),
        };
        let mut nft = Nft::open().expect("open");
        let mut transaction = Transaction::new();
        for family in [Family::Ip, Family::Ip6] {
            transaction.set_table(&flannel(family));
        }
        nft.commit(&transaction).expect("commit");
        let wait = |monitor: &NftMonitor| {
            let mut fds = [PollFd::new(monitor.as_fd(), PollFlags::POLLIN)];
            poll(&mut fds, PollTimeout::from(2000u16)).expect("poll")
        };
        assert_eq!(wait(&monitor), 1, "woken by a change");
        let all = [(Family::Ip, "flannel-ipv4"), (Family::Ip6, "flannel-ipv6")]
            .into_iter()
            .flat_map(|(family, table)| {
                let chains = [None, Some("forward"), Some("postrtg")].into_iter();
                chains.map(move |chain| changed(family, table, chain))
            });
        assert_eq!(monitor.changed().expect("read"), Some(all.collect()));
        assert_eq!(monitor.changed().expect("read"), Some(BTreeSet::new()));
        nft.commit(Transaction::new().flush_chain(Family::Ip6, "flannel-ipv6", "forward"))
            .expect("flush");
        assert_eq!(wait(&monitor), 1);
        assert_eq!(
            monitor.changed().expect("read"),
            Some([changed(Family::Ip6, "flannel-ipv6", Some("forward"))].into())
        );
        nft.commit(Transaction::new().delete_table(Family::Ip, "flannel-ipv4"))
            .expect("delete");
        assert_eq!(wait(&monitor), 1);
        let changes = monitor.changed().expect("read").expect("none is lost");
        assert!(changes.contains(&changed(Family::Ip, "flannel-ipv4", None)));
        assert!(changes.contains(&changed(Family::Ip, "flannel-ipv4", Some("postrtg"))));
    });
}
