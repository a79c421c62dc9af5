"""The worker's settings."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, SecretStr

from schemas.adapters.registry import OWN
from schemas.ledger import accuracy
from schemas.settings import ActiveOn, KafkaSettings, Listed, fingerprint
from schemas.settings_errors import HOW
from schemas.user_ids import Normalization

FORMAT = 2
"""Version of the ledger's layout and counting rules. A worker rejects a newer one and upgrades an older one."""


MIN_DISTINCT = 5
"""Different characters of a hash key. Random hexadecimal digits have as many in all but one of a million keys."""
MIN_KEY_CHARS = 16
MAKE_A_KEY = "openssl rand -hex 32"


def _hard_to_guess(key: SecretStr) -> SecretStr:
    # A short key can be found by trial against the sketches; 16 random characters cannot.
    text = key.get_secret_value()
    if len(text) < MIN_KEY_CHARS:
        raise ValueError(f"must have at least {MIN_KEY_CHARS} characters; make one with: {MAKE_A_KEY}")
    if len(set(text)) < MIN_DISTINCT:
        raise ValueError(f"must have at least {MIN_DISTINCT} different characters; make one with: {MAKE_A_KEY}")
    return key


def _empty_or_hard_to_guess(key: SecretStr) -> SecretStr:
    return _hard_to_guess(key) if key.get_secret_value() else key


class WorkerSettings(KafkaSettings):
    """The settings that the worker reads from its environment."""

    kafka_group: str = Field("authtally", min_length=1, description="Consumer group; its workers share the partitions.")
    kafka_group_instance_id: str = Field(
        "",
        max_length=249,
        description="Name of a worker for static membership: if it restarts in time, no partition moves.",
    )
    kafka_session_timeout_s: float = Field(
        10.0, ge=6, le=1800, description="Seconds without a heartbeat after which a worker's partitions move to others."
    )
    user_hash_key: Annotated[SecretStr, AfterValidator(_hard_to_guess)] = Field(
        description="Secret that turns user ids into digests. Never change it: with another key all users are new.",
        json_schema_extra={
            HOW: f"allowed: a secret of at least {MIN_KEY_CHARS} characters, the same for every worker, never changed; "
            f"make one with: {MAKE_A_KEY}"
        },
    )
    user_scope: Literal["global", "realm"] = Field(
        "global", description="`realm`: equal user ids of two realms are two users."
    )
    user_id_normalize: Normalization = Field(
        "off",
        description="User ids that count as one user: with `nfc` those that differ in their Unicode form only, with "
        "`nfc-casefold` also in case; `off`: none.",
    )
    active_on: Listed[ActiveOn] = Field(("login", "refresh"), description="Events that make a user active.")
    labels_on: Literal["any", "success"] = Field(
        "any",
        description="Events that make a realm or node known: `any`, or only a `success`, for sites where anyone can "
        "send realm names. A client becomes known by a success only.",
    )
    max_labels: int = Field(
        1000,
        ge=1,
        description="Realms and nodes kept per shard, each; of clients 16 per realm and twice this number more, "
        "of which a realm takes half at most. Others count under `__other__`.",
    )
    retain_days: Annotated[int, Field(ge=0)] | Literal["forever"] = Field(
        400, description="Days for which daily figures are kept: a number, `forever`, or 0 to keep months only."
    )
    retain_months: Annotated[int, Field(ge=1)] | Literal["forever"] = Field(
        "forever", description="Months for which monthly figures are kept: a number, or `forever`."
    )
    dedupe_window_s: int = Field(
        86_400, ge=0, description="Seconds within which repeats of an event id are not counted; 0 counts every repeat."
    )
    dedupe_max_ids: int = Field(
        500_000,
        ge=1,
        description="Event ids kept per shard, about 100 bytes each in the worker, 8 in Redis. A realm that holds more "
        "than half keeps further ids apart, half as many again.",
    )
    worker_host: str = Field("127.0.0.1", description="Address of metrics and health.")
    worker_port: int = Field(8090, ge=0, le=65535, description="Port of metrics and health; 0 selects a free one.")
    stuck_after_s: float = Field(
        120.0,
        gt=0,
        description="Seconds without progress and without an external problem after which the worker exits.",
    )

    def counted_with(self, topic: str) -> dict[str, str]:
        """The settings that change how a shard of `topic` is counted, as stored in its meta hash.

        A worker with other values would add figures that do not match the stored ones.
        """
        values: dict[str, Any] = {
            "format": FORMAT,
            "sketches": f"{accuracy.K_MONTHS},{accuracy.K_OTHERS}",
            "user_hash_key": fingerprint(self.user_hash_key.get_secret_value()),
            "user_scope": self.user_scope,
            "user_id_normalize": self.user_id_normalize,
            "timezone": self.timezone,
            "active_on": ",".join(sorted(self.active_on)),
            "users_by": ",".join(sorted(self.users_by)),
            "counts_by": ",".join(sorted(self.counts_by)),
            "labels_on": self.labels_on,
            "max_labels": self.max_labels,
            "exact_up_to": self.exact_up_to,
            "retain_days": self.retain_days,
            "retain_months": self.retain_months,
            "dedupe_window_s": self.dedupe_window_s,
            "dedupe_max_ids": self.dedupe_max_ids,
            "topics": self.topics[topic],
        }
        if self.topics[topic] not in OWN:
            values["realm_names"] = ",".join(f"{realm}={name}" for realm, name in sorted(self.realm_names.items()))
        return {name: str(value) for name, value in values.items()}


NEVER_ADOPTED = frozenset({"format", "sketches", "user_hash_key", "user_scope", "user_id_normalize", "timezone"})
"""Values of `counted_with` that cannot change for existing figures, only under another KEY_PREFIX."""
UNRECORDED = {"user_id_normalize": "off"}
"""Values with which a shard was counted whose meta hash is older than their names."""


class OperatorSettings(WorkerSettings):
    """The worker's settings for commands that hash no user id and compare no settings: they do without the key."""

    user_hash_key: Annotated[SecretStr, AfterValidator(_empty_or_hard_to_guess)] = Field(
        SecretStr(""), description="The worker's secret; not used."
    )
