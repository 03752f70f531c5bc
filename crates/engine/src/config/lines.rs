//! The lexical form of redis.conf: words, quotes, escapes.

/// Splits a line into words as Redis does: blanks separate, double quotes take `\n \r \t \b \a \xHH` and `\c`, single
/// quotes take only `\'`. `None` when a quote is not closed or is followed by something other than a blank, or when
/// escapes make something that is not UTF-8.
pub fn split(line: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut bytes = line.bytes().peekable();
    loop {
        while bytes.next_if(|b| is_blank(*b)).is_some() {}
        if bytes.peek().is_none() {
            return Some(words);
        }
        let mut word: Vec<u8> = Vec::new();
        loop {
            match bytes.next() {
                None => break,
                Some(b) if is_blank(b) || b == 0 => break,
                Some(quote @ (b'"' | b'\'')) => {
                    loop {
                        match bytes.next()? {
                            b if b == quote => break,
                            b'\\' if quote == b'"' => word.push(escape(&mut bytes)?),
                            b'\\' if bytes.next_if_eq(&b'\'').is_some() => word.push(b'\''),
                            b => word.push(b),
                        }
                    }
                    // A closing quote ends the word.
                    match bytes.next() {
                        None => break,
                        Some(b) if is_blank(b) => break,
                        Some(_) => return None,
                    }
                }
                Some(b) => word.push(b),
            }
        }
        words.push(String::from_utf8(word).ok()?);
    }
}

fn is_blank(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == 0x0b
}

/// The byte that an escape stands for; its backslash has been read.
fn escape(bytes: &mut std::iter::Peekable<std::str::Bytes<'_>>) -> Option<u8> {
    Some(match bytes.next()? {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 8,
        b'a' => 7,
        b'x' => {
            let mut ahead = bytes.clone();
            let digit = |b: Option<u8>| char::from(b?).to_digit(16);
            match (digit(ahead.next()), digit(ahead.next())) {
                (Some(high), Some(low)) => {
                    *bytes = ahead;
                    (high * 16 + low) as u8 // two hexadecimal digits: at most 255
                }
                _ => b'x',
            }
        }
        other => other,
    })
}

/// A word in double quotes, so that `split` gives it back.
pub fn quote(word: &str) -> String {
    let mut out = String::from("\"");
    for c in word.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_ascii_control() => out.push_str(&format!("\\x{:02x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A word in double quotes if `split` would not give it back bare.
pub fn quote_if_needed(word: &str) -> String {
    let plain = !word.is_empty() && word.bytes().all(|b| b.is_ascii_graphic() && !b"\"'\\#".contains(&b));
    if plain { word.to_string() } else { quote(word) }
}
