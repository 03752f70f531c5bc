//! GEOSEARCH, GEORADIUS and their kin: members within a shape.

use super::geohash::{Area, Point, centroid, cover, latitude_distance};
use super::{parse_point, parse_unit, position, write_distance, write_point};
use crate::args::Args;
use crate::command::{Access, Reply};
use crate::commands::write_str;
use crate::commands::zset;
use crate::error::{Error, Result};
use kelda_resp::{number, parse_i64};
use kelda_store::Str;
use kelda_store::txn::{Key, Txn, View};
use kelda_store::zset::{Bound, ScoreRange, ZSet};
use std::cmp::Ordering;

/// How a command tells what it searches.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// GEORADIUS: around a position.
    Radius,
    /// GEORADIUSBYMEMBER: around a member.
    RadiusByMember,
    /// GEOSEARCH: by options.
    Search,
    /// GEOSEARCHSTORE: by options, the first key being that of the result.
    SearchStore,
}

impl Form {
    /// The word that is the searched key.
    fn source(self) -> usize {
        if self == Form::SearchStore { 2 } else { 1 }
    }

    /// The first word that is an option.
    fn options(self) -> usize {
        match self {
            Form::Radius => 6,
            Form::RadiusByMember => 5,
            Form::Search => 2,
            Form::SearchStore => 3,
        }
    }

    fn is_search(self) -> bool {
        matches!(self, Form::Search | Form::SearchStore)
    }
}

/// What is searched; lengths in m.
enum Shape {
    Circle(f64),
    Box { width: f64, height: f64 },
    Polygon(Vec<Point>),
}

impl Shape {
    /// Where members inside may be, and how far from the centre at most.
    fn bounds(&self, center: Point) -> (Area, f64) {
        match self {
            Shape::Circle(radius) => (Area::around(center, *radius, *radius), *radius),
            Shape::Box { width, height } => {
                let (width, height) = (width / 2.0, height / 2.0);
                (Area::around(center, width, height), (width * width + height * height).sqrt())
            }
            Shape::Polygon(vertices) => {
                let empty = Area {
                    west: f64::INFINITY,
                    south: f64::INFINITY,
                    east: f64::NEG_INFINITY,
                    north: f64::NEG_INFINITY,
                };
                let area = vertices.iter().fold(empty, |area, vertex| Area {
                    west: area.west.min(vertex.longitude),
                    south: area.south.min(vertex.latitude),
                    east: area.east.max(vertex.longitude),
                    north: area.north.max(vertex.latitude),
                });
                let radius = vertices.iter().map(|vertex| center.distance(*vertex)).fold(0.0, f64::max);
                (area, radius)
            }
        }
    }

    /// How far a point is from the centre, if it is inside.
    fn distance_inside(&self, center: Point, point: Point) -> Option<f64> {
        match self {
            Shape::Circle(radius) => Some(center.distance(point)).filter(|distance| *distance <= *radius),
            Shape::Box { width, height } => {
                let beside = Point { latitude: point.latitude, ..center };
                let inside = latitude_distance(point.latitude, center.latitude) <= height / 2.0
                    && point.distance(beside) <= width / 2.0;
                inside.then(|| center.distance(point))
            }
            Shape::Polygon(vertices) => is_inside(vertices, point).then(|| center.distance(point)),
        }
    }
}

/// Whether a point is inside a polygon, on a flat map: a line from it to the east crosses the border an odd number of times.
fn is_inside(vertices: &[Point], point: Point) -> bool {
    let mut inside = false;
    let mut before = vertices.last();
    for vertex in vertices {
        if let Some(before) = before
            && (vertex.latitude > point.latitude) != (before.latitude > point.latitude)
        {
            let share = (point.latitude - vertex.latitude) / (before.latitude - vertex.latitude);
            let crossing = (before.longitude - vertex.longitude) * share + vertex.longitude;
            inside ^= point.longitude < crossing;
        }
        before = Some(vertex);
    }
    inside
}

/// Where the result is put.
#[derive(Clone, Copy)]
struct Store<'a> {
    key: &'a [u8],
    /// With the distances as scores, instead of the positions.
    distances: bool,
}

/// A command's words, and the sorted set that it searches.
struct Request<'a, 'v> {
    form: Form,
    zset: Option<&'v ZSet>,
    /// None only if there is no sorted set.
    center: Option<Point>,
    shape: Option<Shape>,
    /// Metres of one unit.
    unit: f64,
    descending: Option<bool>,
    /// 0 for all.
    count: usize,
    /// Any members will do, not only the nearest.
    any: bool,
    with_distance: bool,
    with_score: bool,
    with_position: bool,
    store: Option<Store<'a>>,
}

/// A member found.
struct Found<'v> {
    member: Str<'v>,
    score: f64,
    point: Point,
    /// From the centre, in units.
    distance: f64,
}

/// The position of a member that the search is centred on.
fn center_of(zset: &ZSet, member: &[u8]) -> Result<Point> {
    position(Some(zset), member).ok_or(Error::text("ERR could not decode requested zset member"))
}

/// A length that must be a number, or else `error`.
fn length(args: &Args, at: usize, error: &'static str) -> Result<f64> {
    args.get(at).and_then(number::parse_f64).ok_or(Error::text(error))
}

/// `radius unit` from the word at `at` on: in m, and the metres of a unit.
fn parse_radius(args: &Args, at: usize) -> Result<(Shape, f64)> {
    let radius = length(args, at, "ERR need numeric radius")?;
    if radius < 0.0 {
        return Err(Error::text("ERR radius cannot be negative"));
    }
    let unit = parse_unit(&args[at + 1])?;
    Ok((Shape::Circle(radius * unit), unit))
}

/// `width height unit` from the word at `at` on.
fn parse_box(args: &Args, at: usize) -> Result<(Shape, f64)> {
    let width = length(args, at, "ERR need numeric width")?;
    let height = length(args, at + 1, "ERR need numeric height")?;
    if width < 0.0 || height < 0.0 {
        return Err(Error::text("ERR height or width cannot be negative"));
    }
    let unit = parse_unit(&args[at + 2])?;
    Ok((Shape::Box { width: width * unit, height: height * unit }, unit))
}

/// `num-vertices longitude latitude …` from the word at `at` on; an entire number of words is left behind it.
fn parse_polygon(args: &Args, at: usize) -> Result<Vec<Point>> {
    let count = args.get(at).and_then(parse_i64).and_then(|count| i32::try_from(count).ok());
    let count = count.ok_or(Error::text("ERR invalid number of vertices"))?;
    let count = usize::try_from(count).unwrap_or(0);
    if count < 3 || args.from(at + 1).len() / 2 < count {
        return Err(Error::text("ERR GEOSEARCH BYPOLYGON must have at least 3 vertices"));
    }
    (0..count).map(|vertex| parse_point(args, at + 1 + 2 * vertex)).collect()
}

impl<'a, 'v> Request<'a, 'v> {
    fn parse(view: &'v View, args: &Args<'a>, form: Form, may_store: bool) -> Result<Request<'a, 'v>> {
        let mut request = Request {
            form,
            zset: view.zset(args.key(form.source()))?,
            center: None,
            shape: None,
            unit: 1.0,
            descending: None,
            count: 0,
            any: false,
            with_distance: false,
            with_score: false,
            with_position: false,
            store: None,
        };
        match (form, request.zset) {
            (Form::Radius, _) => request.center = Some(parse_point(args, 2)?),
            (Form::RadiusByMember, Some(zset)) => request.center = Some(center_of(zset, &args[2])?),
            // Where there is nothing to search, the radius is not looked at.
            (Form::RadiusByMember, None) => {}
            (Form::SearchStore, _) => {
                request.store = args.get(1).map(|key| Store { key, distances: false });
            }
            (Form::Search, _) => {}
        }
        if form == Form::Radius || request.center.is_some() {
            let (circle, unit) = parse_radius(args, form.options() - 2)?;
            (request.shape, request.unit) = (Some(circle), unit);
        }
        request.parse_options(args, may_store)?;
        Ok(request)
    }

    fn parse_options(&mut self, args: &Args<'a>, may_store: bool) -> Result {
        let search = self.form.is_search();
        let (mut by_member, mut by_point) = (false, false);
        let mut at = self.form.options();
        while at < args.len() {
            let words = args.len() - at;
            let is = |option| args.is(at, option);
            // How many words the option has.
            let taken = if is("WITHDIST") {
                self.with_distance = true;
                1
            } else if is("WITHHASH") {
                self.with_score = true;
                1
            } else if is("WITHCOORD") {
                self.with_position = true;
                1
            } else if is("ANY") {
                self.any = true;
                1
            } else if is("ASC") || is("DESC") {
                self.descending = Some(is("DESC"));
                1
            } else if is("COUNT") && words > 1 {
                let count = args.int(at + 1)?;
                self.count = usize::try_from(count).unwrap_or(0);
                if self.count == 0 {
                    return Err(Error::text("ERR COUNT must be > 0"));
                }
                2
            } else if (is("STORE") || is("STOREDIST")) && words > 1 && may_store && !search {
                self.store = args.get(at + 1).map(|key| Store { key, distances: is("STOREDIST") });
                2
            } else if is("STOREDIST")
                && self.form == Form::SearchStore
                && let Some(store) = &mut self.store
            {
                store.distances = true;
                1
            } else if !search {
                return Err(Error::Syntax);
            } else if is("FROMMEMBER") && words > 1 && !by_point && !self.by_polygon() {
                by_member = true;
                if let Some(zset) = self.zset {
                    self.center = Some(center_of(zset, &args[at + 1])?);
                }
                2
            } else if is("FROMLONLAT") && words > 2 && !by_member && !self.by_polygon() {
                by_point = true;
                self.center = Some(parse_point(args, at + 1)?);
                3
            } else if is("BYRADIUS") && words > 2 && matches!(self.shape, None | Some(Shape::Circle(_))) {
                let (circle, unit) = parse_radius(args, at + 1)?;
                (self.shape, self.unit) = (Some(circle), unit);
                3
            } else if is("BYBOX") && words > 3 && matches!(self.shape, None | Some(Shape::Box { .. })) {
                let (rectangle, unit) = parse_box(args, at + 1)?;
                (self.shape, self.unit) = (Some(rectangle), unit);
                4
            } else if is("BYPOLYGON")
                && words > 1
                && !by_member
                && !by_point
                && matches!(self.shape, None | Some(Shape::Polygon(_)))
            {
                let vertices = parse_polygon(args, at + 1)?;
                let taken = 2 + 2 * vertices.len();
                self.center = Some(centroid(&vertices));
                (self.shape, self.unit) = (Some(Shape::Polygon(vertices)), 1.0);
                taken
            } else {
                return Err(Error::Syntax);
            };
            at += taken;
        }
        if self.store.is_some() && (self.with_distance || self.with_score || self.with_position) {
            let what = if search { "GEOSEARCHSTORE" } else { "STORE option in GEORADIUS" };
            return Err(Error::owned(format!(
                "ERR {what} is not compatible with WITHDIST, WITHHASH and WITHCOORD options"
            )));
        }
        let name = String::from_utf8_lossy(&args[0]);
        if search && !(by_member || by_point || self.by_polygon()) {
            return Err(Error::owned(format!(
                "ERR exactly one of FROMMEMBER or FROMLONLAT can be specified for {name}"
            )));
        }
        if search && self.shape.is_none() {
            return Err(Error::owned(format!("ERR exactly one of BYRADIUS and BYBOX can be specified for {name}")));
        }
        if self.any && self.count == 0 {
            return Err(Error::text("ERR the ANY argument requires COUNT argument"));
        }
        Ok(())
    }

    fn by_polygon(&self) -> bool {
        matches!(self.shape, Some(Shape::Polygon(_)))
    }

    /// The members inside, in the order asked for.
    fn find(&self) -> Vec<Found<'v>> {
        let (Some(zset), Some(center), Some(shape)) = (self.zset, self.center, &self.shape) else { return Vec::new() };
        let (area, radius) = shape.bounds(center);
        let limit = if self.any { self.count } else { usize::MAX };
        let mut found = Vec::new();
        for cell in cover(center, radius, &area) {
            let (from, to) = cell.scores();
            let (start, end) = zset.rank_range(&ScoreRange { min: Bound::Inclusive(from), max: Bound::Exclusive(to) });
            for (member, score) in zset.iter_from_rank(start, false).take(end - start) {
                if found.len() == limit {
                    break;
                }
                let point = Point::of_score(score);
                if let Some(distance) = shape.distance_inside(center, point) {
                    found.push(Found { member, score, point, distance: distance / self.unit });
                }
            }
        }
        // The first few of no order at all would mean little.
        let sorted = self.descending.or((self.count != 0 && !self.any).then_some(false));
        if let Some(descending) = sorted {
            let ascending = |a: &Found, b: &Found| a.distance.partial_cmp(&b.distance).unwrap_or(Ordering::Equal);
            found.sort_by(|a, b| if descending { ascending(b, a) } else { ascending(a, b) });
        }
        if self.count != 0 {
            found.truncate(self.count);
        }
        found
    }

    /// Writes the members with what is to be told of each.
    fn write(&self, reply: &mut Reply) {
        let found = self.find();
        let details = [self.with_distance, self.with_score, self.with_position].into_iter().filter(|on| *on).count();
        reply.array(found.len());
        for Found { member, score, point, distance } in found {
            if details != 0 {
                reply.array(details + 1);
            }
            write_str(reply, member);
            if self.with_distance {
                write_distance(reply, distance);
            }
            if self.with_score {
                reply.int(score as i64);
            }
            if self.with_position {
                write_point(reply, point);
            }
        }
    }
}

fn read(view: &View, args: &Args, form: Form, reply: &mut Reply) -> Result {
    Request::parse(view, args, form, false)?.write(reply);
    Ok(())
}

fn write(txn: &mut Txn, args: &Args, form: Form, reply: &mut Reply) -> Result {
    let request = Request::parse(txn, args, form, true)?;
    let Some(store) = request.store else {
        request.write(reply);
        return Ok(());
    };
    let limits = txn.cx.env.limits;
    let mut result = ZSet::new();
    for found in request.find() {
        let score = if store.distances { found.distance } else { found.score };
        found.member.with_bytes(|member| result.insert(member, score, &limits));
    }
    let event = if form.is_search() { "geosearchstore" } else { "georadiusstore" };
    zset::store(txn, Key::new(store.key), result, event, reply);
    Ok(())
}

/// The keys of GEORADIUS and GEORADIUSBYMEMBER: the searched one, and that of the last STORE or STOREDIST.
fn find_keys(words: &[&[u8]], form: Form, f: &mut dyn FnMut(usize, Access)) {
    let mut store = None;
    let mut at = form.options();
    while at + 1 < words.len() {
        let is = |option: &str| words[at].eq_ignore_ascii_case(option.as_bytes());
        if is("STORE") || is("STOREDIST") {
            store = Some(at + 1);
            at += 1;
        } else if is("COUNT") {
            at += 1;
        }
        at += 1;
    }
    if words.len() > 1 {
        f(1, Access::RO.and(Access::ACCESS));
    }
    if let Some(at) = store {
        f(at, Access::OW.and(Access::UPDATE));
    }
}

pub(super) fn georadius_keys(words: &[&[u8]], f: &mut dyn FnMut(usize, Access)) {
    find_keys(words, Form::Radius, f);
}

pub(super) fn georadiusbymember_keys(words: &[&[u8]], f: &mut dyn FnMut(usize, Access)) {
    find_keys(words, Form::RadiusByMember, f);
}

pub(super) fn georadius(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result {
    write(txn, args, Form::Radius, reply)
}

pub(super) fn georadiusbymember(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result {
    write(txn, args, Form::RadiusByMember, reply)
}

pub(super) fn georadius_ro(view: &View, args: &Args, reply: &mut Reply) -> Result {
    read(view, args, Form::Radius, reply)
}

pub(super) fn georadiusbymember_ro(view: &View, args: &Args, reply: &mut Reply) -> Result {
    read(view, args, Form::RadiusByMember, reply)
}

pub(super) fn geosearch(view: &View, args: &Args, reply: &mut Reply) -> Result {
    read(view, args, Form::Search, reply)
}

pub(super) fn geosearchstore(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result {
    write(txn, args, Form::SearchStore, reply)
}
