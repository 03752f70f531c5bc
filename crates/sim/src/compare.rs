//! When two servers have answered alike.

use crate::value::Value;

/// How the replies of one command are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// Byte for byte.
    Exactly,
    /// Elements of aggregates in any order, at every level.
    Unordered,
    /// As `Unordered`, and numbers may be written differently: the oracles' ZSCAN shows 0.1 of a skiplist as
    /// 0.10000000000000001, of a listpack as 0.1.
    Scores,
    /// Random choice: the same kinds of reply and, in aggregates, the same number of elements.
    Shape,
    /// The same kind of reply, whatever is in it: figures, and texts in the servers' own words. Any error is like any other.
    Kind,
    /// Encodings: the server may keep what the oracle does not keep compact any more (after ZADD of many members that
    /// are the same, for instance).
    Encoding,
    /// As `Exactly`, but any error is like any other: the products have different words and orders for what is wrong.
    AnyError,
    /// Times, in s or ms: integers at most this far apart, alone or in an aggregate. Any error is like any other.
    Near(i64),
}

/// Texts that differ between the products, and mean the same: (Valkey's, Redis's).
/// Kelda answers as Redis; the fuzzer's oracle is Valkey.
const SAME_TEXT: &[(&[u8], &[u8])] = &[
    (b"NOSCRIPT No matching script.", b"NOSCRIPT No matching script. Please use EVAL."),
    (b"number of args calling command from script", b"number of args calling Redis command from script"),
    (b"Unknown command called from script", b"Unknown Redis command called from script"),
    (b"ERR Command arguments must be", b"ERR Lua redis lib command arguments must be"),
    (b"following reason: no permission", b"following reason: no permission to access the database"),
    (b"server.register_function", b"redis.register_function"),
    (b"exactly one of BYRADIUS, BYBOX and BYPOLYGON", b"exactly one of BYRADIUS and BYBOX"),
];

/// SORT by number over texts that are empty or begin with a blank: an error of Valkey's; for Redis they are numbers.
const NO_SCORE: &[u8] = b"ERR One or more scores can't be converted into double";

/// What Redis says of a member that GEOSEARCH is to begin at and that is not there. Valkey names it.
const NO_MEMBER: &[u8] = b"ERR could not decode requested zset member";

/// Whether `server` answered as `oracle` did.
pub fn alike(how: How, server: &Value, oracle: &Value) -> bool {
    if server == oracle {
        return true;
    }
    if let (Value::Error(server), Value::Error(oracle)) = (server, oracle) {
        if matches!(how, How::AnyError | How::Near(_) | How::Kind) {
            return true;
        }
        let server = without_script(server);
        let names_member = oracle.starts_with(b"ERR member ") && oracle.ends_with(b" does not exist");
        // Valkey passes over words that are no proper command: they name no key.
        let denied = server.starts_with(b"NOPERM ") && oracle == b"ERR syntax error";
        return server == *oracle
            || denied
            || names_member && server == NO_MEMBER
            || SAME_TEXT.iter().any(|(valkey, redis)| replace(oracle, valkey, redis) == server);
    }
    if *oracle == Value::Error(NO_SCORE.to_vec()) && matches!(server, Value::Array(_)) {
        return true;
    }
    match how {
        How::Exactly | How::AnyError => unsigned_zeros(server) == unsigned_zeros(oracle),
        How::Unordered => canonical(server, false) == canonical(oracle, false),
        How::Scores => canonical(server, true) == canonical(oracle, true),
        How::Shape => same_shape(server, oracle),
        How::Kind => std::mem::discriminant(server) == std::mem::discriminant(oracle),
        How::Encoding => {
            [&b"listpack"[..], b"listpackex", b"intset"].iter().any(|compact| server.bytes() == Some(compact))
        }
        How::Near(distance) => match (server, oracle) {
            (Value::Integer(a), Value::Integer(b)) => *a >= 0 && *b >= 0 && (a - b).abs() <= distance,
            (Value::Array(a), Value::Array(b)) | (Value::Map(a), Value::Map(b)) if a.len() == b.len() => {
                a.iter().zip(b).all(|(a, b)| alike(how, a, b))
            }
            _ => false,
        },
    }
}

/// Whether the replies to an EXEC are alike, of which the queued commands are compared as `hows` says.
pub fn exec_alike(hows: &[How], server: &Value, oracle: &Value) -> bool {
    match (server, oracle) {
        (Value::Array(a), Value::Array(b)) if a.len() == hows.len() && b.len() == hows.len() => {
            hows.iter().zip(a.iter().zip(b)).all(|(how, (a, b))| alike(*how, a, b))
        }
        _ => alike(How::Exactly, server, oracle),
    }
}

/// `value` with 0 for −0: the oracles keep the sign in a skiplist and lose it in a listpack.
fn unsigned_zeros(value: &Value) -> Value {
    let all = |items: &[Value]| items.iter().map(unsigned_zeros).collect();
    match value {
        Value::Bulk(text) if text == b"-0" => Value::Bulk(b"0".to_vec()),
        Value::Double(text) if text == b"-0" => Value::Double(b"0".to_vec()),
        Value::Array(items) => Value::Array(all(items)),
        Value::Map(items) => Value::Map(all(items)),
        other => other.clone(),
    }
}

fn same_shape(a: &Value, b: &Value) -> bool {
    match (a.elements(), b.elements()) {
        (Some(x), Some(y)) => x.len() == y.len() && std::mem::discriminant(a) == std::mem::discriminant(b),
        _ => std::mem::discriminant(a) == std::mem::discriminant(b),
    }
}

/// `value` with its aggregates sorted, maps by pairs; with `numbers`, the texts of these in one notation.
fn canonical(value: &Value, numbers: bool) -> Value {
    let sorted = |items: &[Value]| {
        let mut items: Vec<Value> = items.iter().map(|item| canonical(item, numbers)).collect();
        items.sort();
        items
    };
    match value {
        Value::Array(items) => Value::Array(sorted(items)),
        Value::Set(items) => Value::Set(sorted(items)),
        Value::Map(items) => {
            let mut pairs: Vec<Vec<Value>> =
                items.chunks(2).map(|pair| pair.iter().map(|item| canonical(item, numbers)).collect()).collect();
            pairs.sort();
            Value::Map(pairs.concat())
        }
        Value::Bulk(text) if numbers => {
            let number = std::str::from_utf8(text).ok().and_then(|text| text.parse::<f64>().ok());
            // Adding 0 takes the sign from −0.
            Value::Bulk(number.map_or_else(|| text.clone(), |number| (number + 0.0).to_string().into_bytes()))
        }
        other => other.clone(),
    }
}

/// Redis names the failing script by its SHA1, or the function (`script: 2fd4…, on @user_script:1.`). Valkey leaves that out.
fn without_script(text: &[u8]) -> Vec<u8> {
    let find_last = |text: &[u8], mark: &[u8]| text.windows(mark.len()).rposition(|window| window == mark);
    let Some(name_end) = find_last(text, b", on @user_") else { return text.to_vec() };
    let mark = b" script: ";
    match find_last(&text[..name_end], mark) {
        Some(at) => [&text[..at + mark.len()], &text[name_end + 2..]].concat(),
        None => text.to_vec(),
    }
}

fn replace(text: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    match text.windows(from.len()).position(|window| window == from) {
        Some(at) => [&text[..at], to, &text[at + from.len()..]].concat(),
        None => text.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_comparison() {
        let array = |items: &[i64]| Value::Array(items.iter().map(|n| Value::Integer(*n)).collect());
        assert!(!alike(How::Exactly, &array(&[1, 2]), &array(&[2, 1])));
        assert!(alike(How::Unordered, &array(&[1, 2]), &array(&[2, 1])));
        assert!(!alike(How::Unordered, &array(&[1, 1]), &array(&[2, 1])));
        assert!(alike(How::Shape, &array(&[5]), &array(&[6])) && !alike(How::Shape, &array(&[5]), &array(&[])));
        assert!(alike(How::Near(2), &Value::Integer(5), &Value::Integer(7)));
        assert!(!alike(How::Near(2), &Value::Integer(-1), &Value::Integer(0)), "-1 means: no expiry");
        assert!(alike(How::Near(2), &array(&[5, -1]), &array(&[7, -1])));
        assert!(!alike(How::Near(2), &array(&[5, -1]), &array(&[7, 0])));
        assert!(exec_alike(&[How::Near(2)], &array(&[5]), &array(&[6])));
        assert!(!exec_alike(&[How::Exactly], &array(&[5]), &array(&[6])));
    }
}
