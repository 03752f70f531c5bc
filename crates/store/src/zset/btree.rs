//! A counted B+tree: an ordered sequence of small `Copy` keys with look-up by order and by rank, each O(log n).
//!
//! The tree knows nothing of how its keys compare: the caller passes a predicate that holds for a prefix of the
//! sequence (`|key| key < wanted`), as with `slice::partition_point`.
//!
//! Invariants (`check` tests them):
//! - every leaf is at the same depth; no node but an empty root is empty, none holds more than its maximum;
//! - a child's `count` is the number of keys below it, its `first` the first of them;
//! - only the outermost nodes of a level may hold less than a third: pushing at an end splits unevenly, so that a
//!   sequence built in order has full nodes.

use smallvec::SmallVec;
use std::mem;

/// Keys of a leaf, at most: 64 keys of 12 bytes fill an allocator's class of 768 bytes exactly.
const LEAF_MAX: usize = if cfg!(test) { 8 } else { 64 };
/// Children of an inner node, at most.
const INNER_MAX: usize = if cfg!(test) { 6 } else { 32 };
/// A full leaf gives keys to a neighbour with at least this much room rather than split: fuller leaves, less memory.
/// At least 2, so that both have room afterwards.
const ROOM_MIN: usize = if cfg!(test) { 2 } else { LEAF_MAX / 8 };

/// An ordered sequence of keys; see the module.
#[derive(Clone)]
pub struct CountedTree<K> {
    root: Node<K>,
    len: usize,
}

#[derive(Clone)]
enum Node<K> {
    Leaf(Vec<K>),
    Inner(Vec<Child<K>>),
}

#[derive(Clone)]
struct Child<K> {
    node: Node<K>,
    count: usize,
    first: K,
}

impl<K: Copy> Node<K> {
    /// Keys of a leaf, children of an inner node.
    fn width(&self) -> usize {
        match self {
            Node::Leaf(keys) => keys.len(),
            Node::Inner(children) => children.len(),
        }
    }

    fn width_max(&self) -> usize {
        match self {
            Node::Leaf(_) => LEAF_MAX,
            Node::Inner(_) => INNER_MAX,
        }
    }

    /// Wraps a node that is not empty, counting its keys.
    fn into_child(self) -> Child<K> {
        let (count, first) = match &self {
            Node::Leaf(keys) => (keys.len(), keys[0]),
            Node::Inner(children) => (children.iter().map(|c| c.count).sum(), children[0].first),
        };
        Child { node: self, count, first }
    }

    /// Moves everything from `at` on into a new node.
    fn split_off(&mut self, at: usize) -> Node<K> {
        match self {
            Node::Leaf(keys) => {
                let mut right = Vec::with_capacity(LEAF_MAX);
                right.extend(keys.drain(at..));
                Node::Leaf(right)
            }
            Node::Inner(children) => {
                let mut right = Vec::with_capacity(INNER_MAX);
                right.extend(children.drain(at..));
                Node::Inner(right)
            }
        }
    }

    /// Shares the contents of two neighbours of one level so that `self` holds `left_width` of them.
    fn share(&mut self, right: &mut Node<K>, left_width: usize) {
        fn shift<T>(left: &mut Vec<T>, right: &mut Vec<T>, left_width: usize) {
            if left.len() > left_width {
                right.splice(0..0, left.drain(left_width..));
            } else {
                let more = left_width - left.len();
                left.extend(right.drain(..more));
            }
        }
        match (self, right) {
            (Node::Leaf(left), Node::Leaf(right)) => shift(left, right, left_width),
            (Node::Inner(left), Node::Inner(right)) => shift(left, right, left_width),
            _ => unreachable!("neighbours are at the same depth"),
        }
    }

    /// Removes one key; `descend` says where: the index of a child in an inner node, of the key in a leaf.
    fn remove(&mut self, descend: &mut impl FnMut(&Node<K>) -> usize) -> K {
        let at = descend(self);
        match self {
            Node::Leaf(keys) => keys.remove(at),
            Node::Inner(children) => {
                let child = &mut children[at];
                let key = child.node.remove(descend);
                child.count -= 1;
                match &child.node {
                    Node::Leaf(keys) if !keys.is_empty() => child.first = keys[0],
                    Node::Inner(below) if !below.is_empty() => child.first = below[0].first,
                    _ => {}
                }
                if child.node.width() < child.node.width_max() / 3 {
                    refill(children, at);
                }
                key
            }
        }
    }
}

/// Merges child `at`, which holds too little, with a neighbour, or takes over a part of the neighbour's contents.
fn refill<K: Copy>(children: &mut Vec<Child<K>>, at: usize) {
    if children[at].node.width() == 0 {
        children.remove(at);
        return;
    }
    if children.len() == 1 {
        return;
    }
    let left = if at == 0 { 0 } else { at - 1 };
    let total = children[left].node.width() + children[left + 1].node.width();
    if total <= children[left].node.width_max() * 3 / 4 {
        let mut right = children.remove(left + 1);
        children[left].node.share(&mut right.node, total);
        children[left].count += right.count;
    } else {
        share(children, left, total / 2);
    }
}

/// Shares the contents of children `left` and `left + 1` so that the first holds `left_width`.
fn share<K: Copy>(children: &mut [Child<K>], left: usize, left_width: usize) {
    if let [a, b, ..] = &mut children[left..] {
        let total = a.count + b.count;
        a.node.share(&mut b.node, left_width);
        match (&a.node, &b.node) {
            (Node::Leaf(keys), Node::Leaf(right)) => {
                a.count = keys.len();
                b.first = right[0];
            }
            (Node::Inner(below), Node::Inner(right)) => {
                a.count = below.iter().map(|c| c.count).sum();
                b.first = right[0].first;
            }
            _ => unreachable!("neighbours are at the same depth"),
        }
        b.count = total - a.count;
    }
}

/// Makes room in child `at`, which is full: keys move to a neighbour, or the child splits at `cut`.
fn make_room<K: Copy>(children: &mut Vec<Child<K>>, at: usize, cut: usize) {
    if let Node::Leaf(_) = children[at].node {
        for left in at.saturating_sub(1)..=at {
            let Some([a, b]) = children.get(left..left + 2) else {
                continue;
            };
            let total = a.count + b.count;
            if total + ROOM_MIN <= 2 * LEAF_MAX {
                return share(children, left, total / 2);
            }
        }
    }
    let right = children[at].node.split_off(cut).into_child();
    children[at].count -= right.count;
    children.insert(at + 1, right);
}

/// Where a full node splits: in the middle, but as far out as can be if a key is pushed at an end of the sequence.
fn cut<K>(node: &Node<K>, leftmost: bool, rightmost: bool, before: &mut impl FnMut(&K) -> bool) -> usize {
    let (width, at_start, at_end) = match node {
        Node::Leaf(keys) => (keys.len(), !before(&keys[0]), before(&keys[keys.len() - 1])),
        Node::Inner(below) => (below.len(), !before(&below[0].first), before(&below[below.len() - 1].first)),
    };
    match () {
        () if rightmost && at_end => width - 1,
        () if leftmost && at_start => 1,
        () => width / 2,
    }
}

/// The child in which the first key lies for which `before` does not hold, or the last child.
fn child_of<K>(children: &[Child<K>], before: &mut impl FnMut(&K) -> bool) -> usize {
    children.partition_point(|child| before(&child.first)).saturating_sub(1)
}

impl<K: Copy> CountedTree<K> {
    /// An empty sequence.
    pub fn new() -> CountedTree<K> {
        CountedTree { root: Node::Leaf(Vec::new()), len: 0 }
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.len
    }

    /// The number of keys for which `before` holds; they must be a prefix of the sequence. O(log n).
    pub fn partition_point(&self, mut before: impl FnMut(&K) -> bool) -> usize {
        let mut node = &self.root;
        let mut rank = 0;
        loop {
            match node {
                Node::Leaf(keys) => return rank + keys.partition_point(before),
                Node::Inner(children) => {
                    let at = child_of(children, &mut before);
                    rank += children[..at].iter().map(|child| child.count).sum::<usize>();
                    node = &children[at].node;
                }
            }
        }
    }

    /// Inserts `key` behind the keys for which `before` holds, which must be a prefix of the sequence. O(log n).
    pub fn insert(&mut self, key: K, mut before: impl FnMut(&K) -> bool) {
        self.len += 1;
        if self.root.width() == self.root.width_max() {
            let cut = cut(&self.root, true, true, &mut before);
            let right = self.root.split_off(cut).into_child();
            let left = mem::replace(&mut self.root, Node::Leaf(Vec::new())).into_child();
            self.root = Node::Inner(vec![left, right]);
        }
        let (mut leftmost, mut rightmost) = (true, true);
        let mut node = &mut self.root;
        loop {
            match node {
                Node::Leaf(keys) => {
                    let at = keys.partition_point(before);
                    return keys.insert(at, key);
                }
                Node::Inner(children) => {
                    let mut at = child_of(children, &mut before);
                    let child = &children[at].node;
                    if child.width() == child.width_max() {
                        let cut = cut(child, leftmost && at == 0, rightmost && at + 1 == children.len(), &mut before);
                        make_room(children, at, cut);
                        at = child_of(children, &mut before);
                    }
                    leftmost &= at == 0;
                    rightmost &= at + 1 == children.len();
                    let child = &mut children[at];
                    child.count += 1;
                    if !before(&child.first) {
                        child.first = key;
                    }
                    node = &mut child.node;
                }
            }
        }
    }

    /// Removes the last of the keys for which `up_to` holds, a prefix of the sequence. O(log n).
    pub fn remove_last(&mut self, mut up_to: impl FnMut(&K) -> bool) -> Option<K> {
        let any = match &self.root {
            Node::Leaf(keys) => keys.first().is_some_and(&mut up_to),
            Node::Inner(children) => up_to(&children[0].first),
        };
        any.then(|| {
            self.remove_by(|node| match node {
                Node::Leaf(keys) => keys.partition_point(&mut up_to) - 1,
                Node::Inner(children) => child_of(children, &mut up_to),
            })
        })
    }

    /// Removes the key at `rank`. O(log n).
    pub fn remove_at(&mut self, mut rank: usize) -> Option<K> {
        (rank < self.len).then(|| self.remove_by(|node| descend_to(node, &mut rank)))
    }

    /// Drops the last leaf; how many keys it had. For dropping a big tree in pieces: nodes may be left with less than a third.
    pub fn drop_leaf(&mut self) -> usize {
        fn drop_below<K>(node: &mut Node<K>) -> usize {
            match node {
                Node::Leaf(keys) => mem::take(keys).len(),
                Node::Inner(children) => {
                    let Some(last) = children.last_mut() else { return 0 };
                    let dropped = drop_below(&mut last.node);
                    last.count -= dropped;
                    if last.count == 0 {
                        children.pop();
                    }
                    dropped
                }
            }
        }
        let dropped = drop_below(&mut self.root);
        self.len -= dropped;
        if self.len == 0 {
            self.root = Node::Leaf(Vec::new());
        }
        dropped
    }

    fn remove_by(&mut self, mut descend: impl FnMut(&Node<K>) -> usize) -> K {
        let key = self.root.remove(&mut descend);
        self.len -= 1;
        while let Node::Inner(children) = &mut self.root {
            match children.len() {
                0 => self.root = Node::Leaf(Vec::new()),
                1 => self.root = children.remove(0).node,
                _ => break,
            }
        }
        key
    }

    /// Puts `key` in the place of the last key for which `up_to_old` holds, if it belongs just there: if `before` holds
    /// for the key to the left and not for the one to the right. Else nothing changes, and the result is false, which it
    /// may be without need. O(log n).
    pub fn replace(
        &mut self,
        key: K,
        mut up_to_old: impl FnMut(&K) -> bool,
        mut before: impl FnMut(&K) -> bool,
    ) -> bool {
        let mut node = &mut self.root;
        loop {
            match node {
                Node::Inner(children) => {
                    let at = child_of(children, &mut up_to_old);
                    node = &mut children[at].node;
                }
                Node::Leaf(keys) => {
                    let at = keys.partition_point(up_to_old);
                    // Neither the first key, which parents know as well, nor the last, whose successor is elsewhere.
                    let inside = at >= 2 && at < keys.len() && before(&keys[at - 2]) && !before(&keys[at]);
                    if inside {
                        keys[at - 1] = key;
                    }
                    return inside;
                }
            }
        }
    }

    /// Iterates from the key at `rank` to the end, or to the start if `reverse`. O(log n) to start, O(1) a step.
    pub fn iter(&self, rank: usize, reverse: bool) -> Iter<'_, K> {
        let left = match reverse {
            false => self.len.saturating_sub(rank),
            true if rank < self.len => rank + 1,
            true => 0,
        };
        let mut iter = Iter { path: SmallVec::new(), leaf: &[], at: 0, left, reverse };
        if left > 0 {
            let mut rank = rank;
            iter.descend(&self.root, |node| descend_to(node, &mut rank));
        }
        iter
    }

    /// Bytes of all nodes.
    pub fn memory_bytes(&self) -> usize {
        fn below<K>(node: &Node<K>) -> usize {
            match node {
                Node::Leaf(keys) => keys.capacity() * size_of::<K>(),
                Node::Inner(children) => {
                    let own = children.capacity() * size_of::<Child<K>>();
                    own + children.iter().map(|child| below(&child.node)).sum::<usize>()
                }
            }
        }
        below(&self.root)
    }

    /// Asserts the module's invariants and that `in_order` holds for all neighbours.
    #[cfg(test)]
    pub fn check(&self, in_order: impl Fn(&K, &K) -> bool) {
        /// Returns count, depth.
        fn walk<K: Copy>(
            node: &Node<K>,
            root: bool,
            outermost: [bool; 2],
            same: &impl Fn(&K, &K) -> bool,
        ) -> (usize, usize) {
            assert!(node.width() <= node.width_max());
            assert!(root || node.width() > 0);
            if outermost == [false, false] {
                assert!(node.width() >= node.width_max() / 3, "{} keys or children", node.width());
            }
            match node {
                Node::Leaf(keys) => (keys.len(), 0),
                Node::Inner(children) => {
                    let mut depths = Vec::new();
                    let mut total = 0;
                    for (i, child) in children.iter().enumerate() {
                        let edges = [outermost[0] && i == 0, outermost[1] && i + 1 == children.len()];
                        let (count, depth) = walk(&child.node, false, edges, same);
                        assert_eq!(count, child.count);
                        let first = match &child.node {
                            Node::Leaf(keys) => &keys[0],
                            Node::Inner(below) => &below[0].first,
                        };
                        assert!(same(first, &child.first));
                        depths.push(depth);
                        total += count;
                    }
                    assert!(depths.windows(2).all(|w| w[0] == w[1]));
                    (total, depths[0] + 1)
                }
            }
        }
        let same = |a: &K, b: &K| !in_order(a, b) && !in_order(b, a);
        assert_eq!(walk(&self.root, true, [true, true], &same).0, self.len);
        let keys: Vec<K> = self.iter(0, false).collect();
        assert_eq!(keys.len(), self.len);
        assert!(keys.windows(2).all(|w| in_order(&w[0], &w[1])));
    }
}

/// The child in which the key at `rank` lies, with `rank` made relative to it; in a leaf, the key's index.
fn descend_to<K>(node: &Node<K>, rank: &mut usize) -> usize {
    match node {
        Node::Leaf(_) => *rank,
        Node::Inner(children) => {
            let mut at = 0;
            while *rank >= children[at].count {
                *rank -= children[at].count;
                at += 1;
            }
            at
        }
    }
}

/// An inner node's children, and the index of one.
type Step<'a, K> = (&'a [Child<K>], usize);

/// Keys in order, or in reverse order.
pub struct Iter<'a, K> {
    /// From the root down to `leaf`.
    path: SmallVec<[Step<'a, K>; 5]>,
    leaf: &'a [K],
    /// The next key's index in `leaf`, while `left > 0`.
    at: usize,
    left: usize,
    reverse: bool,
}

impl<'a, K: Copy> Iter<'a, K> {
    fn descend(&mut self, mut node: &'a Node<K>, mut choose: impl FnMut(&Node<K>) -> usize) {
        loop {
            let at = choose(node);
            match node {
                Node::Leaf(keys) => {
                    (self.leaf, self.at) = (keys, at);
                    return;
                }
                Node::Inner(children) => {
                    self.path.push((children, at));
                    node = &children[at].node;
                }
            }
        }
    }

    /// The keys up to the end of a leaf, in order; the iterator, which must not be a reverse one, goes on behind them.
    pub fn next_run(&mut self) -> Option<&'a [K]> {
        debug_assert!(!self.reverse);
        if self.left == 0 {
            return None;
        }
        let run = &self.leaf[self.at..];
        let run = &run[..run.len().min(self.left)];
        self.left -= run.len() - 1;
        self.at += run.len() - 1;
        // Over the last of them as ever.
        self.next();
        Some(run)
    }

    /// The index after or before `at`, if it is below `len`.
    fn step(&self, at: usize, len: usize) -> Option<usize> {
        if self.reverse { at.checked_sub(1) } else { Some(at + 1).filter(|&at| at < len) }
    }
}

impl<K: Copy> Iterator for Iter<'_, K> {
    type Item = K;

    #[inline]
    fn next(&mut self) -> Option<K> {
        if self.left == 0 {
            return None;
        }
        let key = self.leaf[self.at];
        self.left -= 1;
        if let Some(at) = self.step(self.at, self.leaf.len()) {
            self.at = at;
        } else {
            while let Some((children, at)) = self.path.pop() {
                if let Some(at) = self.step(at, children.len()) {
                    self.path.push((children, at));
                    let reverse = self.reverse;
                    self.descend(&children[at].node, |node| if reverse { node.width() - 1 } else { 0 });
                    break;
                }
            }
        }
        Some(key)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl<K: Copy> ExactSizeIterator for Iter<'_, K> {}
