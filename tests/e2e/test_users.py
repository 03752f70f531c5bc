"""Users, with redis-py's acl_* methods, on real connections of several threads."""

import threading

import pytest
import redis
from conftest import AT_ONCE, IS_KELDA, Server, wait_until

EVERYTHING = {"enabled": True, "nopass": True, "categories": ["+@all"], "keys": ["*"], "reset": True}


@pytest.fixture
def admin(threaded_server):
    with redis.Redis(**threaded_server.address, decode_responses=True) as client:
        yield client
        for name in client.acl_users():
            if name != "default":
                client.acl_deluser(name)
        client.acl_log_reset()


@pytest.fixture
def connect(threaded_server):
    clients = []

    def connect(user, password="x", **options):
        client = redis.Redis(
            **threaded_server.address, username=user, password=password, decode_responses=True, retry=AT_ONCE, **options
        )
        clients.append(client)
        return client

    yield connect
    for client in clients:
        client.close()


def change(admin, *rules):
    """As acl_setuser, which also turns the user off unless told otherwise."""
    assert admin.execute_command("ACL", "SETUSER", "bob", *rules)


def test_a_user_from_birth_to_death(admin, connect):
    assert admin.acl_whoami() == "default"
    assert "hash" in admin.acl_cat() and "hget" in admin.acl_cat("hash")
    assert len(admin.acl_genpass()) == 64
    assert admin.acl_setuser(
        "bob",
        enabled=True,
        reset=True,
        passwords=["+one", "+two"],
        categories=["+@set", "+@hash", "-@blocking"],
        commands=["+get", "+mget", "-hset"],
        keys=["cache:*", "objects:*"],
        channels=["message:*"],
        selectors=[("+set", "%W~app*")],
    )
    bob = admin.acl_getuser("bob")
    assert set(bob["categories"]) == {"+@set", "+@hash", "-@blocking", "-@all"}
    assert set(bob["commands"]) == {"+get", "+mget", "-hset"}
    assert (bob["keys"], bob["channels"]) == (["~cache:*", "~objects:*"], ["&message:*"])
    assert bob["enabled"] and "on" in bob["flags"] and len(bob["passwords"]) == 2
    selector = bob["selectors"][0]
    assert [word for pair in (selector.items() if isinstance(selector, dict) else [selector]) for word in pair][:6] == [
        "commands",
        "-@all +set",
        "keys",
        "%W~app*",
        "channels",
        "",
    ]
    client = connect("bob", "two")
    assert client.get("cache:1") is None
    assert client.set("app1", "x")
    with pytest.raises(redis.exceptions.NoPermissionError, match="No permissions to access a key"):
        client.get("app1")
    with pytest.raises(redis.exceptions.NoPermissionError, match="User bob has no permissions to run the 'hset' command"):
        client.hset("cache:1", "a", "b")
    with pytest.raises(redis.exceptions.AuthenticationError):
        connect("bob", "three").get("cache:1")
    # The oldest is CLIENT SETINFO, with which redis-py begins.
    log = [(entry["reason"], entry["object"]) for entry in admin.acl_log()]
    assert log == [("auth", "HELLO"), ("command", "hset"), ("key", "app1"), ("command", "client|setinfo")]
    assert admin.acl_dryrun("bob", "get", "cache:1") == "OK"
    assert "no permissions" in admin.acl_dryrun("bob", "get", "other")
    assert sorted(admin.acl_users()) == ["bob", "default"]
    assert any(line.startswith("user bob on ") for line in admin.acl_list())
    assert admin.acl_deluser("bob") == 1
    assert admin.acl_getuser("bob") is None
    with pytest.raises(redis.RedisError):
        client.get("cache:1")


def test_what_is_taken_away_is_gone_once_it_is_answered(admin, connect):
    """However many threads serve the sessions: the answer to ACL SETUSER is the moment."""
    admin.acl_setuser("bob", **EVERYTHING)
    clients = [connect("bob") for _ in range(8)]
    for client in clients:
        assert client.set("k", "v")
    for round in range(50):
        change(admin, "-get")
        for client in clients:
            with pytest.raises(redis.exceptions.NoPermissionError):
                client.get("k")
        change(admin, "+get")
        assert [client.get("k") for client in clients] == ["v"] * 8, round


def test_changes_while_others_run(admin, connect):
    admin.acl_setuser("bob", **EVERYTHING)
    stop = threading.Event()
    failures = []

    def work(client):
        while not stop.is_set():
            pipe = client.pipeline(transaction=False)
            for index in range(20):
                pipe.incr(f"n{index}")
            for reply in pipe.execute(raise_on_error=False):
                if not isinstance(reply, (int, redis.exceptions.NoPermissionError)):
                    failures.append(reply)

    threads = [threading.Thread(target=work, args=(connect("bob"),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(100):
        change(admin, "-incr")
        change(admin, "+incr")
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []


def test_listeners_end_with_their_channels(admin, connect):
    admin.acl_setuser("bob", **EVERYTHING, channels=["c:*"])
    listeners = []
    for kind in ("subscribe", "psubscribe"):
        listener = connect("bob").pubsub()
        getattr(listener, kind)("c:1" if kind == "subscribe" else "c:*")
        assert listener.get_message(timeout=5)["type"] == kind
        listeners.append(listener)
    change(admin, "resetchannels", "&c:1")
    left = [client for client in admin.client_list() if client["user"] == "bob"]
    assert [(client["sub"], client["psub"]) for client in left] == [("1", "0")]
    assert admin.publish("c:1", "x") == 1
    assert listeners[0].get_message(timeout=5)["data"] == "x"
    change(admin, "resetchannels")
    assert [client for client in admin.client_list() if client["user"] == "bob"] == []
    wait_until(lambda: admin.pubsub_numsub("c:1") == [("c:1", 0)])


def test_a_blocked_client_is_refused_when_its_turn_comes(admin, connect):
    admin.acl_setuser("bob", **EVERYTHING)
    client = connect("bob")
    got = []

    def wait():
        try:
            got.append(client.blpop("list", 0))
        except redis.RedisError as error:
            got.append(str(error))

    thread = threading.Thread(target=wait)
    thread.start()
    wait_until(lambda: admin.info("clients")["blocked_clients"] == 1)
    change(admin, "-blpop")
    assert admin.rpush("list", "x") == 1
    thread.join()
    assert "no permissions to run the 'blpop' command" in got[0]
    assert admin.lrange("list", 0, -1) == ["x"]


def test_users_of_a_file(tmp_path):
    (tmp_path / "users.acl").write_text("user alice on >x ~* +@all\nuser default on nopass ~* &* +@all\n")
    server = Server("--dir", str(tmp_path), "--aclfile", "users.acl")
    with redis.Redis(**server.address, decode_responses=True) as admin:
        assert admin.acl_users() == ["alice", "default"]
        admin.acl_setuser("bob", enabled=True, passwords=["+y"], keys=["a*"], selectors=[("+get", "~b*")])
        assert admin.acl_save()
        text = (tmp_path / "users.acl").read_text()
        assert text.splitlines() == admin.acl_list()
        admin.acl_deluser("bob")
        assert admin.acl_load()
        assert admin.acl_list() == text.splitlines()
        (tmp_path / "users.acl").write_text("user alice on >x ~* +nosuch\n")
        with pytest.raises(redis.ResponseError, match="users.acl:1: Error in applying operation '\\+nosuch'"):
            admin.acl_load()
        assert admin.acl_list() == text.splitlines()
    server.stop()
    with pytest.raises(RuntimeError, match="because of ACL errors: users.acl:1: Error in applying operation"):
        Server("--dir", str(tmp_path), "--aclfile", "users.acl")
    with pytest.raises(RuntimeError, match="please define either an ACL file or declare users"):
        Server("--dir", str(tmp_path), "--aclfile", "users.acl", "--user", "x")
    with pytest.raises(RuntimeError, match="Error loading ACLs, opening file 'nosuch.acl': No such file or directory"):
        Server("--dir", str(tmp_path), "--aclfile", "nosuch.acl")


def test_users_of_the_configuration(tmp_path):
    config = tmp_path / "redis.conf"
    config.write_text('user bob on >x ~a* "+get" (+set ~b*)\nrequirepass y\nappendonly no\n')
    server = Server("--dir", str(tmp_path), config=config)
    with redis.Redis(**server.address, password="y", decode_responses=True) as admin:
        assert [name for name in admin.acl_users()] == ["bob", "default"]
        admin.acl_setuser("carl", enabled=True, nopass=True, keys=['odd"key' if IS_KELDA else "odd"])
        before = admin.acl_list()
        assert admin.config_rewrite()
    server.stop()
    assert sum(line.startswith("user ") for line in config.read_text().splitlines()) == 3
    server = Server("--dir", str(tmp_path), config=config)
    with redis.Redis(**server.address, password="y", decode_responses=True) as admin:
        assert admin.acl_list() == before
    server.stop()
    config.write_text("port 1\nuser bob on ~* ~a\n")
    with pytest.raises(RuntimeError, match="(?s)at line 2.*>>> 'user bob on ~\\* ~a'.*Error in user declaration"):
        Server("--dir", str(tmp_path), config=config)
