use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::fmt::Debug;
use std::io;
use std::sync::Arc;

use slab::Slab;

use super::*;
use crate::accounts::{Accounts, Resource};
use crate::op::Now;

fn state_of(value: &impl Saved) -> Vec<u8> {
    let mut state = Vec::new();
    let mut to = Saver::new(&mut state);
    value.save(&mut to);
    assert!(to.finish().unwrap().is_empty());
    state
}

fn given() -> Given {
    let accounts = Arc::new(Accounts::unshared(1000));
    Given { accounts, journal: None, memories: Vec::new(), longest_table: 10, now: Now::default() }
}

fn restored<T: Saved>(state: &[u8]) -> Option<T> {
    let mut from = Restorer::new(state).ok()?;
    from.give(given());
    T::restore(&mut from).filter(|_| from.is_at_end())
}

#[track_caller]
fn comes_back<T: Saved + PartialEq + Debug>(value: T) {
    let state = state_of(&value);
    assert_eq!(restored::<T>(&state), Some(value));
    // A part of it has no checksum, and with one it is not enough.
    for length in 4..state.len() - 4 {
        assert_eq!(restored::<T>(&state[..length]), None);
        let sum = crc32c::crc32c(&state[..length]);
        assert_eq!(restored::<T>(&[&state[..length], &sum.to_le_bytes()].concat()), None, "{length} bytes");
    }
}

#[test]
fn values_come_back() {
    comes_back((0_u16, u32::MAX, u64::MAX));
    comes_back(vec![Some(true), None, Some(false)]);
    comes_back((Box::<str>::from("text"), Box::<[u8]>::from(*b"bytes"), vec![0_u8, 255]));
    comes_back(VecDeque::from([(1_u64, 2_usize)]));
    comes_back(BTreeMap::from([(1_u64, BTreeSet::from([2_u64, 3]))]));
    comes_back(HashMap::<u64, u64>::from([(1, 2), (3, 4), (5, 6)]));
    comes_back([7_u64, 8]);
    comes_back(Box::new(Arc::<[u8]>::from(*b"shared")));
}

#[test]
fn what_is_in_a_slab_keeps_its_place_unless_that_is_too_far() {
    let mut slab: Slab<u64> = (0..11).map(|n| (n, n as u64)).collect();
    slab.remove(0);
    assert!(restored::<Slab<u64>>(&state_of(&slab)).is_none());
    slab.remove(10);
    let again: Slab<u64> = restored(&state_of(&slab)).unwrap();
    assert!(again.iter().eq(slab.iter()));
}

#[test]
fn what_several_share_is_saved_once_and_shared_again() {
    let bytes: Arc<[u8]> = Arc::from(vec![1; 1000]);
    let (one, other) = (Arc::new(5_u64), Arc::new(5_u64));
    let values = (vec![Arc::clone(&bytes), bytes], vec![Arc::clone(&one), other, one]);
    let state = state_of(&values);
    assert!(state.len() < 1100, "{} bytes", state.len());
    let (bytes, numbers): (Vec<Arc<[u8]>>, Vec<Arc<u64>>) = restored(&state).unwrap();
    assert!(Arc::ptr_eq(&bytes[0], &bytes[1]));
    assert!(Arc::ptr_eq(&numbers[0], &numbers[2]) && !Arc::ptr_eq(&numbers[0], &numbers[1]));
}

#[test]
fn charges_are_entered_again() {
    let accounts = Accounts::unshared(1000);
    let charge = accounts.of(7).charge(Resource::Memory, 600).unwrap();
    let state = state_of(&charge);
    let given = given();
    let entered = Arc::clone(&given.accounts);
    let mut from = Restorer::new(&state).unwrap();
    from.give(given);
    let again = crate::accounts::Charge::restore(&mut from).unwrap();
    assert_eq!((again.amount(), again.account().uid()), (600, 7));
    assert_eq!((entered.used(Resource::Memory), entered.used(Resource::Waiting)), (600, 0));
    drop(again);
    assert_eq!(entered.used(Resource::Memory), 0);
}

#[test]
fn a_damaged_byte_is_noticed() {
    let state = state_of(&vec![1_u64, 2, 3]);
    for at in 4..state.len() {
        let mut damaged = state.clone();
        damaged[at] ^= 4;
        assert_eq!(Restorer::new(&damaged).err(), Some(Unfit::Damaged), "byte {at}");
    }
}

#[test]
fn a_count_takes_no_memory_before_what_it_counts() {
    let mut state = VERSION.to_le_bytes().to_vec();
    state.extend_from_slice(&[255, 255, 255, 255, 255, 255, 255, 255, 127, 1, 2]);
    let checksum = crc32c::crc32c(&state);
    state.extend_from_slice(&checksum.to_le_bytes());
    assert!(restored::<Vec<u64>>(&state).is_none());
    assert!(restored::<Arc<[u8]>>(&state).is_none());
    assert!(restored::<HashMap<u64, u64>>(&state).is_none());
}

/// A type that has got a field.
#[derive(Debug, PartialEq)]
struct Grown {
    old: u64,
    new: Vec<u64>,
    last: u64,
}

saved!(struct Grown { old, new since 2, last });

#[test]
fn a_field_that_came_later_has_its_default_in_an_older_state() {
    let older = Grown::restore(&mut Restorer::of(&[5, 6], 1)).unwrap();
    assert_eq!(older, Grown { old: 5, new: Vec::new(), last: 6 });
    let newer = Grown::restore(&mut Restorer::of(&[5, 1, 9, 6], 2)).unwrap();
    assert_eq!(newer, Grown { old: 5, new: vec![9], last: 6 });
}

#[test]
fn an_error_of_the_sink_is_the_result() {
    struct Full;
    impl io::Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut full = Full;
    let mut to = Saver::new(&mut full);
    vec![0_u8; 3 << 20].save(&mut to);
    assert_eq!(to.finish().unwrap_err().kind(), io::ErrorKind::StorageFull);
}
