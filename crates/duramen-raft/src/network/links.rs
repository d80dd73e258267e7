//! All links of this node, by node and class, and where each node is.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use duramen_env::Env;
use duramen_proto::internal as pb;
use duramen_types::{ClusterId, NodeId, ReplicaId};
use tokio::sync::oneshot;

use super::link::Link;

/// Who this node is to its peers.
#[derive(Clone, Copy, Debug)]
pub struct LocalNode {
    /// The cluster it belongs to.
    pub cluster: ClusterId,
    /// Its number.
    pub node: NodeId,
    /// The life of its data directory.
    pub incarnation: ReplicaId,
    /// Drawn at this start of the process.
    pub boot_id: u64,
}

impl LocalNode {
    pub(super) fn hello(&self, class: pb::LinkClass) -> pb::PeerFrame {
        let hello = pb::Hello {
            cluster_id: bytes::Bytes::copy_from_slice(self.cluster.as_bytes()),
            node_id: self.node.get(),
            incarnation: self.incarnation.get(),
            boot_id: self.boot_id,
            class: class.into(),
        };
        pb::PeerFrame { frame: Some(pb::peer_frame::Frame::Hello(hello)) }
    }
}

/// All links of this node.
#[derive(Debug)]
pub(crate) struct Links {
    env: Env,
    local: LocalNode,
    peers: Mutex<BTreeMap<NodeId, Peer>>,
}

#[derive(Debug)]
struct Peer {
    address: String,
    urgent: Arc<Link>,
    bulk: Arc<Link>,
}

impl Links {
    pub(crate) fn new(env: &Env, local: LocalNode) -> Self {
        Self { env: env.clone(), local, peers: Mutex::new(BTreeMap::new()) }
    }

    /// Says where a node is, and connects to it; a new address replaces the links.
    pub(crate) fn set_address(&self, node: NodeId, address: &str) {
        if node == self.local.node {
            return;
        }
        let mut peers = self.lock();
        if peers.get(&node).is_some_and(|peer| peer.address == address) {
            return;
        }
        let link = |class| Arc::new(Link::start(&self.env, self.local, address, class));
        let peer = Peer {
            address: address.to_owned(),
            urgent: link(pb::LinkClass::Urgent),
            bulk: link(pb::LinkClass::Bulk),
        };
        peers.insert(node, peer);
    }

    /// Where a node is, if known.
    pub(crate) fn address(&self, node: NodeId) -> Option<String> {
        self.lock().get(&node).map(|peer| peer.address.clone())
    }

    /// The link of a class to a node, if its address is known.
    pub(super) fn get(&self, node: NodeId, class: pb::LinkClass) -> Option<Arc<Link>> {
        let peers = self.lock();
        let peer = peers.get(&node)?;
        Some(Arc::clone(match class {
            pb::LinkClass::Bulk => &peer.bulk,
            pb::LinkClass::Urgent | pb::LinkClass::Unspecified => &peer.urgent,
        }))
    }

    /// Sends a beat to a node, if it can be reached.
    pub(crate) fn beat(
        &self,
        node: NodeId,
        beat: pb::Beat,
    ) -> Option<oneshot::Receiver<pb::BeatReply>> {
        self.get(node, pb::LinkClass::Urgent)?.beat(beat).ok()
    }

    /// Whether the urgent link to a node is up.
    pub(crate) fn is_up(&self, node: NodeId) -> bool {
        node == self.local.node || self.lock().get(&node).is_some_and(|peer| peer.urgent.is_up())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<NodeId, Peer>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
