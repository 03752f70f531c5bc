//! From a session's input to single commands: batches of them are parsed ahead, so that the memory can fetch their keys.

use super::{Flow, execute};
use crate::args::Args;
use crate::command::Reply;
use crate::durability::Tellings;
use crate::fast_path::FastPath;
use crate::session::Session;
use crate::worker::{Fate, Host, Worker};
use kelda_resp::{ProtocolError, RequestLimits, SHORT_WORDS_MAX, Span, Step, Writer, whole_request};
use kelda_store::hasher;
use kelda_store::shard::Keyspace;
use smallvec::SmallVec;
use std::sync::atomic::Ordering::Relaxed;

/// Commands parsed ahead, so that their keys can be fetched from memory while others run.
const BATCH: usize = 32;

/// Input of more bytes has many commands, which fetch for each other.
const SHORT_INPUT_BYTES: usize = 512;

/// Longest word that is hashed ahead: what is longer is seldom a key.
const HASHED_BYTES_MAX: usize = 256;

/// Words of a command for which there is always room.
const FEW_WORDS: usize = 16;

/// Words of a batch for which room is made at once, and kept.
const ROOM: usize = SHORT_WORDS_MAX * BATCH;

/// Which word of a command is most likely its first key: the second, but for EVAL and its like, which name the number of keys before
/// them.
#[inline(always)]
fn first_key(input: &[u8], words: &[Span]) -> usize {
    match words {
        [name, _, _, _, ..] if matches!(name.of(input), [b'E' | b'e', b'V' | b'v', ..]) => 3,
        _ => 1,
    }
}

/// A command of a batch.
struct Parsed {
    /// Its words are `first..end` of the batch's.
    first: usize,
    end: usize,
    /// How much of the input has been consumed once it has run.
    consumed: usize,
    /// Which of its words the batch has the hash of; none if that is beyond them.
    hashed: usize,
}

/// Some commands of a session's input.
#[derive(Default)]
pub(crate) struct Batch {
    commands: Vec<Parsed>,
    /// Where in the input the words are; the last command's are followed by room for those of the next.
    words: Vec<Span>,
    /// For each command the hash of what is most likely its first key.
    hashes: Vec<u64>,
    /// Of a batch that was parsed before its session's turn: how long the input was, from the first byte of which it was parsed.
    ahead_of: usize,
}

impl Batch {
    fn clear(&mut self) {
        self.commands.clear();
        self.hashes.clear();
        if self.words.len() > ROOM {
            self.words = Vec::new();
        }
        self.ahead_of = 0;
    }

    /// Whether it was parsed ahead of this input, which has not grown since.
    fn is_ahead_of(&self, input: &[u8]) -> bool {
        self.ahead_of != 0 && self.ahead_of == input.len()
    }

    /// Where the words of the next command begin.
    #[inline(always)]
    fn end(&self) -> usize {
        self.commands.last().map_or(0, |last| last.end)
    }

    /// Adds a command whose words are `first..end` of the batch's, and has the memory fetch the shard of its key.
    #[inline(always)]
    fn push(&mut self, keyspace: &Keyspace, input: &[u8], first: usize, end: usize, consumed: usize) {
        let words = &self.words[first..end];
        let at = first_key(input, words);
        let key = words.get(at).map(|word| word.of(input)).filter(|key| key.len() <= HASHED_BYTES_MAX);
        let hash = key.map_or(0, hasher::hash);
        keyspace.prefetch_shard(hash);
        self.hashes.push(hash);
        self.commands.push(Parsed { first, end, consumed, hashed: if key.is_some() { at } else { usize::MAX } });
    }

    /// Adds the requests from `at` on for which the short parser will do, until there are `most`; returns where they end.
    #[inline]
    fn push_whole(&mut self, keyspace: &Keyspace, input: &[u8], mut at: usize, most: usize) -> usize {
        let mut first = self.end();
        while self.commands.len() < most {
            if self.words.len() < first + SHORT_WORDS_MAX {
                self.words.resize(first + ROOM, Span::default());
            }
            let found = self.words[first..].first_chunk_mut().and_then(|words| whole_request(input, at, words));
            let Some((count, end)) = found else { break };
            self.push(keyspace, input, first, first + count, end);
            (first, at) = (first + count, end);
        }
        at
    }
}

/// Parses the beginning of what a session has received before its turn comes, and has the memory fetch where its keys are found.
pub(crate) fn look_ahead(worker: &mut Worker, session: &mut Session) {
    let is_ordinary = session.authenticated && session.parser.is_idle() && session.master.is_none();
    if !is_ordinary || session.blocked.is_some() || !(1..=SHORT_INPUT_BYTES).contains(&session.input.len()) {
        return;
    }
    let mut batch = session.ahead.take().unwrap_or_else(|| worker.batch());
    batch.clear();
    let keyspace = &worker.engine.keyspace;
    batch.push_whole(keyspace, &session.input, 0, BATCH);
    batch.hashes.iter().for_each(|&hash| keyspace.prefetch_bucket(hash));
    batch.ahead_of = session.input.len();
    session.ahead = Some(batch);
}

/// Has the memory fetch the keys that [`look_ahead`] found.
pub(crate) fn prefetch(worker: &Worker, session: &Session) {
    if let Some(batch) = &session.ahead {
        worker.engine.keyspace.prefetch_entries(session.db, &batch.hashes);
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
    let mut batch = session.ahead.take().unwrap_or_else(|| worker.batch());
    let (mut few, mut many) = ([&[][..]; FEW_WORDS], Vec::new());
    let mut consumed = 0;
    let engine = worker.engine.clone();
    // Found out when a command needs it, and anew after one that went the long way.
    let mut fast: Option<FastPath> = None;
    'batches: loop {
        if worker.follow_users(session) {
            FastPath::end(&mut fast, worker, session);
        }
        let end = if batch.is_ahead_of(&input) && session.authenticated && session.parser.is_idle() {
            batch.ahead_of = 0;
            BatchEnd::Open
        } else {
            let end = parse(worker, session, &input, &mut consumed, &mut batch);
            if batch.commands.len() > 1 {
                engine.keyspace.prefetch(session.db, &batch.hashes);
            }
            end
        };
        let authenticated = session.authenticated;
        for (parsed, &hash) in batch.commands.iter().zip(&batch.hashes) {
            let places = &batch.words[parsed.first..parsed.end];
            let words = if places.len() <= FEW_WORDS {
                few.iter_mut().zip(places).for_each(|(word, place)| *word = place.of(&input));
                &few[..places.len()]
            } else {
                many.clear();
                many.extend(places.iter().map(|place| place.of(&input)));
                &many[..]
            };
            let args = Args::with_hash(words, parsed.hashed, hash);
            let short = fast.get_or_insert_with(|| FastPath::new(&engine, worker, session, input.len()));
            if short.run(worker, session, &args, &mut reply) {
                consumed = parsed.consumed;
                continue;
            }
            FastPath::end(&mut fast, worker, session);
            match execute(worker, session, host, args, &mut reply) {
                Flow::Next if session.authenticated == authenticated => consumed = parsed.consumed,
                Flow::Next => {
                    // Other limits hold for what follows (RESET).
                    consumed = parsed.consumed;
                    session.parser = Default::default();
                    continue 'batches;
                }
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
            BatchEnd::Open if consumed < input.len() => {}
            BatchEnd::Open => {
                session.needs = 1;
                break;
            }
            BatchEnd::Incomplete => break,
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
    worker.keep_batch(batch);
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
    /// It holds enough: more may follow.
    Open,
    /// No further request is complete.
    Incomplete,
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

/// Parses requests ahead, from `consumed` on, into the batch; `consumed` moves past what asks for nothing.
fn parse(worker: &Worker, session: &mut Session, input: &[u8], consumed: &mut usize, batch: &mut Batch) -> BatchEnd {
    let keyspace = &worker.engine.keyspace;
    batch.clear();
    // Before AUTH the limits are narrow, and the very next command may lift them.
    let most = if session.authenticated { BATCH } else { 1 };
    let mut at = *consumed;
    loop {
        if session.authenticated && session.parser.is_idle() {
            at = batch.push_whole(keyspace, input, at, most);
            if at == input.len() {
                session.needs = 1;
                return BatchEnd::Incomplete;
            }
        }
        if batch.commands.len() == most {
            return BatchEnd::Open;
        }
        let limits = RequestLimits {
            bulk_bytes_max: worker.settings.proto_max_bulk_len,
            authenticated: session.authenticated,
            ..RequestLimits::default()
        };
        let first = batch.end();
        batch.words.truncate(first);
        match session.parser.next(&input[at..], &limits, &mut batch.words) {
            Ok(Step::Command { consumed: bytes }) => {
                for word in &mut batch.words[first..] {
                    *word = Span { start: at + word.start, end: at + word.end };
                }
                at += bytes;
                batch.push(keyspace, input, first, batch.words.len(), at);
            }
            Ok(Step::Inline { consumed: bytes, args }) => return BatchEnd::Inline { consumed: at + bytes, args },
            Ok(Step::Skip { consumed: bytes }) => {
                at += bytes;
                // What follows a command is consumed with it: an unfinished request behind it is taken up again from there.
                *batch.commands.last_mut().map_or(&mut *consumed, |last| &mut last.consumed) = at;
            }
            Ok(Step::Incomplete { need }) => {
                session.needs = need;
                return BatchEnd::Incomplete;
            }
            Err(error) => return BatchEnd::Failure(error),
        }
    }
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
