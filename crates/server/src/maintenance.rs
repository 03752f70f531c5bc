//! What `kelda-server` does for data that no server uses at the moment: check it, salvage it, bring a copy of it back to an
//! earlier moment.

use crate::disk::RealDisk;
use kelda_log::aof::check::{self, Report};
use kelda_log::aof::copy::{self, Moment};
use kelda_log::aof::{Error, lock_dir};
use kelda_log::disk::Disk;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Task {
    /// Read everything and tell what is there.
    Check(String),
    /// Keep what comes before the first damage, and set the rest aside.
    Salvage(String),
    /// Copy the log as it was at a moment.
    Restore {
        /// See [`moment`].
        moment: String,
        /// Where the log is.
        from: String,
        /// The data directory of a server to be.
        into: String,
    },
}

/// Does it, and tells the result. Fails if the data is not sound, too.
pub fn run(task: &Task) -> ExitCode {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let done = match task {
        Task::Check(dir) => check(&disk, dir),
        Task::Salvage(dir) => salvage(&disk, dir),
        Task::Restore { moment, from, into } => restore(&disk, moment, from, into),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

/// Finds the log that a directory holds, itself or in the usual directory within: its directory and name.
fn find(disk: &dyn Disk, dir: &str) -> Result<(PathBuf, String), String> {
    for place in [PathBuf::from(dir), Path::new(dir).join("appendonlydir")] {
        let mut names: Vec<String> = disk
            .list(&place)
            .unwrap_or_default()
            .iter()
            .filter_map(|file| file.strip_suffix(".manifest").filter(|name| !name.starts_with("temp-")))
            .map(str::to_string)
            .collect();
        match (names.pop(), names.is_empty()) {
            (Some(name), true) => return Ok((place, name)),
            (Some(_), false) => return Err(format!("{}: more than one manifest", place.display())),
            (None, _) => {}
        }
    }
    Err(format!("{dir}: there is no manifest of an append-only log here or in appendonlydir"))
}

fn check(disk: &Arc<dyn Disk>, dir: &str) -> Result<bool, String> {
    // A snapshot, or the directory of a server that has nothing else.
    for file in [PathBuf::from(dir), Path::new(dir).join("dump.rdb")] {
        if file.is_file() && find(&**disk, dir).is_err() {
            let base = check::check_base(&**disk, &file).map_err(|error| error.to_string())?;
            let report = Report { base: Some(base), ..Report::default() };
            print!("{}{}", describe(&report), if report.is_sound() { "Sound.\n" } else { "Damaged.\n" });
            return Ok(report.is_sound());
        }
    }
    let (dir, name) = find(&**disk, dir)?;
    let report = check::check(disk, &dir, &name).map_err(|error| error.to_string())?;
    print!("{}", describe(&report));
    match (report.is_sound(), &report.torn) {
        (true, None) => println!("Sound, up to LSN {}.", report.last_lsn()),
        (true, Some(_)) => println!("Sound, up to LSN {}; a server will cut off the torn end.", report.last_lsn()),
        (false, _) => println!("Damaged. `kelda-server --salvage DIR` keeps what comes before the first damage."),
    }
    Ok(report.is_sound())
}

fn describe(report: &Report) -> String {
    let mut text = String::new();
    if let Some(base) = &report.base {
        text.push_str(&format!("{}: {} bytes, {} keys", base.name, base.bytes, base.keys));
        if base.records > 0 {
            text.push_str(&format!(", {} commands, unchecked", base.records));
        }
        text.push('\n');
        base.error.iter().for_each(|error| text.push_str(&format!("  {error}\n")));
    }
    for file in &report.increments {
        text.push_str(&format!("{}: {} bytes, ", file.name, file.bytes));
        text.push_str(&match (file.checked, file.records) {
            (_, 0) => "no transactions".to_string(),
            (true, n) => format!("{n} transactions, LSN {} to {}", file.first_lsn, file.last_lsn),
            (false, n) => format!("{n} transactions, not all of them checked: another server wrote here"),
        });
        if file.times_ms.1 > 0 {
            text.push_str(&format!(", from {} to {}", time(file.times_ms.0), time(file.times_ms.1)));
        }
        text.push('\n');
        file.damage.iter().for_each(|damage| text.push_str(&format!("  {damage}\n")));
    }
    if let Some(cut) = &report.torn {
        text.push_str(&format!(
            "  {}: torn at offset {}, {} bytes behind\n",
            cut.path.display(),
            cut.offset,
            cut.bytes
        ));
    }
    text
}

fn salvage(disk: &Arc<dyn Disk>, dir: &str) -> Result<bool, String> {
    let (dir, name) = find(&**disk, dir)?;
    let held = lock_dir(&**disk, &dir, &name).map_err(|error| error.to_string())?;
    match check::salvage(disk, &dir, &name, &held).map_err(|error| error.to_string())? {
        None => println!("No increment is damaged: nothing to do."),
        Some(salvaged) => {
            println!("{}\nWhat follows is no longer part of the log. It was set aside:", salvaged.damage);
            salvaged.aside.iter().for_each(|path| println!("  {}", path.display()));
        }
    }
    Ok(true)
}

fn restore(disk: &Arc<dyn Disk>, when: &str, from: &str, into: &str) -> Result<bool, String> {
    let moment = moment(when).ok_or_else(|| {
        format!("{when}: neither an LSN, nor @UNIX-SECONDS, nor a UTC time such as 2026-11-22T10:30:00Z")
    })?;
    let (from, name) = find(&**disk, from)?;
    let leaf = from.file_name().filter(|_| from.ends_with("appendonlydir")).unwrap_or("appendonlydir".as_ref());
    let log_dir = Path::new(into).join(leaf);
    for dir in [Path::new(into), &log_dir] {
        disk.create_dir(dir).map_err(|error| format!("cannot create {}: {error}", dir.display()))?;
    }
    let restored = copy::restore(&**disk, &from, &name, moment, &log_dir).map_err(|error: Error| error.to_string())?;
    disk.sync_dir(Path::new(into)).map_err(|error| format!("cannot sync {into}: {error}"))?;
    println!("{}: as of LSN {}. Start with: kelda-server --dir {into}", log_dir.display(), restored.lsn);
    Ok(true)
}

/// Reads a moment: an LSN, `@` and Unix seconds, or a time in UTC.
fn moment(text: &str) -> Option<Moment> {
    if let Some(seconds) = text.strip_prefix('@') {
        return Some(Moment::Time(milliseconds(seconds)?));
    }
    if let Ok(lsn) = text.parse() {
        return Some(Moment::Lsn(lsn));
    }
    let (date, clock) = text.strip_suffix(['Z', 'z']).unwrap_or(text).split_once(['T', 't', ' '])?;
    let mut date = date.split('-').map(|part| part.parse::<u64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let mut clock = clock.split(':');
    let (hour, minute): (u64, u64) = (clock.next()?.parse().ok()?, clock.next()?.parse().ok()?);
    let ms = clock.next().map_or(Some(0), milliseconds)?;
    let valid = (1970..10_000).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    if !valid || hour > 23 || minute > 59 || ms > 60_999 || date.next().is_some() || clock.next().is_some() {
        return None;
    }
    Some(Moment::Time(days(year, month, day) * 86_400_000 + (hour * 60 + minute) * 60_000 + ms))
}

/// Seconds with up to three decimals, in milliseconds.
fn milliseconds(text: &str) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || fraction.len() > 3 {
        return None;
    }
    let fraction: u64 = format!("{fraction:0<3}").parse().ok()?;
    whole.parse::<u64>().ok()?.checked_mul(1000)?.checked_add(fraction)
}

/// Days from 1970-01-01 to a date of the Gregorian calendar, counted in years that begin in March.
fn days(year: u64, month: u64, day: u64) -> u64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    year * 365 + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 - 719_468
}

/// A Unix time in milliseconds as UTC.
fn time(ms: u64) -> String {
    let (days_since, clock) = (ms / 86_400_000, ms % 86_400_000);
    // The year and month are the last that do not begin after the day.
    let mut year = 1970 + days_since / 366;
    while days(year + 1, 1, 1) <= days_since {
        year += 1;
    }
    let month = (1..=12).rfind(|month| days(year, *month, 1) <= days_since).unwrap_or(1);
    let day = days_since - days(year, month, 1) + 1;
    let (hour, minute, second) = (clock / 3_600_000, clock / 60_000 % 60, clock / 1000 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", clock % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read() {
        for (text, expected) in [
            ("17", Some(Moment::Lsn(17))),
            ("@1700000000", Some(Moment::Time(1_700_000_000_000))),
            ("@1700000000.25", Some(Moment::Time(1_700_000_000_250))),
            ("1970-01-01T00:00:00Z", Some(Moment::Time(0))),
            ("2023-11-14T22:13:20Z", Some(Moment::Time(1_700_000_000_000))),
            ("2023-11-14 22:13:20.123", Some(Moment::Time(1_700_000_000_123))),
            ("2024-02-29T12:00", Some(Moment::Time(1_709_208_000_000))),
            ("2023-13-14T22:13:20Z", None),
            ("2023-11-14", None),
            ("2023-11-14T22", None),
            ("2023-11-14T24:00:00Z", None),
            ("@", None),
            ("now", None),
        ] {
            assert_eq!(moment(text), expected, "{text}");
        }
    }

    #[test]
    fn times_are_written_as_they_are_read() {
        for ms in [0, 1, 951_782_400_000, 1_700_000_000_123, 1_709_208_000_000, 4_102_444_799_999, 253_402_300_799_999]
        {
            assert_eq!(moment(&time(ms)), Some(Moment::Time(ms)), "{}", time(ms));
        }
        assert_eq!(time(1_700_000_000_123), "2023-11-14T22:13:20.123Z");
    }
}
