"""Guards of access: which tokens are accepted, and what it costs to ask."""

from __future__ import annotations

from typing import Final

from tests.qualification.mutations.mutation import Mutation

CLAIMS: Final = "api/auth/claims.py"
MATRIX: Final = "tests/api/auth/test_token_matrix.py"
BOTH: Final = f"{MATRIX}::test_both_ways_give_the_same_answer"

MUTATIONS: Final = (
    Mutation(
        "tokens",
        "a claim that is null is absent",
        CLAIMS,
        "present = {name: value for name, value in claims.items() if value is not None}",
        "present = dict(claims)",
        BOTH,
    ),
    Mutation(
        "tokens",
        "a JWT needs `exp`, `iss` and `aud`",
        CLAIMS,
        "    if missing:\n",
        "    if False:\n",
        BOTH,
    ),
    Mutation("tokens", "a token of another type is refused", CLAIMS, "    _check_type(present)\n", "", BOTH),
    Mutation(
        "tokens",
        "a token of another issuer is refused",
        CLAIMS,
        'if accepted.issuer and present.get("iss", accepted.issuer) != accepted.issuer:',
        "if False:",
        BOTH,
    ),
    Mutation(
        "tokens",
        "a token for another audience is refused",
        CLAIMS,
        'if accepted.audiences and "aud" in present and not _names("aud", present["aud"]) & {*accepted.audiences}:',
        "if False:",
        BOTH,
    ),
    Mutation(
        "tokens",
        "a token that has expired, or is not valid yet, is refused",
        CLAIMS,
        '    if expires_at <= now or _time(present, "nbf", -math.inf) > now:\n',
        "    if False:\n",
        BOTH,
    ),
    Mutation(
        "tokens",
        "realms that are null grant none",
        CLAIMS,
        'return frozenset() if claims[name] is None else _names(name, claims[name]) - {""}',
        'return None if claims[name] is None else _names(name, claims[name]) - {""}',
        BOTH,
    ),
    Mutation(
        "tokens",
        "a lone surrogate in a claim is refused",
        CLAIMS,
        'return text.isascii() or not any("\\ud800" <= character <= "\\udfff" for character in text)',
        "return True",
        BOTH,
    ),
    Mutation(
        "tokens",
        "a token without realms is refused if they are required",
        CLAIMS,
        "    if accepted.realms_claim not in claims and accepted.realms_required:\n",
        "    if False:\n",
        f"{MATRIX}::test_tokens_without_the_claim_are_refused_if_it_is_required",
    ),
    Mutation(
        "tokens",
        "a JSON object with a name twice is refused",
        CLAIMS,
        "    if len(found) != len(pairs):\n",
        "    if False:\n",
        f"{MATRIX}::test_a_jwt_of_our_issuer_that_fails_is_not_introspected",
    ),
    Mutation(
        "tokens",
        "a JWT of our issuer that fails is not introspected",
        "api/auth/access.py",
        "            except RefusedTokenError:\n                return None\n",
        "            except RefusedTokenError:\n                continue\n",
        f"{MATRIX}::test_a_jwt_of_our_issuer_that_fails_is_not_introspected",
    ),
    Mutation(
        "tokens",
        "a JWT whose header names another type is refused",
        "api/auth/jwt_tokens.py",
        "        if not isinstance(typ, str) or typ.lower() not in TYPES:\n",
        "        if False:\n",
        f"{MATRIX}::test_other_kinds_of_jwt_are_no_access_tokens",
    ),
    Mutation(
        "tokens",
        "a key that names its algorithm is used with no other",
        "api/auth/jwks.py",
        '        algorithms = tuple(name for name in algorithms if name == jwk["alg"])\n',
        "        pass\n",
        "tests/api/auth/test_forged_tokens.py::test_a_key_that_names_its_algorithm_is_used_with_no_other",
    ),
    Mutation(
        "tokens",
        "a scope is compared whole",
        "api/auth/access.py",
        "        if scope not in verified[0].scopes:\n",
        '        if scope not in " ".join(verified[0].scopes):\n',
        BOTH,
    ),
    Mutation(
        "tokens",
        "an introspection answer that is not active lets no caller in",
        "api/auth/introspection.py",
        'if answer.get("active") is True else None',
        'if answer.get("active") else None',
        "tests/api/auth/test_lying_issuer.py::test_what_is_not_plainly_good_is_bad",
    ),
    Mutation(
        "tokens",
        "one address cannot use up the look-ups of all",
        "api/auth/lookups.py",
        'for limit, caller in ((self._by_address, network_of(address)), (self._in_all, "")):',
        'for limit, caller in ((self._in_all, ""),):',
        "tests/api/auth/test_lookups.py::test_a_flood_at_a_slow_issuer_shuts_out_no_good_token",
    ),
)
