"""Rows 1-26 of the plan's faults: what must happen, and the tests that show it by its typed reason."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """One fault: what is expected and the tests, `file::name` below `tests/`."""

    fault: str
    expected: str
    tests: tuple[str, ...]


SPOOL, SERVICER, PLANT = "edge/spool/test_", "cloud/ingest/test_servicer.py::test_", "e2e/test_plant.py::test_"
IDENTITY, HOSTILE = "cloud/ingest/test_identity.py::test_", "cloud/ingest/test_hostile_peers.py::test_"
SIMULATED = "campaign/test_faults.py::test_a_simulated_fault_is_told_by_its_reason_and_costs_nothing"
ROWS: dict[int, Row] = {
    1: Row("kill -9", "0 lost, 0 twice", (
        SPOOL + "crash.py::test_killed_process_leaves_every_sample_it_had_reported",
        "contract/test_crash.py::test_kill_in_the_midst_of_commits_loses_nothing_acknowledged_and_doubles_nothing")),
    2: Row("power cut", "at most a window, declared as OUTAGE", (
        "campaign/test_crash_points.py::test_a_power_cut_at_an_io_call_loses_nothing_that_was_promised",
        "campaign/test_processes.py::test_processes_under_kills_and_power_cuts_lose_nothing")),
    3: Row("torn pages", "opens, nothing promised is lost", (
        SPOOL + "crash.py::test_power_cut_at_any_write_or_sync_loses_no_stored_sample",)),
    4: Row("fsync EIO", "STORE_SYNC_FAILED, reopened", (
        SPOOL + "crash.py::test_refused_append_says_why_and_heals_with_the_same_numbers",
        SPOOL + "disk.py::test_nothing_acknowledged_is_lost_by_a_power_cut_after_a_sync_that_failed")),
    5: Row("disk full", "STORE_FULL, heals", (
        SPOOL + "crash.py::test_refused_append_says_why_and_heals_with_the_same_numbers",
        PLANT + "a_full_disk_keeps_samples_in_memory_and_heals_by_itself")),
    6: Row("read-only file system", "STORE_READ_ONLY, heals", (
        SPOOL + "crash.py::test_refused_append_says_why_and_heals_with_the_same_numbers",)),
    7: Row("corrupt spool", "STORE_CORRUPT: set aside, salvaged, gap declared", (
        SPOOL + "recover.py::test_file_that_is_no_database_is_set_aside_and_the_chain_goes_on",)),
    8: Row("coordinator dies before its answer", "0 twice", (SIMULATED,)),
    9: Row("coordinator restored older", "SERVER_REGRESSED, tail sent again", (
        SIMULATED, SERVICER + "a_restored_coordinator_gets_the_acknowledged_tail_again")),
    10: Row("long partition", "COORDINATOR_UNREACHABLE, drains", (
        SIMULATED, PLANT + "nothing_is_lost_or_stored_twice_under_kills_a_cut_and_a_swap")),
    11: Row("acknowledgements lost", "acknowledged again, nothing else", (SIMULATED,)),
    12: Row("loss, slow link, reset", "progress", (
        SIMULATED,
        "sync/session/test_pair.py::test_everything_arrives_once_and_in_order_over_a_bad_link_and_restarts")),
    13: Row("clock jump, no clock", "order kept, quality UNSET", (
        SIMULATED,
        "edge/test_clock.py::test_machine_without_a_battery_starts_in_1970_and_its_clock_is_unset_whatever_the_kernel_says")),
    14: Row("process paused", "its session ends by silence, the old one is FENCED, it comes back", (
        "campaign/test_rows.py::test_an_agent_paused_for_a_minute_is_sent_away_for_its_silence_fenced_and_comes_back",
        "sync/session/test_server.py::test_an_idle_session_beats_restates_the_credit_and_a_silent_gateway_is_cut",
        "edge/test_clock.py::test_suspend_is_seen_by_the_boot_clock_and_its_hole_is_told_and_a_busy_second_is_not_one")),
    15: Row("memory limit", "bounded", (
        "campaign/test_rows.py::test_under_a_memory_limit_the_spool_stays_within_it_declares_what_it_drops_and_survives_its_end",
        PLANT + "agents_and_coordinator_stay_within_their_memory",
        "edge/test_lanes.py::test_a_device_that_comes_and_goes_while_the_disk_refuses_costs_no_memory_without_bound")),
    16: Row("hung loop", "the supervisor restarts it", (
        "campaign/test_rows.py::test_a_hung_loop_or_store_no_longer_feeds_the_supervisor_which_restarts_it",
        "cloud/service/test_service.py::test_supervisor_hears_ready_watchdog_and_stopping")),
    17: Row("schema change", "older rows read with theirs", (
        SIMULATED,
        "sync/test_block.py::test_samples_behind_a_change_of_schema_read_with_theirs_and_older_ones_with_the_old")),
    18: Row("poison", "BLOCK_CORRUPT: dead letter, the stream goes on", (
        SIMULATED, PLANT + "a_broken_block_becomes_a_dead_letter_and_its_stream_goes_on")),
    19: Row("replay of an old block", "PROTOCOL_VIOLATION or acknowledged again", (
        SIMULATED, "sync/session/test_server.py::test_items_of_another_session_are_refused")),
    20: Row("cloned gateway", "IDENTITY_FORK, directives rest", (
        SIMULATED, "contract/test_registry.py::test_directives_rest_while_the_identity_is_forked")),
    21: Row("old disk image restored", "fork found, rows dedupe", (
        SIMULATED, IDENTITY + "a_disk_that_never_had_the_last_boot_is_a_fork_and_keeps_its_items")),
    22: Row("stolen key", "revocation cuts live streams: CERT_INVALID", (
        "cloud/service/test_service.py::test_gateway_joins_and_opens_a_stream_over_mutual_tls_until_it_is_revoked",)),
    23: Row("certificate expired", "CERT_EXPIRED, buffers, renews", (
        PLANT + "an_agent_whose_certificate_expired_reads_and_buffers_until_it_joins_anew",
        IDENTITY + "an_expired_certificate_is_told_by_its_name")),
    24: Row("foreign certificate or tenant", "refused", (
        IDENTITY + "a_certificate_of_a_foreign_authority_does_not_get_in",
        PLANT + "a_certificate_of_a_foreign_coordinator_does_not_get_in")),
    25: Row("oversize, gzip and zstd bombs", "RESOURCE_EXHAUSTED or BLOCK_CORRUPT", (
        HOSTILE + "a_message_beyond_the_bound_is_refused", HOSTILE + "gzip_is_not_accepted",
        "sync/test_block_hostile.py::test_zstd_bomb_is_refused_before_memory_is_taken")),
    26: Row("slowloris", "cut, others served", (
        "campaign/test_rows.py::test_three_hundred_silent_sockets_are_cut_while_a_gateway_is_served",
        "cloud/service/test_connections.py::test_one_address_cannot_take_all_places",
        "sync/session/test_server.py::test_an_idle_session_beats_restates_the_credit_and_a_silent_gateway_is_cut")),
}  # fmt: skip
