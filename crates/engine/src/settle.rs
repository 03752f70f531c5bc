//! Members that are due go before a command looks at the set or sorted set that they are in.

use crate::args::Args;
use crate::registry::Registered;
use kelda_store::timed::any_members_expire;
use kelda_store::txn::Txn;

/// Removes what is due of the sets and sorted sets at the command's keys.
#[inline]
pub(crate) fn settle(txn: &mut Txn, command: &Registered, args: &Args) {
    if any_members_expire() {
        settle_keys(txn, command, args);
    }
}

#[cold]
fn settle_keys(txn: &mut Txn, command: &Registered, args: &Args) {
    command.for_each_key(args.words(), |at| {
        let key = args.key(at);
        // A script may name a key that it does not hold: it is run again with all.
        if txn.holds(key) {
            txn.settle(key);
        }
    });
}
