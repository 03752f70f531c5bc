//! Following another server, which the tests play: every word of the conversation. Real servers: `tests/e2e/test_following.py`.

use kelda_engine::testing::{Console, Wire};
use kelda_log::rdb::{Format, RdbWriter, Version};

const HISTORY: &str = "0123456789abcdef0123456789abcdef01234567";
const ANOTHER: &str = "76543210fedcba9876543210fedcba9876543210";

/// A snapshot with a library and nothing else; the stream goes on in database 2.
fn snapshot() -> Vec<u8> {
    let mut writer = RdbWriter::new(Format { version: Version(11), compress: false }, true);
    writer.header([("repl-stream-db", "2")]);
    writer.function(b"#!lua name=l\nredis.register_function{function_name='f', callback=function() return 7 end}");
    writer.end();
    let mut bytes = Vec::new();
    let drained = writer.drain(|piece| {
        bytes.extend_from_slice(piece);
        Ok::<(), std::io::Error>(())
    });
    assert!(drained.is_ok());
    bytes
}

fn command(line: &str) -> Vec<u8> {
    let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
    let mut bytes = Vec::new();
    kelda_resp::encode_command(&mut bytes, &words);
    bytes
}

struct Scene {
    console: Console,
    wire: Wire,
    /// How much of the history the master has said.
    place: usize,
}

impl Scene {
    /// A replica that has just connected.
    fn new(settings: &[(&str, &str)]) -> Scene {
        let mut console = Console::new(settings);
        console.check("SET old 1 => +OK\nREPLICAOF master 7000 => +OK");
        let wire = console.ring();
        Scene { console, wire, place: 0 }
    }

    /// A replica that has a snapshot of place 100.
    fn synchronized(settings: &[(&str, &str)]) -> Scene {
        let mut scene = Scene::new(settings);
        scene.greet("PSYNC ? -1", &format!("+FULLRESYNC {HISTORY} 100\r\n"));
        scene.send_snapshot(100);
        scene
    }

    fn send_snapshot(&mut self, place: usize) {
        let bytes = snapshot();
        self.wire.say(format!("${}\r\n", bytes.len()).as_bytes());
        self.wire.say(&bytes);
        self.place = place;
        assert_eq!(self.hear(), format!("REPLCONF ACK {place}"));
    }

    fn hear(&mut self) -> String {
        loop {
            self.console.turn();
            match self.wire.heard() {
                Some(words) => return words.join(" "),
                None => assert!(!self.wire.is_closed(), "the replica has hung up"),
            }
            std::thread::yield_now();
        }
    }

    #[track_caller]
    fn expect(&mut self, heard: &str, answer: &str) {
        assert_eq!(self.hear(), heard);
        self.wire.say(answer.as_bytes());
    }

    #[track_caller]
    fn greet(&mut self, psync: &str, answer: &str) {
        self.expect("PING", "+PONG\r\n");
        self.expect("REPLCONF listening-port 6379", "+OK\r\n");
        self.expect("REPLCONF capa eof capa psync2", "+OK\r\n");
        self.expect("REPLCONF version 9.1.0", "-ERR what\r\n");
        self.expect(psync, answer);
    }

    /// The master does something; it has been applied when this returns.
    fn act(&mut self, lines: &str) {
        let bytes: Vec<u8> = lines.split(" | ").flat_map(command).collect();
        let ask = command("REPLCONF GETACK *");
        self.wire.say(&bytes);
        self.wire.say(&ask);
        self.place += bytes.len();
        while self.hear() != format!("REPLCONF ACK {}", self.place) {}
        self.place += ask.len();
    }

    /// The connection ends, and the replica comes back.
    fn reconnect(&mut self) {
        self.wire.close();
        self.console.turn();
        self.wire = self.console.ring();
    }

    fn info(&mut self, name: &str) -> String {
        let text = self.console.ask("info", "INFO replication");
        let field = text.split(' ').find_map(|field| field.strip_prefix(&format!("{name}:")).map(str::to_owned));
        field.unwrap_or_else(|| panic!("{name} in {text}"))
    }
}

#[test]
fn a_snapshot_and_all_that_follows() {
    let mut scene = Scene::synchronized(&[]);
    scene
        .console
        .check("GET old => $-1\nFCALL_RO f 0 => -ERR Can not execute a script with write flag using *_ro command.");
    scene.act("SET a 1 | MULTI | INCR a | SELECT 3 | SET b 1 | EXEC | SET c 1");
    scene.console.check("SELECT 2 => +OK\nGET a => $1 2\nSELECT 3 => +OK\nMGET b c => *2 $1 1 $1 1");
    scene.console.check(
        "ROLE => *5 $5 slave $6 master :7000 $9 connected :291
         SET a 1 => -READONLY You can't write against a read only replica.
         MULTI => +OK
         SET a 1 => -READONLY You can't write against a read only replica.
         EXEC => -EXECABORT Transaction discarded because of previous errors.
         EVAL \"return redis.pcall('set', 'a', 1).err\" 0 => $53 READONLY You can't write against a read only replica.
         WAITAOF 0 0 0 => -ERR WAITAOF cannot be used with replica instances. Please also note that writes to replicas are just \
         local and are not propagated.
         EVAL \"#!lua\\nreturn 1\" 0 => -READONLY You can't write against a read only replica.
         MULTI => +OK
         EVAL \"#!lua\\nreturn 1\" 0 => +QUEUED
         EXEC => -EXECABORT Transaction discarded because of: READONLY You can't write against a read only replica.
         FCALL f 0 => -READONLY You can't write against a read only replica.",
    );
}

#[test]
fn half_of_a_transaction_counts_for_nothing() {
    let mut scene = Scene::synchronized(&[]);
    scene.act("SET a 1");
    let place = scene.place;
    scene.wire.say(&command("MULTI"));
    scene.wire.say(&command("INCR a"));
    scene.console.turn();
    assert_eq!(scene.info("slave_repl_offset"), place.to_string());
    assert_eq!(scene.info("slave_read_repl_offset"), (place + 15 + 21).to_string());
    scene.reconnect();
    assert_eq!(scene.info("master_link_status"), "down");
    scene.greet(&format!("PSYNC {HISTORY} {}", place + 1), &format!("+CONTINUE {ANOTHER}\r\n"));
    assert_eq!(scene.hear(), format!("REPLCONF ACK {place}"));
    scene.act("MULTI | INCR a | EXEC");
    scene.console.check("SELECT 2 => +OK\nGET a => $1 2");
    assert_eq!((scene.info("master_replid"), scene.info("master_replid2")), (ANOTHER.into(), HISTORY.into()));
    assert_eq!(scene.info("second_repl_offset"), (place + 1).to_string());
}

#[test]
fn a_transfer_that_fails_costs_nothing() {
    let mut scene = Scene::new(&[]);
    let whole = snapshot();
    let mut damaged = whole.clone();
    damaged[40] ^= 1;
    for (said, why) in [(&whole[..30], "it breaks off"), (&damaged[..], "its sum is wrong")] {
        scene.greet("PSYNC ? -1", &format!("+FULLRESYNC {HISTORY} 5\r\n\n${}\r\n", whole.len()));
        scene.wire.say(said);
        scene.wire.close();
        scene.wire = scene.console.ring();
        assert_eq!(scene.console.ask("a", "GET old"), "$1 1", "{why}");
    }
    scene.greet("PSYNC ? -1", &format!("+FULLRESYNC {HISTORY} 5\r\n$EOF:{ANOTHER}\r\n"));
    for byte in whole.iter().chain(ANOTHER.as_bytes()) {
        scene.wire.say(&[*byte]);
    }
    assert_eq!(scene.hear(), "REPLCONF ACK 5");
    scene.console.check("GET old => $-1");
}

#[test]
fn what_is_due_goes_when_the_master_says_so() {
    let mut scene = Scene::synchronized(&[]);
    scene.act("SET a 1 PX 10 | RPUSH l 1 2 | PEXPIRE l 10");
    scene.console.advance_ms(200);
    scene.console.check("SELECT 2 => +OK\nDBSIZE => :2\nEXISTS a l => :0\nGET a => $-1\nDBSIZE => :2");
    // The master may still know it.
    scene.act("RPUSH l 3 | DEL a | PERSIST l");
    scene.console.check("LRANGE l 0 -1 => *3 $1 1 $1 2 $1 3\nDBSIZE => :1");
    // What a writable replica's own clients have expire, it removes itself.
    scene.console.check("CONFIG SET replica-read-only no => +OK\nSET own 1 PX 10 => +OK\nDBSIZE => :2");
    scene.console.advance_ms(200);
    scene.console.check("DBSIZE => :1");
}

#[test]
fn whoever_waits_is_told_and_cut_off() {
    let mut console = Console::default();
    assert_eq!(console.ask("waiter", "BLPOP l 0"), "");
    console.check("REPLICAOF master 1 => +OK");
    console.turn();
    let told = String::from_utf8_lossy(&console.raw("waiter")).into_owned();
    assert_eq!(
        told,
        "-UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)\r\n"
    );
    assert!(console.is_closed("waiter"));
    console.check(
        "REPLICAOF MASTER 1 => +OK Already connected to specified master
         PSYNC ? -1 => -NOMASTERLINK Can't SYNC while not connected with my master
         CONFIG GET replicaof => *2 $9 replicaof $8 master 1
         CONFIG SET replica-serve-stale-data no => +OK
         GET a => -MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.
         EVAL \"#!lua flags=no-writes\\nreturn 1\" 0 => -MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set \
         to 'no'.
         EVAL \"#!lua flags=no-writes,allow-stale\\nreturn 1\" 0 => :1
         EVAL \"#!lua flags=no-writes,allow-stale\\nreturn redis.pcall('get', 'a').err\" 0 => $50 ERR Can not execute the command on a \
         stale replica
         EVAL \"return 1\" 0 => -MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.
         REPLICAOF NO ONE => +OK
         SET a 1 => +OK
         ROLE => *3 $6 master :0 *0
         CONFIG GET replicaof => *2 $9 replicaof $0",
    );
}

#[test]
fn a_silent_master_is_left() {
    let mut scene = Scene::synchronized(&[("repl-timeout", "5")]);
    for _ in 0..4 {
        scene.console.advance_ms(1000);
        assert_eq!(scene.hear(), "REPLCONF ACK 100");
    }
    assert_eq!(scene.info("master_last_io_seconds_ago"), "4");
    scene.console.advance_ms(1100);
    scene.console.turn();
    assert!(scene.wire.is_closed());
    scene.wire = scene.console.ring();
    scene.greet(&format!("PSYNC {HISTORY} 101"), "+CONTINUE\r\n");
    assert_eq!(scene.hear(), "REPLCONF ACK 100");
    // Its errors and its own rules are the master's affair; nothing is answered.
    scene.act("NONSENSE | SET a | AUTH wrong | SET a 1");
    assert!(scene.console.ask("a", "INFO stats").contains("unexpected_error_replies:3 "));
    assert!(scene.console.ask("a", "CLIENT LIST TYPE master").contains("flags=M"));
    scene.console.check("CLIENT KILL TYPE master => :1");
    scene.console.turn();
    assert!(scene.wire.is_closed());
}
