//! Values, tables, shards, expiry and the transaction over them.
