//! Changes are complete: run on another engine, they make the same keyspace.
//!
//! Random commands of every family run on one engine; another one, whose clock stands still, so that nothing expires
//! there by itself, runs nothing but the changes of the first.

use kelda_engine::engine::{ChangeSink, Lsn};
use kelda_engine::testing::Console;
use kelda_resp::{Value, encode_command};
use kelda_store::txn::Changes;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// Thresholds so low that every encoding comes up.
const SETTINGS: &[(&str, &str)] = &[
    ("hash-max-listpack-entries", "4"),
    ("set-max-intset-entries", "3"),
    ("set-max-listpack-entries", "5"),
    ("zset-max-listpack-entries", "4"),
    ("list-max-listpack-size", "2"),
];

/// Commands with places to fill in: a key that mostly holds a string, hash, set, list or sorted set (`$S $H $T $L $Z`) or
/// anything (`$K`), a member (`$m`), an integer (`$i`), a float (`$f`), a count (`$n`), a time to live (`$t`).
/// Those of families that do not exist are passed over.
const COMMANDS: &[&str] = &[
    "SET $S $m",
    "SET $S $i PX $t",
    "SET $S $m KEEPTTL GET",
    "SET $S $m XX",
    "SET $S $m IFEQ $m",
    "SET $S $i IFNE $i PX $t",
    "SET $S $m IFDNE 0000000000000000 KEEPTTL",
    "SETNX $S $m",
    "DELEX $S IFEQ $m",
    "DELEX $S IFNE $i",
    "DELIFEQ $S $i",
    "MSETEX 2 $S $m $S $i PX $t",
    "INCREX $S BYINT $i UBOUND 9",
    "INCREX $S BYFLOAT $f LBOUND 0 SATURATE PX $t ENX",
    "INCREX $S BYINT $i PERSIST",
    "INCREX $S PXAT 1",
    "SETEX $S 1 $m",
    "GETSET $S $m",
    "GETDEL $S",
    "GETEX $S PX $t",
    "GETEX $S PERSIST",
    "MSET $S $m $S $i $H $m",
    "MSETNX $S $m $S $i",
    "APPEND $S $m",
    "SETRANGE $S $n $m",
    "INCR $S",
    "DECRBY $S $i",
    "INCRBY $S $i",
    "INCRBYFLOAT $S $f",
    "SETBIT $S $n 1",
    "BITOP OR $S $S $S",
    "BITFIELD $S INCRBY u4 $n 3",
    "PFADD $S $m $m",
    "PFADD y1 $m $i",
    "PFADD y2 $m $i",
    "PFMERGE y1 y2",
    "PFCOUNT y1",
    "PFDEBUG TODENSE y2",
    "DEL y2",
    "DEL $K $K",
    "UNLINK $K",
    "RENAME $K $K",
    "RENAMENX $K $K",
    "COPY $K $K",
    "COPY $K $K REPLACE",
    "PEXPIRE $K $t",
    "PEXPIRE $K $t GT",
    "EXPIRE $K -1",
    "PERSIST $K",
    "SORT $T ALPHA STORE $L",
    "HSET $H $m $m",
    "HSET $H $m $i $m $m $m $m",
    "HMSET $H $m $m $m $i",
    "HSETNX $H $m $m",
    "HDEL $H $m",
    "HDEL $H $m $m $m $m",
    "HGETDEL $H FIELDS 2 $m $m",
    "HEXPIRE $H 1 FIELDS 2 $m $m",
    "HPEXPIRE $H $t FIELDS 3 $m $m $m",
    "HPEXPIRE $H $t FIELDS 2 $m $m",
    "HPEXPIRE $H $t GT FIELDS 2 $m $m",
    "HEXPIREAT $H 1 FIELDS 1 $m",
    "HPERSIST $H FIELDS 2 $m $m",
    "HGETEX $H PX $t FIELDS 2 $m $m",
    "HGETEX $H PERSIST FIELDS 2 $m $m",
    "HSETEX $H PX $t FIELDS 2 $m $m $m $i",
    "HSETEX $H FXX PX $t FIELDS 1 $m $m",
    "HSETEX $H KEEPTTL FIELDS 2 $m $m $m $m",
    "HSETEX $H PXAT 1 FIELDS 1 $m $m",
    "HINCRBY $H $m $i",
    "HINCRBYFLOAT $H $m $f",
    "SADD $T $m",
    "SADD $T $i $i $m",
    "SADD $T $i $i",
    "SREM $T $m $i",
    "SPOP $T",
    "SPOP $T $n",
    "SMOVE $T $T $m",
    "SINTERSTORE $T $T $T",
    "SUNIONSTORE $T $T $T",
    "SDIFFSTORE $T $T $T",
    "SUNIONSTORE $K $T $T",
    "LPUSH $L $m $i",
    "RPUSH $L $m $m $m",
    "LPUSHX $L $m",
    "RPUSHX $L $m",
    "LPOP $L",
    "RPOP $L $n",
    "LSET $L $n $m",
    "LINSERT $L BEFORE $m $m",
    "LINSERT $L AFTER $m $m",
    "LREM $L $i $m",
    "LTRIM $L $n -$n",
    "LTRIM $L 0 $n",
    "LMOVE $L $L LEFT RIGHT",
    "LMOVE $L $L RIGHT LEFT",
    "RPOPLPUSH $L $L",
    "LMOVEM $L $L LEFT RIGHT COUNT 3 OBO",
    "LMOVEM $L $L RIGHT RIGHT EXACTLY 2 OBO",
    "LMOVEM $L $L RIGHT LEFT COUNT 2 BULK",
    "BLMOVEM $L $L LEFT LEFT 1 COUNT 3 BULK",
    "LMPOP 2 $L $L LEFT COUNT $n",
    "BLPOP $L $L 1",
    "BLMOVE $L $L RIGHT RIGHT 1",
    "ZADD $Z $f $m",
    "ZADD $Z $f $m $i $m inf $m",
    "ZADD $Z NX $f $m",
    "ZADD $Z XX GT $f $m",
    "ZADD $Z INCR $f $m",
    "ZINCRBY $Z $f $m",
    "ZREM $Z $m $m",
    "ZPOPMIN $Z",
    "ZPOPMAX $Z $n",
    "ZMPOP 2 $Z $Z MIN COUNT $n",
    "BZPOPMIN $Z $Z 1",
    "ZRANGESTORE $Z $Z 0 $n",
    "ZREMRANGEBYRANK $Z 0 $n",
    "ZREMRANGEBYSCORE $Z -$n $n",
    "ZREMRANGEBYLEX $Z [a (b",
    "ZUNIONSTORE $Z 2 $Z $T WEIGHTS 2 $f",
    "ZINTERSTORE $Z 2 $Z $Z AGGREGATE MAX",
    "ZUNIONSTORE $Z 2 $Z $T WEIGHTS 2 $f AGGREGATE COUNT",
    "ZDIFFSTORE $Z 2 $Z $Z",
    "ZEXPIRE $Z 1 MEMBERS 2 $m $m",
    "ZPEXPIRE $Z $t MEMBERS 3 $m $m $m",
    "ZPEXPIRE $Z $t GT MEMBERS 2 $m $m",
    "ZEXPIREAT $Z 1 MEMBERS 1 $m",
    "ZPERSIST $Z MEMBERS 2 $m $m",
    "SEXPIRE $T 1 MEMBERS 2 $m $i",
    "SPEXPIRE $T $t MEMBERS 3 $m $i $m",
    "SPEXPIRE $T $t NX MEMBERS 2 $m $i",
    "SPEXPIREAT $T 1 MEMBERS 1 $m",
    "SPERSIST $T MEMBERS 2 $m $i",
    "GEOADD $Z 13.36 38.11 $m",
    "GEOSEARCHSTORE $Z $Z FROMLONLAT 0 0 BYRADIUS 20000 km",
    "GEORADIUS $Z 13 38 500 km STOREDIST $Z",
];

/// What is asked about each key.
const QUESTIONS: &[&str] =
    &["GET", "HGETALL", "HPEXPIRETIME", "SMEMBERS", "SPEXPIRETIME", "LRANGE", "ZRANGE", "ZPEXPIRETIME", "PEXPIRETIME"];

const KEYS: &[&str] = &["s1", "s2", "s3", "h1", "h2", "t1", "t2", "t3", "l1", "l2", "z1", "z2", "y1", "y2"];

const MEMBERS: &[&str] = &["a", "b", "c", "", "1", "2", "-7", "007", "3.25", "two words", "nul\0cr\r\nlf"];

/// A change, owned.
struct Change {
    db: u32,
    argv: Vec<Vec<u8>>,
}

#[derive(Default)]
struct Log(Mutex<Vec<Change>>);

impl ChangeSink for Log {
    fn commit(&self, changes: &Changes) -> Lsn {
        let owned = |words: &[&[u8]]| words.iter().map(|word| word.to_vec()).collect();
        let changes = changes.iter().map(|change| Change { db: change.db, argv: owned(&change.argv) });
        self.0.lock().unwrap().extend(changes);
        1
    }
}

impl Log {
    fn take(&self) -> Vec<Change> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

fn run<W: AsRef<[u8]>>(console: &mut Console, words: &[W]) -> Value {
    let mut request = Vec::new();
    encode_command(&mut request, words);
    console.send("a", &request);
    // Nothing waits but what may: its time is over then.
    let mut reply = console.receive("a");
    while reply.is_none() {
        console.advance_ms(100);
        reply = console.receive("a");
    }
    reply.unwrap()
}

/// SplitMix64.
struct Rng(u64);

impl Rng {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ z >> 31) % bound as u64) as usize
    }

    fn of<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[self.below(words.len())]
    }

    fn key(&mut self, kind: char) -> &'static str {
        let kind = kind.to_ascii_lowercase();
        let fitting: Vec<&str> = KEYS.iter().copied().filter(|key| key.starts_with(kind)).collect();
        // Now and then a key that mostly holds another type.
        if fitting.is_empty() || self.below(12) == 0 { self.of(KEYS) } else { self.of(&fitting) }
    }

    /// A command with its places filled in.
    fn fill(&mut self, template: &str) -> Vec<Vec<u8>> {
        let words = template.split(' ').map(|word| {
            let Some((before, place)) = word.split_once('$') else { return word.to_string() };
            let text = match place {
                "m" if self.below(10) == 0 => "long".repeat(20 + self.below(2)),
                "m" => self.of(MEMBERS).to_string(),
                "i" => (self.below(12) as i64 - 4).to_string(),
                "f" => self.of(&["0.1", "-2.5", "3", "1e3", "1.1000000000000001"]).to_string(),
                "n" => self.below(4).to_string(),
                "t" => (1 + self.below(400)).to_string(),
                kind => self.key(kind.chars().next().unwrap()).to_string(),
            };
            before.to_string() + &text
        });
        words.map(String::into_bytes).collect()
    }
}

/// The whole keyspace: every key's answer to every question.
fn dump(console: &mut Console) -> Vec<String> {
    let mut answers = Vec::new();
    for key in KEYS {
        for question in QUESTIONS {
            let mut words = vec![*question, *key];
            match *question {
                "LRANGE" => words.extend(["0", "-1"]),
                "HPEXPIRETIME" => {
                    let fields = &MEMBERS[..6];
                    words.extend(["FIELDS", "6"]);
                    words.extend(fields);
                }
                "SPEXPIRETIME" | "ZPEXPIRETIME" => {
                    words.extend(["MEMBERS", "7"]);
                    words.extend(&MEMBERS[..7]);
                }
                "ZRANGE" => words.extend(["0", "-1", "WITHSCORES"]),
                _ => {}
            }
            let answer = match (*question, run(console, &words)) {
                (_, Value::Error(text)) => format!("{:?}", text.split(|&b| b == b' ').next()),
                ("SMEMBERS", Value::Array(mut members)) => {
                    members.sort_by_key(|member| format!("{member:?}"));
                    format!("{members:?}")
                }
                ("HGETALL", Value::Array(both)) => {
                    let mut pairs: Vec<_> = both.chunks(2).map(|pair| format!("{pair:?}")).collect();
                    pairs.sort();
                    format!("{pairs:?}")
                }
                (_, answer) => format!("{answer:?}"),
            };
            answers.push(format!("{question} {key}: {answer}"));
        }
    }
    answers
}

fn is_unknown(reply: &Value) -> bool {
    matches!(reply, Value::Error(text) if text.starts_with(b"ERR unknown command"))
}

/// Commands on lists say what to do, not what then is there: nothing else can be said about a list in a few words. Those that
/// pop from a sorted set are told as Redis tells them.
const RELATIVE: &[&[u8]] =
    &[b"LPUSH", b"RPUSH", b"LPOP", b"RPOP", b"LTRIM", b"LINSERT", b"LREM", b"ZPOPMIN", b"ZPOPMAX"];

/// Engines: the second runs the changes of the first, the third runs each of them twice, but for those on lists.
struct Pair {
    log: Arc<Log>,
    first: Console,
    second: Console,
    twice: Console,
}

impl Pair {
    fn new() -> Pair {
        let log = Arc::new(Log::default());
        let sink: Arc<dyn ChangeSink> = log.clone();
        let (second, twice) = (Console::new(SETTINGS), Console::new(SETTINGS));
        Pair { log, first: Console::with_sink(SETTINGS, Some(sink)), second, twice }
    }

    fn compare(&mut self, history: &[String]) {
        // Looks at keys that are due remove them, which are changes too.
        let want = dump(&mut self.first);
        let changes = self.log.take();
        for change in &changes {
            assert_eq!(change.db, 0);
            let reply = run(&mut self.second, &change.argv);
            let is_error = matches!(reply, Value::Error(_));
            assert!(!is_error, "{:?}: {reply:?}\n{history:#?}", show(&change.argv));
            let times = if RELATIVE.contains(&&change.argv[0][..]) { 1 } else { 2 };
            (0..times).for_each(|_| _ = run(&mut self.twice, &change.argv));
        }
        for follower in [&mut self.second, &mut self.twice] {
            let got = dump(follower);
            for (want, got) in want.iter().zip(&got) {
                let changes: Vec<String> = changes.iter().map(|change| show(&change.argv)).collect();
                assert_eq!(want, got, "after {history:#?}\nchanges {changes:#?}");
            }
        }
    }
}

fn show(words: &[Vec<u8>]) -> String {
    let words: Vec<String> = words.iter().map(|word| format!("{:?}", String::from_utf8_lossy(word))).collect();
    words.join(" ")
}

/// Runs one command, a transaction of some, or scripts that run one.
fn step<'c>(
    pair: &mut Pair,
    commands: &[&'c str],
    rng: &mut Rng,
    history: &mut Vec<String>,
    done: &mut BTreeMap<&'c str, usize>,
) {
    let template = rng.of(commands);
    let words = rng.fill(template);
    history.push(show(&words));
    let reply = match rng.below(8) {
        0 => {
            run(&mut pair.first, &["MULTI"]);
            run(&mut pair.first, &words);
            let second = rng.of(commands);
            let second = rng.fill(second);
            history.push(format!("in the same MULTI: {}", show(&second)));
            run(&mut pair.first, &second);
            match run(&mut pair.first, &["EXEC"]) {
                Value::Array(replies) => replies.into_iter().next().unwrap(),
                other => panic!("{other:?}\n{history:#?}"),
            }
        }
        kind @ 1..3 => {
            // Its keys are not declared: what it did before it came across them is undone and done again. One kind fails
            // after its changes, which stay.
            let script = match kind {
                1 => "redis.call('set', KEYS[1], ARGV[1]) return redis.call(unpack(ARGV, 2))",
                _ => "redis.pcall('incrby', KEYS[1], 2) redis.pcall(unpack(ARGV, 2)) error('done')",
            };
            let (key, member) = (rng.key('S'), rng.fill("$m"));
            history.push(format!("by a script after one on {key}"));
            let mut call: Vec<&[u8]> = vec![b"EVAL", script.as_bytes(), b"1", key.as_bytes(), &member[0]];
            call.extend(words.iter().map(Vec::as_slice));
            run(&mut pair.first, &call)
        }
        _ => run(&mut pair.first, &words),
    };
    let count = done.entry(template).or_default();
    *count += usize::from(!matches!(reply, Value::Error(_)));
}

#[test]
fn a_second_engine_follows() {
    const ROUNDS: u64 = 12;
    const STEPS: usize = 400;
    let mut scratch = Console::default();
    let mut commands = COMMANDS.to_vec();
    commands.retain(|command| !is_unknown(&run(&mut scratch, &[command.split(' ').next().unwrap()])));
    let mut done = BTreeMap::new();
    for seed in 0..ROUNDS {
        let mut rng = Rng(seed);
        let mut pair = Pair::new();
        let mut history = vec![format!("seed {seed}")];
        for index in 0..STEPS {
            step(&mut pair, &commands, &mut rng, &mut history, &mut done);
            if rng.below(4) == 0 {
                let ms = 1 + rng.below(100) as u64;
                history.push(format!("{ms} ms later"));
                pair.first.advance_ms(ms);
            }
            if index % 10 == 9 {
                pair.compare(&history);
                history.truncate(1);
            }
        }
    }
    // Or else the test would say nothing about a command.
    let never: Vec<_> = done.iter().filter(|(_, count)| **count == 0).collect();
    assert!(never.is_empty(), "never succeeded: {never:?}");
}

/// The changes of one command line, as text.
fn changes_of(pair: &mut Pair, command: &str) -> Vec<String> {
    pair.log.take();
    let reply = pair.first.ask("a", command);
    assert!(!reply.starts_with('-'), "{command}: {reply}");
    let changes = pair.log.take();
    changes.iter().map(|change| String::from_utf8_lossy(&change.argv.join(&b' ')).into_owned()).collect()
}

#[test]
fn an_undone_run_of_a_script_leaves_no_changes() {
    let mut pair = Pair::new();
    pair.first.check(
        "SADD t1 a b c => :3
         HSET h1 f 1 => :1
         SET s1 5 => +OK",
    );
    // Each of these comes across an undeclared key after changing the declared ones.
    let changes = changes_of(
        &mut pair,
        "EVAL \"redis.call('incr', KEYS[1]) redis.call('set', 's2', 'x') return redis.call('get', KEYS[1])\" 1 s1",
    );
    assert_eq!(changes, ["SET s1 6", "SET s2 x"]);
    let changes = changes_of(
        &mut pair,
        "EVAL \"redis.call('hincrby', KEYS[1], 'f', 1) redis.call('sadd', KEYS[2], 'd') redis.call('srem', KEYS[2], 'a') \
         redis.call('del', 'none') return redis.call('smove', KEYS[2], 't2', 'b')\" 2 h1 t1",
    );
    assert_eq!(changes, ["HSET h1 f 2", "SADD t1 d", "SREM t1 a b", "SADD t2 b"]);
    // Only reads the undeclared key.
    let changes = changes_of(
        &mut pair,
        "EVAL \"redis.call('del', KEYS[1]) redis.call('sadd', KEYS[1], 'new') return redis.call('get', 's1')\" 1 t1",
    );
    assert_eq!(changes, ["DEL t1", "SADD t1 new"]);
    // What the run chose at random in vain is not chosen: the member that is gone is the one of the change.
    pair.first.check("SADD t3 a b c d e f g h => :8");
    let changes = changes_of(
        &mut pair,
        "EVAL \"local gone = redis.call('spop', KEYS[1]) redis.call('set', 's3', gone) return gone\" 1 t3",
    );
    let gone = pair.first.ask("a", "GET s3").split(' ').nth(1).unwrap().to_string();
    assert_eq!(changes, [format!("SREM t3 {gone}"), format!("SET s3 {gone}")]);
    assert_eq!(pair.first.ask("a", "SCARD t3"), ":7");
}

#[test]
fn a_change_is_absolute() {
    let mut pair = Pair::new();
    for (command, want) in [
        ("HSET h1 a 1 b 2", &["HSET h1 a 1 b 2"][..]),
        ("HSETNX h1 a 5", &[]),
        ("HINCRBY h1 a 5", &["HSET h1 a 6"]),
        ("HINCRBYFLOAT h1 a 0.5", &["HSET h1 a 6.5"]),
        ("HDEL h1 a none", &["HDEL h1 a"]),
        ("HGETDEL h1 FIELDS 1 b", &["HDEL h1 b"]),
        ("HSETEX h2 EX 5 FIELDS 1 a 1", &["HSET h2 a 1", "HPEXPIREAT h2 1767225605000 FIELDS 1 a"]),
        ("HSETEX h2 KEEPTTL FIELDS 1 a 2", &["HSET h2 a 2", "HPEXPIREAT h2 1767225605000 FIELDS 1 a"]),
        ("HINCRBY h2 a 1", &["HSET h2 a 3", "HPEXPIREAT h2 1767225605000 FIELDS 1 a"]),
        ("HEXPIRE h2 10 FIELDS 2 a z", &["HPEXPIREAT h2 1767225610000 FIELDS 1 a"]),
        ("HEXPIRE h2 10 NX FIELDS 1 a", &[]),
        ("RENAME h2 h3", &["DEL h2", "HSET h3 a 3", "HPEXPIREAT h3 1767225610000 FIELDS 1 a"]),
        ("HGETEX h3 PERSIST FIELDS 1 a", &["HPERSIST h3 FIELDS 1 a"]),
        ("HPERSIST h3 FIELDS 1 a", &[]),
        ("HEXPIRE h3 0 FIELDS 1 a", &["HDEL h3 a"]),
        ("SADD t1 a b a", &["SADD t1 a b"]),
        ("SMOVE t1 t2 a", &["SREM t1 a", "SADD t2 a"]),
        ("SPOP t1", &["SREM t1 b"]),
        ("SUNIONSTORE t1 t2", &["SADD t1 a"]),
        ("SDIFFSTORE t1 t2", &["DEL t1", "SADD t1 a"]),
        ("SPOP t1 9", &["UNLINK t1"]),
        ("SINTERSTORE t2 t1 t2", &["DEL t2"]),
        ("SREM t2 a", &[]),
        ("APPEND s1 ab", &["SET s1 ab"]),
        ("APPEND s1 c", &["SETRANGE s1 2 c"]),
        ("APPEND s2 \"\"", &["SET s2 "]),
        ("SETRANGE s1 1 x", &["SETRANGE s1 1 x"]),
        ("SETBIT s3 7 1", &["SET s3 \u{1}"]),
        ("SETBIT s3 9 1", &["SETRANGE s3 1 @"]),
        ("INCR s4", &["SET s4 1"]),
        ("INCRBYFLOAT s4 0.5", &["SET s4 1.5"]),
        ("PEXPIRE s4 5000", &["PEXPIREAT s4 1767225605000"]),
        ("INCRBYFLOAT s4 0.5", &["SET s4 2 PXAT 1767225605000"]),
        ("RPUSH l1 a b", &["RPUSH l1 a b"]),
        ("ZADD z1 1 a 2.5 b -0.0 c inf d 1e17 e", &["ZADD z1 1 a 2.5 b -0 c inf d 100000000000000000 e"]),
        ("ZINCRBY z1 1 a", &["ZADD z1 2 a"]),
        ("ZREMRANGEBYRANK z1 0 1", &["ZREM z1 c a"]),
        ("ZMPOP 1 z1 MAX COUNT 2", &["ZPOPMAX z1 2"]),
        ("XADD x1 1-1 f v", &["XADD x1 1-1 f v"]),
        ("XADD x1 2-1 f v", &["XADD x1 2-1 f v"]),
        (
            "XADD x1 IDMP p 1 MAXLEN 2 * f v",
            &[
                "XADD x1 1767225600000-0 f v",
                "XCFGSET x1 IDMP-DURATION 100 IDMP-MAXSIZE 100",
                "XIDMPRECORD x1 p 1 1767225600000-0",
                "XTRIM x1 MINID = 2-1",
            ],
        ),
        ("XADD x1 IDMP p 1 * f w", &[]),
        ("XCFGSET x1 IDMP-MAXSIZE 5", &["XCFGSET x1 IDMP-DURATION 100 IDMP-MAXSIZE 5"]),
        ("XGROUP CREATE x1 g 0", &["XGROUP CREATE x1 g 0-0 ENTRIESREAD -1"]),
        ("XNACK x1 g SILENT IDS 1 2-1 FORCE", &["XNACK x1 g FAIL IDS 1 2-1 RETRYCOUNT 0 FORCE"]),
        (
            "XREADGROUP GROUP g c COUNT 1 CLAIM 5 STREAMS x1 >",
            &["XGROUP CREATECONSUMER x1 g c", "XCLAIM x1 g c 0 2-1 TIME 1767225600000 RETRYCOUNT 1 FORCE JUSTID"],
        ),
        ("XDELEX x1 ACKED IDS 1 2-1", &[]),
        ("XDELEX x1 DELREF IDS 2 2-1 9-9", &["XDEL x1 2-1", "XACK x1 g 2-1"]),
        ("ZADD z2 1 a 2 b", &["ZADD z2 1 a 2 b"]),
        ("ZPEXPIRE z2 5000 MEMBERS 2 a none", &["ZPEXPIREAT z2 1767225605000 MEMBERS 1 a"]),
        ("ZINCRBY z2 1 a", &["ZADD z2 2 a", "ZPEXPIREAT z2 1767225605000 MEMBERS 1 a"]),
        ("COPY z2 z3", &["ZADD z3 2 a 2 b", "ZPEXPIREAT z3 1767225605000 MEMBERS 1 a"]),
        ("ZADD z2 2 a", &["ZADD z2 2 a"]),
        ("ZADD z2 2 a", &[]),
        ("ZPERSIST z3 MEMBERS 1 a", &["ZPERSIST z3 MEMBERS 1 a"]),
        ("ZEXPIRE z3 0 MEMBERS 1 a", &["ZREM z3 a"]),
        ("SADD t9 a 1", &["SADD t9 a 1"]),
        ("SEXPIRE t9 5 MEMBERS 2 1 2", &["SPEXPIREAT t9 1767225605000 MEMBERS 1 1"]),
        ("SADD t9 1", &[]),
        ("RENAME t9 t8", &["DEL t9", "SADD t8 a 1", "SPEXPIREAT t8 1767225605000 MEMBERS 1 1"]),
        ("SPERSIST t8 MEMBERS 1 1", &["SPERSIST t8 MEMBERS 1 1"]),
        ("FLUSHDB", &["FLUSHDB"]),
        ("FLUSHALL", &["FLUSHALL"]),
        ("SWAPDB 0 1", &["SWAPDB 0 1"]),
        (
            "FUNCTION LOAD \"#!lua name=l\\nredis.register_function('f', function() return 1 end)\"",
            &["FUNCTION LOAD #!lua name=l\nredis.register_function('f', function() return 1 end)"],
        ),
        (
            "FUNCTION LOAD REPLACE \"#!lua name=l\\nredis.register_function('f', function() return 2 end)\"",
            &["FUNCTION LOAD REPLACE #!lua name=l\nredis.register_function('f', function() return 2 end)"],
        ),
        ("FUNCTION DELETE l", &["FUNCTION DELETE l"]),
        ("FUNCTION FLUSH", &["FUNCTION FLUSH"]),
    ] {
        assert_eq!(changes_of(&mut pair, command), want, "{command}");
    }
}
