//! OBJECT and MEMORY. The replies are those of Redis and Valkey.

use kelda_engine::testing::Console;

#[test]
fn encodings() {
    Console::default().check(
        r#"
         MSET int 12 long 9223372036854775807 text abc raw 'abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopqrstuvwxyz0123456789' => +OK
         OBJECT ENCODING int => $3 int
         OBJECT ENCODING long => $3 int
         OBJECT ENCODING text => $6 embstr
         OBJECT ENCODING raw => $3 raw
         OBJECT ENCODING none => $-1
         RPUSH l x => :1
         SADD s 1 => :1
         SADD s2 x => :1
         ZADD z 1 x => :1
         HSET h f v => :1
         XADD x 1-1 f v => $3 1-1
         OBJECT ENCODING l => $8 listpack
         OBJECT ENCODING s => $6 intset
         OBJECT ENCODING s2 => $8 listpack
         OBJECT ENCODING z => $8 listpack
         OBJECT ENCODING h => $8 listpack
         OBJECT ENCODING x => $6 stream
         OBJECT REFCOUNT text => :1
         OBJECT REFCOUNT none => $-1
         OBJECT ENCODING => -ERR wrong number of arguments for 'object|encoding' command
         OBJECT FOO => -ERR unknown subcommand 'FOO'. Try OBJECT HELP.
         OBJECT => -ERR wrong number of arguments for 'object' command
        "#,
    );
}

#[test]
fn errors_of_memory() {
    Console::default().check(
        r#"
         SET a 1 => +OK
         MEMORY USAGE none => $-1
         MEMORY USAGE a SAMPLES => -ERR syntax error
         MEMORY USAGE a SAMPLES x => -ERR value is not an integer or out of range
         MEMORY USAGE a SAMPLES -1 => -ERR syntax error
         MEMORY USAGE a FOO 5 => -ERR syntax error
         MEMORY USAGE none SAMPLES x => -ERR value is not an integer or out of range
         MEMORY USAGE none FOO => -ERR syntax error
         MEMORY USAGE => -ERR wrong number of arguments for 'memory|usage' command
         MEMORY PURGE => +OK
         MEMORY FOO => -ERR unknown subcommand 'FOO'. Try MEMORY HELP.
         MEMORY => -ERR wrong number of arguments for 'memory' command
         MEMORY STATS x => -ERR wrong number of arguments for 'memory|stats' command
        "#,
    );
}

#[test]
fn looking_at_a_key_is_no_use_of_it() {
    let mut console = Console::default();
    console.check("SET a x => +OK");
    console.advance_ms(60_000);
    console.check(
        "OBJECT IDLETIME a => :60
         TYPE a => +string
         EXISTS a => :1
         TTL a => :-1
         MEMORY USAGE a SAMPLES 0 => :16
         OBJECT ENCODING a => $6 embstr
         OBJECT IDLETIME a => :60
         OBJECT IDLETIME none => $-1
         TOUCH a => :1
         OBJECT IDLETIME a => :0
         OBJECT FREQ none => $-1
         OBJECT FREQ a => -ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching between policies at runtime LRU and LFU data will take some time to adjust.",
    );
}

#[test]
fn frequencies() {
    let mut console = Console::new(&[("maxmemory-policy", "allkeys-lfu"), ("lfu-log-factor", "0")]);
    console.check(
        "SET a x => +OK
         OBJECT FREQ a => :5
         GET a => $1 x
         GET a => $1 x
         OBJECT FREQ a => :7
         OBJECT IDLETIME none => $-1
         OBJECT IDLETIME a => -ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that when switching between policies at runtime LRU and LFU data will take some time to adjust.",
    );
}

#[test]
fn memory_of_a_key_grows_with_its_value() {
    let mut console = Console::default();
    let mut usage = |fill: &str| -> i64 {
        console.ask("a", fill);
        console.ask("a", "MEMORY USAGE a").trim_start_matches(':').parse().expect("a number")
    };
    let small = usage("SET a x");
    let large = usage(&format!("SET a {}", "x".repeat(10_000)));
    assert!(small < 100 && (10_000..14_000).contains(&large), "{small} {large}");
}

#[test]
fn memory_figures() {
    let mut console = Console::default();
    console.check("MSET a 1 b 2 => +OK");
    let stats = console.ask("a", "MEMORY STATS");
    assert!(stats.contains(" $15 total.allocated :1048576 "), "{stats}");
    assert!(stats.contains(" $10 keys.count :2 "), "{stats}");
    assert_eq!(console.ask("a", "MEMORY MALLOC-STATS"), "$19 allocated: 1048576");
    assert!(console.ask("a", "MEMORY DOCTOR").contains("hardly any data"));
    // Within a transaction they have every shard.
    console.check("MULTI => +OK\nMEMORY DOCTOR => +QUEUED\nMEMORY STATS => +QUEUED\nINFO memory => +QUEUED");
    let answers = console.ask("a", "EXEC");
    assert!(answers.starts_with("*3 $") && !answers.contains("-ERR"), "{answers}");
}

#[test]
fn help() {
    let mut console = Console::default();
    assert!(console.ask("a", "OBJECT HELP").starts_with("*11 +OBJECT <subcommand> "));
    assert!(console.ask("a", "MEMORY HELP").starts_with("*13 +MEMORY <subcommand> "));
}

#[test]
fn big_values_are_counted_as_freed_bit_by_bit() {
    let mut console = Console::default();
    let mut freed = |commands: &[&str]| {
        commands.iter().for_each(|command| assert!(!console.ask("a", command).starts_with('-'), "{command}"));
        let info = console.ask("a", "INFO memory");
        let text = info.split("lazyfreed_objects:").nth(1).and_then(|rest| rest.split(' ').next());
        text.and_then(|text| text.parse::<u64>().ok()).expect("the figure")
    };
    let members: String = (0..100).map(|number| format!(" {number}")).collect();
    assert_eq!(freed(&["SADD small 1 2", "UNLINK small", "SET text x", "UNLINK text"]), 0);
    assert_eq!(freed(&[&format!("SADD a{members}"), "UNLINK a"]), 1);
    assert_eq!(freed(&["MSET a 1 b 2 c 3", "FLUSHALL ASYNC"]), 4);
    assert_eq!(freed(&["CONFIG RESETSTAT"]), 0);
}

#[test]
fn debug_object_tells_of_a_deque() {
    let mut console = Console::new(&[("list-max-listpack-size", "2"), ("list-compress-depth", "3")]);
    console.check("RPUSH a 1 2 3 => :3\nRPUSH b 1 => :1");
    let shown = console.ask("a", "DEBUG OBJECT a");
    assert!(
        shown.ends_with(" ql_nodes:2 ql_avg_node:1.50 ql_listpack_max:2 ql_compressed:1 ql_uncompressed_size:3"),
        "{shown}"
    );
    assert!(!console.ask("a", "DEBUG OBJECT b").contains("ql_"));
}

#[test]
fn a_reload_packs_what_shrank_to_one_chunk() {
    Console::new(&[("list-max-listpack-size", "3")]).check(
        "RPUSH a 1 2 3 4 => :4
         DEBUG RELOAD => +OK
         OBJECT ENCODING a => $9 quicklist
         RPOP a => $1 4
         OBJECT ENCODING a => $9 quicklist
         DEBUG RELOAD => +OK
         OBJECT ENCODING a => $8 listpack
         LRANGE a 0 -1 => *3 $1 1 $1 2 $1 3",
    );
}
