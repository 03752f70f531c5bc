"""Configuration files as they are shipped start the server, and so does every directive that Redis and Valkey have; `maxmemory`
is kept to within two percent."""

import os
import pathlib

import pytest
import redis
from conftest import IS_KELDA, ROOT, Server

pytestmark = pytest.mark.skipif(not IS_KELDA, reason="Kelda's configuration")

SHIPPED = {
    "redis.conf": [os.environ.get("REDIS_CONF"), "/etc/redis/redis.conf"],
    "valkey.conf": [os.environ.get("VALKEY_CONF"), "/etc/valkey/valkey.conf", "/tmp/valkey/valkey.conf"],
}
DIRECTIVES = ROOT / "crates/engine/src/config/testdata"
# What an option of the command line says anyhow, or what only a machine with such a file or address could obey.
ELSEWHERE = {"port", "bind", "dir", "save", "appendonly", "enable-debug-command", "logfile", "pidfile", "unixsocket", "unixsocketperm"}


@pytest.mark.parametrize("name", SHIPPED)
def test_files_as_shipped(name, tmp_path):
    found = [path for path in SHIPPED[name] if path and os.access(path, os.R_OK)]
    if not found:
        pytest.skip(f"there is no {name} here")
    text = pathlib.Path(found[0]).read_text()
    file = tmp_path / name
    file.write_text(text)
    # As the file says it, but for what belongs to the machine that it was written for.
    server = Server("--daemonize", "no", "--logfile", "", "--pidfile", "", "--supervised", "no", config=file)
    with redis.Redis(**server.address) as client:
        said = [line.split(None, 1) for line in text.splitlines() if line.strip() and not line.startswith("#")]
        assert len(said) > 40
        values = client.config_get("*")
        assert all(words[0] in values for words in said if words[0] not in ("user", "include", "loadmodule"))
        assert client.set("a", 1) and client.get("a") == b"1"
    assert server.stop() == 0


@pytest.mark.parametrize("oracle", ["redis-7.0.15", "valkey-9.1.2"])
def test_every_directive_with_its_default(oracle, tmp_path):
    lines = [line.partition(" ") for line in (DIRECTIVES / f"{oracle}.txt").read_text().splitlines()]
    lines = [(name, value) for name, _, value in lines if name not in ELSEWHERE]
    assert len(lines) > 150
    # Words that CONFIG GET puts into one value are words of their own in a file.
    several = {"client-output-buffer-limit", "oom-score-adj-values", "latency-tracking-info-percentiles"}
    quoted = [f"{name} {value}" if value and name in several else f'{name} "{value}"' for name, value in lines]
    file = tmp_path / "all.conf"
    file.write_text("\n".join(quoted) + "\n")
    server = Server(config=file)
    with redis.Redis(**server.address) as client:
        assert client.ping()
    assert server.stop() == 0


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-lfu", "allkeys-random", "volatile-ttl", "allkeys-lrm"])
@pytest.mark.parametrize("size", [1000, 20_000])
def test_maxmemory_is_kept_to_within_two_percent(policy, size):
    limit = 32 << 20
    server = Server("--maxmemory", str(limit), "--maxmemory-policy", policy)
    with redis.Redis(**server.address) as client:
        figures = []
        for begin in range(0, 3 * limit // size, 1000):
            with client.pipeline(transaction=False) as pipe:
                for number in range(begin, begin + 1000):
                    pipe.set(f"key:{number}", bytes(size), ex=1000 + number)
                pipe.execute()
            figures.append(client.info("memory"))
        assert client.info("stats")["evicted_keys"] > 0
        used = [figure["used_memory"] - figure["mem_not_counted_for_evict"] for figure in figures]
        full = used[next(at for at, bytes_ in enumerate(used) if bytes_ > 0.98 * limit) :]
        assert len(full) > 3
        # One of them, most of the time, is in the middle of what a pipeline brought.
        assert max(full) < 1.02 * limit and min(full) > 0.98 * limit, (min(full) / limit, max(full) / limit)
    assert server.stop() == 0
