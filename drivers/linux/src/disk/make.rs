//! Making an image, whole or not at all.

use std::fs::{DirBuilder, File, Permissions};
use std::io::{self, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use driver_api::{Deadline, StepError, StepFailure};

use super::superblock::Superblock;
use super::{BLOCK, IMAGE, INODES_OWN, has_image, image};
use crate::clock::wait_until;
use crate::error::{During as _, failure, retry, terminal};

/// Where the program is looked for. `PATH` is not: it is run as root.
pub(crate) const MKFS: [&str; 3] = [
    "/usr/sbin/mkfs.ext4",
    "/sbin/mkfs.ext4",
    "/usr/bin/mkfs.ext4",
];
/// Most that is kept of what it says.
const WORDS_MAX: u64 = 2000;
/// Without a number of inodes there is one for so many bytes.
const BYTES_PER_INODE: &str = "16384";

/// What an image shall be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    /// Its size.
    pub(crate) bytes: u64,
    /// Inodes for the container; none: as many as is usual.
    pub(crate) inodes: Option<u64>,
    /// Owner of the directories in it.
    pub(crate) owner: u32,
    /// Mode of the upper layer.
    pub(crate) mode: u32,
    /// It shall survive a power cut.
    pub(crate) lasts: bool,
}

/// Makes the image of an upper layer, with the layer's empty directories in it. One that is
/// there is left as it is.
///
/// # Errors
/// `Terminal` when there is no `mkfs.ext4` or it refuses.
pub(crate) fn make(
    directory: &Path,
    leaf: &str,
    wanted: Wanted,
    deadline: Deadline,
) -> Result<(), StepError> {
    let what = || format!("make the image of {leaf}");
    if has_image(directory).during(what)? {
        return Ok(());
    }
    let program = mkfs().ok_or_else(|| no_program(leaf))?;
    let partial = directory.join(format!(".{IMAGE}.partial"));
    let seed = directory.join(".seed.partial");
    // What a crash left.
    match std::fs::remove_file(&partial) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(err).during(what),
        _ => {}
    }
    clear(&seed).during(what)?;
    plant(&seed, wanted).during(what)?;
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&partial)
        .during(what)?;
    file.set_len(wanted.bytes / BLOCK * BLOCK).during(what)?;
    let made = run(program, &arguments(wanted, &seed, &partial), leaf, deadline);
    if made.is_err() {
        // Nobody may come back for it: a persistent root may be wanted without a limit next.
        let _discarded = std::fs::remove_file(&partial);
        let _cleared = clear(&seed);
    }
    made?;
    let found = Superblock::read(&file).during(what)?;
    if found.bytes() != wanted.bytes / BLOCK * BLOCK {
        return Err(retry(what(), "it has another size than was asked for"));
    }
    if wanted.lasts {
        file.sync_all().during(what)?;
    }
    clear(&seed).during(what)?;
    std::fs::rename(&partial, image(directory)).during(what)
}

/// Returns the program that makes images, if this host has it.
pub(crate) fn mkfs() -> Option<&'static str> {
    MKFS.into_iter().find(|path| Path::new(path).is_file())
}

fn no_program(leaf: &str) -> StepError {
    terminal(
        format!("enforce limits.disk of {leaf}"),
        format!("there is no {}", MKFS[0]),
        "install it (Debian, Fedora: e2fsprogs), or drop limits.disk",
    )
}

/// The directories that the image begins with.
fn plant(seed: &Path, wanted: Wanted) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(seed)?;
    for (name, mode) in [("upper", wanted.mode), ("work", 0o700)] {
        let path = seed.join(name);
        DirBuilder::new().mode(0o700).create(&path)?;
        std::os::unix::fs::chown(&path, Some(wanted.owner), Some(wanted.owner))?;
        std::fs::set_permissions(&path, Permissions::from_mode(mode))?;
    }
    Ok(())
}

fn clear(seed: &Path) -> io::Result<()> {
    for path in [seed.join("upper"), seed.join("work"), seed.to_path_buf()] {
        match std::fs::remove_dir(&path) {
            Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(err),
            _ => {}
        }
    }
    Ok(())
}

fn arguments(wanted: Wanted, seed: &Path, partial: &Path) -> Vec<PathBuf> {
    let mut words: Vec<PathBuf> = [
        "-q",
        "-F",
        "-b",
        "4096",
        "-I",
        "256",
        // Nothing is set aside for root: in here it is the container.
        "-m",
        "0",
        "-E",
        // Tables of zeros are not written: the file is one hole.
        "lazy_itable_init=1,lazy_journal_init=1,nodiscard,root_owner=0:0",
    ]
    .into_iter()
    .map(PathBuf::from)
    .collect();
    let mut option = |name: &str, value: PathBuf| words.extend([PathBuf::from(name), value]);
    match wanted.inodes {
        Some(inodes) => option("-N", (inodes + INODES_OWN).to_string().into()),
        None => option("-i", BYTES_PER_INODE.into()),
    }
    if !wanted.lasts {
        option("-O", "^has_journal".into());
    }
    option("-d", seed.to_path_buf());
    words.push(partial.to_path_buf());
    words
}

/// Runs the program, in an empty environment and no longer than the deadline.
fn run(
    program: &str,
    arguments: &[PathBuf],
    leaf: &str,
    deadline: Deadline,
) -> Result<(), StepError> {
    let what = || format!("run {program} for {leaf}");
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .during(what)?;
    let ended = wait_until(deadline, || child.try_wait().map(|status| status.is_some()));
    if !matches!(ended, Ok(true)) {
        // It may have ended meanwhile: then there is nothing to kill.
        let _killed = child.kill();
        let _reaped = child.wait();
        ended.during(what)?;
        return Err(retry(what(), "it did not end in time"));
    }
    let status = child.wait().during(what)?;
    if status.success() {
        return Ok(());
    }
    let mut words = Vec::new();
    if let Some(pipe) = child.stderr.take() {
        // What cannot be read is not told.
        let _read = pipe.take(WORDS_MAX).read_to_end(&mut words);
    }
    let words = String::from_utf8_lossy(&words);
    let words: Vec<&str> = words.split_whitespace().collect();
    let words = words.join(" ");
    let cause = format!("it said: {words} ({status})");
    // A full disk may be made room on; all else it refuses again.
    if words.contains("No space left") {
        return Err(StepError::Retry(StepFailure {
            errno: Some(libc::ENOSPC),
            ..failure(what(), cause)
        }));
    }
    Err(terminal(what(), cause, "correct spec.limits.disk"))
}
