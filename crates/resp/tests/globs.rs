//! Glob patterns, compared with what Redis and Valkey matched.

use kelda_resp::glob_match;
use proptest::prelude::*;

#[test]
fn patterns() {
    // Pattern, text, whether it matches.
    let table: &[(&str, &str, bool)] = &[
        ("", "", true),
        ("", "a", false),
        // Quirk: `*` wants a byte.
        ("*", "", false),
        ("**", "", false),
        ("*", "a", true),
        ("a*", "a", true),
        ("a**", "a", true),
        ("*a", "ba", true),
        ("*a", "ab", false),
        ("*a*b", "xaxab", true),
        ("a?c", "abc", true),
        ("a?c", "ac", false),
        ("?", "", false),
        ("h[ae]llo", "hello", true),
        ("h[ae]llo", "hillo", false),
        ("h[^e]llo", "hallo", true),
        ("h[^e]llo", "hello", false),
        ("h[a-c]llo", "hbllo", true),
        ("h[c-a]llo", "hbllo", true),
        ("[^]a", "xa", true),
        ("[^]", "a", true),
        ("[]a", "]a", false),
        ("[a-]", "a", true),
        ("[a-]", "]", true),
        ("[a-]", "-", false),
        ("[a", "a", true),
        ("[a", "ab", false),
        ("[", "[", false),
        ("[", "a", false),
        ("[^", "a", true),
        ("[\\]]", "]", true),
        ("[\\", "\\", true),
        ("[a\\-z]", "-", true),
        ("[a\\-z]", "b", false),
        ("\\*", "*", true),
        ("\\*", "a", false),
        ("\\a", "a", true),
        ("\\", "\\", true),
        ("a\\", "a\\", true),
        ("user:*:name", "user:1000:name", true),
        ("user:*:name", "user:1000:nam", false),
    ];
    for &(pattern, text, expected) in table {
        assert_eq!(glob_match(pattern.as_bytes(), text.as_bytes(), false), expected, "{pattern:?} {text:?}");
    }
}

#[test]
fn letters_of_either_case() {
    let table: &[(&str, &str, bool)] = &[
        ("MaxMemory*", "maxmemory-policy", true),
        ("[M]ax", "max", true),
        ("\\Max", "max", true),
        // Quirk: not after an escape in a class.
        ("[\\M]ax", "max", false),
        ("[A-C]", "b", true),
        ("[a-c]", "B", true),
        // Quirk: the ends change places before their case is dropped.
        ("[a-Z]", "b", false),
        ("[^M]ax", "max", false),
    ];
    for &(pattern, text, expected) in table {
        assert_eq!(glob_match(pattern.as_bytes(), text.as_bytes(), true), expected, "{pattern:?} {text:?}");
    }
}

#[test]
fn ranges_compare_signed_bytes() {
    assert!(glob_match(b"[a-\xff]", b"A", false));
    assert!(!glob_match(b"[a-\xff]", b"b", false));
    assert!(glob_match(b"[\x80-\xff]", b"\xc0", false));
}

#[test]
fn many_stars_take_no_exponential_time() {
    let pattern = b"a*".repeat(1_000);
    let text = b"a".repeat(20_000);
    assert!(glob_match(&pattern, &text, false));
    let pattern = [pattern.as_slice(), b"b"].concat();
    assert!(!glob_match(&pattern, &text, false));
}

/// The definition, exponential: each `*` tries every length.
fn reference(pattern: &[u8], text: &[u8]) -> bool {
    match pattern {
        [] => text.is_empty(),
        [b'*', rest @ ..] => (0..=text.len()).any(|skip| reference(rest, &text[skip..])),
        [first, rest @ ..] => {
            text.first().is_some_and(|byte| *first == b'?' || first == byte) && reference(rest, &text[1..])
        }
    }
}

proptest! {
    #[test]
    fn stars_agree_with_their_definition(pattern in "[ab?*]{0,8}", text in "[ab]{1,10}") {
        let expected = reference(pattern.as_bytes(), text.as_bytes());
        prop_assert_eq!(glob_match(pattern.as_bytes(), text.as_bytes(), false), expected);
    }

    #[test]
    fn an_escaped_text_matches_itself_only(text: Vec<u8>, other: Vec<u8>) {
        let pattern: Vec<u8> = text.iter().flat_map(|&byte| [b'\\', byte]).collect();
        prop_assert!(glob_match(&pattern, &text, false));
        prop_assert_eq!(glob_match(&pattern, &other, false), text == other);
    }

    #[test]
    fn no_bytes_break_it(pattern: Vec<u8>, text: Vec<u8>, nocase: bool) {
        let _ = glob_match(&pattern, &text, nocase);
    }
}

#[test]
fn a_thousand_stars_are_enough() {
    let text = "a".repeat(2000);
    assert!(glob_match("*a".repeat(1000).as_bytes(), text.as_bytes(), false));
    assert!(!glob_match("*a".repeat(1001).as_bytes(), text.as_bytes(), false));
    assert!(glob_match(format!("{}*", "*a".repeat(1000)).as_bytes(), text.as_bytes(), false));
    assert!(glob_match("*".repeat(3000).as_bytes(), text.as_bytes(), false));
}
