//! The gRPC listener: translates, calls the broker, maps errors. No use case lives here.
//!
//! Reflection and health are on. Every call is authorized in the broker, in one place.

mod admin;
mod discovery;
mod error;
mod faults;
mod fetch;
#[cfg(feature = "fuzz")]
pub mod fuzz;
mod group;
mod limits;
mod produce;
mod serve;
mod service;
mod translate;

pub use faults::{Call, CallFaults, Cut, FetchFault, ProduceFault};
pub use serve::{serve, serve_with_faults};
