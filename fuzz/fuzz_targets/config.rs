//! No configuration text makes the reader panic, and what it accepts it writes so that it reads the same again.

#![no_main]

use kelda_engine::config::Config;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let mut config = Config::default();
    if config.parse_file_text(text, "fuzz", &|_| Ok(Vec::new())).is_ok() {
        let written = config.rewrite("", &[]);
        let mut again = Config::default();
        assert!(again.parse_file_text(&written, "written", &|_| Ok(Vec::new())).is_ok(), "{written}");
        assert_eq!(again.get(&["*"]), config.get(&["*"]));
        let _ = config.rewrite(text, &[]);
    }
});
