//! Calls on the coordinator of a group: finding it, and following it when it moves.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use duramen_proto::v1::{self, ErrorCode};
use tonic::Status;

use super::{Cluster, Node, attempt, lock};
use crate::failure::Failure;
use crate::limits;
use crate::retry::Attempts;
use crate::{ClientError, ErrorKind};

/// Addresses of coordinators, by group.
#[derive(Debug, Default)]
pub(super) struct Coordinators(BTreeMap<Arc<str>, Arc<str>>);

impl Cluster {
    /// The coordinator of a group as last heard of, or as some node says.
    pub(crate) async fn coordinator(
        &self,
        group: &Arc<str>,
        attempts: &mut Attempts,
    ) -> Result<Arc<Node>, ClientError> {
        let known = lock(&self.coordinators).0.get(group).map(Arc::clone);
        if let Some(address) = known {
            return Ok(self.node(&address));
        }
        let answer = self
            .call_any_counted(attempts, |node| async move {
                let request = v1::FindCoordinatorRequest { group: group.to_string() };
                node.group().find_coordinator(request).await
            })
            .await?;
        let found = answer.coordinator.filter(|node| !node.address.is_empty());
        let found = found.ok_or(ClientError::Protocol { what: "no coordinator" })?;
        Ok(self.node(&self.learn_coordinator(group, &found.address)))
    }

    fn learn_coordinator(&self, group: &Arc<str>, address: &str) -> Arc<str> {
        let mut coordinators = lock(&self.coordinators);
        // A client of very many groups asks again: the map is a convenience.
        if coordinators.0.len() >= limits::COORDINATORS_KNOWN_MAX {
            coordinators.0.clear();
        }
        let address: Arc<str> = Arc::from(address);
        coordinators.0.insert(Arc::clone(group), Arc::clone(&address));
        address
    }

    /// Takes over what a failure says of where the coordinator is; whether it names another node
    /// than the one asked.
    pub(crate) fn coordinator_failed(
        &self,
        group: &Arc<str>,
        asked: &Node,
        failure: &Failure,
    ) -> bool {
        if let Failure::Refused(error) = failure
            && error.code() == ErrorCode::NotLeader
            && let Some(leader) = error.leader.as_ref().filter(|node| !node.address.is_empty())
        {
            self.learn_coordinator(group, &leader.address);
            return leader.address != **asked.address();
        }
        if !failure.is_about_load() {
            lock(&self.coordinators).0.remove(group);
        }
        false
    }

    /// Calls the coordinator of a group, again and where it has gone while that may help.
    pub(crate) async fn call_coordinator<T, F, C>(
        &self,
        attempts: &mut Attempts,
        group: &Arc<str>,
        call: C,
    ) -> Result<T, ClientError>
    where
        C: Fn(Arc<Node>) -> F,
        F: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        let mut redirects = 0;
        loop {
            let node = self.coordinator(group, attempts).await?;
            match attempt(attempts, &node, call(Arc::clone(&node))).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => {
                    let moved = self.coordinator_failed(group, &node, &failure);
                    if moved && redirects < limits::REDIRECTS_AT_ONCE {
                        redirects += 1;
                        continue;
                    }
                    redirects = 0;
                    attempts.again(failure, self.random()).await?;
                }
            }
        }
    }

    /// Asks every node for the groups that it coordinates; what each said, or why it did not.
    pub(crate) async fn list_groups_everywhere(
        &self,
    ) -> Result<Vec<Result<v1::ListGroupsResponse, ClientError>>, ClientError> {
        let described = self.describe_cluster().await?;
        let attempts = Attempts::new("list groups", self.options.request_timeout);
        let ask = |node: Arc<Node>| {
            let attempts = &attempts;
            async move {
                let request = v1::ListGroupsRequest {};
                let mut client = node.group();
                attempt(attempts, &node, client.list_groups(request)).await
            }
        };
        let nodes = described.nodes.into_iter().filter_map(|node| node.node);
        let addresses: Vec<Arc<str>> = nodes
            .filter(|node| !node.address.is_empty())
            .map(|node| Arc::from(node.address.as_str()))
            .collect();
        let calls = addresses.iter().map(|address| ask(self.node(address)));
        let answers = futures::future::join_all(calls).await;
        Ok(answers.into_iter().map(|answer| answer.map_err(Failure::into_error)).collect())
    }
}

/// The error with the group in it, if the coordinator means that the caller is stale.
pub(crate) fn of_group(group: &Arc<str>, error: ClientError) -> ClientError {
    let ClientError::Refused { code, .. } = &error else { return error };
    match code {
        ErrorCode::GroupChanged => ClientError::GroupChanged { group: Arc::clone(group) },
        code if error.kind() == ErrorKind::Fenced => {
            ClientError::GroupFenced { group: Arc::clone(group), code: *code }
        }
        _ => error,
    }
}
