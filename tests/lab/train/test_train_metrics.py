"""The metrics table on disk."""

import math

import pytest
import torch

from microtome.lab.train.metrics import SCHEMA, MetricWriter, read_metrics


def test_an_empty_folder_gives_an_empty_table(tmp_path):
    table = read_metrics(tmp_path)
    assert (table.height, dict(table.schema)) == (0, SCHEMA)


def test_rows_come_back_in_order_of_steps_with_their_types(tmp_path):
    writer = MetricWriter(tmp_path, "abc", 0)
    writer.add(0, "loss", torch.tensor(0.5, requires_grad=True))
    writer.add(0, "lr", 0.1)
    writer.add(3, "entropy", torch.tensor([[2.0]], dtype=torch.bfloat16))
    assert writer.sync() == {"loss": 0.5, "lr": 0.1, "entropy": 2.0}
    writer.flush()
    writer.add(4, "loss", torch.tensor(math.nan))
    writer.sync()
    writer.flush()
    table = read_metrics(tmp_path)
    assert dict(table.schema) == SCHEMA
    assert table.select("run_id", "step", "metric").rows() == [
        ("abc", 0, "loss"), ("abc", 0, "lr"), ("abc", 3, "entropy"), ("abc", 4, "loss")
    ]  # fmt: skip
    assert table["value"][:3].to_list() == [0.5, 0.1, 2.0]
    assert math.isnan(table["value"][3])
    assert table["time"].is_sorted()
    assert len(list(tmp_path.glob("part-*.parquet"))) == 2


def test_values_keep_double_precision(tmp_path):
    writer = MetricWriter(tmp_path, "abc", 0)
    writer.add(0, "third", torch.tensor(1 / 3, dtype=torch.float64))
    assert writer.sync()["third"] == 1 / 3


def test_nothing_is_read_before_sync_and_nothing_written_without_rows(tmp_path):
    writer = MetricWriter(tmp_path, "abc", 0)
    writer.add(0, "loss", torch.tensor(1.0))
    writer.flush()
    assert list(tmp_path.iterdir()) == []


def test_what_came_after_a_step_can_be_forgotten(tmp_path):
    writer = MetricWriter(tmp_path, "abc", 0)
    for step in range(5):
        writer.add(step, "loss", float(step))
    assert writer.sync(before=3) == {"loss": 2.0}
    writer.flush()
    assert read_metrics(tmp_path)["step"].to_list() == [0, 1, 2]


def test_taking_up_at_a_part_removes_it_and_the_later_ones(tmp_path):
    writer = MetricWriter(tmp_path, "abc", 0)
    for step in range(4):
        writer.add(step, "loss", 0.0)
        writer.sync()
        writer.flush()
    (tmp_path / "part-000004.parquet.tmp").write_bytes(b"half")
    MetricWriter(tmp_path, "abc", 2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["part-000000.parquet", "part-000001.parquet"]


def test_a_metric_is_a_scalar(tmp_path):
    with pytest.raises(ValueError, match=r"metric 'entropy' must be a scalar, not a tensor of shape \(2,\)"):
        MetricWriter(tmp_path, "abc", 0).add(0, "entropy", torch.zeros(2))
