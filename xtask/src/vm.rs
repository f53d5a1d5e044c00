//! `cargo xtask vm-test`: what this machine's own kernel cannot show, on Debian's kernel in a
//! virtual machine. Each plan of `tests/vm/checks` is one boot.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::build::{self, target_directory, workspace};
use crate::packages::{self, BUSYBOX, E2FSPROGS, QEMU};
use crate::{debian, image, say};

/// Longest time for one boot; ten seconds is usual.
const BOOT_MAX: Duration = Duration::from_secs(240);

/// One boot.
struct Plan {
    /// As the kernel's command line names it.
    name: &'static str,
    /// What it is about.
    about: &'static str,
    /// It goes on with the disk of the boot before.
    same_disk: bool,
    /// How many checks it makes, so that none is lost unseen.
    checks: usize,
    /// Longest time for it.
    longest: Duration,
}

const PLANS: [Plan; 6] = [
    Plan {
        name: "v2",
        about: "cgroup version 2 alone, classic assembly of the root, raised hard limits",
        same_disk: false,
        checks: 28,
        longest: BOOT_MAX,
    },
    Plan {
        name: "v1",
        about: "cgroup version 1 alone",
        same_disk: false,
        checks: 25,
        longest: BOOT_MAX,
    },
    Plan {
        name: "net",
        about: "an isolated network on another kernel's packet filter",
        same_disk: false,
        checks: 16,
        longest: BOOT_MAX,
    },
    Plan {
        name: "disk",
        about: "a root in an image that grows under its processes",
        same_disk: false,
        checks: 14,
        longest: BOOT_MAX,
    },
    Plan {
        name: "before",
        about: "a host that loses its power",
        same_disk: false,
        checks: 5,
        longest: BOOT_MAX,
    },
    Plan {
        name: "after",
        about: "the same host, started again",
        same_disk: true,
        checks: 8,
        longest: BOOT_MAX,
    },
];

/// A Debian with systemd, on demand: its disk takes minutes to make, and minutes to boot.
const SYSTEMD: Plan = Plan {
    name: "systemd",
    about: "the Debian package below a systemd: install, reload, watchdog, upgrade, remove, purge",
    same_disk: false,
    checks: 49,
    longest: Duration::from_secs(900),
};

/// Boots every plan, or the one of systemd.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    packages::install(&[QEMU, BUSYBOX, E2FSPROGS])?;
    match arguments {
        [] => {}
        [one] if one == SYSTEMD.name => return systemd(),
        other => bail!(
            "`vm-test` takes nothing, or `systemd`; not {}",
            other.join(" ")
        ),
    }
    let programs = build::run(false)?;
    let place = target_directory().join("vm");
    std::fs::create_dir_all(&place).with_context(|| format!("make {}", place.display()))?;
    let kernel = image::kernel(&place)?;
    let ram_disk = image::ram_disk(&place, &kernel)?;
    let disk = image::disk(&place, &programs, &kernel)?;
    let own = place.join("own.img");
    let (mut passed, mut failed) = (0, 0);
    for plan in &PLANS {
        if !plan.same_disk {
            image::copy_sparse(&disk, &own)?;
        }
        let (good, bad) = boot_and_count(plan, &kernel.image, &ram_disk, &own)?;
        passed += good;
        failed += bad;
    }
    tell(passed, failed)
}

fn systemd() -> Result<()> {
    let place = target_directory().join("vm");
    std::fs::create_dir_all(&place).with_context(|| format!("make {}", place.display()))?;
    let Some(base) = debian::base(&place)? else {
        return Ok(());
    };
    let programs = build::run(false)?;
    let kernel = image::kernel(&place)?;
    let ram_disk = image::ram_disk(&place, &kernel)?;
    let disk = debian::disk(&place, &base, &programs, &kernel)?;
    let (passed, failed) = boot_and_count(&SYSTEMD, &kernel.image, &ram_disk, &disk)?;
    tell(passed, failed)
}

fn tell(passed: usize, failed: usize) -> Result<()> {
    say(&format!("{passed} passed, {failed} failed"));
    ensure!(failed == 0, "checks failed in the virtual machine");
    Ok(())
}

fn boot_and_count(
    plan: &Plan,
    kernel: &Path,
    ram_disk: &Path,
    disk: &Path,
) -> Result<(usize, usize)> {
    say(&format!("== {}: {}", plan.name, plan.about));
    let console = boot(kernel, ram_disk, disk, plan)?;
    let (good, bad) = count(plan, &console);
    if bad > 0 {
        say(&console);
    }
    Ok((good, bad))
}

/// Tells each check; a boot that ended early or made fewer than it should has failed.
fn count(plan: &Plan, console: &str) -> (usize, usize) {
    let (mut good, mut bad) = (0, 0);
    for line in console.lines() {
        // A kernel message may stand before it on the same line.
        let Some(at) = line.find("CHECK ") else {
            continue;
        };
        let said = line.get(at + 6..).unwrap_or_default().trim_end();
        say(&format!("  {said}"));
        if said.starts_with("ok ") {
            good += 1;
        } else {
            bad += 1;
        }
    }
    let is_over = console.contains(&format!("PLAN over {}", plan.name));
    if good + bad != plan.checks || !is_over {
        say(&format!(
            "  failed: {} of {} checks were made, and the plan {} to its end",
            good + bad,
            plan.checks,
            if is_over { "came" } else { "did not come" }
        ));
        bad += 1;
    }
    (good, bad)
}

/// Boots once; returns what the machine said. It ends by itself, or is ended by its pid.
fn boot(kernel: &Path, ram_disk: &Path, disk: &Path, plan: &Plan) -> Result<String> {
    let mut machine = Command::new(QEMU.file)
        // Software emulation: slower, and there whatever this machine itself runs on.
        .args(["-accel", "tcg,thread=multi", "-cpu", "max"])
        .args(["-smp", "2", "-m", "1024", "-nodefaults", "-no-reboot"])
        .args(["-display", "none", "-serial", "stdio"])
        .arg("-kernel")
        .arg(kernel)
        .arg("-initrd")
        .arg(ram_disk)
        .arg("-append")
        .arg(format!("console=ttyS0 loglevel=4 panic=-1 vm.plan={}", plan.name))
        .arg("-drive")
        .arg(format!("file={},if=virtio,format=raw", disk.display()))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("start the virtual machine")?;
    let mut pipe = machine.stdout.take().context("hear the machine")?;
    let listener = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).map(|_| bytes)
    });
    let ended = wait(&mut machine, plan.longest)?;
    let heard = listener.join();
    let Ok(Ok(bytes)) = heard else {
        bail!("the machine could not be heard");
    };
    let mut console = String::from_utf8_lossy(&bytes).replace('\r', "");
    if !ended {
        console.push_str("\nthe machine did not end in time and was ended\n");
    }
    Ok(console)
}

/// Returns whether it ended by itself.
fn wait(machine: &mut Child, longest: Duration) -> Result<bool> {
    let begin = Instant::now();
    while begin.elapsed() < longest {
        if machine
            .try_wait()
            .context("wait for the machine")?
            .is_some()
        {
            return Ok(true);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    machine.kill().context("end the machine")?;
    machine.wait().context("reap the machine")?;
    Ok(false)
}

/// Folder with what runs inside.
pub(crate) fn sources() -> PathBuf {
    workspace().join("tests/vm")
}
