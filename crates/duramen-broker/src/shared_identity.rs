//! The node's identity, shared between the bootstrap, the peer service and discovery.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use duramen_env::{Disk, Random};
use duramen_types::NodeId;

use crate::error::BrokerError;
use crate::identity::{Identity, IdentityError, Phase};

/// An identity that several parts read and one phase change at a time writes.
#[derive(Debug)]
pub(crate) struct SharedIdentity {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    identity: Mutex<Identity>,
}

impl SharedIdentity {
    pub(crate) fn open(
        env: &duramen_env::Env,
        dir: PathBuf,
        node: NodeId,
    ) -> Result<Arc<Self>, IdentityError> {
        let identity = Identity::open(&*env.disk, &*env.random, &dir, node)?;
        let disk = Arc::clone(&env.disk);
        Ok(Arc::new(Self { disk, dir, identity: Mutex::new(identity) }))
    }

    pub(crate) fn get(&self) -> Identity {
        self.lock().clone()
    }

    /// Moves on to a phase. Durable when this returns.
    pub(crate) fn enter(&self, phase: Phase) -> Result<(), IdentityError> {
        self.lock().enter(&*self.disk, &self.dir, phase)
    }

    /// Begins anew as a joiner, under another incarnation. Durable when this returns.
    pub(crate) fn begin_anew(&self, random: &dyn Random) -> Result<(), IdentityError> {
        self.lock().begin_anew(&*self.disk, random, &self.dir)
    }

    fn lock(&self) -> MutexGuard<'_, Identity> {
        self.identity.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<IdentityError> for BrokerError {
    fn from(error: IdentityError) -> Self {
        Self::Storage { reason: error.to_string() }
    }
}
