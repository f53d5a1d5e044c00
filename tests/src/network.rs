//! Network namespaces of a test's own, wired as it needs them.

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread;

use crate::eventually::until;
use crate::world::SOON;

/// One network namespace, held by a process that sleeps in it.
#[derive(Debug)]
pub struct Network {
    holder: Child,
    /// Servers that were started in it.
    servers: Vec<Child>,
}

/// Returns a command that runs in the network namespace of a process, under its own pid.
#[must_use]
pub fn entered(pid: u32, program: &Path) -> Command {
    let mut command = Command::new("nsenter");
    command
        .args(["-t", &pid.to_string(), "-n", "--"])
        .arg(program);
    command
}

impl Default for Network {
    fn default() -> Self {
        Self::new()
    }
}

impl Network {
    /// Returns a namespace with a loopback that is up.
    ///
    /// # Panics
    /// When it can't be made.
    #[must_use]
    pub fn new() -> Self {
        let holder = Command::new("unshare")
            .args(["-n", "sleep", "3600"])
            .stdin(Stdio::null())
            .spawn()
            .expect("unshare a network namespace");
        let network = Self {
            holder,
            servers: Vec::new(),
        };
        let own = std::fs::read_link("/proc/self/ns/net").expect("read a namespace");
        until("the namespace to be another", SOON, || {
            let there = std::fs::read_link(format!("/proc/{}/ns/net", network.pid()));
            there.is_ok_and(|there| there != own)
        });
        network.run("ip link set lo up");
        network
    }

    /// Returns a host and its neighbour on a network of their own: 192.0.2.1, and 192.0.2.9
    /// which sends to the containers of the host through it.
    ///
    /// # Panics
    /// When they can't be wired.
    #[must_use]
    pub fn host_and_neighbour() -> (Self, Self) {
        let (host, neighbour) = (Self::new(), Self::new());
        host.run(&format!(
            "ip link add up0 type veth peer name eth0 netns {}",
            neighbour.pid()
        ));
        host.run("ip addr add 192.0.2.1/24 dev up0; ip link set up0 up");
        neighbour.run("ip addr add 192.0.2.9/24 dev eth0; ip link set eth0 up");
        neighbour.run("ip route add default via 192.0.2.1");
        (host, neighbour)
    }

    /// Returns the process that holds it.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.holder.id()
    }

    /// Runs a line of shell in it.
    ///
    /// # Panics
    /// When it can't be run or fails.
    pub fn run(&self, line: &str) -> String {
        let done = self.try_run(line);
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{line}: {said}");
        String::from_utf8_lossy(&done.stdout).into_owned()
    }

    /// Runs a line of shell in it that may fail.
    ///
    /// # Panics
    /// When it can't be run.
    #[must_use]
    pub fn try_run(&self, line: &str) -> Output {
        entered(self.pid(), Path::new("/bin/sh"))
            .args(["-c", line])
            .stdin(Stdio::null())
            .output()
            .expect("run a command in a namespace")
    }

    /// Returns what an address and port answers to an HTTP request, if anything.
    #[must_use]
    pub fn get(&self, from: &str) -> Option<String> {
        let line = format!("timeout 3 busybox wget -q -O - http://{from}/");
        let done = self.try_run(&line);
        done.status
            .success()
            .then(|| String::from_utf8_lossy(&done.stdout).trim().to_owned())
    }

    /// Starts a server in it that ends with it, and waits until it listens.
    ///
    /// # Panics
    /// When it can't be started, or does not listen soon.
    pub fn serve(&mut self, directory: &Path, port: u16) {
        let child = entered(self.pid(), Path::new("/bin/busybox"))
            .args(["httpd", "-f", "-p", &port.to_string(), "-h"])
            .arg(directory)
            .stdin(Stdio::null())
            .spawn()
            .expect("start a server");
        self.servers.push(child);
        until("the server to listen", SOON, || {
            self.get(&format!("127.0.0.1:{port}")).is_some()
        });
    }

    /// Ends the newest server.
    ///
    /// # Panics
    /// When there is none.
    pub fn end_server(&mut self) {
        let mut child = self.servers.pop().expect("a server runs");
        child.kill().expect("kill a server");
        child.wait().expect("reap a server");
    }

    /// Does something on a thread in this namespace: its sockets belong here.
    ///
    /// # Panics
    /// When the namespace can't be entered, or the work panics.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let path = format!("/proc/{}/ns/net", self.pid());
        let namespace = std::fs::File::open(path).expect("open a namespace");
        thread::scope(|scope| {
            let worker = scope.spawn(|| {
                nix::sched::setns(&namespace, nix::sched::CloneFlags::CLONE_NEWNET)
                    .expect("enter a namespace");
                work()
            });
            worker.join().expect("the work is done")
        })
    }

    /// Returns what the packet filter holds, as its own program tells it.
    #[must_use]
    pub fn rules(&self) -> String {
        self.run("nft list ruleset")
    }

    /// Returns the names of the devices that lead to containers.
    #[must_use]
    pub fn container_devices(&self) -> Vec<String> {
        let lines = self.run("ip -br link");
        let names = lines
            .lines()
            .filter_map(|line| line.split(['@', ' ']).next());
        names
            .filter(|name| name.starts_with("rc"))
            .map(str::to_owned)
            .collect()
    }

    /// Checks that nothing of any container is left in it.
    ///
    /// # Panics
    /// With what is left.
    pub fn check_clean(&self) {
        until("the network to be clean", SOON, || {
            self.rules().is_empty() && self.container_devices().is_empty()
        });
        let tracked = self.run("conntrack -L 2>/dev/null || true");
        assert!(!tracked.contains("10.254."), "{tracked}");
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for child in self.servers.iter_mut().chain([&mut self.holder]) {
            drop(child.kill());
            drop(child.wait());
        }
    }
}
