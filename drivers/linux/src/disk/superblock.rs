//! What an ext4 says of its own size (`Documentation/filesystems/ext4/super.rst`).

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

/// Where it begins, bytes.
const AT: u64 = 1024;
const MAGIC: u16 = 0xEF53;
/// Bytes of an inode in every image.
const INODE: u64 = 256;
const INCOMPAT_64BIT: u32 = 0x80;

/// The sizes of one file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Superblock {
    /// Blocks in all.
    pub(super) blocks: u64,
    /// Bytes of a block.
    pub(super) block: u64,
    /// Inodes in all.
    pub(super) inodes: u64,
    /// Blocks of a group.
    pub(super) group: u64,
    /// Inodes of a group.
    pub(super) inodes_of_group: u64,
}

impl Superblock {
    /// Reads it from an image or a device.
    ///
    /// # Errors
    /// As the kernel says, and when there is no ext4.
    pub(super) fn read(file: &File) -> io::Result<Self> {
        let mut bytes = [0; 1024];
        file.read_exact_at(&mut bytes, AT)?;
        Self::parse(&bytes).ok_or_else(|| io::Error::other("it holds no ext4"))
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let word = |at: usize| {
            let part = bytes.get(at..at + 4)?;
            Some(u32::from_le_bytes(part.try_into().ok()?))
        };
        let magic = bytes.get(0x38..0x3A)?;
        if u16::from_le_bytes(magic.try_into().ok()?) != MAGIC {
            return None;
        }
        let high = if word(0x60)? & INCOMPAT_64BIT == 0 {
            0
        } else {
            word(0x150)?
        };
        let shift = word(0x18)?;
        let found = Self {
            blocks: (u64::from(high) << 32) | u64::from(word(0x4)?),
            block: 1024_u64.checked_shl(shift).filter(|_| shift <= 6)?,
            inodes: word(0x0)?.into(),
            group: word(0x20)?.into(),
            inodes_of_group: word(0x28)?.into(),
        };
        (found.group > 0).then_some(found)
    }

    /// Returns its size in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.blocks.saturating_mul(self.block)
    }

    /// Returns how many groups it would have with so many blocks.
    fn groups(&self, blocks: u64) -> u64 {
        blocks.div_ceil(self.group)
    }

    /// Returns how many more inodes than asked for there may be: each group's part fills whole
    /// blocks of its table.
    pub(super) fn grain(&self) -> u64 {
        self.grain_with(self.blocks)
    }

    /// Returns the same for another size.
    pub(super) fn grain_with(&self, blocks: u64) -> u64 {
        (self.groups(blocks) + 1).saturating_mul(self.block / INODE)
    }

    /// Returns how many inodes it would have with so many blocks: growth adds whole groups.
    pub(super) fn inodes_with(&self, blocks: u64) -> u64 {
        self.groups(blocks).saturating_mul(self.inodes_of_group)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_ext4_has_no_size() {
        assert_eq!(Superblock::parse(&[0; 1024]), None);
        assert_eq!(Superblock::parse(&[]), None);
        let mut bytes = [0xFF; 1024];
        assert_eq!(Superblock::parse(&bytes), None);
        // A block of 2^266 bytes.
        bytes[0x38..0x3A].copy_from_slice(&MAGIC.to_le_bytes());
        assert_eq!(Superblock::parse(&bytes), None);
    }
}
