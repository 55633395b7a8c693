//! Leases that move from one store to another.

use super::*;
use crate::subnet::transfer::{Export, LeaseArchive, Outcome};

/// A store with a lease for node 1, and a reservation for node 7, which holds no lease.
async fn site_with_leases() -> TestServer {
    let site = TestServer::new().await;
    let store = site.store();
    store
        .acquire(node(1), "10.3.9.0-24".parse().unwrap(), None)
        .unwrap();
    let reservation = alloc::Reservation {
        subnets: "10.3.7.0-24".parse().unwrap(),
        attrs: node(7),
    };
    store.reserve(reservation).unwrap();
    site
}

/// Imports into an empty store, and returns what it exports afterwards.
async fn moved(export: &Export, remote: bool) -> (TestServer, Export) {
    let site = TestServer::new().await;
    let archive: Arc<dyn LeaseArchive> = match remote {
        true => site.client(),
        false => Arc::new(Local::new(site.store.clone().unwrap(), MARGIN)),
    };
    let outcomes = archive.import(export).await.unwrap();
    assert!(
        outcomes.iter().all(|outcome| *outcome == Outcome::Added),
        "{outcomes:?}"
    );
    let again = archive.import(export).await.unwrap();
    assert!(
        again.iter().all(|outcome| *outcome == Outcome::Present),
        "{again:?}"
    );
    let export = archive.export().await.unwrap();
    (site, export)
}

#[tokio::test]
async fn export_is_the_same_after_it_moved() {
    let site = site_with_leases().await;
    let export = site.client().export().await.unwrap();
    let summary = |export: &Export| -> Vec<_> {
        let leases = export.leases.iter();
        let lease = |lease: &Lease| {
            (
                lease.subnets.to_string(),
                lease.attrs.public_ip,
                lease.expiration.is_some(),
            )
        };
        leases.map(lease).collect()
    };
    assert_eq!(
        summary(&export),
        [
            ("10.3.7.0-24".to_owned(), Some([192, 0, 2, 7].into()), false),
            ("10.3.9.0-24".to_owned(), Some([192, 0, 2, 1].into()), true),
        ]
    );
    for remote in [false, true] {
        let (target, moved) = moved(&export, remote).await;
        assert_eq!(summary(&moved), summary(&export), "remote: {remote}");
        assert_eq!(moved.config, export.config);
        // the nodes keep their subnets without subnet.env
        for (number, subnets) in [(1, "10.3.9.0-24"), (7, "10.3.7.0-24")] {
            let lease = target
                .client()
                .acquire(&node(number), Subnets::default())
                .await;
            assert_eq!(lease.unwrap().subnets.to_string(), subnets);
        }
    }
}

#[tokio::test]
async fn import_replaces_nothing() {
    let export = site_with_leases().await.client().export().await.unwrap();
    for remote in [false, true] {
        let target = TestServer::new().await;
        let taken = target
            .store()
            .acquire(node(2), "10.3.9.0-24".parse().unwrap(), None);
        assert_eq!(taken.unwrap().subnets.to_string(), "10.3.9.0-24");
        let outcomes = match remote {
            true => target.client().import(&export).await,
            false => {
                let local = Local::new(target.store.clone().unwrap(), MARGIN);
                local.import(&export).await
            }
        };
        let texts: Vec<String> = outcomes.unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            ["added", "10.3.9.0-24 belongs to 192.0.2.2 there"],
            "remote: {remote}"
        );
        assert_eq!(
            target
                .store()
                .lease(&"10.3.9.0-24".parse().unwrap())
                .0
                .unwrap()
                .attrs,
            node(2)
        );
    }
}
