//! From a command's `syntax` text to the tree of its arguments, as COMMAND DOCS replies it.
//!
//! The notation is that of the Redis documentation: a lower-case word is an argument, an upper-case one stands for
//! itself, `[x]` may be left out, `<a | b>` is a choice, and `x [x ...]` may be repeated. `<` `>` may be left out where
//! `[` `]` hold a whole choice already.

/// One argument or group of arguments.
#[derive(Clone, Debug, PartialEq)]
pub struct Argument {
    /// Lower-case name.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// The word before it that stands for itself.
    pub token: Option<String>,
    /// May be left out.
    pub optional: bool,
    /// May be repeated.
    pub multiple: bool,
    /// Repeated with its token.
    pub multiple_token: bool,
}

/// What an argument is.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Kind {
    Key,
    String,
    Integer,
    Double,
    Pattern,
    UnixTime,
    PureToken,
    OneOf(Vec<Argument>),
    Block(Vec<Argument>),
}

impl Kind {
    /// The name in COMMAND DOCS.
    pub fn name(&self) -> &'static str {
        match self {
            Kind::Key => "key",
            Kind::String => "string",
            Kind::Integer => "integer",
            Kind::Double => "double",
            Kind::Pattern => "pattern",
            Kind::UnixTime => "unix-time",
            Kind::PureToken => "pure-token",
            Kind::OneOf(_) => "oneof",
            Kind::Block(_) => "block",
        }
    }

    /// The arguments within.
    pub fn inner(&self) -> &[Argument] {
        match self {
            Kind::OneOf(inner) | Kind::Block(inner) => inner,
            _ => &[],
        }
    }
}

/// Reads a syntax text.
///
/// # Errors
/// What is wrong with it: for the test that reads all of them.
pub fn parse(text: &str) -> Result<Vec<Argument>, String> {
    let mut spaced = String::new();
    for letter in text.chars() {
        match letter {
            '[' | ']' | '<' | '>' | '|' => spaced.extend([' ', letter, ' ']),
            _ => spaced.push(letter),
        }
    }
    let mut reader = Reader { words: spaced.split_whitespace().collect(), at: 0 };
    let arguments = reader.choice()?;
    match reader.peek() {
        None => Ok(arguments),
        Some(word) => Err(format!("unexpected '{word}' in '{text}'")),
    }
}

struct Reader<'a> {
    words: Vec<&'a str>,
    at: usize,
}

fn is_token(word: &str) -> bool {
    !word.chars().any(|letter| letter.is_ascii_lowercase()) && word != "..."
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<&'a str> {
        self.words.get(self.at).copied()
    }

    fn expect(&mut self, word: &str) -> Result<(), String> {
        if self.peek() != Some(word) {
            return Err(format!("expected '{word}' at word {} of {:?}", self.at, self.words));
        }
        self.at += 1;
        Ok(())
    }

    /// Alternatives with `|` between them: one argument of kind oneof, or the sequence itself if there is but one.
    fn choice(&mut self) -> Result<Vec<Argument>, String> {
        let mut options = vec![self.sequence()?];
        while self.peek() == Some("|") {
            self.at += 1;
            options.push(self.sequence()?);
        }
        options.retain(|option| !option.is_empty());
        if options.len() <= 1 {
            return Ok(options.pop().unwrap_or_default());
        }
        let options: Vec<Argument> = options.into_iter().map(block).collect();
        let names: Vec<&str> = options.iter().map(|option| option.name.as_str()).take(3).collect();
        Ok(vec![plain(names.join("-or-"), Kind::OneOf(options))])
    }

    /// Arguments one after the other.
    fn sequence(&mut self) -> Result<Vec<Argument>, String> {
        let mut items: Vec<Argument> = Vec::new();
        // The words that each item stands for, to recognize it when it is repeated.
        let mut spans: Vec<(usize, usize)> = Vec::new();
        loop {
            let start = self.at;
            match self.peek() {
                None | Some("]" | ">" | "|") => return Ok(items),
                Some("[") => {
                    if let Some((first, with_token)) = self.repetition(&spans) {
                        repeat(&mut items, first, with_token);
                        spans.truncate(items.len().max(1));
                        continue;
                    }
                    self.at += 1;
                    let mut argument = block(self.choice()?);
                    self.expect("]")?;
                    argument.optional = true;
                    items.push(argument);
                }
                Some("<") => {
                    self.at += 1;
                    let argument = block(self.choice()?);
                    self.expect(">")?;
                    items.push(argument);
                }
                Some("...") => {
                    // `[item ...]`: any number of it, none too.
                    self.at += 1;
                    // Alone it stands for the alternatives that were said before (BITFIELD).
                    if let Some(last) = items.last_mut() {
                        last.multiple = true;
                    }
                    continue;
                }
                Some(word) if is_token(word) => {
                    self.at += 1;
                    let name = word.to_lowercase();
                    let mut argument = self.after_token(word)?.unwrap_or(plain(name, Kind::PureToken));
                    argument.token = Some(word.into());
                    items.push(argument);
                }
                Some(word) => {
                    self.at += 1;
                    items.push(plain(word.into(), kind_of(word)));
                }
            }
            spans.push((start, self.at));
        }
    }

    /// The argument that belongs to a token just read, if one follows.
    fn after_token(&mut self, _: &str) -> Result<Option<Argument>, String> {
        match self.peek() {
            Some("<") => {
                self.at += 1;
                let argument = block(self.choice()?);
                self.expect(">")?;
                Ok(Some(argument))
            }
            Some("[" | "]" | ">" | "|" | "...") | None => Ok(None),
            Some(word) if is_token(word) => Ok(None),
            Some(word) => {
                self.at += 1;
                Ok(Some(plain(word.into(), kind_of(word))))
            }
        }
    }

    /// At `[x ...]` where `x` are the words of the last items: skips it, and tells the first of the items and whether
    /// their token is repeated.
    fn repetition(&mut self, spans: &[(usize, usize)]) -> Option<(usize, bool)> {
        let (mut depth, mut end) = (0, self.at);
        loop {
            match *self.words.get(end)? {
                "[" => depth += 1,
                "]" => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                break;
            }
            end += 1;
        }
        let inner = self.words.get(self.at + 1..end)?;
        let (last, repeated) = inner.split_last()?;
        if *last != "..." {
            return None;
        }
        for first in (0..spans.len()).rev() {
            let before = self.words.get(spans[first].0..self.at)?;
            let token = before.first().is_some_and(|word| is_token(word));
            if before == repeated {
                self.at = end + 1;
                return Some((first, token && first + 1 == spans.len()));
            }
            if token && first + 1 == spans.len() && before.get(1..) == Some(repeated) {
                self.at = end + 1;
                return Some((first, false));
            }
        }
        None
    }
}

/// Marks the items from `first` on as repeated, several as one block.
fn repeat(items: &mut Vec<Argument>, first: usize, with_token: bool) {
    let mut argument = block(items.split_off(first));
    argument.multiple = true;
    argument.multiple_token = with_token;
    items.push(argument);
}

fn plain(name: String, kind: Kind) -> Argument {
    Argument { name, kind, token: None, optional: false, multiple: false, multiple_token: false }
}

/// Several arguments as one.
fn block(mut items: Vec<Argument>) -> Argument {
    if items.len() == 1
        && let Some(item) = items.pop()
    {
        return item;
    }
    let names: Vec<&str> = items.iter().map(|item| item.name.as_str()).take(3).collect();
    plain(names.join("-"), Kind::Block(items))
}

/// What an argument of this name is: the documentation's names are consistent.
fn kind_of(name: &str) -> Kind {
    match name {
        "key" | "newkey" | "source" | "destination" | "key1" | "key2" | "sourcekey" | "destkey" | "source1"
        | "source2" | "numkey" => Kind::Key,
        "pattern" => Kind::Pattern,
        "unix-time-seconds" | "unix-time-milliseconds" | "timestamp-seconds" | "timestamp-milliseconds" => {
            Kind::UnixTime
        }
        "min" | "max" | "score" | "weight" | "longitude" | "latitude" | "radius" | "width" | "height" | "timeout" => {
            Kind::Double
        }
        "seconds" | "milliseconds" | "count" | "numkeys" | "index" | "start" | "stop" | "end" | "offset" | "bit"
        | "rank" | "num-matches" | "len" | "maxlen" | "num" | "increment" | "decrement" | "cursor" | "client-id"
        | "threshold" | "db" | "index1" | "index2" | "destination-db" | "protover" | "numfields" | "maxage" | "ms"
        | "min-idle-time" | "port" | "bits" | "frequency" | "numreplicas" | "numlocal" | "slot" | "size"
        | "version" => Kind::Integer,
        _ => Kind::String,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_registered_syntax_can_be_read() {
        for command in crate::registry::all() {
            let read = parse(command.command.syntax);
            assert!(read.is_ok(), "{}: {read:?}", command.name);
        }
    }

    fn shape(arguments: &[Argument]) -> String {
        let show = |argument: &Argument| {
            let mut text = match argument.kind.inner() {
                [] => argument.kind.name().to_string(),
                inner => format!("{}({})", argument.kind.name(), shape(inner)),
            };
            if let Some(token) = &argument.token {
                text = format!("{token}:{text}");
            }
            for (is, mark) in [(argument.optional, "?"), (argument.multiple, "*"), (argument.multiple_token, "+")] {
                if is {
                    text.push_str(mark);
                }
            }
            text
        };
        arguments.iter().map(show).collect::<Vec<_>>().join(" ")
    }

    #[track_caller]
    fn reads(text: &str, want: &str) {
        assert_eq!(parse(text).map(|arguments| shape(&arguments)), Ok(want.to_string()));
    }

    #[test]
    fn the_notation_of_the_documentation() {
        reads("", "");
        reads("key", "key");
        reads("key [key ...]", "key*");
        reads("key value [key value ...]", "block(key string)*");
        reads("key field value [field value ...]", "key block(string string)*");
        reads(
            "key value [NX | XX] [GET] [EX seconds | PX milliseconds | KEEPTTL]",
            "key string oneof(NX:pure-token XX:pure-token)? GET:pure-token? \
             oneof(EX:integer PX:integer KEEPTTL:pure-token)?",
        );
        reads("key <LEFT | RIGHT> [COUNT count]", "key oneof(LEFT:pure-token RIGHT:pure-token) COUNT:integer?");
        reads("[ID client-id [client-id ...]]", "ID:integer?*");
        reads("key [GET pattern [GET pattern ...]]", "key GET:pattern?*+");
        reads("[LIMIT offset count]", "block(LIMIT:integer integer)?");
        reads("[pattern]", "pattern?");
        reads("[arg [arg ...]]", "string?*");
        reads("[AGGREGATE <SUM | MIN | MAX>]", "AGGREGATE:oneof(SUM:pure-token MIN:pure-token MAX:pure-token)?");
        assert!(parse("[key").is_err());
        assert!(parse("key ]").is_err());
    }
}
