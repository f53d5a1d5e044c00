//! The daemon below a service manager: a real socket of the kind that `NOTIFY_SOCKET` names.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::world::{BOUND, World};

/// What a manager hears.
struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
    heard: Vec<String>,
}

impl Manager {
    fn new(world: &World) -> Self {
        let path = world.dir.join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_millis(20)))
            .unwrap();
        let heard = Vec::new();
        Self {
            socket,
            path,
            heard,
        }
    }

    /// Takes in what has come.
    fn listen(&mut self) {
        let mut buffer = [0; 4096];
        loop {
            match self.socket.recv(&mut buffer) {
                Ok(count) => {
                    let text = String::from_utf8(buffer[..count].to_vec()).unwrap();
                    self.heard.extend(text.lines().map(str::to_owned));
                }
                Err(err) if matches!(err.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return;
                }
                Err(err) => panic!("{err}"),
            }
        }
    }

    /// Waits for a line that begins so; forgets all up to it and returns it.
    fn hears(&mut self, wanted: &str) -> String {
        let begun = Instant::now();
        loop {
            if let Some(at) = self.heard.iter().position(|line| line.starts_with(wanted)) {
                let line = self.heard.remove(at);
                self.heard.drain(..at);
                return line;
            }
            assert!(
                begun.elapsed() < BOUND,
                "no {wanted} among {:?}",
                self.heard
            );
            self.listen();
        }
    }

    /// Starts the world's daemon below this manager.
    fn start(&mut self, world: &mut World, watchdog: Option<Duration>) {
        let mut environment = vec![("NOTIFY_SOCKET", self.path.display().to_string())];
        if let Some(limit) = watchdog {
            environment.push(("WATCHDOG_USEC", limit.as_micros().to_string()));
        }
        world.environment = environment;
        world.start();
    }
}

fn monotonic_us() -> i128 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1000
}

#[test]
fn the_manager_hears_of_start_reload_and_end_in_their_order() {
    let mut world = World::new();
    world.config("");
    let mut manager = Manager::new(&world);
    manager.start(&mut world, None);
    manager.hears("READY=1");
    assert_eq!(manager.hears("STATUS="), "STATUS=adopted 0, restarted 0");
    manager.listen();
    assert!(manager.heard.is_empty(), "{:?}", manager.heard);

    let before = monotonic_us();
    kill(Pid::from_raw(world.pid()), Signal::SIGHUP).unwrap();
    manager.hears("RELOADING=1");
    let told = manager.hears("MONOTONIC_USEC=");
    let told: i128 = told
        .strip_prefix("MONOTONIC_USEC=")
        .unwrap()
        .parse()
        .unwrap();
    assert!((before..=monotonic_us()).contains(&told), "{told}");
    manager.hears("READY=1");
    assert_eq!(
        manager.hears("STATUS="),
        "STATUS=configuration and specs were read again"
    );

    world.config("reconcile: {resync: often}\n");
    kill(Pid::from_raw(world.pid()), Signal::SIGHUP).unwrap();
    manager.hears("RELOADING=1");
    // The former one holds: that is a daemon that is ready, and says what is wrong.
    manager.hears("READY=1");
    let status = manager.hears("STATUS=the configuration was refused");
    assert!(status.contains("config.yaml:3"), "{status}");

    assert!(world.signal(Signal::SIGTERM).success());
    manager.hears("STOPPING=1");
    manager.listen();
    assert!(
        !manager.heard.iter().any(|line| line == "WATCHDOG=1"),
        "nobody asked for it"
    );
}

#[test]
fn signs_of_life_come_while_the_loop_turns_and_end_when_it_stops() {
    let mut world = World::new();
    let mut manager = Manager::new(&world);
    let limit = Duration::from_millis(600);
    manager.start(&mut world, Some(limit));
    manager.hears("READY=1");
    for _ in 0..3 {
        let begun = Instant::now();
        manager.hears("WATCHDOG=1");
        // Once in a third of the limit; the machine may be busy.
        assert!(begun.elapsed() < BOUND / 3, "{:?}", begun.elapsed());
    }
    let pid = Pid::from_raw(world.pid());
    kill(pid, Signal::SIGSTOP).unwrap();
    let stat = format!("/proc/{pid}/stat");
    world.until("the daemon to stand still", || {
        fs::read_to_string(&stat).unwrap().contains(") T ")
    });
    manager.listen();
    manager.heard.clear();
    let begun = Instant::now();
    while begun.elapsed() < limit {
        manager.listen();
    }
    assert_eq!(
        manager.heard, [""; 0],
        "a process that stands still gave a sign"
    );
    kill(pid, Signal::SIGCONT).unwrap();
    manager.hears("WATCHDOG=1");
}
