//! The master's side of replication, with a thread that saves and a disk in memory: what followers are sent.

mod disk;

use disk::Memory;
use kelda_engine::testing::Console;
use kelda_log::rdb::RdbFile;
use std::sync::Arc;
use std::thread::JoinHandle;

struct Scene {
    console: Console,
    saver: Option<JoinHandle<()>>,
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.console.engine.saves.end();
        if let Some(saver) = self.saver.take() {
            assert!(saver.join().is_ok() || std::thread::panicking());
        }
    }
}

/// Keys in a snapshot.
fn keys(rdb: &[u8]) -> usize {
    let mut file = RdbFile::open(rdb).expect("an RDB file");
    let mut keys = 0;
    while let Some(block) = file.next_block().expect("it is whole") {
        keys += block.entries().len();
    }
    keys
}

/// Commands as text, separated by ` | `.
fn commands(mut bytes: &[u8]) -> String {
    let mut shown = Vec::new();
    while let Some((value, used)) = kelda_resp::decode(bytes).expect("RESP") {
        let words: Vec<String> = match value {
            kelda_resp::Value::Array(words) => words.iter().map(word).collect(),
            other => panic!("no command: {other:?}"),
        };
        shown.push(words.join(" "));
        bytes = &bytes[used..];
    }
    assert!(bytes.is_empty(), "{}", bytes.escape_ascii());
    shown.join(" | ")
}

fn word(value: &kelda_resp::Value) -> String {
    match value {
        kelda_resp::Value::Bulk(text) => String::from_utf8_lossy(text).into_owned(),
        other => panic!("no word: {other:?}"),
    }
}

impl Scene {
    fn new(settings: &[(&str, &str)]) -> Scene {
        let mut all = vec![("repl-diskless-sync-delay", "0")];
        all.extend_from_slice(settings);
        let console = Console::new(&all);
        let (engine, files) = (console.engine.clone(), Arc::new(Memory::default()));
        let saver = std::thread::spawn(move || engine.saves.serve(&engine, &*files, &|| None));
        Scene { console, saver: Some(saver) }
    }

    /// Receives until `whole` finds what it looks for in the bytes, which it takes off.
    fn receive<R>(&mut self, name: &str, mut whole: impl FnMut(&mut Vec<u8>) -> Option<R>) -> R {
        let mut bytes = Vec::new();
        loop {
            self.console.turn();
            bytes.extend(self.console.raw(name));
            if let Some(found) = whole(&mut bytes) {
                assert!(bytes.is_empty(), "more than expected: {}", bytes.escape_ascii());
                return found;
            }
            assert!(!self.console.is_closed(name), "{name} was cut off");
            std::thread::yield_now();
        }
    }

    /// SYNC; the snapshot.
    fn sync(&mut self, name: &str) -> Vec<u8> {
        self.console.send(name, b"SYNC\r\n");
        self.receive(name, |bytes| {
            let line = bytes.iter().position(|byte| *byte == b'\n')?;
            let len: usize = std::str::from_utf8(&bytes[1..line - 1]).ok()?.parse().ok()?;
            (bytes.len() > line + len).then(|| {
                bytes.drain(..=line);
                bytes.drain(..len).collect()
            })
        })
    }

    /// PSYNC of one that knows nothing: the history's name, the place in it, the snapshot.
    fn psync(&mut self, name: &str) -> (String, u64, Vec<u8>) {
        let said = self.console.ask(name, "REPLCONF listening-port 7001 capa eof capa psync2 capa unknown");
        assert_eq!(said, "+OK");
        self.console.send(name, b"PSYNC ? -1\r\n");
        self.receive(name, |bytes| {
            let text = String::from_utf8_lossy(bytes).into_owned();
            let (line, rest) = text.strip_prefix("+FULLRESYNC ")?.split_once("\r\n$EOF:")?;
            let (mark, _) = rest.split_once("\r\n")?;
            let (id, place) = line.split_once(' ')?;
            let begin = text.len() - rest.len() + mark.len() + 2;
            assert_eq!((id.len(), mark.len()), (40, 40));
            // The mark in front, and the one at the end. Texts are lossy only behind the first line.
            let begin = begin.min(bytes.len());
            (bytes.len() > begin + 40 && bytes.ends_with(mark.as_bytes())).then(|| {
                let all = std::mem::take(bytes);
                (id.to_string(), place.parse().expect("a number"), all[begin..all.len() - 40].to_vec())
            })
        })
    }

    /// What a follower was fed since.
    fn fed(&mut self, name: &str) -> String {
        self.console.turn();
        commands(&self.console.raw(name))
    }

    fn info(&mut self, name: &str) -> String {
        let text = self.console.ask("info", "INFO replication");
        let field = text.split(' ').find_map(|field| field.strip_prefix(&format!("{name}:")).map(str::to_owned));
        field.unwrap_or_else(|| panic!("{name} in {text}"))
    }
}

#[test]
fn a_follower_of_old_gets_a_snapshot_and_all_that_follows() {
    let mut scene = Scene::new(&[]);
    scene.console.check("SET a 1 => +OK\n RPUSH l x y => :2\n SELECT 3 => +OK\n SET b 2 => +OK");
    assert_eq!(keys(&scene.sync("r")), 3);
    assert_eq!(scene.fed("r"), "");
    scene.console.check(
        "SET b 3 PX 5000 => +OK
         MULTI => +OK
         SET c 1 => +QUEUED
         SELECT 0 => +QUEUED
         SPOP none 3 => +QUEUED
         LPOP l 2 => +QUEUED
         PUBLISH news hello => +QUEUED
         EXEC => *5 +OK +OK *0 *2 $1 x $1 y :0
         MULTI => +OK
         SET d 1 => +QUEUED
         EXEC => *1 +OK
         GET d => $1 1
         PUBLISH news again => :0
         SPUBLISH shard hello => :0
         EVAL \"redis.call('set', KEYS[1], 2) redis.call('incr', 'other')\" 1 d => $-1
         SELECT 3 => +OK
         FLUSHDB => +OK
         FLUSHALL => +OK",
    );
    assert_eq!(
        scene.fed("r"),
        "SELECT 3 | SET b 3 PXAT 1767225605000 | MULTI | SET c 1 | SELECT 0 | LPOP l 2 | PUBLISH news hello | EXEC | SET d 1 \
         | PUBLISH news again | SPUBLISH shard hello | MULTI | SET d 2 | SET other 1 | EXEC | SELECT 3 | FLUSHDB | FLUSHALL"
    );
    scene.console.check(
        "FUNCTION LOAD \"#!lua name=l\\nredis.register_function('f', function() end)\" => $1 l\n FUNCTION DELETE l => +OK",
    );
    assert_eq!(
        scene.fed("r"),
        "FUNCTION LOAD #!lua name=l\nredis.register_function('f', function() end) | FUNCTION DELETE l"
    );
    // A second one joins: the database is said anew for both.
    scene.console.check("SET e 1 => +OK");
    assert_eq!(keys(&scene.sync("s")), 1);
    scene.console.check("SET e 2 => +OK");
    assert_eq!(
        (scene.fed("r").as_str(), scene.fed("s").as_str()),
        ("SET e 1 | SELECT 3 | SET e 2", "SELECT 3 | SET e 2")
    );
    assert_eq!(scene.info("connected_slaves"), "2");
    assert!(scene.console.ask("a", "CLIENT LIST TYPE replica").contains("flags=S"));
    // It follows, and does nothing else: a reply would be read as part of the feed.
    assert_eq!(scene.console.ask("s", "GET e"), "");
    scene.console.turn();
    assert_eq!((scene.console.is_closed("s"), scene.info("connected_slaves")), (true, "1".into()));
    scene.console.check("CLIENT KILL TYPE replica => :1");
    scene.console.turn();
    assert_eq!((scene.console.is_closed("r"), scene.info("connected_slaves")), (true, "0".into()));
}

#[test]
fn what_is_due_goes_as_a_removal_of_its_own() {
    let mut scene = Scene::new(&[]);
    scene.console.check("DEBUG SET-ACTIVE-EXPIRE 0 => +OK\n MSET a 1 b 1 c 1 => +OK");
    scene.console.check("PEXPIRE a 10 => :1\n PEXPIRE b 10 => :1\n PEXPIRE c 10 => :1");
    scene.sync("r");
    scene.console.advance_ms(20);
    scene.console.check("SCAN 0 COUNT 100000 => *2 $1 0 *0\n SET x 1 => +OK");
    let mut gone: Vec<String> = scene.fed("r").split(" | ").map(str::to_owned).collect();
    gone[1..4].sort();
    assert_eq!(gone, ["SELECT 0", "UNLINK a", "UNLINK b", "UNLINK c", "SET x 1"]);
    scene.console.check("CONFIG SET lazyfree-lazy-expire no => +OK\n SET y 1 => +OK\n EXPIRE y -1 => :1");
    assert_eq!(scene.fed("r"), "SET y 1 | DEL y");
    // A session that waits is served on its own, too.
    assert_eq!(scene.console.ask("waiter", "BRPOP l 0"), "");
    scene.console.check("RPUSH l a b => :2");
    assert_eq!(scene.fed("r"), "RPUSH l a b | RPOP l");
}

#[test]
fn one_that_comes_back_gets_what_it_missed() {
    let mut scene = Scene::new(&[("repl-backlog-size", "16384")]);
    scene.console.check("SET a 1 => +OK");
    let (id, place, rdb) = scene.psync("r");
    assert_eq!((place, keys(&rdb)), (0, 1));
    // Behind the mark nothing comes before the follower has said that it is ready.
    scene.console.check("SET a 2 => +OK");
    assert_eq!(scene.fed("r"), "");
    assert_eq!(scene.console.ask("r", "REPLCONF ACK 0"), "*2 $6 SELECT $1 0 *3 $3 SET $1 a $1 2");
    let place: u64 = scene.info("master_repl_offset").parse().expect("a number");
    assert_eq!(scene.info("slave0"), "ip=127.0.0.1,port=7001,state=online,offset=0,lag=0");
    assert_eq!(scene.console.ask("r", &format!("REPLCONF ACK {place}")), "");
    scene.console.check(&format!("ROLE => *3 $6 master :{place} *1 *3 $9 127.0.0.1 $4 7001 $2 {place}"));
    scene.console.check("CLIENT KILL TYPE slave => :1\n SET a 3 => +OK");
    // It has not seen the last one, and says so.
    assert_eq!(scene.console.ask("s", "REPLCONF capa psync2"), "+OK");
    scene.console.send("s", format!("PSYNC {id} {}\r\n", place + 1).as_bytes());
    let bytes = scene.console.raw("s");
    let line = format!("+CONTINUE {id}\r\n");
    assert!(bytes.starts_with(line.as_bytes()), "{}", bytes.escape_ascii());
    assert_eq!(commands(&bytes[line.len()..]), "SET a 3");
    // Another history, or a place that is not kept any more.
    for (name, id, place) in [("t", "0".repeat(40), place + 1), ("u", id.clone(), 1 << 40)] {
        scene.console.send(name, format!("PSYNC {id} {place}\r\n").as_bytes());
        let line = scene.receive(name, |bytes| {
            let line =
                String::from_utf8_lossy(bytes.get(..bytes.iter().position(|byte| *byte == b'\n')?)?).into_owned();
            bytes.clear();
            Some(line)
        });
        assert!(line.starts_with("+FULLRESYNC "), "{line}");
    }
    scene.console.check("CLIENT KILL TYPE slave => :3");
    for _ in 0..20 {
        scene.console.ask("a", &format!("SET a {}", "x".repeat(10_000)));
    }
    assert_eq!(scene.info("repl_backlog_histlen"), "16384");
    scene.console.send("v", format!("PSYNC {id} {}\r\n", place + 1).as_bytes());
    scene.receive("v", |bytes| bytes.starts_with(b"+FULLRESYNC").then(|| bytes.clear()));
    let stats = scene.console.ask("a", "INFO stats");
    assert!(stats.contains("sync_full:4 sync_partial_ok:1 sync_partial_err:3"), "{stats}");
}

#[test]
fn without_followers_the_history_ends() {
    let mut scene = Scene::new(&[("repl-backlog-ttl", "5")]);
    let (id, ..) = scene.psync("r");
    scene.console.check("CLIENT KILL TYPE slave => :1");
    scene.console.turn();
    scene.console.advance_ms(4_900);
    assert_eq!((scene.info("repl_backlog_active"), scene.info("master_replid")), ("1".into(), id.clone()));
    scene.console.advance_ms(200);
    assert_eq!(scene.info("repl_backlog_active"), "0");
    assert_ne!(scene.info("master_replid"), id);
    scene.console.check("SET a 1 => +OK");
    assert_eq!(scene.info("master_repl_offset"), "0");
}

#[test]
fn wait_counts_followers() {
    let mut scene = Scene::new(&[]);
    scene.console.check("WAIT 0 0 => :0\n SET a 1 => +OK");
    assert_eq!(scene.console.ask("a", "WAIT 1 100"), "");
    scene.console.advance_ms(100);
    assert_eq!(scene.console.raw("a"), b":0\r\n");
    scene.psync("r");
    assert_eq!(scene.console.ask("r", "REPLCONF ACK 0"), "");
    // It was there before the client wrote anything that a follower could have had.
    scene.console.check("WAIT 1 0 => :1\n SET a 2 => +OK");
    assert_eq!(scene.fed("r"), "SELECT 0 | SET a 2");
    let place = scene.info("master_repl_offset");
    assert_eq!(scene.console.ask("a", "WAIT 1 0"), "");
    assert_eq!(scene.fed("r"), "REPLCONF GETACK *");
    assert_eq!(scene.console.ask("r", &format!("REPLCONF ACK {}", place.parse::<u64>().expect("a number") - 1)), "");
    assert_eq!(scene.console.raw("a"), b"");
    assert_eq!(scene.console.ask("r", &format!("REPLCONF ACK {place}")), "");
    scene.console.turn();
    assert_eq!(scene.console.raw("a"), b":1\r\n");
    scene.console.check("WAIT 1 0 => :1");
    // Within MULTI nobody waits.
    scene.console.check("MULTI => +OK\n SET a 3 => +QUEUED\n WAIT 1 0 => +QUEUED\n EXEC => *2 +OK :1");
    // On disk it is only once the follower says so.
    scene.fed("r");
    let place = scene.info("master_repl_offset");
    assert_eq!(scene.console.ask("a", "WAITAOF 0 1 0"), "");
    assert_eq!(scene.console.ask("r", &format!("REPLCONF ACK {place} FACK 5")), "*3 $8 REPLCONF $6 GETACK $1 *");
    assert_eq!(scene.console.raw("a"), b"");
    assert_eq!(scene.console.ask("r", &format!("REPLCONF ACK {place} FACK {place}")), "");
    scene.console.turn();
    assert_eq!(scene.console.raw("a"), b"*2\r\n:0\r\n:1\r\n");
}

#[test]
fn writes_may_need_followers() {
    let mut scene = Scene::new(&[("min-replicas-to-write", "1"), ("min-replicas-max-lag", "3")]);
    scene.console.check("SET a 1 => -NOREPLICAS Not enough good replicas to write.\n GET a => $-1");
    scene.psync("r");
    assert_eq!(scene.console.ask("r", "REPLCONF ACK 0"), "");
    scene.console.advance_ms(1000);
    scene.console.check("SET a 1 => +OK");
    assert_eq!(scene.info("min_slaves_good_slaves"), "1");
    scene.console.advance_ms(4000);
    scene.console.check("SET a 2 => -NOREPLICAS Not enough good replicas to write.");
    assert_eq!(scene.console.ask("r", "REPLCONF ACK 0").matches("SET").count(), 1);
    scene.console.advance_ms(200);
    scene.console.check("SET a 2 => +OK");
}

#[test]
fn followers_are_pinged_and_the_silent_are_cut_off() {
    let mut scene = Scene::new(&[("repl-ping-replica-period", "7"), ("repl-timeout", "20")]);
    scene.psync("r");
    assert_eq!(scene.console.ask("r", "REPLCONF ACK 0"), "");
    for _ in 0..16 {
        scene.console.advance_ms(1000);
    }
    assert_eq!(scene.fed("r"), "PING | PING");
    assert_eq!(scene.console.ask("r", "REPLCONF ACK 28"), "");
    scene.console.advance_ms(19_000);
    scene.console.turn();
    assert!(!scene.console.is_closed("r"));
    scene.console.advance_ms(2_000);
    scene.console.turn();
    assert!(scene.console.is_closed("r"));
}

#[test]
fn replconf_says_what_is_wrong() {
    let mut scene = Scene::new(&[]);
    scene.console.check(
        "REPLCONF => +OK
         REPLCONF a => -ERR syntax error
         REPLCONF a b => -ERR Unrecognized REPLCONF option: a
         REPLCONF listening-port x => -ERR value is not an integer or out of range
         REPLCONF rdb-only 2 => -ERR value is out of range, value must between 0 and 1
         REPLCONF rdb-filter-only foo => -ERR Unsupported rdb-filter-only option: foo
         REPLCONF version 9.1.2 => +OK
         REPLCONF version foo => -ERR Unrecognized version format: foo
         PSYNC a b => -ERR value is not an integer or out of range
         MULTI => +OK
         SYNC => -ERR Command not allowed inside a transaction
         DISCARD => +OK",
    );
    // Who is no follower has nothing to acknowledge.
    assert_eq!(scene.console.ask("a", "REPLCONF ACK 5"), "");
    // One that wants a snapshot and no more is fed nothing.
    assert_eq!(scene.console.ask("b", "REPLCONF rdb-only 1"), "+OK");
    assert_eq!(keys(&scene.sync("b")), 0);
    scene.console.check("SET a 1 => +OK");
    assert_eq!(scene.fed("b"), "");
}

#[test]
fn a_snapshot_has_the_parts_that_were_asked_for() {
    let mut scene = Scene::new(&[]);
    let code = "#!lua name=l\nredis.register_function('f', function() return 1 end)";
    let line = format!("FUNCTION LOAD \"{}\"", code.replace('\n', "\\n"));
    assert_eq!(scene.console.ask("a", &line), "$1 l");
    scene.console.check("SET a 1 => +OK");
    let library = |rdb: &[u8]| rdb.windows(code.len()).any(|bytes| bytes == code.as_bytes());
    for (filter, has_keys, has_library) in [(None, 1, true), (Some("functions"), 0, true), (Some("''"), 0, false)] {
        let name = filter.unwrap_or("all");
        assert_eq!(scene.console.ask(name, "REPLCONF rdb-only 1"), "+OK");
        if let Some(filter) = filter {
            assert_eq!(scene.console.ask(name, &format!("REPLCONF rdb-filter-only {filter}")), "+OK");
        }
        let rdb = scene.sync(name);
        assert_eq!((keys(&rdb), library(&rdb)), (has_keys, has_library), "{name}");
    }
    // Nothing of it stays: another snapshot is whole.
    scene.console.check("SET b 1 => +OK");
    assert_eq!(keys(&scene.sync("last")), 2);
}

/// Random commands, in several databases, in transactions and scripts, with keys that expire, while a follower reads. A second
/// engine that runs the feed has the same in the end.
#[test]
fn the_feed_makes_the_same_keyspace() {
    let mut scene = Scene::new(&[]);
    scene.sync("r");
    let mut follower = Console::new(&[]);
    let mut state = 1u64;
    let mut random = |below: u64| {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (state >> 33) % below
    };
    let mut in_multi = false;
    for round in 0..4_000 {
        let (k, n) = (random(6), random(50));
        let line = match random(22) {
            0 => format!("SET s{k} {n} PX {}", 1 + random(80)),
            1 => format!("INCRBY s{k} {n}"),
            2 => format!("APPEND s{k} {n}"),
            3 => format!("RPUSH l{k} {n} {round}"),
            4 => format!("LMPOP 2 l{k} l{n} LEFT COUNT 2"),
            5 => format!("HSET h{k} {n} {round}"),
            6 => format!("HPEXPIRE h{k} {} FIELDS 1 {n}", 1 + random(80)),
            7 => format!("SADD t{k} {n} x{n} {round}"),
            8 => format!("SPOP t{k} {}", random(6)),
            9 => format!("ZADD z{k} {n} m{n}"),
            10 => format!("ZMPOP 2 z{k} z0 MAX COUNT {}", 1 + random(4)),
            11 => format!("XADD x{k} * f {n}"),
            12 => format!("SELECT {}", random(3)),
            13 => format!("RENAME l{k} l{n}"),
            14 => format!("MOVE s{k} {}", random(3)),
            15 => format!("PEXPIRE z{k} {}", 1 + random(80)),
            16 => format!("EVAL \"redis.call('incr', KEYS[1]) return redis.call('spop', 't{k}')\" 1 c{k}"),
            17 if !in_multi && n < 5 => format!("SWAPDB 0 {}", 1 + random(2)),
            18 if n < 2 => "FLUSHDB".to_string(),
            19 if !in_multi => "MULTI".to_string(),
            20 => "EXEC".to_string(),
            _ => format!("DEL l{k} z{k} s{n}"),
        };
        in_multi = (in_multi || line == "MULTI") && line != "EXEC";
        scene.console.ask("a", &line);
        scene.console.advance_ms(random(10));
        let compares = round % 100 == 99 && !in_multi;
        if compares {
            // Whatever has an expiry time is due by then, and removed.
            (0..3).for_each(|_| scene.console.advance_ms(200));
        }
        let bytes = scene.console.raw("r");
        follower.send("master", &bytes);
        let replies = follower.raw("master");
        let failed = replies.starts_with(b"-") || replies.windows(3).any(|part| part == b"\r\n-");
        assert!(!failed, "{line}: {}", replies.escape_ascii());
        if compares {
            let want = scene.console.ask("digest", "DEBUG DIGEST");
            assert_eq!(follower.ask("digest", "DEBUG DIGEST"), want, "after {round}");
        }
    }
}
