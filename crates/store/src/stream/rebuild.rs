//! A stream as the commands that build it anew.

use super::{Stream, StreamId};
use std::collections::BTreeSet;

/// A command's words.
type Command = Vec<Vec<u8>>;

fn words(parts: &[&[u8]]) -> Command {
    parts.iter().map(|part| part.to_vec()).collect()
}

impl Stream {
    /// The commands that build this stream at an absent key; only the times at which consumers were seen are lost. O(N).
    ///
    /// An entry can only become pending while it is in the stream. So those that are pending but deleted come first: they are
    /// added, claimed and trimmed away, and the stream goes back to its beginning before its own entries are added.
    pub fn rebuild_commands(&self, key: &[u8]) -> Vec<Command> {
        let mut commands = Vec::new();
        let pending = self.groups().flat_map(|(_, group)| group.pending_range(StreamId::MIN, StreamId::MAX));
        let deleted: BTreeSet<StreamId> = pending.map(|(id, _)| *id).filter(|id| self.get(*id).is_none()).collect();
        for id in &deleted {
            commands.push(words(&[b"XADD", key, id.to_string().as_bytes(), b"", b""]));
        }
        self.rebuild_groups(key, &mut commands);
        if !deleted.is_empty() {
            self.rebuild_pending(key, |id| deleted.contains(&id), &mut commands);
            commands.push(words(&[b"XTRIM", key, b"MAXLEN", b"=", b"0"]));
            commands.push(words(&[b"XSETID", key, b"0-0"]));
        }
        for entry in self.iter() {
            let mut command = words(&[b"XADD", key, entry.id.to_string().as_bytes()]);
            for (field, value) in entry.fields.clone() {
                command.push(field.to_vec());
                command.push(value.to_vec());
            }
            commands.push(command);
        }
        if commands.is_empty() {
            // MKSTREAM is how an ordinary command makes a stream without entries.
            commands.push(words(&[b"XGROUP", b"CREATE", key, b"\0", b"0", b"MKSTREAM"]));
            commands.push(words(&[b"XGROUP", b"DESTROY", key, b"\0"]));
        }
        commands.push(words(&[
            b"XSETID",
            key,
            self.last_id().to_string().as_bytes(),
            b"ENTRIESADDED",
            self.entries_added().to_string().as_bytes(),
            b"MAXDELETEDID",
            self.max_deleted_id().to_string().as_bytes(),
        ]));
        self.rebuild_pending(key, |id| !deleted.contains(&id), &mut commands);
        commands
    }

    /// The groups with their consumers; where nothing else made the stream yet, they do.
    fn rebuild_groups(&self, key: &[u8], commands: &mut Vec<Command>) {
        for (name, group) in self.groups() {
            let last = group.last_delivered().to_string();
            let read = group.entries_read().map_or("-1".to_string(), |read| read.to_string());
            let (last, read) = (last.as_bytes(), read.as_bytes());
            commands.push(words(&[b"XGROUP", b"CREATE", key, name, last, b"MKSTREAM", b"ENTRIESREAD", read]));
            for (consumer, _) in group.consumers() {
                commands.push(words(&[b"XGROUP", b"CREATECONSUMER", key, name, consumer]));
            }
        }
    }

    /// The pending entries whose ids are `wanted`.
    fn rebuild_pending(&self, key: &[u8], wanted: impl Fn(StreamId) -> bool, commands: &mut Vec<Command>) {
        for (name, group) in self.groups() {
            let pending = group.pending_range(StreamId::MIN, StreamId::MAX).filter(|(id, _)| wanted(**id));
            for (id, pending) in pending {
                commands.push(words(&[
                    b"XCLAIM",
                    key,
                    name,
                    &pending.consumer,
                    b"0",
                    id.to_string().as_bytes(),
                    b"TIME",
                    pending.delivery_time.to_string().as_bytes(),
                    b"RETRYCOUNT",
                    pending.delivery_count.to_string().as_bytes(),
                    b"JUSTID",
                    b"FORCE",
                ]));
            }
        }
    }
}
