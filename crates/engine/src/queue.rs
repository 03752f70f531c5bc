//! What MULTI queues: commands, the words of all of them in one buffer.

use crate::args::Args;
use crate::registry::Registered;
use smallvec::SmallVec;

/// The commands of a transaction until EXEC.
#[derive(Default)]
pub struct Queue {
    commands: Vec<Queued>,
    /// The words, one behind another,
    text: Vec<u8>,
    /// and where each of them ends.
    ends: Vec<usize>,
    /// Whether a command was refused, so that EXEC must be.
    pub broken: bool,
    /// The database that a SELECT among them chooses: what comes after it will run there.
    pub db: Option<u32>,
}

struct Queued {
    command: &'static Registered,
    /// How many words of the queue are its own or stand before them.
    end: usize,
    /// The place and the hash of its one key, if it has one; else beyond its words.
    hashed: (usize, u64),
}

/// The words of all commands of a queue, in order.
pub type QueueWords<'a> = SmallVec<[&'a [u8]; 48]>;

impl Queue {
    /// Queues a command.
    pub fn push(&mut self, command: &'static Registered, args: &Args) {
        let words = args.words();
        for word in words {
            self.text.extend_from_slice(word);
            self.ends.push(self.text.len());
        }
        let at = command.single_key.filter(|&at| at < words.len());
        let hashed = at.map_or((usize::MAX, 0), |at| (at, args.hash(at)));
        self.commands.push(Queued { command, end: self.ends.len(), hashed });
    }

    /// How many commands there are.
    pub fn len(&self) -> usize {
        self.commands.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    /// The commands.
    pub fn commands(&self) -> impl Iterator<Item = &'static Registered> {
        self.commands.iter().map(|queued| queued.command)
    }

    /// The words of all commands, for [`Queue::iter`].
    pub fn words(&self) -> QueueWords<'_> {
        let mut start = 0;
        let word = |&end: &usize| &self.text[std::mem::replace(&mut start, end)..end];
        self.ends.iter().map(word).collect()
    }

    /// The commands with their arguments; `words` are [`Queue::words`].
    pub fn iter<'a>(&'a self, words: &'a [&'a [u8]]) -> impl Iterator<Item = (&'static Registered, Args<'a>)> {
        let mut start = 0;
        self.commands.iter().map(move |queued| {
            let own = &words[std::mem::replace(&mut start, queued.end)..queued.end];
            (queued.command, Args::with_hash(own, queued.hashed.0, queued.hashed.1))
        })
    }

    /// Whether it is true of any command and its words.
    pub fn any(&self, property: impl Fn(&'static Registered, &[&[u8]]) -> bool) -> bool {
        self.iter(&self.words()).any(|(command, args)| property(command, args.words()))
    }

    /// An empty queue that has the memory of this one, unless that is much.
    pub fn emptied(mut self) -> Queue {
        /// Commands, and bytes of words, for which memory is kept.
        const KEEP: [usize; 2] = [64, 4096];
        if self.commands.capacity() > KEEP[0] || self.text.capacity() > KEEP[1] || self.ends.capacity() > KEEP[1] {
            return Queue::default();
        }
        self.commands.clear();
        self.text.clear();
        self.ends.clear();
        Queue { broken: false, db: None, ..self }
    }
}
