//! Laws of a container's root, on the real kernel, in every way a root is made.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests fail by panics"
)]

#[path = "root_laws/cgroups.rs"]
mod cgroups;
#[path = "root_laws/files.rs"]
mod files;
#[path = "root_laws/hostile.rs"]
mod hostile;
#[path = "root_laws/layers.rs"]
mod layers;
#[path = "root_laws/layout.rs"]
mod layout;
#[path = "root_laws/live.rs"]
mod live;
#[path = "root_laws/support.rs"]
mod support;
