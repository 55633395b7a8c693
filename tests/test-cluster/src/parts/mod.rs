//! The parts of the test, in their order.

mod install;
mod migration;
mod node_life;
mod rolling_update;
mod traffic;
mod uninstall;

use crate::{Cluster, machine::Programs, report::Report};

/// Runs them.
pub(crate) fn run(cluster: &mut Cluster<'_>, programs: &Programs, report: &mut Report) {
    report.part("a node that is not ready says why", || {
        install::not_ready(cluster)
    });
    report.part("kubectl apply makes both nodes ready", || {
        install::ready(cluster)
    });
    report.part("20 replicas on two nodes reach each other", || {
        traffic::replicas(cluster)
    });
    report.part("host ports across nodes", || traffic::host_ports(cluster));
    report.part("a rolling update under ping and TCP loses nothing", || {
        rolling_update::under_traffic(cluster);
    });
    report.part("drain, delete and return of a node", || {
        node_life::leave_and_return(cluster)
    });
    report.part("uninstall leaves nothing", || uninstall::run(cluster));
    report.part("from Go flannel and back under ping and TCP", || {
        migration::there_and_back(cluster, programs);
    });
}
