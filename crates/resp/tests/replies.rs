//! Replies: the bytes of each kind in both versions, and that what is written is read back.

use kelda_resp::value::{DEPTH_MAX, Double};
use kelda_resp::{DecodeError, Protocol, Sent, Value, Writer, decode};
use proptest::prelude::*;
use std::sync::Arc;

type Write = fn(&mut Writer);

#[test]
fn each_kind_in_both_versions() {
    let table: &[(Write, &str, &str)] = &[
        (|w| w.ok(), "+OK\r\n", "+OK\r\n"),
        (|w| w.status("PONG"), "+PONG\r\n", "+PONG\r\n"),
        (|w| w.error("ERR a\r\nb"), "-ERR a  b\r\n", "-ERR a  b\r\n"),
        (|w| w.int(0), ":0\r\n", ":0\r\n"),
        (|w| w.int(1), ":1\r\n", ":1\r\n"),
        (|w| w.int(-1), ":-1\r\n", ":-1\r\n"),
        (|w| w.int(i64::MIN), ":-9223372036854775808\r\n", ":-9223372036854775808\r\n"),
        (|w| w.bulk(b""), "$0\r\n\r\n", "$0\r\n\r\n"),
        (|w| w.bulk(b"0123456789"), "$10\r\n0123456789\r\n", "$10\r\n0123456789\r\n"),
        (|w| w.bulk_int(-12), "$3\r\n-12\r\n", "$3\r\n-12\r\n"),
        (|w| w.null(), "$-1\r\n", "_\r\n"),
        (|w| w.null_array(), "*-1\r\n", "_\r\n"),
        (|w| w.array(10), "*10\r\n", "*10\r\n"),
        (|w| w.map(5), "*10\r\n", "%5\r\n"),
        (|w| w.set(2), "*2\r\n", "~2\r\n"),
        (|w| w.push(3), "*3\r\n", ">3\r\n"),
        (|w| w.double(1.5), "$3\r\n1.5\r\n", ",1.5\r\n"),
        (|w| w.double(f64::NEG_INFINITY), "$4\r\n-inf\r\n", ",-inf\r\n"),
        (|w| w.bool(true), ":1\r\n", "#t\r\n"),
        (|w| w.bool(false), ":0\r\n", "#f\r\n"),
        (|w| w.verbatim("txt", b"hi"), "$2\r\nhi\r\n", "=6\r\ntxt:hi\r\n"),
        (|w| w.big_number("-123"), "$4\r\n-123\r\n", "(-123\r\n"),
        (|w| w.raw(b":7\r\n"), ":7\r\n", ":7\r\n"),
    ];
    for (write, resp2, resp3) in table {
        for (protocol, expected) in [(Protocol::Resp2, resp2), (Protocol::Resp3, resp3)] {
            let mut writer = Writer::new(protocol);
            write(&mut writer);
            assert_eq!(writer.buf.escape_ascii().to_string(), expected.as_bytes().escape_ascii().to_string());
        }
    }
    let mut writer = Writer::new(Protocol::Resp3);
    writer.attribute(1);
    assert_eq!(writer.buf, b"|1\r\n");
}

#[test]
fn deferred_aggregates() {
    for (protocol, expected) in [
        (Protocol::Resp2, ":9\r\n*2\r\n*12\r\n".to_owned() + &":1\r\n".repeat(12) + "*0\r\n"),
        (Protocol::Resp3, ":9\r\n*2\r\n%6\r\n".to_owned() + &":1\r\n".repeat(12) + "~0\r\n"),
    ] {
        let mut writer = Writer::new(protocol);
        writer.int(9);
        let outer = writer.defer();
        let map = writer.defer();
        (0..12).for_each(|_| writer.int(1));
        writer.end_map(map, 6);
        let set = writer.defer();
        writer.end_set(set, 0);
        writer.end_array(outer, 2);
        assert_eq!(String::from_utf8_lossy(&writer.buf), expected);
    }
}

#[test]
fn rolling_back() {
    let mut writer = Writer::new(Protocol::Resp2);
    writer.ok();
    let mark = writer.len();
    writer.bulk(b"half");
    writer.truncate(mark);
    assert_eq!(writer.buf, b"+OK\r\n");
}

#[test]
fn what_is_no_value() {
    let table: &[(&str, DecodeError)] = &[
        ("?", DecodeError::Type(b'?')),
        (":x\r\n", DecodeError::Number),
        ("$x\r\n", DecodeError::Number),
        ("$-2\r\n", DecodeError::Number),
        ("*-2\r\n", DecodeError::Number),
        (",x\r\n", DecodeError::Number),
        ("(1x\r\n", DecodeError::Number),
        ("(\r\n", DecodeError::Number),
        ("+a\rb", DecodeError::LineEnd),
        ("$1\r\naXX", DecodeError::LineEnd),
        ("#x\r\n", DecodeError::Malformed),
        ("_x\r\n", DecodeError::Malformed),
        ("=2\r\nhi\r\n", DecodeError::Malformed),
        ("=4\r\ntxt.\r\n", DecodeError::Malformed),
    ];
    for (bytes, error) in table {
        assert_eq!(decode(bytes.as_bytes()), Err(*error), "{bytes:?}");
    }
}

#[test]
fn other_forms() {
    let table: &[(&str, Value)] = &[
        ("!5\r\nERR a\r\n", Value::Error(b"ERR a".to_vec())),
        (":+5\r\n", Value::Int(5)),
        (",nan\r\n", Value::Double(f64::NAN.into())),
        ("*-1\r\n", Value::NullArray),
        ("$-1\r\n", Value::Null),
    ];
    for (bytes, value) in table {
        assert_eq!(decode(bytes.as_bytes()), Ok(Some((value.clone(), bytes.len()))), "{bytes:?}");
    }
}

#[test]
fn depth_is_limited() {
    let nested = |depth: usize| "*1\r\n".repeat(depth) + ":1\r\n";
    assert!(matches!(decode(nested(DEPTH_MAX).as_bytes()), Ok(Some(_))));
    assert_eq!(decode(nested(DEPTH_MAX + 1).as_bytes()), Err(DecodeError::TooDeep));
    assert_eq!(decode("|1\r\n".repeat(1_000_000).as_bytes()), Err(DecodeError::TooDeep));
}

/// Writes `value` in RESP3.
fn write(writer: &mut Writer, value: &Value) {
    let pairs_of = |writer: &mut Writer, pairs: &[(Value, Value)]| {
        for (key, value) in pairs {
            write(writer, key);
            write(writer, value);
        }
    };
    match value {
        Value::Status(text) => writer.status(str::from_utf8(text).expect("generated as text")),
        Value::Error(text) => writer.error_bytes(text),
        Value::Int(value) => writer.int(*value),
        Value::Bulk(bytes) => writer.bulk(bytes),
        Value::Null => writer.null(),
        Value::NullArray => writer.raw(b"*-1\r\n"),
        Value::Double(double) => writer.double(double.value),
        Value::Bool(value) => writer.bool(*value),
        Value::Verbatim { format, text } => writer.verbatim(str::from_utf8(format).expect("ASCII"), text),
        Value::BigNumber(digits) => writer.big_number(str::from_utf8(digits).expect("digits")),
        Value::Array(values) => {
            let deferred = writer.defer();
            values.iter().for_each(|value| write(writer, value));
            writer.end_array(deferred, values.len());
        }
        Value::Set(values) => {
            writer.set(values.len());
            values.iter().for_each(|value| write(writer, value));
        }
        Value::Push(values) => {
            writer.push(values.len());
            values.iter().for_each(|value| write(writer, value));
        }
        Value::Map(pairs) => {
            let deferred = writer.defer();
            pairs_of(writer, pairs);
            writer.end_map(deferred, pairs.len());
        }
        Value::Attribute { pairs, value } => {
            writer.attribute(pairs.len());
            pairs_of(writer, pairs);
            write(writer, value);
        }
    }
}

fn value() -> impl Strategy<Value = Value> {
    let text = "[ -~]{0,12}".prop_map(String::into_bytes);
    let leaf = prop_oneof![
        text.clone().prop_map(Value::Status),
        text.clone().prop_map(Value::Error),
        any::<i64>().prop_map(Value::Int),
        prop::collection::vec(any::<u8>(), 0..40).prop_map(Value::Bulk),
        Just(Value::Null),
        Just(Value::NullArray),
        any::<f64>().prop_map(|value| Value::Double(Double::from(value))),
        any::<bool>().prop_map(Value::Bool),
        text.prop_map(|text| Value::Verbatim { format: *b"txt", text }),
        "-?[1-9][0-9]{0,40}".prop_map(|digits| Value::BigNumber(digits.into_bytes())),
    ];
    leaf.prop_recursive(4, 32, 12, |inner| {
        let values = prop::collection::vec(inner.clone(), 0..12);
        let pairs = prop::collection::vec((inner.clone(), inner.clone()), 0..6);
        prop_oneof![
            values.clone().prop_map(Value::Array),
            values.clone().prop_map(Value::Set),
            values.prop_map(Value::Push),
            pairs.clone().prop_map(Value::Map),
            (pairs, inner).prop_map(|(pairs, value)| Value::Attribute { pairs, value: Box::new(value) }),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(value in value(), cut: prop::sample::Index, after: Vec<u8>) {
        let mut writer = Writer::new(Protocol::Resp3);
        write(&mut writer, &value);
        let mut bytes = writer.buf;
        let len = bytes.len();
        prop_assert_eq!(decode(&bytes[..cut.index(len)]), Ok(None));
        bytes.extend(after);
        prop_assert_eq!(decode(&bytes), Ok(Some((value, len))));
    }

    #[test]
    fn no_bytes_break_the_decoder(bytes: Vec<u8>, near in "[-+:$*%~>,#=(|!_0-9tf\r\n]{0,24}") {
        let _ = decode(&bytes);
        let _ = decode(near.as_bytes());
    }
}

/// What is to be sent, as one text.
fn all(writer: &Writer, sent: Sent, end: usize) -> Vec<u8> {
    writer.pieces(sent, end).inspect(|piece| assert!(!piece.is_empty())).collect::<Vec<_>>().concat()
}

#[test]
fn shared_strings_are_sent_in_their_places_however_the_output_is_cut() {
    let mut writer = Writer::new(Protocol::Resp2);
    writer.shares = true;
    let strings = [Arc::new(b"one".to_vec()), Arc::new(vec![b'2'; 300]), Arc::new(b"3".to_vec())];
    writer.ok();
    let array = writer.defer();
    writer.bulk_shared(&strings[0]);
    writer.bulk_shared(&strings[1]);
    writer.end_array(array, 2);
    let mark = writer.len();
    writer.bulk_shared(&strings[2]);
    let want = [&b"+OK\r\n*2\r\n$3\r\none\r\n$300\r\n"[..], &strings[1], b"\r\n"].concat();
    assert_eq!(all(&writer, Sent::default(), mark), want);
    let whole = [&want[..], b"$1\r\n3\r\n"].concat();
    assert_eq!((writer.bytes(), writer.bytes_since(mark)), (whole.len(), 7));
    for step in 1..whole.len() {
        let (mut writer, mut sent) = (writer.clone(), Sent::default());
        for at in (0..whole.len()).step_by(step) {
            assert_eq!(all(&writer, sent, writer.len()), &whole[at..]);
            assert_eq!(writer.unsent(sent), whole.len() - at);
            if at % 2 == 1 {
                writer.drop_sent(&mut sent);
            }
            writer.advance(&mut sent, step.min(whole.len() - at));
        }
        assert_eq!((sent.at, writer.unsent(sent)), (writer.len(), 0));
        assert_eq!(Arc::strong_count(&strings[1]), 2, "what was sent is let go");
    }
    writer.truncate(mark);
    assert_eq!((all(&writer, Sent::default(), mark), writer.bytes()), (want.clone(), want.len()));
    assert_eq!(Arc::strong_count(&strings[2]), 1);
    // Who only looks at the buffer gets a copy.
    writer.shares = false;
    writer.bulk_shared(&strings[2]);
    assert!(writer.buf.ends_with(b"$1\r\n3\r\n"));
}
