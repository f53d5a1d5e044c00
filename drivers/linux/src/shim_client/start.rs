//! Starts a shim.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use driver_api::Mark;
use prost::Message as _;
use rustix::event::poll;
use shim_proto::message::Failure;

use super::{ConnectError, ShimClient, left, timespec};

/// Most bytes of the file `failure`.
const FAILURE_BYTES_MAX: u64 = 64 << 10;
/// How long between two looks at what gives no signal.
const LOOK_MS: u64 = 5;

/// Looks after which one that has not taken its lock does not live: two seconds or more, for
/// what takes it less than one millisecond.
const LOOKS_MAX: u32 = 400;

/// What a shim is started for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StartMode {
    /// Make the container.
    Launch,
    /// Take over what there is.
    Adopt,
}

/// Why no shim came up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// The program could not be executed.
    #[error("execute the shim")]
    Execute(#[source] io::Error),
    /// The program did not detach itself.
    #[error("the shim ended with {0} before it began")]
    Ended(ExitStatus),
    /// It could not make the container, and says why.
    #[error("{}", words(.0))]
    Refused(Failure),
    /// It took its lock and let go of it, or never took it.
    #[error("the shim ended before it answered")]
    Gone,
    /// It did not answer in time.
    #[error("the shim did not answer in time")]
    Late(#[source] ConnectError),
}

/// Starts a shim and waits until it answers, or says why it cannot.
///
/// # Errors
/// When it did not come up; whether something of it lives then shows in what is observed.
pub(crate) fn start(
    exe: BorrowedFd<'_>,
    mark: &Mark,
    directory: &Path,
    mode: StartMode,
    deadline_ms: u64,
) -> Result<(), StartError> {
    if mode == StartMode::Launch
        && let Err(error) = std::fs::remove_file(directory.join("failure"))
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(StartError::Execute(error));
    }
    let word = match mode {
        StartMode::Launch => "launch",
        StartMode::Adopt => "adopt",
    };
    let mut launcher = Command::new(format!("/proc/self/fd/{}", exe.as_raw_fd()))
        .arg0("reconciler-shim")
        .args([mark.instance.as_str(), &mark.leaf()])
        .arg(directory)
        .arg(word)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(StartError::Execute)?;
    let status = wait_for_exit(&mut launcher, deadline_ms).map_err(StartError::Execute)?;
    if !status.success() {
        return Err(StartError::Ended(status));
    }
    let (mut held, mut looks) = (false, 0);
    loop {
        let refused = match ShimClient::connect(directory, mark, deadline_ms) {
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        let is_gone = matches!(refused, ConnectError::Absent);
        (held, looks) = (held || !is_gone, looks + 1);
        if mode == StartMode::Launch
            && let Some(failure) = read_failure(directory)
        {
            return Err(StartError::Refused(failure));
        }
        if is_gone && (held || looks > LOOKS_MAX) {
            return Err(StartError::Gone);
        }
        if !nap(deadline_ms) {
            return Err(StartError::Late(refused));
        }
    }
}

fn read_failure(directory: &Path) -> Option<Failure> {
    let mut bytes = Vec::new();
    let file = File::open(directory.join("failure")).ok()?;
    file.take(FAILURE_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    Failure::decode(bytes.as_slice()).ok()
}

/// Waits for the launcher, which detaches its work and ends; one that does not is killed.
fn wait_for_exit(launcher: &mut Child, deadline_ms: u64) -> io::Result<ExitStatus> {
    loop {
        if let Some(status) = launcher.try_wait()? {
            return Ok(status);
        }
        if !nap(deadline_ms) {
            launcher.kill()?;
            return launcher.wait();
        }
    }
}

/// Sleeps for a moment; false once the deadline has passed.
pub(super) fn nap(deadline_ms: u64) -> bool {
    let Some(left) = left(deadline_ms) else {
        return false;
    };
    let step = timespec(LOOK_MS);
    let nap = if left.tv_sec == 0 && left.tv_nsec < step.tv_nsec {
        left
    } else {
        step
    };
    // An interrupted sleep is a short one.
    match poll(&mut [], Some(&nap)) {
        Ok(_) | Err(_) => true,
    }
}

fn words(failure: &Failure) -> String {
    let cause = match failure.cause.as_str() {
        "" if failure.errno != 0 => io::Error::from_raw_os_error(failure.errno).to_string(),
        cause => cause.to_owned(),
    };
    format!("{}: {cause}", failure.what)
}
