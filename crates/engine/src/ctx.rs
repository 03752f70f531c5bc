//! What a session command works with: the session, its worker, the engine, and the transaction around it if there is one.

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::session::Session;
use crate::settle::settle_keys;
use crate::worker::{Host, Worker};
use kelda_store::shard::ShardSet;
use kelda_store::txn::{Key, Txn};
use std::rc::Rc;
use std::sync::Arc;

/// Where a command comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A client, on its own.
    Client,
    /// EXEC.
    Exec,
    /// A script.
    Script,
}

/// The surroundings of a session command.
pub struct Ctx<'a, 'k> {
    /// The worker; the session is not in it while it runs a command.
    pub worker: &'a mut Worker,
    /// The session.
    pub session: &'a mut Session,
    /// The event loop, for what takes long.
    pub host: &'a mut dyn Host,
    /// The transaction that the command is part of.
    pub txn: Option<&'a mut Txn<'k>>,
    /// Where the command comes from.
    pub origin: Origin,
}

impl Ctx<'_, '_> {
    /// The shared state.
    pub fn engine(&self) -> Rc<Arc<Engine>> {
        self.worker.engine.clone()
    }

    /// Runs `work` in the surrounding transaction, or else in one of its own over these shards. Fails with
    /// [`Error::Again`] when they are busy: the command is then run again later.
    pub fn with_shards<R>(&mut self, set: ShardSet, work: impl FnOnce(&mut Txn) -> R) -> Result<R> {
        self.with_settled(set, &[], work)
    }

    /// [`Ctx::with_shards`] over the shards of these keys.
    pub fn with_keys<R>(&mut self, keys: &[Key], work: impl FnOnce(&mut Txn) -> R) -> Result<R> {
        let mut set = ShardSet::None;
        keys.iter().for_each(|key| set.add(key.hash));
        self.with_settled(set, keys, work)
    }

    fn with_settled<R>(&mut self, set: ShardSet, keys: &[Key], work: impl FnOnce(&mut Txn) -> R) -> Result<R> {
        if let Some(txn) = &mut self.txn {
            if !txn.holds_shards(&set) {
                return Err(Error::NeedsAllShards);
            }
            // Nothing to be put aside for: what is left goes at once.
            while !settle_keys(txn, keys) {}
            return Ok(work(txn));
        }
        let engine = self.worker.engine.clone();
        let mut txn = self.worker.begin(&engine.keyspace, set, self.session.db).ok_or(Error::Again)?;
        if !settle_keys(&mut txn, keys) {
            self.worker.commit(txn);
            return Err(Error::Again);
        }
        let result = work(&mut txn);
        self.worker.commit(txn);
        Ok(result)
    }
}
