//! From a session's input to single commands: batches of them are parsed ahead, so that the memory can fetch their keys.

use super::{Flow, execute};
use crate::args::Args;
use crate::command::Reply;
use crate::durability::Tellings;
use crate::fast_path::FastPath;
use crate::session::Session;
use crate::worker::{Fate, Host, Worker};
use kelda_resp::{ProtocolError, RequestLimits, Span, Step, Writer, whole_request};
use kelda_store::hasher;
use kelda_store::shard::Keyspace;
use smallvec::SmallVec;
use std::sync::atomic::Ordering::Relaxed;

/// Commands parsed ahead, so that their keys can be fetched from memory while others run.
const BATCH: usize = 32;

/// Longest word that is hashed ahead: what is longer is seldom a key.
const HASHED_BYTES_MAX: usize = 256;

/// Which word of a command is most likely its first key: the second, but for EVAL and its like, which name the number of keys before
/// them.
#[inline(always)]
fn first_key(words: &[&[u8]]) -> usize {
    match words {
        [[b'E' | b'e', b'V' | b'v', ..], _, _, _, ..] => 3,
        _ => 1,
    }
}

/// A command of a batch: its words are `first..end` of the batch's, its last byte is before `consumed`.
pub(crate) struct Parsed {
    first: usize,
    end: usize,
    consumed: usize,
    /// Which of its words the batch has the hash of; none if that is beyond them.
    hashed: usize,
}

/// What [`run`] needs for a while, kept from one call to the next for the memory that it holds.
#[derive(Default)]
pub(crate) struct Scratch {
    words: Vec<&'static [u8]>,
    batch: Vec<Parsed>,
    spans: Vec<Span>,
    /// For each command of the batch, the hash of what is most likely its first key.
    hashes: Vec<u64>,
}

impl Scratch {
    /// Adds a command to the batch, and has the memory fetch the shard of its key.
    #[inline(always)]
    fn push(&mut self, keyspace: &Keyspace, words: &[&[u8]], first: usize, consumed: usize) {
        let at = first_key(&words[first..]);
        let key = words.get(first + at).filter(|key| key.len() <= HASHED_BYTES_MAX);
        let hash = key.map_or(0, |key| hasher::hash(key));
        keyspace.prefetch_shard(hash);
        self.hashes.push(hash);
        self.batch.push(Parsed {
            first,
            end: words.len(),
            consumed,
            hashed: if key.is_some() { at } else { usize::MAX },
        });
    }

    /// Takes the words back, whatever they pointed to: the collection below keeps the vector's memory.
    fn keep_words(&mut self, mut words: Vec<&[u8]>) {
        /// Words for which memory is kept.
        const KEEP: usize = 4 * BATCH;
        if self.spans.capacity() > KEEP {
            self.spans = Vec::new();
        }
        words.clear();
        if words.capacity() <= KEEP {
            self.words = words.into_iter().map(|_| Default::default()).collect();
        }
    }
}

/// Runs what is complete of the session's input.
pub(crate) fn run(worker: &mut Worker, session: &mut Session, host: &mut dyn Host) {
    // Before anything is run, too: what came at once may be too much.
    worker.check_input(session);
    if session.blocked.is_some() || session.fate != Fate::Open {
        return;
    }
    // A script may serve others within its command, each with what it is told.
    let outer = worker.tellings.begin(worker.is_strict(session));
    let start = session.reply.len();
    let input = std::mem::take(&mut session.input);
    // What is being run is no longer waiting: CLIENT LIST shows its own connection's buffer as empty.
    session.info.input_bytes.store(0, Relaxed);
    session.info.argument_bytes.store(0, Relaxed);
    session.info.input_room.store(0, Relaxed);
    session.reply.most = worker.longest_output(session);
    let mut reply = std::mem::replace(&mut session.reply, Writer::new(session.protocol));
    let mut scratch = std::mem::take(&mut worker.scratch);
    let mut words: Vec<&[u8]> = std::mem::take(&mut scratch.words);
    let mut consumed = 0;
    let engine = worker.engine.clone();
    // Found out when a command needs it, and anew after one that went the long way.
    let mut fast: Option<FastPath> = None;
    'batches: loop {
        words.clear();
        if worker.follow_users(session) {
            FastPath::end(&mut fast, worker, session);
        }
        // Before AUTH the limits are narrow, and the very next command may lift them.
        let most = if session.authenticated { BATCH } else { 1 };
        let end = parse(worker, session, &input, &mut consumed, most, &mut scratch, &mut words);
        let Scratch { batch, hashes, .. } = &scratch;
        if batch.len() > 1 {
            engine.keyspace.prefetch(session.db, hashes);
        }
        let whole = batch.len() == most;
        for (parsed, &hash) in batch.iter().zip(hashes) {
            let words = &words[parsed.first..parsed.end];
            let args = Args::with_hash(words, parsed.hashed, hash);
            let short = fast.get_or_insert_with(|| FastPath::new(&engine, worker, session, input.len()));
            if short.run(worker, session, &args, &mut reply) {
                consumed = parsed.consumed;
                continue;
            }
            FastPath::end(&mut fast, worker, session);
            match execute(worker, session, host, args, &mut reply) {
                Flow::Next => consumed = parsed.consumed,
                Flow::Again => {
                    session.parser = Default::default();
                    worker.put_aside(session);
                    break 'batches;
                }
                Flow::Blocked | Flow::End => {
                    consumed = parsed.consumed;
                    session.parser = Default::default();
                    break 'batches;
                }
            }
        }
        match end {
            BatchEnd::More if whole => {}
            BatchEnd::More => break,
            BatchEnd::Inline { consumed: bytes, args: own } => {
                FastPath::end(&mut fast, worker, session);
                let own: SmallVec<[&[u8]; 8]> = own.iter().map(|word| &word[..]).collect();
                match execute(worker, session, host, Args::new(&own), &mut reply) {
                    Flow::Next => consumed = bytes,
                    Flow::Again => {
                        worker.put_aside(session);
                        break;
                    }
                    Flow::Blocked | Flow::End => {
                        consumed = bytes;
                        break;
                    }
                }
            }
            BatchEnd::Failure(error) => {
                reply.error(&format!("ERR Protocol error: {}", error.0));
                session.fate = Fate::CloseAfterWrite;
                worker.stats().errors.add(1);
                break;
            }
        }
    }
    FastPath::end(&mut fast, worker, session);
    scratch.keep_words(words);
    worker.scratch = scratch;
    finish_turn(worker, session, input, consumed, reply);
    let Tellings { strict, told_lsn, made_lsn, fed } = std::mem::replace(&mut worker.tellings, outer);
    session.made_lsn = session.made_lsn.max(made_lsn);
    session.fed = session.fed.max(fed);
    if strict {
        worker.hold(session, told_lsn, start);
    }
}

/// Why a batch holds no more commands.
enum BatchEnd {
    /// It is full, or no further request is complete.
    More,
    /// An inline command comes next; its words are not in the input.
    Inline {
        /// Where in the input it ends.
        consumed: usize,
        /// Its words.
        args: Vec<Vec<u8>>,
    },
    /// What comes next is no request.
    Failure(ProtocolError),
}

/// Parses up to `most` requests ahead, from `consumed` on, into the batch; `consumed` moves past what asks for nothing.
fn parse<'i>(
    worker: &Worker,
    session: &mut Session,
    input: &'i [u8],
    consumed: &mut usize,
    most: usize,
    scratch: &mut Scratch,
    words: &mut Vec<&'i [u8]>,
) -> BatchEnd {
    let keyspace = &worker.engine.keyspace;
    scratch.batch.clear();
    scratch.hashes.clear();
    let mut at = *consumed;
    while scratch.batch.len() < most {
        let rest = &input[at..];
        let first = words.len();
        if session.authenticated
            && session.parser.is_idle()
            && let Some(bytes) = whole_request(rest, words)
        {
            at += bytes;
            scratch.push(keyspace, words, first, at);
            continue;
        }
        let limits = RequestLimits {
            bulk_bytes_max: worker.settings.proto_max_bulk_len,
            authenticated: session.authenticated,
            ..RequestLimits::default()
        };
        scratch.spans.clear();
        match session.parser.next(rest, &limits, &mut scratch.spans) {
            Ok(Step::Command { consumed: bytes }) => {
                words.extend(scratch.spans.iter().map(|span| span.of(rest)));
                at += bytes;
                scratch.push(keyspace, words, first, at);
            }
            Ok(Step::Inline { consumed: bytes, args }) => return BatchEnd::Inline { consumed: at + bytes, args },
            Ok(Step::Skip { consumed: bytes }) => {
                at += bytes;
                // What follows a command is consumed with it: an unfinished request behind it is taken up again from there.
                *scratch.batch.last_mut().map_or(&mut *consumed, |last| &mut last.consumed) = at;
            }
            Ok(Step::Incomplete { need }) => {
                session.needs = need;
                break;
            }
            Err(error) => return BatchEnd::Failure(error),
        }
    }
    BatchEnd::More
}

/// Puts input and output back into the session.
pub(crate) fn finish_turn(
    worker: &mut Worker,
    session: &mut Session,
    mut input: Vec<u8>,
    consumed: usize,
    reply: Reply,
) {
    /// Capacity that a session without input keeps.
    const KEEP_BYTES: usize = 64 * 1024;
    if consumed == input.len() {
        input.clear();
        if input.capacity() > KEEP_BYTES {
            input = Vec::new();
        }
    } else if consumed != 0 {
        input.drain(..consumed);
    }
    let info = &session.info;
    // Only the session's own thread counts.
    info.totals[0].store(info.totals[0].load(Relaxed) + consumed as u64, Relaxed);
    let parsed = session.parser.parsed_bytes().min(input.len());
    info.argument_bytes.store(parsed, Relaxed);
    info.input_bytes.store(input.len() - parsed, Relaxed);
    info.input_room.store(if input.is_empty() { 0 } else { input.capacity() - input.len() }, Relaxed);
    info.active_ms.store(worker.now_ms(), Relaxed);
    let stats = worker.stats();
    stats.input_bytes.add(consumed as u64);
    stats.reads.add(1);
    session.input = input;
    session.reply = reply;
    if session.master.is_none() {
        worker.check_input(session);
    }
}
