//! The thresholds at which small, packed collections change to real structures (`*-max-listpack-*` and relatives).

/// Configurable sizes; the defaults are those of Redis 7.2 and Valkey 9.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// `hash-max-listpack-entries`: fields of a packed hash, at most.
    pub hash_entries_max: usize,
    /// `hash-max-listpack-value`: bytes of a field or value of a packed hash, at most.
    pub hash_value_bytes_max: usize,
    /// `list-max-listpack-size`: elements in a list chunk if positive; -1 to -5 mean 4, 8, 16, 32, 64 KiB.
    pub list_chunk: i64,
    /// `set-max-intset-entries`: members of an all-integer set kept sorted in one block, at most.
    pub set_int_entries_max: usize,
    /// `set-max-listpack-entries`: members of a packed set, at most.
    pub set_entries_max: usize,
    /// `set-max-listpack-value`: bytes of a member of a packed set, at most.
    pub set_value_bytes_max: usize,
    /// `zset-max-listpack-entries`: members of a packed sorted set, at most.
    pub zset_entries_max: usize,
    /// `zset-max-listpack-value`: bytes of a member of a packed sorted set, at most.
    pub zset_value_bytes_max: usize,
    /// `stream-node-max-bytes`: bytes of one packed node of a stream, at most; 0 for no limit.
    pub stream_node_bytes_max: usize,
    /// `stream-node-max-entries`: entries of one packed node of a stream, at most; 0 for no limit.
    pub stream_node_entries_max: usize,
    /// `stream-idmp-duration`: seconds for which a producer's mark on an entry counts, in streams not configured themselves.
    pub stream_mark_seconds: u64,
    /// `stream-idmp-maxsize`: how many marks of one producer count, likewise.
    pub stream_marks_max: u64,
    /// `hll-sparse-max-bytes`: bytes of a HyperLogLog in its sparse form, at most.
    pub hll_sparse_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            hash_entries_max: 512,
            hash_value_bytes_max: 64,
            list_chunk: -2,
            set_int_entries_max: 512,
            set_entries_max: 128,
            set_value_bytes_max: 64,
            zset_entries_max: 128,
            zset_value_bytes_max: 64,
            stream_node_bytes_max: 4096,
            stream_node_entries_max: 100,
            stream_mark_seconds: 100,
            stream_marks_max: 100,
            hll_sparse_bytes_max: 3000,
        }
    }
}
