//! What a worker's sessions get from elsewhere: the mailbox, and output for sessions that may be running a command.

use super::{Fate, Slot, Worker};
use crate::durability::Lsn;
use crate::mailbox::{Audience, Message, SessionRef};
use crate::pubsub::encoded_message;
use kelda_resp::Protocol;
use smallvec::SmallVec;
use std::sync::atomic::Ordering::Relaxed;

impl Worker {
    pub(crate) fn read_mail(&mut self) {
        let engine = self.engine.clone();
        let Some(mailbox) = engine.mailbox(self.index) else { return };
        if mailbox.has_mail() {
            // A script may serve others within the message that is read, and so come here again.
            let mut mail = std::mem::take(&mut self.mail);
            while mailbox.has_mail() {
                mailbox.drain_into(&mut mail);
                mail.drain(..).for_each(|message| self.receive(message));
            }
            /// Messages for which memory is kept.
            const KEEP: usize = 4096;
            if mail.capacity() <= KEEP {
                self.mail = mail;
            }
        }
        self.tell_broadcasts();
    }

    /// Takes one message in.
    pub(super) fn receive(&mut self, message: Message) {
        match message {
            Message::Publish { audience, channel, payload, lsn } => {
                self.receive_published(audience, &channel, &payload, lsn);
            }
            Message::Served { session: at, reply, lsn, ran } => {
                self.unblocked(at, &reply, lsn, ran);
            }
            Message::Unblock { session, with_error } => self.unblock(session, with_error),
            Message::Kill { session: at } => {
                if let Some(session) = self.session_of(at) {
                    session.fate = Fate::Close;
                    self.touch(at.slot);
                }
            }
            Message::Invalid { key, actor, readers } => self.receive_invalid(&key, actor, &readers),
            Message::AllInvalid { by } => self.receive_all_invalid(by),
            Message::Changed { keys } => self.receive_changed(&keys),
            Message::OutOfDate { reader, what } => self.hear(reader, what),
            Message::Redirected { to, what } => self.receive_redirected(to, what),
            Message::Monitored { lines } => self.receive_monitored(&lines),
            Message::Notice { to } => {
                self.refresh();
                to.heed();
            }
            Message::UnblockAll => self.unblock_all(),
            Message::Shutdown => {}
            Message::StandStill { us, now: true } => self.engine.platform.stand_still(us),
            // Whom CLIENT KILL named before is to be cut off before.
            Message::StandStill { us, now: false } => self.late.push(Message::StandStill { us, now: true }),
        }
    }

    /// Hands a published message to this worker's subscribers.
    fn receive_published(&mut self, audience: Audience, channel: &[u8], payload: &[u8], lsn: Lsn) {
        let mut receivers = std::mem::take(&mut self.receivers);
        self.subscribers.for_each(audience, channel, |slot, pattern| {
            receivers.push((slot, pattern.map(Box::<[u8]>::from)));
        });
        /// A message as the sessions of a protocol get it through a pattern or none.
        type Encoded = (Protocol, Option<Box<[u8]>>, Vec<u8>);
        let mut encoded: SmallVec<[Encoded; 2]> = SmallVec::new();
        // Which of them the session before got: mostly it is the same.
        let mut at = 0;
        for (slot, pattern) in receivers.drain(..) {
            let protocol = match &self.sessions[slot] {
                Some(session) => session.protocol,
                // It is running a command: only RESP3 sessions, or those that publish to themselves, can.
                None => self.running_protocol(slot),
            };
            let suits = |(have, with, _): &Encoded| *have == protocol && *with == pattern;
            if !encoded.get(at).is_some_and(suits) {
                at = encoded.iter().position(suits).unwrap_or(encoded.len());
                if at == encoded.len() {
                    let bytes = encoded_message(protocol, audience, pattern.as_deref(), channel, payload);
                    encoded.push((protocol, pattern, bytes));
                }
            }
            self.deliver(slot, &encoded[at].2, lsn);
        }
        self.receivers = receivers;
    }

    /// Lets a session that was blocked go on with its input at the next turn.
    pub(crate) fn resume(&mut self, at: SessionRef) {
        self.touch(at.slot);
        if let Some(session) = self.session_of(at)
            && !session.input.is_empty()
            && !session.put_aside
        {
            session.put_aside = true;
            self.retry.push(at);
        }
    }

    fn running_protocol(&self, slot: Slot) -> Protocol {
        let info =
            self.engine.clients.all().into_iter().find(|info| info.at.worker == self.index && info.at.slot == slot);
        match info {
            Some(info) if info.resp.load(Relaxed) == 3 => Protocol::Resp3,
            _ => Protocol::Resp2,
        }
    }

    /// Appends to a session's output, or holds it back while the session is running a command.
    pub(crate) fn deliver(&mut self, slot: Slot, bytes: &[u8], lsn: Lsn) {
        if let Some(mut session) = self.sessions[slot].take() {
            // Whose output was waiting is flushed in any case: by this turn, or when its socket takes more.
            let first = !session.has_pending();
            let start = session.reply.len();
            session.reply.raw(bytes);
            if self.is_strict(&session) {
                self.hold(&mut session, lsn, start);
            }
            self.check_output(&mut session);
            self.count_client(&session.info);
            self.sessions[slot] = Some(session);
            if first {
                self.touch(slot);
            }
            return;
        }
        let found =
            self.engine.clients.all().into_iter().find(|info| info.at.worker == self.index && info.at.slot == slot);
        if let Some(info) = found {
            self.held_back.push((info.at, bytes.to_vec(), lsn));
        }
    }

    /// Takes what was held back for the running session: PUBLISH puts it before its own reply.
    pub(crate) fn take_held_back(&mut self, at: SessionRef) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.held_back.retain_mut(|(to, held, lsn)| {
            if *to == at {
                bytes.append(held);
                self.tellings.tell(*lsn);
            }
            *to != at
        });
        bytes
    }
}
