//! The set family. Expectations are replies of Valkey 9.1 and Redis 7.0.

use kelda_engine::testing::Console;
use std::collections::BTreeMap;

#[test]
fn members_are_added_found_and_removed() {
    Console::default().check(
        "SADD s => -ERR wrong number of arguments for 'sadd' command
         SADD s a => :1
         SADD s a b c => :2
         SREM s a z a => :1
         SREM no a => :0
         SMEMBERS s => *2 $1 b $1 c
         SMEMBERS no => *0
         SISMEMBER s b => :1
         SISMEMBER s z => :0
         SISMEMBER no z => :0
         SMISMEMBER s b z => *2 :1 :0
         SMISMEMBER no b z => *2 :0 :0
         SCARD s => :2
         SCARD no => :0
         SREM s b c d => :2
         GET s => $-1
         SADD ints 3 1 -2 1 => :3
         SMEMBERS ints => *3 $2 -2 $1 1 $1 3
         SADD e '' => :1
         SISMEMBER e '' => :1",
    );
}

#[test]
fn other_types_are_refused() {
    let mut console = Console::default();
    console.check("SET str x => +OK");
    for command in [
        "SADD str a",
        "SREM str a",
        "SMEMBERS str",
        "SISMEMBER str a",
        "SMISMEMBER str a",
        "SCARD str",
        "SPOP str",
        "SPOP str 0",
        "SRANDMEMBER str",
        "SRANDMEMBER str 1",
        "SMOVE str d a",
        "SINTER no str",
        "SINTER str no",
        "SUNION no str",
        "SDIFF no str",
        "SINTERSTORE r no str",
        "SUNIONSTORE r no str",
        "SDIFFSTORE r no str",
        "SINTERCARD 2 no str",
        "SSCAN str 0",
    ] {
        let got = console.ask("a", command);
        assert_eq!(got, "-WRONGTYPE Operation against a key holding the wrong kind of value", "{command}");
    }
    console.check("GET str => $1 x");
}

#[test]
fn random_members_are_taken() {
    Console::default().check(
        "SPOP no => $-1
         SPOP no 3 => *0
         SPOP no 0 => *0
         SPOP no x => -ERR value is out of range, must be positive
         SPOP no -1 => -ERR value is out of range, must be positive
         SPOP s 1 2 => -ERR syntax error
         SADD one m => :1
         SPOP one 0 => *0
         SPOP one 3 => *1 $1 m
         GET one => $-1
         SADD one m => :1
         SPOP one => $1 m
         GET one => $-1",
    );
}

#[test]
fn spop_takes_what_it_returns() {
    for members in [20, 2000] {
        let mut console = Console::default();
        let all: Vec<String> = (0..members).map(|n| format!("m{n}")).collect();
        assert_eq!(console.ask("a", &format!("SADD s {}", all.join(" "))), format!(":{members}"));
        let mut gone = Vec::new();
        for count in [1, 3, members / 2] {
            let reply = console.ask("a", &format!("SPOP s {count}"));
            gone.extend(reply.split(' ').filter(|word| word.starts_with('m')).map(str::to_string));
        }
        assert_eq!(gone.len(), 4 + members / 2);
        let left = console.ask("a", "SMEMBERS s");
        let left = left.split(' ').filter(|word| word.starts_with('m')).map(str::to_string);
        let mut both: Vec<String> = gone.into_iter().chain(left).collect();
        both.sort();
        let mut all = all;
        all.sort();
        assert_eq!(both, all);
    }
}

#[test]
fn random_members_are_returned() {
    Console::default().check(
        "SRANDMEMBER no => $-1
         SRANDMEMBER no 3 => *0
         SRANDMEMBER no x => -ERR value is not an integer or out of range
         SRANDMEMBER no 3 4 => -ERR syntax error
         SRANDMEMBER no -9223372036854775808 => -ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807
         SRANDMEMBER no -9223372036854775807 => *0
         SADD one m => :1
         SRANDMEMBER one => $1 m
         SRANDMEMBER one 0 => *0
         SRANDMEMBER one 3 => *1 $1 m
         SRANDMEMBER one -3 => *3 $1 m $1 m $1 m
         SCARD one => :1",
    );
}

/// How often each word of the replies that begins with `m` came.
fn histogram(console: &mut Console, command: &str, times: usize) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for _ in 0..times {
        for word in console.ask("a", command).split(' ').filter(|word| word.starts_with('m')) {
            *counts.entry(word.to_string()).or_default() += 1;
        }
    }
    counts
}

/// Pearson's statistic against the even distribution, as a multiple of its degrees of freedom; about 1 if even.
fn unevenness(counts: &BTreeMap<String, usize>, elements: usize) -> f64 {
    let total: usize = counts.values().sum();
    let expected = total as f64 / elements as f64;
    let missing = (elements - counts.len()) as f64 * expected;
    let sum: f64 = counts.values().map(|&count| (count as f64 - expected).powi(2) / expected).sum();
    (sum + missing) / (elements - 1) as f64
}

#[test]
fn every_element_is_as_likely_as_any_other() {
    // Packed; a table sampled by draws; a table sampled by a shuffle.
    for (elements, counts) in [(50, [1, 5, 40]), (600, [1, 150, 550])] {
        let mut console = Console::default();
        for n in 0..elements {
            console.ask("a", &format!("SADD s m{n}"));
            console.ask("a", &format!("HSET h m{n} 1"));
        }
        for command in ["SRANDMEMBER s", "HRANDFIELD h"] {
            for count in counts {
                let draws = 20 * elements / count;
                let different = histogram(&mut console, &format!("{command} {count}"), draws);
                assert_eq!(different.values().sum::<usize>(), draws * count);
                let uneven = unevenness(&different, elements);
                assert!(uneven < 2.0, "{command} {count} of {elements}: {uneven}");
                let repeated = histogram(&mut console, &format!("{command} -{count}"), draws);
                let uneven = unevenness(&repeated, elements);
                assert!((0.4..2.0).contains(&uneven), "{command} -{count} of {elements}: {uneven}");
            }
            let single = histogram(&mut console, command, 20 * elements);
            let uneven = unevenness(&single, elements);
            assert!((0.4..2.0).contains(&uneven), "{command} of {elements}: {uneven}");
        }
    }
}

#[test]
fn a_count_returns_different_members() {
    for elements in [30, 1000] {
        let mut console = Console::default();
        for n in 0..elements {
            console.ask("a", &format!("SADD s m{n}"));
            console.ask("a", &format!("HSET h m{n} 1"));
        }
        for count in [1, elements / 4, elements / 2, elements - 1, elements, 2 * elements] {
            for command in ["SRANDMEMBER s", "HRANDFIELD h"] {
                let got = histogram(&mut console, &format!("{command} {count}"), 1);
                assert_eq!(got.len(), count.min(elements), "{command} {count}");
                assert!(got.values().all(|&times| times == 1));
            }
        }
    }
}

#[test]
fn a_member_is_moved() {
    Console::default().check(
        "SADD s b c => :2
         SET str x => +OK
         SMOVE no d m => :0
         SMOVE no str m => :0
         SMOVE s str b => -WRONGTYPE Operation against a key holding the wrong kind of value
         SMOVE s str zz => -WRONGTYPE Operation against a key holding the wrong kind of value
         SMOVE str s b => -WRONGTYPE Operation against a key holding the wrong kind of value
         SMOVE s s b => :1
         SMOVE s s zz => :0
         SMOVE s d zz => :0
         SMOVE s d b => :1
         SMOVE s d c => :1
         GET s => $-1
         SMEMBERS d => *2 $1 b $1 c
         SADD s c => :1
         SMOVE s d c => :1
         SMEMBERS d => *2 $1 b $1 c",
    );
}

#[test]
fn sets_are_combined() {
    Console::default().check(
        "SADD a 1 2 3 4 => :4
         SADD b 2 3 5 => :3
         SADD c x 2 y => :3
         SINTER a b => *2 $1 2 $1 3
         SINTER a no => *0
         SINTER a => *4 $1 1 $1 2 $1 3 $1 4
         SINTER a b c => *1 $1 2
         SUNION a b => *5 $1 1 $1 2 $1 3 $1 4 $1 5
         SUNION no => *0
         SDIFF a b => *2 $1 1 $1 4
         SDIFF a b c no => *2 $1 1 $1 4
         SDIFF no a => *0
         SDIFF a no => *4 $1 1 $1 2 $1 3 $1 4
         SDIFF a a => *0",
    );
}

#[test]
fn combinations_are_stored() {
    Console::default().check(
        "SADD a 1 2 3 4 => :4
         SADD b 2 3 5 => :3
         SADD c x 2 y => :3
         SET str x => +OK
         SINTERSTORE r a b => :2
         SMEMBERS r => *2 $1 2 $1 3
         SINTERSTORE r a str => -WRONGTYPE Operation against a key holding the wrong kind of value
         SMEMBERS r => *2 $1 2 $1 3
         SINTERSTORE r a no => :0
         GET r => $-1
         SUNIONSTORE r a b => :5
         SDIFFSTORE r c a => :2
         SMEMBERS r => *2 $1 x $1 y
         SUNIONSTORE r no => :0
         GET r => $-1
         SUNIONSTORE str a => :4
         SMEMBERS str => *4 $1 1 $1 2 $1 3 $1 4
         SDIFFSTORE a a b => :2
         SMEMBERS a => *2 $1 1 $1 4",
    );
}

#[test]
fn both_ways_to_subtract_agree() {
    let mut console = Console::default();
    let numbers = |range: std::ops::Range<usize>| range.map(|n| format!(" n{n}")).collect::<String>();
    console.ask("a", &format!("SADD big{}", numbers(0..600)));
    // Few big ones are looked up in, many small ones taken out of a copy.
    console.ask("a", &format!("SADD most{}", numbers(3..600)));
    let mut small = String::new();
    for n in 3..600 {
        console.ask("a", &format!("SADD s{n} n{n}"));
        small += &format!(" s{n}");
    }
    let sorted = |reply: String| {
        let mut words: Vec<String> = reply.split(' ').filter(|w| w.starts_with('n')).map(str::to_string).collect();
        words.sort();
        words
    };
    assert_eq!(sorted(console.ask("a", "SDIFF big most")), ["n0", "n1", "n2"]);
    assert_eq!(sorted(console.ask("a", &format!("SDIFF big{small}"))), ["n0", "n1", "n2"]);
}

#[test]
fn intersections_are_counted() {
    Console::default().check(
        "SADD a 1 2 3 4 5 => :5
         SADD b 2 3 5 => :3
         SINTERCARD 0 a => -ERR numkeys should be greater than 0
         SINTERCARD x a => -ERR numkeys should be greater than 0
         SINTERCARD -1 a => -ERR numkeys should be greater than 0
         SINTERCARD 2 a => -ERR Number of keys can't be greater than number of args
         SINTERCARD 1 a b => -ERR syntax error
         SINTERCARD 2 a b LIMIT => -ERR syntax error
         SINTERCARD 2 a b LIMIT x => -ERR LIMIT can't be negative
         SINTERCARD 2 a b LIMIT -1 => -ERR LIMIT can't be negative
         SINTERCARD 2 a b FOO 1 => -ERR syntax error
         SINTERCARD 2 a b LIMIT 1 LIMIT 2 => :2
         SINTERCARD 2 a b LIMIT 1 => :1
         SINTERCARD 2 a b limit 0 => :3
         SINTERCARD 2 a b LIMIT 9 => :3
         SINTERCARD 2 a no => :0
         SINTERCARD 2 no no2 => :0",
    );
}

#[test]
fn scan() {
    Console::default().check(
        "SADD a 1 2 3 4 5 => :5
         SSCAN a x => -ERR invalid cursor
         SSCAN a 0 => *2 $1 0 *5 $1 1 $1 2 $1 3 $1 4 $1 5
         SSCAN a 0 MATCH [1-3] COUNT 2 => *2 $1 0 *3 $1 1 $1 2 $1 3
         SSCAN a 0 NOVALUES => -ERR NOVALUES option can only be used in HSCAN
         SSCAN a 0 COUNT 0 => -ERR syntax error
         SSCAN no 0 => *2 $1 0 *0",
    );
}

#[test]
fn a_scan_of_a_big_set_sees_every_member() {
    let mut console = Console::default();
    for n in 0..1000 {
        console.ask("a", &format!("SADD s m{n}"));
    }
    let mut seen = Vec::new();
    let mut cursor = "0".to_string();
    loop {
        let reply = console.ask("a", &format!("SSCAN s {cursor} COUNT 30"));
        let mut words = reply.split(' ');
        cursor = words.nth(2).map(str::to_string).unwrap_or_default();
        seen.extend(words.filter(|word| word.starts_with('m')).map(str::to_string));
        if cursor == "0" {
            break;
        }
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 1000);
}
