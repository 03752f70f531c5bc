"""Values and files go from Redis and Valkey to Kelda and back: DUMP and RESTORE, and RDB files.

Without `redis-server` in the path, or without Valkey, what concerns it is skipped."""

import pathlib
import random
import shutil

import pytest
import redis
from conftest import BINARY, IS_KELDA, Server, wait_until
from test_command_table import valkey_binary

pytestmark = pytest.mark.skipif(not IS_KELDA, reason="compares Kelda with its peers")


@pytest.fixture(params=["redis", "valkey"])
def peer(request):
    """The binary of a peer."""
    if request.param == "valkey":
        return valkey_binary()
    return shutil.which("redis-server") or pytest.skip("there is no redis-server here")


def start(binary, *directives):
    directives = ("--appendonly", "no", *directives)
    if binary != BINARY:
        directives = ("--sanitize-dump-payload", "yes", *directives)
    return Server(*directives, binary=binary)


# Texts of each length at which an encoding changes, integers of each width.
TEXTS = [b"x" * n for n in (0, 1, 11, 12, 20, 21, 44, 45, 63, 64, 65, 4095, 4096, 16383, 16384, 70000)]
INTS = [str(n).encode() for bits in (0, 6, 7, 8, 12, 13, 15, 16, 23, 24, 31, 32, 63) for n in (2**bits - 1, -(2**bits))]
ODD = [b"012", b"-0", b"+1", b" 1", b"1.0", b"9223372036854775808", b"\x00\xff\r\n", "\u00e4\u00f6".encode(), b"1e5"]
SCORES = [0.0, -0.0, 1.0, -1.5, 3.141592653589793, 1e300, 5e-324, float("inf"), float("-inf"), 2.0**53, 1e21, 123456789012]
SIZES = [1, 2, 60, 130, 600, 5000]


def noise(count):
    source = random.Random(count)
    return [source.randbytes(source.randrange(0, 30)) + str(n).encode() for n in range(count)]


def fill(client):
    """Keys of every type, size and encoding."""
    r = client.pipeline(transaction=False)
    for n, text in enumerate(TEXTS + INTS + ODD):
        r.set(f"string:{n}", text)
    r.set("string:random", random.Random(1).randbytes(3000))
    r.append("string:random", "more")
    everything = TEXTS[:-1] + INTS + ODD
    for size in SIZES:
        for kind, texts in ("noise", noise(size)), ("ints", [str(n * n - 77) for n in range(size)]), ("mixed", everything[:size]):
            name = f"{kind}:{size}"
            r.rpush(f"list:{name}", *texts)
            r.sadd(f"set:{name}", *texts)
            r.hset(f"hash:{name}", mapping={text: texts[-1 - n] for n, text in enumerate(texts)})
            r.zadd(f"zset:{name}", {text: SCORES[n % len(SCORES)] + n // len(SCORES) for n, text in enumerate(texts)})
            for n, text in enumerate(texts):
                r.xadd(f"stream:{name}", {"field": text, f"f{n % 3}": n}, id=f"{1000 + n // 3}-{n % 3 + 1}")
    r.sadd("set:wide", *[str(2**40 + n) for n in range(9)])
    r.sadd("set:middle", *[str(70000 + n) for n in range(9)])
    r.rpush("list:large", *[bytes([65 + n]) * 20000 for n in range(5)])
    for n in range(300):
        r.xadd("stream:groups", {"a": n} if n % 5 else {"other": n, "names": "x"}, id=f"{n + 1}-1")
    for n in range(0, 300, 7):
        r.xdel("stream:groups", f"{n + 1}-1")
    for group in ("g1", "g2", "empty"):
        r.xgroup_create("stream:groups", group, "0")
    r.xreadgroup("g1", "alice", {"stream:groups": ">"}, count=50)
    r.xreadgroup("g1", "bob", {"stream:groups": ">"}, count=20)
    r.xreadgroup("g2", "alice", {"stream:groups": ">"}, count=250)
    r.xack("stream:groups", "g1", "2-1", "3-1", "55-1")
    r.xclaim("stream:groups", "g1", "bob", 0, ["4-1", "5-1"])
    r.xdel("stream:groups", "5-1", "300-1")
    r.xtrim("stream:groups", maxlen=220, approximate=False)
    r.xgroup_createconsumer("stream:groups", "g2", "idle")
    r.xadd("stream:emptied", {"a": 1}, id="5-5")
    r.xdel("stream:emptied", "5-5")
    r.xgroup_create("stream:created", "g", "$", mkstream=True)
    r.set("expires", "x", pxat=99_999_999_999_999)
    r.pexpireat("hash:mixed:60", 88_888_888_888_888)
    r.execute()


def picture(r):
    """All that commands tell of all keys."""
    return {key: (r.pexpiretime(key), look(r, key)) for key in sorted(r.keys())}


def look(r, key):
    match r.type(key):
        case b"string":
            return r.get(key)
        case b"list":
            return r.lrange(key, 0, -1)
        case b"set":
            return sorted(r.smembers(key))
        case b"hash":
            return r.hgetall(key)
        case b"zset":
            return [(member, str(score)) for member, score in r.zrange(key, 0, -1, withscores=True)]
        case b"stream":
            return stream(r, key)


def stream(r, key):
    told = r.execute_command("XINFO STREAM", key)
    told = told if isinstance(told, dict) else dict(zip(told[::2], told[1::2]))
    # Not what is of the servers' own memory, nor what only newest Redis has.
    left_out = ("radix", "first", "last-entry", "idmp", "iids", "pids")
    told = {name: told[name] for name in told if not any(part in str(name) for part in left_out)}
    groups = []
    for group in r.xinfo_groups(key):
        pending = r.xpending_range(key, group["name"], "-", "+", 1000)
        pending = [(p["message_id"], p["consumer"], p["times_delivered"]) for p in pending]
        groups.append((group, pending, [c["name"] for c in r.xinfo_consumers(key, group["name"])]))
    # The lag that newest Redis tells where Redis 7.0 does not know it, and what that does not have.
    for group, _, _ in groups:
        group.pop("lag", None)
        group.pop("nacked-count", None)
    return told, r.xrange(key), groups


def copy(source, target):
    for key in source.keys():
        expires = max(source.pexpiretime(key), 0)
        assert target.restore(key, expires, source.dump(key), absttl=True) in (True, b"OK"), key


@pytest.fixture
def pair(peer):
    ours, theirs = start(BINARY), start(peer)
    with redis.Redis(**ours.address) as kelda, redis.Redis(**theirs.address) as other:
        yield kelda, other
    theirs.stop()
    ours.stop()


def test_values_of_a_peer_come_back(pair):
    kelda, other = pair
    fill(other)
    copy(other, kelda)
    assert picture(kelda) == picture(other)
    # And back again.
    want = picture(other)
    other.flushall()
    copy(kelda, other)
    assert picture(other) == want


def test_fields_that_expire(tmp_path):
    ours, theirs = start(BINARY, "--rdb-version", "80"), start(valkey_binary())
    with redis.Redis(**ours.address) as kelda, redis.Redis(**theirs.address) as other:
        for key, count in ("small", 5), ("large", 1000):
            other.hset(key, mapping={f"field{n}": n for n in range(count)})
            other.hpexpireat(key, 99_999_999_999_999, "field1", "field3")
            other.hpexpireat(key, 88_888_888_888_888, "field2")
            kelda.restore(key, 0, other.dump(key))
            fields = [f"field{n}" for n in range(count)]
            want = other.hgetall(key), other.hpexpiretime(key, *fields)
            assert (kelda.hgetall(key), kelda.hpexpiretime(key, *fields)) == want
            other.delete(key)
            other.restore(key, 0, kelda.dump(key))
            assert (other.hgetall(key), other.hpexpiretime(key, *fields)) == want
            # The form of Redis 7.4.
            kelda.config_set("rdb-version", 12)
            assert kelda.restore(key + "-copy", 0, kelda.dump(key))
            assert (kelda.hgetall(key + "-copy"), kelda.hpexpiretime(key + "-copy", *fields)) == want
            kelda.config_set("rdb-version", 80)
        kelda.hset("short", "field", 1)
        kelda.hpexpire("short", 1, "field")
        digest = kelda.execute_command("DEBUG DIGEST-VALUE", "small", "large")
        kelda.execute_command("DEBUG RELOAD")
        assert kelda.execute_command("DEBUG DIGEST-VALUE", "small", "large") == digest
        other.save()
        copy_of_theirs = started_on(BINARY, theirs)
        kelda.save()
        copy_of_ours = started_on(valkey_binary(), ours)
        with redis.Redis(**copy_of_theirs.address) as a, redis.Redis(**copy_of_ours.address) as b:
            for client in (a, b):
                assert (client.hgetall("large"), client.hpexpiretime("large", *fields)) == want
            assert not b.exists("short")
        copy_of_theirs.stop()
        copy_of_ours.stop()
    theirs.stop()
    ours.stop()


def test_our_values_are_read_by_a_peer(pair):
    kelda, other = pair
    fill(kelda)
    copy(kelda, other)
    assert picture(other) == picture(kelda)
    for key in kelda.keys():
        # A peer that writes what it has read is understood, too.
        assert kelda.restore(key, 0, other.dump(key), replace=True)


def test_encodings_are_those_of_a_peer(pair):
    kelda, other = pair
    fill(other)
    copy(other, kelda)
    version = other.info()["redis_version"]
    # Redis 7.0 has no packed sets and no packed lists.
    if version >= "7.2":
        for key in other.keys("[^s]*") + other.keys("s[^t]*"):
            assert kelda.object("encoding", key) == other.object("encoding", key), key


FUNCTION = "#!lua name=lib\nredis.register_function('answer', function() return 42 end)"


def started_on(binary, source, *directives):
    """A server of this binary on what another one has saved."""
    # It never writes there.
    server = start(binary, *directives, "--dir", source.directory.name)
    with redis.Redis(**server.address) as client:
        try:
            wait_until(lambda: client.info("persistence")["loading"] == 0)
        except redis.RedisError:
            server.log.seek(0)
            raise RuntimeError(server.log.read()) from None
    return server


@pytest.mark.parametrize("threads", ["1", "3"])
def test_a_file_of_a_peer_is_loaded(peer, threads):
    theirs = start(peer)
    ours = None
    with redis.Redis(**theirs.address) as other, redis.Redis(**theirs.address, db=3) as third:
        fill(other)
        third.set("elsewhere", 1)
        other.set("short", "x", px=1)
        other.function_load(FUNCTION)
        other.save()
        ours = started_on(BINARY, theirs, "--threads", threads)
        with redis.Redis(**ours.address) as kelda, redis.Redis(**ours.address, db=3) as our_third:
            other.get("short")
            assert picture(kelda) == picture(other)
            assert our_third.get("elsewhere") == b"1"
            assert kelda.fcall("answer", 0) == 42
    ours.stop()
    theirs.stop()


def test_our_file_is_loaded_by_a_peer(peer):
    ours = start(BINARY)
    with redis.Redis(**ours.address) as kelda, redis.Redis(**ours.address, db=3) as our_third:
        fill(kelda)
        our_third.set("elsewhere", 1)
        kelda.function_load(FUNCTION)
        assert kelda.save()
        theirs = started_on(peer, ours)
        with redis.Redis(**theirs.address) as other, redis.Redis(**theirs.address, db=3) as third:
            assert picture(other) == picture(kelda)
            assert third.get("elsewhere") == b"1"
            assert other.fcall("answer", 0) == 42
        theirs.stop()
    ours.stop()


def test_members_that_expire_stay_where_nobody_knows_that(peer):
    """Times of members stand where a peer does not look; we find them."""
    ours = start(BINARY)
    with redis.Redis(**ours.address) as kelda:
        names = [f"m{n}" for n in range(300)]
        for key, members in ("small", names[:3]), ("large", names):
            kelda.zadd("z" + key, {name: n for n, name in enumerate(members)})
            kelda.sadd("s" + key, *members)
            for letter in "zs":
                kelda.execute_command(letter + "PEXPIREAT", letter + key, 99_999_999_999_999 // 2, "MEMBERS", 2, "m0", "m2")
        ask = lambda r, letter, key: r.execute_command(letter + "PEXPIRETIME", letter + key, "MEMBERS", 3, "m0", "m1", "m2")
        want = [49_999_999_999_999, -1, 49_999_999_999_999]
        assert kelda.save()
        theirs, again = started_on(peer, ours), started_on(BINARY, ours)
        with redis.Redis(**theirs.address) as other, redis.Redis(**again.address) as loaded:
            for key in "small", "large":
                assert other.zrange("z" + key, 0, -1) == kelda.zrange("z" + key, 0, -1)
                assert other.smembers("s" + key) == kelda.smembers("s" + key)
                for letter in "zs":
                    assert ask(loaded, letter, key) == ask(kelda, letter, key) == want
                    assert other.restore(letter + key, 0, kelda.dump(letter + key), replace=True)
                    assert loaded.restore(letter + key, 0, kelda.dump(letter + key), replace=True)
                    assert ask(loaded, letter, key) == want
        theirs.stop()
        again.stop()
    ours.stop()


def test_reload_and_restart_change_nothing():
    ours = start(BINARY, "--threads", "2")
    with redis.Redis(**ours.address) as kelda:
        fill(kelda)
        kelda.function_load(FUNCTION)
        want, digest = picture(kelda), kelda.execute_command("DEBUG DIGEST")
        kelda.execute_command("DEBUG RELOAD")
        assert picture(kelda) == want
        assert kelda.execute_command("DEBUG DIGEST") == digest
        kelda.save()
        again = started_on(BINARY, ours)
        with redis.Redis(**again.address) as other:
            assert other.execute_command("DEBUG DIGEST") == digest
            assert other.fcall("answer", 0) == 42
        again.stop()
    ours.stop()


def test_damage_keeps_the_server_from_starting():
    ours = start(BINARY)
    with redis.Redis(**ours.address) as kelda:
        kelda.set("key", "value")
        kelda.save()
    file = pathlib.Path(ours.directory.name) / "dump.rdb"
    sound = file.read_bytes()
    for damaged in (sound[:-1], sound[:30], b"", b"x" + sound[1:], sound[:40] + b"\x00" + sound[41:]):
        file.write_bytes(damaged)
        with pytest.raises(RuntimeError, match="Fatal error loading the DB"):
            started_on(BINARY, ours)
    ours.stop()
