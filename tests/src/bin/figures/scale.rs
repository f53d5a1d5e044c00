//! Many containers on one host: how fast they come, what they cost while nothing happens, and
//! how soon a restarted daemon knows them.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use serde_json::Value;
use tests::world::{World, bin};

use super::clock::{ms, now, used_by, wait};
use super::ours::{Places, SOON, STAY, first_instruction, get, memory, spec, supervisors, world};
use super::single::memory_file;
use super::stats::{Figure, Series, Target};

/// Bound for all containers.
const LONG: Duration = Duration::from_secs(600);
/// How long the daemon is left alone.
const IDLE: Duration = Duration::from_secs(60);
/// Containers that are dropped at once.
const DROPPED: usize = 100;

/// What one more container costs beside so many.
#[derive(Clone, Debug)]
pub(crate) struct Growth {
    pub(crate) beside: usize,
    pub(crate) first: Series,
}

/// Measures with so many containers in the end.
pub(crate) fn many(all: usize, rounds: usize) -> (Vec<Figure>, Vec<Growth>) {
    let mut world = world();
    world.start();
    let mut growth = Vec::new();
    let mut figures = Vec::new();
    let mut there = 0;
    for count in [1, 10, DROPPED, all / 4, all / 2, all] {
        if count < there || count > all {
            continue;
        }
        let took = add(&world, there, count);
        if (there, count) == (10, DROPPED) {
            let rate = count_f64(count - there) / took.as_secs_f64();
            let rate = Series::one("reconciler", rate);
            figures.push(
                Figure::new("containers dropped at once, running", "per second", rate)
                    .target(Target::Least(60.0))
                    .note("90 files into the directory, until the last one's first instruction"),
            );
        }
        there = count;
        growth.push(Growth {
            beside: count,
            first: one_more(&world, count, rounds),
        });
    }
    figures.extend(grown(&growth));
    figures.extend(quiet(&world, rounds));
    figures.extend(restarted(&mut world, rounds.min(10)));
    clear(&world);
    world.finish();
    (figures, growth)
}

fn count_f64(count: usize) -> f64 {
    f64::from(u32::try_from(count).expect("a count"))
}

fn name(number: usize) -> String {
    format!("n{number}")
}

/// Drops containers at once; returns how long it took until each had begun.
fn add(world: &World, from: usize, to: usize) -> Duration {
    let asked = now();
    for number in from..to {
        let name = name(number);
        world.write(&format!("{name}.yaml"), &spec(&name, "64Mi", STAY));
    }
    let logs = world.path("log").join(world.instance());
    let mut left: Vec<usize> = (from..to).collect();
    let mut last = asked;
    wait("all containers", LONG, || {
        left.retain(|number| {
            let log = logs.join(name(*number)).join("main.log");
            let text = fs::read_to_string(log).unwrap_or_default();
            match super::clock::stamp(&text) {
                Some(at) => {
                    last = last.max(at);
                    false
                }
                None => true,
            }
        });
        std::thread::sleep(Duration::from_millis(5));
        left.is_empty().then_some(())
    });
    settled(world, to);
    last - asked
}

/// Waits until the daemon says that all run and that nothing is left to do.
fn settled(world: &World, count: usize) {
    wait("all containers to be settled", LONG, || {
        std::thread::sleep(Duration::from_millis(50));
        let list = get(world, "/v1/containers")?;
        let all = list.get("containers")?.as_array()?;
        let is_settled = |view: &&Value| {
            let status = view.get("status").unwrap_or(&Value::Null);
            let is_running = status.get("phase").is_some_and(|phase| phase == "Running");
            is_running && world.condition(status, "Settled")
        };
        let settled = all.iter().filter(is_settled).count();
        (settled == count && all.len() == count).then_some(())
    });
}

/// One more container beside those that are there, some times.
fn one_more(world: &World, beside: usize, rounds: usize) -> Series {
    let mut series = Series::new("reconciler");
    for round in 0..rounds {
        let name = format!("more-{beside}-{round}");
        let text = spec(&name, "64Mi", STAY);
        let asked = now();
        world.write(&format!("{name}.yaml"), &text);
        series.add(ms(first_instruction(world, &name) - asked));
        let places = Places::of(world);
        world.remove(&format!("{name}.yaml"));
        wait("nothing to be left", SOON, || {
            std::thread::sleep(Duration::from_millis(5));
            places.are_clear_of(&name).then_some(())
        });
    }
    series
}

fn grown(growth: &[Growth]) -> Vec<Figure> {
    let at = |beside: usize| growth.iter().find(|one| one.beside == beside);
    let (Some(few), Some(many)) = (at(10), growth.last()) else {
        return Vec::new();
    };
    let mut few = few.first.clone();
    few.who = "beside 10".to_owned();
    let what = format!("one more file, beside {} containers", many.beside);
    vec![
        Figure::new(&what, "ms", many.first.clone())
            .beside([few])
            .target(Target::Times(1.3, "beside 10")),
    ]
}

/// What the daemon and its helpers cost while nothing happens.
fn quiet(world: &World, rounds: usize) -> Vec<Figure> {
    let pid = world.daemon_pid();
    let (began, used) = (now(), used_by(pid));
    std::thread::sleep(IDLE);
    let share = (used_by(pid) - used).as_secs_f64() / (now() - began).as_secs_f64();
    let mut wake = Series::new("reconciler");
    let limit = memory_file(world, "n1");
    let same = fs::read(&limit).expect("read a limit");
    for _ in 0..rounds {
        let used = used_by(pid);
        fs::write(&limit, &same).expect("write a limit");
        std::thread::sleep(Duration::from_millis(50));
        wake.add(ms(used_by(pid) - used) * 1000.0);
    }
    let mut sweep = Series::new("reconciler");
    for _ in 0..5 {
        let used = used_by(pid);
        assert!(world.cli(&["sync", "--wait"]).status.success());
        sweep.add(ms(used_by(pid) - used));
    }
    let helpers = supervisors(world);
    let total: f64 = helpers.iter().map(|pid| memory(*pid, "Pss:")).sum();
    let list = get(world, "/v1/containers").unwrap_or_default();
    let list = list.get("containers").and_then(Value::as_array);
    let containers = list.map_or(1, Vec::len);
    let one = |value| Series::one("reconciler", value);
    vec![
        Figure::new("idle: share of one core", "%", one(share * 100.0))
            .target(Target::Most(50, 0.2))
            .note("a minute, its resyncs included"),
        Figure::new(
            "idle: daemon resident",
            "MiB",
            one(memory(pid, "VmRSS:") / 1024.0),
        )
        .target(Target::Most(50, 24.0)),
        Figure::new(
            "shim and init of a container, together",
            "KiB PSS",
            one(total / count_f64(containers)),
        )
        .target(Target::Most(50, 200.0)),
        Figure::new(
            "`sync --wait`: reads all specs, looks at all containers",
            "ms of CPU",
            sweep,
        )
        .target(Target::Most(50, 50.0)),
        Figure::new("one wake-up, one settled container", "us of CPU", wake)
            .target(Target::Most(50, 100.0))
            .note("the limit it has is written to its cgroup again; whatever else goes on for 50 ms is in it"),
    ]
}

/// Ends the daemon and starts it anew; nobody's process may change.
fn restarted(world: &mut World, rounds: usize) -> Vec<Figure> {
    let mut ready = Series::new("reconciler");
    let before = processes(world);
    for _ in 0..rounds {
        world.stop();
        let asked = now();
        world.spawn();
        wait("the daemon to be ready", LONG, || {
            let version = get(world, "/v1/version")?;
            is_ready(&version).then_some(())
        });
        ready.add(ms(now() - asked));
    }
    settled(world, before.len());
    let after = processes(world);
    let kept = before
        .iter()
        .filter(|(name, pid)| after.get(*name) == Some(pid));
    let anew = count_f64(before.len() - kept.count());
    let what = format!("daemon started to all {} adopted", before.len());
    vec![
        Figure::new(&what, "ms", ready).target(Target::Most(50, 500.0)),
        Figure::new(
            "processes made anew by that",
            "",
            Series::one("reconciler", anew),
        )
        .target(Target::Most(50, 0.0)),
    ]
}

fn is_ready(version: &Value) -> bool {
    version.get("ready").is_some_and(|ready| ready == true)
}

/// Pid of each container's process.
fn processes(world: &World) -> BTreeMap<String, u64> {
    let list = get(world, "/v1/containers").expect("an answer");
    let all = list.get("containers").and_then(Value::as_array);
    all.expect("containers")
        .iter()
        .filter_map(|view| {
            let pid = view.pointer("/status/processes/0/pid")?.as_u64()?;
            let key = view.pointer("/status/key")?.as_str()?;
            Some((key.to_owned(), pid))
        })
        .collect()
}

/// Takes all containers away; so many at once are a person's word.
fn clear(world: &World) {
    for entry in fs::read_dir(world.path("specs"))
        .expect("list specs")
        .flatten()
    {
        fs::remove_file(entry.path()).expect("remove a spec");
    }
    wait("every container to be gone", LONG, || {
        drop(world.cli(&["sync", "--allow-deletes", "100000"]));
        std::thread::sleep(Duration::from_millis(200));
        let list = get(world, "/v1/containers")?;
        let all = list.get("containers")?.as_array()?;
        all.is_empty().then_some(())
    });
}

/// A daemon without containers: how big its programs are, how soon it is ready.
pub(crate) fn empty(rounds: usize) -> Vec<Figure> {
    let mut world = world();
    let mut ready = Series::new("reconciler");
    for _ in 0..rounds {
        let asked = now();
        world.spawn();
        wait("the daemon to be ready", SOON, || {
            let version = get(&world, "/v1/version")?;
            is_ready(&version).then_some(())
        });
        ready.add(ms(now() - asked));
        world.stop();
    }
    world.finish();
    let sizes = ["reconciler", "reconciler-shim"].map(|name| {
        let size = fs::metadata(bin(name)).expect("a program").len();
        f64::from(u32::try_from(size).expect("a size")) / f64::from(1 << 20)
    });
    vec![
        Figure::new(
            "daemon and shim on disk",
            "MiB",
            Series::one("reconciler", sizes.iter().sum()),
        )
        .target(Target::Most(50, 12.0)),
        Figure::new("cold start to ready, no containers", "ms", ready)
            .target(Target::Most(50, 50.0)),
    ]
}
