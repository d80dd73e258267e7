//! Faults on purpose, for tests of clients: what a plan says, when it happens, and what a node
//! does about it.
//!
//! `dev` owns the plan and the schedule. It kills and freezes nodes itself; all else it orders of
//! them through their stdin, and they say through their stdout what they did.
//!
//! ```text
//!  plan.toml ─▶ Plan ─▶ Schedule ─▶ dev ──Order──▶ NodeFaults ─▶ disk, listener, broker
//!               seed ──────┘         ▲                │
//!                                    └────Report──────┘
//! ```

mod draw;
mod kind;
mod message;
mod node;
mod plan;
mod read;
mod schedule;

pub(crate) use draw::mix;
pub(crate) use kind::{Kind, Shape};
pub(crate) use message::{Order, Report};
pub(crate) use node::{NodeFaults, REPORTS_WAITING};
pub(crate) use plan::{Plan, Target};
pub(crate) use schedule::{Change, Occurrence, Schedule, fault_of};

/// A plan with every kind of fault, explained.
pub(crate) const EXAMPLE: &str = include_str!("faults/example.toml");
