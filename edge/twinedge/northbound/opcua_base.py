"""The nodes of OPC UA itself, without those that a server which only serves values has no use for.

asyncua brings 6,000 nodes along: publish-subscribe, configuration, roles, files, methods, and what each type of object
consists of. They take 40 MB and seconds of a gateway's core. All types stay, and the object of the server.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from typing import Any, Final

import asyncua.ua
from asyncua.server.address_space import AddressSpace, NodeData, NodeManagementService

ua: Any = asyncua.ua  # it re-exports its names without saying so, which strict typing refuses

_IDS = ua.ObjectIds
_PACKAGE: Final = "asyncua.server.standard_address_space"
_SOURCE: Final = f"{_PACKAGE}.standard_address_space"
_SERVER: Final = frozenset(
    {
        _IDS.Server_ServerArray,
        _IDS.Server_NamespaceArray,
        _IDS.Server_ServerStatus,
        _IDS.Server_ServiceLevel,
        _IDS.Server_Auditing,
        _IDS.Server_ServerCapabilities,
        _IDS.Server_ServerDiagnostics,
        _IDS.Server_VendorServerInfo,
        _IDS.Server_ServerRedundancy,
    }
)
"""What the object of the server keeps."""
_UNUSED: Final = frozenset(
    {
        _IDS.Server_ServerCapabilities_RoleSet,
        _IDS.Server_ServerCapabilities_AggregateFunctions,
        _IDS.OPCBinarySchema_TypeSystem,
        _IDS.XmlSchema_TypeSystem,
    }
)
"""Left out with all below them."""
_TYPES: Final = frozenset(
    {
        ua.NodeClass.ObjectType,
        ua.NodeClass.VariableType,
        ua.NodeClass.DataType,
        ua.NodeClass.ReferenceType,
    }
)


def load(space: AddressSpace) -> None:
    """Fills an address space; takes about a second of a core, in a thread."""
    gathered = _Gathered()
    importlib.import_module(_SOURCE).fill_address_space(gathered)
    _Loader(space).load(gathered)
    package = importlib.import_module(_PACKAGE)
    for name in [name for name in sys.modules if name.startswith(_SOURCE)]:
        # It is run once, and its code takes more memory than what it makes.
        del sys.modules[name]
        vars(package).pop(name.rpartition(".")[2], None)


class _Gathered:
    """Stands in asyncua's place and only writes down what it shall add."""

    def __init__(self) -> None:
        self.nodes: dict[int, Any] = {}
        self.references: list[Any] = []
        self._shapes: dict[int, tuple[int, Any]] = {}

    def try_add_nodes(self, nodes: list[Any], *, check: bool = True) -> Iterator[Any]:
        """See `NodeManagementService`; returns what could not be added, which is nothing."""
        del check
        for node in nodes:
            number = node.RequestedNewNodeId.Identifier
            self._shapes[number] = (node.ParentNodeId.Identifier, node.NodeClass)
            if self.is_used(number):
                self.nodes[number] = node
        return iter(())

    def try_add_references(self, references: list[Any]) -> Iterator[Any]:
        """See `try_add_nodes`; those of a node follow the node."""
        self.references += [r for r in references if r.SourceNodeId.Identifier in self.nodes]
        return iter(())

    def is_used(self, number: int) -> bool:
        """Whether a server of values has a use for a node: a type, or something below the server or a type of value.

        As far as its parents are known; they may follow.
        """
        if self._shapes[number][1] is ua.NodeClass.Method:
            return False
        while number in self._shapes:
            parent, klass = self._shapes[number]
            of_objects = self._shapes.get(parent, (0, None))[1] is ua.NodeClass.ObjectType
            if number in _UNUSED or (of_objects and klass not in _TYPES):
                return False
            if parent == _IDS.Server and number not in _SERVER:
                return False
            if parent == _IDS.ObjectsFolder and number != _IDS.Server:
                return False
            number = parent
        return True


class _Loader(NodeManagementService):
    """Adds nodes without looking through all references of their neighbours each time."""

    def __init__(self, space: AddressSpace) -> None:
        super().__init__(space)
        self._known: set[tuple[Any, ...]] = set()

    def load(self, gathered: _Gathered) -> None:
        """Adds what is used of what was gathered."""
        used = [node for number, node in gathered.nodes.items() if gathered.is_used(number)]
        for node in used:
            data = NodeData(node.RequestedNewNodeId)
            self._add_node_attributes(data, node, add_timestamps=False)
            self._aspace[data.nodeid] = data
        for node in used:
            if not node.TypeDefinition.is_null():
                self._add_type_definition(self._aspace[node.RequestedNewNodeId], node)
        for node in used:
            parent = self._aspace.get(node.ParentNodeId)
            if parent is not None:
                data = self._aspace[node.RequestedNewNodeId]
                self._add_ref_from_parent(data, node, parent)
                self._add_ref_to_parent(data, node, parent)
        there = {node.RequestedNewNodeId.Identifier for node in used}
        for reference in gathered.references:
            if reference.SourceNodeId.Identifier in there and reference.TargetNodeId.Identifier in there:
                self._add_reference_no_check(self._aspace[reference.SourceNodeId], reference)

    def _add_unique_reference(self, nodedata: NodeData, desc: Any) -> Any:
        key = (nodedata.nodeid.Identifier, desc.ReferenceTypeId.Identifier, desc.NodeId.Identifier)
        if key not in self._known:
            self._known.add(key)
            nodedata.references.append(desc)
        return ua.StatusCode()
