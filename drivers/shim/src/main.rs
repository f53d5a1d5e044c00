//! Supervisor of one container: `reconciler-shim INSTANCE KEY.INCARNATION DIRECTORY MODE`.
//!
//! One single-threaded program in two processes. The *shim* stays on the host, outside the
//! container's namespaces and cgroup: it talks to the daemon, writes the logs, and survives
//! the daemon. The *init* is a copy of it that went on as pid 1 of the container: it starts
//! and reaps processes and survives the shim. `docs/formats/shim.md` has the whole picture.

mod clients;
mod exits;
mod fail;
mod host;
mod init;
mod kernel;
mod launch;
mod life;
mod link;
mod logs;
mod processes;
mod root;
mod shim;
mod spawner;
mod sys;

use std::process::ExitCode;

use kernel::{Clone, Cloned};
use life::{Arguments, Life, Purpose};
use rustix::fs::{Mode, OFlags};

/// The name `ps` shows; as long as the init's, which takes its place.
const NAME: &std::ffi::CStr = c"reconciler-shim";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let Some(arguments) = Arguments::parse(&words) else {
        // Nobody reads prose of this program; the code is `EX_USAGE` of sysexits.
        return ExitCode::from(64);
    };
    match leave_caller() {
        Ok(true) => run(&arguments),
        Ok(false) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(71),
    }
}

/// Becomes a process that is nobody's child and holds nothing of the caller. True in that
/// process, false in the one that was called.
fn leave_caller() -> rustix::io::Result<bool> {
    if let Cloned::Parent(_) = kernel::clone(Clone::default())? {
        return Ok(false);
    }
    rustix::process::setsid()?;
    if let Cloned::Parent(_) = kernel::clone(Clone::default())? {
        kernel::exit_now(0);
    }
    kernel::close_range(3, u32::MAX, false)?;
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    let null = rustix::fs::open("/dev/null", flags, Mode::empty())?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    Ok(true)
}

fn run(arguments: &Arguments) -> ExitCode {
    let prepared = || -> rustix::io::Result<Option<Life>> {
        rustix::thread::set_name(NAME)?;
        let never = rustix::process::DumpableBehavior::NotDumpable;
        rustix::process::set_dumpable_behavior(never)?;
        rustix::process::set_child_subreaper(Some(rustix::process::Pid::INIT))?;
        rustix::process::umask(Mode::from_raw_mode(0o077));
        rustix::process::chdir("/")?;
        Life::take(arguments)
    };
    let Ok(Some(life)) = prepared() else {
        return ExitCode::FAILURE;
    };
    life.protect();
    if life.write_shim_id().is_err() {
        return ExitCode::FAILURE;
    }
    let is_new =
        arguments.purpose == Purpose::Launch && host::read_id(&life.directory, "init.id").is_none();
    let made = if is_new {
        shim::Shim::launch(life)
    } else {
        shim::Shim::adopt(life)
    };
    match made.map(shim::Shim::serve) {
        Some(()) => ExitCode::SUCCESS,
        None => ExitCode::FAILURE,
    }
}
