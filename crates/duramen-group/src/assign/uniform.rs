//! The default: as even as can be, then as little movement as can be, then near racks.

use duramen_types::TopicPartition;

use super::deal::{deal, keep};
use super::flow::Flow;
use super::{AssignInput, Assignment, Assignor, Racks};

/// Spreads all partitions evenly and moves as few as that takes.
///
/// What it gives, strictly in this order:
/// 1. *Balance.* The sum of squares of the members' loads is the least there can be. If all members
///    read the same topics, no two loads differ by more than one.
/// 2. *Movement.* No balanced assignment takes fewer partitions from members that could keep them:
///    the bound against the optimum is one.
/// 3. *Racks.* Of partitions that have to go somewhere each goes to a member near a replica, if one
///    is still wanting. Nothing moves for a rack's sake.
#[derive(Clone, Copy, Debug, Default)]
pub struct UniformSticky;

impl Assignor for UniformSticky {
    fn name(&self) -> &'static str {
        "uniform"
    }

    fn assign(&self, input: &AssignInput<'_>, racks: &Racks) -> Assignment {
        let mut topics = input.members.values().map(|member| &member.topics);
        let first = topics.next();
        if first.is_none_or(|first| topics.all(|other| other == first)) {
            assign_equals(input, racks)
        } else {
            assign_unequals(input, racks)
        }
    }
}

/// All members read the same: everybody gets the same number, but for the rest of the division,
/// which goes to those that have most. Keeping the lesser of what one has and what one gets is then
/// the most that can stay.
fn assign_equals(input: &AssignInput<'_>, racks: &Racks) -> Assignment {
    let members = input.members.len();
    let places = input.places();
    let topics = input.members.values().next().map(|member| &member.topics);
    let all = topics.into_iter().flat_map(|topics| topics.iter());
    let mut has = vec![Vec::new(); members];
    let mut pool = Vec::new();
    let mut count = 0_usize;
    for partition in all.flat_map(|topic| input.partitions_of(*topic)) {
        count += 1;
        let owner = input.owner(partition).and_then(|owner| places.get(owner));
        match owner.and_then(|place| has.get_mut(*place)) {
            Some(has) => has.push(partition),
            None => pool.push(partition),
        }
    }
    let (base, rest) = (count.checked_div(members).unwrap_or(0), count.checked_rem(members));
    let mut order: Vec<(usize, usize)> =
        has.iter().map(Vec::len).enumerate().map(|(place, len)| (len, place)).collect();
    order.sort_by_key(|(len, place)| (std::cmp::Reverse(*len), *place));
    let mut quotas = vec![base; members];
    for (_, place) in order.into_iter().take(rest.unwrap_or(0)) {
        if let Some(quota) = quotas.get_mut(place) {
            *quota += 1;
        }
    }
    let member_racks: Vec<&str> = input.members.values().map(|member| member.rack).collect();
    let mut given = Vec::with_capacity(members);
    let mut wants = Vec::with_capacity(members);
    for ((has, quota), rack) in has.into_iter().zip(quotas).zip(&member_racks) {
        let (kept, shed) = keep(has, quota, rack, racks);
        pool.extend(shed);
        wants.push(quota - kept.len());
        given.push(kept);
    }
    pool.sort_unstable();
    deal(pool, &mut wants, &member_racks, racks, &mut given);
    input.named(given)
}

/// Members read different topics: how many of each topic each member gets is a flow, see there;
/// which of them, is decided as above, topic by topic.
fn assign_unequals(input: &AssignInput<'_>, racks: &Racks) -> Assignment {
    let places = input.places();
    let readers = input.readers();
    let mut flow = Flow::new(input.members.len());
    let mut owned: Vec<Vec<Vec<TopicPartition>>> = Vec::with_capacity(readers.len());
    let mut pools = Vec::with_capacity(readers.len());
    for (topic, members) in &readers {
        let mut has = vec![Vec::new(); members.len()];
        let mut pool = Vec::new();
        for partition in input.partitions_of(*topic) {
            let place = input.owner(partition).and_then(|owner| places.get(owner));
            let at = place.and_then(|place| members.binary_search(place).ok());
            match at.and_then(|at| has.get_mut(at)) {
                Some(has) => has.push(partition),
                None => pool.push(partition),
            }
        }
        let homes = has.iter().map(Vec::len);
        flow.add_topic(members.iter().copied().zip(homes), pool.len());
        owned.push(has);
        pools.push(pool);
    }
    flow.solve();
    let mut given = vec![Vec::new(); input.members.len()];
    let all_racks: Vec<&str> = input.members.values().map(|member| member.rack).collect();
    let topics = readers.values().zip(owned).zip(pools).enumerate();
    for (topic, ((members, owned), mut pool)) in topics {
        let (mut wants, mut kept_here, mut racks_here) = (Vec::new(), Vec::new(), Vec::new());
        for ((place, has), quota) in members.iter().zip(owned).zip(flow.counts(topic)) {
            let rack = all_racks.get(*place).copied().unwrap_or_default();
            let (kept, shed) = keep(has, quota, rack, racks);
            pool.extend(shed);
            wants.push(quota - kept.len());
            kept_here.push(kept);
            racks_here.push(rack);
        }
        pool.sort_unstable();
        deal(pool, &mut wants, &racks_here, racks, &mut kept_here);
        for (place, partitions) in members.iter().zip(kept_here) {
            if let Some(given) = given.get_mut(*place) {
                given.extend(partitions);
            }
        }
    }
    input.named(given)
}
