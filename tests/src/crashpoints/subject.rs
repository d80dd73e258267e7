//! What a durable thing must provide to be swept: a story to tell, and what may be found after it.

use std::fmt;

use duramen_env::SimDisk;

/// A durable thing under one configuration.
#[derive(Clone, Copy, Debug)]
pub struct Subject {
    /// Its name on command lines.
    pub name: &'static str,
    /// Operations in a trace.
    pub operations: u64,
    /// Of so many points of a trace one is tried, another one under each seed.
    pub stride: u64,
    /// Opening it writes nothing new: recovering twice must leave the same bytes as once.
    pub quiet: bool,
    /// Makes a new one on a disk of its own. The seed decides the story.
    pub begin: fn(u64) -> Box<dyn Story>,
}

/// One life of a durable thing, told operation by operation.
pub trait Story {
    /// The disk that all of it is on.
    fn disk(&self) -> &SimDisk;

    /// Does the next operation.
    fn step(&mut self) -> Step;
}

/// One operation of a story.
pub struct Step {
    /// What it was.
    pub operation: &'static str,
    /// What may be found if the power goes while it runs.
    pub during: Box<dyn Expected>,
    /// What may be found once it has returned.
    pub after: Box<dyn Expected>,
    /// An error ended the story: the process would stop here.
    pub is_over: bool,
    /// The operation itself went wrong.
    pub wrong: Option<Wrong>,
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Step").field("operation", &self.operation).finish_non_exhaustive()
    }
}

/// What recovery came to, for comparison: equal states give equal texts.
pub type Found = String;

/// What may be on a disk, as a promise to its users.
pub trait Expected {
    /// Opens what is on the disk as a starting process does, and compares.
    ///
    /// # Errors
    /// [`Wrong`] if something else was found.
    fn recover(&self, disk: &SimDisk) -> Result<Found, Wrong>;

    /// Opens it again, goes on writing, cuts the power and looks whether all is there.
    ///
    /// # Errors
    /// [`Wrong`] if it cannot be used or something is lost.
    fn carry_on(&self, disk: &SimDisk) -> Result<(), Wrong>;
}

/// How a promise was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WrongKind {
    /// Something acknowledged is gone.
    Lost,
    /// Something is there that never was, or was taken back.
    Changed,
    /// A power cut or a failed call ended in damage, or in a refusal to open.
    Refused,
    /// Recovering a second time came to something else.
    Unstable,
}

/// A broken promise.
#[derive(Clone, Debug)]
pub struct Wrong {
    /// How.
    pub kind: WrongKind,
    /// What was found.
    pub what: String,
}

impl Wrong {
    /// Something acknowledged is gone.
    pub fn lost(what: impl fmt::Display) -> Self {
        Self { kind: WrongKind::Lost, what: what.to_string() }
    }

    /// Something is there that should not be.
    pub fn changed(what: impl fmt::Display) -> Self {
        Self { kind: WrongKind::Changed, what: what.to_string() }
    }

    /// It could not be opened, or says that it is damaged.
    pub fn refused(what: impl fmt::Display) -> Self {
        Self { kind: WrongKind::Refused, what: what.to_string() }
    }
}

/// An error with all its sources, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(&format!(": {error}"));
        source = error.source();
    }
    text
}
