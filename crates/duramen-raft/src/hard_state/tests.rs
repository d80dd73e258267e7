//! The vote file forgets nothing that was saved, and says so when it must.

use duramen_env::RealDisk;
use openraft::vote::leader_id_std::LeaderId;

use super::*;

const OWNER: Owner = Owner { cluster: ClusterId::from_bytes([1; 16]), node: NodeId::new(11) };

/// Where a record is.
fn record_at(number: u64) -> usize {
    usize::try_from(HEAD_BYTES + number * RECORD_BYTES).unwrap()
}

fn open(dir: &Path) -> Result<HardState, HardStateError> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    HardState::open(&disk, dir, OWNER, false, Tasks::inline())
}

fn vote(term: u64) -> Vote {
    Vote { leader_id: LeaderId { term, voted_for: 1 }, committed: false }
}

#[tokio::test]
async fn a_saved_vote_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let replica = ReplicaId::new(4);
    let state = open(dir.path()).unwrap();
    for term in 1..=3 {
        state.save(GroupId::Metadata, replica, vote(term)).await.unwrap();
    }
    drop(state);
    let state = open(dir.path()).unwrap();
    assert_eq!(state.get(GroupId::Metadata, replica), Some(vote(3)));
    assert_eq!(state.get(GroupId::Metadata, ReplicaId::new(5)), None);
}

#[tokio::test]
async fn the_file_is_compacted_and_keeps_the_live_votes() {
    let dir = tempfile::tempdir().unwrap();
    let state = open(dir.path()).unwrap();
    let last = COMPACT_RECORDS_MIN + 10;
    for term in 1..=last {
        state.shared.write(GroupId::Metadata, ReplicaId::new(1), Some(vote(term))).unwrap();
    }
    state.synced().await.unwrap();
    drop(state);
    let len = std::fs::metadata(dir.path().join(FILE)).unwrap().len();
    assert!(len < COMPACT_RECORDS_MIN * RECORD_BYTES, "{len} bytes");
    let state = open(dir.path()).unwrap();
    assert_eq!(state.get(GroupId::Metadata, ReplicaId::new(1)), Some(vote(last)));
}

async fn three_saved(dir: &Path) {
    let state = open(dir).unwrap();
    for term in 1..=3 {
        state.save(GroupId::Metadata, ReplicaId::new(1), vote(term)).await.unwrap();
    }
}

#[tokio::test]
async fn a_damaged_durable_record_is_a_lost_vote() {
    let dir = tempfile::tempdir().unwrap();
    three_saved(dir.path()).await;
    let path = dir.path().join(FILE);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[record_at(1) + 33] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let error = open(dir.path()).unwrap_err();
    assert!(matches!(error, HardStateError::LostVote { record: 1, .. }), "{error}");
}

#[tokio::test]
async fn damage_of_the_very_last_record_is_a_lost_vote() {
    let dir = tempfile::tempdir().unwrap();
    three_saved(dir.path()).await;
    let path = dir.path().join(FILE);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[record_at(2) + 40] ^= 0x10;
    std::fs::write(&path, bytes).unwrap();
    assert!(matches!(open(dir.path()), Err(HardStateError::LostVote { record: 2, .. })));
}

#[tokio::test]
async fn a_last_record_that_never_reached_the_disk_is_no_loss() {
    let dir = tempfile::tempdir().unwrap();
    three_saved(dir.path()).await;
    let state = open(dir.path()).unwrap();
    state.shared.write(GroupId::Metadata, ReplicaId::new(1), Some(vote(4))).unwrap();
    drop(state);
    let path = dir.path().join(FILE);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[record_at(3)..record_at(4)].fill(0);
    std::fs::write(&path, bytes).unwrap();
    let state = open(dir.path()).unwrap();
    assert_eq!(state.get(GroupId::Metadata, ReplicaId::new(1)), Some(vote(3)));
    state.save(GroupId::Metadata, ReplicaId::new(1), vote(9)).await.unwrap();
    drop(state);
    let state = open(dir.path()).unwrap();
    assert_eq!(state.get(GroupId::Metadata, ReplicaId::new(1)), Some(vote(9)));
}

#[tokio::test]
async fn the_last_record_is_missed_when_it_is_zeroed_or_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    three_saved(dir.path()).await;
    let path = dir.path().join(FILE);
    let bytes = std::fs::read(&path).unwrap();
    let mut zeroed = bytes.clone();
    zeroed[record_at(2)..].fill(0);
    for damaged in [&zeroed[..], &bytes[..record_at(2)], &bytes[..512], &[]] {
        std::fs::write(&path, damaged).unwrap();
        assert!(matches!(open(dir.path()), Err(HardStateError::LostVote { .. })));
    }
}

#[tokio::test]
async fn one_damaged_slot_of_the_head_is_made_good() {
    let dir = tempfile::tempdir().unwrap();
    three_saved(dir.path()).await;
    let path = dir.path().join(FILE);
    let bytes = std::fs::read(&path).unwrap();
    for slot in [0, 512] {
        let mut damaged = bytes.clone();
        damaged[slot + 9] ^= 1;
        std::fs::write(&path, &damaged).unwrap();
        let state = open(dir.path()).unwrap();
        assert_eq!(state.get(GroupId::Metadata, ReplicaId::new(1)), Some(vote(3)));
    }
}

#[tokio::test]
async fn the_votes_of_another_node_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    three_saved(dir.path()).await;
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let owner = Owner { node: NodeId::new(12), ..OWNER };
    let other = HardState::open(&disk, dir.path(), owner, true, Tasks::inline());
    assert!(matches!(other, Err(HardStateError::OtherOwner { .. })));
}

#[tokio::test]
async fn a_durable_record_that_is_gone_is_a_lost_vote() {
    let dir = tempfile::tempdir().unwrap();
    three_saved(dir.path()).await;
    let path = dir.path().join(FILE);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[record_at(1)..record_at(2)].fill(0);
    std::fs::write(&path, bytes).unwrap();
    let error = open(dir.path()).unwrap_err();
    assert!(matches!(error, HardStateError::LostVote { record: 1, durable: 3, .. }), "{error}");
}

#[tokio::test]
async fn a_missing_file_beside_replicas_is_a_loss() {
    let dir = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let beside_replicas = || HardState::open(&disk, dir.path(), OWNER, true, Tasks::inline());
    assert!(matches!(beside_replicas(), Err(HardStateError::Missing { .. })));
    three_saved(dir.path()).await;
    beside_replicas().unwrap().give_up().unwrap();
    assert!(matches!(beside_replicas(), Err(HardStateError::Missing { .. })));
}
