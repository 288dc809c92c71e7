"""How to reach Kafka: ``CDW_KAFKA_*`` settings, and a file of librdkafka properties for all the rest."""

from pathlib import Path

from loaders.errors import CdwError
from loaders.settings import Settings

Config = dict[str, str | int | float | bool]

# What exactly-once and order rest on: no file may set these otherwise.
_OURS = frozenset(
    {
        "bootstrap.servers",
        "metadata.broker.list",
        "group.id",
        "group.instance.id",
        "group.protocol",
        "enable.auto.commit",
        "enable.auto.offset.store",
        "enable.partition.eof",
        "auto.offset.reset",
        "isolation.level",
        "check.crcs",
        "partitioner",
        "queuing.strategy",
        "enable.idempotence",
        "acks",
        "transactional.id",
        "allow.auto.create.topics",
        "debug",  # it writes out what it sends
        "schema.registry.url",
        "schema.registry.timeout",
        "schema.registry.max.retries",
    }
)
_REGISTRY = "schema.registry."


def client_config(settings: Settings) -> Config:
    """What every client needs: the brokers, and the properties of ``CDW_KAFKA_CONFIG``.

    Raises:
        CdwError: the file cannot be read, or sets a property that is not for it to set.
    """
    config: Config = {"bootstrap.servers": settings.kafka_bootstrap_servers, "client.id": "cdw"}
    if settings.kafka_config:
        found = _properties(settings.kafka_config)
        config |= {name: value for name, value in found.items() if not name.startswith(_REGISTRY)}
    return config


def registry_config(settings: Settings) -> dict[str, str]:
    """The properties of ``CDW_KAFKA_CONFIG`` that are the schema registry's, without their prefix.

    Raises:
        CdwError: as ``client_config``.
    """
    found = _properties(settings.kafka_config) if settings.kafka_config else {}
    return {
        name.removeprefix(_REGISTRY): value for name, value in found.items() if name.startswith(_REGISTRY)
    }


def _properties(file: Path) -> dict[str, str]:
    """Lines of ``name=value``, as librdkafka names them; ``#`` begins a comment."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        raise CdwError(
            "the file of Kafka properties cannot be read",
            where=str(file),
            do="set CDW_KAFKA_CONFIG to a file of name=value lines, or unset it",
        ) from None
    config: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, equals, value = (part.strip() for part in line.partition("="))
        if not equals or name in _OURS:
            raise CdwError(
                f"{name} is not to be set here" if equals else "this line is not name=value",
                where=f"{file}, line {number}",
                do="remove the line; brokers, group and the like are CDW_KAFKA_* variables, and what exactly "
                "once rests on cannot be set",
            )
        config[name] = value
    return config
