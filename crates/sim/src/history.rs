//! Histories of concurrent sessions, and the proof that they are strictly serializable: that all transactions could have
//! run one after the other, each at one moment between its request and its reply, with the same results.
//!
//! In the way of Kingsbury and Alvaro, "Elle: Inferring Isolation Anomalies from Experimental Observations" (VLDB 2020):
//! all values are lists that only grow, and every element is written once. So whoever reads a key tells which versions
//! it went through and who wrote each, the history shows every dependency between transactions, and it takes linear time
//! to find that they contradict each other:
//! - *ww*: T wrote the version that U replaced; *wr*: U read what T wrote; *rw*: T read what U replaced;
//! - *time*: T's reply had come before U's request was sent; *session*: T came before U on one connection.
//!
//! All of these mean that T was before U, so a cycle of any of them is an anomaly: a lost update, write skew, a stale
//! read. What the lists alone tell is looked at first: appends that are acknowledged and gone, half transactions, reads
//! of what was rolled back or vanished with the server (a *dirty read*: under `appendfsync always` nobody may see what
//! can still be lost).
//!
//! Crashes: of a transaction without a reply it is unknown whether it happened, until somebody reads what it wrote. If it
//! did, it did before the server was dead.

mod graph;
pub mod sessions;

use graph::Graph;
use std::collections::{HashMap, HashSet};
use std::fmt;

/// The number of a key.
pub type Key = u32;
/// What is appended: no number twice in a history.
pub type Element = u32;

/// What a transaction did to one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Added an element behind all others.
    Append(Key, Element),
    /// Saw these elements.
    Read(Key, Vec<Element>),
}

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was acknowledged.
    Committed,
    /// The server said that it did nothing: EXEC after a watched key had changed.
    Aborted,
    /// No reply came. Its steps are what is known of it: its appends, and what it had read before it began to write.
    Unknown,
}

/// A transaction as its client saw it.
#[derive(Clone, Debug)]
pub struct Transaction {
    /// How it was sent, for the report: "multi", "script".
    pub form: &'static str,
    /// The connection, from its beginning to its end.
    pub session: u32,
    /// When the request was about to be sent, in ns of a clock that goes on always.
    pub invoked_ns: u64,
    /// When the reply was there; of an unknown one when the server was certainly dead.
    pub completed_ns: u64,
    /// In the order in which they ran.
    pub steps: Vec<Step>,
    /// How it ended.
    pub outcome: Outcome,
}

impl Transaction {
    fn appends(&self) -> impl Iterator<Item = (Key, Element)> {
        self.steps.iter().filter_map(|step| match step {
            Step::Append(key, element) => Some((*key, *element)),
            Step::Read(..) => None,
        })
    }
}

impl fmt::Display for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Transaction { form, session, invoked_ns, completed_ns, outcome, .. } = self;
        let ms = |ns: &u64| *ns as f64 / 1e6;
        write!(f, "session {session} {form} {:.3}..{:.3} ms {outcome:?}", ms(invoked_ns), ms(completed_ns))?;
        for step in &self.steps {
            match step {
                Step::Append(key, element) => write!(f, " k{key}+={element}")?,
                Step::Read(key, seen) => write!(f, " k{key}={}[..{:?}]", seen.len(), seen.last())?,
            }
        }
        Ok(())
    }
}

/// All that happened.
#[derive(Debug, Default)]
pub struct History {
    /// Those of one session in the order in which they were sent.
    pub transactions: Vec<Transaction>,
    /// What every key that was ever written held at the end, when all others had ended.
    pub last: HashMap<Key, Vec<Element>>,
}

/// What is wrong with a history. Transactions are told by their places in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Anomaly {
    /// Acknowledged, but nothing of it is there.
    Lost(usize),
    /// Part of it is there, but not this element.
    Partial(usize, Element),
    /// Read by this transaction, but not there at the end: the write vanished.
    Vanished(usize, Key, Element),
    /// Somebody's element, whose transaction was refused.
    Refused(Key, Element),
    /// An element that nobody wrote to this key.
    Unwritten(Key, Element),
    /// An element that is there twice.
    Twice(Key, Element),
    /// The transaction saw the elements of this key in another order than they have at the end.
    Reordered(usize, Key),
    /// The transaction does not see what it wrote itself, or sees others change what it read.
    NotIsolated(usize, Key),
    /// The first has not happened, but the second, which came later on the same connection, has.
    Overtaken(usize, usize),
    /// Each transaction was before the next, and the last before the first, for these reasons.
    Cycle(Vec<(usize, Reason)>),
}

/// Why one transaction was before another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Wrote the version that the other replaced.
    Ww(Key),
    /// Wrote what the other read.
    Wr(Key),
    /// Read what the other replaced.
    Rw(Key),
    /// Had ended before the other began.
    Time,
    /// Came before the other on its connection.
    Session,
}

/// What was found, and in how much.
#[derive(Debug, Default)]
pub struct Report {
    /// What is wrong; of very many some.
    pub anomalies: Vec<Anomaly>,
    /// Transactions acknowledged.
    pub committed: usize,
    /// Transactions that the server refused.
    pub aborted: usize,
    /// Transactions without a reply that happened nevertheless.
    pub survived: usize,
    /// Transactions without a reply that did not happen, or only read.
    pub vanished: usize,
    /// Elements seen by all reads.
    pub seen: usize,
    /// Edges between transactions.
    pub edges: usize,
}

/// Anomalies of a kind that are told.
const TOLD: usize = 20;

/// Looks for anomalies. O(elements read + transactions · log transactions).
pub fn check(history: &History) -> Report {
    let mut check = Check::new(history);
    check.look_at_versions();
    check.look_at_appends();
    check.look_at_reads();
    check.link_versions();
    check.link_sessions();
    check.link_times();
    check.find_cycles();
    check.report
}

/// The versions of a key: the first n elements, for every n.
struct Versions<'a> {
    elements: &'a [Element],
    /// Who wrote each element.
    writers: Vec<Option<usize>>,
}

struct Check<'a> {
    history: &'a History,
    /// Who wrote an element, and where.
    writers: HashMap<Element, (usize, Key)>,
    versions: HashMap<Key, Versions<'a>>,
    /// Elements that are there at the end.
    present: HashSet<Element>,
    /// Whether a transaction happened, by its place.
    happened: Vec<bool>,
    graph: Graph,
    report: Report,
}

impl<'a> Check<'a> {
    fn new(history: &'a History) -> Check<'a> {
        let transactions = &history.transactions;
        let mut writers = HashMap::new();
        for (place, transaction) in transactions.iter().enumerate() {
            writers.extend(transaction.appends().map(|(key, element)| (element, (place, key))));
        }
        Check {
            history,
            writers,
            versions: HashMap::new(),
            present: HashSet::new(),
            happened: transactions.iter().map(|t| t.outcome == Outcome::Committed).collect(),
            graph: Graph::new(transactions.len()),
            report: Report::default(),
        }
    }

    fn found(&mut self, anomaly: Anomaly) {
        let same = |other: &&Anomaly| std::mem::discriminant(*other) == std::mem::discriminant(&anomaly);
        if self.report.anomalies.iter().filter(same).count() < TOLD {
            self.report.anomalies.push(anomaly);
        }
    }

    /// Who wrote what is there at the end.
    fn look_at_versions(&mut self) {
        for (&key, elements) in &self.history.last {
            let mut writers = Vec::with_capacity(elements.len());
            for &element in elements {
                let writer = self.writers.get(&element).filter(|(_, of)| *of == key).map(|(place, _)| *place);
                writers.push(writer);
                if !self.present.insert(element) {
                    self.found(Anomaly::Twice(key, element));
                }
                match writer {
                    None => self.found(Anomaly::Unwritten(key, element)),
                    Some(place) if self.history.transactions[place].outcome == Outcome::Aborted => {
                        self.found(Anomaly::Refused(key, element));
                    }
                    Some(place) => self.happened[place] = true,
                }
            }
            self.versions.insert(key, Versions { elements, writers });
        }
    }

    /// Nothing acknowledged is lost, nothing is there by half.
    fn look_at_appends(&mut self) {
        let history = self.history;
        for (place, transaction) in history.transactions.iter().enumerate() {
            let happened = self.happened[place];
            match transaction.outcome {
                Outcome::Committed => self.report.committed += 1,
                Outcome::Aborted => self.report.aborted += 1,
                Outcome::Unknown if happened => self.report.survived += 1,
                Outcome::Unknown => self.report.vanished += 1,
            }
            let missing = |(_, element): &(Key, Element)| !self.present.contains(element);
            let first_missing = transaction.appends().find(missing);
            if let Some((_, element)) = first_missing.filter(|_| happened) {
                let all = transaction.appends().all(|append| missing(&append));
                self.found(if all { Anomaly::Lost(place) } else { Anomaly::Partial(place, element) });
            }
        }
    }

    /// Reads are versions; whoever wrote them was before, and who wrote the next one comes after.
    fn look_at_reads(&mut self) {
        let history = self.history;
        for (place, transaction) in history.transactions.iter().enumerate() {
            if !self.happened[place] {
                continue;
            }
            // What the transaction has written of each key, and what it saw that is not its own.
            let mut own: Vec<(Key, Vec<Element>)> = Vec::new();
            let mut others: Vec<(Key, &[Element])> = Vec::new();
            for step in &transaction.steps {
                match step {
                    Step::Append(key, element) => match own.iter_mut().find(|(of, _)| of == key) {
                        Some((_, elements)) => elements.push(*element),
                        None => own.push((*key, vec![*element])),
                    },
                    Step::Read(key, seen) => {
                        self.report.seen += seen.len();
                        let written = own.iter().find(|(of, _)| of == key).map_or(&[][..], |(_, written)| written);
                        match (seen.strip_suffix(written), others.iter().find(|(of, _)| of == key)) {
                            (None, _) => self.found(Anomaly::NotIsolated(place, *key)),
                            (Some(version), Some((_, before))) if version != *before => {
                                self.found(Anomaly::NotIsolated(place, *key));
                            }
                            (Some(_), Some(_)) => {}
                            (Some(version), None) => others.push((*key, version)),
                        }
                    }
                }
            }
            for (key, version) in others {
                self.look_at_read(place, key, version);
            }
        }
    }

    fn look_at_read(&mut self, place: usize, key: Key, version: &[Element]) {
        let Versions { elements, writers } = match self.versions.get(&key) {
            Some(versions) => versions,
            None => &Versions { elements: &[], writers: Vec::new() },
        };
        if elements.starts_with(version) {
            if let Some(writer) = version.len().checked_sub(1).and_then(|last| writers[last]) {
                self.graph.add(writer, place, Reason::Wr(key));
            }
            if let Some(Some(next)) = writers.get(version.len()) {
                self.graph.add(place, *next, Reason::Rw(key));
            }
            return;
        }
        let Some(gone) = version.iter().find(|element| !self.present.contains(element)) else {
            return self.found(Anomaly::Reordered(place, key));
        };
        self.found(match self.writers.get(gone) {
            Some((writer, of)) if *of == key && self.history.transactions[*writer].outcome == Outcome::Aborted => {
                Anomaly::Refused(key, *gone)
            }
            Some((_, of)) if *of == key => Anomaly::Vanished(place, key, *gone),
            _ => Anomaly::Unwritten(key, *gone),
        });
    }

    /// Each version's writer was before the next one's.
    fn link_versions(&mut self) {
        for (key, Versions { writers, .. }) in &self.versions {
            for pair in writers.windows(2) {
                if let [Some(one), Some(next)] = *pair {
                    self.graph.add(one, next, Reason::Ww(*key));
                }
            }
        }
    }

    /// Transactions of one connection run in their order; so none happens unless those before it do.
    fn link_sessions(&mut self) {
        let mut before: HashMap<u32, usize> = HashMap::new();
        let mut not_happened: HashMap<u32, usize> = HashMap::new();
        for (place, transaction) in self.history.transactions.iter().enumerate() {
            let session = transaction.session;
            if self.happened[place] {
                if let Some(before) = before.insert(session, place) {
                    self.graph.add(before, place, Reason::Session);
                }
                if let Some(&missing) = not_happened.get(&session) {
                    self.found(Anomaly::Overtaken(missing, place));
                }
            } else if transaction.outcome == Outcome::Unknown && transaction.appends().next().is_some() {
                not_happened.entry(session).or_insert(place);
            }
        }
    }

    /// What had ended was before what began then. Moments are nodes: each comes after those that ended before it and after
    /// the moment before it, so there are as many edges as transactions, not as many as pairs.
    fn link_times(&mut self) {
        let mut events = Vec::new();
        for (place, transaction) in
            self.history.transactions.iter().enumerate().filter(|(place, _)| self.happened[*place])
        {
            // At the same time: they begin first, so they are concurrent.
            events.push((transaction.invoked_ns, false, place));
            events.push((transaction.completed_ns.max(transaction.invoked_ns), true, place));
        }
        events.sort_unstable();
        let (mut moment, mut ended) = (None, Vec::new());
        for (_, ends, place) in events {
            if ends {
                ended.push(place);
                continue;
            }
            if !ended.is_empty() {
                let next = self.graph.add_node();
                for before in ended.drain(..).chain(moment) {
                    self.graph.add(before, next, Reason::Time);
                }
                moment = Some(next);
            }
            if let Some(moment) = moment {
                self.graph.add(moment, place, Reason::Time);
            }
        }
    }

    fn find_cycles(&mut self) {
        self.report.edges = self.graph.edges();
        for cycle in self.graph.cycles(TOLD) {
            self.found(Anomaly::Cycle(cycle));
        }
    }
}

impl Anomaly {
    /// What it says of the transactions of `history`, which are told too.
    pub fn explain(&self, history: &History) -> String {
        let tell = |place: &usize| format!("\n    #{place} {}", history.transactions[*place]);
        match self {
            Anomaly::Lost(place) => format!("acknowledged, and nothing of it is there:{}", tell(place)),
            Anomaly::Partial(place, element) => format!("happened, but for {element}:{}", tell(place)),
            Anomaly::Vanished(place, key, element) => {
                format!("{element} was read from k{key}, and vanished:{}", tell(place))
            }
            Anomaly::Refused(key, element) => format!("{element} is in k{key}, though its transaction was refused"),
            Anomaly::Unwritten(key, element) => format!("{element} is in k{key}, and nobody wrote it there"),
            Anomaly::Twice(key, element) => format!("{element} is in k{key} twice"),
            Anomaly::Reordered(place, key) => format!("k{key} was read in another order than its last:{}", tell(place)),
            Anomaly::NotIsolated(place, key) => format!("k{key} changes while it is read and written:{}", tell(place)),
            Anomaly::Overtaken(missing, place) => {
                format!("on one connection, only the second happened:{}{}", tell(missing), tell(place))
            }
            Anomaly::Cycle(steps) => {
                let lines: Vec<String> =
                    steps.iter().map(|(place, reason)| format!("{}\n        before, {reason}:", tell(place))).collect();
                let first = steps.first().map_or(0, |(place, _)| *place);
                format!("each was before the next:{}\n    #{first}", lines.concat())
            }
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Ww(key) => write!(f, "as k{key} had been written by it"),
            Reason::Wr(key) => write!(f, "as k{key} was read from it"),
            Reason::Rw(key) => write!(f, "as it read k{key} unchanged"),
            Reason::Time => write!(f, "as it had ended when this began"),
            Reason::Session => write!(f, "on the same connection"),
        }
    }
}
