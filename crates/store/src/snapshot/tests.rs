//! A snapshot equals the state at its instant, whatever happens between its pieces.

use super::*;
use crate::defrag::{self, Mover, Place};
use crate::list::End;
use crate::list::List;
use crate::set::Set;
use crate::shard::shard_of;
use crate::stream::{Stream, StreamId};
use crate::testing::cases;
use crate::txn::{Context, EditExpiry, Env, Ttl, Txn};
use crate::value::ValueRef;
use crate::zset::ZSet;
use crate::{Limits, hash::Hash};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Writes what [`read`] reads: the database in a line, each entry in a line, and each part of a big value in a line behind its
/// head's.
struct Lines;

impl Encoder for Lines {
    fn database(&self, out: &mut Vec<u8>, db: u32) {
        out.extend_from_slice(format!("{db}\n").as_bytes());
    }

    fn entry(&self, out: &mut Vec<u8>, entry: EntryRef<'_>) {
        out.extend_from_slice(format!("{}\n", describe(entry)).as_bytes());
    }

    fn head(&self, out: &mut Vec<u8>, entry: EntryRef<'_>) {
        let count = match entry.value() {
            ValueRef::String(text) => text.len(),
            ValueRef::List(list) => list.chunk_count(),
            ValueRef::Stream(_) => 2,
            ValueRef::Set(set) => set.len(),
            ValueRef::Hash(hash) => hash.len(),
            ValueRef::ZSet(zset) => zset.len(),
        };
        out.extend_from_slice(format!("head {count} {}\n", name(entry)).as_bytes());
    }

    fn element(&self, out: &mut Vec<u8>, element: Element<'_>, soonest: Option<i64>) {
        let items = match element {
            Element::Member(member, _) => format!("{:?}", member.to_vec()),
            Element::Field(field, text, at) => {
                assert!(
                    at.is_none_or(|at| soonest.is_some_and(|soonest| soonest <= at)),
                    "no field is due before the soonest"
                );
                field_text(field, text, at)
            }
            Element::Scored(member, score, _) => format!("{:?}={score}", member.to_vec()),
            Element::Block(block) => {
                block.iter().map(|item| format!("{:?}", item.to_vec())).collect::<Vec<_>>().join(",")
            }
            Element::Bytes(bytes) => format!("{bytes:?}"),
            Element::Text(text) => format!("{:?}", text.to_vec()),
            Element::Length(_) => return,
        };
        out.extend_from_slice(format!("part {items}\n").as_bytes());
    }

    fn times(&self, out: &mut Vec<u8>, times: &[(Box<[u8]>, i64)]) {
        times
            .iter()
            .for_each(|(name, at)| out.extend_from_slice(format!("time {name:?}{}\n", until(Some(*at))).as_bytes()));
    }

    /// In two parts.
    fn stream(&self, out: &mut Vec<u8>, stream: &Stream, from: Option<StreamId>) -> Option<StreamId> {
        let items = items(ValueRef::Stream(stream));
        let (first, second) = items.split_at(items.len() / 2);
        let part = if from.is_none() { first } else { second };
        out.extend_from_slice(format!("part {}\n", part.join(",")).as_bytes());
        from.is_none().then(|| stream.last_id())
    }
}

/// Key, expiry time and type.
fn name(entry: EntryRef<'_>) -> String {
    format!("{:?} {:?} {:?}", entry.key(), entry.expire_at(), entry.kind())
}

/// Key, expiry time and all of the value; members of what is written in no order are sorted.
fn describe(entry: EntryRef<'_>) -> String {
    format!("{} {}", name(entry), items(entry.value()).join(","))
}

fn until(at: Option<i64>) -> String {
    at.map_or(String::new(), |at| format!(" until {at}"))
}

fn field_text(field: Str<'_>, text: Str<'_>, at: Option<i64>) -> String {
    format!("{:?}={:?}{}", field.to_vec(), text.to_vec(), until(at))
}

fn items(value: ValueRef<'_>) -> Vec<String> {
    let mut items: Vec<String> = match value {
        ValueRef::String(text) => vec![format!("{:?}", text.to_vec())],
        ValueRef::List(list) => list.iter().map(|item| format!("{:?}", item.to_vec())).collect(),
        ValueRef::Set(set) => {
            set.iter().map(|item| format!("{:?}{}", item.to_vec(), until(set.expiry(&item.to_vec())))).collect()
        }
        ValueRef::Hash(hash) => hash.iter_with_expiry().map(|(field, text, at)| field_text(field, text, at)).collect(),
        ValueRef::ZSet(zset) => {
            zset.iter().map(|(m, s)| format!("{:?}={s}{}", m.to_vec(), until(zset.expiry(&m.to_vec())))).collect()
        }
        ValueRef::Stream(stream) => stream.rebuild_commands(b"s").into_iter().map(|argv| format!("{argv:?}")).collect(),
    };
    if matches!(value, ValueRef::Set(_) | ValueRef::Hash(_) | ValueRef::ZSet(_)) {
        items.sort();
    }
    items
}

type State = BTreeMap<(u32, String), usize>;

/// What was written, with how often each entry was. Sees to it that all parts of a big value follow its head.
fn read(bytes: &[u8]) -> State {
    let (mut state, mut db) = (State::new(), None);
    // Of the value that comes next: by member, the text that says when it expires.
    let mut times = BTreeMap::new();
    let mut lines = std::str::from_utf8(bytes).expect("text").lines();
    while let Some(line) = lines.next() {
        if let Ok(number) = line.parse::<u32>() {
            db = Some(number);
            continue;
        }
        if let Some((name, at)) = line.strip_prefix("time ").and_then(|time| time.split_once(" until ")) {
            assert!(times.insert(name, at).is_none(), "once for each member");
            continue;
        }
        let mut entry = line.to_string();
        if let Some(head) = line.strip_prefix("head ") {
            let (count, name) = head.split_once(' ').expect("a number");
            let count: usize = count.parse().expect("a number");
            let is = |kind: &str| name.ends_with(kind);
            let mut parts: Vec<String> = Vec::new();
            let mut left = count;
            while left > 0 {
                let part = lines.next().and_then(|line| line.strip_prefix("part ")).expect("a part of the value");
                if is(" String") {
                    let bytes = part.trim_matches(['[', ']']);
                    left -= bytes.split(", ").count();
                    parts.push(bytes.to_string());
                } else {
                    left -= 1;
                    let name = part.split('=').next().expect("a name");
                    let at = times.remove(name).map_or(String::new(), |at| format!(" until {at}"));
                    parts.push(format!("{part}{at}"));
                }
            }
            assert!(times.is_empty(), "only members have times: {times:?}");
            if is("Set") || is("Hash") {
                parts.sort();
            }
            entry = match is(" String") {
                true => format!("{name} [{}]", parts.join(", ")),
                false => format!("{name} {}", parts.join(",")),
            };
        }
        *state.entry((db.expect("a database comes first"), entry)).or_default() += 1;
    }
    state
}

/// What there is.
fn state(guard: &Guard<'_>) -> State {
    let entries = (0..SHARDS).flat_map(|shard| guard.shard(shard).dbs());
    entries.flat_map(|(db, part)| part.table.iter().map(move |entry| ((db, describe(entry)), 1))).collect()
}

const NOW: i64 = 1_790_000_000_000;

#[derive(Clone, Debug)]
enum Op {
    SetString(Vec<u8>, Option<i64>),
    Append(Vec<u8>),
    SetRange(u8, Vec<u8>),
    /// Makes a value of this type with so many elements, unless there is one of another type.
    Fill(u8, u8),
    Push(bool, Vec<u8>),
    Pop(bool, usize),
    Insert(Vec<u8>),
    Field(u8, Vec<u8>),
    RemoveField(u8),
    /// Has some fields expire.
    ExpireFields(u8, u8, Option<i64>),
    Member(u8),
    RemoveMember(u8),
    Score(u8, i8),
    RemoveRanks(u8, u8),
    StreamAdd(Vec<u8>),
    Delete,
    Expire(Option<i64>),
    Rename(u8),
    Move(u32),
    Flush,
    Swap(u32),
    PassTime(i64),
    ExpireDue,
}

/// Whether a transaction notes how it can be undone, and is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Undoing {
    No,
    Possible,
    Done,
}

#[derive(Clone, Debug)]
enum Act {
    /// Operations of one transaction on a database, each on a key.
    Transaction(u32, Vec<(u8, Op)>, Undoing),
    /// So many steps of the snapshot.
    Steps(usize),
    /// One in so many allocations moves, in steps of so many buckets.
    Relocate(usize, usize),
}

fn op() -> impl Strategy<Value = Op> {
    let text = || prop_oneof![prop::collection::vec(any::<u8>(), 0..40), "[0-9]{1,3}".prop_map(String::into_bytes)];
    let ttl = || prop::option::of(-5i64..40);
    prop_oneof![
        4 => (text(), ttl()).prop_map(|(text, ttl)| Op::SetString(text, ttl)),
        2 => text().prop_map(Op::Append),
        2 => (0..120u8, text()).prop_map(|(offset, text)| Op::SetRange(offset, text)),
        4 => (0..6u8, 5..60u8).prop_map(|(kind, count)| Op::Fill(kind, count)),
        3 => (any::<bool>(), text()).prop_map(|(front, text)| Op::Push(front, text)),
        2 => (any::<bool>(), 1..5usize).prop_map(|(front, count)| Op::Pop(front, count)),
        1 => text().prop_map(Op::Insert),
        3 => (any::<u8>(), text()).prop_map(|(field, text)| Op::Field(field, text)),
        2 => any::<u8>().prop_map(Op::RemoveField),
        2 => (any::<u8>(), 1..50u8, ttl()).prop_map(|(first, count, ttl)| Op::ExpireFields(first, count, ttl)),
        3 => any::<u8>().prop_map(Op::Member),
        2 => any::<u8>().prop_map(Op::RemoveMember),
        3 => (any::<u8>(), any::<i8>()).prop_map(|(member, score)| Op::Score(member, score)),
        1 => (0..20u8, 0..20u8).prop_map(|(start, count)| Op::RemoveRanks(start, count)),
        2 => text().prop_map(Op::StreamAdd),
        2 => Just(Op::Delete),
        2 => ttl().prop_map(Op::Expire),
        2 => any::<u8>().prop_map(Op::Rename),
        1 => (0..3u32).prop_map(Op::Move),
        1 => Just(Op::Flush),
        1 => (0..3u32).prop_map(Op::Swap),
        1 => (0..30i64).prop_map(Op::PassTime),
        1 => Just(Op::ExpireDue),
    ]
}

fn act() -> impl Strategy<Value = Act> {
    let ops = prop::collection::vec((any::<u8>(), op()), 1..6);
    let undoing = prop_oneof![3 => Just(Undoing::No), 1 => Just(Undoing::Possible), 1 => Just(Undoing::Done)];
    prop_oneof![
        3 => (0..3u32, ops, undoing).prop_map(|(db, ops, undoing)| Act::Transaction(db, ops, undoing)),
        1 => prop_oneof![1..4usize, 1..300usize].prop_map(Act::Steps),
        1 => (1..4usize, 1..9usize).prop_map(|(one_in, buckets)| Act::Relocate(one_in, buckets)),
    ]
}

/// Small limits, so that collections of a few elements have their big form.
fn env() -> Env {
    let limits = Limits {
        hash_entries_max: 4,
        set_entries_max: 4,
        set_int_entries_max: 4,
        zset_entries_max: 4,
        list_chunk: 3,
        stream_node_entries_max: 3,
        ..Limits::default()
    };
    Env { limits, string_bytes_max: 1 << 20, ..Env::default() }
}

fn fill(txn: &mut Txn<'_>, key: Key, kind: u8, count: u8) {
    for n in 0..count {
        let filled = match kind {
            0 => txn.append(key, &[n; 5]).is_ok(),
            1 => txn.edit_or_new::<List>(key).map(|mut list| list.push(End::Back, &[n])).is_ok(),
            2 => txn.edit_or_new::<Hash>(key).map(|mut hash| hash.set(&[n], &[n, n])).is_ok(),
            3 => txn.edit_or_new::<Set>(key).map(|mut set| set.add(&[n])).is_ok(),
            4 => txn.edit_or_new::<ZSet>(key).map(|mut zset| zset.put(&[n], f64::from(n % 7))).is_ok(),
            _ => {
                let stream = txn.edit_or_new::<Stream>(key);
                stream
                    .map(|mut stream| {
                        let id = StreamId::new(stream.last_id().ms + 1, 0);
                        stream.append(id, &[b"f", &[n]], None, None);
                    })
                    .is_ok()
            }
        };
        if !filled {
            return;
        }
    }
}

fn run(txn: &mut Txn<'_>, now: &mut i64, key: u8, op: &Op, undoing: Undoing) {
    let name = [b'k', key % 24];
    let key = Key::new(&name);
    match op {
        Op::SetString(text, ttl) => {
            let ttl = ttl.map_or(Ttl::Clear, |ttl| Ttl::At(*now + ttl));
            txn.set_string(key, text, ttl);
        }
        Op::Append(text) => _ = txn.append(key, text),
        Op::SetRange(offset, text) => _ = txn.set_range(key, usize::from(*offset), text),
        Op::Fill(kind, count) => fill(txn, key, *kind, *count),
        Op::Push(front, text) => {
            if let Ok(mut list) = txn.edit_or_new::<List>(key) {
                list.push(if *front { End::Front } else { End::Back }, text);
            }
        }
        Op::Pop(front, count) => {
            if let Ok(Some(mut list)) = txn.edit::<List>(key) {
                list.pop_many(if *front { End::Front } else { End::Back }, *count, |_| {});
            }
        }
        Op::Insert(text) => {
            if let Ok(Some(mut list)) = txn.edit::<List>(key)
                && let Some(pivot) = list.iter().nth(list.len() / 2).map(|item| item.to_vec())
            {
                list.insert_beside(&pivot, true, text);
            }
        }
        Op::Field(field, text) => {
            if let Ok(mut hash) = txn.edit_or_new::<Hash>(key) {
                hash.set(&[*field % 40], text);
            }
        }
        Op::RemoveField(field) => {
            if let Ok(Some(mut hash)) = txn.edit::<Hash>(key) {
                hash.remove(&[*field % 40]);
            }
        }
        Op::ExpireFields(first, count, ttl) => {
            let at = ttl.map(|ttl| *now + ttl);
            for field in *first..first.saturating_add(*count) {
                let name = [field % 60];
                if let Ok(Some(mut hash)) = txn.edit::<Hash>(key) {
                    hash.set_expiry(&name, at);
                } else if let Ok(Some(mut set)) = txn.edit::<Set>(key) {
                    set.set_expiry(&name, at);
                } else if let Ok(Some(mut zset)) = txn.edit::<ZSet>(key) {
                    zset.set_expiry(&name, at);
                }
            }
        }
        Op::Member(member) => {
            if let Ok(mut set) = txn.edit_or_new::<Set>(key) {
                set.add((member % 40).to_string().as_bytes());
                set.add(&[*member % 40]);
            }
        }
        Op::RemoveMember(member) => {
            if let Ok(Some(mut set)) = txn.edit::<Set>(key) {
                set.remove(&[*member % 40]);
            }
        }
        Op::Score(member, score) => {
            if let Ok(mut zset) = txn.edit_or_new::<ZSet>(key) {
                zset.put(&[*member % 40], f64::from(*score));
            }
        }
        Op::RemoveRanks(start, count) => {
            if let Ok(Some(mut zset)) = txn.edit::<ZSet>(key) {
                let end = zset.len().min(usize::from(*start) + usize::from(*count));
                zset.remove_ranks(usize::from(*start).min(end), end);
            }
        }
        Op::StreamAdd(text) => {
            if let Ok(mut stream) = txn.edit_or_new::<Stream>(key) {
                let id = StreamId::new(stream.last_id().ms + 1, 0);
                stream.append(id, &[b"f", text], None, None);
            }
        }
        Op::Delete => _ = txn.delete(key),
        Op::Expire(ttl) => _ = txn.set_expiry(key, ttl.map(|ttl| *now + ttl)),
        Op::Rename(to) => {
            let to = [b'k', to % 24];
            if to != name {
                txn.relocate(key, txn.db(), Key::new(&to));
            }
        }
        Op::Move(to) => {
            let from = txn.select(*to);
            let taken = txn.exists(key);
            txn.select(from);
            if !taken {
                txn.relocate(key, *to, key);
            }
        }
        Op::Flush => _ = txn.flush(txn.db()),
        Op::Swap(other) if undoing == Undoing::No => {
            let db = txn.db();
            txn.swap_databases(db, *other);
        }
        Op::Swap(_) => {}
        Op::PassTime(ms) => {
            *now += ms;
            txn.go_on_at(*now);
        }
        Op::ExpireDue => (0..SHARDS).for_each(|shard| _ = txn.expire_due(shard, 4)),
    }
}

struct World {
    keyspace: Keyspace,
    now: i64,
}

impl World {
    fn new() -> World {
        World { keyspace: Keyspace::new(3), now: NOW }
    }

    fn guard(&self) -> Guard<'_> {
        self.keyspace.lock(ShardSet::All).expect("nobody else is there")
    }

    fn transaction(&mut self, db: u32, ops: &[(u8, Op)], undoing: Undoing) {
        let keyspace = &self.keyspace;
        let guard = keyspace.lock(ShardSet::All).expect("nobody else is there");
        let mut now = self.now;
        let mut txn = Txn::new(guard, db, now, Context::new(env(), 1));
        if undoing != Undoing::No {
            txn.keep_undo();
        }
        for (key, op) in ops {
            run(&mut txn, &mut now, *key, op, undoing);
        }
        if undoing == Undoing::Done {
            txn.roll_back();
        }
        drop(txn.finish());
        self.now = now;
    }

    /// Moves one in so many allocations, in steps of so many buckets: nothing else changes.
    fn relocate(&self, one_in: usize, buckets: usize) {
        let mut guard = self.guard();
        let before = state(&guard);
        let is_sparse = |place: std::ptr::NonNull<u8>| (place.addr().get() / 16).is_multiple_of(one_in);
        let mut mover = Mover::new(&is_sparse);
        let has_keys = |guard: &Guard<'_>, shard| guard.shard(shard).dbs().any(|(_, part)| !part.table.is_empty());
        for shard in 0..SHARDS {
            if !has_keys(&guard, shard) {
                continue;
            }
            let mut place = Place::default();
            while !defrag::step(&mut guard, shard, &mut place, &mut mover, buckets) {}
        }
        assert_eq!(mover.keys as usize, before.len(), "the walk comes to each key once");
        assert!(one_in > 1 || mover.moved == mover.looked && mover.keys_moved == mover.keys);
        assert_eq!(state(&guard), before);
    }

    fn begin(&self, entries: usize) -> (Snapshot, State) {
        let mut guard = self.guard();
        let before = state(&guard);
        let snapshot = Snapshot::begin(
            Preparation::new(Arc::new(Lines), Arc::default(), Arc::default()),
            &mut guard,
            Piece { bytes: 200, entries },
        );
        (snapshot, before)
    }
}

/// Runs what is given before, then during a snapshot. What it wrote, and what it should have.
fn play(world: &mut World, acts: &[Act], entries: usize) -> (State, State) {
    let (mut snapshot, before) = world.begin(entries);
    let keys: usize = snapshot.sizes().iter().map(|(keys, _)| keys).sum();
    assert_eq!(keys, before.len());
    let mut out = Vec::new();
    for act in acts {
        match act {
            Act::Transaction(db, ops, undoing) => world.transaction(*db, ops, *undoing),
            Act::Relocate(one_in, buckets) => world.relocate(*one_in, *buckets),
            Act::Steps(count) => (0..*count).for_each(|_| _ = snapshot.step(&world.keyspace, &mut out)),
        }
    }
    while snapshot.step(&world.keyspace, &mut out) != Step::Complete {}
    assert_eq!(snapshot.progress().keys(), before.len());
    let guard = world.guard();
    for (_, part) in (0..SHARDS).flat_map(|shard| guard.shard(shard).dbs()) {
        assert!(part.table.iter().all(|entry| entry.colour() == snapshot.colour), "all keys end up with one colour");
    }
    for shard in 0..SHARDS {
        assert!(guard.shard(shard).saving.is_none(), "nothing of the snapshot is left");
    }
    assert_eq!(snapshot.progress().waiting_bytes(), 0);
    (read(&out), before)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..cases(200) })]

    #[test]
    fn a_snapshot_is_the_state_of_its_instant(
        before in prop::collection::vec((0..3u32, prop::collection::vec((any::<u8>(), op()), 1..20)), 0..12),
        rounds in prop::collection::vec((prop::collection::vec(act(), 0..25), 1..40usize), 1..4),
    ) {
        let mut world = World::new();
        for (db, ops) in &before {
            world.transaction(*db, ops, Undoing::No);
        }
        for (acts, entries) in &rounds {
            let (written, expected) = play(&mut world, acts, *entries);
            prop_assert_eq!(written, expected);
        }
    }
}

#[test]
fn an_abandoned_snapshot_leaves_the_next_one_whole() {
    let mut world = World::new();
    let ops: Vec<(u8, Op)> = (0..24).map(|key| (key, Op::SetString(vec![key], None))).collect();
    world.transaction(0, &ops, Undoing::No);
    let (mut snapshot, _) = world.begin(1);
    let mut out = Vec::new();
    (0..500).for_each(|_| _ = snapshot.step(&world.keyspace, &mut out));
    snapshot.progress().abandon();
    world.transaction(0, &ops, Undoing::No);
    out.clear();
    while snapshot.step(&world.keyspace, &mut out) != Step::Complete {}
    assert!(out.is_empty());
    let (written, expected) = play(&mut world, &[Act::Transaction(0, ops, Undoing::No)], 10);
    assert_eq!(written, expected);
}

#[test]
fn a_busy_shard_is_tried_again() {
    let world = World::new();
    let (mut snapshot, _) = world.begin(10);
    let guard = world.keyspace.lock(ShardSet::One(0)).expect("free");
    assert_eq!(snapshot.step(&world.keyspace, &mut Vec::new()), Step::Busy);
    drop(guard);
    assert_eq!(snapshot.step(&world.keyspace, &mut Vec::new()), Step::Done);
}

#[test]
fn early_images_do_not_gather_in_the_shards() {
    let mut world = World::new();
    let ops: Vec<(u8, Op)> = (0..24).map(|key| (key, Op::SetString(vec![b'x'; 40], None))).collect();
    world.transaction(0, &ops, Undoing::No);
    let (mut snapshot, expected) = world.begin(10);
    world.transaction(0, &[(0, Op::Flush)], Undoing::No);
    world.transaction(0, &ops, Undoing::No);
    assert_eq!(snapshot.progress().waiting_bytes(), 0, "a flushed database is handed over, not copied");
    let mut out = Vec::new();
    while snapshot.step(&world.keyspace, &mut out) != Step::Complete {}
    assert_eq!(read(&out), expected);
    let (mut snapshot, expected) = world.begin(10);
    world.transaction(0, &ops, Undoing::No);
    assert!(snapshot.progress().waiting_bytes() > 24 * 40);
    snapshot.step(&world.keyspace, &mut out);
    assert_eq!(snapshot.progress().waiting_bytes(), 0);
    out.clear();
    // The queue was emptied into the part thrown away: the walk finds nothing more.
    while snapshot.step(&world.keyspace, &mut out) != Step::Complete {}
    assert_eq!((read(&out), expected.len()), (State::new(), 24));
}

/// Buckets merge when a collection shrinks: the walk then meets elements again that it has passed.
#[test]
fn a_big_value_that_shrinks_is_written_once() {
    let name = [b'k', 3];
    let edit = |world: &World, change: &mut dyn FnMut(&mut crate::txn::Edit<'_, '_, Set>)| {
        let mut txn = Txn::new(world.guard(), 0, NOW, Context::new(env(), 1));
        if let Ok(mut set) = txn.edit_or_new::<Set>(Key::new(&name)) {
            change(&mut set);
        }
    };
    for steps in (0..60).map(|n| shard_of(Key::new(&name).hash) + 3 * n) {
        let world = World::new();
        edit(&world, &mut |set| (0..1000).for_each(|n| _ = set.add(format!("m{n}").as_bytes())));
        let (mut snapshot, expected) = world.begin(8);
        let mut out = Vec::new();
        (0..steps).for_each(|_| _ = snapshot.step(&world.keyspace, &mut out));
        edit(&world, &mut |set| (0..700).for_each(|n| _ = set.remove(format!("m{n}").as_bytes())));
        while snapshot.step(&world.keyspace, &mut out) != Step::Complete {}
        assert_eq!(read(&out), expected);
    }
}

/// What a change adds to the backlog is known before it is made.
#[test]
fn who_adds_to_the_backlog_is_known_before() {
    let mut world = World::new();
    let small: Vec<(u8, Op)> = (0..8).map(|key| (key, Op::SetString(vec![b'x'; 30], None))).collect();
    world.transaction(0, &small, Undoing::No);
    world.transaction(0, &[(9, Op::Fill(4, 60)), (10, Op::SetString(vec![b'x'; 100], None))], Undoing::No);
    let (mut snapshot, _) = world.begin(10);
    let adds = |world: &World, key: u8| {
        let txn = Txn::new(world.guard(), 0, NOW, Context::new(env(), 1));
        txn.adds_to_backlog(Key::new(&[b'k', key]))
    };
    assert!((0..=10).filter(|key| *key != 8).all(|key| adds(&world, key)));
    assert!(!adds(&world, 8), "a key that is not there");
    world.transaction(0, &small, Undoing::No);
    assert!((0..8).all(|key| !adds(&world, key)), "what is written already");
    // Its members go one by one; the string went as a whole.
    world.transaction(0, &[(9, Op::Score(1, 5)), (10, Op::SetString(vec![b'y'], None))], Undoing::No);
    assert!(adds(&world, 9) && !adds(&world, 10));
    assert!(snapshot.progress().waiting_bytes() > 100);
    while snapshot.step(&world.keyspace, &mut Vec::new()) != Step::Complete {}
    assert_eq!(snapshot.progress().waiting_bytes(), 0);
}
