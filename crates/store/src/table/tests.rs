//! The hash table against a plain map, while it grows and shrinks.

use super::*;
use proptest::prelude::*;
use std::collections::{HashMap, HashSet};

/// An item of which a test chooses the hash; counts how many of it live.
struct Cell {
    hash: u64,
    key: Vec<u8>,
    value: u64,
    _live: std::rc::Rc<()>,
}

impl Cell {
    fn new(hash: u64, key: u64, value: u64, live: &std::rc::Rc<()>) -> Box<Cell> {
        Box::new(Cell { hash, key: key.to_le_bytes().to_vec(), value, _live: live.clone() })
    }
}

// SAFETY: a Box's address is that of its content, which stays until the box is made again.
unsafe impl Item for Box<Cell> {
    type Ref<'a> = &'a Cell;

    fn into_raw(self) -> NonNull<u8> {
        NonNull::from(Box::leak(self)).cast()
    }
    unsafe fn from_raw(p: NonNull<u8>) -> Self {
        // SAFETY: the caller's promise.
        unsafe { Box::from_raw(p.cast().as_ptr()) }
    }
    unsafe fn borrow<'a>(p: NonNull<u8>) -> &'a Cell {
        // SAFETY: the caller's promise.
        unsafe { p.cast().as_ref() }
    }
    unsafe fn key<'a>(p: NonNull<u8>) -> &'a [u8] {
        // SAFETY: the caller's promise.
        unsafe { &p.cast::<Cell>().as_ref().key }
    }
    unsafe fn hash(p: NonNull<u8>) -> u64 {
        // SAFETY: the caller's promise.
        unsafe { p.cast::<Cell>().as_ref().hash }
    }
}

/// How a test's keys are hashed.
#[derive(Clone, Copy, Debug)]
enum Hashes {
    Good,
    FewBuckets,
    EqualTags,
    AllEqual,
}

impl Hashes {
    fn of(self, key: u64) -> u64 {
        let good = splitmix(&mut key.clone());
        match self {
            Hashes::Good => good,
            Hashes::FewBuckets => good & 7 << 13 | good << 40,
            Hashes::EqualTags => good & 0xffff,
            Hashes::AllEqual => 42,
        }
    }
}

fn hashes() -> impl Strategy<Value = Hashes> {
    prop::sample::select(vec![Hashes::Good, Hashes::FewBuckets, Hashes::EqualTags, Hashes::AllEqual])
}

/// Checks every invariant that the module's page states.
fn check(table: &Table<Box<Cell>>) {
    let buckets = table.buckets as usize;
    assert_eq!(buckets == 0, table.len == 0);
    let (mut len, mut overflow) = (0, 0);
    for bucket in 0..buckets {
        let mut chunk = table.bucket(bucket);
        let mut room = SLOTS;
        loop {
            assert!(chunk.count() <= room);
            match chunk.link() {
                0 => break,
                link => {
                    assert_eq!(chunk.count(), LINK_SLOT);
                    room = if link == LINK_HALF { HALF_SLOTS } else { SLOTS };
                    overflow += if link == LINK_HALF { 1 } else { 2 };
                    chunk = chunk.next().unwrap();
                    assert!(chunk.count() > 0);
                }
            }
        }
        for place in table.chain(bucket) {
            // SAFETY: the table is borrowed.
            let cell = unsafe { <Box<Cell>>::borrow(place.item()) };
            let (home, level) = locate(cell.hash, buckets);
            assert_eq!(home, bucket);
            assert_eq!(place.chunk.tag(place.slot), tag_of(cell.hash));
            assert_eq!(stored_in(place.chunk.slot(place.slot)), stored_of(cell.hash, level));
            len += 1;
        }
    }
    assert_eq!((len, overflow), (table.len, table.overflow));
}

#[test]
fn an_array_has_room_and_not_much_more() {
    for buckets in 1..=ARRAY_BUCKETS {
        let room = array_layout(buckets).size() / 64;
        assert!((buckets..=buckets + buckets / 4).contains(&room), "{buckets} buckets, room for {room}");
    }
    assert_eq!(array_layout(ARRAY_BUCKETS).size(), ARRAY_BUCKETS * 64);
}

#[test]
fn short_and_long_keys_are_compared_whole() {
    let text: Vec<u8> = (0..100).collect();
    for len in 0..=text.len() {
        let key = &text[..len];
        assert!(same_bytes(key, &text.clone()[..len]));
        for changed in 0..len {
            let mut other = key.to_vec();
            other[changed] ^= 1;
            assert!(!same_bytes(key, &other), "byte {changed} of {len}");
        }
        assert!(!same_bytes(key, &text[..len.saturating_sub(1)]) || len == 0);
    }
}

#[test]
fn a_table_that_was_given_room_is_as_any_other() {
    const ITEMS: u64 = 600;
    let live = std::rc::Rc::new(());
    let hash = |n: u64| Hashes::Good.of(n);
    for room in [0, 5, 13, 14, 100, 600, 1000, usize::MAX] {
        let mut table = Table::new();
        table.reserve(room);
        let reserved = table.buckets;
        assert!(reserved as usize <= ARRAY_BUCKETS);
        assert!(table.is_empty() && table.iter().next().is_none() && table.random(1).is_none());
        for n in 0..ITEMS {
            table.insert(hash(n), Cell::new(hash(n), n, n, &live));
            check(&table);
        }
        assert!(room < ITEMS as usize || reserved as usize == ARRAY_BUCKETS || table.buckets == reserved);
        table.reserve(10_000);
        for n in 0..ITEMS {
            assert!(table.remove(hash(n), &n.to_le_bytes()).is_some());
            check(&table);
        }
    }
    let mut table: Table<Box<Cell>> = Table::new();
    table.reserve(100);
    assert!(table.pop_any().is_none());
    assert_eq!(std::rc::Rc::strong_count(&live), 1);
}

#[test]
fn small_tables_are_small() {
    let live = std::rc::Rc::new(());
    let mut table = Table::new();
    assert_eq!(table.memory_bytes(), 0);
    for key in 0..7 {
        table.insert(Hashes::Good.of(key), Cell::new(Hashes::Good.of(key), key, 0, &live));
        assert_eq!(table.memory_bytes(), 64);
    }
    for key in 0..7u64 {
        assert!(table.remove(Hashes::Good.of(key), &key.to_le_bytes()).is_some());
    }
    assert_eq!(table.memory_bytes(), 0);
}

/// Over the step at which the stored bits are renewed, and back.
#[test]
#[cfg_attr(miri, ignore = "too long")]
fn grows_and_shrinks_over_65536_buckets() {
    const KEYS: u64 = 600_000;
    let live = std::rc::Rc::new(());
    let mut table = Table::new();
    for key in 0..KEYS {
        let hash = Hashes::Good.of(key);
        table.insert(hash, Cell::new(hash, key, key, &live));
    }
    assert!(table.buckets > 1 << STORED_BITS);
    check(&table);
    for key in 0..KEYS {
        assert_eq!(table.get(Hashes::Good.of(key), &key.to_le_bytes()).unwrap().value, key);
    }
    for key in 1000..KEYS {
        assert!(table.remove(Hashes::Good.of(key), &key.to_le_bytes()).is_some());
        if key % 100_000 == 0 {
            check(&table);
        }
    }
    check(&table);
    assert_eq!(std::rc::Rc::strong_count(&live), 1001);
    let mut left: Vec<u64> = table.iter().map(|cell| cell.value).collect();
    left.sort_unstable();
    assert!(left.into_iter().eq(0..1000));
    let mut popped = 0;
    while table.pop_any().is_some() {
        popped += 1;
    }
    assert_eq!((popped, table.memory_bytes()), (1000, 0));
}

/// In a table in the middle of a round of splits: half of its buckets have twice the items of the others.
#[test]
fn random_is_near_uniform() {
    let live = std::rc::Rc::new(());
    const KEYS: u64 = 620;
    let draws = if cfg!(miri) { 2_000 } else { KEYS * 1000 };
    let mut table = Table::new();
    for key in 0..KEYS {
        let hash = Hashes::Good.of(key);
        table.insert(hash, Cell::new(hash, key, key, &live));
    }
    assert!((90..100).contains(&table.buckets), "{}", table.buckets);
    let mut counts = [0u32; KEYS as usize];
    for draw in 0..draws {
        counts[table.random(draw).unwrap().value as usize] += 1;
    }
    if !cfg!(miri) {
        // The standard deviation is 32.
        assert!(counts.iter().all(|count| (800..1200).contains(count)), "{counts:?}");
    }
}

#[test]
fn samples_are_of_all_items_and_none_comes_twice_in_one() {
    let live = std::rc::Rc::new(());
    const KEYS: u64 = 620;
    let mut table = Table::new();
    table.sample(7, |_: &Cell| unreachable!("there is none"));
    for key in 0..KEYS {
        let hash = Hashes::Good.of(key);
        table.insert(hash, Cell::new(hash, key, key, &live));
    }
    let mut counts = [0u32; KEYS as usize];
    for draw in 0..u64::from(table.buckets) {
        let mut seen = Vec::new();
        table.sample(draw, |cell| {
            seen.push(cell.value);
            seen.len() >= 5
        });
        // The last bucket may be one that is not split yet.
        assert!((5..40).contains(&seen.len()), "{seen:?}");
        seen.iter().for_each(|key| counts[*key as usize] += 1);
        seen.sort_unstable();
        assert!(seen.windows(2).all(|pair| pair[0] != pair[1]));
    }
    // Each bucket was the first one once.
    assert!(counts.iter().all(|count| (1..8).contains(count)), "{counts:?}");
    let mut all = 0;
    table.sample(u64::MAX, |_| {
        all += 1;
        false
    });
    assert_eq!(all, KEYS);
}

/// Items left after a drop that panics leak, but none is dropped twice.
#[test]
fn a_panicking_drop_drops_nothing_twice() {
    struct Bomb;
    // SAFETY: a Box's address is that of its content; the key is constant.
    unsafe impl Item for Box<(u64, Bomb)> {
        type Ref<'a> = &'a u64;
        fn into_raw(self) -> NonNull<u8> {
            NonNull::from(Box::leak(self)).cast()
        }
        unsafe fn from_raw(p: NonNull<u8>) -> Self {
            // SAFETY: the caller's promise.
            unsafe { Box::from_raw(p.cast().as_ptr()) }
        }
        unsafe fn borrow<'a>(p: NonNull<u8>) -> &'a u64 {
            // SAFETY: the caller's promise.
            unsafe { &p.cast::<(u64, Bomb)>().as_ref().0 }
        }
        unsafe fn key<'a>(_: NonNull<u8>) -> &'a [u8] {
            b"key"
        }
    }
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("dropped");
        }
    }
    let mut table = Table::new();
    table.insert(1, Box::new((7, Bomb)));
    let cleared = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| table.clear()));
    assert!(cleared.is_err());
    assert!(table.is_empty());
}

#[derive(Clone, Debug)]
enum Op {
    Put(u64),
    Remove(u64),
    RemoveRange(u64, u64),
    Pop,
    Scan,
    Clear,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let key = 0..400u64;
    let op = prop_oneof![
        60 => key.clone().prop_map(Op::Put),
        25 => key.clone().prop_map(Op::Remove),
        1 => (key.clone(), key).prop_map(|(a, b)| Op::RemoveRange(a.min(b), a.max(b))),
        5 => Just(Op::Pop),
        10 => Just(Op::Scan),
        1 => Just(Op::Clear),
    ];
    prop::collection::vec(op, 0..if cfg!(miri) { 100 } else { 1500 })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 4 } else { 64 }, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn behaves_as_a_map(hashes in hashes(), ops in ops()) {
        let live = std::rc::Rc::new(());
        let mut table = Table::new();
        let mut model: HashMap<u64, u64> = HashMap::new();
        for (step, op) in ops.into_iter().enumerate() {
            let step = step as u64;
            match op {
                Op::Put(key) => {
                    let (hash, text) = (hashes.of(key), key.to_le_bytes());
                    let cell = Cell::new(hash, key, step, &live);
                    let old = match table.get_mut(hash, &text) {
                        Some(mut slot) => Some(slot.replace(cell).value),
                        None => {
                            assert_eq!(table.insert(hash, cell).into_ref().value, step);
                            None
                        }
                    };
                    assert_eq!(old, model.insert(key, step));
                }
                Op::Remove(key) => {
                    let got = table.remove(hashes.of(key), &key.to_le_bytes()).map(|cell| cell.value);
                    assert_eq!(got, model.remove(&key));
                }
                Op::RemoveRange(from, to) => for key in from..to {
                    let got = table.find_by_hash_mut(hashes.of(key), |cell| cell.key == key.to_le_bytes());
                    assert_eq!(got.map(|slot| slot.remove().value), model.remove(&key));
                },
                Op::Pop => {
                    let got = table.pop_any();
                    assert_eq!(got.is_some(), !model.is_empty());
                    if let Some(cell) = got {
                        let key = u64::from_le_bytes(cell.key.as_slice().try_into().unwrap());
                        assert_eq!(model.remove(&key), Some(cell.value));
                    }
                }
                Op::Scan => {
                    let picked = table.random(step).map(|cell| cell.value);
                    assert_eq!(picked.is_some(), !model.is_empty());
                    assert!(picked.is_none_or(|value| model.values().any(|v| *v == value)));
                }
                Op::Clear => {
                    table.clear();
                    model.clear();
                }
            }
            assert_eq!(table.len(), model.len());
            assert_eq!(std::rc::Rc::strong_count(&live), 1 + model.len());
        }
        check(&table);
        for key in 0..400u64 {
            let got = table.get(hashes.of(key), &key.to_le_bytes()).map(|cell| cell.value);
            assert_eq!(got, model.get(&key).copied());
            table.prefetch_bucket(hashes.of(key));
            table.hint().prefetch(hashes.of(key));
            let chunks = (0..).take_while(|&links| table.prefetch_item(hashes.of(key), links)).count();
            assert!(chunks < 100 && (got.is_some() || chunks > 0 || table.len() < 400));
        }
        drop(table);
        assert_eq!(std::rc::Rc::strong_count(&live), 1);
    }

    /// Between the calls of one scan the table grows and shrinks; what is there all along is seen.
    #[test]
    fn scan_sees_what_stays(
        hashes in hashes(),
        stay in 0..300u64,
        swings in prop::collection::vec(0..2000u64, 1..20),
        calls in 1..20usize,
    ) {
        let live = std::rc::Rc::new(());
        let mut table = Table::new();
        for key in 0..stay {
            table.insert(hashes.of(key), Cell::new(hashes.of(key), key, key, &live));
        }
        let mut seen = HashSet::new();
        let (mut cursor, mut others, mut turn) = (0, 0, 0);
        loop {
            for _ in 0..calls {
                cursor = table.scan(cursor, &mut |cell| { seen.insert(cell.value); });
                if cursor == 0 {
                    break;
                }
            }
            if cursor == 0 {
                break;
            }
            // After some turns the table stays as it is, so that the scan ends.
            let want = match hashes {
                Hashes::AllEqual => swings[turn % swings.len()] / 10,
                _ => swings[turn % swings.len()],
            };
            if turn < 40 {
                for key in others..want {
                    let key = 1_000_000 + key;
                    table.insert(hashes.of(key), Cell::new(hashes.of(key), key, key, &live));
                }
                for key in want..others {
                    let key = 1_000_000 + key;
                    assert!(table.remove(hashes.of(key), &key.to_le_bytes()).is_some());
                }
                others = want;
            }
            turn += 1;
        }
        assert!((0..stay).all(|key| seen.contains(&key)));
        check(&table);
    }
}
