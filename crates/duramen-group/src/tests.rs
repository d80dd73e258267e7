//! Groups under everything that happens to them: members that come, go, crash and come back,
//! messages that are lost, repeated and overtaken, coordinators that change, topics that grow.
//!
//! The world has clients that believe what they were told, a coordinator with its proposals on the
//! way, and a judge that looks after every step.

mod client;
mod story;
mod world;

use proptest::prelude::*;

use world::World;

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..Default::default() })]

    #[test]
    fn whatever_happens_a_group_ends_balanced_and_no_partition_has_two_readers(
        steps in prop::collection::vec(any::<(u8, u16, u16)>(), 1..400),
    ) {
        let mut world = World::new();
        for (kind, one, two) in steps {
            world.step(kind, usize::from(one), usize::from(two));
            world.judge();
        }
        world.calm_down();
    }
}

/// A topic grows while the look-up of before is on its way, then another one is deleted, of which
/// the group learns at a later index.
#[test]
fn a_deleted_topic_does_not_hide_that_another_one_grew() {
    let mut world = World::new();
    let steps = [(200, 42_763, 0), (120, 0, 53_730), (8, 0, 0), (0, 0, 0), (206, 0, 0)];
    for (kind, one, two) in
        steps.into_iter().chain([(200, 29_570, 985), (8, 0, 0), (254, 1_926, 0), (218, 0, 0)])
    {
        world.step(kind, one, two);
        world.judge();
    }
    world.calm_down();
}

#[test]
fn a_long_history_of_many_members_ends_balanced() {
    let mut world = World::new();
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        usize::try_from(random >> 33).unwrap()
    };
    for _ in 0..10_000 {
        let kind = u8::try_from(next() % 256).unwrap();
        world.step(kind, next(), next());
        world.judge();
    }
    world.calm_down();
    println!("{}", world.tally());
}
