"""Keeps the nodes of OPC UA itself, so that a worker makes them once and not for each server of its tests.

    made once ──▶ kept, never touched ──▶ each server copies those it looks at

Making them takes seconds of a core, and all that a test changes are its own nodes and the values of a few of these.
"""

from __future__ import annotations

import gc
import importlib
import sys


class Nodes(dict):
    """Nodes of one server: what was asked for is a copy of its own, the others are there all the same."""

    def __init__(self, kept):
        super().__init__()
        self._kept, self._untouched = kept, set(kept)

    def __missing__(self, node):
        self._untouched.remove(node)  # a KeyError where there is none
        made = self[node] = copied(self._kept[node])
        return made

    def get(self, node, default=None):
        try:
            return self[node]
        except KeyError:
            return default

    def __contains__(self, node):
        return super().__contains__(node) or node in self._untouched

    def __setitem__(self, node, data):
        self._untouched.discard(node)
        super().__setitem__(node, data)

    def __delitem__(self, node):
        self[node]
        super().__delitem__(node)

    def __iter__(self):
        return iter([*super().__iter__(), *self._untouched])

    def __len__(self):
        return super().__len__() + len(self._untouched)

    def keys(self):
        return list(self)

    def items(self):
        return [(node, self[node]) for node in self]

    def values(self):
        return [self[node] for node in self]


def copied(data):
    """A node with attributes and a list of references of its own; what is in them is replaced, never changed."""
    made = type(data)(data.nodeid)
    made.attributes = {key: type(attribute)(attribute.value) for key, attribute in data.attributes.items()}
    made.references = list(data.references)
    return made


def keep_nodes():
    """From now on servers of this process get copies; nothing is imported that was not."""
    theirs = sys.modules.get("asyncua.server.internal_server")
    if theirs is not None:
        _keep_theirs(theirs.InternalServer)
    ours = sys.modules.get("twinedge.northbound.opcua_server")
    if ours is not None:
        _keep_ours(ours)


def _keep_theirs(server_class):
    """Those of a server of the library."""
    fill, kept = server_class.load_standard_address_space, {}

    async def load(server, shelf_file=None):
        if not kept:
            await fill(server, shelf_file)
            _keep(kept, server.aspace._nodes)
        server.aspace._nodes = Nodes(kept)

    server_class.load_standard_address_space = load


def _keep_ours(module):
    """Those that the server of an edge has a use for."""
    fill, kept = module.load, {}

    def load(space):
        if not kept:
            made = importlib.import_module("asyncua.server.address_space").AddressSpace()
            fill(made)
            _keep(kept, made._nodes)
        for node, data in kept.items():
            space[node] = copied(data)

    module.load = load


def _keep(kept, nodes):
    kept |= {node: copied(data) for node, data in nodes.items()}
    # They stay for good: the collector of garbage need not look through them again and again.
    gc.freeze()
