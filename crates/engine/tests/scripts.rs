//! The cache of scripts: what EVALSHA still finds.

use kelda_engine::testing::Console;

const NONE: &str = "-NOSCRIPT No matching script. Please use EVAL.";

fn sha(console: &mut Console, number: usize) -> String {
    let line = format!("EVAL \"return redis.sha1hex('return {number}')\" 0");
    console.ask("sha", &line).rsplit(' ').next().unwrap_or_default().to_string()
}

fn eval(console: &mut Console, number: usize) {
    assert_eq!(console.ask("a", &format!("EVAL 'return {number}' 0")), format!(":{number}"));
}

fn stat(console: &mut Console, name: &str) -> String {
    let info = console.ask("a", "INFO everything");
    let field = info.split(' ').find_map(|field| field.strip_prefix(name)?.strip_prefix(':'));
    field.unwrap_or_else(|| panic!("no {name}")).to_string()
}

#[test]
fn of_scripts_that_only_eval_brought_those_used_last_stay() {
    let mut console = Console::default();
    let shas: Vec<String> = [0, 1, 2, 3, 900].map(|number| sha(&mut console, number)).into();
    console.ask("a", "SCRIPT FLUSH");
    assert_eq!(console.ask("a", "SCRIPT LOAD 'return 0'"), format!("$40 {}", shas[0]));
    for number in 1..=500 {
        eval(&mut console, number);
    }
    // The first two are used again: the third is now the one that was used least recently.
    eval(&mut console, 1);
    assert_eq!(console.ask("a", &format!("EVALSHA {} 0", shas[2])), ":2");
    eval(&mut console, 900);
    assert_eq!(console.ask("a", &format!("EVALSHA {} 0", shas[3])), NONE);
    assert_eq!(stat(&mut console, "evicted_scripts"), "1");
    assert_eq!(stat(&mut console, "number_of_cached_scripts"), "501");
    // One that is used again and again stays, and so does what was loaded.
    for number in 1_000..3_000 {
        eval(&mut console, number);
        assert_eq!(console.ask("a", &format!("EVALSHA {} 0", shas[1])), ":1");
    }
    assert_eq!(console.ask("a", &format!("EVALSHA {} 0", shas[0])), ":0");
    assert_eq!(console.ask("a", &format!("EVALSHA {} 0", shas[4])), NONE);
    // SCRIPT LOAD keeps what EVAL brought.
    console.ask("a", "SCRIPT LOAD 'return 2999'");
    let kept = sha(&mut console, 2_999);
    for number in 4_000..4_600 {
        eval(&mut console, number);
    }
    assert_eq!(console.ask("a", &format!("EVALSHA {kept} 0")), ":2999");
    console.ask("a", "SCRIPT FLUSH");
    assert_eq!(console.ask("a", &format!("EVALSHA {kept} 0")), NONE);
    assert_eq!(console.ask("a", &format!("EVALSHA {} 0", shas[0])), NONE);
}

#[test]
fn a_script_that_had_to_go_is_not_run_from_memory() {
    let mut console = Console::default();
    let first = sha(&mut console, 1);
    console.ask("a", "SCRIPT FLUSH");
    eval(&mut console, 1);
    for number in 2..=501 {
        eval(&mut console, number);
    }
    for command in ["EVALSHA", "EVALSHA_RO"] {
        assert_eq!(console.ask("a", &format!("{command} {first} 0")), NONE);
    }
    eval(&mut console, 1);
    assert_eq!(console.ask("a", &format!("EVALSHA {first} 0")), ":1");
}
