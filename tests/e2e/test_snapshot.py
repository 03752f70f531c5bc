"""BGSAVE and BGREWRITEAOF under a load of transactions: what is in the file is the state of one instant.

Each writer's transactions are a function of their number: keys that are always changed together, a list that is pushed, big
collections whose elements come, change and go. So the file tells how far each writer was, and from that follows all that must
be in it. A counter that all of them raise ties the writers together: it is the sum of their numbers at any instant, and at no
mixture of two. The file is loaded by Kelda and, if it is in the path, by redis-server."""

import shutil
import threading
import time

import pytest
import redis
from conftest import BINARY, IS_KELDA, Server, wait_until

pytestmark = pytest.mark.skipif(not IS_KELDA, reason="compares Kelda with its peers")

WRITERS = 3
FIELDS = 6000
PAGE = 100_000


def transaction(pipe, w, n):
    """Transaction `n` of writer `w`."""
    pipe.set(f"left:{w}:{n % 50}", n)
    pipe.incr("total")
    pipe.set(f"right:{w}:{n % 50}", n)
    pipe.set(f"counter:{w}", n)
    pipe.rpush(f"list:{w}", f"element {n}", "x" * (n % 200))
    pipe.hset(f"hash:{w}", f"field:{n * 7919 % FIELDS}", n)
    pipe.hdel(f"hash:{w}", f"field:{(n * 7919 + 1000) % FIELDS}")
    pipe.zadd(f"zset:{w}", {f"member:{n * 7919 % FIELDS}": n})
    pipe.zrem(f"zset:{w}", f"member:{(n * 7919 + 1000) % FIELDS}")
    pipe.sadd(f"set:{w}", f"new:{n}")
    pipe.srem(f"set:{w}", f"member:{n * 7919 % FIELDS}", f"new:{n - 500}")
    pipe.setrange(f"string:{w}", n * 7919 % (5 * PAGE), f"<{n}>")
    if n % 20 == 0:
        pipe.rename(f"here:{w}", f"there:{w}")
        pipe.rename(f"there:{w}", f"here:{w}")
    if n % 50 == 0:
        pipe.delete(f"list:{w}")
        pipe.set(f"brief:{w}:{n}", n, px=200)


def prepare(client, w):
    client.hset(f"hash:{w}", mapping={f"field:{i}": -1 for i in range(FIELDS)})
    client.zadd(f"zset:{w}", {f"member:{i}": -1 for i in range(FIELDS)})
    client.sadd(f"set:{w}", *(f"member:{i}" for i in range(FIELDS)))
    client.setrange(f"string:{w}", 5 * PAGE + 100, "end")
    client.set(f"here:{w}", "here")


def expected(w, count):
    """What the keys of a writer hold after so many transactions."""
    pairs, fields, members = {}, {i: -1 for i in range(FIELDS)}, {f"member:{i}" for i in range(FIELDS)}
    items, text = [], bytearray(5 * PAGE + 103)
    text[-3:] = b"end"
    for n in range(1, count + 1):
        place, gone = n * 7919 % FIELDS, (n * 7919 + 1000) % FIELDS
        pairs[n % 50] = n
        items += [f"element {n}", "x" * (n % 200)]
        fields[place] = n
        fields.pop(gone, None)
        members.add(f"new:{n}")
        members -= {f"member:{place}", f"new:{n - 500}"}
        at, written = n * 7919 % (5 * PAGE), f"<{n}>".encode()
        text[at : at + len(written)] = written
        if n % 50 == 0:
            items = []
    return pairs, fields, members, items, bytes(text)


def check(address):
    """Whether a server's state is that of one instant; how far the writers were."""
    with redis.Redis(**address) as raw, redis.Redis(**address, decode_responses=True) as client:
        counts = [int(client.get(f"counter:{w}") or 0) for w in range(WRITERS)]
        assert int(client.get("total") or 0) == sum(counts)
        for w, count in enumerate(counts):
            pairs, fields, members, items, text = expected(w, count)
            for side in "left", "right":
                found = {i: client.get(f"{side}:{w}:{i}") for i in range(50)}
                assert {i: int(n) for i, n in found.items() if n is not None} == pairs
            assert client.lrange(f"list:{w}", 0, -1) == items
            assert {int(f.split(":")[1]): int(n) for f, n in client.hgetall(f"hash:{w}").items()} == fields
            assert {m.split(":")[1]: int(n) for m, n in client.zrange(f"zset:{w}", 0, -1, withscores=True)} == {
                str(f): n for f, n in fields.items()
            }
            assert client.smembers(f"set:{w}") == members
            assert raw.get(f"string:{w}") == text
            assert client.get(f"here:{w}") == "here"
        return counts


class Writer(threading.Thread):
    def __init__(self, address, w):
        super().__init__(daemon=True)
        self.address, self.w, self.n, self.ending = address, w, 0, False

    def run(self):
        with redis.Redis(**self.address) as client:
            while not self.ending:
                with client.pipeline(transaction=True) as pipe:
                    transaction(pipe, self.w, self.n + 1)
                    pipe.execute()
                self.n += 1


@pytest.mark.parametrize("command", ["bgsave", "bgrewriteaof"])
def test_a_snapshot_under_load_is_one_instant(command, tmp_path):
    logged = "yes" if command == "bgrewriteaof" else "no"
    server = Server("--appendonly", logged, "--threads", "2")
    files = []
    try:
        with redis.Redis(**server.address) as client:
            client.execute_command("DEBUG", "POPULATE", 30_000, "filler", 60)
            for w in range(WRITERS):
                prepare(client, w)
            writers = [Writer(server.address, w) for w in range(WRITERS)]
            for writer in writers:
                writer.start()
            before = []
            for round_ in range(4):
                reached = [writer.n + 30 for writer in writers]
                wait_until(lambda: all(writer.n >= n for writer, n in zip(writers, reached)))
                before.append([writer.n for writer in writers])
                client.execute_command(command)
                field = "rdb_bgsave_in_progress" if command == "bgsave" else "aof_rewrite_in_progress"
                wait_until(lambda: client.info("persistence")[field] == 0, 60)
                info = client.info("persistence")
                assert (info["rdb_last_bgsave_status"], info["aof_last_bgrewrite_status"]) == ("ok", "ok")
                made = f"{server.directory.name}/dump.rdb"
                if command == "bgrewriteaof":
                    with open(f"{server.directory.name}/appendonlydir/appendonly.aof.manifest") as manifest:
                        base = next(line.split()[1] for line in manifest if line.rstrip().endswith("type b"))
                    made = f"{server.directory.name}/appendonlydir/{base}"
                files.append(shutil.copy(made, tmp_path / f"{round_}.rdb"))
            for writer in writers:
                writer.ending = True
            for writer in writers:
                writer.join()
            assert check(server.address) == [writer.n for writer in writers]
    finally:
        server.stop()
    peers = [BINARY] + [redis_server for redis_server in [shutil.which("redis-server")] if redis_server]
    for file, least in zip(files, before):
        for binary in peers:
            directives = ("--appendonly", "no") if binary == BINARY else ()
            loaded = Server("--dir", str(file.parent), "--dbfilename", file.name, *directives, binary=binary)
            try:
                counts = check(loaded.address)
                assert all(count >= n for count, n in zip(counts, least)), "what was done before the command is in it"
            finally:
                loaded.stop()
    if len(peers) == 1:
        pytest.skip("there is no redis-server here; Kelda's own files were checked")


def big_values(client):
    """What there is of the values of `test_what_is_written_in_parts_is_of_the_instant`."""
    members = [f"member:{i}" for i in range(BIG)]
    values = {}
    for kind, read in ("set", "S"), ("zset", "Z"):
        times = client.execute_command(f"{read}PEXPIRETIME", f"big:{kind}", "MEMBERS", len(members), *members)
        values[kind] = dict(zip(members, times))
    values["scores"] = client.zrange("big:zset", 0, -1, withscores=True)
    values["fields"] = client.hgetall("big:hash")
    values["due"] = client.execute_command("HPEXPIRETIME", "big:hash", "FIELDS", len(members), *members)
    values["strings"] = [client.get(f"string:{size}") for size in SIZES]
    values["entries"] = client.xrange("big:stream")
    values["pending"] = client.xpending_range("big:stream", "group", "-", "+", 100_000)
    values["groups"] = client.xinfo_groups("big:stream")
    return values


BIG = 8_000
SIZES = [10_000, 20_000, 300_000, 3_000_000]


def test_what_is_written_in_parts_is_of_the_instant(tmp_path):
    """Times of members, fields that expire, streams with groups, strings of all sizes: changed while they are written."""
    server = Server("--appendonly", "no")
    at = int(time.time() * 1000) + 10_000_000
    try:
        with redis.Redis(**server.address, decode_responses=True) as client:
            with client.pipeline(transaction=False) as pipe:
                for i in range(BIG):
                    pipe.sadd("big:set", f"member:{i}")
                    pipe.zadd("big:zset", {f"member:{i}": i})
                    pipe.hset("big:hash", f"member:{i}", i)
                    pipe.xadd("big:stream", {"field": i, "text": "x" * (i % 300)})
                    if i % 3 == 0:
                        pipe.execute_command("SPEXPIREAT", "big:set", at + i, "MEMBERS", 1, f"member:{i}")
                        pipe.execute_command("ZPEXPIREAT", "big:zset", at - i, "MEMBERS", 1, f"member:{i}")
                        pipe.execute_command("HPEXPIREAT", "big:hash", at + 2 * i, "FIELDS", 1, f"member:{i}")
                for size in SIZES:
                    pipe.set(f"string:{size}", "text " * (size // 5))
                pipe.xgroup_create("big:stream", "group", 0)
                pipe.xreadgroup("group", "reader", {"big:stream": ">"}, count=3_000)
                pipe.execute()
            before = big_values(client)
            assert before["set"]["member:3"] == at + 3 and before["zset"]["member:4"] == -1
            with client.pipeline(transaction=False) as pipe:
                pipe.bgsave()
                for i in range(BIG):
                    j = i * 7919 % BIG
                    name = f"member:{j}"
                    pipe.execute_command("SPEXPIREAT", "big:set", at + 5 * j, "MEMBERS", 1, name)
                    pipe.execute_command("ZPERSIST" if j % 2 else "ZREM", "big:zset", *(["MEMBERS", 1] if j % 2 else []), name)
                    pipe.execute_command("HPERSIST", "big:hash", "FIELDS", 1, name)
                    pipe.zadd("big:zset", {f"new:{j}": j})
                    pipe.srem("big:set", f"member:{j * 31 % BIG}")
                    pipe.xadd("big:stream", {"late": i})
                    if i == 50:
                        pipe.xtrim("big:stream", 100, approximate=False)
                    if i % 100 == 0:
                        for size in SIZES:
                            pipe.setrange(f"string:{size}", i, "changed")
                            pipe.append(f"string:{size}", "more")
                pipe.execute()
            wait_until(lambda: client.info("persistence")["rdb_bgsave_in_progress"] == 0, 60)
            info = client.info("persistence")
            assert info["rdb_last_bgsave_status"] == "ok"
            assert info["snapshot_longest_hold_usec"] > 0, "it has held something"
            assert before != big_values(client)
            shutil.copy(f"{server.directory.name}/dump.rdb", tmp_path / "dump.rdb")
    finally:
        server.stop()
    loaded = Server("--dir", str(tmp_path), "--appendonly", "no")
    try:
        with redis.Redis(**loaded.address, decode_responses=True) as client:
            after = big_values(client)
            for name, value in before.items():
                # How long ago a consumer did something depends on when one asks.
                if name == "pending":
                    after[name] = [(one["message_id"], one["consumer"]) for one in after[name]]
                    value = [(one["message_id"], one["consumer"]) for one in value]
                assert after[name] == value, name
    finally:
        loaded.stop()


def test_a_log_that_has_no_base_yet_keeps_the_server_from_ending():
    server = Server("--rdb-key-save-delay", "100000")
    try:
        with redis.Redis(**server.address) as client:
            client.execute_command("DEBUG", "POPULATE", 500)
            client.config_set("appendonly", "yes")
            wait_until(lambda: client.info("persistence")["aof_rewrite_in_progress"] == 1)
            with pytest.raises(redis.ResponseError, match="Errors trying to SHUTDOWN"):
                client.execute_command("SHUTDOWN")
            server.process.terminate()
            wait_until(lambda: open(server.log.name).read().count("can't exit") == 2)
            client.config_set("rdb-key-save-delay", 0)
            wait_until(lambda: client.info("persistence")["aof_rewrite_in_progress"] == 0)
            server.process.terminate()
            assert server.process.wait(10) == 0
        again = Server("--dir", server.directory.name, "--appendonly", "yes")
        with redis.Redis(**again.address) as client:
            assert client.dbsize() == 500
        again.stop()
    finally:
        server.stop()
