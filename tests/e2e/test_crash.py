"""kill -9 at random moments under load: what was acknowledged is there afterwards, as appendfsync promises.

KELDA_CRASH_ROUNDS and KELDA_CRASH_SEED choose how many rounds there are, of each mode, and which; a directory lasts for ten of them.

Each connection has keys of its own and writes rising numbers: with SET, in a transaction of two keys on different shards, by
a script, into a list and a hash. Whoever reads compares with what was acknowledged before the server was killed: nothing of
that may be missing, nothing may be there that was never sent, and a transaction is there as a whole or not at all.

`always` promises all of it. With `everysec` and `no` a killed process loses what it had not yet handed to the system, and no more
than that, whatever else the machine does: INFO tells how far that is (`aof_written_lsn`), and somebody looks all the time. That it is what
came in the last few milliseconds cannot be promised where the thread that writes gets no core, or the disk takes no more: so
that is only printed."""

import os
import random
import signal
import subprocess
import tempfile
import threading
import time

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from conftest import BINARY, IS_KELDA, Server, wait_until

pytestmark = pytest.mark.skipif(not IS_KELDA, reason="crashes are for our own server")

ROUNDS = int(os.environ.get("KELDA_CRASH_ROUNDS", "70"))
# Threads that really run beside each other.
ALWAYS = ["--io-threads-always-active", "yes"]
ROUNDS_OF_ONE = 10
SEED = int(os.environ.get("KELDA_CRASH_SEED", str(random.randrange(1 << 32))))
CONNECTIONS = 24
SCRIPT = "redis.call('set', KEYS[1], ARGV[1]) redis.call('set', KEYS[2], ARGV[1]) return ARGV[1]"


class CrashServer(Server):
    """A server that is killed and started again on the same directory."""

    def start_again(self, arguments):
        self.process = subprocess.Popen([BINARY, *arguments], stdout=self.log, stderr=self.log)

        def answers():
            assert self.process.poll() is None, "the server refuses to start: " + open(self.log.name).read()
            try:
                with redis.Redis(**self.address) as client:
                    client.dbsize()
                return True
            except redis.RedisError:
                return False

        wait_until(answers, 20)

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


class Writer(threading.Thread):
    """One connection. `sent` and `done` tell, for each of its keys, the last number sent and acknowledged, and when."""

    def __init__(self, address, name, first, rng):
        super().__init__(daemon=True)
        self.address, self.name_, self.number, self.rng = address, name, first, rng
        self.sent, self.done = {}, {}

    def note(self, kind, number):
        self.done.setdefault(kind, []).append((number, time.monotonic()))

    def run(self):
        try:
            # What fails is not tried again: the server is gone, and waiting for it takes longer than the test may.
            client = redis.Redis(**self.address, socket_timeout=20, retry=Retry(NoBackoff(), 0))
            script = client.register_script(SCRIPT)
            while True:
                self.number += 1
                n, kind = self.number, self.rng.choice(["set", "multi", "script", "list", "hash", "pipe"])
                self.sent[kind] = n
                key = f"{kind}:{self.name_}"
                if kind == "set":
                    client.set(key, n)
                elif kind == "multi":
                    with client.pipeline(transaction=True) as p:
                        p.set(key + ":a", n).set(key + ":b", n).execute()
                elif kind == "script":
                    script(keys=[key + ":a", key + ":b"], args=[n])
                elif kind == "list":
                    client.rpush(key, n)
                elif kind == "hash":
                    client.hset(key, mapping={"a": n, "b": n})
                else:
                    with client.pipeline(transaction=False) as p:
                        for _ in range(20):
                            p.set(key, n)
                        p.execute()
                self.note(kind, n)
        except redis.RedisError:
            return

    def check(self, client, promised_at):
        def value(kind, got):
            """What is there is at least what was promised, at most what was sent."""
            have = int(got or 0)
            promised = [n for n, at in self.done.get(kind, []) if at <= promised_at]
            assert have >= (promised[-1] if promised else 0), f"{kind} of {self.name_}: lost"
            assert have <= max(self.sent.get(kind, 0), self.before.get(kind, 0)), f"{kind} of {self.name_}: from nowhere"

        get = lambda key: client.get(key)
        value("set", get(f"set:{self.name_}"))
        value("pipe", get(f"pipe:{self.name_}"))
        for kind in ["multi", "script"]:
            a, b = get(f"{kind}:{self.name_}:a"), get(f"{kind}:{self.name_}:b")
            assert a == b, f"half a {kind}: {a} {b}"
            value(kind, a)
        a, b = client.hmget(f"hash:{self.name_}", "a", "b")
        assert a == b, f"half a hash: {a} {b}"
        value("hash", a)
        items = [int(item) for item in client.lrange(f"list:{self.name_}", 0, -1)]
        assert items == sorted(set(items)), "a list out of order, or with an element twice"
        value("list", items[-1] if items else 0)
        promised = {n for n, at in self.done.get("list", []) if at <= promised_at}
        assert promised <= set(items), f"list of {self.name_}: {sorted(promised - set(items))} lost"


class Looker(threading.Thread):
    """Looks how far the log is with the system: what was acknowledged before `handed_over` is."""

    def __init__(self, address):
        super().__init__(daemon=True)
        self.address, self.handed_over = address, 0.0

    def run(self):
        try:
            client = redis.Redis(**self.address, socket_timeout=20, retry=Retry(NoBackoff(), 0))
            while True:
                began = time.monotonic()
                info = client.info("persistence")
                last = info["aof_last_lsn"]
                while info["aof_written_lsn"] < last:
                    info = client.info("persistence")
                self.handed_over = began
        except redis.RedisError:
            return


@pytest.mark.parametrize("mode", ["always", "everysec", "no"])
@pytest.mark.parametrize("directory", range(-(-ROUNDS // ROUNDS_OF_ONE)))
def test_what_was_acknowledged_survives(mode, directory):
    print(f"KELDA_CRASH_SEED={SEED}")
    rng = random.Random(f"{SEED} {mode} {directory}")
    server = CrashServer("--appendonly", "yes", "--appendfsync", mode, "--threads", "4", *ALWAYS)
    arguments = ["--port", str(server.port), "--bind", "127.0.0.1", "--save", "", "--dir", server.directory.name]
    arguments += ["--appendonly", "yes", "--appendfsync", mode, "--threads", "4", *ALWAYS]
    number, writers, unwritten = 0, [], []
    try:
        for _ in range(min(ROUNDS, ROUNDS_OF_ONE)):
            before = [w.sent | {k: v for k, v in w.before.items() if k not in w.sent} for w in writers]
            writers = [
                Writer(server.address, f"c{index}", number, random.Random(rng.random())) for index in range(CONNECTIONS)
            ]
            for index, writer in enumerate(writers):
                writer.before = before[index] if before else {}
                writer.start()
            looker = Looker(server.address)
            looker.start()
            # How long the load runs, not a wait for anything.
            time.sleep(rng.uniform(0.02, 0.5))
            # What is acknowledged later may be lost.
            promised_at = time.monotonic() if mode == "always" else looker.handed_over
            unwritten.append(time.monotonic() - promised_at)
            server.kill()
            looker.join()
            for writer in writers:
                writer.join()
            number = max(writer.number for writer in writers)
            server.start_again(arguments)
            with redis.Redis(**server.address) as client:
                for writer in writers:
                    writer.check(client, promised_at)
        assert min(unwritten) < 60, "somebody has looked at all"
        print(f"{mode}: looked at {max(unwritten) * 1000:.0f} ms before the end at most")
    finally:
        server.kill()
        server.log.close()
        server.directory.cleanup()


def test_a_second_server_on_the_directory_is_refused():
    server = Server("--appendonly", "yes")
    try:
        with tempfile.TemporaryFile("w+") as log:
            arguments = ["--port", "0", "--unixsocket", server.directory.name + "/socket", "--appendonly", "yes"]
            second = subprocess.run(
                [BINARY, *arguments, "--dir", server.directory.name], stdout=log, stderr=log, timeout=20
            )
            log.seek(0)
            assert second.returncode == 1 and "another server uses this directory" in log.read()
    finally:
        assert server.stop() == 0


def test_a_clean_end_loses_nothing():
    for ending in ["SIGTERM", "SHUTDOWN", "SHUTDOWN NOSAVE"]:
        server = CrashServer("--appendonly", "yes", "--appendfsync", "no")
        arguments = ["--port", str(server.port), "--bind", "127.0.0.1", "--save", "", "--dir", server.directory.name]
        with redis.Redis(**server.address) as client:
            with client.pipeline(transaction=False) as p:
                for n in range(10_000):
                    p.set(f"k{n}", n)
                p.execute()
            if ending == "SIGTERM":
                server.process.terminate()
            else:
                client.shutdown(nosave="NOSAVE" in ending)
        assert server.process.wait(20) == 0
        server.start_again(arguments + ["--appendonly", "yes"])
        with redis.Redis(**server.address) as client:
            assert client.dbsize() == 10_000 and client.get("k9999") == b"9999"
        assert server.stop() == 0
