"""``cdw decode``: reads files, has ``loaders.hl7`` decode them, writes what comes out."""

import os
import stat
from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import BinaryIO, NamedTuple

import msgspec

from loaders.errors import CdwError
from loaders.hl7.decoder import Message
from loaders.hl7.names import with_long_names
from loaders.hl7.rejects import Reject
from loaders.hl7.stream import Options, Place, decode_place, places
from loaders.hl7.validate import findings
from loaders.inputs import STDIN, Counts, check_readable, options_of, read_chunks, tell
from loaders.parallel import write_in_order

_BATCH_BYTES = 1 << 21
_to_json = msgspec.json.Encoder().encode


class Form(NamedTuple):
    """How ``cdw decode`` writes a message."""

    names: bool = False
    """As nested long names instead of segments, fields and components by number."""
    validate: bool = False
    """With hl7apy's findings among the warnings."""


_AS_RECORDS = Form()


def decode_files(
    files: list[str],
    *,
    out: BinaryIO,
    rejects: Path | None = None,
    form: Form = _AS_RECORDS,
    workers: int = 1,
) -> Counts:
    """Write a record a line to ``out`` and a reject a line to the file ``rejects``, if one is named.

    Args:
        files: names of files, or "-" for standard input.
        out: takes the records, in the order of the input.
        rejects: is made anew, readable by its owner alone.
        form: how records are written.
        workers: processes that decode side by side; the order stays.

    Raises:
        CdwError: a file cannot be read, or what comes out not be written.
    """
    check_readable(files)
    counts = Counts()
    try:
        with _open_rejects(rejects, files) if rejects else nullcontext() as reject_file:
            function = partial(_decode_batch, form=form)
            for messages, rejected in write_in_order(function, _batches(files), out, workers):
                counts.messages += messages
                counts.rejects += len(rejected)
                for reject in rejected:
                    tell(reject)
                    if reject_file:
                        reject_file.write(_line(reject))
    except OSError as error:
        raise CdwError(
            f"the output cannot be written ({error.strerror})",
            where=f"standard output or {rejects}" if rejects else "standard output",
            do="check the folder, its permissions and its space, and what reads the records",
        ) from None
    return counts


class _Batch(NamedTuple):
    options: Options
    places: list[Place]


def _batches(files: list[str]) -> Iterator[_Batch]:
    for name in files:
        batch, size = _Batch(options_of(name), []), 0
        for place in places(read_chunks(name), batch.options):
            batch.places.append(place)
            size += len(place.data)
            if size > _BATCH_BYTES:
                yield batch
                batch, size = _Batch(batch.options, []), 0
        yield batch


def _decode_batch(batch: _Batch, form: Form) -> tuple[bytes, tuple[int, list[Reject]]]:
    """Give the lines of the records, their number, and the rejects."""
    records: list[bytes] = []
    rejects: list[Reject] = []
    for place in batch.places:
        result = decode_place(place, batch.options)
        if isinstance(result, Message):
            records.append(_line(_formed(result, form)))
        else:
            rejects.append(result)
    return b"".join(records), (len(records), rejects)


def _formed(message: Message, form: Form) -> object:
    if form.validate:
        message.meta["warnings"] += findings(message.er7, message.meta["dictionary"])
    if form.names:
        return with_long_names(message.record)
    return {"meta": message.meta, "segments": msgspec.Raw(message.segments.encode()), "er7": message.er7}


def _open_rejects(path: Path, files: list[str]) -> BinaryIO:
    if path.exists() and any(name != STDIN and path.samefile(name) for name in files):
        raise CdwError(
            "the reject file is one of the input files", where=str(path), do="name another file for --rejects"
        )
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):  # a device's mode is not ours to change
        os.fchmod(descriptor, 0o600)
    return os.fdopen(descriptor, "wb")


def _line(value: object) -> bytes:
    return _to_json(value) + b"\n"
