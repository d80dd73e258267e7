//! Properties of assignors.

use std::time::Instant;

use proptest::prelude::*;

use super::*;

/// A group as an assignor sees it, with what the borrowed input needs.
#[derive(Clone, Debug)]
struct Case {
    /// Places of topics that each member reads, and its rack.
    members: Vec<(BTreeSet<u8>, u8)>,
    /// Partitions of each topic.
    topics: Vec<u32>,
    /// Who has what; may be members that are gone.
    current: BTreeMap<(u8, u32), usize>,
}

fn topic(number: u8) -> TopicId {
    TopicId::from_bytes([number + 1; 16])
}

fn at(topic_number: u8, partition: u32) -> TopicPartition {
    TopicPartition { topic: topic(topic_number), partition: PartitionId::new(partition) }
}

fn id(number: usize) -> MemberId {
    MemberId::new(&format!("m{number:04}")).unwrap()
}

impl Case {
    fn equal(members: usize, topics: Vec<u32>) -> Self {
        let all: BTreeSet<u8> = (0..u8::try_from(topics.len()).unwrap()).collect();
        let members = (0..members).map(|n| (all.clone(), u8::try_from(n % 3).unwrap())).collect();
        Self { members, topics, current: BTreeMap::new() }
    }

    fn with<T>(&self, run: impl FnOnce(&AssignInput<'_>) -> T) -> T {
        let ids: Vec<MemberId> = (0..self.members.len()).map(id).collect();
        let racks: Vec<String> = (0..3).map(|rack| format!("r{rack}")).collect();
        let members = ids
            .iter()
            .zip(&self.members)
            .map(|(id, (topics, rack))| {
                let topics = Arc::new(topics.iter().map(|number| topic(*number)).collect());
                let rack = &racks[usize::from(*rack)];
                (id, MemberInput { instance: None, rack, topics })
            })
            .collect();
        let numbered = (0..).map(topic).zip(self.topics.iter().copied());
        let partitions = numbered.collect();
        let current = self.current.iter().map(|((t, p), m)| (at(*t, *p), id(*m))).collect();
        run(&AssignInput { members, partitions: &partitions, current: &current })
    }

    fn assign(&self, assignor: &dyn Assignor) -> Assignment {
        self.with(|input| assignor.assign(input, &Racks::new()))
    }

    /// Goes on with what was assigned.
    fn keep(&mut self, assignment: &Assignment) {
        let number = |topic: TopicId| topic.as_bytes()[0] - 1;
        self.current = assignment
            .iter()
            .flat_map(|(id, partitions)| {
                let member: usize = id.as_str()[1..].parse().unwrap();
                partitions.iter().map(move |p| ((number(p.topic), p.partition.get()), member))
            })
            .collect();
    }

    /// Every partition that is read is given once, to a reader; every member is named.
    fn check(&self, assignment: &Assignment) {
        let mut given = BTreeSet::new();
        assert_eq!(assignment.len(), self.members.len());
        for ((_, partitions), (topics, _)) in assignment.iter().zip(&self.members) {
            for partition in partitions {
                assert!(topics.contains(&(partition.topic.as_bytes()[0] - 1)));
                assert!(given.insert(*partition), "{partition} twice");
            }
        }
        let is_read = |topic: &u8| self.members.iter().any(|(topics, _)| topics.contains(topic));
        let numbered = (0..).zip(&self.topics).filter(|(number, _)| is_read(number));
        assert_eq!(given.len(), numbered.map(|(_, count)| *count as usize).sum::<usize>());
    }

    /// The least cost there is: squares of loads, then moves. By trying everything.
    fn optimum(&self) -> (usize, usize) {
        let all: Vec<(u8, u32)> = (0..)
            .zip(&self.topics)
            .flat_map(|(number, count)| (0..*count).map(move |partition| (number, partition)))
            .collect();
        let mut loads = vec![0; self.members.len()];
        self.try_all(&all, &mut loads, 0)
    }

    fn try_all(&self, rest: &[(u8, u32)], loads: &mut [usize], moved: usize) -> (usize, usize) {
        let Some((first, rest)) = rest.split_first() else {
            return (loads.iter().map(|load| load * load).sum(), moved);
        };
        let reads = |member: usize| self.members[member].0.contains(&first.0);
        let owner = self.current.get(first).copied().filter(|m| *m < loads.len() && reads(*m));
        let mut best = (usize::MAX, usize::MAX);
        let mut anybody = false;
        for member in (0..loads.len()).filter(|member| reads(*member)) {
            anybody = true;
            loads[member] += 1;
            let moves = usize::from(owner.is_some_and(|owner| owner != member));
            best = best.min(self.try_all(rest, loads, moved + moves));
            loads[member] -= 1;
        }
        if anybody { best } else { self.try_all(rest, loads, moved) }
    }
}

fn cost(case: &Case, assignment: &Assignment) -> (usize, usize) {
    let squares = assignment.values().map(|partitions| partitions.len().pow(2)).sum();
    (squares, case.with(|input| moves(input, assignment)))
}

/// Small groups of any kind, with any past.
fn small() -> impl Strategy<Value = Case> {
    let member = (prop::collection::btree_set(0..3_u8, 0..=3), 0..3_u8);
    let members = prop::collection::vec(member, 1..5);
    let topics = prop::collection::vec(0..4_u32, 3);
    let current = prop::collection::btree_map((0..3_u8, 0..4_u32), 0..5_usize, 0..9);
    (members, topics, current).prop_map(|(members, topics, current)| {
        let mut topics = topics;
        // What is tried is members to the power of partitions.
        while topics.iter().sum::<u32>() > 7 {
            topics.iter_mut().for_each(|count| *count = count.saturating_sub(1));
        }
        Case { members, topics, current }
    })
}

fn middling() -> impl Strategy<Value = Case> {
    let member = (prop::collection::btree_set(0..6_u8, 0..=6), 0..3_u8);
    let members = prop::collection::vec(member, 1..20);
    let topics = prop::collection::vec(0..20_u32, 6);
    let current = prop::collection::btree_map((0..6_u8, 0..20_u32), 0..22_usize, 0..120);
    (members, topics, current).prop_map(|(members, topics, current)| Case {
        members,
        topics,
        current,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, ..Default::default() })]

    #[test]
    fn uniform_is_as_even_as_can_be_and_then_moves_as_little_as_can_be(case in small()) {
        let assignment = case.assign(&UniformSticky);
        case.check(&assignment);
        prop_assert_eq!(cost(&case, &assignment), case.optimum());
    }
}

proptest! {
    #[test]
    fn every_partition_that_is_read_is_given_once(case in middling()) {
        for assignor in [&UniformSticky as &dyn Assignor, &Range] {
            let assignment = case.assign(assignor);
            case.check(&assignment);
            prop_assert_eq!(case.assign(assignor), assignment, "one input, one result");
        }
    }

    #[test]
    fn a_second_time_nothing_moves(mut case in middling()) {
        let assignment = case.assign(&UniformSticky);
        case.keep(&assignment);
        prop_assert_eq!(case.assign(&UniformSticky), assignment);
    }

    #[test]
    fn no_single_step_would_be_more_even(case in middling()) {
        let assignment = case.assign(&UniformSticky);
        let loads: Vec<usize> = assignment.values().map(Vec::len).collect();
        for (partitions, load) in assignment.values().zip(&loads) {
            for partition in partitions {
                for ((topics, _), other) in case.members.iter().zip(&loads) {
                    let reads = topics.contains(&(partition.topic.as_bytes()[0] - 1));
                    prop_assert!(!reads || *load <= other + 1);
                }
            }
        }
    }

    #[test]
    fn among_equals_one_more_or_less_moves_no_more_than_its_share(
        members in 1..30_usize,
        topics in prop::collection::vec(1..40_u32, 1..6),
    ) {
        let mut case = Case::equal(members, topics);
        let count = case.topics.iter().sum::<u32>() as usize;
        let before = case.assign(&UniformSticky);
        case.keep(&before);
        let mut more = case.clone();
        more.members = Case::equal(members + 1, case.topics.clone()).members;
        let joined = more.assign(&UniformSticky);
        let (least, most) = (count / (members + 1), count.div_ceil(members + 1));
        prop_assert!((least..=most).contains(&cost(&more, &joined).1));
        more.keep(&joined);
        more.members.pop();
        let left = more.assign(&UniformSticky);
        prop_assert_eq!(cost(&more, &left).1, 0, "only what the one that left had is given anew");
        let loads: BTreeSet<usize> = left.values().map(Vec::len).collect();
        prop_assert!(loads.last().unwrap() - loads.first().unwrap() <= 1);
    }

    #[test]
    fn racks_change_neither_balance_nor_movement(case in middling(), spread in 0..3_u32) {
        let assignment = case.assign(&UniformSticky);
        let racks = racks(&case, spread);
        let near = case.with(|input| UniformSticky.assign(input, &racks));
        case.check(&near);
        prop_assert_eq!(cost(&case, &near), cost(&case, &assignment));
    }
}

/// One replica of each partition, on racks in turn.
fn racks(case: &Case, spread: u32) -> Racks {
    let all = (0..).zip(&case.topics).flat_map(|(t, count)| (0..*count).map(move |p| at(t, p)));
    all.map(|p| (p, vec![Arc::from(format!("r{}", (p.partition.get() + spread) % 3))])).collect()
}

#[test]
fn partitions_go_to_members_near_a_replica() {
    let case = Case::equal(6, vec![18, 18]);
    let racks = racks(&case, 0);
    let assignment = case.with(|input| UniformSticky.assign(input, &racks));
    for ((_, partitions), (_, rack)) in assignment.iter().zip(&case.members) {
        assert_eq!(partitions.len(), 6);
        assert!(partitions.iter().all(|p| p.partition.get() % 3 == u32::from(*rack)));
    }
}

#[test]
fn a_range_has_the_same_partitions_of_all_topics() {
    let case = Case::equal(3, vec![7, 7]);
    let assignment = case.assign(&Range);
    let numbers = |member: usize, topic_number: u8| -> Vec<u32> {
        let partitions = assignment[&id(member)].iter();
        let of_topic = partitions.filter(|p| p.topic == topic(topic_number));
        of_topic.map(|p| p.partition.get()).collect()
    };
    assert_eq!(numbers(0, 0), [0, 1, 2]);
    assert_eq!(numbers(1, 0), [3, 4]);
    assert_eq!(numbers(2, 0), [5, 6]);
    assert!((0..3).all(|member| numbers(member, 0) == numbers(member, 1)));
}

#[test]
fn assignors_are_found_by_name() {
    assert_eq!(assignor("uniform").unwrap().name(), "uniform");
    assert_eq!(assignor("range").unwrap().name(), "range");
    assert!(assignor("best").is_none());
}

/// How long large groups take; prints, and only says that it comes to an end in time even without
/// optimization.
#[test]
#[expect(clippy::disallowed_methods, reason = "measures the assignor")]
fn a_thousand_members_and_ten_thousand_partitions() {
    let mut case = Case::equal(1_000, vec![100; 100]);
    let timed = |what: &str, case: &Case| {
        let begin = Instant::now();
        let assignment = case.assign(&UniformSticky);
        let took = begin.elapsed();
        case.check(&assignment);
        println!("{what}: {took:?}, cost {:?}", cost(case, &assignment));
        assert!(took.as_secs() < 60);
        assignment
    };
    let first = timed("equal, anew", &case);
    case.keep(&first);
    case.members.pop();
    timed("equal, one left", &case);
    let half =
        |member: usize, topic_number: u8| (member * 7 + usize::from(topic_number) * 13) % 10 < 5;
    for (number, (topics, _)) in case.members.iter_mut().enumerate() {
        topics.retain(|topic_number| half(number, *topic_number));
    }
    let first = timed("each reads half, half is free", &case);
    case.keep(&first);
    case.members.push(((0..100).collect(), 0));
    timed("each reads half, one joined", &case);
}
