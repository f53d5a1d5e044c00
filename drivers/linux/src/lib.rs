//! The kernel behind the seam.

#[cfg(test)]
mod shim_client;
