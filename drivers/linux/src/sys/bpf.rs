//! `bpf(2)`, as far as device filters need it.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use super::{check, descriptor};

const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
const PROG_DETACH: libc::c_int = 9;
const PROG_GET_FD_BY_ID: libc::c_int = 13;
const OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const PROG_QUERY: libc::c_int = 16;

const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_TYPE_CGROUP_DEVICE: u32 = 6;
const F_ALLOW_MULTI: u32 = 1 << 1;

/// Most programs on one group that we look at.
const PROGRAMS_MAX: usize = 64;

/// One instruction, `struct bpf_insn`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Instruction {
    /// Operation.
    pub(crate) code: u8,
    /// Destination in the low half, source in the high one.
    pub(crate) registers: u8,
    /// Jump offset or memory offset.
    pub(crate) offset: i16,
    /// Immediate.
    pub(crate) immediate: i32,
}

#[repr(C)]
#[derive(Default)]
struct LoadAttr {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
}

#[repr(C)]
#[derive(Default)]
struct AttachAttr {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct QueryAttr {
    target_fd: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    prog_cnt: u32,
    pad: u32,
}

#[repr(C)]
#[derive(Default)]
struct IdAttr {
    id: u32,
    next_id: u32,
    open_flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct InfoAttr {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}

/// The beginning of `struct bpf_prog_info`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct ProgInfo {
    prog_type: u32,
    id: u32,
    tag: [u8; 8],
    lengths: [u32; 2],
    pointers: [u64; 2],
    load_time: u64,
    uid: u32,
    nr_map_ids: u32,
    map_ids: u64,
    name: [u8; 16],
}

/// What tells one loaded program from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// Hash over its instructions.
    pub(crate) tag: [u8; 8],
    /// Name given at loading.
    pub(crate) name: [u8; 16],
}

fn bpf<T>(command: libc::c_int, attr: &mut T) -> io::Result<libc::c_long> {
    // SAFETY: `attr` is a live, exclusive, fully initialised `repr(C)` block of the size that
    // is passed, and every address inside it was made from a buffer that outlives the call.
    // JUSTIFICATION: neither rustix nor nix has bpf(2).
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_mut(attr),
            size_of::<T>(),
        )
    };
    check(result)
}

fn raw(fd: BorrowedFd<'_>) -> u32 {
    u32::try_from(fd.as_raw_fd()).unwrap_or(u32::MAX)
}

fn address<T>(items: &[T]) -> u64 {
    u64::try_from(items.as_ptr().addr()).unwrap_or(0)
}

/// Loads a device filter under a name.
pub(crate) fn load(program: &[Instruction], name: [u8; 16]) -> io::Result<OwnedFd> {
    let license = c"Dual MIT/GPL".to_bytes_with_nul();
    let mut attr = LoadAttr {
        prog_type: PROG_TYPE_CGROUP_DEVICE,
        insn_cnt: u32::try_from(program.len()).unwrap_or(u32::MAX),
        insns: address(program),
        license: address(license),
        prog_name: name,
        ..LoadAttr::default()
    };
    descriptor(bpf(PROG_LOAD, &mut attr)?)
}

/// Attaches a filter to a group, beside others.
pub(crate) fn attach(group: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = AttachAttr {
        target_fd: raw(group),
        attach_bpf_fd: raw(program),
        attach_type: ATTACH_TYPE_CGROUP_DEVICE,
        attach_flags: F_ALLOW_MULTI,
    };
    bpf(PROG_ATTACH, &mut attr).map(drop)
}

/// Takes a filter off a group.
pub(crate) fn detach(group: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = AttachAttr {
        target_fd: raw(group),
        attach_bpf_fd: raw(program),
        attach_type: ATTACH_TYPE_CGROUP_DEVICE,
        attach_flags: 0,
    };
    bpf(PROG_DETACH, &mut attr).map(drop)
}

/// Returns the filters attached to a group.
pub(crate) fn attached(group: BorrowedFd<'_>) -> io::Result<Vec<OwnedFd>> {
    let mut ids = [0_u32; PROGRAMS_MAX];
    let mut attr = QueryAttr {
        target_fd: raw(group),
        attach_type: ATTACH_TYPE_CGROUP_DEVICE,
        prog_ids: u64::try_from(ids.as_mut_ptr().addr()).unwrap_or(0),
        prog_cnt: u32::try_from(PROGRAMS_MAX).unwrap_or(0),
        ..QueryAttr::default()
    };
    bpf(PROG_QUERY, &mut attr)?;
    let count = usize::try_from(attr.prog_cnt).unwrap_or(0);
    let mut programs = Vec::new();
    for id in ids.iter().take(count) {
        let mut attr = IdAttr {
            id: *id,
            ..IdAttr::default()
        };
        match bpf(PROG_GET_FD_BY_ID, &mut attr) {
            Ok(number) => programs.push(descriptor(number)?),
            Err(err) if err.raw_os_error() == Some(libc::ENOENT) => {}
            Err(err) => return Err(err),
        }
    }
    Ok(programs)
}

/// Returns a loaded program's tag and name.
pub(crate) fn identity(program: BorrowedFd<'_>) -> io::Result<Identity> {
    let mut info = [ProgInfo::default()];
    let mut attr = InfoAttr {
        bpf_fd: raw(program),
        info_len: u32::try_from(size_of::<ProgInfo>()).unwrap_or(0),
        info: u64::try_from(info.as_mut_ptr().addr()).unwrap_or(0),
    };
    bpf(OBJ_GET_INFO_BY_FD, &mut attr)?;
    let [info] = info;
    Ok(Identity {
        tag: info.tag,
        name: info.name,
    })
}
