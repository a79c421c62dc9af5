"""Checks of `authtally doctor` over regions: asks each peer of PEERS_FILE, and compares it with the own region."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
from aiohttp import ClientConnectorError, ClientError, ClientSession, ClientSSLError, ClientTimeout, TCPConnector

from api.http.bounded_read import TooLongError, read_at_most
from api.ledger.client import UNREACHABLE, open_ledger
from api.ledger.statistics import Statistics
from api.regions import wire
from api.regions.exporter import Exporter
from api.regions.identity import EQUAL, HASH_KEY
from api.regions.peer import IDENTITY_PATH, IDS_PATH, MAX_IDENTITY_BYTES
from api.regions.wire import LAYOUT, Identity, IdsExport
from api.regions.wire_parts import InvalidAnswerError
from api.settings import peers_file, token_file
from api.settings.peers_file import PeerEntry
from api.settings.settings import ApiSettings
from deploy.cli.doctor.findings import Finding
from schemas.connections.urls import is_in_the_clear, masked_url
from schemas.settings import PREFIX
from schemas.time.clock import SYSTEM

SCOPE: Final = "sketches:read"
MIRRORED_SHARE: Final = 0.05
"""Share of common event ids from which on a topic counts as mirrored; senders that repeat ids cause smaller ones."""
LIMITS: Final = ("active_on", "users_by", "counts_by", "labels_on", "max_labels", "retain_days", "retain_months")
"""Settings that may differ: a question over regions can ask only for what each of them keeps."""
COUNT_ANEW: Final = "the counts of one of the two must be made anew under another KEY_PREFIX with the other's value"
CURES: Final[Mapping[str, str]] = {
    "timezone": COUNT_ANEW,
    "user_scope": COUNT_ANEW,
    "sketches": COUNT_ANEW + ", by one version of authtally",
    "exact_up_to": "set one value in both regions and run: authtally settings adopt",
    HASH_KEY: COUNT_ANEW + ": see docs/rotating-the-hash-key.md; or REGION_USERS=distinct in both",
    "user_id_normalize": COUNT_ANEW,
}
CLIENT_CERTIFICATE: Final = "set certificate and key in PEERS_FILE, if the proxy there asks for a client certificate"
STATUSES: Final[Mapping[int, tuple[str, str]]] = {
    400: ("answers with status 400, as nginx does without a client certificate", CLIENT_CERTIFICATE),
    401: (
        "does not accept the token of its token_file",
        f"add the token's SHA-256 with the scope {SCOPE} to AUTH_TOKENS_FILE there, or replace the file here",
    ),
    403: (
        f"refuses the token of its token_file: it lacks the scope {SCOPE}, or is limited to realms",
        f"give the token the scope {SCOPE} there, without realms",
    ),
    404: ("has no exports", f"set {PREFIX}REGION there, or correct url in PEERS_FILE"),
}


class NoAnswerError(Exception):
    """A peer gave no usable answer."""

    def __init__(self, found: str, advice: str) -> None:
        super().__init__(found)
        self.found = found
        self.advice = advice


class Answered(NamedTuple):
    name: str
    identity: Identity


async def examine(settings: ApiSettings, patience_s: float) -> list[Finding]:
    """The findings; none without REGION."""
    if not settings.region:
        return []
    found = [*local(settings)]
    client = open_ledger(settings)
    try:
        exporter = Exporter(Statistics(client, settings), settings, SYSTEM)
        try:
            own, own_ids = await exporter.identity(), await exporter.ids(None)
        except UNREACHABLE:
            # Another check names the fault of the own store.
            own, own_ids = None, None
        finally:
            await exporter.close()
    finally:
        await client.close()
    hour = None if own_ids is None else own_ids.hour
    results = await asyncio.gather(*(_ask(entry, hour, patience_s) for entry in settings.peers))
    answered: list[tuple[Answered, IdsExport | None]] = []
    for entry, (identity, ids) in zip(settings.peers, results, strict=True):
        if isinstance(identity, NoAnswerError):
            where = f"{masked_url(entry.url)} {identity.found}"
            found.append(Finding("regions.peer", entry.name, "problem", where, identity.advice))
            continue
        found.append(Finding("regions.peer", entry.name, "ok", f"{masked_url(entry.url)} answers"))
        answered.append((Answered(entry.name, identity), ids))
    if own is None or own_ids is None:
        return found
    found += ledgers(settings.region, own, [peer for peer, _ in answered])
    for peer, ids in answered:
        found += compared(peer, own)
        if peer.identity.ledger != own.ledger:
            found.append(mirrored(peer, own, own_ids, ids))
    return found


def local(settings: ApiSettings) -> Iterator[Finding]:
    """Findings on the own settings and files."""
    for entry in settings.peers:
        if is_in_the_clear(entry.url):
            what = f"PEERS_FILE: url {masked_url(entry.url)} is not https: the token crosses the network readable"
            yield Finding("regions.token", entry.name, "warning", what, "serve that api over https, and correct url")
    if not settings.peers:
        what = f"{PREFIX}PEERS_FILE is not set: this region answers alone"
        yield Finding("regions.peer", settings.region, "warning", what, "name the other regions in PEERS_FILE")
    if settings.auth == ("static",) and settings.auth_tokens_file is not None:
        entries = token_file.read(settings.auth_tokens_file)
        exporting = [entry for entry in entries if SCOPE in entry.scopes and entry.realms is None]
        if exporting:
            yield Finding("regions.token", settings.region, "ok", f"{len(exporting)} tokens open the exports")
        else:
            what = f"{PREFIX}AUTH_TOKENS_FILE has no token with the scope {SCOPE}: no other region can ask this one"
            yield Finding(
                "regions.token", settings.region, "problem", what, f"add a token with the scope {SCOPE} per region"
            )


def ledgers(region: str, own: Identity, peers: Sequence[Answered]) -> Iterator[Finding]:
    """Findings on the ids of the ledgers: each region has its own."""
    seen = {own.ledger: region} if own.ledger else {}
    if not own.ledger:
        yield _no_ledger(region)
    for name, identity in peers:
        if not identity.ledger:
            yield _no_ledger(name)
        elif identity.ledger in seen:
            what = f"its ledger id {identity.ledger[:12]}… is that of region {seen[identity.ledger]}: its figures"
            yield Finding(
                "regions.ledger",
                name,
                "problem",
                f"{what} would count twice",
                f"correct url of {name} in PEERS_FILE; a copy of a store needs another KEY_PREFIX and new counts",
            )
        else:
            seen[identity.ledger] = name
            yield Finding("regions.ledger", name, "ok", "a ledger of its own")


def _no_ledger(name: str) -> Finding:
    advice = "start a worker of this version there"
    return Finding("regions.ledger", name, "problem", "its ledger has no id: nothing is counted in it yet", advice)


def compared(peer: Answered, own: Identity) -> Iterator[Finding]:
    """Findings on the settings that differ; every one, not only the first for which the api refuses the peer."""
    name, other = peer
    if other.region != name:
        what = f"{PREFIX}REGION is {other.region} there, and PEERS_FILE names it {name}"
        yield Finding("regions.settings", name, "problem", what, "make both names equal")
    if other.layout != LAYOUT:
        what = f"its exports have layout {other.layout}, and this version reads {LAYOUT}"
        yield Finding("regions.settings", name, "problem", what, "upgrade the older of the two")
    if other.region_users != own.region_users:
        what = f"REGION_USERS is {other.region_users} there and {own.region_users} here"
        yield Finding("regions.settings", name, "problem", what, "decide once, and set it in both regions")
    refused = [setting for _, setting, only_shared in EQUAL if own.region_users == "shared" or not only_shared]
    differing = [setting for setting in (*refused, *LIMITS) if _differ(other, own, setting)]
    for setting in differing:
        if setting == HASH_KEY:
            what = "USER_HASH_KEY differs: equal users would count twice"
        else:
            what = f"{setting.upper()} is {_text(other, setting)} there and {_text(own, setting)} here"
        if setting in refused:
            yield Finding("regions.settings", name, "problem", f"{what}: its figures are refused", CURES[setting])
        else:
            advice = f"set {setting.upper()} equal; or ask over regions only for what both keep"
            yield Finding("regions.settings", name, "warning", what, advice)
    if other.min_users != own.min_users:
        what = f"REGION_MIN_USERS is {other.min_users} there and {own.min_users} here"
        yield Finding("regions.settings", name, "warning", what, "agree on one threshold")
    if not differing:
        yield Finding("regions.settings", name, "ok", "the settings of the counts agree")


def mirrored(peer: Answered, own: Identity, own_ids: IdsExport, ids: IdsExport | None) -> Finding:
    """Whether a topic is counted in both regions, by the event ids of one hour and the names of the topics."""
    name, other = peer
    names = ", ".join(sorted(_topics(own) & _topics(other)))
    equal_names = f"topics with equal names: {names}" if names else "no topic name is used in both regions"
    advice = "leave the mirrored topic out of TOPICS in one of the two regions, and count that region anew"
    if own.settings.get(HASH_KEY) != other.settings.get(HASH_KEY):
        what = f"{equal_names}; event ids cannot be compared, because the hash keys differ"
        return _names_only(name, what, names)
    if ids is None or own_ids.hour is None or not own_ids.smallest or not ids.smallest:
        what = f"{equal_names}; no hour in which both have event ids"
        return _names_only(name, what, names)
    share = common_share(own_ids.smallest, ids.smallest)
    if not share:
        return Finding("regions.topics", name, "ok", f"no event id of one hour is counted in both; {equal_names}")
    what = f"{share:.0%} of the event ids of one hour are counted in both regions; {equal_names}"
    if share >= MIRRORED_SHARE:
        return Finding("regions.topics", name, "problem", f"{what}: counters count twice", advice)
    return Finding("regions.topics", name, "warning", what, f"check the ids of the senders; if mirrored: {advice}")


def common_share(one: Sequence[str], other: Sequence[str]) -> float:
    """The estimated share of common ids in the smaller of two sets, from the smallest digests of each.

    A sample with fewer digests than the limit is a whole set. A full one says nothing about digests above its last one,
    so only digests up to the smallest of these last ones are compared.
    """
    ends = [sample[-1] for sample in (one, other) if len(sample) >= wire.SMALLEST_IDS]
    end = min(ends, default=None)
    first, second = ({digest for digest in sample if end is None or digest <= end} for sample in (one, other))
    return len(first & second) / max(1, min(len(first), len(second)))


def _names_only(name: str, what: str, names: str) -> Finding:
    if names:
        return Finding("regions.topics", name, "unknown", what, "check that none of them is mirrored")
    return Finding("regions.topics", name, "ok", what)


async def _ask(
    entry: PeerEntry, hour: int | None, patience_s: float
) -> tuple[Identity | NoAnswerError, IdsExport | None]:
    """The peer's identity, and its event ids of the hour; None if it does not give them."""
    token = await asyncio.to_thread(lambda: peers_file.read_token(Path(entry.token_file).read_bytes()))
    connector = TCPConnector(ssl=peers_file.ssl_context(entry))
    headers = {"Authorization": f"Bearer {token}", "Accept-Encoding": "identity"}
    timeout = ClientTimeout(total=patience_s)
    async with ClientSession(connector=connector, headers=headers, timeout=timeout) as session:
        try:
            identity = wire.read_identity(await _get(session, entry, IDENTITY_PATH))
        except InvalidAnswerError:
            return NoAnswerError("does not answer as a region", "correct url in PEERS_FILE"), None
        except NoAnswerError as error:
            return error, None
        if hour is None:
            return identity, None
        try:
            body = await _get(session, entry, f"{IDS_PATH}?hour={hour}")
            return identity, msgspec.json.decode(body, type=IdsExport)
        except (NoAnswerError, msgspec.DecodeError):
            return identity, None


async def _get(session: ClientSession, entry: PeerEntry, path: str) -> bytes:
    """The body of a 200. Raises NoAnswerError."""
    reach = "correct url in PEERS_FILE, or allow this machine to reach it"
    try:
        async with session.get(entry.url.rstrip("/") + path, allow_redirects=False) as response:
            if response.status in STATUSES:
                raise NoAnswerError(*STATUSES[response.status])
            if response.status != 200:
                raise NoAnswerError(f"answers with status {response.status}", "read the log of the api there")
            return await read_at_most(response.content, MAX_IDENTITY_BYTES)
    except TooLongError as error:
        raise NoAnswerError("does not answer as a region: too long", "correct url in PEERS_FILE") from error
    except TimeoutError as error:
        raise NoAnswerError("does not answer in time", reach) from error
    except ClientSSLError as error:
        raise NoAnswerError("has a certificate that is not accepted", "set ca in PEERS_FILE, or correct url") from error
    except (ClientError, OSError) as error:
        # An alert in TLS 1.3 may arrive before or after the request, which then finds the connection closed.
        if not isinstance(error, ClientConnectorError) and entry.url.startswith("https:"):
            raise NoAnswerError("breaks off the connection", CLIENT_CERTIFICATE) from error
        raise NoAnswerError(f"cannot be reached: {type(error).__name__}", reach) from error


def _differ(other: Identity, own: Identity, setting: str) -> bool:
    theirs, ours = other.settings.get(setting, []), own.settings.get(setting, [])
    # A ledger without shards has recorded no settings yet.
    return bool(theirs and ours and theirs != ours)


def _text(identity: Identity, setting: str) -> str:
    return ",".join(identity.settings.get(setting, []))


def _topics(identity: Identity) -> set[str]:
    """Names of topics, from the tags `topic-partition` of the shards."""
    return {tag.rpartition("-")[0] for tag in identity.positions}
