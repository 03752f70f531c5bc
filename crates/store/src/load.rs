//! Keys that come from a file, before anybody sees them: there is nobody to tell, and nothing to undo.

use crate::entry::Entry;
use crate::shard::ShardData;

impl ShardData {
    /// Puts in an entry as it is, its access field included.
    ///
    /// # Errors
    /// Gives the entry back if its key is there already.
    pub fn load(&mut self, now_ms: i64, db: u32, hash: u64, entry: Entry) -> Result<(), Entry> {
        let part = self.db_or_new(db);
        let new = entry.as_ref();
        if part.table.get(hash, new.key()).is_some() {
            return Err(entry);
        }
        let due = new.next_due();
        new.set_indexed(due.is_some());
        part.volatile += u32::from(new.expire_at().is_some());
        part.volatile_hashes += u32::from(new.field_due().is_some());
        part.table.insert(hash, entry);
        if let Some(at) = due {
            self.expiry.add(now_ms, hash, db, at);
        }
        Ok(())
    }
}
