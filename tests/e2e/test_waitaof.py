"""WAITAOF while the log is turned on and off."""

import pytest
import redis
from conftest import IS_KELDA, wait_until
from test_replication import servers  # noqa: F401 (a fixture)

pytestmark = pytest.mark.skipif(not IS_KELDA, reason="Kelda's log")


def test_nobody_waits_for_a_log_that_was_turned_off(servers):
    server, client = servers("--appendonly", "yes", "--appendfsync", "no")
    waiter = redis.Redis(port=server.port, socket_timeout=30).connection_pool.get_connection()

    def is_on():
        state = client.info("persistence")
        return state["aof_enabled"] and not state["aof_rewrite_in_progress"]

    for _ in range(20):
        client.config_set("appendonly", "yes")
        wait_until(is_on, 30)
        for words in [("INCR", "a"), ("WAITAOF", 1, 0, 0)]:
            waiter.send_command(*words)
        client.config_set("appendonly", "no")
        waiter.read_response()
        try:
            assert waiter.read_response() == [1, 0]
        except redis.ResponseError as error:
            assert "appendonly is disabled" in str(error)
        with pytest.raises(redis.ResponseError, match="appendonly is disabled"):
            client.waitaof(1, 0, 0)
