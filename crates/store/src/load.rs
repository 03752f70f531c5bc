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
        if part.table.get(hash, entry.as_ref().key()).is_some() {
            return Err(entry);
        }
        let at = entry.as_ref().expire_at();
        entry.as_ref().set_indexed(at.is_some());
        part.table.insert(hash, entry);
        if let Some(at) = at {
            part.volatile += 1;
            self.expiry.add(now_ms, hash, db, at);
        }
        Ok(())
    }
}
