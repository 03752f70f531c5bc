//! Redis's words or Valkey's: `extended-redis-compatibility no` chooses Valkey's for the errors of [`WORDS`].
//!
//! Everywhere else in the engine errors are in Redis's words. They are put into Valkey's where they become replies, so that
//! a difference is one row here. What differs in more than words asks for the dialect: [`Dialect::choose`].

use std::borrow::Cow;

/// Whose words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    /// Redis's.
    #[default]
    Redis,
    /// Valkey's.
    Valkey,
}

/// Words of Redis's errors, and what Valkey 9.1.2 says instead.
#[rustfmt::skip] // one row, one line
const WORDS: &[(&str, &str)] = &[
    ("This Redis command is not allowed from script", "This Valkey command is not allowed from script"),
    ("Unknown Redis command called from script", "Unknown command called from script"),
    ("Wrong number of args calling Redis command from script", "Wrong number of args calling command from script"),
    ("Please specify at least one argument for this redis lib call", "Please specify at least one argument for this call"),
    ("Lua redis lib command arguments must be strings or integers", "Command arguments must be strings or integers"),
    ("Invalid command passed to redis.acl_check_cmd()", "Invalid command passed to server.acl_check_cmd()"),
    ("ERR redis.log() requires", "ERR server.log() requires"),
    ("ERR redis.setresp() requires", "ERR server.setresp() requires"),
    ("ERR redis.set_repl() requires", "ERR server.set_repl() requires"),
    ("NOSCRIPT No matching script. Please use EVAL.", "NOSCRIPT No matching script."),
    ("BUSY Redis is busy", "BUSY Valkey is busy"),
    ("LOADING Redis is loading", "LOADING Valkey is loading"),
    ("note that since Redis 4.0 if a replica is", "note that if a replica is"),
    ("MISCONF Redis is configured", "MISCONF Valkey is configured"),
    ("This Redis instance is not configured", "This instance is not configured"),
    ("have a Redis configuration file set", "have a configuration file set"),
    ("in the Redis configuration.", "in the configuration."),
];

impl Dialect {
    /// What is Redis's, or what is Valkey's.
    pub fn choose<T>(self, redis: T, valkey: T) -> T {
        match self {
            Dialect::Redis => redis,
            Dialect::Valkey => valkey,
        }
    }

    /// An error that is in Redis's words, in this dialect.
    pub fn says<'a>(self, text: impl Into<Cow<'a, str>>) -> Cow<'a, str> {
        let mut text = text.into();
        if self == Dialect::Valkey {
            for (redis, valkey) in WORDS {
                if text.contains(redis) {
                    text = Cow::Owned(text.replacen(redis, valkey, 1));
                }
            }
        }
        text
    }

    /// A line of the log about another server, in which Redis calls that one the master.
    pub fn notes(self, text: &str) -> Cow<'_, str> {
        match self {
            Dialect::Redis => text.into(),
            Dialect::Valkey => text.replace("MASTER", "PRIMARY").replace("master", "primary").into(),
        }
    }

    /// Whether a command that is not queued is refused within MULTI, and spoils it. To Redis it is an error that does not.
    pub fn bars_from_multi(self, command: &str) -> bool {
        self.choose(false, matches!(command, "multi" | "watch"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_valkeys_errors_are_put_into_its_words() {
        let redis = "EXECABORT Transaction discarded because of: BUSY Redis is busy running a script.";
        assert_eq!(Dialect::Redis.says(redis), redis);
        assert_eq!(
            Dialect::Valkey.says(redis),
            "EXECABORT Transaction discarded because of: BUSY Valkey is busy running a script."
        );
        assert!(matches!(Dialect::Valkey.says("ERR syntax error"), Cow::Borrowed("ERR syntax error")));
        for (redis, valkey) in WORDS {
            assert_eq!(Dialect::Valkey.says(*redis), *valkey);
            assert_eq!(Dialect::Valkey.says(*valkey), *valkey, "one row must not change another's words");
        }
    }
}
