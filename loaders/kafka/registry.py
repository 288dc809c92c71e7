"""The schema registry, asked for the schema whose id a record carries. Needs the extra ``avro``."""

import re
from collections.abc import Callable
from typing import TypeVar

from confluent_kafka.schema_registry import Schema, SchemaReference, SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError

from loaders.errors import AwayError, CdwError
from loaders.kafka.config import registry_config
from loaders.settings import Settings

Answer = TypeVar("Answer")

_REQUEST_SECONDS = 10.0
# Subject, version, schema not found. A 404 without one of these is another server's, or a wrong path.
_NOT_FOUND = frozenset({40401, 40402, 40403})
_PASSING = frozenset({408, 429})
_CREDENTIALS = re.compile(r"//[^/@]*@")


class RegistryAwayError(AwayError):
    """The schema registry cannot be reached for now."""

    part = "registry"


class SchemaRegistry:
    """A registry that speaks Confluent's protocol."""

    def __init__(self, settings: Settings) -> None:
        """Prepare to ask ``CDW_SCHEMA_REGISTRY_URL``.

        Raises:
            CdwError: the address or a property cannot be used.
        """
        url = settings.schema_registry_url
        self.where = f"schema registry at {_CREDENTIALS.sub('//', url or '')}"
        properties = registry_config(settings)
        try:
            self._client = SchemaRegistryClient(
                # Whoever waits for an answer stays in the consumer group meanwhile; the client would not.
                {**properties, "url": url, "timeout": _REQUEST_SECONDS, "max.retries": 0}
            )
        except (OSError, TypeError, ValueError):
            raise CdwError(
                "the schema registry's address, or one of its properties, cannot be used",
                where=f"CDW_SCHEMA_REGISTRY_URL, {settings.kafka_config or 'CDW_KAFKA_CONFIG'}",
                do="compare them with the properties of confluent-kafka's SchemaRegistryClient, each with "
                "schema.registry. before its name",
            ) from None

    def schema(self, schema_id: int) -> Schema | None:
        """The schema of an id, kept once it is known; None where the registry has none.

        Raises:
            AwayError: there is no answer.
            CdwError: the registry refuses us, or is none.
        """
        return self._ask(lambda: self._client.get_schema(schema_id))

    def referenced(self, reference: SchemaReference) -> Schema | None:
        """The schema that another one refers to; as ``schema``."""
        found = self._ask(lambda: self._client.get_version(reference.subject or "", reference.version or 0))
        return found.schema if found else None

    def _ask(self, question: Callable[[], Answer]) -> Answer | None:
        try:
            return question()
        except SchemaRegistryError as error:
            if error.error_code in _NOT_FOUND:
                return None
            status = error.http_status_code
            what = f"HTTP status {status}"
        except (AttributeError, TypeError, ValueError):  # an answer, and not a registry's
            status, what = 200, "an answer that cannot be read"
        except Exception as error:  # of the HTTP library, which is another one by the client's version
            status, what = None, type(error).__name__
        if status is None or status in _PASSING or status >= 500:
            raise RegistryAwayError(
                f"the schema registry does not answer ({what})",
                where=self.where,
                do="see that it runs and can be reached (CDW_SCHEMA_REGISTRY_URL)",
            )
        if status in (401, 403):
            raise CdwError(
                f"the schema registry refuses this user ({what})",
                where=self.where,
                do="give it the right to read schemas, or see to schema.registry.basic.auth.user.info in the "
                "file of CDW_KAFKA_CONFIG",
            )
        raise CdwError(
            f"what answers is no schema registry ({what})",
            where=self.where,
            do="set CDW_SCHEMA_REGISTRY_URL to the address below which /schemas/ids/ is found",
        )
