//! `kelda-history`: sessions at work while the server is killed and started again and again, and the proof that all they
//! saw is strictly serializable. Ends with an error and the first anomalies if it is not; the whole history is in a file
//! then.

use kelda_sim::client::Client;
use kelda_sim::history::sessions::{Run, Session, read_all};
use kelda_sim::history::{History, Outcome, check};
use kelda_sim::rng::Rng;
use kelda_sim::server::{Kind, Server};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const USAGE: &str = "\
kelda-history [--server PROGRAM] [--seconds N] [--sessions N] [--threads N] [--seed S] [--fsync MODE] [--clean yes]
  --seconds: how long (15); --sessions: connections at once (24); --threads: of the server (4);
  --seed: of what the sessions do, though not of how they meet; --fsync: appendfsync (always; other modes lose what
  was acknowledged, and this program says so); --clean yes: the server is asked to end rather than killed";

/// A life of the server, in ms, at most.
const LIFE_MS: u64 = 800;

struct Options {
    server: PathBuf,
    duration: Duration,
    sessions: u64,
    threads: String,
    seed: u64,
    fsync: String,
    clean: bool,
}

fn options() -> Option<Options> {
    let mut options = Options {
        server: Kind::Kelda.program(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").as_path()).unwrap_or_default(),
        duration: Duration::from_secs(15),
        sessions: 24,
        threads: "4".into(),
        seed: SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_micros() as u64,
        fsync: "always".into(),
        clean: false,
    };
    let mut args = std::env::args().skip(1);
    while let Some(name) = args.next() {
        let value = args.next()?;
        match name.as_str() {
            "--server" => options.server = value.into(),
            "--seconds" => options.duration = Duration::from_secs(value.parse().ok()?),
            "--sessions" => options.sessions = value.parse().ok()?,
            "--threads" => options.threads = value,
            "--seed" => options.seed = value.parse().ok()?,
            "--fsync" => options.fsync = value,
            "--clean" => options.clean = value == "yes",
            _ => return None,
        }
    }
    Some(options)
}

fn main() -> ExitCode {
    let Some(options) = options() else {
        eprintln!("{USAGE}");
        return ExitCode::FAILURE;
    };
    println!("seed {}", options.seed);
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => {
            eprintln!("{what}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), String> {
    let (history, kills) = record(options).map_err(|e| format!("{}: {e}", options.server.display()))?;
    let start = Instant::now();
    let report = check(&history);
    println!(
        "{} transactions acknowledged, {} refused; {kills} ends of the server, which left {} in doubt: {} survived.\n\
         {} elements seen, {} dependencies looked at in {:.1} s.",
        report.committed,
        report.aborted,
        report.survived + report.vanished,
        report.survived,
        report.seen,
        report.edges,
        start.elapsed().as_secs_f64(),
    );
    if report.anomalies.is_empty() {
        println!("strictly serializable");
        return Ok(());
    }
    let mut text = String::new();
    for anomaly in &report.anomalies {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}", anomaly.explain(&history));
    }
    let path = std::env::temp_dir().join(format!("kelda-history-{}", options.seed));
    let lines: String = history.transactions.iter().enumerate().map(|(n, t)| format!("#{n} {t}\n")).collect();
    let saved = std::fs::write(&path, lines).map_or_else(|e| e.to_string(), |()| path.display().to_string());
    Err(format!("{text}NOT strictly serializable, {} anomalies or more; all of it: {saved}", report.anomalies.len()))
}

/// Lets sessions work through the lives of a server, and reads at the end what is there; how often the server ended.
fn record(options: &Options) -> std::io::Result<(History, u32)> {
    let active = ["--io-threads-always-active", "yes"];
    let log = ["--appendonly", "yes", "--appendfsync", &options.fsync, "--threads", &options.threads];
    let mut server = Server::start(Kind::Kelda, &options.server, &[&log[..], &active].concat())?;
    let (run, mut rng, mut history) = (Run::new(), Rng::new(options.seed), History::default());
    let (mut kills, mut sessions) = (0, 0);
    while run.now_ns() < options.duration.as_nanos() as u64 {
        let address = server.address();
        let life = Duration::from_millis(20 + rng.below(LIFE_MS));
        let rewrites = rng.one_in(3);
        let ended = std::thread::scope(|scope| {
            let mut works = Vec::new();
            for _ in 0..options.sessions {
                let (run, address, number, seed) = (&run, &address, sessions, rng.next_u64());
                works.push(scope.spawn(move || -> std::io::Result<_> {
                    let mut session = Session::connect(run, address, number, seed)?;
                    session.work()?;
                    Ok(session.history)
                }));
                sessions += 1;
            }
            // How long the load runs, and where in it a rewrite begins; not a wait for anything.
            let before = life.mul_f64(rng.below(1000) as f64 / 1000.0);
            std::thread::sleep(before);
            if rewrites {
                // Refused while another runs.
                let _ = Client::connect(&address).and_then(|mut client| client.words("BGREWRITEAOF"));
            }
            std::thread::sleep(life - before);
            let ended = if options.clean { server.shut_down() } else { server.kill() };
            let dead_ns = run.now_ns();
            for work in works {
                let mut life = work.join().map_err(|_| std::io::Error::other("a session panicked"))??;
                for transaction in life.iter_mut().filter(|transaction| transaction.outcome == Outcome::Unknown) {
                    transaction.completed_ns = dead_ns;
                }
                history.transactions.append(&mut life);
            }
            ended
        });
        ended?;
        kills += 1;
        server.start_again()?;
    }
    let mut client = Client::connect(&server.address())?;
    let all = read_all(&mut client, 0..run.keys())?;
    history.last = all.into_iter().filter(|(_, elements)| !elements.is_empty()).collect();
    Ok((history, kills))
}
