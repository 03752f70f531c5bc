"""Patterns 2 to 4: strings, hashes, lists, sorted sets and sets, as tutorials use them."""

import datetime
import threading

import pytest
import redis
from conftest import wait_until


def test_strings(r, t):
    assert r.set("k", "v", nx=True) is True
    assert r.set("k", "v", nx=True) is None
    assert r.set("k", "w", xx=True, get=True) == t("v")
    assert r.set("k", "x", ex=datetime.timedelta(seconds=100)) is True
    assert 99 <= r.ttl("k") <= 100
    r.set("k", "y", keepttl=True)
    assert 99 <= r.ttl("k") <= 100
    r.set("k", "z", pxat=33177117420123)
    assert r.pexpiretime("k") == 33177117420123
    assert r.mset({"a": 1, "b": 2}) is True
    assert r.mget("a", "b", "c") == t(["1", "2", None])
    assert r.msetnx({"a": 1, "z": 2}) is False or r.msetnx({"a": 1, "z": 2}) == 0
    assert r.incr("n") == 1 and r.incrby("n", 41) == 42 and r.decr("n") == 41 and r.decrby("n", 40) == 1
    assert r.incrbyfloat("f", 0.1) == pytest.approx(0.1)
    assert r.append("s", "Hello") == 5 and r.append("s", " World") == 11
    assert r.getrange("s", 0, 4) == t("Hello") and r.setrange("s", 6, "Redis") == 11
    assert r.strlen("s") == 11 and r.getdel("s") == t("Hello Redis") and r.get("s") is None
    assert r.getex("k", persist=True) == t("z") and r.ttl("k") == -1
    assert r.getset("k", "old") == t("z")
    r.set("bytes", b"\x00\xff")
    assert r.strlen("bytes") == 2
    with pytest.raises(redis.ResponseError, match="value is not an integer or out of range"):
        r.incr("k")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        r.lpush("k", "x")


def test_hashes(r, t):
    assert r.hset("user:1", mapping={"name": "Ada", "age": 36}) == 2
    assert r.hset("user:1", "name", "Ada L.") == 0
    assert r.hget("user:1", "name") == t("Ada L.")
    assert r.hgetall("user:1") == t({"name": "Ada L.", "age": "36"})
    assert r.hmget("user:1", "age", "nope") == t(["36", None])
    assert r.hincrby("user:1", "age") == 37 and r.hincrbyfloat("user:1", "age", 0.5) == 37.5
    assert r.hexists("user:1", "age") and r.hlen("user:1") == 2 and r.hstrlen("user:1", "name") == 6
    assert set(r.hkeys("user:1")) == t({"name", "age"})
    assert r.hsetnx("user:1", "name", "x") in (False, 0)
    assert dict(r.hscan_iter("user:1")) == r.hgetall("user:1")
    assert r.hdel("user:1", "name", "age") == 2 and r.exists("user:1") == 0
    assert r.hgetall("nokey") == {}


def test_lists(r, t):
    assert r.rpush("l", "a", "b", "c") == 3
    assert r.lrange("l", 0, -1) == t(["a", "b", "c"])
    assert r.lpush("l", "z") == 4 and r.lindex("l", 0) == t("z") and r.llen("l") == 4
    assert r.lmove("l", "m", "LEFT", "RIGHT") == t("z") and r.rpoplpush("l", "m") == t("c")
    assert r.lpos("l", "b") == 1 and r.linsert("l", "BEFORE", "b", "x") == 3
    assert r.lmpop(2, "nokey", "l", direction="LEFT", count=2) == t(["l", ["a", "x"]])
    assert r.lset("l", 0, "B") and r.lrem("l", 0, "B") == 1
    assert r.lpop("nokey") is None and r.rpop("m", 5) == t(["z", "c"])
    r.rpush("q", *range(100))
    assert r.ltrim("q", 90, -1) and r.lrange("q", 0, 1) == t(["90", "91"])
    assert r.sort("q", desc=True, start=0, num=2) == t(["99", "98"])


def test_blocking_pops(r, t):
    assert r.blpop("q", timeout=0.01) is None
    assert r.bzpopmin("z", timeout=0.01) is None
    r.rpush("q", "x")
    assert tuple(r.blpop(["p", "q"], timeout=1)) == t(("q", "x"))
    r.zadd("z", {"m": 1.5})
    assert tuple(r.bzpopmax("z", timeout=1)) == t(("z", "m", 1.5))
    r.rpush("q", "y")
    assert r.blmove("q", "done", 1, "LEFT", "RIGHT") == t("y")
    assert r.blmpop(0.01, 1, "q", direction="LEFT") is None


def test_blocked_clients_are_served_in_order(threaded_server):
    """Each waiter blocks only after the one before it; then one push serves them in that order."""
    waiters = 20
    got = {}
    control = redis.Redis(**threaded_server.address)

    def wait(number):
        with redis.Redis(**threaded_server.address) as client:
            got[number] = client.blpop("queue", timeout=20)[1]

    threads = []
    for number in range(waiters):
        threads.append(threading.Thread(target=wait, args=(number,)))
        threads[-1].start()
        wait_until(lambda: control.info("clients")["blocked_clients"] == number + 1)
    control.rpush("queue", *range(waiters))
    for thread in threads:
        thread.join()
    assert got == {number: str(number).encode() for number in range(waiters)}
    assert control.exists("queue") == 0


def test_work_queue_loses_and_doubles_nothing(threaded_server):
    """Several producers and consumers at once: every job is done exactly once."""
    jobs, producers, consumers = 4000, 4, 6
    done = []

    def produce(number):
        with redis.Redis(**threaded_server.address) as client:
            for job in range(number, jobs, producers):
                client.lpush("jobs", job)

    def consume():
        with redis.Redis(**threaded_server.address) as client:
            while (job := client.brpop("jobs", timeout=20)[1]) != b"stop":
                done.append(int(job))

    takers = [threading.Thread(target=consume) for _ in range(consumers)]
    makers = [threading.Thread(target=produce, args=(number,)) for number in range(producers)]
    for thread in takers + makers:
        thread.start()
    for thread in makers:
        thread.join()
    redis.Redis(**threaded_server.address).lpush("jobs", *["stop"] * consumers)
    for thread in takers:
        thread.join()
    assert sorted(done) == list(range(jobs))


def pairs(reply):
    """redis-py gives tuples in RESP2 and lists in RESP3."""
    return [tuple(pair) for pair in reply]


def test_leaderboard(r, t):
    assert r.zadd("board", {"ann": 100, "bob": 250.5, "cy": 70}) == 3
    assert r.zadd("board", {"ann": 90}, gt=True, ch=True) == 0
    assert r.zincrby("board", 30, "cy") == 100
    assert pairs(r.zrange("board", 0, 1, desc=True, withscores=True)) == t([("bob", 250.5), ("cy", 100.0)])
    assert r.zrange("board", 0, 100, byscore=True) == t(["ann", "cy"])
    assert r.zrangebyscore("board", "(100", "+inf") == t(["bob"])
    assert r.zrevrank("board", "bob") == 0 and r.zrank("board", "nope") is None
    assert r.zscore("board", "bob") == 250.5 and r.zcard("board") == 3 and r.zcount("board", 0, 100) == 2
    assert r.zmscore("board", ["ann", "nope"]) == [100.0, None]
    assert r.zrangestore("top", "board", 0, 0, desc=True) == 1
    assert r.zunionstore("sum", {"board": 1, "top": 2}) == 3 and r.zscore("sum", "bob") == 751.5
    assert r.zinter(["board", "top"]) == t(["bob"]) and r.zdiff(["board", "top"]) == t(["ann", "cy"])
    assert pairs(r.zpopmin("board", 1)) == t([("ann", 100.0)])
    assert r.zremrangebyscore("board", 200, 300) == 1
    r.zadd("lex", dict.fromkeys("abcd", 0))
    assert r.zrangebylex("lex", "[b", "(d") == t(["b", "c"])
    assert dict(r.zscan_iter("lex")) == t({"a": 0.0, "b": 0.0, "c": 0.0, "d": 0.0})


def test_sets(r, t):
    assert r.sadd("a", 1, 2, 3) == 3 and r.sadd("b", 2, 3, 4) == 3
    assert r.smembers("a") == t({"1", "2", "3"})
    assert r.sismember("a", 1) and r.smismember("a", [1, 9]) == [1, 0]
    assert set(r.sinter("a", "b")) == t({"2", "3"}) and r.sintercard(2, ["a", "b"]) == 2
    assert set(r.sunion("a", "b")) == t({"1", "2", "3", "4"}) and set(r.sdiff("a", "b")) == t({"1"})
    assert r.sdiffstore("d", "a", "b") == 1 and r.smove("a", "b", 1)
    assert set(r.sscan_iter("b")) == t({"1", "2", "3", "4"})
    assert r.spop("d") == t("1") and r.exists("d") == 0
    assert len(r.srandmember("b", 2)) == 2 and r.srem("b", 1, 2, 99) == 2
