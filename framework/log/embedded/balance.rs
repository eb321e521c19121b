//! Who gets which partition.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    groups::{Member, MemberId},
    state::{Place, Topic},
};

type Members = BTreeMap<MemberId, Member>;
type Assigned = BTreeMap<MemberId, BTreeSet<Place>>;

/// All partitions by topic.
pub(super) fn places(topics: &BTreeMap<String, Topic>) -> BTreeMap<String, Vec<Place>> {
    let of = |topic: &Topic| {
        (0..topic.partitions.len()).map(|number| (Arc::clone(&topic.name), number as i32)).collect()
    };
    topics.iter().map(|(name, topic)| (name.clone(), of(topic))).collect()
}

/// Each topic cut into neighbouring ranges, one a member.
pub(super) fn range(places: &BTreeMap<String, Vec<Place>>, members: &Members) -> Assigned {
    let mut assigned = empty(members);
    for (name, all) in places {
        let readers: Vec<MemberId> =
            members.iter().filter(|(_, member)| member.topics.contains(name)).map(|(id, _)| *id).collect();
        let mut rest = all.as_slice();
        for (place, id) in readers.iter().enumerate() {
            let left = readers.len() - place;
            let (own, others) = rest.split_at(rest.len().div_ceil(left));
            rest = others;
            assigned.entry(*id).or_default().extend(own.iter().cloned());
        }
    }
    assigned
}

/// Members keep what they own as far as that is even. What is to move is given to nobody until its owner has given it
/// back and joined again.
pub(super) fn sticky(places: &BTreeMap<String, Vec<Place>>, members: &Members) -> Assigned {
    let mut assigned = empty(members);
    let mut owners: BTreeMap<&Place, MemberId> = BTreeMap::new();
    let reads = |id: &MemberId, place: &Place| {
        members.get(id).is_some_and(|member| member.topics.contains(&*place.0))
    };
    for (id, member) in members {
        for place in &member.owned {
            owners.entry(place).or_insert(*id);
        }
    }
    for place in places.values().flatten() {
        let kept = owners.get(place).copied().filter(|id| reads(id, place));
        give(&mut assigned, kept, place);
    }
    let free: Vec<&Place> = places
        .values()
        .flatten()
        .filter(|place| !assigned.values().any(|given| given.contains(*place)))
        .collect();
    for place in free {
        let readers = members.keys().filter(|id| reads(id, place));
        let to = readers.min_by_key(|id| assigned.get(id).map_or(0, BTreeSet::len)).copied();
        give(&mut assigned, to, place);
    }
    while let Some((from, place, to)) = uneven(&assigned, &reads) {
        assigned.entry(from).or_default().remove(&place);
        give(&mut assigned, Some(to), &place);
    }
    for (id, given) in &mut assigned {
        given.retain(|place| owners.get(place).is_none_or(|owner| owner == id));
    }
    assigned
}

/// A partition to move from one member to another that has at least two fewer.
fn uneven(
    assigned: &Assigned,
    reads: &impl Fn(&MemberId, &Place) -> bool,
) -> Option<(MemberId, Place, MemberId)> {
    let mut best: Option<(usize, MemberId, Place, MemberId)> = None;
    for (from, given) in assigned {
        for (to, others) in assigned {
            let difference = given.len().saturating_sub(others.len());
            if difference < 2 || best.as_ref().is_some_and(|(most, ..)| *most >= difference) {
                continue;
            }
            if let Some(place) = given.iter().rev().find(|place| reads(to, place)) {
                best = Some((difference, *from, place.clone(), *to));
            }
        }
    }
    best.map(|(_, from, place, to)| (from, place, to))
}

fn give(assigned: &mut Assigned, to: Option<MemberId>, place: &Place) {
    if let Some(to) = to {
        assigned.entry(to).or_default().insert(place.clone());
    }
}

fn empty(members: &Members) -> Assigned {
    members.keys().map(|id| (*id, BTreeSet::new())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::embedded::partition::Partition;

    fn topics(counts: &[(&str, usize)]) -> BTreeMap<String, Vec<Place>> {
        let topic =
            |name: &str, count| Topic::new(name, false, (0..count).map(|_| Partition::default()).collect());
        places(&counts.iter().map(|(name, count)| ((*name).to_owned(), topic(name, *count))).collect())
    }

    fn numbers(assigned: &Assigned) -> Vec<Vec<i32>> {
        assigned.values().map(|given| given.iter().map(|(_, number)| *number).collect()).collect()
    }

    fn owning(topic: &str, numbers: &[i32]) -> Member {
        Member::reading(&[topic], numbers.iter().map(|number| (topic.into(), *number)).collect())
    }

    #[test]
    fn ranges_are_even_and_only_for_readers() {
        let members = (1..=3).map(|id| (id, owning("a", &[]))).collect();
        assert_eq!(
            numbers(&range(&topics(&[("a", 7), ("b", 2)]), &members)),
            [vec![0, 1, 2], vec![3, 4], vec![5, 6]]
        );
    }

    #[test]
    fn a_move_takes_two_steps_and_nothing_else_moves() {
        let topics = topics(&[("a", 4)]);
        let mut members: Members = [(1, owning("a", &[0, 1, 2, 3])), (2, owning("a", &[]))].into();
        assert_eq!(numbers(&sticky(&topics, &members)), [vec![0, 1], vec![]]);
        members.insert(1, owning("a", &[0, 1]));
        assert_eq!(numbers(&sticky(&topics, &members)), [vec![0, 1], vec![2, 3]]);
        members.insert(2, owning("a", &[2, 3]));
        assert_eq!(numbers(&sticky(&topics, &members)), [vec![0, 1], vec![2, 3]]);
        members.remove(&1);
        assert_eq!(numbers(&sticky(&topics, &members)), [vec![0, 1, 2, 3]]);
    }

    #[test]
    fn more_members_than_partitions_leave_some_empty() {
        let members: Members = (1..=3).map(|id| (id, owning("a", &[]))).collect();
        assert_eq!(numbers(&sticky(&topics(&[("a", 2)]), &members)), [vec![0], vec![1], vec![]]);
    }
}
