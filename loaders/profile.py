"""The warehouse a target names, from the ``profiles.yml`` that dbt reads."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import jinja2
import yaml
from jinja2.sandbox import SandboxedEnvironment
from pydantic import BaseModel, ConfigDict, ValidationError

from loaders.errors import CdwError
from loaders.settings import PROJECT_FILE, load_settings, project_dir


class DuckdbTarget(BaseModel):
    """A DuckDB file; ``settings`` are set on every connection, as dbt does."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    path: Path
    settings: dict[str, str] = {}

    @property
    def where(self) -> str:
        """The warehouse in words for messages."""
        return f"DuckDB file {self.path.absolute()}"


class PostgresTarget(BaseModel):
    """A Postgres database."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    host: str
    port: int = 5432
    user: str
    password: str = ""
    dbname: str

    @property
    def where(self) -> str:
        """The warehouse in words for messages."""
        return f"Postgres database {self.dbname} at {self.host}, port {self.port}, as user {self.user}"


Target = DuckdbTarget | PostgresTarget


@dataclass(frozen=True, slots=True)
class _Unset(Exception):  # noqa: N818 - never leaves this module
    name: str


def _env_var(name: str, default: str | None = None) -> str:
    value = os.environ.get(name, default)
    if value is None:
        raise _Unset(name)
    return value


def _renderer() -> SandboxedEnvironment:
    jinja = SandboxedEnvironment(undefined=jinja2.StrictUndefined)
    jinja.globals["env_var"] = _env_var
    # dbt's filters only say what type a value is to have; here pydantic knows.
    jinja.filters.update(dict.fromkeys(("as_number", "as_text", "as_bool", "as_native"), str))
    return jinja


def _render(value: object, jinja: SandboxedEnvironment) -> object:
    if isinstance(value, dict):
        return {key: _render(entry, jinja) for key, entry in value.items()}
    if isinstance(value, str):
        return jinja.from_string(value).render()
    return str(value)


def _profile(project: Path) -> tuple[Path, Mapping[str, object]]:
    file = Path(os.environ.get("DBT_PROFILES_DIR") or project).absolute() / "profiles.yml"
    if not file.is_file():
        raise CdwError(
            "no profiles.yml found",
            where=str(file),
            do="copy profiles.yml.example to profiles.yml there, or set DBT_PROFILES_DIR",
        )
    try:
        name = yaml.safe_load((project / PROJECT_FILE).read_text(encoding="utf-8"))["profile"]
        profile = yaml.safe_load(file.read_text(encoding="utf-8"))[name]
        if not isinstance(profile["outputs"], dict):
            raise TypeError
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError):
        raise CdwError(
            "profiles.yml cannot be read",
            where=str(file),
            do=f"give it the profile that {PROJECT_FILE} names, with outputs, as in profiles.yml.example",
        ) from None
    return file, profile


def load_target(project: Path, name: str | None = None) -> Target:
    """Read the target ``name``, or the profile's default one.

    Raises:
        CdwError: the file, the profile, the target or one of its settings is missing or unusable, or cdw
            does not write to such a warehouse. No setting's value is in the message.
    """
    file, profile = _profile(project)
    jinja = _renderer()
    try:
        name = name or str(_render(profile.get("target", "default"), jinja))
        outputs = profile["outputs"]
        assert isinstance(outputs, dict)
        if name not in outputs:
            raise CdwError(
                f"there is no target {name}",
                where=str(file),
                do=f"choose one of: {', '.join(outputs)}",
            )
        output = _render(outputs[name], jinja)
    except _Unset as unset:
        raise CdwError(
            f"environment variable {unset.name} is not set and has no default",
            where=str(file),
            do=f"set {unset.name}",
        ) from None
    except jinja2.TemplateError:
        raise CdwError(
            "a setting cannot be rendered",
            where=f"target {name} in {file}",
            do="use env_var('NAME', 'default') only, as in profiles.yml.example",
        ) from None
    return _target(name, output, file)


def find_target(name: str | None = None) -> Target:
    """Read the target ``name`` of the project that the settings lead to; see ``load_target``."""
    return load_target(project_dir(load_settings()), name)


def _target(name: str, output: object, file: Path) -> Target:
    kind = output.get("type") if isinstance(output, dict) else None
    try:
        if kind == "postgres":
            return PostgresTarget.model_validate(output)
        if kind == "duckdb":
            target = DuckdbTarget.model_validate(output)
            if not str(target.path).startswith((":", "md:")):
                return target
            raise CdwError(
                "cdw needs a DuckDB file: one in memory is gone when cdw ends",
                where=f"target {name} in {file}",
                do="set path to a file (CDW_DUCKDB_PATH)",
            )
    except ValidationError as error:
        fields = ", ".join(sorted({".".join(map(str, e["loc"])) for e in error.errors()}))
        raise CdwError(
            f"target {name} has settings that are missing or cannot be used: {fields}",
            where=str(file),
            do="compare it with profiles.yml.example",
        ) from None
    raise CdwError(
        f"cdw does not write to a warehouse of type {kind} yet",
        where=f"target {name} in {file}",
        do="choose a target of type duckdb or postgres",
    )
