//! Glob patterns as `KEYS`, `SCAN MATCH`, `PSUBSCRIBE` and `CONFIG GET` match them.
//!
//! `*` any bytes, `?` one byte, `[a-z]` and `[^a-z]` one byte of a class, `\x` the byte `x`. The quirks of Redis's
//! matcher are kept: an unclosed class ends with the pattern, `]` can be the upper end of a range, ranges compare
//! bytes as signed, an escape in a class ignores `nocase`, `*` does not match an empty text, and a match that needs more
//! than a thousand runs of `*` is none.
//!
//! Every element but `*` takes exactly one byte, so on a mismatch only the last `*` need be tried again: time is at
//! most O(pattern × text), without recursion.

/// Runs of `*` that a match may get past. More are nobody's search but an attempt to keep the server busy.
const STARS_MAX: usize = 1000;

/// Whether `pattern` matches the whole of `text`; with `nocase`, regardless of the case of ASCII letters.
pub fn glob_match(pattern: &[u8], text: &[u8], nocase: bool) -> bool {
    // Quirk, also the reason why the loop below need not deal with `*` and an empty text.
    if text.is_empty() {
        return pattern.is_empty();
    }
    let (mut p, mut t) = (0, 0);
    // The pattern after the last `*` seen, and where in the text it was last tried.
    let mut retry: Option<(usize, usize)> = None;
    let mut stars = 0;
    loop {
        if pattern.get(p) == Some(&b'*') {
            p += pattern[p..].iter().take_while(|&&byte| byte == b'*').count();
            if p == pattern.len() {
                return true;
            }
            stars += 1;
            if stars > STARS_MAX {
                return false;
            }
            retry = Some((p, t));
            continue;
        }
        let next = match text.get(t) {
            Some(&byte) => element(&pattern[p..], byte, nocase),
            None if p == pattern.len() => return true,
            None => None,
        };
        if let Some(length) = next {
            p += length;
            t += 1;
            continue;
        }
        match retry {
            Some((after_star, tried)) if tried < text.len() => {
                retry = Some((after_star, tried + 1));
                (p, t) = (after_star, tried + 1);
            }
            _ => return false,
        }
    }
}

/// Matches `byte` with the first element of `pattern`, which is not a `*`. The element's length if they match.
#[inline]
fn element(pattern: &[u8], byte: u8, nocase: bool) -> Option<usize> {
    match *pattern {
        [] => None,
        [b'?', ..] => Some(1),
        [b'[', ref class @ ..] => self::class(class, byte, nocase).map(|length| length + 1),
        [b'\\', literal, ..] => same(literal, byte, nocase).then_some(2),
        [literal, ..] => same(literal, byte, nocase).then_some(1),
    }
}

/// Matches `byte` with a class, `class` being the pattern after its `[`. The length up to and with `]` if they match.
fn class(class: &[u8], byte: u8, nocase: bool) -> Option<usize> {
    let negated = class.first() == Some(&b'^');
    let mut at = usize::from(negated);
    let mut found = false;
    loop {
        match class[at..] {
            // An unclosed class ends with the pattern.
            [] => break,
            [b'\\', literal, ..] => {
                found |= literal == byte;
                at += 2;
            }
            [b']', ..] => {
                at += 1;
                break;
            }
            [from, b'-', to, ..] => {
                found |= in_range(from, to, byte, nocase);
                at += 3;
            }
            [literal, ..] => {
                found |= same(literal, byte, nocase);
                at += 1;
            }
        }
    }
    (found != negated).then_some(at)
}

fn same(a: u8, b: u8, nocase: bool) -> bool {
    a == b || nocase && a.eq_ignore_ascii_case(&b)
}

/// Quirk: the ends are put in order as signed bytes, and before `nocase` changes them.
fn in_range(from: u8, to: u8, byte: u8, nocase: bool) -> bool {
    let (low, high) = if (from as i8) <= (to as i8) { (from, to) } else { (to, from) };
    let fold = |byte: u8| {
        if nocase { byte.to_ascii_lowercase() as i8 } else { byte as i8 }
    };
    (fold(low)..=fold(high)).contains(&fold(byte))
}
