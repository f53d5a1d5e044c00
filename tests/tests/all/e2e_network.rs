//! Containers on the network, with real traffic between namespaces that each test makes.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tests::eventually::until;
use tests::network::Network;
use tests::world::{SOON, World};

/// A container that serves a page on its port 80. `network` follows `mode: isolated`.
pub(crate) fn page(name: &str, network: &str) -> String {
    format!(
        "apiVersion: reconciler/v1
kind: Container
metadata: {{name: {name}}}
spec:
  rootfs: {{directory: /srv/rootfs/busybox}}
  network: {{mode: isolated{network}}}
  files: [{{path: /www/index.html, content: \"page of {name}\\n\", onChange: none}}]
  processes:
    - name: web
      command: [/bin/httpd, -f, -p, \"80\", -h, /www]
      stop: {{signal: KILL}}
    - name: shell
      command: [/bin/sleep, \"3600\"]
      stop: {{signal: KILL}}
"
    )
}

/// A host with a daemon, and its neighbour on the same network.
pub(crate) fn wired() -> (World, Network, Network) {
    let (host, neighbour) = Network::host_and_neighbour();
    let mut world = World::new().on(&host);
    world.config("pools: {addresses: [10.254.0.0/24]}");
    (world, host, neighbour)
}

/// The end of all of it: no trace anywhere.
pub(crate) fn finish(world: World, host: &Network) {
    world.finish();
    host.check_clean();
}

/// Runs a line in the network of a container, with the programs of the host.
pub(crate) fn inside(world: &World, name: &str, line: &str) -> Option<String> {
    let pid = world.pid(name, "shell").expect("its shell runs");
    let done = tests::network::entered(u32::try_from(pid).ok()?, std::path::Path::new("/bin/sh"))
        .args(["-c", line])
        .output()
        .expect("run in the container's network");
    done.status
        .success()
        .then(|| String::from_utf8_lossy(&done.stdout).trim().to_owned())
}

/// What a container gets from an address and port, if anything.
pub(crate) fn fetch(world: &World, name: &str, from: &str) -> Option<String> {
    inside(
        world,
        name,
        &format!("timeout 3 busybox wget -q -O - http://{from}/"),
    )
}

fn address_of(world: &World, name: &str) -> String {
    let effective = world.json(&["get", name, "-o", "json"]);
    let network = &effective["spec"]["network"];
    network["address"].as_str().unwrap_or_default().to_owned()
}

fn event_reasons(world: &World) -> String {
    String::from_utf8_lossy(&world.cli(&["events"]).stdout).into_owned()
}

#[test]
fn a_published_port_is_reached_from_everywhere_that_it_is_published_for() {
    let (mut world, host, neighbour) = wired();
    world.start();
    let ports = ", ports: [{host: 8080, container: 80, address: 0.0.0.0}, \
                 {host: 8081, container: 80, address: 127.0.0.1}]";
    world.write("web.yaml", &page("web", ports));
    let allowed = ", egress: {allow: [{to: 192.0.2.1, ports: [8080]}]}";
    world.write("peer.yaml", &page("peer", allowed));
    world.write("mute.yaml", &page("mute", ""));
    for name in ["web", "peer", "mute"] {
        world.wait_phase(name, "Running");
    }
    let said = Some("page of web".to_owned());
    assert_eq!(neighbour.get("192.0.2.1:8080"), said, "from outside");
    assert_eq!(
        host.get("192.0.2.1:8080"),
        said,
        "from the host's own address"
    );
    assert_eq!(host.get("127.0.0.1:8080"), said, "from the host's loopback");
    assert_eq!(host.get("127.0.0.1:8081"), said, "bound to the loopback");
    assert_eq!(
        neighbour.get("192.0.2.1:8081"),
        None,
        "that is not for others"
    );
    // Nor by sending there what is meant for the host's own loopback.
    neighbour.run(
        "ip route del local 127.0.0.0/8 table local; ip route add 127.0.0.1 via 192.0.2.1; \
        ip addr del 127.0.0.1/8 dev lo; sysctl -qw net.ipv4.conf.all.route_localnet=1",
    );
    let through = "timeout 2 busybox wget -q -O - http://127.0.0.1:8081/";
    assert!(
        !neighbour.try_run(through).status.success(),
        "the loopback of another host"
    );
    assert_eq!(
        fetch(&world, "peer", "192.0.2.1:8080"),
        said,
        "another container"
    );
    assert_eq!(
        fetch(&world, "mute", "192.0.2.1:8080"),
        None,
        "one that may not"
    );
    // A container whose rules say so reaches itself, too, as its neighbours do.
    let hairpin = format!("{ports}, egress: {{allow: [{{to: 192.0.2.1, ports: [8080]}}]}}");
    world.write("web.yaml", &page("web", &hairpin));
    until("the container to reach itself", SOON, || {
        fetch(&world, "web", "192.0.2.1:8080") == said
    });
    // Nobody outside reaches what was not published, though it may send there.
    let direct = format!("{}:80", address_of(&world, "web"));
    assert_eq!(neighbour.get(&direct), None, "not published");
    assert_eq!(
        host.get(&direct),
        said,
        "the host may ask its own containers"
    );
    finish(world, &host);
}

#[test]
fn a_container_speaks_to_what_its_rules_name_and_to_nobody_else() {
    let (mut world, mut host, mut neighbour) = wired();
    let served = world.path("served");
    std::fs::create_dir(&served).unwrap();
    std::fs::write(served.join("index.html"), "outside").unwrap();
    neighbour.serve(&served, 8000);
    neighbour.serve(&served, 8001);
    host.serve(&served, 8002);
    world.start();
    world.write("db.yaml", &page("db", ", address: 10.254.0.77"));
    let rules = ", egress: {allow: [{to: 192.0.2.0/24, ports: [8000, 8002]}]}";
    world.write("web.yaml", &page("web", rules));
    world.write("mute.yaml", &page("mute", ""));
    for name in ["db", "web", "mute"] {
        world.wait_phase(name, "Running");
    }
    let said = Some("outside".to_owned());
    assert_eq!(address_of(&world, "db"), "10.254.0.77");
    assert_eq!(fetch(&world, "web", "192.0.2.9:8000"), said, "named");
    let begun = Instant::now();
    assert_eq!(fetch(&world, "web", "192.0.2.9:8001"), None, "not named");
    assert!(
        begun.elapsed() < Duration::from_secs(2),
        "refused, not dropped"
    );
    assert_eq!(
        fetch(&world, "web", "192.0.2.1:8002"),
        None,
        "the host itself"
    );
    assert_eq!(
        fetch(&world, "web", "169.254.1.1:8002"),
        None,
        "the gateway"
    );
    assert_eq!(
        fetch(&world, "web", "10.254.0.77:80"),
        None,
        "another container"
    );
    assert_eq!(
        fetch(&world, "mute", "192.0.2.9:8000"),
        None,
        "nothing by default"
    );
    // Another source than its own: gone before anything else is asked.
    let from = |address: &str| {
        let address = address.to_owned();
        within(&world, "web", move || speaks_as(&address, "192.0.2.9:8000"))
    };
    let own = address_of(&world, "web");
    assert!(from(&own), "its own source");
    assert!(inside(&world, "web", "ip addr add 10.254.0.99/32 dev eth0").is_some());
    assert!(!from("10.254.0.99"), "a foreign source");
    // Live, under the same pid: another container, ICMP, and then nothing.
    let pid = world.pid("web", "web");
    let wider = ", egress: {allow: [{to: 10.254.0.77, ports: [80]}, \
                 {to: 192.0.2.9, protocol: icmp, icmpType: 8, icmpCode: any}]}";
    world.write("web.yaml", &page("web", wider));
    until("the new rules to hold", SOON, || {
        fetch(&world, "web", "10.254.0.77:80") == Some("page of db".to_owned())
    });
    assert_eq!(
        fetch(&world, "web", "192.0.2.9:8000"),
        None,
        "named no more"
    );
    assert!(inside(&world, "web", "busybox ping -c 1 -W 2 192.0.2.9").is_some());
    world.write("web.yaml", &page("web", ", egress: {default: allow}"));
    until("everything to be allowed", SOON, || {
        fetch(&world, "web", "192.0.2.9:8001") == said
    });
    assert_eq!(
        fetch(&world, "web", "192.0.2.1:8002"),
        None,
        "but for the host's services"
    );
    assert_eq!(world.pid("web", "web"), pid);
    finish(world, &host);
}

#[test]
fn networks_and_the_host_are_opened_and_closed_to_all_by_the_configuration() {
    let (mut world, mut host, mut neighbour) = wired();
    let served = world.path("served");
    std::fs::create_dir(&served).unwrap();
    std::fs::write(served.join("index.html"), "outside").unwrap();
    neighbour.serve(&served, 8000);
    host.serve(&served, 8002);
    world.start();
    world.write("web.yaml", &page("web", ""));
    world.write("wide.yaml", &page("wide", ", egress: {default: allow}"));
    world.wait_phase("web", "Running");
    world.wait_phase("wide", "Running");
    let said = Some("outside".to_owned());
    assert_eq!(fetch(&world, "web", "192.0.2.9:8000"), None);
    assert_eq!(fetch(&world, "wide", "192.0.2.9:8000"), said);
    let pid = world.pid("web", "web");
    let pools = "pools: {addresses: [10.254.0.0/24]}";
    world.config(&format!(
        "{pools}\nnetwork: {{allow: [192.0.2.9], hostAccess: true}}"
    ));
    world.hang_up();
    until("the network to be open to all", SOON, || {
        fetch(&world, "web", "192.0.2.9:8000") == said
    });
    until("the host to be open to who may speak to it", SOON, || {
        fetch(&world, "wide", "192.0.2.1:8002") == said
    });
    assert_eq!(
        fetch(&world, "web", "192.0.2.1:8002"),
        None,
        "its rules say no"
    );
    world.config(&format!("{pools}\nnetwork: {{deny: [192.0.2.0/24]}}"));
    world.hang_up();
    until("the network to be closed to all", SOON, || {
        fetch(&world, "wide", "192.0.2.9:8000").is_none()
    });
    assert_eq!(world.pid("web", "web"), pid);
    finish(world, &host);
}

#[test]
fn ports_change_and_change_places_while_their_containers_run() {
    let (mut world, host, neighbour) = wired();
    world.start();
    let port =
        |number: u16| format!(", ports: [{{host: {number}, container: 80, address: 0.0.0.0}}]");
    world.write("a.yaml", &page("a", &port(8080)));
    world.write("b.yaml", &page("b", &port(8081)));
    world.wait_phase("a", "Running");
    world.wait_phase("b", "Running");
    let pids = (world.pid("a", "web"), world.pid("b", "web"));
    let answers = |number: u16| neighbour.get(&format!("192.0.2.1:{number}"));
    let page_of = |name: &str| Some(format!("page of {name}"));
    assert_eq!((answers(8080), answers(8081)), (page_of("a"), page_of("b")));
    world.write("a.yaml", &page("a", &port(8081)));
    world.write("b.yaml", &page("b", &port(8080)));
    until("the ports to have changed places", SOON, || {
        answers(8080) == page_of("b") && answers(8081) == page_of("a")
    });
    world.write("b.yaml", &page("b", &port(8082)));
    until("a port to be another", SOON, || {
        answers(8082) == page_of("b") && answers(8080).is_none()
    });
    // The one that has a port keeps it, and both are told.
    world.write("c.yaml", &page("c", &port(8082)));
    until("the newcomer to be refused", SOON, || {
        event_reasons(&world).contains("the host's port 8082/tcp belongs to b")
    });
    assert_eq!(answers(8082), page_of("b"));
    assert!(event_reasons(&world).contains("claims the host's port 8082/tcp too"));
    // It takes the port as soon as that is free, by itself.
    world.write("b.yaml", &page("b", ""));
    until("the newcomer to have it", SOON, || {
        answers(8082) == page_of("c")
    });
    assert_eq!((world.pid("a", "web"), world.pid("b", "web")), pids);
    finish(world, &host);
}

#[test]
fn a_port_that_the_host_uses_is_told_with_its_holder_and_taken_when_it_is_free() {
    let (mut world, mut host, neighbour) = wired();
    let served = world.path("served");
    std::fs::create_dir(&served).unwrap();
    std::fs::write(served.join("index.html"), "the host's own").unwrap();
    host.serve(&served, 8080);
    world.start();
    let ports = ", ports: [{host: 8080, container: 80, address: 0.0.0.0}]";
    world.write("web.yaml", &page("web", ports));
    until("the port to be told of", SOON, || {
        let why = String::from_utf8_lossy(&world.cli(&["why", "web"]).stdout).into_owned();
        why.contains("8080/tcp") && why.contains("busybox")
    });
    until("the container to run without it", SOON, || {
        world.pid("web", "web").is_some()
    });
    assert_eq!(
        neighbour.get("192.0.2.1:8080"),
        Some("the host's own".into())
    );
    host.end_server();
    until("the port to lead to it", Duration::from_secs(60), || {
        neighbour.get("192.0.2.1:8080") == Some("page of web".into())
    });
    // From now on nobody else takes it.
    let taken = host.within(|| TcpListener::bind("0.0.0.0:8080").map(|_| ()));
    assert_eq!(taken.unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
    finish(world, &host);
}

#[test]
fn an_address_is_kept_as_long_as_its_container_is_wanted() {
    let (mut world, host, _neighbour) = wired();
    world.config("pools: {addresses: [10.254.0.0/29]}");
    world.start();
    for number in 0..6 {
        world.write(&format!("c{number}.yaml"), &page(&format!("c{number}"), ""));
    }
    for number in 0..6 {
        world.wait_phase(&format!("c{number}"), "Running");
    }
    let of = |world: &World, number: usize| address_of(world, &format!("c{number}"));
    let addresses: Vec<String> = (0..6).map(|number| of(&world, number)).collect();
    let distinct: std::collections::BTreeSet<_> = addresses.iter().collect();
    assert_eq!(distinct.len(), 6, "{addresses:?}");
    // The pool is empty: told with its holders, and served by the next address that is free.
    world.write("late.yaml", &page("late", ""));
    until("the empty pool to be told of", SOON, || {
        let told = event_reasons(&world);
        told.contains("10.254.0.0/29") && told.contains("c0, c1, c2, c3, c4 and 1 more")
    });
    // Another pool in the configuration moves nobody, nor does a restart, nor a new life.
    let pids: Vec<_> = (0..6).map(|n| world.pid(&format!("c{n}"), "web")).collect();
    world.config("pools: {addresses: [10.253.0.0/29]}");
    world.stop();
    world.start();
    until("the latecomer to have an address", SOON, || {
        address_of(&world, "late").starts_with("10.253.0.")
    });
    assert_eq!((0..6).map(|n| of(&world, n)).collect::<Vec<_>>(), addresses);
    assert_eq!(
        (0..6)
            .map(|n| world.pid(&format!("c{n}"), "web"))
            .collect::<Vec<_>>(),
        pids
    );
    world.write("c0.yaml", &page("c0", ", mtu: 1400"));
    until("a new life", SOON, || {
        inside(
            &world,
            "c0",
            "cat /sys/class/net/eth0/mtu || ip link show eth0",
        )
        .is_some_and(|said| said.contains("1400"))
    });
    assert_eq!(of(&world, 0), addresses[0]);
    finish(world, &host);
}

#[test]
fn names_are_written_where_they_are_looked_for() {
    let (mut world, host, _neighbour) = wired();
    world.start();
    let names = ", dns: {servers: [192.0.2.9], search: [shop.example], options: [\"ndots:2\"]}, \
                 hosts: {db.local: 10.254.0.99}";
    world.write("web.yaml", &page("web", names));
    world.wait_phase("web", "Running");
    let read = |path: &str| {
        let pid = world.pid("web", "shell").expect("it runs");
        std::fs::read_to_string(format!("/proc/{pid}/root{path}")).unwrap_or_default()
    };
    let address = address_of(&world, "web");
    assert_eq!(
        read("/etc/hosts"),
        format!("127.0.0.1 localhost\n::1 localhost\n{address} web\n10.254.0.99 db.local\n")
    );
    assert_eq!(
        read("/etc/resolv.conf"),
        "nameserver 192.0.2.9\nsearch shop.example\noptions ndots:2\n"
    );
    let pid = world.pid("web", "web");
    world.write("web.yaml", &page("web", ", hosts: {db.local: 10.254.0.98}"));
    until("the new names", SOON, || {
        read("/etc/hosts").contains("10.254.0.98 db.local")
    });
    assert!(
        !read("/etc/resolv.conf").contains("127."),
        "never an unreachable one"
    );
    assert_eq!(world.pid("web", "web"), pid);
    finish(world, &host);
}

/// Whether a connection from this source comes about.
fn speaks_as(source: &str, to: &str) -> bool {
    use nix::sys::socket::{
        AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, setsockopt, socket, sockopt,
    };
    use std::os::fd::AsRawFd as _;
    let (family, kind) = (AddressFamily::Inet, SockType::Stream);
    let socket = socket(family, kind, SockFlag::SOCK_CLOEXEC, None).expect("a socket");
    let source: std::net::SocketAddrV4 = format!("{source}:0").parse().expect("an address");
    let to: std::net::SocketAddrV4 = to.parse().expect("an address");
    if bind(socket.as_raw_fd(), &SockaddrIn::from(source)).is_err() {
        return false;
    }
    let wait = nix::sys::time::TimeVal::new(1, 0);
    setsockopt(&socket, sockopt::SendTimeout, &wait).expect("set it up");
    connect(socket.as_raw_fd(), &SockaddrIn::from(to)).is_ok()
}

/// Whether a datagram to port 53 of the neighbour is answered.
fn asks(world: &World, name: &str) -> bool {
    within(world, name, || {
        let socket = UdpSocket::bind("0.0.0.0:0").expect("bind");
        let wait = Some(Duration::from_millis(300));
        socket.set_read_timeout(wait).expect("set it up");
        let mut answer = [0; 8];
        // Refused at once, or lost: either is no answer.
        socket.send_to(b"who", "192.0.2.9:53").is_ok() && socket.recv(&mut answer).is_ok()
    })
}

#[test]
fn a_container_asks_its_own_resolvers_when_it_may() {
    let (mut world, host, neighbour) = wired();
    let resolver = neighbour.within(|| UdpSocket::bind("192.0.2.9:53").expect("listen"));
    let stop = AtomicBool::new(false);
    let wait = Some(Duration::from_millis(50));
    resolver.set_read_timeout(wait).expect("set it up");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut question = [0; 8];
            while !stop.load(Ordering::Relaxed) {
                if let Ok((size, from)) = resolver.recv_from(&mut question) {
                    resolver.send_to(&question[..size], from).ok();
                }
            }
        });
        world.start();
        let dns = |egress: &str| page("web", &format!(", dns: {{servers: [192.0.2.9]}}{egress}"));
        world.write("web.yaml", &dns(", egress: {dns: true}"));
        world.wait_phase("web", "Running");
        assert!(asks(&world, "web"), "it may ask its own");
        world.write("web.yaml", &dns(""));
        until("nobody to be asked by default", SOON, || {
            !asks(&world, "web")
        });
        world.write("web.yaml", &page("web", ", egress: {dns: true}"));
        world.wait_phase("web", "Running");
        assert!(!asks(&world, "web"), "another than its own");
        stop.store(true, Ordering::Relaxed);
    });
    finish(world, &host);
}

#[test]
fn a_logged_rule_logs_before_a_wider_one_lets_pass() {
    let (mut world, host, _neighbour) = wired();
    world.start();
    let rules = ", egress: {allow: [{to: 192.0.2.0/24, protocol: all}, \
                 {to: 192.0.2.9, ports: [443], log: true}]}";
    world.write("web.yaml", &page("web", rules));
    world.wait_phase("web", "Running");
    let rules = host.rules();
    let logged = rules.find("log prefix \"web.").expect("one rule logs");
    let wider = rules.find("allow all 192.0.2.0").expect("the other rule");
    assert!(logged < wider, "{rules}");
    finish(world, &host);
}

/// Does something on a thread in the network of a container: its sockets belong there.
fn within<T: Send + 'static>(
    world: &World,
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    let pid = world.pid(name, "shell").expect("its shell runs");
    let namespace = std::fs::File::open(format!("/proc/{pid}/ns/net")).expect("open a namespace");
    let worker = std::thread::spawn(move || {
        let kind = nix::sched::CloneFlags::CLONE_NEWNET;
        nix::sched::setns(&namespace, kind).expect("enter a namespace");
        work()
    });
    worker.join().expect("the work is done")
}

/// Gives back what comes over one connection.
fn echo(listener: &TcpListener) {
    let (mut stream, _) = listener.accept().expect("somebody connects");
    stream.set_nodelay(true).ok();
    // One that is cut off ends, too.
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok();
    let mut byte = [0];
    while stream.read_exact(&mut byte).is_ok() && stream.write_all(&byte).is_ok() {}
}

/// Sends and receives until told to end; returns the longest wait for an answer.
fn converse(stop: &AtomicBool) -> Duration {
    let mut stream = TcpStream::connect("192.0.2.1:7000").expect("connect to the port");
    stream
        .set_read_timeout(Some(Duration::from_secs(5)))
        .expect("set it up");
    stream.set_nodelay(true).expect("set it up");
    let mut longest = Duration::ZERO;
    let mut byte = 0_u8;
    while !stop.load(Ordering::Relaxed) {
        byte = byte.wrapping_add(1);
        let sent = Instant::now();
        stream.write_all(&[byte]).expect("the connection lives");
        let mut answer = [0];
        stream.read_exact(&mut answer).expect("an answer comes");
        assert_eq!(answer, [byte]);
        longest = longest.max(sent.elapsed());
        std::thread::sleep(Duration::from_millis(2));
    }
    longest
}

#[test]
fn new_rules_hold_for_connections_that_stand() {
    let (mut world, host, neighbour) = wired();
    world.start();
    let rules = ", egress: {allow: [{to: 192.0.2.9, ports: [8000]}]}";
    world.write("web.yaml", &page("web", rules));
    world.wait_phase("web", "Running");
    let pid = world.pid("web", "web");
    let listener = neighbour.within(|| TcpListener::bind("192.0.2.9:8000").expect("listen"));
    std::thread::scope(|scope| {
        scope.spawn(|| echo(&listener));
        let mut stream = within(&world, "web", || {
            TcpStream::connect("192.0.2.9:8000").expect("connect")
        });
        let wait = Some(Duration::from_millis(300));
        stream.set_read_timeout(wait).expect("set it up");
        let mut goes_on = || {
            let mut byte = [7];
            stream.write_all(&byte).is_ok() && stream.read_exact(&mut byte).is_ok()
        };
        assert!(goes_on());
        world.write("web.yaml", &page("web", ""));
        until("the connection to be cut", SOON, || !goes_on());
    });
    assert_eq!(world.pid("web", "web"), pid);
    finish(world, &host);
}

#[test]
fn traffic_goes_on_while_the_daemon_is_killed() {
    const KILLS: usize = 10;
    let (mut world, host, neighbour) = wired();
    world.start();
    let ports = ", ports: [{host: 7000, container: 7, address: 0.0.0.0}]";
    world.write("echo.yaml", &page("echo", ports));
    world.wait_phase("echo", "Running");
    let pid = world.pid("echo", "shell");
    let listener = within(&world, "echo", || {
        TcpListener::bind("0.0.0.0:7").expect("listen")
    });
    let stop = AtomicBool::new(false);
    let longest = std::thread::scope(|scope| {
        scope.spawn(|| echo(&listener));
        let talk = scope.spawn(|| neighbour.within(|| converse(&stop)));
        for _ in 0..KILLS {
            world.kill9();
            world.start();
            world.wait_phase("echo", "Running");
        }
        stop.store(true, Ordering::Relaxed);
        talk.join().expect("no reset")
    });
    println!("longest wait over {KILLS} kills: {longest:?}");
    assert!(longest < Duration::from_millis(200), "{longest:?}");
    assert_eq!(world.pid("echo", "shell"), pid);
    finish(world, &host);
}

#[test]
fn a_connection_of_udp_does_not_go_on_to_who_has_the_port_no_more() {
    let (mut world, host, neighbour) = wired();
    world.start();
    let server = |name: &str, port: u16| {
        page(
            name,
            &format!(", ports: [{{host: {port}, container: 9, protocol: udp, address: 0.0.0.0}}]"),
        )
    };
    let asker = neighbour.within(|| {
        let socket = UdpSocket::bind("192.0.2.9:0").expect("bind");
        socket.connect("192.0.2.1:9000").expect("connect");
        socket
    });
    world.write("a.yaml", &server("a", 9000));
    world.write("b.yaml", &server("b", 9001));
    world.wait_phase("a", "Running");
    world.wait_phase("b", "Running");
    // Listeners inside their networks, in the test's own hands.
    let listen = |name: &str| {
        let socket = within(&world, name, || {
            UdpSocket::bind("0.0.0.0:9").expect("listen")
        });
        socket.set_nonblocking(true).expect("set it up");
        socket
    };
    let (a, b) = (listen("a"), listen("b"));
    let hears = |socket: &UdpSocket| {
        let mut buffer = [0; 16];
        std::iter::from_fn(|| socket.recv(&mut buffer).ok()).count() > 0
    };
    until("a to hear", SOON, || {
        asker.send(b"x").ok();
        hears(&a)
    });
    world.write("a.yaml", &server("a", 9001));
    world.write("b.yaml", &server("b", 9000));
    until("b to hear", SOON, || {
        asker.send(b"x").ok();
        hears(&b)
    });
    hears(&a);
    for _ in 0..20 {
        asker.send(b"x").ok();
    }
    until("b to hear again", SOON, || hears(&b));
    assert!(!hears(&a), "the connection goes on to the former holder");
    finish(world, &host);
}
