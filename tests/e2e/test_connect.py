"""Pattern 1: connections, pools, URLs, handshakes."""

import concurrent.futures

import pytest
import redis
from conftest import IS_KELDA


def test_first_words(r, t):
    assert r.ping() is True
    assert r.echo("hello") == t("hello")
    assert r.set("foo", "bar") is True
    assert r.get("foo") == t("bar")


def test_databases_are_apart(server, flavour, t):
    for db in range(16):
        with redis.Redis(**server.address, db=db, **flavour) as client:
            client.set("where", db)
    for db in range(16):
        with redis.Redis(**server.address, db=db, **flavour) as client:
            assert client.get("where") == t(str(db))
            assert client.dbsize() == 1
    with pytest.raises(redis.ResponseError, match="DB index is out of range"):
        redis.Redis(**server.address, db=16).ping()


def test_from_url_and_pools(server, flavour, t):
    url = f"redis://127.0.0.1:{server.port}/3"
    with redis.from_url(url, **flavour) as client:
        client.set("a", "1")
        assert client.client_info()["db"] == 3
    pool = redis.ConnectionPool.from_url(url, max_connections=4, **flavour)
    blocking = redis.BlockingConnectionPool.from_url(url, max_connections=4, timeout=5, **flavour)
    for pool in (pool, blocking):
        client = redis.Redis(connection_pool=pool)
        with concurrent.futures.ThreadPoolExecutor(4) as threads:
            assert set(threads.map(lambda _: client.get("a"), range(200))) == {t("1")}
        pool.disconnect()


def test_client_names_and_info(server, flavour):
    with redis.Redis(**server.address, client_name="worker-1", **flavour) as client:
        info = client.client_info()
        assert info["name"] == "worker-1"
        assert info["resp"] == str(flavour["protocol"]) or info["resp"] == flavour["protocol"]
        assert info["lib-name"].startswith("redis-py")
        assert client.client_id() == int(info["id"])
        assert any(entry["name"] == "worker-1" for entry in client.client_list())
        other = redis.Redis(**server.address, client_name="victim", **flavour)
        victim = other.client_id()
        assert client.client_kill_filter(_id=victim) == 1
        assert all(int(entry["id"]) != victim for entry in client.client_list())
        other.close()


def test_unknown_subcommand_is_an_ordinary_error(r):
    with pytest.raises(redis.ResponseError, match="unknown subcommand 'MAINT_NOTIFICATIONS'. Try CLIENT HELP."):
        r.execute_command("CLIENT", "MAINT_NOTIFICATIONS", "ON")
    assert r.ping()


def test_reset_and_quit(server):
    with redis.Redis(**server.address, single_connection_client=True) as client:
        client.select(2)
        client.set("x", "1")
        assert client.execute_command("RESET") in (b"RESET", "RESET")
        assert client.exists("x") == 0, "back in database 0"
        assert client.execute_command("QUIT") in (b"OK", True)
        with pytest.raises(redis.ConnectionError):
            client.connection.read_response()


def test_hello_says_redis(server):
    for protocol in (2, 3):
        with redis.Redis(**server.address, protocol=protocol) as client:
            hello = client.execute_command("HELLO", protocol)
            if isinstance(hello, list):
                hello = dict(zip(hello[::2], hello[1::2]))
            assert hello[b"proto"] == protocol
            assert hello[b"role"] == b"master" and hello[b"mode"] == b"standalone"
            assert not IS_KELDA or hello[b"server"] == b"redis"


def test_password(server, flavour):
    with redis.Redis(**server.address, **flavour) as admin:
        admin.config_set("requirepass", "secret")
        try:
            with pytest.raises(redis.AuthenticationError, match="Authentication required|already authenticated"):
                redis.Redis(**server.address, **flavour).ping()
            with pytest.raises(redis.AuthenticationError, match="WRONGPASS|invalid username-password"):
                redis.Redis(**server.address, password="wrong", **flavour).ping()
            for url in (f"redis://:secret@127.0.0.1:{server.port}", f"redis://default:secret@127.0.0.1:{server.port}/1"):
                assert redis.from_url(url, **flavour).ping()
        finally:
            admin.config_set("requirepass", "")


def test_info(r):
    info = r.info()
    assert info["connected_clients"] >= 1
    assert info["used_memory"] > 0
    assert int(info["redis_version"].split(".")[0]) >= 7
    assert int(info["tcp_port"]) == r.connection_pool.connection_kwargs["port"]
    before = r.info("stats")["total_commands_processed"]
    r.ping()
    assert r.info("stats")["total_commands_processed"] > before
    r.set("a", "1", ex=100)
    assert r.info("keyspace")["db0"]["keys"] == 1
    assert r.info("keyspace")["db0"]["expires"] == 1


def test_config(r, t):
    assert list(r.config_get("maxclients").values()) in ([t("10000")], ["10000"])
    old = r.config_get("hash-max-listpack-entries")
    assert r.config_set("hash-max-listpack-entries", 5) is True
    r.hset("h", mapping={str(n): n for n in range(6)})
    assert r.object("encoding", "h") == t("hashtable")
    r.config_set("hash-max-listpack-entries", list(old.values())[0])


def test_command_table(r):
    assert r.command_count() > 150
    table = r.command()
    assert "get" in table and table["get"]["arity"] == 2
    assert r.command_getkeys("MSET", "a", "1", "b", "2") in (["a", "b"], [b"a", b"b"])
