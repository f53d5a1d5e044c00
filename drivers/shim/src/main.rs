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

use std::os::fd::AsFd;
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
    match leave_caller(&arguments) {
        Ok(Some(born_in_place)) => run(&arguments, born_in_place),
        Ok(None) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(71),
    }
}

/// Becomes a process that is nobody's child and holds nothing of the caller. In that process
/// it says whether it began in its version 2 cgroup; none in the one that was called.
fn leave_caller(arguments: &Arguments) -> rustix::io::Result<Option<bool>> {
    if let Cloned::Parent(_) = kernel::clone(Clone::default())? {
        return Ok(None);
    }
    rustix::process::setsid()?;
    let place = shim::birthplace(arguments);
    let there = Clone {
        cgroup: place.as_ref().map(AsFd::as_fd),
        ..Clone::default()
    };
    let (cloned, born_in_place) = match kernel::clone(there) {
        Ok(cloned) => (cloned, place.is_some()),
        // A kernel before 5.7, or a cgroup that takes nobody: it is moved, and says why not.
        Err(_) => (kernel::clone(Clone::default())?, false),
    };
    // Before all descriptors are closed, and its number is another's.
    drop(place);
    if let Cloned::Parent(_) = cloned {
        kernel::exit_now(0);
    }
    kernel::close_range(3, u32::MAX, false)?;
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    let null = rustix::fs::open("/dev/null", flags, Mode::empty())?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    Ok(Some(born_in_place))
}

fn run(arguments: &Arguments, born_in_place: bool) -> ExitCode {
    let prepared = || -> rustix::io::Result<Option<Life>> {
        rustix::thread::set_name(NAME)?;
        let never = rustix::process::DumpableBehavior::NotDumpable;
        rustix::process::set_dumpable_behavior(never)?;
        rustix::process::set_child_subreaper(Some(rustix::process::Pid::INIT))?;
        rustix::process::umask(Mode::from_raw_mode(0o077));
        rustix::process::chdir("/")?;
        Life::take(arguments, born_in_place)
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
