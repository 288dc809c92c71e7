"""Topic directories into raw, on every warehouse: each record once, whatever happens between two loads."""

from pathlib import Path

from conftest import Warehouse
from loaders.load import load_directory

LINES = [b'{"device_id":"D1","metric_value":1.5}', b"garbage", b"null", b' {"a": "\xe2\x80\xa8\\t"}\r']


def test_first_load(warehouse: Warehouse, tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    (source / "device.telemetry.jsonl").write_bytes(b"\n".join(LINES) + b"\n")
    loaded = load_directory(source)
    assert loaded.rows == {"device.telemetry": 3}
    assert loaded.rejects == {("device.telemetry", "E_NOT_JSON"): 1}
    rows = warehouse.rows("select _offset, payload::text from raw.device_telemetry order by 1")
    assert rows == [(0, LINES[0].decode()), (2, None), (3, LINES[3].decode())]
