//! Every file of `tests/conversations` with the engine in this process, under a clock that moves only on `@advance`.

use kelda_engine::testing::Console;
use kelda_sim::conversation::{Conversant, Conversation};
use kelda_sim::server::Kind;
use kelda_sim::value::Value;
use std::collections::HashMap;
use std::io;
use std::path::Path;

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
        unread.extend(self.console.raw(client));
        let parsed = Value::parse(unread).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
        match parsed {
            Some((value, length)) => {
                unread.drain(..length);
                Ok(value)
            }
            None if self.console.is_closed(client) => Err(io::ErrorKind::UnexpectedEof.into()),
            // The engine has done all it can until something else happens.
            None => Err(io::ErrorKind::WouldBlock.into()),
        }
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
