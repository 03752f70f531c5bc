"""Pattern 6: publish and subscribe."""

import socket
import threading

import redis
from conftest import wait_until


def next_message(pubsub):
    """The next message, subscriptions included."""
    while (message := pubsub.get_message(timeout=5)) is None:
        pass
    return message


def test_channels_and_patterns(server, r, t):
    with r.pubsub() as p:
        p.subscribe("news")
        p.psubscribe("n*")
        assert [next_message(p)["type"] for _ in range(2)] == ["subscribe", "psubscribe"]
        assert r.publish("news", "hello") == 2
        messages = sorted((next_message(p) for _ in range(2)), key=lambda message: message["type"])
        assert messages[0] == {"type": "message", "pattern": None, "channel": t("news"), "data": t("hello")}
        assert messages[1] == {"type": "pmessage", "pattern": t("n*"), "channel": t("news"), "data": t("hello")}
        assert r.pubsub_channels() == t(["news"]) and r.pubsub_numpat() == 1
        assert [tuple(pair) for pair in r.pubsub_numsub("news", "none")] == t([("news", 1), ("none", 0)])
        p.unsubscribe()
        p.punsubscribe()
        assert {next_message(p)["type"] for _ in range(2)} == {"unsubscribe", "punsubscribe"}
        wait_until(lambda: r.publish("news", "nobody") == 0)


def test_listen_and_handlers(r, t):
    got = []
    with r.pubsub(ignore_subscribe_messages=True) as p:
        p.subscribe(**{"jobs": lambda message: got.append(message["data"])})
        p.subscribe("end")
        wait_until(lambda: r.publish("jobs", "1") == 1)
        r.publish("jobs", "2")
        r.publish("end", "bye")
        for message in p.listen():
            assert message["data"] == t("bye")
            break
    assert got[-2:] == t(["1", "2"])


def test_run_in_thread(r, t):
    got = []
    p = r.pubsub(ignore_subscribe_messages=True)
    p.subscribe(**{"c": lambda message: got.append(message["data"])})
    thread = p.run_in_thread(sleep_time=0.01, daemon=True)
    wait_until(lambda: r.publish("c", "x") == 1)
    wait_until(lambda: got != [])
    thread.stop()
    thread.join()
    assert got[0] == t("x")


def test_shard_channels(r, t):
    with r.pubsub() as p:
        p.ssubscribe("s")
        assert next_message(p)["type"] == "ssubscribe"
        assert r.execute_command("SPUBLISH", "s", "hi") == 1
        while (message := p.get_message(timeout=5)) is None:
            pass
        assert (message["type"], message["data"]) == ("smessage", t("hi"))


def test_restricted_mode_of_resp2(server):
    with redis.Redis(**server.address, protocol=2, single_connection_client=True) as client:
        connection = client.connection
        connection.send_command("SUBSCRIBE", "c")
        connection.read_response()
        connection.send_command("GET", "x")
        try:
            connection.read_response()
            raise AssertionError("GET is refused")
        except redis.ResponseError as error:
            assert "only (P|S)SUBSCRIBE" in str(error)
        connection.send_command("PING")
        assert connection.read_response() == [b"pong", b""]


def test_everyone_gets_everything_in_order(threaded_server):
    """Subscribers on all threads get the messages of one publisher in its order."""
    subscribers, count = 8, 2000
    got = [[] for _ in range(subscribers)]
    publisher = redis.Redis(**threaded_server.address)

    def listen(number):
        with redis.Redis(**threaded_server.address) as client, client.pubsub(ignore_subscribe_messages=True) as p:
            p.subscribe("c")
            while len(got[number]) < count:
                message = p.get_message(timeout=5)
                if message:
                    got[number].append(int(message["data"]))

    threads = [threading.Thread(target=listen, args=(number,), daemon=True) for number in range(subscribers)]
    for thread in threads:
        thread.start()
    # Not PUBSUB NUMSUB: Valkey 9.1.2 reports nonsense for it while a channel has many subscribers.
    subscribed = lambda: [entry for entry in publisher.client_list(_type="pubsub") if entry["sub"] == "1"]
    wait_until(lambda: len(subscribed()) == subscribers)
    pipe = publisher.pipeline(transaction=False)
    for n in range(count):
        pipe.publish("c", n)
    assert set(pipe.execute()) == {subscribers}
    for thread in threads:
        thread.join()
    assert all(messages == list(range(count)) for messages in got)


def test_slow_consumer_is_cut_off(server):
    """One that does not read is closed at its limit; the others get everything."""
    client = redis.Redis(**server.address)
    client.config_set("client-output-buffer-limit", "pubsub 1mb 0 0")
    slow = socket.create_connection(("127.0.0.1", server.port))
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    slow.sendall(b"SUBSCRIBE c\r\n")
    wait_until(lambda: client.pubsub_numsub("c")[0][1] == 1)
    with client.pubsub(ignore_subscribe_messages=True) as quick:
        quick.subscribe("c")
        wait_until(lambda: client.pubsub_numsub("c")[0][1] == 2)
        sent = 0
        while client.publish("c", b"x" * 10_000) == 2:
            sent += 1
            while quick.get_message(timeout=5) is None:
                pass
            assert sent < 5000, "the slow one is never cut off"
        while quick.get_message(timeout=5) is None:
            pass
        assert client.pubsub_numsub("c")[0][1] == 1
    client.config_set("client-output-buffer-limit", "pubsub 32mb 8mb 60")
    slow.close()
