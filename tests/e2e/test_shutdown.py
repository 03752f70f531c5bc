"""SHUTDOWN and SIGTERM wait for replicas that have yet to get something, for as long as `shutdown-timeout` says."""

import os
import signal
import threading

import pytest
import redis
from conftest import AT_ONCE, IS_KELDA, wait_until
from test_replication import PEERS, follow, servers  # noqa: F401 (a fixture)

pytestmark = pytest.mark.skipif(not IS_KELDA, reason="Kelda is the master")


class Shutdown(threading.Thread):
    """SHUTDOWN of a client; the error that it gets, or None if the server ended."""

    def __init__(self, address):
        super().__init__()
        self.client, self.error = redis.Redis(**address, retry=AT_ONCE, socket_timeout=60), None
        self.start()

    def run(self):
        try:
            self.client.execute_command("SHUTDOWN")
        except redis.ConnectionError:
            pass
        except redis.RedisError as error:
            self.error = str(error)


def stopped(server):
    os.kill(server.process.pid, signal.SIGSTOP)


def goes_on(server):
    os.kill(server.process.pid, signal.SIGCONT)


@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize("how", ["command", "signal"])
def test_replicas_are_waited_for(servers, peer, how):
    (one, master), (other, replica) = servers("--shutdown-timeout", "600"), servers(binary=peer)
    follow(replica, one)
    stopped(other)
    try:
        master.set("a", 1)
        # More than the sockets hold.
        for number in range(64):
            master.set(f"b{number}", bytes(1 << 20))
        asked = Shutdown(one.address) if how == "command" else one.process.terminate()
        wait_until(lambda: master.info("server").get("shutdown_in_milliseconds", 0) > 0, 30)
        assert master.info("clients")["paused_reason"] == "shutdown_in_progress"
        assert master.get("a") == b"1"
    finally:
        goes_on(other)
    assert one.process.wait(30) == 0
    if asked:
        asked.join(30)
        assert asked.error is None
    assert replica.dbsize() == 65
    one.log.seek(0)
    log = one.log.read()
    assert "1 of 1 replicas are in sync" in log and "Lagging replica" not in log


def test_it_is_given_up(servers):
    (one, master), (other, replica) = servers("--shutdown-timeout", "600"), servers()
    follow(replica, one)
    with pytest.raises(redis.ResponseError, match="No shutdown in progress"):
        master.execute_command("SHUTDOWN", "ABORT")
    stopped(other)
    try:
        master.set("a", 1)
        asked = [Shutdown(one.address) for _ in range(2)]
        wait_until(lambda: master.info("clients")["blocked_clients"] == 2, 30)
        assert master.execute_command("SHUTDOWN", "ABORT")
        for thread in asked:
            thread.join(30)
            assert thread.error == "Errors trying to SHUTDOWN. Check logs."
        assert "shutdown_in_milliseconds" not in master.info("server")
        assert master.set("a", 2)

        # Not for ever.
        master.config_set("shutdown-timeout", 1)
        one.process.terminate()
        assert one.process.wait(30) == 0
        one.log.seek(0)
        log = one.log.read()
        assert "Lagging replica" in log and "0 of 1 replicas are in sync" in log
    finally:
        goes_on(other)


def test_nobody_is_waited_for(servers):
    (one, master), (other, replica) = servers(), servers()
    follow(replica, one)
    stopped(other)
    try:
        master.set("a", 1)
        with pytest.raises(redis.ConnectionError):
            redis.Redis(**one.address, retry=AT_ONCE).execute_command("SHUTDOWN", "NOW")
        assert one.process.wait(5) == 0
    finally:
        goes_on(other)
