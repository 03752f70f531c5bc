//! Requests: the commands and errors of byte streams, whole and cut, as Redis and Valkey take them.

use kelda_resp::{ProtocolError, RequestLimits, RequestParser, Span, Step, encode_command, whole_request};
use proptest::prelude::*;

type Command = Vec<Vec<u8>>;

/// Feeds `stream` in pieces that end at `cuts`; the commands found, and the error that ended it, if any.
fn parse(stream: &[u8], cuts: &[usize], limits: &RequestLimits) -> (Vec<Command>, Option<ProtocolError>) {
    let mut parser = RequestParser::default();
    let mut commands = Vec::new();
    let mut spans = vec![Span { start: 7, end: 7 }]; // what is there already must stay
    let mut begin = 0;
    // Until this many bytes are there, the request must not be complete.
    let mut complete_from = 0;
    for &end in cuts.iter().chain([&stream.len()]) {
        loop {
            let buf = &stream[begin..end.max(begin)];
            let step = match parser.next(buf, limits, &mut spans) {
                Ok(step) => step,
                Err(error) => return (commands, Some(error)),
            };
            let consumed = match step {
                Step::Command { consumed } => {
                    assert!(spans.len() > 1, "a command has arguments");
                    commands.push(spans.drain(1..).map(|span| span.of(buf).to_vec()).collect());
                    consumed
                }
                Step::Inline { consumed, args } => {
                    commands.push(args);
                    consumed
                }
                Step::Skip { consumed } => consumed,
                Step::Incomplete { need } => {
                    assert!(need > 0);
                    assert_eq!(spans.len(), 1, "spans of an incomplete command");
                    complete_from = complete_from.max(begin + buf.len() + need);
                    break;
                }
            };
            assert!(consumed > 0 && consumed <= buf.len());
            assert!(begin + consumed >= complete_from, "complete before the bytes said to be missing");
            begin += consumed;
        }
    }
    (commands, None)
}

fn whole(stream: &[u8]) -> (Vec<Command>, Option<ProtocolError>) {
    parse(stream, &[], &RequestLimits::default())
}

fn commands(stream: &[u8]) -> Vec<Command> {
    let (commands, error) = whole(stream);
    assert_eq!(error, None, "{}", stream.escape_ascii());
    commands
}

fn command(args: &[&str]) -> Command {
    args.iter().map(|arg| arg.as_bytes().to_vec()).collect()
}

fn error_of(stream: &[u8], limits: &RequestLimits) -> Option<String> {
    let each_byte: Vec<usize> = (0..stream.len()).collect();
    let (_, error) = parse(stream, &[], limits);
    assert_eq!(parse(stream, &each_byte, limits).1, error, "cut into bytes");
    error.map(|error| error.0)
}

#[test]
fn errors_have_the_texts_of_redis() {
    let long = |text: &str| text.repeat(65_536 / text.len() + 1);
    let table: &[(&str, &str)] = &[
        ("*2147483648\r\n", "invalid multibulk length"),
        ("*3000000000\r\n", "invalid multibulk length"),
        ("*99999999999999999999\r\n", "invalid multibulk length"),
        ("*abc\r\n", "invalid multibulk length"),
        ("*\r\n", "invalid multibulk length"),
        ("*01\r\n", "invalid multibulk length"),
        ("*+1\r\n", "invalid multibulk length"),
        ("* 1\r\n", "invalid multibulk length"),
        ("*-0\r\n", "invalid multibulk length"),
        ("*1x\r\n", "invalid multibulk length"),
        ("*1\r\n$abc\r\n", "invalid bulk length"),
        ("*1\r\n$\r\n", "invalid bulk length"),
        ("*1\r\n$-1\r\n", "invalid bulk length"),
        ("*1\r\n$04\r\n", "invalid bulk length"),
        ("*1\r\n$536870913\r\n", "invalid bulk length"),
        ("*1\r\nx4\r\n", "expected '$', got 'x'"),
        ("*1\r\n4\r\nPING\r\n", "expected '$', got '4'"),
        ("*1\r\n:1\r\n", "expected '$', got ':'"),
        ("*1\r\n\r\nPING\r\n", "expected '$', got ' '"),
        ("*3\r\n$3\r\nSET\r\n$1\r\nx\r\nfooz\r\n", "expected '$', got 'f'"),
        (&format!("*{}", long("1")), "too big mbulk count string"),
        (&format!("*\0{}", long("A\n")), "too big mbulk count string"),
        (&format!("*1\r\n${}", long("1")), "too big bulk count string"),
        (&format!("*1\r\n{}", long("a")), "too big bulk count string"),
        (&long("a"), "too big inline request"),
        (&format!("\0{}", long("A\n")), "too big inline request"),
        (&format!("$\0{}", long("A\n")), "too big inline request"),
        ("\"abc\r\n", "unbalanced quotes in request"),
        ("PING 'abc\r\n", "unbalanced quotes in request"),
        ("PING \"a\"b\r\n", "unbalanced quotes in request"),
        ("PING 'a'b\r\n", "unbalanced quotes in request"),
        ("PING \"a\"'b'\r\n", "unbalanced quotes in request"),
        ("PING ab\"cd\r\n", "unbalanced quotes in request"),
        ("PING \"a\\\"\r\n", "unbalanced quotes in request"),
        ("PING 'a\\'\r\n", "unbalanced quotes in request"),
        ("PING \"a\\\r\n", "unbalanced quotes in request"),
        ("PING don't\r\n", "unbalanced quotes in request"),
        ("set \"\"\"test-key\"\"\" test-value\r\n", "unbalanced quotes in request"),
    ];
    for (stream, expected) in table {
        let shown = &stream[..stream.len().min(60)];
        assert_eq!(error_of(stream.as_bytes(), &RequestLimits::default()).as_deref(), Some(*expected), "{shown:?}");
    }
    let (_, error) = whole(b"*1\r\n\xff\r\n");
    assert_eq!(error.map(|error| error.0).as_deref(), Some("expected '$', got '\u{fffd}'"));
}

#[test]
fn an_unauthenticated_client_may_send_little() {
    let limits = RequestLimits { authenticated: false, ..RequestLimits::default() };
    let table: &[(&str, Option<&str>)] = &[
        ("*10\r\n", None),
        ("*11\r\n", Some("unauthenticated multibulk length")),
        ("*1\r\n$16384\r\n", None),
        ("*1\r\n$16385\r\n", Some("unauthenticated bulk length")),
        ("*2147483648\r\n", Some("invalid multibulk length")),
        ("*1\r\n$536870913\r\n", Some("invalid bulk length")),
        ("PING 1 2 3 4 5 6 7 8 9 10 11 12\r\n", None),
    ];
    for &(stream, expected) in table {
        assert_eq!(error_of(stream.as_bytes(), &limits).as_deref(), expected, "{stream:?}");
    }
}

#[test]
fn lengths_up_to_the_limits_are_awaited() {
    for stream in ["*2147483647\r\n", "*1\r\n$536870912\r\n", "*1", "*1\r", "*1\r\n$", "*1\r\n$1\r\na\r", "PING"] {
        assert_eq!(whole(stream.as_bytes()), (vec![], None), "{stream:?}");
    }
    let limits = RequestLimits { bulk_bytes_max: 2, ..RequestLimits::default() };
    assert_eq!(parse(b"*1\r\n$2\r\nab\r\n", &[], &limits), (vec![command(&["ab"])], None));
    assert_eq!(error_of(b"*1\r\n$3\r\nabc\r\n", &limits).as_deref(), Some("invalid bulk length"));
}

#[test]
fn a_large_bulk_says_what_it_needs() {
    let mut parser = RequestParser::default();
    let step = parser.next(b"*1\r\n$1000000\r\nabc", &RequestLimits::default(), &mut Vec::new());
    assert_eq!(step, Ok(Step::Incomplete { need: 1_000_000 + 2 - 3 }));
}

#[test]
fn a_request_beyond_32_bits_is_refused() {
    let limits = RequestLimits { bulk_bytes_max: usize::MAX, ..RequestLimits::default() };
    assert_eq!(error_of(b"*1\r\n$4294967295\r\n", &limits).as_deref(), Some("too big request"));
    assert_eq!(error_of(b"*1\r\n$9223372036854775807\r\n", &limits).as_deref(), Some("too big request"));
}

#[test]
fn requests_of_nothing_are_skipped() {
    for stream in ["*0\r\n", "*-1\r\n", "*-10\r\n", "\r\n", "\n", "   \r\n", "\t\x0b\x0c\r\n"] {
        let stream = format!("{stream}PING\r\n");
        assert_eq!(commands(stream.as_bytes()), [command(&["PING"])], "{stream:?}");
    }
}

#[test]
fn line_ends_are_skipped_unseen() {
    assert_eq!(commands(b"*1\r\n$4\r\nPINGxx*1\rX$4\rXPING\r\n"), [command(&["PING"]), command(&["PING"])]);
}

#[test]
fn inline_requests() {
    let table: &[(&[u8], &[&[u8]])] = &[
        (b"PING a\r\n", &[b"PING", b"a"]),
        (b"PING a\n", &[b"PING", b"a"]),
        (b"  PING \t a  \r\n", &[b"PING", b"a"]),
        (b"$4\r\n", &[b"$4"]),
        (b"PING a\r\r\n", &[b"PING", b"a"]),
        (b"PING a\rb\r\n", &[b"PING", b"a", b"b"]),
        (b"PING a\x0b\x0c\r\n", &[b"PING", b"a\x0b\x0c"]),
        (b"PING \"a\"\x0bb\r\n", &[b"PING", b"a", b"b"]),
        (b"PING a\xa0b\r\n", &[b"PING", b"a\xa0b"]),
        (b"PING \"\" ''\r\n", &[b"PING", b"", b""]),
        (b"PING a\"b c\"\r\n", &[b"PING", b"ab c"]),
        (b"PING 'a\\'b\\n'\r\n", &[b"PING", b"a'b\\n"]),
        (b"PING \"\\x41\\n\\r\\t\\b\\a\\q\\xZZ\\x4\"\r\n", &[b"PING", b"A\n\r\t\x08\x07qxZZx4"]),
        (b"PING \"\\x0\\xfF\\\\\\\"\"\r\n", &[b"PING", b"x0\xff\\\""]),
        (b"PING a\\ b\\\r\n", &[b"PING", b"a\\", b"b\\"]),
        (b"PING \"a\rb\"\r\n", &[b"PING", b"a\rb"]),
    ];
    for (stream, args) in table {
        let expected: Command = args.iter().map(|arg| arg.to_vec()).collect();
        assert_eq!(commands(stream), [expected], "{}", stream.escape_ascii());
    }
}

#[test]
fn inline_requests_up_to_64_kib() {
    let line = "a".repeat(65_536);
    assert_eq!(commands(format!("{line}\n").as_bytes()), [command(&[&line])]);
    assert_eq!(
        error_of(format!("{line}a\n").as_bytes(), &RequestLimits::default()).as_deref(),
        Some("too big inline request")
    );
}

/// Would take minutes if each piece made the parser begin anew.
#[test]
fn a_million_arguments_in_pieces() {
    let args: Vec<&[u8]> = vec![b"x"; 1_000_000];
    let mut stream = Vec::new();
    encode_command(&mut stream, &args);
    let cuts: Vec<usize> = (0..stream.len()).step_by(1024).collect();
    let (commands, error) = parse(&stream, &cuts, &RequestLimits::default());
    assert_eq!(error, None);
    assert_eq!(commands, [args]);
}

/// Streams that are mostly requests: valid ones, and bytes likely to come near one.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let request = prop_oneof![
        4 => prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 1..12).prop_map(|args| {
            let mut out = Vec::new();
            encode_command(&mut out, &args);
            out
        }),
        3 => "[A-Z]{1,4}( [a-z\"'\\\\]{0,6}){0,3}\r?\n".prop_map(String::into_bytes),
        1 => r"\*[0-9-]{0,3}(\r\n)?".prop_map(String::into_bytes),
        1 => r"\*[12]\r\n(\$[0-3]\r\n[a-z\r]{0,5}){0,2}".prop_map(String::into_bytes),
        1 => "\r?\n".prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 0..8),
    ];
    prop::collection::vec(request, 0..6).prop_map(|requests| requests.concat())
}

proptest! {
    #[test]
    fn commands_do_not_depend_on_the_cuts(
        stream in stream(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        authenticated: bool,
    ) {
        // A small line limit, so that it is met.
        let limits = RequestLimits { inline_bytes_max: 16, bulk_bytes_max: 16, authenticated };
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        cuts.sort_unstable();
        prop_assert_eq!(parse(&stream, &cuts, &limits), parse(&stream, &[], &limits));
    }

    #[test]
    fn the_short_way_finds_what_the_parser_finds(
        stream in stream(),
        sent in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..1200), 1..12),
        cut: prop::sample::Index,
    ) {
        let mut encoded = Vec::new();
        encode_command(&mut encoded, &sent);
        let short = sent.len() <= 9;
        for stream in [&stream[..], &encoded, &encoded[..cut.index(encoded.len())]] {
            let mut words = Default::default();
            let Some((count, bytes)) = whole_request(stream, 0, &mut words) else {
                prop_assert!(!(short && stream.len() == encoded.len() && stream == &encoded[..]));
                continue;
            };
            let mut spans = Vec::new();
            let step = RequestParser::default().next(stream, &RequestLimits::default(), &mut spans);
            prop_assert_eq!(step, Ok(Step::Command { consumed: bytes }));
            prop_assert_eq!(&words[..count], &spans[..]);
        }
    }

    #[test]
    fn encoded_commands_come_back(
        sent in prop::collection::vec(prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..20), 0..5),
    ) {
        let mut stream = Vec::new();
        for args in &sent {
            encode_command(&mut stream, args);
        }
        prop_assert_eq!(whole(&stream), (sent, None));
    }

    #[test]
    fn quoted_arguments_come_back(args in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 1..6)) {
        let quoted: Vec<String> = args
            .iter()
            .map(|arg| {
                let bytes: String = arg.iter().map(|byte| format!("\\x{byte:02x}")).collect();
                format!("\"{bytes}\"")
            })
            .collect();
        prop_assert_eq!(commands(format!("{}\r\n", quoted.join(" ")).as_bytes()), [args]);
    }
}
