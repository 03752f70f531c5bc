//! What an event loop needs from the engine's side of its thread.

use kelda_engine::worker::{Fate, Peer, Pieces, Slot};

/// The sessions of one thread: bytes in, bytes out.
pub trait Sessions: Sized {
    /// Whether a client must log in before it can do anything.
    fn needs_password(&self) -> bool;
    /// Starts a session.
    ///
    /// # Errors
    /// Bytes to send before the connection is closed: there are too many clients.
    fn connect(&mut self, peer: Peer) -> Result<Slot, Vec<u8>>;
    /// Where bytes that were read go.
    fn input(&mut self, slot: Slot) -> &mut Vec<u8>;
    /// How many bytes to make room for before reading.
    fn read_hint(&self, slot: Slot) -> usize;
    /// Looks through what was read, some time before `process` is called. A hint.
    fn look_ahead(&mut self, _slot: Slot) {}
    /// Called between the two, a while after `look_ahead`. A hint, too.
    fn prefetch(&self, _slot: Slot) {}
    /// Runs what is complete in the input. May call `others`, from within a long command. `next` says that another session was
    /// processed just before.
    fn process(&mut self, slot: Slot, next: bool, others: &mut dyn Others<Self>);
    /// The output that has not been written, in pieces.
    fn pending(&self, slot: Slot) -> Pieces<'_>;
    /// Whether there is any.
    fn has_pending(&self, slot: Slot) -> bool;
    /// Notes that the first `bytes` of `pending` were written.
    fn written(&mut self, slot: Slot, bytes: usize);
    /// Whether there is output that may not leave yet: `touched` will name the session when it may.
    fn is_held(&self, _slot: Slot) -> bool {
        false
    }
    /// The loop ends: after this, all output may leave. May wait.
    fn settle(&mut self) {}
    /// What is to become of the connection.
    fn fate(&self, slot: Slot) -> Fate;
    /// Whether the session has commands that it was given and could not run yet: they run even if the client is gone.
    fn is_put_aside(&self, slot: Slot) -> bool;
    /// Ends a session; its slot may come back for another.
    fn disconnect(&mut self, slot: Slot);
    /// Moves out the sessions whose output or fate changed other than by their own `process`.
    fn touched(&mut self, into: &mut Vec<Slot>);
    /// Moves out the sessions that `process` is to be called for though nothing was read: they were put aside, or
    /// something that they waited for has come.
    fn runnable(&mut self, into: &mut Vec<Slot>);
    /// Drains the mailbox and runs what is due. Called once a turn, nested turns too.
    fn wake(&mut self);
    /// Another thread drives the sessions from now on.
    fn changed_thread(&mut self) {}
    /// Microseconds that the loop may sleep; `None` for as long as nothing happens.
    fn next_timer_us(&self) -> Option<u64>;
}

/// The event loop, as a long command sees it.
pub trait Others<S> {
    /// Writes what other sessions wait to be sent.
    fn send_replies(&mut self, sessions: &mut S);
    /// Serves the other sessions for one turn, without waiting.
    fn serve_others(&mut self, sessions: &mut S);
    /// Serves the other sessions for one turn, which begins when there is something to do.
    fn await_others(&mut self, sessions: &mut S);
    /// Whether the loop is about to end, which a long command holds up.
    fn is_stopping(&self) -> bool;
}
