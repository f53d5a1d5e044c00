//! Everything that needs more than one crate.

#[cfg(test)]
mod sim;
