//! `make demo KEEP=1`: the cluster stays up in the background until it is stopped.

use crate::{
    cluster::{CNITOOL, Cluster},
    print::{section, step},
};
use std::{
    env, fs,
    io::{BufRead, BufReader},
    os::{fd::AsFd, unix::process::CommandExt},
    path::PathBuf,
    process::{Command, Stdio, exit},
    thread,
    time::Duration,
};

const READY: &str = "POD_NETWORK_DEMO_READY";
/// The line that the demo in the background prints when the cluster is up.
const UP: &str = "-- up --";

/// True if `$KEEP` asks for the cluster to stay up.
pub(crate) fn requested() -> bool {
    env::var("KEEP").is_ok_and(|keep| !keep.is_empty() && keep != "0")
}

/// With `$KEEP`, starts the demo in the background, prints its output until the cluster is up, then
/// how to enter and stop it, and exits.
pub(crate) fn detach_if_requested() {
    if !requested() || env::var_os(READY).is_some() {
        return;
    }
    let (output, input) = std::io::pipe().expect("pipe");
    let mut child = Command::new(env::current_exe().expect("own path"))
        .env(READY, "1")
        .stdin(Stdio::null())
        .stderr(input.try_clone().expect("pipe"))
        .stdout(input)
        .process_group(0)
        .spawn()
        .expect("start the demo");
    for line in BufReader::new(output).lines() {
        match line.expect("the demo's output") {
            line if line == UP => {
                print_usage(child.id());
                exit(0);
            }
            line => println!("{line}"),
        }
    }
    let status = child.wait().expect("wait");
    exit(status.code().unwrap_or(1));
}

fn print_usage(sandbox: u32) {
    let inside = fs::read_to_string(format!("/proc/{sandbox}/task/{sandbox}/children"))
        .expect("the sandbox's process");
    let script = script_path();
    let text = format!(
        "#!/bin/sh\n# enter HOST [COMMAND...]: a shell on a host of the demo\nhost=${{1:?host1, host2 or host3}}; shift\n\
         [ $# -gt 0 ] || set -- sh\n\
         exec nsenter --target {} --user --mount --pid --preserve-credentials -- \
         nsenter --net=/run/hosts/$host.net --mount=/run/hosts/$host.mnt -- \"$@\"\n",
        inside.trim()
    );
    fs::write(&script, text).expect("write the script");
    Command::new("chmod")
        .arg("+x")
        .arg(&script)
        .status()
        .expect("chmod");
    let script = script.display();
    section("it stays up");
    step(&format!("enter a host:     {script} host2"));
    step(&format!("look:             {script} host2 ip route"));
    step(&format!(
        "run cnitool:      {script} host2 sh -c 'ip netns add mine && {CNITOOL} add cbr0 /run/netns/mine'"
    ));
    step(&format!("stop it all:      kill {sandbox}"));
}

fn script_path() -> PathBuf {
    let target = tests::binaries::folder();
    target.parent().unwrap_or(&target).join("enter")
}

/// Mounts the namespaces of the hosts for the script, prints [`UP`], and waits until it is killed.
pub(crate) fn stay(cluster: &Cluster) -> ! {
    fs::create_dir_all("/run/hosts").expect("/run/hosts");
    for host in &cluster.underlay.hosts {
        for (kind, fd) in [
            ("net", host.net_fd().as_fd()),
            ("mnt", host.mnt_fd().as_fd()),
        ] {
            let path = format!("/run/hosts/{}.{kind}", host.name);
            fs::write(&path, "").expect("mount point");
            let source = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&fd));
            nix::mount::mount::<_, _, str, str>(
                Some(source.as_str()),
                path.as_str(),
                None,
                nix::mount::MsFlags::MS_BIND,
                None,
            )
            .expect("bind");
        }
    }
    println!("{UP}");
    let null = || {
        fs::File::options()
            .write(true)
            .open("/dev/null")
            .expect("/dev/null")
    };
    nix::unistd::dup2_stdout(null()).expect("stdout");
    nix::unistd::dup2_stderr(null()).expect("stderr");
    loop {
        thread::sleep(Duration::from_secs(3600));
    }
}
