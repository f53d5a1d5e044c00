//! Who a process runs as: names are looked up in the root's own `/etc`, and only there.

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;

/// Most bytes of `/etc/passwd` or `/etc/group` that are read.
const FILE_BYTES_MAX: usize = 1 << 20;
/// Most supplementary groups (`NGROUPS_MAX`, `setgroups(2)`).
const GROUPS_MAX: usize = 65_536;

/// Ids to run with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct User {
    /// User id.
    pub(crate) uid: u32,
    /// Group id.
    pub(crate) gid: u32,
    /// Supplementary groups, the group id first.
    pub(crate) groups: Vec<u32>,
}

/// Why there are no such ids, in words.
pub(crate) type Reason = String;

/// Returns the ids that `user[:group]` means in the root this process stands in.
pub(crate) fn look_up(text: &str) -> Result<User, Reason> {
    resolve(text, &read_etc("/etc/passwd")?, &read_etc("/etc/group")?)
}

/// Returns the ids that `user[:group]` means by those two files.
///
/// A number stands for itself. A user who is in the file brings his group, and, unless a
/// group is named, the groups that list him. `root` needs no file.
fn resolve(text: &str, passwd: &[u8], group: &[u8]) -> Result<User, Reason> {
    let (user, named_group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    let number = parse_id(user)?;
    let entry = find_user(user, number, passwd)?;
    let (name, uid, own_gid) = match (entry, number) {
        (Some(entry), _) => entry,
        (None, Some(uid)) => (String::new(), uid, 0),
        (None, None) if user == "root" => ("root".into(), 0, 0),
        (None, None) => return Err(format!("user {user:?} is not in the root's /etc/passwd")),
    };
    let gid = named_group.map_or(Ok(own_gid), |group_text| find_group(group_text, group))?;
    let mut groups = vec![gid];
    if named_group.is_none() && !name.is_empty() {
        add_groups_of(&name, group, &mut groups)?;
    }
    Ok(User { uid, gid, groups })
}

/// Returns the id a text of digits spells; none for a name.
///
/// `u32::MAX` means "leave as it is" to the kernel, and longer numbers would wrap.
fn parse_id(text: &str) -> Result<Option<u32>, Reason> {
    if text.is_empty() {
        return Err("an empty user or group".into());
    }
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    match text.parse::<u32>() {
        Ok(id) if id < u32::MAX => Ok(Some(id)),
        _ => Err(format!("{text} is no user or group id")),
    }
}

fn lines(file: &[u8]) -> impl Iterator<Item = Vec<&str>> {
    file.split(|byte| *byte == b'\n')
        .filter_map(|line| std::str::from_utf8(line).ok())
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split(':').collect())
}

fn find_user(
    name: &str,
    number: Option<u32>,
    passwd: &[u8],
) -> Result<Option<(String, u32, u32)>, Reason> {
    for fields in lines(passwd) {
        let [entry, _, uid, gid, ..] = fields.as_slice() else {
            continue;
        };
        let hit = match number {
            Some(number) => parse_id(uid) == Ok(Some(number)),
            None => *entry == name,
        };
        if hit {
            let bad = || format!("the line of {entry:?} in the root's /etc/passwd is damaged");
            let uid = parse_id(uid).ok().flatten().ok_or_else(bad)?;
            let gid = parse_id(gid).ok().flatten().ok_or_else(bad)?;
            return Ok(Some(((*entry).into(), uid, gid)));
        }
    }
    Ok(None)
}

fn find_group(name: &str, group: &[u8]) -> Result<u32, Reason> {
    if let Some(gid) = parse_id(name)? {
        return Ok(gid);
    }
    for fields in lines(group) {
        let [entry, _, gid, ..] = fields.as_slice() else {
            continue;
        };
        if *entry == name {
            let bad = || format!("the line of {name:?} in the root's /etc/group is damaged");
            return parse_id(gid).ok().flatten().ok_or_else(bad);
        }
    }
    if name == "root" {
        Ok(0)
    } else {
        Err(format!("group {name:?} is not in the root's /etc/group"))
    }
}

fn add_groups_of(name: &str, group: &[u8], groups: &mut Vec<u32>) -> Result<(), Reason> {
    for fields in lines(group) {
        let [_, _, gid, members, ..] = fields.as_slice() else {
            continue;
        };
        if !members.split(',').any(|member| member == name) {
            continue;
        }
        let Ok(Some(gid)) = parse_id(gid) else {
            continue;
        };
        if !groups.contains(&gid) {
            groups.push(gid);
        }
        if groups.len() > GROUPS_MAX {
            return Err(format!("{name:?} is in more than {GROUPS_MAX} groups"));
        }
    }
    Ok(())
}

/// Reads one of the two files; one that is not there is empty. Links are followed inside
/// the root, but never through a process' descriptors, and only a regular file is read.
fn read_etc(path: &str) -> Result<Vec<u8>, Reason> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = match openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_MAGICLINKS) {
        Ok(file) => file,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(Vec::new()),
        Err(error) => return Err(format!("the root's {path} cannot be opened: {error}")),
    };
    let facts = rustix::fs::fstat(&file).map_err(|error| format!("{path}: {error}"))?;
    if rustix::fs::FileType::from_raw_mode(facts.st_mode) != rustix::fs::FileType::RegularFile {
        return Err(format!("the root's {path} is no regular file"));
    }
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        match rustix::io::read(&file, &mut chunk) {
            Ok(0) => return Ok(bytes),
            Ok(count) => bytes.extend_from_slice(chunk.get(..count).unwrap_or_default()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(format!("the root's {path} cannot be read: {error}")),
        }
        if bytes.len() > FILE_BYTES_MAX {
            return Err(format!(
                "the root's {path} has more than {FILE_BYTES_MAX} bytes"
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PASSWD: &[u8] = b"root:x:0:0::/root:/bin/sh\n# c\nweb:x:1000:1001::/:/bin/sh\n\
        bad:x:4294967296:0::/:\nnum:x:12x:0::/:\nshort:x\n\xff\xfe:x:1:1::\n";
    const GROUP: &[u8] = b"root:x:0:\nwww:x:1001:\nlog:x:50:other,web\ndisk:x:6:web,x\nbad:x:-1:\n";

    fn check(text: &str) -> Result<(u32, u32, Vec<u32>), Reason> {
        resolve(text, PASSWD, GROUP).map(|user| (user.uid, user.gid, user.groups))
    }

    #[test]
    fn names_and_numbers_are_looked_up_in_the_root() {
        assert_eq!(check("root"), Ok((0, 0, vec![0])));
        assert_eq!(check("web"), Ok((1000, 1001, vec![1001, 50, 6])));
        assert_eq!(check("1000"), Ok((1000, 1001, vec![1001, 50, 6])));
        assert_eq!(check("web:disk"), Ok((1000, 6, vec![6])));
        assert_eq!(check("77"), Ok((77, 0, vec![0])));
        assert_eq!(check("77:88"), Ok((77, 88, vec![88])));
        assert_eq!(
            resolve("root:root", b"", b"").map(|u| (u.uid, u.gid)),
            Ok((0, 0))
        );
    }

    #[test]
    fn nothing_wraps_to_root() {
        for bad in [
            "4294967296",
            "4294967295",
            "bad",
            "num",
            "nobody",
            "",
            ":",
            "web:",
            ":0",
            "+0",
            "-0",
            "0 ",
            "web:bad",
            "web:none",
            "18446744073709551616",
        ] {
            assert!(check(bad).is_err(), "{bad:?} gave {:?}", check(bad));
        }
    }

    proptest! {
        #[test]
        fn hostile_files_never_panic(user in ".{0,20}", passwd in prop::collection::vec(any::<u8>(), 0..300), group in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(found) = resolve(&user, &passwd, &group) {
                prop_assert!(found.uid < u32::MAX && found.gid < u32::MAX);
            }
        }
    }
}
