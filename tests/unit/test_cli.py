"""What ``cdw`` says when it fails, and how it exits."""

import pytest
import typer

from loaders import cli
from loaders.errors import CdwError


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> typer.Typer:
    app = typer.Typer(pretty_exceptions_enable=False)

    @app.command()
    def mend() -> None:
        raise CdwError("it broke", where="here", do="mend it")

    @app.command()
    def crash() -> None:
        raise KeyError("MRN-4711")

    monkeypatch.setattr(cli, "app", app)
    return app


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["cdw", *arguments])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert isinstance(stopped.value.code, int)
    return stopped.value.code


@pytest.mark.usefixtures("failing")
def test_an_error_says_what_where_and_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "mend") == 1
    assert capsys.readouterr().err == "cdw: it broke\n  where: here\n  to do: mend it\n"


@pytest.mark.usefixtures("failing")
def test_a_defect_is_told_without_the_words_of_its_exception(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "crash") == 1
    said = capsys.readouterr().err
    assert "KeyError" in said
    assert "test_cli.py, line" in said
    assert "MRN-4711" not in said


@pytest.mark.usefixtures("failing")
def test_wrong_use_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, "dance") == 2
