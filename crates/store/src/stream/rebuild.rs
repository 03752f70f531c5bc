//! A stream as the commands that build it anew.

use super::{Group, Mark, Stream, StreamId};
use std::collections::BTreeSet;

/// A command's words.
type Command = Vec<Vec<u8>>;

fn words(parts: &[&[u8]]) -> Command {
    parts.iter().map(|part| part.to_vec()).collect()
}

/// Puts an entry at the end of the line of those that were given back.
fn give_back(key: &[u8], name: &[u8], id: StreamId, group: &Group) -> Command {
    let count = group.pending(id).map_or(0, |pending| pending.delivery_count).to_string();
    let (id, count) = (id.to_string(), count.as_bytes());
    words(&[b"XNACK", key, name, b"FAIL", b"IDS", b"1", id.as_bytes(), b"RETRYCOUNT", count, b"FORCE"])
}

impl Stream {
    /// The commands that build this stream at an absent key; only the times at which consumers were seen, and how many marks
    /// of producers there ever were, are lost. O(N).
    ///
    /// An entry can only become pending, or be marked, while it is in the stream. So those that are deleted come first: they
    /// are added, claimed and trimmed away, and the stream goes back to its beginning before its own entries are added.
    pub fn rebuild_commands(&self, key: &[u8]) -> Vec<Command> {
        let mut commands = Vec::new();
        let pending = self.groups().flat_map(|(_, group)| group.pending_range(StreamId::MIN, StreamId::MAX));
        let marked = self.marks().into_iter().map(|(_, id)| id);
        let deleted: BTreeSet<StreamId> =
            pending.map(|(id, _)| *id).chain(marked).filter(|id| self.get(*id).is_none()).collect();
        for id in &deleted {
            commands.push(words(&[b"XADD", key, id.to_string().as_bytes(), b"", b""]));
        }
        self.rebuild_groups(key, &mut commands);
        if !deleted.is_empty() {
            self.rebuild_settings(key, &mut commands);
            self.rebuild_marks(key, |id| deleted.contains(&id), &mut commands);
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
        if deleted.is_empty() {
            self.rebuild_settings(key, &mut commands);
        }
        self.rebuild_marks(key, |id| !deleted.contains(&id), &mut commands);
        self.rebuild_pending(key, |id| !deleted.contains(&id), &mut commands);
        for (name, group) in self.groups() {
            // Those of deleted entries stand in the line already, but not in their places.
            for id in group.given_back() {
                commands.push(give_back(key, name, id, group));
            }
        }
        commands
    }

    /// The marks that producers made, with the entries.
    fn marks(&self) -> Vec<(Mark<'_>, StreamId)> {
        let mut all = Vec::new();
        for (producer, marks) in self.producers().into_iter().flat_map(|producers| producers.iter(0)) {
            all.extend(marks.map(|(entry, id)| (Mark { producer, id }, entry)));
        }
        all
    }

    /// For how long the marks of producers count.
    fn rebuild_settings(&self, key: &[u8], commands: &mut Vec<Command>) {
        if let Some(producers) = self.producers() {
            let (seconds, max) = (producers.seconds().to_string(), producers.max().to_string());
            let (seconds, max) = (seconds.as_bytes(), max.as_bytes());
            commands.push(words(&[b"XCFGSET", key, b"IDMP-DURATION", seconds, b"IDMP-MAXSIZE", max]));
        }
    }

    /// The marks of the entries whose ids are `wanted`.
    fn rebuild_marks(&self, key: &[u8], wanted: impl Fn(StreamId) -> bool, commands: &mut Vec<Command>) {
        for (mark, entry) in self.marks() {
            if wanted(entry) {
                commands.push(words(&[b"XIDMPRECORD", key, mark.producer, mark.id, entry.to_string().as_bytes()]));
            }
        }
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
                if pending.is_given_back() {
                    commands.push(give_back(key, name, *id, group));
                    continue;
                }
                commands.push(words(&[
                    b"XCLAIM",
                    key,
                    name,
                    pending.consumer(),
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
