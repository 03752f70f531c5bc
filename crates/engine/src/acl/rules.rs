//! The rules that make and change users: what ACL SETUSER, `user` lines and ACL files say.

use super::user::{KeyPattern, PasswordHash, Selector, User, hash_password};
use kelda_resp::request::split_args;
use std::fmt;

/// Why a rule was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum RuleError {
    UnknownCommand,
    Syntax,
    AfterAllKeys,
    AfterAllChannels,
    NoSuchPassword,
    BadHash,
    FirstArgOfSubcommand,
    DatabaseRange,
}

impl fmt::Display for RuleError {
    /// Redis's words.
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            RuleError::UnknownCommand => "Unknown command or category name in ACL",
            RuleError::Syntax => "Syntax error",
            RuleError::AfterAllKeys => {
                "Adding a pattern after the * pattern (or the 'allkeys' flag) is not valid and does not have any effect. \
                 Try 'resetkeys' to start with an empty list of patterns"
            }
            RuleError::AfterAllChannels => {
                "Adding a pattern after the * pattern (or the 'allchannels' flag) is not valid and does not have any \
                 effect. Try 'resetchannels' to start with an empty list of channels"
            }
            RuleError::NoSuchPassword => "The password you are trying to remove from the user does not exist",
            RuleError::BadHash => {
                "The password hash must be exactly 64 characters and contain only lowercase hexadecimal characters"
            }
            RuleError::FirstArgOfSubcommand => "Allowing first-arg of a subcommand is not supported",
            RuleError::DatabaseRange => "The provided database ID is out of range",
        })
    }
}

/// Puts the words of selectors together that blanks have taken apart: `(+get`, `~k)`.
///
/// # Errors
/// The word that begins a selector without an end.
pub fn join_selectors(words: &[&[u8]]) -> Result<Vec<Vec<u8>>, Vec<u8>> {
    let mut rules = Vec::with_capacity(words.len());
    let mut open: Option<(&[u8], Vec<u8>)> = None;
    for word in words {
        match &mut open {
            Some((_, rule)) => {
                rule.push(b' ');
                rule.extend_from_slice(word);
            }
            None if word.starts_with(b"(") => open = Some((word, word.to_vec())),
            None => rules.push(word.to_vec()),
        }
        if word.ends_with(b")")
            && let Some((_, rule)) = open.take()
        {
            rules.push(rule);
        }
    }
    open.map_or(Ok(rules), |(first, _)| Err(first.to_vec()))
}

impl User {
    /// Applies rules, of which a selector is one ([`join_selectors`]).
    ///
    /// # Errors
    /// The first rule that is refused; those before it were applied.
    pub fn apply_all(&mut self, rules: &[Vec<u8>], all_channels: bool) -> Result<(), (Vec<u8>, RuleError)> {
        rules.iter().try_for_each(|rule| self.apply(rule, all_channels).map_err(|error| (rule.clone(), error)))
    }

    /// Applies a rule. `all_channels` is what `acl-pubsub-default` says.
    pub fn apply(&mut self, rule: &[u8], all_channels: bool) -> Result<(), RuleError> {
        match (rule.to_ascii_lowercase().as_slice(), rule) {
            (b"", _) => {}
            (b"on", _) => self.enabled = true,
            (b"off", _) => self.enabled = false,
            (b"nopass", _) => {
                self.any_password = true;
                self.passwords.clear();
            }
            (b"resetpass", _) => {
                self.any_password = false;
                self.passwords.clear();
            }
            (b"sanitize-payload", _) => self.sanitize_payload = true,
            (b"skip-sanitize-payload", _) => self.sanitize_payload = false,
            (b"clearselectors", _) => self.selectors.clear(),
            (b"reset", _) => *self = User::new(&self.name, all_channels),
            (_, [b'>', password @ ..]) => self.add_password(hash_password(password)),
            (_, [b'#', digits @ ..]) => self.add_password(read_hash(digits)?),
            (_, [b'<', password @ ..]) => self.remove_password(hash_password(password))?,
            (_, [b'!', digits @ ..]) => self.remove_password(read_hash(digits)?)?,
            (_, [b'(', inner @ .., b')']) => {
                let mut selector = Selector::new(all_channels);
                for rule in split_args(inner).ok_or(RuleError::Syntax)? {
                    selector.apply(&rule)?;
                }
                self.selectors.push(selector);
            }
            _ => self.root.apply(rule)?,
        }
        Ok(())
    }

    fn add_password(&mut self, hash: PasswordHash) {
        self.any_password = false;
        if !self.passwords.contains(&hash) {
            self.passwords.push(hash);
        }
    }

    fn remove_password(&mut self, hash: PasswordHash) -> Result<(), RuleError> {
        let at = self.passwords.iter().position(|have| *have == hash).ok_or(RuleError::NoSuchPassword)?;
        self.passwords.remove(at);
        Ok(())
    }
}

fn read_hash(digits: &[u8]) -> Result<PasswordHash, RuleError> {
    let mut hash = PasswordHash::default();
    let valid = digits.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
    if !valid || digits.len() != 2 * hash.len() {
        return Err(RuleError::BadHash);
    }
    let value = |digit: u8| if digit <= b'9' { digit - b'0' } else { digit - b'a' + 10 };
    for (byte, pair) in hash.iter_mut().zip(digits.as_chunks::<2>().0) {
        *byte = value(pair[0]) << 4 | value(pair[1]);
    }
    Ok(hash)
}

impl Selector {
    fn apply(&mut self, rule: &[u8]) -> Result<(), RuleError> {
        match (rule.to_ascii_lowercase().as_slice(), rule) {
            (b"allkeys" | b"~*", _) => {
                self.all_keys = true;
                self.keys.clear();
            }
            (b"resetkeys", _) => {
                self.all_keys = false;
                self.keys.clear();
            }
            (b"allchannels" | b"&*", _) => {
                self.all_channels = true;
                self.channels.clear();
            }
            (b"resetchannels", _) => {
                self.all_channels = false;
                self.channels.clear();
            }
            (b"allcommands", _) => self.commands.set_all(true),
            (b"nocommands", _) => self.commands.set_all(false),
            (b"alldbs", _) => self.databases = None,
            (b"resetdbs", _) => self.databases = Some(Default::default()),
            ([b'd', b'b', b'=', numbers @ ..], _) => {
                let read = |word: &[u8]| match std::str::from_utf8(word).map(str::parse::<i128>) {
                    Ok(Ok(number)) => u32::try_from(number).map_err(|_| RuleError::DatabaseRange),
                    _ => Err(RuleError::Syntax),
                };
                self.databases = Some(numbers.split(|byte| *byte == b',').map(read).collect::<Result<_, _>>()?);
            }
            (_, [b'+' | b'-', ..]) => self.commands.apply(rule)?,
            (_, [b'~' | b'%', ..]) => self.add_key(rule)?,
            (_, [b'&', channel @ ..]) => {
                if self.all_channels {
                    return Err(RuleError::AfterAllChannels);
                }
                check_pattern(channel)?;
                if !self.channels.iter().any(|have| **have == *channel) {
                    self.channels.push(channel.into());
                }
            }
            _ => return Err(RuleError::Syntax),
        }
        Ok(())
    }

    /// `~pattern`, or `%R~pattern` and the like.
    fn add_key(&mut self, rule: &[u8]) -> Result<(), RuleError> {
        if self.all_keys {
            return Err(RuleError::AfterAllKeys);
        }
        let (mut read, mut write) = (true, true);
        let mut pattern = &rule[1..];
        if rule[0] == b'%' {
            (read, write) = (false, false);
            // Redis takes a rule without `~` too: its pattern is empty.
            while let [letter, rest @ ..] = pattern {
                pattern = rest;
                match letter {
                    b'R' | b'r' if !read => read = true,
                    b'W' | b'w' if !write => write = true,
                    b'~' => break,
                    _ => return Err(RuleError::Syntax),
                }
            }
            if !read && !write {
                return Err(RuleError::Syntax);
            }
        }
        check_pattern(pattern)?;
        match self.keys.iter_mut().find(|have| *have.pattern == *pattern) {
            Some(have) => {
                have.read |= read;
                have.write |= write;
            }
            None => self.keys.push(KeyPattern { pattern: pattern.into(), read, write }),
        }
        Ok(())
    }
}

/// Patterns are separated by blanks where users are written down.
fn check_pattern(pattern: &[u8]) -> Result<(), RuleError> {
    if pattern.iter().any(|byte| byte.is_ascii_whitespace() || matches!(byte, 0 | 0x0b)) {
        return Err(RuleError::Syntax);
    }
    Ok(())
}
