//! Planning: checks a request against the state and draws the command that carries it out.

use std::collections::BTreeSet;

use duramen_types::{NodeId, ReplicaId, Timestamp, TopicId};

use crate::command::{Command, NewTopic, TopicChange};
use crate::config::{ConfigKey, Settings, TopicConfig};
use crate::error::{ConfigError, PlanError};
use crate::limits::{
    GROUP_SHARDS, GROUPS_TOPIC, NAME_BYTES_MAX, PARTITIONS_MAX, REPLICATION_FACTOR_DEFAULT,
    RESERVED_PREFIX,
};
use crate::placement::place;
use crate::state::State;
use crate::topic::{Node, Partition, Replica, Topic};

/// A topic as a client asks for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicRequest {
    /// Its name.
    pub name: String,
    /// Its partitions; 0 is 1.
    pub partitions: u32,
    /// Replicas of each partition; 0 is 3, or as many as there are nodes if those are fewer.
    pub replication_factor: u32,
    /// What is set for it, in any form.
    pub settings: Settings,
    /// Nodes that are thought dead, to be used only if the others do not suffice.
    pub avoid: BTreeSet<NodeId>,
}

/// Plans the creation of a topic; ids, placement and time are in the command. `random` gives
/// random numbers, any 64 bits each.
///
/// # Errors
/// Every rule of names, counts and settings that the request breaks, the first one found.
pub fn plan_create_topic(
    state: &State,
    request: &TopicRequest,
    created_at: Timestamp,
    random: &mut dyn FnMut() -> u64,
) -> Result<Command, PlanError> {
    check_name(&request.name)?;
    plan_topic(state, request, created_at, random)
}

/// Plans the creation of the topic whose partitions are the shards of consumer groups, as many as
/// usual unless said otherwise.
///
/// # Errors
/// [`PlanError::TopicExists`] if it is there.
pub fn plan_create_groups_topic(
    state: &State,
    partitions: Option<u32>,
    avoid: BTreeSet<NodeId>,
    created_at: Timestamp,
    random: &mut dyn FnMut() -> u64,
) -> Result<Command, PlanError> {
    let name = GROUPS_TOPIC.to_owned();
    let partitions = partitions.unwrap_or(GROUP_SHARDS);
    let request = TopicRequest { name, partitions, avoid, ..TopicRequest::default() };
    plan_topic(state, &request, created_at, random)
}

fn plan_topic(
    state: &State,
    request: &TopicRequest,
    created_at: Timestamp,
    random: &mut dyn FnMut() -> u64,
) -> Result<Command, PlanError> {
    state.cluster_id().ok_or(PlanError::NotFormed)?;
    if let Some(topic) = state.topic(&request.name) {
        return Err(PlanError::TopicExists { name: request.name.as_str().into(), topic: topic.id });
    }
    let settings = canonical_settings(&request.settings)?;
    TopicConfig::of(&settings).check()?;
    let partitions = request.partitions.max(1);
    if partitions > PARTITIONS_MAX {
        return Err(PlanError::TooManyPartitions { asked: partitions });
    }
    let mut candidates = state.candidates(&request.avoid);
    let nodes = candidates.len();
    let replication_factor = match request.replication_factor {
        0 => u32::try_from(nodes).unwrap_or(u32::MAX).clamp(1, REPLICATION_FACTOR_DEFAULT),
        asked => asked,
    };
    if usize::try_from(replication_factor).is_ok_and(|asked| asked > nodes) {
        return Err(PlanError::NotEnoughNodes { asked: replication_factor, nodes });
    }
    let mut id = [0; 16];
    id[..8].copy_from_slice(&random().to_be_bytes());
    id[8..].copy_from_slice(&random().to_be_bytes());
    let placed = place(&mut candidates, partitions, replication_factor, random());
    let partitions = placed.into_iter().map(|nodes| draw_partition(nodes, random)).collect();
    Ok(Command::CreateTopic(NewTopic {
        name: request.name.clone(),
        id: TopicId::from_random(id),
        replication_factor,
        partitions,
        settings,
        created_at,
    }))
}

fn draw_partition(nodes: Vec<NodeId>, random: &mut dyn FnMut() -> u64) -> Partition {
    let mut replicas: Vec<Replica> = Vec::with_capacity(nodes.len());
    for node in nodes {
        let mut id = ReplicaId::new(random());
        while id == ReplicaId::ZERO || replicas.iter().any(|other| other.id == id) {
            id = ReplicaId::new(id.get().wrapping_add(1));
        }
        replicas.push(Replica { node, id, formed: false });
    }
    Partition { replicas, ..Partition::default() }
}

/// Plans a change of a topic's settings, values in any form.
///
/// # Errors
/// An unknown topic, key or value; a reserved name.
pub fn plan_alter_topic(
    state: &State,
    name: &str,
    set: &Settings,
    unset: &[String],
) -> Result<Command, PlanError> {
    let topic = find_own(state, name)?;
    let set = canonical_settings(set)?;
    for key in unset {
        // A key that another version set and this one does not know can still be unset.
        if !topic.settings.contains_key(key) {
            ConfigKey::parse(key)?;
        }
    }
    let mut after = topic.settings.clone();
    after.retain(|key, _| !unset.contains(key));
    after.extend(set.clone());
    TopicConfig::of(&after).check()?;
    let change = TopicChange { name: name.into(), topic: topic.id, set, unset: unset.to_vec() };
    Ok(Command::AlterTopic(change))
}

/// Plans the deletion of a topic; the nil id is whatever topic has the name.
///
/// # Errors
/// An unknown topic, or one of another id; a reserved name.
pub fn plan_delete_topic(state: &State, name: &str, id: TopicId) -> Result<Command, PlanError> {
    let topic = find_own(state, name)?;
    if !id.is_nil() && id != topic.id {
        return Err(PlanError::TopicReplaced { name: name.into(), current: topic.id });
    }
    Ok(Command::DeleteTopic { name: name.into(), topic: topic.id })
}

/// Plans the registration of a node; `None` if it is registered just so.
#[must_use]
pub fn plan_register_node(state: &State, node: &Node) -> Option<Command> {
    (state.node(node.id) != Some(node)).then(|| Command::RegisterNode(node.clone()))
}

/// Finds a topic that users may change.
fn find_own<'a>(state: &'a State, name: &str) -> Result<&'a Topic, PlanError> {
    if name.starts_with(RESERVED_PREFIX) {
        return Err(PlanError::ReservedName { name: name.into() });
    }
    state
        .topic(name)
        .map(AsRef::as_ref)
        .ok_or_else(|| PlanError::UnknownTopic { name: name.into() })
}

fn check_name(name: &str) -> Result<(), PlanError> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if !(1..=NAME_BYTES_MAX).contains(&name.len())
        || !name.bytes().all(is_allowed)
        || matches!(name, "." | "..")
    {
        return Err(PlanError::InvalidName { name: name.into() });
    }
    if name.starts_with(RESERVED_PREFIX) {
        return Err(PlanError::ReservedName { name: name.into() });
    }
    Ok(())
}

fn canonical_settings(settings: &Settings) -> Result<Settings, ConfigError> {
    let canonical = |(key, value): (&String, &String)| {
        ConfigKey::parse(key)?.canonical(value).map(|value| (key.clone(), value))
    };
    settings.iter().map(canonical).collect()
}

#[cfg(test)]
mod tests {
    use duramen_types::{ClusterId, MetadataIndex};

    use super::*;
    use crate::outcome::Outcome;

    fn node(id: u64) -> Node {
        Node {
            id: NodeId::new(id),
            incarnation: ReplicaId::new(100 + id),
            client_address: format!("n{id}:9093"),
            peer_address: format!("n{id}:9094"),
            http_address: String::new(),
            rack: String::new(),
            version: "0.1.0".into(),
        }
    }

    fn cluster(nodes: u64) -> State {
        let mut state = State::default();
        let cluster = ClusterId::from_bytes([1; 16]);
        state.apply(MetadataIndex::new(1), &Command::FormCluster { cluster });
        for id in 1..=nodes {
            state.apply(MetadataIndex::new(1 + id), &Command::RegisterNode(node(id)));
        }
        state
    }

    fn counter() -> impl FnMut() -> u64 {
        let mut number = 0;
        move || {
            number += 1;
            number
        }
    }

    fn create(state: &State, request: &TopicRequest) -> Result<NewTopic, PlanError> {
        match plan_create_topic(state, request, Timestamp::EPOCH, &mut counter())? {
            Command::CreateTopic(topic) => Ok(topic),
            other => panic!("{other:?}"),
        }
    }

    fn named(name: &str) -> TopicRequest {
        TopicRequest { name: name.into(), ..TopicRequest::default() }
    }

    #[test]
    fn a_request_without_counts_gets_one_partition_on_three_nodes() {
        let topic = create(&cluster(5), &named("orders")).unwrap();
        assert_eq!((topic.partitions.len(), topic.replication_factor), (1, 3));
        let ids: BTreeSet<_> = topic.partitions[0].replicas.iter().map(|r| r.id).collect();
        assert_eq!(ids.len(), 3);
        assert_eq!(create(&cluster(2), &named("orders")).unwrap().replication_factor, 2);
    }

    #[test]
    fn a_planned_topic_is_taken_and_planned_only_once() {
        let mut state = cluster(3);
        let request = TopicRequest { partitions: 12, ..named("orders") };
        let topic = create(&state, &request).unwrap();
        let outcome = state.apply(MetadataIndex::new(9), &Command::CreateTopic(topic.clone()));
        assert_eq!(outcome, Outcome::TopicCreated { topic: topic.id });
        let again = create(&state, &request).unwrap_err();
        assert_eq!(again, PlanError::TopicExists { name: "orders".into(), topic: topic.id });
    }

    #[test]
    fn names_follow_the_rule() {
        let state = cluster(1);
        for name in ["", ".", "..", "a b", "ä", "a/b", &"x".repeat(250)] {
            let error = create(&state, &named(name)).unwrap_err();
            assert!(matches!(error, PlanError::InvalidName { .. }), "{name}: {error}");
        }
        for name in ["a", "...", "A.b_c-9", "__mine", &"x".repeat(249)] {
            create(&state, &named(name)).unwrap();
        }
        let error = create(&state, &named("__duramen_groups")).unwrap_err();
        assert!(matches!(error, PlanError::ReservedName { .. }));
    }

    #[test]
    fn counts_have_limits() {
        let state = cluster(2);
        let error = create(&state, &TopicRequest { replication_factor: 3, ..named("a") });
        assert_eq!(error.unwrap_err(), PlanError::NotEnoughNodes { asked: 3, nodes: 2 });
        let error = create(&state, &TopicRequest { partitions: 10_001, ..named("a") });
        assert_eq!(error.unwrap_err(), PlanError::TooManyPartitions { asked: 10_001 });
        let error = create(&cluster(0), &named("a")).unwrap_err();
        assert_eq!(error, PlanError::NotEnoughNodes { asked: 1, nodes: 0 });
        let error = create(&State::default(), &named("a")).unwrap_err();
        assert_eq!(error, PlanError::NotFormed);
    }

    #[test]
    fn settings_are_stored_in_their_plain_form() {
        let mut request = named("a");
        request.settings.insert("retention.ms".into(), "1d".into());
        let topic = create(&cluster(1), &request).unwrap();
        assert_eq!(topic.settings["retention.ms"], "86400000");
        request.settings.insert("retention.m".into(), "1d".into());
        let error = create(&cluster(1), &request).unwrap_err();
        assert!(error.to_string().ends_with("did you mean retention.ms?"), "{error}");
    }

    #[test]
    fn altering_judges_the_settings_that_result() {
        let mut state = cluster(1);
        let topic = create(&state, &named("a")).unwrap();
        state.apply(MetadataIndex::new(9), &Command::CreateTopic(topic));
        let set = Settings::from([("segment.bytes".into(), "64KiB".into())]);
        let error = plan_alter_topic(&state, "a", &set, &[]).unwrap_err();
        assert!(matches!(
            error,
            PlanError::Config(ConfigError::MessageLargerThanSegment { segment_bytes: 65_536, .. })
        ));
        let mut set = set;
        set.insert("max.message.bytes".into(), "32KiB".into());
        let command = plan_alter_topic(&state, "a", &set, &[]).unwrap();
        state.apply(MetadataIndex::new(10), &command);
        let unset = ["max.message.bytes".to_owned()];
        plan_alter_topic(&state, "a", &Settings::new(), &unset).unwrap_err();
        let both = unset.into_iter().chain(["segment.bytes".into()]).collect::<Vec<_>>();
        let command = plan_alter_topic(&state, "a", &Settings::new(), &both).unwrap();
        state.apply(MetadataIndex::new(11), &command);
        assert_eq!(state.topic("a").unwrap().settings, Settings::new());
        plan_alter_topic(&state, "a", &Settings::new(), &["no.such".into()]).unwrap_err();
    }

    #[test]
    fn deleting_by_an_old_id_spares_the_new_topic() {
        let mut state = cluster(1);
        let topic = create(&state, &named("a")).unwrap();
        state.apply(MetadataIndex::new(9), &Command::CreateTopic(topic.clone()));
        let error = plan_delete_topic(&state, "a", TopicId::from_bytes([9; 16])).unwrap_err();
        assert_eq!(error, PlanError::TopicReplaced { name: "a".into(), current: topic.id });
        plan_delete_topic(&state, "a", topic.id).unwrap();
        plan_delete_topic(&state, "a", TopicId::NIL).unwrap();
        plan_delete_topic(&state, "b", TopicId::NIL).unwrap_err();
    }

    #[test]
    fn a_node_is_registered_when_something_changed() {
        let state = cluster(1);
        assert_eq!(plan_register_node(&state, &node(1)), None);
        let moved = Node { client_address: "elsewhere:1".into(), ..node(1) };
        assert_eq!(plan_register_node(&state, &moved), Some(Command::RegisterNode(moved)));
    }
}
