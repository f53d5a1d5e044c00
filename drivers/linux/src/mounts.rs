//! Mounts as `/proc/PID/mountinfo` shows them (`proc_pid_mountinfo(5)`).

use std::collections::BTreeMap;

use driver_api::MountObserved;

/// One line of a mount table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MountLine {
    /// Fields 3 to 6: device, root, mount point, per-mount options.
    pub(crate) device: String,
    /// Path of the mount's root inside its file system.
    pub(crate) root: String,
    /// Where, relative to the reader's root.
    pub(crate) point: String,
    /// Per-mount options.
    pub(crate) options: String,
    /// File system type.
    pub(crate) fs_type: String,
    /// Per-super-block options.
    pub(crate) super_options: String,
}

/// Undoes the kernel's octal escapes (`seq_path`: space, tab, newline, backslash, `#`).
/// Anything else that looks like an escape stays as it is.
pub(crate) fn unescape(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&first, tail)) = rest.split_first() {
        let digits = tail
            .get(..3)
            .filter(|three| three.iter().all(|d| matches!(d, b'0'..=b'7')));
        let value = digits.and_then(|three| {
            let value = three
                .iter()
                .fold(0_u32, |sum, d| sum * 8 + u32::from(d - b'0'));
            u8::try_from(value).ok()
        });
        match (first, value) {
            (b'\\', Some(byte)) => {
                out.push(byte);
                rest = tail.get(3..).unwrap_or_default();
            }
            _ => {
                out.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8(out)
        .unwrap_or_else(|err| String::from_utf8_lossy(err.as_bytes()).into_owned())
}

/// Parses one line, `None` when it is not of the documented form.
pub(crate) fn parse_line(line: &str) -> Option<MountLine> {
    let mut fields = line.split(' ');
    let device = fields.nth(2)?.to_owned();
    let root = unescape(fields.next()?);
    let point = unescape(fields.next()?);
    let options = fields.next()?.to_owned();
    // Optional fields end with a lone hyphen; a space inside a name is escaped, so no name
    // can forge one.
    fields.find(|field| *field == "-")?;
    let fs_type = unescape(fields.next()?);
    let _source = fields.next()?;
    let super_options = fields.next().unwrap_or_default().to_owned();
    Some(MountLine {
        device,
        root,
        point,
        options,
        fs_type,
        super_options,
    })
}

/// Parses a whole table; `Err` names the line that could not be read.
pub(crate) fn parse(text: &str) -> Result<Vec<MountLine>, String> {
    text.lines()
        .map(|line| parse_line(line).ok_or_else(|| format!("unreadable line {line:?}")))
        .collect()
}

/// Returns mounts by path; of several on one path the last, which is the one on top.
pub(crate) fn by_path(lines: Vec<MountLine>) -> BTreeMap<String, MountObserved> {
    let mut mounts: BTreeMap<String, MountObserved> = BTreeMap::new();
    for line in lines {
        let stacked = mounts.get(&line.point).map_or(0, |below| below.stacked);
        let mount = MountObserved {
            fs_type: line.fs_type,
            read_only: line.options.split(',').any(|option| option == "ro"),
            root: line.root,
            device: line.device,
            inodes: number_of(&line.super_options, "nr_inodes="),
            stacked: stacked.saturating_add(1),
        };
        mounts.insert(line.point, mount);
    }
    mounts
}

fn number_of(options: &str, name: &str) -> Option<u64> {
    let mut options = options.split(',');
    options.find_map(|option| option.strip_prefix(name)?.parse().ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn escape(name: &str) -> String {
        let mut out = String::new();
        for c in name.chars() {
            match c {
                ' ' | '\t' | '\n' | '\\' | '#' => out.push_str(&format!("\\{:03o}", u32::from(c))),
                _ => out.push(c),
            }
        }
        out
    }

    proptest! {
        #[test]
        fn a_name_survives_the_kernels_escapes(name in "/[^\0\r]{0,40}") {
            prop_assert_eq!(unescape(&escape(&name)), name);
        }

        #[test]
        fn no_name_forges_a_field(root in "/[^\0\r]{0,20}", point in "/[^\0\r]{0,20}") {
            let line = format!(
                "36 35 98:0 {} {} ro,noatime master:1 - ext3 /dev/x rw,errors=continue",
                escape(&root), escape(&point),
            );
            prop_assert_eq!(line.lines().count(), 1);
            let parsed = parse_line(&line).unwrap();
            prop_assert_eq!(parsed.point, point);
            prop_assert_eq!(parsed.root, root);
            prop_assert_eq!(parsed.fs_type, "ext3");
        }

        #[test]
        fn any_text_is_parsed_or_refused_without_panic(text in ".{0,200}") {
            let _lines = parse(&text);
            let _name = unescape(&text);
        }
    }

    #[test]
    fn what_only_looks_like_an_escape_is_left_alone() {
        for text in ["\\", "\\1", "\\08x", "\\400", "\\x41", "a\\04"] {
            assert_eq!(unescape(text), text);
        }
        assert_eq!(unescape("\\134040"), "\\040");
    }

    #[test]
    fn a_mount_over_a_mount_is_seen() {
        let text = "\
            1 0 0:1 / / rw - overlay overlay rw\n\
            2 1 0:2 / /data rw,nosuid - tmpfs t rw\n\
            3 2 0:3 /sub /data ro,nosuid - ext4 /dev/sda rw\n";
        let mounts = by_path(parse(text).unwrap());
        let data = &mounts["/data"];
        assert_eq!(
            (data.stacked, data.read_only, data.root.as_str()),
            (2, true, "/sub")
        );
        assert_eq!(mounts["/"].stacked, 1);
        assert!(!mounts["/"].read_only);
    }

    #[test]
    fn a_broken_line_spoils_the_table() {
        assert!(parse("1 0 0:1 / / rw overlay overlay rw").is_err());
        assert!(parse("nonsense").is_err());
    }
}
