"""Client-side caching: redis-py's own cache, told by the server which of its values are out of date."""

import pytest
import redis
from conftest import wait_until
from redis.cache import CacheConfig
from redis.connection import CacheProxyConnection


@pytest.fixture(autouse=True)
def any_version(monkeypatch):
    """redis-py caches only what a Redis of 7.4 or later says, though what it uses is older."""
    monkeypatch.setattr(CacheProxyConnection, "MIN_ALLOWED_VERSION", "7.0.0")


def caching_client(server, **options):
    return redis.Redis(**server.address, protocol=3, cache_config=CacheConfig(), decode_responses=True, **options)


def test_a_cached_value_is_replaced_once_it_changed(server):
    with caching_client(server) as reader, redis.Redis(**server.address) as writer:
        writer.set("cached", "1")
        assert [reader.get("cached") for _ in range(3)] == ["1"] * 3
        assert reader.get_cache().size == 1
        gets = writer.info("commandstats")["cmdstat_get"]["calls"]
        assert [reader.get("cached") for _ in range(100)] == ["1"] * 100
        assert writer.info("commandstats")["cmdstat_get"]["calls"] == gets
        writer.set("cached", "2")
        wait_until(lambda: reader.get("cached") == "2")
        writer.delete("cached")
        wait_until(lambda: reader.get("cached") is None)


def test_a_flush_empties_the_cache(server):
    with caching_client(server) as reader, redis.Redis(**server.address) as writer:
        writer.hset("cached:h", mapping={"a": "1"})
        assert reader.hgetall("cached:h") == {"a": "1"}
        writer.flushall()
        wait_until(lambda: reader.hgetall("cached:h") == {})


def test_many_writers_and_no_stale_value_in_the_end(server):
    with caching_client(server) as reader, redis.Redis(**server.address) as writer:
        keys = [f"cached:{number}" for number in range(20)]
        for round_number in range(50):
            with writer.pipeline(transaction=False) as pipe:
                for key in keys:
                    pipe.set(key, round_number)
                pipe.execute()
            for key in keys:
                reader.get(key)
        wait_until(lambda: [reader.get(key) for key in keys] == ["49"] * len(keys))


def test_invalidations_of_a_resp2_client_go_where_it_says(server):
    with redis.Redis(**server.address, protocol=2, single_connection_client=True) as reader:
        with redis.Redis(**server.address, protocol=2, decode_responses=True) as other, other.pubsub() as listener:
            listener.subscribe("__redis__:invalidate")
            assert listener.get_message(timeout=5)["type"] == "subscribe"
            [target] = other.client_list(_type="pubsub")
            assert reader.execute_command("CLIENT TRACKING", "on", "REDIRECT", target["id"]) == b"OK"
            reader.get("redirected")
            other.set("redirected", "1")
            message = listener.get_message(timeout=5)
            assert (message["channel"], message["data"]) == ("__redis__:invalidate", ["redirected"])
