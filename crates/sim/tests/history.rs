//! Histories made by hand: good ones pass, and every kind of bad one is found.

use kelda_sim::history::{Anomaly, Element, History, Key, Outcome, Reason, Step, Transaction, check};

const A: Key = 1;
const B: Key = 2;

fn append(key: Key, element: Element) -> Step {
    Step::Append(key, element)
}

fn read(key: Key, elements: &[Element]) -> Step {
    Step::Read(key, elements.to_vec())
}

/// A history that is written down line by line; times are in any unit.
#[derive(Default)]
struct Story(History);

impl Story {
    fn tell(mut self, session: u32, from: u64, to: u64, outcome: Outcome, steps: &[Step]) -> Story {
        let (form, steps) = ("made up", steps.to_vec());
        self.0.transactions.push(Transaction { form, session, invoked_ns: from, completed_ns: to, steps, outcome });
        self
    }

    fn committed(self, session: u32, from: u64, to: u64, steps: &[Step]) -> Story {
        self.tell(session, from, to, Outcome::Committed, steps)
    }

    fn unknown(self, session: u32, from: u64, to: u64, steps: &[Step]) -> Story {
        self.tell(session, from, to, Outcome::Unknown, steps)
    }

    fn ends(mut self, last: &[(Key, &[Element])]) -> Vec<Anomaly> {
        self.0.last = last.iter().map(|(key, elements)| (*key, elements.to_vec())).collect();
        let anomalies = check(&self.0).anomalies;
        for anomaly in &anomalies {
            assert!(!anomaly.explain(&self.0).is_empty());
        }
        anomalies
    }
}

/// The reasons of the only anomaly, a cycle, each with the transaction that comes first.
fn cycle(anomalies: &[Anomaly]) -> Vec<(usize, Reason)> {
    let [Anomaly::Cycle(steps)] = anomalies else { panic!("one cycle expected: {anomalies:?}") };
    steps.clone()
}

#[test]
fn what_could_have_run_one_by_one_is_no_anomaly() {
    let anomalies = Story::default()
        .committed(1, 0, 30, &[append(A, 1), append(B, 2)])
        // Concurrent, and each sees the other or not: any order will do that is one.
        .committed(2, 5, 25, &[read(A, &[1]), append(A, 3), read(A, &[1, 3])])
        .committed(3, 6, 40, &[read(A, &[]), read(B, &[])])
        .committed(3, 41, 50, &[read(A, &[1, 3]), read(B, &[2])])
        // In flight at a crash: one happened, the other did not.
        .unknown(1, 60, 70, &[append(A, 4), append(B, 5)])
        .unknown(2, 60, 70, &[append(A, 6)])
        .tell(3, 60, 70, Outcome::Aborted, &[append(A, 7)])
        .committed(4, 80, 90, &[read(A, &[1, 3, 4])])
        .ends(&[(A, &[1, 3, 4]), (B, &[2, 5])]);
    assert_eq!(anomalies, []);
}

#[test]
fn a_lost_update() {
    // Both read the same and write: each must be before the other.
    let anomalies = Story::default()
        .committed(1, 0, 10, &[read(A, &[]), append(A, 1)])
        .committed(2, 0, 10, &[read(A, &[]), append(A, 2)])
        .ends(&[(A, &[1, 2])]);
    assert_eq!(cycle(&anomalies), [(0, Reason::Ww(A)), (1, Reason::Rw(A))]);
    // The same where the second replaced what the first had written.
    let anomalies = Story::default()
        .committed(1, 0, 10, &[read(A, &[]), append(A, 1)])
        .committed(2, 0, 10, &[read(A, &[]), append(A, 2)])
        .ends(&[(A, &[2])]);
    assert_eq!(anomalies, [Anomaly::Lost(0)]);
}

#[test]
fn an_acknowledged_write_that_a_crash_took() {
    let story = || Story::default().committed(1, 0, 10, &[append(A, 1)]).committed(1, 11, 20, &[append(A, 2)]);
    assert_eq!(story().ends(&[(A, &[1, 2])]), []);
    assert_eq!(story().ends(&[(A, &[1])]), [Anomaly::Lost(1)]);
    assert_eq!(story().ends(&[]), [Anomaly::Lost(0), Anomaly::Lost(1)]);
}

#[test]
fn a_read_of_a_write_that_vanished() {
    let anomalies = Story::default()
        .unknown(1, 0, 10, &[append(A, 1)])
        .committed(2, 1, 5, &[read(A, &[1])])
        .committed(2, 20, 30, &[read(A, &[])])
        .ends(&[]);
    assert_eq!(anomalies, [Anomaly::Vanished(1, A, 1)]);
}

#[test]
fn a_stale_read_across_a_restart() {
    // The write is on disk, but the server that came back did not show it at first.
    let anomalies =
        Story::default().committed(1, 0, 10, &[append(A, 1)]).committed(2, 20, 30, &[read(A, &[])]).ends(&[(A, &[1])]);
    assert_eq!(cycle(&anomalies), [(0, Reason::Time), (1, Reason::Rw(A))]);
    // The same of a write whose client never had a reply: it had happened when the server was dead.
    let anomalies =
        Story::default().unknown(1, 0, 10, &[append(A, 1)]).committed(2, 20, 30, &[read(A, &[])]).ends(&[(A, &[1])]);
    assert_eq!(cycle(&anomalies), [(0, Reason::Time), (1, Reason::Rw(A))]);
}

#[test]
fn half_a_transaction() {
    let story = || Story::default().unknown(1, 0, 10, &[append(A, 1), append(B, 2)]);
    assert_eq!(story().ends(&[(A, &[1])]), [Anomaly::Partial(0, 2)]);
    assert_eq!(story().ends(&[(B, &[2])]), [Anomaly::Partial(0, 1)]);
    assert_eq!(story().ends(&[]), []);
    // All of it is there at the end, but somebody saw half of it.
    let anomalies = story().committed(2, 0, 10, &[read(A, &[1]), read(B, &[])]).ends(&[(A, &[1]), (B, &[2])]);
    assert_eq!(cycle(&anomalies), [(0, Reason::Wr(A)), (1, Reason::Rw(B))]);
    // The same within one key.
    let anomalies = Story::default()
        .committed(1, 0, 10, &[append(A, 1), append(A, 2)])
        .committed(2, 0, 10, &[read(A, &[1])])
        .ends(&[(A, &[1, 2])]);
    assert_eq!(cycle(&anomalies), [(0, Reason::Wr(A)), (1, Reason::Rw(A))]);
}

#[test]
fn write_skew() {
    let anomalies = Story::default()
        .committed(1, 0, 10, &[read(A, &[]), read(B, &[]), append(A, 1)])
        .committed(2, 0, 10, &[read(A, &[]), read(B, &[]), append(B, 2)])
        .ends(&[(A, &[1]), (B, &[2])]);
    assert_eq!(cycle(&anomalies), [(0, Reason::Rw(B)), (1, Reason::Rw(A))]);
}

#[test]
fn two_readers_who_disagree_about_the_order() {
    let anomalies = Story::default()
        .committed(1, 0, 10, &[append(A, 1)])
        .committed(2, 0, 10, &[append(B, 2)])
        .committed(3, 0, 10, &[read(A, &[1]), read(B, &[])])
        .committed(4, 0, 10, &[read(B, &[2]), read(A, &[])])
        .ends(&[(A, &[1]), (B, &[2])]);
    assert_eq!(cycle(&anomalies).len(), 4);
}

#[test]
fn a_connection_that_does_not_see_what_it_wrote() {
    // Sent in one pipeline, so time says nothing.
    let anomalies =
        Story::default().committed(1, 0, 10, &[append(A, 1)]).committed(1, 0, 10, &[read(A, &[])]).ends(&[(A, &[1])]);
    assert_eq!(cycle(&anomalies), [(0, Reason::Session), (1, Reason::Rw(A))]);
    // A crash that keeps the later of two.
    let story = || Story::default().unknown(1, 0, 10, &[append(A, 1)]).unknown(1, 0, 10, &[append(B, 2)]);
    assert_eq!(story().ends(&[(B, &[2])]), [Anomaly::Overtaken(0, 1)]);
    assert_eq!(story().ends(&[(A, &[1])]), []);
}

#[test]
fn a_transaction_that_is_not_alone() {
    let changing = [read(A, &[]), read(A, &[1])];
    let anomalies =
        Story::default().committed(1, 0, 10, &[append(A, 1)]).committed(2, 0, 10, &changing).ends(&[(A, &[1])]);
    assert_eq!(anomalies, [Anomaly::NotIsolated(1, A)]);
    let blind = [append(A, 1), read(A, &[])];
    assert_eq!(Story::default().committed(1, 0, 10, &blind).ends(&[(A, &[1])]), [Anomaly::NotIsolated(0, A)]);
}

#[test]
fn values_that_nobody_can_have_seen() {
    let story = || Story::default().committed(1, 0, 10, &[append(A, 1)]).committed(1, 11, 20, &[append(A, 2)]);
    assert_eq!(story().ends(&[(A, &[1, 2, 9])]), [Anomaly::Unwritten(A, 9)]);
    assert_eq!(story().ends(&[(A, &[1, 2, 2])]), [Anomaly::Twice(A, 2)]);
    let anomalies = story().committed(2, 30, 40, &[read(A, &[2, 1])]).ends(&[(A, &[1, 2])]);
    assert_eq!(anomalies, [Anomaly::Reordered(2, A)]);
    let anomalies = story().tell(2, 30, 40, Outcome::Aborted, &[append(A, 3)]).ends(&[(A, &[1, 2, 3])]);
    assert_eq!(anomalies, [Anomaly::Refused(A, 3)]);
}

#[test]
fn time_is_followed_over_many_transactions() {
    let mut story = Story::default().committed(1, 0, 1, &[append(A, 1)]);
    for n in 0..1000 {
        story = story.committed(2, 2 + 2 * n, 3 + 2 * n, &[append(B, 10 + n as u32)]);
    }
    let all: Vec<Element> = (10..1010).collect();
    let anomalies = story.committed(3, 5000, 5001, &[read(A, &[])]).ends(&[(A, &[1]), (B, &all)]);
    // Shortest: over one moment after another, which are no transactions.
    assert_eq!(cycle(&anomalies), [(0, Reason::Time), (1001, Reason::Rw(A))]);
}
