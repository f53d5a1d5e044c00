//! Trees that are copied, by this code and with the system's `tar`, and archives that lie.
#![expect(clippy::indexing_slicing, reason = "a test may panic")]

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use archive::{CopyError, Destination, Landing, Side, Source, Unpacked};
use proptest::prelude::*;

fn packed(path: &Path) -> Vec<u8> {
    try_packed(path).expect("it is packed")
}

fn try_packed(path: &Path) -> Result<Vec<u8>, CopyError> {
    let mut bytes = Vec::new();
    Source::find(Side::Container, path.as_os_str().as_bytes(), false)?.pack(&mut bytes)?;
    Ok(bytes)
}

fn unpacked(bytes: &[u8], to: &Path, landing: Landing) -> Result<Unpacked, CopyError> {
    let path = to.as_os_str().as_bytes();
    let side = Side::Container;
    Destination {
        side,
        path,
        landing,
    }
    .unpack(bytes)
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
        } else if facts.is_file() {
            let content = fs::read(&path).expect("read a file");
            let sum: u64 = content.iter().map(|byte| u64::from(*byte)).sum();
            format!("{} bytes {sum} {} links", content.len(), facts.nlink())
        } else {
            format!("{:?}", facts.file_type())
        };
        found.push(format!(
            "{below:?} {what} {:o} {}:{} {}.{:09}",
            facts.mode(),
            facts.uid(),
            facts.gid(),
            facts.mtime(),
            facts.mtime_nsec(),
        ));
    }
    found.sort();
    found
}

/// A tree with one of everything.
fn tree(root: &Path) {
    fs::create_dir(root).expect("make");
    fs::create_dir_all(root.join("a/empty")).expect("make");
    fs::write(root.join("a/file"), "content").expect("write");
    fs::write(root.join("a/nothing"), "").expect("write");
    fs::write(root.join("a/large"), vec![7; 700_001]).expect("write");
    fs::hard_link(root.join("a/file"), root.join("b")).expect("link");
    symlink("a/file", root.join("link")).expect("link");
    symlink("../../../nowhere", root.join("a/dangling")).expect("link");
    symlink("x".repeat(300), root.join("far")).expect("link");
    let long = root.join("d".repeat(200)).join("é".repeat(100));
    fs::create_dir_all(&long).expect("make");
    fs::write(long.join("日本 \n\"'\\"), "unicode").expect("write");
    fs::write(root.join(OsStr::from_bytes(b"\xff\xfe")), "bytes").expect("write");
    let mut holes = File::create(root.join("holes")).expect("make");
    for at in [0_u64, 1 << 20, 5 << 20] {
        holes.seek(SeekFrom::Start(at)).expect("seek");
        holes.write_all(b"data").expect("write");
    }
    holes.set_len(32 << 20).expect("lengthen");
    let mode = |path: &str, mode| {
        fs::set_permissions(root.join(path), fs::Permissions::from_mode(mode)).expect("chmod");
    };
    mode("a/file", 0o4751);
    mode("a/nothing", 0o000);
    mode("a/empty", 0o1777);
    let made = Command::new("mkfifo").arg(root.join("fifo")).status();
    assert!(made.expect("mkfifo runs").success());
    if is_root() {
        std::os::unix::fs::lchown(root.join("a/file"), Some(1234), Some(3_000_000)).expect("give");
        std::os::unix::fs::lchown(root.join("link"), Some(4), Some(5)).expect("give");
        mode("a/file", 0o4751);
    }
    let old = Command::new("touch")
        .args(["-h", "-d", "1969-12-31T23:59:58.25Z"])
        .arg(root.join("a/dangling"))
        .status();
    assert!(old.expect("touch runs").success());
}

fn is_root() -> bool {
    fs::metadata("/proc/self").expect("read").uid() == 0
}

fn blocks(path: &Path) -> u64 {
    fs::metadata(path).expect("read").blocks()
}

#[test]
fn a_tree_comes_back_as_it_was() {
    let place = tempfile::tempdir().expect("a directory");
    let (from, to) = (place.path().join("from"), place.path().join("to"));
    tree(&from);
    let done = unpacked(&packed(&from), &to, Landing::As).expect("it is unpacked");
    assert_eq!(told(&from), told(&to));
    assert!(done.entries > 15, "{done:?}");
    assert!(blocks(&to.join("holes")) < 256, "its holes are holes");
    assert!(done.bytes < 2 << 20, "{done:?}");
}

#[test]
fn the_systems_tar_reads_what_is_written_and_the_other_way_round() {
    let place = tempfile::tempdir().expect("a directory");
    let (from, to) = (place.path().join("from"), place.path().join("to"));
    tree(&from);
    let file = place.path().join("a.tar");
    fs::write(&file, packed(&from)).expect("write");
    fs::create_dir(&to).expect("make");
    let tar = |arguments: &[&str]| {
        let mut command = Command::new("tar");
        let done = command.args(arguments).current_dir(place.path()).output();
        let done = done.expect("tar runs");
        assert!(done.status.success(), "{done:?}");
        done.stdout
    };
    tar(&["-xpf", "a.tar", "-C", "to", "--numeric-owner"]);
    assert_eq!(told(&from), told(&to.join("from")));
    assert!(blocks(&to.join("from/holes")) < 256);
    for form in ["posix", "gnu"] {
        let form = format!("--format={form}");
        let bytes = tar(&["-cS", &form, "from"]);
        let again = place.path().join(&form);
        fs::create_dir(&again).expect("make");
        unpacked(&bytes, &again, Landing::Inside).expect("it is unpacked");
        let mut expected = told(&from);
        let mut found = told(&again.join("from"));
        if form == "--format=gnu" {
            // Whole seconds are all that it holds.
            let whole = |line: &mut String| line.truncate(line.len() - 10);
            expected.iter_mut().chain(&mut found).for_each(whole);
        }
        // A time before 1970 is one that GNU's old form cannot have at all.
        let keep = |line: &&String| form.ends_with("posix") || !line.contains("dangling");
        let all = |lines: &Vec<String>| lines.iter().filter(keep).cloned().collect::<Vec<_>>();
        assert_eq!(all(&expected), all(&found), "{form}");
        assert!(blocks(&again.join("from/holes")) < 256, "{form}");
    }
}

#[test]
fn it_lands_as_cp_lands_it() {
    let place = tempfile::tempdir().expect("a directory");
    let at = |path: &str| place.path().join(path);
    fs::create_dir_all(at("src/deep")).expect("make");
    fs::write(at("src/deep/f"), "f").expect("write");
    let copy = |from: &str, to: &str| unpacked(&packed(&at(from)), &at(to), Landing::As);
    copy("src", "new").expect("under another name");
    assert!(at("new/deep/f").exists());
    copy("src", "new").expect("into what is there");
    assert!(at("new/src/deep/f").exists());
    copy("src/.", "new").expect("what is in it");
    copy("src/deep/f", "g").expect("a file under another name");
    fs::write(at("src/deep/f"), "changed").expect("write");
    copy("src/deep/f", "g").expect("over the file");
    assert_eq!(fs::read(at("g")).expect("read"), b"changed");
    copy("src/deep/f", "new/").expect("into a directory");
    assert!(at("new/f").exists());
    symlink("/etc/passwd", at("link")).expect("link");
    copy("src/deep/f", "link").expect("over a link");
    assert!(
        at("link").symlink_metadata().expect("read").is_file(),
        "the link is replaced"
    );
    symlink("new", at("to")).expect("link");
    copy("src/deep/f", "to").expect("into what a link leads to");
    // What cannot be.
    assert!(matches!(copy("src", "g"), Err(CopyError::Act { .. })));
    assert!(matches!(
        copy("src/deep/f", "none/"),
        Err(CopyError::Missing(_))
    ));
    assert!(matches!(
        copy("src/deep/f", "none/x"),
        Err(CopyError::Missing(_))
    ));
    fs::create_dir_all(at("new/f2")).expect("make");
    fs::write(at("f2"), "").expect("write");
    assert!(matches!(copy("f2", "new"), Err(CopyError::Partly(_))));
    assert!(
        at("new/f2").is_dir(),
        "a directory is not replaced by a file"
    );
}

#[test]
fn what_is_missing_is_an_error_and_no_empty_archive() {
    let place = tempfile::tempdir().expect("a directory");
    for path in ["nothing", "nothing/", "nothing/."] {
        let told = try_packed(&place.path().join(path));
        assert!(
            matches!(told, Err(CopyError::Missing(_))),
            "{path}: {told:?}"
        );
    }
}

#[test]
fn attributes_of_users_go_along() {
    let place = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).expect("a directory");
    let (from, to) = (place.path().join("from"), place.path().join("to"));
    fs::create_dir_all(from.join("d")).expect("make");
    fs::write(from.join("f"), "f").expect("write");
    let flags = rustix::fs::XattrFlags::empty();
    for path in ["f", "d"] {
        let set = rustix::fs::setxattr(from.join(path), "user.colour", b"gr\0en", flags);
        if set == Err(rustix::io::Errno::OPNOTSUPP) {
            return;
        }
        set.expect("it is set");
    }
    unpacked(&packed(&from), &to, Landing::As).expect("it is unpacked");
    for path in ["f", "d"] {
        let mut value = [0; 64];
        let length = rustix::fs::getxattr(to.join(path), "user.colour", &mut value[..]);
        assert_eq!(&value[..length.expect("it is there")], b"gr\0en");
    }
}

/// One header, with its checksum, and what comes behind it.
fn header(name: &str, kind: u8, link: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = [0_u8; 512];
    let mut put = |at: usize, text: &[u8]| bytes[at..at + text.len()].copy_from_slice(text);
    put(0, name.as_bytes());
    put(100, b"0000644\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{:011o}", data.len()).as_bytes());
    put(136, b"00000000000");
    put(148, b"        ");
    put(156, &[kind]);
    put(157, link.as_bytes());
    put(257, b"ustar\x0000");
    let sum: u64 = bytes.iter().map(|byte| u64::from(*byte)).sum();
    bytes[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut all = bytes.to_vec();
    all.extend_from_slice(data);
    all.resize(all.len().next_multiple_of(512), 0);
    all
}

fn end() -> Vec<u8> {
    vec![0; 1024]
}

/// Unpacks entries into `place/in`, where only that directory may change.
fn hostile(entries: &[Vec<u8>]) -> (tempfile::TempDir, Result<Unpacked, CopyError>) {
    let place = tempfile::tempdir().expect("a directory");
    fs::create_dir(place.path().join("in")).expect("make");
    fs::create_dir(place.path().join("out")).expect("make");
    fs::write(place.path().join("out/victim"), "untouched").expect("write");
    let bytes = [entries.concat(), end()].concat();
    let told = unpacked(&bytes, &place.path().join("in"), Landing::Inside);
    let listed = fs::read_dir(place.path().join("out")).expect("list");
    let names: Vec<_> = listed.flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(names, ["victim"], "nothing is made outside");
    let victim = place.path().join("out/victim");
    assert_eq!(fs::read(&victim).expect("read"), b"untouched");
    assert_eq!(
        fs::metadata(&victim).expect("read").nlink(),
        1,
        "nothing leads to it"
    );
    assert_eq!(fs::read_dir(place.path()).expect("list").count(), 2);
    (place, told)
}

#[test]
fn no_name_leads_out_of_where_it_is_unpacked() {
    let file = |name: &str| header(name, b'0', "", b"bad");
    let link = |name: &str, to: &str| header(name, b'2', to, b"");
    let outside = [
        vec![file("../out/new")],
        vec![file("a/../../out/new")],
        vec![link("x", "../out"), file("x/new")],
        vec![link("x", "../out"), file("x/victim")],
        vec![link("x", "/tmp"), file("x/reconciler-archive-test")],
        vec![link("x", ".."), header("x/out/d", b'5', "", b"")],
        vec![link("x", "../out"), header("y", b'1', "x/victim", b"")],
        vec![header("y", b'1', "../out/victim", b"")],
        vec![
            link("x", "../out"),
            header("x", b'5', "", b""),
            file("x/new"),
        ],
        vec![link("x", "/proc/self/root"), file("x/tmp/new")],
    ];
    for entries in outside {
        let (_place, told) = hostile(&entries);
        assert!(matches!(told, Err(CopyError::Outside(_))), "{told:?}");
    }
    // A name that begins at the root begins where it is unpacked.
    let (place, told) = hostile(&[file("/etc/passwd")]);
    told.expect("it is unpacked");
    assert!(place.path().join("in/etc/passwd").exists());
    // A link is replaced, and not written through.
    let (place, told) = hostile(&[link("x", "../out/victim"), file("x")]);
    told.expect("it is unpacked");
    assert!(
        place
            .path()
            .join("in/x")
            .symlink_metadata()
            .expect("read")
            .is_file()
    );
    // A hard link to a link is one to the link itself.
    let entries = [
        link("x", "../out/victim"),
        header("y", b'1', "x", b""),
        file("y"),
    ];
    hostile(&entries).1.expect("it is unpacked");
}

#[test]
fn an_archive_that_lies_is_refused() {
    let pax = |text: &str| header("p", b'x', "", text.as_bytes());
    let refused = |entries: &[Vec<u8>]| {
        let (_place, told) = hostile(entries);
        assert!(matches!(told, Err(CopyError::Malformed(_))), "{told:?}");
    };
    let mut wrong = header("a", b'0', "", b"");
    wrong[0] = b'b';
    refused(&[wrong]);
    refused(&[header("a", b'Q', "", b"")]);
    refused(&[pax("999 path=x\n")]);
    refused(&[pax("0 path=x\n")]);
    refused(&[pax("11 size=-1\n"), header("a", b'0', "", b"")]);
    let owner = |id: u64| pax(&format!("{} uid={id}\n", 6 + id.to_string().len() + 2));
    refused(&[owner(4_294_967_295), header("a", b'0', "", b"")]);
    refused(&[owner(4_294_967_296), header("a", b'0', "", b"")]);
    // Parts that overlap, that lie outside, that are not there.
    for map in [
        "2\n0\n4\n0\n4\n",
        "1\n100\n8\n",
        "1\n0\n9\n",
        "9999999\n",
        "x\n",
    ] {
        let mut data = map.as_bytes().to_vec();
        data.resize(512, 0);
        data.extend_from_slice(b"12345678");
        let head = pax("22 GNU.sparse.major=1\n25 GNU.sparse.realsize=9\n");
        refused(&[head, header("a", b'0', "", &data)]);
    }
    let (_place, told) = hostile(&[vec![0x1f, 0x8b].into_iter().chain([1; 510]).collect()]);
    assert!(told.expect_err("refused").words().contains("compressed"));
    // A header as long as it likes is not read into memory.
    let mut long = header("p", b'x', "", b"");
    long[124..135].copy_from_slice(b"77777777777");
    let sum: u64 = (0..512)
        .map(|at| {
            if (148..156).contains(&at) {
                32
            } else {
                u64::from(long[at])
            }
        })
        .sum();
    long[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    refused(&[long]);
}

#[test]
fn what_ends_early_is_told_and_leaves_no_half_of_a_file() {
    let place = tempfile::tempdir().expect("a directory");
    let whole = [header("old", b'0', "", &[b'x'; 2000]), end()].concat();
    let to = place.path().join("in");
    fs::create_dir(&to).expect("make");
    fs::write(to.join("old"), "before").expect("write");
    for length in [0, 100, 512, 600, 1500, 2560] {
        let told = unpacked(&whole[..length], &to, Landing::Inside);
        assert!(matches!(told, Err(CopyError::Cut)), "{length}: {told:?}");
        if length < 2560 {
            assert_eq!(
                fs::read(to.join("old")).expect("read"),
                b"before",
                "{length}"
            );
        }
        assert_eq!(
            fs::read_dir(&to).expect("list").count(),
            1,
            "nothing is left of it"
        );
    }
    unpacked(&whole, &to, Landing::Inside).expect("it is unpacked");
}

#[test]
fn a_host_is_given_no_rights_and_no_devices() {
    let place = tempfile::tempdir().expect("a directory");
    let from = place.path().join("from");
    fs::create_dir(&from).expect("make");
    fs::write(from.join("program"), "x").expect("write");
    fs::set_permissions(from.join("program"), fs::Permissions::from_mode(0o6755)).expect("chmod");
    let to = place.path().join("to");
    let path = to.as_os_str().as_bytes();
    let (side, landing) = (Side::Host, Landing::As);
    let destination = Destination {
        side,
        path,
        landing,
    };
    destination.unpack(&*packed(&from)).expect("it is unpacked");
    let mode = fs::metadata(to.join("program")).expect("read").mode();
    assert_eq!(mode & 0o7777, 0o755);
    let device = [
        header("d", b'5', "", b""),
        header("d/null", b'3', "", b""),
        end(),
    ]
    .concat();
    let told = Destination {
        path: place.path().join("d").as_os_str().as_bytes(),
        ..destination
    }
    .unpack(&*device);
    assert!(matches!(told, Err(CopyError::Partly(_))), "{told:?}");
    assert_eq!(
        fs::read_dir(place.path().join("d")).expect("list").count(),
        0
    );
}

#[test]
fn files_of_the_kernel_have_what_they_show() {
    let place = tempfile::tempdir().expect("a directory");
    let to = place.path().join("version");
    unpacked(&packed(Path::new("/proc/version")), &to, Landing::As).expect("it is unpacked");
    assert_eq!(
        fs::read(&to).expect("read"),
        fs::read("/proc/version").expect("read")
    );
    assert!(
        !fs::symlink_metadata(&to)
            .expect("read")
            .file_type()
            .is_fifo()
    );
}

proptest! {
    /// Whatever arrives, nothing is made outside and nothing panics.
    #[test]
    fn damage_never_leads_out(
        places in proptest::collection::vec((0_usize..4096, any::<u8>()), 1..12),
        reseal in any::<bool>(),
    ) {
        let mut entries = [
            header("d", b'5', "", b""),
            header("d/x", b'2', "../../out", b""),
            header("d/f", b'0', "", b"content"),
            header("d/h", b'1', "d/f", b""),
            header("p", b'x', "", b"18 path=d/x/new12\n"),
            header("q", b'0', "", b"more"),
        ].concat();
        for (place, byte) in places {
            let at = place % entries.len();
            entries[at] = byte;
        }
        if reseal {
            for block in entries.chunks_mut(512) {
                let sum: u64 = block.iter().enumerate().map(|(at, byte)| {
                    if (148..156).contains(&at) { 32 } else { u64::from(*byte) }
                }).sum();
                block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            }
        }
        drop(hostile(&[entries]));
    }
}
