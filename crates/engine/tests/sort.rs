//! SORT and SORT_RO. The replies are those of Redis and Valkey.

use kelda_engine::testing::Console;

#[test]
fn the_types_that_can_be_sorted() {
    Console::default().check(
        r#"
         RPUSH l 3 1 2 10 => :4
         SORT l => *4 $1 1 $1 2 $1 3 $2 10
         SORT l DESC => *4 $2 10 $1 3 $1 2 $1 1
         SORT l DESC ASC => *4 $1 1 $1 2 $1 3 $2 10
         SORT l ALPHA => *4 $1 1 $2 10 $1 2 $1 3
         SORT_RO l DESC => *4 $2 10 $1 3 $1 2 $1 1
         SADD s 5 3 1 => :3
         SORT s => *3 $1 1 $1 3 $1 5
         ZADD z 1 b 2 a 3 c => :3
         SORT z ALPHA => *3 $1 a $1 b $1 c
         SORT none => *0
         SET str x => +OK
         SORT str => -WRONGTYPE Operation against a key holding the wrong kind of value
         SORT str FOO => -ERR syntax error
         RPUSH words b a C => :3
         SORT words => -ERR One or more scores can't be converted into double
         SORT words ALPHA DESC => *3 $1 b $1 a $1 C
         RPUSH same 1.0 1 01 => :3
         SORT same => *3 $2 01 $1 1 $3 1.0
         SORT same DESC => *3 $3 1.0 $1 1 $2 01
        "#,
    );
}

#[test]
fn numbers() {
    Console::default().check(
        r#"
         RPUSH inf 1 inf -inf 2.5 => :4
         SORT inf => *4 $4 -inf $1 1 $3 2.5 $3 inf
         RPUSH nan nan 1 => :2
         SORT nan => -ERR One or more scores can't be converted into double
         RPUSH hex 0x10 5 ' 7' => :3
         SORT hex => *3 $1 5 $2  7 $4 0x10
         RPUSH empty '' 1 => :2
         SORT empty => *2 $0  $1 1
         RPUSH bad '1 ' 1 => :2
         SORT bad => -ERR One or more scores can't be converted into double
        "#,
    );
}

#[test]
fn limits() {
    Console::default().check(
        r#"
         RPUSH l 3 1 2 => :3
         SORT l LIMIT 1 1 => *1 $1 2
         SORT l LIMIT -1 5 => *3 $1 1 $1 2 $1 3
         SORT l LIMIT 0 -1 => *3 $1 1 $1 2 $1 3
         SORT l LIMIT 1 -1 => *2 $1 2 $1 3
         SORT l LIMIT 5 10 => *0
         SORT l LIMIT 1 0 => *0
         SORT l LIMIT 9223372036854775807 9223372036854775807 => *0
         SORT l LIMIT 1 9223372036854775807 => *2 $1 2 $1 3
         SORT l LIMIT 0 => -ERR syntax error
         SORT l LIMIT x 1 => -ERR value is not an integer or out of range
         SORT l LIMIT 0 x => -ERR value is not an integer or out of range
        "#,
    );
}

#[test]
fn by_patterns() {
    Console::default().check(
        r#"
         RPUSH l 1 2 3 => :3
         MSET w1 30 w2 20 w3 10 => +OK
         SORT l BY w* => *3 $1 3 $1 2 $1 1
         SORT l BY w* DESC => *3 $1 1 $1 2 $1 3
         SORT l BY none* => *3 $1 1 $1 2 $1 3
         HSET h1 f 9 => :1
         HSET h2 f 8 => :1
         SORT l BY h*->f => *3 $1 3 $1 2 $1 1
         SORT l BY h*->none => *3 $1 1 $1 2 $1 3
         SORT l BY h* => *3 $1 1 $1 2 $1 3
         SORT l BY w*->f => *3 $1 1 $1 2 $1 3
         SET w1 abc => +OK
         SORT l BY w* => -ERR One or more scores can't be converted into double
         SORT l BY w* ALPHA => *3 $1 3 $1 2 $1 1
         SORT l BY => -ERR syntax error
         SORT_RO l BY h*->f => *3 $1 3 $1 2 $1 1
        "#,
    );
}

#[test]
fn keeping_the_order() {
    Console::default().check(
        r#"
         RPUSH l 3 1 2 => :3
         SORT l BY nosort => *3 $1 3 $1 1 $1 2
         SORT l BY nosort DESC => *3 $1 2 $1 1 $1 3
         SORT l BY nosort LIMIT 0 1 => *1 $1 3
         SORT l BY nosort DESC LIMIT 0 1 => *1 $1 2
         ZADD z 3 1 2 2 1 3 => :3
         SORT z => *3 $1 1 $1 2 $1 3
         SORT z BY nosort => *3 $1 3 $1 2 $1 1
         SORT z BY nosort DESC => *3 $1 1 $1 2 $1 3
         SORT z BY nosort LIMIT 1 1 => *1 $1 2
         SORT z BY nosort DESC LIMIT 1 -1 => *2 $1 2 $1 3
         SADD s z b y => :3
         SORT s BY nosort STORE d => :3
         LRANGE d 0 -1 => *3 $1 b $1 y $1 z
        "#,
    );
}

#[test]
fn get_patterns() {
    Console::default().check(
        r#"
         RPUSH l 1 2 3 => :3
         MSET w1 30 w2 20 => +OK
         HSET h1 f 9 g x => :2
         HSET h2 f 8 => :1
         SORT l GET w* => *3 $2 30 $2 20 $-1
         SORT l GET # GET w* GET h*->f => *9 $1 1 $2 30 $1 9 $1 2 $2 20 $1 8 $1 3 $-1 $-1
         SORT l GET h*->g => *3 $1 x $-1 $-1
         SORT l GET h* => *3 $-1 $-1 $-1
         SORT l GET h*-> => *3 $-1 $-1 $-1
         SORT l GET ->f => *3 $-1 $-1 $-1
         SORT l GET w1 => *3 $-1 $-1 $-1
         SORT l GET w*->f => *3 $-1 $-1 $-1
         SORT l BY w* GET # LIMIT 0 2 => *2 $1 3 $1 2
         SORT l GET => -ERR syntax error
        "#,
    );
}

#[test]
fn storing() {
    Console::default().check(
        r#"
         RPUSH l 3 1 2 => :3
         SORT l STORE d => :3
         LRANGE d 0 -1 => *3 $1 1 $1 2 $1 3
         SORT l GET none* STORE d => :3
         LRANGE d 0 -1 => *3 $0  $0  $0
         SORT l LIMIT 5 1 STORE d => :0
         EXISTS d => :0
         SET d x EX 100 => +OK
         SORT l DESC STORE d => :3
         TYPE d => +list
         TTL d => :-1
         SORT l STORE l => :3
         LRANGE l 0 -1 => *3 $1 1 $1 2 $1 3
         SORT l STORE a STORE b => :3
         EXISTS a b => :1
         SORT none STORE l => :0
         EXISTS l => :0
         SORT l STORE => -ERR syntax error
         SORT_RO l STORE d => -ERR syntax error
         SET str x => +OK
         SORT str STORE d => -WRONGTYPE Operation against a key holding the wrong kind of value
         TYPE d => +list
        "#,
    );
}

#[test]
fn in_transactions_and_scripts() {
    Console::default().check(
        r#"
         RPUSH l 1 2 => :2
         MSET w1 2 w2 1 => +OK
         MULTI => +OK
         SORT l BY w* => +QUEUED
         SORT l BY w* GET w* STORE d => +QUEUED
         LRANGE d 0 -1 => +QUEUED
         EXEC => *3 *2 $1 2 $1 1 :2 *2 $1 1 $1 2
         EVAL 'return redis.call("sort", KEYS[1], "by", "w*")' 1 l => *2 $1 2 $1 1
         EVAL 'return redis.call("sort", KEYS[1], "by", "w*", "store", "e")' 1 l => :2
         LRANGE e 0 -1 => *2 $1 2 $1 1
        "#,
    );
}
