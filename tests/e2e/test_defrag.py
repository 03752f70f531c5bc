"""After most keys are deleted, what is left lies scattered: it moves together, and nothing else changes."""

import redis
from conftest import Server, wait_until

KEYS = 100_000
KEEP_ONE_IN = 10


def fill(client, numbers, value):
    pipe = client.pipeline(transaction=False)
    for n in numbers:
        value(pipe, n)
        if n % 5000 == 0:
            pipe.execute()
    pipe.execute()


def storm(value):
    server = Server("--active-defrag-ignore-bytes", "1mb", "--threads", "1")
    try:
        with redis.Redis(**server.address) as r:
            fill(r, range(KEYS), value)
            fill(r, (n for n in range(KEYS) if n % KEEP_ONE_IN), lambda pipe, n: pipe.unlink(f"key:{n:012}"))
            digest = r.execute_command("DEBUG", "DIGEST")
            moved = lambda: r.info("stats")["active_defrag_key_hits"]
            wait_until(lambda: moved() > KEYS // KEEP_ONE_IN // 4, seconds=60)
            assert r.dbsize() == KEYS // KEEP_ONE_IN
            assert r.execute_command("DEBUG", "DIGEST") == digest
    finally:
        server.stop()


def test_strings():
    storm(lambda pipe, n: pipe.set(f"key:{n:012}", "x" * 64))


def test_hashes():
    storm(lambda pipe, n: pipe.hset(f"key:{n:012}", mapping={"field:1": n, "field:2": "x" * 40}))
