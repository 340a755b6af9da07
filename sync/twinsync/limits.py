"""Bounds both tiers agree on; whoever receives checks them before it allocates."""

from __future__ import annotations

BOOT_BYTES = 16
"""Length of a boot id: 128 random bits."""

DIGEST_BYTES = 32
"""Length of a SHA-256 digest: catalogues, packages."""

SEQ_MAX = 2**63 - 2
"""Largest sequence number; the mark behind it still fits the signed 64 bits of SQLite and PostgreSQL."""

TIME_NS_MIN = -(2**63)
TIME_NS_MAX = 2**63 - 1

BLOCK_SAMPLES_MAX = 1 << 18
"""Samples of one block; a decoder's memory grows with it."""

BLOCK_BYTES_MAX = 2 << 20
"""Bytes of a block's payload as it travels, compressed."""

BLOCK_RAW_BYTES_MAX = 16 << 20
"""Bytes of a block's columns once decompressed."""

KEPT_BYTES_MAX = BLOCK_SAMPLES_MAX // 8 + 256
"""Bytes of the bitmap of a thinned block as it travels; one that does not deflate grows a little."""

MESSAGE_BYTES_MAX = 4 << 20
"""Bytes of one gRPC message; a message always has room for one block."""

HELLO_BOOTS_MAX = 4096
HELLO_RANGES_MAX = 4 * HELLO_BOOTS_MAX
"""What a hello may tell: a gateway that starts again and again without a link has a boot, and its streams, for each."""

ITEMS_PER_MESSAGE_MAX = 256
"""Items of one `Items` message."""

CONTENT_BYTES_MAX = 256 << 10
"""Bytes a directive may carry itself, a configuration with its profiles for instance."""

ARGUMENTS_BYTES_MAX = 4096
"""Bytes of the arguments of a command, and of what is read back."""

COMMANDABLES_MAX = 1000
APPROVALS_MAX = 8
"""People who may approve one command."""

COMMAND_MS_MAX = 3_600_000
"""Longest deadline of a command, from its issue."""

REASON_CHARS_MAX = 64
"""Characters of an UPPER_SNAKE reason."""

NAME_CHARS_MAX = 256
"""Characters of a signal's, device's, twin's or unit's name."""

CATALOGUE_TWINS_MAX = 1 << 16
"""Twin bindings of one catalogue."""
