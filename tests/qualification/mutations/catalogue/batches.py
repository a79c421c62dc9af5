"""Guards between the worker and Kafka: batches, codecs, dead letters, logs that change."""

from __future__ import annotations

from typing import Final

from tests.qualification.mutations.mutation import Mutation

HOSTILE: Final = "tests/integration/test_hostile_records.py"
EACH: Final = f"{HOSTILE}::test_each_hostile_record_is_counted_or_a_dead_letter_and_its_neighbours_are_counted"
BAD: Final = "tests/integration/test_bad_records.py"
CHANGING: Final = "tests/integration/test_logs_that_change.py"
ASSIGNMENT: Final = "tests/aggregator/test_assignment.py"
LETTERS: Final = "aggregator/kafka/dead_letters.py"
BATCHES: Final = "aggregator/kafka/batches.py"

MUTATIONS: Final = (
    Mutation(
        "dead letters",
        "a record with neither key nor value has a dead letter; aiokafka would raise AssertionError",
        LETTERS,
        "self._settings.dead_letter_topic, (value,), key,",
        "self._settings.dead_letter_topic, None if value is None else (value,), key,",
        f"{EACH}[embedded]",
    ),
    Mutation(
        "dead letters",
        "a sender's headers under our names are dropped",
        LETTERS,
        "if not name.startswith(OURS) or _resent(name, value, shard)]",
        "if True]",
        f"{EACH}[embedded]",
    ),
    Mutation(
        "dead letters",
        "headers that are too large are dropped when a letter is cut",
        LETTERS,
        "record_headers = [*_ours(shard, letter), (TRUNCATED",
        "record_headers = [*headers(shard, letter), (TRUNCATED",
        f"{EACH}[apache]",
    ),
    Mutation(
        "dead letters",
        "nulls stay nulls when a letter is cut",
        LETTERS,
        "value, key = value and value[:most_value], key and key[:most_key]",
        'value, key = (value or b"")[:most_value], (key or b"")[:most_key]',
        f"{EACH}[apache]",
    ),
    Mutation(
        "dead letters",
        "a letter that no cut makes small enough is sent without value and key",
        LETTERS,
        "(TRUNCATED_BYTES // 16, KEY_BYTES), (0, 0))",
        "(TRUNCATED_BYTES // 16, KEY_BYTES))",
        f"{HOSTILE}::test_a_letter_fits_into_the_smallest_topic",
    ),
    Mutation(
        "dead letters",
        "a producer whose message was refused is replaced; with idempotence its later ones would be out of order",
        LETTERS,
        "            if not error.retriable:\n",
        "            if False:\n",
        f"{BAD}::test_dead_letters_that_the_broker_refuses_as_they_are_hold_up_none_after_them",
    ),
    Mutation(
        "dead letters",
        "a letter carries a usable time where the broker does not take ours",
        LETTERS,
        "RecordTime.of(letter.record.timestamp, clock_ms).ms)",
        "letter.record.timestamp)",
        f"{HOSTILE}::test_letters_carry_usable_times_where_the_broker_does_not_take_ours",
    ),
    Mutation(
        "dead letters",
        "a range whose letters are given up is not applied",
        LETTERS,
        "                return False\n",
        "                return True\n",
        f"{HOSTILE}::test_letters_without_a_waiting_range_are_given_up",
    ),
    Mutation(
        "dead letters",
        "dead letters are acknowledged before their range counts",
        "aggregator/counting.py",
        "                if not await slot.released_during(sending):\n",
        "                if not asyncio.ensure_future(sending):\n",
        f"{HOSTILE}::test_dead_letters_that_cannot_be_sent_hold_up_their_own_partition_only",
    ),
    Mutation(
        "dead letters",
        "a range that waits for its dead letters gives its place to other partitions",
        "aggregator/counting.py",
        "                if not await slot.released_during(sending):\n",
        "                if not await sending:\n",
        f"{HOSTILE}::test_partitions_that_wait_for_their_dead_letters_leave_places_to_others",
    ),
    Mutation(
        "dead letters",
        "a partition that waits for its dead letters fills no memory",
        "aggregator/kafka/consumer_thread.py",
        "if seek.in_hand >= most}",
        "if False}",
        f"{HOSTILE}::test_a_partition_that_waits_for_its_dead_letters_fills_no_memory",
    ),
    Mutation(
        "batches",
        "a header name that is not UTF-8 does not make a batch unreadable",
        BATCHES,
        "        except (UnicodeDecodeError, CorruptRecordException):\n",
        "        except CorruptRecordException:\n",
        f"{EACH}[embedded]",
    ),
    Mutation(
        "batches",
        "offsets inside a batch that do not rise are numbered as the broker does",
        BATCHES,
        "            if not self._in_order(records):\n",
        "            if False:\n",
        f"{HOSTILE}::test_offsets_that_lie_inside_a_batch_count_as_the_broker_numbers_them[7]",
    ),
    Mutation(
        "batches",
        "an unreadable batch stops its partition, not the worker",
        BATCHES,
        "        except Exception as error:  # noqa: BLE001 (damaged bytes make decompressors raise any error)\n",
        "        except ZeroDivisionError as error:\n",
        f"{HOSTILE}::test_an_unreadable_batch_stops_its_partition_and_no_other_until_it_is_passed"
        "[bytes that do not match the checksum]",
    ),
    Mutation(
        "batches",
        "the stop at an unreadable batch names the offset and the command that passes it",
        "aggregator/assignment.py",
        "if unreadable is not None and state.position == unreadable.offset:",
        "if False:",
        f"{HOSTILE}::test_an_unreadable_batch_stops_its_partition_and_no_other_until_it_is_passed"
        "[bytes that do not match the checksum]",
    ),
    Mutation(
        "batches",
        "records of a batch before the position are not counted again",
        BATCHES,
        "        if record[0].offset >= self.next_fetch_offset:\n",
        "        if True:\n",
        "tests/aggregator/kafka/test_seams.py"
        "::test_whole_batches_are_handed_out_up_to_the_limit_and_the_position_follows",
    ),
    Mutation(
        "batches",
        "a range has a limited number of records",
        BATCHES,
        "                if len(taken) >= MAX_RANGE_RECORDS:\n",
        "                if False:\n",
        "tests/aggregator/kafka/test_seams.py"
        "::test_whole_batches_are_handed_out_up_to_the_limit_and_the_position_follows",
    ),
    Mutation(
        "batches",
        "a range does not begin before a rebalance and end after it",
        "aggregator/kafka/consumer_thread.py",
        "if current is None or current is not state or current.position == start:",
        "if current is None or current.position == start:",
        "tests/aggregator/kafka/test_ranges.py::test_a_range_does_not_begin_before_a_rebalance_and_end_after_it",
    ),
    Mutation(
        "batches",
        "ranges that were handed out before a seek are void",
        "aggregator/kafka/transport.py",
        "return seek is not None and seek.number == range_.seek_number\n\n    def applied(",
        "return seek is not None\n\n    def applied(",
        "tests/aggregator/kafka/test_ranges.py::test_ranges_that_were_handed_out_before_a_seek_are_void",
    ),
    Mutation(
        "codecs",
        "the bounded decoders replace those of the worker's consumer",
        "aggregator/kafka/consumer_thread.py",
        "        codecs.install()\n",
        "",
        f"{HOSTILE}::test_a_batch_that_grows_too_large_stops_its_partition_and_fills_no_memory",
    ),
    Mutation(
        "codecs",
        "a compressed batch grows to a limited size",
        "aggregator/kafka/codecs.py",
        "        out = bytearray(bound(len(payload)))\n",
        "        out = bytearray(4 * bound(len(payload)))\n",
        "tests/aggregator/kafka/test_codecs.py::test_a_batch_that_grows_too_large_is_refused_and_takes_no_memory",
    ),
    Mutation(
        "codecs",
        "snappy blocks grow to a limited size",
        "aggregator/kafka/codecs.py",
        "if sum(map(cramjam.snappy.decompress_raw_len, blocks)) > bound(len(view)):",
        "if False:",
        "tests/aggregator/kafka/test_codecs.py"
        "::test_a_batch_that_grows_too_large_is_refused_and_takes_no_memory[snappy]",
    ),
    Mutation(
        "codecs",
        "`doctor` names a codec that the worker cannot read",
        "deploy/cli/doctor/topics.py",
        'unread = [codec for codec in lacking if chosen in (codec, "producer")]',
        "unread: list[str] = []",
        "tests/deploy/cli/doctor/test_kafka.py::test_a_codec_that_the_installation_lacks_is_a_finding",
    ),
    Mutation(
        "logs that change",
        "aborted transactions are not counted",
        "aggregator/kafka/consumer_thread.py",
        'consumer._isolation_level = "read_committed"',
        'consumer._isolation_level = "read_uncommitted"',
        f"{CHANGING}::test_aborted_transactions_count_nothing_and_committed_lag_reaches_0",
    ),
    Mutation(
        "logs that change",
        "a range of a topic that was created again is not added to the former one's figures",
        "aggregator/assignment.py",
        "return NO_ID in (topic_id, assigned := self._assigned_topic_ids.get(shard, NO_ID)) or topic_id == assigned",
        "return True",
        f"{CHANGING}::test_a_topic_made_anew_on_the_embedded_broker_stops_its_partition",
    ),
    Mutation(
        "logs that change",
        "a ledger of another topic id stops the partition",
        "aggregator/assignment.py",
        "    if known_id and topic_id and known_id != topic_id:\n",
        "    if False:\n",
        f"{ASSIGNMENT}::test_what_only_an_operator_can_resolve_names_the_command",
    ),
    Mutation(
        "logs that change",
        "a position beyond the log's end stops the partition",
        "aggregator/assignment.py",
        "    if state.position > bounds.end and bounds.out_of_range:\n",
        "    if False:\n",
        f"{ASSIGNMENT}::test_what_only_an_operator_can_resolve_names_the_command",
    ),
    Mutation(
        "logs that change",
        "offsets that Kafka deleted are skipped and counted as lost",
        "aggregator/assignment.py",
        "    if state.position < bounds.start:\n",
        "    if False:\n",
        f"{ASSIGNMENT}::test_where_reading_continues",
    ),
    Mutation(
        "logs that change",
        "lost offsets are counted",
        "aggregator/ledger/ledger.py",
        "        step.add_progress({fields.LOST: end - start})\n",
        "",
        "tests/aggregator/ledger/test_ledger.py::test_skipped_offsets_are_counted_as_lost",
    ),
    Mutation(
        "logs that change",
        "a shard that is being restored is not read",
        "aggregator/assignment.py",
        "    if state.position == fields.RESTORING:\n",
        "    if False:\n",
        f"{ASSIGNMENT}::test_a_shard_that_is_being_restored_is_not_read",
    ),
    Mutation(
        "logs that change",
        "a second partition is not read where order counts",
        "aggregator/assignment.py",
        "if binding not in INVENTORY_BINDINGS or shard.partition == 0:",
        "if True:",
        f"{ASSIGNMENT}::test_a_second_partition_is_refused_where_order_counts_and_the_first_is_not",
    ),
)
