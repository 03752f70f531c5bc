"""Kelda follows a real Valkey, redis-server where there is one, and Kelda.

The load is that of test_replication.py: in the end master and replica must hold the same, key by key."""

import contextlib
import socket
import threading

import pytest
import redis
from conftest import BINARY, IS_KELDA, wait_until
from test_replication import PEERS, Writer, contents, follow, servers  # noqa: F401 (a fixture)

pytestmark = pytest.mark.skipif(not IS_KELDA, reason="Kelda is the replica")

MASTERS = [*PEERS, pytest.param(BINARY, id="kelda")]
# What a real server writes when it has no keys.
EMPTY = (
    b"REDIS0011\xfa\tredis-ver\x057.2.0\xfa\nredis-bits\xc0@\xfa\x05ctime\xc2m\x08\xbce\xfa\x08used-mem\xc2\xb0\xc4\x10\x00"
    b"\xfa\x08aof-base\xc0\x00\xff\xf0n;\xfe\xc0\xffZ\xa2"
)


def settle(master, *replicas):
    """Until all that was due is gone, and the replicas have heard of it."""

    def nothing_is_due():
        keyspace = master.info("keyspace")["db0"]
        # redis-server has no figure for fields.
        return keyspace["expires"] == 0 and keyspace.get("subexpiry", 0) == keyspace.get("keys_with_volatile_items", 0) == 0

    wait_until(nothing_is_due, 30)
    master.set("last", "one")
    wait_until(lambda: all(replica.get("last") == b"one" for replica in replicas), 30)


def assert_same(master, *replicas):
    want = contents(master)
    for replica in replicas:
        got = contents(replica)
        assert want.keys() == got.keys()
        for key, value in want.items():
            assert got[key] == value, key


def replication(client, field):
    return client.info("replication").get(field)


@contextlib.contextmanager
def under_load(address, field_ttl):
    """Clients write meanwhile; what it gives waits until each has run so many more commands."""
    writers = [Writer(address, seed, field_ttl) for seed in range(3)]
    for writer in writers:
        writer.start()

    def more(count):
        reached = [writer.count + count for writer in writers]
        wait_until(lambda: all(writer.count > n for writer, n in zip(writers, reached)), 120)

    try:
        yield more
    finally:
        for writer in writers:
            writer.ending = True
        for writer in writers:
            writer.join(60)
    assert not any(writer.is_alive() for writer in writers)


@pytest.mark.parametrize("peer", MASTERS)
@pytest.mark.parametrize("diskless", ["yes", "no"])
def test_it_has_the_same(servers, peer, diskless):
    logged = "yes" if diskless == "yes" else "no"
    backlog = ["--repl-backlog-size", str(256 << 20)]
    master, client = servers("--repl-diskless-sync-delay", "0", "--repl-diskless-sync", diskless, *backlog, binary=peer)
    # The log is read again below: no rewrite may begin meanwhile.
    directives = ["--appendonly", logged, "--auto-aof-rewrite-percentage", "0"]
    replica, follower = servers("--threads", "2", *directives)
    # What is there before goes, libraries too.
    follower.mset({f"old:{n}": n for n in range(1000)})
    follower.function_load("#!lua name=old\nredis.register_function('old', function() return 1 end)")
    client.execute_command("DEBUG", "POPULATE", 3_000, "filler", 60)
    client.hset("many", mapping={f"field:{i}": i for i in range(20_000)})
    client.xadd("stream", {"a": 1})
    client.xgroup_create("stream", "group", 0)
    client.xreadgroup("group", "consumer", {"stream": ">"})
    redis.Redis(**master.address, db=7).set("elsewhere", 1)
    client.function_load(
        "#!lua name=lib\nredis.register_function{function_name='f', callback=function() return 1 end, flags={'no-writes'}}"
    )
    with under_load(master.address, field_ttl="redis-server" not in peer) as more:
        more(50)
        follow(follower, master)
        more(300)
        # Its connection breaks; it comes back and gets what it missed.
        before = client.info("stats")["sync_partial_ok"]
        assert client.execute_command("CLIENT", "KILL", "TYPE", "replica") == 1
        wait_until(lambda: client.info("stats")["sync_partial_ok"] == before + 1, 30)
        more(100)
        # The same from the other end.
        assert follower.execute_command("CLIENT", "KILL", "TYPE", "master") == 1
        wait_until(lambda: client.info("stats")["sync_partial_ok"] == before + 2, 30)
        more(100)
    settle(client, follower)
    assert_same(master, replica)
    assert client.info("stats")["sync_full"] == 1
    assert follower.fcall_ro("f", 0) == 1
    with pytest.raises(redis.ResponseError):
        follower.fcall("old", 0)
    assert follower.xpending("stream", "group")["pending"] == 1
    assert client.wait(1, 5000) == 1
    offsets = [replication(client, "master_repl_offset"), replication(follower, "slave_repl_offset")]
    assert offsets[1] <= offsets[0]
    if logged == "yes":
        # Its own log has it all, too.
        wait_until(lambda: follower.info("persistence")["aof_rewrite_in_progress"] == 0, 30)
        follower.execute_command("DEBUG", "LOADAOF")
        assert_same(master, replica)


@pytest.mark.parametrize("peer", MASTERS)
def test_a_replica_of_a_replica(servers, peer):
    """What the master does is passed on as it is: who follows the replica can follow the master instead, or the other way round."""
    master, client = servers("--repl-diskless-sync-delay", "0")
    middle, between = servers("--repl-diskless-sync-delay", "0")
    last, end = servers(binary=peer)
    redis.Redis(**master.address, db=3).set("in", "three")
    follow(between, master)
    # The master is in database 3: the snapshot must tell, for nothing else will.
    redis.Redis(**master.address, db=3).set("also in", "three")
    wait_until(lambda: redis.Redis(**middle.address, db=3).get("also in") == b"three")
    follow(end, middle)
    redis.Redis(**master.address, db=3).set("and in", "three")
    client.set("in", "zero")
    with under_load(master.address, field_ttl=False) as more:
        more(100)
    settle(client, between, end)
    assert_same(master, middle, last)
    # Its master leads; it may go on where it stopped, under another name.
    before = between.info("stats")["sync_partial_ok"]
    between.replicaof("NO", "ONE")
    between.set("led", "by the middle")
    wait_until(lambda: end.get("led") == b"by the middle", 30)
    assert between.info("stats")["sync_partial_ok"] == before + 1
    assert replication(between, "master_replid2") == replication(client, "master_replid")
    # The former master follows the new one, from where they parted.
    follow(client, middle)
    assert client.get("led") == b"by the middle"
    assert between.info("stats")["sync_partial_ok"] == before + 2
    with pytest.raises(redis.ReadOnlyError):
        client.set("a", 1)
    between.set("a", 2)
    wait_until(lambda: client.get("a") == end.get("a") == b"2")
    assert_same(middle, master, last)


def test_what_a_master_wrote_alone_is_given_up(servers):
    one, first = servers("--repl-diskless-sync-delay", "0")
    two, second = servers("--repl-diskless-sync-delay", "0")
    first.set("shared", 1)
    follow(second, one)
    second.replicaof("NO", "ONE")
    wait_until(lambda: replication(first, "connected_slaves") == 0)
    first.set("alone", 1)
    second.set("shared", 2)
    follow(first, two)
    assert first.mget("shared", "alone") == [b"2", None]
    assert second.info("stats")["sync_full"] == 1


def test_a_master_that_comes_back_tells_of_keys_that_are_due(servers):
    """Its replica goes on where it was; what became due meanwhile is gone before anybody is served."""
    saves = ("--save", "3600 1", "--repl-diskless-sync-delay", "0")
    one, master = servers(*saves)
    _, replica = servers()
    follow(replica, one)
    master.execute_command("DEBUG", "SET-ACTIVE-EXPIRE", "0")
    with master.pipeline(transaction=False) as pipe:
        for n in range(500):
            pipe.execute_command("SELECT", n % 16).set(f"due:{n}", n, px=1).set(f"stays:{n}", n)
        pipe.execute_command("SELECT", 0)
        pipe.execute()
    offset = replication(master, "master_repl_offset")
    wait_until(lambda: replication(replica, "master_repl_offset") == offset)
    master.shutdown(now=True)
    one.process.wait(10)

    two, master = servers(*saves, "--dir", one.directory.name)
    assert master.info("persistence")["rdb_last_load_keys_expired"] == 500
    assert master.info("stats")["expired_keys"] == 0 and sum(db["keys"] for db in master.info("keyspace").values()) == 500
    follow(replica, two)
    assert master.info("stats")["sync_partial_ok"] == 1 and master.info("stats")["sync_full"] == 0
    told = replication(master, "repl_backlog_histlen")
    assert told > 0 and replication(master, "master_repl_offset") == offset + told
    wait_until(lambda: replication(replica, "master_repl_offset") == offset + told)
    assert replica.info("keyspace") == master.info("keyspace")
    assert replica.execute_command("DEBUG", "DIGEST") == master.execute_command("DEBUG", "DIGEST")
    # It saves to the first one's directory, which is removed before it ends.
    master.config_set("save", "")


@pytest.mark.parametrize("peer", MASTERS)
def test_what_replicas_refuse(servers, peer):
    master, client = servers("--repl-diskless-sync-delay", "0", binary=peer)
    replica, follower = servers("--notify-keyspace-events", "KEA")
    blocked = socket.create_connection(("127.0.0.1", replica.port))
    blocked.sendall(b"BLPOP list 0\r\n")
    wait_until(lambda: follower.info("clients")["blocked_clients"] == 1)
    follow(follower, master)
    assert blocked.recv(1000).startswith(b"-UNBLOCKED force unblock from blocking operation, instance state changed")
    assert blocked.recv(1) == b""
    read_only = "You can't write against a read only replica"
    for command in (["SET", "a", 1], ["EVAL", "return redis.call('set', 'a', 1)", 0], ["FLUSHALL"], ["BLPOP", "a", 0]):
        with pytest.raises(redis.RedisError, match=read_only):
            follower.execute_command(*command)
    with pytest.raises(redis.RedisError, match=read_only):
        follower.eval("#!lua\nreturn 1", 0)
    assert follower.eval("#!lua flags=no-writes\nreturn redis.call('get', 'a')", 0) is None
    with pytest.raises(redis.ResponseError, match="WAIT cannot be used with replica instances"):
        follower.wait(1, 1)
    # What it keeps to itself does not reach the master, nor the other way round but by the stream.
    follower.config_set("replica-read-only", "no")
    assert follower.set("own", 1) is True
    assert client.get("own") is None
    follower.config_set("replica-read-only", "yes")
    # Keys go when the master says so; until then they are hidden.
    client.execute_command("DEBUG", "SET-ACTIVE-EXPIRE", 0)
    client.set("brief", 1, px=50)
    wait_until(lambda: follower.dbsize() == 2)
    wait_until(lambda: follower.get("brief") is None)
    assert follower.dbsize() == 2 and follower.exists("brief") == 0
    with follower.pubsub() as listener:
        listener.psubscribe("__keyevent@0__:*", "news")
        assert [listener.get_message(timeout=5)["type"] for _ in range(2)] == ["psubscribe"] * 2
        assert client.get("brief") is None
        assert listener.get_message(timeout=5)["data"] == b"brief"
        assert follower.dbsize() == 1
        client.publish("news", "hello")
        assert listener.get_message(timeout=5)["data"] == b"hello"
    listed = follower.client_list(_type="master")
    assert [one["flags"] for one in listed] == ["M"]
    role = follower.role()
    assert role[:4] == [b"slave", b"127.0.0.1", master.port, b"connected"]
    # Without its master.
    follower.config_set("replica-serve-stale-data", "no")
    assert follower.get("a") is None
    client.shutdown(nosave=True)
    wait_until(lambda: replication(follower, "master_link_status") == "down")
    with pytest.raises(redis.RedisError, match="Link with MASTER is down and replica-serve-stale-data is set to 'no'"):
        follower.get("a")
    follower.replicaof("NO", "ONE")
    assert follower.set("a", 1) is True


def test_logging_in(servers):
    master, _ = servers("--repl-diskless-sync-delay", "0", "--requirepass", "secret")
    client = redis.Redis(**master.address, password="secret")
    client.execute_command("ACL", "SETUSER", "follower", "on", ">hidden", "+psync", "+replconf", "+ping")
    client.set("a", 1)
    _, follower = servers("--masterauth", "wrong", "--replicaof", f"127.0.0.1 {master.port}")
    wait_until(lambda: client.info("errorstats").get("errorstat_WRONGPASS", {}).get("count", 0) > 0, 30)
    assert replication(follower, "master_link_status") == "down"
    follower.config_set("masteruser", "follower")
    follower.config_set("masterauth", "hidden")
    wait_until(lambda: replication(follower, "master_link_status") == "up", 30)
    assert follower.get("a") == b"1"
    assert follower.config_get("replicaof") == {"replicaof": f"127.0.0.1 {master.port}"}


class Actor:
    """Plays the master: hears what the replica says, and answers as it is told."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]

    def accept(self):
        self.connection = self.listener.accept()[0]
        self.connection.settimeout(30)
        self.file = self.connection.makefile("rb")

    def hear(self):
        """The next command, but for those that are said each second."""
        count = int(self.file.readline()[1:])
        words = []
        for _ in range(count):
            length = int(self.file.readline()[1:])
            words.append(self.file.read(length + 2)[:-2].decode())
        return " ".join(words)

    def expect(self, *conversation):
        """Pairs of what is heard and what is answered."""
        for want, answer in conversation:
            assert self.hear() == want
            self.connection.sendall(answer)

    def greet(self, port, psync, answer):
        self.expect(
            ("PING", b"-NOAUTH Authentication required.\r\n"),
            ("AUTH someone secret", b"+OK\r\n"),
            (f"REPLCONF listening-port {port}", b"+OK\r\n"),
            ("REPLCONF ip-address 192.0.2.1", b"-ERR unknown\r\n"),
            ("REPLCONF capa eof capa psync2", b"+OK\r\n"),
            ("REPLCONF version 9.1.0", b"-ERR unknown\r\n"),
            (psync, answer),
        )

    def hear_place(self, place):
        """Until it says that it has so much."""
        while (heard := self.hear()) != f"REPLCONF ACK {place}":
            assert heard.startswith("REPLCONF ACK ") and int(heard.split()[2]) < place, heard

    def close(self):
        self.file.close()
        self.connection.close()


def command(*words):
    return b"".join([b"*%d\r\n" % len(words), *(b"$%d\r\n%s\r\n" % (len(word), word.encode()) for word in words)])


def test_word_by_word(servers):
    actor, history = Actor(), "abcdefghij" * 4
    replica, follower = servers("--masteruser", "someone", "--masterauth", "secret", "--replica-announce-ip", "192.0.2.1")
    follower.set("kept", 1)
    assert follower.execute_command("REPLICAOF", "127.0.0.1", actor.port) in (b"OK", True)
    assert follower.execute_command("REPLICAOF", "127.0.0.1", actor.port) == b"OK Already connected to specified master"
    actor.accept()
    # It has no history, since nobody followed it. The snapshot breaks off: nothing is lost.
    actor.greet(replica.port, "PSYNC ? -1", b"\n\n+FULLRESYNC %s 1000\r\n" % history.encode())
    actor.connection.sendall(b"\n$%d\r\n" % len(EMPTY) + EMPTY[:50])
    wait_until(lambda: replication(follower, "master_sync_read_bytes") == 50)
    assert follower.role()[3] == b"sync"
    assert replication(follower, "master_sync_left_bytes") == len(EMPTY) - 50
    actor.close()
    wait_until(lambda: replication(follower, "master_sync_in_progress") == 0)
    assert follower.get("kept") == b"1"

    # Once more, as a stream with a mark, a piece at a time.
    actor.accept()
    actor.greet(replica.port, "PSYNC ? -1", b"+FULLRESYNC %s 1000\r\n" % history.encode())
    mark = b"m" * 40
    for byte in b"$EOF:" + mark + b"\r\n" + EMPTY + mark:
        actor.connection.sendall(bytes([byte]))
    actor.hear_place(1000)
    assert follower.get("kept") is None and replication(follower, "master_link_status") == "up"
    # What was said is counted byte by byte; GETACK is answered with what came before it.
    said = command("SELECT", "3") + command("SET", "a", "1") + command("PING") + b"\r\n"
    get_ack = command("REPLCONF", "GETACK", "*")
    actor.connection.sendall(said + get_ack)
    actor.hear_place(1000 + len(said))
    place = 1000 + len(said) + len(get_ack)
    actor.hear_place(place)
    with redis.Redis(**replica.address, db=3) as three:
        assert three.get("a") == b"1"
        # Half a transaction is nothing, and counts for nothing.
        half = command("MULTI") + command("INCR", "a") + command("INCR", "a")
        actor.connection.sendall(half + b"*1\r\n$4\r\nEX")
        wait_until(lambda: replication(follower, "slave_read_repl_offset") == place + len(half) + 10)
        assert replication(follower, "slave_repl_offset") == place and three.get("a") == b"1"
        actor.close()
        actor.accept()
        actor.greet(replica.port, f"PSYNC {history} {place + 1}", b"+CONTINUE %s\r\n" % history.encode()[::-1])
        actor.connection.sendall(half + command("EXEC"))
        place += len(half + command("EXEC"))
        actor.hear_place(place)
        assert three.get("a") == b"3"
        # An error is the master's affair; what follows is applied.
        wrong = command("LPUSH", "a", "1") + command("NONSENSE") + command("SET", "a", "4")
        actor.connection.sendall(wrong)
        actor.hear_place(place + len(wrong))
        assert three.get("a") == b"4"
        assert follower.info("stats")["unexpected_error_replies"] == 2
    info = follower.info("replication")
    assert (info["master_replid"], info["master_replid2"]) == (history[::-1], history)
    # A master of old, and one that is not ready.
    actor.close()
    actor.accept()
    psync = f"PSYNC {history[::-1]} {place + len(wrong) + 1}"
    actor.greet(replica.port, psync, b"-NOMASTERLINK not yet\r\n")
    actor.accept()
    actor.greet(replica.port, psync, b"-ERR unknown command\r\n")
    actor.expect(("SYNC", b"\n$%d\r\n" % len(EMPTY) + EMPTY + command("SET", "b", "5")))
    wait_until(lambda: follower.get("b") == b"5")
    # What is no RESP ends it, and only a snapshot will do then.
    actor.connection.sendall(b"*x\r\n")
    actor.close()
    actor.accept()
    actor.greet(replica.port, "PSYNC ? -1", b"-LOADING\r\n")
    follower.execute_command("REPLICAOF", "NO", "ONE")
    assert follower.set("b", 6) is True
    actor.listener.close()
