//! Positions on earth: a sorted set whose scores are geohashes. Here the table and what concerns single members.

mod geohash;
mod search;

use super::zset;
use crate::args::Args;
use crate::command::{Access, Command, Find, Flags, Group, Keys, Reply, Run};
use crate::error::{Error, Result};
use geohash::Point;
use kelda_store::txn::{Txn, View};
use kelda_store::zset::ZSet;

const BASE: Command = Command { group: Group::Geo, ..Command::BASE };

const SEARCH: &str = "O(N+log(M)): N the members near the shape, M those inside";

/// The key after an option.
const fn option(word: &'static str, from: i32) -> Keys {
    let find = Find::Range { last: 0, step: 1, limit: 0 };
    Keys { find, ..Keys::keyword(word, from, 0).with(Access::OW.and(Access::UPDATE)).variable() }
}

/// The family.
pub static COMMANDS: &[Command] = &[
    Command {
        name: "GEOADD",
        arity: -5,
        keys: &[Keys::at(1).update()],
        flags: Flags::DENYOOM,
        since: "3.2.0",
        syntax: "key condition:[NX | XX] [change:CH] longitude latitude member [longitude latitude member ...]",
        summary: "Puts members at positions.",
        complexity: "O(log(N)) for each member",
        run: Run::Write(geoadd),
        ..BASE
    },
    Command {
        name: "GEODIST",
        arity: -4,
        keys: &[Keys::at(1).read()],
        since: "3.2.0",
        syntax: "key member1 member2 unit:[M | KM | FT | MI]",
        summary: "Tells how far two members are from each other.",
        run: Run::Read(geodist),
        ..BASE
    },
    Command {
        name: "GEOHASH",
        arity: -2,
        keys: &[Keys::at(1).read()],
        since: "3.2.0",
        syntax: "key [member ...]",
        summary: "Returns the positions of members as geohash texts.",
        complexity: "O(1) for each member",
        run: Run::Read(geohash),
        ..BASE
    },
    Command {
        name: "GEOPOS",
        arity: -2,
        keys: &[Keys::at(1).read()],
        since: "3.2.0",
        syntax: "key [member ...]",
        summary: "Returns the positions of members as longitude and latitude.",
        complexity: "O(1) for each member",
        run: Run::Read(geopos),
        ..BASE
    },
    Command {
        name: "GEOSEARCH",
        arity: -7,
        keys: &[Keys::at(1).read()],
        since: "6.2.0",
        syntax: "key from:[FROMMEMBER member | fromlonlat:(FROMLONLAT longitude latitude)] \
                 by:<circle:((BYRADIUS radius) unit:<M | KM | FT | MI>) | box:((BYBOX width) height unit:<M | KM | FT | MI>) \
                 | polygon:((BYPOLYGON num-vertices/integer) vertices:(longitude latitude) ...)> \
                 order:[ASC | DESC] count-block:[(COUNT count) [ANY]] [WITHCOORD] [WITHDIST] [WITHHASH]",
        summary: "Finds the members inside a circle, box or polygon.",
        complexity: SEARCH,
        run: Run::Read(search::geosearch),
        ..BASE
    },
    Command {
        name: "GEOSEARCHSTORE",
        arity: -8,
        keys: &[Keys::at(1).overwrite(), Keys::at(2).read()],
        flags: Flags::DENYOOM,
        since: "6.2.0",
        syntax: "destination source from:[FROMMEMBER member | fromlonlat:(FROMLONLAT longitude latitude)] \
                 by:<circle:((BYRADIUS radius) unit:<M | KM | FT | MI>) | box:((BYBOX width) height unit:<M | KM | FT | MI>) \
                 | polygon:((BYPOLYGON num-vertices/integer) vertices:(longitude latitude) ...)> \
                 order:[ASC | DESC] count-block:[(COUNT count) [ANY]] [STOREDIST]",
        summary: "Stores the members inside a circle, box or polygon at another key.",
        complexity: SEARCH,
        run: Run::Write(search::geosearchstore),
        ..BASE
    },
    Command {
        name: "GEORADIUS",
        arity: -6,
        keys: &[Keys::at(1).read(), option("STORE", 6), option("STOREDIST", 6)],
        find_keys: Some(search::georadius_keys),
        flags: Flags::DENYOOM,
        since: "3.2.0",
        syntax: "key longitude latitude radius unit:<M | KM | FT | MI> [WITHCOORD] [WITHDIST] [WITHHASH] \
                 count-block:[(COUNT count) [ANY]] order:[ASC | DESC] \
                 store:[STORE storekey:key#1 | STOREDIST storedistkey:key#2]",
        summary: "Finds, or stores, the members within a distance of a position.",
        complexity: SEARCH,
        run: Run::Write(search::georadius),
        ..BASE
    },
    Command {
        name: "GEORADIUSBYMEMBER",
        arity: -5,
        keys: &[Keys::at(1).read(), option("STORE", 5), option("STOREDIST", 5)],
        find_keys: Some(search::georadiusbymember_keys),
        flags: Flags::DENYOOM,
        since: "3.2.0",
        syntax: "key member radius unit:<M | KM | FT | MI> [WITHCOORD] [WITHDIST] [WITHHASH] \
                 count-block:[(COUNT count) [ANY]] order:[ASC | DESC] \
                 store:[STORE storekey:key#1 | STOREDIST storedistkey:key#2]",
        summary: "Finds, or stores, the members within a distance of a member.",
        complexity: SEARCH,
        run: Run::Write(search::georadiusbymember),
        ..BASE
    },
    Command {
        name: "GEORADIUS_RO",
        arity: -6,
        keys: &[Keys::at(1).read()],
        since: "3.2.10",
        syntax: "key longitude latitude radius unit:<M | KM | FT | MI> [WITHCOORD] [WITHDIST] [WITHHASH] \
                 count-block:[(COUNT count) [ANY]] order:[ASC | DESC]",
        summary: "Finds the members within a distance of a position.",
        complexity: SEARCH,
        run: Run::Read(search::georadius_ro),
        ..BASE
    },
    Command {
        name: "GEORADIUSBYMEMBER_RO",
        arity: -5,
        keys: &[Keys::at(1).read()],
        since: "3.2.10",
        syntax: "key member radius unit:<M | KM | FT | MI> [WITHCOORD] [WITHDIST] [WITHHASH] \
                 count-block:[(COUNT count) [ANY]] order:[ASC | DESC]",
        summary: "Finds the members within a distance of a member.",
        complexity: SEARCH,
        run: Run::Read(search::georadiusbymember_ro),
        ..BASE
    },
];

/// The position that the words at `at` and behind it name.
fn parse_point(args: &Args, at: usize) -> Result<Point> {
    let point = Point { longitude: args.float(at)?, latitude: args.float(at + 1)? };
    if point.is_on_map() {
        return Ok(point);
    }
    let Point { longitude, latitude } = point;
    Err(Error::owned(format!("ERR invalid longitude,latitude pair {longitude:.6},{latitude:.6}")))
}

/// The metres of a unit.
fn parse_unit(word: &[u8]) -> Result<f64> {
    const UNITS: [(&[u8], f64); 4] = [(b"m", 1.0), (b"km", 1000.0), (b"ft", 0.3048), (b"mi", 1609.34)];
    let unit = UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(word));
    unit.map(|unit| unit.1).ok_or(Error::text("ERR unsupported unit provided. please use M, KM, FT, MI"))
}

/// Where a member is.
fn position(zset: Option<&ZSet>, member: &[u8]) -> Option<Point> {
    zset?.score(member).map(Point::of_score)
}

/// Writes a distance, with four digits after the point.
fn write_distance(reply: &mut Reply, distance: f64) {
    let scaled = (distance * 10_000.0).round_ties_even() as u64;
    reply.bulk(format!("{}.{:04}", scaled / 10_000, scaled % 10_000).as_bytes());
}

/// Writes a position as longitude and latitude.
fn write_point(reply: &mut Reply, point: Point) {
    reply.array(2);
    for degree in [point.longitude, point.latitude] {
        let text = format!("{degree:.17}");
        reply.double_text(text.trim_end_matches('0').trim_end_matches('.').as_bytes());
    }
}

fn geoadd(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result {
    let mut options = zset::Options::default();
    let mut first = 2;
    loop {
        match () {
            () if args.is(first, "NX") => options.only_new = true,
            () if args.is(first, "XX") => options.only_old = true,
            () if args.is(first, "CH") => options.count_changed = true,
            () => break,
        }
        first += 1;
    }
    let words = args.from(first).len();
    if words == 0 || !words.is_multiple_of(3) || options.only_new && options.only_old {
        return Err(Error::Syntax);
    }
    let pairs = (first..args.len()).step_by(3).map(|at| Ok((parse_point(args, at)?.score(), &args[at + 2])));
    zset::add(txn, args.key(1), &options, &pairs.collect::<Result<Vec<_>>>()?, reply)
}

fn geodist(view: &View, args: &Args, reply: &mut Reply) -> Result {
    let unit = match args.len() {
        4 => 1.0,
        5 => parse_unit(&args[4])?,
        _ => return Err(Error::Syntax),
    };
    let zset = view.zset(args.key(1))?;
    match (position(zset, &args[2]), position(zset, &args[3])) {
        (Some(one), Some(other)) => write_distance(reply, one.distance(other) / unit),
        _ => reply.null(),
    }
    Ok(())
}

fn geohash(view: &View, args: &Args, reply: &mut Reply) -> Result {
    let zset = view.zset(args.key(1))?;
    reply.array(args.from(2).len());
    for member in args.from(2) {
        match position(zset, member) {
            Some(point) => reply.bulk(&point.text()),
            None => reply.null(),
        }
    }
    Ok(())
}

fn geopos(view: &View, args: &Args, reply: &mut Reply) -> Result {
    let zset = view.zset(args.key(1))?;
    reply.array(args.from(2).len());
    for member in args.from(2) {
        match position(zset, member) {
            Some(point) => write_point(reply, point),
            None => reply.null_array(),
        }
    }
    Ok(())
}
