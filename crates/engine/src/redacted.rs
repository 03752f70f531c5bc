//! Which words of a command nobody but its sender may see: passwords. MONITOR and the slow log show other words in their
//! place.

use crate::config::Config;
use crate::registry::Registered;
use smallvec::SmallVec;

/// What is shown in place of a secret.
const SHOWN: &[u8] = b"(redacted)";

/// The command's words as others may see them.
pub fn redacted<'a>(command: &Registered, words: &[&'a [u8]]) -> SmallVec<[&'a [u8]; 8]> {
    let mut shown: SmallVec<[&[u8]; 8]> = words.iter().copied().collect();
    let mut hide = |from: usize, count: usize| shown.iter_mut().skip(from).take(count).for_each(|word| *word = SHOWN);
    match command.name.as_str() {
        "auth" => hide(1, usize::MAX),
        "acl|setuser" | "acl|getuser" | "acl|deluser" => hide(2, usize::MAX),
        "config|set" => {
            for at in (2..words.len()).step_by(2) {
                if Config::is_sensitive(&String::from_utf8_lossy(words[at]).to_lowercase()) {
                    hide(at + 1, 1);
                }
            }
        }
        "hello" | "migrate" => {
            for (at, word) in words.iter().enumerate().skip(2) {
                let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
                if is("AUTH") {
                    hide(at + 1, if command.name == "hello" { 2 } else { 1 });
                } else if is("AUTH2") && command.name == "migrate" {
                    hide(at + 1, 2);
                }
            }
        }
        _ => {}
    }
    shown
}
