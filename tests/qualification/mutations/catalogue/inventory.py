"""Guards of the OTP inventory, and of the commands that repair a ledger."""

from __future__ import annotations

from typing import Final

from tests.qualification.mutations.mutation import Mutation

TESTS: Final = "tests/aggregator/inventory/test_inventory.py"

MUTATIONS: Final = (
    Mutation(
        "unexpected records",
        "an unexpected OTP state is passed over by every replay",
        "aggregator/inventory/inventory_fold.py",
        "[decoded for decoded in events if decoded.item.offset not in cache.unexpected]",
        "list(events)",
        f"{TESTS}::test_an_unexpected_state_is_passed_over",
    ),
    Mutation(
        "unexpected records",
        "a record that was read ahead and raises does not fail the range before it",
        "aggregator/inventory/fold.py",
        "            except Exception:  # noqa: BLE001 - take() raises it again\n",
        "            except ZeroDivisionError:\n",
        "tests/aggregator/inventory/test_reading.py::test_a_record_that_raises_does_so_in_its_own_range",
    ),
    Mutation(
        "inventory",
        "a state that is older than the serial's last one changes nothing",
        "aggregator/inventory/changes.py",
        "            if at < old.time_us:\n",
        "            if False:\n",
        f"{TESTS}::test_what_becomes_of_states",
    ),
    Mutation(
        "inventory",
        "a repeated state makes no row",
        "aggregator/inventory/changes.py",
        "            if new.has_state_of(old):\n",
        "            if False:\n",
        f"{TESTS}::test_what_becomes_of_states",
    ),
    Mutation(
        "inventory",
        "tokens in many realms end a range early, so that a script ends in time",
        "aggregator/inventory/fold.py",
        "        if fold.work_done >= MAX_CHANGES and (not from_adapter or item.starts_record):\n",
        "        if False:\n",
        f"{TESTS}::test_tokens_in_many_realms_end_a_range_early",
    ),
    Mutation(
        "commands",
        "`doctor` names the topics of untimed records and what to set",
        "deploy/cli/doctor/ledger.py",
        "        if held.untimed:\n",
        "        if False:\n",
        "tests/deploy/cli/doctor/test_ledger.py::test_records_without_a_usable_timestamp_name_topic_and_setting",
    ),
    Mutation(
        "commands",
        "the index of a shard that is being restored is not rebuilt",
        "deploy/cli/index_repair.py",
        "        if position is not None and int(position) == fields.RESTORING:\n",
        "        if False:\n",
        "tests/deploy/test_index_repair.py::test_a_shard_that_is_being_restored_is_left_alone",
    ),
    Mutation(
        "commands",
        "a difference of `verify` is explained by the clock only if an event's time became possible",
        "deploy/cli/verify/clock.py",
        "        if ledger.impossible <= log.impossible:\n",
        "        if False:\n",
        "tests/deploy/test_upgrade.py::test_only_what_a_clock_can_change_is_explained_by_it",
    ),
)
