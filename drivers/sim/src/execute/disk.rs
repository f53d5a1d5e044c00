//! Images that limit what is written into a root.

use driver_api::{DiskBackend, DiskObserved, Outcome, StepError};
use specs::desired::Desired;

use super::{Id, retry};
use crate::world::World;

impl World {
    /// An image grows while it is mounted, and is never made smaller.
    pub(super) fn set_disk(
        &mut self,
        id: Id<'_>,
        desired: &Desired,
        half: bool,
    ) -> Result<Outcome, StepError> {
        let life = self.life(id.0, id.1);
        let (Some(disk), Some(_)) = (&mut life.disk, &life.init) else {
            return Err(retry("grow the image", "it is not mounted"));
        };
        let wanted = desired
            .disk
            .map_or(disk.bytes, |bytes| bytes.0 / 4096 * 4096);
        if wanted < disk.bytes {
            return Err(retry("grow the image", "it is never made smaller"));
        }
        if !half {
            disk.bytes = wanted;
        }
        Ok(Outcome::Done)
    }
}

/// Returns an image as it is made: its inodes fill whole blocks.
pub(super) fn imaged(desired: &Desired) -> Option<DiskObserved> {
    let (bytes, bound) = desired.disk.zip(desired.container.rootfs.bound)?;
    let inodes = bound.inodes.map_or(bytes.0 / 16384, |inodes| inodes.0);
    Some(DiskObserved {
        backend: DiskBackend::Image,
        bytes: bytes.0 / 4096 * 4096,
        inodes: Some(inodes.next_multiple_of(16)),
        inodes_grain: 16,
    })
}
