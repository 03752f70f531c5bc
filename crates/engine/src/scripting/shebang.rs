//! The first line `#!lua flags=…` of a script.

/// What the shebang line declares. A script without one runs in the old mode (`present` is false): its commands are checked one
/// by one instead of the script as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// The script has a shebang line.
    pub present: bool,
    /// `no-writes`
    pub no_writes: bool,
    /// `allow-oom`
    pub allow_oom: bool,
    /// `allow-stale`
    pub allow_stale: bool,
    /// `no-cluster`
    pub no_cluster: bool,
    /// `allow-cross-slot-keys`
    pub allow_cross_slot_keys: bool,
}

impl Flags {
    /// The names, in the order in which FUNCTION LIST shows them.
    pub const NAMES: [&str; 5] = ["no-writes", "allow-oom", "allow-stale", "no-cluster", "allow-cross-slot-keys"];

    /// The flag of this name.
    pub fn by_name(&mut self, name: &str) -> Option<&mut bool> {
        Some(match name {
            "no-writes" => &mut self.no_writes,
            "allow-oom" => &mut self.allow_oom,
            "allow-stale" => &mut self.allow_stale,
            "no-cluster" => &mut self.no_cluster,
            "allow-cross-slot-keys" => &mut self.allow_cross_slot_keys,
            _ => return None,
        })
    }

    /// The names of the flags that are set.
    pub fn names(mut self) -> Vec<&'static str> {
        Flags::NAMES.into_iter().filter(|name| self.by_name(name).is_some_and(|flag| *flag)).collect()
    }
}

/// Reads the shebang line. Gives the flags and the offset of the Lua text, which starts with the line's own newline so that line
/// numbers stay right.
///
/// # Errors
/// The error reply's text, `ERR` included.
pub fn parse(body: &[u8]) -> Result<(Flags, usize), String> {
    if !body.starts_with(b"#!") {
        return Ok((Flags::default(), 0));
    }
    let end = body.iter().position(|&b| b == b'\n').ok_or("ERR Invalid script shebang")?;
    let line = String::from_utf8_lossy(&body[..end]);
    let words = words(&line).ok_or("ERR Invalid engine in script shebang")?;
    let mut words = words.iter();
    match words.next() {
        Some(engine) if engine == "#!lua" => {}
        engine => {
            return Err(format!("ERR Unexpected engine in script shebang: {}", engine.map_or("", String::as_str)));
        }
    }
    let mut flags = Flags { present: true, ..Flags::default() };
    for word in words {
        let list = word.strip_prefix("flags=").ok_or_else(|| format!("ERR Unknown lua shebang option: {word}"))?;
        if list.is_empty() {
            continue;
        }
        for flag in list.split(',') {
            *flags.by_name(flag).ok_or_else(|| format!("ERR Unexpected flag in script shebang: {flag}"))? = true;
        }
    }
    Ok((flags, end))
}

/// Splits at blanks; quotes group and vanish. `None` when a quote stays open.
pub(crate) fn words(line: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in line.chars() {
        match quote {
            Some(q) if c == q => quote = None,
            Some(_) => word.get_or_insert_default().push(c),
            None if c.is_ascii_whitespace() => words.extend(word.take()),
            None if c == '"' || c == '\'' => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            None => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_as_redis_gives_them() {
        for (body, error) in [
            ("#!lua", "ERR Invalid script shebang"),
            ("#!not-lua\nreturn 1", "ERR Unexpected engine in script shebang: #!not-lua"),
            ("#!\nreturn 1", "ERR Unexpected engine in script shebang: #!"),
            ("#! lua\nreturn 1", "ERR Unexpected engine in script shebang: #!"),
            ("#!lua badger=data\nreturn 1", "ERR Unknown lua shebang option: badger=data"),
            ("#!lua flags\nreturn 1", "ERR Unknown lua shebang option: flags"),
            ("#!lua flags=what?\nreturn 1", "ERR Unexpected flag in script shebang: what?"),
            ("#!lua flags=no-writes, allow-oom\nreturn 1", "ERR Unexpected flag in script shebang: "),
            ("#!lua flags=\"no\nreturn 1", "ERR Invalid engine in script shebang"),
        ] {
            assert_eq!(parse(body.as_bytes()), Err(error.to_string()), "{body}");
        }
    }

    #[test]
    fn flags_are_read() {
        assert_eq!(parse(b"return 1"), Ok((Flags::default(), 0)));
        let (flags, offset) = parse(b"#!lua flags=no-writes flags=\"allow-oom\"\r\nreturn 1").unwrap();
        assert_eq!(offset, 40);
        assert_eq!(flags, Flags { present: true, no_writes: true, allow_oom: true, ..Flags::default() });
        assert!(parse(b"#!lua flags=\nreturn 1").unwrap().0.present);
    }
}
