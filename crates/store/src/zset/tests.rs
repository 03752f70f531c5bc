//! The sorted set against a sorted vector, with small nodes and limits so that every form and split is met.

use super::*;
use proptest::prelude::*;

fn check(set: &ZSet) {
    if let Form::Tree(tree) = &set.0 {
        tree.check();
    }
}

/// What a sorted set means: pairs in order.
#[derive(Default)]
struct Model(Vec<(Vec<u8>, f64)>);

impl Model {
    fn place(&self, member: &[u8]) -> Option<usize> {
        self.0.iter().position(|(m, _)| m == member)
    }

    fn remove(&mut self, member: &[u8]) -> Option<f64> {
        self.place(member).map(|at| self.0.remove(at).1)
    }

    fn insert(&mut self, member: &[u8], score: f64) -> Option<f64> {
        let old = self.remove(member);
        let at = self.0.partition_point(|(m, s)| (*s, m.as_slice()) < (score, member));
        self.0.insert(at, (member.to_vec(), score));
        old
    }
}

fn owned((member, score): Pair<'_>) -> (Vec<u8>, f64) {
    (member.to_vec(), score)
}

#[derive(Clone, Debug)]
enum Op {
    Insert(Vec<u8>, f64),
    Remove(Vec<u8>),
    RemoveRanks(usize, usize),
    PopMin,
    PopMax,
    Clone,
}

fn member() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => (0..200i32).prop_map(|n| n.to_string().into_bytes()),
        6 => (0..200u32).prop_map(|n| format!("m{n}").into_bytes()),
        1 => any::<i64>().prop_map(|n| n.to_string().into_bytes()),
        1 => prop::collection::vec(any::<u8>(), 0..6),
        1 => (250..300usize).prop_map(|n| vec![b'x'; n]),
    ]
}

fn score() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => (-5..5i32).prop_map(f64::from),
        2 => any::<i64>().prop_map(|n| n as f64),
        // Equal in their upper 48 bits.
        2 => (0..4i32).prop_map(|n| 1.0 + f64::from(n) * f64::EPSILON),
        2 => any::<f64>().prop_filter("a score is a number", |f| !f.is_nan()),
        1 => prop::sample::select(vec![0.5, -0.0, f64::INFINITY, f64::NEG_INFINITY, 9007199254740992.0]),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        20 => (member(), score()).prop_map(|(m, s)| Op::Insert(m, s)),
        8 => member().prop_map(Op::Remove),
        1 => (0..300usize, 0..20usize).prop_map(|(start, n)| Op::RemoveRanks(start, start + n)),
        1 => Just(Op::PopMin),
        1 => Just(Op::PopMax),
        1 => Just(Op::Clone),
    ]
}

fn bound(model: &Model) -> impl Strategy<Value = Bound> + use<> {
    let scores: Vec<f64> = model.0.iter().map(|(_, s)| *s).chain([0.25, f64::INFINITY, f64::NEG_INFINITY]).collect();
    (prop::sample::select(scores), any::<bool>())
        .prop_map(|(score, inclusive)| if inclusive { Bound::Inclusive(score) } else { Bound::Exclusive(score) })
}

fn run(ops: Vec<Op>, entries_max: usize) -> (ZSet, Model) {
    let limits = Limits { zset_entries_max: entries_max, zset_value_bytes_max: 280, ..Limits::default() };
    let (mut set, mut model) = (ZSet::new(), Model::default());
    for (i, op) in ops.into_iter().enumerate() {
        match op {
            Op::Insert(m, s) => {
                let tree = set.encoding() == "skiplist"
                    || model.place(&m).is_none() && (model.0.len() >= entries_max || m.len() > 280);
                assert_eq!(set.insert(&m, s, &limits), model.insert(&m, s));
                assert_eq!(set.encoding(), if tree { "skiplist" } else { "listpack" });
            }
            Op::Remove(m) => assert_eq!(set.remove(&m), model.remove(&m)),
            Op::RemoveRanks(start, end) => {
                let mut removed = Vec::new();
                set.remove_rank_range(start, end, |pair| removed.push(owned(pair)));
                let end = end.min(model.0.len());
                assert_eq!(removed, model.0.drain(start.min(end)..end).collect::<Vec<_>>());
            }
            Op::PopMin => assert_eq!(set.pop_min(), (!model.0.is_empty()).then(|| model.0.remove(0))),
            Op::PopMax => assert_eq!(set.pop_max(), model.0.pop()),
            Op::Clone => set = set.clone(),
        }
        if i % 8 == 0 {
            check(&set);
        }
        assert_eq!(set.len(), model.0.len());
    }
    check(&set);
    (set, model)
}

fn compare(set: &ZSet, model: &Model, entries_max: usize) {
    assert_eq!(set.iter().map(owned).collect::<Vec<_>>(), model.0);
    for (rank, (member, score)) in model.0.iter().enumerate() {
        assert_eq!(set.rank(member), Some(rank));
        assert_eq!(set.score(member), Some(*score));
        assert_eq!(set.by_rank(rank).map(owned).as_ref(), Some(&model.0[rank]));
        if rank % 7 == 0 {
            assert_eq!(set.iter_from_rank(rank, false).map(owned).collect::<Vec<_>>(), model.0[rank..]);
            let mut back = set.iter_from_rank(rank, true).map(owned).collect::<Vec<_>>();
            back.reverse();
            assert_eq!(back, model.0[..=rank]);
        }
    }
    assert!(set.by_rank(model.0.len()).is_none());
    assert_eq!(set.iter_from_rank(model.0.len(), true).count(), 0);
    assert_eq!((set.score(b"absent"), set.rank(b"absent")), (None, None));

    let mut scanned = Vec::new();
    let mut cursor = 0;
    loop {
        cursor = set.scan(cursor, 3, |pair| scanned.push(owned(pair)));
        if cursor == 0 {
            break;
        }
    }
    scanned.sort_by(|a, b| a.partial_cmp(b).unwrap());
    scanned.dedup();
    let mut all = model.0.clone();
    all.sort_by(|a, b| a.partial_cmp(b).unwrap());
    assert_eq!(scanned, all);

    let mut copy = set.clone();
    check(&copy);
    assert_eq!(copy.iter().map(owned).collect::<Vec<_>>(), model.0);
    assert_eq!(copy.encoding(), set.encoding());
    assert!(set.memory_bytes() >= model.0.iter().map(|(m, _)| if m.len() > 20 { m.len() } else { 1 }).sum());
    // Each member twice: its place in the order, and itself.
    let steps = (0..).take_while(|_| !copy.free_some(5)).count();
    assert!(copy.is_empty() && steps <= 2 * model.0.len() / 5 + 2, "{steps} steps for {}", model.0.len());
    assert!(entries_max >= model.0.len() || set.encoding() == "skiplist");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(150) })]

    #[test]
    fn behaves_as_the_model(ops in prop::collection::vec(op(), 0..400), entries_max in prop::sample::select(vec![0, 8, 1000])) {
        let (set, model) = run(ops, entries_max);
        compare(&set, &model, entries_max);
    }

    #[test]
    fn score_ranges_are_ranks(
        (ops, entries_max, (min, max)) in
            (prop::collection::vec(op(), 0..100), prop::sample::select(vec![0, 1000])).prop_flat_map(|(ops, entries_max)| {
                let (_, model) = run(ops.clone(), entries_max);
                (Just(ops), Just(entries_max), (bound(&model), bound(&model)))
            })
    ) {
        let (set, model) = run(ops, entries_max);
        let (start, end) = set.rank_range(&ScoreRange { min, max });
        let above = |score: f64| match min { Bound::Inclusive(b) => score >= b, Bound::Exclusive(b) => score > b };
        let below = |score: f64| match max { Bound::Inclusive(b) => score <= b, Bound::Exclusive(b) => score < b };
        let want: Vec<_> = model.0.iter().filter(|(_, s)| above(*s) && below(*s)).cloned().collect();
        prop_assert_eq!(end - start, want.len());
        prop_assert_eq!(set.iter_from_rank(start, false).take(end - start).map(owned).collect::<Vec<_>>(), want);
    }

    #[test]
    fn lex_ranges_are_ranks(
        members in prop::collection::btree_set(prop::collection::vec(b'a'..b'd', 0..4), 0..60),
        min in prop::collection::vec(b'a'..b'd', 0..4),
        max in prop::collection::vec(b'a'..b'd', 0..4),
        kinds in (0..4u8, 0..4u8),
        entries_max in prop::sample::select(vec![0, 1000]),
    ) {
        let limits = Limits { zset_entries_max: entries_max, ..Limits::default() };
        let mut set = ZSet::new();
        for member in &members {
            set.insert(member, 1.5, &limits);
        }
        fn lex(kind: u8, m: &[u8]) -> LexBound<'_> {
            [LexBound::Lowest, LexBound::Highest, LexBound::Inclusive(m), LexBound::Exclusive(m)][kind as usize]
        }
        let (lo, hi) = (lex(kinds.0, &min), lex(kinds.1, &max));
        let (start, end) = set.lex_rank_range(&LexRange { min: lo, max: hi });
        let want: Vec<_> = members.iter().filter(|m| {
            let m = m.as_slice();
            (match lo {
                LexBound::Lowest => true,
                LexBound::Highest => false,
                LexBound::Inclusive(b) => m >= b,
                LexBound::Exclusive(b) => m > b,
            }) && match hi {
                LexBound::Lowest => false,
                LexBound::Highest => true,
                LexBound::Inclusive(b) => m <= b,
                LexBound::Exclusive(b) => m < b,
            }
        }).cloned().collect();
        let got: Vec<_> = set.iter_from_rank(start, false).take(end - start).map(|(m, _)| m.to_vec()).collect();
        prop_assert_eq!(got, want);
    }
}

/// Growth and shrinkage far beyond one level, in order, in reverse and mixed.
#[test]
fn deep_trees_stay_in_order() {
    let limits = Limits { zset_entries_max: 0, ..Limits::default() };
    let n = 3000u64;
    let orders: [fn(u64) -> u64; 3] = [|i| i, |i| 3000 - i, |i| i * 1999 % 3001];
    for insertion in orders {
        for removal in orders {
            let mut set = ZSet::new();
            for i in 0..n {
                set.insert(format!("m{}", insertion(i)).as_bytes(), insertion(i) as f64 / 2.0, &limits);
            }
            check(&set);
            for i in 0..n {
                let member = format!("m{}", removal(i));
                let known = set.rank(member.as_bytes()).is_some();
                assert_eq!(set.remove(member.as_bytes()), known.then(|| removal(i) as f64 / 2.0));
                if i % 100 == 0 {
                    check(&set);
                }
            }
            assert!(set.len() <= 1);
        }
    }
}

#[test]
fn random_reaches_every_member() {
    for entries_max in [0, 128] {
        let limits = Limits { zset_entries_max: entries_max, ..Limits::default() };
        let mut set = ZSet::new();
        assert!(set.random(7).is_none());
        for i in 0..10 {
            set.insert(format!("m{i}").as_bytes(), f64::from(i), &limits);
        }
        let chosen = |random| set.random(random).map(|(_, score)| score);
        assert_eq!(
            (0..10).map(|i| chosen(u64::MAX / 10 * i + 9)).collect::<Vec<_>>(),
            (0..10).map(|i| Some(f64::from(i as u8))).collect::<Vec<_>>()
        );
        assert_eq!(chosen(u64::MAX), Some(9.0));
    }
}

/// Asked of Redis 7.0 and Valkey 9: a packed -0.0 becomes 0, a large set keeps it, and 0.0 never replaces it.
#[test]
fn negative_zero_is_kept_where_redis_keeps_it() {
    for (entries_max, negative) in [(0, true), (128, false)] {
        let limits = Limits { zset_entries_max: entries_max, ..Limits::default() };
        let mut set = ZSet::new();
        set.insert(b"b", 0.0, &limits);
        set.insert(b"a", -0.0, &limits);
        assert_eq!(set.insert(b"a", 0.0, &limits), Some(0.0));
        assert_eq!(set.score(b"a").map(f64::is_sign_negative), Some(negative));
        assert_eq!(set.rank(b"a"), Some(0));
    }
}

#[test]
fn each_from_a_rank_is_what_the_iterator_gives() {
    let limits = Limits { zset_entries_max: 20, ..Limits::default() };
    for len in [0, 1, 7, 20, 21, 100, 500] {
        let mut set = ZSet::new();
        (0..len).for_each(|n| {
            set.insert(format!("m{n}").as_bytes(), f64::from(n * 7 % 31), &limits);
        });
        let len = len as usize;
        for (rank, count) in
            [(0, len), (0, 3), (len / 2, 9), (len / 2, len), (len.saturating_sub(1), 5), (len, 1), (3, 0)]
        {
            for reverse in [false, true] {
                let mut shown = Vec::new();
                set.for_each_from_rank(rank, reverse, count, |pair| shown.push(owned(pair)));
                let wanted: Vec<_> = set.iter_from_rank(rank, reverse).take(count).map(owned).collect();
                assert_eq!(shown, wanted, "{len} members, {count} from {rank} on, reverse: {reverse}");
            }
        }
    }
}
