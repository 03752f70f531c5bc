"""Long strings: a reply never changes once it was made, however slowly it is read; what waits is counted; input in any pieces."""

import random
import socket

import pytest
import redis
from conftest import IS_KELDA, Server, wait_until

MEBIBYTE = 1 << 20


def command(*words):
    words = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


class SlowReader:
    """A connection that asks now and reads later."""

    def __init__(self, server):
        self.socket = socket.socket()
        # Little fits into the system's buffers, so that the server has to keep the rest.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.connect(("127.0.0.1", server.port))
        self.socket.settimeout(20)
        self.reader = self.socket.makefile("rb")
        self.send("CLIENT", "ID")
        self.id = int(self.reader.readline()[1:])

    def send(self, *words):
        self.socket.sendall(command(*words))

    def bulk(self):
        head = self.reader.readline()
        assert head[:1] == b"$", head
        return self.reader.read(int(head[1:]) + 2)[:-2]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.reader.close()
        self.socket.close()


def facts(r, client):
    return next(facts for facts in r.client_list() if int(facts["id"]) == client.id)


def text(size, seed):
    return random.Random(seed).randbytes(size)


def wait_for_commands(r, client, count):
    wait_until(lambda: int(facts(r, client)["tot-cmds"]) == count)


CHANGES = {
    "append": lambda r, k: r.append(k, b"more"),
    "setrange": lambda r, k: r.setrange(k, 1000, b"changed"),
    "setrange-longer": lambda r, k: r.setrange(k, 3 * MEBIBYTE, b"changed"),
    "setbit": lambda r, k: r.setbit(k, 77, 1),
    "bitfield": lambda r, k: r.execute_command("BITFIELD", k, "SET", "u8", "#9", 200),
    "bitop": lambda r, k: r.bitop("NOT", k, k),
    "set": lambda r, k: r.set(k, text(MEBIBYTE, "other")),
    "set-shorter": lambda r, k: r.set(k, b"short"),
    "getset": lambda r, k: r.getset(k, text(2 * MEBIBYTE, "other")),
    "script": lambda r, k: r.eval("redis.call('APPEND', KEYS[1], 'x') return redis.call('SETRANGE', KEYS[1], 5, 'y')", 1, k),
    "transaction": lambda r, k: r.pipeline().append(k, b"a").setrange(k, 2, b"b").execute(),
    "delete": lambda r, k: (r.delete(k), r.set(k, b"new")),
    "getdel": lambda r, k: (r.getdel(k), r.set(k, text(MEBIBYTE, "new"))),
    "expire": lambda r, k: (r.pexpire(k, 1), wait_until(lambda: not r.exists(k)), r.set(k, b"again")),
    "rename": lambda r, k: (r.set("short", b"short"), r.rename("short", k)),
    "flush": lambda r, k: (r.flushall(), r.set(k, text(MEBIBYTE, "new"))),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_reply_is_what_was_there_when_it_was_made(threaded_server, change):
    with redis.Redis(**threaded_server.address) as r, SlowReader(threaded_server) as reader:
        key = "long"
        r.set(key, text(MEBIBYTE, "first"))
        # The server has to keep some of these, and not the first one whole.
        many = 12
        for _ in range(many):
            reader.send("GET", key)
        wait_for_commands(r, reader, many + 1)
        assert int(facts(r, reader)["omem"]) > MEBIBYTE
        change(r, key)
        reader.send("GET", key)
        wait_for_commands(r, reader, many + 2)
        now = r.get(key)
        r.set(key, b"last")
        for _ in range(many):
            assert reader.bulk() == text(MEBIBYTE, "first")
        assert reader.bulk() == now
        # The thread that sends notes what it has sent a moment after the reader has got it.
        wait_until(lambda: int(facts(r, reader)["omem"]) == 0)


def test_replies_of_every_kind_stay_in_order(threaded_server):
    with redis.Redis(**threaded_server.address) as r, SlowReader(threaded_server) as reader:
        sizes = [16_383, 16_384, 100_000, 5, MEBIBYTE, 0]
        values = {f"key{size}": text(size, size) for size in sizes}
        r.mset(values)
        keys = list(values)
        reader.socket.sendall(b"".join(
            command("MULTI") + command("GET", keys[4]) + command("MGET", *keys, "none") + command("PING") + command("EXEC")
            for _ in range(5)
        ))
        mget = b"*7\r\n" + b"".join(b"$%d\r\n%s\r\n" % (len(value), value) for value in values.values()) + b"$-1\r\n"
        long = values[keys[4]]
        want = b"+OK\r\n" + 3 * b"+QUEUED\r\n" + b"*3\r\n$%d\r\n%s\r\n" % (len(long), long) + mget + b"+PONG\r\n"
        wait_for_commands(r, reader, 1 + 5 * 5)
        r.flushall()
        for _ in range(5):
            assert reader.reader.read(len(want)) == want


@pytest.mark.skipif(not IS_KELDA, reason="others count what they allocated")
def test_what_waits_is_counted(server):
    with redis.Redis(**server.address) as r, SlowReader(server) as reader:
        r.set("long", text(MEBIBYTE, 1))
        usage = r.memory_usage("long")
        many = 12
        for _ in range(many):
            reader.send("GET", "long")
        wait_for_commands(r, reader, many + 1)
        one_reply = len(b"$1048576\r\n") + MEBIBYTE + len(b"\r\n")
        before = len(b":%d\r\n" % reader.id)

        def has_settled():
            seen = facts(r, reader)
            return int(seen["omem"]) + int(seen["tot-net-out"]) == before + many * one_reply

        wait_until(has_settled)
        seen = facts(r, reader)
        assert int(seen["tot-mem"]) > int(seen["omem"]) > MEBIBYTE
        assert r.memory_usage("long") == usage
        # Not twelve times.
        assert int(r.info("memory")["used_memory"]) < 8 * MEBIBYTE


def test_who_lets_too_much_wait_is_cut_off():
    server = Server("--client-output-buffer-limit", "normal 8mb 0 0")
    try:
        with redis.Redis(**server.address) as r, SlowReader(server) as reader:
            r.set("long", text(MEBIBYTE, 1))
            for _ in range(40):
                try:
                    reader.send("GET", "long")
                except OSError:
                    break
            wait_until(lambda: all(int(facts["id"]) != reader.id for facts in r.client_list()))
            assert r.get("long") == text(MEBIBYTE, 1)
            assert r.info("stats")["client_output_buffer_limit_disconnections"] == 1
    finally:
        server.stop()


SIZES = [16_384, 32_768, 65_535, MEBIBYTE]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("seed", range(2))
def test_long_arguments_in_any_pieces(threaded_server, size, seed):
    rng = random.Random(f"{size} {seed}")
    value = text(size, size)
    words = [
        ("SET", "a", value),
        ("APPEND", "a", value),
        ("MSET", "b", value, "c", value),
        ("SETEX", "d", 1000, value),
        ("SET", "e", value, "EX", 1000),
        ("GETSET", "a", value),
        ("MULTI",),
        ("SET", "f", value),
        ("HSET", "h", "field", value),
        ("EXEC",),
        ("RPUSH", "l", value, "x", value),
        ("SET", "none", value, "XX"),
        ("ECHO", value),
        ("NOSUCH", value),
        ("INCRBY", "a", value),
    ]
    sent = b"".join(command(*line) for line in words) + command("SET", "g", value) + b"PING\r\n"
    bulk = b"$%d\r\n%s\r\n" % (size, value)
    want = b"+OK\r\n:%d\r\n+OK\r\n+OK\r\n+OK\r\n$%d\r\n" % (2 * size, 2 * size) + value + value + b"\r\n"
    want += b"+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n+OK\r\n:1\r\n:3\r\n$-1\r\n" + bulk
    with redis.Redis(**threaded_server.address) as r, SlowReader(threaded_server) as client:
        at = 0
        client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        received = b""
        client.socket.setblocking(False)
        while at < len(sent) or not received.endswith(b"+PONG\r\n"):
            # Often around the borders of requests, else anywhere.
            border = sent.find(value[-3:] + b"\r\n", at)
            ends = [at + rng.randrange(1, 200_000), border + rng.randrange(0, 6) if border >= 0 else at + 100]
            end = max(at + 1, rng.choice(ends))
            if at < len(sent):
                try:
                    at += client.socket.send(sent[at:end])
                except BlockingIOError:
                    pass
            try:
                received += client.socket.recv(1 << 20)
            except BlockingIOError:
                pass
        assert received.startswith(want)
        rest = received[len(want):].split(b"\r\n")
        assert rest[0].startswith(b"-ERR unknown command") and rest[-4:] == [
            b"-ERR value is not an integer or out of range", b"+OK", b"+PONG", b"",
        ]
        for key in "abcdefg":
            assert r.get(key) == value, key
        assert r.hget("h", "field") == value and r.lrange("l", 0, -1) == [value, b"x", value]
        assert r.strlen("a") == size and not r.exists("none")
