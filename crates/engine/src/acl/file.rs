//! Users in files: the ACL file, and `user` lines of the configuration.

use super::rules::{RuleError, join_selectors};
use super::user::User;
use super::{DEFAULT, Users};
use std::sync::Arc;

/// Whether a user may have this name: blanks separate the words of a line.
pub fn is_name(name: &[u8]) -> bool {
    !name.iter().any(|byte| byte.is_ascii_whitespace() || matches!(byte, 0 | 0x0b))
}

/// Reads an ACL file's text: lines of `user name rule …`, words separated by blanks, nothing quoted.
///
/// # Errors
/// Everything that is wrong with it, in Redis's words.
pub fn parse(text: &[u8], file: &str, all_channels: bool) -> Result<Users, String> {
    let mut users = Users::new();
    let mut errors = String::new();
    for (at, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let at = at + 1;
        let words: Vec<&[u8]> = line.split(|byte| byte.is_ascii_whitespace()).filter(|word| !word.is_empty()).collect();
        let (name, rules) = match &words[..] {
            [] => continue,
            [b"user", name, rules @ ..] => (*name, rules),
            _ => {
                errors.push_str(&format!("{file}:{at} should start with user keyword followed by the username. "));
                continue;
            }
        };
        let shown = String::from_utf8_lossy(name);
        if !is_name(name) {
            errors.push_str(&format!("'{file}:{at}: username '{shown}' contains invalid characters. "));
            continue;
        }
        if users.contains_key(name) {
            errors.push_str(&format!("WARNING: Duplicate user '{shown}' found on line {at}. "));
            continue;
        }
        let Ok(rules) = join_selectors(rules) else {
            errors.push_str(&format!("{file}:{at}: Unmatched parenthesis in selector definition."));
            continue;
        };
        // What the file says of `default` counts from nothing, as of any other user.
        let mut user = User::new(name, all_channels);
        for rule in &rules {
            match user.apply(rule, all_channels) {
                Ok(()) => {}
                Err(error @ RuleError::UnknownCommand) => {
                    let rule = String::from_utf8_lossy(rule);
                    errors.push_str(&format!("{file}:{at}: Error in applying operation '{rule}': {error}. "));
                }
                Err(error) => errors.push_str(&format!("{file}:{at}: {error}. ")),
            }
        }
        users.insert(name.into(), Arc::new(user));
    }
    if errors.is_empty() {
        return Ok(users);
    }
    Err(errors + "WARNING: ACL errors detected, no change to the previously active ACL rules was performed")
}

/// The line of a user, as ACL LIST and ACL files have it.
pub fn line(user: &User) -> Vec<u8> {
    let mut line = b"user ".to_vec();
    line.extend_from_slice(&user.name);
    for rule in user.rules() {
        line.push(b' ');
        line.extend_from_slice(&rule);
    }
    line
}

/// The text of an ACL file.
pub fn print(users: &Users) -> Vec<u8> {
    users.values().flat_map(|user| [line(user), b"\n".to_vec()].concat()).collect()
}

/// The line of a user in a configuration file, where quotes and backslashes mean something.
pub fn config_line(user: &User) -> String {
    let word = |word: &[u8]| {
        let text = String::from_utf8_lossy(word).into_owned();
        let plain = !text.is_empty() && !text.contains(['"', '\'', '\\']) && text.bytes().all(|byte| byte >= b' ');
        if plain { text } else { crate::config::lines::quote_if_needed(&text) }
    };
    let mut words = vec!["user".to_string(), word(&user.name)];
    words.extend(user.rules().iter().map(|rule| word(rule)));
    words.join(" ")
}

/// Checks a `user` line of a configuration file as far as that can be done before every command is known.
///
/// # Errors
/// The reason, in Redis's words.
pub fn check_config_line(words: &[&str], before: &[&str]) -> Result<(), String> {
    let [name, rules @ ..] = words else { return Ok(()) };
    let refused =
        |word: &str, error: &dyn std::fmt::Display| Err(format!("Error in user declaration '{word}': {error}"));
    if before.contains(name) {
        return refused(name, &"Duplicate user found. A user can only be defined once in config files");
    }
    if !is_name(name.as_bytes()) {
        return refused(name, &"Spaces not allowed in ACL usernames");
    }
    let rules: Vec<&[u8]> = rules.iter().map(|word| word.as_bytes()).collect();
    let rules = match join_selectors(&rules) {
        Ok(rules) => rules,
        Err(word) => return refused(&String::from_utf8_lossy(&word), &"Unmatched parenthesis in selector definition."),
    };
    let mut user = User::new(DEFAULT, false);
    for rule in &rules {
        match user.apply(rule, false) {
            Ok(()) | Err(RuleError::UnknownCommand) => {}
            Err(error) => return refused(&String::from_utf8_lossy(rule), &error),
        }
    }
    Ok(())
}
