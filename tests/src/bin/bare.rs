//! What containers of the benchmark run, and the least that a container can cost.
//!
//! `bare stamp [stay]` says on standard output when its first instruction ran, in nanoseconds of
//! the monotonic clock, which is one for all containers. `bare floor ROOT PROGRAM...` runs a
//! program in namespaces and a root of its own, and does nothing else: no limits, no filter, no
//! capabilities, nobody who waits. Built static, so that it runs in an empty root.

use std::io::{Error, Result, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::time::{ClockId, clock_gettime};

fn main() -> Result<()> {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC)?;
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["stamp", rest @ ..] => {
            let at = Duration::new(
                u64::try_from(now.tv_sec()).unwrap_or_default(),
                u32::try_from(now.tv_nsec()).unwrap_or_default(),
            );
            let mut out = std::io::stdout().lock();
            writeln!(out, "stamp={}", at.as_nanos())?;
            out.flush()?;
            if rest == ["stay"] {
                // Until it is killed.
                std::thread::sleep(Duration::MAX);
            }
            Ok(())
        }
        ["floor", root, program, rest @ ..] => floor(Path::new(root), program, rest),
        _ => Err(Error::other(
            "bare stamp [stay] | bare floor ROOT PROGRAM...",
        )),
    }
}

fn floor(root: &Path, program: &str, rest: &[&str]) -> Result<()> {
    unshare(
        CloneFlags::CLONE_NEWUSER
            | CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWPID
            | CloneFlags::CLONE_NEWNET
            | CloneFlags::CLONE_NEWIPC
            | CloneFlags::CLONE_NEWUTS
            | CloneFlags::CLONE_NEWCGROUP,
    )?;
    std::fs::write("/proc/self/uid_map", "0 0 1")?;
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    let bind = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(Some(root), root, none, bind, none)?;
    std::env::set_current_dir(root)?;
    nix::unistd::pivot_root(".", ".")?;
    umount2(".", MntFlags::MNT_DETACH)?;
    // The first child is the one in the new process namespace: `pid_namespaces(7)`.
    let status = Command::new(program).args(rest).arg0(program).status()?;
    if status.success() {
        Ok(())
    } else {
        Err(Error::other(format!("{program}: {status}")))
    }
}
