//! Commands that no oracle has, compared with what older ones make of the same: random conversations must end alike.

use kelda_engine::testing::Console;
use proptest::prelude::*;
use proptest::sample::select;

/// The answers to several commands.
fn answers(console: &mut Console, commands: &[String]) -> Vec<String> {
    commands.iter().map(|command| console.ask("a", command)).collect()
}

/// A member's name.
fn member() -> impl Strategy<Value = String> {
    (0..4u8).prop_map(|n| format!("m{n}"))
}

/// What happens to the members of a set, as fields of a hash and as members.
#[derive(Clone, Debug)]
enum Step {
    Add(String),
    Remove(String),
    /// EXPIRE and its relatives: the command without its first letter, a time, a condition.
    Expire(&'static str, i64, &'static str, String, String),
    Ask(&'static str, String, String),
    Persist(String, String),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let condition = || select(&["", "NX", "XX", "GT", "LT"][..]);
    let start = 1_767_225_600_000i64;
    prop_oneof![
        4 => member().prop_map(Step::Add),
        1 => member().prop_map(Step::Remove),
        3 => (-1..4i64, condition(), member(), member()).prop_map(|(n, c, a, b)| Step::Expire("EXPIRE", n.max(0), c, a, b)),
        3 => (0..4000i64, condition(), member(), member()).prop_map(|(n, c, a, b)| Step::Expire("PEXPIRE", n, c, a, b)),
        1 => (0..9i64, condition(), member(), member())
            .prop_map(move |(n, c, a, b)| Step::Expire("EXPIREAT", start / 1000 + n, c, a, b)),
        1 => (0..9000i64, condition(), member(), member())
            .prop_map(move |(n, c, a, b)| Step::Expire("PEXPIREAT", start + n, c, a, b)),
        4 => (select(&["TTL", "PTTL", "EXPIRETIME", "PEXPIRETIME"][..]), member(), member())
            .prop_map(|(name, a, b)| Step::Ask(name, a, b)),
        1 => (member(), member()).prop_map(|(a, b)| Step::Persist(a, b)),
        2 => (0..1500u64).prop_map(Step::Wait),
    ]
}

/// A step as a command of hashes, of sets (SEXPIRE, SPEXPIRE, SEXPIREAT, SPEXPIREAT, STTL, SPTTL, SEXPIRETIME, SPEXPIRETIME,
/// SPERSIST) or of sorted sets (ZEXPIRE, ZPEXPIRE, ZEXPIREAT, ZPEXPIREAT, ZTTL, ZPTTL, ZEXPIRETIME, ZPEXPIRETIME, ZPERSIST).
fn as_command(step: &Step, letter: char, add_keeps: bool) -> String {
    let what = if letter == 'H' { "FIELDS" } else { "MEMBERS" };
    match step {
        Step::Add(name) => match letter {
            'H' if add_keeps => format!("HSETEX k KEEPTTL FIELDS 1 {name} 1"),
            'H' => format!("HSET k {name} 1"),
            'S' => format!("SADD k {name}"),
            _ => format!("ZADD k 1 {name}"),
        },
        Step::Remove(name) if letter == 'H' => format!("HDEL k {name}"),
        Step::Remove(name) => format!("{letter}REM k {name}"),
        Step::Expire(command, time, condition, a, b) => {
            format!("{letter}{command} k {time} {condition} {what} 2 {a} {b}")
        }
        Step::Ask(command, a, b) => format!("{letter}{command} k {what} 2 {a} {b}"),
        Step::Persist(a, b) => format!("{letter}PERSIST k {what} 2 {a} {b}"),
        Step::Wait(_) => "PING".into(),
    }
}

fn an_element() -> impl Strategy<Value = String> {
    select(&["a", "b", "c", "d", "10"][..]).prop_map(str::to_owned)
}

/// A member's expiry follows the rules of a field's: SADD keeps a time as HSETEX KEEPTTL does, ZADD drops it as HSET does.
fn check_expiry(steps: &[Step], letter: char) -> Result<(), TestCaseError> {
    let (mut hashes, mut members) = (Console::default(), Console::default());
    for step in steps {
        let (one, other) = (as_command(step, 'H', letter == 'S'), as_command(step, letter, false));
        let (want, got) = (hashes.ask("a", &one), members.ask("a", &other));
        if !matches!(step, Step::Add(_)) {
            prop_assert_eq!(want, got, "{} and {}", one, other);
        }
        if let Step::Wait(ms) = step {
            hashes.advance_ms(*ms);
            members.advance_ms(*ms);
        }
        prop_assert_eq!(hashes.ask("a", "HLEN k"), members.ask("a", &format!("{letter}CARD k")), "after {}", other);
        prop_assert_eq!(hashes.ask("a", "EXISTS k"), members.ask("a", "EXISTS k"));
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn members_of_sets_expire_as_fields_do(steps in prop::collection::vec(step(), 1..40)) {
        check_expiry(&steps, 'S')?;
    }

    #[test]
    fn members_of_sorted_sets_expire_as_fields_do(steps in prop::collection::vec(step(), 1..40)) {
        check_expiry(&steps, 'Z')?;
    }

    /// LMOVEM OBO is that many times LMOVE; BULK keeps the order of the elements; EXACTLY moves all or nothing; BLMOVEM of what
    /// is there is LMOVEM.
    #[test]
    fn lmovem_is_lmove_over_and_over(
        source in prop::collection::vec(an_element(), 0..7),
        target in prop::collection::vec(an_element(), 0..3),
        from in select(&["LEFT", "RIGHT"][..]),
        to in select(&["LEFT", "RIGHT"][..]),
        count in 1..9usize,
        exactly in any::<bool>(),
        bulk in any::<bool>(),
        same in any::<bool>(),
    ) {
        // From and to the same end of one list, all go before the first comes, where LMOVE over and over would do nothing.
        prop_assume!(!(same && from == to));
        let into = if same { "s" } else { "t" };
        let fill = |console: &mut Console| {
            for (key, items) in [("s", &source), ("t", &target)] {
                if !items.is_empty() {
                    console.ask("a", &format!("RPUSH {key} {}", items.join(" ")));
                }
            }
        };
        let moves = if exactly && source.len() < count { 0 } else { count.min(source.len()) };
        let mut plain = Console::default();
        fill(&mut plain);
        if bulk {
            // Taken off as they lie, and put there as they lie.
            let mut items = source.clone();
            let taken: Vec<String> =
                if from == "LEFT" { items.drain(..moves).collect() } else { items.split_off(items.len() - moves) };
            let push = |item: &String| format!("{} {into} {item}", if to == "LEFT" { "LPUSH" } else { "RPUSH" });
            let mut commands: Vec<String> = taken
                .iter()
                .map(|_| format!("{} s", if from == "LEFT" { "LPOP" } else { "RPOP" }))
                .collect();
            if to == "LEFT" {
                commands.extend(taken.iter().rev().map(push));
            } else {
                commands.extend(taken.iter().map(push));
            }
            answers(&mut plain, &commands);
        } else {
            answers(&mut plain, &vec![format!("LMOVE s {into} {from} {to}"); moves]);
        }
        let how = format!("{} {count} {}", if exactly { "EXACTLY" } else { "COUNT" }, if bulk { "BULK" } else { "OBO" });
        let lists = ["LRANGE s 0 -1".to_owned(), "LRANGE t 0 -1".to_owned()];
        let mut console = Console::default();
        fill(&mut console);
        let answer = console.ask("a", &format!("LMOVEM s {into} {from} {to} {how}"));
        prop_assert_eq!(answers(&mut console, &lists), answers(&mut plain, &lists), "{}", answer);
        if moves > 0 {
            let mut waiting = Console::default();
            fill(&mut waiting);
            prop_assert_eq!(waiting.ask("a", &format!("BLMOVEM s {into} {from} {to} 1 {how}")), answer);
            prop_assert_eq!(answers(&mut waiting, &lists), answers(&mut plain, &lists));
        }
    }

    /// SUNIONCARD and SDIFFCARD are what SUNIONSTORE and SDIFFSTORE answer, up to the limit.
    #[test]
    fn cardinalities_are_those_of_stored_sets(
        sets in prop::collection::vec(prop::collection::vec(0..12u8, 0..9), 1..4),
        limit in 0..6usize,
        approx in any::<bool>(),
    ) {
        let mut console = Console::default();
        let keys: Vec<String> = (0..sets.len()).map(|n| format!("s{n}")).collect();
        for (key, members) in keys.iter().zip(&sets).filter(|(_, members)| !members.is_empty()) {
            let members: Vec<String> = members.iter().map(u8::to_string).collect();
            console.ask("a", &format!("SADD {key} {}", members.join(" ")));
        }
        let keys = keys.join(" ");
        for (store, card) in [("SUNIONSTORE", "SUNIONCARD"), ("SDIFFSTORE", "SDIFFCARD")] {
            let all = console.ask("a", &format!("{store} d {keys}"));
            let all: usize = all.trim_start_matches(':').parse().expect("a count");
            let approx = if approx && card == "SUNIONCARD" { "APPROX" } else { "" };
            let want = if limit == 0 { all } else { all.min(limit) };
            let got = console.ask("a", &format!("{card} {} {keys} {approx} LIMIT {limit}", sets.len()));
            prop_assert_eq!(got, format!(":{want}"));
        }
    }

    /// DELEX IFEQ is DELIFEQ, IFNE the contrary, and IFDEQ and IFDNE are the same of what DIGEST tells of both.
    #[test]
    fn delex_deletes_what_is_equal(value in an_element(), other in an_element()) {
        let mut console = Console::default();
        console.ask("a", &format!("MSET v {value} o {other}"));
        let digest = console.ask("a", "DIGEST o");
        prop_assert_eq!(console.ask("a", "DIGEST v") == digest, value == other);
        let digest = digest.rsplit(' ').next().unwrap_or_default().to_owned();
        let deletes = |console: &mut Console, command: &str| {
            console.ask("a", &format!("SET v {value}"));
            (console.ask("a", command), console.ask("a", "EXISTS v"))
        };
        let want = deletes(&mut console, &format!("DELIFEQ v {other}"));
        prop_assert_eq!(&deletes(&mut console, &format!("DELEX v IFEQ {other}")), &want);
        prop_assert_eq!(&deletes(&mut console, &format!("DELEX v IFDEQ {digest}")), &want);
        let contrary = if value == other { (":0", ":1") } else { (":1", ":0") };
        for condition in [format!("IFNE {other}"), format!("IFDNE {digest}")] {
            let (answer, there) = deletes(&mut console, &format!("DELEX v {condition}"));
            prop_assert_eq!((answer.as_str(), there.as_str()), contrary);
        }
    }

    /// INCREX without options is INCR, BYINT is INCRBY; with bounds the same where the result lies within them, and else nothing.
    #[test]
    fn increx_is_incrby_within_bounds(steps in prop::collection::vec((-20..20i64, -30..0i64, 0..30i64), 1..20)) {
        let mut console = Console::default();
        for (by, lower, upper) in steps {
            let before: i64 = console.ask("a", "INCRBY old 0").trim_start_matches(':').parse().expect("a number");
            let within = (lower..=upper).contains(&(before + by));
            let answer = console.ask("a", &format!("INCREX new BYINT {by} LBOUND {lower} UBOUND {upper}"));
            let change = if within { by } else { 0 };
            let now = console.ask("a", &format!("INCRBY old {change}"));
            prop_assert_eq!(answer, format!("*2 {now} :{change}"));
        }
        let (new, old) = (console.ask("a", "INCREX new"), console.ask("a", "INCR old"));
        prop_assert_eq!(new, format!("*2 {old} :1"));
    }

    /// XDELEX KEEPREF is XDEL; XACKDEL KEEPREF is XACK and XDEL; DELREF leaves nothing pending.
    #[test]
    fn deleting_with_references_is_xack_and_xdel(
        entries in 1..8u8,
        read in 0..8u8,
        ids in prop::collection::btree_set(0..10u8, 1..5),
        acknowledge in any::<bool>(),
        forget in any::<bool>(),
    ) {
        let ids: Vec<String> = ids.iter().map(|id| format!("{id}-1")).collect();
        let (count, ids) = (ids.len(), ids.join(" "));
        let fill = |console: &mut Console| {
            (1..=entries).for_each(|id| {
                console.ask("a", &format!("XADD s {id}-1 f v"));
            });
            console.ask("a", "XGROUP CREATE s g 0");
            if read > 0 {
                console.ask("a", &format!("XREADGROUP GROUP g c COUNT {read} STREAMS s >"));
            }
        };
        let contents = ["XRANGE s - +", "XPENDING s g", "XLEN s"].map(str::to_owned);
        let (mut plain, mut new) = (Console::default(), Console::default());
        fill(&mut plain);
        fill(&mut new);
        let policy = if forget { "DELREF" } else { "KEEPREF" };
        let answer = match acknowledge {
            true => new.ask("a", &format!("XACKDEL s g {policy} IDS {count} {ids}")),
            false => new.ask("a", &format!("XDELEX s {policy} IDS {count} {ids}")),
        };
        if acknowledge {
            // Only what the group has pending goes.
            for id in ids.split(' ') {
                if plain.ask("a", &format!("XACK s g {id}")) == ":1" {
                    plain.ask("a", &format!("XDEL s {id}"));
                }
            }
        } else {
            plain.ask("a", &format!("XDEL s {ids}"));
            if forget {
                plain.ask("a", &format!("XACK s g {ids}"));
            }
        }
        prop_assert_eq!(answers(&mut new, &contents), answers(&mut plain, &contents), "{}", answer);
    }
}
