//! A small Debian with systemd for the virtual machine, and our package beside it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use crate::deb::{self, Wanted};
use crate::image::{self, Kernel};
use crate::packages::{self, MMDEBSTRAP};
use crate::say;
use crate::vm::sources;

/// Of the same release as the kernel's package.
const SUITE: &str = "bookworm";
const PACKAGES: &str = "systemd,systemd-sysv,dbus,nftables";
const DISK_BYTES: u64 = 3 << 30;
/// What is true of a package that is made for this alone.
const OF_TESTS: &str = "unstripped-binary-or-object,uses-no-compression-for-control-tarball,\
                        uses-no-compression-for-data-tarball";
/// Units that only take time in a machine that lives for some minutes.
const MASKED: [&str; 8] = [
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "systemd-tmpfiles-clean.timer",
    "serial-getty@.service",
];

/// Returns the archive of a Debian, which is made once; nothing, and says why, where it cannot be
/// fetched.
pub(crate) fn base(place: &Path) -> Result<Option<PathBuf>> {
    let archive = place.join(format!("debian-{SUITE}.tar"));
    if archive.exists() {
        return Ok(Some(archive));
    }
    if let Err(err) = packages::install(&[MMDEBSTRAP]) {
        say(&format!("skipped: {err:#}"));
        return Ok(None);
    }
    say("fetching a small Debian with systemd (for the virtual machine; not installed)");
    let fresh = place.join("debian.new.tar");
    let made = Command::new(MMDEBSTRAP.file)
        .args(["--quiet", "--variant=minbase", "--include", PACKAGES, SUITE])
        .arg(&fresh)
        .status()
        .context("run mmdebstrap")?;
    if !made.success() {
        say("skipped: Debian's packages could not be fetched; is there a network?");
        return Ok(None);
    }
    fs::rename(&fresh, &archive).context("keep the archive")?;
    Ok(Some(archive))
}

/// Makes the disk: the Debian, two versions of our package, the checks as its only job.
pub(crate) fn disk(place: &Path, base: &Path, programs: &Path, kernel: &Kernel) -> Result<PathBuf> {
    let tree = place.join("debian");
    image::again(&tree)?;
    image::run(
        Command::new("tar")
            .arg("-xf")
            .arg(base)
            .arg("-C")
            .arg(&tree),
    )?;
    let srv = tree.join("srv");
    for (name, version) in [("first.deb", "0.1.0~vm1"), ("second.deb", "0.1.0~vm2")] {
        let package = deb::make(&Wanted {
            programs,
            compressed: false,
            version: Some(version),
        })?;
        image::copy(&package, &srv.join(name))?;
        if name == "first.deb" {
            lint(&package)?;
        } else {
            same_again(&package, programs, version)?;
        }
    }
    image::container_root(&srv.join("rootfs"))?;
    image::net_modules(kernel, &srv.join("net"))?;
    image::copy(&sources().join("systemd"), &srv.join("checks"))?;
    // The RAM disk begins this in every machine of ours.
    write(
        &tree.join("sbin/checks"),
        "#!/bin/sh\nexec /lib/systemd/systemd\n",
        0o755,
    )?;
    let units = tree.join("etc/systemd/system");
    let job = "[Unit]\nDescription=The checks\n\n[Service]\nType=oneshot\n\
               ExecStart=/bin/sh /srv/checks\nStandardOutput=tty\nStandardError=tty\n\
               TTYPath=/dev/ttyS0\n";
    write(&units.join("checks.service"), job, 0o644)?;
    let wants = units.join("multi-user.target.wants");
    image::make(&wants)?;
    link("../checks.service", &wants.join("checks.service"))?;
    for unit in MASKED {
        link("/dev/null", &units.join(unit))?;
    }
    link(
        "/lib/systemd/system/multi-user.target",
        &units.join("default.target"),
    )?;
    let disk = place.join("debian.img");
    image::format(&disk, &tree, DISK_BYTES)?;
    Ok(disk)
}

/// Makes a package again, and holds that it is the same, byte for byte.
fn same_again(package: &Path, programs: &Path, version: &str) -> Result<()> {
    let read = |path: &Path| fs::read(path).with_context(|| format!("read {}", path.display()));
    let before = read(package)?;
    let again = deb::make(&Wanted {
        programs,
        compressed: false,
        version: Some(version),
    })?;
    ensure!(
        before == read(&again)?,
        "the package differs from one making to the next"
    );
    Ok(())
}

/// Lets Debian's own checker look at a package, where it is installed.
fn lint(package: &Path) -> Result<()> {
    if !Path::new("/usr/bin/lintian").exists() {
        say("skipped: lintian is not installed");
        return Ok(());
    }
    let looked = Command::new("/usr/bin/lintian")
        .args(["--fail-on", "error,warning", "--suppress-tags", OF_TESTS])
        .arg(package)
        .stderr(Stdio::null())
        .output()
        .context("run lintian")?;
    let said = String::from_utf8_lossy(&looked.stdout);
    ensure!(looked.status.success(), "lintian: {}", said.trim());
    Ok(())
}

fn write(path: &Path, text: &str, mode: u32) -> Result<()> {
    fs::write(path, text).with_context(|| format!("write {}", path.display()))?;
    let mode = fs::Permissions::from_mode(mode);
    fs::set_permissions(path, mode).with_context(|| format!("set the mode of {}", path.display()))
}

fn link(target: &str, path: &Path) -> Result<()> {
    if path.symlink_metadata().is_ok() {
        fs::remove_file(path).with_context(|| format!("replace {}", path.display()))?;
    }
    std::os::unix::fs::symlink(target, path).with_context(|| format!("link {}", path.display()))
}
