"""What the nemesis can do, by name. Each fault ends healed: whatever it killed or stopped runs again."""

from tests.qualification.chaos.faults import brokers, clocks, logs, records, stores, workers
from tests.qualification.chaos.faults.kinds import KINDS, Fault

__all__ = ["KINDS", "Fault", "brokers", "clocks", "logs", "records", "stores", "workers"]
