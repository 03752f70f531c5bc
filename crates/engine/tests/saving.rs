//! Saving in the background, with a thread that serves and a disk in memory. The replies are those of Redis and Valkey.

mod disk;

use disk::Memory;
use kelda_engine::saving::Kind;
use kelda_engine::testing::Console;
use kelda_log::rdb::RdbFile;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::thread::JoinHandle;

struct Scene {
    console: Console,
    disk: Arc<Memory>,
    saver: Option<JoinHandle<()>>,
}

impl Scene {
    fn new(settings: &[(&str, &str)]) -> Scene {
        let (console, disk) = (Console::new(settings), Arc::new(Memory::default()));
        let (engine, files) = (console.engine.clone(), disk.clone());
        engine.saves.open(&engine);
        let saver = std::thread::spawn(move || engine.saves.serve(&engine, &*files, &|| None));
        let mut scene = Scene { console, disk, saver: Some(saver) };
        scene.console.ask("a", "BGSAVE");
        scene.wait();
        scene
    }

    /// Until nothing is being saved.
    fn wait(&self) {
        while self.console.engine.saves.is_running(None) {
            std::thread::yield_now();
        }
    }

    fn files(&self) -> Vec<String> {
        self.disk.files.lock().expect("no panic").keys().cloned().collect()
    }

    /// Keys in the snapshot.
    fn saved(&self) -> usize {
        let file = self.disk.files.lock().expect("no panic").get("dump.rdb").cloned().expect("a snapshot");
        let bytes = file.0.lock().expect("no panic").clone();
        let mut file = RdbFile::open(&bytes[..]).expect("an RDB file");
        let mut keys = 0;
        while let Some(block) = file.next_block().expect("it is whole") {
            keys += block.entries().len();
        }
        keys
    }

    fn info(&mut self, name: &str) -> String {
        let text = self.console.ask("a", "INFO persistence");
        let field = text.split(' ').find_map(|field| field.strip_prefix(&format!("{name}:")).map(str::to_owned));
        field.unwrap_or_else(|| panic!("{name} in {text}"))
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.console.engine.saves.end();
        if let Some(saver) = self.saver.take() {
            assert!(saver.join().is_ok() || std::thread::panicking());
        }
    }
}

/// Each key takes an hour, so that a job lasts until it is cancelled.
const SLOW: &str = "CONFIG SET rdb-key-save-delay 2000000000 => +OK";
const FAST: &str = "CONFIG SET rdb-key-save-delay 0 => +OK";

#[test]
fn a_snapshot_has_what_was_there_when_it_was_asked_for() {
    let mut scene = Scene::new(&[("save", "\"\""), ("appendonly", "no")]);
    assert_eq!((scene.files(), scene.saved()), (vec!["dump.rdb".to_string()], 0));
    scene.console.check("MSET a 1 b 2 c 3 => +OK\n SELECT 2 => +OK\n SET d 4 => +OK");
    assert_eq!(scene.info("rdb_changes_since_last_save"), "4");
    scene.console.check(SLOW);
    scene.console.check(
        "BGSAVE => +Background saving started
         SET e 5 => +OK
         FLUSHDB => +OK
         DEL a => :0
         SET a 7 => +OK
         BGSAVE => -ERR Background save already in progress
         BGSAVE SCHEDULE => -ERR Background save already in progress
         SAVE => -ERR Background save already in progress
         BGREWRITEAOF => +Background append only file rewriting scheduled",
    );
    assert_eq!((scene.info("rdb_bgsave_in_progress"), scene.info("aof_rewrite_scheduled")), ("1".into(), "1".into()));
    assert_eq!(scene.info("current_save_keys_total"), "4");
    scene.console.clock.advance_ms(5_000);
    scene.console.check(FAST);
    scene.wait();
    assert_eq!((scene.files(), scene.saved()), (vec!["dump.rdb".to_string()], 4));
    scene.console.check("LASTSAVE => :1767225605\n DBSIZE => :1");
    // Those after the instant.
    assert_eq!(scene.info("rdb_changes_since_last_save"), "4");
    assert_eq!((scene.info("rdb_last_bgsave_status"), scene.info("rdb_saves")), ("ok".into(), "2".into()));
}

#[test]
fn a_snapshot_can_be_cancelled_and_scheduled() {
    let mut scene = Scene::new(&[("save", "\"\"")]);
    scene.console.check("MSET a 1 b 2 c 3 => +OK");
    scene.console.check(SLOW);
    scene.console.check(
        "BGSAVE CANCEL => -ERR Background saving is currently not in progress or scheduled
         BGSAVE CANCEL CANCEL => -ERR syntax error
         BGSAVE => +Background saving started
         BGSAVE CANCEL => +Background saving cancelled",
    );
    assert_eq!(scene.info("rdb_bgsave_in_progress"), "0");
    assert_eq!(scene.info("rdb_last_bgsave_status"), "ok");
    scene.console.check("BGSAVE => +Background saving started");
    scene.console.check(FAST);
    while scene.saved() != 3 {
        std::thread::yield_now();
    }
    scene.wait();
    assert_eq!(scene.files(), ["dump.rdb"]);
    // One that FLUSHALL makes useless is given up.
    scene.console.check(SLOW);
    scene.console.check("BGSAVE => +Background saving started\n FLUSHALL => +OK");
    assert_eq!(scene.info("rdb_bgsave_in_progress"), "0");
    scene.wait();
    assert_eq!(scene.saved(), 3);
    scene.console.check(FAST);
    scene.console.check("MSET a 1 b 2 c 3 => +OK");
    // In a transaction it is scheduled.
    scene.console.check("SET d 4 => +OK\n MULTI => +OK\n BGSAVE => +QUEUED\n EXEC => *1 +Background saving scheduled");
    while scene.saved() != 4 {
        std::thread::yield_now();
    }
}

#[test]
fn failures_are_told_and_stop_writes() {
    let mut scene = Scene::new(&[("save", "3600 1")]);
    scene.disk.full.store(true, SeqCst);
    scene.console.check("SET a 1 => +OK\n BGSAVE => +Background saving started");
    scene.wait();
    let misconf = "-MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk. Commands \
                   that may modify the data set are disabled, because this instance is configured to report errors during \
                   writes if RDB snapshotting fails (stop-writes-on-bgsave-error option). Please check the Redis logs for \
                   details about the RDB error.";
    assert_eq!(scene.info("rdb_last_bgsave_status"), "err");
    scene.console.check(&format!(
        "SET a 2 => {misconf}
         PING => {misconf}
         EVAL \"return redis.call('get', KEYS[1])\" 1 a => $1 1
         GET a => $1 1
         CONFIG SET stop-writes-on-bgsave-error no => +OK
         SET a 3 => +OK
         CONFIG SET stop-writes-on-bgsave-error yes => +OK
         SET a 4 => {misconf}"
    ));
    scene.disk.full.store(false, SeqCst);
    scene.console.check("BGSAVE => +Background saving started");
    scene.wait();
    scene.console.check("SET a 5 => +OK");
    assert_eq!((scene.saved(), scene.info("rdb_last_bgsave_status")), (1, "ok".into()));
}

#[test]
fn rules_save_by_themselves() {
    let mut scene = Scene::new(&[("save", "10 3")]);
    scene.console.check("MSET a 1 b 2 => +OK");
    scene.console.advance_ms(20_000);
    assert!(!scene.console.engine.saves.is_running(Some(Kind::Rdb)));
    assert_eq!(scene.saved(), 0);
    scene.console.check("SET c 3 => +OK");
    scene.console.advance_ms(200);
    while scene.saved() != 3 {
        std::thread::yield_now();
    }
    scene.wait();
    assert_eq!(scene.info("rdb_changes_since_last_save"), "0");
}
