//! Making files as the container's root, from outside its user namespace.

use rustix::fs::Mode;
use rustix::process::umask;
use rustix::thread::{CapabilitySets, capabilities, set_capabilities};
use shim_proto::launch::IdRange;

use super::failure::{Failure, OrFail};
use crate::sys::fsids::{current_gid, current_uid, set_file_ids};

/// While it lives, what this process makes belongs to the container's root, and modes are
/// taken as given (`umask` 0).
///
/// Only the ids for files change: capabilities are kept, for `mknod(2)` and for directories
/// of the image that its own root may not write. An id-mapped mount refuses to make files
/// for ids it does not map (`EOVERFLOW`), so acting as host root is no alternative.
pub(super) struct Acting {
    uid: u32,
    gid: u32,
    umask: Mode,
    capabilities: CapabilitySets,
}

impl Acting {
    /// Begins to act as root of `ids`, or as host root without a range.
    pub(super) fn begin(ids: Option<IdRange>) -> Result<Acting, Failure> {
        let what = || "cannot act as the container's root".to_owned();
        let base = ids.map_or(0, |ids| ids.base);
        let capabilities = capabilities(None).or_fail(what)?;
        let acting = Acting {
            uid: current_uid(),
            gid: current_gid(),
            umask: umask(Mode::empty()),
            capabilities,
        };
        // `acting` is dropped, and so undone, when one of these fails.
        set_file_ids(base, base).or_fail(what)?;
        set_capabilities(None, capabilities).or_fail(what)?;
        Ok(acting)
    }
}

impl Drop for Acting {
    fn drop(&mut self) {
        let ids = set_file_ids(self.uid, self.gid);
        assert!(
            ids.is_ok(),
            "BUG: a process may always go back to its own ids"
        );
        let kept = set_capabilities(None, self.capabilities);
        assert!(
            kept.is_ok(),
            "BUG: a process may always keep the capabilities it has"
        );
        umask(self.umask);
    }
}
