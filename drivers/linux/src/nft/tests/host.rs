//! Network namespaces around the one of a test: a container, and the outside.

use std::sync::mpsc::{Sender, channel};

use nix::sched::setns;
use nix::unistd::gettid;

use super::*;

/// A network namespace that a thread holds, to which others go.
pub(super) struct Space {
    namespace: File,
    thread: String,
    _end: Sender<()>,
}

impl Space {
    pub(super) fn new() -> Self {
        let (tell, told) = channel();
        let (end, ended) = channel();
        std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            let namespace = File::open("/proc/thread-self/ns/net").unwrap();
            tell.send((namespace, gettid().to_string())).unwrap();
            // Until the space is dropped.
            ended.recv().unwrap_err();
        });
        let (namespace, thread) = told.recv().unwrap();
        let _end = end;
        Self {
            namespace,
            thread,
            _end,
        }
    }

    pub(super) fn within<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                setns(&self.namespace, CloneFlags::CLONE_NEWNET).unwrap();
                act()
            });
            thread.join().unwrap()
        })
    }
}

/// Runs `ip` with words.
pub(super) fn ip(arguments: &str) {
    run("ip", &arguments.split(' ').collect::<Vec<_>>());
}

fn sysctl(name: &str, value: &str) {
    std::fs::write(format!("/proc/sys/net/{name}"), value).unwrap();
}

/// A host between a container (10.77.0.2) and the outside (192.0.2.2).
pub(super) struct Host {
    pub(super) container: Space,
    pub(super) outside: Space,
}

impl Host {
    /// Makes this thread's namespace a host.
    pub(super) fn new(life: &Life) -> Self {
        let (container, outside) = (Space::new(), Space::new());
        let device = &life.device;
        ip("link set lo up");
        ip(&format!(
            "link add {device} type veth peer name c0 netns {}",
            container.thread
        ));
        ip(&format!(
            "link add out0 type veth peer name o0 netns {}",
            outside.thread
        ));
        ip(&format!("addr add 10.77.0.1/32 dev {device}"));
        ip(&format!("addr add fd00::1/64 dev {device} nodad"));
        ip("addr add 192.0.2.1/24 dev out0");
        ip(&format!("link set {device} up"));
        ip("link set out0 up");
        ip(&format!(
            "route add 10.77.0.0/24 dev {device} src 10.77.0.1"
        ));
        sysctl("ipv4/ip_forward", "1");
        sysctl(&format!("ipv4/conf/{device}/route_localnet"), "1");
        // What drops a packet shall be ours.
        for device in ["all", device, "out0"] {
            sysctl(&format!("ipv4/conf/{device}/rp_filter"), "0");
        }
        container.within(|| {
            ip("addr add 10.77.0.2/32 dev c0");
            ip("addr add 10.77.0.9/32 dev c0");
            ip("addr add fd00::2/64 dev c0 nodad");
            ip("link set c0 up");
            ip("route add 10.77.0.1 dev c0");
            ip("route add default via 10.77.0.1 dev c0 src 10.77.0.2");
            sysctl("ipv4/conf/c0/route_localnet", "1");
            sysctl("ipv4/conf/all/rp_filter", "0");
            sysctl("ipv4/conf/c0/rp_filter", "0");
        });
        outside.within(|| {
            ip("addr add 192.0.2.2/24 dev o0");
            ip("link set o0 up");
            ip("route add 10.77.0.0/24 via 192.0.2.1");
        });
        Self { container, outside }
    }
}
