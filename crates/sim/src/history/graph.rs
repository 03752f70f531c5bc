//! A directed graph with reasons on its edges, and the shortest cycles of it.
//!
//! Nodes of transactions have the transactions' numbers; the others are moments, which a cycle leaves out.

use super::Reason;
use std::collections::VecDeque;

/// The graph. Edges are added first, and cycles asked for at the end.
pub struct Graph {
    transactions: usize,
    nodes: usize,
    edges: Vec<(u32, u32, Reason)>,
}

impl Graph {
    /// A graph without edges, with a node for each transaction.
    pub fn new(transactions: usize) -> Graph {
        Graph { transactions, nodes: transactions, edges: Vec::new() }
    }

    /// Adds a node that is no transaction.
    pub fn add_node(&mut self) -> usize {
        self.nodes += 1;
        self.nodes - 1
    }

    /// `from` is before `to`. An edge to itself says nothing, and is left out.
    pub fn add(&mut self, from: usize, to: usize, reason: Reason) {
        if from != to {
            self.edges.push((from as u32, to as u32, reason));
        }
    }

    /// How many there are.
    pub fn edges(&self) -> usize {
        self.edges.len()
    }

    /// A short cycle of each strongly connected component, of at most `limit`: transactions, and why each is before the
    /// next. O(nodes + edges) and as much again for each cycle.
    pub fn cycles(&mut self, limit: usize) -> Vec<Vec<(usize, Reason)>> {
        self.edges.sort_unstable_by_key(|(from, to, _)| (*from, *to));
        let mut first = vec![0; self.nodes + 1];
        for (from, _, _) in &self.edges {
            first[*from as usize + 1] += 1;
        }
        for node in 0..self.nodes {
            first[node + 1] += first[node];
        }
        let component = self.components(&first);
        let mut sizes = vec![0_u32; self.nodes];
        for of in &component {
            sizes[*of as usize] += 1;
        }
        let mut cycles = Vec::new();
        for node in 0..self.transactions {
            let size = &mut sizes[component[node] as usize];
            if *size > 1 && cycles.len() < limit {
                // Only once for each component.
                *size = 0;
                cycles.push(self.cycle_through(node, &first, &component));
            }
        }
        cycles
    }

    fn next_of<'a>(&'a self, node: usize, first: &[usize]) -> &'a [(u32, u32, Reason)] {
        &self.edges[first[node]..first[node + 1]]
    }

    /// The strongly connected component of each node, by Tarjan's algorithm with a stack of its own.
    fn components(&self, first: &[usize]) -> Vec<u32> {
        const NONE: u32 = u32::MAX;
        let (mut component, mut components) = (vec![NONE; self.nodes], 0);
        let (mut index, mut low) = (vec![NONE; self.nodes], vec![0_u32; self.nodes]);
        let (mut order, mut open, mut calls) = (0_u32, Vec::new(), Vec::new());
        for root in 0..self.nodes {
            if index[root] != NONE {
                continue;
            }
            calls.push((root, first[root]));
            while let Some((node, edge)) = calls.pop() {
                if index[node] == NONE {
                    (index[node], low[node]) = (order, order);
                    order += 1;
                    open.push(node);
                }
                let mut edge = edge;
                let mut deeper = None;
                while edge < first[node + 1] {
                    let to = self.edges[edge].1 as usize;
                    edge += 1;
                    if index[to] == NONE {
                        deeper = Some(to);
                        break;
                    }
                    if component[to] == NONE {
                        low[node] = low[node].min(index[to]);
                    }
                }
                if let Some(to) = deeper {
                    calls.push((node, edge));
                    calls.push((to, first[to]));
                    continue;
                }
                if low[node] == index[node] {
                    while let Some(member) = open.pop() {
                        component[member] = components;
                        if member == node {
                            break;
                        }
                    }
                    components += 1;
                }
                if let Some((parent, _)) = calls.last() {
                    low[*parent] = low[*parent].min(low[node]);
                }
            }
        }
        component
    }

    /// The shortest way from a node back to itself. It is on a cycle.
    fn cycle_through(&self, start: usize, first: &[usize], component: &[u32]) -> Vec<(usize, Reason)> {
        let mut came_from = vec![None; self.nodes];
        let mut queue = VecDeque::from([start]);
        while let Some(node) = queue.pop_front()
            && came_from[start].is_none()
        {
            for (_, to, reason) in self.next_of(node, first) {
                let to = *to as usize;
                if component[to] == component[start] && came_from[to].is_none() {
                    came_from[to] = Some((node, *reason));
                    queue.push_back(to);
                }
            }
        }
        let (mut cycle, mut node) = (Vec::new(), start);
        while let Some((from, reason)) = came_from[node] {
            if from < self.transactions {
                cycle.push((from, reason));
            }
            node = from;
            if node == start {
                break;
            }
        }
        cycle.reverse();
        cycle
    }
}
