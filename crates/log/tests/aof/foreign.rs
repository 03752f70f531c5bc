//! Files of other servers: read, torn, and gone on from.

use super::*;

#[test]
fn files_of_other_servers_are_read() {
    let disk = sim();
    let manifest = "file appendonly.aof.1.base.aof seq 1 type b\nfile \"appendonly.aof.1.incr.aof\" seq 1 type i new key\n\
                    # a comment\nfile appendonly.aof.2.incr.aof seq 2 type i\n";
    let first = [
        b"#TS:1700000000\r\n".to_vec(),
        command(&["SELECT", "2"]),
        command(&["SET", "a", "1"]),
        command(&["MULTI"]),
        command(&["DEL", "a"]),
        command(&["select", "0"]),
        command(&["DEL", "b"]),
        command(&["EXEC"]),
    ]
    .concat();
    let second = [command(&["SELECT", "1"]), command(&["SET", "c", "1"])].concat();
    put(&disk, "appendonly.aof.1.base.aof", &command(&["SET", "base", "1"]));
    put(&disk, "appendonly.aof.1.incr.aof", &first);
    put(&disk, "appendonly.aof.2.incr.aof", &second);
    put(&disk, "appendonly.aof.manifest", manifest.as_bytes());
    let expected = ["0 2 SET a 1", "0 2 DEL a", "0 0 DEL b", "0 1 SET c 1"];
    assert_eq!(read(&disk).unwrap().0, expected);
    let reader = Reader::open(Arc::clone(&disk) as _, Path::new(DIR), NAME, true).unwrap().unwrap();
    let base = reader.base().unwrap();
    assert!(!base.rdb);
    let mut base = FileReader::open(&*disk, &base.path, 0).unwrap();
    let only = command(&["SET", "base", "1"]);
    assert!(matches!(base.next_plain().unwrap(), Some(Entry::Record(record)) if record.body == only));
    assert!(base.next_plain().unwrap().is_none());

    // A torn end is cut where the last command or transaction ends.
    let select = command(&["SELECT", "1"]).len();
    for len in 0..second.len() {
        put(&disk, "appendonly.aof.2.incr.aof", &second[..len]);
        let (lines, recovered) = read(&disk).unwrap();
        assert_eq!(lines, expected[..3]);
        let whole = if len < select { 0 } else { select };
        assert_eq!(recovered.cut.map_or(len, |cut| cut.offset as usize), whole, "{len}");
    }
    // Elsewhere it is damage.
    put(&disk, "appendonly.aof.2.incr.aof", &second);
    put(&disk, "appendonly.aof.1.incr.aof", &first[..first.len() - 1]);
    assert!(matches!(read(&disk), Err(Error::Damaged(damage)) if damage.what.starts_with("Unexpected end of file")));
    put(&disk, "appendonly.aof.1.incr.aof", b"*1\r\n+what\r\n");
    assert!(matches!(read(&disk), Err(Error::Damaged(damage)) if damage.offset == 0));

    // We go on in a file of our own.
    put(&disk, "appendonly.aof.1.incr.aof", &first);
    let log = reopen(&disk);
    assert_eq!(set(&log, 4, "ours"), 1);
    log.close(1_000);
    drop(log);
    let (lines, recovered) = read(&disk).unwrap();
    assert_eq!(lines[..4], expected);
    assert_eq!((lines[4].as_str(), recovered.last_lsn), ("1 4 SET ours v", 1));
}

/// A file of our own behind a plain one proves nothing about it before it has a record: the plain one, perhaps put in its place
/// since, may still end in a torn tail, which is cut off for good.
#[test]
fn a_plain_file_may_be_torn_while_ours_behind_it_is_empty() {
    let disk = sim();
    let (whole, torn) = (command(&["SET", "a", "1"]), b"*2\r\n$3\r\nDEL\r\n$1\r\n");
    put(&disk, "appendonly.aof.manifest", b"file appendonly.aof.1.incr.aof seq 1 type i\n");
    for room in [0, 3_000] {
        put(&disk, "appendonly.aof.1.incr.aof", &whole);
        let log = reopen(&disk);
        assert!(log.close(1_000));
        drop(log);
        let ours = get(&disk, "appendonly.aof.2.incr.aof");
        put(&disk, "appendonly.aof.2.incr.aof", &[&ours[..], &vec![b'#'; room]].concat());
        put(&disk, "appendonly.aof.1.incr.aof", &[&whole[..], torn].concat());
        assert_eq!(read(&disk).unwrap().0, ["0 0 SET a 1"]);
        let log = reopen(&disk);
        assert_eq!(get(&disk, "appendonly.aof.1.incr.aof"), whole);
        drop(log);
    }
    // With a record behind it, it is damage.
    let log = reopen(&disk);
    assert_eq!(set(&log, 0, "ours"), 1);
    assert!(log.close(2_000));
    drop(log);
    put(&disk, "appendonly.aof.1.incr.aof", &[&whole[..], torn].concat());
    assert!(matches!(read(&disk), Err(Error::Damaged(damage)) if damage.what.starts_with("Unexpected end of file")));
    put(&disk, "appendonly.aof.1.incr.aof", &whole);
    assert_eq!(read(&disk).unwrap().0, ["0 0 SET a 1", "1 0 SET ours v"]);
}

#[test]
fn another_server_may_have_gone_on_in_our_file() {
    let disk = sim();
    let log = create(&disk, OPTIONS);
    set(&log, 3, "ours");
    log.close(1_000);
    drop(log);
    let name = "appendonly.aof.1.incr.aof";
    let ours = get(&disk, name);
    let theirs = [command(&["SELECT", "1"]), command(&["SET", "theirs", "1"])].concat();
    let select = command(&["SELECT", "1"]).len();
    let room = [&[][..], &[b'#'; 2000]];
    for (len, room) in (select..=theirs.len()).flat_map(|len| room.map(|room| (len, room))) {
        put(&disk, name, &[&ours[..], room, &theirs[..len]].concat());
        let (lines, recovered) = read(&disk).unwrap();
        let all = ["1 3 SET ours v", "0 1 SET theirs 1"];
        assert_eq!(lines, if len == theirs.len() { &all[..] } else { &all[..1] });
        assert_eq!(recovered.cut.is_some(), len != select && len != theirs.len());
    }
    let log = reopen(&disk);
    assert_eq!(set(&log, 0, "again ours"), 2);
    log.close(2_000);
    drop(log);
    assert_eq!(read(&disk).unwrap().0, ["1 3 SET ours v", "0 1 SET theirs 1", "2 0 SET again ours v"]);
}
