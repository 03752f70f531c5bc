//! From a command's `syntax` text to the tree of its arguments, as COMMAND DOCS replies it.
//!
//! The notation is that of the Redis documentation: a lower-case word is an argument, an upper-case one stands for
//! itself, `[x]` may be left out, `<a | b>` is a choice, and `x [x ...]` may be repeated. `<` `>` may be left out where
//! `[` `]` hold a whole choice already.
//!
//! Where the tree has what that notation cannot say, marks say it: `name:` before a word or bracket is the argument's name
//! (which else follows from the text), `word/kind` what it is, `word#1` which key specification it belongs to, and `name:(x y)` makes one block of several.
//! The token that a block begins with is the block's; `(TOKEN x)` keeps it with its argument.

/// One argument or group of arguments.
#[derive(Clone, Debug, PartialEq)]
pub struct Argument {
    /// Lower-case name.
    pub name: String,
    /// What it is called in the text, if it is a single word.
    pub display: String,
    /// What it is.
    pub kind: Kind,
    /// The word before it that stands for itself.
    pub token: Option<String>,
    /// Its key specification, where that is not simply the next one.
    pub key_spec: Option<usize>,
    /// May be left out.
    pub optional: bool,
    /// May be repeated.
    pub multiple: bool,
    /// Repeated with its token.
    pub multiple_token: bool,
    /// In round brackets: its token is its own.
    keeps_token: bool,
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
    /// Those that hold no others.
    const SIMPLE: &[Kind] =
        &[Kind::Key, Kind::String, Kind::Integer, Kind::Double, Kind::Pattern, Kind::UnixTime, Kind::PureToken];

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
            '[' | ']' | '<' | '>' | '(' | ')' | '|' => spaced.extend([' ', letter, ' ']),
            _ => spaced.push(letter),
        }
    }
    let mut reader = Reader { words: Vec::new(), at: 0 };
    let mut name = None;
    for word in spaced.split_whitespace() {
        match word.strip_suffix(':') {
            Some(label) => name = Some(label),
            None => reader.words.push(Word::new(word, name.take())),
        }
    }
    let arguments = reader.choice()?;
    match reader.peek() {
        None => Ok(arguments),
        Some(word) => Err(format!("unexpected '{word}' in '{text}'")),
    }
}

/// The text without its marks: what a reader of the documentation is shown.
pub fn without_marks(text: &str) -> String {
    let between = [' ', '[', ']', '<', '>', '(', ')', '|'];
    let parts = text.split_inclusive(between).map(|part| {
        let word = part.trim_end_matches(between);
        let unmarked = if word.ends_with(':') { "" } else { Word::new(word, None).text };
        [unmarked, &part[word.len()..]].concat()
    });
    parts.collect::<String>().replace(['(', ')'], "")
}

/// A word or bracket, with its marks.
#[derive(Debug)]
struct Word<'a> {
    text: &'a str,
    name: Option<&'a str>,
    kind: Option<Kind>,
    key_spec: Option<usize>,
}

impl<'a> Word<'a> {
    fn new(word: &'a str, name: Option<&'a str>) -> Word<'a> {
        let (name, rest) = word.split_once(':').map_or((name, word), |(name, rest)| (Some(name), rest));
        let (rest, key_spec) = rest.split_once('#').map_or((rest, None), |(rest, spec)| (rest, spec.parse().ok()));
        let (text, kind) = rest.split_once('/').map_or((rest, None), |(text, kind)| (text, Some(kind)));
        let kind = kind.and_then(|kind| Kind::SIMPLE.iter().find(|known| known.name() == kind).cloned());
        Word { text, name, kind, key_spec }
    }

    /// The argument that a word in lower case is.
    fn argument(&self) -> Argument {
        let kind = self.kind.clone().unwrap_or_else(|| kind_of(self.text));
        let name = self.name.unwrap_or(self.text);
        Argument { display: self.text.into(), key_spec: self.key_spec, ..plain(name.into(), kind) }
    }
}

struct Reader<'a> {
    words: Vec<Word<'a>>,
    at: usize,
}

fn is_token(word: &str) -> bool {
    !word.chars().any(|letter| letter.is_ascii_lowercase()) && word != "..."
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<&'a str> {
        self.words.get(self.at).map(|word| word.text)
    }

    /// Takes the next word if it is a bracket that opens, with what is in it up to `close`.
    fn bracket(&mut self, close: &str) -> Result<Argument, String> {
        let name = self.words.get(self.at).and_then(|word| word.name);
        self.at += 1;
        let mut argument = block(self.choice()?);
        self.expect(close)?;
        if let Some(name) = name {
            argument.name = name.into();
        }
        Ok(argument)
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
                None | Some("]" | ">" | ")" | "|") => return Ok(items),
                Some("[") => {
                    if let Some((first, with_token)) = self.repetition(&spans) {
                        repeat(&mut items, first, with_token);
                        spans.truncate(items.len().max(1));
                        continue;
                    }
                    let mut argument = self.bracket("]")?;
                    argument.optional = true;
                    items.push(argument);
                }
                Some("<") => {
                    items.push(self.bracket(">")?);
                }
                Some("(") => items.push(Argument { keeps_token: true, ..self.bracket(")")? }),
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
                    let name = self.words.get(self.at).and_then(|word| word.name);
                    self.at += 1;
                    let name = name.map_or_else(|| word.to_lowercase(), String::from);
                    let mut argument = self.after_token()?.unwrap_or(plain(name, Kind::PureToken));
                    // Two quotes are an empty word.
                    argument.token = Some(if word == "\"\"" { String::new() } else { word.into() });
                    items.push(argument);
                }
                Some(_) => items.extend(self.word()),
            }
            spans.push((start, self.at));
        }
    }

    /// The argument that belongs to a token just read, if one follows.
    fn after_token(&mut self) -> Result<Option<Argument>, String> {
        match self.peek() {
            Some("<") => self.bracket(">").map(Some),
            Some("[" | "]" | ">" | "(" | ")" | "|" | "...") | None => Ok(None),
            Some(word) if is_token(word) => Ok(None),
            Some(_) => Ok(self.word()),
        }
    }

    /// Takes the next word as an argument.
    fn word(&mut self) -> Option<Argument> {
        let argument = self.words.get(self.at)?.argument();
        self.at += 1;
        Some(argument)
    }

    /// At `[x ...]` where `x` are the words of the last items: skips it, and tells the first of the items and whether
    /// their token is repeated.
    fn repetition(&mut self, spans: &[(usize, usize)]) -> Option<(usize, bool)> {
        let (mut depth, mut end) = (0, self.at);
        loop {
            match self.words.get(end)?.text {
                "[" => depth += 1,
                "]" => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                break;
            }
            end += 1;
        }
        let texts = |range: std::ops::Range<usize>| -> Option<Vec<&str>> {
            Some(self.words.get(range)?.iter().map(|word| word.text).collect())
        };
        let mut repeated = texts(self.at + 1..end)?;
        if repeated.pop()? != "..." {
            return None;
        }
        for first in (0..spans.len()).rev() {
            let before = texts(spans[first].0..self.at)?;
            let token = before.first().is_some_and(|word| is_token(word));
            if before == repeated {
                self.at = end + 1;
                return Some((first, token));
            }
            if token && first + 1 == spans.len() && before.get(1..) == Some(&repeated[..]) {
                self.at = end + 1;
                return Some((first, false));
            }
        }
        None
    }
}

/// Marks the items from `first` on as repeated, several as one block.
fn repeat(items: &mut Vec<Argument>, first: usize, with_token: bool) {
    let several = items.len() > first + 1;
    let mut argument = block(items.split_off(first));
    if several {
        argument.name = "data".into();
    }
    argument.multiple = true;
    argument.multiple_token = with_token;
    items.push(argument);
}

fn plain(name: String, kind: Kind) -> Argument {
    let display = name.clone();
    Argument {
        name,
        display,
        kind,
        token: None,
        key_spec: None,
        optional: false,
        multiple: false,
        multiple_token: false,
        keeps_token: false,
    }
}

/// Several arguments as one. A token that the first of them needs is then that of all.
fn block(mut items: Vec<Argument>) -> Argument {
    if items.len() == 1
        && let Some(item) = items.pop()
    {
        return item;
    }
    let names: Vec<&str> = items.iter().map(|item| item.name.as_str()).take(3).collect();
    let name = names.join("-");
    let gives_token = |first: &&mut Argument| first.kind != Kind::PureToken && !first.optional && !first.keeps_token;
    let token = items.first_mut().filter(gives_token);
    let token = token.and_then(|first| first.token.take());
    Argument { token, ..plain(name, Kind::Block(items)) }
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
        "min" | "max" | "score" | "longitude" | "latitude" | "radius" | "width" | "height" | "timeout" => Kind::Double,
        "seconds" | "milliseconds" | "count" | "numkeys" | "index" | "start" | "stop" | "end" | "offset" | "bit"
        | "rank" | "num-matches" | "len" | "maxlen" | "num" | "increment" | "decrement" | "cursor" | "client-id"
        | "threshold" | "db" | "index1" | "index2" | "destination-db" | "protover" | "numfields" | "maxage" | "ms"
        | "min-idle-time" | "port" | "bits" | "frequency" | "numreplicas" | "numlocal" | "slot" | "size"
        | "version" | "weight" => Kind::Integer,
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
        reads("[LIMIT offset count]", "LIMIT:block(integer integer)?");
        reads("key block:(A a b)", "key A:block(string string)");
        reads("[TO host port [FORCE]]", "TO:block(string integer FORCE:pure-token?)?");
        reads("[GET a b [GET a b ...]]", "GET:block(string string)?*+");
        reads("[pattern]", "pattern?");
        reads("[arg [arg ...]]", "string?*");
        reads("[AGGREGATE <SUM | MIN | MAX>]", "AGGREGATE:oneof(SUM:pure-token MIN:pure-token MAX:pure-token)?");
        reads("min/string range:[LIMIT x:offset/double#2]", "string LIMIT:double?");
        assert!(parse("[key").is_err());
        assert!(parse("key ]").is_err());
    }

    #[test]
    fn marks_are_not_shown() {
        let text = "key min/string where:[auto:* | id:ip:port#1] [BY by-pattern:pattern#1 ...] at:(FROM at/integer)";
        assert_eq!(without_marks(text), "key min [* | ip:port] [BY pattern ...] FROM at");
    }

    #[test]
    fn marks_name_what_the_text_does_not() {
        let read = parse(
            "a:b/double#2 where:<LEFT | RIGHT> [change:CH] trim:[operator:[equal:= | about:~] threshold] x y [x y ...]",
        );
        let read = read.unwrap();
        let names: Vec<&str> = read.iter().map(|argument| argument.name.as_str()).collect();
        assert_eq!(names, ["a", "where", "change", "trim", "data"]);
        assert_eq!((read[0].display.as_str(), &read[0].kind, read[0].key_spec), ("b", &Kind::Double, Some(2)));
        assert_eq!((read[2].kind == Kind::PureToken, read[2].token.as_deref()), (true, Some("CH")));
        let operator = &read[3].kind.inner()[0];
        assert_eq!((operator.name.as_str(), operator.kind.inner()[0].name.as_str()), ("operator", "equal"));
    }

    #[test]
    fn a_token_in_brackets_stays_with_its_argument() {
        let read = parse("limit:[LIMIT offset count] some:[(COUNT count) [ANY]]").unwrap();
        let tokens = |at: usize| {
            let first = &read[at].kind.inner()[0];
            (read[at].token.as_deref(), first.token.as_deref())
        };
        assert_eq!(tokens(0), (Some("LIMIT"), None));
        assert_eq!(tokens(1), (None, Some("COUNT")));
    }
}
