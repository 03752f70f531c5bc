//! The sorted-set family. Expectations are Valkey 9.1.2's; those of blocking are in `blocking.rs`.

use kelda_engine::testing::Console;
use std::collections::BTreeSet;

#[test]
fn zadd_options() {
    let mut console = Console::default();
    console.check(
        r#"ZADD z 1 a 2 b 3 c => :3
         ZADD z 1 a 5 d => :1
         ZADD z CH 1 a 6 d 7 e => :2
         ZADD z NX 9 a 9 f => :1
         ZADD z XX 10 a 10 g => :0
         ZADD z XX CH 11 a 11 g => :1
         ZADD z GT CH 10 a 3 b 1 h => :2
         ZADD z LT CH 10 a 3 b 2 c 1 i => :3
         ZADD z GT XX CH 20 a 20 j => :1
         ZADD z INCR 5 a => $2 25
         ZADD z NX INCR 5 a => $-1
         ZADD z NX INCR 5 k => $1 5
         ZADD z XX INCR 5 nope => $-1
         ZADD z XX INCR 5 a => $2 30
         ZADD z GT INCR -1 a => $-1
         ZADD z GT INCR 0 a => $-1
         ZADD z LT INCR -1 a => $2 29
         ZADD z ch nx incr 1 new => $1 1
         ZRANGE z 0 -1 WITHSCORES => *20 $1 h $1 1 $1 i $1 1 $3 new $1 1 $1 c $1 2 $1 b $1 3 $1 k $1 5 $1 d $1 6 $1 e $1 7 $1 f $1 9 $1 a $2 29
         ZADD none XX 1 a => :0
         ZADD none XX INCR 1 a => $-1
         EXISTS none => :0
         ZADD z 1 dup 2 dup 3 dup => :1
         ZSCORE z dup => $1 3
         ZADD z NX XX 1 a => -ERR XX and NX options at the same time are not compatible
         ZADD z NX GT 1 a => -ERR GT, LT, and/or NX options at the same time are not compatible
         ZADD z NX LT 1 a => -ERR GT, LT, and/or NX options at the same time are not compatible
         ZADD z GT LT 1 a => -ERR GT, LT, and/or NX options at the same time are not compatible
         ZADD z INCR 1 a 2 b => -ERR INCR option supports a single increment-element pair
         ZADD z 1 => -ERR wrong number of arguments for 'zadd' command
         ZADD z 1 a 2 => -ERR syntax error
         ZADD z NX => -ERR wrong number of arguments for 'zadd' command
         ZADD z NX CH => -ERR syntax error
         ZADD z NX 1 => -ERR syntax error
         ZADD z foo a => -ERR value is not a valid float
         ZADD z 1 a foo b => -ERR value is not a valid float
         ZADD z nan a => -ERR value is not a valid float
         ZADD z 1e400 a => -ERR value is not a valid float
         ZADD z "" a => -ERR value is not a valid float
         ZADD z " 1" a => -ERR value is not a valid float
         ZADD z NX XX foo a => -ERR XX and NX options at the same time are not compatible
         SET s x => +OK
         ZADD s 1 a => -WRONGTYPE Operation against a key holding the wrong kind of value
         ZADD s foo a => -ERR value is not a valid float
         ZADD s XX 1 a => -WRONGTYPE Operation against a key holding the wrong kind of value"#,
    );
}

#[test]
fn scores_and_infinities() {
    let mut console = Console::default();
    console.check(
        "ZADD z inf p -inf m 0 zero 1e-10 tiny 3.0 three 0.1 tenth 1e20 big 17179869184.5 half => :8
         ZRANGE z 0 -1 WITHSCORES => *16 $1 m $4 -inf $4 zero $1 0 $4 tiny $5 1e-10 $5 tenth $3 0.1 $5 three $1 3 $4 half $13 17179869184.5 $3 big $5 1e+20 $1 p $3 inf
         ZADD z INCR -inf p => -ERR resulting score is not a number (NaN)
         ZADD z INCR inf p => $3 inf
         ZINCRBY z -inf p => -ERR resulting score is not a number (NaN)
         ZINCRBY z inf m => -ERR resulting score is not a number (NaN)
         ZSCORE z p => $3 inf
         ZSCORE z tenth => $3 0.1
         ZINCRBY z 0.2 tenth => $19 0.30000000000000004
         ZINCRBY z 1 new => $1 1
         ZINCRBY z -1.5 new => $4 -0.5
         ZINCRBY z 0 new => $4 -0.5
         ZINCRBY z foo new => -ERR value is not a valid float
         ZINCRBY z nan new => -ERR value is not a valid float
         ZINCRBY z 1 x y => -ERR wrong number of arguments for 'zincrby' command
         ZINCRBY fresh 2.5 a => $3 2.5
         ZADD z +5 plus 5e2 exp .5 dot 5. point Infinity word => :5
         ZMSCORE z plus exp dot point word => *5 $1 5 $3 500 $3 0.5 $1 5 $3 inf
         ZADD z -0 minus => :1
         ZADD z 0x10 hex => :1
         ZSCORE z hex => $2 16
         SET s x => +OK
         ZINCRBY s 1 a => -WRONGTYPE Operation against a key holding the wrong kind of value
         ZINCRBY s foo a => -ERR value is not a valid float",
    );
}

#[test]
fn single_members() {
    let mut console = Console::default();
    console.check(
        "ZADD z 1 a 2 b 3 c 3 cc => :4
         ZCARD z => :4
         ZCARD none => :0
         ZSCORE z b => $1 2
         ZSCORE z nope => $-1
         ZSCORE none a => $-1
         ZMSCORE z a nope c => *3 $1 1 $-1 $1 3
         ZMSCORE none a b => *2 $-1 $-1
         ZRANK z a => :0
         ZRANK z cc => :3
         ZRANK z nope => $-1
         ZRANK none a => $-1
         ZREVRANK z a => :3
         ZREVRANK z cc => :0
         ZREVRANK z nope => $-1
         ZRANK z b WITHSCORE => *2 :1 $1 2
         ZREVRANK z b withscore => *2 :2 $1 2
         ZRANK z nope WITHSCORE => *-1
         ZREVRANK none b WITHSCORE => *-1
         ZRANK z b WITHSCORES => -ERR syntax error
         ZREVRANK none b foo => -ERR syntax error
         ZRANK z b WITHSCORE x => -ERR wrong number of arguments for 'zrank' command
         ZREVRANK z b WITHSCORE x => -ERR wrong number of arguments for 'zrevrank' command
         ZREM z a nope => :1
         ZREM z b b c => :2
         ZREM none a => :0
         ZCARD z => :1
         ZREM z cc => :1
         EXISTS z => :0
         SET s x => +OK
         ZCARD s => -WRONGTYPE Operation against a key holding the wrong kind of value
         ZSCORE s a => -WRONGTYPE Operation against a key holding the wrong kind of value
         ZMSCORE s a => -WRONGTYPE Operation against a key holding the wrong kind of value
         ZRANK s a => -WRONGTYPE Operation against a key holding the wrong kind of value
         ZREVRANK s a => -WRONGTYPE Operation against a key holding the wrong kind of value
         ZREM s a => -WRONGTYPE Operation against a key holding the wrong kind of value",
    );
}

#[test]
fn counts_by_score_and_text() {
    let mut console = Console::default();
    console.check(
        r#"ZADD z 1 a 2 b 2 c 3 d => :4
         ZCOUNT z -inf +inf => :4
         ZCOUNT z 2 3 => :3
         ZCOUNT z (2 3 => :1
         ZCOUNT z 2 (3 => :2
         ZCOUNT z (2 (2 => :0
         ZCOUNT z 3 1 => :0
         ZCOUNT z 1.5 2.5 => :2
         ZCOUNT z "" 2 => :3
         ZCOUNT z ( 2 => :3
         ZCOUNT z -1e400 1e400 => :4
         ZCOUNT z nan 1 => -ERR min or max is not a float
         ZCOUNT z 1 2x => -ERR min or max is not a float
         ZCOUNT z foo bar => -ERR min or max is not a float
         ZCOUNT none 1 2 => :0
         ZCOUNT none a b => -ERR min or max is not a float
         ZADD l 0 alpha 0 bar 0 cool 0 down 0 elephant 0 10 => :6
         ZLEXCOUNT l - + => :6
         ZLEXCOUNT l + - => :0
         ZLEXCOUNT l - - => :0
         ZLEXCOUNT l + + => :0
         ZLEXCOUNT l [bar [down => :3
         ZLEXCOUNT l (bar [down => :2
         ZLEXCOUNT l [bar (down => :2
         ZLEXCOUNT l (bar (down => :1
         ZLEXCOUNT l [down [bar => :0
         ZLEXCOUNT l [ ( => :0
         ZLEXCOUNT l [1 (2 => :1
         ZLEXCOUNT l bar [down => -ERR min or max not valid string range item
         ZLEXCOUNT l [bar down => -ERR min or max not valid string range item
         ZLEXCOUNT l -a + => -ERR min or max not valid string range item
         ZLEXCOUNT l - +z => -ERR min or max not valid string range item
         ZLEXCOUNT l "" + => -ERR min or max not valid string range item
         ZLEXCOUNT none - + => :0
         ZLEXCOUNT none a b => -ERR min or max not valid string range item
         SET s x => +OK
         ZCOUNT s 1 2 => -WRONGTYPE Operation against a key holding the wrong kind of value
         ZCOUNT s a b => -ERR min or max is not a float
         ZLEXCOUNT s - + => -WRONGTYPE Operation against a key holding the wrong kind of value"#,
    );
}

#[test]
fn ranges_of_ranks() {
    let mut console = Console::default();
    console.check(
        "ZADD z 1 a 2 b 3 c 4 d => :4
         ZRANGE z 0 -1 => *4 $1 a $1 b $1 c $1 d
         ZRANGE z 1 2 => *2 $1 b $1 c
         ZRANGE z -2 -1 => *2 $1 c $1 d
         ZRANGE z -100 100 => *4 $1 a $1 b $1 c $1 d
         ZRANGE z 3 1 => *0
         ZRANGE z 4 9 => *0
         ZRANGE z 0 1 WITHSCORES => *4 $1 a $1 1 $1 b $1 2
         ZRANGE z 0 1 REV => *2 $1 d $1 c
         ZRANGE z 0 1 rev withscores => *4 $1 d $1 4 $1 c $1 3
         ZREVRANGE z 0 -1 => *4 $1 d $1 c $1 b $1 a
         ZREVRANGE z 1 2 WITHSCORES => *4 $1 c $1 3 $1 b $1 2
         ZREVRANGE z -1 -1 => *1 $1 a
         ZREVRANGE z 5 6 => *0
         ZRANGE z 0 -1 LIMIT 0 -1 => *4 $1 a $1 b $1 c $1 d
         ZRANGE z 0 -1 LIMIT 1 -1 => *4 $1 a $1 b $1 c $1 d
         ZRANGE z 0 -1 LIMIT 0 1 => -ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX
         ZREVRANGE z 0 -1 LIMIT 0 1 => -ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX
         ZREVRANGE z 0 -1 REV => -ERR syntax error
         ZREVRANGE z 0 -1 BYSCORE => -ERR syntax error
         ZRANGE z a b => -ERR value is not an integer or out of range
         ZRANGE z 0 1.5 => -ERR value is not an integer or out of range
         ZRANGE z 0 -1 WITHSCORES WITHSCORES => *8 $1 a $1 1 $1 b $1 2 $1 c $1 3 $1 d $1 4
         ZRANGE z 0 -1 REV REV => -ERR syntax error
         ZRANGE z 0 -1 NOPE => -ERR syntax error
         ZRANGE z 0 -1 LIMIT 1 => -ERR syntax error
         ZRANGE z 0 -1 LIMIT foo 1 => -ERR value is not an integer or out of range
         ZRANGE none 0 -1 => *0
         ZRANGE none 0 -1 WITHSCORES => *0
         ZRANGE none a b => -ERR value is not an integer or out of range
         ZRANGE z 0 9223372036854775807 => *4 $1 a $1 b $1 c $1 d
         ZRANGE z -9223372036854775808 -9223372036854775808 => *0
         SET s x => +OK
         ZRANGE s 0 -1 => -WRONGTYPE Operation against a key holding the wrong kind of value
         ZREVRANGE s 0 -1 => -WRONGTYPE Operation against a key holding the wrong kind of value
         ZRANGE s a b => -ERR value is not an integer or out of range",
    );
}

#[test]
fn ranges_of_scores() {
    let mut console = Console::default();
    console.check(
        "ZADD z 1 a 2 b 2 bb 3 c 4 d inf e => :6
         ZRANGEBYSCORE z 2 3 => *3 $1 b $2 bb $1 c
         ZRANGEBYSCORE z (2 3 WITHSCORES => *2 $1 c $1 3
         ZRANGEBYSCORE z 2 (3 => *2 $1 b $2 bb
         ZRANGEBYSCORE z -inf +inf LIMIT 1 2 => *2 $1 b $2 bb
         ZRANGEBYSCORE z -inf +inf LIMIT 1 2 WITHSCORES => *4 $1 b $1 2 $2 bb $1 2
         ZRANGEBYSCORE z -inf +inf withscores limit 4 -1 => *4 $1 d $1 4 $1 e $3 inf
         ZRANGEBYSCORE z -inf +inf LIMIT 10 2 => *0
         ZRANGEBYSCORE z -inf +inf LIMIT -1 2 => *0
         ZRANGEBYSCORE z -inf +inf LIMIT 0 0 => *0
         ZRANGEBYSCORE z -inf +inf LIMIT 1 -5 => *5 $1 b $2 bb $1 c $1 d $1 e
         ZRANGEBYSCORE z 5 1 => *0
         ZREVRANGEBYSCORE z 3 2 => *3 $1 c $2 bb $1 b
         ZREVRANGEBYSCORE z +inf (2 WITHSCORES => *6 $1 e $3 inf $1 d $1 4 $1 c $1 3
         ZREVRANGEBYSCORE z +inf -inf LIMIT 1 2 => *2 $1 d $1 c
         ZREVRANGEBYSCORE z +inf -inf LIMIT 5 10 => *1 $1 a
         ZREVRANGEBYSCORE z +inf -inf LIMIT 6 10 => *0
         ZREVRANGEBYSCORE z 1 5 => *0
         ZRANGE z 2 3 BYSCORE => *3 $1 b $2 bb $1 c
         ZRANGE z 3 2 BYSCORE REV => *3 $1 c $2 bb $1 b
         ZRANGE z 2 3 BYSCORE REV => *0
         ZRANGE z (1 +inf BYSCORE LIMIT 1 2 WITHSCORES => *4 $2 bb $1 2 $1 c $1 3
         ZRANGE z +inf -inf BYSCORE REV LIMIT 0 2 => *2 $1 e $1 d
         ZRANGE z 1 2 BYSCORE BYLEX => -ERR syntax error
         ZRANGEBYSCORE z 1 2 BYSCORE => -ERR syntax error
         ZRANGEBYSCORE z 1 2 REV => -ERR syntax error
         ZRANGEBYSCORE z a 2 => -ERR min or max is not a float
         ZRANGEBYSCORE z 1 nan => -ERR min or max is not a float
         ZREVRANGEBYSCORE z a b => -ERR min or max is not a float
         ZRANGEBYSCORE none a b => -ERR min or max is not a float
         ZRANGEBYSCORE none 1 2 => *0
         ZRANGEBYSCORE none 1 2 LIMIT a b => -ERR value is not an integer or out of range
         SET s x => +OK
         ZRANGEBYSCORE s 1 2 => -WRONGTYPE Operation against a key holding the wrong kind of value
         ZREVRANGEBYSCORE s 1 2 => -WRONGTYPE Operation against a key holding the wrong kind of value",
    );
}

#[test]
fn ranges_of_texts() {
    let mut console = Console::default();
    console.check(
        "ZADD z 0 alpha 0 bar 0 cool 0 down 0 elephant 0 foo 0 great 0 hill 0 omega => :9
         ZRANGEBYLEX z - [cool => *3 $5 alpha $3 bar $4 cool
         ZRANGEBYLEX z [bar [down => *3 $3 bar $4 cool $4 down
         ZRANGEBYLEX z (bar (down => *1 $4 cool
         ZRANGEBYLEX z [g + => *3 $5 great $4 hill $5 omega
         ZRANGEBYLEX z + - => *0
         ZRANGEBYLEX z - + LIMIT 2 3 => *3 $4 cool $4 down $8 elephant
         ZRANGEBYLEX z - + LIMIT 7 -1 => *2 $4 hill $5 omega
         ZRANGEBYLEX z - + LIMIT 9 1 => *0
         ZREVRANGEBYLEX z [cool - => *3 $4 cool $3 bar $5 alpha
         ZREVRANGEBYLEX z + [h => *2 $5 omega $4 hill
         ZREVRANGEBYLEX z + - LIMIT 1 2 => *2 $4 hill $5 great
         ZREVRANGEBYLEX z - + => *0
         ZRANGE z [bar (down BYLEX => *2 $3 bar $4 cool
         ZRANGE z (down [bar BYLEX REV => *2 $4 cool $3 bar
         ZRANGE z + - BYLEX REV LIMIT 0 2 => *2 $5 omega $4 hill
         ZRANGE z [bar [down BYLEX WITHSCORES => -ERR syntax error, WITHSCORES not supported in combination with BYLEX
         ZRANGEBYLEX z [bar [down WITHSCORES => -ERR syntax error, WITHSCORES not supported in combination with BYLEX
         ZRANGEBYLEX z bar [down => -ERR min or max not valid string range item
         ZRANGEBYLEX z [bar down => -ERR min or max not valid string range item
         ZREVRANGEBYLEX z foo [bar => -ERR min or max not valid string range item
         ZRANGE z 0 -1 BYLEX => -ERR min or max not valid string range item
         ZRANGEBYLEX none - + => *0
         ZRANGEBYLEX none a b => -ERR min or max not valid string range item
         SET s x => +OK
         ZRANGEBYLEX s - + => -WRONGTYPE Operation against a key holding the wrong kind of value
         ZREVRANGEBYLEX s + - => -WRONGTYPE Operation against a key holding the wrong kind of value",
    );
}

#[test]
fn zrangestore_replaces_its_destination() {
    let mut console = Console::default();
    console.check(
        "ZADD z 1 a 2 b 3 c 4 d => :4
         ZRANGESTORE d z 0 1 => :2
         ZRANGE d 0 -1 WITHSCORES => *4 $1 a $1 1 $1 b $1 2
         ZRANGESTORE d z 2 +inf BYSCORE LIMIT 1 1 => :1
         ZRANGE d 0 -1 WITHSCORES => *2 $1 c $1 3
         ZRANGESTORE d z 0 0 REV => :1
         ZRANGE d 0 -1 WITHSCORES => *2 $1 d $1 4
         ZRANGESTORE d z [b [c BYLEX => :2
         ZRANGE d 0 -1 WITHSCORES => *4 $1 b $1 2 $1 c $1 3
         ZRANGESTORE z z 1 2 => :2
         ZRANGE z 0 -1 WITHSCORES => *4 $1 b $1 2 $1 c $1 3
         ZRANGESTORE d z 5 6 => :0
         EXISTS d => :0
         SET d x EX 100 => +OK
         ZRANGESTORE d z 0 -1 => :2
         TTL d => :-1
         TYPE d => +zset
         ZRANGESTORE d none 0 -1 => :0
         EXISTS d => :0
         ZRANGESTORE d z 0 -1 WITHSCORES => -ERR syntax error
         ZRANGESTORE d z 0 -1 LIMIT 0 1 => -ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX
         ZRANGESTORE d z a b => -ERR value is not an integer or out of range
         ZRANGESTORE d z a b BYSCORE => -ERR min or max is not a float
         SET s x => +OK
         ZRANGESTORE d s 0 -1 => -WRONGTYPE Operation against a key holding the wrong kind of value
         ZRANGESTORE s z 0 -1 => :2
         TYPE s => +zset",
    );
}

#[test]
fn removing_ranges() {
    let mut console = Console::default();
    console.check(
        "ZADD z 1 a 2 b 3 c 4 d 5 e 6 f => :6
         ZREMRANGEBYRANK z 0 0 => :1
         ZREMRANGEBYRANK z -1 -1 => :1
         ZREMRANGEBYRANK z 10 20 => :0
         ZRANGE z 0 -1 => *4 $1 b $1 c $1 d $1 e
         ZREMRANGEBYSCORE z (2 3 => :1
         ZREMRANGEBYSCORE z 100 200 => :0
         ZRANGE z 0 -1 => *3 $1 b $1 d $1 e
         ZREMRANGEBYSCORE z -inf +inf => :3
         EXISTS z => :0
         ZADD z 0 a 0 b 0 c 0 d => :4
         ZREMRANGEBYLEX z [b (d => :2
         ZREMRANGEBYLEX z [x [y => :0
         ZRANGE z 0 -1 => *2 $1 a $1 d
         ZREMRANGEBYLEX z - + => :2
         EXISTS z => :0
         ZREMRANGEBYRANK none 0 1 => :0
         ZREMRANGEBYSCORE none 0 1 => :0
         ZREMRANGEBYLEX none - + => :0
         ZREMRANGEBYRANK none a b => -ERR value is not an integer or out of range
         ZREMRANGEBYSCORE none a b => -ERR min or max is not a float
         ZREMRANGEBYLEX none a b => -ERR min or max not valid string range item
         SET s x => +OK
         ZREMRANGEBYRANK s 0 1 => -WRONGTYPE Operation against a key holding the wrong kind of value
         ZREMRANGEBYSCORE s 0 1 => -WRONGTYPE Operation against a key holding the wrong kind of value
         ZREMRANGEBYLEX s - + => -WRONGTYPE Operation against a key holding the wrong kind of value
         ZREMRANGEBYRANK s a b => -ERR value is not an integer or out of range",
    );
}

#[test]
fn pops_from_either_end() {
    let mut console = Console::default();
    console.check(
        "ZADD z 1 a 2 b 3 c 4 d 5 e 6 f => :6
         ZPOPMIN z => *2 $1 a $1 1
         ZPOPMAX z => *2 $1 f $1 6
         ZPOPMIN z 2 => *4 $1 b $1 2 $1 c $1 3
         ZPOPMAX z 0 => *0
         ZPOPMAX z 100 => *4 $1 e $1 5 $1 d $1 4
         EXISTS z => :0
         ZPOPMIN none => *0
         ZPOPMAX none 3 => *0
         ZPOPMIN none 0 => *0
         ZPOPMIN z -1 => -ERR value is out of range, must be positive
         ZPOPMIN z foo => -ERR value is out of range, must be positive
         ZPOPMIN z 1 2 => -ERR syntax error
         SET s x => +OK
         ZPOPMIN s => -WRONGTYPE Operation against a key holding the wrong kind of value
         ZPOPMIN s 0 => -WRONGTYPE Operation against a key holding the wrong kind of value
         ZPOPMIN s -1 => -ERR value is out of range, must be positive
         ZADD a 1 x 2 y 3 z => :3
         ZADD b 4 u => :1
         ZMPOP 2 none a MIN => *2 $1 a *1 *2 $1 x $1 1
         ZMPOP 2 a b max COUNT 10 => *2 $1 a *2 *2 $1 z $1 3 *2 $1 y $1 2
         ZMPOP 2 a b MAX => *2 $1 b *1 *2 $1 u $1 4
         ZMPOP 2 a b MAX => *-1
         ZMPOP 0 a MIN => -ERR numkeys should be greater than 0
         ZMPOP foo a MIN => -ERR numkeys should be greater than 0
         ZMPOP 2 a MIN => -ERR syntax error
         ZMPOP 1 a UP => -ERR syntax error
         ZMPOP 1 a MIN COUNT 0 => -ERR count should be greater than 0
         ZMPOP 1 a MIN COUNT foo => -ERR count should be greater than 0
         ZMPOP 1 a MIN COUNT => -ERR syntax error
         ZMPOP 1 a MIN COUNT 1 COUNT 2 => -ERR syntax error
         ZMPOP 1 s MIN => -WRONGTYPE Operation against a key holding the wrong kind of value
         ZADD a 1 w 2 x 3 y 4 z => :4
         BZPOPMIN none a 0 => *3 $1 a $1 w $1 1
         BZPOPMAX a 0.1 => *3 $1 a $1 z $1 4
         BZMPOP 0 2 none a MIN COUNT 2 => *2 $1 a *2 *2 $1 x $1 2 *2 $1 y $1 3
         BZPOPMIN s a 0 => -WRONGTYPE Operation against a key holding the wrong kind of value
         BZPOPMIN a foo => -ERR timeout is not a float or out of range
         BZPOPMAX s -1 => -ERR timeout is negative
         BZMPOP foo 1 a MIN => -ERR timeout is not a float or out of range
         BZMPOP foo 1 a UP => -ERR syntax error
         BZMPOP foo 0 a MIN => -ERR numkeys should be greater than 0
         BZMPOP 0 1 s MIN => -WRONGTYPE Operation against a key holding the wrong kind of value",
    );
}

#[test]
fn unions_intersections_differences() {
    let mut console = Console::default();
    console.check(
        "ZADD a 1 x 2 y 3 z => :3
         ZADD b 10 y 20 z 30 w => :3
         SADD s x w v => :3
         ZUNION 2 a b => *4 $1 x $1 y $1 z $1 w
         ZUNION 2 a b WITHSCORES => *8 $1 x $1 1 $1 y $2 12 $1 z $2 23 $1 w $2 30
         ZUNION 3 a b s WITHSCORES => *10 $1 v $1 1 $1 x $1 2 $1 y $2 12 $1 z $2 23 $1 w $2 31
         ZUNION 2 a b WEIGHTS 2 0.5 WITHSCORES => *8 $1 x $1 2 $1 y $1 9 $1 w $2 15 $1 z $2 16
         ZUNION 2 a b AGGREGATE MIN WITHSCORES => *8 $1 x $1 1 $1 y $1 2 $1 z $1 3 $1 w $2 30
         ZUNION 2 a b aggregate max weights 1 -1 withscores => *8 $1 w $3 -30 $1 x $1 1 $1 y $1 2 $1 z $1 3
         ZUNION 1 none => *0
         ZUNION 2 none a => *3 $1 x $1 y $1 z
         ZINTER 2 a b => *2 $1 y $1 z
         ZINTER 2 a b WITHSCORES => *4 $1 y $2 12 $1 z $2 23
         ZINTER 2 a s WITHSCORES => *2 $1 x $1 2
         ZINTER 2 a b WEIGHTS 2 0.5 AGGREGATE MAX WITHSCORES => *4 $1 y $1 5 $1 z $2 10
         ZINTER 2 a none => *0
         ZINTER 3 a a a WITHSCORES => *6 $1 x $1 3 $1 y $1 6 $1 z $1 9
         ZDIFF 2 a b => *1 $1 x
         ZDIFF 2 a s WITHSCORES => *4 $1 y $1 2 $1 z $1 3
         ZDIFF 1 a WITHSCORES => *6 $1 x $1 1 $1 y $1 2 $1 z $1 3
         ZDIFF 2 a a => *0
         ZDIFF 2 none a => *0
         ZDIFF 2 a none => *3 $1 x $1 y $1 z
         ZDIFF 1 s WITHSCORES => *6 $1 v $1 1 $1 w $1 1 $1 x $1 1
         ZINTERCARD 2 a b => :2
         ZINTERCARD 2 a b LIMIT 1 => :1
         ZINTERCARD 2 a b LIMIT 0 => :2
         ZINTERCARD 2 a b LIMIT 10 => :2
         ZINTERCARD 2 a none => :0
         ZINTERCARD 1 a LIMIT 2 => :2
         ZUNIONSTORE d 2 a b => :4
         ZRANGE d 0 -1 WITHSCORES => *8 $1 x $1 1 $1 y $2 12 $1 z $2 23 $1 w $2 30
         ZUNIONSTORE d 2 a b WEIGHTS 1 2 AGGREGATE MAX => :4
         ZRANGE d 0 -1 WITHSCORES => *8 $1 x $1 1 $1 y $2 20 $1 z $2 40 $1 w $2 60
         ZINTERSTORE d 2 a b WEIGHTS 2 3 => :2
         ZRANGE d 0 -1 WITHSCORES => *4 $1 y $2 34 $1 z $2 66
         ZINTERSTORE a 2 a d => :2
         ZRANGE a 0 -1 WITHSCORES => *4 $1 y $2 36 $1 z $2 69
         ZDIFFSTORE d 2 b s => :2
         ZRANGE d 0 -1 WITHSCORES => *4 $1 y $2 10 $1 z $2 20
         ZDIFFSTORE d 2 b b => :0
         EXISTS d => :0
         SET d x EX 100 => +OK
         ZUNIONSTORE d 1 s => :3
         TTL d => :-1
         TYPE d => +zset
         ZINTERSTORE d 1 none => :0
         EXISTS d => :0",
    );
}

#[test]
fn combining_infinities() {
    let mut console = Console::default();
    console.check(
        "ZADD a inf x 1 y => :2
         ZADD b -inf x 1 y => :2
         ZUNION 2 a b WITHSCORES => *4 $1 x $1 0 $1 y $1 2
         ZINTER 2 a b WITHSCORES => *4 $1 x $1 0 $1 y $1 2
         ZUNION 1 a WEIGHTS 0 WITHSCORES => *4 $1 x $1 0 $1 y $1 0
         ZINTER 1 a WEIGHTS 0 WITHSCORES => *4 $1 x $1 0 $1 y $1 0
         ZUNION 2 a b WEIGHTS 0 0 WITHSCORES => *4 $1 x $1 0 $1 y $1 0
         ZINTER 2 a b AGGREGATE MIN WEIGHTS 1 0 WITHSCORES => *4 $1 y $1 0 $1 x $3 inf
         ZUNION 1 a WEIGHTS inf WITHSCORES => *4 $1 x $3 inf $1 y $3 inf
         ZUNION 1 a WEIGHTS nan WITHSCORES => -ERR weight value is not a float",
    );
}

#[test]
fn errors_of_combinations() {
    let mut console = Console::default();
    console.check(
        "ZADD a 1 x => :1
         SET s x => +OK
         ZUNION 0 a => -ERR at least 1 input key is needed for 'zunion' command
         ZINTER -1 a => -ERR at least 1 input key is needed for 'zinter' command
         ZDIFF foo a => -ERR value is not an integer or out of range
         ZINTERCARD 0 a => -ERR at least 1 input key is needed for 'zintercard' command
         ZUNIONSTORE d 0 a => -ERR at least 1 input key is needed for 'zunionstore' command
         ZINTERSTORE d 0 a => -ERR at least 1 input key is needed for 'zinterstore' command
         ZDIFFSTORE d 0 a => -ERR at least 1 input key is needed for 'zdiffstore' command
         ZUNION 2 a => -ERR syntax error
         ZUNION 9223372036854775807 a => -ERR syntax error
         ZUNION 1 s => -WRONGTYPE Operation against a key holding the wrong kind of value
         ZUNION 2 a s => -WRONGTYPE Operation against a key holding the wrong kind of value
         ZUNION 1 s WEIGHTS foo => -WRONGTYPE Operation against a key holding the wrong kind of value
         ZINTER 2 none s => -WRONGTYPE Operation against a key holding the wrong kind of value
         ZUNION 1 a WEIGHTS foo => -ERR weight value is not a float
         ZUNION 1 a WEIGHTS => -ERR syntax error
         ZUNION 1 a WEIGHTS 1 2 => -ERR syntax error
         ZUNION 2 a a WEIGHTS 1 => -ERR syntax error
         ZUNION 1 a AGGREGATE foo => -ERR syntax error
         ZUNION 1 a AGGREGATE => -ERR syntax error
         ZUNION 1 a NOPE => -ERR syntax error
         ZUNIONSTORE d 1 a WITHSCORES => -ERR syntax error
         ZDIFF 1 a WEIGHTS 1 => -ERR syntax error
         ZDIFF 1 a AGGREGATE SUM => -ERR syntax error
         ZDIFFSTORE d 1 a WITHSCORES => -ERR syntax error
         ZINTERCARD 1 a WITHSCORES => -ERR syntax error
         ZINTERCARD 1 a LIMIT -1 => -ERR LIMIT can't be negative
         ZINTERCARD 1 a LIMIT foo => -ERR LIMIT can't be negative
         ZINTERCARD 1 a LIMIT => -ERR syntax error
         ZINTERCARD 1 s => -WRONGTYPE Operation against a key holding the wrong kind of value
         ZUNION 1 => -ERR wrong number of arguments for 'zunion' command",
    );
}

#[test]
fn zrandmember_errors_and_whole_sets() {
    let mut console = Console::default();
    console.check(
        "ZRANDMEMBER none => $-1
         ZRANDMEMBER none 5 => *0
         ZRANDMEMBER none -5 => *0
         ZRANDMEMBER none 5 WITHSCORES => *0
         ZADD z 1 a => :1
         ZRANDMEMBER z => $1 a
         ZRANDMEMBER z 0 => *0
         ZRANDMEMBER z 5 => *1 $1 a
         ZRANDMEMBER z 1 WITHSCORES => *2 $1 a $1 1
         ZRANDMEMBER z -3 => *3 $1 a $1 a $1 a
         ZRANDMEMBER z -2 withscores => *4 $1 a $1 1 $1 a $1 1
         ZRANDMEMBER z foo => -ERR value is not an integer or out of range
         ZRANDMEMBER z 1 foo => -ERR syntax error
         ZRANDMEMBER z 1 WITHSCORES x => -ERR syntax error
         ZRANDMEMBER z -9223372036854775808 => -ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807
         ZRANDMEMBER z 4611686018427387904 WITHSCORES => -ERR value is out of range
         ZRANDMEMBER z -4611686018427387904 WITHSCORES => -ERR value is out of range
         ZRANDMEMBER z 9223372036854775807 => *1 $1 a
         SET s x => +OK
         ZRANDMEMBER s => -WRONGTYPE Operation against a key holding the wrong kind of value
         ZRANDMEMBER s 1 => -WRONGTYPE Operation against a key holding the wrong kind of value",
    );
}

#[test]
fn zscan_of_a_small_set() {
    let mut console = Console::default();
    console.check(
        "ZADD z 1 a 2.5 b 3 ab => :3
         ZSCAN z 0 => *2 $1 0 *6 $1 a $1 1 $1 b $3 2.5 $2 ab $1 3
         ZSCAN z 0 COUNT 1 => *2 $1 0 *6 $1 a $1 1 $1 b $3 2.5 $2 ab $1 3
         ZSCAN z 0 MATCH a* => *2 $1 0 *4 $1 a $1 1 $2 ab $1 3
         ZSCAN z 0 NOSCORES => *2 $1 0 *3 $1 a $1 b $2 ab
         ZSCAN z 0 match b noscores count 100 => *2 $1 0 *1 $1 b
         ZSCAN none 0 => *2 $1 0 *0
         ZSCAN z foo => -ERR invalid cursor
         ZSCAN none foo => -ERR invalid cursor
         ZSCAN z 0 COUNT 0 => -ERR syntax error
         ZSCAN z 0 COUNT foo => -ERR value is not an integer or out of range
         ZSCAN z 0 MATCH => -ERR syntax error
         ZSCAN z 0 NOPE => -ERR syntax error
         SET s x => +OK
         ZSCAN s 0 => -WRONGTYPE Operation against a key holding the wrong kind of value",
    );
}

#[test]
fn resp3_has_doubles_and_pairs() {
    let mut console = Console::default();
    console.ask("a", "HELLO 3");
    console.check(
        "ZADD z 1 a 2.5 b inf c => :3
         ZSCORE z b => ,2.5
         ZSCORE z nope => _
         ZMSCORE z c nope => *2 ,inf _
         ZINCRBY z 0.5 a => ,1.5
         ZADD z INCR 1 a => ,2.5
         ZADD z NX INCR 1 a => _
         ZRANGE z 0 -1 => *3 $1 a $1 b $1 c
         ZRANGE z 0 -1 WITHSCORES => *3 *2 $1 a ,2.5 *2 $1 b ,2.5 *2 $1 c ,inf
         ZREVRANGE z 0 0 WITHSCORES => *1 *2 $1 c ,inf
         ZRANGEBYSCORE z 2 3 WITHSCORES => *2 *2 $1 a ,2.5 *2 $1 b ,2.5
         ZRANK z b WITHSCORE => *2 :1 ,2.5
         ZRANK z nope WITHSCORE => _
         ZRANK z nope => _
         ZUNION 1 z WITHSCORES => *3 *2 $1 a ,2.5 *2 $1 b ,2.5 *2 $1 c ,inf
         ZINTER 2 z z WITHSCORES => *3 *2 $1 a ,5 *2 $1 b ,5 *2 $1 c ,inf
         ZDIFF 1 z WITHSCORES => *3 *2 $1 a ,2.5 *2 $1 b ,2.5 *2 $1 c ,inf
         ZSCAN z 0 => *2 $1 0 *6 $1 a $3 2.5 $1 b $3 2.5 $1 c $3 inf
         ZRANDMEMBER none => _
         ZPOPMIN z => *2 $1 a ,2.5
         ZPOPMIN z 1 => *1 *2 $1 b ,2.5
         ZPOPMAX none => *0
         ZREM z c => :1
         ZADD z 7 h => :1
         ZRANDMEMBER z 1 WITHSCORES => *1 *2 $1 h ,7
         ZRANDMEMBER z -2 WITHSCORES => *2 *2 $1 h ,7 *2 $1 h ,7
         ZMPOP 1 z MIN => *2 $1 z *1 *2 $1 h ,7
         ZMPOP 1 z MIN => _
         ZADD z 7 h => :1
         BZPOPMAX z 0 => *3 $1 z $1 h ,7
         ZADD z 7 h => :1
         BZMPOP 0 1 z MAX => *2 $1 z *1 *2 $1 h ,7",
    );
}

#[test]
fn a_large_set_works_as_a_small_one() {
    let mut console = Console::new(&[("zset-max-listpack-entries", "2")]);
    console.check(
        "ZADD z 1 a 2 b => :2
         OBJECT ENCODING z => $8 listpack
         ZADD z 3 c 4 d 5 e 6 f 7 g 8 h => :6
         OBJECT ENCODING z => $8 skiplist
         ZRANGE z 2 4 WITHSCORES => *6 $1 c $1 3 $1 d $1 4 $1 e $1 5
         ZRANGE z 2 4 REV => *3 $1 f $1 e $1 d
         ZRANGEBYSCORE z (3 6 LIMIT 1 2 => *2 $1 e $1 f
         ZREVRANGEBYSCORE z +inf 3 LIMIT 2 2 => *2 $1 f $1 e
         ZRANK z e => :4
         ZREVRANK z e => :3
         ZINCRBY z 10 a => $2 11
         ZADD z GT CH 1 b 30 c => :1
         ZRANGE z 0 -1 WITHSCORES => *16 $1 b $1 2 $1 d $1 4 $1 e $1 5 $1 f $1 6 $1 g $1 7 $1 h $1 8 $1 a $2 11 $1 c $2 30
         ZREMRANGEBYRANK z 1 2 => :2
         ZREMRANGEBYSCORE z 7 8 => :2
         ZPOPMAX z 2 => *4 $1 c $2 30 $1 a $2 11
         ZRANGE z 0 -1 WITHSCORES => *4 $1 b $1 2 $1 f $1 6
         ZUNIONSTORE u 2 z z => :2
         OBJECT ENCODING u => $8 listpack
         ZRANGESTORE r z 0 0 => :1
         OBJECT ENCODING r => $8 listpack
         ZREM z b f => :2
         EXISTS z => :0",
    );
}

/// Random choices are checked by what they may be.
#[test]
fn zrandmember_chooses_distinct_members_or_repeats() {
    let mut console = Console::new(&[("zset-max-listpack-entries", "8")]);
    let members: Vec<String> = (0..50).map(|n| format!("member:{n}")).collect();
    for (score, member) in members.iter().enumerate() {
        console.ask("a", &format!("ZADD z {score} {member}"));
    }
    let mut all = BTreeSet::new();
    for count in [1, 7, 25, 49, 50, 60] {
        let reply = console.ask("a", &format!("ZRANDMEMBER z {count}"));
        let found: Vec<&str> = reply.split(' ').filter(|word| word.starts_with("member:")).collect();
        let distinct: BTreeSet<&str> = found.iter().copied().collect();
        assert_eq!(found.len(), count.min(50), "{reply}");
        assert_eq!(distinct.len(), found.len(), "no member twice: {reply}");
        all.extend(distinct.into_iter().map(str::to_string));
    }
    assert_eq!(all, members.iter().cloned().collect());
    let reply = console.ask("a", "ZRANDMEMBER z -200 WITHSCORES");
    let words: Vec<&str> = reply.split(' ').skip(2).step_by(2).collect();
    assert_eq!(words.len(), 400);
    for pair in words.chunks(2) {
        assert_eq!(format!("member:{}", pair[1]), pair[0]);
    }
}

#[test]
fn zscan_returns_every_member_of_a_large_set() {
    let mut console = Console::default();
    let wanted: BTreeSet<String> = (0..1000).map(|n| format!("member:{n}")).collect();
    for (score, member) in wanted.iter().enumerate() {
        console.ask("a", &format!("ZADD z {score} {member}"));
    }
    let (mut found, mut cursor, mut steps) = (BTreeSet::new(), "0".to_string(), 0);
    loop {
        let reply = console.ask("a", &format!("ZSCAN z {cursor} COUNT 20"));
        let words: Vec<&str> = reply.split(' ').collect();
        found.extend(words.iter().filter(|word| word.starts_with("member:")).map(|word| word.to_string()));
        steps += 1;
        cursor = words[2].to_string();
        if cursor == "0" {
            break;
        }
    }
    assert_eq!(found, wanted);
    assert!(steps > 10, "{steps} steps for 1000 members of 20 each");
}

/// The events are those of Redis, in its order.
#[test]
fn keyspace_events() {
    let mut console = Console::new(&[("notify-keyspace-events", "KEA")]);
    console.ask("sub", "PSUBSCRIBE __keyeven?@0__:*");
    for (command, want) in [
        ("ZADD z 1 a 2 b 3 c 4 d 5 e 6 f", "zadd z"),
        ("ZADD z 1 a", ""),
        ("ZADD z INCR 1 a", "zincr z"),
        ("ZINCRBY z 1 a", "zincr z"),
        ("ZINCRBY z 0 a", ""),
        ("ZREM z a nope", "zrem z"),
        ("ZREM z nope", ""),
        ("ZREMRANGEBYRANK z 0 0", "zremrangebyrank z"),
        ("ZREMRANGEBYSCORE z 3 3", "zremrangebyscore z"),
        ("ZREMRANGEBYLEX z [d [d", "zremrangebylex z"),
        ("ZREMRANGEBYLEX z [d [d", ""),
        ("ZUNIONSTORE u 1 z", "zunionstore u"),
        ("ZINTERSTORE i 1 z", "zinterstore i"),
        ("ZDIFFSTORE d 1 z", "zdiffstore d"),
        ("ZRANGESTORE r z 0 -1", "zrangestore r"),
        ("ZRANGESTORE r z 9 9", "del r"),
        ("ZDIFFSTORE d 2 z z", "del d"),
        ("ZDIFFSTORE d 2 z z", ""),
        ("ZPOPMIN z", "zpopmin z"),
        ("ZPOPMAX z", "zpopmax z, del z"),
        ("ZMPOP 1 u MIN", "zpopmin u"),
        ("BZPOPMAX u 0", "zpopmax u, del u"),
        ("ZREM i e f", "zrem i, del i"),
    ] {
        console.ask("a", command);
        let events = String::from_utf8_lossy(&console.raw("sub")).into_owned();
        let words: Vec<&str> = events.split("\r\n").collect();
        let seen: Vec<String> = words
            .windows(3)
            .filter_map(|three| Some(format!("{} {}", three[0].strip_prefix("__keyevent@0__:")?, three[2])))
            .filter(|event| !event.starts_with("new "))
            .collect();
        assert_eq!(seen.join(", "), want, "{command}");
    }
}
