"""FAILOVER between Kelda and a real Valkey, redis-server where there is one, and Kelda: nothing that was acknowledged is lost."""

import os
import signal
import threading

import pytest
import redis
from conftest import BINARY, IS_KELDA, wait_until
from test_replication import PEERS, follow, servers  # noqa: F401 (a fixture)

pytestmark = pytest.mark.skipif(not IS_KELDA, reason="Kelda leads first")

OTHERS = [*PEERS, pytest.param(BINARY, id="kelda")]


def replication(client):
    return client.info("replication")


class Counter(threading.Thread):
    """Increments a key until it is refused; how often it was acknowledged."""

    def __init__(self, port):
        super().__init__()
        self.client, self.acknowledged, self.refusal = redis.Redis(port=port), 0, None

    def run(self):
        try:
            while True:
                self.client.incr("counter")
                self.acknowledged += 1
        except redis.RedisError as error:
            self.refusal = error


def hand_over(leader, follower, one, other):
    """A failover while clients write."""
    before = int(leader.get("counter") or 0)
    full = follower.info("stats")["sync_full"]
    counters = [Counter(one.port) for _ in range(3)]
    for counter in counters:
        counter.start()
    wait_until(lambda: all(counter.acknowledged > 100 for counter in counters), 30)
    assert leader.execute_command("FAILOVER", "TO", "127.0.0.1", other.port) == b"OK"
    wait_until(lambda: replication(leader)["master_failover_state"] == "no-failover", 30)
    for counter in counters:
        counter.join(30)
        assert isinstance(counter.refusal, redis.exceptions.ReadOnlyError), counter.refusal
    assert (replication(leader)["role"], replication(follower)["role"]) == ("slave", "master")
    wait_until(lambda: replication(leader)["master_link_status"] == "up", 30)
    assert int(follower.get("counter")) == before + sum(counter.acknowledged for counter in counters)
    # Who led goes on from where it stopped.
    assert follower.info("stats")["sync_full"] == full
    follower.set("after", other.port)
    wait_until(lambda: leader.get("after") == str(other.port).encode(), 30)


@pytest.mark.parametrize("other", OTHERS)
def test_back_and_forth(servers, other):
    (one, first), (two, second) = servers(), servers(binary=other)
    follow(second, one)
    hand_over(first, second, one, two)
    hand_over(second, first, two, one)


def test_what_is_refused(servers):
    (one, leader), (_, follower) = servers(), servers()

    def refusal(client, *words):
        with pytest.raises(redis.ResponseError) as error:
            client.execute_command("FAILOVER", *words)
        return str(error.value)

    assert refusal(leader) == "FAILOVER requires connected replicas."
    assert refusal(leader, "ABORT") == "No failover in progress."
    assert refusal(leader, "TIMEOUT", 0) == "FAILOVER timeout must be greater than 0"
    follow(follower, one)
    assert refusal(follower) == "FAILOVER is not valid when server is a replica."
    assert refusal(leader, "FORCE", "TIMEOUT", 10).startswith("FAILOVER with force option requires both")
    assert refusal(leader, "TO", "127.0.0.1", 1) == "FAILOVER target HOST and PORT is not a replica."
    for words in [("ABORT", "FORCE"), ("TO", "127.0.0.1"), ("WHAT",)]:
        assert refusal(leader, *words) == "syntax error"
    with pytest.raises(redis.ResponseError, match="can't be sent to a master"):
        leader.execute_command("PSYNC", replication(leader)["master_replid"], 1, "FAILOVER")
    with pytest.raises(redis.ResponseError, match="must match my replid"):
        follower.execute_command("PSYNC", "0" * 40, 1, "FAILOVER")


def test_a_replica_that_lags(servers):
    (one, leader), (other, follower) = servers(), servers()
    follow(follower, one)
    os.kill(other.process.pid, signal.SIGSTOP)
    try:
        leader.set("a", 1)
        leader.execute_command("FAILOVER", "TIMEOUT", 200)
        wait_until(lambda: replication(leader)["master_failover_state"] == "no-failover", 30)
        assert leader.set("a", 2)

        leader.execute_command("FAILOVER", "TIMEOUT", 600_000)
        assert replication(leader)["master_failover_state"] == "waiting-for-sync"
        assert leader.info("clients")["paused_reason"] == "failover_in_progress"
        for words in [("FAILOVER",), ("REPLICAOF", "127.0.0.1", 1)]:
            with pytest.raises(redis.ResponseError, match="FAILOVER already|failing over"):
                leader.execute_command(*words)
        writer = threading.Thread(target=lambda: redis.Redis(**one.address).set("a", 3))
        writer.start()
        wait_until(lambda: leader.info("clients")["blocked_clients"] == 1, 30)
        assert leader.get("a") == b"2"
        leader.execute_command("FAILOVER", "ABORT")
        writer.join(30)
        assert leader.get("a") == b"3"

        # It is not asked, but told to lead: nobody leads until it does.
        leader.execute_command("FAILOVER", "TO", "127.0.0.1", other.port, "FORCE", "TIMEOUT", 100)
        wait_until(lambda: replication(leader)["master_failover_state"] == "failover-in-progress", 30)
        assert replication(leader)["role"] == "slave"
        # Whoever is to lead: a client that can be redirected is told when that is known.
        told = redis.Redis(port=one.port, single_connection_client=True)
        told.execute_command("CLIENT", "CAPA", "redirect")
        told.connection.send_command("SET", "a", 4)
        wait_until(lambda: leader.info("clients")["blocked_clients"] == 1, 30)
    finally:
        os.kill(other.process.pid, signal.SIGCONT)
    wait_until(lambda: replication(leader)["master_failover_state"] == "no-failover", 30)
    assert replication(follower)["role"] == "master"
    with pytest.raises(redis.ResponseError, match=f"REDIRECT 127.0.0.1:{other.port}"):
        told.connection.read_response()
    assert follower.get("a") == b"3"
