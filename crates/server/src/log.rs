//! The server's log: lines in Redis's form on standard output or in a file.
//!
//! `12345:M 01 Feb 2026 03:04:05.678 * text`, the time being UTC. The file is opened for each line, so that it can be
//! moved away at any time. A line that cannot be written is lost: logging never fails and never stops the server.

use crate::crash;
use kelda_engine::config::LogLevel;
use std::fmt;
use std::io::Write;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

struct Target {
    level: LogLevel,
    /// Empty for standard output.
    file: String,
}

static TARGET: Mutex<Target> = Mutex::new(Target { level: LogLevel::Notice, file: String::new() });

/// Sends further lines of at least this level to a file, or to standard output if the name is empty.
pub fn set_target(level: LogLevel, file: &str) {
    crash::set_file(file);
    *TARGET.lock().unwrap_or_else(PoisonError::into_inner) = Target { level, file: file.to_string() };
}

/// Writes a line.
pub fn log(level: LogLevel, text: &str) {
    let target = TARGET.lock().unwrap_or_else(PoisonError::into_inner);
    if (level as u8) < target.level as u8 {
        return;
    }
    let stamp = Stamp::now();
    let mark = match level {
        LogLevel::Debug => '.',
        LogLevel::Verbose => '-',
        LogLevel::Notice => '*',
        LogLevel::Warning | LogLevel::Nothing => '#',
    };
    let line = format!("{}:M {stamp} {mark} {text}\n", std::process::id());
    let _ = if target.file.is_empty() {
        std::io::stdout().write_all(line.as_bytes())
    } else {
        let file = std::fs::OpenOptions::new().append(true).create(true).open(&target.file);
        file.and_then(|mut file| file.write_all(line.as_bytes()))
    };
}

/// What an operator wants to know.
pub fn notice(text: &str) {
    log(LogLevel::Notice, text);
}

/// What is important.
pub fn warning(text: &str) {
    log(LogLevel::Warning, text);
}

/// A time as `01 Feb 2026 03:04:05.678`, from milliseconds since the Unix epoch. Writing it allocates nothing.
pub struct Stamp(u64);

impl Stamp {
    /// This moment.
    pub fn now() -> Stamp {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Stamp(now.as_millis() as u64)
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        let (days, ms) = (self.0 / 86_400_000, self.0 % 86_400_000);
        // Civil date from days, with years that begin in March (the leap day is then a year's last).
        let from_march = days + 719_468; // days from 0000-03-01 to 1970-01-01
        let (era, day) = (from_march / 146_097, from_march % 146_097);
        let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
        let day_of_year = day - (365 * year + year / 4 - year / 100);
        let month = (5 * day_of_year + 2) / 153; // 0 is March
        let day = day_of_year - (153 * month + 2) / 5 + 1;
        let name = MONTHS[(month as usize + 2) % 12]; // below 12
        let year = era * 400 + year + u64::from(month >= 10);
        let (h, m, s) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
        write!(f, "{day:02} {name} {year} {h:02}:{m:02}:{s:02}.{:03}", ms % 1000)
    }
}

#[cfg(test)]
mod tests {
    use super::Stamp;

    #[test]
    fn stamps_are_dates() {
        let cases = [
            (0, "01 Jan 1970 00:00:00.000"),
            (951_782_400_000, "29 Feb 2000 00:00:00.000"),
            (951_868_799_999, "29 Feb 2000 23:59:59.999"),
            (1_709_251_199_001, "29 Feb 2024 23:59:59.001"),
            (1_709_251_200_000, "01 Mar 2024 00:00:00.000"),
            (1_795_335_254_760, "22 Nov 2026 08:14:14.760"),
            (4_102_444_799_000, "31 Dec 2099 23:59:59.000"),
        ];
        for (ms, text) in cases {
            assert_eq!(Stamp(ms).to_string(), text);
        }
    }
}
