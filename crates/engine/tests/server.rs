//! INFO, CONFIG, SHUTDOWN, SLOWLOG, LATENCY, ACL, DEBUG: expectations asked from Redis 7.0.15 and Valkey 9.1.2.

use kelda_engine::testing::Console;
use std::sync::atomic::Ordering::Relaxed;

#[test]
fn answers_of_a_server_on_its_own() {
    let mut console = Console::default();
    console.check(
        "TIME => *2 $10 1767225600 $1 0
         LASTSAVE => :1767225600
         ROLE => *3 $6 master :0 *0
         REPLICAOF NO ONE => +OK
         REPLICAOF a b => -ERR Invalid master port
         MODULE LIST => *0
         FAILOVER => -ERR FAILOVER requires connected replicas.
         FAILOVER ABORT => -ERR No failover in progress.
         CLUSTER INFO => -ERR This instance has cluster support disabled
         CLUSTER FOO => -ERR unknown subcommand 'FOO'. Try CLUSTER HELP.
         READONLY => -ERR This instance has cluster support disabled
         CLIENT CAPA redirect => +OK
         READONLY => +OK
         READWRITE => +OK
         BGSAVE foo => -ERR syntax error
         SHUTDOWN foo => -ERR syntax error
         SHUTDOWN SAVE NOSAVE => -ERR syntax error
         SHUTDOWN ABORT => -ERR No shutdown in progress.
         SHUTDOWN ABORT NOW => -ERR syntax error",
    );
    assert_eq!(console.ask("a", "SHUTDOWN NOSAVE"), "");
    assert!(console.is_closed("a") && console.engine.ending.load(Relaxed));
}

#[test]
fn the_configuration_is_read_and_changed() {
    let mut console = Console::default();
    console.check(
        "CONFIG GET maxmemory => *2 $9 maxmemory $1 0
         CONFIG SET maxmemory 100mb => +OK
         CONFIG GET maxmemory => *2 $9 maxmemory $9 104857600
         CONFIG SET foo bar => -ERR Unknown option or number of arguments for CONFIG SET - 'foo'
         CONFIG SET maxmemory => -ERR wrong number of arguments for 'config|set' command
         CONFIG SET maxmemory 1 maxmemory => -ERR syntax error
         CONFIG GET => -ERR wrong number of arguments for 'config|get' command
         CONFIG REWRITE => -ERR The server is running without a config file
         CONFIG RESETSTAT => +OK",
    );
}

#[test]
fn info_tells_true_figures_by_section() {
    let mut console = Console::default();
    console.check("SET a 1 => +OK\nGET a => $1 1\nGET b => $-1\nINFO nosuch => $0");
    let stats = console.ask("a", "INFO stats");
    for line in ["total_connections_received:1 ", "keyspace_hits:1 ", "keyspace_misses:1 ", "expired_keys:0 "] {
        assert!(stats.contains(line), "{line} in {stats}");
    }
    assert!(console.ask("a", "INFO keyspace").ends_with("# Keyspace db0:keys=1,expires=0,avg_ttl=0,subexpiry=0"));
    assert!(console.ask("a", "INFO commandstats").contains("cmdstat_get:calls=2,"));
    assert!(console.ask("a", "INFO server").contains("server_name:kelda"));
    assert!(console.ask("a", "INFO persistence").contains("rdb_changes_since_last_save:1 "));
    let default = console.ask("a", "INFO");
    assert!(!default.contains("# Commandstats") && default.contains("# Server") && default.contains("# Keyspace"));
    assert!(console.ask("a", "INFO everything").contains("# Latencystats"));
    let two = console.ask("a", "INFO cpu clients");
    assert!(two.contains("# Clients") && two.contains("# CPU") && !two.contains("# Memory"));
    console.check("NOSUCH => -ERR unknown command 'NOSUCH', with args beginning with:");
    assert!(console.ask("a", "INFO errorstats").contains("errorstat_ERR:count=1"));
}

#[test]
fn slow_and_big_commands_are_logged() {
    let mut console = Console::default();
    console.check(
        "SLOWLOG GET => *0
         SLOWLOG GET x => -ERR count should be greater than or equal to -1
         SLOWLOG GET -2 => -ERR count should be greater than or equal to -1
         CONFIG SET slowlog-log-slower-than 0 => +OK
         SLOWLOG RESET => +OK
         SET a 1 => +OK
         CONFIG SET slowlog-log-slower-than -1 => +OK
         SLOWLOG LEN => :2
         SLOWLOG GET 1 => *1 *6 :2 :1767225600 :0 *3 $3 SET $1 a $1 1 $11 127.0.0.1:1 $0
         SLOWLOG RESET => +OK
         SLOWLOG LEN => :0
         CONFIG SET commandlog-request-larger-than 8 => +OK
         SET a 12345678 => +OK
         CONFIG SET commandlog-request-larger-than -1 => +OK
         COMMANDLOG GET 1 large-request => *1 *6 :1 :1767225600 :12 *3 $3 SET $1 a $8 12345678 $11 127.0.0.1:1 $0
         COMMANDLOG LEN large-reply => :0
         COMMANDLOG LEN foo => -ERR type should be one of the following: slow, large-request, large-reply
         LATENCY LATEST => *0
         LATENCY HISTORY command => *0
         LATENCY GRAPH foo => -ERR No samples available for event 'foo'
         LATENCY RESET => :0
         LATENCY HISTOGRAM nosuch => *0",
    );
}

#[test]
fn latency_is_told() {
    let mut console = Console::new(&[("latency-monitor-threshold", "10"), ("slowlog-log-slower-than", "-1")]);
    console.check("LATENCY LATEST => *0");
    assert!(console.ask("a", "LATENCY DOCTOR").contains("Nothing took 10 ms or longer."));
    console.check("DEBUG SLEEP 0.02 => +OK");
    console.advance_ms(2000);
    console.check(
        "DEBUG SLEEP 0.04 => +OK
         LATENCY LATEST => *1 *4 $7 command :1767225602 :40 :40
         LATENCY HISTORY command => *2 *2 :1767225600 :20 *2 :1767225602 :40",
    );
    let graph = console.ask("a", "LATENCY GRAPH command");
    assert!(graph.contains("command - high 40 ms, low 20 ms (all time high 40 ms)"), "{graph}");
    let doctor = console.ask("a", "LATENCY DOCTOR");
    let told = "command: 2 events, 30 ms on average (they differ by 10 ms from that), one in 1 s, 40 ms at most";
    assert!(doctor.contains(told), "{doctor}");
    // What may be done about it, and nothing about events that there were none of.
    assert!(
        doctor.contains("SLOWLOG GET") && doctor.contains("slow log is off") && !doctor.contains("maxmemory"),
        "{doctor}"
    );
    console.check("LATENCY RESET command => :1\nLATENCY LATEST => *0\nCONFIG SET latency-monitor-threshold 0 => +OK");
    assert!(console.ask("a", "LATENCY DOCTOR").contains("not being watched"));
}

#[test]
fn the_user_that_is_always_there() {
    let mut console = Console::default();
    console.check(
        "ACL WHOAMI => $7 default
         ACL USERS => *1 $7 default
         ACL LIST => *1 $51 user default on nopass sanitize-payload ~* &* +@all
         ACL GETUSER default => *12 $5 flags *3 $2 on $6 nopass $16 sanitize-payload $9 passwords *0 $8 commands $5 +@all $4 keys $2 ~* $8 channels $2 &* $9 selectors *0
         ACL GETUSER foo => $-1
         ACL CAT foo => -ERR Unknown category 'foo'
         ACL CAT transaction => *5 $5 multi $4 exec $7 discard $5 watch $7 unwatch
         ACL GENPASS 0 => -ERR ACL GENPASS argument must be the number of bits for the output password, a positive number up to 4096
         ACL GENPASS x => -ERR value is not an integer or out of range
         ACL LOG => *0
         ACL LOG RESET => +OK
         ACL DELUSER default => -ERR The 'default' user cannot be removed
         ACL DELUSER x => :0
         ACL DRYRUN default get a => +OK
         ACL DRYRUN foo get a => -ERR User 'foo' not found
         ACL DRYRUN default foo a => -ERR Command 'foo' not found",
    );
    assert_eq!(console.ask("a", "ACL GENPASS 5").len(), "$2 ab".len());
    assert_eq!(console.ask("a", "ACL GENPASS").len(), "$64 ".len() + 64);
}

#[test]
fn debug_shows_and_forces() {
    let mut console = Console::default();
    let nothing = "0".repeat(40);
    assert_eq!(console.ask("a", "DEBUG DIGEST"), format!("+{nothing}"));
    console.check(
        "DEBUG POPULATE 2 y 10 => +OK
         DEBUG POPULATE x => -ERR value is out of range, must be positive
         DEBUG FOO => -ERR unknown subcommand or wrong number of arguments for 'FOO'. Try DEBUG HELP.
         DEBUG SLEEP => -ERR unknown subcommand or wrong number of arguments for 'SLEEP'. Try DEBUG HELP.
         DEBUG OBJECT none => -ERR no such key
         DEBUG ERROR foo => -foo
         DEBUG HTSTATS 99 => -ERR Out of range database
         DEBUG PROTOCOL double => $5 3.141
         DEBUG PROTOCOL push => -ERR RESP2 is not supported by this command
         DEBUG PROTOCOL map => *6 :0 :0 :1 :1 :2 :0
         DEBUG RELOAD => +OK
         DEBUG SET-ACTIVE-EXPIRE 0 => +OK
         DEBUG SLEEP 0 => +OK
         SET a 1 => +OK",
    );
    assert!(console.ask("a", "DEBUG OBJECT a").contains("encoding:int"));
    let before = console.ask("a", "DEBUG DIGEST");
    assert_ne!(before, format!("+{nothing}"));
    console.check("SET a 2 => +OK");
    assert_ne!(console.ask("a", "DEBUG DIGEST"), before);
    console.check("SET a 1 => +OK");
    assert_eq!(console.ask("a", "DEBUG DIGEST"), before);
    console.ask("a", "HELLO 3");
    console.check(
        "DEBUG PROTOCOL double => ,3.141
         DEBUG PROTOCOL map => %3 :0 #f :1 #t :2 #f
         DEBUG PROTOCOL bignum => (1234567999999999999999999999999999999",
    );
}

#[test]
fn a_sleeping_server_answers_when_it_wakes() {
    let mut console = Console::default();
    console.check("CONFIG SET slowlog-log-slower-than 1000 => +OK");
    assert_eq!(console.ask("b", "DEBUG SLEEP 0.5"), "+OK");
    assert_eq!(console.platform.stood_still_us(), 500_000);
    // The time passed for everybody, and the slow log knows who let it pass.
    console.check("SLOWLOG LEN => :1");
}
