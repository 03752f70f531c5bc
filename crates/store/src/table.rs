//! The hash table: 64-byte buckets, tags, linear hashing.
