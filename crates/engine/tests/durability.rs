//! Nothing leaves before it is durable: a log in memory that is told by hand how far it is on disk.

use kelda_engine::durability::{ChangeSink, Health, Lsn};
use kelda_engine::testing::Console;
use kelda_store::txn::Changes;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

#[derive(Default)]
struct Log {
    last: AtomicU64,
    durable: AtomicU64,
    wanted: AtomicU64,
}

impl ChangeSink for Log {
    fn commit(&self, changes: &Changes) -> Lsn {
        assert!(!changes.is_empty());
        self.last.fetch_add(1, SeqCst) + 1
    }
    fn durable_lsn(&self) -> Lsn {
        self.durable.load(SeqCst)
    }
    fn last_lsn(&self) -> Lsn {
        self.last.load(SeqCst)
    }
    fn get_on(&self, durable: bool) {
        if durable {
            self.wanted.store(self.last.load(SeqCst), SeqCst);
        }
    }
    fn sync_now(&self) {
        self.durable.store(self.last.load(SeqCst), SeqCst);
    }
}

struct Scene {
    log: Arc<Log>,
    console: Console,
}

impl Scene {
    fn new(appendfsync: &str) -> Scene {
        let log = Arc::new(Log::default());
        let console = Console::with_sink(&[("appendfsync", appendfsync)], Some(log.clone()));
        Scene { log, console }
    }

    /// The log is durable up to here.
    fn reach(&mut self, lsn: Lsn) {
        self.log.durable.store(lsn, SeqCst);
        self.console.engine.log_progressed();
        self.console.turn();
    }

    fn raw(&mut self, name: &str) -> String {
        String::from_utf8_lossy(&self.console.raw(name)).trim_end().replace("\r\n", " ")
    }

    #[track_caller]
    fn check(&mut self, conversation: &str) {
        for line in conversation.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (name, rest) = line.split_once(": ").unwrap();
            let (command, want) = rest.split_once(" =>").unwrap();
            let got = match command.strip_prefix("durable ") {
                Some(lsn) => {
                    self.reach(lsn.parse().unwrap());
                    self.raw(name)
                }
                None => self.console.ask(name, command),
            };
            assert_eq!(got, want.trim(), "{line}");
        }
    }
}

#[test]
fn a_write_is_acknowledged_once_it_is_durable() {
    let mut scene = Scene::new("always");
    scene.check(
        "a: SET k 1 =>
         b: GET other => $-1
         a: durable 1 => +OK
         a: GET k => $1 1",
    );
    assert_eq!(scene.log.wanted.load(SeqCst), 1);
}

#[test]
fn no_read_tells_what_may_vanish() {
    let mut scene = Scene::new("always");
    scene.check(
        "a: SET k 1 =>
         b: GET k =>
         c: EXISTS k =>
         d: DBSIZE =>
         e: GET elsewhere => $-1
         b: durable 1 => $1 1",
    );
    assert_eq!((scene.raw("a"), scene.raw("c"), scene.raw("d")), ("+OK".into(), ":1".into(), ":1".into()));
}

#[test]
fn replies_leave_in_order_and_as_soon_as_they_may() {
    let mut scene = Scene::new("always");
    scene.check(
        "a: PING => +PONG
         a: SET k 1 =>
         a: PING =>
         a: SET k 2 =>
         a: ECHO last =>
         a: durable 1 => +OK +PONG
         a: durable 2 => +OK $4 last
         a: INCR k =>
         a: QUIT =>",
    );
    assert!(!scene.console.is_closed("a"));
    scene.check("a: durable 3 => :3 +OK");
    assert!(scene.console.is_closed("a"));
}

#[test]
fn what_is_in_the_same_pipeline_waits_too() {
    let mut scene = Scene::new("always");
    scene.console.send("a", b"GET none\r\nSET k 1\r\nGET k\r\n");
    assert_eq!(scene.raw("a"), "");
    scene.reach(1);
    assert_eq!(scene.raw("a"), "$-1 +OK $1 1");
}

#[test]
fn transactions_scripts_messages_and_served_sessions_wait() {
    let mut scene = Scene::new("always");
    scene.check(
        "a: MULTI => +OK
         a: SET k 1 => +QUEUED
         a: INCR k => +QUEUED
         a: EXEC =>
         a: durable 1 => *2 +OK :2
         a: EVAL \"redis.call('set', KEYS[1], 5) return redis.call('get', KEYS[1])\" 1 s =>
         a: durable 2 => $1 5
         s: CONFIG SET notify-keyspace-events KEA => +OK
         s: SUBSCRIBE __keyevent@0__:set => *3 $9 subscribe $18 __keyevent@0__:set :1
         b: BLPOP l 0 =>
         a: RPUSH l x =>
         b: PING =>
         a: SET k 2 =>
         b: durable 3 => *2 $1 l $1 x +PONG",
    );
    assert_eq!((scene.raw("a"), scene.raw("s")), (":1".into(), String::new()));
    scene.reach(4);
    assert_eq!(scene.raw("a"), "+OK");
    assert_eq!(scene.raw("s"), "*3 $7 message $18 __keyevent@0__:set $1 k");
}

#[test]
fn with_everysec_nothing_waits_but_for_those_who_asked() {
    let mut scene = Scene::new("everysec");
    scene.check(
        "a: SET k 1 => +OK
         b: CLIENT DURABILITY ALWAYS => +OK
         b: SET k 2 =>
         a: GET k => $1 2
         b: durable 2 => +OK
         b: CLIENT DURABILITY DEFAULT => +OK
         b: SET k 3 => +OK
         b: CLIENT DURABILITY sometimes => -ERR syntax error",
    );
    let mut scene = Scene::new("always");
    scene.check(
        "a: CLIENT DURABILITY EVERYSEC => +OK
         a: SET k 1 => +OK
         b: GET k =>
         b: durable 1 => $1 1",
    );
}

#[test]
fn a_broken_log_cuts_off_who_waits_and_refuses_writes() {
    let mut scene = Scene::new("always");
    scene.check(
        "a: SET k 1 =>
         a: durable 1 => +OK
         a: SET k 2 =>
         b: PING => +PONG",
    );
    scene.console.engine.log.set_health(Health::Broken, "Input/output error");
    scene.console.engine.log_progressed();
    scene.console.turn();
    assert!(scene.console.is_closed("a"));
    assert_eq!(scene.raw("a"), "");
    scene.check(
        "b: SET k 3 => -MISCONF Errors writing to the AOF file: Input/output error
         b: PING => -MISCONF Errors writing to the AOF file: Input/output error
         b: EVAL \"return redis.call('set', 'x', 1)\" 0 => -MISCONF Errors writing to the AOF file: Input/output error script: d3e59a42ddbf0bf90f4688baf7dec06c274f4dfe, on @user_script:1.
         b: MULTI => +OK
         b: SET k 3 => -MISCONF Errors writing to the AOF file: Input/output error
         b: EXEC => -EXECABORT Transaction discarded because of previous errors.
         b: GET elsewhere => $-1",
    );
    // What the last write left is not durable, so that nobody is told of it.
    scene.console.ask("c", "GET k");
    assert!(scene.console.is_closed("c"));
}

#[test]
fn a_log_that_stalls_goes_on() {
    let mut scene = Scene::new("always");
    scene.check("a: SET k 1 =>");
    scene.console.engine.log.set_health(Health::Stalled, "No space left on device");
    scene.check(
        "b: SET k 2 => -MISCONF Errors writing to the AOF file: No space left on device
         b: GET elsewhere => $-1",
    );
    scene.console.engine.log.set_health(Health::Good, "");
    scene.check(
        "a: durable 1 => +OK
         b: SET k 2 =>
         b: durable 2 => +OK",
    );
}

#[test]
fn waitaof_waits_for_the_disk() {
    let mut scene = Scene::new("everysec");
    scene.check(
        "a: WAITAOF 0 0 0 => *2 :1 :0
         a: SET k 1 => +OK
         a: WAITAOF 1 0 0 =>
         b: WAITAOF 1 0 0 => *2 :1 :0
         a: durable 1 => *2 :1 :0
         a: SET k 2 => +OK
         a: WAITAOF 1 0 50 =>",
    );
    scene.console.advance_ms(60);
    assert_eq!(scene.raw("a"), "*2 :0 :0");
    scene.check(
        "a: MULTI => +OK
         a: SET k 3 => +QUEUED
         a: WAITAOF 1 0 0 => +QUEUED
         a: EXEC => *2 +OK *2 :0 :0
         a: WAITAOF 2 0 0 => -ERR value is out of range, value must between 0 and 1
         a: WAITAOF 1 0 -1 => -ERR timeout is negative",
    );
    let mut console = Console::default();
    // There is no replica, so that its time must be over.
    assert_eq!(console.ask("a", "WAITAOF 0 1 10"), "");
    console.advance_ms(11);
    assert_eq!(console.raw("a"), b"*2\r\n:0\r\n:0\r\n");
    console.check("WAITAOF 1 0 0 => -ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.");
}
