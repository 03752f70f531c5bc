//! The packed forms of small collections, read and checked as a whole: listpack, ziplist, zipmap, integer set.
//!
//! Iterating to the end without an error is the proof that a block is well formed: sizes, counts, links backwards and the end
//! mark all agree.

use super::RdbError;
use kelda_store::Str;

/// Where a packed block ends.
const END: u8 = 0xff;
/// The number of elements is not known: it does not fit in two bytes.
const COUNT_UNKNOWN: u16 = u16::MAX;

/// Bytes of a block, at most: nobody writes larger ones, and ours, in which the elements may take a little more, end at 4 GiB.
const BLOCK_BYTES_MAX: usize = 1 << 31;

/// The elements of a listpack or a ziplist.
#[derive(Clone, Debug)]
pub struct Elements<'a> {
    form: Form,
    rest: &'a [u8],
    /// Elements not yet given, if the block tells.
    left: Option<u16>,
}

#[derive(Clone, Copy, Debug)]
enum Form {
    Listpack,
    /// Bytes of the element before; bytes in front of the first element and of the last one.
    Ziplist {
        before: usize,
        at: usize,
        last: usize,
    },
}

impl<'a> Elements<'a> {
    /// A listpack: its bytes in 4, its elements in 2, the elements, the end mark.
    pub fn listpack(block: &'a [u8]) -> Result<Elements<'a>, RdbError> {
        let damaged = RdbError::Corrupt("damaged frame of a listpack");
        let Some((bytes, rest)) = block.split_first_chunk::<4>() else { return Err(damaged) };
        let Some((count, rest)) = rest.split_first_chunk::<2>() else { return Err(damaged) };
        Self::framed(Form::Listpack, block.len(), *bytes, *count, rest).ok_or(damaged)
    }

    /// A ziplist: its bytes in 4, the place of its last element in 4, its elements in 2, the elements, the end mark.
    pub fn ziplist(block: &'a [u8]) -> Result<Elements<'a>, RdbError> {
        /// Bytes in front of the first element.
        const HEADER: usize = 10;
        let damaged = RdbError::Corrupt("damaged frame of a ziplist");
        let Some((bytes, rest)) = block.split_first_chunk::<4>() else { return Err(damaged) };
        let Some((last, rest)) = rest.split_first_chunk::<4>() else { return Err(damaged) };
        let Some((count, rest)) = rest.split_first_chunk::<2>() else { return Err(damaged) };
        let form = Form::Ziplist { before: 0, at: HEADER, last: u32::from_le_bytes(*last) as usize };
        let elements = Self::framed(form, block.len(), *bytes, *count, rest).ok_or(damaged)?;
        if elements.rest.is_empty() && u32::from_le_bytes(*last) as usize != HEADER {
            return Err(RdbError::Corrupt("damaged frame of a ziplist"));
        }
        Ok(elements)
    }

    fn framed(form: Form, len: usize, bytes: [u8; 4], count: [u8; 2], rest: &'a [u8]) -> Option<Elements<'a>> {
        let (&end, rest) = rest.split_last()?;
        if len > BLOCK_BYTES_MAX {
            return None;
        }
        let count = u16::from_le_bytes(count);
        let left = (count != COUNT_UNKNOWN).then_some(count);
        (u32::from_le_bytes(bytes) as usize == len && end == END).then_some(Elements { form, rest, left })
    }

    /// Bytes not yet read, without the end mark.
    pub fn remaining(&self) -> &'a [u8] {
        self.rest
    }

    /// The next element, which must be there.
    pub fn need(&mut self) -> Result<Str<'a>, RdbError> {
        self.next().unwrap_or(Err(RdbError::Corrupt("a packed block has too few elements")))
    }

    /// The next element, which must be there and an integer.
    pub fn need_int(&mut self) -> Result<i64, RdbError> {
        let element = self.need()?;
        let int = match element {
            Str::Int(n) => Some(n),
            Str::Bytes(bytes) => kelda_store::str::parse_int(bytes),
        };
        int.ok_or(RdbError::Corrupt("a packed block has no integer where one should be"))
    }

    fn listpack_element(&mut self) -> Option<Str<'a>> {
        let start = self.rest;
        let (&first, rest) = start.split_first()?;
        self.rest = rest;
        let element = match first {
            0..0x80 => Str::Int(i64::from(first)),
            0x80..0xc0 => Str::Bytes(self.take(usize::from(first & 0x3f))?),
            0xc0..0xe0 => {
                let bits = u16::from(first & 0x1f) << 8 | u16::from(*self.take(1)?.first()?);
                Str::Int(i64::from((bits << 3) as i16 >> 3))
            }
            0xe0..0xf0 => {
                let len = usize::from(first & 0x0f) << 8 | usize::from(*self.take(1)?.first()?);
                Str::Bytes(self.take(len)?)
            }
            0xf0 => {
                let len = u32::from_le_bytes(*self.take(4)?.first_chunk()?);
                Str::Bytes(self.take(len as usize)?)
            }
            0xf1 => self.int(2)?,
            0xf2 => self.int(3)?,
            0xf3 => self.int(4)?,
            0xf4 => self.int(8)?,
            0xf5.. => return None,
        };
        let size = start.len() - self.rest.len();
        // The size again, for walking backwards: groups of 7 bits, the highest first, all but that one with the top bit set.
        // The odd bounds are the listpack's.
        let groups = match size {
            0..=127 => 1,
            128..=16_382 => 2,
            16_383..=2_097_150 => 3,
            2_097_151..=268_435_454 => 4,
            _ => 5,
        };
        for (n, &group) in self.take(groups)?.iter().enumerate() {
            let bits = (size >> (7 * (groups - 1 - n))) as u8 & 0x7f;
            if group != if n == 0 { bits } else { bits | 0x80 } {
                return None;
            }
        }
        Some(element)
    }

    fn ziplist_element(&mut self, before: usize, at: usize, last: usize) -> Option<Str<'a>> {
        let start = self.rest.len();
        let link = match *self.take(1)?.first()? {
            0xfe => u32::from_le_bytes(*self.take(4)?.first_chunk()?) as usize,
            0xff => return None,
            short => usize::from(short),
        };
        let first = *self.take(1)?.first()?;
        let element = match first {
            0..0x40 => Str::Bytes(self.take(usize::from(first))?),
            0x40..0x80 => {
                let len = usize::from(first & 0x3f) << 8 | usize::from(*self.take(1)?.first()?);
                Str::Bytes(self.take(len)?)
            }
            0x80 => {
                let len = u32::from_be_bytes(*self.take(4)?.first_chunk()?);
                Str::Bytes(self.take(len as usize)?)
            }
            0xc0 => self.int(2)?,
            0xd0 => self.int(4)?,
            0xe0 => self.int(8)?,
            0xf0 => self.int(3)?,
            0xf1..=0xfd => Str::Int(i64::from(first & 0x0f) - 1),
            0xfe => self.int(1)?,
            _ => return None,
        };
        let size = start - self.rest.len();
        // The frame tells where the last element is.
        let is_last = self.rest.is_empty();
        if link != before || is_last != (at == last) {
            return None;
        }
        self.form = Form::Ziplist { before: size, at: at + size, last };
        Some(element)
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        self.rest.split_off(..count)
    }

    /// An integer of `width` bytes, at most 8, the lowest first.
    fn int(&mut self, width: usize) -> Option<Str<'a>> {
        let mut wide = [0; 8];
        wide.get_mut(8 - width..)?.copy_from_slice(self.take(width)?);
        Some(Str::Int(i64::from_le_bytes(wide) >> (64 - 8 * width)))
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = Result<Str<'a>, RdbError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return match self.left.take() {
                None | Some(0) => None,
                Some(_) => Some(Err(RdbError::Corrupt("a packed block has fewer elements than it says"))),
            };
        }
        let element = match self.form {
            Form::Listpack => self.listpack_element(),
            Form::Ziplist { before, at, last } => self.ziplist_element(before, at, last),
        };
        let counted = match &mut self.left {
            None => Some(()),
            Some(left) => left.checked_sub(1).map(|less| *left = less),
        };
        if element.is_none() || counted.is_none() {
            // Nothing behind the damage is looked at.
            self.rest = &[];
            self.left = None;
            return Some(Err(RdbError::Corrupt("damaged element of a packed block")));
        }
        element.map(Ok)
    }
}

/// The fields and values of a zipmap, the form of small hashes before Redis 2.6: a count, then fields and values by turns, each
/// behind its length and a value also behind the number of unused bytes that follow it; the end mark.
pub fn zipmap(block: &[u8], mut each: impl FnMut(&[u8], &[u8]) -> Result<(), RdbError>) -> Result<(), RdbError> {
    const DAMAGED: RdbError = RdbError::Corrupt("damaged zipmap");
    /// From here on the count is not known.
    const COUNT_MAX: u8 = 254;
    let (&count, mut rest) = block.split_first().ok_or(DAMAGED)?;
    let mut seen = 0usize;
    while let Some(len) = zipmap_len(&mut rest).ok_or(DAMAGED)? {
        let field = rest.split_off(..len).ok_or(DAMAGED)?;
        let len = zipmap_len(&mut rest).flatten().ok_or(DAMAGED)?;
        let unused = *rest.split_off_first().ok_or(DAMAGED)?;
        let value = rest.split_off(..len).ok_or(DAMAGED)?;
        rest.split_off(..usize::from(unused)).ok_or(DAMAGED)?;
        each(field, value)?;
        seen += 1;
    }
    if !rest.is_empty() || count < COUNT_MAX && usize::from(count) != seen { Err(DAMAGED) } else { Ok(()) }
}

/// A length of a zipmap; `Some(None)` at the end mark, `None` for damage.
fn zipmap_len(rest: &mut &[u8]) -> Option<Option<usize>> {
    Some(match *rest.split_off_first()? {
        END => None,
        254 => {
            let (len, behind) = rest.split_first_chunk::<4>()?;
            *rest = behind;
            Some(u32::from_le_bytes(*len) as usize)
        }
        len => Some(usize::from(len)),
    })
}

/// The members of an integer set, ascending: the bytes of one in 4, their number in 4, the members.
pub fn int_set(block: &[u8]) -> Result<impl ExactSizeIterator<Item = i64>, RdbError> {
    const DAMAGED: RdbError = RdbError::Corrupt("damaged integer set");
    let (width, rest) = block.split_first_chunk::<4>().ok_or(DAMAGED)?;
    let (count, members) = rest.split_first_chunk::<4>().ok_or(DAMAGED)?;
    let width = u32::from_le_bytes(*width) as usize;
    let known = matches!(width, 2 | 4 | 8);
    if !known || members.len() / width != u32::from_le_bytes(*count) as usize || members.len() % width != 0 {
        return Err(DAMAGED);
    }
    let members = members.chunks_exact(width).map(move |member| {
        let mut wide = [0; 8];
        // A member has `width` bytes, at most 8.
        wide[8 - width..].copy_from_slice(member);
        i64::from_le_bytes(wide) >> (64 - 8 * width)
    });
    if !members.clone().is_sorted_by(|a, b| a < b) {
        return Err(RdbError::Corrupt("an integer set is out of order"));
    }
    Ok(members)
}

/// Appends a listpack of `elements`, of which there are `count`. The caller sees to it that they take less than 4 GiB.
pub fn put_listpack(elements: &[u8], count: usize, out: &mut Vec<u8>) {
    out.extend(((elements.len() + LISTPACK_FRAME) as u32).to_le_bytes());
    out.extend(u16::try_from(count).unwrap_or(COUNT_UNKNOWN).to_le_bytes());
    out.extend_from_slice(elements);
    out.push(END);
}

/// Bytes of a listpack around its elements.
pub const LISTPACK_FRAME: usize = 7;

#[cfg(test)]
mod tests {
    use super::*;
    use kelda_store::packed::Packed;
    use proptest::prelude::*;

    fn texts(elements: Elements<'_>) -> Result<Vec<Vec<u8>>, RdbError> {
        elements.map(|element| element.map(|element| element.to_vec())).collect()
    }

    fn listpack(texts: &[Vec<u8>]) -> Vec<u8> {
        let mut packed = Packed::new();
        texts.iter().for_each(|text| packed.push_back(Str::Bytes(text)));
        let mut out = Vec::new();
        put_listpack(packed.elements(), packed.len(), &mut out);
        out
    }

    #[test]
    fn a_ziplist_is_read() {
        // "1", "a", 300, a string of 64 bytes.
        let mut block = vec![0, 0, 0, 0, 10 + 2 + 3 + 4, 0, 0, 0, 4, 0];
        block.extend([0, 0xf2, 2, 1, b'a', 3, 0xc0, 0x2c, 0x01, 4, 0x40, 64]);
        block.extend([b'x'; 64]);
        block.push(0xff);
        block[0] = block.len() as u8;
        let want = [b"1".to_vec(), b"a".to_vec(), b"300".to_vec(), vec![b'x'; 64]];
        assert_eq!(texts(Elements::ziplist(&block).unwrap()).unwrap(), want);
        for at in 0..block.len() - 65 {
            let mut damaged = block.clone();
            damaged[at] ^= 0x15;
            let _ = Elements::ziplist(&damaged).and_then(texts);
        }
    }

    #[test]
    fn a_zipmap_is_read() {
        let block = b"\x02\x03foo\x03\x00bar\x05hello\x05\x02world__\xff";
        let mut pairs = Vec::new();
        zipmap(block, |field, value| {
            pairs.push((field.to_vec(), value.to_vec()));
            Ok(())
        })
        .unwrap();
        assert_eq!(pairs, [(b"foo".to_vec(), b"bar".to_vec()), (b"hello".to_vec(), b"world".to_vec())]);
        for len in 0..block.len() {
            assert!(zipmap(&block[..len], |_, _| Ok(())).is_err());
        }
    }

    #[test]
    fn an_integer_set_is_read() {
        let block = b"\x02\0\0\0\x03\0\0\0\xff\xff\x00\x00\x05\x00";
        assert_eq!(int_set(block).unwrap().collect::<Vec<_>>(), [-1, 0, 5]);
        assert!(int_set(b"\x02\0\0\0\x03\0\0\0\xff\xff\x00\x00\x00\x00").is_err());
        assert!(int_set(b"\x00\0\0\0\x03\0\0\0\xff\xff\x00\x00\x00\x00").is_err());
        assert!(int_set(&block[..13]).is_err());
    }

    proptest! {
        #[test]
        fn listpacks_come_back(input in proptest::collection::vec(
            prop_oneof![proptest::collection::vec(any::<u8>(), 0..200), any::<i64>().prop_map(|n| n.to_string().into_bytes()),
                (-5000i64..5000).prop_map(|n| n.to_string().into_bytes()), Just(vec![7; 5000])], 0..20)) {
            let block = listpack(&input);
            prop_assert_eq!(texts(Elements::listpack(&block).unwrap()).unwrap(), input);
        }

        #[test]
        fn damaged_blocks_do_not_panic(input in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20), 0..9),
                at: usize, bits in 1u8..) {
            let mut block = listpack(&input);
            let at = at % block.len();
            block[at] ^= bits;
            let _ = Elements::listpack(&block).and_then(texts);
            let _ = Elements::ziplist(&block).and_then(texts);
            let _ = zipmap(&block, |_, _| Ok(()));
            let _ = int_set(&block).map(|members| members.count());
        }
    }
}
