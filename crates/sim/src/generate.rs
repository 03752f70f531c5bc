//! Random commands over few keys, of every family, from tables of templates.
//!
//! A template is words: literals, `$x` for random arguments (see [`Generator::argument`]), `[ … ]` for what may be left
//! out, `{ a | b }` for a choice, `( … )+` for one to three times. Keys are mostly of the family's own type, so that
//! commands mostly work, and sometimes of any other.

use crate::compare::How;
use crate::rng::Rng;

/// A command to send, and how its replies are compared.
#[derive(Clone, Debug)]
pub struct Command {
    /// Name and arguments.
    pub args: Vec<Vec<u8>>,
    /// How to compare the replies.
    pub how: How,
}

/// Commands that share the type of their keys.
struct Family {
    /// In a thousand commands.
    weight: u64,
    /// First letter of the family's keys; `*` for keys of any type.
    letter: char,
    templates: &'static [(How, &'static str)],
    /// Whether commands see keys of other connections: not for runs on several threads.
    global: bool,
}

use How::{AnyError as F, Exactly as E, Near, Scores, Shape as S, Unordered as U};

const FAMILIES: &[Family] = &[
    Family { weight: 180, letter: 's', templates: STRINGS, global: false },
    Family { weight: 130, letter: 'h', templates: HASHES, global: false },
    Family { weight: 180, letter: 'l', templates: LISTS, global: false },
    Family { weight: 120, letter: 't', templates: SETS, global: false },
    Family { weight: 200, letter: 'z', templates: ZSETS, global: false },
    Family { weight: 40, letter: 'x', templates: LEXICAL, global: false },
    Family { weight: 60, letter: 's', templates: BITMAPS, global: false },
    Family { weight: 90, letter: 'q', templates: STREAMS, global: false },
    Family { weight: 50, letter: 'g', templates: GEO, global: false },
    Family { weight: 40, letter: 'y', templates: SKETCHES, global: false },
    Family { weight: 70, letter: '*', templates: KEYSPACE, global: false },
    Family { weight: 50, letter: '*', templates: EXPIRY, global: false },
    Family { weight: 40, letter: '*', templates: TRANSACTIONS, global: false },
    Family { weight: 27, letter: '*', templates: SCRIPTING, global: false },
    Family { weight: 3, letter: '*', templates: GLOBAL, global: true },
];

const STRINGS: &[(How, &str)] = &[
    (E, "SET $k $v [ { EX $t | PX $u | EXAT $T | PXAT $U | KEEPTTL } ] [ { NX | XX } ] [ GET ]"),
    (E, "SET $k $v"),
    (E, "SET $k $i"),
    (E, "GET $k"),
    (E, "GETSET $k $v"),
    (E, "GETDEL $k"),
    (E, "GETEX $k [ { EX $t | PX $u | EXAT $T | PXAT $U | PERSIST } ]"),
    (E, "SET $k $v IFEQ $v [ GET ] [ KEEPTTL ]"),
    (E, "SET $k $i IFEQ $i [ PX $u ]"),
    (E, "DELIFEQ $k { $v | $i }"),
    (E, "MSETEX 2 $k $v $k $i [ { NX | XX } ] [ { EX $t | PX $u | EXAT $T | PXAT $U | KEEPTTL } ]"),
    (E, "SETNX $k $v"),
    (E, "SETEX $k $t $v"),
    (E, "PSETEX $k $u $v"),
    (E, "MSET ( $k $v )+"),
    (E, "MSETNX ( $k $v )+"),
    (E, "MGET ( $k )+"),
    (E, "APPEND $k $v"),
    (E, "STRLEN $k"),
    (E, "GETRANGE $k $n $n"),
    (E, "SUBSTR $k $n $n"),
    (E, "SETRANGE $k $o $v"),
    (E, "{ INCR | DECR } $k"),
    (E, "{ INCRBY | DECRBY } $k $i"),
    (E, "INCRBYFLOAT $k $f"),
    (E, "LCS $k $k [ { LEN | IDX [ MINMATCHLEN $c ] [ WITHMATCHLEN ] } ]"),
];

/// Without OVERFLOW FAIL: the oracles lengthen a string even if every operation fails, which they tell neither WATCH nor
/// replicas.
const BITMAPS: &[(How, &str)] = &[
    (E, "SETBIT $k $B { 0 | 1 }"),
    (E, "GETBIT $k $B"),
    (E, "BITCOUNT $k [ $n $n [ { BYTE | BIT } ] ]"),
    (E, "BITPOS $k { 0 | 1 } [ $n [ $n [ { BYTE | BIT } ] ] ]"),
    (E, "BITOP { AND | OR | XOR } $k ( $k )+"),
    (E, "BITOP NOT $k $k"),
    (E, "BITFIELD $k ( { GET $F $B | SET $F $B $i | INCRBY $F $B $i | OVERFLOW { WRAP | SAT } } )+"),
    (E, "BITFIELD_RO $k ( GET $F $B )+"),
];

/// HyperLogLogs have keys that no other family touches: what becomes of a corrupt one differs.
const SKETCHES: &[(How, &str)] = &[
    (E, "PFADD $k ( $v )+"),
    (E, "PFADD $k ( $m )+"),
    (E, "PFADD $k"),
    (E, "PFCOUNT $k"),
    (E, "PFCOUNT ( $k )+"),
    (E, "PFMERGE $k ( $k )+"),
    (E, "PFDEBUG { ENCODING | DECODE } $k"),
    (E, "PFDEBUG TODENSE $k"),
    (E, "GET $k"),
    (E, "{ DEL | UNLINK } $k"),
    (E, "RENAME $k $k"),
];

/// Distances that are equal may be sorted in any order.
const GEO: &[(How, &str)] = &[
    (E, "GEOADD $k ( $x $y $m )+"),
    (E, "GEOADD $k ( $x $y $m )+"),
    (E, "GEOADD $k [ { NX | XX } ] [ CH ] ( $x $y $m )+"),
    (E, "{ GEOPOS | GEOHASH } $k ( $m )+"),
    (E, "GEODIST $k $m $m [ { m | km | ft | mi | x } ]"),
    (
        E,
        "GEOSEARCH $k FROMLONLAT $x $y BYRADIUS { 10 | 700 | 20000 } { m | km | mi } [ WITHCOORD ] [ WITHDIST ] [ WITHHASH ]",
    ),
    (
        E,
        "GEOSEARCH $k FROMLONLAT $x $y BYBOX { 1000 | 30 | 9000 } { 10 | 700 | 20000 } { m | km | mi } [ COUNT $c ANY ] [ WITHDIST ]",
    ),
    (
        U,
        "GEOSEARCH $k FROMMEMBER $m { BYRADIUS | BYBOX 2000 } { 10 | 700 | 20000 } { m | km | mi } { ASC | DESC } [ WITHDIST ] [ WITHCOORD ]",
    ),
    (
        E,
        "GEOSEARCHSTORE $k $k FROMLONLAT $x $y BYBOX { 1000 | 9000 } { 10 | 700 | 20000 } { m | km | mi } [ STOREDIST ]",
    ),
    (E, "GEORADIUS $k $x $y { 10 | 700 | 20000 } { m | km | mi } [ WITHDIST ] [ { STORE | STOREDIST } $k ]"),
    (E, "GEORADIUSBYMEMBER $k $m { 10 | 700 | 20000 } { m | km | mi } [ WITHDIST ] [ { STORE | STOREDIST } $k ]"),
    (E, "GEORADIUS_RO $k $x $y { 10 | 700 | 20000 } { m | km | mi } [ WITHCOORD ]"),
    (E, "GEORADIUSBYMEMBER_RO $k $m { 10 | 700 | 20000 } { m | km | mi } [ WITHHASH ]"),
    (E, "ZRANGE $k 0 -1"),
    (E, "ZREM $k ( $m )+"),
];

/// One group; ids are given, for those that the server makes are of its clock.
const STREAMS: &[(How, &str)] = &[
    (E, "XADD $k $I ( $m $v )+"),
    (E, "XADD $k $I $m $v"),
    (E, "XADD $k [ NOMKSTREAM ] [ { MAXLEN = $c | MINID = $J } ] $I $m $v"),
    (E, "XLEN $k"),
    (E, "XRANGE $k - +"),
    (E, "XRANGE $k $J $J [ COUNT $c ]"),
    (E, "XREVRANGE $k $J $J [ COUNT $c ]"),
    (E, "XDEL $k ( $J )+"),
    (E, "XTRIM $k { MAXLEN | MINID } = $J"),
    (E, "XREAD [ COUNT $c ] STREAMS $k $J"),
    (E, "XREAD COUNT 2 STREAMS $k $k $J $J"),
    (E, "XGROUP CREATE $k g $J [ MKSTREAM ]"),
    (E, "XGROUP CREATE $k g 0"),
    (E, "XGROUP SETID $k g $J"),
    (E, "XGROUP DESTROY $k { g | h }"),
    (E, "XGROUP { CREATECONSUMER | DELCONSUMER } $k g { c | d }"),
    (E, "XREADGROUP GROUP g { c | d } [ COUNT $c ] [ NOACK ] STREAMS $k >"),
    (E, "XREADGROUP GROUP g { c | d } COUNT 3 STREAMS $k >"),
    (E, "XREADGROUP GROUP g { c | d } [ COUNT $c ] STREAMS $k $J"),
    (E, "XACK $k g ( $J )+"),
    (E, "XPENDING $k g"),
    (E, "XCLAIM $k g { c | d } 0 ( $J )+ [ FORCE ] [ JUSTID ]"),
    (E, "XAUTOCLAIM $k g { c | d } 0 $J [ COUNT $c ] [ JUSTID ]"),
    (E, "XSETID $k $J"),
];

const HASHES: &[(How, &str)] = &[
    (E, "HSET $k ( $m $v )+"),
    (E, "HSET $k ( $m $i )+"),
    (E, "HMSET $k ( $m $v )+"),
    (E, "HSETNX $k $m $v"),
    (E, "HGET $k $m"),
    (E, "HMGET $k ( $m )+"),
    (U, "HGETALL $k"),
    (U, "{ HKEYS | HVALS } $k"),
    (E, "HDEL $k ( $m )+"),
    (E, "HLEN $k"),
    (E, "HEXISTS $k $m"),
    (E, "HSTRLEN $k $m"),
    (E, "HINCRBY $k $m $i"),
    (E, "HINCRBYFLOAT $k $m $f"),
    (S, "HRANDFIELD $k [ $n ]"),
    (S, "HRANDFIELD $k $n WITHVALUES"),
    (U, "HSCAN $k 0 COUNT 100000 [ MATCH $p ]"),
    (F, "HEXPIRE $k $t [ { NX | XX | LT | GT } ] FIELDS 1 $m"),
    (F, "HPEXPIRE $k $u [ { NX | XX } ] FIELDS 2 $m $m"),
    (F, "HEXPIREAT $k $T [ { NX | XX | GT | LT } ] FIELDS 2 $m $m"),
    (F, "HPEXPIREAT $k $U [ { NX | XX | GT | LT } ] FIELDS 3 $m $m $m"),
    (F, "{ HEXPIRE | HPEXPIRE } $k 0 [ { NX | XX | LT } ] FIELDS 1 $m"),
    (F, "HPERSIST $k FIELDS 2 $m $m"),
    (Near(3), "{ HTTL | HEXPIRETIME } $k FIELDS 3 $m $m $m"),
    (Near(3000), "{ HPTTL | HPEXPIRETIME } $k FIELDS 2 $m $m"),
    (F, "HGETEX $k [ { EX $t | PX $u | EXAT $T | PXAT $U | PERSIST } ] FIELDS 2 $m $m"),
    (F, "HSETEX $k [ { FNX | FXX } ] [ { EX $t | PX $u | EXAT $T | PXAT $U | KEEPTTL } ] FIELDS 2 $m $v $m $i"),
    (F, "HSETEX $k [ { NX | XX } ] [ KEEPTTL ] FIELDS 1 $m $v"),
    (F, "HGETDEL $k FIELDS 2 $m $m"),
];

const LISTS: &[(How, &str)] = &[
    (E, "{ LPUSH | RPUSH } $k ( $m )+"),
    (E, "{ LPUSH | RPUSH } $k ( $v )+"),
    (E, "{ LPUSHX | RPUSHX } $k ( $m )+"),
    (E, "{ LPOP | RPOP } $k [ $c ]"),
    (E, "LLEN $k"),
    (E, "LRANGE $k $n $n"),
    (E, "LRANGE $k 0 -1"),
    (E, "LINDEX $k $n"),
    (E, "LSET $k $n $v"),
    (E, "LINSERT $k { BEFORE | AFTER } $m $v"),
    (E, "LREM $k $n $m"),
    (E, "LTRIM $k $n $n"),
    (E, "LPOS $k $m [ RANK $n ] [ COUNT $c ] [ MAXLEN $c ]"),
    (E, "LMOVE $k $k { LEFT | RIGHT } { LEFT | RIGHT }"),
    (E, "RPOPLPUSH $k $k"),
    (E, "LMPOP 1 $k { LEFT | RIGHT } [ COUNT $c ]"),
    (E, "LMPOP 2 $k $k { LEFT | RIGHT } [ COUNT $c ]"),
    (E, "SORT $k [ LIMIT $n $n ] [ GET # ] [ { ASC | DESC } ] [ ALPHA ]"),
    (E, "SORT $k ALPHA [ LIMIT $n $n ] [ GET # ] STORE $k"),
    (E, "SORT $k BY $Ps* [ { ASC | DESC } ] [ GET # GET $Ps* ]"),
    (E, "SORT_RO $k [ LIMIT $n $n ] [ { ASC | DESC } ] [ ALPHA ]"),
];

const SETS: &[(How, &str)] = &[
    (E, "SADD $k ( $m )+"),
    (E, "SADD $k ( $i )+"),
    (E, "SREM $k ( $m )+"),
    (E, "SISMEMBER $k $m"),
    (E, "SMISMEMBER $k ( $m )+"),
    (E, "SCARD $k"),
    (U, "SMEMBERS $k"),
    (E, "SMOVE $k $k $m"),
    (U, "{ SINTER | SUNION | SDIFF } ( $k )+"),
    (E, "{ SINTERSTORE | SUNIONSTORE | SDIFFSTORE } $k ( $k )+"),
    (E, "SINTERCARD 2 $k $k [ LIMIT $c ]"),
    (S, "SRANDMEMBER $k [ $n ]"),
    (U, "SPOP $k 1000000"),
    (U, "SSCAN $k 0 COUNT 100000 [ MATCH $p ]"),
    (E, "SORT $k ALPHA [ { ASC | DESC } ] [ LIMIT $n $n ]"),
];

const ZSETS: &[(How, &str)] = &[
    (E, "ZADD $k ( $s $m )+"),
    (E, "ZADD $k [ { NX | XX } ] [ { GT | LT } ] [ CH ] ( $s $m )+"),
    (E, "ZADD $k [ { NX | XX } ] [ { GT | LT } ] INCR $s $m"),
    (E, "ZINCRBY $k $s $m"),
    (E, "ZREM $k ( $m )+"),
    (E, "ZCARD $k"),
    (E, "ZSCORE $k $m"),
    (E, "ZMSCORE $k ( $m )+"),
    (E, "{ ZRANK | ZREVRANK } $k $m"),
    (E, "{ ZRANK | ZREVRANK } $k $m WITHSCORE"),
    (E, "ZCOUNT $k $b $b"),
    (E, "ZRANGE $k $n $n [ REV ] [ WITHSCORES ]"),
    (E, "ZRANGE $k 0 -1 WITHSCORES"),
    (E, "ZRANGE $k $b $b BYSCORE [ REV ] [ LIMIT $r $n ] [ WITHSCORES ]"),
    (E, "ZREVRANGE $k $n $n [ WITHSCORES ]"),
    (E, "{ ZRANGEBYSCORE | ZREVRANGEBYSCORE } $k $b $b [ WITHSCORES ] [ LIMIT $r $n ]"),
    (E, "ZRANGESTORE $k $k { $n $n | $b $b BYSCORE } [ REV ] [ LIMIT $r $n ]"),
    (E, "ZREMRANGEBYRANK $k $n $n"),
    (E, "ZREMRANGEBYSCORE $k $b $b"),
    (E, "{ ZPOPMIN | ZPOPMAX } $k [ $c ]"),
    (E, "ZMPOP 2 $k $k { MIN | MAX } [ COUNT $c ]"),
    (E, "{ ZUNION | ZINTER } 2 $k $k [ WEIGHTS $f $f ] [ AGGREGATE { SUM | MIN | MAX } ] [ WITHSCORES ]"),
    (E, "{ ZUNIONSTORE | ZINTERSTORE } $k 2 $k $k [ WEIGHTS $f $f ] [ AGGREGATE { SUM | MIN | MAX } ]"),
    (E, "ZDIFF 2 $k $k [ WITHSCORES ]"),
    (E, "ZDIFFSTORE $k 2 $k $k"),
    (E, "ZINTERCARD 2 $k $k [ LIMIT $c ]"),
    (S, "ZRANDMEMBER $k [ $n ]"),
    (Scores, "ZSCAN $k 0 COUNT 100000 [ MATCH $p ]"),
    (E, "SORT $k ALPHA [ { ASC | DESC } ]"),
];

/// Lexical ranges have a meaning only where all scores are equal, so these have keys that no other family touches.
const LEXICAL: &[(How, &str)] = &[
    (E, "ZADD $k ( 0 $m )+"),
    (E, "ZREM $k ( $m )+"),
    (E, "ZLEXCOUNT $k $l $l"),
    (E, "ZRANGE $k $l $l BYLEX [ REV ] [ LIMIT $r $n ]"),
    (E, "ZRANGESTORE $k $k $l $l BYLEX [ REV ] [ LIMIT $r $n ]"),
    (E, "{ ZRANGEBYLEX | ZREVRANGEBYLEX } $k $l $l [ LIMIT $r $n ]"),
    (E, "ZREMRANGEBYLEX $k $l $l"),
];

const KEYSPACE: &[(How, &str)] = &[
    (E, "{ DEL | UNLINK } ( $k )+"),
    (E, "{ DEL | UNLINK } $k"),
    (E, "{ EXISTS | TOUCH } ( $k )+"),
    (E, "TYPE $k"),
    (E, "RENAME $k $k"),
    (E, "RENAMENX $k $k"),
    (E, "COPY $k $k [ DB $d ] [ REPLACE ]"),
    (E, "MOVE $k $d"),
    (S, "DUMP $k"),
    (F, "RESTORE $k { 0 | $u | -1 | x } $v [ REPLACE ] [ ABSTTL ] [ { IDLETIME | FREQ } $c ]"),
    (E, "SELECT $d"),
    (E, "ECHO $v"),
    (E, "PING [ $v ]"),
    (E, "NOSUCHCOMMAND $k $v"),
];

const EXPIRY: &[(How, &str)] = &[
    (E, "EXPIRE $k $t [ { NX | XX } ]"),
    (E, "PEXPIRE $k $u [ { NX | XX } ]"),
    (E, "EXPIREAT $k $T [ { NX | XX | GT | LT } ]"),
    (E, "PEXPIREAT $k $U [ { NX | XX | GT | LT } ]"),
    (E, "{ EXPIRE | PEXPIRE } $k { -1 | 0 }"),
    (E, "{ EXPIREAT | PEXPIREAT } $k 1"),
    (Near(3), "TTL $k"),
    (Near(3000), "PTTL $k"),
    (Near(3), "EXPIRETIME $k"),
    (Near(3000), "PEXPIRETIME $k"),
    (E, "PERSIST $k"),
];

const TRANSACTIONS: &[(How, &str)] = &[
    (E, "MULTI"),
    (E, "MULTI"),
    (E, "MULTI"),
    (E, "EXEC"),
    (E, "EXEC"),
    (E, "EXEC"),
    (E, "EXEC"),
    (E, "DISCARD"),
    (E, "WATCH ( $k )+"),
    (E, "UNWATCH"),
];

const SCRIPTING: &[(How, &str)] = &[
    (E, "EVAL $e { 1 | 1 | 1 | 0 | 2 } $k $v $i"),
    (E, "EVAL_RO $e 1 $k $v $i"),
    (E, "EVAL $E 0 $k $v"),
    (E, "EVALSHA 0123456789012345678901234567890123456789 0"),
];

const SCRIPTS: &[&str] = &[
    "return redis.call('GET', KEYS[1])",
    "return redis.call('SET', KEYS[1], ARGV[1])",
    "return redis.pcall('INCRBY', KEYS[1], ARGV[2])",
    "return {KEYS[1], ARGV[1], 1.9, -2.9, true, false, nil, 4}",
    "return {1, {2, {3, 'x'}}, {ok='fine'}, {err='ERR mine'}}",
    "return redis.error_reply('MY error')",
    "return redis.status_reply(ARGV[1])",
    "local t = redis.call('TYPE', KEYS[1]); return t['ok'] .. #KEYS",
    "redis.call('RPUSH', KEYS[1], ARGV[1]); return redis.call('LRANGE', KEYS[1], 0, 1)",
    "redis.call('HSET', KEYS[1], 'f', ARGV[1]); return redis.call('HGET', KEYS[1], 'f')",
    "redis.setresp(3); return redis.call('ZSCORE', KEYS[1], ARGV[1])",
    "return redis.call('ZADD', KEYS[1], 'INCR', 1.5, ARGV[1])",
    "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) else return 0 end",
    "return tonumber(ARGV[2]) + 1",
    "return cjson.encode({a=1, b={1,2,'x'}, c=ARGV[1]}):len()",
    "return cmsgpack.pack({1, 'two', 3.5, {4}})",
    "return redis.sha1hex(ARGV[1])",
    "return struct.pack('>I2i4', 7, -9)",
    "return bit.band(tonumber(ARGV[2]) % 65536, 255)",
    "local r = {} for i = 1, 5 do r[i] = redis.call('INCR', KEYS[1]) end return r",
    "return redis.call('NOSUCH')",
    "return redis.call('GET')",
    "error('boom')",
    "return undefined_variable",
    "syntax error here",
];

/// Scripts that do not declare their keys.
const UNDECLARED: &[&str] = &[
    "return redis.call('GET', ARGV[1])",
    "return redis.call('APPEND', ARGV[1], ARGV[2])",
    "for i = 1, 3 do redis.call('RPUSH', ARGV[1], i) end return redis.call('LLEN', ARGV[1])",
    "redis.call('DEL', ARGV[1]); return redis.call('EXISTS', ARGV[1])",
    "local r = redis.pcall('INCR', ARGV[1]) if type(r) == 'table' then return r.err else return r end",
    "redis.call('SET', ARGV[1], 'x'); return redis.call('LPUSH', ARGV[1], 'y')",
];

const GLOBAL: &[(How, &str)] = &[
    (E, "DBSIZE"),
    (E, "DBSIZE"),
    (U, "KEYS *"),
    (U, "KEYS $p"),
    (U, "SCAN 0 COUNT 1000000 [ MATCH $p ]"),
    (U, "SCAN 0 COUNT 1000000 TYPE { string | list | hash | set | zset | stream }"),
    (S, "RANDOMKEY"),
    (E, "SWAPDB $d $d"),
    (E, "FLUSHDB"),
    (E, "SCRIPT FLUSH"),
    (E, "SCRIPT EXISTS 0123456789012345678901234567890123456789"),
];

/// Letters of the key names: one for each type.
const LETTERS: &[char] = &['s', 'h', 'l', 't', 'z', 'q', 'g'];
/// Keys of each letter.
const KEYS_PER_LETTER: u64 = 5;

const VALUES: &[&str] =
    &["a", "hello", "", "10", "-3", "0.5", "3.0e3", "foo bar", "\u{e9}\u{0}\r\n", "9223372036854775807"];
const LONG: &str = "a value that is longer than the sixty-four bytes up to which small collections stay packed";
const INTEGERS: &[&str] =
    &["0", "1", "-1", "2", "5", "100", "-100", "32768", "2147483648", "1e3", "abc", "", " 1", "01"];
const EXTREMES: &[&str] = &["9223372036854775807", "-9223372036854775808", "9223372036854775808"];
const FLOATS: &[&str] =
    &["0", "1", "-1", "0.5", "1.5", "-2.25", "3", "10", "0.1", "1e3", "inf", "-inf", "nan", "x", ""];
const BOUNDS: &[&str] = &["-inf", "+inf", "0", "(1", "1", "2.5", "(5", "-3", "(-inf", "10", "x"];
const LEX_BOUNDS: &[&str] = &["-", "+", "[a", "(a", "[m3", "(m5", "[m1", "[", "x", "[z"];
const BIT_FIELDS: &[&str] = &["u8", "i8", "u1", "i5", "u63", "i64", "i16", "u64", "x"];
const PATTERNS: &[&str] = &["*", "s*", "?1", "[hl]?", "*[0-2]", "m\\*", "[^s]*", "m[1-3]", "", "**1**", "[", "[a-"];

/// Makes commands; the same seed, prefix and `shared` give the same commands.
#[derive(Debug)]
pub struct Generator {
    rng: Rng,
    /// Of the newest stream entry.
    last_id: u64,
    prefix: String,
    /// Each family's weight (its sum so far), letter and parsed templates.
    families: Vec<ParsedFamily>,
}

type ParsedFamily = (u64, char, Vec<(How, Vec<Node>)>);

#[derive(Debug)]
enum Node {
    Literal(String),
    Argument(char),
    /// `$P…`: the prefix, then this text.
    Prefixed(String),
    Optional(Vec<Node>),
    Choice(Vec<Vec<Node>>),
    Repeat(Vec<Node>),
}

impl Generator {
    /// Commands on keys that start with `prefix`; with `alone`, also those that see the whole keyspace.
    pub fn new(seed: u64, prefix: &str, alone: bool) -> Generator {
        let mut sum = 0;
        let families = FAMILIES.iter().filter(|family| alone || !family.global).map(|family| {
            sum += family.weight;
            let parse = |(how, text): &(How, &str)| (*how, parse(&mut text.split(' ').peekable(), &[]));
            (sum, family.letter, family.templates.iter().map(parse).collect())
        });
        Generator { rng: Rng::new(seed), last_id: 1, prefix: prefix.into(), families: families.collect() }
    }

    /// A random number below `limit`, from the same source.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.rng.below(limit)
    }

    /// Two keys that hold values of one type, if they hold any; perhaps the same one twice.
    pub fn two_keys(&mut self) -> (Vec<u8>, Vec<u8>) {
        let letter = *self.rng.pick(LETTERS);
        (self.argument('k', letter), self.argument('k', letter))
    }

    /// The next command.
    pub fn command(&mut self) -> Command {
        let families = std::mem::take(&mut self.families);
        let total = families.last().map_or(1, |family| family.0);
        let at = self.rng.below(total);
        let (_, letter, templates) = families.iter().find(|family| at < family.0).unwrap_or(&families[0]);
        let (how, nodes) = self.rng.pick(templates);
        let mut args = Vec::new();
        self.expand(nodes, *letter, &mut args);
        let how = *how;
        self.families = families;
        // Now and then one argument too few or too many. Not where what is left would change data at random.
        if args[0] != b"SPOP" && self.rng.one_in(150) {
            if args.len() > 1 && self.rng.one_in(2) {
                args.pop();
            } else {
                args.push(args[args.len() - 1].clone());
            }
        }
        Command { args, how }
    }

    fn expand(&mut self, nodes: &[Node], letter: char, args: &mut Vec<Vec<u8>>) {
        for node in nodes {
            match node {
                Node::Literal(text) => args.push(text.clone().into_bytes()),
                Node::Prefixed(text) => args.push(format!("{}{text}", self.prefix).into_bytes()),
                Node::Argument(kind) => {
                    let argument = self.argument(*kind, letter);
                    args.push(argument);
                }
                Node::Optional(inner) if self.rng.one_in(3) => self.expand(inner, letter, args),
                Node::Optional(_) => {}
                Node::Choice(choices) => {
                    let inner = self.rng.pick(choices);
                    self.expand(inner, letter, args);
                }
                Node::Repeat(inner) => {
                    // A few long ones, so that collections outgrow their packed form.
                    let times = if self.rng.one_in(400) { 150 } else { 1 + self.rng.below(3) };
                    (0..times).for_each(|_| self.expand(inner, letter, args));
                }
            }
        }
    }

    /// One argument: `k` key, `v` value, `i` integer, `n` index, `c` count, `r` rank (Valkey and Redis disagree on negative ones), `f` float, `m` member, `s` score,
    /// `b` score bound, `l` lexical bound, `p` pattern, `d` database, `o` offset, `e` script, `E` script with undeclared keys, `B` bit offset, `F` integer of
    /// BITFIELD, `x` longitude, `y` latitude, `I` new id of a stream's entry, `J` id that may be there; times far away:
    /// `t` s from now, `u` ms from now, `T` and `U` since 1970.
    fn argument(&mut self, kind: char, letter: char) -> Vec<u8> {
        let rng = &mut self.rng;
        let text = match kind {
            'k' => {
                let any = letter == '*' || !matches!(letter, 'x' | 'y') && rng.one_in(12);
                let letter = if any { *rng.pick(LETTERS) } else { letter };
                format!("{}{letter}{}", self.prefix, rng.below(KEYS_PER_LETTER))
            }
            'v' => match rng.below(20) {
                0 => LONG.into(),
                1..8 => (*rng.pick(VALUES)).into(),
                _ => format!("v{}", rng.below(1000)),
            },
            'i' => match rng.below(40) {
                0 => (*rng.pick(EXTREMES)).into(),
                1..5 => (*rng.pick(INTEGERS)).into(),
                _ => (rng.below(2000) as i64 - 500).to_string(),
            },
            'n' => (rng.below(16) as i64 - 4).to_string(),
            'c' if rng.one_in(30) => "-1".into(),
            'c' => rng.below(6).to_string(),
            'r' => rng.below(6).to_string(),
            'o' if rng.one_in(40) => (*rng.pick(&["-1", "536870912", "x"])).into(),
            'o' => rng.below(60).to_string(),
            'f' => (*rng.pick(FLOATS)).into(),
            'm' if rng.one_in(50) => LONG.into(),
            'm' if rng.one_in(5) => rng.below(300).to_string(),
            'm' => format!("m{}", rng.below(12)),
            's' if rng.one_in(4) => (*rng.pick(FLOATS)).into(),
            's' => (rng.below(20) as i64 - 5).to_string(),
            'b' => (*rng.pick(BOUNDS)).into(),
            'l' => (*rng.pick(LEX_BOUNDS)).into(),
            'p' => format!("{}{}", if rng.one_in(2) { self.prefix.as_str() } else { "" }, rng.pick(PATTERNS)),
            'd' if rng.one_in(60) => (*rng.pick(&["16", "-1", "x"])).into(),
            'd' => rng.below(3).to_string(),
            'e' => (*rng.pick(SCRIPTS)).into(),
            'E' => (*rng.pick(UNDECLARED)).into(),
            'B' if rng.one_in(30) => (*rng.pick(&["-1", "4294967296", "x", "#1"])).into(),
            'B' => rng.below(150).to_string(),
            'F' => (*rng.pick(BIT_FIELDS)).into(),
            'I' if rng.one_in(20) => (*rng.pick(&["0-0", "1", "x", "99999999999999999999-1"])).into(),
            'I' => {
                self.last_id += rng.below(3);
                format!("{}-{}", self.last_id, rng.below(3))
            }
            'J' if rng.one_in(8) => (*rng.pick(&["-", "0", "0-1", "x", "(5"])).into(),
            'J' => format!("{}-{}", self.last_id.saturating_sub(rng.below(30)), rng.below(3)),
            'x' if rng.one_in(60) => (*rng.pick(&["181", "x", "180", "-180"])).into(),
            'x' => (rng.below(36_000) as f64 / 100.0 - 180.0).to_string(),
            'y' if rng.one_in(60) => (*rng.pick(&["86", "x", "85.05112878", "-85.05112878"])).into(),
            'y' => (rng.below(17_000) as f64 / 100.0 - 85.0).to_string(),
            't' => ((1 + rng.below(1000)) * 1000).to_string(),
            'u' => ((1 + rng.below(1000)) * 1_000_000).to_string(),
            'T' => (10_000_000_000 + rng.below(1_000_000)).to_string(),
            _ => (10_000_000_000_000 + rng.below(1_000_000_000)).to_string(),
        };
        text.into_bytes()
    }
}

fn parse<'a>(words: &mut std::iter::Peekable<impl Iterator<Item = &'a str>>, ends: &[&str]) -> Vec<Node> {
    let mut nodes = Vec::new();
    while let Some(word) = words.next_if(|word| !ends.contains(word)) {
        nodes.push(match word {
            "[" => {
                let inner = parse(words, &["]"]);
                words.next();
                Node::Optional(inner)
            }
            "(" => {
                let inner = parse(words, &[")+"]);
                words.next();
                Node::Repeat(inner)
            }
            "{" => {
                let mut choices = vec![parse(words, &["|", "}"])];
                while words.next() == Some("|") {
                    choices.push(parse(words, &["|", "}"]));
                }
                Node::Choice(choices)
            }
            _ => match word.strip_prefix('$') {
                Some(rest) if rest.len() == 1 => Node::Argument(rest.as_bytes()[0] as char),
                Some(rest) => Node::Prefixed(rest.trim_start_matches('P').into()),
                None => Node::Literal(word.into()),
            },
        });
    }
    nodes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_commands_and_no_template_is_left_unexpanded() {
        let mut one = Generator::new(7, "p:", true);
        let mut two = Generator::new(7, "p:", true);
        for _ in 0..20_000 {
            let command = one.command();
            assert_eq!(command.args, two.command().args);
            let marks: &[&[u8]] = &[b"{", b"}", b"(", b")+", b"|", b"]", b"$k"];
            assert!(command.args.iter().all(|arg| !marks.contains(&arg.as_slice())), "{:?}", command.args);
        }
    }
}
