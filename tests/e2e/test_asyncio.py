"""The eight patterns with redis.asyncio."""

import asyncio

import pytest
import redis
import redis.asyncio


async def test_connect_and_strings(server, flavour, ar, t):
    assert await ar.ping()
    await ar.set("k", "v", ex=100)
    assert await ar.get("k") == t("v") and 99 <= await ar.ttl("k") <= 100
    assert await ar.incr("n") == 1 and await ar.mget("k", "nokey") == t(["v", None])
    client = redis.asyncio.from_url(f"redis://127.0.0.1:{server.port}/2", **flavour)
    assert await client.get("k") is None
    await client.aclose()
    pool = redis.asyncio.BlockingConnectionPool(**server.address, max_connections=5, **flavour)
    client = redis.asyncio.Redis(connection_pool=pool)
    assert await asyncio.gather(*[client.get("k") for _ in range(200)]) == t(["v"] * 200)
    await client.aclose()
    await pool.aclose()


async def test_collections(ar, t):
    await ar.hset("h", mapping={"a": 1, "b": 2})
    assert await ar.hgetall("h") == t({"a": "1", "b": "2"})
    await ar.rpush("l", "a", "b")
    assert await ar.lrange("l", 0, -1) == t(["a", "b"])
    await ar.zadd("z", {"x": 1.5, "y": 2})
    assert [tuple(pair) for pair in await ar.zrange("z", 0, -1, withscores=True)] == t([("x", 1.5), ("y", 2.0)])
    await ar.sadd("s", "m")
    assert await ar.smembers("s") == t({"m"})
    assert {key async for key in ar.scan_iter()} == t({"h", "l", "z", "s"})


async def test_blocking_pop(server, flavour, ar, t):
    async with redis.asyncio.Redis(**server.address, **flavour) as other:
        waiting = asyncio.create_task(other.blpop("q", timeout=10))
        while (await ar.info("clients"))["blocked_clients"] == 0:
            pass
        await ar.rpush("q", "x")
        assert tuple(await waiting) == t(("q", "x"))


async def test_pubsub(ar, t):
    async with ar.pubsub(ignore_subscribe_messages=True) as p:
        await p.subscribe("c")
        while await ar.publish("c", "hello") == 0:
            pass
        async for message in p.listen():
            assert message["data"] == t("hello")
            break


async def test_lock(ar):
    inside = []

    async def hold(number):
        for _ in range(20):
            async with ar.lock("lock", timeout=30, sleep=0.001):
                inside.append(number)
                await asyncio.sleep(0)
                assert inside == [number]
                inside.remove(number)

    await asyncio.gather(*[hold(number) for number in range(5)])


async def test_cache_pipeline_and_transaction(ar, t):
    async with ar.pipeline(transaction=False) as pipe:
        for n in range(1000):
            pipe.set(f"k:{n}", n)
        assert all(await pipe.execute())
    async with ar.pipeline(transaction=True) as pipe:
        assert await pipe.incr("n").incr("n").execute() == [1, 2]
    async with ar.pipeline() as pipe:
        await pipe.watch("n")
        await ar.set("n", "other")
        pipe.multi()
        pipe.set("n", "mine")
        with pytest.raises(redis.WatchError):
            await pipe.execute()
    assert await ar.get("n") == t("other")


async def test_many_at_once(server):
    pool = redis.asyncio.BlockingConnectionPool(**server.address, max_connections=100)
    client = redis.asyncio.Redis(connection_pool=pool)
    assert sorted(await asyncio.gather(*[client.incr("n") for _ in range(5000)])) == list(range(1, 5001))
    await client.aclose()
    await pool.aclose()
