"""A record whose header has a name that is not UTF-8, as producers in other languages can send it.

Python's client cannot; the library below it, which comes in the same wheel, can.
"""

import ctypes
from pathlib import Path

import confluent_kafka

from tests.parts.kafka import Cluster

# rd_kafka_vtype_t: https://github.com/confluentinc/librdkafka/blob/master/src/rdkafka.h
_TOPIC, _VALUE, _MSGFLAGS, _HEADERS, _END = 1, 4, 7, 10, 0
_COPY = 2


def send_with_header(broker: Cluster, topic: str, value: bytes, name: bytes) -> None:
    """Produce one record with one header."""
    (file,) = (Path(confluent_kafka.__file__).parent.parent / "confluent_kafka.libs").glob("librdkafka-*")
    library = ctypes.CDLL(str(file))
    for maker in ("rd_kafka_conf_new", "rd_kafka_new", "rd_kafka_headers_new"):
        getattr(library, maker).restype = ctypes.c_void_p
    error = ctypes.create_string_buffer(512)
    settings = ctypes.c_void_p(library.rd_kafka_conf_new())
    servers = broker.bootstrap.encode()
    assert library.rd_kafka_conf_set(settings, b"bootstrap.servers", servers, error, 512) == 0
    producer = ctypes.c_void_p(library.rd_kafka_new(0, settings, error, 512))
    headers = ctypes.c_void_p(library.rd_kafka_headers_new(ctypes.c_size_t(1)))
    size = ctypes.c_ssize_t(-1)
    assert library.rd_kafka_header_add(headers, name, size, b"value", size) == 0
    tag = ctypes.c_int
    failed = library.rd_kafka_producev(
        *(producer, tag(_TOPIC), ctypes.c_char_p(topic.encode())),
        *(tag(_VALUE), ctypes.c_char_p(value), ctypes.c_size_t(len(value))),
        *(tag(_MSGFLAGS), tag(_COPY), tag(_HEADERS), headers, tag(_END)),
    )
    assert failed == 0
    assert library.rd_kafka_flush(producer, 30_000) == 0
    library.rd_kafka_destroy(producer)
