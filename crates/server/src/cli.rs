//! The command line: the same directives as in a file, in Redis's form.

use crate::maintenance::Task;
use kelda_engine::config::lines::quote;

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Request {
    /// Start the server.
    Serve {
        /// The configuration file.
        file: Option<String>,
        /// Whether to read more configuration from standard input.
        stdin: bool,
        /// The directives of the command line as the text of a file; they come last and win.
        options: String,
    },
    /// Print the version and end.
    Version,
    /// Print the help and end.
    Help,
    /// Look after data that no server uses.
    Maintain(Task),
    /// End with this error.
    Refuse(&'static str),
}

/// What `--help` prints.
pub const HELP: &str = "\
Usage: kelda-server [/path/to/redis.conf] [options] [-]
       kelda-server -                  read the configuration from standard input
       kelda-server -v or --version
       kelda-server -h or --help
       kelda-server --check DIR        read all data in DIR, or a snapshot, and tell what is there, and where it is damaged
       kelda-server --salvage DIR      keep what comes before the first damage, set the rest aside
       kelda-server --restore-to MOMENT --from DIR --into NEWDIR
                                       copy the data as it was after an LSN (1234) or at a time (2026-11-22T10:30:00Z,
                                       @1795343400); --into is the data directory of a server to be

Every directive of redis.conf is an option; options win over the file:
       kelda-server --port 7777
       kelda-server --port 7777 --threads 2 --save ''
       kelda-server /etc/redis/redis.conf --loglevel verbose
       echo 'maxmemory 128mb' | kelda-server -
";

/// Reads the arguments that follow the program's name.
pub fn read(arguments: &[String]) -> Request {
    match arguments.first().map(String::as_str) {
        Some("-v" | "--version") => return Request::Version,
        Some("-h" | "--help") => return Request::Help,
        Some("--test-memory") => {
            return Request::Refuse("--test-memory is not supported: use memtester or memtest86.");
        }
        Some("--check" | "--salvage" | "--restore-to") => return maintain(arguments),
        Some("--check-system") => return Request::Refuse("--check-system is not supported."),
        Some("--sentinel") => return Request::Refuse("Sentinel mode is not supported."),
        _ => {}
    }
    let mut rest = arguments;
    let mut file = None;
    let mut stdin = false;
    match rest {
        [first, tail @ ..] if first == "-" => (stdin, rest) = (true, tail),
        [first, tail @ ..] if !first.starts_with('-') => (file, rest) = (Some(first.clone()), tail),
        _ => {}
    }
    if let [head @ .., last] = rest
        && last == "-"
    {
        (stdin, rest) = (true, head);
    }
    Request::Serve { file, stdin, options: options(rest) }
}

/// What to do with data that no server uses.
fn maintain(arguments: &[String]) -> Request {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["--check", dir] => Request::Maintain(Task::Check(dir.into())),
        ["--salvage", dir] => Request::Maintain(Task::Salvage(dir.into())),
        ["--restore-to", moment, "--from", from, "--into", into]
        | ["--restore-to", moment, "--into", into, "--from", from] => {
            Request::Maintain(Task::Restore { moment: moment.into(), from: from.into(), into: into.into() })
        }
        _ => Request::Refuse("--check DIR, --salvage DIR, or --restore-to MOMENT --from DIR --into NEWDIR"),
    }
}

/// Turns arguments into lines. An argument that begins with `--` starts a directive, unless the one before it is a
/// directive that still lacks a value: then it is that value, so that values may begin with `--`. A directive may also
/// come with its values in one argument, `"--maxmemory 1gb"`. `--save` alone means no save points.
fn options(arguments: &[String]) -> String {
    let mut text = String::new();
    let mut complete = true;
    for (at, argument) in arguments.iter().enumerate() {
        match argument.strip_prefix("--") {
            Some(option) if complete => {
                if !text.is_empty() {
                    text.push('\n');
                }
                text.push_str(option);
                let next = arguments.get(at + 1);
                let bare = option.trim().split(' ').count() == 1;
                if option.trim() == "save" && next.is_none_or(|next| next.starts_with("--")) {
                    text.push_str(" \"\"");
                    complete = true;
                } else {
                    complete = !bare;
                }
            }
            _ => {
                text.push(' ');
                text.push_str(&quote(argument));
                complete = true;
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(arguments: &[&str]) -> String {
        options(&arguments.iter().map(|a| a.to_string()).collect::<Vec<_>>())
    }

    /// As Redis 7.0.15 reads them.
    #[test]
    fn options_become_lines() {
        let cases: &[(&[&str], &str)] = &[
            (&["--port", "1"], "port \"1\""),
            (&["--port"], "port"),
            (&["--port", "1", "2"], "port \"1\" \"2\""),
            (&["--port", "--loglevel", "verbose"], "port \"--loglevel\" \"verbose\""),
            (&["--port", "--bla", "--loglevel", "verbose"], "port \"--bla\"\nloglevel \"verbose\""),
            (&["--replicaof", "--127.0.0.1", "abc"], "replicaof \"--127.0.0.1\" \"abc\""),
            (&["--replicaof", "--127.0.0.1", "--abc"], "replicaof \"--127.0.0.1\"\nabc"),
            (&["--maxmemory 700mb", "--hz 5"], "maxmemory 700mb\nhz 5"),
            (&["loglevel", "verbose", "--hz '5'"], " \"loglevel\" \"verbose\"\nhz '5'"),
            (&["--save", "60", "1", "--port", "0"], "save \"60\" \"1\"\nport \"0\""),
            (&["--save"], "save \"\""),
            (&["--save", "--port", "0"], "save \"\"\nport \"0\""),
            (&["--save", "", "--port", "0"], "save \"\"\nport \"0\""),
            (
                &["--proc-title-template", "--save", "--save", "", "--hz", "1"],
                "proc-title-template \"--save\"\nsave \"\"\nhz \"1\"",
            ),
            (&["--requirepass", "a \"b"], "requirepass \"a \\\"b\""),
        ];
        for (arguments, expected) in cases {
            assert_eq!(lines(arguments), *expected, "{arguments:?}");
        }
    }

    #[test]
    fn requests_are_told_apart() {
        let read = |arguments: &[&str]| read(&arguments.iter().map(|a| a.to_string()).collect::<Vec<_>>());
        let serve = |file: Option<&str>, stdin, options: &str| Request::Serve {
            file: file.map(str::to_string),
            stdin,
            options: options.to_string(),
        };
        assert_eq!(read(&[]), serve(None, false, ""));
        assert_eq!(read(&["-"]), serve(None, true, ""));
        assert_eq!(read(&["a.conf", "--port", "1", "-"]), serve(Some("a.conf"), true, "port \"1\""));
        assert_eq!(read(&["--port", "1"]), serve(None, false, "port \"1\""));
        assert_eq!((read(&["-v"]), read(&["--version"])), (Request::Version, Request::Version));
        assert_eq!((read(&["-h"]), read(&["--help"])), (Request::Help, Request::Help));
        assert!(matches!(read(&["--test-memory", "1"]), Request::Refuse(_)));
        assert_eq!(read(&["--check", "d"]), Request::Maintain(Task::Check("d".into())));
        assert_eq!(read(&["--salvage", "d"]), Request::Maintain(Task::Salvage("d".into())));
        let restore = Task::Restore { moment: "7".into(), from: "a".into(), into: "b".into() };
        assert_eq!(read(&["--restore-to", "7", "--from", "a", "--into", "b"]), Request::Maintain(restore));
        assert!(matches!(read(&["--check"]), Request::Refuse(_)));
        assert!(matches!(read(&["--restore-to", "7", "--from", "a"]), Request::Refuse(_)));
    }
}
