//! CLIENT: expectations asked from Redis 7.0.15 and Valkey 9.1.2.

use kelda_engine::testing::Console;

#[test]
fn names_and_switches() {
    let mut console = Console::default();
    console.check(
        "CLIENT ID => :1
         CLIENT GETNAME => $-1
         CLIENT SETNAME me => +OK
         CLIENT GETNAME => $2 me
         CLIENT SETNAME 'a b' => -ERR Client names cannot contain spaces, newlines or special characters.
         CLIENT SETINFO lib-name redis-py => +OK
         CLIENT SETINFO LIB-VER 8.1 => +OK
         CLIENT SETINFO foo x => -ERR Unrecognized option 'foo'
         CLIENT SETINFO lib-name 'x y' => -ERR lib-name cannot contain spaces, newlines or special characters.
         CLIENT NO-EVICT foo => -ERR syntax error
         CLIENT NO-EVICT on => +OK
         CLIENT NO-TOUCH on => +OK
         CLIENT NO-TOUCH off => +OK
         CLIENT NO-EVICT off => +OK
         CLIENT GETREDIR => :-1
         CLIENT TRACKING off => +OK
         CLIENT TRACKING foo => -ERR syntax error
         CLIENT TRACKINGINFO => *6 $5 flags *1 $3 off $8 redirect :-1 $8 prefixes *0
         CLIENT MAINT_NOTIFICATIONS ON => -ERR unknown subcommand 'MAINT_NOTIFICATIONS'. Try CLIENT HELP.
         CLIENT => -ERR wrong number of arguments for 'client' command",
    );
}

#[test]
fn a_line_of_client_list_has_the_fields_of_redis() {
    let mut console = Console::default();
    console.check("CLIENT SETNAME me => +OK\nSELECT 3 => +OK");
    let line = console.ask("a", "CLIENT INFO");
    let fields: Vec<&str> =
        line.split(' ').skip(1).filter_map(|field| field.split_once('=').map(|(name, _)| name)).collect();
    let want = "id addr laddr fd name age idle flags db sub psub ssub multi watch qbuf qbuf-free argv-mem multi-mem rbs rbp obl \
                oll omem tot-mem events cmd user redir resp lib-name lib-ver io-thread tot-net-in tot-net-out tot-cmds capa";
    assert_eq!(fields.join(" "), want);
    for part in [
        " name=me ",
        " db=3 ",
        " flags=N ",
        " multi=-1 ",
        " cmd=client|info ",
        " user=default ",
        " resp=2 ",
        " qbuf=0 ",
        " tot-cmds=2",
    ] {
        assert!(line.contains(part), "{part} in {line}");
    }
}

#[test]
fn clients_are_listed_and_killed_by_filters() {
    let mut console = Console::default();
    console.check(
        "CLIENT LIST TYPE foo => -ERR Unknown client type 'foo'
         CLIENT LIST TYPE => -ERR syntax error
         CLIENT LIST ID 99999 => $0
         CLIENT LIST ID => -ERR syntax error
         CLIENT LIST NOT-ID => -ERR syntax error
         CLIENT LIST foo bar => -ERR syntax error
         CLIENT KILL 1.1.1.1:1 => -ERR No such client
         CLIENT KILL ID x => -ERR client-id should be greater than 0
         CLIENT KILL ID 0 => -ERR client-id should be greater than 0
         CLIENT KILL ID 9999 => :0
         CLIENT KILL ID 9999 NOT-ID => :0
         CLIENT KILL ID SKIPME yes => :0
         CLIENT KILL NOT-ID ID => :0
         CLIENT KILL ID 9999 NOT-ID x => -ERR syntax error
         CLIENT KILL ID 9999 ADDR => -ERR syntax error
         CLIENT KILL USER foo => -ERR No such user 'foo'
         CLIENT KILL SKIPME foo => -ERR syntax error
         CLIENT KILL SKIPME yes => :0
         CLIENT KILL MAXAGE x => -ERR maxage is not an integer or out of range
         CLIENT KILL MAXAGE -1 => -ERR maxage should be greater than 0
         CLIENT KILL ID 1 ADDR => -ERR syntax error",
    );
    assert_eq!(console.ask("b", "CLIENT SETNAME bee"), "+OK");
    assert_eq!(console.ask("c", "SUBSCRIBE x"), "*3 $9 subscribe $1 x :1");
    assert!(
        console.ask("a", "CLIENT LIST TYPE pubsub").contains(" id=3 ")
            || console.ask("a", "CLIENT LIST TYPE pubsub").contains("id=3 ")
    );
    console.check("CLIENT KILL NAME bee => :1\nCLIENT KILL TYPE pubsub => :1");
    assert!(console.is_closed("b") && console.is_closed("c"));
    console.check("CLIENT KILL ID 1 SKIPME no => :1");
    assert!(console.is_closed("a"));
}

#[test]
fn replies_can_be_turned_off() {
    let mut console = Console::default();
    console.check("CLIENT REPLY foo => -ERR syntax error");
    console.send("a", b"CLIENT REPLY SKIP\r\nPING\r\nPING\r\n");
    assert_eq!(console.raw("a"), b"+PONG\r\n");
    console.send("a", b"CLIENT REPLY OFF\r\nPING\r\nPING\r\n");
    assert_eq!(console.raw("a"), b"");
    console.send("a", b"CLIENT REPLY ON\r\nPING\r\n");
    assert_eq!(console.raw("a"), b"+OK\r\n+PONG\r\n");
}

#[test]
fn a_pause_holds_writes_or_everything_back() {
    let mut console = Console::default();
    console.check(
        "CLIENT PAUSE x => -ERR timeout is not an integer or out of range
         CLIENT PAUSE -1 => -ERR timeout is negative
         CLIENT PAUSE 1 foo => -ERR CLIENT PAUSE mode must be WRITE or ALL
         CLIENT PAUSE 1000 WRITE => +OK
         GET k => $-1",
    );
    assert_eq!(console.ask("b", "SET k 1"), "");
    assert!(console.ask("a", "INFO clients").contains("blocked_clients:1"));
    console.check("CLIENT UNPAUSE => +OK");
    console.turn();
    assert_eq!(console.raw("b"), b"+OK\r\n");
    console.check("CLIENT PAUSE 1000 => +OK");
    assert_eq!(console.ask("a", "GET k"), "");
    console.advance_ms(1001);
    assert_eq!(console.raw("a"), b"$1\r\n1\r\n");
    console
        .check("CLIENT UNBLOCK 2 => :0\nCLIENT UNBLOCK 2 foo => -ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR");
}

#[test]
fn filters_of_the_list() {
    let mut console = Console::default();
    console.check("CLIENT SETNAME me => +OK");
    console.ask("b", "SUBSCRIBE news");
    console.check("CLIENT CAPA redirect other => +OK");
    let mut chosen = |filter: &str| -> Vec<String> {
        let text = console.ask("a", &format!("CLIENT LIST {filter}"));
        text.lines()
            .filter_map(|line| line.split(' ').find_map(|field| field.strip_prefix("id=")))
            .map(String::from)
            .collect()
    };
    for (filter, want) in [
        ("NAME me", &["1"][..]),
        ("NAME you NAME me", &["1"]),
        ("NAME \"\"", &[]),
        ("NOT-NAME me", &["2"]),
        ("NOT-NAME \"\"", &["1", "2"]),
        ("NAME me NOT-NAME me", &[]),
        ("TYPE pubsub", &["2"]),
        ("NOT-TYPE pubsub", &["1"]),
        ("FLAGS P", &["2"]),
        ("NOT-FLAGS P", &["1"]),
        ("NOT-FLAGS PN", &["1", "2"]),
        ("CAPA r", &["1"]),
        ("NOT-CAPA r", &["2"]),
        ("ID 1 2", &["1", "2"]),
        ("ID 1 NOT-ID 1 2", &[]),
        ("NOT-ID 1", &["2"]),
        ("NOT-USER default", &[]),
        ("NOT-DB 0", &[]),
        ("NOT-DB 1", &["1", "2"]),
        ("NOT-IP 127.0.0.1", &[]),
        ("NOT-ADDR 127.0.0.1:1", &[]),
        ("NOT-LADDR 1.1.1.1:1", &["1", "2"]),
        ("NOT-LIB-NAME x NOT-LIB-VER y", &["1", "2"]),
        ("SKIPME yes", &["2"]),
    ] {
        assert_eq!(chosen(filter), want, "{filter}");
    }
    console.check(
        "CLIENT LIST CAPA x => -ERR Unknown capa found in the provided filter: x
         CLIENT LIST NOT-CAPA x => -ERR Unknown capa found in the NOT-CAPA filter: x
         CLIENT LIST FLAGS z => -ERR Unknown flags found in the provided filter: z
         CLIENT LIST NOT-FLAGS z => -ERR Unknown flags found in the NOT-FLAGS filter: z
         CLIENT LIST NOT-TYPE foo => -ERR Unknown client type 'foo'
         CLIENT LIST NOT-USER foo => -ERR No such user 'foo'
         CLIENT LIST NOT-DB x => -ERR NOT-DB is not an integer or out of range
         CLIENT LIST DB 16 => -ERR DB number should be between 0 and 15
         CLIENT LIST NOT-DB -1 => -ERR NOT-DB number should be between 0 and 15
         CLIENT LIST NOT-ID x => -ERR syntax error
         CLIENT LIST NOT-ID 0 => -ERR client-id should be greater than 0
         CLIENT LIST NOT-IDLE 1 => -ERR syntax error
         CLIENT LIST NOT-SKIPME yes => -ERR syntax error
         CLIENT KILL NOT-TYPE normal SKIPME no => :1",
    );
}

/// The names of the clients that are connected, but for the one that asks.
fn others(console: &mut Console) -> Vec<String> {
    let list = console.ask("a", "CLIENT LIST");
    let names = list.split(' ').filter_map(|field| field.strip_prefix("name="));
    names.filter(|name| !name.is_empty()).map(str::to_string).collect()
}

#[test]
fn clients_that_hold_too_much_are_cut_off() {
    let mut console = Console::default();
    for name in ["small", "big", "spared"] {
        console.ask(name, &format!("CLIENT SETNAME {name}"));
    }
    console.ask("spared", "CLIENT NO-EVICT ON");
    // Commands that are not complete.
    console.send("small", format!("*1\r\n$100000\r\n{}", "x".repeat(50_000)).as_bytes());
    console.send("big", format!("*1\r\n$200000\r\n{}", "x".repeat(100_000)).as_bytes());
    console.send("spared", format!("*1\r\n$900000\r\n{}", "x".repeat(300_000)).as_bytes());
    assert_eq!(others(&mut console), ["small", "big", "spared"]);
    console.check("CONFIG SET maxmemory-clients 450000 => +OK");
    assert_eq!(others(&mut console), ["small", "spared"], "the biggest that may go has gone");
    assert!(console.is_closed("big"));
    // A part of maxmemory, by what a transaction queues.
    console.check("CONFIG SET maxmemory-clients 50% maxmemory 1mb => +OK");
    console.check("CONFIG SET maxmemory 100mb => +OK\nCONFIG SET maxmemory-clients 500000 => +OK");
    console.ask("queue", "MULTI");
    for _ in 0..3 {
        console.ask("queue", &format!("SET k {}", "x".repeat(60_000)));
    }
    assert!(console.is_closed("queue"));
    let stats = console.ask("a", "INFO stats");
    assert!(stats.contains("evicted_clients:2"), "{stats}");
}

#[test]
fn what_clients_watch_and_listen_to_counts() {
    let mut console = Console::new(&[("maxmemory-clients", "200000")]);
    for round in 0..2000 {
        if console.is_closed("b") {
            break;
        }
        console.ask("b", &format!("{} name:{round}", if round % 2 == 0 { "WATCH" } else { "SUBSCRIBE" }));
        console.ask("b", "RESET");
        console.ask("b", &format!("WATCH name:{round}"));
    }
    assert!(!console.is_closed("b"), "what is given up does not count");
    console.ask("b", "HELLO 3");
    for round in 0..2000 {
        if !console.is_closed("b") {
            console.ask("b", &format!("SUBSCRIBE name:{round}"));
        }
    }
    assert!(console.is_closed("b"));
}

#[test]
fn blanks_between_requests_do_not_shift_what_follows() {
    let mut console = Console::default();
    console.send("a", b"*1\r\n$4\r\nPING\r\n\n\n*2\r\n$4\r\nECHO\r\n$3\r\na");
    assert_eq!(console.raw("a"), b"+PONG\r\n");
    console.send("a", b"bc\r\n\n*1\r\n$4\r\nPI");
    console.send("a", b"NG\r\n");
    assert_eq!(console.raw("a"), b"$3\r\nabc\r\n+PONG\r\n");
}

#[test]
fn too_much_input_is_not_run_even_if_it_came_at_once() {
    let mut console = Console::new(&[("client-query-buffer-limit", "1mb")]);
    console.send("b", format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$2000000\r\n{}\r\n", "x".repeat(2_000_000)).as_bytes());
    assert!(console.is_closed("b"));
    console.check("EXISTS k => :0");
}

#[test]
fn replies_that_nobody_will_get_are_not_written_to_the_end() {
    let mut console = Console::default();
    console.check(
        "HSET h f v => :1
         SADD s m => :1
         ZADD z 1 m => :1
         CONFIG SET client-output-buffer-limit 'normal 100000 0 0' => +OK",
    );
    for command in ["HRANDFIELD h -999999999999", "SRANDMEMBER s -999999999999", "ZRANDMEMBER z -999999999999"] {
        console.ask(command, command);
        assert!(console.is_closed(command));
    }
    console.check("PING => +PONG");
}
