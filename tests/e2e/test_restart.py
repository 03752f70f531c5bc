"""Replication goes on after a restart: the snapshot says what of the history it has."""

import subprocess

import pytest
import redis
from conftest import AT_ONCE, IS_KELDA, wait_until
from test_replication import PEERS, follow, servers  # noqa: F401 (a fixture)

pytestmark = pytest.mark.skipif(not IS_KELDA, reason="about Kelda's snapshots")


def restart(server, client, how):
    """Ends a server and starts it anew with what it was started with."""
    try:
        client.execute_command("SHUTDOWN", "NOW", how)
    except redis.ConnectionError:
        pass
    server.process.wait(30)
    server.process = subprocess.Popen(server.process.args, stdout=server.log, stderr=server.log)

    def answers():
        try:
            return redis.Redis(**server.address, retry=AT_ONCE).dbsize() >= 0
        except redis.RedisError:
            return False

    wait_until(answers, 30)


def is_up(replica):
    return replica.info("replication")["master_link_status"] == "up"


@pytest.mark.parametrize("peer", PEERS)
def test_of_a_master(servers, peer):
    (one, master), (_, replica) = servers("--repl-diskless-sync-delay", "0"), servers(binary=peer)
    master.set("before", 1)
    follow(replica, one)
    master.select(3)
    master.set("elsewhere", 1)
    master.select(0)
    master.config_set("hz", 1)
    master.execute_command("DEBUG", "SET-ACTIVE-EXPIRE", 0)
    for number in range(100):
        master.set(f"due{number}", 1, px=1)
    end = master.info("replication")["master_repl_offset"]
    wait_until(lambda: replica.info("replication")["master_repl_offset"] == end, 30)
    history = master.info("replication")["master_replid"]
    restart(one, master, "SAVE")
    wait_until(lambda: is_up(replica), 30)
    now = master.info("replication")
    assert (now["master_replid2"], now["second_repl_offset"]) == (history, end + 1)
    assert now["master_replid"] not in (history, "0" * 40)
    assert (master.info("stats")["sync_full"], master.info("stats")["sync_partial_ok"]) == (0, 1)
    # What was due is gone there, too.
    master.set("after", 1)
    wait_until(lambda: replica.get("after") == b"1", 30)
    wait_until(lambda: replica.dbsize() == master.dbsize() == 2, 30)


@pytest.mark.parametrize("peer", PEERS)
def test_of_a_replica(servers, peer):
    one, master = servers("--repl-backlog-size", "10mb", binary=peer)
    other, replica = servers("--replicaof", f"127.0.0.1 {one.port}")
    wait_until(lambda: is_up(replica), 30)
    master.set("before", 1)
    wait_until(lambda: replica.get("before") == b"1", 30)
    full = master.info("stats")["sync_full"]
    restart(other, replica, "SAVE")
    master.set("after", 1)
    wait_until(lambda: replica.get("after") == b"1", 30)
    assert replica.get("before") == b"1"
    assert master.info("stats")["sync_full"] == full


def test_an_older_snapshot_is_not_gone_on_with(servers):
    """The replica has what the snapshot has not."""
    (one, master), (_, replica) = servers("--repl-diskless-sync-delay", "0"), servers()
    follow(replica, one)
    master.save()
    master.set("lost", 1)
    wait_until(lambda: replica.get("lost") == b"1", 30)
    restart(one, master, "NOSAVE")
    wait_until(lambda: is_up(replica) and replica.get("lost") is None, 30)
    assert master.info("stats")["sync_full"] == 1
