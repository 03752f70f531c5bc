"""What the log says of signals that end the process as a mistake does, and of SIGALRM."""

import pathlib
import signal

import pytest
import redis
from conftest import AT_ONCE, IS_KELDA, Server, wait_until

pytestmark = pytest.mark.skipif(not IS_KELDA, reason="they are Kelda's words")


@pytest.mark.parametrize("sent", [signal.SIGABRT, signal.SIGSEGV, "DEBUG SEGFAULT"], ids=str)
@pytest.mark.parametrize("logfile", ["", "server.log"])
def test_the_log_tells_of_a_signal_that_ends_the_process(sent, logfile):
    server = Server("--logfile", logfile)
    with redis.Redis(**server.address, retry=AT_ONCE) as client:
        if sent == "DEBUG SEGFAULT":
            with pytest.raises(redis.RedisError):
                client.execute_command("DEBUG", "SEGFAULT")
                client.ping()
            sent = signal.SIGSEGV
        else:
            server.process.send_signal(sent)
    assert server.process.wait(10) == -sent, "it ends as the signal has it"
    told = (pathlib.Path(server.directory.name) / (logfile or "log")).read_text()
    assert f" crashed by signal: {int(sent)}, si_code: 0\n" in told
    assert "Sent by the process " in told
    server.stop()


def test_sigalrm_asks_what_the_threads_are_doing():
    server = Server()
    server.process.send_signal(signal.SIGALRM)
    log = pathlib.Path(server.directory.name) / "log"
    wait_until(lambda: "(signals): state " in log.read_text())
    assert "Received SIGALRM" in log.read_text()
    assert redis.Redis(**server.address).ping()
    assert server.stop() == 0
