//! The interpreter against answers recorded from Redis 7.0.15 (and, for the text of doubles, Valkey 9.1.2).

use proptest::prelude::*;

use super::*;

/// Knows PING, ECHO and a GET that finds nothing; counts polls and ends the script at `kill_after` of them.
#[derive(Default)]
struct Dummy {
    polls: u64,
    kill_after: Option<u64>,
    logged: Vec<(i64, Vec<u8>)>,
}

impl ScriptHost for Dummy {
    fn call(&mut self, arguments: &[&[u8]], resp3: bool, reply: &mut Vec<u8>) {
        let text: &[u8] = match (arguments[0].to_ascii_lowercase().as_slice(), arguments.len()) {
            (b"ping", 1) => b"+PONG\r\n",
            (b"get", 2) if resp3 => b"_\r\n",
            (b"get", 2) => b"$-1\r\n",
            (b"echo", 2) => {
                reply.extend_from_slice(format!("${}\r\n", arguments[1].len()).as_bytes());
                reply.extend_from_slice(arguments[1]);
                b"\r\n"
            }
            // Hands the bytes given to the script as they are.
            (b"raw", 2) => arguments[1],
            (b"ping" | b"get" | b"echo" | b"set", _) => {
                b"-ERR Wrong number of args calling Redis command from script\r\n"
            }
            _ => b"-ERR Unknown Redis command called from script\r\n",
        };
        reply.extend_from_slice(text);
    }

    fn log(&mut self, level: i64, text: &[u8]) {
        self.logged.push((level, text.to_vec()));
    }

    fn poll(&mut self) -> Result<(), Interrupt> {
        self.polls += 1;
        if self.kill_after.is_some_and(|limit| self.polls >= limit) { Err(Interrupt::Kill) } else { Ok(()) }
    }

    fn acl_check(&mut self, arguments: &[&[u8]]) -> Option<bool> {
        match arguments[0] {
            b"ping" => Some(true),
            b"get" => Some(false),
            _ => None,
        }
    }
}

fn interpreter() -> Interpreter {
    Interpreter::new(&ScriptOptions { memory_limit: 64 << 20, seed: 1, version: (7, 4, 0) }).unwrap()
}

fn eval_with(interpreter: &mut Interpreter, host: &mut Dummy, script: &[u8], resp3: bool) -> Vec<u8> {
    let sha = sha1_smol::Sha1::from(script).digest().to_string();
    let mut reply = Vec::new();
    match interpreter.load(&sha, script) {
        Ok(()) => {
            interpreter.run(&sha, &[b"k1"], &[b"a1", b"a2"], host, &mut reply, resp3);
        }
        Err(text) => reply::write_error(&mut reply, text.as_bytes()),
    }
    reply
}

fn eval(interpreter: &mut Interpreter, script: &str) -> String {
    String::from_utf8_lossy(&eval_with(interpreter, &mut Dummy::default(), script.as_bytes(), false)).into_owned()
}

fn unescape(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        match bytes.next() {
            Some(b'n') => out.push(b'\n'),
            Some(b'r') => out.push(b'\r'),
            Some(b't') => out.push(b'\t'),
            Some(b'x') => {
                let digits = [bytes.next().unwrap(), bytes.next().unwrap()];
                out.push(u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap());
            }
            other => out.push(other.unwrap()),
        }
    }
    out
}

/// Each line: a script, its reply in RESP2 and, where it differs, in RESP3. One interpreter serves them all in order, as the
/// recorded server did.
#[test]
fn answers_are_those_of_redis() {
    // Unoptimised frames are large, and some scripts nest a thousand deep.
    let thread = std::thread::Builder::new().stack_size(64 << 20).spawn(compare_with_recorded_answers).unwrap();
    thread.join().unwrap();
}

fn compare_with_recorded_answers() {
    let mut interpreter = interpreter();
    let mut wrong = Vec::new();
    for line in include_str!("oracle_cases.tsv").lines() {
        let fields: Vec<Vec<u8>> = line.split('\t').map(unescape).collect();
        let script = &fields[0];
        for (resp3, expected) in [(false, &fields[1]), (true, fields.last().unwrap())] {
            let got = eval_with(&mut interpreter, &mut Dummy::default(), script, resp3);
            if got != *expected {
                wrong.push(format!(
                    "{}\n    want {:?}\n    got  {:?}",
                    String::from_utf8_lossy(script),
                    String::from_utf8_lossy(&expected[..expected.len().min(300)]),
                    String::from_utf8_lossy(&got[..got.len().min(300)])
                ));
                break;
            }
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn replies_of_commands_become_lua_values() {
    let mut interpreter = interpreter();
    for (resp, expression, expected) in [
        (":7\\r\\n", "v + 1", ":8\r\n"),
        (
            "*3\\r\\n:1\\r\\n$-1\\r\\n$1\\r\\nx\\r\\n",
            "{v[1], tostring(v[2]), v[3], #v}",
            "*4\r\n:1\r\n$5\r\nfalse\r\n$1\r\nx\r\n:3\r\n",
        ),
        ("*-1\\r\\n", "tostring(v)", "$5\r\nfalse\r\n"),
        ("%1\\r\\n$1\\r\\na\\r\\n:2\\r\\n", "v.map.a", ":2\r\n"),
        ("~2\\r\\n$1\\r\\na\\r\\n_\\r\\n", "tostring(v.set.a)", "$4\r\ntrue\r\n"),
        (",1.25\\r\\n", "tostring(v.double)", "$4\r\n1.25\r\n"),
        (",-inf\\r\\n", "tostring(v.double)", "$4\r\n-inf\r\n"),
        ("#t\\r\\n", "tostring(v)", "$4\r\ntrue\r\n"),
        ("_\\r\\n", "tostring(v)", "$3\r\nnil\r\n"),
        ("(123\\r\\n", "v.big_number", "$3\r\n123\r\n"),
        (
            "=5\\r\\ntxt:a\\r\\n",
            "{v.verbatim_string.format, v.verbatim_string.string}",
            "*2\r\n$3\r\ntxt\r\n$1\r\na\r\n",
        ),
        ("|1\\r\\n+k\\r\\n+v\\r\\n:5\\r\\n", "v", ":5\r\n"),
        ("*1\\r\\n-ERR x\\r\\n", "v[1].err", "$5\r\nERR x\r\n"),
    ] {
        assert_eq!(
            eval(&mut interpreter, &format!("local v = redis.call('raw', '{resp}') return {expression}")),
            expected,
            "{resp}"
        );
    }
}

#[test]
fn what_one_script_does_the_next_does_not_see() {
    let mut interpreter = interpreter();
    for attack in [
        "rawset(_G, 'x', 1)",
        "table.insert(redis, 1)",
        "table.sort(redis)",
        "table.remove(redis)",
        "setmetatable(_G, {})",
        "setmetatable(redis, {})",
        "getmetatable(_G).__index = 1",
        "getmetatable('').__index = 1",
        "getmetatable('').__index.upper = 1",
        "rawset(getmetatable(_G), '__index', 1)",
        "_G._G = 1",
        "string.format = 1",
        "math.random = nil",
        "coroutine.wrap = 1",
        "os.clock = 1",
        "for _, t in pairs(_G) do if type(t) == 'table' and t ~= KEYS and t ~= ARGV then t.x = 1 end end",
        "local f, t = pairs(redis) t.x = 1",
        "table.foreach(_G, function(_, t) if type(t) == 'table' then t.x = 1 end end)",
        "x = 1",
        "cjson.null = 1",
        "redis.call = 1",
        "server.call = 1",
        "table.setn(redis, 3)",
    ] {
        let reply = eval(&mut interpreter, attack);
        assert!(
            reply.starts_with("-ERR ") && reply.contains("Attempt to modify a readonly table"),
            "{attack}: {reply}"
        );
    }
    assert_eq!(
        eval(
            &mut interpreter,
            "return {('x'):upper(), type(redis.call), #string.format('%d', 1), tostring(rawget(_G, 'x'))}"
        ),
        "*4\r\n$1\r\nX\r\n$8\r\nfunction\r\n:1\r\n$3\r\nnil\r\n"
    );
}

#[test]
fn what_is_not_for_scripts_is_not_there() {
    let mut interpreter = interpreter();
    for name in [
        "loadfile", "dofile", "print", "require", "module", "package", "io", "debug", "newproxy", "getfenv", "setfenv",
        "host",
    ] {
        let reply = eval(&mut interpreter, &format!("return {name}"));
        assert!(reply.contains(&format!("Script attempted to access nonexistent global variable '{name}'")), "{reply}");
    }
    for method in ["execute", "exit", "getenv", "remove", "rename", "setlocale", "tmpname", "time"] {
        assert!(
            eval(&mut interpreter, &format!("os.{method}()")).contains(&format!("attempt to call field '{method}'"))
        );
    }
    assert!(
        eval(&mut interpreter, "loadstring(string.dump(function() return 1 end))()")
            .contains("attempt to call a nil value")
    );
    let in_pieces = "local code, at = string.dump(function() return 1 end), 0
        return load(function() at = at + 1 if at <= #code then return code:sub(at, at) end end)()";
    assert!(eval(&mut interpreter, in_pieces).contains("attempt to call a nil value"));
    assert_eq!(
        eval(&mut interpreter, "local names = {} for name in pairs(os) do names[#names + 1] = name end return names"),
        "*1\r\n$5\r\nclock\r\n"
    );
}

#[test]
fn a_kill_ends_any_script_and_the_next_one_runs() {
    let mut interpreter = interpreter();
    for script in [
        "while true do end",
        "while true do pcall(function() while true do end end) end",
        "while true do pcall(pcall, pcall, function() while true do end end) end",
        "while true do redis.pcall('ping') end",
        "local function f() return f() end f()",
        "while true do xpcall(function() while true do end end, function() while true do end end) end",
        "while true do coroutine.resume(coroutine.create(function() while true do end end)) end",
        "local f = coroutine.wrap(function() while true do coroutine.yield() end end) while true do pcall(f) end",
        "while true do table.sort({3, 2, 1}, function(a, b) return a < b end) end",
        "setmetatable({}, {__index = function() while true do end end}).x()",
    ] {
        let mut host = Dummy { kill_after: Some(3), ..Dummy::default() };
        let reply = String::from_utf8(eval_with(&mut interpreter, &mut host, script.as_bytes(), false)).unwrap();
        assert!(reply.starts_with("-ERR Script killed by user with SCRIPT KILL... script: "), "{script}: {reply}");
        assert!(reply.ends_with(", on @user_script:1.\r\n"), "{script}: {reply}");
        assert_eq!(host.polls, 3, "{script}");
        assert_eq!(eval(&mut interpreter, "return {pcall(error, 'x', 0)}"), "*2\r\n$-1\r\n$1\r\nx\r\n");
    }
}

#[test]
fn out_of_memory_is_an_error_and_the_next_script_runs() {
    let mut interpreter = interpreter();
    for script in [
        "local t = {} while true do t[#t + 1] = string.rep('x', 100000) .. #t end",
        "return #string.rep('x', 200000000)",
        "local t = {} while true do t = {t, t} end",
        "local t = {} for i = 1, 20000000 do t[i] = i end return cjson.encode(t)",
        "local s = string.rep('x', 30000000) return #redis.call('echo', s .. s)",
        "local s = string.rep('x', 30000000) return #cjson.encode(s)",
    ] {
        let reply = eval(&mut interpreter, script);
        assert!(reply.starts_with("-ERR not enough memory script: "), "{script}: {}", &reply[..reply.len().min(100)]);
        assert_eq!(eval(&mut interpreter, "return redis.call('echo', string.rep('x', 10))"), "$10\r\nxxxxxxxxxx\r\n");
    }
    assert!(interpreter.used_memory() < 16 << 20);
}

#[test]
fn nesting_has_an_end() {
    let test = || {
        let reply = eval(&mut interpreter(), "local a = {} a[1] = a return a");
        assert!(reply.ends_with("*1\r\n-ERR reached lua stack limit\r\n"));
    };
    std::thread::Builder::new().stack_size(64 << 20).spawn(test).unwrap().join().unwrap();
}

#[test]
fn no_depth_setting_reaches_the_end_of_the_stack() {
    let test = || {
        let mut interpreter = interpreter();
        let reply = eval(
            &mut interpreter,
            "cjson.encode_max_depth(1000000) local t = {} for i = 1, 50000 do t = {t} end return cjson.encode(t)",
        );
        assert!(reply.contains("Cannot serialise, excessive nesting (1001)"), "{reply}");
        let reply =
            eval(&mut interpreter, "cjson.decode_max_depth(1000000) return cjson.decode(string.rep('[', 50000))");
        assert!(reply.contains("Found too many nested data structures (1001)"), "{reply}");
    };
    std::thread::Builder::new().stack_size(64 << 20).spawn(test).unwrap().join().unwrap();
}

#[test]
fn random_numbers_are_those_of_redis() {
    let script = "math.randomseed(42) return {math.random(1000), math.random(1000), math.random(1000), tostring(math.random()), math.random(5, 1000)}";
    assert_eq!(eval(&mut interpreter(), script), "*5\r\n:745\r\n:343\r\n:112\r\n$16\r\n0.42233895809499\r\n:85\r\n");
}

#[test]
fn log_and_acl_reach_the_host() {
    let mut interpreter = interpreter();
    let mut host = Dummy::default();
    eval_with(&mut interpreter, &mut host, b"redis.log(redis.LOG_NOTICE, 'a', 1, {}, 'b')", false);
    assert_eq!(host.logged, [(2, b"a 1 b".to_vec())]);
    assert_eq!(eval(&mut interpreter, "return redis.acl_check_cmd('ping')"), ":1\r\n");
    assert_eq!(eval(&mut interpreter, "return redis.acl_check_cmd('get', 'x')"), "$-1\r\n");
    assert!(
        eval(&mut interpreter, "return redis.acl_check_cmd('nosuch')")
            .starts_with("-ERR Invalid command passed to redis.acl_check_cmd() script: ")
    );
}

#[test]
fn scripts_are_forgotten_and_garbage_is_collected() {
    let mut interpreter = interpreter();
    for _ in 0..20_000 {
        eval(&mut interpreter, "return redis.call('echo', 'x')");
    }
    assert_eq!(interpreter.scripts(), 1);
    assert!(interpreter.used_memory() < 1 << 20, "{}", interpreter.used_memory());
    interpreter.flush();
    let mut reply = Vec::new();
    interpreter.run("0", &[], &[], &mut Dummy::default(), &mut reply, false);
    assert!(reply.starts_with(b"-NOSCRIPT "));
}

fn lua_value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("true".to_string()),
        Just("false".to_string()),
        any::<i32>().prop_map(|n| n.to_string()),
        (-1e15f64..1e15).prop_map(|n| format!("{n:?}")),
        "[a-z]{0,40}".prop_map(|s| format!("'{s}'")),
        proptest::collection::vec(any::<u8>(), 0..6)
            .prop_map(|b| format!("'{}'", b.iter().map(|b| format!("\\{b:03}")).collect::<String>())),
    ];
    leaf.prop_recursive(4, 64, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..20).prop_map(|items| format!("{{{}}}", items.join(","))),
            proptest::collection::btree_map("[a-z]{1,5}", inner, 1..6).prop_map(|map| format!(
                "{{{}}}",
                map.iter().map(|(k, v)| format!("['{k}']={v}")).collect::<Vec<_>>().join(",")
            )),
        ]
    })
}

const SAME: &str = "local function same(a, b)
  if type(a) ~= type(b) then return false end
  if type(a) == 'number' then return a == b or math.abs(a - b) <= math.abs(a) * 1e-12 end
  if type(a) ~= 'table' then return a == b end
  for k, v in pairs(a) do if not same(v, b[k]) then return false end end
  for k in pairs(b) do if a[k] == nil then return false end end
  return true
end ";

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn cjson_and_cmsgpack_round_trip(value in lua_value()) {
        let mut interpreter = interpreter();
        let script = format!("{SAME} local v = {value} return {{same(v, cjson.decode(cjson.encode(v))), same(v, cmsgpack.unpack(cmsgpack.pack(v)))}}");
        prop_assert_eq!(eval(&mut interpreter, &script), "*2\r\n:1\r\n:1\r\n");
    }

    #[test]
    fn any_bytes_decode_or_fail(bytes in proptest::collection::vec(any::<u8>(), 0..60), format in "[<>!a-zA-Z0-9 ]{0,8}") {
        let mut interpreter = interpreter();
        let text: String = bytes.iter().map(|b| format!("\\{b:03}")).collect();
        let script = format!("local s = '{text}' pcall(cjson.decode, s) pcall(cmsgpack.unpack, s) pcall(struct.unpack, '{format}', s) pcall(struct.pack, '{format}', s, 1, 2) pcall(redis.call, 'raw', s) return 1");
        prop_assert_eq!(eval(&mut interpreter, &script), ":1\r\n");
    }
}

/// `cargo test --release -p kelda-engine scripting -- --ignored --nocapture`
#[test]
#[ignore = "a measurement"]
fn cost_of_a_call() {
    let mut interpreter = interpreter();
    for (name, script, calls) in [
        ("redis.call('echo', x)", "local x = 'value' for i = 1, 1000000 do redis.call('echo', x) end", 1_000_000u32),
        ("redis.call('ping')", "for i = 1, 1000000 do redis.call('ping') end", 1_000_000),
        ("redis.call('echo', i)", "for i = 1, 1000000 do redis.call('echo', i) end", 1_000_000),
        ("bit.band(i, 255)", "for i = 1, 1000000 do bit.band(i, 255) end", 1_000_000),
        (
            "cjson.encode of 3 fields",
            "local t = {a = 1, b = 'x', c = {1, 2}} for i = 1, 100000 do cjson.encode(t) end",
            100_000,
        ),
        ("pcall", "local f = function() end for i = 1, 1000000 do pcall(f) end", 1_000_000),
    ] {
        let start = std::time::Instant::now();
        eval(&mut interpreter, script);
        println!("{name}: {} ns", start.elapsed().as_nanos() / u128::from(calls));
    }
    let (script, mut reply) = ("return redis.call('get', KEYS[1])", Vec::new());
    interpreter.load("sha", script.as_bytes()).unwrap();
    let start = std::time::Instant::now();
    for _ in 0..1_000_000 {
        reply.clear();
        interpreter.run("sha", &[b"key"], &[b"token"], &mut Dummy::default(), &mut reply, false);
    }
    println!("whole run of `{script}`: {} ns", start.elapsed().as_nanos() / 1_000_000);
}
