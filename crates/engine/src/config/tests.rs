//! The configuration's conversations, as the oracles hold them, and its round trip through a file.

use super::table::{IGNORED, TABLE};
use super::*;
use proptest::prelude::*;

fn no_include(_: &str) -> Result<Vec<(String, String)>, String> {
    Ok(Vec::new())
}

fn read(text: &str) -> Result<Config, ConfigError> {
    let mut config = Config::default();
    config.parse_file_text(text, "a.conf", &no_include).map(|()| config)
}

fn value(config: &Config, name: &str) -> String {
    config.get(&[name]).pop().expect("the directive exists").1
}

#[test]
fn rows_are_sorted_unique_and_have_readable_defaults() {
    assert!(TABLE.is_sorted_by_key(|row| row.name));
    let aliases = TABLE.iter().filter(|row| row.alias.is_some()).count();
    assert_eq!(BY_NAME.len(), TABLE.len() + aliases);
    assert!(IGNORED.iter().all(|name| find(name).is_none()));
    for row in TABLE {
        let words: Vec<&str> = if row.kind.takes_many() { row.default.split(' ').collect() } else { vec![row.default] };
        let value = row.kind.parse(&words, &Value::Text(String::new()));
        assert_eq!(value.map(|v| v.text()).as_deref(), Ok(row.default), "{}", row.name);
    }
}

/// A row whose `store` reads another kind of value than its kind makes would fill a zero: every field of the
/// settings that has a non-zero default must differ from blank.
#[test]
fn settings_hold_the_defaults() {
    let s = Settings::default();
    assert_eq!((s.port, s.databases, s.maxclients, s.tcp_backlog, s.tcp_keepalive), (6379, 16, 10000, 511, 300));
    assert_eq!((s.threads, s.hz, s.active_expire_effort, s.maxmemory, s.timeout), (0, 10, 1, 0, 0));
    assert_eq!((s.proto_max_bulk_len, s.client_query_buffer_limit), (512 << 20, 1 << 30));
    assert_eq!((s.bind, s.dir, s.dbfilename), (vec!["*".into(), "-::*".into()], ".".into(), "dump.rdb".into()));
    assert_eq!(s.limits, kelda_store::Limits::default());
    assert_eq!((s.slowlog_log_slower_than, s.slowlog_max_len, s.busy_reply_threshold), (10000, 128, 5000));
    assert_eq!((s.maxmemory_policy, s.maxmemory_samples), (MaxmemoryPolicy::NoEviction, 5));
    assert_eq!(
        (s.lfu_log_factor, s.lfu_decay_time, s.tracking_table_max_keys, s.acllog_max_len),
        (10, 1, 1_000_000, 128)
    );
    assert_eq!((s.appendfsync, s.loglevel, s.save.len()), (AppendFsync::EverySec, LogLevel::Notice, 0));
    assert_eq!((s.appendfilename, s.appenddirname), ("appendonly.aof".into(), "appendonlydir".into()));
    let replica = OutputLimit { hard_bytes: 256 << 20, soft_bytes: 64 << 20, soft_seconds: 60 };
    let pubsub = OutputLimit { hard_bytes: 32 << 20, soft_bytes: 8 << 20, soft_seconds: 60 };
    assert_eq!(s.client_output_buffer_limit, OutputLimits { normal: OutputLimit::default(), replica, pubsub });
    assert_eq!((s.latency_tracking, s.latency_tracking_info_percentiles), (true, vec![50.0, 99.0, 99.9]));
    assert_eq!((s.enable_debug_command, s.protected_mode, s.appendonly), (Access::No, true, true));
    assert_eq!((s.max_new_connections_per_cycle, s.shutdown_timeout), (10, 10));
}

/// Every name that the oracles list is here, with the same default unless the lists below say otherwise.
#[test]
fn defaults_are_those_of_the_oracles() {
    // Where and how the oracle was started; and that data is kept in a log.
    // And that idle memory is looked for without being asked, from less than theirs on.
    let elsewhere = ["dir", "port", "pidfile", "save", "appendonly", "activedefrag", "active-defrag-ignore-bytes"];
    let of_redis = [
        "extended-redis-compatibility",
        "hash-seed",
        "hide-user-data-from-log",
        "syslog-ident",
        "maxmemory-samples",
        "repl-backlog-size",
    ];
    let config = Config::default();
    let all = config.get(&["*"]);
    for (oracle, text) in
        [("redis", include_str!("testdata/redis-7.0.15.txt")), ("valkey", include_str!("testdata/valkey-9.1.2.txt"))]
    {
        for line in text.lines() {
            let (name, expected) = line.split_once(' ').unwrap_or((line, ""));
            let ours = all.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
            let ours = ours.unwrap_or_else(|| panic!("{oracle} has {name}"));
            // Memory is always given back later: as Valkey says.
            let valkey_wins = oracle == "redis" && name.starts_with("lazyfree-lazy");
            let redis_wins = oracle == "valkey" && (of_redis.contains(&name) || name.ends_with("-lazy-flush"));
            if !elsewhere.contains(&name) && !redis_wins && !valkey_wins {
                assert_eq!(ours, expected, "{oracle}: {name}");
            }
        }
    }
    assert_eq!((value(&config, "appendonly"), value(&config, "save")), ("yes".into(), String::new()));
}

/// CONFIG SET on a default configuration: the name, the value, and the value afterwards or the reason for refusal.
/// Asked from Redis 7.0.15 and Valkey 9.1.2.
#[test]
fn set_answers_as_the_oracles() {
    let no_integer = Err("argument couldn't be parsed into an integer");
    let no_memory = Err("argument must be a memory value");
    let cases: &[(&str, &str, Result<&str, &str>)] = &[
        ("timeout", "5", Ok("5")),
        ("Timeout", "6", Ok("6")),
        ("timeout", "+5", no_integer),
        ("timeout", " 5", no_integer),
        ("timeout", "5.0", no_integer),
        ("timeout", "007", no_integer),
        ("timeout", "", no_integer),
        ("timeout", "-1", Err("argument must be between 0 and 2147483647 inclusive")),
        ("tls-port", "65536", Err("argument must be between 0 and 65535 inclusive")),
        ("maxclients", "0", Err("argument must be between 1 and 4294967295 inclusive")),
        ("slowlog-log-slower-than", "-5", Err("argument must be between -1 and 9223372036854775807 inclusive")),
        ("hz", "1000", Ok("500")),
        ("hz", "0", Ok("1")),
        ("appendonly", "YES", Ok("yes")),
        ("appendonly", "maybe", Err("argument must be 'yes' or 'no'")),
        ("loglevel", "DEBUG", Ok("debug")),
        ("appendfsync", "x", Err("argument(s) must be one of the following: everysec, always, no")),
        ("maxmemory", "1Kb", Ok("1024")),
        ("maxmemory", "3k", Ok("3000")),
        ("maxmemory", "100mb", Ok("104857600")),
        ("maxmemory", "1g", Ok("1000000000")),
        ("maxmemory", "", Ok("0")),
        ("maxmemory", "18446744073709551615", Ok("18446744073709551615")),
        ("maxmemory", "1gg", no_memory),
        ("maxmemory", "1.5g", no_memory),
        ("maxmemory", "-1", no_memory),
        ("proto-max-bulk-len", "1", Err("argument must be between 1048576 and 9223372036854775807 inclusive")),
        ("maxmemory-clients", "10%", Ok("10%")),
        ("maxmemory-clients", "5mb", Ok("5242880")),
        ("maxmemory-clients", "x", Err("argument must be a memory or percent value")),
        ("maxmemory-clients", "-1%", Err("argument must be a memory or percent value")),
        ("maxmemory-clients", "101%", Err("percentage argument must be less or equal to 100")),
        ("save", "", Ok("")),
        ("save", "10 0", Ok("10 0")),
        ("save", "100 1 300 10", Ok("100 1 300 10")),
        ("save", "1", Err("Invalid save parameters")),
        ("save", "1 a", Err("Invalid save parameters")),
        ("save", "0 1", Err("Invalid save parameters")),
        ("save", "1 -1", Err("Invalid save parameters")),
        (
            "client-output-buffer-limit",
            "normal 1mb 2mb 60 pubsub 5 6 7",
            Ok("normal 1048576 2097152 60 slave 268435456 67108864 60 pubsub 5 6 7"),
        ),
        ("client-output-buffer-limit", "replica 1 2 3", Ok("normal 0 0 0 slave 1 2 3 pubsub 33554432 8388608 60")),
        ("client-output-buffer-limit", "normal 0 0", Err("Wrong number of arguments in buffer limit configuration.")),
        (
            "client-output-buffer-limit",
            "master 0 0 0",
            Err("Invalid client class specified in buffer limit configuration."),
        ),
        (
            "client-output-buffer-limit",
            "normal 0 0 -1",
            Err("Error in hard, soft or soft_seconds setting in buffer limit configuration."),
        ),
        ("notify-keyspace-events", "KEA", Ok("AKE")),
        ("notify-keyspace-events", "ng$lshzxetdmK", Ok("AKmn")),
        ("notify-keyspace-events", "xK", Ok("xK")),
        ("notify-keyspace-events", "x9", Err("Invalid event class character. Use 'Ag$lshzxeKEtmdn'.")),
        ("oom-score-adj-values", "3 2 1", Ok("3 2 1")),
        ("oom-score-adj-values", "1 2", Err("wrong number of arguments")),
        (
            "oom-score-adj-values",
            "1 2 a",
            Err("Invalid oom-score-adj-values, elements must be between -2000 and 2000."),
        ),
        ("latency-tracking-info-percentiles", "50.5 99", Ok("50.5 99")),
        ("latency-tracking-info-percentiles", "", Ok("")),
        ("latency-tracking-info-percentiles", "a", Err("Invalid latency-tracking-info-percentiles parameters")),
        (
            "latency-tracking-info-percentiles",
            "101",
            Err("latency-tracking-info-percentiles parameters should sit between [0.0,100.0]"),
        ),
        ("shutdown-on-sigterm", "now force", Ok("now force")),
        ("shutdown-on-sigterm", "default now", Ok("now")),
        ("shutdown-on-sigterm", "save nosave", Err("shutdown options SAVE and NOSAVE can't be used simultaneously")),
        (
            "shutdown-on-sigterm",
            "",
            Err("argument(s) must be one of the following: default, save, nosave, now, force, safe, failover"),
        ),
        ("list-max-listpack-size", "0", Ok("0")),
        ("slave-priority", "7", Ok("7")),
        ("lua-time-limit", "7", Ok("7")),
        ("bind", "", Ok("")),
        ("bind", "127.0.0.1 -::1", Ok("127.0.0.1 -::1")),
        (
            "cluster-announce-hostname",
            "a b",
            Err("Hostnames may only contain alphanumeric characters, hyphens or dots"),
        ),
        ("proc-title-template", "{nosuch}", Err("template format is invalid or contains unknown variables")),
        ("requirepass", "a \"b\n", Ok("a \"b\n")),
        ("daemonize", "yes", Err("can't set immutable config")),
        ("unixsocketperm", "888", Err("can't set immutable config")),
        ("slaveof", "no one", Err("can't set immutable config")),
        ("dir", "/tmp", Err("can't set protected config")),
    ];
    for (name, text, expected) in cases {
        let mut config = Config::default();
        match (config.set(&[(name, text)], false), expected) {
            (Ok(()), Ok(now)) => assert_eq!(value(&config, name), *now, "{name} {text}"),
            (Err(error), Err(reason)) => assert_eq!(
                error,
                format!("ERR CONFIG SET failed (possibly related to argument '{name}') - {reason}"),
                "{name} {text}"
            ),
            (got, _) => panic!("{name} {text}: {got:?}"),
        }
    }
}

#[test]
fn set_is_all_or_nothing() {
    let mut config = Config::default();
    for name in ["nosuch", "user", "include", "rename-command", "loadmodule"] {
        let error = format!("ERR Unknown option or number of arguments for CONFIG SET - '{name}'");
        assert_eq!(config.set(&[("timeout", "9"), (name, "x")], false), Err(error));
    }
    let duplicate = "ERR CONFIG SET failed (possibly related to argument 'slave-priority') - duplicate parameter";
    assert_eq!(config.set(&[("replica-priority", "1"), ("slave-priority", "2")], false), Err(duplicate.into()));
    assert!(config.set(&[("timeout", "9"), ("maxmemory", "x")], false).is_err());
    assert_eq!(config, Config::default());
    assert_eq!(config.set(&[("timeout", "9"), ("maxmemory", "5")], false), Ok(()));
    assert_eq!((config.settings().timeout, config.settings().maxmemory), (9, 5));
}

#[test]
fn protected_directives_ask_who_is_there() {
    for (allowed, local, expected) in
        [("no", true, false), ("local", false, false), ("local", true, true), ("yes", false, true)]
    {
        let mut config = read(&format!("enable-protected-configs {allowed}")).expect("reads");
        assert_eq!(config.set(&[("dbfilename", "x.rdb")], local).is_ok(), expected, "{allowed} {local}");
    }
}

#[test]
fn get_finds_as_the_oracles() {
    let config = Config::default();
    let names = |patterns: &[&str]| config.get(patterns).into_iter().map(|(n, _)| n).collect::<Vec<_>>().join(" ");
    let lists = "hash-max-listpack-entries set-max-listpack-entries zset-max-listpack-entries";
    assert_eq!(names(&["*max-lis*entries"]), lists);
    assert_eq!(names(&["save", "SAVE"]), "save");
    assert_eq!(names(&["[s]ave", "sav?"]), "save");
    assert_eq!(names(&["TimeOut"]), "TimeOut");
    assert_eq!(names(&["nosuch", "user", "s\\ave", "[x]ave"]), "");
    assert_eq!(names(&["slave-p*"]), "slave-priority");
    assert_eq!(names(&["replicaof", "*of"]), "replicaof slaveof");
    assert_eq!(names(&["key-load-dela?", "key-load-delay"]), "key-load-delay");
}

/// Files that are refused: the text, the line, the reason. Asked from Redis 7.0.15.
#[test]
fn files_are_refused_as_by_the_oracle() {
    let bad = "Bad directive or wrong number of arguments";
    let cases = [
        ("nosuch 1", 1, bad),
        ("port 1 2", 1, "wrong number of arguments"),
        ("# c\n\nport \"a\n", 3, "Unbalanced quotes in configuration line"),
        ("port '0'x", 1, "Unbalanced quotes in configuration line"),
        ("port abc", 1, "argument couldn't be parsed into an integer"),
        ("port", 1, "wrong number of arguments"),
        ("port 0\nmaxmemory x\nport", 2, "argument must be a memory value"),
        ("rename-command get", 1, bad),
        ("rename-command nosuch x", 1, "No such command in rename-command"),
        ("rename-command config|get x", 1, "No such command in rename-command"),
        ("rename-command get set", 1, "Target command name already exists"),
        ("rename-command get \"\"\nrename-command get x", 2, "No such command in rename-command"),
        ("include a b", 1, bad),
        ("user", 1, bad),
        ("save 1", 1, "Invalid save parameters"),
        ("appendonly maybe", 1, "argument must be 'yes' or 'no'"),
        ("bind a b c d e f g h i j k l m n o p q r", 1, "Too many bind addresses specified."),
        ("slaveof 1 2 3", 1, "wrong number of arguments"),
        ("replicaof 127.0.0.1 abc", 1, "Invalid master port"),
        ("databases 0", 1, "argument must be between 1 and 2147483647 inclusive"),
        ("unixsocketperm 999", 1, "argument couldn't be parsed as an octal number"),
        ("glueoutputbuf yes", 1, bad),
        ("enable-debug-command maybe", 1, "argument(s) must be one of the following: no, yes, local"),
        ("dbfilename a/b", 1, "dbfilename can't be a path, just a filename"),
        ("oom-score-adj-values 1 2 3 4", 1, "wrong number of arguments"),
        ("loglevel notice x", 1, "wrong number of arguments"),
        (
            "shutdown-on-sigint",
            1,
            "argument(s) must be one of the following: default, save, nosave, now, force, safe, failover",
        ),
    ];
    for (text, line, reason) in cases {
        let error = read(text).expect_err(text);
        assert_eq!((error.file.as_str(), error.line, error.reason.as_str()), ("a.conf", line, reason), "{text}");
        assert_eq!(error.text, text.split('\n').nth(line - 1).expect("the line"));
    }
    let shown = read("\nport x").expect_err("refused").to_string();
    assert!(shown.contains("*** FATAL CONFIG FILE ERROR"), "{shown}");
    assert!(shown.contains("at line 2 of a.conf\n>>> 'port x'\nargument"), "{shown}");
}

/// Files that are read: the text, a directive, its value.
#[test]
fn files_are_read_as_by_the_oracle() {
    let cases = [
        ("  PORT 7000  \r\n", "port", "7000"),
        ("port 1\nport 2", "port", "2"),
        ("# port 1", "port", "6379"),
        ("requirepass \"a \\\"b\\x41\\n\"", "requirepass", "a \"bA\n"),
        ("requirepass 'a \\'b\\n'", "requirepass", "a 'b\\n"),
        ("logfile ''", "logfile", ""),
        ("save 60 1\nsave 70 2", "save", "60 1 70 2"),
        ("save 60 1 70 2", "save", "60 1 70 2"),
        ("save \"60 1\"", "save", "60 1"),
        ("save 60 1\nsave \"\"", "save", ""),
        ("save 60 1\nsave ''\nsave 7 7", "save", "7 7"),
        ("save", "save", ""),
        ("bind", "bind", ""),
        ("bind 127.0.0.1 ::1", "bind", "127.0.0.1 ::1"),
        ("slave-priority 5", "replica-priority", "5"),
        ("replicaof no one", "slaveof", ""),
        ("replicaof 127.0.0.1 6380", "slaveof", "127.0.0.1 6380"),
        ("hash-max-ziplist-entries 3", "hash-max-listpack-entries", "3"),
        ("list-max-ziplist-entries 3", "port", "6379"),
        ("unixsocketperm 700", "unixsocketperm", "700"),
        ("shutdown-on-sigint \"nosave force now\"", "shutdown-on-sigint", "nosave now force"),
        (
            "client-output-buffer-limit normal 1 2 3\nclient-output-buffer-limit pubsub 4 5 6",
            "client-output-buffer-limit",
            "normal 1 2 3 slave 268435456 67108864 60 pubsub 4 5 6",
        ),
    ];
    for (text, name, expected) in cases {
        assert_eq!(value(&read(text).expect(text), name), expected, "{text}");
    }
    let renamed = read("rename-command get a\nrename-command a b\nrename-command set get\nrename-command del DEL")
        .expect("reads");
    let called = |name: &str| renamed.names().find(name.as_bytes()).map(|command| command.name.as_str());
    assert_eq!(["GET", "A", "b", "set", "del"].map(called), [Some("set"), None, Some("get"), None, Some("del")]);
    let kept = read("user a on\nrename-command GET \"\"\nloadmodule x.so 1").expect("reads");
    assert_eq!(
        kept.kept_lines(),
        [KeptLine::User(vec!["a".into(), "on".into()]), KeptLine::LoadModule(vec!["x.so".into(), "1".into()]),]
    );
}

#[test]
fn includes_are_read_in_place() {
    let include = |pattern: &str| match pattern {
        "two/*" => Ok(vec![("two/a".into(), "timeout 1\nport 2".into()), ("two/b".into(), "timeout 3".into())]),
        "bad" => Ok(vec![("bad".into(), "\n\nport x".into())]),
        "self" => Ok(vec![("self".into(), "include self".into())]),
        _ => Err("No such file or directory".into()),
    };
    let mut config = Config::default();
    config.parse_file_text("port 1\ninclude two/*\nport 5", "main", &include).expect("reads");
    assert_eq!((config.settings().port, config.settings().timeout), (5, 3));
    let error = config.parse_file_text("\ninclude bad", "main", &include).expect_err("refused");
    assert_eq!((error.file.as_str(), error.line), ("bad", 3));
    let error = config.parse_file_text("\ninclude none", "main", &include).expect_err("refused");
    assert_eq!((error.file.as_str(), error.line), ("main", 2));
    let error = config.parse_file_text("include self", "main", &include).expect_err("refused");
    assert_eq!(error.reason, "Too many levels of include");
}

#[test]
fn rewrite_changes_only_what_changed() {
    let old = "# mine\nport 7000\n\nmaxmemory 100mb\nuser a on\nsave 60 1\n# between\nsave 70 1\n\
               client-output-buffer-limit normal 1 2 3\nhash-max-ziplist-entries 21\ninclude other.conf\nuser b on\n";
    let users = |lines: &[&str]| lines.iter().map(|line| line.to_string()).collect::<Vec<_>>();
    let mut config = read(old).expect("reads");
    let without_second = old.replace("user b on\n", "");
    assert_eq!(config.rewrite(old, &users(&["user a on"]), false), without_second);
    assert_eq!(
        config.rewrite(old, &users(&["user a on", "user b on"]), false),
        without_second.replace("a on", "a on\nuser b on")
    );
    let change =
        [("save", "1 2 3 4"), ("timeout", "5"), ("requirepass", "a \"b\u{1}"), ("hash-max-listpack-entries", "7")];
    config.set(&change, false).expect("sets");
    assert_eq!(
        config.rewrite(old, &[], false),
        "# mine\nport 7000\n\nmaxmemory 100mb\nsave 1 2\nsave 3 4\n# between\n\
         client-output-buffer-limit normal 1 2 3\nhash-max-listpack-entries 7\ninclude other.conf\n\
         # Generated by CONFIG REWRITE\nrequirepass \"a \\\"b\\x01\"\ntimeout 5\n"
    );
    let added = config.rewrite("save 1 2\nsave 3 4\n", &users(&["user b off"]), false);
    assert!(added.ends_with("timeout 5\nuser b off\n"), "{added}");
}

#[test]
fn handle_shows_changes_once_they_have_taken_effect() {
    struct Refuse;
    impl Effects for Refuse {
        fn apply(&self, old: &Settings, new: &mut Config) -> Result<(), (&'static str, String)> {
            new.force("maxclients", "7").expect("a number");
            match old.port == new.settings().port {
                true => Ok(()),
                false => Err(("port", "Unable to listen on this port.".into())),
            }
        }
        fn rewrite_file(&self, rewrite: &dyn Fn(&str) -> String) -> Result<(), String> {
            Err(rewrite("# x\n"))
        }
    }
    let handle = std::sync::Arc::new(ConfigHandle::new(Config::default(), Box::new(Refuse)));
    let mut reader = ConfigReader::new(handle.clone());
    assert!(!reader.refresh());
    assert_eq!(
        handle.set(&[("timeout", "3"), ("port", "1")], true),
        Err("ERR CONFIG SET failed (possibly related to argument 'port') - Unable to listen on this port.".into())
    );
    assert!(!reader.refresh());
    handle.set(&[("timeout", "3")], true).expect("sets");
    assert_eq!(reader.settings().timeout, 0);
    assert!(reader.refresh() && !reader.refresh());
    assert_eq!((reader.settings().timeout, handle.get(&["timeout"])), (3, vec![("timeout".into(), "3".into())]));
    assert_eq!(reader.settings().maxclients, 7);
    assert_eq!(handle.rewrite(&[], false), Err("# x\n# Generated by CONFIG REWRITE\nmaxclients 7\ntimeout 3\n".into()));
}

/// A line that sets something, well formed.
fn any_line() -> impl Strategy<Value = String> {
    let text = "[ -~\n\té]{0,12}";
    prop_oneof![
        (0..TABLE.len(), -3i64..2000).prop_map(|(at, n)| format!("{} {n}", TABLE[at].name)),
        (0..TABLE.len(), "yes|no|local|debug|always|a b 1|127.0.0.1 7|1 2|100mb|50%")
            .prop_map(|(at, words)| { format!("{} {words}", TABLE[at].alias.unwrap_or(TABLE[at].name)) }),
        (0..TABLE.len(), text).prop_map(|(at, text)| format!("{} {}", TABLE[at].name, lines::quote(&text))),
        (1u64..9, 0u64..9).prop_map(|(s, c)| format!("save {s} {c}")),
        ("normal|slave|pubsub", 0u64..99).prop_map(|(c, n)| format!("client-output-buffer-limit {c} {n}kb 1 2")),
        "# [a-z]{0,5}",
        Just(String::new()),
    ]
}

proptest! {
    #[test]
    fn rewritten_files_say_the_same(old in prop::collection::vec(any_line(), 0..20),
                                    new in prop::collection::vec(any_line(), 0..20)) {
        let accepted = |lines: Vec<String>| -> String {
            lines.into_iter().filter(|line| read(line).is_ok()).map(|line| line + "\n").collect()
        };
        let (old, new) = (accepted(old), accepted(new));
        let config = read(&new).expect("every line was accepted");
        let text = config.rewrite(&old, &[], false);
        let again = read(&text).expect("what was written is readable");
        prop_assert_eq!(&again.values, &config.values, "{}", text);
        prop_assert_eq!(again.rewrite(&text, &[], false), text);
    }

    #[test]
    fn words_survive_quoting(words in prop::collection::vec("\\PC{0,8}|[\x00-\x7f]{0,8}", 0..5)) {
        let line = words.iter().map(|w| lines::quote_if_needed(w)).collect::<Vec<_>>().join(" ");
        prop_assert_eq!(lines::split(&line), Some(words));
    }

    #[test]
    fn any_text_is_read_or_refused(text in "[a-z \"'\\\\#\n0-9-]{0,60}") {
        let _ = read(&text);
    }
}

#[test]
fn a_rewrite_of_everything_says_everything_and_means_the_same() {
    let config = Config::default();
    let text = config.rewrite("", &[], true);
    let mut again = Config::default();
    assert_eq!(again.parse_file_text(&text, "test", &|_| Ok(Vec::new())), Ok(()));
    assert_eq!(again.settings(), config.settings());
    for row in TABLE {
        assert!(text.lines().any(|line| line.split(' ').next() == Some(row.name)), "{}", row.name);
    }
}
