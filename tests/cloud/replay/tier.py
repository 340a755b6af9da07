"""The tier that tests of replays run on: compiled where that can be done, as a tick then costs a hundredth."""

from __future__ import annotations

import shutil

from twinmodel.kernel import warmup

TIER = "jit" if any(map(shutil.which, ("gcc", "cc", "clang"))) and warmup.cache_folder() else "interpreted"
