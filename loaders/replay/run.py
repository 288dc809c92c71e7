"""A whole replay: what the gate refused, then what the decoder refused."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from loaders.profile import Target
from loaders.replay.choice import Choice
from loaders.replay.messages import MessageReplay
from loaders.replay.transport import TransportReplay
from loaders.settings import load_settings, project_dir
from loaders.topics import load_topics
from loaders.warehouse import open_warehouse


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a replay did: rows by topic, HL7 messages published, and rejects that are still refused."""

    rows: Counter[str] = field(default_factory=Counter)
    published: int = 0
    still_rejected: int = 0

    def as_lines(self) -> list[str]:
        """The counts for people."""
        lines = [f"{topic}: {count} rows" for topic, count in sorted(self.rows.items())]
        if self.published:
            lines.append(f"{self.published} HL7 messages published: cdw load brings them in")
        return [*lines, f"{self.still_rejected} rejects stay"]


def replay(target: Target, choice: Choice, directory: Path | None = None) -> Replayed:
    """Send the chosen rejects of a target through again.

    Args:
        target: the warehouse.
        choice: which rejects.
        directory: the topic directory for HL7 messages; without one they go to Kafka.

    Raises:
        CdwError: the settings, the warehouse or Kafka do not allow it; what was done before stays done, and
            the same call goes on from there.
    """
    settings = load_settings()
    topics = load_topics(project_dir(settings))
    # Read-only first: opening a file that is not there would make it.
    with open_warehouse(target, read_only=True) as warehouse:
        if not warehouse.has_layout():
            return Replayed()
    with open_warehouse(target) as warehouse:
        warehouse.prepare(list(topics.values()))
        transport = TransportReplay(warehouse, topics, settings)
        transport.run(choice)
        messages = MessageReplay(warehouse, settings)
        messages.run(choice, directory)
    return Replayed(transport.rows, messages.published, transport.still_rejected + messages.still_rejected)
