//! Tests of the whole: clusters simulated in one thread under a seed, and clusters of real
//! processes on loopback.

pub mod campaign;
pub mod chaos;
pub mod corrupt;
pub mod crashpoints;
pub mod faultfs;
pub mod fuzzing;
pub mod groups;
pub mod guard;
pub mod mutants;
pub mod powercut;
pub mod processes;
pub mod replacement;
pub mod simulation;
