//! FUNCTION and FCALL. The replies are those of Redis 7.0 and Valkey 9.1; the error texts are Redis's.

use kelda_engine::testing::Console;

const LIBRARY: &str = r##"FUNCTION LOAD "#!lua name=lib\nlocal calls = 0\nredis.register_function('keys', function(keys, argv) return {keys, argv} end)\nredis.register_function{function_name='Get', callback=function(keys) return redis.call('GET', keys[1]) end, flags={'no-writes'}, description='reads'}\nredis.register_function('set', function(keys, argv) return redis.call('SET', keys[1], argv[1]) end)""##;

fn loaded() -> Console {
    let mut console = Console::default();
    console.check(&format!("{LIBRARY} => $3 lib"));
    console
}

#[test]
fn calling() {
    loaded().check(
        r##"
         FCALL keys 1 a b c => *2 *1 $1 a *2 $1 b $1 c
         FCALL KEYS 0 => *2 *0 *0
         FCALL set 1 k v => +OK
         FCALL get 1 k => $1 v
         FCALL_RO get 1 k => $1 v
         FCALL_RO set 1 k w => -ERR Can not execute a script with write flag using *_ro command.
         FCALL none 0 => -ERR Function not found
         FCALL none x => -ERR Function not found
         FCALL keys x => -ERR Bad number of keys provided
         FCALL keys -1 => -ERR Number of keys can't be negative
         FCALL keys 2 a => -ERR Number of keys can't be greater than number of args
         COMMAND GETKEYS FCALL get 1 k => *1 $1 k
        "##,
    );
}

#[test]
fn libraries() {
    let mut console = loaded();
    console.check(
        r##"
         FUNCTION LIST LIBRARYNAME l* => *1 *6 $12 library_name $3 lib $6 engine $3 LUA $9 functions *3 *6 $4 name $4 keys $11 description $-1 $5 flags *0 *6 $4 name $3 Get $11 description $5 reads $5 flags *1 +no-writes *6 $4 name $3 set $11 description $-1 $5 flags *0
         FUNCTION LIST LIBRARYNAME x* => *0
         FUNCTION LIST LIBRARYNAME => -ERR library name argument was not given
         FUNCTION LIST x => -ERR Unknown argument x
         FUNCTION STATS => *4 $14 running_script $-1 $7 engines *2 $3 LUA *4 $15 libraries_count :1 $15 functions_count :3
         FUNCTION LOAD "#!lua name=lib\nredis.register_function('f', function() end)" => -ERR Library 'lib' already exists
         FUNCTION LOAD "#!lua name=other\nredis.register_function('GET', function() end)" => -ERR Function GET already exists
         FUNCTION LOAD x "#!lua name=lib\n" => -ERR Unknown option given: x
         FUNCTION LOAD REPLACE "#!lua name=lib\nerr or" => -ERR Error compiling function: user_function:2: '=' expected near 'or'
         FCALL keys 0 => *2 *0 *0
         FUNCTION LOAD REPLACE "#!lua name=lib\nredis.register_function('f', function() return 1 end)" => $3 lib
         FCALL f 0 => :1
         FCALL keys 0 => -ERR Function not found
         FUNCTION DELETE LIB => -ERR Library not found
         FUNCTION DELETE lib => +OK
         FCALL f 0 => -ERR Function not found
         FUNCTION FLUSH x => -ERR FUNCTION FLUSH only supports SYNC|ASYNC option
         FUNCTION FLUSH SYNC x => -ERR unknown subcommand or wrong number of arguments for 'FLUSH'. Try FUNCTION HELP.
         FUNCTION FLUSH ASYNC => +OK
         FUNCTION KILL => -NOTBUSY No scripts in execution right now.
        "##,
    );
}

#[test]
fn the_first_line() {
    Console::default().check(
        r##"
         FUNCTION LOAD x => -ERR Missing library metadata
         FUNCTION LOAD "#!lua" => -ERR Invalid library metadata
         FUNCTION LOAD "#!lua \n" => -ERR Library name was not given
         FUNCTION LOAD "#!lua name=\n" => -ERR Library names can only contain letters, numbers, or underscores(_) and must be at least one character long
         FUNCTION LOAD "#!lua name=a-b\n" => -ERR Library names can only contain letters, numbers, or underscores(_) and must be at least one character long
         FUNCTION LOAD "#!lua name=a b\n" => -ERR Invalid metadata value given: b
         FUNCTION LOAD "#!lua name=a name=b\n" => -ERR Invalid metadata value, name argument was given multiple times
         FUNCTION LOAD "#!other name=a\n" => -ERR Engine 'other' not found
         FUNCTION LOAD "#! name=a\n" => -ERR Engine '' not found
         FUNCTION LOAD "#!LUA name='a'\nredis.register_function('f', function() end)" => $1 a
        "##,
    );
}

#[test]
fn what_a_library_may_do_while_it_is_loaded() {
    let mut console = Console::default();
    for (text, error) in [
        ("return 1", "No functions registered"),
        ("x = 1", "Error registering functions: ERR user_function:2: Attempt to modify a readonly table"),
        (
            "math.random()",
            "Error registering functions: ERR user_function:2: Script attempted to access nonexistent global variable 'math'",
        ),
        (
            "redis.call('PING')",
            "Error registering functions: ERR user_function:2: Script attempted to access nonexistent global variable 'call'",
        ),
        (
            "redis.register_function()",
            "Error registering functions: ERR wrong number of arguments to redis.register_function",
        ),
        (
            "redis.register_function('f')",
            "Error registering functions: ERR calling redis.register_function with a single argument is only applicable to \
             Lua table (representing named arguments).",
        ),
        (
            "server.register_function('f', 1)",
            "Error registering functions: ERR second argument to server.register_function must be a function",
        ),
        (
            "redis.register_function{function_name='f', callback=function() end, flags={'x'}}",
            "Error registering functions: ERR unknown flag given",
        ),
        (
            "redis.register_function{function_name='f', callback=function() end, x=1}",
            "Error registering functions: ERR unknown argument given to redis.register_function",
        ),
        (
            "redis.register_function('f', function() end) redis.register_function('f', function() end)",
            "Error registering functions: ERR Function already exists in the library",
        ),
    ] {
        console.check(&format!("FUNCTION LOAD \"#!lua name=lib\\n{text}\" => -ERR {error}\nFUNCTION LIST => *0"));
    }
}

#[test]
fn a_library_registers_only_while_it_is_loaded() {
    Console::default().check(
        r##"
         FUNCTION LOAD "#!lua name=lib\nlocal kept = redis\nredis.register_function('now', function() redis.register_function('g', function() end) end)\nredis.register_function('later', function() kept.register_function('g', function() end) end)\nredis.register_function('ping', function() return redis.call('PING') end)" => $3 lib
         FCALL now 0 => -ERR user_function:3: attempt to call field 'register_function' (a nil value) script: now, on @user_function:3.
         FCALL later 0 => -ERR redis.register_function can only be called on FUNCTION LOAD command script: later, on @user_function:4.
         FCALL ping 0 => +PONG
         EVAL "return KEYS[1]" 1 k => $1 k
         FUNCTION LOAD "#!lua name=globals\nredis.register_function('globals', function() return KEYS end)" => $7 globals
         FCALL globals 0 => -ERR user_function:2: Script attempted to access nonexistent global variable 'KEYS' script: globals, on @user_function:2.
        "##,
    );
}

#[test]
fn dump_and_restore() {
    let mut console = loaded();
    console.send("a", b"*2\r\n$8\r\nFUNCTION\r\n$4\r\nDUMP\r\n");
    let dump = console.raw("a");
    let start = dump.windows(2).position(|bytes| bytes == b"\r\n").unwrap() + 2;
    let payload: String = dump[start..dump.len() - 2].iter().map(|byte| format!("\\x{byte:02x}")).collect();
    console.check(
        r##"
         FUNCTION RESTORE bad => -ERR DUMP payload version or checksum are wrong
         FUNCTION RESTORE bad x => -ERR Wrong restore policy given, value should be either FLUSH, APPEND or REPLACE.
         FUNCTION RESTORE bad x y => -ERR unknown subcommand or wrong number of arguments for 'RESTORE'. Try FUNCTION HELP.
        "##,
    );
    console.check(&format!("FUNCTION RESTORE \"{payload}\" => -ERR Library lib already exists"));
    console.check(&format!("FUNCTION RESTORE \"{payload}\" REPLACE => +OK\nFCALL keys 0 => *2 *0 *0"));
    console.check(&format!("FUNCTION FLUSH => +OK\nFUNCTION RESTORE \"{payload}\" => +OK\nFCALL keys 0 => *2 *0 *0"));
    console.check(
        r##"FUNCTION LOAD REPLACE "#!lua name=lib\nredis.register_function('f', function() end)" => $3 lib
           FUNCTION LOAD "#!lua name=other\nredis.register_function('set', function() return 2 end)" => $5 other"##,
    );
    console.check(&format!(
        "FUNCTION RESTORE \"{payload}\" REPLACE => -ERR Function set already exists\nFCALL set 0 => :2\n\
         FCALL f 0 => $-1\nFUNCTION RESTORE \"{payload}\" FLUSH => +OK\nFCALL f 0 => -ERR Function not found"
    ));
}

#[test]
fn a_function_runs_again_with_all_shards_if_it_must() {
    loaded().check(
        r##"
         FUNCTION LOAD "#!lua name=wide\nredis.register_function('wide', function() redis.call('INCR', 'n') redis.call('INCR', 'm') return redis.call('INCR', 'n') end)" => $4 wide
         FCALL wide 1 n => :2
         GET m => $1 1
        "##,
    );
}
