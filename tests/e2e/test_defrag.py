"""Memory comes back after most keys are deleted, though what is left lay scattered among them."""

import redis
from conftest import Server, wait_until

KEYS = 300_000
KEEP_ONE_IN = 10


def fill(client, numbers, value):
    pipe = client.pipeline(transaction=False)
    for n in numbers:
        value(pipe, n)
        if n % 5000 == 0:
            pipe.execute()
    pipe.execute()


def storm(value):
    server = Server("--active-defrag-ignore-bytes", "1mb", "--threads", "2")
    try:
        with redis.Redis(**server.address) as r:
            resident = lambda: r.info("memory")["used_memory_rss"]
            empty = resident()
            fill(r, range(KEYS), value)
            full = resident()
            fill(r, (n for n in range(KEYS) if n % KEEP_ONE_IN), lambda pipe, n: pipe.unlink(f"key:{n:012}"))
            digest = r.execute_command("DEBUG", "DIGEST")
            # What is left, and half as much again; and what the server itself allocated meanwhile.
            bound = empty + (full - empty) / KEEP_ONE_IN * 1.5 + 4 * 2**20
            wait_until(lambda: resident() < bound, seconds=30)
            assert r.info("stats")["active_defrag_hits"] > 0
            assert r.dbsize() == KEYS // KEEP_ONE_IN
            assert r.execute_command("DEBUG", "DIGEST") == digest
    finally:
        server.stop()


def test_strings():
    storm(lambda pipe, n: pipe.set(f"key:{n:012}", "x" * 64))


def test_hashes():
    storm(lambda pipe, n: pipe.hset(f"key:{n:012}", mapping={"field:1": n, "field:2": "x" * 40}))
