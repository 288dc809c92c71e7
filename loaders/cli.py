"""The ``cdw`` command: its words and nothing else; the work is done in the modules beside it.

A command imports what it needs itself: the libraries of all take longer to load than most commands to run.
"""

import os
import sys
import traceback
from dataclasses import replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from loaders.errors import CdwError
from loaders.simulate.config import DEFAULT_START, Config
from loaders.simulate.defects import KINDS

app = typer.Typer(
    name="cdw",
    help="Clinical Data Warehouse: simulate, decode, load and look.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


TargetName = Annotated[
    str | None,
    typer.Option(
        "--target", help="A target of profiles.yml; its default one where not given.", metavar="NAME"
    ),
]


class Start(StrEnum):
    """Where to begin."""

    earliest = "earliest"
    latest = "latest"


def _time(text: str) -> datetime:
    time = datetime.fromisoformat(text)
    return time if time.tzinfo else time.replace(tzinfo=UTC)


@app.command("load")
def load_command(  # noqa: PLR0913, PLR0917 - an argument an option
    directory: Annotated[
        Path | None,
        typer.Option("--from", help="Load this topic directory, not from Kafka.", metavar="DIR"),
    ] = None,
    target: TargetName = None,
    once: Annotated[bool, typer.Option("--once", help="Stop at the end of what Kafka has now.")] = False,
    start: Annotated[
        Start | None,
        typer.Option(help="Where to begin in a Kafka from which nothing has been loaded yet."),
    ] = None,
    loaded_at: Annotated[
        datetime | None,
        typer.Option(
            parser=_time, help="Fix the arrival time: ISO 8601, UTC where no zone is given.", metavar="TIME"
        ),
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(
            help="Tell Prometheus (/metrics) and probes (/health) how it goes.", metavar="HOST:PORT"
        ),
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Tell metrics beyond this machine, without TLS.")
    ] = False,
) -> None:
    """Load Kafka's topics, or a topic directory, into raw: what is new, each record once.

    From Kafka it goes on until it is told to stop (SIGTERM, ctrl-c). A record that no warehouse can hold goes
    to raw_restricted.rejected_records with its reason; that is no failure.
    Examples: cdw load --start earliest; cdw load --metrics 127.0.0.1:9464; cdw load --once;
    cdw load --from topics --target duckdb
    """
    from loaders.load import load_directory, load_kafka
    from loaders.log import configure_log
    from loaders.observe import observers
    from loaders.progress import LoadProgress
    from loaders.settings import load_settings

    configure_log()
    if directory is None:
        with observers(load_settings(), metrics, is_open=insecure) as told:
            loaded = load_kafka(
                target,
                start=start.value if start else None,
                is_once=once,
                loaded_at=loaded_at,
                observers=told,
            )
    elif once or start or metrics or insecure:
        raise typer.BadParameter("a topic directory is always loaded from where it stands to its end")
    else:
        with LoadProgress() as progress:
            loaded = load_directory(directory, target, loaded_at=loaded_at, observer=progress)
    typer.echo("\n".join(loaded.as_lines()))


@app.command("seek")
def seek_command(
    topic: Annotated[str, typer.Argument(help="The topic whose position is to move.", metavar="TOPIC")],
    to: Annotated[
        str, typer.Option("--to", help="earliest, latest or an offset.", metavar="WHERE", show_default=False)
    ],
    partition: Annotated[
        int | None, typer.Option(min=0, help="Only this partition; all where not given.", metavar="NUMBER")
    ] = None,
    target: TargetName = None,
) -> None:
    """Move the position of a Kafka topic on purpose, while no loader runs.

    Forward, what is passed over is recorded in raw.load_batches. Backward, it is loaded once more, under a
    topic id of its own. Example: cdw seek device.telemetry --partition 3 --to earliest
    """
    from loaders.kafka.seek import seek

    typer.echo("\n".join(seek(target, topic, to, partition)))


@app.command("status")
def status_command(
    target: TargetName = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of lines.")] = False,
    max_age: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Exit 1 when a record has waited in Kafka for longer, or that cannot be known.",
            metavar="SECONDS",
        ),
    ] = None,
) -> None:
    """Show what a warehouse has been loaded with, and what Kafka has for it that is not loaded.

    For each topic and partition: position, end, lag, age of the oldest record that is not loaded, rows,
    rejects by reason, last batch. Kafka need not answer; what it alone knows is left out then.
    Examples: cdw status --target postgres; cdw status --json --max-age 300
    """
    from loaders.profile import find_target
    from loaders.status import read_status

    status = read_status(find_target(target))
    typer.echo(status.as_json() if as_json else "\n".join(status.as_lines()))
    if max_age is not None and status.is_older_than(max_age):
        raise typer.Exit(1)


@app.command("migrate")
def migrate_command(target: TargetName = None) -> None:
    """Bring raw tables that an older cdw wrote up to this one's layout, in place; again, it does nothing.

    Example: cdw migrate --target postgres
    """
    from loaders.migrate import migrate
    from loaders.profile import find_target

    typer.echo(migrate(find_target(target)))


@app.command("purge")
def purge_command(  # noqa: PLR0913, PLR0917 - an argument an option
    before: Annotated[
        datetime | None,
        typer.Option(
            parser=_time,
            help="Purge what arrived before: ISO 8601, UTC where no zone is given.",
            metavar="TIME",
        ),
    ] = None,
    topic: Annotated[
        list[str] | None,
        typer.Option(help="With --before: of this topic only; repeatable.", metavar="TOPIC"),
    ] = None,
    patient: Annotated[
        str | None,
        typer.Option(
            help="Purge every record that names this patient identifier; - reads it from standard input.",
            metavar="AUTHORITY/ID",
        ),
    ] = None,
    keep_rejects: Annotated[
        bool,
        typer.Option(
            "--keep-rejects",
            help="With --patient: leave rejects, and originals without a message, whose bytes hold the id.",
        ),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count only.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    target: TargetName = None,
) -> None:
    """Delete records from raw for good: the only way it shrinks. What went is counted in raw.load_batches.

    Marts follow with the next dbt build; what rests on a purged record (a registration, a prescription that
    is still in force) is gone from them. A record that names a second patient goes whole; identifiers that
    were merged with this one are purged by themselves.
    Examples: cdw purge --before 2024-01-01 --topic device.telemetry; cdw purge --patient NHS/9000000009
    """
    from loaders.patients import parse_identifier
    from loaders.profile import load_target
    from loaders.purge import before as arrived_before
    from loaders.purge import naming, purge
    from loaders.settings import load_settings, project_dir

    if (before is None) == (patient is None):
        raise typer.BadParameter("name one of --before and --patient")
    if (topic and patient) or (keep_rejects and before):
        raise typer.BadParameter("--topic goes with --before, --keep-rejects with --patient")
    project = project_dir(load_settings())
    if before:
        plan = arrived_before(before, project, topic or ())
    else:
        try:
            identifier = parse_identifier(sys.stdin.readline() if patient == "-" else patient or "")
        except ValueError:
            raise typer.BadParameter(
                "--patient is AUTHORITY/ID, as core.patient_identifiers has them"
            ) from None
        plan = naming(identifier, project, keep_rejects=keep_rejects)
    warehouse = load_target(project, target)
    if dry_run or not yes:
        counted = purge(warehouse, project, plan, dry_run=True)
        typer.echo("\n".join(counted.as_lines()))
        if dry_run or not counted:
            return
        typer.confirm("Delete these for good?", abort=True)
    purged = purge(warehouse, project, plan)
    typer.echo("\n".join([*(["purged:"] if purged else []), *purged.as_lines()]))


@app.command("replay")
def replay_command(
    reason: Annotated[
        list[str] | None,
        typer.Option(help="Rejects of this reason; repeatable.", metavar="E_..."),
    ] = None,
    since: Annotated[
        datetime | None,
        typer.Option(
            parser=_time,
            help="Rejects loaded since: ISO 8601, UTC where no zone is given.",
            metavar="TIME",
        ),
    ] = None,
    sha256: Annotated[str | None, typer.Option(help="The reject of these bytes.", metavar="HASH")] = None,
    to_dir: Annotated[
        Path | None,
        typer.Option(help="The topic directory for HL7 messages, in place of Kafka.", metavar="DIR"),
    ] = None,
    target: TargetName = None,
) -> None:
    """Send rejects through again, now that the loader or the HL7 decoder has learned better.

    What the loader refused and takes today becomes a row of its topic; what the decoder refused and decodes
    today is published as a new message of the same bytes. All conditions that are given must hold; again, it
    makes nothing twice.
    Examples: cdw replay --reason E_TOO_LARGE; cdw replay --since 2026-01-05 --to-dir topics
    """
    from loaders.profile import find_target
    from loaders.replay.choice import Choice
    from loaders.replay.run import replay

    if not (reason or since or sha256):
        raise typer.BadParameter("name the rejects: --reason, --since or --sha256")
    replayed = replay(find_target(target), Choice(tuple(reason or ()), since, sha256), to_dir)
    typer.echo("\n".join(replayed.as_lines()))


@app.command("simulate")
def simulate_command(  # noqa: PLR0913, PLR0917 - an argument an option
    out: Annotated[
        Path | None, typer.Option(help="The directory to write into, made if need be.", metavar="DIR")
    ] = None,
    kafka: Annotated[bool, typer.Option("--kafka", help="Publish to Kafka, not to a directory.")] = False,
    seed: Annotated[int, typer.Option(help="The same seed and options give the same bytes.")] = 1,
    patients: Annotated[int, typer.Option(min=1, max=9_999, help="Patients with a device each.")] = 20,
    hours: Annotated[int, typer.Option(min=1, max=10_000, help="Hours of device time.")] = 48,
    start: Annotated[
        datetime | None,
        typer.Option(
            parser=_time,
            help=f"First moment: ISO 8601, UTC where no zone is given; by default {DEFAULT_START:%Y-%m-%d}.",
            metavar="TIME",
        ),
    ] = None,
    defect: Annotated[
        list[str] | None,
        typer.Option(
            help=f"A defect of a device, in place of the usual mix; repeatable. One of {', '.join(KINDS)}.",
            metavar="NAME:DEVICE",
        ),
    ] = None,
) -> None:
    """Write what a small invented hospital sends: registry, telemetry with defects, HL7 v2 messages.

    Topics as DIR/TOPIC.jsonl, messages as DIR/hl7/*.hl7, and the truth about the defects as DIR/defects.csv;
    or topics, and the messages decoded, to Kafka.
    Examples: cdw simulate --out topics --seed 7 --defect clogged_filter:DEV-0003; cdw simulate --kafka
    """
    from loaders.log import configure_log
    from loaders.settings import load_settings
    from loaders.simulate.progress import SimulationProgress
    from loaders.simulate.scenario import parse_defects
    from loaders.simulate.write import simulate, simulate_to_kafka

    if (out is None) == (not kafka):
        raise typer.BadParameter("name a directory with --out DIR, or Kafka with --kafka")
    configure_log()
    try:
        config = Config(seed, patients, hours, start or DEFAULT_START)
        if defect:
            config = replace(config, defects=parse_defects(config, defect))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    with SimulationProgress() as progress:
        if out is None:
            counts = simulate_to_kafka(config, load_settings(), progress)
        else:
            counts = simulate(config, out, progress)
    typer.echo("\n".join(f"{name}: {count}" for name, count in counts.items()))


Files = Annotated[
    list[str],
    typer.Argument(help="HL7 v2 files, MLLP framed or not; - is standard input.", metavar="FILE..."),
]


@app.command("decode")
def decode_command(  # noqa: PLR0913, PLR0917 - an argument an option
    files: Files,
    rejects: Annotated[
        Path | None,
        typer.Option(help="Write what could not be decoded, with its bytes, to this file.", metavar="FILE"),
    ] = None,
    names: Annotated[
        bool, typer.Option("--names", help="Write names (PID.PATIENT_NAME.FAMILY_NAME) for numbers.")
    ] = False,
    validate: Annotated[
        bool, typer.Option("--validate", help="Add what hl7apy finds against the standard to the warnings.")
    ] = False,
    workers: Annotated[int, typer.Option(min=1, max=256, help="Processes that decode side by side.")] = 1,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 1 when anything was rejected.")] = False,
) -> None:
    """Decode HL7 v2: one JSON record a message on stdout; on stderr, where and why one was rejected.

    Example: cdw decode examples/hl7/*.hl7 --rejects rejects.jsonl > records.jsonl
    """
    from loaders.decode import Form, decode_files

    counts = decode_files(
        files, out=sys.stdout.buffer, rejects=rejects, form=Form(names, validate), workers=workers
    )
    typer.echo(counts, err=True)
    if strict and counts.rejects:
        raise typer.Exit(1)


@app.command("ingest")
def ingest_command(  # noqa: PLR0913, PLR0917 - an argument an option
    files: Annotated[
        list[str] | None,
        typer.Argument(help="HL7 v2 files, MLLP framed or not; - is standard input.", metavar="FILE"),
    ] = None,
    to_dir: Annotated[
        Path | None,
        typer.Option(
            help="Append to a topic directory, made where it is missing, not to Kafka.", metavar="DIR"
        ),
    ] = None,
    mllp: Annotated[
        str | None,
        typer.Option(help="Listen for senders, in place of files, until SIGTERM.", metavar="HOST:PORT"),
    ] = None,
    tls_cert: Annotated[
        Path | None, typer.Option(help="The server's certificate and its chain, in PEM.", metavar="FILE")
    ] = None,
    tls_key: Annotated[
        Path | None, typer.Option(help="The key of that certificate, in PEM.", metavar="FILE")
    ] = None,
    tls_ca: Annotated[
        Path | None,
        typer.Option(help="Who must have signed the senders' certificates, in PEM.", metavar="FILE"),
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(
            help="Tell Prometheus (/metrics) and probes (/health) how it goes.", metavar="HOST:PORT"
        ),
    ] = None,
    insecure: Annotated[
        bool,
        typer.Option("--insecure", help="Listen, and tell metrics, beyond this machine without TLS."),
    ] = False,
) -> None:
    """Decode HL7 v2 and publish it: decoded messages, their original bytes, and what was rejected.

    To the topics hl7.messages, hl7.originals and hl7.rejected. A sender is acknowledged when Kafka has its
    message. Examples: cdw ingest feed.hl7; cdw ingest examples/hl7/*.hl7 --to-dir topics;
    cdw ingest --mllp 127.0.0.1:2575
    """
    from loaders.log import configure_log
    from loaders.settings import load_settings

    configure_log()
    tls = (tls_cert, tls_key, tls_ca)
    if bool(files) == (mllp is not None):
        raise typer.BadParameter("name files, or an address with --mllp HOST:PORT")
    if mllp is None:
        if any(tls) or metrics or insecure:
            raise typer.BadParameter("TLS, --metrics and --insecure are for --mllp")
        from loaders.ingest import ingest_to_directory, ingest_to_kafka

        assert files is not None
        typer.echo(ingest_to_directory(files, to_dir) if to_dir else ingest_to_kafka(files, load_settings()))
        return
    if to_dir is not None:
        raise typer.BadParameter("--mllp publishes to Kafka, not to a directory")
    if any(tls) and not all(tls):
        raise typer.BadParameter("TLS needs --tls-cert, --tls-key and --tls-ca")
    from loaders.address import Address
    from loaders.mllp.listen import Certificates, listen
    from loaders.probes import metrics_address

    try:
        address = Address.parse(mllp)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    certificates = Certificates(tls_cert, tls_key, tls_ca) if tls_cert and tls_key and tls_ca else None
    settings = load_settings()
    listen(settings, address, certificates, metrics=metrics_address(settings, metrics), is_open=insecure)


connect_app = typer.Typer(
    help="Register, check and show the Kafka Connect connectors of deploy/connect.", no_args_is_help=True
)
app.add_typer(connect_app, name="connect")

ConnectorFiles = Annotated[
    list[Path] | None,
    typer.Argument(
        help="Connectors; by default all of deploy/connect.", metavar="FILE...", show_default=False
    ),
]


@connect_app.command("register")
def connect_register_command(files: ConnectorFiles = None) -> None:
    """Give connectors the settings of their files, new or changed, and wait until they run.

    Kafka Connect is found by CDW_CONNECT_URL. Example: cdw connect register deploy/connect/ehr.json
    """
    from loaders.connect.connectors import Connectors

    typer.echo("\n".join(Connectors(files or []).register()))


@connect_app.command("check")
def connect_check_command(files: ConnectorFiles = None) -> None:
    """Say what is wrong with connectors, and with the database they read; exit 1 if anything is.

    The database is looked into with the settings of the connector, where the variables they name (EHR_HOST
    and so on) are set here too. Example: cdw connect check
    """
    from loaders.connect.connectors import Connectors

    notes, errors = Connectors(files or []).check()
    for line in [*notes, *map(str, errors)]:
        typer.echo(line)
    if errors:
        raise typer.Exit(1)


@connect_app.command("show")
def connect_show_command(files: ConnectorFiles = None) -> None:
    """Show connectors: their state and that of their tasks, settings that were changed, topics.

    Example: cdw connect show
    """
    from loaders.connect.connectors import Connectors

    typer.echo("\n".join(Connectors(files or []).show()))


@connect_app.command("snapshot")
def connect_snapshot_command(
    name: Annotated[str, typer.Argument(help="The connector, of deploy/connect.", metavar="NAME")],
) -> None:
    """Let a connector read its tables anew: when changes were lost, or their topics.

    What comes again changes nothing in the marts. Rows deleted while changes were lost are not noticed.
    Example: cdw connect snapshot cdw-ehr
    """
    from loaders.connect.connectors import Connectors

    typer.echo("\n".join(Connectors().snapshot(name)))


@app.command("demo")
def demo_command(
    out: Annotated[
        Path, typer.Option(help="Where everything goes; an earlier demo there is replaced.", metavar="DIR")
    ] = Path("demo"),
    seed: Annotated[int, typer.Option(help="The same seed and options give the same marts.")] = 1,
    patients: Annotated[int, typer.Option(min=1, max=9_999, help="Patients with a device each.")] = 20,
    hours: Annotated[int, typer.Option(min=1, max=10_000, help="Hours of device time.")] = 48,
) -> None:
    """Run the main job on an invented hospital: simulate, decode, load into DuckDB, dbt build, look.

    Example: cdw demo --patients 5 --hours 12
    """
    from loaders.demo.run import run_demo

    run_demo(Config(seed, patients, hours), out)


def main() -> None:
    """Run ``cdw``; exit 0 when done, 1 when failed, 2 when wrongly used."""
    # Warehouse files, topic directories and reject files hold patient data: their owner's alone.
    os.umask(0o077)
    try:
        app()
    except CdwError as error:
        sys.stderr.write(f"cdw: {error}\n")
        sys.exit(1)
    except Exception as error:
        # Not its own words: an exception may quote the record it met.
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(place.filename).name}, line {place.lineno}, in {place.name}"
        sys.stderr.write(
            f"cdw: a defect of cdw itself ({type(error).__name__})\n"
            f"  where: {where}\n"
            "  to do: report it with these lines; what was committed before is kept\n"
        )
        sys.exit(1)
