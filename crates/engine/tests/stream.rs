//! Streams.

use kelda_engine::testing::Console;

#[test]
fn a_group_delivers_and_takes_acknowledgements() {
    let mut console = Console::default();
    console.check(
        "XGROUP CREATE s g 0 MKSTREAM => +OK
         XGROUP CREATE s g 0 MKSTREAM => -BUSYGROUP Consumer Group name already exists
         XADD s 1-1 f one => $3 1-1
         XADD s 2-1 f two => $3 2-1
         XREADGROUP GROUP g c COUNT 1 STREAMS s > => *1 *2 $1 s *1 *2 $3 1-1 *2 $1 f $3 one
         XPENDING s g => *4 :1 $3 1-1 $3 1-1 *1 *2 $1 c $1 1
         XREADGROUP GROUP g c COUNT 5 STREAMS s > => *1 *2 $1 s *1 *2 $3 2-1 *2 $1 f $3 two
         XREADGROUP GROUP g c STREAMS s > => *-1
         XACK s g 1-1 9-9 => :1
         XACK s g 1-1 => :0
         XPENDING s g - + 10 => *1 *4 $3 2-1 $1 c :0 :1",
    );
    assert_eq!(console.ask("a", "XREADGROUP GROUP g c BLOCK 100 STREAMS s >"), "");
    console.advance_ms(99);
    assert_eq!(console.raw("a"), b"");
    assert_eq!(console.ask("b", "XADD s 3-1 f three"), "$3 3-1");
    let served = String::from_utf8_lossy(&console.raw("a")).replace("\r\n", " ");
    assert_eq!(served, "*1 *2 $1 s *1 *2 $3 3-1 *2 $1 f $5 three ");
    console.check("XPENDING s g - + 10 c => *2 *4 $3 2-1 $1 c :99 :1 *4 $3 3-1 $1 c :0 :1");
    assert_eq!(console.ask("a", "XREADGROUP GROUP g c BLOCK 100 STREAMS s >"), "");
    console.advance_ms(100);
    assert_eq!(console.raw("a"), b"*-1\r\n");
}
