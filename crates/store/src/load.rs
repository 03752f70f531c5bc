//! Keys that come from a file, before anybody sees them: there is nobody to tell, and nothing to undo.

use crate::entry::Entry;
use crate::shard::ShardData;

impl ShardData {
    /// Makes room for so many keys that are about to come, if the database has had none so far. Takes memory for them at once.
    pub fn reserve(&mut self, db: u32, keys: usize) {
        self.db_or_new(db).table.reserve(keys);
    }

    /// Puts in an entry as it is, its access field included.
    ///
    /// # Errors
    /// Gives the entry back if its key is there already.
    pub(crate) fn load(&mut self, now_ms: i64, db: u32, hash: u64, entry: Entry) -> Result<(), Entry> {
        if self.db(db).is_some_and(|part| part.table.get(hash, entry.as_ref().key()).is_some()) {
            return Err(entry);
        }
        let (expires, timed, due) = {
            let entry = entry.as_ref();
            (entry.expire_at().is_some(), entry.field_due().is_some(), entry.next_due())
        };
        entry.as_ref().set_indexed(due.is_some());
        self.insert(db, hash, entry);
        let part = self.db_or_new(db);
        part.volatile += u32::from(expires);
        part.volatile_items += u32::from(timed);
        if let Some(at) = due {
            self.expiry.add(now_ms, hash, db, at);
        }
        Ok(())
    }
}
