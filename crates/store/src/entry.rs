//! One key: header, optional expiry, key and value in one allocation.
//!
//! ```text
//! 0        8           16 (8 without expiry)
//! | header | expiry ms | fixed part of the value | key length (long keys) | key bytes | inline string |
//! ```
//!
//! The fixed part is the integer, the collection itself (a small handle, moved bitwise), the `Box<Stream>`, or the [`Long`]
//! of a long string; nothing for an inline one. Everything in it has an alignment of at most 8.
//!
//! A key of 16 bytes with an integer, or with a string of 8 bytes, takes 32 bytes. Allocators in use (mimalloc, jemalloc)
//! round sizes to multiples of 16 up to 128 bytes and to four sizes for each doubling above: an inline string gets the
//! rounding as spare room, so that rewriting it with a similar length stays in place.
//!
//! Whoever changes the fields an [`EntryRef`] may change (access, the indexed flag, the colour) holds the shard's lock.

use crate::defrag::Mover;
use crate::long::Long;
use crate::str::parse_int;
use crate::table::{Item, SlotMut};
use crate::value::{Kind, Value, ValueMut, ValueRef};
use crate::{Str, hash::Hash, list::List, set::Set, stream::Stream, zset::ZSet};
use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering::Relaxed};

/// Longest string, in bytes, that lies in the entry itself.
///
/// Inline, a value costs no second cache miss and no second allocation (24 bytes of `Vec` and its rounding). Longer ones
/// are more often appended to, and would be copied whole whenever an expiry comes or goes.
pub const INLINE_MAX: usize = 512;

/// Longest string shown as `embstr` by `OBJECT ENCODING`, as in Redis.
const EMBSTR_MAX: usize = 44;

/// Longest key: what the long form of the length can say.
pub const KEY_MAX: usize = u32::MAX as usize;

/// The value of [`EntryRef::access`] has this many bits.
pub const ACCESS_BITS: u32 = 24;
const ACCESS_MASK: u32 = (1 << ACCESS_BITS) - 1;

/// How the value is kept: the low bits of the header's flags.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
enum Encoding {
    Int,
    Inline,
    Long,
    List,
    Set,
    ZSet,
    Hash,
    Stream,
}

impl Encoding {
    const ALL: [Encoding; 8] = [
        Encoding::Int,
        Encoding::Inline,
        Encoding::Long,
        Encoding::List,
        Encoding::Set,
        Encoding::ZSet,
        Encoding::Hash,
        Encoding::Stream,
    ];
    const MASK: u8 = 7;

    /// Size of the value's fixed part.
    #[inline]
    const fn fixed_size(self) -> usize {
        match self {
            Encoding::Int => size_of::<i64>(),
            Encoding::Inline => 0,
            Encoding::Long => size_of::<Long>(),
            Encoding::List => size_of::<List>(),
            Encoding::Set => size_of::<Set>(),
            Encoding::ZSet => size_of::<ZSet>(),
            Encoding::Hash => size_of::<Hash>(),
            Encoding::Stream => size_of::<Box<Stream>>(),
        }
    }

    #[inline]
    fn kind(self) -> Kind {
        match self {
            Encoding::Int | Encoding::Inline | Encoding::Long => Kind::String,
            Encoding::List => Kind::List,
            Encoding::Set => Kind::Set,
            Encoding::ZSet => Kind::ZSet,
            Encoding::Hash => Kind::Hash,
            Encoding::Stream => Kind::Stream,
        }
    }
}

const ALIGN: usize = 8;
const _: () = assert!(align_of::<List>() <= ALIGN && align_of::<Set>() <= ALIGN);
const _: () = assert!(align_of::<Long>() <= ALIGN && size_of::<Long>() == size_of::<Vec<u8>>());
const _: () = assert!(align_of::<ZSet>() <= ALIGN && align_of::<Hash>() <= ALIGN);

/// Flags above the encoding: there is an expiry; the key has the long form; the string is shown as `raw`; the expiry
/// index has a registration; the colour (see [`crate::snapshot`]).
const EXPIRES: u8 = 1 << 3;
const LONG_KEY: u8 = 1 << 4;
const RAW: u8 = 1 << 5;
const INDEXED: u8 = 1 << 6;
const COLOUR: u8 = 1 << 7;

#[repr(C, align(8))]
struct Header {
    /// Encoding and flags.
    flags: AtomicU8,
    /// Length of the key, unless it has the long form.
    key_len: u8,
    /// Length of an inline string, else 0.
    inline_len: u16,
    /// Low 24 bits: access field. High 8 bits: spare bytes after an inline string.
    access: AtomicU32,
}

const HEADER: usize = size_of::<Header>();

/// Where the value's fixed part ends, by encoding, with and without an expiry.
const AFTER_FIXED: [u8; 16] = {
    let mut ends = [0; 16];
    let mut at = 0;
    while at < ends.len() {
        let expiry = if at as u8 & EXPIRES != 0 { size_of::<i64>() } else { 0 };
        let end = HEADER + expiry + Encoding::ALL[at & Encoding::MASK as usize].fixed_size();
        assert!(end <= u8::MAX as usize);
        ends[at] = end as u8;
        at += 1;
    }
    ends
};
const _: () = assert!(HEADER == 8 && INLINE_MAX <= u16::MAX as usize);

/// The most spare bytes that the header can tell of.
const SPARE_MAX: usize = 255;

/// The size that the allocators in use make of `size`: four sizes for each doubling, and multiples of 16 up to 128.
pub(crate) fn rounded(size: usize) -> usize {
    match size {
        0..=8 => 8,
        9..=128 => size.next_multiple_of(16),
        _ => size.next_multiple_of(1 << ((size - 1).ilog2() - 2)),
    }
}

/// An owned key with its value.
pub struct Entry(NonNull<u8>);

// SAFETY: an entry owns what it points to: a key and a value. (The bounds hold or the crate does not compile.)
unsafe impl Send for Entry where Value: Send {}
// SAFETY: as above; what a shared entry lets change (access, indexed) is atomic.
unsafe impl Sync for Entry where Value: Sync {}

/// A borrowed entry.
#[derive(Clone, Copy)]
pub struct EntryRef<'a>(NonNull<u8>, PhantomData<&'a Entry>);

// SAFETY: an `EntryRef` is a shared reference to an entry.
unsafe impl Send for EntryRef<'_> where Entry: Sync {}
// SAFETY: as above.
unsafe impl Sync for EntryRef<'_> where Entry: Sync {}

/// Where the parts of an entry lie, in bytes from its start.
struct Parts {
    key: usize,
    key_len: usize,
    inline: usize,
    size: usize,
}

impl<'a> EntryRef<'a> {
    #[inline]
    fn header(self) -> &'a Header {
        // SAFETY: every entry begins with an initialised header; only its atomics change while the entry is borrowed.
        unsafe { self.0.cast().as_ref() }
    }

    #[inline]
    fn flags(self) -> u8 {
        self.header().flags.load(Relaxed)
    }

    #[inline]
    fn encoding(self) -> Encoding {
        // The mask keeps the index below 8.
        Encoding::ALL[(self.flags() & Encoding::MASK) as usize]
    }

    #[inline]
    fn spare(self) -> usize {
        (self.header().access.load(Relaxed) >> ACCESS_BITS) as usize
    }

    #[inline]
    fn fixed_at(self) -> usize {
        HEADER + if self.flags() & EXPIRES != 0 { size_of::<i64>() } else { 0 }
    }

    #[inline]
    fn parts(self) -> Parts {
        let header = self.header();
        let flags = self.flags();
        // The mask keeps the index below 16.
        let after = usize::from(AFTER_FIXED[(flags & (EXPIRES | Encoding::MASK)) as usize]);
        let (key, key_len) = if flags & LONG_KEY != 0 {
            // SAFETY: the long form's length lies after the fixed part; it need not be aligned there.
            let len = unsafe { self.0.add(after).cast::<u32>().read_unaligned() };
            (after + size_of::<u32>(), len as usize)
        } else {
            (after, usize::from(header.key_len))
        };
        let inline = key + key_len;
        Parts { key, key_len, inline, size: inline + usize::from(header.inline_len) + self.spare() }
    }

    /// `len` initialised bytes at `at` of the entry.
    #[inline]
    fn bytes(self, at: usize, len: usize) -> &'a [u8] {
        // SAFETY: callers name the key or the inline string, which are initialised and do not change during 'a.
        unsafe { std::slice::from_raw_parts(self.0.add(at).as_ptr(), len) }
    }

    /// The fixed part.
    ///
    /// # Safety
    ///
    /// `T` is the type that the encoding stands for.
    #[inline]
    unsafe fn fixed<T>(self) -> &'a T {
        // SAFETY: the caller's promise; the fixed part is initialised and aligned to 8.
        unsafe { self.0.add(self.fixed_at()).cast().as_ref() }
    }

    /// The key.
    #[inline]
    pub fn key(self) -> &'a [u8] {
        let parts = self.parts();
        self.bytes(parts.key, parts.key_len)
    }

    /// The value.
    #[inline]
    pub fn value(self) -> ValueRef<'a> {
        // SAFETY: in each arm, the type that the encoding stands for.
        unsafe {
            match self.encoding() {
                Encoding::Int => ValueRef::String(Str::Int(*self.fixed::<i64>())),
                Encoding::Inline => {
                    let len = usize::from(self.header().inline_len);
                    ValueRef::String(Str::Bytes(self.bytes(self.parts().inline, len)))
                }
                Encoding::Long => ValueRef::String(Str::Bytes(self.fixed::<Long>())),
                Encoding::List => ValueRef::List(self.fixed()),
                Encoding::Set => ValueRef::Set(self.fixed()),
                Encoding::ZSet => ValueRef::ZSet(self.fixed()),
                Encoding::Hash => ValueRef::Hash(self.fixed()),
                Encoding::Stream => ValueRef::Stream(self.fixed::<Box<Stream>>()),
            }
        }
    }

    /// A long string, to be shared: as long as somebody refers to it, it does not change.
    #[inline]
    pub fn shared(self) -> Option<&'a Arc<Vec<u8>>> {
        // SAFETY: the type that the encoding stands for.
        (self.encoding() == Encoding::Long).then(|| unsafe { self.fixed::<Long>() })?.shared()
    }

    /// The type of the value.
    #[inline]
    pub fn kind(self) -> Kind {
        self.encoding().kind()
    }

    /// When the key expires, in Unix milliseconds.
    #[inline]
    pub fn expire_at(self) -> Option<i64> {
        // SAFETY: with this flag, the expiry lies after the header.
        (self.flags() & EXPIRES != 0).then(|| unsafe { self.0.add(HEADER).cast::<i64>().read() })
    }

    /// When the first field of a hash, or member of a set or sorted set, expires, in Unix milliseconds.
    #[inline]
    pub fn field_due(self) -> Option<i64> {
        // SAFETY: the types that the encodings stand for.
        unsafe {
            match self.encoding() {
                Encoding::Hash => self.fixed::<Hash>().soonest(),
                Encoding::Set => self.fixed::<Set>().soonest(),
                Encoding::ZSet => self.fixed::<ZSet>().soonest(),
                _ => None,
            }
        }
    }

    /// When there is something to expire: the key, or a field or member of it.
    #[inline]
    pub fn next_due(self) -> Option<i64> {
        match (self.expire_at(), self.field_due()) {
            (Some(key), Some(field)) => Some(key.min(field)),
            (key, field) => key.or(field),
        }
    }

    /// The access field: [`ACCESS_BITS`] bits that eviction keeps its LRU clock or LFU counter in.
    #[inline]
    pub fn access(self) -> u32 {
        self.header().access.load(Relaxed) & ACCESS_MASK
    }

    /// Sets the access field to the low [`ACCESS_BITS`] bits of `access`.
    #[inline]
    pub fn set_access(self, access: u32) {
        let field = &self.header().access;
        field.store(field.load(Relaxed) & !ACCESS_MASK | access & ACCESS_MASK, Relaxed);
    }

    /// Whether the expiry index has a registration at or before [`EntryRef::next_due`]; see [`crate::expiry`].
    #[inline]
    pub fn is_indexed(self) -> bool {
        self.flags() & INDEXED != 0
    }

    /// Notes whether the expiry index has a registration.
    #[inline]
    pub fn set_indexed(self, indexed: bool) {
        let flags = self.flags() & !INDEXED | if indexed { INDEXED } else { 0 };
        self.header().flags.store(flags, Relaxed);
    }

    /// The entry's colour; see [`crate::snapshot`].
    #[inline]
    pub(crate) fn colour(self) -> bool {
        self.flags() & COLOUR != 0
    }

    /// Gives the entry a colour.
    #[inline]
    pub(crate) fn set_colour(self, colour: bool) {
        let flags = self.flags() & !COLOUR | if colour { COLOUR } else { 0 };
        self.header().flags.store(flags, Relaxed);
    }

    /// Whether a string was changed in place, so that `OBJECT ENCODING` shows `raw` whatever its length.
    pub fn is_raw(self) -> bool {
        self.flags() & RAW != 0
    }

    /// What `OBJECT ENCODING` says of a string.
    pub fn string_encoding(self) -> &'static str {
        match self.value() {
            ValueRef::String(Str::Int(_)) => "int",
            ValueRef::String(Str::Bytes(bytes)) if bytes.len() <= EMBSTR_MAX && !self.is_raw() => "embstr",
            _ => "raw",
        }
    }

    /// Memory that the entry has allocated, in bytes, with a long string's own; without what a collection holds beyond its
    /// handle.
    pub fn allocated_bytes(self) -> usize {
        let own = rounded(self.parts().size);
        match self.encoding() {
            // SAFETY: the type that the encoding stands for.
            Encoding::Long => own + unsafe { self.fixed::<Long>() }.allocated_bytes(rounded),
            _ => own,
        }
    }

    /// A copy of the whole entry.
    pub fn to_owned_entry(self) -> Entry {
        let copy = Entry::new(self.key(), self.to_value(), self.expire_at());
        copy.as_ref().set_access(self.access());
        copy
    }

    /// A copy of the value.
    pub fn to_value(self) -> Value {
        match self.value() {
            ValueRef::String(Str::Int(n)) => Value::Int(n),
            ValueRef::String(Str::Bytes(bytes)) => Value::String { bytes: bytes.to_vec().into(), raw: self.is_raw() },
            ValueRef::List(list) => Value::List(list.clone()),
            ValueRef::Set(set) => Value::Set(set.clone()),
            ValueRef::ZSet(zset) => Value::ZSet(zset.clone()),
            ValueRef::Hash(hash) => Value::Hash(hash.clone()),
            ValueRef::Stream(stream) => Value::Stream(Box::new(stream.clone())),
        }
    }
}

/// What an entry is made from, besides its value.
struct Frame<'a> {
    key: &'a [u8],
    expire_at: Option<i64>,
    access: u32,
    indexed: bool,
    colour: bool,
}

impl Frame<'_> {
    /// Allocates an entry of which all but the value's bytes are written: the caller fills the fixed part, and
    /// `inline_len` bytes of the inline string, before anything reads them.
    fn build(&self, encoding: Encoding, inline_len: usize, raw: bool) -> Entry {
        debug_assert!(inline_len <= INLINE_MAX);
        assert!(self.key.len() <= KEY_MAX, "keys are shorter than 4 GiB");
        let mut flags = encoding as u8;
        let fixed = HEADER + if self.expire_at.is_some() { size_of::<i64>() } else { 0 };
        let after = fixed + encoding.fixed_size();
        let long = self.key.len() > usize::from(u8::MAX);
        let key = after + if long { size_of::<u32>() } else { 0 };
        let used = key + self.key.len() + inline_len;
        let spare = if encoding == Encoding::Inline { (rounded(used) - used).min(SPARE_MAX) } else { 0 };
        for (flag, set) in [
            (EXPIRES, self.expire_at.is_some()),
            (LONG_KEY, long),
            (RAW, raw),
            (INDEXED, self.indexed),
            (COLOUR, self.colour),
        ] {
            flags |= if set { flag } else { 0 };
        }
        let layout = layout(used + spare);
        // SAFETY: the layout has at least the header's size. All offsets are below it; the header, the expiry and the
        // fixed part are aligned to 8, and the length of a long key is written unaligned.
        unsafe {
            let Some(entry) = NonNull::new(alloc(layout)) else { handle_alloc_error(layout) };
            entry.cast::<Header>().write(Header {
                flags: AtomicU8::new(flags),
                key_len: if long { 0 } else { self.key.len() as u8 },
                inline_len: inline_len as u16,
                access: AtomicU32::new((spare as u32) << ACCESS_BITS | self.access & ACCESS_MASK),
            });
            if let Some(at) = self.expire_at {
                entry.add(HEADER).cast::<i64>().write(at);
            }
            if long {
                entry.add(after).cast::<u32>().write_unaligned(self.key.len() as u32);
            }
            ptr::copy_nonoverlapping(self.key.as_ptr(), entry.add(key).as_ptr(), self.key.len());
            Entry(entry)
        }
    }

    /// Builds an entry with a value of a fixed size.
    ///
    /// # Safety
    ///
    /// `T` is the type that the encoding stands for.
    unsafe fn with_fixed<T>(&self, encoding: Encoding, value: T, raw: bool) -> Entry {
        debug_assert_eq!(encoding.fixed_size(), size_of::<T>());
        let entry = self.build(encoding, 0, raw);
        // SAFETY: the fixed part has T's size and is aligned to 8.
        unsafe { entry.fixed_ptr::<T>().write(value) };
        entry
    }

    /// Builds an entry with an inline string of `len` bytes: `start`, then zeroes.
    fn with_inline(&self, start: &[u8], len: usize, raw: bool) -> Entry {
        let entry = self.build(Encoding::Inline, len, raw);
        let inline = entry.inline_ptr();
        let copied = start.len().min(len);
        // SAFETY: the inline string has `len` bytes, of which the first `copied` and then the rest are written.
        unsafe {
            ptr::copy_nonoverlapping(start.as_ptr(), inline, copied);
            ptr::write_bytes(inline.add(copied), 0, len - copied);
        }
        entry
    }

    /// Builds an entry with the bytes of a string, as they are.
    fn with_bytes(&self, bytes: &[u8], raw: bool) -> Entry {
        if bytes.len() <= INLINE_MAX {
            self.with_inline(bytes, bytes.len(), raw)
        } else {
            // SAFETY: `Encoding::Long` stands for `Long`.
            unsafe { self.with_fixed(Encoding::Long, Long::from(bytes.to_vec()), raw) }
        }
    }

    fn with_value(&self, value: Value) -> Entry {
        // SAFETY: in each arm, the type that the encoding stands for.
        unsafe {
            match value {
                Value::Int(n) => self.with_fixed(Encoding::Int, n, false),
                Value::String { bytes, raw } => match parse_int(&bytes).filter(|_| !raw) {
                    Some(n) => self.with_fixed(Encoding::Int, n, false),
                    None if bytes.len() <= INLINE_MAX => self.with_inline(&bytes, bytes.len(), raw),
                    None => {
                        let mut bytes = bytes;
                        bytes.shrink();
                        self.with_fixed(Encoding::Long, bytes, raw)
                    }
                },
                Value::List(list) => self.with_fixed(Encoding::List, list, false),
                Value::Set(set) => self.with_fixed(Encoding::Set, set, false),
                Value::ZSet(zset) => self.with_fixed(Encoding::ZSet, zset, false),
                Value::Hash(hash) => self.with_fixed(Encoding::Hash, hash, false),
                Value::Stream(stream) => self.with_fixed(Encoding::Stream, stream, false),
            }
        }
    }
}

fn layout(size: usize) -> Layout {
    // SAFETY: 8 is a power of two, and sizes are those of keys and inline strings, far below isize::MAX.
    unsafe { Layout::from_size_align_unchecked(size, ALIGN) }
}

impl Entry {
    /// Makes an entry. A string that is the canonical text of an integer is kept as one unless it is `raw`. The access
    /// field starts at 0, and the entry is not indexed. Keys are shorter than 4 GiB.
    pub fn new(key: &[u8], value: Value, expire_at: Option<i64>) -> Entry {
        Frame { key, expire_at, access: 0, indexed: false, colour: false }.with_value(value)
    }

    /// Has the processor fetch what a table needs to take the entry in.
    #[inline]
    pub fn prefetch(&self) {
        crate::table::prefetch(self.0.as_ptr());
    }

    /// As [`Entry::new`] with a [`Value::String`], without a vector on the way.
    pub fn from_bytes(key: &[u8], bytes: &[u8], raw: bool, expire_at: Option<i64>) -> Entry {
        let frame = Frame { key, expire_at, access: 0, indexed: false, colour: false };
        match parse_int(bytes).filter(|_| !raw) {
            // SAFETY: `Int` stands for an i64.
            Some(n) => unsafe { frame.with_fixed(Encoding::Int, n, false) },
            None => frame.with_bytes(bytes, raw),
        }
    }

    /// Borrows the entry.
    #[inline]
    pub fn as_ref(&self) -> EntryRef<'_> {
        EntryRef(self.0, PhantomData)
    }

    /// Frees the key and keeps the value.
    pub fn into_value(self) -> Value {
        let entry = ManuallyDrop::new(self);
        let this = entry.as_ref();
        // SAFETY: the fixed part is moved out with the type that the encoding stands for, and the memory then freed
        // without dropping it.
        unsafe {
            let value = match this.encoding() {
                Encoding::Int | Encoding::Inline => this.to_value(),
                Encoding::Long => Value::String { bytes: entry.fixed_ptr::<Long>().read(), raw: this.is_raw() },
                Encoding::List => Value::List(entry.fixed_ptr::<List>().read()),
                Encoding::Set => Value::Set(entry.fixed_ptr::<Set>().read()),
                Encoding::ZSet => Value::ZSet(entry.fixed_ptr::<ZSet>().read()),
                Encoding::Hash => Value::Hash(entry.fixed_ptr::<Hash>().read()),
                Encoding::Stream => Value::Stream(entry.fixed_ptr::<Box<Stream>>().read()),
            };
            entry.free_memory();
            value
        }
    }

    /// The same value and expiry under another key, as RENAME wants it. The new entry is not indexed.
    pub fn with_key(mut self, new_key: &[u8]) -> Entry {
        let frame = Frame { key: new_key, indexed: false, ..self.frame() };
        let moved = self.moved(&frame);
        self.become_moved(moved);
        self
    }

    /// Sets or removes the expiry, in Unix milliseconds. The indexed flag stays as it is.
    pub fn set_expire_at(&mut self, expire_at: Option<i64>) {
        match (self.as_ref().expire_at(), expire_at) {
            (None, None) => {}
            // SAFETY: an entry that has an expiry keeps it after the header.
            (Some(_), Some(at)) => unsafe { self.0.add(HEADER).cast::<i64>().write(at) },
            _ => {
                let moved = self.moved(&Frame { expire_at, ..self.frame() });
                self.become_moved(moved);
            }
        }
    }

    /// See [`SlotMut::set_int`].
    fn set_int(&mut self, n: i64) {
        if self.as_ref().encoding() == Encoding::Int {
            // SAFETY: `Int` stands for an i64.
            unsafe { self.fixed_ptr::<i64>().write(n) };
        } else {
            // SAFETY: as above.
            *self = unsafe { self.frame().with_fixed(Encoding::Int, n, false) };
        }
    }

    /// See [`SlotMut::set_string`].
    fn set_string(&mut self, bytes: &[u8], raw: bool) {
        if let Some(n) = parse_int(bytes).filter(|_| !raw) {
            return self.set_int(n);
        }
        let this = self.as_ref();
        match this.encoding() {
            Encoding::Inline if self.fits_inline(bytes.len()) => {
                self.set_inline_len(bytes.len());
                // SAFETY: there is room for so many bytes; the source is borrowed and thus not within this entry.
                unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), self.inline_ptr(), bytes.len()) };
                self.set_raw_flag(raw);
            }
            Encoding::Long if bytes.len() > INLINE_MAX => {
                // SAFETY: `Encoding::Long` stands for `Long`.
                unsafe { &mut *self.fixed_ptr::<Long>() }.set(bytes);
                self.set_raw_flag(raw);
            }
            _ => *self = self.frame().with_bytes(bytes, raw),
        }
    }

    /// See [`SlotMut::string_mut`].
    fn string_mut(&mut self, len_min: usize) -> &mut [u8] {
        let mut text = itoa::Buffer::new();
        let this = self.as_ref();
        let (current, is_long) = match this.value() {
            ValueRef::String(Str::Int(n)) => (text.format(n).as_bytes(), false),
            ValueRef::String(Str::Bytes(bytes)) => (bytes, this.encoding() == Encoding::Long),
            _ => return &mut [],
        };
        let (old_len, len) = (current.len(), current.len().max(len_min));
        if is_long {
            self.set_raw_flag(true);
            // SAFETY: `Encoding::Long` stands for `Long`; `current` is not used any more.
            return unsafe { &mut *self.fixed_ptr::<Long>() }.grown(len);
        }
        if len > INLINE_MAX {
            let mut long = Vec::with_capacity(rounded(len));
            long.extend_from_slice(current);
            long.resize(len, 0);
            // SAFETY: `Encoding::Long` stands for `Long`.
            *self = unsafe { self.frame().with_fixed(Encoding::Long, Long::from(long), true) };
        } else if this.encoding() == Encoding::Inline && self.fits_inline(len) {
            self.set_inline_len(len);
            // SAFETY: there is room for `len` bytes, of which `old_len` are initialised.
            unsafe { ptr::write_bytes(self.inline_ptr().add(old_len), 0, len - old_len) };
        } else {
            *self = self.frame().with_inline(current, len, true);
        }
        self.set_raw_flag(true);
        // SAFETY: the string now is `Long` or `Inline`, with `len` initialised bytes.
        unsafe {
            if self.as_ref().encoding() == Encoding::Long {
                (*self.fixed_ptr::<Long>()).grown(len)
            } else {
                std::slice::from_raw_parts_mut(self.inline_ptr(), len)
            }
        }
    }

    /// See [`SlotMut::replace_value`].
    fn replace_value(&mut self, value: Value) -> Value {
        let new = self.frame().with_value(value);
        std::mem::replace(self, new).into_value()
    }

    /// The collection.
    ///
    /// # Safety
    ///
    /// Nothing else uses the value during 'a.
    unsafe fn value_mut<'a>(&self) -> ValueMut<'a> {
        // SAFETY: in each arm, the type that the encoding stands for; and the caller's promise.
        unsafe {
            match self.as_ref().encoding() {
                Encoding::Int | Encoding::Inline | Encoding::Long => ValueMut::String,
                Encoding::List => ValueMut::List(&mut *self.fixed_ptr()),
                Encoding::Set => ValueMut::Set(&mut *self.fixed_ptr()),
                Encoding::ZSet => ValueMut::ZSet(&mut *self.fixed_ptr()),
                Encoding::Hash => ValueMut::Hash(&mut *self.fixed_ptr()),
                Encoding::Stream => ValueMut::Stream(&mut *self.fixed_ptr::<Box<Stream>>()),
            }
        }
    }

    /// What a successor of this entry keeps.
    fn frame(&self) -> Frame<'_> {
        let this = self.as_ref();
        Frame {
            key: this.key(),
            expire_at: this.expire_at(),
            access: this.access(),
            indexed: this.is_indexed(),
            colour: this.colour(),
        }
    }

    /// A bitwise copy of the value in a new frame: it owns the value together with `self`, until `become_moved`.
    fn moved(&self, frame: &Frame<'_>) -> ManuallyDrop<Entry> {
        let this = self.as_ref();
        let len = usize::from(this.header().inline_len);
        let new = ManuallyDrop::new(frame.build(this.encoding(), len, this.is_raw()));
        // SAFETY: both entries have the same encoding and thus a fixed part of the same size, and `len` inline bytes.
        unsafe {
            ptr::copy_nonoverlapping(self.fixed_ptr(), new.fixed_ptr::<u8>(), this.encoding().fixed_size());
            ptr::copy_nonoverlapping(self.inline_ptr(), new.inline_ptr(), len);
        }
        new
    }

    /// Takes the place that `moved` has prepared.
    fn become_moved(&mut self, moved: ManuallyDrop<Entry>) {
        let old = std::mem::replace(self, ManuallyDrop::into_inner(moved));
        // SAFETY: the value's owner is the new entry alone: the old one is freed without dropping it.
        unsafe { ManuallyDrop::new(old).free_memory() }
    }

    /// Moves the entry, as it is, to another allocation.
    fn relocate(&mut self) {
        let layout = layout(self.as_ref().parts().size);
        // SAFETY: the layout has at least the header's size and is the one of the old place, which is freed without
        // dropping what the new place now owns; the spare bytes need not be initialised.
        unsafe {
            let Some(new) = NonNull::new(alloc(layout)) else { handle_alloc_error(layout) };
            new.copy_from_nonoverlapping(self.0, layout.size());
            dealloc(std::mem::replace(&mut self.0, new).as_ptr(), layout);
        }
    }

    /// Whether an inline string of `len` bytes can replace the one there is in place: it has room, and does not waste
    /// more than the header can tell or than half of the allocation.
    fn fits_inline(&self, len: usize) -> bool {
        let this = self.as_ref();
        let room = usize::from(this.header().inline_len) + this.spare();
        if len > room || len > INLINE_MAX || room - len > SPARE_MAX {
            return false;
        }
        // So little is never more than half, header included.
        room - len <= HEADER || room - len <= this.parts().size / 2
    }

    /// Moves the border between an inline string and its spare bytes; `fits_inline(len)` holds.
    fn set_inline_len(&mut self, len: usize) {
        // SAFETY: every entry begins with a header, and this one is borrowed mutably.
        let header = unsafe { self.0.cast::<Header>().as_mut() };
        let access = header.access.get_mut();
        let room = usize::from(header.inline_len) + (*access >> ACCESS_BITS) as usize;
        *access = *access & ACCESS_MASK | ((room - len) as u32) << ACCESS_BITS;
        header.inline_len = len as u16;
    }

    fn set_raw_flag(&mut self, raw: bool) {
        let flags = &self.as_ref().header().flags;
        flags.store(flags.load(Relaxed) & !RAW | if raw { RAW } else { 0 }, Relaxed);
    }

    #[inline]
    fn fixed_ptr<T>(&self) -> *mut T {
        // SAFETY: the offset lies within the entry, or at its end if the fixed part is empty.
        unsafe { self.0.add(self.as_ref().fixed_at()) }.cast().as_ptr()
    }

    #[inline]
    fn inline_ptr(&self) -> *mut u8 {
        // SAFETY: the offset lies within the entry, or at its end if there is no inline string.
        unsafe { self.0.add(self.as_ref().parts().inline) }.as_ptr()
    }

    /// # Safety
    ///
    /// The entry is not used again, not even dropped.
    unsafe fn free_memory(&self) {
        // SAFETY: `parts` gives the size that the entry was allocated with.
        unsafe { dealloc(self.0.as_ptr(), layout(self.as_ref().parts().size)) }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        // SAFETY: in each arm, the type that the encoding stands for; then the entry's memory is freed, and not used again.
        unsafe {
            match self.as_ref().encoding() {
                Encoding::Int | Encoding::Inline => {}
                Encoding::Long => ptr::drop_in_place(self.fixed_ptr::<Long>()),
                Encoding::List => ptr::drop_in_place(self.fixed_ptr::<List>()),
                Encoding::Set => ptr::drop_in_place(self.fixed_ptr::<Set>()),
                Encoding::ZSet => ptr::drop_in_place(self.fixed_ptr::<ZSet>()),
                Encoding::Hash => ptr::drop_in_place(self.fixed_ptr::<Hash>()),
                Encoding::Stream => ptr::drop_in_place(self.fixed_ptr::<Box<Stream>>()),
            }
            self.free_memory();
        }
    }
}

// SAFETY: the address is that of the entry's own allocation, which `into_raw` gives up and `from_raw` takes back; the key
// in it does not change but by making another entry.
unsafe impl Item for Entry {
    type Ref<'a> = EntryRef<'a>;

    #[inline]
    fn into_raw(self) -> NonNull<u8> {
        ManuallyDrop::new(self).0
    }

    #[inline]
    unsafe fn from_raw(p: NonNull<u8>) -> Entry {
        Entry(p)
    }

    #[inline]
    unsafe fn borrow<'a>(p: NonNull<u8>) -> EntryRef<'a> {
        EntryRef(p, PhantomData)
    }

    #[inline]
    unsafe fn key<'a>(p: NonNull<u8>) -> &'a [u8] {
        EntryRef(p, PhantomData).key()
    }
}

/// Changes of an entry in its table. All keep the key, the expiry (but `set_expire_at`), the access field and the
/// indexed flag. A collection that a string replaces is dropped at once: take it with `replace_value` to free it elsewhere.
impl SlotMut<'_, Entry> {
    /// Calls `f` with the entry and puts its address, which `f` may change, back: even if `f` panics.
    #[inline]
    fn edit<R>(&mut self, f: impl FnOnce(&mut Entry) -> R) -> R {
        struct PutBack<'s, 't>(&'s mut SlotMut<'t, Entry>, ManuallyDrop<Entry>);
        impl Drop for PutBack<'_, '_> {
            #[inline]
            fn drop(&mut self) {
                // SAFETY: the entry at this address has the slot's key: it is the old one, or its successor.
                unsafe { self.0.set_raw(self.1.0) }
            }
        }
        let entry = ManuallyDrop::new(Entry(self.raw()));
        f(&mut PutBack(self, entry).1)
    }

    /// Moves the entry and a long string of it as `mover` wants. A collection's own memory is the collection's business.
    pub(crate) fn relocate(&mut self, mover: &mut Mover<'_>) {
        if mover.wants(self.raw(), 0) {
            self.edit(Entry::relocate);
        }
        let entry = ManuallyDrop::new(Entry(self.raw()));
        if entry.as_ref().encoding() == Encoding::Long {
            // SAFETY: `Encoding::Long` stands for `Long`, and the entry is borrowed mutably through `self`.
            unsafe { &mut *entry.fixed_ptr::<Long>() }.relocate(mover);
        }
    }

    /// The collection, to be changed in place.
    #[inline]
    pub fn value_mut(&mut self) -> ValueMut<'_> {
        // SAFETY: the entry is live and, through `self`, borrowed mutably as long as the result.
        unsafe { ManuallyDrop::new(Entry(self.raw())).value_mut() }
    }

    /// Makes the value this string: an integer if it is the canonical text of one and not `raw`. In place if it fits.
    pub fn set_string(&mut self, bytes: &[u8], raw: bool) {
        self.edit(|entry| entry.set_string(bytes, raw));
    }

    /// Makes the value this integer.
    pub fn set_int(&mut self, n: i64) {
        self.edit(|entry| entry.set_int(n));
    }

    /// Adds bytes at the end of a string, which is shown as `raw` from then on. Amortised O(1) for each byte. Does nothing
    /// to a collection.
    pub fn append(&mut self, bytes: &[u8]) {
        if let ValueRef::String(text) = self.get().value() {
            self.set_range(text.len(), bytes);
        }
    }

    /// Overwrites a string from `offset`, with zeroes up to there if it is shorter; it is shown as `raw` from then on.
    /// The caller bounds `offset + bytes.len()`. Does nothing to a collection.
    pub fn set_range(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        if let Some(range) = self.string_mut(end).get_mut(offset..end) {
            range.copy_from_slice(bytes);
        }
    }

    /// The bytes of a string, made at least `len_min` long with zeroes and shown as `raw` from then on. Empty for a
    /// collection.
    pub fn string_mut(&mut self, len_min: usize) -> &mut [u8] {
        let bytes: *mut [u8] = self.edit(|entry| ptr::from_mut(entry.string_mut(len_min)));
        // SAFETY: the bytes lie in the entry, which stays where it is as long as `self` is borrowed.
        unsafe { &mut *bytes }
    }

    /// Replaces the value, of whatever type, and returns the old one.
    pub fn replace_value(&mut self, value: Value) -> Value {
        self.edit(|entry| entry.replace_value(value))
    }

    /// Sets or removes the expiry, in Unix milliseconds.
    pub fn set_expire_at(&mut self, expire_at: Option<i64>) {
        self.edit(|entry| entry.set_expire_at(expire_at));
    }
}

#[cfg(test)]
mod tests;
