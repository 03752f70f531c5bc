//! Geohashes and distances: the arithmetic behind the geo commands, on plain numbers.
//!
//! A cell of step s is one of 2^s × 2^s equal parts of the map. Its number interleaves the s bits of the column
//! (longitude, the higher bit of each pair) with those of the row (latitude), so that the cells within a cell follow each
//! other. A position is the cell of step 26, whose 52 bits a double holds exactly: it is the member's score.
//!
//! Every formula takes its operations in the order in which Redis does, so that no bit of a result differs.

use std::f64::consts::PI;

/// The finest step.
pub const STEP_MAX: u32 = 26;
/// The map ends here, north and south: it is a square in Web Mercator's projection.
pub const LATITUDE_MAX: f64 = 85.05112878;
/// The map ends here, east and west.
pub const LONGITUDE_MAX: f64 = 180.0;
/// The earth as a sphere, in m.
const EARTH_RADIUS: f64 = 6_372_797.560856;
/// Half the width of the map, in m.
const MERCATOR_MAX: f64 = 20_037_726.37;
/// The even bits.
const EVEN: u64 = 0x5555_5555_5555_5555;

/// Degrees as radians.
fn radians(degrees: f64) -> f64 {
    degrees * (PI / 180.0)
}

/// Radians as degrees.
fn degrees(radians: f64) -> f64 {
    radians / (PI / 180.0)
}

/// A position, in degrees.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    pub longitude: f64,
    pub latitude: f64,
}

/// A part of the map between meridians and parallels, in degrees.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Area {
    pub west: f64,
    pub south: f64,
    pub east: f64,
    pub north: f64,
}

/// A cell of the map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    bits: u64,
    /// At most [`STEP_MAX`].
    step: u32,
}

/// Puts the bits of `number` on the even places.
fn spread(number: u32) -> u64 {
    let mut bits = u64::from(number);
    bits = (bits | bits << 16) & 0x0000_ffff_0000_ffff;
    bits = (bits | bits << 8) & 0x00ff_00ff_00ff_00ff;
    bits = (bits | bits << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    bits = (bits | bits << 2) & 0x3333_3333_3333_3333;
    (bits | bits << 1) & EVEN
}

/// Takes the bits from the even places.
fn gather(bits: u64) -> u32 {
    let mut bits = bits & EVEN;
    bits = (bits | bits >> 1) & 0x3333_3333_3333_3333;
    bits = (bits | bits >> 2) & 0x0f0f_0f0f_0f0f_0f0f;
    bits = (bits | bits >> 4) & 0x00ff_00ff_00ff_00ff;
    bits = (bits | bits >> 8) & 0x0000_ffff_0000_ffff;
    (bits | bits >> 16) as u32
}

/// Which of 2^`step` parts of `-max..max` a degree lies in.
fn index(degree: f64, max: f64, step: u32) -> u32 {
    let share = (degree + max) / (max - -max);
    (share * (1u64 << step) as f64) as u32
}

/// Where the part of that index begins.
fn degree(index: u64, max: f64, step: u32) -> f64 {
    -max + (index as f64 / (1u64 << step) as f64) * (max - -max)
}

impl Point {
    /// Whether it is on the map.
    pub fn is_on_map(self) -> bool {
        self.longitude.abs() <= LONGITUDE_MAX && self.latitude.abs() <= LATITUDE_MAX
    }

    /// The cell of a step in which it lies.
    pub fn cell(self, step: u32) -> Cell {
        self.cell_up_to(step, LATITUDE_MAX)
    }

    /// The same on a map that ends at another latitude.
    fn cell_up_to(self, step: u32, latitude_max: f64) -> Cell {
        let row = index(self.latitude, latitude_max, step);
        let column = index(self.longitude, LONGITUDE_MAX, step);
        Cell { bits: spread(row) | spread(column) << 1, step }
    }

    /// The score of a member at this position.
    pub fn score(self) -> f64 {
        self.cell(STEP_MAX).bits as f64
    }

    /// The position that a score stands for, which may be any number: the middle of its cell.
    pub fn of_score(score: f64) -> Point {
        let area = Cell { bits: score_bits(score), step: STEP_MAX }.area();
        Point {
            longitude: ((area.west + area.east) / 2.0).clamp(-LONGITUDE_MAX, LONGITUDE_MAX),
            latitude: ((area.south + area.north) / 2.0).clamp(-LATITUDE_MAX, LATITUDE_MAX),
        }
    }

    /// The text in the notation of geohash.org, whose map ends at the poles. Of its eleven letters the last would have
    /// more bits than there are, and is always 0.
    pub fn text(self) -> [u8; 11] {
        const LETTERS: &[u8; 32] = b"0123456789bcdefghjkmnpqrstuvwxyz";
        let bits = self.cell_up_to(STEP_MAX, 90.0).bits;
        std::array::from_fn(|at| match at {
            10 => LETTERS[0],
            _ => LETTERS[(bits >> (52 - 5 * (at + 1)) & 31) as usize],
        })
    }

    /// The distance to another point along the surface, in m: the haversine formula.
    pub fn distance(self, other: Point) -> f64 {
        let v = ((radians(other.longitude) - radians(self.longitude)) / 2.0).sin();
        if v == 0.0 {
            return latitude_distance(self.latitude, other.latitude);
        }
        let (latitude, other) = (radians(self.latitude), radians(other.latitude));
        let u = ((other - latitude) / 2.0).sin();
        let a = u * u + latitude.cos() * other.cos() * v * v;
        2.0 * EARTH_RADIUS * a.sqrt().asin()
    }
}

/// The 64 bits of a score, as an x86 processor converts a double to an unsigned integer: what is not a cell's number
/// comes out as what Redis shows for it.
fn score_bits(score: f64) -> u64 {
    const HALF: f64 = (1u64 << 63) as f64;
    let signed = |number: f64| if (-HALF..HALF).contains(&number) { number as i64 as u64 } else { 1 << 63 };
    if score < HALF { signed(score) } else { signed(score - HALF) ^ 1 << 63 }
}

/// The distance between two parallels, in m.
pub fn latitude_distance(one: f64, other: f64) -> f64 {
    EARTH_RADIUS * (radians(other) - radians(one)).abs()
}

/// The middle of points on the sphere: that of their vectors from its centre.
pub fn centroid(points: &[Point]) -> Point {
    let (mut x, mut y, mut z) = (0.0, 0.0, 0.0);
    for point in points {
        let (longitude, latitude) = (radians(point.longitude), radians(point.latitude));
        x += latitude.cos() * longitude.cos();
        y += latitude.cos() * longitude.sin();
        z += latitude.sin();
    }
    let count = points.len() as f64;
    let (x, y, z) = (x / count, y / count, z / count);
    Point { longitude: degrees(y.atan2(x)), latitude: degrees(z.atan2((x * x + y * y).sqrt())) }
}

impl Area {
    /// What lies within so many metres of a point to each side. The farther from the equator, the shorter a degree of
    /// longitude: east and west are as far as on the side that is nearer to the pole.
    pub fn around(center: Point, width: f64, height: f64) -> Area {
        let up = degrees(height / EARTH_RADIUS);
        let pole = if center.latitude < 0.0 { center.latitude - up } else { center.latitude + up };
        let aside = degrees(width / EARTH_RADIUS / radians(pole).cos());
        Area {
            west: center.longitude - aside,
            south: center.latitude - up,
            east: center.longitude + aside,
            north: center.latitude + up,
        }
    }
}

impl Cell {
    /// Where it is.
    fn area(self) -> Area {
        let (column, row) = (u64::from(gather(self.bits >> 1)), u64::from(gather(self.bits)));
        Area {
            west: degree(column, LONGITUDE_MAX, self.step),
            south: degree(row, LATITUDE_MAX, self.step),
            east: degree(column + 1, LONGITUDE_MAX, self.step),
            north: degree(row + 1, LATITUDE_MAX, self.step),
        }
    }

    /// The cell so many columns to the east and rows to the north; the map goes round in both directions. A position on
    /// the very edge of the map is in a column or row behind the last, and is left there as it is.
    fn neighbour(self, east: i32, north: i32) -> Cell {
        let round = |index: u32| index & ((1 << self.step) - 1);
        let moved = |index: u32, by: i32| if by == 0 { index } else { round(index.wrapping_add_signed(by)) };
        let (column, row) = (gather(self.bits >> 1), gather(self.bits));
        Cell { bits: spread(moved(row, north)) | spread(moved(column, east)) << 1, ..self }
    }

    /// The scores of the members in it: from the first up to the second, that excluded.
    pub fn scores(self) -> (f64, f64) {
        let shift = 2 * (STEP_MAX - self.step);
        ((self.bits << shift) as f64, ((self.bits + 1) << shift) as f64)
    }
}

/// How fine the cells may be for one and its neighbours to cover what is within `radius` m of a latitude.
fn step_for(radius: f64, latitude: f64) -> u32 {
    if radius == 0.0 {
        return STEP_MAX;
    }
    let (mut radius, mut step) = (radius, 1);
    while radius < MERCATOR_MAX {
        radius *= 2.0;
        step += 1;
    }
    // Coarser, so that it mostly suffices; towards the poles coarser still.
    let polar = i32::from(latitude.abs() > 66.0) + i32::from(latitude.abs() > 80.0);
    (step - 2 - polar).clamp(1, STEP_MAX as i32) as u32
}

/// The cells that cover `area`, which lies within `radius` m of `center`: that of the centre, and those around it which are needed.
pub fn cover(center: Point, radius: f64, area: &Area) -> Vec<Cell> {
    /// Columns and rows to the neighbours, in the order in which Redis searches them.
    const AROUND: [(i32, i32); 9] = [(0, 0), (0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, 1), (1, -1), (-1, -1)];
    let mut step = step_for(radius, center.latitude);
    let mut cell = center.cell(step);
    let beyond = |east, north| cell.neighbour(east, north).area();
    let too_fine = beyond(0, 1).north < area.north
        || beyond(0, -1).south > area.south
        || beyond(1, 0).east < area.east
        || beyond(-1, 0).west > area.west;
    if step > 1 && too_fine {
        step -= 1;
        cell = center.cell(step);
    }
    let own = cell.area();
    let needed = |(east, north): &(i32, i32)| {
        step < 2
            || !(own.south < area.south && *north < 0
                || own.north > area.north && *north > 0
                || own.west < area.west && *east < 0
                || own.east > area.east && *east > 0)
    };
    let mut cells: Vec<Cell> =
        AROUND.iter().filter(|place| needed(place)).map(|(east, north)| cell.neighbour(*east, *north)).collect();
    // Where there are but two columns, that to the east is that to the west.
    cells.dedup();
    cells
}

#[cfg(test)]
mod tests {
    use super::*;

    const PALERMO: Point = Point { longitude: 13.361389, latitude: 38.115556 };
    const CATANIA: Point = Point { longitude: 15.087269, latitude: 37.502669 };

    #[test]
    fn a_position_survives_as_a_score() {
        assert_eq!(PALERMO.score(), 3_479_099_956_230_698.0);
        let back = Point::of_score(PALERMO.score());
        assert!(back.distance(PALERMO) < 0.6);
        assert_eq!(&back.text(), b"sqc8b49rny0");
    }

    #[test]
    fn the_distance_is_that_of_the_sphere() {
        assert!((PALERMO.distance(CATANIA) - 166_274.0).abs() < 1.0);
        assert_eq!(PALERMO.distance(PALERMO), 0.0);
    }

    #[test]
    fn neighbours_go_round_the_map() {
        let corner = Point { longitude: -180.0, latitude: -LATITUDE_MAX }.cell(3);
        assert_eq!(corner.bits, 0);
        assert_eq!(corner.neighbour(-1, -1).bits, 0b11_11_11);
        assert_eq!(corner.neighbour(-1, -1).neighbour(1, 1), corner);
    }

    /// Points of a simple generator over the whole map.
    fn scattered() -> impl Iterator<Item = Point> {
        let mut state = 1u64;
        let mut next = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 11) as f64 / (1u64 << 53) as f64
        };
        std::iter::repeat_with(move || Point { longitude: next() * 360.0 - 180.0, latitude: next() * 170.0 - 85.0 })
    }

    #[test]
    fn a_cover_holds_every_point_within_the_radius() {
        // Away from the meridian where the map ends: beyond it Redis does not look either.
        let far_from_edge = |point: &Point| point.longitude.abs() < 150.0 && point.latitude.abs() < 60.0;
        let mut found = 0;
        for (center, radius) in scattered().filter(far_from_edge).take(40).zip([1e3, 2e4, 3e5, 1e6].iter().cycle()) {
            let cells = cover(center, *radius, &Area::around(center, *radius, *radius));
            for point in scattered().skip(7).take(4000) {
                let spread = radius / 30_000.0;
                let near = Point {
                    longitude: center.longitude + point.longitude / 180.0 * spread,
                    latitude: center.latitude + point.latitude / 180.0 * spread,
                };
                if near.is_on_map() && near.distance(center) <= *radius {
                    let score = near.score();
                    let holds = cells.iter().map(|cell| cell.scores()).any(|(from, to)| (from..to).contains(&score));
                    assert!(holds, "{near:?} around {center:?}");
                    found += 1;
                }
            }
        }
        assert!(found > 10_000, "only {found} points were near");
    }
}
