//! The stream against a plain map, with small nodes.

use super::*;
use proptest::prelude::*;
use std::ops::ControlFlow;

type Pairs = Vec<(Vec<u8>, Vec<u8>)>;
type Model = BTreeMap<StreamId, Pairs>;

fn small_nodes() -> Limits {
    Limits { stream_node_entries_max: 5, stream_node_bytes_max: 200, ..Limits::default() }
}

fn owned(entry: Entry<'_>) -> (StreamId, Pairs) {
    let len = entry.fields.len();
    let fields: Vec<_> = entry.fields.map(|(field, value)| (field.to_vec(), value.to_vec())).collect();
    assert_eq!(fields.len(), len);
    (entry.id, fields)
}

/// A stream with entries 1-0 to n-0.
fn numbered(n: u64, limits: &Limits) -> Stream {
    let mut stream = Stream::new();
    for ms in 1..=n {
        assert!(stream.append(StreamId::new(ms, 0), [(&b"field"[..], &b"value"[..])], limits));
    }
    stream
}

fn ids(stream: &Stream) -> Vec<u64> {
    stream.iter().map(|entry| entry.id.ms).collect()
}

#[derive(Clone, Debug)]
enum Op {
    /// Distance from the last id, and fields.
    Append(u64, u64, Pairs),
    /// The n-th entry, or an id that is perhaps not there.
    Delete(usize),
    DeleteId(StreamId),
    Trim(Keep, bool, Option<u64>),
    Range(StreamId, StreamId),
    Clone,
}

fn element() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        any::<i64>().prop_map(|n| n.to_string().into_bytes()),
        (-300..300i64).prop_map(|n| n.to_string().into_bytes()),
        prop::collection::vec(any::<u8>(), 0..12),
        (120..150usize).prop_map(|n| vec![b'x'; n]),
    ]
}

fn fields() -> impl Strategy<Value = Pairs> {
    prop_oneof![
        (element(), element()).prop_map(|(a, b)| vec![(b"temperature".to_vec(), a), (b"7".to_vec(), b)]),
        prop::collection::vec((element(), element()), 1..4),
    ]
}

fn id() -> impl Strategy<Value = StreamId> {
    prop_oneof![
        5 => (0..60u64, 0..5u64).prop_map(|(ms, seq)| StreamId { ms, seq }),
        1 => Just(StreamId::MAX),
        1 => Just(StreamId::MIN),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let keep = prop_oneof![(0..40u64).prop_map(Keep::MaxLen), id().prop_map(Keep::MinId)];
    prop_oneof![
        12 => (0..3u64, 0..4u64, fields()).prop_map(|(ms, seq, fields)| Op::Append(ms, seq, fields)),
        1 => (any::<u64>(), any::<u64>(), fields()).prop_map(|(ms, seq, fields)| Op::Append(ms >> 12, seq, fields)),
        4 => (0..50usize).prop_map(Op::Delete),
        1 => id().prop_map(Op::DeleteId),
        1 => (keep, any::<bool>(), prop::option::of(0..20u64))
            .prop_map(|(keep, approximate, limit)| Op::Trim(keep, approximate, limit.filter(|_| approximate))),
        3 => (id(), id()).prop_map(|(start, end)| Op::Range(start, end)),
        1 => Just(Op::Clone),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn entries_behave_as_the_model(ops in prop::collection::vec(op(), 0..200)) {
        let limits = small_nodes();
        let (mut stream, mut model) = (Stream::new(), Model::new());
        let (mut last, mut added, mut max_deleted) = (StreamId::MIN, 0, StreamId::MIN);
        for op in ops {
            match op {
                Op::Append(ms, seq, fields) => {
                    let id = match ms {
                        0 => StreamId { ms: last.ms, seq: last.seq.saturating_add(seq) },
                        _ => StreamId { ms: last.ms.saturating_add(ms), seq },
                    };
                    let pairs = fields.iter().map(|(field, value)| (field.as_slice(), value.as_slice()));
                    prop_assert_eq!(stream.append(id, pairs, &limits), id > last);
                    if id > last {
                        last = id;
                        added += 1;
                        model.insert(id, fields);
                    }
                }
                Op::Delete(at) => {
                    if let Some(&id) = model.keys().nth(at) {
                        prop_assert!(stream.get(id).is_some());
                        prop_assert!(stream.delete(id));
                        model.remove(&id);
                        max_deleted = max_deleted.max(id);
                    }
                }
                Op::DeleteId(id) => {
                    let known = model.remove(&id).is_some();
                    prop_assert_eq!(stream.delete(id), known);
                    max_deleted = if known { max_deleted.max(id) } else { max_deleted };
                }
                Op::Trim(keep, approximate, limit) => {
                    let excess = match keep {
                        Keep::MaxLen(max) => model.len().saturating_sub(max as usize),
                        Keep::MinId(min) => model.range(..min).count(),
                    };
                    let removed = stream.trim(&Trim { keep, approximate, limit, references: References::Keep }).count as usize;
                    if approximate {
                        let limit = limit.map_or(usize::MAX, |limit| limit as usize);
                        prop_assert!(removed <= excess.min(limit));
                        // What stays too much is less than a node.
                        prop_assert!(removed + 5 > excess.min(limit));
                    } else {
                        prop_assert_eq!(removed, excess);
                    }
                    for _ in 0..removed {
                        model.pop_first();
                    }
                }
                Op::Range(start, end) => {
                    let want: Vec<_> = if start <= end {
                        model.range(start..=end).map(|(id, fields)| (*id, fields.clone())).collect()
                    } else {
                        Vec::new()
                    };
                    prop_assert_eq!(&stream.range(start, end, false).map(owned).collect::<Vec<_>>(), &want);
                    let mut back: Vec<_> = stream.range(start, end, true).map(owned).collect();
                    back.reverse();
                    prop_assert_eq!(back, want);
                }
                Op::Clone => stream = stream.clone(),
            }
            prop_assert_eq!(stream.len(), model.len() as u64);
            prop_assert_eq!(stream.is_empty(), model.is_empty());
            prop_assert_eq!(stream.first_id(), model.keys().next().copied().unwrap_or_default());
            prop_assert_eq!((stream.last_id(), stream.entries_added()), (last, added));
            prop_assert_eq!(stream.max_deleted_id(), max_deleted);
        }
        let all: Vec<_> = model.into_iter().collect();
        prop_assert_eq!(stream.iter().map(owned).collect::<Vec<_>>(), all);
        prop_assert!(stream.node_count() as u64 <= stream.len());
        prop_assert!(stream.nodes.iter().all(|(_, node)| !node.is_empty()));
        while !stream.free_some(7) {}
        prop_assert!(stream.is_empty());
    }

    #[test]
    fn groups_behave_as_the_model(
        ops in prop::collection::vec((0..7u8, 0..3usize, 0..30u64, 1..6usize, any::<bool>(), 0..4i64), 0..150)
    ) {
        let limits = small_nodes();
        let names: [&[u8]; 3] = [b"alice", b"bob", b"carol"];
        let mut stream = Stream::new();
        stream.create_group(b"g", StreamId::MIN, Some(0));
        let mut entries = std::collections::BTreeSet::new();
        // id -> consumer, time, count
        let mut pending: BTreeMap<u64, (usize, i64, u64)> = BTreeMap::new();
        let mut exists = [false; 3];
        let (mut next, mut delivered, mut now) = (1, 0, 100);
        for (op, who, ms, count, flag, wait) in ops {
            now += wait;
            let consumer = names[who];
            let id = StreamId::new(ms, 0);
            let actor = Actor { group: b"g", consumer, now };
            match op {
                0 => {
                    for _ in 0..count {
                        prop_assert!(stream.append(StreamId::new(next, 0), [(&b"f"[..], &b"v"[..])], &limits));
                        entries.insert(next);
                        next += 1;
                    }
                }
                1 => {
                    prop_assert_eq!(stream.delete(id), entries.remove(&ms));
                }
                2 => {
                    stream.group_mut(b"g").unwrap().touch_consumer(consumer, now);
                    exists[who] = true;
                    let mut got = Vec::new();
                    let read = stream.read_new(&actor, count, flag, |entry| {
                        got.push(entry.id.ms);
                        ControlFlow::Continue(())
                    });
                    let want: Vec<u64> = entries.range(delivered + 1..).take(count).copied().collect();
                    prop_assert_eq!(&got, &want);
                    prop_assert_eq!(read, want.len());
                    for ms in want {
                        delivered = ms;
                        if !flag {
                            pending.insert(ms, (who, now, 1));
                        }
                    }
                    let active = stream.group(b"g").unwrap().consumer(consumer).unwrap().active_time;
                    prop_assert!(read == 0 || flag || active == Some(now));
                }
                3 => {
                    let mut got = Vec::new();
                    stream.read_pending(&actor, id, count, |id, entry| {
                        got.push((id.ms, entry.is_some()));
                        ControlFlow::Continue(())
                    });
                    let mut want = Vec::new();
                    for (&pending_ms, entry) in pending.range_mut(ms + 1..).filter(|(_, p)| p.0 == who).take(count) {
                        let there = entries.contains(&pending_ms);
                        if there {
                            (entry.1, entry.2) = (now, entry.2 + 1);
                        }
                        want.push((pending_ms, there));
                    }
                    prop_assert_eq!(got, want);
                }
                4 => {
                    prop_assert_eq!(stream.group_mut(b"g").unwrap().ack(id), pending.remove(&ms).is_some());
                }
                5 => {
                    stream.group_mut(b"g").unwrap().touch_consumer(consumer, now);
                    exists[who] = true;
                    let claim = Claim { min_idle: wait, delivery_time: now - 1, delivery_count: None, force: flag, just_id: count > 3 };
                    if count % 2 == 0 {
                        let result = stream.claim(&actor, id, &claim);
                        let idle = pending.get(&ms).is_none_or(|p| now - p.1 >= wait);
                        let known = pending.contains_key(&ms);
                        match result {
                            Claimed::Yes(entry) => {
                                prop_assert!(entry.id == id && entries.contains(&ms) && idle && (known || flag));
                                let deliveries = pending.get(&ms).map_or(1, |p| p.2) + u64::from(count <= 3);
                                pending.insert(ms, (who, now - 1, deliveries));
                            }
                            Claimed::Deleted => {
                                prop_assert!(!entries.contains(&ms));
                                prop_assert!(pending.remove(&ms).is_some());
                            }
                            Claimed::No if entries.contains(&ms) => prop_assert!(!idle || !(known || flag)),
                            Claimed::No => prop_assert!(!known),
                        }
                    } else {
                        let claim = Claim { force: false, ..claim };
                        let mut got = Vec::new();
                        let cursor = stream.autoclaim(&actor, id, count, &claim, |id, entry| got.push((id.ms, entry.is_some())));
                        let mut want = Vec::new();
                        let mut resume = 0;
                        for (looked_at, ms) in pending.range(ms..).map(|(ms, _)| *ms).collect::<Vec<_>>().into_iter().enumerate() {
                            if want.len() == count || looked_at == count * 10 {
                                resume = ms;
                                break;
                            }
                            let entry = pending.get_mut(&ms).unwrap();
                            if !entries.contains(&ms) {
                                pending.remove(&ms);
                                want.push((ms, false));
                            } else if now - entry.1 >= wait {
                                *entry = (who, now - 1, entry.2 + u64::from(count <= 3));
                                want.push((ms, true));
                            }
                        }
                        prop_assert_eq!(got, want);
                        prop_assert_eq!(cursor.ms, resume);
                    }
                }
                _ => {
                    let mine = pending.values().filter(|p| p.0 == who).count();
                    let deleted = stream.group_mut(b"g").unwrap().delete_consumer(consumer);
                    prop_assert_eq!(deleted, exists[who].then_some(mine));
                    exists[who] = false;
                    pending.retain(|_, p| p.0 != who);
                }
            }
            let group = stream.group(b"g").unwrap();
            prop_assert_eq!(group.last_delivered().ms, delivered);
            prop_assert_eq!(group.pending_len(), pending.len());
            let got: Vec<_> = group.pending_range(StreamId::MIN, StreamId::MAX).collect();
            for ((id, p), (want_ms, want)) in got.iter().zip(&pending) {
                prop_assert_eq!(id.ms, *want_ms);
                prop_assert_eq!((p.consumer(), p.delivery_time, p.delivery_count), (names[want.0], want.1, want.2));
            }
            for (i, name) in names.iter().enumerate() {
                let mine: Vec<u64> = pending.iter().filter(|(_, p)| p.0 == i).map(|(ms, _)| *ms).collect();
                let of: Vec<u64> = group.pending_range_of(name, StreamId::MIN, StreamId::MAX).map(|(id, _)| id.ms).collect();
                prop_assert_eq!(&of, &mine);
                let direct = group.consumer(name).map(|c| c.pending().map(|id| id.ms).collect::<Vec<_>>());
                prop_assert_eq!(direct, exists[i].then_some(mine));
            }
        }
        prop_assert!(stream.memory_bytes() > 0);
        while !stream.free_some(3) {}
        prop_assert!(stream.groups().len() == 0 && stream.is_empty());
    }
}

#[test]
fn ids_follow_each_other() {
    let id = StreamId::new;
    assert_eq!(id(1, 2).next(), Some(id(1, 3)));
    assert_eq!(id(1, u64::MAX).next(), Some(id(2, 0)));
    assert_eq!(StreamId::MAX.next(), None);
    assert_eq!(id(2, 0).previous(), Some(id(1, u64::MAX)));
    assert_eq!(id(2, 5).previous(), Some(id(2, 4)));
    assert_eq!(StreamId::MIN.previous(), None);
    assert_eq!(id(15, 3).to_string(), "15-3");
}

#[test]
fn nodes_end_at_the_limits() {
    let by_entries = Limits { stream_node_entries_max: 10, stream_node_bytes_max: 0, ..Limits::default() };
    assert_eq!(numbered(100, &by_entries).node_count(), 10);
    let by_bytes = Limits { stream_node_entries_max: 0, stream_node_bytes_max: 60, ..Limits::default() };
    let nodes = numbered(100, &by_bytes).node_count();
    assert!((10..=30).contains(&nodes), "{nodes}");
    let unlimited = Limits { stream_node_entries_max: 0, stream_node_bytes_max: 0, ..Limits::default() };
    assert_eq!(numbered(1000, &unlimited).node_count(), 1);
}

#[test]
fn shared_names_and_near_ids_are_cheap() {
    let stream = numbered(100_000, &Limits::default());
    let bytes = stream.memory_bytes() as f64 / 100_000.0;
    assert!(bytes < 13.0, "{bytes} bytes for an entry with a five-byte value");
}

#[test]
fn approximate_trimming_takes_whole_nodes() {
    let limits = Limits { stream_node_entries_max: 10, ..Limits::default() };
    let trim = |keep, limit| {
        let mut stream = numbered(100, &limits);
        let removed = stream.trim(&Trim { keep, approximate: true, limit, references: References::Keep }).count;
        assert_eq!(ids(&stream), (removed + 1..=100).collect::<Vec<_>>());
        removed
    };
    assert_eq!(trim(Keep::MaxLen(55), None), 40);
    assert_eq!(trim(Keep::MaxLen(50), None), 50);
    assert_eq!(trim(Keep::MaxLen(0), Some(30)), 30);
    assert_eq!(trim(Keep::MaxLen(0), Some(35)), 30);
    assert_eq!(trim(Keep::MinId(StreamId::new(31, 0)), None), 30);
    assert_eq!(trim(Keep::MinId(StreamId::new(30, 1)), None), 30);
    assert_eq!(trim(Keep::MinId(StreamId::new(30, 0)), None), 20);
}

/// Rules compared with Valkey 9 over a thousand random sequences; where entries were trimmed ahead of a group or none are
/// left, newest Redis knows the lag better.
#[test]
fn groups_know_how_far_they_are() {
    let limits = Limits::default();
    let actor = Actor { group: b"g", consumer: b"c", now: 0 };
    let trim = |stream: &mut Stream, len| {
        stream.trim(&Trim { keep: Keep::MaxLen(len), approximate: false, limit: None, references: References::Keep });
    };
    let state = |stream: &Stream| {
        let group = stream.group(b"g").unwrap();
        (group.last_delivered().ms, group.entries_read(), stream.lag(group))
    };
    let fresh = |n, entries_read| {
        let mut stream = numbered(n, &limits);
        assert!(stream.create_group(b"g", StreamId::MIN, entries_read));
        assert!(!stream.create_group(b"g", StreamId::MIN, entries_read));
        stream.group_mut(b"g").unwrap().create_consumer(b"c", 0);
        stream
    };
    assert_eq!(state(&fresh(0, Some(0))), (0, Some(0), Some(0)));
    assert_eq!(state(&fresh(5, None)), (0, None, Some(5)));

    let mut stream = fresh(5, Some(0));
    stream.read_new(&actor, 2, false, |_| ControlFlow::Continue(()));
    assert_eq!(state(&stream), (2, Some(2), Some(3)));
    // A hole ahead: nobody knows; behind the group: known again at the end.
    stream.delete(StreamId::new(4, 0));
    assert_eq!(state(&stream), (2, Some(2), None));
    stream.read_new(&actor, 1, false, |_| ControlFlow::Continue(()));
    assert_eq!(state(&stream), (3, None, None));
    stream.read_new(&actor, 9, false, |_| ControlFlow::Continue(()));
    assert_eq!(state(&stream), (5, Some(5), Some(0)));

    let mut stream = fresh(5, Some(0));
    stream.read_new(&actor, 1, false, |_| ControlFlow::Continue(()));
    trim(&mut stream, 2);
    assert_eq!(state(&stream), (1, Some(1), Some(2)));
    stream.read_new(&actor, 1, false, |_| ControlFlow::Continue(()));
    assert_eq!(state(&stream), (4, Some(4), Some(1)));
    trim(&mut stream, 0);
    assert_eq!(state(&stream), (4, Some(4), Some(0)));

    let mut stream = fresh(1, Some(0));
    stream.group_mut(b"g").unwrap().set_position(StreamId::new(1, 0), Some(2));
    assert_eq!(state(&stream), (1, Some(2), Some(-1)));
    assert!(stream.destroy_group(b"g") && !stream.destroy_group(b"g"));
}

#[test]
fn text_is_what_display_says() {
    for (ms, seq) in [(0, 0), (1, 10), (1_700_000_000_000, 7), (u64::MAX, u64::MAX)] {
        let id = StreamId::new(ms, seq);
        assert_eq!(id.text().as_slice(), id.to_string().as_bytes());
        assert!(!id.text().spilled());
    }
}
