"""The demo's steps: simulate, decode, load, build, look."""

import os
import shutil
from datetime import timedelta
from functools import partial
from pathlib import Path

from rich.console import Console

from loaders.demo.build import dbt_build
from loaders.demo.findings import print_findings
from loaders.errors import CdwError
from loaders.ingest import ingest_to_directory
from loaders.load import load_directory
from loaders.progress import LoadProgress
from loaders.settings import load_settings, project_dir
from loaders.simulate.config import Config
from loaders.simulate.progress import SimulationProgress
from loaders.simulate.write import simulate

_TARGET = "duckdb"
_MARKER = ".cdw-demo"


def run_demo(config: Config, out: Path) -> None:
    """Simulate a hospital, decode its HL7 and the shipped examples, load, build, and print what came of it.

    Everything is written below ``out``, which is made anew when an earlier demo made it. The demo is the one
    place whose printout shows patient data: the patients are invented.

    Raises:
        CdwError: ``out`` holds something else, or a step failed.
    """
    project = project_dir(load_settings())
    topics, warehouse = out / "topics", out / "warehouse.duckdb"
    _make_anew(out)
    # The profile that cdw and dbt share takes the file's place from here.
    os.environ["CDW_DUCKDB_PATH"] = str(warehouse.absolute())
    say = partial(Console(stderr=True, highlight=False).print, soft_wrap=True)

    say(f"1/4 simulating {config.patients} patients over {config.hours} hours (seed {config.seed})")
    with SimulationProgress() as simulation:
        simulate(config, topics, simulation)

    files = [*sorted((project / "examples" / "hl7").glob("*.hl7")), *sorted((topics / "hl7").glob("*.hl7"))]
    say(f"2/4 decoding {len(files)} HL7 v2 files: the examples that the project ships, and the hospital's")
    say(f"    {ingest_to_directory([str(file) for file in files], topics)}")

    say(f"3/4 loading into {warehouse}")
    # Arrival is when the simulated time is over: the same seed gives the same marts on any day.
    arrived_at = config.start + timedelta(hours=config.hours)
    with LoadProgress() as progress:
        loaded = load_directory(topics, _TARGET, loaded_at=arrived_at, observer=progress)
    say(f"    {sum(loaded.rows.values())} records loaded, {sum(loaded.rejects.values())} rejected")

    say("4/4 dbt build: models and all data tests")
    dbt_build(project, _TARGET)
    print_findings(warehouse)


def _make_anew(out: Path) -> None:
    marker = out / _MARKER
    try:
        if out.exists():
            if not marker.is_file() and any(out.iterdir()):
                raise CdwError(
                    "the directory holds something that is not a demo",
                    where=str(out.absolute()),
                    do="name another directory with --out",
                )
            shutil.rmtree(out)
        out.mkdir(mode=0o700, parents=True)
        marker.touch()
    except OSError as error:
        raise CdwError(
            f"the demo's directory cannot be made ({error.strerror})",
            where=str(out.absolute()),
            do="name a directory that can be written with --out",
        ) from None
