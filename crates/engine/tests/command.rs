//! COMMAND: expectations asked from Redis 7.0.15 and Valkey 9.1.2.

use kelda_engine::testing::Console;

#[test]
fn commands_are_described() {
    let mut console = Console::default();
    console.check(
        "COMMAND INFO get => *1 *10 $3 get :2 *2 +readonly +fast :1 :1 :1 *3 +@string +@read +@fast *0 *1 *6 $5 flags *2 +RO +access $12 begin_search *4 $4 type $5 index $4 spec *2 $5 index :1 $9 find_keys *4 $4 type $5 range $4 spec *6 $7 lastkey :0 $7 keystep :1 $5 limit :0 *0
         COMMAND INFO nosuch => *1 $-1
         COMMAND INFO config|get => *1 *10 $10 config|get :-3 *4 +admin +noscript +loading +stale :0 :0 :0 *3 +@admin +@dangerous +@slow *0 *0 *0
         COMMAND LIST x => -ERR syntax error
         COMMAND LIST FILTERBY foo bar => -ERR syntax error
         COMMAND LIST FILTERBY MODULE x => *0
         COMMAND LIST FILTERBY PATTERN gett* => *0
         COMMAND LIST FILTERBY PATTERN ECHO => *1 $4 echo
         COMMAND FOO => -ERR unknown subcommand 'FOO'. Try COMMAND HELP.
         COMMAND DOCS nosuch => *0
         COMMAND GETKEYS get a => *1 $1 a
         COMMAND GETKEYS watch a b => *2 $1 a $1 b
         COMMAND GETKEYS nosuch a => -ERR Invalid command specified
         COMMAND GETKEYS ping => -ERR The command has no key arguments
         COMMAND GETKEYS xread count x streams a b 1 1 => *2 $1 a $1 b
         COMMAND GETKEYS xreadgroup group g c streams a b > => *1 $1 a
         COMMAND GETKEYS zunionstore d 2 a => -ERR Invalid arguments specified for command
         COMMAND GETKEYS lmpop 2 a left => *2 $1 a $4 left
         COMMAND GETKEYS sintercard 0 a => -ERR Invalid arguments specified for command
         COMMAND GETKEYS eval x 2 a => *0
         COMMAND GETKEYS get => -ERR Invalid number of arguments specified for command
         COMMAND GETKEYS eval x 1 k => *1 $1 k
         COMMAND GETKEYSANDFLAGS get a => *1 *2 $1 a *2 +RO +access",
    );
    let count = console.ask("a", "COMMAND COUNT");
    let listed = console.ask("a", "COMMAND");
    assert_eq!(listed.split(' ').next().map(|word| word.replace('*', ":")), Some(count));
}

#[test]
fn arguments_are_documented_as_a_tree() {
    let mut console = Console::default();
    let docs = console.ask("a", "COMMAND DOCS watch");
    let want = "$9 arguments *1 *10 $4 name $3 key $4 type $3 key $12 display_text $3 key $14 key_spec_index :0 $5 flags *1 +multiple";
    assert!(docs.contains(want), "{docs}");
}

#[test]
fn renamed_commands() {
    let renames =
        [("rename-command", "get holen"), ("rename-command", "client klient"), ("rename-command", "multi \"\"")];
    let mut console = Console::new(&renames);
    console.check(
        "SET a 1 => +OK
         HOLEN a => $1 1
         holen a => $1 1
         GET a => -ERR unknown command 'GET', with args beginning with: 'a'
         MULTI => -ERR unknown command 'MULTI', with args beginning with:
         HOLEN => -ERR wrong number of arguments for 'get' command
         KLIENT ID => :1
         CLIENT ID => -ERR unknown command 'CLIENT', with args beginning with: 'ID'
         KLIENT foo => -ERR unknown subcommand 'foo'. Try KLIENT HELP.
         KLIENT => -ERR wrong number of arguments for 'client' command
         EVAL \"return redis.call('holen', 'a')\" 0 => $1 1
         COMMAND GETKEYS HOLEN a => *1 $1 a
         COMMAND GETKEYS GET a => -ERR Invalid command specified
         COMMAND INFO GET => *1 $-1",
    );
    let unknown = console.ask("a", "EVAL \"return redis.call('get', 'a')\" 0");
    assert!(unknown.starts_with("-ERR Unknown Redis command called from script"), "{unknown}");
    assert!(console.ask("a", "COMMAND INFO HOLEN").starts_with("*1 *10 $3 get "));
    let listed = console.ask("a", "COMMAND LIST");
    assert!(listed.contains(" $3 get ") && !listed.contains(" $5 multi "));
    // What follows from a repeated command must not bring back the old name.
    console.check("HOLEN a => $1 1\nHOLEN a => $1 1");
    assert!(console.ask("a", "GET a").starts_with("-ERR unknown command"));
}
