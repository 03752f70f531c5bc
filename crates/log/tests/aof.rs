//! The log on the simulated disk: what is written reads back, damage is told from torn tails, and failures are never
//! taken for success.

use kelda_log::aof::check::{check, salvage};
use kelda_log::aof::copy::{Moment, restore};
use kelda_log::aof::{
    Entry, Error, FileReader, Log, Lsn, Options, Reader, Recovered, State, SyncMode, adopt, lock_dir,
};
use kelda_log::disk::{Disk, Open, read_file, write_all_at};
use kelda_sim::disk::{Faults, SimDisk};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

#[path = "aof/foreign.rs"]
mod foreign;

const DIR: &str = "/d/aof";
const COPY: &str = "/d/copy";
const NAME: &str = "appendonly.aof";
const OPTIONS: Options = Options { buffer_max: 1 << 20, salt: 7, archive: false };

fn sim() -> Arc<SimDisk> {
    let disk = SimDisk::new(1, &["/d", DIR, "/d/aof/archive", COPY]);
    disk.set_short_writes(false);
    Arc::new(disk)
}

fn command(argv: &[&str]) -> Vec<u8> {
    let mut body = format!("*{}\r\n", argv.len());
    argv.iter().for_each(|word| body.push_str(&format!("${}\r\n{word}\r\n", word.len())));
    body.into_bytes()
}

fn set(log: &Log, db: u32, key: &str) -> Lsn {
    log.append(&command(&["SET", key, "v"]), db, db, 1)
}

fn create(disk: &Arc<SimDisk>, options: Options) -> Log {
    let held = lock_dir(&**disk, Path::new(DIR), NAME).unwrap();
    Log::create(Arc::clone(disk) as _, Path::new(DIR), NAME, options, held, 1_000, None).unwrap()
}

/// Everything in a log, as text: `lsn db word word …`.
fn read_from(disk: &Arc<SimDisk>, dir: &str) -> Result<(Vec<String>, Recovered), Error> {
    let mut reader = Reader::open(Arc::clone(disk) as _, Path::new(dir), NAME, true)?.ok_or(Error::Missing("none"))?;
    let mut lines = Vec::new();
    while let Some(entry) = reader.next()? {
        let Entry::Record(record) = entry else { continue };
        let (mut commands, mut argv) = (record.commands(), Vec::new());
        while let Some(db) = commands.next_into(&mut argv).unwrap() {
            let words: Vec<_> = argv.iter().map(|word| String::from_utf8_lossy(word)).collect();
            lines.push(format!("{} {db} {}", record.lsn, words.join(" ")));
        }
    }
    Ok((lines, reader.finish()?))
}

fn read(disk: &Arc<SimDisk>) -> Result<(Vec<String>, Recovered), Error> {
    read_from(disk, DIR)
}

fn reopen(disk: &Arc<SimDisk>) -> Log {
    let held = lock_dir(&**disk, Path::new(DIR), NAME).unwrap();
    let recovered = read(disk).unwrap().1;
    Log::open(Arc::clone(disk) as _, Path::new(DIR), NAME, OPTIONS, held, 2_000, recovered).unwrap()
}

fn put(disk: &SimDisk, name: &str, bytes: &[u8]) {
    let file = disk.open(&Path::new(DIR).join(name), Open::Create).unwrap();
    write_all_at(&*file, 0, bytes).unwrap();
    file.sync().unwrap();
    disk.sync_dir(Path::new(DIR)).unwrap();
}

fn get(disk: &SimDisk, name: &str) -> Vec<u8> {
    read_file(disk, &Path::new(DIR).join(name)).unwrap()
}

fn empty_copy(disk: &SimDisk) -> &'static Path {
    for file in disk.list(Path::new(COPY)).unwrap() {
        disk.remove(&Path::new(COPY).join(file)).unwrap();
    }
    Path::new(COPY)
}

fn rewrite(disk: &SimDisk, log: &Log, now_ms: u64) {
    let text = format!("REDIS state at {}", log.appended());
    rewrite_as(disk, log, text.as_bytes(), now_ms);
}

fn rewrite_as(disk: &SimDisk, log: &Log, content: &[u8], now_ms: u64) {
    let rotation = log.rotate(log.prepare_rotation(now_ms).unwrap(), now_ms);
    let base = disk.open(&log.base_path(rotation), Open::Create).unwrap();
    write_all_at(&*base, 0, content).unwrap();
    log.finish_rewrite(rotation, now_ms).unwrap();
}

#[test]
fn what_is_written_reads_back() {
    let disk = sim();
    let log = create(&disk, OPTIONS);
    assert_eq!(set(&log, 0, "a"), 1);
    assert_eq!(set(&log, 3, "b"), 2);
    let two = [command(&["DEL", "a"]), command(&["SELECT", "5"]), command(&["DEL", "c"])].concat();
    assert_eq!(log.append(&two, 3, 5, 2), 3);
    let big = "x".repeat(100_000);
    assert_eq!(log.append(&command(&["SET", "big", &big]), 5, 5, 1), 4);
    assert_eq!(log.append(&[command(&["DEL", "big"]), command(&["DEL", &big])].concat(), 0, 0, 2), 5);
    assert_eq!(set(&log, 0, "z"), 6);
    assert_eq!((log.appended(), log.written(), log.durable()), (6, 0, 0));
    log.write(1_000);
    assert_eq!((log.written(), log.durable()), (6, 0));
    log.sync(1_000);
    assert_eq!(log.durable(), 6);
    drop(log);
    let log = reopen(&disk);
    assert_eq!((log.appended(), log.durable()), (6, 6));
    assert_eq!(set(&log, 0, "after"), 7);
    assert!(log.close(2_000));
    let (lines, recovered) = read(&disk).unwrap();
    let expected = [
        "1 0 SET a v",
        "2 3 SET b v",
        "3 3 DEL a",
        "3 5 DEL c",
        &format!("4 5 SET big {big}"),
        "5 0 DEL big",
        &format!("5 0 DEL {big}"),
        "6 0 SET z v",
        "7 0 SET after v",
    ];
    assert_eq!(lines, expected);
    assert_eq!((recovered.last_lsn, recovered.records, recovered.cut), (7, 7, None));
}

#[test]
fn a_rewrite_replaces_what_it_covers() {
    for archive in [false, true] {
        let disk = sim();
        let log = create(&disk, Options { archive, ..OPTIONS });
        set(&log, 0, "a");
        rewrite(&disk, &log, 1_100);
        assert_eq!(log.durable(), 1, "the base holds it");
        set(&log, 0, "b");
        log.write(1_200);
        // One that is given up leaves nothing but a new increment.
        let rotation = log.rotate(log.prepare_rotation(1_200).unwrap(), 1_200);
        disk.open(&log.base_path(rotation), Open::Create).unwrap();
        log.abort_rewrite(rotation);
        set(&log, 0, "c");
        assert!(log.close(1_300));
        drop(log);
        let (lines, recovered) = read(&disk).unwrap();
        assert_eq!((lines, recovered.last_lsn), (vec!["2 0 SET b v".to_string(), "3 0 SET c v".into()], 3));
        let mut files = disk.list(Path::new(DIR)).unwrap();
        files.sort();
        let expected = [
            "appendonly.aof.2.base.rdb",
            "appendonly.aof.2.incr.aof",
            "appendonly.aof.3.incr.aof",
            "appendonly.aof.manifest",
        ];
        assert_eq!(files, expected);
        let kept: &[&str] = if archive { &["appendonly.aof.1.incr.aof"] } else { &[] };
        assert_eq!(disk.list(Path::new("/d/aof/archive")).unwrap(), kept);
        let log = reopen(&disk);
        assert_eq!(log.appended(), 3);
        rewrite(&disk, &log, 3_000);
        assert!(log.close(3_000));
        drop(log);
        assert_eq!(reopen(&disk).appended(), 3, "numbers go on though no record is left");
    }
}

/// A log with a rotation, several batches of one and two transactions, and an orderly end: every byte of it is known to be durable.
fn sample(disk: &Arc<SimDisk>) {
    let log = create(disk, OPTIONS);
    for batch in 0..4 {
        set(&log, 0, &format!("a{batch}"));
        log.write(1_000 + batch * 200);
        log.append(&[command(&["DEL", "x"]), command(&["DEL", "y"])].concat(), 1, 1, 2);
        set(&log, 1, &format!("b{batch}"));
        log.write(1_000 + batch * 200);
        log.sync(1_000);
        if batch == 1 {
            log.rotate(log.prepare_rotation(1_500).unwrap(), 1_500);
        }
    }
    assert!(log.close(2_000));
}

#[test]
fn every_flipped_bit_is_detected() {
    let disk = sim();
    sample(&disk);
    let whole = read(&disk).unwrap();
    let mut damaged = 0;
    for name in ["appendonly.aof.manifest", "appendonly.aof.1.incr.aof", "appendonly.aof.2.incr.aof"] {
        let (bytes, path) = (get(&disk, name), Path::new(DIR).join(name));
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let place = format!("{name}, byte {at}, bit {bit}");
                assert!(disk.flip(&path, at, bit));
                match read(&disk) {
                    Err(Error::Damaged(_) | Error::Manifest { .. }) => damaged += 1,
                    Err(error) => panic!("{place}: {error}"),
                    Ok(_) => panic!("{place}: not noticed, or cut off though it was durable"),
                }
                if bit == 0 {
                    let report = check(&(Arc::clone(&disk) as _), Path::new(DIR), NAME);
                    assert!(report.is_err() || report.is_ok_and(|it| !it.is_sound()), "{place}");
                }
                assert!(disk.flip(&path, at, bit));
            }
        }
    }
    assert!(damaged > 8_000, "{damaged}");
    assert_eq!(read(&disk).unwrap().0, whole.0);
}

#[test]
fn a_torn_tail_is_cut_at_every_byte() {
    let disk = sim();
    let log = create(&disk, OPTIONS);
    set(&log, 0, "a");
    log.write(1_000);
    log.sync(1_000);
    set(&log, 0, "b");
    set(&log, 0, "c");
    log.write(1_010);
    drop(log);
    let name = "appendonly.aof.1.incr.aof";
    let bytes = get(&disk, name);
    let find = |text: &[u8]| (0..bytes.len()).filter(|at| bytes[*at..].starts_with(text)).collect::<Vec<_>>();
    let (marks, records) = (find(b"#M:"), find(b"#K:"));
    assert_eq!(records.len(), 2, "the last holds two transactions");
    // Where frames end: the torn ones are cut at the last of these.
    let mut ends = [marks.clone(), records.clone(), vec![bytes.len()]].concat();
    ends.sort();
    for len in marks[0]..bytes.len() {
        put(&disk, name, &bytes[..len]);
        let (lines, recovered) = read(&disk).unwrap();
        let end = *ends.iter().rfind(|end| **end <= len).unwrap();
        let whole = records.iter().filter(|start| **start < end).count();
        assert_eq!(lines.len(), [0, 1, 3][whole], "{len}");
        assert_eq!(
            recovered.cut.as_ref().map(|cut| (cut.offset, cut.bytes)),
            (end < len).then_some((end as u64, (len - end) as u64))
        );
        let strict = Reader::open(Arc::clone(&disk) as _, Path::new(DIR), NAME, false).unwrap().unwrap().finish();
        assert_eq!(strict.is_err(), end < len, "aof-load-truncated no");
    }
    assert_eq!(ends[ends.len() - 2], records[1], "the file ends with a record");
    // What was cut does not come back.
    put(&disk, name, &bytes[..bytes.len() - 1]);
    let log = reopen(&disk);
    assert_eq!(set(&log, 0, "new"), 2);
    log.close(2_000);
    drop(log);
    let (lines, recovered) = read(&disk).unwrap();
    assert_eq!((lines, recovered.cut), (vec!["1 0 SET a v".to_string(), "2 0 SET new v".into()], None));
}

/// Room that is made ahead of what is written is no part of the log, wherever it ends, and is gone where a file ends for good.
#[test]
fn room_behind_the_last_record_is_its_end() {
    let name = "appendonly.aof.1.incr.aof";
    let disk = sim();
    let log = create(&disk, OPTIONS);
    log.set_makes_room(true);
    set(&log, 0, "a");
    log.write(1_000);
    log.sync(1_000);
    let len = get(&disk, name).len();
    for key in ["b", "c"] {
        set(&log, 0, key);
        log.write(1_001);
        log.sync(1_001);
    }
    let bytes = get(&disk, name);
    assert_eq!((bytes.len(), bytes.last()), (len, Some(&b'#')), "the file has not become longer");
    let end = bytes.iter().rposition(|byte| *byte != b'#').unwrap() + 1;
    let increments = |disk: &SimDisk| get(disk, name).len();
    for len in (end..end + 100).filter(|len| *len != end + 1) {
        put(&disk, name, &bytes[..len]);
        for truncated in [true, false] {
            let reader = Reader::open(Arc::clone(&disk) as _, Path::new(DIR), NAME, truncated).unwrap().unwrap();
            let recovered = reader.finish().unwrap();
            assert_eq!(recovered.records, 3);
            let cut = recovered.cut.map(|cut| (cut.offset, cut.bytes, cut.room));
            assert_eq!(cut, (len > end).then_some((end as u64, (len - end) as u64, true)), "{len}");
        }
    }
    // Torn: what is not room is behind room, or the room is no longer whole.
    for (at, lsn) in [(end + 300, 3), (end - 1, 2)] {
        let mut torn = bytes.clone();
        torn[at] ^= 1;
        put(&disk, name, &torn);
        let recovered = read(&disk).unwrap().1;
        assert!(recovered.last_lsn == lsn && recovered.cut.is_some_and(|cut| !cut.room));
    }
    put(&disk, name, &bytes);
    let report = check(&(Arc::clone(&disk) as _), Path::new(DIR), NAME).unwrap();
    assert!(report.is_sound() && report.torn.is_none() && report.increments[0].records == 3);
    for moment in [Moment::Lsn(3), Moment::Time(9_000)] {
        restore(&*disk, Path::new(DIR), NAME, moment, empty_copy(&disk)).unwrap();
        let (lines, recovered) = read_from(&disk, COPY).unwrap();
        assert_eq!((lines.len(), recovered.cut), (3, None));
    }
    // A new start, a switch to the next file, and a close cut it off.
    drop(log);
    let log = reopen(&disk);
    assert_eq!(increments(&disk), end);
    log.set_makes_room(true);
    set(&log, 0, "d");
    log.write(2_000);
    assert!(increments(&disk) > end + 1000);
    let rotation = log.rotate(log.prepare_rotation(2_000).unwrap(), 2_000);
    set(&log, 0, "e");
    log.write(2_001);
    assert!(increments(&disk) < end + 1000);
    assert_eq!(get(&disk, &format!("appendonly.aof.{}.incr.aof", rotation.seq)).last(), Some(&b'#'));
    assert!(log.close(2_002));
    drop(log);
    let (lines, recovered) = read(&disk).unwrap();
    assert_eq!((lines.len(), recovered.cut), (5, None));
    // Where a closed log had records room is damage.
    let disk = sim();
    let log = create(&disk, OPTIONS);
    set(&log, 0, "a");
    log.write(1_000);
    let len = get(&disk, name).len();
    set(&log, 0, "b");
    assert!(log.close(1_001));
    let closed = get(&disk, name).len();
    put(&disk, name, &[&get(&disk, name)[..len], &vec![b'#'; closed - len]].concat());
    assert!(matches!(read(&disk), Err(Error::Damaged(damage)) if damage.lsn == 2));
    assert!(!check(&(disk as _), Path::new(DIR), NAME).unwrap().is_sound());
}

/// A log that was closed ends with a record. Cut off by hand, it loses that and no other; spoilt, it is damage.
#[test]
fn a_closed_log_ends_with_a_record() {
    let name = "appendonly.aof.1.incr.aof";
    let disk = sim();
    let log = create(&disk, OPTIONS);
    for key in ["a", "b", "c"] {
        set(&log, 0, key);
        log.write(1_000);
        log.sync(1_000);
    }
    assert!(log.close(5_000));
    drop(log);
    let bytes = get(&disk, name);
    let third = bytes.windows(3).rposition(|at| at == b"#K:").unwrap();
    let mut spoilt = bytes.clone();
    spoilt[third + 60] ^= 1;
    put(&disk, name, &spoilt);
    assert!(matches!(read(&disk), Err(Error::Damaged(damage)) if damage.lsn == 3));
    put(&disk, name, &bytes[..bytes.len() - 7]);
    let (lines, recovered) = read(&disk).unwrap();
    assert_eq!((lines.len(), recovered.cut.unwrap().offset), (2, third as u64));
    // The LSN is given anew: what proved that the old one was durable no longer holds, however long the file gets.
    let log = reopen(&disk);
    set(&log, 0, &"new".repeat(100));
    log.write(6_000);
    drop(log);
    let len = get(&disk, name).len();
    disk.flip(&Path::new(DIR).join(name), len - 1, 0);
    assert_eq!(read(&disk).unwrap().0.len(), 2, "it was never durable");
}

/// A moment of which the log knows on which side of a record it was; after a pause, too.
#[test]
fn a_moment_within_a_pause_is_found() {
    let disk = sim();
    let log = create(&disk, OPTIONS);
    for (key, ms) in [("a", 10_000), ("b", 20_000), ("c", 90_000)] {
        // The thread that writes looks from time to time.
        log.write(ms - 300);
        set(&log, 0, key);
        log.write(ms);
    }
    let at = |ms| restore(&*disk, Path::new(DIR), NAME, Moment::Time(ms), empty_copy(&disk)).unwrap().lsn;
    assert_eq!([9_000, 10_000, 19_700, 19_999, 20_000, 50_000, 89_000].map(at), [0, 1, 1, 1, 2, 2, 2]);
    assert_eq!(at(95_000), 3);
    log.close(99_000);
    assert_eq!([89_900, 90_000, 200_000].map(at), [2, 3, 3], "once it is closed, the end is known");
}

/// A sample log with a bit flipped in the second record of an increment: the disk, what the increment was, and where the record
/// begins.
fn with_second_record_spoilt(name: &str) -> (Arc<SimDisk>, Vec<u8>, usize) {
    let disk = sim();
    sample(&disk);
    let bytes = get(&disk, name);
    let second = bytes.windows(28).position(|at| at.starts_with(b"#K:") && at.ends_with(b":0000000000000002")).unwrap();
    disk.flip(&Path::new(DIR).join(name), second + 60, 0);
    (disk, bytes, second)
}

#[test]
fn damage_names_its_place() {
    let name = "appendonly.aof.1.incr.aof";
    let (disk, bytes, second) = with_second_record_spoilt(name);
    let Err(Error::Damaged(damage)) = read(&disk) else { panic!("not noticed") };
    assert_eq!((damage.path.as_path(), damage.offset), (Path::new(DIR).join(name).as_path(), second as u64));
    assert_eq!(damage.lsn, 2, "{damage}");
    // The report sees all that is whole.
    let report = check(&(Arc::clone(&disk) as _), Path::new(DIR), NAME).unwrap();
    assert!(!report.is_sound());
    let [first, last] = &report.increments[..] else { panic!("{report:?}") };
    assert_eq!((first.records, first.first_lsn, first.last_lsn, first.damage.len()), (4, 1, 6, 1));
    assert_eq!((last.records, last.first_lsn, last.last_lsn, last.damage.len()), (6, 7, 12, 0));
    // The end of a file that is missing is noticed too.
    let disk = sim();
    sample(&disk);
    put(&disk, name, &bytes[..second]);
    assert!(matches!(read(&disk), Err(Error::Damaged(damage)) if damage.lsn == 2));
}

#[test]
fn salvage_keeps_the_whole_part_and_deletes_nothing() {
    let name = "appendonly.aof.1.incr.aof";
    let (disk, _, second) = with_second_record_spoilt(name);
    let spoilt = get(&disk, name);
    let as_disk: Arc<dyn Disk> = Arc::clone(&disk) as _;
    let held = lock_dir(&*disk, Path::new(DIR), NAME).unwrap();
    let salvaged = salvage(&as_disk, Path::new(DIR), NAME, &held).unwrap().unwrap();
    assert_eq!(salvaged.damage.offset, second as u64);
    assert_eq!(salvage(&as_disk, Path::new(DIR), NAME, &held).unwrap(), None, "nothing is left to do");
    drop(held);
    assert_eq!(read(&disk).unwrap().0, ["1 0 SET a0 v"]);
    let names: Vec<_> = salvaged.aside.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(names, ["appendonly.aof.1.incr.aof.damaged", "appendonly.aof.2.incr.aof.damaged"]);
    assert_eq!([get(&disk, name), get(&disk, names[0])].concat(), spoilt);
    let log = reopen(&disk);
    assert_eq!(set(&log, 0, "on"), 2);
}

/// Without its seal a manifest looks like one of another server: it is believed only if no data is left out.
#[test]
fn a_manifest_that_was_cut_short_is_refused() {
    let disk = sim();
    sample(&disk);
    let text = String::from_utf8(get(&disk, "appendonly.aof.manifest")).unwrap();
    let lines = text.rfind('\n').unwrap();
    for end in 0..text.len() {
        put(&disk, "appendonly.aof.manifest", &text.as_bytes()[..end]);
        let all_named = end == lines || end == lines + 1;
        assert_eq!(read(&disk).is_ok(), all_named, "{}", &text[..end]);
    }
}

#[test]
fn two_servers_cannot_have_one_directory() {
    let disk = sim();
    let log = create(&disk, OPTIONS);
    assert!(matches!(lock_dir(&*disk, Path::new(DIR), NAME), Err(Error::Locked(_))));
    drop(log);
    assert!(lock_dir(&*disk, Path::new(DIR), NAME).is_ok());
}

#[test]
fn a_lost_manifest_is_not_taken_for_a_new_log() {
    let disk = sim();
    sample(&disk);
    disk.remove(&Path::new(DIR).join("appendonly.aof.manifest")).unwrap();
    let held = lock_dir(&*disk, Path::new(DIR), NAME).unwrap();
    let made = Log::create(Arc::clone(&disk) as _, Path::new(DIR), NAME, OPTIONS, held, 0, None);
    assert!(matches!(made, Err(Error::Missing(_))));
}

#[test]
fn a_full_disk_is_tried_again() {
    let disk = sim();
    let log = create(&disk, OPTIONS);
    set(&log, 0, "a");
    disk.set_faults(Faults { full: 1, ..Faults::default() });
    log.write(1_000);
    assert_eq!((log.state(), log.accepts_writes(), log.written()), (State::WriteFailed(28), false, 0));
    log.write(1_000);
    assert_eq!((log.sync(1_000), log.state()), (0, State::WriteFailed(28)));
    disk.set_faults(Faults::default());
    log.write(1_000);
    assert_eq!((log.state(), log.accepts_writes(), log.written()), (State::Healthy, true, 1));
    assert_eq!(log.sync(1_000), 1);
    drop(log);
    assert_eq!(read(&disk).unwrap().0, ["1 0 SET a v"]);
}

#[test]
fn after_a_failed_sync_only_a_rewrite_helps() {
    let disk = sim();
    let log = create(&disk, OPTIONS);
    set(&log, 0, "a");
    log.write(1_000);
    disk.set_faults(Faults { sync: 1, ..Faults::default() });
    assert_eq!((log.sync(1_000), log.state()), (0, State::SyncFailed(5)));
    disk.set_faults(Faults::default());
    set(&log, 0, "b");
    log.write(1_000);
    assert_eq!((log.sync(1_000), log.written(), log.accepts_writes()), (0, 1, false));
    assert!(!log.sync_due(SyncMode::Always, 9_000_000) && !log.close(1_000));
    let rotation = log.rotate(log.prepare_rotation(1_000).unwrap(), 1_000);
    assert_eq!(rotation.lsn, 2);
    set(&log, 0, "c");
    let base = disk.open(&log.base_path(rotation), Open::Create).unwrap();
    write_all_at(&*base, 0, b"REDIS").unwrap();
    log.finish_rewrite(rotation, 1_000).unwrap();
    assert_eq!((log.state(), log.durable()), (State::Healthy, 2));
    assert!(log.close(1_000));
    drop(log);
    disk.power_cycle();
    let (lines, recovered) = read(&disk).unwrap();
    assert_eq!((lines, recovered.last_lsn), (vec!["3 0 SET c v".to_string()], 3));
}

#[test]
fn a_full_buffer_stops_writers_until_it_is_written() {
    let disk = sim();
    let log = create(&disk, Options { buffer_max: 1_000, ..OPTIONS });
    while log.accepts_writes() {
        set(&log, 0, "a");
    }
    assert_eq!(log.state(), State::Full);
    let appended = log.appended();
    assert!((20..60).contains(&appended));
    log.write(1_000);
    assert_eq!((log.state(), log.written(), log.buffered_bytes()), (State::Healthy, appended, 0));
}

#[test]
fn syncs_are_due_as_the_mode_says() {
    let disk = sim();
    let log = create(&disk, OPTIONS);
    let due = |now_ms| [SyncMode::Always, SyncMode::EverySec, SyncMode::No].map(|mode| log.sync_due(mode, now_ms));
    assert_eq!(due(90_000), [false; 3], "nothing is written");
    set(&log, 0, "a");
    assert_eq!(due(90_000), [false; 3]);
    log.write(1_000);
    assert_eq!(due(1_000), [true, false, false]);
    assert_eq!(due(1_800), [true, true, false]);
    assert_eq!(due(31_000), [true; 3]);
    assert_eq!(due(500), [true; 3], "a clock that was set back");
    log.want_durable(1);
    assert_eq!(due(1_000), [true; 3]);
    log.sync(1_000);
    assert_eq!(due(90_000), [false; 3]);
}

#[test]
fn a_sleeping_writer_is_woken_once() {
    let disk = sim();
    let log = create(&disk, OPTIONS);
    log.write(1_000);
    assert!(!log.claim_wake(false), "it does not sleep");
    assert!(log.may_sleep());
    set(&log, 0, "a");
    assert!(log.claim_wake(false));
    assert!(!log.claim_wake(false));
    assert!(!log.may_sleep(), "there is something to write");
    assert!(!log.claim_wake(false));
}

#[test]
fn the_hook_is_called_when_more_is_durable_and_when_the_state_changes() {
    let disk = sim();
    let log = create(&disk, OPTIONS);
    let calls = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&calls);
    log.set_hook(Box::new(move || _ = counter.fetch_add(1, Ordering::Relaxed)));
    let count = || calls.load(Ordering::Relaxed);
    set(&log, 0, "a");
    log.write(1_000);
    assert_eq!(count(), 0);
    log.sync(1_000);
    assert_eq!(count(), 1);
    log.sync(1_000);
    assert_eq!(count(), 1);
    set(&log, 0, "b");
    disk.set_faults(Faults { full: 1, ..Faults::default() });
    log.write(1_000);
    assert_eq!(count(), 2);
}

#[test]
fn a_moment_is_restored_from_the_archive_and_the_log() {
    let disk = sim();
    let log = create(&disk, Options { archive: true, ..OPTIONS });
    // Ten transactions, one each second; the log is rewritten after the 4th and the 7th.
    for number in 1..=10 {
        set(&log, 0, &format!("k{number}"));
        log.write(10_000 + number * 1_000);
        log.sync(10_000 + number * 1_000);
        if number == 4 || number == 7 {
            rewrite(&disk, &log, 10_500 + number * 1_000);
        }
    }
    log.close(21_000);
    let from = Path::new(DIR);
    let base_of = |lsn| [7, 4, 0].into_iter().find(|base| *base <= lsn).unwrap();
    let lsns = (0..=10).map(|lsn| (Moment::Lsn(lsn), lsn));
    let times = (0..=10).map(|lsn| (Moment::Time(10_900 + lsn * 1_000), lsn));
    for (moment, lsn) in lsns.chain(times) {
        let copy = empty_copy(&disk);
        assert_eq!(restore(&*disk, from, NAME, moment, copy).unwrap().lsn, lsn, "{moment:?}");
        let (lines, recovered) = read_from(&disk, COPY).unwrap();
        let expected: Vec<_> = (base_of(lsn) + 1..=lsn).map(|n| format!("{n} 0 SET k{n} v")).collect();
        assert_eq!((lines, recovered.last_lsn), (expected, lsn), "{moment:?}");
        let reader = Reader::open(Arc::clone(&disk) as _, copy, NAME, false).unwrap().unwrap();
        let base = reader.base().map(|base| read_file(&*disk, &base.path).unwrap());
        assert_eq!(base, (base_of(lsn) > 0).then(|| format!("REDIS state at {}", base_of(lsn)).into_bytes()));
        assert!(restore(&*disk, from, NAME, moment, copy).is_err(), "not over an existing one");
    }
    for moment in [Moment::Lsn(11), Moment::Time(500)] {
        let missing = restore(&*disk, from, NAME, moment, empty_copy(&disk));
        assert!(matches!(missing, Err(Error::Missing(_))), "{moment:?}");
    }
}

#[test]
fn a_backup_is_a_log_of_its_own() {
    let disk = sim();
    let log = create(&disk, OPTIONS);
    set(&log, 0, "a");
    rewrite(&disk, &log, 1_000);
    set(&log, 0, "b");
    log.begin_backup(Path::new(COPY)).unwrap();
    let base = Path::new("/d/copy/appendonly.aof.2.base.rdb");
    assert_eq!(log.backup_files(), [base]);
    assert!(log.begin_backup(Path::new(COPY)).is_err(), "one at a time");
    // What a rewrite removes meanwhile belongs to the backup nevertheless.
    rewrite(&disk, &log, 1_000);
    set(&log, 0, "c");
    let rotation = log.rotate(log.prepare_rotation(1_000).unwrap(), 1_000);
    set(&log, 0, "d");
    let (lsn, files) = log.seal_backup(rotation, 1_000).unwrap();
    assert_eq!((lsn, files.len()), (3, 4));
    assert!(log.seal_backup(rotation, 1_000).is_err(), "it is sealed");
    assert!(log.begin_backup(Path::new(COPY)).is_err(), "not over an existing one");
    set(&log, 0, "e");
    log.close(1_000);
    rewrite(&disk, &log, 1_000);
    disk.power_cycle();
    let (lines, recovered) = read_from(&disk, COPY).unwrap();
    assert_eq!((lines, recovered.last_lsn), (vec!["2 0 SET b v".to_string(), "3 0 SET c v".into()], 3));
    assert_eq!(read_file(&*disk, base).unwrap(), b"REDIS state at 1");
    // One that is given up leaves an empty directory, in which the next may begin.
    log.begin_backup(empty_copy(&disk)).unwrap();
    log.abort_backup().unwrap();
    assert_eq!(disk.list(Path::new(COPY)).unwrap(), [""; 0]);
    log.begin_backup(Path::new(COPY)).unwrap();
}

#[test]
fn the_archive_keeps_what_it_should() {
    let archive = |disk: &SimDisk| {
        let mut files = disk.list(Path::new("/d/aof/archive")).unwrap();
        files.sort();
        files.iter().map(|name| name["appendonly.aof.".len()..].to_string()).collect::<Vec<_>>()
    };
    let disk = sim();
    let log = create(&disk, Options { archive: true, ..OPTIONS });
    for number in 1..=3 {
        set(&log, 0, "a");
        rewrite(&disk, &log, number * 10_000);
    }
    let all = ["1.incr.aof", "2.base.rdb", "2.incr.aof", "3.base.rdb", "3.incr.aof"];
    assert_eq!(archive(&disk), all);
    assert_eq!(log.prune_archive(u64::MAX, 10_000).unwrap(), 0);
    assert_eq!(archive(&disk), all);
    assert_eq!(log.prune_archive(u64::MAX, 10_001).unwrap(), 1, "replaced at 10,000");
    assert_eq!(archive(&disk), all[1..]);
    let newest: usize = all[3..].iter().map(|name| get(&disk, &format!("archive/appendonly.aof.{name}")).len()).sum();
    assert_eq!(log.prune_archive(newest as u64, 0).unwrap(), 2);
    assert_eq!(archive(&disk), all[3..]);
    assert_eq!(log.prune_archive(newest as u64 - 1, 0).unwrap(), 2);
    assert_eq!(archive(&disk), [""; 0]);
    log.set_archive(false);
    rewrite(&disk, &log, 50_000);
    assert_eq!(archive(&disk), [""; 0]);
}

#[test]
fn a_log_of_one_file_is_taken_over() {
    let disk = sim();
    let old = disk.open(Path::new("/d/appendonly.aof"), Open::Create).unwrap();
    write_all_at(&*old, 0, &command(&["SET", "old", "1"])).unwrap();
    let taken = || adopt(&*disk, Path::new("/d"), Path::new(DIR), NAME).unwrap();
    assert!(taken());
    assert!(!taken(), "only once");
    let reader = Reader::open(Arc::clone(&disk) as _, Path::new(DIR), NAME, true).unwrap().unwrap();
    assert_eq!(reader.base().unwrap().path, Path::new(DIR).join(NAME));
    // A crash after the manifest.
    disk.rename(&Path::new(DIR).join(NAME), Path::new("/d/appendonly.aof")).unwrap();
    assert!(taken());
    let log = reopen(&disk);
    set(&log, 0, "new");
    log.close(1_000);
    assert!(!taken());
    assert_eq!(read(&disk).unwrap().0, ["1 0 SET new v"]);
}

#[test]
fn increments_are_switched_to_in_the_order_of_their_numbers() {
    let disk = sim();
    let log = create(&disk, OPTIONS);
    let first = log.prepare_rotation(1_000).unwrap();
    assert!(log.prepare_rotation(1_000).is_err(), "one after the other");
    drop(first);
    let second = log.prepare_rotation(1_000).unwrap();
    assert_eq!(log.rotate(second, 1_000).seq, 3);
    let third = log.prepare_rotation(1_000).unwrap();
    set(&log, 0, "a");
    assert_eq!(log.rotate(third, 1_000).seq, 4);
    log.close(1_000);
    drop(log);
    assert_eq!(read(&disk).unwrap().0, ["1 0 SET a v"]);
}

/// All threads that a server has, at once. What they wrote is there, each thread's in its order.
#[test]
fn threads_meet_in_the_log() {
    const EACH: usize = 3_000;
    let disk = sim();
    let log = create(&disk, Options { buffer_max: 1 << 30, ..OPTIONS });
    let busy = AtomicUsize::new(3);
    // Stands for the shards: a rotation holds all of them.
    let shards = std::sync::RwLock::new(());
    let commits: std::sync::Mutex<BTreeMap<Lsn, String>> = std::sync::Mutex::default();
    let working = || busy.load(Ordering::Relaxed) > 0;
    // Half of the records come after the rewrite, however busy the machine is.
    let rewritten = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for thread in 0..3u32 {
            let (log, shards, commits, busy, rewritten) = (&log, &shards, &commits, &busy, &rewritten);
            scope.spawn(move || {
                for number in 0..EACH {
                    while number == EACH / 2 && !rewritten.load(Ordering::Relaxed) {
                        std::thread::yield_now();
                    }
                    let value = "v".repeat(if number % 500 == 0 { 50_000 } else { number % 90 });
                    let held = shards.read().unwrap();
                    let lsn = log.append(&command(&["SET", &number.to_string(), &value]), thread, thread, 1);
                    drop(held);
                    let line = format!("{lsn} {thread} SET {number} {value}");
                    assert_eq!(commits.lock().unwrap().insert(lsn, line), None);
                }
                busy.fetch_sub(1, Ordering::Relaxed);
            });
        }
        scope.spawn(|| {
            while working() {
                log.write(1_000);
            }
        });
        scope.spawn(|| {
            while working() {
                log.sync(1_000);
                std::thread::yield_now();
            }
        });
        scope.spawn(|| {
            let mut covered = 0;
            while working() {
                let next = log.prepare_rotation(1_000).unwrap();
                let held = shards.write().unwrap();
                let rotation = log.rotate(next, 1_000);
                drop(held);
                if covered == 0 && rotation.lsn > 1_000 {
                    let base = disk.open(&log.base_path(rotation), Open::Create).unwrap();
                    write_all_at(&*base, 0, b"REDIS").unwrap();
                    log.finish_rewrite(rotation, 1_000).unwrap();
                    covered = rotation.lsn;
                    rewritten.store(true, Ordering::Relaxed);
                }
                log.write(1_000);
            }
        });
    });
    assert!(log.close(1_000));
    drop(log);
    disk.power_cycle();
    let (lines, recovered) = read(&disk).unwrap();
    assert_eq!(recovered.last_lsn as usize, 3 * EACH);
    let commits = commits.into_inner().unwrap();
    assert!(lines.len() > 1_000 && lines.iter().eq(commits.values().skip(commits.len() - lines.len())));
}

proptest! {
    /// Whatever the files hold, reading ends, without a panic, and a check agrees with a start.
    #[test]
    fn any_bytes_are_read(places in prop::collection::vec((0usize..3, any::<prop::sample::Index>(), prop::collection::vec(any::<u8>(), 0..40)), 1..4)) {
        let disk = sim();
        sample(&disk);
        let names = ["appendonly.aof.manifest", "appendonly.aof.1.incr.aof", "appendonly.aof.2.incr.aof"];
        for (file, at, bytes) in places {
            let mut content = get(&disk, names[file]);
            let at = at.index(content.len().max(1)).min(content.len());
            let end = content.len().min(at + bytes.len() / 2);
            content.splice(at..end, bytes);
            put(&disk, names[file], &content);
        }
        let starts = read(&disk).is_ok();
        let sound = check(&(Arc::clone(&disk) as _), Path::new(DIR), NAME).is_ok_and(|report| report.is_sound());
        prop_assert_eq!(starts, sound);
    }
}

/// A frame that holds transactions before and after a moment is copied in part.
#[test]
fn a_moment_within_a_frame_is_restored() {
    let disk = sim();
    let log = create(&disk, OPTIONS);
    set(&log, 0, "first");
    log.write(1_000);
    set(&log, 3, "a");
    log.append(&[command(&["DEL", "a"]), command(&["SELECT", "5"]), command(&["DEL", "c"])].concat(), 3, 5, 2);
    set(&log, 5, "d");
    log.close(2_000);
    let all = read(&disk).unwrap().0;
    assert_eq!(all, ["1 0 SET first v", "2 3 SET a v", "3 3 DEL a", "3 5 DEL c", "4 5 SET d v"]);
    for lsn in 0..=4 {
        restore(&*disk, Path::new(DIR), NAME, Moment::Lsn(lsn), empty_copy(&disk)).unwrap();
        let (lines, recovered) = read_from(&disk, COPY).unwrap();
        let kept = all.iter().filter(|line| line.split(' ').next().unwrap().parse::<Lsn>().unwrap() <= lsn);
        assert!(lines.iter().eq(kept), "{lines:?}");
        assert_eq!((recovered.last_lsn, recovered.cut), (lsn, None));
    }
}

/// What the fixtures of this version hold, not closed yet.
fn fixture(makes_room: bool) -> (Arc<SimDisk>, Log) {
    let disk = sim();
    let log = create(&disk, OPTIONS);
    log.set_makes_room(makes_room);
    set(&log, 0, "covered");
    // An RDB file without keys or checksum.
    rewrite_as(&disk, &log, b"REDIS0010\xff\0\0\0\0\0\0\0\0", 1_700_000_000_000);
    set(&log, 0, "plain");
    log.append(&[command(&["DEL", "a"]), command(&["SELECT", "2"]), command(&["DEL", "b"])].concat(), 0, 2, 2);
    log.append(b"*2\r\n$3\r\nDEL\r\n$4\r\n\xff\0\r\n\r\n", 2, 2, 1);
    log.rotate(log.prepare_rotation(1_700_000_001_000).unwrap(), 1_700_000_001_000);
    set(&log, 9, "after the rotation");
    (disk, log)
}

/// Files of older formats, as they were once written: they must be readable for ever, and are gone on from in a new file. Those of
/// `v1` have marks behind the batches and at the end, in `v1-closed` these stand before; `v2` has manifests that begin with their checksum;
/// `v2-seal` is what is written now, byte by byte. `KELDA_WRITE_FIXTURE=1` writes it anew.
#[test]
fn old_formats_stay_readable() {
    let fixtures = ["v1", "v1-closed", "v2", "v2-room", "v2-seal", "v2-seal-room"]
        .map(|name| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name));
    let (disk, log) = fixture(false);
    assert!(log.close(1_700_000_002_000));
    let files_of = |disk: &SimDisk| {
        let files = disk.list(Path::new(DIR)).unwrap();
        files.into_iter().map(|name| (name.clone(), get(disk, &name))).collect::<BTreeMap<_, _>>()
    };
    let written = files_of(&disk);
    // As a server leaves it that is killed; shortened, for all that matters is that the room is there.
    let (disk, log) = fixture(true);
    log.write(1_700_000_002_000);
    log.sync(1_700_000_002_000);
    let mut killed = files_of(&disk);
    killed.values_mut().for_each(|bytes| bytes.truncate(2000));
    if std::env::var_os("KELDA_WRITE_FIXTURE").is_some() {
        for (dir, files) in fixtures[4..].iter().zip([&written, &killed]) {
            std::fs::create_dir_all(dir).unwrap();
            files.iter().for_each(|(name, bytes)| std::fs::write(dir.join(name), bytes).unwrap());
        }
    }
    let kept = fixtures.map(|fixture| {
        let files = std::fs::read_dir(&fixture).unwrap().map(|entry| entry.unwrap());
        let named = files.map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap()));
        named.collect::<BTreeMap<_, _>>()
    });
    assert_eq!((written, killed), (kept[4].clone(), kept[5].clone()));
    for (at, files) in kept.into_iter().enumerate() {
        let disk = sim();
        files.iter().for_each(|(name, bytes)| put(&disk, name, bytes));
        let (lines, recovered) = read(&disk).unwrap();
        let mut expected =
            vec!["2 0 SET plain v", "3 0 DEL a", "3 2 DEL b", "4 2 DEL \u{fffd}\0\r\n", "5 9 SET after the rotation v"];
        assert_eq!(lines, expected);
        assert_eq!((recovered.last_lsn, recovered.cut.map(|cut| cut.room)), (5, [3, 5].contains(&at).then_some(true)));
        let log = reopen(&disk);
        set(&log, 1, "new");
        set(&log, 1, "newer");
        assert!(log.close(1_700_000_003_000));
        drop(log);
        disk.power_cycle();
        expected.extend(["6 1 SET new v", "7 1 SET newer v"]);
        assert_eq!(read(&disk).unwrap().0, expected);
        let now = files_of(&disk);
        let changed = files.iter().filter(|(name, bytes)| name.ends_with(".incr.aof") && now.get(*name) != Some(bytes));
        let (changed, new) = (changed.count(), now.len() - files.len());
        assert_eq!((changed, new), if at >= 2 { (1, 0) } else { (0, 1) }, "{at}");
    }
}
