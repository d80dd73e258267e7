//! The gRPC listener: translates, calls the broker, maps errors. No use case lives here.
//!
//! Reflection and health are on. Every call is authorized in the broker, in one place.

mod admin;
mod discovery;
mod error;
mod fetch;
#[cfg(feature = "fuzz")]
pub mod fuzz;
mod limits;
mod produce;
mod serve;
mod service;
mod translate;

pub use serve::serve;
