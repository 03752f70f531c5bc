"""Pattern 7: locks, scripts, and racing for them."""

import threading
import time
import uuid

import pytest
import redis
from conftest import Server, wait_until

RELEASE = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) else return 0 end"


def race(server, holders, rounds, acquire, release):
    """`holders` threads take the lock `rounds` times in all; nobody is ever inside with another."""
    inside, overlaps, done = [], [], []

    def hold(number):
        with redis.Redis(**server.address) as client:
            while len(done) < rounds:
                token = acquire(client)
                if not token:
                    continue
                inside.append(number)
                if inside != [number]:
                    overlaps.append(list(inside))
                done.append(number)
                inside.remove(number)
                release(client, token)

    threads = [threading.Thread(target=hold, args=(number,)) for number in range(holders)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert overlaps == []
    assert len(done) >= rounds


def test_setnx_and_expire(threaded_server):
    """Exactly as in tutorials: SETNX, then EXPIRE."""

    def acquire(client):
        if client.setnx("lock", "1"):
            client.expire("lock", 10)
            return True
        return False

    race(threaded_server, 8, 3000, acquire, lambda client, _: client.delete("lock"))


def test_set_nx_px_and_script(threaded_server):
    def acquire(client):
        token = uuid.uuid4().hex
        return token if client.set("lock", token, nx=True, px=30_000) else None

    def release(client, token):
        assert client.eval(RELEASE, 1, "lock", token) == 1

    race(threaded_server, 8, 3000, acquire, release)


def test_lock_of_redis_py(threaded_server):
    def acquire(client):
        lock = client.lock("lock", timeout=30, sleep=0.0005)
        return lock if lock.acquire(blocking_timeout=20) else None

    race(threaded_server, 6, 1500, acquire, lambda _, lock: lock.release())


def test_lock_semantics(r):
    lock = r.lock("resource", timeout=10)
    assert lock.acquire() and lock.locked() and lock.owned()
    other = r.lock("resource", timeout=10, blocking=False)
    assert not other.acquire()
    assert lock.extend(5) and lock.reacquire()
    assert 5 < r.ttl("resource") <= 10
    lock.release()
    with pytest.raises(redis.exceptions.LockError):
        lock.release()
    with r.lock("resource", timeout=0.05) as short:
        wait_until(lambda: r.get("resource") is None)
        assert other.acquire(), "an expired lock is free"
        with pytest.raises(redis.exceptions.LockNotOwnedError):
            short.extend(5)
        other.release()
        r.set("resource", short.local.token, ex=10)


def test_scripts(r, t):
    multiply = r.register_script("return redis.call('GET', KEYS[1]) * ARGV[1]")
    r.set("x", 21)
    assert multiply(keys=["x"], args=[2]) == 42
    r.script_flush()
    assert multiply(keys=["x"], args=[2]) == 42, "loaded again by itself"
    sha = r.script_load("return ARGV[1]")
    assert r.script_exists(sha, "0" * 40) == [True, False]
    assert r.evalsha(sha, 0, "hello") == t("hello")
    assert r.eval("return {1, 'two', {3}, false}", 0) == t([1, "two", [3], None])
    with pytest.raises(redis.exceptions.NoScriptError):
        r.evalsha("0" * 40, 0)
    with pytest.raises(redis.ResponseError, match="Write commands are not allowed from read-only scripts"):
        r.eval_ro("return redis.call('SET', KEYS[1], 1)", 1, "x")
    with pytest.raises(redis.ResponseError, match="boom"):
        r.eval("error('boom')", 0)


def test_a_script_without_end_keeps_nobody_who_does_not_need_its_keys():
    """Whichever event loop it is on, and though one thread may drive several while little happens."""
    server = Server("--threads", "2")
    failures = []

    def loop(client):
        try:
            client.eval("while true do end", 0)
        except redis.ResponseError as error:
            failures.append(str(error))

    try:
        for _ in range(4):
            other, slow = redis.Redis(**server.address), redis.Redis(**server.address)
            assert other.ping() and slow.ping()
            thread = threading.Thread(target=loop, args=(slow,))
            thread.start()
            # For long enough that the script has begun.
            begun = time.monotonic()
            while time.monotonic() < begun + 0.3:
                start = time.monotonic()
                assert other.ping() and other.set("x", 1)
                assert time.monotonic() - start < 2
            assert other.script_kill()
            thread.join()
        assert len(failures) == 4 and all("Script killed by user" in failure for failure in failures)
    finally:
        server.stop()


def test_script_kill(server):
    """A script without end is BUSY to who wants its keys after the threshold, and SCRIPT KILL ends it."""
    client = redis.Redis(**server.address)
    client.config_set("busy-reply-threshold", 50)
    failure = []

    def loop():
        with redis.Redis(**server.address) as other:
            try:
                other.eval("while true do end", 1, "x")
            except redis.ResponseError as error:
                failure.append(str(error))

    def busy():
        try:
            client.get("x")
            return False
        except redis.exceptions.BusyLoadingError:
            raise
        except redis.ResponseError as error:
            return "BUSY" in str(error) or "busy" in str(error)

    thread = threading.Thread(target=loop)
    start = time.monotonic()
    thread.start()
    wait_until(busy)
    assert client.script_kill()
    thread.join()
    assert time.monotonic() - start < 20
    assert "Script killed by user" in failure[0]
    assert client.get("x") is None
    client.config_set("busy-reply-threshold", 5000)
    with pytest.raises(redis.ResponseError, match="No scripts in execution right now"):
        client.script_kill()
