//! The hash family. Expectations are replies of Valkey 9.1 and Redis 7.0; HGETDEL's errors are those of Redis 8.

use kelda_engine::testing::Console;

const WRONG_TYPE: &str = "-WRONGTYPE Operation against a key holding the wrong kind of value";

#[test]
fn fields_are_set_and_read() {
    Console::default().check(
        "HSET h => -ERR wrong number of arguments for 'hset' command
         HSET h a => -ERR wrong number of arguments for 'hset' command
         HSET h a 1 b => -ERR wrong number of arguments for 'hset' command
         HMSET h a => -ERR wrong number of arguments for 'hmset' command
         HMSET h a 1 b => -ERR wrong number of arguments for 'hmset' command
         GET h => $-1
         HSET h a 1 b 2 => :2
         HSET h a 1 c 3 => :1
         HMSET h d 4 => +OK
         HSETNX h a 9 => :0
         HSETNX h e five => :1
         HGET h a => $1 1
         HGET h z => $-1
         HGET no a => $-1
         HMGET h a z e => *3 $1 1 $-1 $4 five
         HMGET no a z => *2 $-1 $-1
         HGETALL h => *10 $1 a $1 1 $1 b $1 2 $1 c $1 3 $1 d $1 4 $1 e $4 five
         HGETALL no => *0
         HKEYS h => *5 $1 a $1 b $1 c $1 d $1 e
         HVALS h => *5 $1 1 $1 2 $1 3 $1 4 $4 five
         HKEYS no => *0
         HVALS no => *0
         HLEN h => :5
         HLEN no => :0
         HEXISTS h a => :1
         HEXISTS h z => :0
         HEXISTS no z => :0
         HSTRLEN h e => :4
         HSTRLEN h z => :0
         HSTRLEN no z => :0
         HSET x '' '' => :1
         HGETALL x => *2 $0  $0
         HSETNX new f v => :1
         HGET new f => $1 v",
    );
}

#[test]
fn a_hash_without_fields_is_gone() {
    Console::default().check(
        "HSET h a 1 b 2 => :2
         HDEL h a a z => :1
         HDEL no a => :0
         HDEL h b => :1
         GET h => $-1
         HSET h a 1 => :1
         HGETDEL h FIELDS 2 a z => *2 $1 1 $-1
         GET h => $-1",
    );
}

#[test]
fn get_and_delete() {
    Console::default().check(
        "HSET h a 1 b 2 => :2
         SET str x => +OK
         HGETDEL h FIELDS 1 => -ERR wrong number of arguments for 'hgetdel' command
         HGETDEL h FIELDS 2 a => -ERR The `numfields` parameter must match the number of arguments
         HGETDEL h FIELDS 1 a b => -ERR The `numfields` parameter must match the number of arguments
         HGETDEL h FIELDS 0 a => -ERR Number of fields must be a positive integer
         HGETDEL h FIELDS x a => -ERR Number of fields must be a positive integer
         HGETDEL h FOO 1 a => -ERR Mandatory argument FIELDS is missing or not at the right position
         HGETDEL str FOO 1 a => -WRONGTYPE Operation against a key holding the wrong kind of value
         HGETDEL no FIELDS 2 a b => *2 $-1 $-1
         HGETDEL h fields 3 a a z => *3 $1 1 $-1 $-1
         HGETALL h => *2 $1 b $1 2",
    );
}

#[test]
fn other_types_are_refused() {
    let mut console = Console::default();
    console.check("SET str x => +OK");
    for command in [
        "HSET str a 1",
        "HMSET str a 1",
        "HSETNX str a 1",
        "HGET str a",
        "HMGET str a",
        "HGETALL str",
        "HKEYS str",
        "HVALS str",
        "HLEN str",
        "HEXISTS str a",
        "HSTRLEN str a",
        "HDEL str a",
        "HGETDEL str FIELDS 1 a",
        "HINCRBY str a 1",
        "HINCRBYFLOAT str a 1",
        "HRANDFIELD str",
        "HRANDFIELD str 1",
        "HSCAN str 0",
    ] {
        assert_eq!(console.ask("a", command), WRONG_TYPE, "{command}");
    }
    console.check("GET str => $1 x");
}

#[test]
fn integers_are_counted_up() {
    Console::default().check(
        "HINCRBY h n 5 => :5
         HINCRBY h n -7 => :-2
         HGET h n => $2 -2
         HINCRBY h n x => -ERR value is not an integer or out of range
         HSET h n 1 s foo sp ' 1' => :2
         HINCRBY h n 9223372036854775807 => -ERR increment or decrement would overflow
         HINCRBY h n -9223372036854775808 => :-9223372036854775807
         HINCRBY h n -2 => -ERR increment or decrement would overflow
         HINCRBY h s 1 => -ERR hash value is not an integer
         HINCRBY h sp 1 => -ERR hash value is not an integer
         HINCRBY no n x => -ERR value is not an integer or out of range
         GET no => $-1
         SET str x => +OK
         HINCRBY str a x => -ERR value is not an integer or out of range",
    );
}

#[test]
fn floats_are_counted_up() {
    Console::default().check(
        "HINCRBYFLOAT h f 1.5 => $3 1.5
         HINCRBYFLOAT h f 3.0e3 => $6 3001.5
         HINCRBYFLOAT h f -3001.5 => $1 0
         HSET h p 0.1 => :1
         HINCRBYFLOAT h p 0.2 => $3 0.3
         HINCRBYFLOAT h f abc => -ERR value is not a valid float
         HINCRBYFLOAT h f nan => -ERR value is not a valid float
         HINCRBYFLOAT h f inf => -ERR value is NaN or Infinity
         HINCRBYFLOAT h f -inf => -ERR value is NaN or Infinity
         HSET h s foo sp ' 1' big 1.1e4932 => :3
         HINCRBYFLOAT h s 1 => -ERR hash value is not a float
         HINCRBYFLOAT h sp 1 => -ERR hash value is not a float
         HINCRBYFLOAT h big 1.1e4932 => -ERR increment would produce NaN or Infinity
         HGET h big => $8 1.1e4932
         SET str x => +OK
         HINCRBYFLOAT str a inf => -ERR value is NaN or Infinity
         HINCRBYFLOAT str a x => -ERR value is not a valid float",
    );
}

#[test]
fn random_fields() {
    Console::default().check(
        "HRANDFIELD no => $-1
         HRANDFIELD no 5 => *0
         HRANDFIELD no -5 => *0
         HRANDFIELD no 5 WITHVALUES => *0
         HRANDFIELD no x => -ERR value is not an integer or out of range
         HRANDFIELD no 5 FOO => -ERR syntax error
         HRANDFIELD no 5 WITHVALUES X => -ERR syntax error
         HRANDFIELD no -9223372036854775808 => -ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807
         HRANDFIELD no -9223372036854775807 => *0
         HRANDFIELD no -9223372036854775807 WITHVALUES => -ERR value is out of range
         HRANDFIELD no -4611686018427387904 WITHVALUES => -ERR value is out of range
         HRANDFIELD no -4611686018427387903 WITHVALUES => *0
         HRANDFIELD no 4611686018427387903 WITHVALUES => *0
         HRANDFIELD no 4611686018427387904 WITHVALUES => -ERR value is out of range
         HSET one f v => :1
         HRANDFIELD one => $1 f
         HRANDFIELD one 0 => *0
         HRANDFIELD one 3 => *1 $1 f
         HRANDFIELD one -3 => *3 $1 f $1 f $1 f
         HRANDFIELD one 3 WITHVALUES => *2 $1 f $1 v
         HRANDFIELD one -2 withvalues => *4 $1 f $1 v $1 f $1 v",
    );
}

#[test]
fn scan() {
    Console::default().check(
        "HSET one f v => :1
         HSCAN one 0 => *2 $1 0 *2 $1 f $1 v
         HSCAN one 5 => *2 $1 0 *2 $1 f $1 v
         HSCAN one x => -ERR invalid cursor
         HSCAN no x => -ERR invalid cursor
         HSCAN one 0 MATCH => -ERR syntax error
         HSCAN one 0 COUNT 0 => -ERR syntax error
         HSCAN one 0 COUNT x => -ERR value is not an integer or out of range
         HSCAN one 0 COUNT 1 MATCH f* => *2 $1 0 *2 $1 f $1 v
         HSCAN one 0 MATCH x* => *2 $1 0 *0
         HSCAN one 0 NOVALUES => *2 $1 0 *1 $1 f
         HSCAN one 0 NOVALUES COUNT 5 => *2 $1 0 *1 $1 f
         HSCAN one 0 FOO => -ERR syntax error
         HSCAN one 0 TYPE hash => -ERR syntax error
         HSCAN no 0 FOO => *2 $1 0 *0",
    );
}

#[test]
fn a_scan_of_a_big_hash_sees_every_field_once_while_nothing_changes() {
    let mut console = Console::default();
    for n in 0..1000 {
        assert_eq!(console.ask("a", &format!("HSET h f{n} {n}")), ":1");
    }
    let mut seen = Vec::new();
    let mut cursor = "0".to_string();
    loop {
        let reply = console.ask("a", &format!("HSCAN h {cursor} COUNT 30 NOVALUES"));
        let mut words = reply.split(' ');
        cursor = words.nth(2).map(str::to_string).unwrap_or_default();
        seen.extend(words.filter(|word| word.starts_with('f')).map(str::to_string));
        if cursor == "0" {
            break;
        }
    }
    seen.sort();
    let mut want: Vec<String> = (0..1000).map(|n| format!("f{n}")).collect();
    want.sort();
    assert_eq!(seen, want);
}

/// Runs a command in RESP3 and shows its reply as Lua sees it: `map`, `set`, or the elements of an array.
const RESP3: &str = "redis.setresp(3) \
    local function show(r) \
        if type(r) ~= 'table' then return tostring(r) end \
        if r.map then return 'map' end \
        if r.set then return 'set' end \
        local parts = {} \
        for i, part in ipairs(r) do parts[i] = show(part) end \
        return '[' .. table.concat(parts, ' ') .. ']' \
    end \
    return show(redis.call(unpack(ARGV)))";

#[test]
fn resp3_shapes() {
    let mut console = Console::default();
    console.check("HSET h f v => :1\nSADD s m => :1");
    for (command, want) in [
        ("HGETALL h", "map"),
        ("HGETALL no", "map"),
        ("HKEYS h", "[f]"),
        ("HVALS h", "[v]"),
        ("HRANDFIELD h 5", "[f]"),
        ("HRANDFIELD h 5 WITHVALUES", "[[f v]]"),
        ("HRANDFIELD h -2 WITHVALUES", "[[f v] [f v]]"),
        ("HSCAN h 0", "[0 [f v]]"),
        ("HEXISTS h f", "1"),
        ("HINCRBYFLOAT h x 1.5", "1.5"),
        ("HGET h none", "nil"),
        ("SMEMBERS s", "set"),
        ("SMEMBERS no", "set"),
        ("SINTER s s", "set"),
        ("SINTER s no", "set"),
        ("SUNION s", "set"),
        ("SDIFF s no", "set"),
        ("SRANDMEMBER s 2", "[m]"),
        ("SRANDMEMBER no", "nil"),
        ("SISMEMBER s m", "1"),
        ("SPOP s 0", "set"),
        ("SPOP no 3", "set"),
        ("SPOP s 3", "set"),
        ("SPOP s", "nil"),
    ] {
        let got = console.ask("a", &format!("EVAL \"{RESP3}\" 0 {command}"));
        assert_eq!(got.split_once(' ').map(|(_, text)| text), Some(want), "{command}: {got}");
    }
}
