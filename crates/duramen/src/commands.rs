//! The commands, one module each.

pub(crate) mod bench;
pub(crate) mod cluster;
pub(crate) mod consume;
pub(crate) mod dev;
pub(crate) mod dump;
pub(crate) mod group;
pub(crate) mod produce;
pub(crate) mod replay;
pub(crate) mod topic;
pub(crate) mod verify;
