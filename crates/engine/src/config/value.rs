//! The kinds of directives: how a value is read from words, checked and printed, with Redis's error texts.

use super::settings::{KeyspaceEvents, MemoryLimit, OutputLimit, OutputLimits, SavePoint};
use std::borrow::Cow;

/// What a directive's words may be.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// `yes` or `no`.
    YesNo,
    /// A decimal number within bounds, both included.
    Int(i64, i64),
    /// A decimal number that is moved into the inner bounds (`hz`) after it passed the outer ones.
    Clamped(i64, i64),
    /// Bytes, with an optional unit; within bounds, both included.
    Size(u64, u64),
    /// Bytes, or a percentage.
    SizeOrPercent,
    /// Permission bits.
    Octal,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// One of these words (Redis 7's `default`), or several of the others: what to do on a signal.
    ShutdownOptions,
    /// Any one word.
    Text,
    /// `dbfilename`: a file's name without a path.
    FileName,
    /// A host name of letters, digits, hyphens and dots.
    Hostname,
    /// The template of the process's title.
    Title,
    /// `save`.
    SavePoints,
    /// `client-output-buffer-limit`.
    OutputLimits,
    /// Up to 16 addresses.
    Addresses,
    /// `notify-keyspace-events`.
    KeyspaceEvents,
    /// `latency-tracking-info-percentiles`.
    Percentiles,
    /// `oom-score-adj-values`.
    OomScores,
    /// `replicaof`: host and port, or `no one`.
    HostPort,
}

/// A directive's value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Of `YesNo`.
    YesNo(bool),
    /// Of `Int` and `Clamped`.
    Int(i64),
    /// Of `Size`.
    Size(u64),
    /// Of `SizeOrPercent`.
    Memory(MemoryLimit),
    /// Of `Octal`.
    Octal(u32),
    /// Of `Choice`.
    Choice(&'static str),
    /// Of `ShutdownOptions`, `Text`, `FileName`, `Hostname`, `Title` and `HostPort`.
    Text(String),
    /// Of `SavePoints`.
    SavePoints(Vec<SavePoint>),
    /// Of `OutputLimits`.
    OutputLimits(OutputLimits),
    /// Of `Addresses`.
    Addresses(Vec<String>),
    /// Of `KeyspaceEvents`.
    KeyspaceEvents(KeyspaceEvents),
    /// Of `Percentiles`.
    Percentiles(Vec<f64>),
    /// Of `OomScores`.
    OomScores([i32; 3]),
}

/// Why a value was refused, in Redis's words.
pub type Reason = Cow<'static, str>;

const WRONG_NUMBER: &str = "wrong number of arguments";
const SHUTDOWN_WORDS: &[&str] = &["default", "save", "nosave", "now", "force", "safe", "failover"];
const ADDRESSES_MAX: usize = 16;

impl Kind {
    /// Whether the directive takes several words, so that CONFIG SET splits its argument at spaces.
    pub fn takes_many(self) -> bool {
        matches!(
            self,
            Kind::ShutdownOptions
                | Kind::SavePoints
                | Kind::OutputLimits
                | Kind::Addresses
                | Kind::Percentiles
                | Kind::OomScores
                | Kind::HostPort
        )
    }

    /// Reads the words that follow the directive's name; `old` is the value that they change.
    pub fn parse(self, words: &[&str], old: &Value) -> Result<Value, Reason> {
        match self {
            Kind::ShutdownOptions => return shutdown_options(words),
            Kind::SavePoints => return save_points(words),
            Kind::OutputLimits => return output_limits(words, old),
            Kind::Addresses => {
                return match words {
                    [""] => Ok(Value::Addresses(Vec::new())),
                    _ if words.len() > ADDRESSES_MAX => Err("Too many bind addresses specified.".into()),
                    _ => Ok(Value::Addresses(words.iter().map(|w| w.to_string()).collect())),
                };
            }
            Kind::Percentiles => return percentiles(words),
            Kind::OomScores => return oom_scores(words),
            Kind::HostPort => return host_port(words),
            _ => {}
        }
        let [word] = words else {
            return Err(WRONG_NUMBER.into());
        };
        match self {
            Kind::YesNo if word.eq_ignore_ascii_case("yes") => Ok(Value::YesNo(true)),
            Kind::YesNo if word.eq_ignore_ascii_case("no") => Ok(Value::YesNo(false)),
            Kind::YesNo => Err("argument must be 'yes' or 'no'".into()),
            Kind::Int(low, high) => Ok(Value::Int(integer(word, low, high)?)),
            Kind::Clamped(low, high) => Ok(Value::Int(integer(word, 0, i32::MAX.into())?.clamp(low, high))),
            Kind::Size(low, high) => match memory(word) {
                Some(bytes) if (low..=high).contains(&bytes) => Ok(Value::Size(bytes)),
                Some(_) => Err(out_of_bounds(low, high)),
                None => Err("argument must be a memory value".into()),
            },
            Kind::SizeOrPercent => size_or_percent(word),
            Kind::Octal => match u32::from_str_radix(word, 8) {
                Ok(bits) if bits <= 0o777 && !word.starts_with('+') => Ok(Value::Octal(bits)),
                Ok(_) => Err(out_of_bounds(0, 0o777)),
                Err(_) => Err("argument couldn't be parsed as an octal number".into()),
            },
            Kind::Choice(choices) => match choices.iter().find(|c| c.eq_ignore_ascii_case(word)) {
                Some(choice) => Ok(Value::Choice(choice)),
                None => Err(one_of(choices)),
            },
            Kind::FileName if word.contains('/') => Err("dbfilename can't be a path, just a filename".into()),
            Kind::Hostname if !word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.') => {
                Err("Hostnames may only contain alphanumeric characters, hyphens or dots".into())
            }
            Kind::Hostname if word.len() >= 256 => Err("Hostnames must be less than 256 characters".into()),
            Kind::Title if !title_is_valid(word) => {
                Err("template format is invalid or contains unknown variables".into())
            }
            Kind::KeyspaceEvents => match KeyspaceEvents::parse(word) {
                Some(events) => Ok(Value::KeyspaceEvents(events)),
                None => Err("Invalid event class character. Use 'Ag$lshzxeKEtmdn'.".into()),
            },
            _ => Ok(Value::Text(word.to_string())),
        }
    }
}

impl Value {
    /// The value as CONFIG GET shows it.
    pub fn text(&self) -> String {
        match self {
            Value::YesNo(on) => if *on { "yes" } else { "no" }.to_string(),
            Value::Int(n) => n.to_string(),
            Value::Size(n) | Value::Memory(MemoryLimit::Bytes(n)) => n.to_string(),
            Value::Memory(MemoryLimit::Percent(n)) => format!("{n}%"),
            Value::Octal(bits) => format!("{bits:o}"),
            Value::Choice(word) => word.to_string(),
            Value::Text(text) => text.clone(),
            Value::SavePoints(points) => join(points.iter().map(|p| format!("{} {}", p.seconds, p.changes))),
            Value::OutputLimits(limits) => {
                let classes = [("normal", limits.normal), ("slave", limits.replica), ("pubsub", limits.pubsub)];
                join(
                    classes
                        .iter()
                        .map(|(name, l)| format!("{name} {} {} {}", l.hard_bytes, l.soft_bytes, l.soft_seconds)),
                )
            }
            Value::Addresses(addresses) => addresses.join(" "),
            Value::KeyspaceEvents(events) => events.to_string(),
            Value::Percentiles(list) => join(list.iter().map(|p| p.to_string())),
            Value::OomScores(scores) => join(scores.iter().map(|s| s.to_string())),
        }
    }

    /// The words that follow the directive's name in a file, as one line each: reading them gives this value.
    pub fn lines(&self, kind: Kind) -> Vec<String> {
        match self {
            Value::SavePoints(points) if !points.is_empty() => {
                points.iter().map(|p| format!("{} {}", p.seconds, p.changes)).collect()
            }
            Value::Text(text) if kind.takes_many() && !text.is_empty() => vec![text.clone()],
            Value::Text(text) => vec![super::lines::quote_if_needed(text)],
            Value::Addresses(list) => match list.is_empty() {
                true => vec!["\"\"".into()],
                false => vec![join(list.iter().map(|a| super::lines::quote_if_needed(a)))],
            },
            _ => vec![Some(self.text()).filter(|t| !t.is_empty()).unwrap_or("\"\"".into())],
        }
    }
}

fn join(words: impl Iterator<Item = String>) -> String {
    words.collect::<Vec<_>>().join(" ")
}

fn one_of(words: &[&str]) -> Reason {
    format!("argument(s) must be one of the following: {}", words.join(", ")).into()
}

fn out_of_bounds(low: impl std::fmt::Display, high: impl std::fmt::Display) -> Reason {
    format!("argument must be between {low} and {high} inclusive").into()
}

/// Digits with an optional minus, no leading zero, no plus: what Redis takes for a number.
fn strict_integer(word: &str) -> Option<i64> {
    let digits = word.strip_prefix('-').unwrap_or(word);
    let plain = digits.bytes().all(|b| b.is_ascii_digit()) && (word == "0" || !digits.starts_with('0'));
    plain.then(|| word.parse().ok()).flatten()
}

fn integer(word: &str, low: i64, high: i64) -> Result<i64, Reason> {
    match strict_integer(word) {
        None => Err("argument couldn't be parsed into an integer".into()),
        Some(n) if (low..=high).contains(&n) => Ok(n),
        Some(_) => Err(out_of_bounds(low, high)),
    }
}

/// Bytes of "100", "3k" (thousands), "100mb" (1024s) and so on; an empty word is zero, as in Redis.
pub fn memory(word: &str) -> Option<u64> {
    let (digits, unit) = word.split_at(word.bytes().take_while(u8::is_ascii_digit).count());
    let factor: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" => 1000,
        "kb" => 1 << 10,
        "m" => 1_000_000,
        "mb" => 1 << 20,
        "g" => 1_000_000_000,
        "gb" => 1 << 30,
        _ => return None,
    };
    if digits.is_empty() {
        return Some(0).filter(|_| word.is_empty());
    }
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

fn size_or_percent(word: &str) -> Result<Value, Reason> {
    let refused = "argument must be a memory or percent value";
    match word.strip_suffix('%') {
        Some(number) => match strict_integer(number) {
            Some(n @ 0..=100) => Ok(Value::Memory(MemoryLimit::Percent(n as u8))),
            Some(n) if n > 100 => Err("percentage argument must be less or equal to 100".into()),
            _ => Err(refused.into()),
        },
        None => memory(word).map(|n| Value::Memory(MemoryLimit::Bytes(n))).ok_or(refused.into()),
    }
}

fn shutdown_options(words: &[&str]) -> Result<Value, Reason> {
    let mut chosen = [false; SHUTDOWN_WORDS.len()];
    for word in words {
        match SHUTDOWN_WORDS.iter().position(|w| w.eq_ignore_ascii_case(word)) {
            Some(at) => chosen[at] = true, // `at` is a position of the array's own length
            None => return Err(one_of(SHUTDOWN_WORDS)),
        }
    }
    if words.is_empty() {
        return Err(one_of(SHUTDOWN_WORDS));
    }
    // The array's order is that of SHUTDOWN_WORDS: default, save, nosave …
    if chosen[1] && chosen[2] {
        return Err("shutdown options SAVE and NOSAVE can't be used simultaneously".into());
    }
    let options = SHUTDOWN_WORDS.iter().zip(chosen).skip(1).filter(|(_, on)| *on).map(|(w, _)| *w);
    let options = options.collect::<Vec<_>>().join(" ");
    Ok(Value::Text(if options.is_empty() { "default".into() } else { options }))
}

fn save_points(words: &[&str]) -> Result<Value, Reason> {
    if matches!(words, [] | [""]) {
        return Ok(Value::SavePoints(Vec::new()));
    }
    let point = |pair: &[&str]| match pair {
        [seconds, changes] => {
            let seconds = strict_integer(seconds).filter(|s| *s >= 1)?;
            let changes = strict_integer(changes).filter(|c| *c >= 0)?;
            Some(SavePoint { seconds: seconds as u64, changes: changes as u64 })
        }
        _ => None,
    };
    let points: Option<Vec<_>> = words.chunks(2).map(point).collect();
    points.map(Value::SavePoints).ok_or("Invalid save parameters".into())
}

fn output_limits(words: &[&str], old: &Value) -> Result<Value, Reason> {
    let mut limits = if let Value::OutputLimits(old) = old { *old } else { OutputLimits::default() };
    let (classes, rest) = words.as_chunks::<4>();
    if !rest.is_empty() {
        return Err("Wrong number of arguments in buffer limit configuration.".into());
    }
    for [class, hard, soft, seconds] in classes {
        let limit = match class.to_ascii_lowercase().as_str() {
            "normal" => &mut limits.normal,
            "slave" | "replica" => &mut limits.replica,
            "pubsub" => &mut limits.pubsub,
            _ => {
                return Err("Invalid client class specified in buffer limit configuration.".into());
            }
        };
        let seconds = strict_integer(seconds).filter(|s| *s >= 0);
        *limit = match (memory(hard), memory(soft), seconds) {
            (Some(hard_bytes), Some(soft_bytes), Some(seconds)) => {
                OutputLimit { hard_bytes, soft_bytes, soft_seconds: seconds as u64 }
            }
            _ => return Err("Error in hard, soft or soft_seconds setting in buffer limit configuration.".into()),
        };
    }
    Ok(Value::OutputLimits(limits))
}

fn percentiles(words: &[&str]) -> Result<Value, Reason> {
    if matches!(words, [""]) {
        return Ok(Value::Percentiles(Vec::new()));
    }
    let mut list = Vec::with_capacity(words.len());
    for word in words {
        match word.parse::<f64>() {
            Ok(p) if (0.0..=100.0).contains(&p) => list.push(p),
            Ok(_) => {
                return Err("latency-tracking-info-percentiles parameters should sit between [0.0,100.0]".into());
            }
            Err(_) => return Err("Invalid latency-tracking-info-percentiles parameters".into()),
        }
    }
    Ok(Value::Percentiles(list))
}

fn oom_scores(words: &[&str]) -> Result<Value, Reason> {
    let [a, b, c] = words else {
        return Err(WRONG_NUMBER.into());
    };
    let score = |word: &&str| {
        let score = strict_integer(word).filter(|n| (-2000..=2000).contains(n)).map(|n| n as i32);
        score.ok_or(Reason::from("Invalid oom-score-adj-values, elements must be between -2000 and 2000."))
    };
    Ok(Value::OomScores([score(a)?, score(b)?, score(c)?]))
}

fn host_port(words: &[&str]) -> Result<Value, Reason> {
    match words {
        [host, port] if host.eq_ignore_ascii_case("no") && port.eq_ignore_ascii_case("one") => {
            Ok(Value::Text(String::new()))
        }
        [""] => Ok(Value::Text(String::new())),
        // It could not be written back so that it is read again.
        [host, _] if host.is_empty() || host.contains(|c: char| c.is_ascii_whitespace() || c.is_ascii_control()) => {
            Err("Invalid master host".into())
        }
        [host, port] => match strict_integer(port) {
            Some(0..=65535) => Ok(Value::Text(format!("{host} {port}"))),
            _ => Err("Invalid master port".into()),
        },
        _ => Err(WRONG_NUMBER.into()),
    }
}

/// A template's variables are closed, and known.
fn title_is_valid(template: &str) -> bool {
    const KNOWN: &[&str] = &["title", "listen-addr", "server-mode", "port", "tls-port", "unixsocket", "config-file"];
    let mut rest = template;
    while let Some((_, after)) = rest.split_once('{') {
        match after.split_once('}') {
            Some((name, after)) if KNOWN.contains(&name) => rest = after,
            _ => return false,
        }
    }
    true
}
