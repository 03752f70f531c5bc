//! The interpreter against answers recorded from Redis 7.0.15 (and, for the text of doubles, Valkey 9.1.2).

use proptest::prelude::*;

use super::*;

/// Knows PING, ECHO and a GET that finds nothing; counts polls and ends the script at `kill_after` of them.
#[derive(Default)]
struct Dummy {
    polls: u64,
    kill_after: Option<u64>,
    logged: Vec<(i64, Vec<u8>)>,
}

impl ScriptHost for Dummy {
    fn call(&mut self, arguments: &[&[u8]], resp3: bool, reply: &mut Vec<u8>) {
        let text: &[u8] = match (arguments[0].to_ascii_lowercase().as_slice(), arguments.len()) {
            (b"ping", 1) => b"+PONG\r\n",
            (b"get", 2) if resp3 => b"_\r\n",
            (b"get", 2) => b"$-1\r\n",
            (b"echo", 2) => {
                reply.extend_from_slice(format!("${}\r\n", arguments[1].len()).as_bytes());
                reply.extend_from_slice(arguments[1]);
                b"\r\n"
            }
            // Hands the bytes given to the script as they are.
            (b"raw", 2) => arguments[1],
            (b"ping" | b"get" | b"echo", _) => b"-ERR Wrong number of args calling Redis command from script\r\n",
            _ => b"-ERR Unknown Redis command called from script\r\n",
        };
        reply.extend_from_slice(text);
    }

    fn log(&mut self, level: i64, text: &[u8]) {
        self.logged.push((level, text.to_vec()));
    }

    fn poll(&mut self) -> Result<(), Interrupt> {
        self.polls += 1;
        if self.kill_after.is_some_and(|limit| self.polls >= limit) { Err(Interrupt::Kill) } else { Ok(()) }
    }

    fn acl_check(&mut self, arguments: &[&[u8]]) -> Option<bool> {
        match arguments[0] {
            b"ping" => Some(true),
            b"get" => Some(false),
            _ => None,
        }
    }
}

fn interpreter() -> Interpreter {
    Interpreter::new(&ScriptOptions { memory_limit: 64 << 20, seed: 1, version: (7, 4, 0) }).unwrap()
}

fn eval_with(interpreter: &mut Interpreter, host: &mut Dummy, script: &[u8], resp3: bool) -> Vec<u8> {
    let sha = sha1_smol::Sha1::from(script).digest().to_string();
    let mut reply = Vec::new();
    match interpreter.load(&sha, script) {
        Ok(()) => interpreter.run(&sha, &[b"k1"], &[b"a1", b"a2"], host, &mut reply, resp3),
        Err(text) => reply::write_error(&mut reply, text.as_bytes()),
    }
    reply
}

fn eval(interpreter: &mut Interpreter, script: &str) -> String {
    String::from_utf8_lossy(&eval_with(interpreter, &mut Dummy::default(), script.as_bytes(), false)).into_owned()
}

fn unescape(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        match bytes.next() {
            Some(b'n') => out.push(b'\n'),
            Some(b'r') => out.push(b'\r'),
            Some(b't') => out.push(b'\t'),
            Some(b'x') => {
                let digits = [bytes.next().unwrap(), bytes.next().unwrap()];
                out.push(u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap());
            }
            other => out.push(other.unwrap()),
        }
    }
    out
}

/// Each line: a script, its reply in RESP2 and, where it differs, in RESP3. One interpreter serves them all in order, as the
/// recorded server did.
#[test]
fn answers_are_those_of_redis() {
    let mut interpreter = interpreter();
    let mut wrong = Vec::new();
    for line in include_str!("oracle_cases.tsv").lines() {
        let fields: Vec<Vec<u8>> = line.split('\t').map(unescape).collect();
        let script = &fields[0];
        for (resp3, expected) in [(false, &fields[1]), (true, fields.last().unwrap())] {
            let got = eval_with(&mut interpreter, &mut Dummy::default(), script, resp3);
            if got != *expected {
                wrong.push(format!(
                    "{}\n    want {:?}\n    got  {:?}",
                    String::from_utf8_lossy(script),
                    String::from_utf8_lossy(&expected[..expected.len().min(300)]),
                    String::from_utf8_lossy(&got[..got.len().min(300)])
                ));
                break;
            }
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}
