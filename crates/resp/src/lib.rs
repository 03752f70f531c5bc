//! RESP2 and RESP3: parsing requests and replies, writing replies, and the number texts of the protocol.
//!
//! Pure functions over byte slices: no I/O, no clock, no knowledge of commands. Where Redis is lenient or odd
//! (trailing CRLF of a bulk not checked, a NUL byte hides the end of an inline line), this crate is as well, for
//! clients were written against that; such places are marked "quirk".

pub mod glob;
mod grisu;
pub mod long_double;
pub mod number;
pub mod request;
pub mod value;
pub mod writer;

pub use glob::glob_match;
pub use long_double::LongDouble;
pub use number::{format_f64, parse_f64, parse_i64, parse_u64};
pub use request::{ProtocolError, RequestLimits, RequestParser, SHORT_WORDS_MAX, Span, Step, whole_request};
pub use value::{DecodeError, Value, decode, encode_command};
pub use writer::{Deferred, Pieces, Sent, Writer};

/// The version of the reply protocol a connection speaks (`HELLO 2` or `HELLO 3`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// RESP2, the protocol of a new connection.
    #[default]
    Resp2,
    /// RESP3: adds maps, sets, pushes, doubles, booleans and a true null.
    Resp3,
}
