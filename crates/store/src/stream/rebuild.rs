//! A stream as the commands that build it anew.

use super::Stream;

impl Stream {
    /// The commands that build this stream at an absent key: every entry with its id, then the counters, then each
    /// group with its consumers and what is pending. O(N).
    pub fn rebuild_commands(&self, key: &[u8]) -> Vec<Vec<Vec<u8>>> {
        let words = |parts: &[&[u8]]| parts.iter().map(|part| part.to_vec()).collect::<Vec<_>>();
        let mut commands = Vec::new();
        for entry in self.iter() {
            let mut command = words(&[b"XADD", key, entry.id.to_string().as_bytes()]);
            for (field, value) in entry.fields.clone() {
                command.push(field.to_vec());
                command.push(value.to_vec());
            }
            commands.push(command);
        }
        if self.is_empty() {
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
        for (name, group) in self.groups() {
            let last = group.last_delivered().to_string();
            let read = group.entries_read().map_or("-1".to_string(), |read| read.to_string());
            commands.push(words(&[
                b"XGROUP",
                b"CREATE",
                key,
                name,
                last.as_bytes(),
                b"ENTRIESREAD",
                read.as_bytes(),
            ]));
            for (consumer, _) in group.consumers() {
                commands.push(words(&[b"XGROUP", b"CREATECONSUMER", key, name, consumer]));
            }
            for (consumer, state) in group.consumers() {
                for (id, pending) in state.pending().filter_map(|id| Some((id, group.pending(id)?))) {
                    commands.push(words(&[
                        b"XCLAIM",
                        key,
                        name,
                        consumer,
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
        commands
    }
}
