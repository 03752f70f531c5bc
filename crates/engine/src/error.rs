//! Why a command fails, and the one place that turns it into Redis's text.

use kelda_store::txn::WrongType;
use std::borrow::Cow;
use std::fmt;

/// An error reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The key holds a value of another type.
    WrongType,
    /// Options in the wrong place or unknown.
    Syntax,
    /// An argument is no 64-bit integer.
    NotInteger,
    /// An argument is no number.
    NotFloat,
    /// The key must exist.
    NoSuchKey,
    /// The result would not fit 64 bits.
    Overflow,
    /// The string would be longer than `proto-max-bulk-len`.
    StringTooLong,
    /// The command came with too few or too many arguments; the name as `config|get`.
    Arity(String),
    /// A value that was handed in is damaged; what is wrong with it goes to the log.
    BadData(String),
    /// Whole text, with its code: `ERR …`.
    Text(Cow<'static, str>),
    /// Not for clients: the script touched a key whose shard it does not hold; it is run again with all of them.
    NeedsAllShards,
    /// Not for clients: a shard is busy; the command is run again later.
    Again,
}

impl Error {
    /// An error of its own text, code included.
    pub const fn text(text: &'static str) -> Error {
        Error::Text(Cow::Borrowed(text))
    }

    /// An error of a text made up at run time, code included.
    pub fn owned(text: String) -> Error {
        Error::Text(Cow::Owned(text))
    }
}

impl From<WrongType> for Error {
    fn from(_: WrongType) -> Error {
        Error::WrongType
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Error::WrongType => "WRONGTYPE Operation against a key holding the wrong kind of value",
            Error::Syntax => "ERR syntax error",
            Error::NotInteger => "ERR value is not an integer or out of range",
            Error::NotFloat => "ERR value is not a valid float",
            Error::NoSuchKey => "ERR no such key",
            Error::Overflow => "ERR increment or decrement would overflow",
            Error::StringTooLong => "ERR string exceeds maximum allowed size (proto-max-bulk-len)",
            Error::Arity(name) => return write!(f, "ERR wrong number of arguments for '{name}' command"),
            Error::BadData(_) => "ERR Bad data format",
            Error::Text(text) => text,
            Error::NeedsAllShards => "ERR the script needs the whole keyspace",
            Error::Again => "ERR the keyspace is busy",
        })
    }
}

/// What a command's function returns.
pub type Result<T = ()> = std::result::Result<T, Error>;
