//! What a new process does between clone and exec: nothing here allocates, locks, or looks
//! anything up that the plan could know.

use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::{Errno, Result};
use rustix::process::umask;
use rustix::thread::{CapabilitySet, CapabilitySets, Gid, Uid};

use super::plan::Plan;
use crate::fail::tolerate;
use crate::kernel;

/// Deepest working directory, in bytes (`PATH_MAX`).
const CWD_BYTES: usize = 4096;

/// What every process of the container is confined to.
#[derive(Debug)]
pub(crate) struct Profile {
    /// Capability bits that stay.
    pub(crate) capabilities: u64,
    /// `PR_SET_NO_NEW_PRIVS`.
    pub(crate) no_new_privileges: bool,
    /// Programs, in the order they are installed.
    pub(crate) seccomp: Vec<Vec<libc::sock_filter>>,
}

/// The descriptors of a process about to be.
#[derive(Debug)]
pub(crate) struct Ends<'a> {
    /// What it reads and writes.
    pub(crate) streams: Streams<'a>,
    /// A byte says go; its end says do not.
    pub(crate) go: &'a OwnedFd,
    /// Takes one [`Trouble`]; closes by itself when the program runs.
    pub(crate) trouble: &'a OwnedFd,
}

/// What a process reads and writes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Streams<'a> {
    /// Becomes 0.
    pub(crate) input: BorrowedFd<'a>,
    /// Becomes 1.
    pub(crate) output: BorrowedFd<'a>,
    /// Becomes 2.
    pub(crate) errors: BorrowedFd<'a>,
    /// All three are one terminal, to be the controlling one of its session.
    pub(crate) is_terminal: bool,
}

/// At which step a process failed to become its program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Stage {
    Streams = 1,
    Limits,
    Groups,
    Group,
    User,
    Capabilities,
    Directory,
    Outside,
    Privileges,
    Seccomp,
    Exec,
}

/// Why a process failed to become its program.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trouble {
    pub(super) stage: u32,
    pub(super) errno: i32,
    pub(super) detail: u32,
}

/// Bytes of a [`Trouble`] on its way.
pub(crate) const TROUBLE_BYTES: usize = 12;

impl Trouble {
    fn encode(self) -> [u8; TROUBLE_BYTES] {
        let mut bytes = [0; TROUBLE_BYTES];
        let words = [
            self.stage.to_le_bytes(),
            self.errno.to_le_bytes(),
            self.detail.to_le_bytes(),
        ];
        for (to, from) in bytes.iter_mut().zip(words.as_flattened()) {
            *to = *from;
        }
        bytes
    }

    /// Returns what was sent.
    pub(crate) fn decode(bytes: &[u8; TROUBLE_BYTES]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l] = *bytes;
        Self {
            stage: u32::from_le_bytes([a, b, c, d]),
            errno: i32::from_le_bytes([e, f, g, h]),
            detail: u32::from_le_bytes([i, j, k, l]),
        }
    }

    /// Returns the kernel's number.
    pub(crate) fn errno(self) -> i32 {
        self.errno
    }
}

impl Plan {
    /// Waits for the word, becomes what the plan says, and runs the program. Never returns.
    pub(crate) fn run(&self, profile: &Profile, ends: &Ends<'_>) -> ! {
        let mut word = [0];
        loop {
            match rustix::io::read(ends.go, &mut word) {
                Ok(1) => break,
                Err(Errno::INTR) => {}
                Ok(_) | Err(_) => kernel::exit_now(0),
            }
        }
        let trouble = match self.become_program(profile, ends) {
            Ok(never) => match never {},
            Err(trouble) => trouble,
        };
        // Nobody is left to hear of it if this fails; the exit code below is then all.
        tolerate(rustix::io::write(ends.trouble, &trouble.encode()));
        kernel::exit_now(127)
    }

    fn become_program(
        &self,
        profile: &Profile,
        ends: &Ends<'_>,
    ) -> std::result::Result<std::convert::Infallible, Trouble> {
        connect(&ends.streams).map_err(at(Stage::Streams))?;
        umask(Mode::from_raw_mode(0o022));
        for limit in &self.limits {
            kernel::set_limit(0, limit)
                .map_err(|errno| trouble(Stage::Limits, errno, limit.resource))?;
        }
        self.drop_rights(profile)?;
        self.change_directory()?;
        if profile.no_new_privileges {
            rustix::thread::set_no_new_privs(true).map_err(at(Stage::Privileges))?;
        }
        // Marks only: every descriptor is close-on-exec from birth. Without an exec nothing
        // closes what is marked.
        if self.copying.is_none() {
            kernel::close_range(3, u32::MAX, true).map_err(at(Stage::Streams))?;
        }
        kernel::reset_signals();
        for (place, program) in profile.seccomp.iter().enumerate() {
            let place = u32::try_from(place).unwrap_or(u32::MAX);
            kernel::install_seccomp(program)
                .map_err(|errno| trouble(Stage::Seccomp, errno, place))?;
        }
        if needs_admin(profile) {
            set_capabilities(self.final_capabilities(profile)).map_err(at(Stage::Capabilities))?;
        }
        if let Some(copying) = &self.copying {
            // That it runs is told as an exec would: by what closes here.
            kernel::close_range(3, u32::MAX, false).map_err(at(Stage::Streams))?;
            copying.run()
        }
        Err(trouble(Stage::Exec, self.try_candidates(), 0))
    }

    /// Bounding set, groups, group, user, then the capabilities that are left.
    fn drop_rights(&self, profile: &Profile) -> std::result::Result<(), Trouble> {
        for capability in 0..64 {
            if profile.capabilities >> capability & 1 == 0 {
                match kernel::drop_bounding(capability) {
                    Ok(()) => {}
                    // The kernel knows no such capability, and none above it.
                    Err(Errno::INVAL) => break,
                    Err(errno) => return Err(trouble(Stage::Capabilities, errno, capability)),
                }
            }
        }
        let gid = Gid::from_raw(self.user.gid);
        let uid = Uid::from_raw(self.user.uid);
        rustix::thread::set_thread_groups(&self.user.groups).map_err(at(Stage::Groups))?;
        rustix::thread::set_thread_res_gid(gid, gid, gid).map_err(at(Stage::Group))?;
        if needs_admin(profile) {
            rustix::thread::set_keep_capabilities(true).map_err(at(Stage::Capabilities))?;
        }
        rustix::thread::set_thread_res_uid(uid, uid, uid).map_err(at(Stage::User))?;
        let mut kept = self.final_capabilities(profile);
        if needs_admin(profile) {
            kept |= CapabilitySet::SYS_ADMIN.bits();
        }
        set_capabilities(kept).map_err(at(Stage::Capabilities))
    }

    /// Root keeps what the profile grants and gets it again at exec; others have nothing.
    fn final_capabilities(&self, profile: &Profile) -> u64 {
        if self.user.uid == 0 {
            profile.capabilities
        } else {
            0
        }
    }

    /// Done as the user. A directory reached through a descriptor of this process could lie
    /// outside the root, so links of that kind are refused and the outcome is looked at.
    fn change_directory(&self) -> std::result::Result<(), Trouble> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let path = self.work_dir.as_c_str();
        let directory = openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_MAGICLINKS)
            .map_err(at(Stage::Directory))?;
        rustix::process::fchdir(&directory).map_err(at(Stage::Directory))?;
        let mut buffer = [0; CWD_BYTES];
        match kernel::first_byte_of_cwd(&mut buffer) {
            Ok(b'/') => Ok(()),
            Ok(_) => Err(trouble(Stage::Outside, Errno::XDEV, 0)),
            Err(errno) => Err(trouble(Stage::Directory, errno, 0)),
        }
    }

    fn try_candidates(&self) -> Errno {
        let mut last = Errno::NOENT;
        for path in &self.candidates {
            match kernel::exec(path, &self.argv.pointers, &self.envp.pointers) {
                Errno::NOENT | Errno::NOTDIR => {}
                // As shells do: look further, but remember that one was there.
                Errno::ACCESS => last = Errno::ACCESS,
                errno => return errno,
            }
        }
        last
    }
}
/// Installing a filter without giving up new privileges takes `CAP_SYS_ADMIN` in the user
/// namespace (`seccomp(2)`).
fn needs_admin(profile: &Profile) -> bool {
    !profile.no_new_privileges && !profile.seccomp.is_empty()
}

fn set_capabilities(bits: u64) -> Result<()> {
    let set = CapabilitySet::from_bits_retain(bits);
    let inheritable = CapabilitySet::empty();
    rustix::thread::clear_ambient_capability_set()?;
    let sets = CapabilitySets {
        effective: set,
        permitted: set,
        inheritable,
    };
    rustix::thread::set_capabilities(None, sets)
}

fn connect(streams: &Streams<'_>) -> Result<()> {
    rustix::stdio::dup2_stdin(streams.input)?;
    rustix::stdio::dup2_stdout(streams.output)?;
    rustix::stdio::dup2_stderr(streams.errors)?;
    rustix::process::setsid()?;
    if streams.is_terminal {
        rustix::process::ioctl_tiocsctty(streams.input)?;
    }
    Ok(())
}

fn at(stage: Stage) -> impl Fn(Errno) -> Trouble {
    move |errno| trouble(stage, errno, 0)
}

fn trouble(stage: Stage, errno: Errno, detail: u32) -> Trouble {
    Trouble {
        stage: stage as u32,
        errno: errno.raw_os_error(),
        detail,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_survives_its_own_bytes() {
        let sent = trouble(Stage::Limits, Errno::PERM, 7);
        let got = Trouble::decode(&sent.encode());
        assert_eq!((got.stage, got.errno, got.detail), (2, 1, 7));
    }
}
