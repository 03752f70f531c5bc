//! Members that are due go before a command looks at the set or sorted set that they are in.
//!
//! A read must not see them, and ranks and counts are of all that is there, so they cannot just be passed over. They go a piece
//! at a time: a command whose key has more of them than a piece is put aside as if the shard were busy, what went is committed,
//! others are served, and it is tried again. It answers once none is left; no command holds up the others for longer than a
//! piece takes.
//!
//! Where a command cannot be begun anew, all go at once: in a script that reaches for a key that it did not declare. Before
//! EXEC and scripts those at the keys that they name go in pieces.

use crate::args::Args;
use crate::registry::Registered;
use kelda_store::txn::{Key, Txn};

/// Members that go before a command is put aside: some 100 µs.
const PIECE: usize = 256;

/// Removes what is due of the sets and sorted sets at the command's keys, a piece of each at most. Whether nothing is left: if
/// not, the transaction is to be committed, and the command to be tried again.
#[inline]
#[must_use]
pub(crate) fn settle_some(txn: &mut Txn, command: &Registered, args: &Args) -> bool {
    !txn.members_expire() || settle_each(txn, command, args, PIECE)
}

/// Removes all that is due of the sets and sorted sets at the command's keys.
#[inline]
pub(crate) fn settle(txn: &mut Txn, command: &Registered, args: &Args) {
    if txn.members_expire() {
        settle_each(txn, command, args, usize::MAX);
    }
}

#[cold]
fn settle_each(txn: &mut Txn, command: &Registered, args: &Args, max: usize) -> bool {
    let mut settled = true;
    command.for_each_key(args.words(), |at| {
        let key = args.key(at);
        // A script may name a key that it does not hold: it is run again with all.
        if txn.holds(key) {
            settled &= txn.settle(key, max);
        }
    });
    settled
}

/// [`settle_some`] of these keys.
#[inline]
#[must_use]
pub(crate) fn settle_keys(txn: &mut Txn, keys: &[Key]) -> bool {
    !txn.members_expire() || keys.iter().all(|key| txn.settle(*key, PIECE))
}
