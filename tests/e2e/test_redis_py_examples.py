"""What redis-py's own documentation does (README, guides and notebooks of 8.1), with data of our own.

Left out: clusters, Sentinel, TLS, search, JSON and time series, and credentials from a cloud's services. What the guides
say of geo positions and HyperLogLog, which they only list, is tried as well."""

import asyncio
import collections

import pytest
import redis
import redis.asyncio
from conftest import wait_until
from redis.backoff import ExponentialBackoff
from redis.cache import CacheConfig
from redis.exceptions import BusyLoadingError, RedisError, WatchError
from redis.retry import Retry


def url_of(server, options=""):
    return f"redis://{server.address['host']}:{server.address['port']}{options}"


# ---- connections


def test_connections_share_a_pool(server, flavour):
    pool = redis.ConnectionPool(**server.address, **flavour)
    one, two = redis.Redis(connection_pool=pool), redis.Redis(connection_pool=pool)
    assert one.ping() and two.set("seen", "yes") and one.exists("seen") == 1
    pool.disconnect()


def test_urls(server):
    with redis.from_url(url_of(server, "?protocol=3&decode_responses=True")) as client:
        assert client.ping() and client.set("k", "v") and client.get("k") == "v"
    with redis.Redis.from_url(url_of(server, "/3")) as client:
        assert client.exists("k") == 0


def test_credentials(server, flavour):
    class FromTable(redis.CredentialProvider):
        table = {"reader": "secret"}

        def __init__(self, name):
            self.name = name

        def get_credentials(self):
            return self.name, self.table[self.name]

    with redis.Redis(**server.address, **flavour) as admin:
        rules = {"passwords": ["+secret"], "keys": "~*", "commands": ["+ping", "+command", "+info", "+select", "+get"]}
        assert admin.acl_setuser("reader", enabled=True, **rules)
        admin.set("k", "v")
        providers = [FromTable("reader"), redis.UsernamePasswordCredentialProvider("reader", "secret")]
        for provider in providers:
            with redis.Redis(**server.address, **flavour, credential_provider=provider) as client:
                assert client.ping() and client.get("k") in ("v", b"v")
                with pytest.raises(redis.exceptions.NoPermissionError):
                    client.set("k", "w")
        with redis.Redis(**server.address, **flavour, username="reader", password="wrong") as client:
            with pytest.raises(redis.AuthenticationError):
                client.ping()
        assert admin.acl_deluser("reader") == 1


def test_retries(server, flavour):
    options = {"retry": Retry(ExponentialBackoff(), 3), "retry_on_error": [BusyLoadingError, RedisError]}
    with redis.Redis(**server.address, **flavour, **options) as client:
        assert client.set("k", "v")


# ---- plain values


def test_set_and_get(r, t):
    assert r.set("title", "first") and r.exists("title") == 1 and r.get("title") == t("first")
    assert r.set("title", "second") and r.get("title") == t("second")
    assert r.set("short-lived", "value", ex=100) and 99 <= r.ttl("short-lived") <= 100
    assert r.mset({"kind": "ship", "masts": 3, "name": "Vasa"})
    assert r.mget("kind", "masts", "name", "port") == t(["ship", "3", "Vasa", None])


def test_hashes(r, t):
    assert r.hset("ship", "name", "Vasa") == 1 and r.hget("ship", "name") == t("Vasa")
    assert r.hset("ship", mapping={"name": "Vasa", "built": "1627", "home": "Stockholm"}) == 2
    assert r.hgetall("ship") == t({"name": "Vasa", "built": "1627", "home": "Stockholm"})
    assert r.hexists("ship", "home") and not r.hexists("ship", "crew")
    assert r.hkeys("ship") == t(["name", "built", "home"]) and r.hvals("ship") == t(["Vasa", "1627", "Stockholm"])
    assert r.hlen("ship") == 3 and r.hincrby("ship", "built", 1) == 1628
    assert r.hdel("ship", "home") == 1 and r.hgetall("ship") == t({"name": "Vasa", "built": "1628"})
    assert r.delete("ship") == 1


def test_responses_of_one_shape(server):
    """legacy_responses=False: the same Python values whatever the protocol."""
    answers = []
    for protocol in (2, 3):
        with redis.Redis(**server.address, protocol=protocol, legacy_responses=False) as client:
            client.flushall()
            client.zadd("z", {"a": 1, "b": 2.5})
            client.hset("h", mapping={"f": "v"})
            client.xadd("x", {"f": "v"}, id="1-1")
            client.geoadd("g", (13.4, 52.5, "Berlin"))
            answers.append(
                [
                    client.zrange("z", 0, -1, withscores=True),
                    client.hgetall("h"),
                    client.xrange("x"),
                    client.geopos("g", "Berlin"),
                    client.config_get("maxmemory-policy"),
                ]
            )
    assert answers[0] == answers[1]


# ---- pipelines and transactions


def test_pipelines(r, t):
    pipe = r.pipeline()
    pipe.set("a", 5)
    pipe.set("b", 18.5)
    pipe.get("a")
    assert pipe.execute() == [True, True, t("5")]
    assert pipe.set("a", "x").sadd("s", "y").incr("n").execute() == [True, 1, 1]
    plain = r.pipeline(transaction=False)
    for _ in range(2000):
        plain.incr("n")
    assert plain.get("n").execute()[-1] == t("2001")


def test_a_repository_of_users_and_posts(r, t):
    pipe = r.pipeline()
    for name in ("ada", "bob"):
        pipe.hset(f"user:{name}", mapping={"username": name, "email": f"{name}@example.org"})
    pipe.sadd("user:ada:following", "bob").sadd("user:bob:followers", "ada")
    pipe.hset("post:1", mapping={"title": "One", "body": "text", "author": "ada"}).sadd("user:ada:posts", "post:1")
    assert pipe.execute() == [2, 2, 1, 1, 3, 1]
    assert r.smembers("user:bob:followers") == t({"ada"})


def test_watching(server, flavour):
    with redis.Redis(**server.address, **flavour) as client:
        client.set("sequence", 1)
        tries = 0
        with client.pipeline() as pipe:
            while True:
                try:
                    pipe.watch("sequence")
                    following = int(pipe.get("sequence")) + 1
                    if tries == 0:
                        client.set("sequence", 10)
                    tries += 1
                    pipe.multi()
                    pipe.set("sequence", following)
                    pipe.execute()
                    break
                except WatchError:
                    continue
        assert (int(client.get("sequence")), tries) == (11, 2)

        def increment(pipe):
            following = int(pipe.get("sequence")) + 1
            pipe.multi()
            pipe.set("sequence", following)

        assert client.transaction(increment, "sequence") == [True]
        assert int(client.get("sequence")) == 12


# ---- scripts and locks


def test_registered_scripts(r):
    multiply = r.register_script("return redis.call('GET', KEYS[1]) * ARGV[1]")
    r.set("n", 2)
    assert multiply(keys=["n"], args=[5]) == 10
    r.script_flush()
    pipe = r.pipeline()
    pipe.set("n", 5)
    multiply(keys=["n"], args=[5], client=pipe)
    assert pipe.execute() == [True, 25]


def test_locks(r):
    with r.lock("lock", timeout=10, blocking_timeout=1) as lock:
        assert lock.owned() and r.ttl("lock") > 0
        assert r.lock("lock").acquire(blocking=False) is False
    assert r.exists("lock") == 0


# ---- publish/subscribe


def test_subscribing(r, t):
    pubsub = r.pubsub()
    pubsub.subscribe("one", "two")
    pubsub.psubscribe("t*")
    kinds = [pubsub.get_message(timeout=5)["type"] for _ in range(3)]
    assert kinds == ["subscribe", "subscribe", "psubscribe"]
    assert r.publish("two", "data") == 2
    messages = [pubsub.get_message(timeout=5) for _ in range(2)]
    assert sorted((m["type"], m["data"]) for m in messages) == [("message", t("data")), ("pmessage", t("data"))]
    pubsub.unsubscribe()
    pubsub.punsubscribe("t*")
    assert {pubsub.get_message(timeout=5)["type"] for _ in range(3)} == {"unsubscribe", "punsubscribe"}
    pubsub.close()


def test_handlers_and_threads(r):
    seen = collections.deque()
    pubsub = r.pubsub(ignore_subscribe_messages=True)
    pubsub.subscribe(**{"news": lambda message: seen.append(message["data"])})
    thread = pubsub.run_in_thread(sleep_time=0.01)
    try:
        wait_until(lambda: r.publish("news", "hello") == 1 and seen)
    finally:
        thread.stop()
        thread.join()


def test_counting_subscribers(r, t):
    with r.pubsub() as pubsub:
        pubsub.subscribe("one", "two")
        pubsub.psubscribe("x*")
        assert [pubsub.get_message(timeout=5) is not None for _ in range(3)] == [True] * 3
        assert sorted(r.pubsub_channels()) == t(["one", "two"])
        assert [tuple(pair) for pair in r.pubsub_numsub("one", "none")] == [(t("one"), 1), (t("none"), 0)]
        assert r.pubsub_numpat() == 1


def test_pushes_go_to_a_handler(server):
    pushed = []
    with redis.Redis(**server.address, protocol=3) as client:
        pubsub = client.pubsub(push_handler_func=pushed.append)
        pubsub.subscribe("news")
        wait_until(lambda: pubsub.get_message(timeout=0.1) is not None or pushed)
        client.publish("news", "hello")
        wait_until(lambda: pubsub.get_message(timeout=0.1) is not None or len(pushed) > 1)
        pubsub.close()


def test_the_client_side_cache(server):
    with redis.Redis(**server.address, decode_responses=True) as client:
        if tuple(map(int, client.info("server")["redis_version"].split("."))) < (7, 4, 0):
            pytest.skip("redis-py caches only what Redis 7.4 and later sends")
    with redis.Redis(**server.address, protocol=3, cache_config=CacheConfig()) as cached:
        with redis.Redis(**server.address) as other:
            other.set("k", "old")
            assert cached.get("k") == b"old" and cached.get("k") == b"old" and cached.get_cache().size == 1
            other.set("k", "new")
            wait_until(lambda: cached.get("k") == b"new")


def test_monitoring(r):
    with r.monitor() as monitor:
        r.set("watched", "x")
        line = next(command for command in monitor.listen() if command["command"].startswith("SET"))
        assert line["command"] == "SET watched x" and line["db"] == 0 and line["client_type"] == "tcp"


# ---- streams


def test_streams(r, t):
    def entries(reply):
        """The ids and entries of each stream of a reply, in either of redis-py's shapes."""
        streams = reply.items() if isinstance(reply, dict) else reply
        flat = {name: found[0] if found and isinstance(found[0], list) else found for name, found in streams}
        return {name: list(found) for name, found in flat.items()}

    for number in range(10):
        r.xadd("first", {"n": number})
        r.xadd("second", {"n": 100 + number})
    assert r.xlen("first") == 10
    two = entries(r.xread({"first": 0}, count=2))[t("first")]
    assert [fields[t("n")] for _, fields in two] == t(["0", "1"])
    following = entries(r.xread({"first": two[-1][0]}, count=2))[t("first")]
    assert [fields[t("n")] for _, fields in following] == t(["2", "3"])
    assert not r.xread({"first": "$"}, count=1, block=10)
    assert [fields[t("n")] for _, fields in entries(r.xread({"first": "+"}))[t("first")]] == t(["9"])
    assert set(entries(r.xread({"first": 0, "second": 0}, count=1))) == t({"first", "second"})

    assert r.xgroup_create("first", "readers", id=0) and r.xgroup_create("second", "readers", id=0)
    with pytest.raises(redis.ResponseError, match="BUSYGROUP"):
        r.xgroup_create("first", "readers", id=0)
    taken = entries(r.xreadgroup("readers", "ada", {"first": ">", "second": ">"}, count=2, block=10))
    assert {name: len(found) for name, found in taken.items()} == {t("first"): 2, t("second"): 2}
    others = entries(r.xreadgroup("readers", "bob", {"first": ">"}, count=2, block=10))[t("first")]
    assert [fields[t("n")] for _, fields in others] == t(["2", "3"])
    assert r.xpending("first", "readers")["pending"] == 4
    [group] = r.xinfo_groups("first")
    assert (group["consumers"], group["pending"]) == (2, 4)
    assert r.xack("first", "readers", *[id for id, _ in taken[t("first")]]) == 2
    assert r.xpending("first", "readers")["pending"] == 2
    rest = entries(r.xreadgroup("readers", "ada", {"first": ">"}, count=100))[t("first")]
    assert len(rest) == 6 and not r.xreadgroup("readers", "ada", {"first": ">"}, block=10)
    assert r.xdel("first", *[id for id, _ in r.xrange("first")]) == 10 and r.xlen("first") == 0


# ---- positions and cardinalities


def test_positions(r, t):
    assert r.geoadd("towns", (13.361389, 38.115556, "Palermo", 15.087269, 37.502669, "Catania")) == 2
    assert r.geodist("towns", "Palermo", "Catania", unit="km") == 166.2742
    assert r.geohash("towns", "Palermo", "nowhere") in (["sqc8b49rny0", None], [b"sqc8b49rny0", None])
    [place, nowhere] = r.geopos("towns", "Palermo", "nowhere")
    assert place == pytest.approx((13.361389, 38.115556), abs=1e-5) and nowhere is None
    near = r.geosearch("towns", longitude=15, latitude=37, radius=200, unit="km", sort="ASC")
    assert near == t(["Catania", "Palermo"])
    [found] = r.geosearch("towns", member="Palermo", width=10, height=10, unit="km", withdist=True, withcoord=True)
    assert found[:2] == [t("Palermo"), 0.0]
    assert r.geosearchstore("near", "towns", longitude=15, latitude=37, radius=100, unit="km", storedist=True) == 1
    assert r.zscore("near", "Catania") == pytest.approx(56.4413, abs=1e-3)
    assert r.georadius("towns", 15, 37, 200, unit="km", count=1) == t(["Catania"])


def test_cardinalities(r):
    assert r.pfadd("visitors", "ada", "bob") == 1 and r.pfadd("visitors", "ada") == 0
    r.pfadd("others", "bob", "eve")
    assert r.pfcount("visitors") == 2 and r.pfcount("visitors", "others") == 3
    assert r.pfmerge("all", "visitors", "others") and r.pfcount("all") == 3


# ---- asyncio


async def test_asyncio_connections(server, flavour):
    pool = redis.asyncio.ConnectionPool.from_url(url_of(server), **flavour)
    one, two = redis.asyncio.Redis(connection_pool=pool), redis.asyncio.Redis(connection_pool=pool)
    assert await one.ping() and await two.ping()
    await one.aclose()
    await two.aclose()
    await pool.aclose()
    client = redis.asyncio.Redis.from_pool(redis.asyncio.ConnectionPool.from_url(url_of(server), **flavour))
    assert await client.ping()
    await client.aclose()


async def test_asyncio_pipelines(ar):
    async with ar.pipeline(transaction=True) as pipe:
        assert await pipe.set("a", "1").set("b", "2").execute() == [True, True]


@pytest.mark.parametrize("by_pattern", [False, True], ids=["channels", "patterns"])
async def test_asyncio_readers(ar, t, by_pattern):
    async def read(pubsub):
        data = []
        while not data or data[-1] != t("stop"):
            message = await pubsub.get_message(ignore_subscribe_messages=True, timeout=None)
            if message is not None:
                data.append(message["data"])
        return data

    async with ar.pubsub() as pubsub:
        await (pubsub.psubscribe("room:*") if by_pattern else pubsub.subscribe("room:1", "room:2"))
        reader = asyncio.create_task(read(pubsub))
        for channel, text in [("room:1", "hello"), ("room:2", "world"), ("room:1", "stop")]:
            assert await ar.publish(channel, text) == 1
        assert await asyncio.wait_for(reader, 10) == t(["hello", "world", "stop"])


async def test_asyncio_scripts_locks_and_streams(ar, t):
    multiply = ar.register_script("return redis.call('GET', KEYS[1]) * ARGV[1]")
    await ar.set("n", 3)
    assert await multiply(keys=["n"], args=[7]) == 21
    async with ar.lock("lock", timeout=10):
        assert await ar.exists("lock") == 1
    await ar.xadd("x", {"f": "v"}, id="1-1")
    assert await ar.xrange("x") == [(t("1-1"), t({"f": "v"}))]
    assert await ar.hset("h", mapping={"a": 1}) == 1 and await ar.hgetall("h") == t({"a": "1"})
    assert await ar.geoadd("g", (13.4, 52.5, "Berlin")) == 1 and await ar.pfadd("p", "x") == 1
