//! What a transaction changed, as RESP text that goes into the log as it is.
//!
//! Invariants: the text is a sequence of ordinary Redis commands that make the same changes wherever they are run in order; a
//! SELECT stands before each whose database is not that of the one before. The first has no SELECT, and there is no MULTI
//! around: whoever writes knows which database the reader is in ([`Changes::first_db`]) and what a transaction looks like
//! there. One buffer is used again and again, so that a change allocates nothing.

use smallvec::SmallVec;
use std::fmt;

/// Words of a command that further elements are added to, at most.
const WORDS_MAX: usize = 1024;
/// Bytes that a word needs besides its own: `$`, a length, two line ends.
const AROUND: usize = 16;
/// Capacity that an empty buffer keeps, in bytes.
const KEEP_BYTES: usize = 1 << 20;

/// The words of a command.
pub type Words<'a> = SmallVec<[&'a [u8]; 8]>;

/// One change: an ordinary Redis command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change<'a> {
    /// The database.
    pub db: u32,
    /// The command and its arguments.
    pub argv: Words<'a>,
}

/// The changes of one transaction, in order.
#[derive(Clone, Default)]
pub struct Changes {
    bytes: Vec<u8>,
    len: usize,
    first_db: u32,
    last_db: u32,
    /// The last command, if elements may still be added to it.
    open: Option<Open>,
    /// Where units begin, but for the first.
    units: SmallVec<[Start; 1]>,
}

/// Where a unit begins.
#[derive(Clone, Copy, Default)]
struct Start {
    /// In the text.
    at: usize,
    /// How many changes come before it.
    len: usize,
    /// The database that those before leave the reader in.
    db: u32,
}

/// Changes that replicas and readers of the log must see together: what one client's command, script or EXEC did. A transaction
/// has several if it served blocked clients, or removed keys that were due, each on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unit<'a> {
    /// The text.
    pub body: &'a [u8],
    /// Number of changes.
    pub len: usize,
    /// The database that the reader must be in.
    pub first_db: u32,
    /// The database that the reader is in afterwards.
    pub last_db: u32,
}

/// A command about elements of a key, the last of the text.
#[derive(Clone)]
struct Open {
    name: &'static [u8],
    /// Where it begins.
    start: usize,
    /// Where its key lies.
    key: (usize, usize),
    words: usize,
}

impl Changes {
    /// Adds a command that changes database `db`. O(bytes).
    #[inline]
    pub fn push(&mut self, db: u32, argv: &[&[u8]]) {
        self.begin(db, argv.len(), argv.iter().map(|word| word.len()).sum());
        argv.iter().for_each(|word| self.word(word));
        self.len += 1;
    }

    /// Adds `SET key text`, of which most logs mostly consist. O(bytes).
    #[inline]
    pub fn push_set(&mut self, db: u32, key: &[u8], text: &[u8]) {
        const BEFORE: &[u8; 13] = b"*3\r\n$3\r\nSET\r\n";
        self.begin_text(db, BEFORE.len() + key.len() + text.len() + 2 * AROUND);
        self.bytes.extend_from_slice(BEFORE);
        self.word(key);
        self.word(text);
        self.len += 1;
    }

    /// Adds `name key args…`; the name may be two words, of a container and of its subcommand.
    pub fn push_on(&mut self, db: u32, name: &[u8], key: &[u8], args: &[&[u8]]) {
        let names = || name.split(|byte| *byte == b' ');
        let bytes = name.len() + key.len() + args.iter().map(|word| word.len()).sum::<usize>();
        self.begin(db, names().count() + 1 + args.len(), bytes);
        names().for_each(|name| self.word(name));
        self.word(key);
        args.iter().for_each(|word| self.word(word));
        self.len += 1;
    }

    /// Adds `name key elements…`, to the last command if that is of the same name and key. Only for commands that do with
    /// their elements, in order, what as many commands of one element would do.
    #[inline]
    pub fn push_elements(&mut self, db: u32, name: &'static [u8], key: &[u8], elements: &[&[u8]]) {
        if self.takes(db, name, key, elements.len()) {
            return self.add(elements);
        }
        let bytes = name.len() + key.len() + elements.iter().map(|word| word.len()).sum::<usize>();
        let words = 2 + elements.len();
        let start = self.begin(db, words, bytes);
        self.word(name);
        self.word(key);
        let end = self.bytes.len() - 2;
        elements.iter().for_each(|word| self.word(word));
        self.len += 1;
        self.open = Some(Open { name, start, key: (end - key.len(), end), words });
    }

    /// Whether the last command takes further elements of this kind.
    fn takes(&self, db: u32, name: &[u8], key: &[u8], elements: usize) -> bool {
        self.open.as_ref().is_some_and(|open| {
            open.name == name
                && self.last_db == db
                && open.words + elements <= WORDS_MAX
                && self.bytes.get(open.key.0..open.key.1) == Some(key)
        })
    }

    /// Adds elements to the last command.
    fn add(&mut self, elements: &[&[u8]]) {
        let Some(mut open) = self.open.take() else { return };
        elements.iter().for_each(|word| self.word(word));
        let (old, new) = (open.words.to_string().len(), open.words + elements.len());
        let count = open.start + 1..open.start + 1 + old;
        let mut buffer = itoa::Buffer::new();
        let digits = buffer.format(new).as_bytes();
        // The header `*<words>` was written at `start`.
        self.bytes.splice(count, digits.iter().copied());
        let longer = digits.len() - old;
        open.key = (open.key.0 + longer, open.key.1 + longer);
        open.words = new;
        self.open = Some(open);
    }

    /// Begins a command; where.
    #[inline]
    fn begin(&mut self, db: u32, words: usize, bytes: usize) -> usize {
        self.begin_text(db, bytes + (words + 1) * AROUND);
        let start = self.bytes.len();
        self.header(b'*', words);
        start
    }

    /// Makes room for the text of a command, and selects its database.
    #[inline]
    fn begin_text(&mut self, db: u32, bytes: usize) {
        self.open = None;
        self.bytes.reserve(bytes);
        if self.len == 0 {
            self.first_db = db;
        } else if db != self.last_db {
            self.select(db);
        }
        self.last_db = db;
    }

    #[cold]
    fn select(&mut self, db: u32) {
        self.header(b'*', 2);
        self.word(b"SELECT");
        self.word(itoa::Buffer::new().format(db).as_bytes());
    }

    #[inline]
    fn header(&mut self, mark: u8, number: usize) {
        // A word of the log is mostly short, and this is run three times and more for each change.
        let digit = |number: usize| b'0' + (number % 10) as u8;
        if number < 10 {
            self.bytes.extend_from_slice(&[mark, digit(number), b'\r', b'\n']);
        } else if number < 100 {
            self.bytes.extend_from_slice(&[mark, digit(number / 10), digit(number), b'\r', b'\n']);
        } else {
            self.long_header(mark, number);
        }
    }

    #[cold]
    fn long_header(&mut self, mark: u8, number: usize) {
        let mut buffer = itoa::Buffer::new();
        self.bytes.push(mark);
        self.bytes.extend_from_slice(buffer.format(number).as_bytes());
        self.bytes.extend_from_slice(b"\r\n");
    }

    #[inline]
    fn word(&mut self, word: &[u8]) {
        self.header(b'$', word.len());
        self.bytes.extend_from_slice(word);
        self.bytes.extend_from_slice(b"\r\n");
    }

    /// What follows belongs to another unit.
    pub fn begin_unit(&mut self) {
        let last = self.units.last().map_or(0, |start| start.len);
        if self.len != last {
            self.open = None;
            self.units.push(Start { at: self.bytes.len(), len: self.len, db: self.last_db });
        }
    }

    /// The units that have changes, in order.
    pub fn units(&self) -> impl Iterator<Item = Unit<'_>> {
        let first = Start { db: self.first_db, ..Start::default() };
        let end = Start { at: self.bytes.len(), len: self.len, db: self.last_db };
        let starts = std::iter::once(first).chain(self.units.iter().copied());
        let ends = self.units.iter().copied().chain(std::iter::once(end));
        starts.zip(ends).filter(|(start, end)| end.len != start.len).map(|(start, end)| Unit {
            body: self.bytes.get(start.at..end.at).unwrap_or_default(),
            len: end.len - start.len,
            first_db: start.db,
            last_db: end.db,
        })
    }

    /// Number of changes; elements of a key that were changed one after the other count as one.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing changed.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The database that the reader of [`Changes::body`] must be in.
    pub fn first_db(&self) -> u32 {
        self.first_db
    }

    /// The database that the reader of [`Changes::body`] is in afterwards.
    pub fn last_db(&self) -> u32 {
        self.last_db
    }

    /// The text; empty if nothing changed.
    #[inline]
    pub fn body(&self) -> &[u8] {
        &self.bytes
    }

    /// The changes one by one. O(bytes).
    pub fn iter(&self) -> Iter<'_> {
        Iter { rest: &self.bytes, db: self.first_db }
    }

    /// Forgets the changes, but not the buffer.
    #[inline]
    pub fn clear(&mut self) {
        if self.bytes.capacity() > KEEP_BYTES {
            self.forget();
        }
        self.bytes.clear();
        self.len = 0;
        self.open = None;
        if !self.units.is_empty() {
            self.units.clear();
        }
    }

    /// Gives back the memory.
    #[cold]
    fn forget(&mut self) {
        *self = Changes::default();
    }
}

impl<'a> IntoIterator for &'a Changes {
    type Item = Change<'a>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl fmt::Debug for Changes {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let show = |change: Change| {
            let words = change.argv.iter().map(|word| word.escape_ascii().to_string());
            format!("{}: {}", change.db, words.collect::<Vec<_>>().join(" "))
        };
        f.debug_list().entries(self.iter().map(show)).finish()
    }
}

/// Changes one by one.
pub struct Iter<'a> {
    rest: &'a [u8],
    db: u32,
}

impl<'a> Iterator for Iter<'a> {
    type Item = Change<'a>;

    fn next(&mut self) -> Option<Change<'a>> {
        loop {
            let argv = self.command()?;
            match argv[..] {
                [b"SELECT", db] => self.db = std::str::from_utf8(db).ok()?.parse().ok()?,
                _ => return Some(Change { db: self.db, argv }),
            }
        }
    }
}

impl<'a> Iter<'a> {
    fn number(&mut self) -> Option<usize> {
        let end = self.rest.iter().position(|byte| *byte == b'\r')?;
        let number = std::str::from_utf8(self.rest.get(1..end)?).ok()?.parse().ok();
        self.rest = self.rest.get(end + 2..)?;
        number
    }

    fn command(&mut self) -> Option<Words<'a>> {
        let words = self.number()?;
        let mut argv = Words::with_capacity(words);
        for _ in 0..words {
            let bytes = self.number()?;
            argv.push(self.rest.get(..bytes)?);
            self.rest = self.rest.get(bytes + 2..)?;
        }
        Some(argv)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(changes: &Changes) -> String {
        changes.body().escape_ascii().to_string().replace("\\r\\n", " ")
    }

    #[test]
    fn the_text_selects_databases_but_the_first() {
        let mut changes = Changes::default();
        assert!(changes.is_empty() && changes.body().is_empty() && changes.iter().next().is_none());
        changes.push_set(3, b"key", b"");
        assert_eq!(text(&changes), "*3 $3 SET $3 key $0  ");
        assert_eq!((changes.first_db(), changes.last_db(), changes.len()), (3, 3, 1));
        changes.push(3, &[b"DEL", b"key"]);
        changes.push(0, &[b"DEL", b"0123456789"]);
        assert_eq!(text(&changes), "*3 $3 SET $3 key $0  *2 $3 DEL $3 key *2 $6 SELECT $1 0 *2 $3 DEL $10 0123456789 ");
        assert_eq!((changes.first_db(), changes.last_db(), changes.len()), (3, 0, 3));
        changes.clear();
        changes.push(0, &[b"FLUSHDB"]);
        assert_eq!(text(&changes), "*1 $7 FLUSHDB ");
    }

    #[test]
    fn elements_of_a_key_gather_in_one_command() {
        let mut changes = Changes::default();
        for member in ["a", "b", "c"] {
            changes.push_elements(0, b"SADD", b"k", &[member.as_bytes()]);
        }
        assert_eq!(text(&changes), "*5 $4 SADD $1 k $1 a $1 b $1 c ");
        changes.push_elements(1, b"SADD", b"k", &[b"d"]);
        changes.push_elements(1, b"SADD", b"l", &[b"d"]);
        changes.push_elements(1, b"SREM", b"l", &[b"d"]);
        changes.push_elements(1, b"SREM", b"l", &[b"e"]);
        changes.push_on(1, b"XGROUP CREATE", b"s", &[b"g", b"0"]);
        changes.push_elements(1, b"SREM", b"l", &[b"f"]);
        let shown = format!("{changes:?}");
        assert_eq!(
            shown,
            r#"["0: SADD k a b c", "1: SADD k d", "1: SADD l d", "1: SREM l d e", "1: XGROUP CREATE s g 0", "1: SREM l f"]"#
        );
        changes.clear();
        for _ in 0..2 * WORDS_MAX {
            changes.push_elements(0, b"RPUSH", b"list", &[b"item"]);
        }
        assert_eq!(changes.iter().map(|change| change.argv.len() - 2).sum::<usize>(), 2 * WORDS_MAX);
        assert_eq!(changes.len(), 3);
    }

    #[test]
    fn units_are_told_apart() {
        let mut changes = Changes::default();
        changes.begin_unit();
        changes.push_elements(1, b"SADD", b"k", &[b"a"]);
        changes.push(1, &[b"DEL", b"x"]);
        changes.begin_unit();
        changes.begin_unit();
        changes.push_elements(1, b"SADD", b"k", &[b"a"]);
        changes.begin_unit();
        changes.push_elements(2, b"SADD", b"k", &[b"a"]);
        changes.begin_unit();
        let units: Vec<_> = changes.units().map(|unit| (unit.len, unit.first_db, unit.last_db)).collect();
        assert_eq!(units, [(2, 1, 1), (1, 1, 1), (1, 1, 2)]);
        let joined: Vec<u8> = changes.units().flat_map(|unit| unit.body.to_vec()).collect();
        assert_eq!(joined, changes.body());
        changes.clear();
        changes.push(3, &[b"DEL", b"x"]);
        assert_eq!(
            changes.units().map(|unit| (unit.len, unit.first_db, unit.last_db)).collect::<Vec<_>>(),
            [(1, 3, 3)]
        );
    }

    type Pushed = (u32, bool, Vec<Vec<u8>>);

    proptest! {
        #[test]
        fn what_is_pushed_comes_out(pushed in prop::collection::vec(
            (0..3u32, any::<bool>(), prop::collection::vec(prop::collection::vec(any::<u8>(), 0..12), 1..13)), 0..12))
        {
            let mut changes = Changes::default();
            let mut want: Vec<Pushed> = Vec::new();
            for (db, gather, words) in pushed {
                let args: Vec<&[u8]> = words.iter().map(|word| &word[..]).collect();
                if gather {
                    changes.push_elements(db, b"HSET", b"key", &args);
                    match want.last_mut() {
                        Some((have, true, all)) if *have == db => all.extend(words.clone()),
                        _ => want.push((db, true, [vec![b"HSET".to_vec(), b"key".to_vec()], words.clone()].concat())),
                    }
                } else {
                    changes.push_on(db, b"HDEL", b"key", &args);
                    want.push((db, false, [vec![b"HDEL".to_vec(), b"key".to_vec()], words.clone()].concat()));
                }
            }
            let got: Vec<(u32, Vec<Vec<u8>>)> =
                changes.iter().map(|change| (change.db, change.argv.iter().map(|word| word.to_vec()).collect())).collect();
            prop_assert_eq!(changes.len(), want.len());
            let want: Vec<(u32, Vec<Vec<u8>>)> = want.into_iter().map(|(db, _, words)| (db, words)).collect();
            prop_assert_eq!(got, want);
        }
    }
}
