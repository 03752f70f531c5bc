//! Users: expectations asked from Redis 7.0.15 and Valkey 9.1.2, in the words of the newest Redis.

use kelda_engine::config::{Config, ConfigError};
use kelda_engine::testing::Console;

const HASH_OF_X: &str = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881";

/// The rules of a user as ACL LIST shows them.
fn rules(console: &mut Console, name: &str) -> String {
    let start = format!("user {name} ");
    let list = console.ask("a", "ACL LIST");
    let Some(at) = list.find(&start) else { panic!("no {name} in {list}") };
    let line = &list[at + start.len()..];
    let end = line.find(" $").unwrap_or(line.len());
    line[..end].trim_end().to_string()
}

/// Checks what a user is after some rules.
#[track_caller]
fn rules_after(console: &mut Console, given: &str, want: &str) {
    assert_eq!(console.ask("a", &format!("ACL SETUSER u {given}")), "+OK", "{given}");
    assert_eq!(rules(console, "u"), want, "{given}");
}

/// Checks the error of a rule.
#[track_caller]
fn refused(console: &mut Console, rule: &str, shown: &str, why: &str) {
    let before = console.ask("a", "ACL LIST");
    let want = format!("-ERR Error in ACL SETUSER modifier '{shown}': {why}");
    assert_eq!(console.ask("a", &format!("ACL SETUSER u {rule}")), want);
    assert_eq!(console.ask("a", "ACL LIST"), before, "nothing has changed");
}

#[test]
fn switches_and_passwords() {
    let mut console = Console::default();
    rules_after(&mut console, "", "off sanitize-payload resetchannels -@all");
    rules_after(&mut console, "ON NoPass skip-sanitize-payload", "on nopass skip-sanitize-payload resetchannels -@all");
    rules_after(
        &mut console,
        ">x >x sanitize-payload",
        &format!("on sanitize-payload #{HASH_OF_X} resetchannels -@all"),
    );
    rules_after(&mut console, "<x", "on sanitize-payload resetchannels -@all");
    rules_after(
        &mut console,
        &format!("#{HASH_OF_X}"),
        &format!("on sanitize-payload #{HASH_OF_X} resetchannels -@all"),
    );
    rules_after(&mut console, &format!("!{HASH_OF_X} off"), "off sanitize-payload resetchannels -@all");
    rules_after(&mut console, ">x nopass", "off nopass sanitize-payload resetchannels -@all");
    rules_after(&mut console, "resetpass \"\" on", "on sanitize-payload resetchannels -@all");
    rules_after(&mut console, ">x ~a &b +@all (+get) db=1 reset", "off sanitize-payload resetchannels -@all");
    let hash = "The password hash must be exactly 64 characters and contain only lowercase hexadecimal characters";
    let missing = "The password you are trying to remove from the user does not exist";
    refused(&mut console, "on <x", "<x", missing);
    refused(&mut console, &format!("!{HASH_OF_X}"), &format!("!{HASH_OF_X}"), missing);
    refused(&mut console, "#2d71", "#2d71", hash);
    refused(&mut console, "!2d71", "!2d71", hash);
    let upper = HASH_OF_X.to_uppercase();
    refused(&mut console, &format!("#{upper}"), &format!("#{upper}"), hash);
    refused(&mut console, "foo", "foo", "Syntax error");
    console.check(
        "ACL SETUSER 'a b' => -ERR Usernames can't contain spaces or null characters
         ACL SETUSER \"a\\x00b\" => -ERR Usernames can't contain spaces or null characters
         ACL SETUSER => -ERR wrong number of arguments for 'acl|setuser' command",
    );
}

#[test]
fn rules_of_commands() {
    let mut console = Console::default();
    for (given, want) in [
        ("allcommands", "+@all"),
        ("-get", "+@all -get"),
        ("nocommands", "-@all"),
        ("-@hash", "-@all -@hash"),
        ("+@hash -@hash +HGET +hget", "-@all -@hash +hget"),
        ("-@all +@HASH +@hash", "-@all +@hash"),
        ("+@all -@hash -@slow +hget", "+@all -@hash -@slow +hget"),
        ("-@hash", "+@all -@slow +hget -@hash"),
        ("-@all +config|get +config -config|set", "-@all +config -config|set"),
        ("+config", "-@all +config"),
        ("-@all +client|list +client|list +config|get +config +acl|list -acl", "-@all +client|list +config -acl"),
        ("-@all +select|0 +select|0 +get|Foo", "-@all +select|0 +get|foo"),
        ("-select", "-@all +get|foo -select"),
    ] {
        rules_after(&mut console, given, &format!("off sanitize-payload resetchannels {want}"));
    }
    let unknown = "Unknown command or category name in ACL";
    for rule in
        ["+foo", "+@foo", "-get|x", "+config|foo", "-config|get|x", "-get|", "+|", "+", "-", "+get|x|y", "+@", "+all"]
    {
        refused(&mut console, rule, rule, unknown);
    }
    refused(&mut console, "+get|", "+get|", "Syntax error");
    refused(&mut console, "+config|get|x", "+config|get|x", "Allowing first-arg of a subcommand is not supported");
}

#[test]
fn patterns_of_keys_and_channels() {
    let mut console = Console::default();
    for (given, want) in [
        ("~* ~*", "~* resetchannels"),
        ("resetkeys ~a ~a ~b %R~a %R~c %W~c %W~d", "~a ~b ~c %W~d resetchannels"),
        ("resetkeys %WR~a %rw~z %R~r", "~a ~z %R~r resetchannels"),
        ("resetkeys %R~* %W~*", "~* resetchannels"),
        ("resetkeys %RW", "~ resetchannels"),
        ("allkeys &a &b &a", "~* resetchannels &a &b"),
        ("&*", "~* &*"),
        ("resetchannels resetkeys", "resetchannels"),
        ("allchannels ~k", "~k &*"),
    ] {
        rules_after(&mut console, given, &format!("off sanitize-payload {want} -@all"));
    }
    let keys = "Adding a pattern after the * pattern (or the 'allkeys' flag) is not valid and does not have any effect. Try \
                'resetkeys' to start with an empty list of patterns";
    let channels = "Adding a pattern after the * pattern (or the 'allchannels' flag) is not valid and does not have any \
                    effect. Try 'resetchannels' to start with an empty list of channels";
    refused(&mut console, "~* ~a", "~a", keys);
    refused(&mut console, "~* %R~*", "%R~*", keys);
    refused(&mut console, "&a", "&a", channels);
    for rule in ["%", "%~", "%X~a", "%RR~a", "%WW~a", "\"~a b\"", "\"%R~a b\""] {
        refused(&mut console, rule, rule.trim_matches('"'), "Syntax error");
    }
    refused(&mut console, "resetchannels \"&a b\"", "&a b", "Syntax error");
}

#[test]
fn databases_as_in_valkey() {
    let mut console = Console::default();
    for (given, want) in [
        ("db=1,0,1", "db=0,1 "),
        ("db=+3 db=02", "db=2 "),
        ("DB=99", "db=99 "),
        ("resetdbs", "resetdbs "),
        ("ALLDBS", ""),
    ] {
        rules_after(&mut console, given, &format!("off sanitize-payload resetchannels {want}-@all"));
    }
    for rule in ["db=", "db=1,", "db=x", "db=1,,2", "db!=1"] {
        refused(&mut console, rule, rule, "Syntax error");
    }
    for rule in ["db=-1", "db=4294967296", "db=99999999999999999999"] {
        refused(&mut console, rule, rule, "The provided database ID is out of range");
    }
    console.check(
        "ACL SETUSER u on nopass ~k* +@all -flushdb db=0 => +OK
         ACL GETUSER u => *14 $5 flags *3 $2 on $6 nopass $16 sanitize-payload $9 passwords *0 $8 commands $14 +@all -flushdb $4 keys $3 ~k* $8 channels $0  $9 databases $4 db=0 $9 selectors *0
         ACL DRYRUN u SELECT 0 => +OK
         ACL DRYRUN u SELECT 1 => $46 User u has no permissions to access database 1
         ACL DRYRUN u SELECT x => +OK
         ACL DRYRUN u SELECT 16 => +OK
         ACL DRYRUN u SWAPDB 1 -1 => +OK
         ACL DRYRUN u SWAPDB x 1 => +OK
         ACL DRYRUN u COPY k1 k2 => +OK
         ACL DRYRUN u COPY k1 k2 DB 0 DB 1 => $46 User u has no permissions to access database 1
         ACL DRYRUN u COPY k1 k2 DB => +OK
         ACL DRYRUN u MOVE k1 1 => $46 User u has no permissions to access database 1
         ACL DRYRUN u MOVE k1 0 => +OK
         ACL DRYRUN u SWAPDB 1 0 => $46 User u has no permissions to access database 1
         ACL DRYRUN u FLUSHALL => $53 User u has no permissions to access database FLUSHALL
         ACL SETUSER u db=1 => +OK
         ACL DRYRUN u GET k1 => $48 User u has no permissions to access database GET
         ACL DRYRUN u KEYS * => $49 User u has no permissions to access database KEYS
         ACL DRYRUN u EVAL x 0 => $49 User u has no permissions to access database EVAL
         ACL DRYRUN u PING => +OK
         ACL DRYRUN u SUBSCRIBE x => $51 User u has no permissions to access the 'x' channel
         ACL DRYRUN u FLUSHDB => $52 User u has no permissions to access database FLUSHDB
         AUTH u x => +OK
         GET k1 => -NOPERM No permissions to access database
         SELECT 2 => -NOPERM No permissions to access database
         SELECT 1 => +OK
         GET k1 => $-1
         EVAL \"redis.call('select', 0)\" 0 => -ERR ACL failure in script: No permissions to access database script: dec5ef84e2fc37c574e5245b97fc53af1d2b196a, on @user_script:1.
         MULTI => +OK
         GET k1 => +QUEUED",
    );
    // What is queued behind a SELECT is looked at in that database.
    console.ask("c", "SELECT 3");
    console.ask("c", "AUTH u x");
    for (question, answer) in [
        ("GET k1", "-NOPERM No permissions to access database"),
        ("MULTI", "+OK"),
        ("SELECT 1", "+QUEUED"),
        ("SELECT 16", "+QUEUED"),
        ("GET k1", "+QUEUED"),
        ("EXEC", "*3 +OK -ERR DB index is out of range $-1"),
    ] {
        assert_eq!(console.ask("c", question), answer, "{question}");
    }
    assert_eq!(console.ask("b", "ACL SETUSER u db=2"), "+OK");
    console.check(
        "EXEC => *1 -NOPERM ACLs rules changed between the moment the transaction was accumulated and the EXEC call. This command is no longer allowed for the following reason: no permission to access the database",
    );
    assert!(console.ask("b", "INFO stats").contains("acl_access_denied_db:5"));
    assert!(console.ask("b", "ACL LOG 1").contains("$6 reason $8 database $7 context $5 multi $6 object $3 GET"));
}

#[test]
fn selectors() {
    let mut console = Console::default();
    let base = "off sanitize-payload resetchannels -@all";
    for (given, want) in [
        ("()", "(resetchannels -@all)"),
        ("clearselectors (+get ~k)", "(~k resetchannels -@all +get)"),
        (
            "clearselectors '( +get  ~k )' '(+get)' ( +set )",
            "(~k resetchannels -@all +get) (resetchannels -@all +get) (resetchannels -@all +set)",
        ),
        ("clearselectors (+get '%R~r &c db=1)'", "(%R~r resetchannels &c db=1 -@all +get)"),
    ] {
        rules_after(&mut console, given, &format!("{base} {want}"));
    }
    console.check(
        "ACL GETUSER u => *12 $5 flags *2 $3 off $16 sanitize-payload $9 passwords *0 $8 commands $5 -@all $4 keys $0  $8 channels $0  $9 selectors *1 *8 $8 commands $10 -@all +get $4 keys $4 %R~r $8 channels $2 &c $9 databases $4 db=1
         ACL SETUSER u ( => -ERR Unmatched parenthesis in acl selector starting at '('.
         ACL SETUSER u (+get) (~j) (~l +set => -ERR Unmatched parenthesis in acl selector starting at '(~l'.
         ACL SETUSER u (+get)x => -ERR Unmatched parenthesis in acl selector starting at '(+get)x'.",
    );
    for rule in [")", "(on)", "((+get))", "(+get (+set) )", "(~a b)", "(>x)", "(reset)"] {
        refused(&mut console, rule, rule.strip_suffix(" )").unwrap_or(rule), "Syntax error");
    }
    refused(&mut console, "(+get +foo)", "(+get +foo)", "Unknown command or category name in ACL");
    // Each command needs one selector that allows all of it; of the reasons against it, the one that came closest is told.
    console.check(
        "ACL SETUSER u reset on nopass (+mget ~a ~b) (+mget ~c) (+set %W~w*) (+get %R~r*) => +OK
         AUTH u x => +OK
         MGET a b => *2 $-1 $-1
         MGET c => *1 $-1
         MGET b c => -NOPERM No permissions to access a key
         SET w 1 => +OK
         SET r 1 => -NOPERM No permissions to access a key
         GET r => $-1
         GET w => -NOPERM No permissions to access a key
         PING => -NOPERM User u has no permissions to run the 'ping' command",
    );
    let log = console.ask("b", "ACL LOG 10");
    let objects: Vec<&str> = log.split("object ").skip(1).filter_map(|rest| rest.split(' ').nth(1)).collect();
    assert_eq!(objects, ["ping", "w", "r", "c"]);
}

#[test]
fn commands_are_checked() {
    let mut console = Console::default();
    console.check(
        "ACL SETUSER u on nopass ~k* %R~r* &c* +@all -flushall -config|set -client +client|id => +OK
         SET k1 v => +OK
         SET r1 v => +OK
         AUTH u whatever => +OK
         ACL WHOAMI => $1 u
         GET x => -NOPERM No permissions to access a key
         GET k1 => $1 v
         GET r1 => $1 v
         SET r1 2 => -NOPERM No permissions to access a key
         GETSET r1 2 => -NOPERM No permissions to access a key
         STRLEN r1 => :1
         MGET k1 x => -NOPERM No permissions to access a key
         flushall => -NOPERM User u has no permissions to run the 'flushall' command
         CONFIG SET a b => -NOPERM User u has no permissions to run the 'config|set' command
         CONFIG foo => -ERR unknown subcommand 'foo'. Try CONFIG HELP.
         GET => -ERR wrong number of arguments for 'get' command
         nosuch x => -ERR unknown command 'nosuch', with args beginning with: 'x'
         CLIENT LIST => -NOPERM User u has no permissions to run the 'client|list' command
         CLIENT ID => :1
         PUBLISH x y => -NOPERM No permissions to access a channel
         PUBLISH c1 y => :0
         SPUBLISH x y => -NOPERM No permissions to access a channel
         PSUBSCRIBE * => -NOPERM No permissions to access a channel
         PSUBSCRIBE c1 => -NOPERM No permissions to access a channel
         SUBSCRIBE c1 x => -NOPERM No permissions to access a channel
         SSUBSCRIBE x => -NOPERM No permissions to access a channel
         PSUBSCRIBE c* => *3 $10 psubscribe $2 c* :1
         PUNSUBSCRIBE x => *3 $12 punsubscribe $1 x :1
         PUNSUBSCRIBE c* => *3 $12 punsubscribe $2 c* :0
         EVAL 'return 1' 1 x => -NOPERM No permissions to access a key
         EVAL 'return 1' 1 r1 => -NOPERM No permissions to access a key
         EVAL_RO 'return 1' 1 r1 => :1
         AUTH default x => +OK
         ACL SETUSER u -eval -auth -hello +select|1 -select => +OK
         AUTH u x => +OK
         ACL WHOAMI => $1 u",
    );
    assert!(console.ask("a", "HELLO 2 AUTH default x").starts_with("*14 "));
}

#[test]
fn first_arguments() {
    let mut console = Console::default();
    console.check(
        "ACL SETUSER u +select|0 +get|foo allkeys => +OK
         ACL DRYRUN u SELECT 0 => +OK
         ACL DRYRUN u SELECT 1 => $53 User u has no permissions to run the 'select' command
         ACL DRYRUN u GET FOO => +OK
         ACL DRYRUN u GET bar => $50 User u has no permissions to run the 'get' command
         ACL SETUSER u +select => +OK
         ACL DRYRUN u SELECT 1 => +OK
         ACL SETUSER u -select +select|1 => +OK
         ACL DRYRUN u SELECT 0 => $53 User u has no permissions to run the 'select' command
         ACL DRYRUN u SELECT 1 => +OK",
    );
}

#[test]
fn dry_runs() {
    let mut console = Console::default();
    console.check(
        "ACL SETUSER u +@all %R~read* %W~write* %RW~rw* &channel => +OK
         ACL DRYRUN u GET read => +OK
         ACL DRYRUN u GET write => $51 User u has no permissions to access the 'write' key
         ACL DRYRUN u COPY read write => +OK
         ACL DRYRUN u COPY write read => $51 User u has no permissions to access the 'write' key
         ACL DRYRUN u SET write v => +OK
         ACL DRYRUN u SET write v GET => $51 User u has no permissions to access the 'write' key
         ACL DRYRUN u EXISTS write => +OK
         ACL DRYRUN u EXISTS nothing => $53 User u has no permissions to access the 'nothing' key
         ACL DRYRUN u SORT read STORE write => +OK
         ACL DRYRUN u SORT read STORE read => $50 User u has no permissions to access the 'read' key
         ACL DRYRUN u EVAL '' 1 rw => +OK
         ACL DRYRUN u EVAL '' 1 read => $50 User u has no permissions to access the 'read' key
         ACL DRYRUN u EVAL_RO '' 1 read => +OK
         ACL DRYRUN u EVAL '' 3 rw read => +OK
         ACL DRYRUN u EVAL '' -1 read => +OK
         ACL DRYRUN u SPUBLISH channel x => +OK
         ACL DRYRUN u SUNSUBSCRIBE other => +OK
         ACL DRYRUN u SSUBSCRIBE channel other => $55 User u has no permissions to access the 'other' channel
         ACL DRYRUN nosuch GET a => -ERR User 'nosuch' not found
         ACL DRYRUN u foo => -ERR Command 'foo' not found
         ACL DRYRUN u config foo => -ERR Command 'config' not found
         ACL DRYRUN u config => -ERR wrong number of arguments for 'config' command
         ACL DRYRUN u SET v => -ERR wrong number of arguments for 'set' command",
    );
}

#[test]
fn logging_in() {
    let mut console = Console::new(&[("requirepass", "secret")]);
    console.check(
        "GET a => -NOAUTH Authentication required.
         AUTH nosuch x => -WRONGPASS invalid username-password pair or user is disabled.
         AUTH secret => +OK
         ACL SETUSER u >p1 >p2 allcommands allkeys => +OK",
    );
    assert_eq!(
        console.ask("b", "AUTH u p1"),
        "-WRONGPASS invalid username-password pair or user is disabled.",
        "it is off"
    );
    console.check("ACL SETUSER u on => +OK");
    assert_eq!(console.ask("b", "AUTH u p3"), "-WRONGPASS invalid username-password pair or user is disabled.");
    assert_eq!(
        console.ask("b", "HELLO 3 AUTH u p3 SETNAME x").split_once(' ').map(|(code, _)| code),
        Some("-WRONGPASS")
    );
    assert_eq!(console.ask("b", "AUTH u p2"), "+OK");
    assert_eq!(console.ask("b", "CLIENT GETNAME"), "$-1");
    assert!(console.ask("b", "CLIENT INFO").contains(" user=u "));
    assert_eq!(
        console.ask("b", "AUTH default wrong"),
        "-WRONGPASS invalid username-password pair or user is disabled."
    );
    assert_eq!(console.ask("b", "ACL WHOAMI"), "$1 u", "a failed log-in changes nothing");
    // The last of several wins.
    assert!(console.ask("b", "HELLO 2 AUTH u p1 AUTH default x").starts_with("-WRONGPASS"));
    assert!(console.ask("b", "HELLO 2 AUTH default x AUTH u p1").starts_with("*14 "));
    assert_eq!(console.ask("b", "RESET"), "+RESET");
    assert_eq!(console.ask("b", "ACL WHOAMI"), "-NOAUTH Authentication required.");
    // A password that is taken away, or a user that is turned off, ends no session.
    assert_eq!(console.ask("b", "AUTH u p1"), "+OK");
    console.check("ACL SETUSER u off resetpass => +OK");
    assert_eq!(console.ask("b", "GET k"), "$-1");
    let log = console.ask("a", "ACL LOG 10");
    assert_eq!(log.matches("$6 reason $4 auth").count(), 5, "{log}");
    assert!(log.contains("$6 object $5 HELLO $8 username $1 u"), "{log}");
    assert!(console.ask("a", "INFO stats").contains("acl_access_denied_auth:6"));
}

#[test]
fn the_default_user() {
    let mut console = Console::default();
    console.check(
        "CONFIG SET requirepass x => +OK
         PING => +PONG
         ACL GETUSER default => *12 $5 flags *2 $2 on $16 sanitize-payload $9 passwords *1 $64 2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881 $8 commands $5 +@all $4 keys $2 ~* $8 channels $2 &* $9 selectors *0",
    );
    assert_eq!(console.ask("b", "PING"), "-NOAUTH Authentication required.");
    console.check("ACL SETUSER default nopass => +OK");
    assert_eq!(console.ask("b", "PING"), "+PONG");
    console.check("ACL SETUSER default -get => +OK");
    assert_eq!(console.ask("b", "GET a"), "-NOPERM User default has no permissions to run the 'get' command");
    assert_eq!(console.ask("c", "GET a"), "-NOPERM User default has no permissions to run the 'get' command");
    console.check("ACL SETUSER default +get off => +OK");
    assert_eq!(console.ask("d", "PING"), "-NOAUTH Authentication required.");
    console.check("ACL DELUSER x default => -ERR The 'default' user cannot be removed");
}

#[test]
fn transactions() {
    let mut console = Console::default();
    let changed = |why: &str| {
        format!(
            "-NOPERM ACLs rules changed between the moment the transaction was accumulated and the EXEC call. This command \
             is no longer allowed for the following reason: {why}"
        )
    };
    console.check(
        "ACL SETUSER u on nopass ~k* &c* +@all => +OK
         AUTH u x => +OK
         MULTI => +OK
         GET x => -NOPERM No permissions to access a key
         GET k => +QUEUED
         EXEC => -EXECABORT Transaction discarded because of previous errors.
         MULTI => +OK
         GET k => +QUEUED
         SET k 1 => +QUEUED
         PUBLISH c1 x => +QUEUED
         INCR k => +QUEUED",
    );
    assert_eq!(console.ask("b", "ACL SETUSER u -get -publish +publish resetchannels %R~z"), "+OK");
    assert_eq!(console.ask("b", "ACL SETUSER u -incr"), "+OK");
    console.check(&format!(
        "EXEC => *4 {} +OK {} {}",
        changed("no permission to execute the command or subcommand"),
        changed("no permission to access one of the channels used as arguments"),
        changed("no permission to execute the command or subcommand"),
    ));
    console.check("MULTI => +OK\n SET k 2 => +QUEUED");
    assert_eq!(console.ask("b", "ACL SETUSER u resetkeys"), "+OK");
    console.check(&format!("EXEC => *1 {}", changed("no permission to touch the specified keys")));
    let log = console.ask("b", "ACL LOG");
    assert_eq!(log.matches("$7 context $5 multi").count(), 5, "{log}");
    console.check("MULTI => +OK");
    assert_eq!(console.ask("b", "ACL SETUSER u -exec"), "+OK");
    console.check(
        "EXEC => -EXECABORT Transaction discarded because of: NOPERM User u has no permissions to run the 'exec' command
         DISCARD => -ERR DISCARD without MULTI",
    );
}

#[test]
fn scripts() {
    let mut console = Console::default();
    console.check(
        "SET x 1 => +OK
         ACL SETUSER u on nopass ~k* &c* +@all -flushall -config => +OK
         AUTH u x => +OK
         EVAL \"return redis.pcall('get', 'x')\" 0 => -ERR ACL failure in script: No permissions to access a key
         EVAL \"return redis.pcall('flushall')\" 0 => -ERR ACL failure in script: User u has no permissions to run the 'flushall' command
         EVAL \"return redis.pcall('publish', 'x', 'x')\" 0 => -ERR ACL failure in script: No permissions to access a channel
         EVAL \"return redis.call('get', 'x')\" 0 => -ERR ACL failure in script: No permissions to access a key script: 7b232de2280a0be147450f1bfc287bf012a22d2b, on @user_script:1.
         EVAL \"return redis.pcall('config', 'get', 'x')\" 0 => -ERR This Redis command is not allowed from script
         EVAL \"return redis.call('get', 'k')\" 0 => $-1
         EVAL \"return redis.acl_check_cmd('get', 'k')\" 0 => :1
         EVAL \"return redis.acl_check_cmd('get', 'x')\" 0 => $-1
         EVAL \"return redis.acl_check_cmd('flushall')\" 0 => $-1
         EVAL \"return redis.acl_check_cmd('config')\" 0 => $-1
         EVAL \"return redis.acl_check_cmd('client')\" 0 => :1
         EVAL \"return redis.pcall('sort', 'k', 'by', 'w*')\" 0 => -ERR BY option of SORT denied due to insufficient ACL permissions.",
    );
    let log = console.ask("b", "ACL LOG");
    assert_eq!(log.matches("$7 context $3 lua").count(), 3, "{log}");
    assert!(
        log.contains("*20 $5 count :2 $6 reason $3 key $7 context $3 lua $6 object $1 x $8 username $1 u"),
        "{log}"
    );
    assert!(log.contains("cmd=eval "), "{log}");
}

#[test]
fn patterns_of_sort() {
    let mut console = Console::default();
    let by = "-ERR BY option of SORT denied due to insufficient ACL permissions.";
    let get = "-ERR GET option of SORT denied due to insufficient ACL permissions.";
    console.check(&format!(
        "RPUSH l 2 1 => :2
         ACL SETUSER u on nopass ~l +@all => +OK
         AUTH u x => +OK
         SORT l => *2 $1 1 $1 2
         SORT l BY nosort => *2 $1 2 $1 1
         SORT l BY w* => {by}
         SORT_RO l BY w* => {by}
         SORT l GET # => {get}
         SORT l GET x* BY y* => {get}
         SORT l BY x* foo => {by}
         SORT l foo BY x* => -ERR syntax error
         SORT x BY w* => -NOPERM No permissions to access a key
         MULTI => +OK
         SORT l BY w* => +QUEUED
         EXEC => *1 {by}
         ACL SETUSER u %W~* => +OK
         SORT l BY w* => {by}
         ACL SETUSER u %R~* => +OK
         SORT l BY w* GET # => *2 $1 1 $1 2"
    ));
}

#[test]
fn a_blocked_session_gets_nothing_that_it_may_no_longer_have() {
    let mut console = Console::default();
    assert_eq!(console.ask("a", "ACL SETUSER u on nopass ~* +@all"), "+OK");
    for client in ["b", "c"] {
        assert_eq!(console.ask(client, "AUTH u x"), "+OK");
        assert_eq!(console.ask(client, &format!("BLPOP {client} 0")), "");
    }
    console.check(
        "ACL SETUSER u resetkeys ~c => +OK
         RPUSH b x => :1
         RPUSH c x => :1
         LLEN b => :1",
    );
    assert_eq!(console.ask("b", "PING"), "-NOPERM No permissions to access a key +PONG");
    assert_eq!(console.ask("c", "PING"), "*2 $1 c $1 x +PONG");
    let stats = console.ask("a", "INFO commandstats");
    assert!(stats.contains("cmdstat_blpop:calls=1,"), "{stats}");
    assert!(
        stats.contains("rejected_calls=1,failed_calls=0 cmdstat_brpop") || stats.contains("rejected_calls=1"),
        "{stats}"
    );
}

#[test]
fn sessions_end_with_their_user_or_their_channels() {
    let mut console = Console::default();
    assert_eq!(console.ask("a", "ACL SETUSER u on nopass +@all ~* &c:* &d"), "+OK");
    assert_eq!(console.ask("a", "ACL SETUSER v on nopass +@all ~* &*"), "+OK");
    for (client, user, command) in [
        ("b", "u", "SUBSCRIBE c:1"),
        ("c", "u", "PSUBSCRIBE c:*"),
        ("d", "u", "SSUBSCRIBE d"),
        ("e", "v", "SUBSCRIBE c:1"),
        ("f", "v", "PING"),
    ] {
        assert_eq!(console.ask(client, &format!("AUTH {user} x")), "+OK");
        console.ask(client, command);
    }
    let mut closed = |command: &str, want: &[&str]| {
        console.ask("a", command);
        console.turn();
        let clients = ["b", "c", "d", "e", "f"];
        let closed: Vec<&str> = clients.into_iter().filter(|client| console.is_closed(client)).collect();
        assert_eq!(closed, want, "{command}");
        assert_eq!(console.ask("a", "CLIENT LIST").matches("user=").count(), 6 - want.len());
    };
    closed("ACL SETUSER u &x -get", &[]);
    closed("ACL SETUSER u allchannels", &[]);
    closed("ACL SETUSER u resetchannels &c:1 &d", &["c"]);
    closed("ACL SETUSER v resetchannels &c:*", &["c"]);
    closed("ACL SETUSER u resetchannels &c:*", &["c", "d"]);
    closed("ACL SETUSER nosuch resetchannels", &["c", "d"]);
    closed("ACL DELUSER u nosuch", &["b", "c", "d"]);
    closed("ACL DELUSER v", &["b", "c", "d", "e", "f"]);
    // Whoever removes itself still gets the reply.
    console.check("ACL SETUSER w on nopass +acl => +OK\n AUTH w x => +OK\n ACL DELUSER w w => :1");
    assert!(console.is_closed("a"));
}

#[test]
fn a_change_counts_for_the_next_command_of_a_pipeline() {
    let mut console = Console::default();
    console.check("ACL SETUSER u on nopass +@all ~* => +OK\n AUTH u x => +OK");
    console.send("a", b"ACL SETUSER u -get\r\nGET a\r\nACL SETUSER u +get\r\nGET a\r\n");
    assert_eq!(
        String::from_utf8_lossy(&console.raw("a")),
        "+OK\r\n-NOPERM User u has no permissions to run the 'get' command\r\n+OK\r\n$-1\r\n"
    );
}

#[test]
fn the_log() {
    let mut console = Console::default();
    console.check("ACL SETUSER u on nopass ~k +get => +OK");
    assert_eq!(console.ask("b", "AUTH u x"), "+OK");
    assert!(console.ask("b", "get secret").starts_with("-NOPERM"));
    console.advance_ms(1500);
    let info = |console: &mut Console| {
        let log = console.ask("a", "ACL LOG 1");
        let (before, rest) = log.split_once("client-info ").expect("the field");
        let (_, after) = rest.split_once(" $8 entry-id").expect("the field");
        assert!(rest.contains("cmd=get user=u "), "{rest}");
        format!("{before}…{after}")
    };
    assert_eq!(
        info(&mut console),
        "*1 *20 $5 count :1 $6 reason $3 key $7 context $8 toplevel $6 object $6 secret $8 username $1 u $11 age-seconds \
         $3 1.5 $11 … :0 $17 timestamp-created :1767225600000 $22 timestamp-last-updated :1767225600000"
    );
    console.ask("b", "GET secret");
    assert_eq!(
        info(&mut console),
        "*1 *20 $5 count :2 $6 reason $3 key $7 context $8 toplevel $6 object $6 secret $8 username $1 u $11 age-seconds \
         $1 0 $11 … :0 $17 timestamp-created :1767225600000 $22 timestamp-last-updated :1767225601500"
    );
    // After a minute it is another event.
    console.advance_ms(60_001);
    console.ask("b", "GET secret");
    assert!(info(&mut console).contains("count :1 "));
    console.ask("b", "PING");
    console.check(
        "ACL LOG -1 => *0
         ACL LOG 0 => *0
         ACL LOG x => -ERR value is not an integer or out of range
         ACL LOG 1 2 => -ERR unknown subcommand or wrong number of arguments for 'LOG'. Try ACL HELP.
         CONFIG SET acllog-max-len 2 => +OK",
    );
    assert!(console.ask("a", "ACL LOG").starts_with("*3 "), "a new limit takes nothing away");
    console.ask("b", "GET other");
    assert!(console.ask("a", "ACL LOG").starts_with("*2 "));
    console.check("CONFIG SET acllog-max-len 0 => +OK");
    console.ask("b", "GET another");
    console.check("ACL LOG => *0\n CONFIG SET acllog-max-len 9 => +OK");
    console.ask("b", "GET another");
    assert!(console.ask("a", "ACL LOG").starts_with("*1 "));
    console.check("ACL LOG RESET => +OK\n ACL LOG => *0");
    let stats = console.ask("a", "INFO stats");
    assert!(stats.contains("acl_access_denied_cmd:1 acl_access_denied_key:6 acl_access_denied_channel:0"), "{stats}");
}

#[test]
fn channels_by_default() {
    let mut console = Console::new(&[("acl-pubsub-default", "allchannels")]);
    rules_after(&mut console, "", "off sanitize-payload &* -@all");
    rules_after(&mut console, "()", "off sanitize-payload &* -@all (&* -@all)");
    console.check("CONFIG SET acl-pubsub-default resetchannels => +OK");
    rules_after(&mut console, "+get", "off sanitize-payload &* -@all +get (&* -@all)");
    rules_after(&mut console, "reset", "off sanitize-payload resetchannels -@all");
}

const ACL_FILE: &str =
    "user alice on allcommands allkeys &* >x\n\n\t user  bob on -@all +@set +acl ~set* (+get ~k) \r\n";

#[test]
fn files_are_read_and_written() {
    let mut console = Console::with_files(&[("aclfile", "users.acl")], &[("users.acl", ACL_FILE)]);
    let users = [
        format!("user alice on sanitize-payload #{HASH_OF_X} ~* &* +@all"),
        "user bob on sanitize-payload ~set* resetchannels -@all +@set +acl (~k resetchannels -@all +get)".to_string(),
        "user default on nopass sanitize-payload ~* &* +@all".to_string(),
    ];
    let [alice, bob, default] = &users;
    console.check("ACL USERS => *3 $5 alice $3 bob $7 default\n ACL SETUSER eve on >x +@all => +OK\n ACL SAVE => +OK");
    let text = |console: &Console| {
        let files = console.platform.files();
        String::from_utf8_lossy(files.get("users.acl").map_or(&b""[..], |text| text)).into_owned()
    };
    let eve = format!("user eve on sanitize-payload #{HASH_OF_X} resetchannels +@all");
    assert_eq!(text(&console), format!("{alice}\n{bob}\n{default}\n{eve}\n"));
    // What is loaded stands in place of all there was; who is gone or may listen less is closed.
    for (client, user) in [("b", "alice"), ("c", "eve"), ("d", "bob")] {
        assert_eq!(
            console.ask(client, &format!("AUTH {user} x")).split(' ').next(),
            Some(if user == "bob" { "-WRONGPASS" } else { "+OK" })
        );
    }
    console.ask("b", "SUBSCRIBE x");
    let write = |console: &Console, text: &str| {
        console.platform.files().insert("users.acl".into(), text.into());
    };
    write(&console, &format!("{alice}\nuser default on nopass ~* +@all\n"));
    console.check("ACL LOAD => +OK\n ACL USERS => *2 $5 alice $7 default\n PUBLISH x y => -NOPERM No permissions to access a channel");
    console.turn();
    assert!(console.is_closed("c") && !console.is_closed("b") && !console.is_closed("d"));
    write(&console, &format!("{default}\n{}\n", alice.replace("&*", "&y")));
    console.check("ACL LOAD => +OK");
    console.turn();
    assert!(console.is_closed("b"));
    let failed = "WARNING: ACL errors detected, no change to the previously active ACL rules was performed";
    write(&console, "user d +foo\nuser e (+get\nuser f ~* ~a\nusr x\nuser\nuser g on\nuser g off\nuser h +get|\n");
    console.check(&format!(
        "ACL LOAD => -ERR users.acl:1: Error in applying operation '+foo': Unknown command or category name in ACL. \
         users.acl:2: Unmatched parenthesis in selector definition.users.acl:3: Adding a pattern after the * pattern (or the \
         'allkeys' flag) is not valid and does not have any effect. Try 'resetkeys' to start with an empty list of patterns. \
         users.acl:4 should start with user keyword followed by the username. users.acl:5 should start with user keyword \
         followed by the username. WARNING: Duplicate user 'g' found on line 7. users.acl:8: Syntax error. {failed}
         ACL USERS => *2 $5 alice $7 default"
    ));
    console.platform.files().clear();
    console.check("ACL LOAD => -ERR Error loading ACLs, opening file 'users.acl': No such file or directory");
    // A file without the default user has the one that is always there.
    write(&console, "");
    console.check("ACL SETUSER default -get => +OK\n ACL LOAD => +OK");
    assert_eq!(rules(&mut console, "default"), "on nopass sanitize-payload ~* &* +@all");
}

#[test]
fn without_a_file() {
    let none = "-ERR This Redis instance is not configured to use an ACL file. You may want to specify users via the ACL \
                SETUSER command and then issue a CONFIG REWRITE (assuming you have a Redis configuration file set) in order \
                to store users in the Redis configuration.";
    Console::default().check(&format!("ACL LOAD => {none}\n ACL SAVE => {none}"));
}

#[test]
fn users_of_the_configuration() {
    let mut console = Console::new(&[
        ("requirepass", "y"),
        ("user", "bob on >x ~k* +get (+set ~w)"),
        ("user", "default on nopass ~* +@all"),
        ("user", "\"carl\" \"(+get ~a)\""),
    ]);
    let bob =
        format!("user bob on sanitize-payload #{HASH_OF_X} ~k* resetchannels -@all +get (~w resetchannels -@all +set)");
    let carl = "user carl off sanitize-payload resetchannels -@all (~a resetchannels -@all +get)";
    let default = "user default on nopass sanitize-payload ~* resetchannels +@all";
    console.check(&format!("ACL LIST => *3 ${} {bob} ${} {carl} ${} {default}", bob.len(), carl.len(), default.len()));
    console.check("SUBSCRIBE x => -NOPERM No permissions to access a channel");
    // What CONFIG REWRITE writes about them makes them again.
    console.check("ACL SETUSER odd ~a\\b \"~c'd\" => +OK");
    let lines = console.engine.acl.config_lines();
    assert_eq!(
        lines.last().map(String::as_str),
        Some("user odd off sanitize-payload \"~a\\\\b\" \"~c'd\" resetchannels -@all")
    );
    let given: Vec<(&str, &str)> = lines.iter().filter_map(|line| line.split_once(' ')).collect();
    let again = Console::new(&given);
    assert_eq!(again.engine.acl.all(), console.engine.acl.all());
    // Nothing is written where there is nothing to say.
    let plain = Console::new(&[("requirepass", "y")]);
    assert_eq!(plain.engine.acl.config_lines(), Vec::<String>::new());
}

#[test]
fn refused_configurations() {
    let read = |text: &str| -> Result<Config, ConfigError> {
        let mut config = Config::default();
        config.parse_file_text(text, "test.conf", &|_| Ok(Vec::new()))?;
        Ok(config)
    };
    let reason = |text: &str| read(text).map(drop).map_err(|error| (error.line, error.reason));
    let error = |line, reason: &str| Err((line, format!("Error in user declaration {reason}")));
    let twice = "Duplicate user found. A user can only be defined once in config files";
    assert_eq!(reason("user a on\nuser b\nuser a off"), error(3, &format!("'a': {twice}")));
    assert_eq!(reason("user \"a b\" on"), error(1, "'a b': Spaces not allowed in ACL usernames"));
    assert_eq!(reason("user a on (+get"), error(1, "'(+get': Unmatched parenthesis in selector definition."));
    assert_eq!(reason("user a ond"), error(1, "'ond': Syntax error"));
    assert_eq!(reason("user"), Err((1, "Bad directive or wrong number of arguments".into())));
    // Modules may bring commands that are not known yet.
    let config = read("user a +get +nosuch").expect("reads");
    let acl = kelda_engine::acl::Acl::new("");
    let load = |config: &Config| acl.load_at_start(config, |_| Ok(b"user x +foo".to_vec()));
    let unknown = "Unknown command or category name in ACL";
    assert_eq!(load(&config), Err(format!("Error loading ACL rule '+nosuch' for the user named 'a': {unknown}")));
    let config = read("aclfile f\nuser a on").expect("reads");
    assert!(load(&config).expect_err("both").starts_with("Configuring the server with users defined in"));
    let config = read("aclfile f").expect("reads");
    assert_eq!(
        load(&config),
        Err(format!(
            "Aborting startup because of ACL errors: f:1: Error in applying operation '+foo': {unknown}. WARNING: ACL \
             errors detected, no change to the previously active ACL rules was performed"
        ))
    );
}

#[test]
fn clients_by_user() {
    let mut console = Console::default();
    console.check("ACL SETUSER u on nopass +@all => +OK\n CLIENT KILL USER nosuch => -ERR No such user 'nosuch'");
    assert_eq!(console.ask("b", "AUTH u x"), "+OK");
    assert_eq!(console.ask("a", "CLIENT LIST USER u").matches("user=u ").count(), 1);
    console.check("CLIENT KILL USER u => :1");
    console.turn();
    assert!(console.is_closed("b"));
}

#[test]
fn categories_passwords_help() {
    let mut console = Console::default();
    console.check(
        "ACL CAT foo => -ERR Unknown category 'foo'
         ACL CAT a b => -ERR unknown subcommand or wrong number of arguments for 'CAT'. Try ACL HELP.
         ACL GENPASS 1 2 => -ERR unknown subcommand or wrong number of arguments for 'GENPASS'. Try ACL HELP.
         ACL HELP x => -ERR wrong number of arguments for 'acl|help' command
         ACL foo => -ERR unknown subcommand 'foo'. Try ACL HELP.
         ACL WHOAMI x => -ERR wrong number of arguments for 'acl|whoami' command",
    );
    assert!(console.ask("a", "ACL CAT HASH").contains("$4 hget"));
    assert!(console.ask("a", "ACL CAT scripting").contains("$13 function|list"));
    for category in kelda_engine::registry::CATEGORIES {
        rules_after(
            &mut console,
            &format!("-@all +@{category}"),
            &format!("off sanitize-payload resetchannels -@all +@{category}"),
        );
    }
}
