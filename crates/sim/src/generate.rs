//! Random commands over few keys, of every family, from tables of templates.
//!
//! A template is words: literals, `$x` for random arguments (see [`Generator::argument`]), `[ … ]` for what may be left
//! out, `{ a | b }` for a choice, `( … )+` for one to three times. Keys are mostly of the family's own type, so that
//! commands mostly work, and sometimes of any other.

use crate::compare::How;
use crate::rng::Rng;
use crate::templates::{FAMILIES, LIBRARIES, RULES, SCRIPTS, UNDECLARED};
use std::collections::{BTreeMap, BTreeSet};

/// A command to send, and how its replies are compared.
#[derive(Clone, Debug)]
pub struct Command {
    /// Name and arguments.
    pub args: Vec<Vec<u8>>,
    /// How to compare the replies.
    pub how: How,
}

/// Letters of the key names: one for each type.
const LETTERS: &[char] = &['s', 'h', 'l', 't', 'z', 'q', 'g'];
/// Keys of each letter.
const KEYS_PER_LETTER: u64 = 5;

const VALUES: &[&str] =
    &["a", "hello", "", "10", "-3", "0.5", "3.0e3", "foo bar", "\u{e9}\u{0}\r\n", "9223372036854775807"];
const LONG: &str = "a value that is longer than the sixty-four bytes up to which small collections stay packed";
const INTEGERS: &[&str] =
    &["0", "1", "-1", "2", "5", "100", "-100", "32768", "2147483648", "1e3", "abc", "", " 1", "01"];
const EXTREMES: &[&str] = &["9223372036854775807", "-9223372036854775808", "9223372036854775808"];
const FLOATS: &[&str] =
    &["0", "1", "-1", "0.5", "1.5", "-2.25", "3", "10", "0.1", "1e3", "inf", "-inf", "nan", "x", ""];
const BOUNDS: &[&str] = &["-inf", "+inf", "0", "(1", "1", "2.5", "(5", "-3", "(-inf", "10", "x"];
const LEX_BOUNDS: &[&str] = &["-", "+", "[a", "(a", "[m3", "(m5", "[m1", "[", "x", "[z"];
const BIT_FIELDS: &[&str] = &["u8", "i8", "u1", "i5", "u63", "i64", "i16", "u64", "x"];
const PATTERNS: &[&str] = &["*", "s*", "?1", "[hl]?", "*[0-2]", "m\\*", "[^s]*", "m[1-3]", "", "**1**", "[", "[a-"];

/// Makes commands; the same seed, prefix and `shared` give the same commands.
#[derive(Debug)]
pub struct Generator {
    rng: Rng,
    /// Of the newest stream entry.
    last_id: u64,
    prefix: String,
    /// Each family's weight (its sum so far), letter and parsed templates.
    families: Vec<ParsedFamily>,
}

type ParsedFamily = (u64, char, Vec<(How, Vec<Node>)>);

#[derive(Debug)]
enum Node {
    Literal(String),
    Argument(char),
    /// `$P…`: the prefix, then this text.
    Prefixed(String),
    Optional(Vec<Node>),
    Choice(Vec<Vec<Node>>),
    Repeat(Vec<Node>),
}

impl Generator {
    /// Commands on keys that start with `prefix`; with `alone`, also those that see the whole keyspace; with `logins`, also those with
    /// which sessions become other users.
    pub fn new(seed: u64, prefix: &str, alone: bool, logins: bool) -> Generator {
        let mut sum = 0;
        let families = FAMILIES.iter().filter(|family| (alone || !family.global) && (logins || !family.logins));
        let families = families.map(|family| {
            sum += family.weight;
            let parse = |(how, text): &(How, &str)| (*how, parse(&mut text.split(' ').peekable(), &[]));
            (sum, family.letter, family.templates.iter().map(parse).collect())
        });
        Generator { rng: Rng::new(seed), last_id: 1, prefix: prefix.into(), families: families.collect() }
    }

    /// A random number below `limit`, from the same source.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.rng.below(limit)
    }

    /// Two keys that hold values of one type, if they hold any; perhaps the same one twice.
    pub fn two_keys(&mut self) -> (Vec<u8>, Vec<u8>) {
        let letter = *self.rng.pick(LETTERS);
        (self.argument('k', letter), self.argument('k', letter))
    }

    /// The next command.
    pub fn command(&mut self) -> Command {
        let families = std::mem::take(&mut self.families);
        let total = families.last().map_or(1, |family| family.0);
        let at = self.rng.below(total);
        let (_, letter, templates) = families.iter().find(|family| at < family.0).unwrap_or(&families[0]);
        let (how, nodes) = self.rng.pick(templates);
        let mut args = Vec::new();
        self.expand(nodes, *letter, &mut args);
        let how = *how;
        self.families = families;
        // Now and then one argument too few or too many. Not where what is left would change data at random, have the server send
        // what nobody waits for (CLIENT TRACKING), or choose among members that are equally far away (GEOSEARCH with COUNT and no ANY).
        let keep = args[0] == b"SPOP" || args.iter().skip(1).any(|word| word == b"TRACKING" || word == b"ANY");
        if !keep && self.rng.one_in(150) {
            if args.len() > 1 && self.rng.one_in(2) {
                args.pop();
            } else {
                args.push(args[args.len() - 1].clone());
            }
        }
        Command { args, how }
    }

    fn expand(&mut self, nodes: &[Node], letter: char, args: &mut Vec<Vec<u8>>) {
        for node in nodes {
            match node {
                Node::Literal(text) => args.push(text.clone().into_bytes()),
                Node::Prefixed(text) => args.push(format!("{}{text}", self.prefix).into_bytes()),
                Node::Argument(kind) => {
                    let argument = self.argument(*kind, letter);
                    args.push(argument);
                }
                Node::Optional(inner) if self.rng.one_in(3) => self.expand(inner, letter, args),
                Node::Optional(_) => {}
                Node::Choice(choices) => {
                    let inner = self.rng.pick(choices);
                    self.expand(inner, letter, args);
                }
                Node::Repeat(inner) => {
                    // A few long ones, so that collections outgrow their packed form.
                    let times = if self.rng.one_in(400) { 150 } else { 1 + self.rng.below(3) };
                    (0..times).for_each(|_| self.expand(inner, letter, args));
                }
            }
        }
    }

    /// One argument: `k` key, `v` value, `i` integer, `n` index, `c` count, `r` rank (Valkey and Redis disagree on negative ones), `f` float, `m` member, `s` score,
    /// `b` score bound, `l` lexical bound, `p` pattern, `d` database, `o` offset, `e` script, `E` script with undeclared keys, `L` library of functions, `A` user, `a` user's rule, `w` time to wait for in s, `B` bit offset, `F` integer of
    /// BITFIELD, `x` longitude, `y` latitude, `I` new id of a stream's entry, `J` id that may be there; times far away:
    /// `t` s from now, `u` ms from now, `T` and `U` since 1970.
    fn argument(&mut self, kind: char, letter: char) -> Vec<u8> {
        let rng = &mut self.rng;
        let text = match kind {
            'k' => {
                let any = letter == '*' || !matches!(letter, 'x' | 'y') && rng.one_in(12);
                let letter = if any { *rng.pick(LETTERS) } else { letter };
                format!("{}{letter}{}", self.prefix, rng.below(KEYS_PER_LETTER))
            }
            'v' => match rng.below(20) {
                0 => LONG.into(),
                1..8 => (*rng.pick(VALUES)).into(),
                _ => format!("v{}", rng.below(1000)),
            },
            'i' => match rng.below(40) {
                0 => (*rng.pick(EXTREMES)).into(),
                1..5 => (*rng.pick(INTEGERS)).into(),
                _ => (rng.below(2000) as i64 - 500).to_string(),
            },
            'n' => (rng.below(16) as i64 - 4).to_string(),
            'c' if rng.one_in(30) => "-1".into(),
            'c' => rng.below(6).to_string(),
            'r' => rng.below(6).to_string(),
            'o' if rng.one_in(40) => (*rng.pick(&["-1", "536870912", "x"])).into(),
            'o' => rng.below(60).to_string(),
            'f' => (*rng.pick(FLOATS)).into(),
            'm' if rng.one_in(50) => LONG.into(),
            'm' if rng.one_in(5) => rng.below(300).to_string(),
            'm' => format!("m{}", rng.below(12)),
            's' if rng.one_in(4) => (*rng.pick(FLOATS)).into(),
            's' => (rng.below(20) as i64 - 5).to_string(),
            'b' => (*rng.pick(BOUNDS)).into(),
            'l' => (*rng.pick(LEX_BOUNDS)).into(),
            'p' => format!("{}{}", if rng.one_in(2) { self.prefix.as_str() } else { "" }, rng.pick(PATTERNS)),
            'd' if rng.one_in(60) => (*rng.pick(&["16", "-1", "x"])).into(),
            'd' => rng.below(3).to_string(),
            'e' => (*rng.pick(SCRIPTS)).into(),
            'E' => (*rng.pick(UNDECLARED)).into(),
            'L' => (*rng.pick(LIBRARIES)).into(),
            'A' => (*rng.pick(&["u0", "u1", "w0", "w1"])).into(),
            'a' => (*rng.pick(RULES)).into(),
            'w' if rng.one_in(40) => (*rng.pick(&["-1", "x", "inf"])).into(),
            'w' => "0.002".into(),
            'B' if rng.one_in(30) => (*rng.pick(&["-1", "4294967296", "x", "#1"])).into(),
            'B' => rng.below(150).to_string(),
            'F' => (*rng.pick(BIT_FIELDS)).into(),
            'I' if rng.one_in(20) => (*rng.pick(&["0-0", "1", "x", "99999999999999999999-1"])).into(),
            'I' => {
                self.last_id += rng.below(3);
                format!("{}-{}", self.last_id, rng.below(3))
            }
            'J' if rng.one_in(8) => (*rng.pick(&["-", "0", "0-1", "x", "(5"])).into(),
            'J' => format!("{}-{}", self.last_id.saturating_sub(rng.below(30)), rng.below(3)),
            'x' if rng.one_in(60) => (*rng.pick(&["181", "x", "180", "-180"])).into(),
            'x' => (rng.below(36_000) as f64 / 100.0 - 180.0).to_string(),
            'y' if rng.one_in(60) => (*rng.pick(&["86", "x", "85.05112878", "-85.05112878"])).into(),
            'y' => (rng.below(17_000) as f64 / 100.0 - 85.0).to_string(),
            't' => ((1 + rng.below(1000)) * 1000).to_string(),
            'u' => ((1 + rng.below(1000)) * 1_000_000).to_string(),
            'T' => (10_000_000_000 + rng.below(1_000_000)).to_string(),
            _ => (10_000_000_000_000 + rng.below(1_000_000_000)).to_string(),
        };
        text.into_bytes()
    }
}

/// The commands that templates name, in lower case: first words, and first two for those with a subcommand.
pub fn commands_of_templates() -> BTreeSet<String> {
    words_of_templates().into_keys().collect()
}

/// [`commands_of_templates`], each with the words, in upper case, that templates send with it as they are.
pub fn words_of_templates() -> BTreeMap<String, BTreeSet<String>> {
    fn literals(nodes: &[Node], words: &mut BTreeSet<String>) {
        for node in nodes {
            match node {
                Node::Literal(text) => _ = words.insert(text.to_ascii_uppercase()),
                Node::Choice(choices) => choices.iter().for_each(|inner| literals(inner, words)),
                Node::Optional(inner) | Node::Repeat(inner) => literals(inner, words),
                Node::Argument(_) | Node::Prefixed(_) => {}
            }
        }
    }
    fn first_words(nodes: &[Node], count: usize) -> Vec<Vec<String>> {
        let Some((first, rest)) = nodes.split_first().filter(|_| count != 0) else { return vec![Vec::new()] };
        let begins: Vec<Vec<String>> = match first {
            Node::Literal(text) => vec![vec![text.to_ascii_lowercase()]],
            Node::Choice(choices) => choices.iter().flat_map(|inner| first_words(inner, count)).collect(),
            Node::Argument(_) | Node::Prefixed(_) | Node::Optional(_) | Node::Repeat(_) => return vec![Vec::new()],
        };
        let with_rest = begins.into_iter().flat_map(|begin| {
            let left = count.saturating_sub(begin.len());
            first_words(rest, left).into_iter().map(move |end| [begin.clone(), end].concat())
        });
        with_rest.collect()
    }
    let mut all = BTreeMap::<String, BTreeSet<String>>::new();
    for (_, text) in FAMILIES.iter().flat_map(|family| family.templates) {
        let nodes = parse(&mut text.split(' ').peekable(), &[]);
        for words in first_words(&nodes, 2) {
            for name in [words[0].clone(), words.join(" ")] {
                literals(&nodes, all.entry(name).or_default());
            }
        }
    }
    all
}

fn parse<'a>(words: &mut std::iter::Peekable<impl Iterator<Item = &'a str>>, ends: &[&str]) -> Vec<Node> {
    let mut nodes = Vec::new();
    while let Some(word) = words.next_if(|word| !ends.contains(word)) {
        nodes.push(match word {
            "[" => {
                let inner = parse(words, &["]"]);
                words.next();
                Node::Optional(inner)
            }
            "(" => {
                let inner = parse(words, &[")+"]);
                words.next();
                Node::Repeat(inner)
            }
            "{" => {
                let mut choices = vec![parse(words, &["|", "}"])];
                while words.next() == Some("|") {
                    choices.push(parse(words, &["|", "}"]));
                }
                Node::Choice(choices)
            }
            _ => match word.strip_prefix('$') {
                Some(rest) if rest.len() == 1 => Node::Argument(rest.as_bytes()[0] as char),
                Some(rest) => Node::Prefixed(rest.trim_start_matches('P').into()),
                None => Node::Literal(word.into()),
            },
        });
    }
    nodes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_commands_and_no_template_is_left_unexpanded() {
        let mut one = Generator::new(7, "p:", true, true);
        let mut two = Generator::new(7, "p:", true, true);
        for _ in 0..20_000 {
            let command = one.command();
            assert_eq!(command.args, two.command().args);
            let marks: &[&[u8]] = &[b"{", b"}", b"(", b")+", b"|", b"]", b"$k"];
            assert!(command.args.iter().all(|arg| !marks.contains(&arg.as_slice())), "{:?}", command.args);
        }
    }
}
