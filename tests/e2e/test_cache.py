"""Pattern 8: the cache, pipelines and transactions."""

import threading

import pytest
import redis
from conftest import wait_until


def test_cache(r, t):
    computed = []

    def square(n):
        key = f"square:{n}"
        if (cached := r.get(key)) is None:
            computed.append(n)
            r.set(key, n * n, px=40)
            cached = t(str(n * n))
        return cached

    assert [square(4), square(4)] == t(["16", "16"]) and computed == [4]
    wait_until(lambda: r.exists("square:4") == 0)
    assert square(4) == t("16") and computed == [4, 4]


def test_pipelines(r, t):
    pipe = r.pipeline(transaction=False)
    for n in range(10_000):
        pipe.set(f"k:{n}", n)
    for n in range(10_000):
        pipe.get(f"k:{n}")
    replies = pipe.execute()
    assert replies[:10_000] == [True] * 10_000
    assert replies[10_000:] == t([str(n) for n in range(10_000)])
    pipe = r.pipeline(transaction=False).set("s", "x").incr("s").get("s")
    replies = pipe.execute(raise_on_error=False)
    assert isinstance(replies[1], redis.ResponseError) and replies[2] == t("x")


def test_transactions(r, t):
    with r.pipeline() as pipe:
        assert pipe.set("a", 1).incr("a").get("a").execute() == t([True, 2, "2"])
        pipe.set("s", "x").lpush("s", "y").set("after", "1")
        with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
            pipe.execute()
    assert r.get("after") == t("1"), "no rollback"
    with r.pipeline() as pipe:
        pipe.set("never", 1)
        pipe.execute_command("SET", "too-few")
        with pytest.raises(redis.ResponseError, match="wrong number of arguments|Transaction discarded"):
            pipe.execute()
    assert r.exists("never") == 0


def test_watch(r, t):
    r.set("balance", 100)
    with r.pipeline() as pipe:
        pipe.watch("balance")
        assert pipe.get("balance") == t("100")
        r.set("balance", 50)
        pipe.multi()
        pipe.set("balance", 0)
        with pytest.raises(redis.WatchError):
            pipe.execute()
    assert r.get("balance") == t("50")
    r.transaction(lambda pipe: (pipe.get("balance"), pipe.multi(), pipe.incrby("balance", 5)), "balance")
    assert r.get("balance") == t("55")


def test_optimistic_counters_lose_nothing(threaded_server):
    clients, times = 6, 100

    def add():
        with redis.Redis(**threaded_server.address) as client:
            for _ in range(times):

                def step(pipe):
                    value = int(pipe.get("n") or 0)
                    pipe.multi()
                    pipe.set("n", value + 1)

                client.transaction(step, "n")

    threads = [threading.Thread(target=add) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert redis.Redis(**threaded_server.address).get("n") == str(clients * times).encode()


def test_transactions_are_atomic(threaded_server):
    """Money goes round between accounts; whoever looks, the sum is the same."""
    accounts = [f"account:{n}" for n in range(8)]
    client = redis.Redis(**threaded_server.address)
    client.mset(dict.fromkeys(accounts, 1000))
    wrong, stop = [], threading.Event()

    def move(number):
        with redis.Redis(**threaded_server.address) as mover:
            for n in range(500):
                pipe = mover.pipeline()
                pipe.decrby(accounts[(number + n) % 8], 7).incrby(accounts[(number * 3 + n * 5 + 1) % 8], 7).execute()

    def look():
        with redis.Redis(**threaded_server.address) as watcher:
            while not stop.is_set():
                total = sum(int(balance) for balance in watcher.mget(accounts))
                if total != 8000:
                    wrong.append(total)

    movers = [threading.Thread(target=move, args=(number,)) for number in range(4)]
    lookers = [threading.Thread(target=look) for _ in range(2)]
    for thread in movers + lookers:
        thread.start()
    for thread in movers:
        thread.join()
    stop.set()
    for thread in lookers:
        thread.join()
    assert wrong == []
