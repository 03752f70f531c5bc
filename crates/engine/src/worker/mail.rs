//! What a worker's sessions get from elsewhere: the mailbox, and output for sessions that may be running a command.

use super::{Fate, Slot, Worker};
use crate::durability::Lsn;
use crate::mailbox::{Message, SessionRef};
use crate::pubsub::encoded_message;
use kelda_resp::Protocol;
use std::sync::atomic::Ordering::Relaxed;

impl Worker {
    pub(crate) fn read_mail(&mut self) {
        let engine = self.engine.clone();
        let Some(mailbox) = engine.mailbox(self.index) else { return };
        while mailbox.has_mail() {
            for message in mailbox.drain() {
                self.receive(message);
            }
        }
        self.tell_broadcasts();
    }

    /// Takes one message in.
    pub(super) fn receive(&mut self, message: Message) {
        match message {
            Message::Publish { audience, channel, payload, lsn } => {
                let mut receivers = Vec::new();
                self.subscribers.for_each(audience, &channel, |slot, pattern| {
                    receivers.push((slot, pattern.map(Box::<[u8]>::from)));
                });
                /// A message as the sessions of a protocol get it through a pattern or none.
                type Encoded = (Protocol, Option<Box<[u8]>>, Vec<u8>);
                let mut encoded: Vec<Encoded> = Vec::new();
                for (slot, pattern) in receivers {
                    let protocol = match &self.sessions[slot] {
                        Some(session) => session.protocol,
                        // It is running a command: only RESP3 sessions, or those that publish to themselves, can.
                        None => self.running_protocol(slot),
                    };
                    let made = encoded.iter().position(|(have, with, _)| *have == protocol && *with == pattern);
                    let made = made.unwrap_or_else(|| {
                        let bytes = encoded_message(protocol, audience, pattern.as_deref(), &channel, &payload);
                        encoded.push((protocol, pattern, bytes));
                        encoded.len() - 1
                    });
                    let bytes = std::mem::take(&mut encoded[made].2);
                    self.deliver(slot, &bytes, lsn);
                    encoded[made].2 = bytes;
                }
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
            let start = session.reply.len();
            session.reply.raw(bytes);
            if self.is_strict(&session) {
                self.hold(&mut session, lsn, start);
            }
            self.check_output(&mut session);
            self.count_client(&session.info);
            self.sessions[slot] = Some(session);
            self.touch(slot);
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
