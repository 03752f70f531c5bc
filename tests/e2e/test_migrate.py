"""MIGRATE between two servers; while one waits for the other, it serves everybody else."""

import threading
import time

import pytest
import redis
from conftest import AT_ONCE, Server


@pytest.fixture
def two():
    servers = [Server("--threads", "2"), Server("--threads", "2")]
    yield [redis.Redis(**server.address, decode_responses=True, retry=AT_ONCE) for server in servers]
    for server in servers:
        server.stop()


def address(client):
    return client.connection_pool.connection_kwargs["host"], client.connection_pool.connection_kwargs["port"]


def test_keys_move_with_their_time_to_live(two):
    here, there = two
    here.hset("h", mapping={"a": 1, "b": 2})
    here.rpush("l", *range(1000))
    here.set("s", "x" * 1_000_000, ex=100)
    assert here.migrate(*address(there), ["h", "l", "s", "none"], 0, 5000) == "OK"
    assert here.dbsize() == 0
    assert there.hgetall("h") == {"a": "1", "b": "2"}
    assert there.llen("l") == 1000
    assert 90 < there.ttl("s") <= 100 and there.ttl("h") == -1
    assert here.migrate(*address(there), ["none"], 0, 5000) == "NOKEY"


def test_what_is_there_is_kept_unless_it_may_be_replaced(two):
    here, there = two
    here.mset({"a": "new", "b": "new"})
    there.set("a", "old")
    with pytest.raises(redis.ResponseError, match="BUSYKEY"):
        here.migrate(*address(there), ["a", "b"], 0, 5000)
    assert (here.keys(), there.get("a"), there.get("b")) == (["a"], "old", "new")
    here.migrate(*address(there), ["a"], 0, 5000, copy=True, replace=True)
    assert (here.get("a"), there.get("a")) == ("new", "new")


def test_passwords(two):
    here, there = two
    there.acl_setuser("mover", enabled=True, passwords=["+secret"], categories=["+@all"], keys=["*"])
    there.config_set("requirepass", "default")
    here.set("k", "v")
    with pytest.raises(redis.ResponseError, match="NOAUTH"):
        here.migrate(*address(there), ["k"], 0, 5000)
    with pytest.raises(redis.ResponseError, match="WRONGPASS"):
        here.execute_command("MIGRATE", *address(there), "k", 0, 5000, "AUTH2", "mover", "wrong")
    assert here.execute_command("MIGRATE", *address(there), "k", 0, 5000, "COPY", "AUTH2", "mover", "secret") == "OK"
    assert here.migrate(*address(there), ["k"], 0, 5000, replace=True, auth="default") == "OK"
    assert here.exists("k") == 0


def test_who_waits_for_another_server_keeps_nobody_waiting(two):
    here, there = two
    here.mset({"k": "v", **{f"other:{number}": "x" for number in range(20)}})
    sleeper = threading.Thread(target=lambda: there.execute_command("DEBUG", "SLEEP", "1.5"))
    sleeper.start()
    time.sleep(0.1)  # the other server is to sleep by now; nothing tells from outside
    outcome = []

    def move():
        with pytest.raises(redis.ResponseError) as error:
            here.migrate(*address(there), ["k"], 0, 1000)
        outcome.append(str(error.value))

    with here.client() as first:
        first.ping()
    mover = threading.Thread(target=move)
    began = time.monotonic()
    mover.start()
    served = 0
    while mover.is_alive():
        # More connections than threads, so that some live on the thread that waits.
        for number in range(20):
            served += here.get(f"other:{number}") == "x"
    assert time.monotonic() - began >= 0.9
    assert outcome == ["error or timeout reading from target instance"] or "IOERR" in outcome[0]
    assert served > 100
    assert here.get("k") == "v"
    sleeper.join()
