//! The real shim around a real container. Root is needed; without it each test says that it
//! was skipped.

#[cfg(test)]
mod commands;
#[cfg(test)]
mod confinement;
#[cfg(test)]
mod logs;
#[cfg(test)]
mod processes;
#[cfg(test)]
mod survival;
#[cfg(test)]
mod world;
