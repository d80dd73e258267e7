//! Trials of whole groups: several nodes in one thread, with simulated disks, network and time.
//!
//! Each names what once lost data or got stuck, and is decided by its seed. Time passes only as
//! fast as the work is done, and nothing sleeps: a trial steps the simulation until what it waits
//! for is there.

mod cluster;
mod conformance;
mod content;
mod crash_points;
mod faults;
mod gate;
mod hibernation;
mod leadership;
mod liars;
mod node;
mod producers;
mod replication;
mod restarts;
mod state_machines;
