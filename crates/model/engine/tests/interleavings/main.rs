//! Workers of one engine under every kind of schedule that the model checker thinks up: mailboxes, blocked sessions and
//! those who serve them, WATCH, publish/subscribe, the log.
//!
//! `KELDA_MODEL_ROUNDS=100 cargo test -p kelda-engine-model` explores a hundred times as much.

mod durability;
mod world;

use kelda_engine_model as kelda_engine;

use kelda_engine::mailbox::{Mailbox, Message, SessionRef};
use kelda_engine::worker::Clock;
use kelda_resp::Value;
use shuttle::sync::Barrier;
use shuttle::thread;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use world::{Bell, Node, Part, START_US, World, explore, together};

fn bulk(text: &str) -> Value {
    Value::Bulk(text.into())
}

fn elements(value: Value) -> Vec<String> {
    let text = |value: &Value| match value {
        Value::Bulk(text) => String::from_utf8_lossy(text).into_owned(),
        other => panic!("no text: {other:?}"),
    };
    match value {
        Value::Array(items) => items.iter().map(text).collect(),
        Value::Null | Value::NullArray => Vec::new(),
        other => vec![text(&other)],
    }
}

#[test]
fn a_mailbox_loses_no_message_and_wakes_its_owner() {
    explore(4_000, || {
        let bell = Arc::new(Bell::default());
        let ringer = bell.clone();
        let mailbox = Arc::new(Mailbox::new(Box::new(move || ringer.ring())));
        let note =
            |sender: u64, number: usize| Message::Kill { session: SessionRef { worker: 0, slot: number, id: sender } };
        for sender in 1..=2 {
            let mailbox = mailbox.clone();
            thread::spawn(move || (0..3).for_each(|number| mailbox.post(note(sender, number))));
        }
        let (mut next, mut mail) = ([0; 3], Vec::new());
        while next != [1, 3, 3] {
            while mailbox.has_mail() {
                mailbox.drain_into(&mut mail);
                for message in mail.drain(..) {
                    let Message::Kill { session } = message else { panic!("another message") };
                    assert_eq!(session.slot, next[session.id as usize], "out of order");
                    next[session.id as usize] += 1;
                }
            }
            if next == [0, 1, 1] {
                // From the owner itself, which looks once more before it sleeps.
                mailbox.post_to_self(note(0, 0));
            } else if next == [0, 3, 3] {
                mailbox.post_to_self(note(0, 0));
            }
            if !mailbox.has_mail() && next != [1, 3, 3] {
                bell.wait();
            }
        }
    });
}

#[test]
fn a_worker_does_not_sleep_on_what_its_own_expiry_sent_it() {
    explore(200, || {
        let world = World::with("notify-keyspace-events KEA\n", 2);
        let parts: Vec<Part<()>> = vec![
            Box::new(|mut node: Node| {
                let (listener, writer) = (node.connect(), node.connect());
                node.ask(listener, "SUBSCRIBE __keyevent@0__:expired");
                // One key for each worker to expire, and one more.
                (0..3).for_each(|number| drop(node.ask(writer, &format!("SET key:{number} v PX 5"))));
                node.clock.advance_us(200_000);
                node.worker.engine.post(0, 1, Message::Shutdown);
                (0..3).for_each(|_| drop(node.receive(listener)));
            }),
            Box::new(|mut node: Node| {
                while node.clock.monotonic_us() < START_US + 200_000 {
                    node.turn();
                }
                node.worker.wake();
            }),
        ];
        together(&world, parts);
    });
}

#[test]
fn a_waiter_whose_time_ends_while_it_is_served_gets_one_reply() {
    explore(1_500, || {
        let world = World::new(4);
        let waiter = |line: &'static str| {
            Box::new(move |mut node: Node| {
                let slot = node.connect();
                node.send(slot, line);
                node.clock.advance_us(2_000_000);
                let got = elements(node.receive(slot));
                assert!(!node.worker.has_pending(slot), "two replies");
                assert_eq!(node.ask(slot, "PING"), Value::Status(b"PONG".to_vec()));
                got.get(1).cloned()
            }) as Part<Option<String>>
        };
        let pusher = |line: &'static str| {
            Box::new(move |mut node: Node| {
                let slot = node.connect();
                node.ask(slot, line);
                None
            }) as Part<Option<String>>
        };
        let parts = vec![waiter("BLPOP a b 1"), waiter("BLPOP b a 1"), pusher("RPUSH a x"), pusher("RPUSH b y")];
        let mut got: Vec<String> = together(&world, parts).into_iter().flatten().collect();
        got.extend(left_in(&world, &["a", "b"]));
        got.sort();
        assert_eq!(got, ["x", "y"]);
        assert_eq!(world.engine.clients.blocked.load(SeqCst), 0);
    });
}

/// What is left in lists once everybody is done.
fn left_in(world: &World, lists: &[&str]) -> Vec<String> {
    use kelda_store::shard::ShardSet;
    use kelda_store::txn::{Context, Env, Key, Txn};
    let guard = world.engine.keyspace.lock(ShardSet::All).expect("nobody holds a shard");
    assert!((0..kelda_store::shard::SHARDS).all(|shard| guard.shard(shard).waiters.is_empty()), "a waiter stayed");
    let txn = Txn::new(guard, 0, 0, Context::new(Env::default(), 1));
    let mut left = Vec::new();
    for list in lists {
        if let Ok(Some(list)) = txn.list(Key::new(list.as_bytes())) {
            left.extend(list.iter().map(|item| String::from_utf8_lossy(&item.to_vec()).into_owned()));
        }
    }
    left
}

#[test]
fn a_waiter_that_reaches_a_second_key_hands_on_to_its_waiters() {
    explore(1_500, || {
        let world = World::new(4);
        let ask = |line: &'static str| {
            Box::new(move |mut node: Node| {
                let slot = node.connect();
                let got = node.ask(slot, line);
                assert!(!node.worker.has_pending(slot), "two replies");
                got
            }) as Part<Value>
        };
        let lines = ["BLMOVE a b LEFT RIGHT 0", "BLPOP b 0", "RPUSH a x", "RPUSH b y"];
        let got = together(&world, lines.into_iter().map(ask).collect());
        assert_eq!(got[0], bulk("x"));
        let mut all = elements(got[1].clone()).split_off(1);
        all.extend(left_in(&world, &["a", "b"]));
        all.sort();
        assert_eq!(all, ["x", "y"]);
    });
}

#[test]
fn a_waiter_that_vanishes_leaves_nothing_behind() {
    explore(1_500, || {
        let world = World::new(2);
        let parts: Vec<Part<bool>> = vec![
            Box::new(|mut node: Node| {
                let slot = node.connect();
                node.send(slot, "BLPOP a b 0");
                node.worker.disconnect(slot);
                // A wait whose shards are busy is ended by cron.
                for _ in 0..20 {
                    node.clock.advance_us(200_000);
                    node.worker.wake();
                    thread::yield_now();
                }
                true
            }),
            Box::new(|mut node: Node| {
                let slot = node.connect();
                node.ask(slot, "RPUSH b x") == Value::Int(1)
            }),
        ];
        together(&world, parts);
        // It may have been served before it left, as in Redis; but it is in no queue.
        assert!(left_in(&world, &["b"]).len() <= 1);
        assert_eq!(world.engine.clients.blocked.load(SeqCst), 0);
    });
}

#[test]
fn a_transaction_runs_only_if_its_watched_keys_have_not_changed() {
    explore(1_500, || {
        let world = World::new(3);
        let count = |key: &'static str| {
            Box::new(move |mut node: Node| {
                let slot = node.connect();
                loop {
                    node.ask(slot, "WATCH a b");
                    let before: u64 = elements(node.ask(slot, &format!("GET {key}")))
                        .first()
                        .map_or(0, |text| text.parse().expect("a number"));
                    node.ask(slot, "MULTI");
                    node.ask(slot, &format!("SET {key} {}", before + 1));
                    if node.ask(slot, "EXEC") != Value::NullArray {
                        return;
                    }
                }
            }) as Part<()>
        };
        together(&world, vec![count("a"), count("b"), count("a")]);
        let world_again = world.engine.keyspace.lock(kelda_store::shard::ShardSet::All).expect("free");
        for shard in 0..kelda_store::shard::SHARDS {
            assert!(world_again.shard(shard).watchers.is_empty(), "a watch stayed");
        }
        use kelda_store::txn::{Context, Env, Key, Txn};
        let txn = Txn::new(world_again, 0, 0, Context::new(Env::default(), 1));
        let text = |key: &[u8]| txn.string(Key::new(key)).expect("a string").map(|text| text.to_vec());
        assert_eq!(text(b"a"), Some(b"2".to_vec()));
        assert_eq!(text(b"b"), Some(b"1".to_vec()));
    });
}

#[test]
fn a_copy_that_is_out_of_date_is_always_told() {
    explore(2_000, || {
        for track in ["CLIENT TRACKING ON", "CLIENT TRACKING ON BCAST"] {
            let world = World::new(3);
            let written = Arc::new(Barrier::new(3));
            let reader = |written: Arc<Barrier>| {
                Box::new(move |mut node: Node| {
                    let slot = node.connect();
                    node.ask(slot, "HELLO 3");
                    node.ask(slot, track);
                    let mut copy: Option<Value> = None;
                    // A push makes the copy void; a reply is newer than all pushes before it.
                    let ask = |node: &mut Node, copy: &mut Option<Value>, line: &str| {
                        node.send(slot, line);
                        loop {
                            match node.receive(slot) {
                                Value::Push(_) => *copy = None,
                                reply => return reply,
                            }
                        }
                    };
                    for _ in 0..2 {
                        copy = Some(ask(&mut node, &mut copy, "GET k"));
                    }
                    written.wait();
                    ask(&mut node, &mut copy, "PING");
                    if let Some(copy) = copy {
                        let mut none = None;
                        assert_eq!(copy, ask(&mut node, &mut none, "GET k"));
                    }
                }) as Part<()>
            };
            let writer = |line: &'static str, written: Arc<Barrier>| {
                Box::new(move |mut node: Node| {
                    let slot = node.connect();
                    node.ask(slot, line);
                    written.wait();
                }) as Part<()>
            };
            let parts =
                vec![reader(written.clone()), writer("SET k 1", written.clone()), writer("INCRBY k 5", written)];
            together(&world, parts);
        }
    });
}

#[test]
fn subscribers_of_a_channel_see_one_order() {
    explore(1_000, || {
        let world = World::new(3);
        let subscribed = Arc::new(Barrier::new(3));
        let part = |subscribe: Option<&'static str>, publishes: bool| {
            let subscribed = subscribed.clone();
            Box::new(move |mut node: Node| {
                let slot = node.connect();
                if let Some(line) = subscribe {
                    node.ask(slot, line);
                }
                subscribed.wait();
                if publishes {
                    let (publisher, index) = (node.connect(), node.worker.index);
                    for number in 0..2 {
                        assert_eq!(node.ask(publisher, &format!("PUBLISH c {index}:{number}")), Value::Int(2));
                    }
                }
                let payload = |value| match value {
                    Value::Array(mut items) | Value::Push(mut items) => items.pop().expect("a payload"),
                    other => panic!("no message: {other:?}"),
                };
                let messages = if subscribe.is_some() { 4 } else { 0 };
                (0..messages).map(|_| payload(node.receive(slot))).collect()
            }) as Part<Vec<Value>>
        };
        // Both kinds of subscriber, on a worker that publishes and on one that does not.
        let parts = vec![part(Some("SUBSCRIBE c"), false), part(Some("PSUBSCRIBE *"), true), part(None, true)];
        let seen = together(&world, parts);
        assert_eq!(seen[0], seen[1]);
    });
}
