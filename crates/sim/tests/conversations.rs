//! Every file of `tests/conversations` with the engine in this process, under a clock that moves only on `@advance`.

use kelda_engine::testing::Console;
use kelda_sim::conversation::{Conversant, Conversation};
use kelda_sim::server::Kind;
use kelda_sim::value::Value;
use std::collections::HashMap;
use std::io;
use std::path::Path;

/// How long we wait for a reply: blocking commands time out in it.
const WAIT_MS: u64 = 1000;

/// An engine with one worker, and what each client got from it and has not read yet.
#[derive(Default)]
struct InProcess {
    console: Console,
    unread: HashMap<String, Vec<u8>>,
}

impl Conversant for InProcess {
    fn kind(&self) -> Kind {
        Kind::Kelda
    }

    fn reset(&mut self) -> io::Result<()> {
        *self = InProcess::default();
        Ok(())
    }

    fn send(&mut self, client: &str, bytes: &[u8]) -> io::Result<()> {
        self.console.send(client, bytes);
        Ok(())
    }

    fn receive(&mut self, client: &str) -> io::Result<Value> {
        let unread = self.unread.entry(client.into()).or_default();
        for _ in 0..=WAIT_MS {
            unread.extend(self.console.raw(client));
            if let Some((value, length)) = Value::parse(unread).map_err(io::Error::other)? {
                unread.drain(..length);
                return Ok(value);
            }
            if self.console.is_closed(client) {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.console.advance_ms(1);
        }
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn send_blocking(&mut self, client: &str, bytes: &[u8]) -> io::Result<()> {
        self.send(client, bytes)
    }

    fn advance(&mut self, ms: u64) -> bool {
        self.console.advance_ms(ms);
        true
    }
}

#[test]
fn the_engine_answers_as_recorded() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/conversations");
    let mut files: Vec<_> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty());
    let mut differences = 0;
    for path in files {
        let name = path.file_name().unwrap().to_string_lossy();
        let text = std::fs::read_to_string(&path).unwrap();
        let mut conversation = Conversation::parse(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
        let outcome = conversation.run(&mut InProcess::default()).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(outcome.passed > 0, "{name}: nothing was compared");
        for (line, difference) in &outcome.failures {
            println!("{name}:{line}: {difference}");
        }
        differences += outcome.failures.len();
    }
    assert_eq!(differences, 0, "replies differ from what is recorded");
}
