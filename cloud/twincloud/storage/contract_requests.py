"""The part of the store contract that carries out a repeated request once."""

from __future__ import annotations

from typing import Protocol

from twincloud.storage.records_requests import Answer, Claim


class Requests(Protocol):
    """Requests under an Idempotency-Key; see `storage.requests`."""

    def claim_request(self, claim: Claim, fingerprint: bytes, now_ns: int) -> Answer | None:
        """The answer of the same request before, or None: it is the claimant's to carry out now.

        Args:
            claim: of whom.
            fingerprint: SHA-256 of all else that makes the request.
            now_ns: server time.

        Raises:
            InputError: KEY_REUSED when the key was used for a request with another fingerprint.
            ConflictError: IN_PROGRESS while another carries it out; ANSWER_LOST when its change is committed and
                nobody knows the answer any more.
            UnreachableError: RATE_LIMITED when the tenant has too many keys.
        """
        ...

    def keep_answer(self, claim: Claim, answer: Answer, now_ns: int) -> None:
        """Keeps the answer for a day; of one that is too large only that there was one."""
        ...

    def release_request(self, claim: Claim) -> None:
        """Lets the key be used again, unless a change under it is committed."""
        ...
