"""A server for the tests, and clients of every flavour.

KELDA_SERVER names another binary than target/release/kelda-server: an oracle, for instance."""

import os
import pathlib
import resource
import socket
import subprocess
import tempfile
import time

import pytest
import pytest_asyncio
import redis
import redis.asyncio
from redis.backoff import NoBackoff
from redis.retry import Retry

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = os.environ.get("KELDA_SERVER", str(ROOT / "target/release/kelda-server"))
IS_KELDA = "kelda" in pathlib.Path(BINARY).name

# Servers inherit the limit: ten thousand connections need as many files.
_, HARD = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (HARD, HARD))


# One attempt: a failure is told at once.
AT_ONCE = Retry(NoBackoff(), 0)


class Server:
    """A server process on a free port; `address` is what redis-py's constructors take."""

    def __init__(self, *directives, binary=BINARY, config=None):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.address = {"host": "127.0.0.1", "port": self.port}
        self.directory = tempfile.TemporaryDirectory()
        self.log = open(pathlib.Path(self.directory.name) / "log", "w+")
        arguments = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", self.directory.name]
        arguments += ["--enable-debug-command", "yes", "--appendonly", "no", *directives]
        self.process = subprocess.Popen([binary, *([str(config)] if config else []), *arguments], stdout=self.log, stderr=self.log)
        deadline = time.monotonic() + 10
        while True:
            try:
                with redis.Redis(**self.address, retry=AT_ONCE) as client:
                    # PING is answered before the data is there.
                    client.dbsize()
                return
            except (redis.AuthenticationError, redis.exceptions.NoPermissionError):
                return
            except redis.RedisError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    self.log.seek(0)
                    raise RuntimeError(f"{binary} does not answer: {self.log.read()}") from None

    def stop(self):
        self.process.terminate()
        try:
            code = self.process.wait(10)
        finally:
            self.process.kill()
            self.process.wait()
            self.log.close()
            self.directory.cleanup()
        return code


@pytest.fixture(scope="session")
def session_server():
    server = Server()
    yield server
    assert server.stop() == 0, "SIGTERM ends the server cleanly"


@pytest.fixture
def server(session_server):
    with redis.Redis(**session_server.address) as client:
        client.flushall()
    return session_server


@pytest.fixture(scope="session", params=[1, 2, 4] if IS_KELDA else [None], ids=lambda n: f"{n}-threads" if n else "oracle")
def threaded_session_server(request):
    # With two the server chooses how many of them drive its event loops, with four all do.
    always = ["--io-threads-always-active", "yes"] if request.param == 4 else []
    server = Server("--threads", str(request.param), *always) if request.param else Server()
    yield server
    server.stop()


@pytest.fixture
def threaded_server(threaded_session_server):
    with redis.Redis(**threaded_session_server.address) as client:
        client.flushall()
    return threaded_session_server


FLAVOURS = [
    pytest.param({"protocol": protocol, "decode_responses": decode}, id=f"resp{protocol}-{'text' if decode else 'bytes'}")
    for protocol in (2, 3)
    for decode in (False, True)
]


@pytest.fixture(params=FLAVOURS)
def flavour(request):
    return request.param


@pytest.fixture
def r(server, flavour):
    with redis.Redis(**server.address, **flavour) as client:
        yield client


@pytest_asyncio.fixture
async def ar(server, flavour):
    async with redis.asyncio.Redis(**server.address, **flavour) as client:
        yield client


@pytest.fixture
def t(flavour):
    """Turns the texts in an expectation into what the flavour returns."""

    def turn(value):
        if isinstance(value, str):
            return value if flavour["decode_responses"] else value.encode()
        if isinstance(value, dict):
            return {turn(k): turn(v) for k, v in value.items()}
        if isinstance(value, (list, tuple, set)):
            return type(value)(turn(item) for item in value)
        return value

    return turn


def wait_until(condition, seconds=10):
    """Asks again and again: no test waits longer than it must."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.001)
