//! Geo commands. The replies are those of Redis and Valkey.

use kelda_engine::testing::Console;

/// A console with two towns.
fn sicily() -> Console {
    let mut console = Console::default();
    console.check("GEOADD g 13.361389 38.115556 Palermo 15.087269 37.502669 Catania => :2");
    console
}

#[test]
fn positions_are_added_as_by_zadd() {
    sicily().check(
        r#"
         GEOADD g NX 13 38 Palermo => :0
         GEOADD g XX CH 13.361389 38.115556 Palermo 15.087269 37.502669 Catania => :0
         GEOADD g CH 13.361389 38.115556 Palermo 15.1 37.5 Catania => :1
         GEOADD g XX 1 1 new => :0
         GEOADD none XX 1 1 new => :0
         EXISTS none => :0
         ZSCORE g Palermo => $16 3479099956230698
         GEOADD g NX XX 1 1 a => -ERR syntax error
         GEOADD g NX 1 1 => -ERR syntax error
         GEOADD g NX CH CH => -ERR syntax error
         GEOADD g 1 1 => -ERR wrong number of arguments for 'geoadd' command
         GEOADD g 1 x a => -ERR value is not a valid float
         GEOADD g nan 1 a => -ERR value is not a valid float
         GEOADD g 181 1 a => -ERR invalid longitude,latitude pair 181.000000,1.000000
         GEOADD g 1 86 a => -ERR invalid longitude,latitude pair 1.000000,86.000000
         GEOADD g 1 1 a 200 1 b => -ERR invalid longitude,latitude pair 200.000000,1.000000
         ZCARD g => :2
         GEOADD g INCR 1 1 a => -ERR syntax error
         GEOADD g GT 1 1 a => -ERR syntax error
         GEOADD g 1 1 a 2 => -ERR syntax error
         SET s x => +OK
         GEOADD s 1 1 a => -WRONGTYPE Operation against a key holding the wrong kind of value
         GEOADD s 1 91 a => -ERR invalid longitude,latitude pair 1.000000,91.000000
        "#,
    );
}

#[test]
fn members_are_told_of() {
    sicily().check(
        r#"
         GEODIST g Palermo Catania => $11 166274.1516
         GEODIST g Palermo Catania KM => $8 166.2742
         GEODIST g Palermo Catania mi => $8 103.3182
         GEODIST g Palermo Catania ft => $11 545518.8700
         GEODIST g Palermo Palermo => $6 0.0000
         GEODIST g Palermo None => $-1
         GEODIST none a b => $-1
         GEODIST none a b x => -ERR unsupported unit provided. please use M, KM, FT, MI
         GEODIST g Palermo Catania m m => -ERR syntax error
         GEOHASH g Palermo Catania None => *3 $11 sqc8b49rny0 $11 sqdtr74hyu0 $-1
         GEOHASH g => *0
         GEOHASH none a => *1 $-1
         GEOPOS g Palermo None => *2 *2 $20 13.36138933897018433 $20 38.11555639549629859 *-1
         GEOPOS g => *0
         GEOPOS none a b => *2 *-1 *-1
         SET s x => +OK
         GEODIST s a b => -WRONGTYPE Operation against a key holding the wrong kind of value
         GEOHASH s a => -WRONGTYPE Operation against a key holding the wrong kind of value
         GEOPOS s a => -WRONGTYPE Operation against a key holding the wrong kind of value
        "#,
    );
}

#[test]
fn scores_that_are_no_positions() {
    Console::default().check(
        r#"
         ZADD z 0 a -1 b 1e300 c 4503599627370496 d 4503599627370495 e 1.5 f inf g -inf h => :8
         GEOPOS z a => *1 *2 $22 -179.99999731779098511 $21 -85.05112751263942528
         GEOPOS z b => *1 *2 $3 180 $19 85.0511287799999991
         GEOPOS z c => *1 *2 $22 -179.99999731779098511 $21 -85.05112751263942528
         GEOPOS z d => *1 *2 $22 -179.99999731779098511 $19 85.0511287799999991
         GEOPOS z f => *1 *2 $22 -179.99999731779098511 $21 -85.05112497791824921
         GEOPOS z g => *1 *2 $22 -179.99999731779098511 $21 -85.05112751263942528
         GEOPOS z h => *1 *2 $3 180 $21 -85.05112751263942528
         GEOHASH z a b e f => *4 $11 00bh0hbj200 $11 bp05b5048p0 $11 zzpgzgpfxz0 $11 00bh0hbj210
         GEODIST z a e => $13 18919844.4481
         GEOSEARCH z FROMLONLAT 0 0 BYRADIUS 40000 km WITHHASH => *3 *2 $1 e :4503599627370495 *2 $1 a :0 *2 $1 f :1
        "#,
    );
}

#[test]
fn circles_and_boxes() {
    sicily().check(
        r#"
         GEOSEARCH g FROMLONLAT 15 37 BYRADIUS 200 km => *2 $7 Palermo $7 Catania
         GEOSEARCH g FROMLONLAT 15 37 BYRADIUS 200 km ASC => *2 $7 Catania $7 Palermo
         GEOSEARCH g FROMLONLAT 15 37 BYRADIUS 200 km DESC => *2 $7 Palermo $7 Catania
         GEOSEARCH g FROMLONLAT 15 37 BYRADIUS 200 km COUNT 1 => *1 $7 Catania
         GEOSEARCH g FROMLONLAT 15 37 BYRADIUS 200 km COUNT 1 ANY => *1 $7 Palermo
         GEOSEARCH g FROMLONLAT 15 37 BYRADIUS 200 km COUNT 1 DESC => *1 $7 Palermo
         GEOSEARCH g FROMMEMBER Palermo BYRADIUS 200 km WITHDIST => *2 *2 $7 Palermo $6 0.0000 *2 $7 Catania $8 166.2742
         GEOSEARCH g FROMMEMBER Palermo BYRADIUS 0 km => *1 $7 Palermo
         GEOSEARCH g FROMMEMBER Palermo BYRADIUS inf km => *2 $7 Palermo $7 Catania
         GEOSEARCH g FROMLONLAT 15 37 BYBOX 400 400 km ASC WITHDIST => *2 *2 $7 Catania $7 56.4413 *2 $7 Palermo $8 190.4424
         GEOSEARCH g FROMLONLAT 15 37 BYBOX 400 200 km ASC => *1 $7 Catania
         GEOSEARCH g FROMLONLAT 0 0 BYBOX 1 1 km ASC => *0
         GEOSEARCH none FROMMEMBER None BYRADIUS 200 km => *0
         GEORADIUS g 15 37 200 km WITHDIST WITHHASH ASC COUNT 1 => *1 *3 $7 Catania $7 56.4413 :3479447370796909
         GEORADIUS_RO g 15 37 200 km DESC => *2 $7 Palermo $7 Catania
         GEORADIUSBYMEMBER g Palermo 200 km => *2 $7 Palermo $7 Catania
         GEORADIUSBYMEMBER_RO g Palermo 100 mi => *1 $7 Palermo
         GEORADIUSBYMEMBER none None x km => *0
        "#,
    );
    let mut console = sicily();
    console.ask("a", "HELLO 3");
    console.check(
        r#"
         GEOSEARCH g FROMLONLAT 15 37 BYBOX 400 400 km COUNT 1 WITHCOORD WITHDIST WITHHASH => *1 *4 $7 Catania $7 56.4413 :3479447370796909 *2 ,15.08726745843887329 ,37.50266842333162032
         GEOPOS g None => *1 _
         GEODIST g Palermo None => _
         GEODIST g Palermo Catania => $11 166274.1516
        "#,
    );
}

#[test]
fn polygons() {
    sicily().check(
        r#"
         GEOADD g 12 37 w 14 37.9 mid 20 40 out => :3
         GEOSEARCH g BYPOLYGON 4 13 37 16 37 16 39 13 39 => *3 $7 Palermo $3 mid $7 Catania
         GEOSEARCH g BYPOLYGON 4 13 37 16 37 16 39 13 39 WITHDIST ASC => *3 *2 $3 mid $10 45511.2740 *2 $7 Catania $10 76454.0837 *2 $7 Palermo $11 100405.5658
         GEOSEARCH g BYPOLYGON 5 13 37 16 37 16 39 13 39 13 38 WITHDIST COUNT 1 => *1 *2 $3 mid $10 21324.1021
         GEOSEARCH g BYPOLYGON 3 13 37 16 37 16 39 => *1 $7 Catania
         GEOSEARCHSTORE d g BYPOLYGON 3 13 37 16 37 16 39 STOREDIST => :1
         GEOSEARCH none BYPOLYGON 3 13 37 16 37 16 39 => *0
         GEOSEARCH g FROMLONLAT 14 38 BYPOLYGON 3 13 37 16 37 16 39 => -ERR syntax error
         GEOSEARCH g BYPOLYGON 3 13 37 16 37 16 39 FROMMEMBER mid => -ERR syntax error
         GEOSEARCH g BYPOLYGON 3 13 37 16 37 16 39 BYRADIUS 1 km => -ERR syntax error
         GEOSEARCH g BYBOX 1 1 km BYPOLYGON 3 13 37 16 37 16 39 => -ERR syntax error
         GEOSEARCH g BYPOLYGON 3 13 37 16 37 16 39 km => -ERR syntax error
         GEOSEARCH g BYPOLYGON 2 13 37 16 37 => -ERR GEOSEARCH BYPOLYGON must have at least 3 vertices
         GEOSEARCH g BYPOLYGON 3 13 37 16 37 16 => -ERR GEOSEARCH BYPOLYGON must have at least 3 vertices
         GEOSEARCH g BYPOLYGON -1 13 37 16 37 16 39 => -ERR GEOSEARCH BYPOLYGON must have at least 3 vertices
         GEOSEARCH g BYPOLYGON 2147483648 13 37 16 37 16 39 => -ERR invalid number of vertices
         GEOSEARCH g BYPOLYGON x 13 37 16 37 16 39 => -ERR invalid number of vertices
         GEOSEARCH g BYPOLYGON 3 13 37 16 37 16 x => -ERR value is not a valid float
         GEOSEARCH g BYPOLYGON 3 13 37 16 37 16 89 => -ERR invalid longitude,latitude pair 16.000000,89.000000
        "#,
    );
}

#[test]
fn results_are_stored() {
    sicily().check(
        r#"
         GEOSEARCHSTORE d g FROMMEMBER Palermo BYRADIUS 200 km => :2
         ZRANGE d 0 -1 WITHSCORES => *4 $7 Palermo $16 3479099956230698 $7 Catania $16 3479447370796909
         GEOSEARCHSTORE d g FROMMEMBER Palermo BYRADIUS 200 km STOREDIST => :2
         ZRANGE d 0 -1 WITHSCORES => *4 $7 Palermo $1 0 $7 Catania $18 166.27415156960032
         GEOSEARCHSTORE d g FROMMEMBER Palermo BYRADIUS 200 km WITHDIST => -ERR GEOSEARCHSTORE is not compatible with WITHDIST, WITHHASH and WITHCOORD options
         GEOSEARCHSTORE d none FROMMEMBER Palermo BYRADIUS 200 km => :0
         EXISTS d => :0
         SET s x => +OK
         GEOSEARCHSTORE d s FROMLONLAT 0 0 BYRADIUS 1 m => -WRONGTYPE Operation against a key holding the wrong kind of value
         GEOSEARCHSTORE s g FROMMEMBER Palermo BYRADIUS 1 m => :1
         TYPE s => +zset
         GEORADIUS g 15 37 200 km STORE d => :2
         GEORADIUS g 15 37 200 km STOREDIST d COUNT 1 => :1
         ZRANGE d 0 -1 WITHSCORES => *2 $7 Catania $16 56.4412578701582
         GEORADIUS g 15 37 200 km STORE d STOREDIST e => :2
         GEORADIUSBYMEMBER g Palermo 200 km STORE STOREDIST STOREDIST f => :2
         EXISTS d e f STOREDIST => :3
         GEORADIUS g 15 37 200 km STORE d WITHDIST => -ERR STORE option in GEORADIUS is not compatible with WITHDIST, WITHHASH and WITHCOORD options
         GEORADIUS g 15 37 200 km STORE => -ERR syntax error
         GEORADIUS none 15 37 200 km STORE d => :0
         EXISTS d => :0
         GEORADIUS_RO g 15 37 200 km STORE d => -ERR syntax error
         GEORADIUSBYMEMBER_RO g Palermo 200 km STOREDIST d => -ERR syntax error
         COMMAND GETKEYS GEORADIUS g 15 37 200 km STORE d => *2 $1 g $1 d
         COMMAND GETKEYS GEORADIUS g 15 37 200 km STORE d STOREDIST e => *2 $1 g $1 e
         COMMAND GETKEYS GEORADIUS g STORE x 200 km => *1 $1 g
         COMMAND GETKEYS GEORADIUSBYMEMBER g m 200 km STOREDIST d => *2 $1 g $1 d
         COMMAND GETKEYSANDFLAGS GEORADIUS g 15 37 200 km STORE d => *2 *2 $1 g *2 +RO +access *2 $1 d *2 +OW +update
         COMMAND GETKEYS GEOSEARCHSTORE d g FROMMEMBER Palermo BYRADIUS 200 km => *2 $1 d $1 g
        "#,
    );
}

#[test]
fn options_that_make_no_sense() {
    sicily().check(
        r#"
         GEOSEARCH g FROMLONLAT 15 37 BYRADIUS 200 km ANY => -ERR the ANY argument requires COUNT argument
         GEOSEARCH g FROMLONLAT 15 37 BYRADIUS 200 km COUNT 0 => -ERR COUNT must be > 0
         GEOSEARCH g FROMLONLAT 15 37 BYRADIUS 200 km COUNT x => -ERR value is not an integer or out of range
         GEOSEARCH g FROMLONLAT 15 37 BYRADIUS 200 km COUNT => -ERR syntax error
         GEOSEARCH g FROMMEMBER None BYRADIUS 200 km => -ERR could not decode requested zset member
         GEOSEARCH none FROMMEMBER None BYRADIUS 200 km COUNT 0 => -ERR COUNT must be > 0
         GEOSEARCH g FROMMEMBER Palermo FROMLONLAT 1 1 BYRADIUS 200 km => -ERR syntax error
         GEOSEARCH g FROMLONLAT 1 1 BYRADIUS 200 km BYBOX 1 1 km => -ERR syntax error
         GEOSEARCH g FROMMEMBER Palermo FROMMEMBER Catania BYRADIUS 1 km => *1 $7 Catania
         GEOSEARCH g BYRADIUS 200 km ASC COUNT 1 => -ERR exactly one of FROMMEMBER or FROMLONLAT can be specified for GEOSEARCH
         geosearch g FROMMEMBER Palermo ASC COUNT 1 => -ERR exactly one of BYRADIUS and BYBOX can be specified for geosearch
         GEOSEARCH g FROMMEMBER Palermo BYRADIUS 200 x => -ERR unsupported unit provided. please use M, KM, FT, MI
         GEOSEARCH g FROMMEMBER Palermo BYRADIUS x km => -ERR need numeric radius
         GEOSEARCH g FROMMEMBER Palermo BYRADIUS -1 km => -ERR radius cannot be negative
         GEOSEARCH g FROMMEMBER Palermo BYBOX x 1 km => -ERR need numeric width
         GEOSEARCH g FROMMEMBER Palermo BYBOX 1 x km => -ERR need numeric height
         GEOSEARCH g FROMMEMBER Palermo BYBOX 1 -1 km => -ERR height or width cannot be negative
         GEOSEARCH g FROMMEMBER Palermo BYBOX 1 1 x => -ERR unsupported unit provided. please use M, KM, FT, MI
         GEOSEARCH g FROMLONLAT 300 1 BYBOX 1 1 km => -ERR invalid longitude,latitude pair 300.000000,1.000000
         GEOSEARCH g FROMLONLAT x 1 BYBOX 1 1 km => -ERR value is not a valid float
         GEOSEARCH g FROMMEMBER Palermo BYRADIUS 200 km STORE x => -ERR syntax error
         GEOSEARCH g FROMMEMBER Palermo BYRADIUS 200 km STOREDIST => -ERR syntax error
         GEOSEARCH g FROMMEMBER Palermo BYRADIUS 200 km WITHFOO => -ERR syntax error
         GEOSEARCH g FROMLONLAT 1 1 => -ERR wrong number of arguments for 'geosearch' command
         GEORADIUS g 300 37 x km => -ERR invalid longitude,latitude pair 300.000000,37.000000
         GEORADIUS none 300 37 x km => -ERR invalid longitude,latitude pair 300.000000,37.000000
         GEORADIUSBYMEMBER g None x km => -ERR could not decode requested zset member
         GEORADIUSBYMEMBER g Palermo -2 km => -ERR radius cannot be negative
         GEORADIUSBYMEMBER g Palermo x km => -ERR need numeric radius
         SET s x => +OK
         GEORADIUS s 300 37 x km => -WRONGTYPE Operation against a key holding the wrong kind of value
         GEOSEARCH s FROMLONLAT 300 1 BYRADIUS 1 m => -WRONGTYPE Operation against a key holding the wrong kind of value
        "#,
    );
}

#[test]
fn events() {
    let mut console = sicily();
    console.ask("a", "CONFIG SET notify-keyspace-events KEA");
    console.ask(
        "b",
        "SUBSCRIBE __keyevent@0__:geosearchstore __keyevent@0__:georadiusstore __keyevent@0__:zadd __keyevent@0__:del",
    );
    console.raw("b");
    console.ask("a", "GEOADD g 1 1 x");
    assert!(String::from_utf8_lossy(&console.raw("b")).contains(":zadd"));
    console.ask("a", "GEOSEARCHSTORE d g FROMLONLAT 1 1 BYRADIUS 1 km");
    assert!(String::from_utf8_lossy(&console.raw("b")).contains(":geosearchstore"));
    console.ask("a", "GEORADIUS g 1 1 1 km STORE d");
    assert!(String::from_utf8_lossy(&console.raw("b")).contains(":georadiusstore"));
    console.ask("a", "GEORADIUS g 50 50 1 km STORE d");
    assert!(String::from_utf8_lossy(&console.raw("b")).contains(":del"));
}
