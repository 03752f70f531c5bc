"""Malformed input: the exact error, and only that connection suffers."""

import resource
import selectors
import socket

import pytest
import redis
from conftest import Server, wait_until


def talk(server, sent, half_close=True):
    """All that the server answers to `sent` until it closes."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(sent)
        if half_close:
            connection.shutdown(socket.SHUT_WR)
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
        return answer


CLOSING = [
    (b"*x\r\n", b"-ERR Protocol error: invalid multibulk length\r\n"),
    (b"*2147483648\r\n", b"-ERR Protocol error: invalid multibulk length\r\n"),
    (b"*1\r\nPING\r\n", b"-ERR Protocol error: expected '$', got 'P'\r\n"),
    (b"*1\r\n$-5\r\n", b"-ERR Protocol error: invalid bulk length\r\n"),
    (b"*1\r\n$x\r\n", b"-ERR Protocol error: invalid bulk length\r\n"),
    (b"*1\r\n$536870913\r\n", b"-ERR Protocol error: invalid bulk length\r\n"),
    (b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n:1\r\n", b"-ERR Protocol error: expected '$', got ':'\r\n"),
    (b"GET \"k\r\n", b"-ERR Protocol error: unbalanced quotes in request\r\n"),
    (b"PING\r\n*x\r\nPING\r\n", b"+PONG\r\n-ERR Protocol error: invalid multibulk length\r\n"),
    (b"*" + b"1" * 70_000, b"-ERR Protocol error: too big mbulk count string\r\n"),
    (b"*1\r\n$" + b"1" * 70_000, b"-ERR Protocol error: too big bulk count string\r\n"),
    (b"x" * 70_000, b"-ERR Protocol error: too big inline request\r\n"),
]


@pytest.mark.parametrize("sent, answer", CLOSING, ids=range(len(CLOSING)))
def test_protocol_errors_close(server, sent, answer):
    try:
        assert talk(server, sent, half_close=False) == answer
    except ConnectionResetError:
        # The server closed with our bytes still unread: its answer may be lost on the way.
        assert len(sent) > 60_000
    assert redis.Redis(**server.address).ping()


ANSWERED = [
    (b"PING\r\n", b"+PONG\r\n"),
    (b"\r\n\r\nPING\n", b"+PONG\r\n"),
    (b"*0\r\n*-1\r\nPING\r\n", b"+PONG\r\n"),
    (b"SET k \"a b\\x00\"\r\nGET k\r\n", b"+OK\r\n$4\r\na b\0\r\n"),
    (b"SET k 'it\\'s'\r\nGET k\r\n", b"+OK\r\n$4\r\nit's\r\n"),
    (b"*1\r\n$4\r\nPI", b""),
    (b"*2\r\n$3\r\nGET\r\n$0\r\n\r\n", b"$-1\r\n"),
    (b"nosuch a b\r\n", b"-ERR unknown command 'nosuch', with args beginning with: 'a' 'b' \r\n"),
    (b"GET\r\n", b"-ERR wrong number of arguments for 'get' command\r\n"),
    (b"QUIT\r\nPING\r\n", b"+OK\r\n"),
    (b"CLIENT REPLY OFF\r\nPING\r\nCLIENT REPLY ON\r\n", b"+OK\r\n"),
    (b"CLIENT REPLY SKIP\r\nPING\r\nECHO x\r\n", b"$1\r\nx\r\n"),
]


@pytest.mark.parametrize("sent, answer", ANSWERED, ids=range(len(ANSWERED)))
def test_odd_but_fine(server, sent, answer):
    assert talk(server, sent) == answer


def test_one_byte_at_a_time(server):
    request = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\n\r\nab\r\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\nPING\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in request:
            connection.sendall(bytes([byte]))
        answer = b""
        expected = b"+OK\r\n$5\r\n\r\nab\r\r\n+PONG\r\n"
        while len(answer) < len(expected):
            answer += connection.recv(100)
        assert answer == expected


def test_big_values(server):
    client = redis.Redis(**server.address)
    value = bytes(range(256)) * 4096 * 16
    assert client.set("big", value) and client.get("big") == value
    assert client.getrange("big", -256, -1) == bytes(range(256))
    with pytest.raises(redis.ResponseError, match="string exceeds maximum allowed size"):
        client.setrange("big", 536870911, "xx")
    client.config_set("proto-max-bulk-len", 1024 * 1024)
    try:
        with pytest.raises((redis.ResponseError, redis.ConnectionError)):
            client.set("big", b"x" * (1024 * 1024 + 1))
    finally:
        redis.Redis(**server.address).config_set("proto-max-bulk-len", 512 * 1024 * 1024)


def test_query_buffer_limit(server):
    """What never becomes a command is cut off at the limit."""
    client = redis.Redis(**server.address)
    client.config_set("client-query-buffer-limit", 1024 * 1024)
    try:
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
            with pytest.raises((ConnectionResetError, BrokenPipeError)):
                connection.sendall(b"*2\r\n$4\r\nECHO\r\n$500000000\r\n")
                for _ in range(5000):
                    connection.sendall(b"x" * 10_000)
    finally:
        redis.Redis(**server.address).config_set("client-query-buffer-limit", 1024 * 1024 * 1024)
    assert client.ping()


def test_maxclients(server):
    small = Server("--maxclients", "20")
    try:
        connections = [socket.create_connection(("127.0.0.1", small.port), timeout=10) for _ in range(20)]
        for connection in connections:
            connection.sendall(b"PING\r\n")
        answers = [connection.recv(100) for connection in connections]
        assert answers.count(b"+PONG\r\n") >= 19
        assert talk(small, b"") == b"-ERR max number of clients reached\r\n"
        connections.pop().close()
        connections.pop().close()

        def accepted():
            try:
                return talk(small, b"PING\r\n") == b"+PONG\r\n"
            except ConnectionError:
                return False

        wait_until(accepted)
        for connection in connections:
            connection.close()
    finally:
        small.stop()


def test_ten_thousand_connections():
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = min(10_000, files - 1000)
    many = Server("--maxclients", "12000")
    try:
        selector = selectors.DefaultSelector()
        connections = []
        for _ in range(count):
            connection = socket.create_connection(("127.0.0.1", many.port), timeout=30)
            selector.register(connection, selectors.EVENT_READ)
            connections.append(connection)
        for turn in range(3):
            for number, connection in enumerate(connections):
                connection.sendall(b"INCR n\r\nGET k%d\r\n" % number)
            answers = {connection: b"" for connection in connections}
            open_answers = count
            while open_answers:
                for key, _ in selector.select(30):
                    answers[key.fileobj] += key.fileobj.recv(1000)
                    open_answers -= answers[key.fileobj].endswith(b"\r\n$-1\r\n")
            numbers = sorted(int(answer.split(b"\r\n")[0][1:]) for answer in answers.values())
            assert numbers == list(range(turn * count + 1, (turn + 1) * count + 1))
        assert redis.Redis(**many.address).info("clients")["connected_clients"] >= count
        for connection in connections:
            connection.close()
        client = redis.Redis(**many.address)
        wait_until(lambda: client.info("clients")["connected_clients"] <= 3)
    finally:
        many.stop()


def test_output_that_waits_is_added_to(server):
    """Requests that come one by one while their client does not read."""
    client = redis.Redis(**server.address)
    client.set("big", "x" * 300_000)
    with socket.create_connection((server.address["host"], server.address["port"])) as lazy:
        for _ in range(30):
            lazy.sendall(b"*2\r\n$3\r\nGET\r\n$3\r\nbig\r\n")
            # A reply to another client: the server has had a turn since.
            assert client.ping()
        want, got = 30 * len(b"$300000\r\n" + b"x" * 300_000 + b"\r\n"), 0
        while got < want:
            read = len(lazy.recv(1 << 20))
            assert read, f"closed after {got} bytes of {want}"
            got += read
