//! The list family. Expectations are Valkey 9.1.2's; those of blocking are in `blocking.rs`.

use kelda_engine::testing::Console;

#[test]
fn pushes_make_a_list_and_pushx_do_not() {
    let mut console = Console::default();
    console.check(
        "RPUSH l b c => :2
         LPUSH l a z => :4
         LRANGE l 0 -1 => *4 $1 z $1 a $1 b $1 c
         LLEN l => :4
         LLEN none => :0
         LPUSHX none a => :0
         RPUSHX none a => :0
         EXISTS none => :0
         LPUSHX l 1 2 => :6
         RPUSHX l 3 => :7
         LRANGE l 0 -1 => *7 $1 2 $1 1 $1 z $1 a $1 b $1 c $1 3
         LPUSH l => -ERR wrong number of arguments for 'lpush' command
         LPUSHX l => -ERR wrong number of arguments for 'lpushx' command
         SET s x => +OK
         LPUSH s a => -WRONGTYPE Operation against a key holding the wrong kind of value
         RPUSHX s a => -WRONGTYPE Operation against a key holding the wrong kind of value
         LLEN s => -WRONGTYPE Operation against a key holding the wrong kind of value
         TYPE l => +list
         OBJECT ENCODING l => $8 listpack",
    );
}

#[test]
fn pops_take_one_or_many() {
    let mut console = Console::default();
    console.check(
        "RPUSH l a b c d e f g => :7
         LPOP l => $1 a
         RPOP l => $1 g
         LPOP l 2 => *2 $1 b $1 c
         RPOP l 2 => *2 $1 f $1 e
         LPOP l 0 => *0
         LPOP l 100 => *1 $1 d
         EXISTS l => :0
         LPOP none => $-1
         RPOP none => $-1
         LPOP none 2 => *-1
         RPOP none 0 => *-1
         RPUSH l a b c => :3
         LPOP l -1 => -ERR value is out of range, must be positive
         LPOP l foo => -ERR value is out of range, must be positive
         RPOP l 9223372036854775808 => -ERR value is out of range, must be positive
         LPOP l 1 2 => -ERR wrong number of arguments for 'lpop' command
         RPOP l 9223372036854775807 => *3 $1 c $1 b $1 a
         SET s x => +OK
         LPOP s => -WRONGTYPE Operation against a key holding the wrong kind of value
         RPOP s 1 => -WRONGTYPE Operation against a key holding the wrong kind of value
         LPOP s -1 => -ERR value is out of range, must be positive",
    );
}

#[test]
fn elements_by_index() {
    let mut console = Console::default();
    console.check(
        r#"RPUSH l a 1 "" c => :4
         LINDEX l 0 => $1 a
         LINDEX l 1 => $1 1
         LINDEX l 2 => $0
         LINDEX l -1 => $1 c
         LINDEX l -4 => $1 a
         LINDEX l -5 => $-1
         LINDEX l 4 => $-1
         LINDEX l 9223372036854775807 => $-1
         LINDEX l -9223372036854775808 => $-1
         LINDEX l foo => -ERR value is not an integer or out of range
         LINDEX none 0 => $-1
         LINDEX none foo => $-1
         LSET l 0 A => +OK
         LSET l -1 100 => +OK
         LSET l 4 x => -ERR index out of range
         LSET l -5 x => -ERR index out of range
         LSET l foo x => -ERR value is not an integer or out of range
         LSET none 0 x => -ERR no such key
         LSET none foo x => -ERR no such key
         LRANGE l 0 -1 => *4 $1 A $1 1 $0  $3 100
         SET s x => +OK
         LINDEX s 0 => -WRONGTYPE Operation against a key holding the wrong kind of value
         LINDEX s foo => -WRONGTYPE Operation against a key holding the wrong kind of value
         LSET s 0 x => -WRONGTYPE Operation against a key holding the wrong kind of value
         LSET s foo x => -WRONGTYPE Operation against a key holding the wrong kind of value"#,
    );
}

#[test]
fn ranges_are_cut_to_the_list() {
    let mut console = Console::default();
    console.check(
        "RPUSH l a b c d e => :5
         LRANGE l 0 -1 => *5 $1 a $1 b $1 c $1 d $1 e
         LRANGE l 1 2 => *2 $1 b $1 c
         LRANGE l -2 -1 => *2 $1 d $1 e
         LRANGE l -100 100 => *5 $1 a $1 b $1 c $1 d $1 e
         LRANGE l 3 1 => *0
         LRANGE l 5 10 => *0
         LRANGE l 0 -6 => *0
         LRANGE l 0 -9223372036854775808 => *0
         LRANGE l -9223372036854775808 9223372036854775807 => *5 $1 a $1 b $1 c $1 d $1 e
         LRANGE none 0 -1 => *0
         LRANGE none a 1 => -ERR value is not an integer or out of range
         LRANGE l 0 b => -ERR value is not an integer or out of range
         SET s x => +OK
         LRANGE s 0 -1 => -WRONGTYPE Operation against a key holding the wrong kind of value
         LRANGE s a 1 => -ERR value is not an integer or out of range",
    );
}

#[test]
fn ltrim_keeps_a_range() {
    let mut console = Console::default();
    console.check(
        "RPUSH l a b c d e f g h => :8
         LTRIM l 0 -1 => +OK
         LRANGE l 0 -1 => *8 $1 a $1 b $1 c $1 d $1 e $1 f $1 g $1 h
         LTRIM l 1 -2 => +OK
         LRANGE l 0 -1 => *6 $1 b $1 c $1 d $1 e $1 f $1 g
         LTRIM l -3 100 => +OK
         LRANGE l 0 -1 => *3 $1 e $1 f $1 g
         LTRIM l 0 0 => +OK
         LRANGE l 0 -1 => *1 $1 e
         LTRIM l 5 10 => +OK
         EXISTS l => :0
         RPUSH l a b c => :3
         LTRIM l 2 1 => +OK
         EXISTS l => :0
         LTRIM none 0 1 => +OK
         LTRIM none a 1 => -ERR value is not an integer or out of range
         SET s x => +OK
         LTRIM s 0 1 => -WRONGTYPE Operation against a key holding the wrong kind of value
         LTRIM s a 1 => -ERR value is not an integer or out of range",
    );
}

#[test]
fn linsert_finds_the_first_pivot() {
    let mut console = Console::default();
    console.check(
        "RPUSH l a b c b 10 => :5
         LINSERT l BEFORE b x => :6
         LINSERT l after b y => :7
         LINSERT l BEFORE 10 9 => :8
         LINSERT l AFTER 10 11 => :9
         LINSERT l BEFORE a 0 => :10
         LINSERT l AFTER nope z => :-1
         LINSERT none BEFORE a z => :0
         LINSERT none AROUND a z => -ERR syntax error
         LINSERT l AROUND a z => -ERR syntax error
         LRANGE l 0 -1 => *10 $1 0 $1 a $1 x $1 b $1 y $1 c $1 b $1 9 $2 10 $2 11
         SET s x => +OK
         LINSERT s BEFORE a z => -WRONGTYPE Operation against a key holding the wrong kind of value
         LINSERT s AROUND a z => -ERR syntax error
         LINSERT l BEFORE a => -ERR wrong number of arguments for 'linsert' command",
    );
}

#[test]
fn lrem_from_either_end() {
    let mut console = Console::default();
    console.check(
        "RPUSH l a b a c a d a 5 => :8
         LREM l 2 a => :2
         LRANGE l 0 -1 => *6 $1 b $1 c $1 a $1 d $1 a $1 5
         RPUSH l a => :7
         LREM l -2 a => :2
         LRANGE l 0 -1 => *5 $1 b $1 c $1 a $1 d $1 5
         LREM l 0 a => :1
         LREM l 0 nope => :0
         LREM l 1 5 => :1
         LREM l 0 a => :0
         LRANGE l 0 -1 => *3 $1 b $1 c $1 d
         LREM l -9223372036854775808 b => -ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807
         LREM l 9223372036854775807 c => :1
         LREM l 0 d => :1
         EXISTS l => :1
         LREM none 0 a => :0
         LREM none foo a => -ERR value is not an integer or out of range
         SET s x => +OK
         LREM s 0 a => -WRONGTYPE Operation against a key holding the wrong kind of value
         LREM s foo a => -ERR value is not an integer or out of range",
    );
}

#[test]
fn lpos_options() {
    let mut console = Console::default();
    console.check(
        "RPUSH l a b c 1 2 3 c c => :8
         LPOS l a => :0
         LPOS l c => :2
         LPOS l c RANK 1 => :2
         LPOS l c RANK 2 => :6
         LPOS l c RANK 4 => $-1
         LPOS l c RANK -1 => :7
         LPOS l c rank -2 => :6
         LPOS l c COUNT 0 => *3 :2 :6 :7
         LPOS l c COUNT 1 => *1 :2
         LPOS l c COUNT 2 => *2 :2 :6
         LPOS l c COUNT 100 => *3 :2 :6 :7
         LPOS l c COUNT 0 RANK 2 => *2 :6 :7
         LPOS l c COUNT 2 RANK -1 => *2 :7 :6
         LPOS l c COUNT 0 RANK 10 => *0
         LPOS l c COUNT 2 RANK -3 => *1 :2
         LPOS l c COUNT 0 MAXLEN 3 => *1 :2
         LPOS l c COUNT 0 MAXLEN 2 => *0
         LPOS l c MAXLEN 2 => $-1
         LPOS l c COUNT 0 MAXLEN 3 RANK -1 => *2 :7 :6
         LPOS l c COUNT 0 MAXLEN 7 RANK 2 => *1 :6
         LPOS l 3 => :5
         LPOS l x => $-1
         LPOS l x COUNT 0 => *0
         LPOS none x => $-1
         LPOS none x COUNT 0 => *0
         LPOS l c RANK 0 => -ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... or use negative to start from the end of the list
         LPOS l c RANK -9223372036854775808 => -ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807
         LPOS l c RANK 9223372036854775807 => $-1
         LPOS l c RANK -9223372036854775807 => $-1
         LPOS l c RANK foo => -ERR value is not an integer or out of range
         LPOS l c COUNT -1 => -ERR COUNT can't be negative
         LPOS l c COUNT foo => -ERR COUNT can't be negative
         LPOS l c MAXLEN -1 => -ERR MAXLEN can't be negative
         LPOS l c MAXLEN foo => -ERR MAXLEN can't be negative
         LPOS l c RANK => -ERR syntax error
         LPOS l c NOPE 1 => -ERR syntax error
         LPOS none c RANK 0 => -ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... or use negative to start from the end of the list
         LPOS l c RANK 2 RANK 1 => :2
         SET s x => +OK
         LPOS s x => -WRONGTYPE Operation against a key holding the wrong kind of value
         LPOS s x RANK 0 => -ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... or use negative to start from the end of the list",
    );
}

#[test]
fn moves_between_lists_and_within_one() {
    let mut console = Console::default();
    console.check(
        "RPUSH a 1 2 3 4 => :4
         RPOPLPUSH a b => $1 4
         RPOPLPUSH a b => $1 3
         LRANGE a 0 -1 => *2 $1 1 $1 2
         LRANGE b 0 -1 => *2 $1 3 $1 4
         RPOPLPUSH a a => $1 2
         LRANGE a 0 -1 => *2 $1 2 $1 1
         LMOVE a b LEFT RIGHT => $1 2
         LMOVE a b right left => $1 1
         LRANGE b 0 -1 => *4 $1 1 $1 3 $1 4 $1 2
         EXISTS a => :0
         LMOVE b b LEFT RIGHT => $1 1
         LMOVE b b LEFT LEFT => $1 3
         LRANGE b 0 -1 => *4 $1 3 $1 4 $1 2 $1 1
         RPUSH one x => :1
         LMOVE one one RIGHT LEFT => $1 x
         LRANGE one 0 -1 => *1 $1 x
         LMOVE none b LEFT LEFT => $-1
         RPOPLPUSH none b => $-1
         LMOVE b a UP LEFT => -ERR syntax error
         LMOVE b a LEFT DOWN => -ERR syntax error
         LMOVE none a LEFT DOWN => -ERR syntax error
         SET s x => +OK
         LMOVE s a LEFT LEFT => -WRONGTYPE Operation against a key holding the wrong kind of value
         LMOVE b s LEFT LEFT => -WRONGTYPE Operation against a key holding the wrong kind of value
         LMOVE none s LEFT LEFT => $-1
         RPOPLPUSH s b => -WRONGTYPE Operation against a key holding the wrong kind of value
         RPOPLPUSH b s => -WRONGTYPE Operation against a key holding the wrong kind of value
         LRANGE b 0 -1 => *4 $1 3 $1 4 $1 2 $1 1
         LMOVE a b LEFT => -ERR wrong number of arguments for 'lmove' command",
    );
}

#[test]
fn lmpop_takes_from_the_first_list_that_has_any() {
    let mut console = Console::default();
    console.check(
        "RPUSH a 1 2 3 => :3
         RPUSH b 4 5 6 => :3
         LMPOP 2 none a LEFT => *2 $1 a *1 $1 1
         LMPOP 3 none a b RIGHT COUNT 5 => *2 $1 a *2 $1 3 $1 2
         LMPOP 2 a b right count 2 => *2 $1 b *2 $1 6 $1 5
         LMPOP 2 a b LEFT COUNT 1 => *2 $1 b *1 $1 4
         LMPOP 2 a b LEFT => *-1
         EXISTS a b => :0
         RPUSH a 1 => :1
         LMPOP 0 a LEFT => -ERR numkeys should be greater than 0
         LMPOP -1 a LEFT => -ERR numkeys should be greater than 0
         LMPOP foo a LEFT => -ERR numkeys should be greater than 0
         LMPOP 2 a LEFT => -ERR syntax error
         LMPOP 9223372036854775807 a LEFT => -ERR syntax error
         LMPOP 1 a UP => -ERR syntax error
         LMPOP 1 a LEFT COUNT 0 => -ERR count should be greater than 0
         LMPOP 1 a LEFT COUNT -1 => -ERR count should be greater than 0
         LMPOP 1 a LEFT COUNT foo => -ERR count should be greater than 0
         LMPOP 1 a LEFT COUNT => -ERR syntax error
         LMPOP 1 a LEFT NOPE 1 => -ERR syntax error
         LMPOP 1 a LEFT COUNT 1 COUNT 1 => -ERR syntax error
         LMPOP 1 a LEFT COUNT 1 x => -ERR syntax error
         LMPOP 1 a => -ERR wrong number of arguments for 'lmpop' command
         SET s x => +OK
         LMPOP 2 s a LEFT => -WRONGTYPE Operation against a key holding the wrong kind of value
         LMPOP 2 a s LEFT => *2 $1 a *1 $1 1
         LMPOP 2 a s LEFT => -WRONGTYPE Operation against a key holding the wrong kind of value",
    );
}

#[test]
fn blocking_forms_with_elements_are_as_the_plain_ones() {
    let mut console = Console::default();
    console.check(
        r#"RPUSH a 1 2 3 4 5 6 7 8 9 => :9
         BLPOP none a 0 => *2 $1 a $1 1
         BRPOP a none 0.5 => *2 $1 a $1 9
         BLMPOP 0 2 none a LEFT COUNT 2 => *2 $1 a *2 $1 2 $1 3
         BLMPOP 1.5 1 a RIGHT => *2 $1 a *1 $1 8
         BLMOVE a b LEFT RIGHT 0 => $1 4
         BRPOPLPUSH a b 0 => $1 7
         LRANGE a 0 -1 => *2 $1 5 $1 6
         LRANGE b 0 -1 => *2 $1 7 $1 4
         SET s x => +OK
         BLPOP s a 0 => -WRONGTYPE Operation against a key holding the wrong kind of value
         BLPOP none s 0 => -WRONGTYPE Operation against a key holding the wrong kind of value
         BRPOP s 0 => -WRONGTYPE Operation against a key holding the wrong kind of value
         BLMPOP 0 1 s LEFT => -WRONGTYPE Operation against a key holding the wrong kind of value
         BLMOVE s b LEFT LEFT 0 => -WRONGTYPE Operation against a key holding the wrong kind of value
         BLMOVE a s LEFT LEFT 0 => -WRONGTYPE Operation against a key holding the wrong kind of value
         BRPOPLPUSH a s 0 => -WRONGTYPE Operation against a key holding the wrong kind of value
         BLPOP a x => -ERR timeout is not a float or out of range
         BLPOP a -1 => -ERR timeout is negative
         BLPOP a -0.1 => -ERR timeout is negative
         BLPOP s -1 => -ERR timeout is negative
         BLPOP a 1e30 => -ERR timeout is out of range
         BLPOP a 1e400 => -ERR timeout is out of range
         BLPOP a inf => -ERR timeout is out of range
         BLPOP a -inf => -ERR timeout is negative
         BLPOP a nan => -ERR timeout is not a float or out of range
         BLPOP a "" => -ERR timeout is not a float or out of range
         BLPOP a 9223372036854775.808 => -ERR timeout is out of range
         BRPOP a foo => -ERR timeout is not a float or out of range
         BLMPOP foo 1 a LEFT => -ERR timeout is not a float or out of range
         BLMPOP -1 1 a LEFT => -ERR timeout is negative
         BLMPOP foo 0 a LEFT => -ERR numkeys should be greater than 0
         BLMPOP foo 1 a UP => -ERR syntax error
         BLMPOP 0 1 a LEFT COUNT 0 => -ERR count should be greater than 0
         BLMOVE a b LEFT UP foo => -ERR syntax error
         BLMOVE a b LEFT LEFT foo => -ERR timeout is not a float or out of range
         BLMOVE a b LEFT LEFT -1 => -ERR timeout is negative
         BRPOPLPUSH a b foo => -ERR timeout is not a float or out of range
         BLPOP a => -ERR wrong number of arguments for 'blpop' command
         BLMOVE a b LEFT LEFT => -ERR wrong number of arguments for 'blmove' command
         LRANGE a 0 -1 => *2 $1 5 $1 6"#,
    );
}

#[test]
fn a_long_list_works_as_a_short_one() {
    let mut console = Console::new(&[("list-max-listpack-size", "2")]);
    console.check(
        "RPUSH l a => :1
         OBJECT ENCODING l => $8 listpack
         RPUSH l b c d e f g => :7
         OBJECT ENCODING l => $9 quicklist
         LPUSH l x y => :9
         LINDEX l 4 => $1 c
         LINDEX l -4 => $1 d
         LSET l 4 C => +OK
         LINSERT l BEFORE C c0 => :10
         LINSERT l AFTER C c1 => :11
         LRANGE l 0 -1 => *11 $1 y $1 x $1 a $1 b $2 c0 $1 C $2 c1 $1 d $1 e $1 f $1 g
         LRANGE l 2 5 => *4 $1 a $1 b $2 c0 $1 C
         LREM l 1 c0 => :1
         LPOS l g => :9
         LPOS l g RANK -1 => :9
         LTRIM l 2 7 => +OK
         LRANGE l 0 -1 => *6 $1 a $1 b $1 C $2 c1 $1 d $1 e
         LPOP l 4 => *4 $1 a $1 b $1 C $2 c1
         OBJECT ENCODING l => $9 quicklist
         RPOP l 2 => *2 $1 e $1 d
         EXISTS l => :0",
    );
}

#[test]
fn null_replies_in_resp3() {
    let mut console = Console::default();
    console.ask("a", "HELLO 3");
    console.check(
        "LPOP none => _
         LPOP none 1 => _
         LMPOP 1 none LEFT => _
         LINDEX none 0 => _
         LPOS none x => _
         RPOPLPUSH none none => _
         MULTI => +OK
         BLPOP none 0 => +QUEUED
         BLMOVE none x LEFT LEFT 0 => +QUEUED
         EXEC => *2 _ _",
    );
}

/// The events are those of Redis, in its order.
#[test]
fn keyspace_events() {
    let mut console = Console::new(&[("notify-keyspace-events", "KEA")]);
    console.ask("sub", "PSUBSCRIBE __keyeven?@0__:*");
    for (command, want) in [
        ("RPUSH l a b c d e f g h", "rpush l"),
        ("LPUSH l z", "lpush l"),
        ("LPUSHX l y", "lpush l"),
        ("LPUSHX none y", ""),
        ("LPOP l", "lpop l"),
        ("RPOP l 2", "rpop l"),
        ("LPOP l 0", ""),
        ("LSET l 0 z", "lset l"),
        ("LINSERT l BEFORE a x", "linsert l"),
        ("LINSERT l BEFORE nope x", ""),
        ("LREM l 0 x", "lrem l"),
        ("LREM l 0 x", ""),
        ("LTRIM l 0 -1", "ltrim l"),
        ("LTRIM l 0 4", "ltrim l"),
        ("LMOVE l m LEFT RIGHT", "rpush m, lpop l"),
        ("RPOPLPUSH l m", "lpush m, rpop l"),
        ("RPOPLPUSH m m", "lpush m, rpop m"),
        ("LMPOP 1 m LEFT COUNT 5", "lpop m, del m"),
        ("BLPOP l 0", "lpop l"),
        ("BLMPOP 0 1 l RIGHT", "rpop l"),
        ("BLMOVE l m LEFT LEFT 0", "lpush m, lpop l, del l"),
        ("LTRIM m 5 9", "ltrim m, del m"),
    ] {
        console.ask("a", command);
        let events = String::from_utf8_lossy(&console.raw("sub")).into_owned();
        let words: Vec<&str> = events.split("\r\n").collect();
        let seen: Vec<String> = words
            .windows(3)
            .filter_map(|three| Some(format!("{} {}", three[0].strip_prefix("__keyevent@0__:")?, three[2])))
            .filter(|event| !event.starts_with("new "))
            .collect();
        assert_eq!(seen.join(", "), want, "{command}");
    }
}

/// A script that reaches for a key it did not declare is rolled back and run again: what it did before is undone exactly.
#[test]
fn pushes_and_pops_of_many_are_undone() {
    let mut console = Console::default();
    console.check(
        r#"RPUSH l a b c d => :4
         EVAL 'redis.call("rpush",KEYS[1],"x","y","z") redis.call("lpush",KEYS[1],"p","q") redis.call("lpop",KEYS[1],3) redis.call("rpop",KEYS[1],2) redis.call("rpush","other",1) return redis.call("lrange",KEYS[1],0,-1)' 1 l => *4 $1 b $1 c $1 d $1 x
         LRANGE l 0 -1 => *4 $1 b $1 c $1 d $1 x
         LRANGE other 0 -1 => *1 $1 1"#,
    );
}

#[test]
fn a_move_is_one_change() {
    let mut console = Console::default();
    let mut changes = |command: &str| {
        console.ask("a", command);
        let info = console.ask("a", "INFO persistence");
        let text = info.split("rdb_changes_since_last_save:").nth(1).and_then(|rest| rest.split(' ').next());
        text.and_then(|text| text.parse::<u64>().ok()).expect("the figure")
    };
    assert_eq!(changes("RPUSH a 1 2 3"), 3);
    assert_eq!(changes("LMOVE a b LEFT RIGHT"), 4);
    assert_eq!(changes("RPOPLPUSH a a"), 5);
    assert_eq!(changes("BLMOVE a b LEFT RIGHT 0"), 6);
    assert_eq!(changes("LMOVE nothing b LEFT RIGHT"), 6);
}
