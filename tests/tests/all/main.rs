//! One binary, one link. A file that is in this folder but not below fails `tidy`.
#![forbid(unsafe_code)]

mod tidy;
