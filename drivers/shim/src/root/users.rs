//! Who `user[:group]` is, by the root's own `/etc/passwd` and `/etc/group`.
//!
//! Both files are the image's and so hostile: opened as regular files only, never through a
//! link out of the root, read up to a bound, and every number is strict.

use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{FileType, OFlags, fstat};
use rustix::io::Errno;

use super::failure::{Failure, OrFail};
use super::resolve::open_in_root;

/// Most bytes read of one of the files.
const FILE_BYTES_MAX: usize = 4 << 20;
/// Most supplementary groups of one user; the kernel's own bound is 65536 (`NGROUPS_MAX`).
const GROUPS_MAX: usize = 1024;
/// Largest id taken. The kernel has more, but signed readers wrap there (CVE-2024-40635).
const ID_MAX: u32 = i32::MAX.cast_unsigned();

/// Who a process is, as numbers inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ids {
    /// User.
    pub(crate) uid: u32,
    /// Group.
    pub(crate) gid: u32,
    /// Supplementary groups, ascending, without `gid`.
    pub(crate) groups: Vec<u32>,
}

/// Looks up `user[:group]` in the root that `root` is open on; nothing means the root user.
///
/// A name has to be in the files. A number need not be: then its group is 0. With a group
/// given there are no supplementary groups.
///
/// # Errors
///
/// When a name is unknown, a number too large, or a file cannot be read.
pub(crate) fn lookup_user(root: BorrowedFd<'_>, text: &str) -> Result<Ids, Failure> {
    let what = format!("cannot look up the user {text:?}");
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    let user = if text.is_empty() { "0" } else { user };
    if user.is_empty() || group.is_some_and(|group| group.is_empty() || group.contains(':')) {
        return Err(Failure::terminal(
            what,
            "it is not of the form user[:group]",
        ));
    }
    let user = name_or_id(user, &what)?;
    let passwd = read(root, "/etc/passwd", &what)?;
    let entry = find_user(&passwd, &user);
    let uid = match (&user, &entry) {
        (_, Some(entry)) => entry.uid,
        (NameOrId::Id(uid), None) => *uid,
        (NameOrId::Name(name), None) => {
            let cause = format!("/etc/passwd of the root has no user {name}");
            return Err(Failure::terminal(what, cause));
        }
    };
    let own = entry.as_ref().map_or(0, |entry| entry.gid);
    if let Some(group) = group {
        let gid = match name_or_id(group, &what)? {
            NameOrId::Id(gid) => gid,
            NameOrId::Name(name) => {
                let groups = read(root, "/etc/group", &what)?;
                find_group(&groups, name).ok_or_else(|| {
                    let cause = format!("/etc/group of the root has no group {name}");
                    Failure::terminal(what.clone(), cause)
                })?
            }
        };
        return Ok(Ids {
            uid,
            gid,
            groups: Vec::new(),
        });
    }
    let groups = match entry {
        Some(entry) => {
            let groups = read(root, "/etc/group", &what)?;
            supplementary(&groups, entry.name, own, &what)?
        }
        None => Vec::new(),
    };
    Ok(Ids {
        uid,
        gid: own,
        groups,
    })
}

enum NameOrId<'a> {
    Name(&'a str),
    Id(u32),
}

/// What is all digits is a number, even where a user has such a name.
fn name_or_id<'a>(text: &'a str, what: &str) -> Result<NameOrId<'a>, Failure> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return match id(text.as_bytes()) {
            Some(id) => Ok(NameOrId::Id(id)),
            None => Err(Failure::terminal(what, format!("{text} is over {ID_MAX}"))),
        };
    }
    if text.starts_with(['-', '+']) {
        return Err(Failure::terminal(
            what,
            format!("{text} is neither a name nor a number"),
        ));
    }
    Ok(NameOrId::Name(text))
}

fn id(text: &[u8]) -> Option<u32> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let id: u32 = std::str::from_utf8(text).ok()?.parse().ok()?;
    (id <= ID_MAX).then_some(id)
}

struct User<'a> {
    name: &'a [u8],
    uid: u32,
    gid: u32,
}

/// The first entry that fits, as `getpwnam(3)`. Lines that are not entries are passed over.
fn find_user<'a>(passwd: &'a [u8], wanted: &NameOrId<'_>) -> Option<User<'a>> {
    passwd.split(|byte| *byte == b'\n').find_map(|line| {
        let mut fields = line.split(|byte| *byte == b':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let _password = fields.next()?;
        let user = User {
            name,
            uid: id(fields.next()?)?,
            gid: id(fields.next()?)?,
        };
        let fits = match wanted {
            NameOrId::Name(name) => user.name == name.as_bytes(),
            NameOrId::Id(uid) => user.uid == *uid,
        };
        fits.then_some(user)
    })
}

/// The groups of a group file: name, number, members.
fn groups(file: &[u8]) -> impl Iterator<Item = (&[u8], u32, &[u8])> {
    file.split(|byte| *byte == b'\n').filter_map(|line| {
        let mut fields = line.split(|byte| *byte == b':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let _password = fields.next()?;
        Some((name, id(fields.next()?)?, fields.next().unwrap_or_default()))
    })
}

fn find_group(file: &[u8], wanted: &str) -> Option<u32> {
    groups(file).find_map(|(name, gid, _)| (name == wanted.as_bytes()).then_some(gid))
}

fn supplementary(file: &[u8], user: &[u8], own: u32, what: &str) -> Result<Vec<u32>, Failure> {
    let mut found: Vec<u32> = groups(file)
        .filter(|(_, gid, members)| {
            *gid != own
                && members
                    .split(|byte| *byte == b',')
                    .any(|member| member == user)
        })
        .map(|(_, gid, _)| gid)
        .collect();
    found.sort_unstable();
    found.dedup();
    if found.len() > GROUPS_MAX {
        let cause = format!("it is in {} groups, {GROUPS_MAX} are the most", found.len());
        return Err(Failure::terminal(what, cause));
    }
    Ok(found)
}

/// The whole of a file of the root; nothing when there is none.
fn read(root: BorrowedFd<'_>, path: &str, what: &str) -> Result<Vec<u8>, Failure> {
    // Without O_NONBLOCK a FIFO in its place would hold us for ever.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let failed = |errno| Failure::kernel(errno, what).because(format!("cannot read {path}"));
    // Opened as a place first: opening a device may already do something.
    match open_in_root(root, path, OFlags::PATH) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(Vec::new()),
        Err(errno) => return Err(failed(errno)),
        Ok(place) => check_regular(&place, path, what)?,
    }
    let file = open_in_root(root, path, flags).map_err(failed)?;
    check_regular(&file, path, what)?;
    let mut bytes = Vec::new();
    let mut chunk = [0; 8192];
    loop {
        match rustix::io::read(&file, &mut chunk) {
            Ok(0) => return Ok(bytes),
            Ok(count) => bytes.extend_from_slice(chunk.get(..count).unwrap_or_default()),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(failed(errno)),
        }
        if bytes.len() > FILE_BYTES_MAX {
            let cause = format!("{path} of the root is over {FILE_BYTES_MAX} bytes");
            return Err(Failure::terminal(what, cause));
        }
    }
}

fn check_regular(file: &OwnedFd, path: &str, what: &str) -> Result<(), Failure> {
    let stat = fstat(file).or_fail(|| what.to_owned())?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
        return Ok(());
    }
    Err(Failure::terminal(
        what,
        format!("{path} of the root is not a regular file"),
    ))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::path::Path;

    use super::{FILE_BYTES_MAX, Ids, lookup_user};

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n# remark\nbroken\n\
        app:x:1000:1001:App:/:/bin/sh\nwrap:x:4294967296:0::/:\nneg:x:-1:0::/:\n\
        high:x:4294967295:0::/:\n";
    const GROUP: &str = "root:x:0:\napps:x:1001:app\nlogs:x:7:other,app\nadm:x:4:app,app\n\
        nearly:x:9:apple\nbad:x:none:app\n";

    fn root(passwd: Option<&str>, group: Option<&str>) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("etc")).unwrap();
        for (name, text) in [("passwd", passwd), ("group", group)] {
            if let Some(text) = text {
                std::fs::write(root.path().join("etc").join(name), text).unwrap();
            }
        }
        root
    }

    fn lookup(root: &Path, text: &str) -> Result<Ids, String> {
        let root = std::fs::File::open(root).unwrap();
        lookup_user(root.as_fd(), text).map_err(|failure| failure.to_string())
    }

    #[track_caller]
    fn check(text: &str, want: Option<(u32, u32, &[u32])>) {
        let root = root(Some(PASSWD), Some(GROUP));
        let found = lookup(root.path(), text).ok();
        let want = want.map(|(uid, gid, groups)| Ids {
            uid,
            gid,
            groups: groups.to_vec(),
        });
        assert_eq!(found, want, "{text:?}");
    }

    #[test]
    fn names_and_numbers_are_looked_up_in_the_root() {
        check("", Some((0, 0, &[])));
        check("app", Some((1000, 1001, &[4, 7])));
        check("1000", Some((1000, 1001, &[4, 7])));
        check("app:logs", Some((1000, 7, &[])));
        check("1000:5", Some((1000, 5, &[])));
        check("77", Some((77, 0, &[])));
        check("77:78", Some((77, 78, &[])));
        check("2147483647", Some((2_147_483_647, 0, &[])));
    }

    #[test]
    fn nothing_wraps_and_nothing_is_guessed() {
        for text in [
            "nobody",
            "app:nogroup",
            ":",
            "app:",
            ":app",
            "app:logs:x",
            "-1",
            "+1",
            "0x0",
            "1 ",
            " 1",
            "2147483648",
            "4294967295",
            "4294967296",
            "18446744073709551616",
            "1:-1",
            "1:4294967296",
            "wrap",
            "neg",
            "high",
            "broken",
            "# remark",
        ] {
            check(text, None);
        }
    }

    #[test]
    fn a_root_without_the_files_knows_numbers_only() {
        let root = root(None, None);
        assert_eq!(
            lookup(root.path(), "5").unwrap(),
            Ids {
                uid: 5,
                gid: 0,
                groups: vec![]
            }
        );
        assert!(lookup(root.path(), "root").is_err());
    }

    #[test]
    fn a_hostile_passwd_is_not_followed_out_nor_read_without_bound() {
        let outside = tempfile::tempdir().unwrap();
        let secret = outside.path().join("passwd");
        std::fs::write(&secret, "evil:x:0:0::/:\n").unwrap();
        let linked = root(None, None);
        std::os::unix::fs::symlink(&secret, linked.path().join("etc/passwd")).unwrap();
        assert!(lookup(linked.path(), "evil").is_err());

        let huge = root(Some(&"x".repeat(FILE_BYTES_MAX + 1)), None);
        assert!(lookup(huge.path(), "evil").unwrap_err().contains("is over"));

        let fifo = root(None, None);
        let path = fifo.path().join("etc/passwd");
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, 0o644.into()).unwrap();
        assert!(
            lookup(fifo.path(), "evil")
                .unwrap_err()
                .contains("not a regular file")
        );
    }
}
