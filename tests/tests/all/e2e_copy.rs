//! Files copied out of containers and into them, on the shipped programs and the real kernel.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use tests::eventually::until;
use tests::world::{SOON, World, bin};

const BOX: &str = r#"apiVersion: reconciler/v1
kind: Container
metadata: {name: box}
spec:
  rootfs: {directory: /srv/rootfs/busybox}
  limits: {memory: 128Mi, pids: 64}
  mounts:
    - {path: /small, tmpfs: 2Mi}
    - {path: /shared, source: /srv/data, readOnly: false}
  processes:
    - name: app
      command: [/bin/sleep, "100000"]
      user: app
"#;
const POLICY: &str = "policy: [{name: team, bindRoots: [{path: /srv/data, writable: true}]}]\n";

fn started(spec: &str) -> World {
    let mut world = World::new();
    let data = world.path("data");
    fs::create_dir(&data).expect("make a directory");
    fs::set_permissions(&data, fs::Permissions::from_mode(0o777)).expect("open it");
    world.config(POLICY);
    world.start();
    world.write("box.yaml", spec);
    world.wait_phase("box", "Running");
    world
}

fn copy(world: &World, from: &str, to: &str) -> Output {
    world.cli(&["cp", from, to])
}

fn copied(world: &World, from: &str, to: &str) {
    let output = copy(world, from, to);
    assert!(output.status.success(), "{from} {to}: {}", errors(&output));
    assert!(output.stdout.is_empty() && output.stderr.is_empty());
}

fn refused(world: &World, from: &str, to: &str, why: &str) {
    let output = copy(world, from, to);
    assert_eq!(output.status.code(), Some(1), "{from} {to}");
    assert!(
        output.stdout.is_empty(),
        "{from} {to}: an archive all the same"
    );
    assert!(
        errors(&output).contains(why),
        "{from} {to}: {}",
        errors(&output)
    );
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The client with its three streams piped.
fn client(world: &World, from: &str, to: &str) -> Command {
    let mut command = Command::new(bin("reconciler"));
    command
        .args(["cp", from, to])
        .env("RECONCILER_SOCKET", world.socket())
        .env("NO_COLOR", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Has an archive unpacked in a directory of the container.
fn sent(world: &World, archive: &[u8], to: &str) -> Output {
    let mut child = client(world, "-", to).spawn().expect("start");
    let mut input = child.stdin.take().expect("piped");
    // It may end before it read everything.
    input.write_all(archive).unwrap_or_default();
    drop(input);
    child.wait_with_output().expect("wait")
}

fn inside(world: &World, script: &str) -> String {
    let output = world.cli(&["exec", "-u", "root", "box", "--", "sh", "-c", script]);
    assert!(output.status.success(), "{script}: {}", errors(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn tar(arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut child = Command::new("tar")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("tar runs");
    let mut to = child.stdin.take().expect("piped");
    to.write_all(input).expect("write");
    drop(to);
    let output = child.wait_with_output().expect("wait");
    assert!(output.status.success(), "{output:?}");
    output.stdout
}

/// Every name below a directory, with all that is kept of it.
fn told(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut to_do = vec![PathBuf::new()];
    while let Some(below) = to_do.pop() {
        let path = root.join(&below);
        let facts = fs::symlink_metadata(&path).expect("read");
        let what = if facts.is_dir() {
            let listed = fs::read_dir(&path).expect("list").flatten();
            to_do.extend(listed.map(|entry| below.join(entry.file_name())));
            "directory".to_owned()
        } else if facts.is_symlink() {
            format!("to {:?}", fs::read_link(&path).expect("read a link"))
        } else {
            let content = fs::read(&path).expect("read a file");
            let sum: u64 = content.iter().map(|byte| u64::from(*byte)).sum();
            format!("{} bytes {sum} {} links", content.len(), facts.nlink())
        };
        let (owner, group, mode) = (facts.uid(), facts.gid(), facts.mode());
        let time = (facts.mtime(), facts.mtime_nsec());
        found.push(format!(
            "{below:?} {what} {mode:o} {owner}:{group} {time:?}"
        ));
    }
    found.sort();
    found
}

fn tree(root: &Path) {
    let long = root.join("n".repeat(180)).join("ü".repeat(120));
    fs::create_dir_all(&long).expect("make");
    fs::write(long.join("日本 \"'\\"), "unicode").expect("write");
    fs::create_dir(root.join("sticky")).expect("make");
    fs::write(root.join("file"), "content").expect("write");
    fs::write(root.join("large"), vec![3; 900_001]).expect("write");
    fs::hard_link(root.join("file"), root.join("sticky/again")).expect("link");
    symlink("../nowhere", root.join("sticky/link")).expect("link");
    let holes = fs::File::create(root.join("holes")).expect("make");
    holes.write_all_at(b"end", 64 << 20).expect("write");
    for (name, uid, gid, mode) in [
        ("file", 1000, 2000, 0o640),
        ("sticky", 7, 8, 0o1770),
        ("large", 0, 0, 0o500),
    ] {
        lchown(root.join(name), Some(uid), Some(gid)).expect("give");
        fs::set_permissions(root.join(name), fs::Permissions::from_mode(mode)).expect("chmod");
    }
    lchown(root.join("sticky/link"), Some(5), Some(6)).expect("give");
}

#[test]
fn trees_go_in_and_come_out_as_they_are() {
    let world = started(BOX);
    let (from, back) = (world.path("from"), world.path("back"));
    tree(&from);
    let (from_text, back_text) = (from.display().to_string(), back.display().to_string());
    copied(&world, &from_text, "box:/root/tree");
    // Numbers are those that the container sees.
    let look = "cd /root/tree && stat -c '%n %u:%g %a %h' file sticky large && stat -c %b holes";
    let seen = inside(&world, look);
    let (facts, blocks) = seen.trim_end().rsplit_once('\n').expect("lines");
    assert_eq!(
        facts,
        "file 1000:2000 640 2\nsticky 7:8 1770 2\nlarge 0:0 500 1"
    );
    assert!(
        blocks.parse::<u64>().expect("a number") < 512,
        "{blocks}: its holes are holes"
    );
    copied(&world, "box:/root/tree", &back_text);
    assert_eq!(told(&from), told(&back));
    assert!(fs::metadata(back.join("holes")).expect("read").blocks() < 512);
    // Into what is there; what is in a directory; one file over another.
    copied(&world, "box:/root/tree/file", &back_text);
    copied(&world, "box:/root/tree/sticky", &back_text);
    copied(&world, "box:/root/tree/sticky/.", &format!("{back_text}/n"));
    assert!(back.join("n/again").exists() && back.join("sticky/again").exists());
    fs::write(world.path("new"), "new").expect("write");
    copied(
        &world,
        &world.path("new").display().to_string(),
        "box:/root/tree/file",
    );
    assert_eq!(
        inside(&world, "cat /root/tree/file /root/tree/sticky/again"),
        "newcontent"
    );
    // A link is copied as one, or what it leads to.
    copied(
        &world,
        "box:/bin/sh",
        &world.path("sh").display().to_string(),
    );
    assert_eq!(
        fs::read_link(world.path("sh")).expect("a link"),
        Path::new("busybox")
    );
    let to = world.path("followed").display().to_string();
    assert!(
        world
            .cli(&["cp", "-L", "box:/bin/sh", &to])
            .status
            .success()
    );
    let sizes = [&to, "/bin/busybox"].map(|path| fs::metadata(path).expect("read").len());
    assert_eq!(sizes[0], sizes[1]);
    // A program with its owner's rights has none of them on the host.
    inside(&world, "cat /bin/busybox > /root/s; chmod 6755 /root/s");
    let to = world.path("s");
    copied(&world, "box:/root/s", &to.display().to_string());
    assert_eq!(fs::metadata(&to).expect("read").mode() & 0o7777, 0o755);
    world.finish();
}

#[test]
fn an_archive_goes_through_standard_input_and_output() {
    let world = started(BOX);
    let from = world.path("from");
    tree(&from);
    let archive = tar(
        &[
            "-C",
            &world.path(".").display().to_string(),
            "-cS",
            "--format=posix",
            "from",
        ],
        b"",
    );
    let output = sent(&world, &archive, "box:/root");
    assert!(output.status.success(), "{}", errors(&output));
    let output = copy(&world, "box:/root/from", "-");
    assert!(output.status.success(), "{}", errors(&output));
    let back = world.path("back");
    fs::create_dir(&back).expect("make");
    let back_text = back.display().to_string();
    tar(
        &["-C", &back_text, "-xp", "--numeric-owner"],
        &output.stdout,
    );
    assert_eq!(told(&from), told(&back.join("from")));
    // What the kernel shows has a size only when it is read, and a root has its own /proc.
    let output = copy(&world, "box:/proc/1/comm", "-");
    assert_eq!(tar(&["-xO"], &output.stdout), b"reconciler-init\n");
    let listed = tar(&["-t"], &copy(&world, "box:/", "-").stdout);
    let listed = String::from_utf8_lossy(&listed).into_owned();
    assert!(
        listed.contains("./bin/busybox\n") && listed.contains("./proc"),
        "{listed}"
    );
    assert!(
        !listed.contains("./proc/1") && !listed.contains("./sys/kernel"),
        "{listed}"
    );
    // No archive, half of one, and one that leads out.
    let broken = |bytes: &[u8], why: &str| {
        let output = sent(&world, bytes, "box:/root");
        assert_eq!(output.status.code(), Some(1));
        assert!(errors(&output).contains(why), "{}", errors(&output));
    };
    broken(b"", "ends before its end");
    broken(&archive[..archive.len() / 2], "ends before its end");
    broken(&[b'x'; 4096], "checksum");
    let evil = world.path("evil");
    fs::create_dir_all(evil.join("b")).expect("make");
    symlink("/etc", evil.join("a")).expect("link");
    fs::write(evil.join("b/passwd"), "evil").expect("write");
    let evil = evil.display().to_string();
    let through = ["-C", &evil, "-c", "--transform=s,^b,a,", "a", "b/passwd"];
    broken(&tar(&through, b""), "leads out of the destination");
    let above = [
        "-P",
        "-C",
        &evil,
        "-c",
        "--transform=s,^b,../etc,",
        "b/passwd",
    ];
    broken(&tar(&above, b""), "leads out of the destination");
    assert!(!inside(&world, "cat /etc/passwd").contains("evil"));
    world.finish();
}

#[test]
fn what_cannot_be_copied_is_told() {
    let spec = BOX.replace("  limits:", "  hostname: box\n  limits:");
    let world = started(&spec);
    let host = |name: &str| world.path(name).display().to_string();
    fs::write(host("file"), "x").expect("write");
    fs::create_dir(host("tree")).expect("make");
    refused(&world, "box:/none", &host("x"), "there is no /none");
    refused(&world, "box:/none", "-", "there is no /none");
    refused(&world, "box:/etc/passwd/x", "-", "/etc/passwd/x");
    assert!(!Path::new(&host("x")).exists(), "nothing is made");
    refused(&world, &host("none"), "box:/root", "there is no ");
    refused(&world, &host("file"), "box:/none/x", "there is no /none/");
    refused(&world, &host("file"), "box:/none/", "there is no /none/");
    refused(&world, "box:/etc/passwd", &host("none/x"), "there is no ");
    refused(&world, &host("tree"), "box:/etc/passwd", "Not a directory");
    refused(
        &world,
        "box:/etc/passwd",
        &host("file/x"),
        "Not a directory",
    );
    refused(&world, "box:/proc/self/exe/", "-", "/proc/self/exe");
    // Rights inside are those of who is named.
    let output = world.cli(&["cp", "-u", "app", &host("file"), "box:/root/file"]);
    assert!(
        errors(&output).contains("Permission denied"),
        "{}",
        errors(&output)
    );
    inside(&world, "mkdir -m 777 /open");
    let output = world.cli(&["cp", "-u", "app", &host("file"), "box:/open/"]);
    assert!(output.status.success(), "{}", errors(&output));
    assert_eq!(inside(&world, "stat -c %u /open/file"), "1000\n");
    // What the command line says wrong, and names that nobody has.
    let code = |arguments: &[&str]| world.cli(&[&["cp"], arguments].concat()).status.code();
    assert_eq!(code(&["box:/a", "box:/b"]), Some(64));
    assert_eq!(code(&["box:", "x"]), Some(64));
    assert_eq!(code(&["a", "b"]), Some(64));
    assert_eq!(code(&["other:/a", "-"]), Some(4));
    // A disk that is full: nothing is left of what did not fit, and what it was to replace stays.
    fs::write(host("big"), vec![1; 4 << 20]).expect("write");
    refused(
        &world,
        &host("big"),
        "box:/small/big",
        "No space left on device",
    );
    inside(&world, "echo before > /small/kept");
    refused(
        &world,
        &host("big"),
        "box:/small/kept",
        "No space left on device",
    );
    assert_eq!(
        inside(&world, "ls -A /small; cat /small/kept"),
        "kept\nbefore\n"
    );
    // A root that cannot be written, and a container that does not run.
    world.write(
        "box.yaml",
        &spec.replace("busybox}", "busybox, writable: none}"),
    );
    until("a root that is read-only", SOON, || {
        errors(&copy(&world, &host("file"), "box:/root/file")).contains("Read-only file system")
    });
    // Stopped, it has its files; suspended from the start or gone, it has none to copy.
    assert!(world.cli(&["stop", "box"]).status.success());
    world.wait_phase("box", "Stopped");
    copied(&world, "box:/etc/passwd", &host("passwd"));
    world.finish();
}

/// A container that swaps a directory for a link, as fast as it can, in `at`.
fn swapping(world: &World, at: &str, target: &str) -> std::process::Child {
    let script = format!(
        "cd {at}; mkdir -p real; echo inside > real/secret; while :; do \
         busybox mv real d; busybox mv d real; busybox ln -s {target} d; busybox rm d; done"
    );
    let script = script.replace("busybox", "/bin/busybox");
    Command::new(bin("reconciler"))
        .args(["exec", "-u", "root", "box", "--", "sh", "-c", &script])
        .env("RECONCILER_SOCKET", world.socket())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("start")
}

#[test]
fn links_that_change_meanwhile_lead_nowhere() {
    let world = started(BOX);
    // What the host has, and the container must neither read nor change.
    let host = world.path("host");
    fs::create_dir(&host).expect("make");
    fs::write(host.join("secret"), "of the host").expect("write");
    let before = told(&host);
    inside(&world, "mkdir /race");
    let mut racer = swapping(&world, "/race", &host.display().to_string());
    let source = world.path("d");
    fs::create_dir(&source).expect("make");
    fs::write(source.join("secret"), "new").expect("write");
    let end = Instant::now() + Duration::from_secs(4);
    let (mut rounds, mut came) = (0, 0);
    while Instant::now() < end {
        let output = copy(&world, "box:/race/d/secret", "-");
        came += u32::from(output.status.success());
        assert!(!String::from_utf8_lossy(&output.stdout).contains("of the host"));
        let text = source.join("secret").display().to_string();
        copy(&world, &text, "box:/race/d/secret");
        copy(&world, &source.display().to_string(), "box:/race");
        rounds += 1;
    }
    assert!(rounds > 5, "{rounds} rounds");
    assert!(came > 0, "nothing ever came out");
    racer.kill().expect("end");
    racer.wait().expect("wait");
    assert_eq!(told(&host), before);
    world.finish();
}

#[test]
fn a_destination_that_a_container_can_change_leads_nowhere_either() {
    let world = started(BOX);
    let host = world.path("host");
    fs::create_dir(&host).expect("make");
    fs::write(host.join("secret"), "of the host").expect("write");
    let before = told(&host);
    inside(
        &world,
        "mkdir -p /src/d; echo new > /src/d/secret; mkdir /shared/src",
    );
    let mut racer = swapping(&world, "/shared/src", &host.display().to_string());
    let to = world.path("data").display().to_string();
    let end = Instant::now() + Duration::from_secs(4);
    let (mut came, mut led_out) = (0, 0);
    while Instant::now() < end {
        let output = copy(&world, "box:/src", &to);
        came += u32::from(output.status.success());
        led_out += u32::from(errors(&output).contains("leads out of the destination"));
        assert_eq!(told(&host), before);
    }
    assert!(came > 0 && led_out > 0, "{came} came, {led_out} led out");
    racer.kill().expect("end");
    racer.wait().expect("wait");
    assert_eq!(told(&host), before);
    world.finish();
}

/// How many processes copy files in this world's container.
fn copiers() -> usize {
    let all = fs::read_dir("/proc").expect("list /proc").flatten();
    let names = all.filter_map(|entry| fs::read_to_string(entry.path().join("comm")).ok());
    names.filter(|name| name == "reconciler-cp\n").count()
}

#[test]
fn who_goes_leaves_nobody_behind() {
    let world = started(BOX);
    inside(
        &world,
        "dd if=/dev/zero of=/root/big bs=1048576 count=64 2>/dev/null",
    );
    for (from, to) in [("box:/root/big", "-"), ("-", "box:/root")] {
        let mut child = client(&world, from, to).spawn().expect("start");
        until("the copy to begin", SOON, || copiers() == 1);
        if to == "-" {
            // A reader that is slow makes it wait.
            let mut some = [0; 4096];
            child
                .stdout
                .as_mut()
                .expect("piped")
                .read_exact(&mut some)
                .expect("read");
        }
        // It is of the host, and nobody in the container may look into it.
        let look = "for p in /proc/[0-9]*; do grep -q reconciler-cp $p/comm && echo seen && \
            { cat $p/exe || ls $p/root/ || ls $p/fd/ || cat $p/environ; } && echo open; \
            done 2>/dev/null; true";
        assert_eq!(inside(&world, look), "seen\n");
        child.kill().expect("kill the client");
        child.wait().expect("reap");
        until("the copy to go", SOON, || copiers() == 0);
    }
    // With its container.
    let child = client(&world, "box:/root/big", "-").spawn().expect("start");
    until("the copy to begin", SOON, || copiers() == 1);
    world.remove("box.yaml");
    let mut child = child;
    until("the copy to go", SOON, || copiers() == 0);
    let output = {
        let mut rest = Vec::new();
        child
            .stdout
            .as_mut()
            .expect("piped")
            .read_to_end(&mut rest)
            .expect("read");
        child.wait_with_output().expect("wait")
    };
    assert_eq!(output.status.code(), Some(1));
    assert!(errors(&output).contains("not whole"), "{}", errors(&output));
    world.wait_gone("box");
    world.finish();
}

/// The most memory that a process had resident, in KiB.
fn peak(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let words = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    words.unwrap_or(0)
}

#[test]
fn a_large_file_takes_little_memory() {
    let world = started(BOX);
    let (big, back) = (world.path("big"), world.path("back"));
    let mut file = fs::File::create(&big).expect("make");
    let piece: Vec<u8> = (0..=255).cycle().take(1 << 20).collect();
    for _ in 0..200 {
        file.write_all(&piece).expect("write");
    }
    drop(file);
    let daemon = world.daemon_pid();
    let before = peak(daemon);
    let (big_text, back_text) = (big.display().to_string(), back.display().to_string());
    for (from, to) in [
        (big_text.as_str(), "box:/root/big"),
        ("box:/root/big", back_text.as_str()),
    ] {
        let mut child = client(&world, from, to).spawn().expect("start");
        let mut most = 0;
        while child.try_wait().expect("wait").is_none() {
            most = most.max(peak(child.id()));
            std::thread::sleep(Duration::from_millis(5));
        }
        let output = child.wait_with_output().expect("wait");
        assert!(output.status.success(), "{}", errors(&output));
        assert!(0 < most && most < 64 << 10, "the client had {most} KiB");
    }
    let grown = peak(daemon) - before;
    assert!(grown < 32 << 10, "the daemon grew by {grown} KiB");
    let same = Command::new("cmp").args([&big, &back]).status();
    assert!(same.expect("cmp runs").success());
    world.finish();
}
