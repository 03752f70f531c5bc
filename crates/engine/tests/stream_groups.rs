//! What newer Redis has for streams: deleting with groups in mind, giving entries back, claiming while reading, producers
//! that may repeat themselves. Expectations are from Redis's documentation: no oracle has these.

use kelda_engine::testing::Console;

/// Entries 1-0 to 5-0, of which group `g` delivered all to `c` and group `h` two to `d`.
fn console() -> Console {
    let mut console = Console::default();
    for id in 1..=5 {
        console.ask("a", &format!("XADD s {id}-0 f {id}"));
    }
    console.ask("a", "XGROUP CREATE s g 0");
    console.ask("a", "XGROUP CREATE s h 0");
    console.ask("a", "XREADGROUP GROUP g c STREAMS s >");
    console.ask("a", "XREADGROUP GROUP h d COUNT 2 STREAMS s >");
    console
}

#[test]
fn xdelex_minds_what_groups_have() {
    let mut console = console();
    console.check(
        "XDELEX s IDS 2 1-0 9-0 => *2 :1 :-1
         XPENDING s g => *4 :5 $3 1-0 $3 5-0 *1 *2 $1 c $1 5
         XDELEX s DELREF IDS 2 2-0 1-0 => *2 :1 :-1
         XPENDING s g => *4 :3 $3 3-0 $3 5-0 *1 *2 $1 c $1 3
         XPENDING s h => *4 :0 $-1 $-1 *-1
         XDELEX s ACKED IDS 1 3 => *1 :2
         XACK s g 3-0 => :1
         XDELEX s IDS 1 3-0 ACKED => *1 :2
         XGROUP DESTROY s h => :1
         XDELEX s acked ids 3 3-0 4-0 8-0 => *3 :1 :2 :-1
         XGROUP DESTROY s g => :1
         XDELEX s ACKED IDS 1 4-0 => *1 :1
         XRANGE s - + => *1 *2 $3 5-0 *2 $1 f $1 5
         XDELEX none DELREF IDS 2 1-0 2-0 => *2 :-1 :-1
         SET str x => +OK
         XDELEX str IDS 1 1-0 => -WRONGTYPE Operation against a key holding the wrong kind of value
         XDELEX s => -ERR wrong number of arguments for 'xdelex' command
         XDELEX s ACKED IDS 1 => -ERR The `numids` parameter must match the number of arguments
         XDELEX s IDS 0 1-0 => -ERR Number of IDs must be a positive integer
         XDELEX s IDS x 1-0 => -ERR Number of IDs must be a positive integer
         XDELEX s IDS 3 1-0 2-0 => -ERR The `numids` parameter must match the number of arguments
         XDELEX s IDS 1 1-0 2-0 => -ERR syntax error
         XDELEX s KEEPREF DELREF IDS 1 1-0 => -ERR syntax error
         XDELEX s ACKED ACKED KEEPREF => -ERR syntax error
         XDELEX s IDS 1 x => -ERR Invalid stream ID specified as stream command argument",
    );
}

#[test]
fn xackdel_acknowledges_and_deletes() {
    let mut console = console();
    console.check(
        "XACKDEL s g IDS 2 1-0 9-0 => *2 :1 :-1
         XPENDING s g => *4 :4 $3 2-0 $3 5-0 *1 *2 $1 c $1 4
         XPENDING s h => *4 :2 $3 1-0 $3 2-0 *1 *2 $1 d $1 2
         XACKDEL s h IDS 1 1-0 => *1 :1
         XACKDEL s g ACKED IDS 2 2-0 3-0 => *2 :2 :2
         XLEN s => :4
         XACKDEL s h ACKED IDS 1 2-0 => *1 :1
         XACKDEL s h DELREF IDS 1 4-0 => *1 :-1
         XREADGROUP GROUP h d COUNT 2 STREAMS s > => *1 *2 $1 s *2 *2 $3 3-0 *2 $1 f $1 3 *2 $3 4-0 *2 $1 f $1 4
         XACKDEL s h DELREF IDS 2 4-0 3-0 => *2 :1 :1
         XPENDING s g => *4 :1 $3 5-0 $3 5-0 *1 *2 $1 c $1 1
         XRANGE s - + => *1 *2 $3 5-0 *2 $1 f $1 5
         XACKDEL none g IDS 1 1-0 => *1 :-1
         XACKDEL s none IDS 2 5-0 1-0 => *2 :-1 :-1
         XACKDEL s g IDS 1 5-0 5-0 => -ERR syntax error
         XACKDEL s g => -ERR wrong number of arguments for 'xackdel' command",
    );
}

#[test]
fn trimming_minds_what_groups_have() {
    let mut console = console();
    console.check(
        "XTRIM s MAXLEN = 1 ACKED => :0
         XACK s g 1-0 2-0 4-0 => :3
         XACK s h 1-0 => :1
         XTRIM s MAXLEN = 1 ACKED => :1
         XREADGROUP GROUP h d NOACK STREAMS s > => *1 *2 $1 s *3 *2 $3 3-0 *2 $1 f $1 3 *2 $3 4-0 *2 $1 f $1 4 *2 $3 5-0 *2 $1 f $1 5
         XTRIM s ACKED MINID = 9 => :1
         XRANGE s - + => *3 *2 $3 2-0 *2 $1 f $1 2 *2 $3 3-0 *2 $1 f $1 3 *2 $3 5-0 *2 $1 f $1 5
         XADD s MAXLEN 1 ACKED 6-0 f 6 => $3 6-0
         XLEN s => :4
         XADD s DELREF MAXLEN 2 7-0 f 7 => $3 7-0
         XLEN s => :2
         XPENDING s g => *4 :0 $-1 $-1 *-1
         XPENDING s h => *4 :0 $-1 $-1 *-1
         XTRIM s MAXLEN 1 KEEPREF => :1
         XTRIM s MAXLEN 1 KEEPREF ACKED => -ERR syntax error
         XTRIM s KEEPREF => -ERR wrong number of arguments for 'xtrim' command
         XADD s ACKED DELREF * f v => -ERR syntax error",
    );
    let mut console = Console::new(&[("stream-node-max-entries", "2")]);
    for id in 1..=5 {
        console.ask("a", &format!("XADD s {id}-0 f {id}"));
    }
    console.check(
        "XGROUP CREATE s g 0 => +OK
         XREADGROUP GROUP g c COUNT 5 STREAMS s > => *1 *2 $1 s *5 *2 $3 1-0 *2 $1 f $1 1 *2 $3 2-0 *2 $1 f $1 2 *2 $3 3-0 *2 $1 f $1 3 *2 $3 4-0 *2 $1 f $1 4 *2 $3 5-0 *2 $1 f $1 5
         XACK s g 1-0 2-0 4-0 => :3
         XTRIM s MINID ~ 6-0 ACKED => :3
         XTRIM s MINID ~ 6-0 DELREF => :2
         XPENDING s g => *4 :0 $-1 $-1 *-1",
    );
}

#[test]
fn xnack_gives_entries_back() {
    let mut console = console();
    console.check(
        "XNACK s g SILENT IDS 2 1-0 9-0 => :1
         XNACK s g FAIL IDS 1 2-0 => :1
         XNACK s g FATAL IDS 1 3-0 => :1
         XPENDING s g - + 10 => *5 *4 $3 1-0 $0  :-1 :0 *4 $3 2-0 $0  :-1 :1 *4 $3 3-0 $0  :-1 :9223372036854775807 *4 $3 4-0 $1 c :0 :1 *4 $3 5-0 $1 c :0 :1
         XPENDING s g => *4 :5 $3 1-0 $3 5-0 *1 *2 $1 c $1 2
         XPENDING s g - + 10 c => *2 *4 $3 4-0 $1 c :0 :1 *4 $3 5-0 $1 c :0 :1
         XREADGROUP GROUP g c STREAMS s 3-0 => *1 *2 $1 s *2 *2 $3 4-0 *2 $1 f $1 4 *2 $3 5-0 *2 $1 f $1 5
         XREADGROUP GROUP g c COUNT 1 STREAMS s 0 => *1 *2 $1 s *1 *2 $3 4-0 *2 $1 f $1 4
         XNACK s g SILENT IDS 2 1-0 1-0 RETRYCOUNT 4 => :2
         XNACK s g FATAL RETRYCOUNT 42 IDS 1 3-0 FORCE => :1
         XPENDING s g - 3 10 => *3 *4 $3 1-0 $0  :-1 :4 *4 $3 2-0 $0  :-1 :1 *4 $3 3-0 $0  :-1 :42
         XCLAIM s g e 999999 2-0 => *1 *2 $3 2-0 *2 $1 f $1 2
         XAUTOCLAIM s g e 999999 2 COUNT 1 => *3 $3 4-0 *1 *2 $3 3-0 *2 $1 f $1 3 *0
         XPENDING s g - + 3 => *3 *4 $3 1-0 $0  :-1 :4 *4 $3 2-0 $1 e :0 :2 *4 $3 3-0 $1 e :0 :43
         XACK s g 1-0 => :1
         XNACK s g FAIL IDS 1 1-0 => :0
         XNACK s g FAIL IDS 2 1-0 9-0 FORCE => :1
         XNACK s h FATAL IDS 2 4-0 5-0 FORCE RETRYCOUNT 3 => :2
         XPENDING s h - + 10 => *4 *4 $3 1-0 $1 d :0 :1 *4 $3 2-0 $1 d :0 :1 *4 $3 4-0 $0  :-1 :3 *4 $3 5-0 $0  :-1 :3
         XGROUP DELCONSUMER s h d => :2
         XDEL s 4-0 => :1
         XAUTOCLAIM s h e 10 0 => *3 $3 0-0 *1 *2 $3 5-0 *2 $1 f $1 5 *1 $3 4-0
         XNACK none g FAIL IDS 1 1-0 => -NOGROUP No such key 'none' or consumer group 'g'
         XNACK s none FAIL IDS 1 1-0 => -NOGROUP No such key 's' or consumer group 'none'
         XNACK s g BAD IDS 1 1-0 => -ERR mode must be SILENT, FAIL, or FATAL
         XNACK s g FAIL FATAL IDS 1 1-0 => -ERR Unrecognized XNACK option 'FATAL'
         XNACK s g FAIL IDS 1 1-0 2-0 => -ERR Unrecognized XNACK option '2-0'
         XNACK s g FAIL IDS 1 1-0 RETRYCOUNT => -ERR Unrecognized XNACK option 'RETRYCOUNT'
         XNACK s g FAIL FORCE RETRYCOUNT 5 => -ERR syntax error, expected IDS keyword
         XNACK s g FAIL IDS 0 1-0 => -ERR numids must be a positive integer
         XNACK s g FAIL IDS 2 1-0 => -ERR number of IDs doesn't match numids
         XNACK s g FAIL IDS 1 x => -ERR Invalid stream ID specified as stream command argument
         XNACK s g FAIL IDS 1 1-0 RETRYCOUNT -1 => -ERR Invalid RETRYCOUNT value, must be >= 0
         XNACK s g FAIL IDS 1 1-0 RETRYCOUNT x => -ERR value is not an integer or out of range
         XNACK s g FAIL IDS 1 => -ERR wrong number of arguments for 'xnack' command",
    );
    let full = console.ask("a", "XINFO STREAM s FULL");
    assert_eq!(full.matches("$12 nacked-count :1").count(), 1, "{full}");
    assert_eq!(full.matches("$12 nacked-count :0").count(), 1, "{full}");
}

#[test]
fn what_was_given_back_is_claimed_first_and_in_its_order() {
    let mut console = console();
    console.check(
        "XNACK s g FAIL IDS 3 3-0 1-0 2-0 => :3
         XNACK s g FAIL IDS 1 3-0 => :1",
    );
    // The line, and the times, outlive copying, which writes commands, and dumping.
    console.check("COPY s t => :1");
    let mut payload = b"*4\r\n$7\r\nRESTORE\r\n$1\r\nu\r\n$1\r\n0\r\n".to_vec();
    console.send("a", b"DUMP s\r\n");
    payload.extend(console.raw("a"));
    console.send("a", &payload);
    assert_eq!(console.raw("a"), b"+OK\r\n");
    console.advance_ms(50);
    let now = 1_767_225_600_050_u64;
    for key in ["s", "t", "u"] {
        let claimed = |id: u32, idle: u64| format!("*4 $3 {id}-0 *2 $1 f $1 {id} :{idle} :1");
        let of = |entries: &[String]| format!("*1 *2 $1 {key} *{} {}", entries.len(), entries.join(" "));
        let read = format!("XREADGROUP GROUP g e COUNT 2 CLAIM 50 STREAMS {key} >");
        assert_eq!(console.ask("a", &read), of(&[claimed(1, now), claimed(2, now)]));
        assert_eq!(console.ask("a", &read), of(&[claimed(3, now), claimed(4, 50)]));
        assert_eq!(console.ask("a", &read), of(&[claimed(5, 50)]));
        assert_eq!(console.ask("a", &read), "*-1");
    }
}

#[test]
fn reading_claims_what_has_been_pending_for_long() {
    let mut console = console();
    console.advance_ms(10);
    console.check(
        "XDEL s 1-0 => :1
         XCLAIM s g e 0 3-0 => *1 *2 $3 3-0 *2 $1 f $1 3
         XADD s 6-0 f 6 => $3 6-0
         XREADGROUP GROUP g e COUNT 2 CLAIM 11 STREAMS s > => *1 *2 $1 s *1 *4 $3 6-0 *2 $1 f $1 6 :0 :0
         XREADGROUP GROUP g e COUNT 2 CLAIM 10 STREAMS s > => *1 *2 $1 s *2 *4 $3 2-0 *2 $1 f $1 2 :10 :1 *4 $3 4-0 *2 $1 f $1 4 :10 :1
         XADD s 7-0 f 7 => $3 7-0
         XREADGROUP GROUP g e NOACK CLAIM 10 STREAMS s > => *1 *2 $1 s *2 *4 $3 5-0 *2 $1 f $1 5 :10 :1 *4 $3 7-0 *2 $1 f $1 7 :0 :0
         XPENDING s g - + 10 => *6 *4 $3 1-0 $1 c :10 :1 *4 $3 2-0 $1 e :0 :2 *4 $3 3-0 $1 e :0 :2 *4 $3 4-0 $1 e :0 :2 *4 $3 5-0 $1 e :0 :2 *4 $3 6-0 $1 e :0 :1
         XREADGROUP GROUP g e CLAIM 10 STREAMS s > => *-1
         XREADGROUP GROUP g e CLAIM 0 COUNT 1 STREAMS s 5 => *1 *2 $1 s *1 *2 $3 6-0 *2 $1 f $1 6
         XREADGROUP GROUP g e CLAIM x STREAMS s > => -ERR min-idle-time is not an integer or out of range
         XREADGROUP GROUP g e CLAIM -1 STREAMS s > => -ERR min-idle-time is negative
         XREAD CLAIM 10 STREAMS s 0 => -ERR The CLAIM option is only supported by XREADGROUP. You called XREAD instead.",
    );
}

#[test]
fn who_waits_to_claim_gets_it_when_it_is_time() {
    let mut console = console();
    let served = |console: &mut Console| String::from_utf8_lossy(&console.raw("b")).replace("\r\n", " ");
    let block = "XREADGROUP GROUP h e BLOCK 1000 CLAIM 100 STREAMS s >";
    console.ask("a", "XREADGROUP GROUP h d STREAMS s >");
    console.check("XACK s h 1-0 2-0 3-0 4-0 => :4");
    console.advance_ms(40);
    assert_eq!(console.ask("b", block), "");
    console.advance_ms(59);
    assert_eq!(served(&mut console), "");
    console.advance_ms(1);
    assert_eq!(served(&mut console), "*1 *2 $1 s *1 *4 $3 5-0 *2 $1 f $1 5 :100 :1 ");
    // What somebody else gets while it waits.
    console.check("XACK s h 5-0 => :1");
    assert_eq!(console.ask("b", block), "");
    console.advance_ms(30);
    console.check(
        "MULTI => +OK
         XADD s 6-0 f 6 => +QUEUED
         XREADGROUP GROUP h d STREAMS s > => +QUEUED
         EXEC => *2 $3 6-0 *1 *2 $1 s *1 *2 $3 6-0 *2 $1 f $1 6",
    );
    console.advance_ms(99);
    assert_eq!(served(&mut console), "");
    console.advance_ms(1);
    assert_eq!(served(&mut console), "*1 *2 $1 s *1 *4 $3 6-0 *2 $1 f $1 6 :100 :1 ");
    // What is given back is there at once, and what is new.
    assert_eq!(console.ask("b", block), "");
    console.check("XNACK s h FAIL IDS 1 6-0 => :1");
    assert!(served(&mut console).contains("6-0"));
    assert_eq!(console.ask("b", block), "");
    console.check("XADD s 7-0 f 7 => $3 7-0");
    assert_eq!(served(&mut console), "*1 *2 $1 s *1 *4 $3 7-0 *2 $1 f $1 7 :0 :0 ");
    console.check("XACK s h 6-0 7-0 => :2");
    assert_eq!(console.ask("b", block), "");
    console.advance_ms(999);
    assert_eq!(served(&mut console), "");
    console.advance_ms(1);
    assert_eq!(served(&mut console), "*-1 ");
    // Where its group goes, it is told when it looks.
    assert_eq!(console.ask("b", block), "");
    console.check("XGROUP DESTROY s h => :1");
    assert!(served(&mut console).starts_with("-NOGROUP"));
}

#[test]
fn a_reply_over_all_streams_is_limited() {
    let mut console = Console::default();
    for key in ["s", "t"] {
        for id in 1..=3 {
            console.ask("a", &format!("XADD {key} {id}-0 f {id}"));
        }
        console.ask("a", &format!("XGROUP CREATE {key} g 0"));
    }
    console.check(
        "XREAD COUNT 2 MAXCOUNT 3 STREAMS s t 0 0 => *2 *2 $1 s *2 *2 $3 1-0 *2 $1 f $1 1 *2 $3 2-0 *2 $1 f $1 2 *2 $1 t *1 *2 $3 1-0 *2 $1 f $1 1
         XREAD MAXCOUNT 3 STREAMS s t 0 0 => *1 *2 $1 s *3 *2 $3 1-0 *2 $1 f $1 1 *2 $3 2-0 *2 $1 f $1 2 *2 $3 3-0 *2 $1 f $1 3
         XREAD MAXSIZE 1 STREAMS s t 0 0 => *1 *2 $1 s *1 *2 $3 1-0 *2 $1 f $1 1
         XREADGROUP GROUP g c MAXSIZE 1 STREAMS s t > > => *1 *2 $1 s *1 *2 $3 1-0 *2 $1 f $1 1
         XREADGROUP GROUP g c MAXSIZE 90 STREAMS s t > > => *1 *2 $1 s *2 *2 $3 2-0 *2 $1 f $1 2 *2 $3 3-0 *2 $1 f $1 3
         XREADGROUP GROUP g c MAXCOUNT 2 STREAMS s t > > => *1 *2 $1 t *2 *2 $3 1-0 *2 $1 f $1 1 *2 $3 2-0 *2 $1 f $1 2
         XPENDING t g - + 9 => *2 *4 $3 1-0 $1 c :0 :1 *4 $3 2-0 $1 c :0 :1
         XREADGROUP GROUP g c MAXCOUNT 4 STREAMS s t 0 0 => *2 *2 $1 s *3 *2 $3 1-0 *2 $1 f $1 1 *2 $3 2-0 *2 $1 f $1 2 *2 $3 3-0 *2 $1 f $1 3 *2 $1 t *1 *2 $3 1-0 *2 $1 f $1 1
         XREADGROUP GROUP g c MAXCOUNT 3 STREAMS s t 0 0 => *1 *2 $1 s *3 *2 $3 1-0 *2 $1 f $1 1 *2 $3 2-0 *2 $1 f $1 2 *2 $3 3-0 *2 $1 f $1 3
         XREADGROUP GROUP g c MAXSIZE 1 STREAMS s t 9 0 => *2 *2 $1 s *0 *2 $1 t *1 *2 $3 1-0 *2 $1 f $1 1
         XREAD COUNT 3 MAXCOUNT 2 STREAMS s 0 => -ERR MAXCOUNT must be greater than or equal to COUNT
         XREAD MAXCOUNT 0 STREAMS s 0 => -ERR MAXCOUNT must be a positive integer
         XREAD MAXSIZE x STREAMS s 0 => -ERR MAXSIZE must be a positive integer",
    );
}

#[test]
fn a_producer_may_repeat_itself() {
    let mut console = Console::default();
    let id = |reply: &str| reply.split(' ').nth(1).unwrap().to_string();
    let first = id(&console.ask("a", "XADD s IDMP p 1 * f v"));
    console.advance_ms(5);
    assert_eq!(id(&console.ask("a", "XADD s IDMP p 1 MAXLEN 0 * other x")), first);
    assert_ne!(id(&console.ask("a", "XADD s IDMP q 1 * f v")), first);
    let auto = id(&console.ask("a", "XADD s NOMKSTREAM IDMPAUTO p MAXLEN ~ 9 KEEPREF * a 1 b 2"));
    assert_eq!(id(&console.ask("a", "XADD s IDMPAUTO p * b 2 a 1")), auto);
    assert_ne!(id(&console.ask("a", "XADD s IDMPAUTO p * b 1 a 2")), auto);
    console.check(&format!(
        "XLEN s => :4
         XDEL s {first} => :1
         XADD s IDMP p 1 * f v => ${} {first}",
        first.len()
    ));
    let info = console.ask("a", "XINFO STREAM s");
    let idmp = "$13 idmp-duration :100 $12 idmp-maxsize :100 $12 pids-tracked :2 $12 iids-tracked :4 $10 iids-added :4 $15 iids-duplicates :3";
    assert!(info.contains(idmp), "{info}");
    assert!(console.ask("a", "XINFO STREAM s FULL").contains(idmp));
    // 100 s after its entry was added a mark does not count any more.
    console.advance_ms(99_994);
    assert_eq!(id(&console.ask("a", "XADD s IDMP p 1 * f v")), first);
    console.advance_ms(1);
    assert_ne!(id(&console.ask("a", "XADD s IDMP p 1 * f v")), first);
    let info = console.ask("a", "XINFO STREAM s");
    assert!(info.contains("pids-tracked :2 $12 iids-tracked :4 $10 iids-added :5"), "{info}");
    // Of each producer so many count.
    console.check("XCFGSET s IDMP-MAXSIZE 2 => +OK");
    let ids: Vec<String> = (0..3).map(|n| id(&console.ask("a", &format!("XADD s IDMP p {n} * f v")))).collect();
    assert_ne!(id(&console.ask("a", "XADD s IDMP p 0 * f v")), ids[0]);
    assert_eq!(id(&console.ask("a", "XADD s IDMP p 2 * f v")), ids[2]);
    let info = console.ask("a", "XINFO STREAM s");
    assert!(info.contains("idmp-maxsize :2 $12 pids-tracked :1 $12 iids-tracked :2 $10 iids-added :9"), "{info}");
    // Setting what is set forgets nothing; anything else does.
    console.check("XCFGSET s IDMP-DURATION 100 IDMP-MAXSIZE 2 => +OK");
    assert_eq!(id(&console.ask("a", "XADD s IDMP p 2 * f v")), ids[2]);
    console.check("XCFGSET s IDMP-DURATION 7 => +OK");
    assert!(console.ask("a", "XINFO STREAM s").contains("idmp-duration :7 $12 idmp-maxsize :2 $12 pids-tracked :0"));
    console.check(
        "XADD s IDMP p 1 1-1 f v => -ERR IDMP/IDMPAUTO can be used only with auto-generated IDs
         XADD s IDMPAUTO p 1-* f v => -ERR IDMP/IDMPAUTO can be used only with auto-generated IDs
         XADD s IDMP p * f v => -ERR Invalid stream ID specified as stream command argument
         XADD s IDMP p 1 IDMPAUTO p * f v => -ERR IDMP/IDMPAUTO specified multiple times
         XADD s IDMP \"\" 1 * f v => -ERR IDMP requires a non-empty producer ID
         XADD s IDMP p \"\" * f v => -ERR IDMP requires a non-empty idempotent ID
         XADD s IDMPAUTO \"\" * f v => -ERR IDMPAUTO requires a non-empty producer ID
         XADD none NOMKSTREAM IDMP p 1 * f v => $-1
         XCFGSET none IDMP-DURATION 5 => -ERR no such key
         XCFGSET s => -ERR At least one parameter must be specified
         XCFGSET s IDMP-DURATION => -ERR syntax error
         XCFGSET s IDMP-DURATION 0 => -ERR IDMP-DURATION must be between 1 and 86400 seconds
         XCFGSET s IDMP-DURATION 86401 => -ERR IDMP-DURATION must be between 1 and 86400 seconds
         XCFGSET s IDMP-MAXSIZE 10001 => -ERR IDMP-MAXSIZE must be between 1 and 10000 entries
         XCFGSET s IDMP-MAXSIZE 3.14 => -ERR value is not an integer or out of range",
    );
}

#[test]
fn marks_of_producers_are_recorded() {
    let mut console = Console::new(&[("stream-idmp-maxsize", "7")]);
    console.check(
        "XADD s 1767225600000-1 f v => $15 1767225600000-1
         XADD s 1767225600000-2 f v => $15 1767225600000-2
         XIDMPRECORD s p 1 1767225600000-1 => +OK
         XIDMPRECORD s p 1 1767225600000-1 => +OK
         XIDMPRECORD s p 1 1767225600000-2 => -ERR The idempotent ID is already that of another entry
         XIDMPRECORD s p 2 1767225600000-3 => -ERR No such entry in the stream
         XIDMPRECORD s \"\" 2 1767225600000-2 => -ERR XIDMPRECORD requires a non-empty producer ID and a non-empty idempotent ID
         XIDMPRECORD s p 2 x => -ERR Invalid stream ID specified as stream command argument
         XIDMPRECORD none p 2 1-1 => -ERR no such key
         XADD s IDMP p 1 * f v => $15 1767225600000-1",
    );
    let info = console.ask("a", "XINFO STREAM s");
    assert!(info.contains("idmp-maxsize :7 $12 pids-tracked :1 $12 iids-tracked :1 $10 iids-added :1"), "{info}");
    // Dumped, restored.
    let mut payload = b"*4\r\n$7\r\nRESTORE\r\n$1\r\nu\r\n$1\r\n0\r\n".to_vec();
    console.send("a", b"DUMP s\r\n");
    payload.extend(console.raw("a"));
    console.send("a", &payload);
    assert_eq!(console.raw("a"), b"+OK\r\n");
    assert_eq!(console.ask("a", "XINFO STREAM u"), info);
    console.check("XADD u IDMP p 1 * f v => $15 1767225600000-1");
}
