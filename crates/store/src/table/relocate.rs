//! A table's part in defragmentation: its own chunks move, and its items are shown to whoever moves them.

use super::{Item, LINK_SLOT, SlotMut, Table};
use crate::defrag::Mover;

impl<T: Item> Table<T> {
    /// Moves the chunks chained to the bucket at a place of the table as `mover` wants, calls `f` with each of its items, and
    /// returns the place to go on from, as [`Table::scan`] does.
    pub(crate) fn relocate(
        &mut self,
        cursor: u64,
        mover: &mut Mover<'_>,
        f: &mut dyn FnMut(&mut SlotMut<'_, T>, &mut Mover<'_>),
    ) -> u64 {
        if self.buckets == 0 {
            return 0;
        }
        let (bucket, next) = self.scan_step(cursor as u32);
        let (coming, _) = self.scan_step(next);
        self.prefetch_items(coming);
        let mut previous = self.bucket(bucket);
        while let Some(mut chunk) = previous.next() {
            if mover.wants(chunk.0.cast(), 0) {
                // SAFETY: the link that tells the chunk's size is renewed at once, and nothing else knows its address.
                chunk = unsafe { chunk.moved(previous.link()) };
                previous.set_slot(LINK_SLOT, chunk.0.as_ptr().cast());
            }
            previous = chunk;
        }
        // The chunks stay where they are now: `f` can change no more than its item's slot.
        for place in self.chain(bucket) {
            f(&mut SlotMut { table: self, place }, mover);
        }
        u64::from(next)
    }
}
