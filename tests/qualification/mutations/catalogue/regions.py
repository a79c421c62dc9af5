"""Guards between the apis of two regions: a peer may lie about its own figures, and about nothing else."""

from __future__ import annotations

from typing import Final

from tests.qualification.mutations.mutation import Mutation

PEERS: Final = "tests/api/regions/test_peers.py"
LIE: Final = f"{PEERS}::test_a_lie_is_refused_and_the_own_figures_stay"
REFUSED: Final = f"{PEERS}::test_a_region_that_cannot_answer_together_is_refused_by_name"
WIRE: Final = "api/regions/wire.py"
STORE: Final = "api/ledger/merged_store.py"

MUTATIONS: Final = (
    Mutation(
        "sketches of regions",
        "a dense sketch has its exact length: Redis would read beyond a shorter string",
        STORE,
        "        return len(text) == DENSE_BYTES\n",
        "        return True\n",
        f"{LIE}[a sketch that is cut off]",
    ),
    Mutation(
        "sketches of regions",
        "the opcodes of a sparse sketch describe all registers and no more",
        STORE,
        "return text[4] == 1 and _sparse_registers(text[HEADER_BYTES:]) == accuracy.REGISTERS",
        "return text[4] == 1",
        f"{LIE}[opcodes beyond the registers]",
    ),
    Mutation(
        "sketches of regions",
        "the last opcode of a sparse sketch is whole",
        STORE,
        "            if at + 1 == len(opcodes):\n                return -1\n",
        "            if at + 1 == len(opcodes):\n                return accuracy.REGISTERS\n",
        f"{LIE}[an opcode that is cut off]",
    ),
    Mutation(
        "sketches of regions",
        "registers are possible ones",
        WIRE,
        "if not is_sketch(sketch) or has_impossible_register(sketch):",
        "if not is_sketch(sketch):",
        "tests/api/regions/test_wire.py::test_registers_that_no_hash_gives_are_refused",
    ),
    Mutation(
        "sketches of regions",
        "sketches are checked before the store gets them",
        "api/regions/peer.py",
        "            await wire.check_sketches(export)\n",
        "            pass\n",
        f"{LIE}[no sketch]",
    ),
    Mutation(
        "sketches of regions",
        "sketches fit their number of users",
        "api/regions/reader.py",
        "            if not new or await self._trust(new):\n",
        "            if True:\n",
        f"{LIE}[no one in the sketches of many]",
    ),
    Mutation(
        "sketches of regions",
        "there are as many sketches as the union has parts",
        WIRE,
        "        if not request.sketches or len(union.sketches) != parts_of(request.periods, scopes):\n",
        "        if False:\n",
        f"{LIE}[a sketch too few]",
    ),
    Mutation(
        "sketches of regions",
        "a sketch from the shared cache is checked before the store gets it",
        STORE,
        "                if value.is_valid:\n",
        "                if True:\n",
        "tests/api/ledger/test_merged.py::test_a_forged_sketch_never_reaches_the_store",
    ),
    Mutation(
        "answers of regions",
        "no more users are united than there are",
        WIRE,
        "        if union.united > union.count or not math.isfinite(union.standard_error):\n",
        "        if False:\n",
        f"{LIE}[more united than there are]",
    ),
    Mutation(
        "answers of regions",
        "an answer has the unions that were asked for",
        WIRE,
        "    if len(found) != len(asked):\n        raise InvalidAnswerError",
        "    if False:\n        raise InvalidAnswerError",
        f"{LIE}[a union more]",
    ),
    Mutation(
        "answers of regions",
        "counters that were not asked for are refused",
        WIRE,
        "    periods, scopes = (set(), set()) if asked is None else (set(asked.periods), set(asked.scopes))\n",
        "    periods, scopes = {*found}, {scope for each in found.values() for scope in each}\n",
        f"{LIE}[counters that were not asked for]",
    ),
    Mutation(
        "answers of regions",
        "a counter has a field that a counter can have",
        WIRE,
        "                decode_counter(name)\n",
        "                pass\n",
        f"{PEERS}::test_a_false_counter_is_refused[no counter]",
    ),
    Mutation(
        "answers of regions",
        "a setting that should be a number is one",
        WIRE,
        '            if value != "forever" and not re.fullmatch(r"\\d{1,9}", value, re.ASCII):\n',
        "            if False:\n",
        f"{PEERS}::test_a_false_status_is_refused[a setting that is no number]",
    ),
    Mutation(
        "answers of regions",
        "a region with another time zone, user scope or accuracy is refused by name",
        "api/regions/identity.py",
        "        if theirs and ours and theirs != ours:\n",
        "        if False:\n",
        f"{REFUSED}[time_zone]",
    ),
    Mutation(
        "answers of regions",
        "a copy of the own ledger is refused: its users would count twice",
        "api/regions/identity.py",
        "    if other.ledger == own.ledger:\n",
        "    if False:\n",
        f"{PEERS}::test_a_clone_of_the_own_ledger_is_refused",
    ),
    Mutation(
        "answers of regions",
        "one ledger behind two names counts once",
        "api/regions/identity.py",
        "        if ledger == other.ledger:\n",
        "        if False:\n",
        f"{PEERS}::test_one_ledger_behind_two_names_counts_once",
    ),
    Mutation(
        "answers of regions",
        "a period of a request is one of the calendar",
        "api/regions/wire_parts.py",
        "    if len(key) == 10 and int(key[8:]) > days:\n",
        "    if False:\n",
        "tests/api/regions/test_threshold.py::test_a_wrong_request_is_400",
    ),
    Mutation(
        "answers of regions",
        "a scope with few users leaves the region as a number only",
        "api/regions/exporter.py",
        "if users.count >= self._settings.region_min_users}",
        "if True}",
        "tests/api/regions/test_threshold.py::test_a_region_with_few_users_is_a_number_and_marked",
    ),
)
