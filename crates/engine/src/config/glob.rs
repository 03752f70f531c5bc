//! Patterns over directive names: `*`, `?`, `[a-z]`, `[^a]`, `\x`.

/// Whether the whole of `text` matches, letters of either case being equal. O(pattern × text).
pub fn matches_ignoring_case(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    // Where to go on after a mismatch: behind the last star, one byte further in the text.
    let mut retry: Option<(usize, usize)> = None;
    while t < text.len() {
        let here = match pattern.get(p) {
            Some(b'*') => {
                retry = Some((p + 1, t + 1));
                p += 1;
                continue;
            }
            Some(_) => one(&pattern[p..], text[t]),
            None => None,
        };
        (p, t) = match (here, retry) {
            (Some(used), _) => (p + used, t + 1),
            (None, Some((after_star, from))) => {
                retry = Some((after_star, from + 1));
                (after_star, from)
            }
            (None, None) => return false,
        };
    }
    pattern[p..].iter().all(|b| *b == b'*')
}

/// How many bytes of the pattern match this byte; `None` if they do not.
fn one(pattern: &[u8], byte: u8) -> Option<usize> {
    let byte = byte.to_ascii_lowercase();
    match pattern {
        [b'?', ..] => Some(1),
        [b'[', rest @ ..] => {
            let negated = rest.first() == Some(&b'^');
            let from = usize::from(negated);
            let close = from + rest.get(from..)?.iter().position(|b| *b == b']')?;
            let mut class = &rest[from..close];
            let mut inside = false;
            while let [first, tail @ ..] = class {
                let (last, tail) = if let [b'-', last, tail @ ..] = tail { (last, tail) } else { (first, tail) };
                inside |= (first.to_ascii_lowercase()..=last.to_ascii_lowercase()).contains(&byte);
                class = tail;
            }
            (inside != negated).then_some(close + 2)
        }
        [b'\\', literal, ..] => (literal.to_ascii_lowercase() == byte).then_some(2),
        [literal, ..] => (literal.to_ascii_lowercase() == byte).then_some(1),
        [] => None,
    }
}
