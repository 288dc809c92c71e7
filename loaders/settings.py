"""What the environment may set: ``CDW_*`` variables, each with a default that runs."""

from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

import loaders
from loaders.errors import CdwError
from loaders.hl7.charset import CHARSETS, DEFAULT_FALLBACK

PROJECT_FILE = "dbt_project.yml"


class Settings(BaseSettings):
    """The loader's settings, read from ``CDW_<NAME>``."""

    model_config = SettingsConfigDict(env_prefix="CDW_", extra="ignore")

    project_dir: Path | None = None
    # A Redshift COPY takes rows of up to 4 MB; one limit keeps all warehouses alike.
    max_record_bytes: int = Field(4_000_000, ge=1_000)
    # A transaction costs some milliseconds whatever it holds, on DuckDB a hundred: at 100,000 records that is
    # little, and a loader that is killed repeats about a second of work.
    batch_records: int = Field(100_000, ge=1)
    # A batch is in memory about four times (bytes, text, columns, the driver's buffer).
    batch_bytes: int = Field(16_000_000, ge=1)
    # A record waits this long at most for others to be loaded with.
    batch_seconds: float = Field(1.0, gt=0)
    kafka_bootstrap_servers: str = "localhost:9092"
    # librdkafka properties (security.protocol, sasl.*, ssl.*), one name=value a line; the schema registry's
    # (basic.auth.user.info, ssl.ca.location) with schema.registry. before their names.
    kafka_config: Path | None = None
    # Where it is set, keys and values that begin with a zero byte are Avro.
    schema_registry_url: str | None = None
    # The prefix of the consumer group; the rest names the warehouse, for two must not share the partitions.
    kafka_group: str = "cdw"
    kafka_group_protocol: Literal["classic", "consumer"] = "classic"
    # Static membership: a loader that restarts under the same name keeps its partitions.
    kafka_instance_id: str | None = None
    # A record that Kafka has not acknowledged by then is given up, and its sender told.
    kafka_delivery_seconds: float = Field(30.0, gt=0)
    # Of topics that cdw makes; by default the brokers' own.
    kafka_partitions: int | None = Field(None, ge=1)
    kafka_replication: int | None = Field(None, ge=1)
    # HOST:PORT where `cdw load` tells Prometheus and probes how it goes; nowhere by default.
    metrics_address: str | None = None
    # How long a record may wait, or that be unknown, before /health says so.
    health_max_age_seconds: float = Field(300.0, gt=0)
    # Senders that are connected at once.
    mllp_connections: int = Field(256, ge=1)
    # Any worker of the Kafka Connect cluster; the address may carry a name and a password.
    connect_url: str = "http://localhost:8083"
    # HL7 v2 bytes that are neither as MSH-18 declares nor UTF-8: what most such senders use.
    hl7_fallback_charset: str = DEFAULT_FALLBACK

    @field_validator("hl7_fallback_charset")
    @classmethod
    def _is_known(cls, name: str) -> str:
        if name not in CHARSETS:
            raise ValueError
        return name


def load_settings() -> Settings:
    """Read the settings.

    Raises:
        CdwError: a variable has a value that cannot be used; the message names the variable only.
    """
    try:
        return Settings()  # type: ignore[call-arg]
    except ValidationError as error:
        names = ", ".join(sorted({f"CDW_{e['loc'][0]}".upper() for e in error.errors()}))
        raise CdwError(
            "a setting has a value that cannot be used",
            where=f"environment variable {names}",
            do="unset it to use the default, or set a number above 0 (CDW_MAX_RECORD_BYTES: from 1000; "
            "CDW_KAFKA_GROUP_PROTOCOL: classic or consumer; "
            "CDW_HL7_FALLBACK_CHARSET: one of " + ", ".join(sorted(CHARSETS)) + ")",
        ) from None


def project_dir(settings: Settings) -> Path:
    """Find the folder of ``dbt_project.yml``: ``CDW_PROJECT_DIR``, here, or where the package came from.

    Raises:
        CdwError: none of them has the file.
    """
    if settings.project_dir is not None:
        candidates = [settings.project_dir]
    else:
        candidates = [Path.cwd(), Path(loaders.__file__).resolve().parent.parent]
    for candidate in candidates:
        if (candidate / PROJECT_FILE).is_file():
            return candidate.absolute()
    raise CdwError(
        f"no {PROJECT_FILE} found",
        where=", ".join(str(candidate.absolute()) for candidate in candidates),
        do="run cdw in the project's folder, or name that folder in CDW_PROJECT_DIR",
    )
