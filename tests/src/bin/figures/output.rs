//! What a container says, on its way to the log files.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::clock::{now, stamp, wait};
use super::ours::{spec, supervisors, world};
use super::stats::{Figure, Series, Target};

/// Bytes of the file that is said over and over; lines of 80 bytes.
const FILE: usize = 64 << 20;
const LINE: usize = 80;
/// Bound for all of it.
const LONG: Duration = Duration::from_secs(300);

/// How fast output becomes log files, beside `cat` into a file.
pub(crate) fn logs(rounds: usize, times: usize) -> Vec<Figure> {
    let mut world = world();
    world.start();
    let line = "x".repeat(LINE - 1) + "\n";
    fs::write(world.path("rootfs/text"), line.repeat(FILE / LINE)).expect("write a text");
    let loops = format!("i=0; while [ $i -lt {times} ]; do cat text; i=$((i+1)); done");
    let (mut ours, mut cat) = (Series::new("reconciler"), Series::new("cat"));
    let mut resident = Series::new("reconciler");
    let megabytes = |took: Duration| {
        let bytes = u32::try_from((FILE * times) >> 20).expect("a size");
        f64::from(bytes) / took.as_secs_f64()
    };
    for round in 0..rounds {
        let name = format!("loud-{round}");
        let said = format!("cd /; a=$(bare stamp); {loops}; echo $a; bare stamp; sleep 1000");
        let text = spec(&name, "256Mi", &["/bin/sh", "-c", &said]).replace(
            "restart: {policy: never}",
            "restart: {policy: never}, logs: {maxBytes: 64Mi, maxFiles: 3}",
        );
        world.write(&format!("{name}.yaml"), &text);
        let logs = world.path("log").join(world.instance()).join(&name);
        let took = wait("the last line", LONG, || between(&logs.join("main.log")));
        ours.add(megabytes(took));
        for pid in supervisors(&world) {
            resident.add(super::ours::memory(pid, "VmHWM:") / 1024.0);
        }
        world.remove(&format!("{name}.yaml"));
        world.wait_gone(&name);
        fs::remove_dir_all(&logs).expect("remove logs");
        cat.add(megabytes(copied(
            &world.path("rootfs"),
            &world.path("log"),
            &loops,
        )));
    }
    fs::remove_file(world.path("rootfs/text")).expect("remove a text");
    world.finish();
    vec![
        Figure::new("output into rotated log files", "MiB/s", ours)
            .beside([cat])
            .target(Target::TimesAtLeast(0.8, "cat")),
        Figure::new(
            "most that shim and init were resident meanwhile",
            "MiB",
            resident,
        )
        .note("each process by itself, shared pages counted whole"),
    ]
}

/// Time between the two stamps at the end of a log, once both are there.
fn between(log: &Path) -> Option<Duration> {
    let text = fs::read(log).ok()?;
    let tail = text.get(text.len().saturating_sub(400)..)?;
    let tail = String::from_utf8_lossy(tail);
    let (_, first) = tail.split_once("stamp=")?;
    let (_, second) = first.split_once("stamp=")?;
    Some(stamp(&format!("stamp={second}"))? - stamp(&format!("stamp={first}"))?)
}

/// The same text by the same shell, through a pipe and `cat` into a file.
fn copied(root: &Path, into: &Path, loops: &str) -> Duration {
    let target = into.join("copied");
    let line = format!("({loops}) | cat > {}", target.display());
    let asked = now();
    let status = Command::new(root.join("bin/busybox"))
        .args(["sh", "-c", &line])
        .current_dir(root)
        .stdin(Stdio::null())
        .status()
        .expect("run a shell");
    let took = now() - asked;
    assert!(status.success(), "{line}");
    fs::remove_file(target).expect("remove a copy");
    took
}
