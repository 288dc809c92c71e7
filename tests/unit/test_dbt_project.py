"""Rules of macros and models that no linter knows, and each of them seen failing on a planted fault."""

import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.conftest import PROJECT

ENGINES = ("duckdb", "postgres", "redshift")
MACRO = re.compile(r"{%-? *(?:macro|test) +(\w+)\((.*?)\) *-?%}(.*?){%-? *end(?:macro|test) *-?%}", re.DOTALL)
# dbt calls these itself.
OVERRIDES = {"generate_schema_name", "query_comment"}


@dataclass(frozen=True)
class Macro:
    file: Path
    name: str
    arguments: list[str]
    body: str


def macros_in(file: Path) -> list[Macro]:
    return [
        Macro(
            file,
            name,
            [argument.split("=")[0].strip() for argument in arguments.split(",") if argument],
            body,
        )
        for name, arguments, body in MACRO.findall(file.read_text(encoding="utf-8"))
    ]


def macro_files(project: Path) -> list[Path]:
    return sorted([*project.glob("macros/*/*.sql"), *project.glob("tests/generic/*.sql")])


def misplaced_macros(project: Path) -> Iterator[str]:
    """One public macro a file, of the file's name; beside it only its versions for engines."""
    for file in macro_files(project):
        versions = {f"{engine}__{file.stem}" for engine in ("default", *ENGINES)}
        names = [macro.name for macro in macros_in(file)]
        public = [name for name in names if name not in versions]
        if public != [file.stem]:
            yield f"{file.name}: {', '.join(public) or 'no macro'}"


def incomplete_dispatches(project: Path) -> Iterator[str]:
    """A dispatched macro has a version an engine, with its own arguments, and a default that raises."""
    for file in macro_files(project):
        macros = {macro.name: macro for macro in macros_in(file)}
        own = macros.get(file.stem)
        if own is None or ("adapter.dispatch" not in own.body and len(macros) == 1):
            continue
        call = f"adapter.dispatch('{own.name}', 'clinical_data_warehouse')({', '.join(own.arguments)})"
        if call not in own.body:
            yield f"{own.name}: does not dispatch to itself"
        for engine in ("default", *ENGINES):
            version = macros.get(f"{engine}__{own.name}")
            if version is None or version.arguments != own.arguments:
                yield f"{own.name}: no {engine} version with its arguments"
            elif (f"unsupported('{own.name}')" in version.body) != (engine == "default"):
                yield f"{own.name}: the default version must raise, and no other"


def undescribed_macros(project: Path) -> Iterator[str]:
    """Every macro and each of its arguments, in order, is described in a YAML file of its folder."""
    for file in macro_files(project):
        described = {
            entry["name"]: entry
            for properties in file.parent.glob("_*.yml")
            for entry in yaml.safe_load(properties.read_text(encoding="utf-8"))["macros"]
        }
        prefix = "test_" if file.parent.name == "generic" else ""
        for macro in macros_in(file):
            if macro.name != file.stem:
                continue
            entry = described.get(prefix + macro.name, {})
            arguments = [
                argument["name"] for argument in entry.get("arguments", ()) if argument.get("description")
            ]
            if not entry.get("description") or arguments != macro.arguments:
                yield macro.name


def unused_macros(project: Path) -> Iterator[str]:
    """Every macro is called from somewhere else."""
    texts = {
        file: file.read_text(encoding="utf-8")
        for folder in ("macros", "models", "tests")
        for file in project.glob(f"{folder}/**/*")
        if file.suffix in {".sql", ".yml"} and not file.name.endswith(("_macros.yml", "_generic_tests.yml"))
    }
    for file in macro_files(project):
        call = re.compile(rf"\b{file.stem}(\(|:)")
        if file.stem not in OVERRIDES and not any(
            call.search(text) for other, text in texts.items() if other != file
        ):
            yield file.stem


def engines_in_models(project: Path) -> Iterator[str]:
    """A model knows no engine and asks the warehouse nothing while it is compiled."""
    for file in sorted([*project.glob("models/**/*.sql"), *project.glob("tests/singular/*.sql")]):
        for word in re.findall(
            r"\btarget\.\w+|\brun_query\b|\badapter\.\w+|\bexecute\b", file.read_text("utf-8")
        ):
            yield f"{file.name}: {word}"
    for file in macro_files(project):
        if "run_query" in file.read_text("utf-8"):
            yield f"{file.name}: run_query"


RULES = [
    misplaced_macros,
    incomplete_dispatches,
    undescribed_macros,
    unused_macros,
    engines_in_models,
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_project_keeps_the_rule(rule: Callable[[Path], Iterator[str]]) -> None:
    assert list(rule(PROJECT)) == []


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for folder in ("macros", "models", "tests/generic", "tests/singular"):
        shutil.copytree(PROJECT / folder, tmp_path / folder)
    return tmp_path


def replace(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf-8")


def test_a_second_macro_in_a_file_is_found(copy: Path) -> None:
    with (copy / "macros/portable/matches.sql").open("a") as stream:
        stream.write("{% macro matches_not(text) %}not {{ text }}{% endmacro %}")
    assert list(misplaced_macros(copy)) == ["matches.sql: matches, matches_not"]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_missing_version_is_found(copy: Path, engine: str) -> None:
    replace(
        copy / "macros/portable/matches.sql", f"{engine}__matches(text, pattern)", f"{engine}__matches(text)"
    )
    assert list(incomplete_dispatches(copy)) == [f"matches: no {engine} version with its arguments"]


def test_a_default_that_does_not_raise_is_found(copy: Path) -> None:
    replace(copy / "macros/portable/matches.sql", "{{ unsupported('matches') }}", "{{ text }}")
    assert list(incomplete_dispatches(copy)) == ["matches: the default version must raise, and no other"]


def test_a_dispatch_to_another_macro_is_found(copy: Path) -> None:
    replace(copy / "macros/portable/matches.sql", "dispatch('matches'", "dispatch('regexp_part'")
    assert list(incomplete_dispatches(copy)) == ["matches: does not dispatch to itself"]


def test_an_undescribed_argument_is_found(copy: Path) -> None:
    replace(copy / "macros/portable/_macros.yml", "- name: pattern", "- name: expression")
    assert "matches" in list(undescribed_macros(copy))


def test_an_unused_macro_is_found(copy: Path) -> None:
    (copy / "macros/portable/nobody_calls_me.sql").write_text(
        "{% macro nobody_calls_me() %}1{% endmacro %}", encoding="utf-8"
    )
    assert list(unused_macros(copy)) == ["nobody_calls_me"]


@pytest.mark.parametrize("word", ["target.type", "run_query", "adapter.get_relation", "execute"])
def test_an_engine_in_a_model_is_found(copy: Path, word: str) -> None:
    with (copy / "models/staging/devices/stg_devices__telemetry.sql").open("a") as stream:
        stream.write(f"\n-- {{{{ {word} }}}}\n")
    assert list(engines_in_models(copy)) == [f"stg_devices__telemetry.sql: {word}"]
