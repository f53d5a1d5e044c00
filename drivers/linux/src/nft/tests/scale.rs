//! Many lives, and many at once.

use rustix::time::{ClockId, clock_gettime};

use super::*;

/// Lives of a large host.
const LIVES: u16 = 1000;

fn life(number: u16) -> Life {
    let [high, low] = number.to_be_bytes();
    let ports = (0..4).map(|port_number| port(1024 + number * 4 + port_number, 80));
    Life {
        leaf: format!("many-{number}.1"),
        device: format!("{}{number}", device('a')),
        address: Ipv4Addr::new(10, 78, high, low),
        ports: ports.collect(),
        ..db()
    }
}

fn micros() -> i64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec * 1_000_000 + now.tv_nsec / 1000
}

fn timed<T>(what: &str, act: impl FnOnce() -> T) -> T {
    let before = micros();
    let done = act();
    eprintln!("{what}: {} us", micros() - before);
    done
}

/// Prints how long one more port takes, with what was read before and without.
fn time_one_more_port(warm: &Firewall, lives: u16) {
    let mut one = life(0);
    one.ports.push(port(60_000, 80));
    timed(&format!("set one more port, {lives} lives, cached"), || {
        set(warm, &one)
    });
    one.ports.push(port(60_001, 80));
    let cold = firewall();
    timed(
        &format!("set one more port, {lives} lives, not cached"),
        || set(&cold, &one),
    );
    timed(&format!("read {lives} lives, not cached"), || {
        observed(warm)
    });
    timed(&format!("read {lives} lives, cached"), || {
        warm.read(PATIENCE).unwrap()
    });
    assert_eq!(observed(warm).lives["many-0.1"], one.observed());
    set(warm, &life(0));
}

#[test]
fn a_thousand_lives_are_set_and_read() {
    apart(|| {
        let warm = firewall();
        (0..10).for_each(|number| set(&warm, &life(number)));
        time_one_more_port(&warm, 10);
        timed("set the other lives", || {
            (10..LIVES).for_each(|number| set(&warm, &life(number)));
        });
        time_one_more_port(&warm, LIVES);
        let lives: Vec<Life> = (0..LIVES).map(life).collect();
        let wanted = all_of(&lives.iter().collect::<Vec<_>>());
        assert_eq!(observed(&firewall()), wanted);
        nft("chain inet reconciler-test forward { policy drop; }");
        timed("make the table anew", || set(&warm, &life(0)));
        assert_eq!(observed(&firewall()), wanted);
        timed("remove one life", || {
            warm.remove("many-0.1", PATIENCE).unwrap()
        });
    });
}

#[test]
fn threads_that_set_at_once_all_succeed() {
    apart(|| {
        let namespace = File::open("/proc/thread-self/ns/net").unwrap();
        let (one, other) = (firewall(), firewall());
        std::thread::scope(|scope| {
            for number in 0..16 {
                let firewall = if number % 4 == 0 { &other } else { &one };
                let namespace = &namespace;
                scope.spawn(move || {
                    nix::sched::setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
                    set(firewall, &life(number));
                });
            }
        });
        let lives: Vec<Life> = (0..16).map(life).collect();
        let wanted = all_of(&lives.iter().collect::<Vec<_>>());
        assert_eq!(observed(&one), wanted);
        assert_eq!(observed(&other), wanted);
    });
}
