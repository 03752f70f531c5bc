//! HyperLogLog sketches: the string that holds one, byte for byte as Redis writes it, and the estimate.
//!
//! An element's hash names one of 16,384 registers and a rank, which is one more than the number of zeros that the rest
//! of the hash begins with; a register holds the highest rank seen. The string is a header of 16 bytes (`HYLL`, the
//! form, three unused bytes, and the number last counted as 8 little-endian bytes, whose highest bit says that it is out
//! of date) and the registers in one of two forms:
//!
//! - dense: 6 bits each, from the lowest bit of each byte up;
//! - sparse: runs. `00nnnnnn` n+1 registers of rank 0; `01nnnnnn nnnnnnnn` the same, up to 16,384; `1rrrrrnn` n+1
//!   registers of rank r+1.

/// Number of registers.
pub const REGISTERS: usize = 1 << INDEX_BITS;
const INDEX_BITS: u32 = 14;
/// The highest rank of a hash.
const RANK_MAX: usize = 64 - INDEX_BITS as usize + 1;
/// The highest rank that a sparse sketch holds.
const SPARSE_RANK_MAX: u8 = 32;
/// Registers in a run with a rank, at most.
const VALUE_RUN_MAX: usize = 4;
/// Registers in a run of zeros of one byte, at most.
const ZERO_RUN_MAX: usize = 64;

const MAGIC: &[u8; 4] = b"HYLL";
const FORM_AT: usize = 4;
/// Where the number last counted is.
pub const COUNT_AT: usize = 8;
const HEADER: usize = 16;
const DENSE_BYTES: usize = HEADER + REGISTERS / 4 * 3;
/// In the last byte of the header: the number last counted is out of date.
const STALE: u8 = 0x80;

/// The rank in each register.
pub type Registers = [u8; REGISTERS];

/// A sparse sketch whose runs do not cover the registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corrupt;

/// MurmurHash64A.
fn murmur_hash(bytes: &[u8], seed: u64) -> u64 {
    const M: u64 = 0xc6a4_a793_5bd1_e995;
    const R: u32 = 47;
    let mut hash = seed ^ (bytes.len() as u64).wrapping_mul(M);
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        let mut word = u64::from_le_bytes(*word).wrapping_mul(M);
        word ^= word >> R;
        hash = (hash ^ word.wrapping_mul(M)).wrapping_mul(M);
    }
    if !rest.is_empty() {
        let word = rest.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
        hash = (hash ^ word).wrapping_mul(M);
    }
    hash ^= hash >> R;
    hash = hash.wrapping_mul(M);
    hash ^ hash >> R
}

/// The register of an element, and its rank.
pub fn place(element: &[u8]) -> (usize, u8) {
    let hash = murmur_hash(element, 0xadc8_3b19);
    // A bit behind the last bounds the rank.
    let rest = hash >> INDEX_BITS | 1 << (64 - INDEX_BITS);
    (hash as usize % REGISTERS, rest.trailing_zeros() as u8 + 1)
}

/// The string of a sketch.
#[derive(Clone, Copy)]
pub struct Sketch<'a> {
    bytes: &'a [u8],
    dense: bool,
}

impl<'a> Sketch<'a> {
    /// The sketch that a string holds, if it does. The runs of a sparse one are not looked at yet.
    pub fn parse(bytes: &'a [u8]) -> Option<Sketch<'a>> {
        let dense = match (bytes.get(..HEADER)?.starts_with(MAGIC), bytes[FORM_AT]) {
            (true, 0) if bytes.len() == DENSE_BYTES => true,
            (true, 1) => false,
            _ => return None,
        };
        Some(Sketch { bytes, dense })
    }

    /// Its string.
    pub fn bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// Whether it is in the dense form.
    pub fn is_dense(self) -> bool {
        self.dense
    }

    /// The number last counted, if it is still right.
    pub fn counted(self) -> Option<u64> {
        let count = self.bytes.get(COUNT_AT..HEADER)?.try_into().ok().map(u64::from_le_bytes)?;
        (count >> 63 == 0).then_some(count)
    }

    /// Whether the number last counted is marked as out of date, where the mark is, and what stands there with it.
    pub fn stale_mark(self) -> (bool, usize, u8) {
        let byte = self.bytes[HEADER - 1];
        (byte & STALE != 0, HEADER - 1, byte | STALE)
    }

    /// Raises each register to what it is here.
    ///
    /// # Errors
    /// A sparse sketch may be corrupt; some registers were raised then.
    pub fn merge_into(self, registers: &mut Registers) -> Result<(), Corrupt> {
        let body = &self.bytes[HEADER..];
        if self.dense {
            let (quads, _) = registers.as_chunks_mut::<4>();
            let (triples, _) = body.as_chunks::<3>();
            for (quad, [a, b, c]) in quads.iter_mut().zip(triples) {
                let here = [a & 63, a >> 6 | b << 2 & 63, b >> 4 | c << 4 & 63, c >> 2];
                *quad = std::array::from_fn(|at| quad[at].max(here[at]));
            }
            return Ok(());
        }
        let mut first = 0;
        for run in runs(body) {
            let run = run?;
            let covered = registers.get_mut(first..first + run.len).ok_or(Corrupt)?;
            if run.rank != 0 {
                covered.iter_mut().for_each(|register| *register = run.rank.max(*register));
            }
            first += run.len;
        }
        if first == REGISTERS { Ok(()) } else { Err(Corrupt) }
    }

    /// The ranks.
    ///
    /// # Errors
    /// A sparse sketch may be corrupt.
    pub fn registers(self) -> Result<Registers, Corrupt> {
        let mut registers = [0; REGISTERS];
        self.merge_into(&mut registers)?;
        Ok(registers)
    }

    /// What changes in the string of a dense sketch when a register is raised: where, and the new bytes; `None` if the
    /// register is as high already.
    pub fn dense_change(self, index: usize, rank: u8) -> Option<(usize, Vec<u8>)> {
        let bit = index * 6;
        // The last register ends with its byte.
        let at = HEADER + bit / 8;
        let bytes = if bit % 8 > 2 { 2 } else { 1 };
        let window = self.bytes.get(at..at + bytes)?;
        let old = window.iter().rev().fold(0, |window, byte| window << 8 | u16::from(*byte));
        let shift = bit % 8;
        if (old >> shift & 63) as u8 >= rank {
            return None;
        }
        let new = old & !(63 << shift) | u16::from(rank) << shift;
        Some((at, new.to_le_bytes()[..bytes].to_vec()))
    }

    /// The runs of a sparse sketch as a text: `Z:n` or `z:n` for zeros, `v:rank,n`; `None` of a dense one.
    pub fn runs_text(self) -> Option<String> {
        if self.dense {
            return None;
        }
        let text = runs(&self.bytes[HEADER..]).map_while(Result::ok).map(|run| match run {
            Run { rank: 0, len, bytes: 1 } => format!("z:{len}"),
            Run { rank: 0, len, .. } => format!("Z:{len}"),
            Run { rank, len, .. } => format!("v:{rank},{len}"),
        });
        Some(text.collect::<Vec<_>>().join(" "))
    }
}

/// Registers of one rank that follow each other in a sparse sketch.
#[derive(Clone, Copy)]
struct Run {
    rank: u8,
    len: usize,
    /// Bytes that it takes.
    bytes: usize,
}

impl Run {
    /// The run at the beginning of some bytes.
    fn read(bytes: &[u8]) -> Option<Run> {
        let first = *bytes.first()?;
        Some(match first >> 6 {
            0 => Run { rank: 0, len: usize::from(first) + 1, bytes: 1 },
            1 => {
                let len = usize::from(first & 63) << 8 | usize::from(*bytes.get(1)?);
                Run { rank: 0, len: len + 1, bytes: 2 }
            }
            _ => Run { rank: (first >> 2 & 31) + 1, len: usize::from(first & 3) + 1, bytes: 1 },
        })
    }
}

/// The runs in the body of a sparse sketch.
fn runs(body: &[u8]) -> impl Iterator<Item = Result<Run, Corrupt>> {
    let mut rest = body;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let run = Run::read(rest);
        rest = run.and_then(|run| rest.get(run.bytes..)).unwrap_or_default();
        Some(run.ok_or(Corrupt))
    })
}

/// The byte of a run with a rank.
fn value_run(rank: u8, len: usize) -> u8 {
    0x80 | (rank - 1) << 2 | (len - 1) as u8
}

/// Appends a run, if it is one.
fn push_run(out: &mut Vec<u8>, rank: u8, len: usize) {
    match len.checked_sub(1) {
        None => {}
        Some(_) if rank != 0 => out.push(value_run(rank, len)),
        Some(less) if len <= ZERO_RUN_MAX => out.push(less as u8),
        Some(less) => out.extend([0x40 | (less >> 8) as u8, less as u8]),
    }
}

/// A sketch that is being changed.
pub struct SketchBuf {
    bytes: Vec<u8>,
}

impl SketchBuf {
    /// A sparse one of nothing.
    pub fn new() -> SketchBuf {
        let mut bytes = [&MAGIC[..], &[1], &[0; HEADER - FORM_AT - 1]].concat();
        push_run(&mut bytes, 0, REGISTERS);
        SketchBuf { bytes }
    }

    /// A copy.
    pub fn of(sketch: Sketch) -> SketchBuf {
        SketchBuf { bytes: sketch.bytes.to_vec() }
    }

    /// As a sketch.
    pub fn sketch(&self) -> Sketch<'_> {
        Sketch { bytes: &self.bytes, dense: self.bytes[FORM_AT] == 0 }
    }

    /// Marks the number last counted as out of date.
    pub fn mark_stale(&mut self) {
        self.bytes[HEADER - 1] |= STALE;
    }

    /// Brings it into the dense form.
    ///
    /// # Errors
    /// A sparse sketch may be corrupt.
    pub fn make_dense(&mut self) -> Result<(), Corrupt> {
        if !self.sketch().dense {
            let registers = self.sketch().registers()?;
            self.set_dense(&registers);
        }
        Ok(())
    }

    /// Brings it into the dense form, with these registers.
    pub fn set_dense(&mut self, registers: &Registers) {
        self.bytes.truncate(HEADER);
        self.bytes[FORM_AT] = 0;
        self.bytes.reserve_exact(DENSE_BYTES - HEADER);
        let (quads, _) = registers.as_chunks::<4>();
        self.bytes.extend(quads.iter().flat_map(|[a, b, c, d]| [a | b << 6, b >> 2 | c << 4, c >> 4 | d << 2]));
    }

    /// Raises a register to a rank. Whether it was lower. A sparse sketch that would need more than `sparse_bytes_max`
    /// bytes becomes dense.
    ///
    /// # Errors
    /// A sparse sketch may be corrupt.
    pub fn raise(&mut self, index: usize, rank: u8, sparse_bytes_max: usize) -> Result<bool, Corrupt> {
        if !self.sketch().dense
            && rank <= SPARSE_RANK_MAX
            && let Some(raised) = self.raise_sparse(index, rank, sparse_bytes_max)?
        {
            return Ok(raised);
        }
        self.make_dense()?;
        let Some((at, new)) = self.sketch().dense_change(index, rank) else { return Ok(false) };
        self.bytes[at..at + new.len()].copy_from_slice(&new);
        Ok(true)
    }

    /// The same in the sparse form; `None` if there is no room.
    fn raise_sparse(&mut self, index: usize, rank: u8, bytes_max: usize) -> Result<Option<bool>, Corrupt> {
        // The run that covers the register, its first register, and where it and the run before it are.
        let (mut first, mut at, mut before) = (0, HEADER, HEADER);
        let run = loop {
            let run = self.bytes.get(at..).and_then(Run::read).ok_or(Corrupt)?;
            if index < first + run.len {
                break run;
            }
            (before, at, first) = (at, at + run.bytes, first + run.len);
        };
        if run.rank >= rank {
            return Ok(Some(false));
        }
        let mut split = Vec::with_capacity(5);
        push_run(&mut split, run.rank, index - first);
        push_run(&mut split, rank, 1);
        push_run(&mut split, run.rank, run.len - (index - first) - 1);
        if split.len() > run.bytes && self.bytes.len() + split.len() - run.bytes > bytes_max {
            return Ok(None);
        }
        self.bytes.splice(at..at + run.bytes, split);
        self.join_runs(before);
        Ok(Some(true))
    }

    /// Joins runs of the same rank among some from `at` on: as far as Redis looks, so that the bytes are the same.
    fn join_runs(&mut self, mut at: usize) {
        /// The runs that a change may have made, and those next to them.
        const STEPS: usize = 5;
        for _ in 0..STEPS {
            let Some(run) = self.bytes.get(at..).and_then(Run::read) else { return };
            let next = self.bytes.get(at + 1..).and_then(Run::read);
            match next {
                Some(next) if run.rank != 0 && next.rank == run.rank && run.len + next.len <= VALUE_RUN_MAX => {
                    self.bytes[at] = value_run(run.rank, run.len + next.len);
                    self.bytes.remove(at + 1);
                }
                _ => at += run.bytes,
            }
        }
    }
}

/// How many different elements the registers tell of, by Ertl's improved raw estimator ("New cardinality estimation
/// algorithms for HyperLogLog sketches", arXiv:1702.01284). The operations come in Redis's order.
pub fn estimate(registers: &Registers) -> u64 {
    /// 1 / (2 ln 2).
    const ALPHA: f64 = 0.721_347_520_444_481_7;
    // Four, so that equal ranks next to each other need not wait for each other. A rank takes 6 bits.
    let mut counts = [[0u32; 64]; 4];
    let (quads, _) = registers.as_chunks::<4>();
    for quad in quads {
        for (counts, rank) in counts.iter_mut().zip(quad) {
            counts[usize::from(rank & 63)] += 1;
        }
    }
    let count = |rank: usize| f64::from(counts.iter().map(|counts| counts[rank]).sum::<u32>());
    let m = REGISTERS as f64;
    let mut z = m * tau((m - count(RANK_MAX)) / m);
    for rank in (1..RANK_MAX).rev() {
        z += count(rank);
        z *= 0.5;
    }
    z += m * sigma(count(0) / m);
    (ALPHA * m * m / z).round() as u64
}

/// The paper's σ.
fn sigma(mut x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut z) = (1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if z == before {
            return z;
        }
    }
}

/// The paper's τ.
fn tau(mut x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut y, mut z) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x) * (1.0 - x) * y;
        if z == before {
            return z / 3.0;
        }
    }
}

/// Checks the arithmetic: registers keep what is put into them, both forms agree, and the estimates are as good as the
/// theory says. `seed` chooses the elements.
///
/// # Errors
/// What is wrong.
pub fn self_test(seed: u64, sparse_bytes_max: usize) -> Result<(), String> {
    let mut dense = SketchBuf::new();
    for round in 0..50u64 {
        let ranks: Registers =
            std::array::from_fn(|at| (murmur_hash(&(round << 20 | at as u64).to_le_bytes(), seed) & 63) as u8);
        dense.set_dense(&ranks);
        if dense.sketch().registers() != Ok(ranks) {
            return Err("TESTFAILED registers do not keep their ranks".into());
        }
    }
    dense.set_dense(&[0; REGISTERS]);
    let mut grown = SketchBuf::new();
    let corrupt = |Corrupt| String::from("TESTFAILED a sketch became corrupt");
    let mut checkpoint = 1u64;
    for number in 1..=100_000u64 {
        let (index, rank) = place(&(number ^ seed).to_le_bytes());
        dense.raise(index, rank, 0).map_err(corrupt)?;
        grown.raise(index, rank, sparse_bytes_max).map_err(corrupt)?;
        if number != checkpoint {
            continue;
        }
        if number < sparse_bytes_max as u64 / 5 && grown.sketch().dense {
            return Err("TESTFAILED sparse encoding not used".into());
        }
        let registers = dense.sketch().registers().map_err(corrupt)?;
        if grown.sketch().registers() != Ok(registers) {
            return Err("TESTFAILED dense/sparse disagree".into());
        }
        // Six times the standard error.
        let error_max = (1.04 / (REGISTERS as f64).sqrt() * 6.0 * number as f64).ceil() as u64;
        let error = estimate(&registers).abs_diff(number);
        if error > error_max {
            return Err(format!("TESTFAILED Too big error. card:{number} abserr:{error}"));
        }
        checkpoint *= 10;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_self_test_passes() {
        for seed in 0..3 {
            assert_eq!(self_test(seed, 3000), Ok(()));
        }
        assert_eq!(self_test(7, 0), Ok(()));
    }

    #[test]
    fn a_hash_that_is_known() {
        // From the reference implementation.
        assert_eq!(murmur_hash(b"", 0), 0);
        assert_eq!(place(b"a"), place(b"a"));
        assert!(place(b"hello").1 as usize <= RANK_MAX);
    }

    #[test]
    fn the_last_register_of_a_dense_sketch() {
        let mut sketch = SketchBuf::new();
        sketch.make_dense().unwrap();
        assert_eq!(sketch.raise(REGISTERS - 1, 51, 0), Ok(true));
        assert_eq!(sketch.raise(REGISTERS - 1, 51, 0), Ok(false));
        assert_eq!(sketch.sketch().bytes().len(), DENSE_BYTES);
        assert_eq!(sketch.sketch().registers().unwrap()[REGISTERS - 1], 51);
    }

    #[test]
    fn runs_that_do_not_cover_the_registers() {
        let mut sketch = SketchBuf::new();
        sketch.bytes.push(0);
        assert_eq!(sketch.sketch().registers(), Err(Corrupt));
        sketch.bytes.truncate(HEADER + 1);
        assert_eq!(sketch.sketch().registers(), Err(Corrupt), "half a run");
        assert_eq!(sketch.raise(5, 3, 3000), Err(Corrupt));
        sketch.bytes.truncate(HEADER);
        assert_eq!(sketch.raise(5, 3, 3000), Err(Corrupt));
    }
}
