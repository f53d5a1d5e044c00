//! The store on real disks: laws, a naive model, damage, full disks, power cuts, kills.
//!
//! Children are this very test binary, started again at [`child::entry`]. What needs root or
//! loop devices says so when it is skipped. `STORE_SEED` repeats a run, `STORE_CUTS` sets the
//! number of power cuts (20 unless set), `STORE_FLIPS` that of damaged files (60).

mod child;
mod damage;
mod export;
mod figures;
mod full;
mod kill;
mod laws;
mod lock;
mod model;
mod power;
mod tidy;
mod workload;
mod world;
