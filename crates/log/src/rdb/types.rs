//! The numbers of the RDB format: value types, opcodes, encodings, versions.

/// Which family of servers a payload comes from or is for: from RDB version 12 on they give the same numbers other meanings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Redis, and Valkey before 9.
    Redis,
    /// Valkey 9 and later (RDB versions 80 to 99).
    Valkey,
}

/// A version of the RDB format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u16);

impl Version {
    /// Redis 7.0: what every peer of today reads, and what we write unless told otherwise.
    pub const REDIS_7_0: Version = Version(10);
    /// Redis 7.2 and Valkey 7.2 and 8: packed sets, times of consumers.
    pub const REDIS_7_2: Version = Version(11);
    /// Redis 7.4 and 8: expiry times of hash fields.
    pub const REDIS_7_4: Version = Version(12);
    /// Redis 8.6: what makes the producers of a stream idempotent.
    pub const REDIS_8_6: Version = Version(13);
    /// Redis 8.8: entries that consumers of a stream gave back.
    pub const REDIS_8_8: Version = Version(14);
    /// Valkey 9: its own form of the expiry times of hash fields.
    pub const VALKEY_9: Version = Version(80);

    /// The highest version of Redis that is read. Its numbers end where Valkey's begin.
    const REDIS_MAX: u16 = 79;
    const VALKEY_MAX: u16 = 99;

    /// The first version with a type of values, of those that we write.
    pub fn of_kind(kind: u8) -> Version {
        match kind {
            kind::SET_LISTPACK | kind::STREAM_LISTPACKS_3 => Version::REDIS_7_2,
            kind::HASH_METADATA | kind::HASH_LISTPACK_EX => Version::REDIS_7_4,
            kind::STREAM_LISTPACKS_4 => Version::REDIS_8_6,
            kind::STREAM_LISTPACKS_5 => Version::REDIS_8_8,
            kind::VALKEY_HASH_2 => Version::VALKEY_9,
            _ => Version::REDIS_7_0,
        }
    }

    /// Whose the version is.
    pub fn dialect(self) -> Dialect {
        if self.0 > Self::REDIS_MAX { Dialect::Valkey } else { Dialect::Redis }
    }

    /// Whether there can be such a version. A type that we do not know is found when it comes.
    pub fn is_known(self) -> bool {
        (1..=Self::VALKEY_MAX).contains(&self.0)
    }
}

macro_rules! numbers {
    ($(#[$about:meta])* mod $name:ident { $($(#[$doc:meta])* $constant:ident = $value:literal,)* }) => {
        $(#[$about])*
        #[allow(missing_docs)]
        pub mod $name {
            $($(#[$doc])* pub const $constant: u8 = $value;)*
        }
    };
}

numbers! {
    /// Types of values.
    mod kind {
        STRING = 0,
        LIST = 1,
        SET = 2,
        /// Scores as text.
        ZSET = 3,
        HASH = 4,
        /// Scores as eight bytes.
        ZSET_2 = 5,
        MODULE_PRE_GA = 6,
        MODULE_2 = 7,
        HASH_ZIPMAP = 9,
        LIST_ZIPLIST = 10,
        SET_INTSET = 11,
        ZSET_ZIPLIST = 12,
        HASH_ZIPLIST = 13,
        /// Nodes of ziplists.
        LIST_QUICKLIST = 14,
        STREAM_LISTPACKS = 15,
        HASH_LISTPACK = 16,
        ZSET_LISTPACK = 17,
        /// Nodes of listpacks, or of one large element each.
        LIST_QUICKLIST_2 = 18,
        /// With counters and the highest deleted id.
        STREAM_LISTPACKS_2 = 19,
        SET_LISTPACK = 20,
        /// With active times of consumers.
        STREAM_LISTPACKS_3 = 21,
        /// Valkey 9: fields with their expiry times, in milliseconds, -1 for none.
        VALKEY_HASH_2 = 22,
        /// Candidates of Redis 7.4: expiry times not relative.
        HASH_METADATA_PRE_GA = 22,
        HASH_LISTPACK_EX_PRE_GA = 23,
        /// The lowest expiry time, then fields with theirs, relative to that.
        HASH_METADATA = 24,
        /// The lowest expiry time, then a listpack of field, value, expiry time (0 for none), the first to expire first.
        HASH_LISTPACK_EX = 25,
        /// Redis 8.6: with what makes producers idempotent.
        STREAM_LISTPACKS_4 = 26,
        /// With entries that a consumer gave back.
        STREAM_LISTPACKS_5 = 27,
    }
}

numbers! {
    /// What stands in a file where a key's type may stand.
    mod opcode {
        /// Valkey: part of a slot migration.
        SLOT_IMPORT = 243,
        /// Redis 8.6: what modules noted about the key that follows.
        KEY_META = 243,
        SLOT_INFO = 244,
        FUNCTION2 = 245,
        FUNCTION_PRE_GA = 246,
        MODULE_AUX = 247,
        IDLE = 248,
        FREQ = 249,
        AUX = 250,
        RESIZE_DB = 251,
        EXPIRE_TIME_MS = 252,
        EXPIRE_TIME = 253,
        SELECT_DB = 254,
        EOF = 255,
    }
}

numbers! {
    /// The special encodings of strings, in the low bits behind `11`.
    mod encoding {
        INT_8 = 0,
        INT_16 = 1,
        INT_32 = 2,
        LZF = 3,
    }
}

numbers! {
    /// The parts of a module's value.
    mod module {
        EOF = 0,
        SIGNED = 1,
        UNSIGNED = 2,
        FLOAT = 3,
        DOUBLE = 4,
        STRING = 5,
    }
}

numbers! {
    /// What a node of a quicklist holds.
    mod node {
        PLAIN = 1,
        PACKED = 2,
    }
}
