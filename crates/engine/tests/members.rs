//! Members of sets and sorted sets that expire.

use kelda_engine::testing::Console;

const START: u64 = 1_767_225_600_000;

#[test]
fn members_get_expiry_times() {
    let mut console = Console::default();
    console.check(&format!(
        "ZEXPIRE none 10 MEMBERS 2 a b => *2 :-2 :-2
         ZADD z 1 a 2 b 3 c => :3
         ZEXPIRE z 10 MEMBERS 2 a x => *2 :1 :-2
         ZTTL z MEMBERS 3 a b x => *3 :10 :-1 :-2
         ZPTTL z MEMBERS 1 a => *1 :10000
         ZEXPIRETIME z MEMBERS 1 a => *1 :{seconds}
         ZPEXPIRETIME z MEMBERS 1 a => *1 :{ms}
         ZPEXPIRE z 500 GT MEMBERS 2 a b => *2 :0 :0
         ZPEXPIRE z 500 LT MEMBERS 2 a b => *2 :1 :1
         ZPEXPIRE z 700 NX MEMBERS 2 a c => *2 :0 :1
         ZPEXPIRE z 900 XX MEMBERS 2 a x => *2 :1 :-2
         ZPTTL z MEMBERS 3 a b c => *3 :900 :500 :700
         ZPEXPIREAT z {ms} MEMBERS 1 a => *1 :1
         ZEXPIREAT z {seconds} MEMBERS 1 a => *1 :1
         ZPERSIST z MEMBERS 4 a a c x => *4 :1 :-1 :1 :-2
         ZTTL z MEMBERS 3 a b c => *3 :-1 :1 :-1
         ZEXPIRE z 0 MEMBERS 2 c x => *2 :2 :-2
         ZRANGE z 0 -1 => *2 $1 a $1 b
         SADD s a 1 2 => :3
         SEXPIRE s 10 MEMBERS 2 1 x => *2 :1 :-2
         STTL s MEMBERS 3 1 a x => *3 :10 :-1 :-2
         SPTTL s MEMBERS 1 1 => *1 :10000
         SEXPIRETIME s MEMBERS 1 1 => *1 :{seconds}
         SPEXPIRETIME s MEMBERS 1 1 => *1 :{ms}
         SPEXPIRE s 500 LT MEMBERS 2 1 a => *2 :1 :1
         SPERSIST s MEMBERS 3 1 2 x => *3 :1 :-1 :-2
         SPEXPIREAT s {ms} MEMBERS 1 2 => *1 :1
         SEXPIREAT s 1 MEMBERS 1 2 => *1 :2
         SCARD s => :2
         STTL none MEMBERS 1 a => *1 :-2",
        ms = START + 10_000,
        seconds = START / 1000 + 10,
    ));
}

#[test]
fn what_is_wrong_is_said() {
    let mut console = Console::default();
    console.check(
        "ZADD z 1 a => :1
         SADD s a => :1
         ZEXPIRE z 10 FIELDS 1 a => -ERR Mandatory argument MEMBERS is missing or not at the right position
         ZEXPIRE z 10 MEMBERS 2 a => -ERR The `nummembers` parameter must match the number of arguments
         ZEXPIRE z 10 MEMBERS 0 a => -ERR Number of members must be a positive integer
         ZEXPIRE z 10 NX XX MEMBERS 1 a => -ERR NX and XX, GT or LT options at the same time are not compatible
         ZEXPIRE z x MEMBERS 1 a => -ERR value is not an integer or out of range
         ZEXPIRE z -1 MEMBERS 1 a => -ERR invalid expire time, must be >= 0
         ZEXPIRE z 9223372036854775807 MEMBERS 1 a => -ERR invalid expire time in 'zexpire' command
         ZTTL z MEMBERS 1 a b => -ERR The `nummembers` parameter must match the number of arguments
         ZPERSIST z MEMBERS x a => -ERR Number of members must be a positive integer
         ZTTL z => -ERR wrong number of arguments for 'zttl' command
         ZEXPIRE s 10 MEMBERS 1 a => -WRONGTYPE Operation against a key holding the wrong kind of value
         SEXPIRE z 10 MEMBERS 1 a => -WRONGTYPE Operation against a key holding the wrong kind of value
         STTL z MEMBERS 1 a => -WRONGTYPE Operation against a key holding the wrong kind of value
         ZPERSIST s MEMBERS 1 a => -WRONGTYPE Operation against a key holding the wrong kind of value",
    );
}

/// Whatever looks first after a member's time, it is gone: active expiry is off.
#[test]
fn no_command_sees_a_member_that_is_due() {
    let questions = [
        "ZCARD z => :2",
        "ZRANGE z 0 -1 => *2 $1 b $1 c",
        "ZRANGE z 0 0 REV => *1 $1 c",
        "ZRANGEBYSCORE z -inf +inf LIMIT 0 1 => *1 $1 b",
        "ZRANK z b => :0",
        "ZRANK z a => $-1",
        "ZREVRANK z b => :1",
        "ZSCORE z a => $-1",
        "ZMSCORE z a b => *2 $-1 $1 2",
        "ZCOUNT z -inf +inf => :2",
        "ZLEXCOUNT z - + => :2",
        "ZRANDMEMBER z 9 => *2 $1 b $1 c",
        "ZSCAN z 0 MATCH a => *2 $1 0 *0",
        "ZUNION 2 z none => *2 $1 b $1 c",
        "ZINTER 2 z w => *2 $1 b $1 c",
        "ZDIFF 2 w z => *1 $1 a",
        "ZINTERCARD 2 z w => :2",
        "ZUNIONSTORE d 1 z => :2",
        "ZRANGESTORE d z 0 -1 => :2",
        "ZPOPMIN z => *2 $1 b $1 2",
        "BZPOPMIN z 1 => *3 $1 z $1 b $1 2",
        "ZMPOP 1 z MIN => *2 $1 z *1 *2 $1 b $1 2",
        "ZREMRANGEBYRANK z 0 0 => :1",
        "ZREM z a => :0",
        "ZADD z NX 9 a => :1",
        "ZADD z XX 9 a => :0",
        "ZINCRBY z 1 a => $1 1",
        "SORT z BY nosort => *2 $1 b $1 c",
        "ZTTL z MEMBERS 1 a => *1 :-2",
        "ZEXPIRE z 9 MEMBERS 1 a => *1 :-2",
        "GEODIST z a b => $-1",
        "OBJECT ENCODING z => $8 skiplist",
        "SCARD s => :2",
        "SISMEMBER s a => :0",
        "SMISMEMBER s a b => *2 :0 :1",
        "SINTERCARD 2 s t => :2",
        "SDIFF t s => *1 $1 a",
        "SUNIONCARD 1 s => :2",
        "SINTERSTORE d s t => :2",
        "SMOVE s d a => :0",
        "SREM s a b => :1",
        "SADD s a => :1",
        "STTL s MEMBERS 2 a b => *2 :-2 :-1",
        "EVAL \"return redis.call('scard', KEYS[1])\" 1 s => :2",
        "EVAL \"return redis.call('zcard', 'z')\" 0 => :2",
        "EXISTS z s => :2",
        "COPY z d => :1",
    ];
    for question in questions {
        let mut console = Console::default();
        console.check(
            "DEBUG SET-ACTIVE-EXPIRE 0 => +OK
             ZADD z 1 a 2 b 3 c => :3
             ZADD w 1 a 1 b 1 c => :3
             SADD s a b c => :3
             SADD t a b c => :3
             ZPEXPIRE z 10 MEMBERS 1 a => *1 :1
             SPEXPIRE s 10 MEMBERS 1 a => *1 :1",
        );
        console.advance_ms(10);
        console.check("ZSCORE z a => $1 1");
        console.advance_ms(1);
        console.check(question);
    }
    // In a transaction, too.
    let mut console = Console::default();
    console.check("SADD s a b => :2\nSPEXPIRE s 10 MEMBERS 1 a => *1 :1\nMULTI => +OK\nSCARD s => +QUEUED");
    console.advance_ms(11);
    console.check("EXEC => *1 :1");
}

#[test]
fn a_collection_without_members_left_is_gone() {
    let mut console = Console::default();
    console.check(
        "DEBUG SET-ACTIVE-EXPIRE 0 => +OK
         ZADD z 1 a 2 b => :2
         SADD s a b => :2
         ZPEXPIRE z 10 MEMBERS 2 a b => *2 :1 :1
         SPEXPIRE s 10 MEMBERS 1 a => *1 :1
         SPEXPIRE s 20 MEMBERS 1 b => *1 :1",
    );
    console.advance_ms(11);
    console.check(
        "EXISTS z s => :1
         TYPE z => +none
         ZCARD z => :0
         DBSIZE => :1
         KEYS * => *1 $1 s",
    );
    console.advance_ms(10);
    console.check(
        "SMEMBERS s => *0
         DBSIZE => :0
         ZADD z 1 n => :1
         ZTTL z MEMBERS 1 n => *1 :-1",
    );
}

#[test]
fn active_expiry_removes_members_and_tells() {
    let mut console = Console::new(&[("notify-keyspace-events", "KEA")]);
    console.check(
        "ZADD z 1 a 2 b => :2
         SADD s a b => :2",
    );
    console.ask("b", "PSUBSCRIBE __keyevent*");
    let told = |console: &mut Console| {
        let text = String::from_utf8_lossy(&console.raw("b")).into_owned();
        let events = text.split("\r\n").filter_map(|line| line.strip_prefix("__keyevent@0__:").map(str::to_owned));
        events.collect::<Vec<_>>().join(" ")
    };
    console.check(
        "ZPEXPIRE z 100 MEMBERS 2 a b => *2 :1 :1
         SPEXPIRE s 100 MEMBERS 1 a => *1 :1
         ZPERSIST z MEMBERS 1 b => *1 :1
         SPERSIST s MEMBERS 1 b => *1 :-1",
    );
    assert_eq!(told(&mut console), "zexpire sexpire zpersist");
    console.advance_ms(90);
    assert_eq!(told(&mut console), "");
    for _ in 0..4 {
        console.advance_ms(10);
    }
    let mut events: Vec<String> = told(&mut console).split(' ').map(str::to_owned).collect();
    events.sort();
    assert_eq!(events, ["sexpired", "zexpired"]);
    assert!(console.ask("a", "INFO stats").contains("expired_subkeys:2"));
    console.check(
        "ZEXPIRE z 0 MEMBERS 1 b => *1 :2
         SPEXPIRE s 0 MEMBERS 1 b => *1 :2",
    );
    assert_eq!(told(&mut console), "zrem del srem del");
}

#[test]
fn what_is_written_anew_lives_for_ever() {
    let mut console = Console::default();
    console.check(
        "ZADD z 1 a 1 b 1 c 1 d 1 e => :5
         ZPEXPIRE z 500 MEMBERS 5 a b c d e => *5 :1 :1 :1 :1 :1
         ZADD z 1 a => :0
         ZADD z CH 2 b => :1
         ZADD z NX 2 c => :0
         ZADD z GT 1 c => :0
         ZINCRBY z 1 d => $1 2
         ZADD z INCR 0 e => $1 1
         ZPTTL z MEMBERS 5 a b c d e => *5 :-1 :-1 :500 :500 :500
         ZREM z c => :1
         ZADD z 1 c => :1
         ZPTTL z MEMBERS 1 c => *1 :-1
         ZPEXPIRE z 500 MEMBERS 1 b => *1 :1
         ZRANGESTORE y z 0 -1 => :5
         ZPTTL y MEMBERS 1 b => *1 :-1
         SADD s a b => :2
         SPEXPIRE s 500 MEMBERS 2 a b => *2 :1 :1
         SADD s a => :0
         SMOVE s t b => :1
         SPTTL s MEMBERS 1 a => *1 :500
         SPTTL t MEMBERS 1 b => *1 :-1
         RENAME s u => +OK
         COPY z v => :1
         MOVE v 1 => :1
         SELECT 1 => +OK
         ZPTTL v MEMBERS 1 d => *1 :500
         SELECT 0 => +OK
         SPTTL u MEMBERS 1 a => *1 :500
         ZPOPMAX z => *2 $1 d $1 2
         ZPTTL z MEMBERS 1 d => *1 :-2",
    );
}

#[test]
fn a_dump_keeps_expiry_times() {
    let mut console = Console::default();
    console.check(
        "ZADD z 1 a 2 b 3 c => :3
         SADD s a 1 c => :3
         ZPEXPIRE z 500 MEMBERS 1 b => *1 :1
         SPEXPIRE s 600 MEMBERS 2 1 c => *2 :1 :1",
    );
    for (key, question, want) in
        [("z", "ZPTTL y MEMBERS 3 a b c", "*3 :-1 :500 :-1"), ("s", "SPTTL y MEMBERS 3 a 1 c", "*3 :-1 :600 :600")]
    {
        let mut payload = b"*5\r\n$7\r\nRESTORE\r\n$1\r\ny\r\n$1\r\n0\r\n".to_vec();
        console.send("a", format!("DUMP {key}\r\n").as_bytes());
        payload.extend(console.raw("a"));
        payload.extend(b"$7\r\nREPLACE\r\n");
        console.send("a", &payload);
        assert_eq!(console.raw("a"), b"+OK\r\n");
        assert_eq!(console.ask("a", question), want);
    }
}

#[test]
fn a_file_keeps_expiry_times() {
    let mut console = Console::default();
    console.check(
        "ZADD z 1 a 2 b 3 c => :3
         SADD s a 1 c => :3
         SADD plain a => :1
         ZPEXPIRE z 500 MEMBERS 2 a b => *2 :1 :1
         SPEXPIRE s 600 MEMBERS 1 1 => *1 :1
         PEXPIRE s 9000 => :1
         SAVE => +OK
         FLUSHALL => +OK",
    );
    console.check(
        "DEBUG RELOAD NOSAVE NOFLUSH => +OK
         ZPTTL z MEMBERS 3 a b c => *3 :500 :500 :-1
         SPTTL s MEMBERS 3 a 1 c => *3 :-1 :600 :-1
         PTTL s => :9000
         SPTTL plain MEMBERS 1 a => *1 :-1",
    );
    console.advance_ms(501);
    console.check("ZRANGE z 0 -1 => *1 $1 c");
}

#[test]
fn a_roll_back_brings_expiry_times_back() {
    let mut console = Console::default();
    console.check(
        "ZADD z 1 a 2 b => :2
         SADD s a b => :2
         ZPEXPIRE z 500 MEMBERS 2 a b => *2 :1 :1
         SPEXPIRE s 500 MEMBERS 2 a b => *2 :1 :1",
    );
    // The script reaches for a key that it did not declare: what it did is undone and done again.
    let script = "redis.call('zadd', KEYS[1], 5, 'a') redis.call('zpopmin', KEYS[1]) redis.call('srem', KEYS[2], 'a') \
                  redis.call('spersist', KEYS[2], 'members', 1, 'b') redis.call('get', 'other') error('x')";
    console.ask("a", &format!("EVAL \"{script}\" 2 z s"));
    console.check(
        "ZPTTL z MEMBERS 2 a b => *2 :-1 :-2
         SPTTL s MEMBERS 2 a b => *2 :-2 :-1",
    );
}

/// However many are due at once: what one command removes is bounded, others are served meanwhile, and no answer counts any.
#[test]
fn many_due_members_go_in_pieces() {
    const MEMBERS: usize = 5000;
    /// Members that go at a try (the short way and the long one), and tries until the console has the output.
    const PIECE: usize = 2 * 256;
    const TRIES: usize = 5;
    let many = |console: &mut Console, add: &str, expire: &str| {
        let names: Vec<String> = (0..MEMBERS).map(|n| format!("m{n:04}")).collect();
        let scored = names.iter().map(|name| if add == "ZADD" { format!("1 {name}") } else { name.clone() });
        console.ask("a", &format!("{add} k {} 0 stays", scored.collect::<Vec<_>>().join(" ")));
        console.ask("a", &format!("{expire} k 100 MEMBERS {MEMBERS} {}", names.join(" ")));
    };
    let removed = |console: &mut Console| {
        let stats = console.ask("b", "INFO stats");
        let at = stats.split(' ').find_map(|line| line.strip_prefix("expired_subkeys:"));
        at.and_then(|count| count.parse::<usize>().ok()).expect("a count")
    };
    let script = "EVAL \"return redis.call('zcount', KEYS[1], '-inf', '+inf')\" 1 k";
    let questions = [
        ("ZADD", "ZPEXPIRE", "ZCARD k", ":1"),
        ("ZADD", "ZPEXPIRE", "ZRANK k stays", ":0"),
        ("ZADD", "ZPEXPIRE", "ZADD k XX CH 5 m0001 6 stays", ":1"),
        ("ZADD", "ZPEXPIRE", "ZUNION 2 none k", "*1 $5 stays"),
        ("ZADD", "ZPEXPIRE", "BZPOPMAX none k 1", "*3 $1 k $5 stays $1 0"),
        ("ZADD", "ZPEXPIRE", "DEBUG OBJECT k", "+"),
        ("ZADD", "ZPEXPIRE", script, ":1"),
        ("SADD", "SPEXPIRE", "SCARD k", ":2"),
        ("SADD", "SPEXPIRE", "SMISMEMBER k m0001 stays", "*2 :0 :1"),
    ];
    for (add, expire, question, want) in questions {
        // DEBUG does not tell EXEC which keys it will look at.
        let ways = if question.starts_with("DEBUG") { &[false][..] } else { &[false, true] };
        for &in_transaction in ways {
            let mut console = Console::default();
            console.check("DEBUG SET-ACTIVE-EXPIRE 0 => +OK");
            many(&mut console, add, expire);
            console.advance_ms(101);
            if in_transaction {
                console.check("MULTI => +OK");
                assert_eq!(console.ask("a", question), "+QUEUED");
            }
            let mut answer = console.ask("a", if in_transaction { "EXEC" } else { question });
            let (mut before, mut turns) = (0, 0);
            while answer.is_empty() {
                let now = removed(&mut console);
                assert!(now - before <= 2 * TRIES * PIECE, "{question}: {} at once", now - before);
                (before, turns) = (now, turns + 1);
                assert_eq!(console.ask("b", "SET other 1"), "+OK");
                answer = String::from_utf8_lossy(&console.raw("a")).trim_end().replace("\r\n", " ");
            }
            assert!(turns > 0, "{question}");
            assert_eq!(removed(&mut console), MEMBERS, "{question}");
            let want = if in_transaction { format!("*1 {want}") } else { want.to_owned() };
            assert!(answer == want || want.ends_with('+') && answer.starts_with(&want), "{question}: {answer}");
        }
    }
}

/// What goes because it is due aborts who watches, as any change does.
#[test]
fn members_that_go_touch_watches() {
    let mut console = Console::default();
    console.check(
        "DEBUG SET-ACTIVE-EXPIRE 0 => +OK\nSADD k a b => :2\nSPEXPIRE k 10 MEMBERS 1 a => *1 :1\nWATCH k => +OK",
    );
    console.advance_ms(11);
    console.check("MULTI => +OK\nPING => +QUEUED\nEXEC => *-1");
}
