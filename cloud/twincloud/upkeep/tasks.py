"""All tasks of a coordinator, made of its settings."""

from __future__ import annotations

import os
import socket

from twincloud.archive.objects import open_objects
from twincloud.config import Settings
from twincloud.storage.contract import Store
from twincloud.upkeep.archive import ArchiveTask
from twincloud.upkeep.commands import CommandTask
from twincloud.upkeep.directives import DirectiveTask
from twincloud.upkeep.history import Compaction
from twincloud.upkeep.partitions import Reclaim
from twincloud.upkeep.retention import RetentionTask
from twincloud.upkeep.task import Task
from twinmodel.clock import SECOND_NS, Clock

DAY_S = 86_400


def tasks_of(settings: Settings, store: Store, clock: Clock) -> tuple[Task, ...]:
    """The work of the background; also says the store where its archive is.

    Raises:
        InputError: VALUE_INVALID when `archive:` names no place.
    """
    objects = open_objects(settings.archive, settings.state / "archive")
    store.use_archive(objects)
    archiving = settings.archive_days > 0
    retention = RetentionTask(store, store, objects, archiving=archiving, clock=clock)
    always = (Compaction(store), retention, Reclaim(store), CommandTask(store), DirectiveTask(store))
    if not archiving:
        return always
    return (
        *always,
        ArchiveTask(
            store, objects, settings.state / "staging", round(settings.archive_days * DAY_S) * SECOND_NS,
            f"{socket.gethostname()}-{os.getpid()}", clock,
        ),
    )  # fmt: skip
