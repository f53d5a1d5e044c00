//! Trees of files as tar: both ends of `reconciler cp`.
//!
//! One end runs in the container, as a child of its init, the other in the client; both are
//! this code. Every path is opened by descriptor (`openat2(2)`), and what an archive names is
//! only ever resolved beneath the directory that it is unpacked in. `docs/formats/archive.md`
//! tells which forms are read and written, `docs/adr/copy.md` why it is done here.

mod attributes;
mod block;
mod entry;
mod error;
mod file;
mod pack;
mod place;
mod reader;
mod resolve;
mod sparse;
mod unpack;
mod write;

pub use error::CopyError;
pub use pack::Source;
pub use resolve::Side;
pub use unpack::{Destination, Landing, Unpacked};
