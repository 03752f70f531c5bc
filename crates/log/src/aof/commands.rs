//! The commands of a record's body, or of a plain append-only file: arrays of bulk strings.

/// Why the next command could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The text ends within a command.
    Short,
    /// The text is no command at this place.
    Malformed,
}

/// Words that a command may have, as in Redis's protocol.
const WORDS_MAX: usize = 1 << 20;

/// Reads the command at the start of `text` into `argv`; returns its length in bytes.
///
/// `argv` is emptied first. It is an argument so that its memory serves for many commands.
pub fn parse<'a>(text: &'a [u8], argv: &mut Vec<&'a [u8]>) -> Result<usize, Stop> {
    argv.clear();
    let mut at = 0;
    let words = number(text, &mut at, b'*')?;
    if words == 0 || words > WORDS_MAX {
        return Err(Stop::Malformed);
    }
    for _ in 0..words {
        let len = number(text, &mut at, b'$')?;
        let end = at.checked_add(len).ok_or(Stop::Malformed)?;
        let word = text.get(at..end).ok_or(Stop::Short)?;
        match text.get(end..).unwrap_or_default() {
            [b'\r', b'\n', ..] => at = end + 2,
            [] | [b'\r'] => return Err(Stop::Short),
            _ => return Err(Stop::Malformed),
        }
        argv.push(word);
    }
    Ok(at)
}

/// A line of `mark` and digits.
fn number(text: &[u8], at: &mut usize, mark: u8) -> Result<usize, Stop> {
    match text.get(*at) {
        None => return Err(Stop::Short),
        Some(first) if *first != mark => return Err(Stop::Malformed),
        Some(_) => *at += 1,
    }
    let mut value: usize = 0;
    let start = *at;
    loop {
        match text.get(*at) {
            None => return Err(Stop::Short),
            Some(digit @ b'0'..=b'9') => {
                value = value
                    .checked_mul(10)
                    .and_then(|value| value.checked_add(usize::from(digit - b'0')))
                    .ok_or(Stop::Malformed)?;
                *at += 1;
            }
            Some(b'\r') if *at > start => match text.get(*at + 1) {
                None => return Err(Stop::Short),
                Some(b'\n') => {
                    *at += 2;
                    return Ok(value);
                }
                Some(_) => return Err(Stop::Malformed),
            },
            Some(_) => return Err(Stop::Malformed),
        }
    }
}

/// The database that a command selects, if it is SELECT.
pub(super) fn selected(argv: &[&[u8]]) -> Option<u32> {
    match argv {
        [name, db] if name.eq_ignore_ascii_case(b"SELECT") => std::str::from_utf8(db).ok()?.parse().ok(),
        _ => None,
    }
}

/// Whether a command is this one, without arguments.
pub(super) fn is_bare(argv: &[&[u8]], name: &[u8]) -> bool {
    matches!(argv, [only] if only.eq_ignore_ascii_case(name))
}

/// The commands of one transaction, each with its database. SELECT, MULTI and EXEC are taken out.
///
/// O(bytes), no allocation but `argv`'s.
#[derive(Clone, Debug)]
pub struct Commands<'a> {
    rest: &'a [u8],
    db: u32,
}

impl<'a> Commands<'a> {
    /// The commands in `body`, of which the first runs in `db` if it is not told otherwise.
    pub fn new(body: &'a [u8], db: u32) -> Commands<'a> {
        Commands { rest: body, db }
    }

    /// The database after the commands that were read.
    pub fn db(&self) -> u32 {
        self.db
    }

    /// Reads the next command into `argv`; returns its database. Nothing at the end.
    pub fn next_into(&mut self, argv: &mut Vec<&'a [u8]>) -> Result<Option<u32>, Stop> {
        while !self.rest.is_empty() {
            let used = parse(self.rest, argv)?;
            self.rest = self.rest.get(used..).unwrap_or_default();
            if let Some(db) = selected(argv) {
                self.db = db;
            } else if !is_bare(argv, b"MULTI") && !is_bare(argv, b"EXEC") {
                return Ok(Some(self.db));
            }
        }
        Ok(None)
    }
}

/// `SELECT db` as RESP, without an allocation.
pub(super) struct Select {
    bytes: [u8; Select::LEN_MAX],
    len: usize,
}

impl Select {
    const HEAD: &[u8; 17] = b"*2\r\n$6\r\nSELECT\r\n$";
    /// Head, the length of the number, the number, and two ends of lines.
    pub(super) const LEN_MAX: usize = Select::HEAD.len() + 2 + 10 + 4;

    /// Nothing.
    pub(super) fn none() -> Select {
        Select { bytes: [0; Select::LEN_MAX], len: 0 }
    }

    pub(super) fn of(db: u32) -> Select {
        let mut select = Select::none();
        let digits = db.checked_ilog10().unwrap_or(0) as usize + 1;
        select.push(Select::HEAD);
        if digits == 10 {
            select.push(b"1");
        }
        select.push(&[b'0' + (digits % 10) as u8]);
        select.push(b"\r\n");
        for place in (0..digits as u32).rev() {
            select.push(&[b'0' + (db / 10u32.pow(place) % 10) as u8]);
        }
        select.push(b"\r\n");
        select
    }

    fn push(&mut self, text: &[u8]) {
        // There is room for the longest.
        if let Some(place) = self.bytes.get_mut(self.len..self.len + text.len()) {
            place.copy_from_slice(text);
            self.len += text.len();
        }
    }

    pub(super) fn text(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read_with_their_database() {
        let mut body = Vec::new();
        body.extend_from_slice(Select::of(3).text());
        body.extend_from_slice(b"*1\r\n$5\r\nMULTI\r\n*2\r\n$3\r\nDEL\r\n$1\r\na\r\n");
        body.extend_from_slice(Select::of(4_000_000_000).text());
        body.extend_from_slice(b"*2\r\n$3\r\nDEL\r\n$0\r\n\r\n*1\r\n$4\r\nEXEC\r\n");
        let mut commands = Commands::new(&body, 0);
        let mut argv = Vec::new();
        assert_eq!(commands.next_into(&mut argv), Ok(Some(3)));
        assert_eq!(argv, [b"DEL".as_slice(), b"a"]);
        assert_eq!(commands.next_into(&mut argv), Ok(Some(4_000_000_000)));
        assert_eq!(argv, [b"DEL".as_slice(), b""]);
        assert_eq!(commands.next_into(&mut argv), Ok(None));
        assert_eq!(commands.db(), 4_000_000_000);
    }

    #[test]
    fn select_is_written_for_every_number() {
        for db in [0, 1, 9, 10, 15, 99, 100, 999_999_999, 1_000_000_000, u32::MAX] {
            let text = db.to_string();
            let expected = format!("*2\r\n$6\r\nSELECT\r\n${}\r\n{text}\r\n", text.len());
            assert_eq!(Select::of(db).text(), expected.as_bytes());
        }
    }

    #[test]
    fn every_prefix_is_short_and_nothing_else() {
        let text = b"*2\r\n$3\r\nDEL\r\n$1\r\na\r\n";
        let mut argv = Vec::new();
        for len in 0..text.len() {
            assert_eq!(parse(&text[..len], &mut argv), Err(Stop::Short), "{len}");
        }
        assert_eq!(parse(text, &mut argv), Ok(text.len()));
        for bad in [b"+OK\r\n".as_slice(), b"*0\r\n", b"*-1\r\n", b"*1\r\n:1\r\n", b"*1\r\n$1\r\nab\r\n", b"*\r\n"] {
            assert_eq!(parse(bad, &mut argv), Err(Stop::Malformed), "{bad:?}");
        }
    }
}
