"""Pattern 5: expiry, deletion and the keyspace."""

import time

import redis
from conftest import wait_until


def test_expiry_family(r, t):
    r.set("k", "v")
    assert r.ttl("k") == -1 and r.ttl("nokey") == -2
    assert r.expire("k", 100) and 99 <= r.ttl("k") <= 100
    assert not r.expire("k", 50, gt=True) and r.expire("k", 50, lt=True)
    assert not r.expire("k", 10, nx=True) and r.expire("k", 10, xx=True)
    assert r.persist("k") and r.ttl("k") == -1
    assert r.expireat("k", 33177117420) and r.expiretime("k") == 33177117420
    assert r.pexpire("k", 20)
    wait_until(lambda: r.get("k") is None)
    assert r.exists("k") == 0 and r.type("k") == t("none")


def test_keyspace(r, t):
    r.mset({f"key:{n}": n for n in range(1000)})
    assert r.dbsize() == 1000
    assert set(r.scan_iter("key:*", count=50)) == t({f"key:{n}" for n in range(1000)})
    assert len(r.keys("key:1?")) == 10
    assert r.rename("key:1", "renamed") and r.exists("key:1", "renamed") == 1
    assert r.copy("renamed", "copy") and r.get("copy") == t("1")
    assert r.move("copy", 5) and r.get("copy") is None
    assert r.delete("key:2", "key:3") == 2 and r.unlink("key:4") == 1 and r.touch("key:5", "nokey") == 1
    assert r.randomkey() is not None
    assert r.flushdb() and r.dbsize() == 0
    assert r.swapdb(0, 5) and r.get("copy") == t("1")
    assert r.flushall() and r.randomkey() is None


def test_scan_sees_all_that_stays(server):
    """Keys that are there throughout are returned, whatever comes and goes meanwhile."""
    client = redis.Redis(**server.address)
    client.mset({f"stay:{n}": n for n in range(5000)})
    seen, cursor, turn = set(), 0, 0
    while True:
        cursor, keys = client.scan(cursor, count=100)
        seen.update(keys)
        turn += 1
        client.mset({f"come:{turn}:{n}": n for n in range(200)})
        client.delete(*[f"come:{turn - 1}:{n}" for n in range(200)])
        if cursor == 0:
            break
    assert {f"stay:{n}".encode() for n in range(5000)} <= seen


def test_expired_keys_go_by_themselves(server):
    """Nobody asks for them, and yet their memory comes back."""
    client = redis.Redis(**server.address)
    used = client.info("memory")["used_memory"]
    pipe = client.pipeline(transaction=False)
    for n in range(100_000):
        pipe.set(f"k:{n}", "x" * 50)
    pipe.execute()
    assert client.info("memory")["used_memory"] > used + 5_000_000
    for n in range(100_000):
        pipe.pexpire(f"k:{n}", 1 + n // 100)
    pipe.execute()
    start = time.monotonic()
    wait_until(lambda: client.dbsize() == 0, seconds=30)
    assert time.monotonic() - start < 10, "active expiry keeps up"
    assert client.info("memory")["used_memory"] < used + 5_000_000
    assert client.info("stats")["expired_keys"] >= 100_000
