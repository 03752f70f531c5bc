//! Blocking on lists and sorted sets: who is served, when, and with what. Expectations are Valkey 9.1.2's.

use kelda_engine::testing::Console;

/// Checks a conversation of several clients: lines of `client: command => reply`, where no reply means that the client
/// blocks; `client: => reply` is what came to it since, and `+ms` moves the clock on.
#[track_caller]
fn check(console: &mut Console, conversation: &str) {
    for line in conversation.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if let Some(ms) = line.strip_prefix('+') {
            console.advance_ms(ms.parse().unwrap());
            continue;
        }
        let (client, rest) = line.split_once(':').unwrap();
        let (command, want) = rest.split_once("=>").unwrap();
        let got = if command.trim().is_empty() {
            String::from_utf8_lossy(&console.raw(client)).trim_end().replace("\r\n", " ")
        } else {
            console.ask(client, command.trim())
        };
        assert_eq!(got, want.trim(), "{line}");
    }
}

#[track_caller]
fn conversation(lines: &str) {
    check(&mut Console::default(), lines);
}

#[test]
fn first_come_first_served() {
    conversation(
        "b: BLPOP l 0 =>
         c: BLPOP l 0 =>
         d: BRPOP l 0 =>
         a: RPUSH l 1 => :1
         b: => *2 $1 l $1 1
         c: =>
         a: RPUSH l 2 => :1
         c: => *2 $1 l $1 2
         b: BLPOP l 0 =>
         a: RPUSH l 3 => :1
         d: => *2 $1 l $1 3
         a: RPUSH l 4 => :1
         b: => *2 $1 l $1 4
         a: EXISTS l => :0",
    );
}

#[test]
fn one_push_of_many_elements_serves_many_in_order() {
    conversation(
        "b: BLPOP l 0 =>
         c: BLMPOP 0 1 l RIGHT COUNT 2 =>
         d: BRPOP l 0 =>
         e: BLPOP l 0 =>
         a: RPUSH l 1 2 3 4 5 6 => :6
         b: => *2 $1 l $1 1
         c: => *2 $1 l *2 $1 6 $1 5
         d: => *2 $1 l $1 4
         e: => *2 $1 l $1 2
         a: LRANGE l 0 -1 => *1 $1 3",
    );
}

#[test]
fn the_first_of_several_keys_that_has_an_element_is_taken() {
    conversation(
        "b: BLPOP x y z 0 =>
         a: RPUSH y 1 2 => :2
         b: => *2 $1 y $1 1
         a: RPUSH x 9 => :1
         a: LRANGE x 0 -1 => *1 $1 9
         b: BLPOP z x y 0 => *2 $1 x $1 9
         a: DEL y => :1
         b: BLPOP x y 0 =>
         a: MULTI => +OK
         a: RPUSH y 1 => +QUEUED
         a: RPUSH x 2 => +QUEUED
         a: EXEC => *2 :1 :1
         b: => *2 $1 x $1 2
         a: LRANGE y 0 -1 => *1 $1 1",
    );
}

#[test]
fn a_key_named_twice_is_awaited_once() {
    conversation(
        "b: BLPOP l l 0 =>
         a: RPUSH l 1 2 => :2
         b: => *2 $1 l $1 1
         a: RPUSH l 3 => :2
         b: =>
         b: PING => +PONG
         a: LRANGE l 0 -1 => *2 $1 2 $1 3",
    );
}

#[test]
fn timeouts_end_in_a_null_array() {
    conversation(
        "b: BLPOP l 0.1 =>
         c: BLMOVE l m LEFT LEFT 0.2 =>
         d: BRPOPLPUSH l m 0.2 =>
         e: BLMPOP 0.3 1 l LEFT =>
         f: BZPOPMIN l 0.3 =>
         g: BZMPOP 0.3 1 l MIN =>
         h: BLPOP l 0.0001 =>
         i: BLPOP l 0 =>
         +1
         h: => *-1
         +98
         b: =>
         +1
         b: => *-1
         c: =>
         +100
         c: => *-1
         d: => *-1
         e: =>
         +100
         e: => *-1
         f: => *-1
         g: => *-1
         +100000000
         i: =>
         a: RPUSH l 1 => :1
         i: => *2 $1 l $1 1
         b: =>",
    );
}

#[test]
fn a_huge_timeout_is_no_overflow() {
    conversation(
        "b: BLPOP l 9000000000000000 =>
         a: RPUSH l 1 => :1
         b: => *2 $1 l $1 1
         b: BLPOP l 9223372036854776 => -ERR timeout is out of range",
    );
}

/// What came in behind the blocking command waits with it.
#[test]
fn input_behind_a_blocking_command_waits() {
    let mut console = Console::default();
    console.send("b", b"BLPOP l 1\r\nPING\r\n");
    assert_eq!(console.raw("b"), b"");
    console.ask("a", "RPUSH l x");
    assert_eq!(String::from_utf8_lossy(&console.raw("b")), "*2\r\n$1\r\nl\r\n$1\r\nx\r\n+PONG\r\n");
    console.send("b", b"BLPOP l 1\r\nPING\r\n");
    console.advance_ms(1000);
    assert_eq!(String::from_utf8_lossy(&console.raw("b")), "*-1\r\n+PONG\r\n");
}

#[test]
fn pushes_in_a_transaction_serve_after_exec() {
    conversation(
        "b: BLPOP l 0 =>
         c: BLPOP l 0 =>
         a: MULTI => +OK
         a: RPUSH l 1 => +QUEUED
         a: LPUSH l 2 => +QUEUED
         b: =>
         a: LRANGE l 0 -1 => +QUEUED
         a: EXEC => *3 :1 :2 *2 $1 2 $1 1
         b: => *2 $1 l $1 2
         c: => *2 $1 l $1 1",
    );
}

#[test]
fn what_a_slow_transaction_outlives_serves_nobody() {
    let mut console = Console::default();
    check(
        &mut console,
        "b: BLPOP l 60 =>
         a: MULTI => +OK
         a: RPUSH l 1 => +QUEUED
         a: PEXPIRE l 100 => +QUEUED",
    );
    console.clock.set_ms_a_look(1000);
    console.ask("a", "EXEC");
    console.clock.set_ms_a_look(0);
    check(
        &mut console,
        "b: =>
         a: EXISTS l => :0
         a: RPUSH l 2 => :1
         b: => *2 $1 l $1 2",
    );
}

#[test]
fn what_comes_and_goes_in_a_transaction_serves_nobody() {
    conversation(
        "b: BLPOP l 0 =>
         a: MULTI => +OK
         a: RPUSH l 1 => +QUEUED
         a: LPOP l => +QUEUED
         a: EXEC => *2 :1 $1 1
         b: =>
         a: MULTI => +OK
         a: RPUSH l 1 => +QUEUED
         a: DEL l => +QUEUED
         a: ZADD l 1 x => +QUEUED
         a: EXEC => *3 :1 :1 :1
         b: =>
         a: DEL l => :1
         a: MULTI => +OK
         a: RPUSH l 1 => +QUEUED
         a: DEL l => +QUEUED
         a: RPUSH l 2 => +QUEUED
         a: EXEC => *3 :1 :1 :1
         b: => *2 $1 l $1 2",
    );
}

#[test]
fn nothing_blocks_in_a_transaction() {
    conversation(
        "a: MULTI => +OK
         a: BLPOP l 0 => +QUEUED
         a: BRPOP l 0 => +QUEUED
         a: BLMOVE l m LEFT LEFT 0 => +QUEUED
         a: BRPOPLPUSH l m 0 => +QUEUED
         a: BLMPOP 0 1 l LEFT => +QUEUED
         a: BZPOPMIN l 0 => +QUEUED
         a: BZPOPMAX l 0 => +QUEUED
         a: BZMPOP 0 1 l MIN => +QUEUED
         a: RPUSH l 1 => +QUEUED
         a: BLPOP l 0 => +QUEUED
         a: EXEC => *10 *-1 *-1 $-1 $-1 *-1 *-1 *-1 *-1 :1 *2 $1 l $1 1",
    );
}

#[test]
fn scripts_push_for_others_and_do_not_block_themselves() {
    conversation(
        r#"b: BLPOP l 0 =>
         c: BZPOPMIN z 0 =>
         a: EVAL 'redis.call("rpush",KEYS[1],"x") redis.call("zadd",KEYS[2],1,"m") return redis.call("llen",KEYS[1])' 2 l z => :1
         b: => *2 $1 l $1 x
         c: => *3 $1 z $1 m $1 1
         a: EVAL 'return {redis.call("blpop",KEYS[1],0)}' 1 l => *1 $-1
         a: EVAL 'return {redis.call("blmove",KEYS[1],KEYS[1],"left","left",0)}' 1 l => *1 $-1
         b: BLPOP l 0 =>
         a: EVAL 'redis.call("rpush",KEYS[1],"x") return redis.call("lpop",KEYS[1])' 1 l => $1 x
         b: =>
         a: EVAL 'redis.call("rpush","l","y") return 1' 0 => :1
         b: => *2 $1 l $1 y"#,
    );
}

#[test]
fn a_value_of_another_type_serves_nobody() {
    conversation(
        "b: BLPOP k 0 =>
         c: BZPOPMIN k 0 =>
         d: BLMOVE k m LEFT LEFT 0 =>
         a: SET k x => +OK
         b: =>
         c: =>
         a: DEL k => :1
         a: ZADD k 1 x => :1
         b: =>
         c: => *3 $1 k $1 x $1 1
         a: RPUSH k 1 2 => :2
         b: => *2 $1 k $1 1
         d: => $1 2
         a: LRANGE m 0 -1 => *1 $1 2",
    );
}

#[test]
fn another_key_of_the_wrong_type_is_an_error_when_it_is_served() {
    conversation(
        "b: BLPOP x y 0 =>
         a: SET x 1 => +OK
         a: RPUSH y 1 => :1
         b: => -WRONGTYPE Operation against a key holding the wrong kind of value
         a: LRANGE y 0 -1 => *1 $1 1",
    );
}

#[test]
fn the_destination_is_looked_at_when_there_is_something_to_move() {
    conversation(
        "a: SET m x => +OK
         b: BLMOVE l m LEFT LEFT 0 =>
         c: BRPOPLPUSH l n 0 =>
         a: RPUSH l 1 => :1
         b: => -WRONGTYPE Operation against a key holding the wrong kind of value
         c: => $1 1
         a: LRANGE n 0 -1 => *1 $1 1
         b: BLMOVE l m LEFT LEFT 0 =>
         a: DEL m => :1
         a: RPUSH l 2 => :1
         b: => $1 2
         a: LRANGE m 0 -1 => *1 $1 2",
    );
}

#[test]
fn an_element_moves_on_through_a_chain() {
    conversation(
        "d: BLPOP c 0 =>
         b: BLMOVE a b LEFT RIGHT 0 =>
         c: BRPOPLPUSH b c 0 =>
         a: RPUSH a 1 => :1
         b: => $1 1
         c: => $1 1
         d: => *2 $1 c $1 1
         a: EXISTS a b c => :0",
    );
}

#[test]
fn circular_moves_end() {
    conversation(
        "b: BLMOVE a b LEFT LEFT 0 =>
         c: BLMOVE b a LEFT LEFT 0 =>
         a: RPUSH a 1 => :1
         b: => $1 1
         c: => $1 1
         a: LRANGE a 0 -1 => *1 $1 1
         a: DEL a => :1
         b: BLMOVE a a LEFT RIGHT 0 =>
         a: RPUSH a 1 2 => :2
         b: => $1 1
         a: LRANGE a 0 -1 => *2 $1 2 $1 1",
    );
}

#[test]
fn a_push_by_a_served_move_serves_whoever_waits_there() {
    conversation(
        "b: BLPOP m 0 =>
         c: BLPOP m 0 =>
         d: BLMOVE l m LEFT LEFT 0 =>
         e: BLPOP l 0 =>
         a: RPUSH l 1 2 => :2
         d: => $1 1
         e: => *2 $1 l $1 2
         b: => *2 $1 m $1 1
         c: =>
         a: LMOVE none m LEFT LEFT => $-1
         a: RPUSH n 3 => :1
         a: LMOVE n m LEFT LEFT => $1 3
         c: => *2 $1 m $1 3",
    );
}

#[test]
fn keys_made_by_other_commands_serve_too() {
    conversation(
        "a: RPUSH l 2 1 => :2
         b: BLPOP k 0 =>
         a: RENAME l k => +OK
         b: => *2 $1 k $1 2
         a: DEL k => :1
         b: BLPOP k 0 =>
         a: RPUSH l 2 1 => :2
         a: COPY l k => :1
         b: => *2 $1 k $1 2
         a: DEL k => :1
         b: BLPOP k 0 =>
         a: SORT l STORE k => :2
         b: => *2 $1 k $1 1
         c: BZPOPMAX z 0 =>
         a: SADD s m n => :2
         a: ZUNIONSTORE z 1 s => :2
         c: => *3 $1 z $1 n $1 1
         a: DEL z => :1
         c: BZMPOP 0 1 z MIN COUNT 2 =>
         a: ZINTERSTORE z 2 s s => :2
         c: => *2 $1 z *2 *2 $1 m $1 2 *2 $1 n $1 2
         c: BZPOPMIN z 0 =>
         a: ZADD y 5 five => :1
         a: ZRANGESTORE z y 0 -1 => :1
         c: => *3 $1 z $4 five $1 5",
    );
}

#[test]
fn sorted_sets_serve_in_order() {
    conversation(
        "b: BZPOPMIN x z 0 =>
         c: BZPOPMAX z 0 =>
         d: BZMPOP 0 2 z x MIN COUNT 2 =>
         a: ZADD z 1 a 2 b 3 c 4 d 5 e => :5
         b: => *3 $1 z $1 a $1 1
         c: => *3 $1 z $1 e $1 5
         d: => *2 $1 z *2 *2 $1 b $1 2 *2 $1 c $1 3
         a: ZRANGE z 0 -1 => *1 $1 d
         b: BZPOPMIN n 0 =>
         a: ZINCRBY n 2 x => $1 2
         b: => *3 $1 n $1 x $1 2",
    );
}

#[test]
fn replies_are_in_the_blocked_clients_protocol() {
    let mut console = Console::default();
    console.ask("b", "HELLO 3");
    check(
        &mut console,
        "b: BZPOPMIN z 0 =>
         a: ZADD z 1.5 m => :1
         b: => *3 $1 z $1 m ,1.5
         b: BZMPOP 0 1 z MAX =>
         a: ZADD z 1.5 m => :1
         b: => *2 $1 z *1 *2 $1 m ,1.5
         b: BLPOP l 0.1 =>
         +100
         b: => _
         b: BLMOVE l m LEFT LEFT 0.1 =>
         +100
         b: => _",
    );
}

#[test]
fn a_client_that_goes_is_passed_over() {
    conversation(
        "b: BLPOP l 0 =>
         c: BLPOP l 0 =>
         a: CLIENT KILL ID 1 => :1
         a: RPUSH l 1 => :1
         b: =>
         c: => *2 $1 l $1 1
         a: EXISTS l => :0",
    );
}

#[test]
fn client_unblock_ends_a_wait() {
    conversation(
        "b: BLPOP l 0 =>
         c: BLMOVE l m LEFT LEFT 0 =>
         a: CLIENT UNBLOCK 1 => :1
         b: => *-1
         a: CLIENT UNBLOCK 2 ERROR => :1
         c: => -UNBLOCKED client unblocked via CLIENT UNBLOCK
         a: CLIENT UNBLOCK 1 => :0
         a: RPUSH l 1 => :1
         b: PING => +PONG
         a: LRANGE l 0 -1 => *1 $1 1",
    );
}

#[test]
fn databases_are_kept_apart() {
    conversation(
        "b: SELECT 1 => +OK
         b: BLPOP l 0 =>
         c: BLPOP l 0 =>
         a: RPUSH l 1 => :1
         b: =>
         c: => *2 $1 l $1 1
         a: SELECT 1 => +OK
         a: RPUSH l 2 => :1
         b: => *2 $1 l $1 2",
    );
}

/// A wait that was served leaves nothing behind in the queues of its other keys.
#[test]
fn a_served_client_waits_no_longer() {
    conversation(
        "b: BLPOP x y 0 =>
         a: RPUSH x 1 => :1
         b: => *2 $1 x $1 1
         a: RPUSH y 2 => :1
         b: =>
         b: BLPOP z 0.5 =>
         a: LRANGE y 0 -1 => *1 $1 2
         +499
         b: =>
         +1
         b: => *-1
         a: RPUSH z 1 => :1
         a: LRANGE z 0 -1 => *1 $1 1",
    );
}
